use std::io;

use super::core::{Position, SpoolCore, StoredFragment};
use super::endpoint::{Amount, Entry};
use super::error::SpoolError;
use super::ledger::Reason;
use super::segment::Segment;
use super::storage::Storage;
use super::time::millis;
use crate::LaneSet;

impl<S: Storage> SpoolCore<S> {
    /// Reads from one attachment what is not fetched yet of these lanes.
    pub(super) fn fetch_from(
        &mut self,
        endpoint: usize,
        attachment: usize,
        wanted: LaneSet,
        max_bytes: usize,
        bytes: &mut usize,
        fetched: &mut Vec<StoredFragment>,
    ) {
        let known = &self.endpoints[endpoint];
        let stretch = &known.attachments[attachment];
        let Some(log) = stretch.log else { return };
        let lanes: LaneSet =
            wanted.iter().filter(|lane| stretch.lanes[lane.index()].unfetched.records > 0).collect();
        let Some(from) = lanes.iter().map(|lane| stretch.lanes[lane.index()].next).min() else { return };
        let limit = known.options.sample_age_limit.map(|limit| self.time.oldest(limit));
        let mut decided = LaneSet::EMPTY;
        let mut reached = from;
        let mut complete = true;
        let (mut damaged, mut failed) = (None, None);
        let mut recovered = Vec::new();
        let mut at = self.logs[log].segment_after(from);
        'segments: while at < self.logs[log].segments.len() {
            let segment = &self.logs[log].segments[at];
            let stretch = &self.endpoints[endpoint].attachments[attachment];
            if !stretch.covers(segment.first_sequence.max(stretch.start)) {
                break;
            }
            let end = segment.end_sequence;
            if lanes.iter().any(|lane| segment.lanes.contains(lane)) {
                if self.logs[log].segments[at].waits_to_be_read(self.time.steady())
                    || !self.load_index(log, at)
                {
                    complete = false;
                    break;
                }
                let segment = &self.logs[log].segments[at];
                for &meta in segment.records_from(from) {
                    let stretch = &mut self.endpoints[endpoint].attachments[attachment];
                    if !stretch.covers(meta.sequence) {
                        continue;
                    }
                    let state = &mut stretch.lanes[meta.lane.index()];
                    if !lanes.contains(meta.lane) || meta.sequence < state.next {
                        continue;
                    }
                    if *bytes >= max_bytes && !fetched.is_empty() {
                        reached = reached.max(meta.sequence);
                        complete = false;
                        break 'segments;
                    }
                    let reason = if limit.is_some_and(|limit| meta.max_timestamp < limit) {
                        Some(Reason::TOO_OLD)
                    } else {
                        match segment.read(&mut self.storage, &meta) {
                            Ok(Some(fragment)) => {
                                if segment.is_recovery(meta.sequence) {
                                    recovered.push(at);
                                }
                                *bytes += fragment.body.len();
                                let position = Position { attachment: stretch.id, sequence: meta.sequence };
                                fetched.push(StoredFragment { position, fragment });
                                None
                            }
                            Ok(None) => {
                                damaged = Some((at, "their checksums are wrong".to_owned()));
                                Some(Reason::CORRUPT)
                            }
                            Err(error) => {
                                if !segment.is_given_up() {
                                    failed = Some((at, meta.sequence, error));
                                    reached = reached.max(meta.sequence);
                                    complete = false;
                                    break 'segments;
                                }
                                damaged = Some((at, error.to_string()));
                                Some(Reason::CORRUPT)
                            }
                        }
                    };
                    if reason.is_some() {
                        decided.insert(meta.lane);
                    }
                    let amount = Amount { records: 1, bytes: meta.body_len.into(), counts: meta.counts() };
                    state.next = meta.sequence + 1;
                    state.unfetched.subtract(amount);
                    state.open.push_back(Entry {
                        first: meta.sequence,
                        last: meta.sequence,
                        amount,
                        decided: reason,
                        evicted: false,
                        missing: false,
                        oldest_timestamp: meta.max_timestamp,
                    });
                }
            }
            reached = reached.max(end);
            at += 1;
        }
        for at in recovered {
            self.logs[log].segments[at].forget_read_failures();
        }
        if let Some((at, why)) = damaged {
            let path = self.logs[log].segment_path(self.logs[log].segments[at].first_sequence);
            self.logs[log].segments[at].read_retry_at = None;
            self.logs[log].segments[at].read_given_up = true;
            self.warn_of_damage(&path, 1, &why);
        }
        if let Some((at, sequence, error)) = failed {
            self.note_failed_read(log, at, sequence, &error);
        }
        let stretch = &mut self.endpoints[endpoint].attachments[attachment];
        for lane in lanes.iter() {
            let state = &mut stretch.lanes[lane.index()];
            if complete && state.unfetched.records > 0 {
                // All that is there was read, and these were not: their headers were damaged since. Which
                // segments they were in nobody knows.
                self.logs[log].miscounted = true;
                state.open.push_back(Entry {
                    first: state.next,
                    last: state.next.max(reached.saturating_sub(1)),
                    amount: std::mem::take(&mut state.unfetched),
                    decided: Some(Reason::CORRUPT),
                    evicted: false,
                    missing: true,
                    oldest_timestamp: i64::MAX,
                });
                decided.insert(lane);
            }
            state.next = state.next.max(reached);
        }
        for lane in decided.iter() {
            self.settle_decided(endpoint, attachment, lane);
        }
    }

    /// Notes that a segment could not be read, and says whether to try again later.
    fn note_failed_read(&mut self, log: usize, at: usize, sequence: u64, error: &io::Error) -> bool {
        let (steady, interval) = (self.time.steady(), millis(self.options.retry_interval));
        let segment = &mut self.logs[log].segments[at];
        let again = segment.note_read_failure(sequence, steady, i64::try_from(interval).unwrap_or(i64::MAX));
        let path = self.logs[log].segment_path(self.logs[log].segments[at].first_sequence);
        self.warn_of_damage(&path, 0, &error.to_string());
        again
    }

    /// Whether the segment's index is there now. One that fails again and again counts as empty: what should be
    /// in it is found missing when the lanes come to the log's end.
    pub(super) fn load_index(&mut self, log: usize, at: usize) -> bool {
        self.reads += 1;
        let reads = self.reads;
        let loaded = self.logs[log].segments[at].index.is_some();
        match self.logs[log].load_index(&mut self.storage, at) {
            Ok(()) if self.logs[log].segments[at].is_recovery(0) => {
                self.logs[log].segments[at].forget_read_failures();
            }
            Ok(()) => {}
            Err(SpoolError::Storage { source, .. }) if self.note_failed_read(log, at, 0, &source) => {
                return false;
            }
            Err(_) => {
                self.logs[log].segments[at].index = Some(Vec::new());
                self.logs[log].segments[at].read_given_up = true;
            }
        }
        self.note_read(log, at);
        self.logs[log].segments[at].read_at = reads;
        if !loaded {
            self.forget_indices(reads);
        }
        true
    }

    /// Keeps the indices of closed segments within their bound: the most recently read ones, and those of this read.
    pub(super) fn forget_indices(&mut self, read: u64) {
        loop {
            let mut records = 0;
            let mut oldest: Option<&mut Segment<S::File>> = None;
            for log in &mut self.logs {
                let growing = usize::from(log.growing);
                let closed = log.segments.len().saturating_sub(growing);
                let segments = log.segments.iter_mut().take(closed);
                for segment in segments.filter(|segment| !segment.is_memory() && !segment.unreadable) {
                    let Some(index) = &segment.index else { continue };
                    records += index.len();
                    if segment.read_at < read
                        && oldest.as_ref().is_none_or(|oldest| segment.read_at < oldest.read_at)
                    {
                        oldest = Some(segment);
                    }
                }
            }
            match oldest {
                Some(segment) if records > self.options.index_records => segment.close(&mut self.storage),
                _ => return,
            }
        }
    }
}
