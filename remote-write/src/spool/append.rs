use promferry_model::{OverBudget, Purpose};

use super::core::SpoolCore;
use super::endpoint::Amount;
use super::error::{SpoolError, storage_error};
use super::ledger::Reason;
use super::log::{Log, RELEASE_AFTER, create_segment};
use super::options::FsyncPolicy;
use super::record::{HEADER_LEN, RecordHeader, RecordMeta};
use super::segment::{Body, Segment};
use super::storage::Storage;
use crate::{Counts, Fragment};

/// Bytes of one write at most, unless a single scrape is larger.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes of fragments in one segment kept in memory: what is given up at once when memory runs out.
const MEMORY_SEGMENT_BYTES: u64 = 1 << 20;
/// Bytes of one segment at most: positions in it are 32 bits wide.
const MAX_SEGMENT_BYTES: u64 = 1 << 31;

/// Of the memory budget, what may stand in for the disk: with the rest scraping and delivery go on.
const FALLBACK_SHARE: usize = 2;

/// A record that is about to be written.
struct Staged {
    meta: RecordMeta,
    min_timestamp: i64,
}

impl<S: Storage> SpoolCore<S> {
    /// Stores the groups in order; returns which failed and why.
    pub(super) fn append_to_log(
        &mut self,
        log: usize,
        groups: &[(usize, &[Fragment])],
    ) -> Vec<(usize, String)> {
        if !self.logs[log].opened {
            // Nobody gets what would be stored there.
            return groups.iter().map(|(scrape, _)| (*scrape, "its log was closed".to_owned())).collect();
        }
        self.end_idle_attachments(log);
        if self.logs[log].has_memory_tail() && self.disk_is_due() {
            self.drain_memory(log);
        }
        let mut failures = Vec::new();
        let mut rest = groups;
        while !self.logs[log].has_memory_tail() && self.disk_is_due() && !rest.is_empty() {
            match self.write_groups(log, rest) {
                Ok(written) => {
                    rest = &rest[written..];
                    self.enforce_quota(log);
                }
                Err(error) => self.note_failure(&error),
            }
        }
        for (scrape, fragments) in rest {
            if let Err(failure) = self.keep_in_memory(log, fragments) {
                failures.push((*scrape, failure));
            }
        }
        failures
    }

    /// Writes as many of the groups as go into one write; returns how many.
    fn write_groups(&mut self, log: usize, groups: &[(usize, &[Fragment])]) -> Result<usize, SpoolError> {
        let segment_bytes = self.segment_bytes(log);
        let fsync = self.options.fsync;
        let known = &mut self.logs[log];
        if !known.growing || known.segments.back().is_none_or(|segment| segment.bytes >= segment_bytes) {
            self.prepare_segment(log)?;
            let steady = self.time.steady();
            // The write that fills a segment goes beyond its size.
            let allocate = segment_bytes + (segment_bytes / 4).min(WRITE_BYTES as u64);
            self.logs[log].begin_segment(&mut self.storage, fsync, allocate, steady)?;
            self.drop_decided_segments(log);
        }
        let known = &mut self.logs[log];
        let Some(start) = known.segments.back().map(|segment| segment.bytes) else {
            return Ok(0);
        };
        self.buffer.clear();
        let mut staged = Vec::new();
        let (mut sequence, mut accepted) = (known.next_sequence, known.accepted);
        let mut taken = 0;
        for (_, fragments) in groups {
            let (length, records) = (self.buffer.len(), staged.len());
            let bytes: usize = fragments.iter().map(|f| f.body.len() + HEADER_LEN).sum();
            let full = length + bytes > WRITE_BYTES || start + length as u64 >= segment_bytes;
            if taken > 0 && full {
                break;
            }
            let complete = start + ((length + bytes) as u64) < MAX_SEGMENT_BYTES
                && stage(fragments, start, &mut sequence, &mut accepted, &mut self.buffer, &mut staged);
            if !complete {
                self.buffer.truncate(length);
                staged.truncate(records);
                if taken > 0 {
                    break;
                }
                let path = known.segment_path(known.next_sequence);
                let too_large =
                    std::io::Error::new(std::io::ErrorKind::FileTooLarge, "one scrape is too large");
                return Err(storage_error("write", &path)(too_large));
            }
            taken += 1;
        }
        let written = write(&mut self.storage, known, &self.buffer, start, fsync);
        if self.buffer.capacity() > 2 * WRITE_BYTES {
            self.buffer = Vec::new();
        }
        written?;
        for record in &staged {
            self.accept(log, record.meta, record.min_timestamp);
        }
        Ok(taken)
    }

    /// What has to be there before a segment is created: the lock, the directory, the log's key.
    fn prepare_segment(&mut self, log: usize) -> Result<(), SpoolError> {
        if self.logs[log].key_unwritten {
            self.write_log_key(log)?;
        }
        let path = self.logs[log].segment_path(self.logs[log].next_sequence);
        self.make_writable(&path)
    }

    /// Takes in a record that is stored: it is visible from now on.
    fn accept(&mut self, log: usize, meta: RecordMeta, min_timestamp: i64) {
        let amount = Amount { records: 1, bytes: meta.body_len.into(), counts: meta.counts() };
        let now = self.time.now().as_millis();
        let known = &mut self.logs[log];
        known.next_sequence = meta.sequence + 1;
        known.accepted += amount.counts;
        known.unsynced = true;
        let Some(segment) = known.segments.back_mut() else { return };
        segment.push(meta, min_timestamp);
        segment.latest_past = segment.latest_past.max(meta.max_timestamp.min(now));
        for endpoint in &mut self.endpoints {
            if let Some(attachment) = endpoint.growing(log) {
                attachment.lanes[meta.lane.index()].unfetched.add(amount);
                segment.undecided += 1;
            }
        }
    }

    /// Endpoints of earlier runs that take no part in this one get nothing new.
    fn end_idle_attachments(&mut self, log: usize) {
        for endpoint in 0..self.endpoints.len() {
            let known = &mut self.endpoints[endpoint];
            if !known.attached && known.growing(log).is_some() {
                self.end_attachment(endpoint);
                self.retire(endpoint);
            }
        }
    }

    /// Keeps one scrape's fragments in memory, behind everything that is stored.
    fn keep_in_memory(&mut self, log: usize, fragments: &[Fragment]) -> Result<(), String> {
        let refused = |core: &mut Self, why: String| {
            let counts = fragments.iter().fold(Counts::default(), |sum, f| sum + f.counts);
            core.refuse(super::LogId(log), counts, &Reason::STORAGE);
            Err(why)
        };
        let (mut sequence, mut accepted) = (self.logs[log].next_sequence, self.logs[log].accepted);
        let mut headers = Vec::with_capacity(fragments.len());
        for (i, fragment) in fragments.iter().enumerate() {
            let commit = i + 1 == fragments.len();
            let Some(header) = RecordHeader::of(fragment, sequence, accepted, commit) else {
                return refused(self, "a fragment is too large".to_owned());
            };
            sequence += 1;
            accepted += fragment.counts;
            headers.push(header);
        }
        let bytes = fragments.iter().map(|f| f.body.len() + size_of::<Fragment>() + HEADER_LEN).sum();
        let fits = bytes <= self.budget.limit() / FALLBACK_SHARE;
        loop {
            match self.reserve_in_memory(log, bytes) {
                Ok(()) => break,
                Err(_) if fits && self.make_room(log) => {}
                Err(over) => {
                    let failure = match &self.state {
                        super::StorageState::Healthy => over,
                        super::StorageState::Degraded { error, .. } => format!("{error}; {over}"),
                    };
                    return refused(self, failure);
                }
            }
        }
        for (header, fragment) in headers.iter().zip(fragments) {
            let Some(Segment { body: Body::Memory { fragments: kept, .. }, .. }) =
                self.logs[log].segments.back_mut()
            else {
                continue;
            };
            let meta = RecordMeta::new(header, kept.len() as u32);
            kept.push((fragment.clone(), header.commit));
            self.accept(log, meta, header.min_timestamp);
        }
        Ok(())
    }

    /// Gives up a log's oldest segment where that helps: where it is in memory itself, or where the disk is full
    /// and would then take what is in memory. Says whether memory was won: what others need the budget for is no
    /// reason to give up anything more.
    ///
    /// It is a segment of the log that has the most in memory: an endpoint that is away costs no other.
    fn make_room(&mut self, log: usize) -> bool {
        let oldest_is_in_memory =
            |core: &Self, at: usize| core.logs[at].segments.front().is_some_and(Segment::is_memory);
        let largest = (0..self.logs.len())
            .filter(|&at| self.logs[at].segments.len() > 1 && self.logs[at].memory_bytes() > 0)
            .filter(|&at| self.disk_full || oldest_is_in_memory(self, at))
            .max_by_key(|&at| (self.logs[at].memory_bytes(), at == log));
        let Some(largest) = largest else { return false };
        let before = self.logs[largest].memory_bytes();
        let in_memory = oldest_is_in_memory(self, largest);
        self.evict_oldest(largest);
        if !in_memory {
            self.drain_memory(largest);
        }
        self.logs[largest].memory_bytes() < before
    }

    /// Makes room in the log's last memory segment, or in a new one.
    fn reserve_in_memory(&mut self, log: usize, bytes: usize) -> Result<(), String> {
        let (used, limit) = (self.budget.used_by(Purpose::Fallback), self.budget.limit() / FALLBACK_SHARE);
        if used + bytes > limit {
            let available = limit.saturating_sub(used);
            return Err(
                OverBudget { purpose: Purpose::Fallback, wanted: bytes, available, limit }.to_string()
            );
        }
        let known = &mut self.logs[log];
        // The disk has failed already; what is wrong with it has been said.
        let _ = known.seal(&mut self.storage, self.options.fsync, self.time.steady());
        if let Some(Segment { bytes: held, body: Body::Memory { reservation, .. }, .. }) =
            known.segments.back_mut()
            && *held < MEMORY_SEGMENT_BYTES
        {
            return reservation.resize(reservation.bytes() + bytes).map_err(|over| over.to_string());
        }
        let reservation =
            self.budget.try_reserve(Purpose::Fallback, bytes).map_err(|over| over.to_string())?;
        let body = Body::Memory { fragments: Vec::new(), reservation };
        known.push_segment(Segment::new(known.next_sequence, known.accepted, body));
        Ok(())
    }

    /// Brings what is in memory back to the disk, in order, as far as the disk takes it.
    pub(super) fn drain_memory(&mut self, log: usize) {
        let fsync = self.options.fsync;
        while let Some(at) = self.logs[log].segments.iter().position(Segment::is_memory) {
            match self.write_memory_segment(log, at) {
                Ok(segment) => {
                    let known = &mut self.logs[log];
                    known.segments[at] = segment;
                    // What was appended to in between would not be the last one.
                    known.growing = at + 1 == known.segments.len();
                }
                Err(error) => {
                    self.note_failure(&error);
                    return;
                }
            }
        }
        if fsync == FsyncPolicy::Always {
            self.logs[log].unsynced = false;
        }
        self.drop_decided_segments(log);
    }

    /// A segment on disk with what is in this one in memory.
    fn write_memory_segment(&mut self, log: usize, at: usize) -> Result<Segment<S::File>, SpoolError> {
        let fsync = self.options.fsync;
        self.prepare_segment(log)?;
        let known = &self.logs[log];
        let old = &known.segments[at];
        let Body::Memory { fragments, .. } = &old.body else {
            return Err(SpoolError::Unknown { what: "memory segment" });
        };
        let mut segment = create_segment(
            known,
            &mut self.storage,
            fsync,
            old.first_sequence,
            old.accepted_before,
            old.bytes,
        )?;
        let mut accepted = old.accepted_before;
        let mut bytes = Vec::new();
        for (meta, (fragment, commit)) in old.index.iter().flatten().zip(fragments) {
            let Some(header) = RecordHeader::of(fragment, meta.sequence, accepted, *commit) else { continue };
            accepted += fragment.counts;
            segment.push(RecordMeta::new(&header, (segment.bytes) as u32), header.min_timestamp);
            bytes.extend(header.encode());
            bytes.extend(&fragment.body);
        }
        segment.release_at = Some(self.time.steady() + RELEASE_AFTER);
        segment.undecided = old.undecided;
        segment.latest_past = old.latest_past;
        segment.end_sequence = old.end_sequence;
        let path = known.segment_path(old.first_sequence);
        let start = super::segment::SEGMENT_HEADER_LEN as u64;
        if let Body::Disk(Some(file)) = &segment.body {
            // Later only the last segment is synced.
            let written = self.storage.write_at(file, start, &bytes).and_then(|()| match fsync {
                FsyncPolicy::Never => Ok(()),
                _ => self.storage.sync(file),
            });
            if let Err(source) = written {
                // It stays in memory; half of it on disk would be read after a restart.
                let _ = self.storage.remove(&path);
                return Err(storage_error("write", &path)(source));
            }
        }
        Ok(segment)
    }
}

/// Puts the group's records into the buffer; `false` when one is too large.
fn stage(
    fragments: &[Fragment],
    start: u64,
    sequence: &mut u64,
    accepted: &mut Counts,
    buffer: &mut Vec<u8>,
    staged: &mut Vec<Staged>,
) -> bool {
    for (i, fragment) in fragments.iter().enumerate() {
        let commit = i + 1 == fragments.len();
        let Some(header) = RecordHeader::of(fragment, *sequence, *accepted, commit) else { return false };
        let offset = start + buffer.len() as u64;
        staged.push(Staged {
            meta: RecordMeta::new(&header, offset as u32),
            min_timestamp: header.min_timestamp,
        });
        *sequence += 1;
        *accepted += fragment.counts;
        buffer.extend_from_slice(&header.encode());
        buffer.extend_from_slice(&fragment.body);
    }
    true
}

/// Writes to the end of the log's growing segment. A failure ends the segment where it was good.
fn write<S: Storage>(
    storage: &mut S,
    log: &mut Log<S::File>,
    bytes: &[u8],
    start: u64,
    fsync: FsyncPolicy,
) -> Result<(), SpoolError> {
    let path = log.segment_path(log.segments.back().map_or(log.next_sequence, |s| s.first_sequence));
    let Some(Segment { body: Body::Disk(Some(file)), .. }) = log.segments.back() else {
        return Err(SpoolError::Unknown { what: "segment" });
    };
    let written = storage.write_at(file, start, bytes).map_err(storage_error("write", &path)).and_then(
        |()| match fsync {
            FsyncPolicy::Always => storage.sync(file).map_err(storage_error("sync", &path)),
            _ => Ok(()),
        },
    );
    if written.is_err() {
        // Should this fail too, the next segment's first sequence tells a restart where this one ends.
        let _ = storage.truncate(file, start);
        log.growing = false;
    }
    written
}
