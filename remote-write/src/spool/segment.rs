use std::io;
use std::ops::Range;

use bytes::Bytes;
use promferry_model::Reservation;

use super::error::is_disk_trouble;
use super::record::{HEADER_LEN, RecordHeader, RecordMeta};
use super::storage::Storage;
use crate::{Counts, Fragment, LaneSet};

/// Bytes in front of a segment's first record.
pub(super) const SEGMENT_HEADER_LEN: usize = 64;

const MAGIC: [u8; 8] = *b"PFRYSEG\n";
const VERSION: u32 = 1;

/// What a segment's file begins with, little-endian: magic, version (4 bytes), zero (4), hash of the log's key,
/// first sequence, what the log had accepted before (samples, histograms, exemplars), zero (4), CRC-32C of
/// everything before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log_hash: u64,
    pub(super) first_sequence: u64,
    pub(super) accepted_before: Counts,
}

/// What the beginning of a segment's file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFound {
    Valid(SegmentHeader),
    /// Ours but damaged; its records may still be good.
    Damaged,
    /// Neither ours nor of any other format: records of ours may still follow.
    Overwritten,
    /// Of another format, or of another version of ours.
    Unknown,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let accepted = self.accepted_before;
        let numbers =
            [self.log_hash, self.first_sequence, accepted.samples, accepted.histograms, accepted.exemplars];
        for (i, n) in numbers.iter().enumerate() {
            out[16 + 8 * i..24 + 8 * i].copy_from_slice(&n.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER_LEN]) -> HeaderFound {
        let magic = bytes[..8] == MAGIC;
        let version = bytes[8..12] == VERSION.to_le_bytes();
        let intact = bytes[60..] == crc32c::crc32c(&bytes[..60]).to_le_bytes();
        let u64_at = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        match (magic, version, intact) {
            (true, true, true) => HeaderFound::Valid(Self {
                log_hash: u64_at(16),
                first_sequence: u64_at(24),
                accepted_before: Counts {
                    samples: u64_at(32),
                    histograms: u64_at(40),
                    exemplars: u64_at(48),
                },
            }),
            // One of the two survived: damage, and a single damaged byte must not cost a segment.
            (true, _, false) | (false, true, false) => HeaderFound::Damaged,
            // Never written, as after the loss of a machine.
            (false, false, _) if bytes.iter().all(|&b| b == 0) => HeaderFound::Damaged,
            (false, false, false) => HeaderFound::Overwritten,
            _ => HeaderFound::Unknown,
        }
    }
}

/// Reads of a segment that may fail before what can't be read of it is given up.
const MAX_READ_FAILURES: u8 = 5;

/// Consecutive records of one log.
pub(super) struct Segment<F> {
    pub(super) first_sequence: u64,
    /// One beyond its last record's.
    pub(super) end_sequence: u64,
    /// What the log had accepted before this segment.
    pub(super) accepted_before: Counts,
    /// Bytes it takes, headers included.
    pub(super) bytes: u64,
    /// Lanes that have records in it.
    pub(super) lanes: LaneSet,
    pub(super) min_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// The same, where what lies in the future when it is stored or found counts as of then.
    pub(super) latest_past: i64,
    /// Records that some endpoint has not settled, counted once for each such endpoint.
    pub(super) undecided: u64,
    /// Whether it is kept for an endpoint whose cursor was lost, decided or not.
    pub(super) held: bool,
    /// Whether parts of it could not be read when it was found: while there is room it is kept for a start that can.
    pub(super) unreadable: bool,
    pub(super) body: Body<F>,
    /// Where the records are; absent where it has to be read first.
    pub(super) index: Option<Vec<RecordMeta>>,
    /// When it was last read from, in reads.
    pub(super) read_at: u64,
    /// Bytes that are set aside for it on the disk while it grows.
    pub(super) allocated: u64,
    /// When its page cache is to be given back, by the steady clock.
    pub(super) release_at: Option<i64>,
    /// Reads of it that failed since the one that failed last succeeded or was given up.
    pub(super) read_failures: u8,
    /// The record that could not be read last; none has the number of the index, 0.
    pub(super) failed_sequence: u64,
    /// Whether something of it was given up and nothing was read since.
    pub(super) read_given_up: bool,
    /// When it is read again after a failure, by the steady clock.
    pub(super) read_retry_at: Option<i64>,
}

pub(super) enum Body<F> {
    Disk(Option<F>),
    /// What the disk did not take.
    Memory {
        fragments: Vec<(Fragment, bool)>,
        reservation: Reservation,
    },
}

impl<F> Segment<F> {
    pub(super) fn new(first_sequence: u64, accepted_before: Counts, body: Body<F>) -> Self {
        Self {
            first_sequence,
            end_sequence: first_sequence,
            accepted_before,
            bytes: SEGMENT_HEADER_LEN as u64,
            lanes: LaneSet::EMPTY,
            min_timestamp: i64::MAX,
            max_timestamp: i64::MIN,
            latest_past: i64::MIN,
            undecided: 0,
            held: false,
            unreadable: false,
            body,
            index: Some(Vec::new()),
            read_at: 0,
            allocated: 0,
            release_at: None,
            read_failures: 0,
            failed_sequence: 0,
            read_given_up: false,
            read_retry_at: None,
        }
    }

    /// Notes that a record, or the index (0), could not be read at `steady`; says whether to wait and try again. A
    /// segment that fails again and again must not hold up its lanes: from then on what can't be read is given up at
    /// once.
    pub(super) fn note_read_failure(&mut self, sequence: u64, steady: i64, retry_interval: i64) -> bool {
        self.read_failures = self.read_failures.saturating_add(1);
        self.failed_sequence = sequence;
        let again = self.read_failures < MAX_READ_FAILURES;
        self.read_retry_at = again.then_some(steady.saturating_add(retry_interval));
        again
    }

    /// Whether reading this record shows that an earlier failure has passed. That another record can be read says
    /// nothing of one that is still tried.
    pub(super) fn is_recovery(&self, sequence: u64) -> bool {
        self.read_failures > 0 && (self.failed_sequence == sequence || self.read_given_up)
    }

    /// Forgets the failures that have passed: those of a backlog's whole life must not add up.
    pub(super) fn forget_read_failures(&mut self) {
        self.read_failures = 0;
        self.read_given_up = false;
        self.read_retry_at = None;
    }

    /// Whether reading it failed so often that the next failure is taken as final.
    pub(super) fn is_given_up(&self) -> bool {
        self.read_failures + 1 >= MAX_READ_FAILURES
    }

    /// Whether a read failed so recently that it is not tried again yet.
    pub(super) fn waits_to_be_read(&self, steady: i64) -> bool {
        self.read_retry_at.is_some_and(|at| steady < at)
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        (self.first_sequence..self.end_sequence).contains(&sequence)
    }

    pub(super) fn is_memory(&self) -> bool {
        matches!(self.body, Body::Memory { .. })
    }

    /// Takes in what was written; `offset` in the header's meta is already right.
    pub(super) fn push(&mut self, meta: RecordMeta, min_timestamp: i64) {
        self.end_sequence = meta.sequence + 1;
        self.bytes += (HEADER_LEN + meta.body_len as usize) as u64;
        self.lanes.insert(meta.lane);
        self.min_timestamp = self.min_timestamp.min(min_timestamp);
        self.max_timestamp = self.max_timestamp.max(meta.max_timestamp);
        if let Some(index) = &mut self.index {
            index.push(meta);
        }
    }

    /// The records from this sequence on; nothing where the index is not loaded.
    pub(super) fn records_from(&self, sequence: u64) -> &[RecordMeta] {
        let index = self.index.as_deref().unwrap_or_default();
        &index[index.partition_point(|meta| meta.sequence < sequence)..]
    }

    /// Reads a record's fragment: `Ok(None)` when it is damaged.
    pub(super) fn read<S: Storage<File = F>>(
        &self,
        storage: &mut S,
        meta: &RecordMeta,
    ) -> io::Result<Option<Fragment>> {
        let file = match &self.body {
            Body::Disk(Some(file)) => file,
            Body::Disk(None) => return Err(io::Error::other("the segment is not open")),
            Body::Memory { fragments, .. } => {
                return Ok(fragments.get(meta.offset as usize).map(|(fragment, _)| fragment.clone()));
            }
        };
        let mut bytes = vec![0; HEADER_LEN + meta.body_len as usize];
        let read = storage.read_at(file, meta.offset.into(), &mut bytes)?;
        let header = RecordHeader::decode(&bytes).filter(|header| {
            read == bytes.len() && header.sequence == meta.sequence && header.body_len == meta.body_len
        });
        Ok(header.and_then(|header| header.fragment(Bytes::from(bytes).slice(HEADER_LEN..))))
    }
}

/// What reading a segment's record headers found.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) records: Vec<RecordMeta>,
    /// Where the last good record ends.
    pub(super) end: u64,
    /// What the log had accepted after it.
    pub(super) accepted: Counts,
    /// Places where something else than a record stood.
    pub(super) damaged: u64,
    pub(super) min_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Whether it holds more than it should.
    pub(super) beyond_limit: bool,
    /// Whether parts of it could not be read.
    pub(super) unreadable: bool,
}

/// Reads the headers of the records in `sequences`; damage costs the damaged records only.
///
/// `tail` says that nothing comes after this segment: what lacks its commit flag there is given up. So is what
/// would make the log have accepted more than `limit`, and everything after it.
pub(super) fn scan<S: Storage>(
    storage: &mut S,
    file: &S::File,
    length: u64,
    sequences: Range<u64>,
    accepted: Counts,
    tail: bool,
    limit: Option<Counts>,
) -> io::Result<Scan> {
    let mut window = Window { length, ..Window::default() };
    let start = SEGMENT_HEADER_LEN as u64;
    let mut state =
        Scan { end: start, accepted, min_timestamp: i64::MAX, max_timestamp: i64::MIN, ..Scan::default() };
    let mut committed = None;
    let mut offset = start;
    let mut damaged = false;
    let mut next = sequences.start;
    while offset + HEADER_LEN as u64 <= length {
        let bytes = window.at(storage, file, offset, damaged)?;
        let end = |header: &RecordHeader| offset + HEADER_LEN as u64 + u64::from(header.body_len);
        let Some(header) = RecordHeader::decode(bytes).filter(|header| end(header) <= length) else {
            if !damaged {
                damaged = true;
                state.damaged += 1;
            }
            offset += 1;
            continue;
        };
        damaged = false;
        let at = offset;
        offset = end(&header);
        // Left behind by a write that failed and was done again elsewhere.
        if header.sequence < next || header.sequence >= sequences.end {
            continue;
        }
        next = header.sequence + 1;
        let gap = gap(state.accepted, header.before);
        let after = state.accepted + gap + header.counts();
        if limit.is_some_and(|limit| !(after - limit).is_zero()) {
            state.beyond_limit = true;
            break;
        }
        state.accepted = after;
        state.min_timestamp = state.min_timestamp.min(header.min_timestamp);
        state.max_timestamp = state.max_timestamp.max(header.max_timestamp);
        state.records.push(RecordMeta::new(&header, at as u32));
        state.end = offset;
        if header.commit {
            committed = Some((state.records.len(), state.end, state.accepted, state.damaged));
        }
    }
    state.unreadable = window.failures > 0;
    if tail || state.beyond_limit {
        let (records, end, accepted, damaged) = committed.unwrap_or((0, start, accepted, 0));
        state.records.truncate(records);
        state.end = end;
        state.accepted = accepted;
        state.damaged = damaged;
    }
    Ok(state)
}

/// What lies between what was counted so far and what a record says was accepted before it.
fn gap(accepted: Counts, before: [u32; 3]) -> Counts {
    let gap = |have: u64, said: u32| {
        let gap = said.wrapping_sub(have as u32);
        // More than half of the range is no gap but a count that went back.
        if gap > u32::MAX / 2 { 0 } else { u64::from(gap) }
    };
    Counts {
        samples: gap(accepted.samples, before[0]),
        histograms: gap(accepted.histograms, before[1]),
        exemplars: gap(accepted.exemplars, before[2]),
    }
}

/// The part of a file that was read last.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
    /// Of the file.
    length: u64,
    failures: u32,
}

/// Reads of a file's parts that may fail before the rest is given up: a dying disk takes its time for each.
const MAX_FAILED_PARTS: u32 = 16;

impl Window {
    /// At least a header's bytes at `offset` where the file has them. Ahead of time only as much is read as
    /// small records make worth it, or, when every byte is tried, much.
    fn at<S: Storage>(
        &mut self,
        storage: &mut S,
        file: &S::File,
        offset: u64,
        every_byte: bool,
    ) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + HEADER_LEN as u64 > end {
            self.bytes.clear();
            self.bytes.resize(if every_byte { 64 << 10 } else { 4 << 10 }, 0);
            self.start = offset;
            match storage.read_at(file, offset, &mut self.bytes) {
                Ok(read) => self.bytes.truncate(read),
                // What can't be read is as good as damaged: it costs itself and not what follows.
                Err(error) if is_disk_trouble(&error) => {
                    self.failures += 1;
                    let left = self.length.saturating_sub(offset);
                    let lost = if self.failures < MAX_FAILED_PARTS { left.min(4 << 10) } else { left };
                    self.bytes.clear();
                    self.bytes.resize(usize::try_from(lost).unwrap_or(usize::MAX), 0);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(&self.bytes[(offset - self.start) as usize..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_damaged_byte_never_makes_a_header_foreign_and_another_version_does() {
        let header = SegmentHeader {
            log_hash: 0x0123_4567_89ab_cdef,
            first_sequence: 42,
            accepted_before: Counts { samples: 1, histograms: 2, exemplars: 3 },
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), HeaderFound::Valid(header));
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 0x40;
            assert_eq!(SegmentHeader::decode(&damaged), HeaderFound::Damaged, "byte {at}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), HeaderFound::Unknown);
        assert_eq!(SegmentHeader::decode(&[b'x'; SEGMENT_HEADER_LEN]), HeaderFound::Overwritten);
        assert_eq!(SegmentHeader::decode(&[0; SEGMENT_HEADER_LEN]), HeaderFound::Damaged);
    }
}
