use super::core::SpoolCore;
use super::endpoint::{Amount, Attachment, Entry};
use super::ledger::Reason;
use super::log::Log;
use super::options::FsyncPolicy;
use super::segment::{Body, Segment};
use super::storage::Storage;
use crate::{Lane, LaneSet};

/// Segments a log's quota holds at least, so that dropping the oldest costs no more than this part of it.
const SEGMENTS_IN_QUOTA: u64 = 8;

impl<S: Storage> SpoolCore<S> {
    /// Bytes this log may take: an even part of what is not parked, or a parked queue's own.
    pub(super) fn quota(&self, log: usize) -> u64 {
        self.parked_quota(log).unwrap_or_else(|| {
            let parked: u64 = self.logs.iter().filter(|log| log.is_parked()).map(Log::bytes).sum();
            let logs = self.logs.iter().filter(|log| !log.is_parked() && log.is_in_use()).count();
            self.max_bytes.saturating_sub(parked) / logs.max(1) as u64
        })
    }

    /// Bytes after which a segment is closed.
    pub(super) fn segment_bytes(&self, log: usize) -> u64 {
        self.options.segment_bytes.min(self.quota(log) / SEGMENTS_IN_QUOTA)
    }

    /// Drops the log's oldest segments while it takes more than its quota.
    pub(super) fn enforce_quota(&mut self, log: usize) {
        let quota = self.quota(log);
        while self.logs[log].segments.len() > 1 && self.logs[log].allocated_bytes() > quota {
            let bytes = self.logs[log].segments.front().map_or(0, |oldest| oldest.bytes);
            self.warn_of_full_log(log, bytes);
            self.evict_oldest(log);
        }
    }

    /// Drops the oldest of the log that is furthest over its quota while all together take more than they may. A log
    /// that nothing is added to any more keeps what it has for as long as there is room.
    pub(super) fn enforce_max_bytes(&mut self) {
        while self.logs.iter().map(Log::allocated_bytes).sum::<u64>() > self.max_bytes {
            let over = |log: usize| self.logs[log].allocated_bytes().saturating_sub(self.quota(log));
            let logs = (0..self.logs.len()).filter(|&log| self.logs[log].segments.len() > 1 && over(log) > 0);
            let Some(log) = logs.max_by_key(|&log| over(log)) else { return };
            let bytes = self.logs[log].segments.front().map_or(0, |oldest| oldest.bytes);
            self.warn_of_full_log(log, bytes);
            self.evict_oldest(log);
        }
    }

    /// Drops what is too old for the endpoint without reading it, segment by segment.
    pub(super) fn expire(&mut self, endpoint: usize) {
        let known = &self.endpoints[endpoint];
        let (limit, reason) = if known.attached {
            (known.options.sample_age_limit, Reason::TOO_OLD)
        } else if self.appended {
            (Some(self.options.abandoned_after), Reason::ABANDONED)
        } else {
            // It may only not have attached yet, or this run has no use for it: that is not having left.
            return;
        };
        let attached = known.attached;
        let Some(oldest) = limit.map(|limit| self.time.oldest(limit)) else { return };
        for attachment in 0..self.endpoints[endpoint].attachments.len() {
            let stretch = &self.endpoints[endpoint].attachments[attachment];
            let Some(log) = stretch.log else { continue };
            let mut at = self.logs[log].segment_after(stretch.first_undecided());
            // From the oldest on, up to the first that still has something to send.
            // Samples from the future keep a backlog no longer than others when nobody is there to judge them.
            let latest =
                |segment: &Segment<_>| if attached { segment.max_timestamp } else { segment.latest_past };
            while self.logs[log].segments.get(at).is_some_and(|segment| latest(segment) < oldest) {
                let last = self.logs[log].segments[at].end_sequence;
                self.decide_unfetched(endpoint, attachment, at, &reason);
                at = self.logs[log].segment_after(last);
            }
        }
    }

    /// Removes the log's segments of which every endpoint has decided everything; the last one stays, for it
    /// says how much the log has accepted.
    pub(super) fn drop_decided_segments(&mut self, log: usize) {
        let needed = self.logs[log].opened || self.is_referenced(log);
        let mut decided = 0;
        if self.logs[log].miscounted {
            let stretches = self.endpoints.iter().flat_map(|e| &e.attachments);
            let of_log = stretches.filter(|attachment| attachment.log == Some(log));
            decided = of_log.map(Attachment::first_undecided).min().unwrap_or(u64::MAX);
        }
        let mut at = 0;
        while at < self.logs[log].segments.len() {
            let known = &self.logs[log];
            let last = at + 1 == known.segments.len();
            let segment = &known.segments[at];
            let is_kept = segment.held || segment.unreadable || (last && needed);
            let is_decided = segment.undecided == 0 || segment.end_sequence <= decided;
            if is_decided && !is_kept {
                self.remove_segment(log, at);
            } else {
                at += 1;
            }
        }
        if !needed && self.logs[log].segments.is_empty() {
            self.remove_log_directory(log);
        }
    }

    pub(super) fn is_referenced(&self, log: usize) -> bool {
        self.endpoints.iter().flat_map(|e| &e.attachments).any(|attachment| attachment.log == Some(log))
    }

    /// Removes the log's oldest segment although it is still needed: what was not fetched of it is dropped.
    pub(super) fn evict_oldest(&mut self, log: usize) {
        let Some(oldest) = self.logs[log].segments.front() else { return };
        let (first, end) = (oldest.first_sequence, oldest.end_sequence);
        for endpoint in 0..self.endpoints.len() {
            for attachment in 0..self.endpoints[endpoint].attachments.len() {
                if self.endpoints[endpoint].attachments[attachment].log != Some(log) {
                    continue;
                }
                // What is in flight can't be read again after a restart.
                let mut touched = LaneSet::EMPTY;
                for lane in Lane::all() {
                    let state = &mut self.endpoints[endpoint].attachments[attachment].lanes[lane.index()];
                    for entry in state.open.iter_mut().filter(|e| (first..end).contains(&e.last)) {
                        entry.evicted = true;
                        touched.insert(lane);
                    }
                }
                if self.is_oldest(log, first) {
                    let at = 0;
                    touched = self.mark_unfetched(endpoint, attachment, at, &Reason::SPOOL_FULL, touched);
                }
                let stretch = &self.endpoints[endpoint].attachments[attachment];
                let records: Vec<_> = touched.iter().map(|lane| stretch.lane_record(lane)).collect();
                self.write_cursor(endpoint, &records);
                for lane in touched.iter() {
                    let state = &mut self.endpoints[endpoint].attachments[attachment].lanes[lane.index()];
                    let taken = state.take_decided();
                    for entry in taken.iter().filter(|entry| !entry.missing) {
                        self.logs[log].decide(entry.last, entry.amount.records);
                    }
                }
            }
        }
        if self.is_oldest(log, first) {
            self.remove_segment(log, 0);
        }
        for endpoint in 0..self.endpoints.len() {
            self.retire(endpoint);
        }
    }

    fn is_oldest(&self, log: usize, first_sequence: u64) -> bool {
        self.logs[log].segments.front().is_some_and(|segment| segment.first_sequence == first_sequence)
    }

    /// Decides what the endpoint has not fetched of a segment.
    fn decide_unfetched(&mut self, endpoint: usize, attachment: usize, at: usize, why: &Reason) {
        let touched = self.mark_unfetched(endpoint, attachment, at, why, LaneSet::EMPTY);
        for lane in touched.iter() {
            self.settle_decided(endpoint, attachment, lane);
        }
    }

    /// Puts what the endpoint has not fetched of a segment into its lanes' queues as decided; returns the lanes
    /// and `touched`.
    fn mark_unfetched(
        &mut self,
        endpoint: usize,
        attachment: usize,
        at: usize,
        why: &Reason,
        mut touched: LaneSet,
    ) -> LaneSet {
        let Some(log) = self.endpoints[endpoint].attachments[attachment].log else { return touched };
        if !self.load_index(log, at) {
            // The lanes find out that these are missing when they come to the log's end.
            return touched;
        }
        let evicted = *why == Reason::SPOOL_FULL;
        let segment = &self.logs[log].segments[at];
        let stretch = &mut self.endpoints[endpoint].attachments[attachment];
        let mut entries: [Option<Entry>; Lane::COUNT] = [const { None }; Lane::COUNT];
        for meta in segment.records_from(stretch.start) {
            let state = &stretch.lanes[meta.lane.index()];
            if meta.sequence < state.next || !stretch.covers(meta.sequence) {
                continue;
            }
            let entry = entries[meta.lane.index()].get_or_insert_with(|| Entry {
                first: meta.sequence,
                last: meta.sequence,
                amount: Amount::default(),
                decided: Some(why.clone()),
                evicted,
                missing: false,
                oldest_timestamp: meta.max_timestamp,
            });
            entry.last = meta.sequence;
            entry.amount.add(Amount { records: 1, bytes: meta.body_len.into(), counts: meta.counts() });
        }
        let end = segment.end_sequence;
        for (lane, entry) in Lane::all().zip(entries) {
            let Some(entry) = entry else { continue };
            let state = &mut stretch.lanes[lane.index()];
            state.unfetched.subtract(entry.amount);
            state.next = end;
            state.decide_next(entry);
            touched.insert(lane);
        }
        touched
    }

    fn remove_segment(&mut self, log: usize, at: usize) {
        if self.options.fsync != FsyncPolicy::Never {
            // Otherwise a lost machine might find neither the segment nor the word that it was settled.
            self.sync_cursors();
        }
        let known = &mut self.logs[log];
        let last = at + 1 == known.segments.len();
        let Some(segment) = known.segments.remove(at) else { return };
        if last {
            known.growing = false;
        }
        if let Body::Disk(file) = segment.body {
            drop(file);
            let path = self.logs[log].segment_path(segment.first_sequence);
            // What can't be removed is found and settled by the next start.
            if self.storage.remove(&path).is_ok() && self.options.fsync != FsyncPolicy::Never {
                let _ = self.storage.sync_directory(&self.logs[log].directory);
            }
        }
    }
}

impl<F> Segment<F> {
    /// Forgets where the records are; they are read from the file again when they are needed.
    pub(super) fn close<S: Storage<File = F>>(&mut self, storage: &mut S) {
        // What was counted of a segment that could not be read whole is what its index had: it is not read anew.
        if let Body::Disk(file) = &mut self.body
            && !self.unreadable
        {
            if let Some(file) = file.take() {
                storage.release_cache(&file);
            }
            self.index = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use promferry_model::{MemoryBudget, Timestamp};

    use super::super::sim::SimDisk;
    use super::super::{EndpointOptions, SpoolCore, SpoolOptions};
    use crate::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};

    #[test]
    fn what_is_kept_about_dropped_segments_does_not_grow_with_an_outage() {
        let now = Timestamp::from_millis(1_000_000);
        let options =
            SpoolOptions { max_bytes: Some(12_000), segment_bytes: 1_500, ..SpoolOptions::default() };
        let storage = SimDisk::new().storage();
        let (mut core, _) = SpoolCore::open(storage, options, MemoryBudget::unlimited(), now).unwrap();
        let log = core.open_log("x").unwrap();
        let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
        let append = |core: &mut SpoolCore<_>| {
            let fragment = |lane| Fragment {
                lane: Lane::new(lane).unwrap(),
                protocol: Protocol::V1,
                compression: Compression::None,
                counts: Counts { samples: 1, ..Counts::default() },
                raw_len: 300,
                min_timestamp: now,
                max_timestamp: now,
                body: vec![lane; 300].into(),
            };
            core.append_all(now, &[(log, vec![fragment(0), fragment(1)])]).unwrap();
        };
        append(&mut core);
        core.fetch(now, endpoint, LaneSet::ALL, usize::MAX).unwrap();
        for _ in 0..1000 {
            append(&mut core);
        }
        let lanes = &core.endpoints[0].attachments[0].lanes;
        let entries: Vec<_> = lanes.iter().map(|lane| lane.open.len()).collect();
        assert_eq!((entries[0], entries[1]), (2, 2), "in flight, and dropped: {entries:?}");
        assert!(core.ledger(endpoint).unwrap().balances());
    }
}
