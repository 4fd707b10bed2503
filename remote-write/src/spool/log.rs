use std::collections::VecDeque;
use std::io;

use super::error::{SpoolError, storage_error};
use super::options::FsyncPolicy;
use super::segment::{Body, SEGMENT_HEADER_LEN, Segment, SegmentHeader, scan};
use super::storage::Storage;
use crate::Counts;

/// How long the page cache of a segment is left alone after it was closed or read, in milliseconds: when it is
/// soon delivered and removed, it need never be written back.
pub(super) const RELEASE_AFTER: i64 = 10_000;

/// What all endpoints of one encoding profile are sent: segments in order, the newest still growing.
pub(super) struct Log<F> {
    pub(super) key: String,
    pub(super) hash: u64,
    pub(super) directory: String,
    pub(super) segments: VecDeque<Segment<F>>,
    /// Whether the last segment takes more records.
    pub(super) growing: bool,
    pub(super) next_sequence: u64,
    /// One beyond the last sequence that was found when the spool was opened.
    pub(super) found_until: u64,
    /// Everything it was ever given.
    pub(super) accepted: Counts,
    /// Whether the directory or the key in it has still to be written.
    pub(super) key_unwritten: bool,
    /// Whether it was opened in this run.
    pub(super) opened: bool,
    pub(super) unsynced: bool,
    /// Whether records disappeared from under a segment, so that its count of undecided ones is too high.
    pub(super) miscounted: bool,
    /// Whether it was found without any cursor: then all of them were lost.
    pub(super) unclaimed: bool,
    /// Where what is kept for lost cursors begins, and what the log had accepted before that.
    pub(super) held_from: Option<(u64, Counts)>,
}

impl<F> Log<F> {
    pub(super) fn new(key: String, hash: u64, directory: String) -> Self {
        Self {
            key,
            hash,
            directory,
            segments: VecDeque::new(),
            growing: false,
            next_sequence: 1,
            found_until: 0,
            accepted: Counts::default(),
            key_unwritten: false,
            opened: false,
            unsynced: false,
            miscounted: false,
            unclaimed: false,
            held_from: None,
        }
    }

    /// Whether it takes space now or may soon.
    pub(super) fn is_in_use(&self) -> bool {
        self.opened || !self.segments.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Bytes it takes on the disk and in memory, what is set aside for the growing segment included.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes.max(segment.allocated)).sum()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.segments.iter().filter(|segment| segment.is_memory()).map(|segment| segment.bytes).sum()
    }

    pub(super) fn has_memory_tail(&self) -> bool {
        self.segments.back().is_some_and(Segment::is_memory)
    }

    pub(super) fn segment_path(&self, first_sequence: u64) -> String {
        format!("{}/{first_sequence:016x}.segment", self.directory)
    }

    /// The first segment that ends after this sequence.
    pub(super) fn segment_after(&self, sequence: u64) -> usize {
        self.segments.partition_point(|segment| segment.end_sequence <= sequence)
    }

    /// Notes that an endpoint has decided so many records, the last of them this one.
    pub(super) fn decide(&mut self, sequence: u64, records: u64) {
        let at = self.segment_after(sequence);
        if let Some(segment) = self.segments.get_mut(at).filter(|segment| segment.contains(sequence)) {
            segment.undecided = segment.undecided.saturating_sub(records);
        }
    }

    /// Begins a new segment on disk at the log's end.
    pub(super) fn begin_segment<S: Storage<File = F>>(
        &mut self,
        storage: &mut S,
        fsync: FsyncPolicy,
        allocate: u64,
        steady: i64,
    ) -> Result<(), SpoolError> {
        self.seal(storage, fsync, steady)?;
        let segment = create_segment(self, storage, fsync, self.next_sequence, self.accepted, allocate)?;
        self.push_segment(segment);
        self.growing = true;
        Ok(())
    }

    /// Adds a segment at the end. One there that never took a record has the same name and gives way.
    pub(super) fn push_segment(&mut self, segment: Segment<F>) {
        self.segments.pop_back_if(|last| last.first_sequence == segment.first_sequence);
        self.segments.push_back(segment);
    }

    /// Ends the growing segment. It is ended also when that fails: then what is durable of it nobody knows.
    pub(super) fn seal<S: Storage<File = F>>(
        &mut self,
        storage: &mut S,
        fsync: FsyncPolicy,
        steady: i64,
    ) -> Result<(), SpoolError> {
        if !std::mem::take(&mut self.growing) {
            return Ok(());
        }
        let path = self.segment_path(self.segments.back().map_or(0, |segment| segment.first_sequence));
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        segment.release_at = Some(steady + RELEASE_AFTER);
        let Body::Disk(Some(file)) = &segment.body else { return Ok(()) };
        if std::mem::take(&mut segment.allocated) > segment.bytes {
            // Gives back what was set aside and not needed; that it stays set aside costs only space.
            let _ = storage.truncate(file, segment.bytes);
        }
        if fsync != FsyncPolicy::Never && self.unsynced {
            self.unsynced = false;
            storage.sync(file).map_err(storage_error("sync", &path))?;
        }
        Ok(())
    }

    /// Reads where a closed segment's records are.
    pub(super) fn load_index<S: Storage<File = F>>(
        &mut self,
        storage: &mut S,
        at: usize,
    ) -> Result<(), SpoolError> {
        let path = self.segment_path(self.segments[at].first_sequence);
        let segment = &mut self.segments[at];
        let Body::Disk(file) = &mut segment.body else { return Ok(()) };
        let file = match file {
            Some(file) => file,
            None => file.insert(storage.open(&path).map_err(storage_error("open", &path))?),
        };
        if segment.index.is_none() {
            let sequences = segment.first_sequence..segment.end_sequence;
            let found = scan(storage, file, segment.bytes, sequences, segment.accepted_before, false, None)
                .map_err(storage_error("read", &path))?;
            if found.unreadable && !segment.is_given_up() {
                return Err(storage_error("read", &path)(io::Error::other("parts of it can't be read")));
            }
            segment.index = Some(found.records);
        }
        Ok(())
    }
}

/// A new segment's file with its header in it.
pub(super) fn create_segment<S: Storage>(
    log: &Log<S::File>,
    storage: &mut S,
    fsync: FsyncPolicy,
    first_sequence: u64,
    accepted_before: Counts,
    allocate: u64,
) -> Result<Segment<S::File>, SpoolError> {
    let path = log.segment_path(first_sequence);
    let file = storage.create(&path).map_err(storage_error("create", &path))?;
    let header = SegmentHeader { log_hash: log.hash, first_sequence, accepted_before };
    let begun = storage
        .allocate(&file, allocate)
        .map_err(storage_error("set space aside for", &path))
        .and_then(|()| storage.write_at(&file, 0, &header.encode()).map_err(storage_error("write", &path)));
    if let Err(error) = begun {
        // Empty it is worth nothing, and it may stand in the way of the next try.
        let _ = storage.remove(&path);
        return Err(error);
    }
    if fsync != FsyncPolicy::Never {
        storage.sync(&file).map_err(storage_error("sync", &path))?;
        storage.sync_directory(&log.directory).map_err(storage_error("sync", &log.directory))?;
    }
    let mut segment = Segment::new(first_sequence, accepted_before, Body::Disk(Some(file)));
    segment.allocated = allocate;
    debug_assert_eq!(segment.bytes, SEGMENT_HEADER_LEN as u64);
    Ok(segment)
}
