//! What only memory holds when the spool ends: it is lost with the process, and counted.

use super::core::SpoolCore;
use super::cursor::CursorRecord;
use super::endpoint::Amount;
use super::ledger::Reason;
use super::segment::Segment;
use super::storage::Storage;
use crate::Counts;

impl<S: Storage> SpoolCore<S> {
    /// Drops for [`Reason::STORAGE`] what is in no file, so that it is missing from no ledger.
    pub(super) fn give_up_memory(&mut self) {
        let mut given_up = Counts::default();
        for endpoint in 0..self.endpoints.len() {
            for attachment in 0..self.endpoints[endpoint].attachments.len() {
                let unstored = self.take_unstored(endpoint, attachment);
                if unstored.is_zero() {
                    continue;
                }
                given_up += unstored;
                let stretch = &mut self.endpoints[endpoint].attachments[attachment];
                stretch.lost.add(&Reason::STORAGE, unstored);
                let record = CursorRecord::Lost { attachment: stretch.id, dropped: stretch.lost.clone() };
                // The cursor has its space set aside, so that a full disk takes it.
                self.write_cursor(endpoint, &[record]);
            }
        }
        for log in &mut self.logs {
            if let Some(first) = log.segments.iter().position(Segment::is_memory) {
                log.segments.truncate(first);
                log.growing = false;
            }
        }
        if !given_up.is_zero() {
            tracing::error!(
                "{} samples that the disk did not take were only in memory and are lost as the process ends",
                given_up.samples + given_up.histograms
            );
        }
    }

    /// Takes out of an attachment what it has not settled of what is only in memory, in flight or not.
    pub(super) fn take_unstored(&mut self, endpoint: usize, attachment: usize) -> Counts {
        let stretch = &mut self.endpoints[endpoint].attachments[attachment];
        let mut unstored = Counts::default();
        let Some(log) = stretch.log else { return unstored };
        let mut segments =
            self.logs[log].segments.iter().skip_while(|segment| !segment.is_memory()).peekable();
        let Some(from) = segments.peek().map(|first| first.first_sequence) else { return unstored };
        for state in &mut stretch.lanes {
            let stored = state.open.partition_point(|entry| entry.first < from);
            for entry in state.open.drain(stored..) {
                unstored += entry.amount.counts;
            }
        }
        for meta in segments.flat_map(|segment| segment.records_from(stretch.start)) {
            let state = &mut stretch.lanes[meta.lane.index()];
            let covered = stretch.end.is_none_or(|(end, _)| meta.sequence < end);
            if covered && meta.sequence >= state.next {
                unstored += meta.counts();
                state.unfetched.subtract(Amount {
                    records: 1,
                    bytes: meta.body_len.into(),
                    counts: meta.counts(),
                });
            }
        }
        unstored
    }
}
