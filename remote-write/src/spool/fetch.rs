use super::core::{Position, SpoolCore, StoredFragment};
use super::endpoint::{Amount, Entry};
use super::error::storage_error;
use super::ledger::Reason;
use super::segment::Segment;
use super::storage::Storage;
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
        let limit = known.options.sample_age_limit.map(|limit| self.now.saturating_sub(limit).as_millis());
        let mut decided = LaneSet::EMPTY;
        let mut reached = from;
        let mut complete = true;
        let mut at = self.logs[log].segment_after(from);
        'segments: while at < self.logs[log].segments.len() {
            let segment = &self.logs[log].segments[at];
            let stretch = &self.endpoints[endpoint].attachments[attachment];
            if !stretch.covers(segment.first_sequence.max(stretch.start)) {
                break;
            }
            let end = segment.end_sequence;
            if lanes.iter().any(|lane| segment.lanes.contains(lane)) {
                if !self.load_index(log, at) {
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
                                *bytes += fragment.body.len();
                                let position = Position { attachment: stretch.id, sequence: meta.sequence };
                                fetched.push(StoredFragment { position, fragment });
                                None
                            }
                            Ok(None) => Some(Reason::CORRUPT),
                            Err(error) => {
                                let path = self.logs[log].segment_path(segment.first_sequence);
                                self.note_failure(&storage_error("read", &path)(error));
                                reached = reached.max(meta.sequence);
                                complete = false;
                                break 'segments;
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

    /// Whether the segment's index is there now.
    pub(super) fn load_index(&mut self, log: usize, at: usize) -> bool {
        self.reads += 1;
        let reads = self.reads;
        let loaded = self.logs[log].segments[at].index.is_some();
        if let Err(error) = self.logs[log].load_index(&mut self.storage, at) {
            self.note_failure(&error);
            return false;
        }
        self.logs[log].segments[at].read_at = reads;
        if !loaded {
            self.forget_indices();
        }
        true
    }

    /// Keeps the indices of closed segments within their bound, the most recently read ones.
    fn forget_indices(&mut self) {
        loop {
            let mut records = 0;
            let mut oldest: Option<&mut Segment<S::File>> = None;
            for log in &mut self.logs {
                let growing = usize::from(log.growing);
                let closed = log.segments.len().saturating_sub(growing);
                for segment in log.segments.iter_mut().take(closed).filter(|segment| !segment.is_memory()) {
                    let Some(index) = &segment.index else { continue };
                    records += index.len();
                    if segment.read_at < self.reads
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
