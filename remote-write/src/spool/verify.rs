use super::core::{CURSOR_DIRECTORY, key_hash, log_directory};
use super::cursor::{self, CURSOR_HEADER};
use super::error::{SpoolError, storage_error};
use super::persist::{LOG_KEY_FILE, SET_ASIDE_SUFFIX};
use super::record::HEADER_LEN;
use super::recovery::{CURSOR_HEADER_LEN, CURSOR_SUFFIX, LOG_PREFIX, SEGMENT_SUFFIX};
use super::segment::{Body, HeaderFound, SEGMENT_HEADER_LEN, Segment, SegmentHeader, scan};
use super::storage::Storage;
use crate::Counts;

/// What reading every byte of a spool found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Logs found.
    pub logs: u64,
    /// Segments read.
    pub segments: u64,
    /// Records whose checksums were compared.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Cursor files read.
    pub cursors: u64,
    /// Bytes at the ends of logs that are no complete scrape: what a process leaves that is killed while it writes.
    pub torn_bytes: u64,
    /// What is not as it was written.
    pub damage: Vec<Damage>,
    /// Files of another format or version, and those that were set aside: they are left alone.
    pub unknown: Vec<String>,
}

/// One thing in a spool that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file, relative to the storage's root.
    pub path: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
    /// What can't be sent for it, where that is known.
    pub counts: Counts,
}

/// Reads every record of the spool and compares its checksums; changes nothing.
///
/// A spool that a process works in may change meanwhile: what is then found at a log's end means nothing.
///
/// # Errors
/// [`SpoolError::Storage`] when a directory can't be listed. A file that can't be read is a finding.
pub fn verify<S: Storage>(storage: &mut S) -> Result<Verification, SpoolError> {
    let mut found = Verification::default();
    for name in storage.list(".").map_err(storage_error("list", "."))? {
        if name == CURSOR_DIRECTORY {
            verify_cursors(storage, &mut found)?;
        }
        let hash = name.strip_prefix(LOG_PREFIX).and_then(|hash| u64::from_str_radix(hash, 16).ok());
        if let Some(hash) = hash.filter(|hash| log_directory(*hash) == name) {
            verify_log(storage, hash, &name, &mut found)?;
        }
    }
    Ok(found)
}

fn verify_cursors<S: Storage>(storage: &mut S, found: &mut Verification) -> Result<(), SpoolError> {
    for name in storage.list(CURSOR_DIRECTORY).map_err(storage_error("list", CURSOR_DIRECTORY))? {
        let path = format!("{CURSOR_DIRECTORY}/{name}");
        if name.ends_with(SET_ASIDE_SUFFIX) {
            found.unknown.push(path);
            continue;
        }
        if !name.ends_with(CURSOR_SUFFIX) {
            continue;
        }
        let Some(bytes) = read_whole(storage, &path, found) else { continue };
        found.cursors += 1;
        let (header, rest) = bytes.split_at(bytes.len().min(CURSOR_HEADER_LEN));
        let (magic, crc) = header.split_at(header.len().min(CURSOR_HEADER.len()));
        let intact = crc == crc32c::crc32c(magic).to_le_bytes();
        let scanned = cursor::scan(rest);
        if intact && magic != CURSOR_HEADER {
            found.unknown.push(path);
            continue;
        }
        if scanned.records.is_empty() {
            let what = "it can't be read as a cursor; its endpoint is sent its log from the beginning";
            found.add(&path, 0, what, Counts::default());
            continue;
        }
        if !intact {
            found.add(&path, 0, "its header is damaged", Counts::default());
        }
        if scanned.damaged > 0 {
            let what = format!("{} records of it are damaged", scanned.damaged);
            found.add(&path, CURSOR_HEADER_LEN as u64, &what, Counts::default());
        }
    }
    Ok(())
}

fn verify_log<S: Storage>(
    storage: &mut S,
    hash: u64,
    directory: &str,
    found: &mut Verification,
) -> Result<(), SpoolError> {
    found.logs += 1;
    let key_path = format!("{directory}/{LOG_KEY_FILE}");
    if let Some(bytes) = read_whole(storage, &key_path, found)
        && String::from_utf8(bytes).ok().is_none_or(|key| key_hash(&key) != hash)
    {
        found.add(&key_path, 0, "the log's key is damaged", Counts::default());
    }
    let names = storage.list(directory).map_err(storage_error("list", directory))?;
    let aside = names.iter().filter(|name| name.ends_with(SET_ASIDE_SUFFIX));
    found.unknown.extend(aside.map(|name| format!("{directory}/{name}")));
    let number = |name: &String| u64::from_str_radix(name.strip_suffix(SEGMENT_SUFFIX)?, 16).ok();
    let mut firsts: Vec<u64> = names.iter().filter_map(number).collect();
    firsts.sort_unstable();
    for (at, &first_sequence) in firsts.iter().enumerate() {
        let path = format!("{directory}/{first_sequence:016x}{SEGMENT_SUFFIX}");
        verify_segment(storage, hash, &path, first_sequence, firsts.get(at + 1).copied(), found);
    }
    Ok(())
}

fn verify_segment<S: Storage>(
    storage: &mut S,
    log_hash: u64,
    path: &str,
    first_sequence: u64,
    end: Option<u64>,
    found: &mut Verification,
) {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let opened = storage.open(path).and_then(|file| {
        let length = storage.len(&file)?;
        let read = storage.read_at(&file, 0, &mut bytes)?;
        Ok((file, length, read))
    });
    let (file, length, read) = match opened {
        Ok(opened) => opened,
        Err(error) => return found.add(path, 0, &format!("it can't be read: {error}"), Counts::default()),
    };
    let accepted = match SegmentHeader::decode(&bytes) {
        _ if read < SEGMENT_HEADER_LEN => {
            found.torn_bytes += length;
            return;
        }
        HeaderFound::Valid(header) if header.log_hash == log_hash => header.accepted_before,
        HeaderFound::Overwritten if holds_nothing(storage, &file, length) => {
            return found.unknown.push(path.to_owned());
        }
        HeaderFound::Damaged | HeaderFound::Overwritten => {
            found.add(path, 0, "its header is damaged", Counts::default());
            Counts::default()
        }
        HeaderFound::Valid(_) | HeaderFound::Unknown => return found.unknown.push(path.to_owned()),
    };
    let sequences = first_sequence..end.unwrap_or(u64::MAX);
    let scanned = match scan(storage, &file, length, sequences, accepted, end.is_none(), None) {
        Ok(scanned) => scanned,
        Err(error) => return found.add(path, 0, &format!("it can't be read: {error}"), Counts::default()),
    };
    found.segments += 1;
    found.bytes += length;
    found.torn_bytes += length - scanned.end.min(length);
    let segment = Segment::new(first_sequence, accepted, Body::Disk(Some(file)));
    let mut expected = SEGMENT_HEADER_LEN as u64;
    for meta in &scanned.records {
        let offset = u64::from(meta.offset);
        if offset > expected {
            let what = format!("no record can be read in the {} bytes from here on", offset - expected);
            found.add(path, expected, &what, Counts::default());
        }
        expected = offset + (HEADER_LEN as u64) + u64::from(meta.body_len);
        found.records += 1;
        match segment.read(storage, meta) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let what = format!("the checksum of record {} is wrong", meta.sequence);
                found.add(path, offset, &what, meta.counts());
            }
            Err(error) => {
                let what = format!("record {} can't be read: {error}", meta.sequence);
                found.add(path, offset, &what, meta.counts());
            }
        }
    }
}

/// Whether no record of ours is in it.
fn holds_nothing<S: Storage>(storage: &mut S, file: &S::File, length: u64) -> bool {
    scan(storage, file, length, 0..u64::MAX, Counts::default(), false, None)
        .is_ok_and(|scanned| scanned.records.is_empty())
}

fn read_whole<S: Storage>(storage: &mut S, path: &str, found: &mut Verification) -> Option<Vec<u8>> {
    let read = storage.open(path).and_then(|file| {
        let length = storage.len(&file)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = storage.read_at(&file, 0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    });
    match read {
        Ok(bytes) => {
            found.bytes += bytes.len() as u64;
            Some(bytes)
        }
        Err(error) => {
            found.add(path, 0, &format!("it can't be read: {error}"), Counts::default());
            None
        }
    }
}

impl Verification {
    fn add(&mut self, path: &str, offset: u64, what: &str, counts: Counts) {
        self.damage.push(Damage { path: path.to_owned(), offset, what: what.to_owned(), counts });
    }
}
