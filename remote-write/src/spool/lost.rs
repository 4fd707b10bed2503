//! Cursors that were lost: what waited for their endpoints is kept until these attach, and is then sent from the
//! beginning.
//!
//! What the lost cursor had settled is sent again, as far as it is still stored: that costs the endpoint duplicates,
//! which it refuses and which are counted. The other way would cost samples.

use std::io;

use super::core::SpoolCore;
use super::endpoint::{Amount, Attachment};
use super::error::storage_error;
use super::ledger::Reason;
use super::log::Log;
use super::parked::readable_key;
use super::persist::SET_ASIDE_SUFFIX;
use super::stats::RecoveryReport;
use super::storage::Storage;
use crate::Counts;

/// How the names of cursor files end that were set aside and that nothing is kept for any more.
const GIVEN_UP_SUFFIX: &str = ".given-up";

impl<S: Storage> SpoolCore<S> {
    /// Notes that this cursor file does not tell what its endpoint has settled.
    pub(super) fn note_lost_cursor(&mut self, path: &str, report: &mut RecoveryReport) {
        if self.lost_cursors.insert(path.to_owned()) {
            tracing::error!(
                "the spool's cursor {path:?} is lost: its endpoint is sent again what is stored of its log, from the \
                 beginning, and its ledger starts anew"
            );
            report.lost_cursors.push(path.to_owned());
        }
    }

    /// Keeps what lost cursors may have waited for, decided or not: which log each of them had nobody knows. A log
    /// without any cursor has lost all of them.
    pub(super) fn hold_unclaimed(&mut self, report: &mut RecoveryReport) {
        for log in 0..self.logs.len() {
            let unclaimed = !self.is_referenced(log);
            let known = &mut self.logs[log];
            known.unclaimed = unclaimed;
            if unclaimed && known.segments.iter().any(|segment| segment.end_sequence > segment.first_sequence)
            {
                let (key, bytes) = (readable_key(&known.key), known.bytes());
                tracing::error!(
                    "log {key:?} of the spool has {bytes} bytes and no cursor: an endpoint that is configured like \
                     the one it was for is sent it from the beginning"
                );
                report.unclaimed_logs.push((key, bytes));
            }
            if unclaimed || !self.lost_cursors.is_empty() {
                known.held_from =
                    known.segments.front().map(|oldest| (oldest.first_sequence, oldest.accepted_before));
                for segment in &mut known.segments {
                    segment.held = true;
                }
            }
        }
    }

    /// Lets go of what is kept once everybody who may have lost a cursor has attached.
    pub(super) fn release_claimed(&mut self) {
        if !self.lost_cursors.is_empty() {
            return;
        }
        for log in 0..self.logs.len() {
            if self.logs[log].held_from.is_some() && !self.logs[log].unclaimed {
                self.logs[log].release();
                self.drop_decided_segments(log);
            }
        }
    }

    /// Everybody has attached who takes part in this run: a log that somebody has is not taken for a lost one any
    /// more.
    pub(super) fn note_claims(&mut self) {
        for log in 0..self.logs.len() {
            self.logs[log].unclaimed &= !self.is_referenced(log);
        }
        self.release_claimed();
    }

    /// Gives up what was kept for lost cursors whose endpoints have not come back, by the age of the samples.
    pub(super) fn give_up_unclaimed(&mut self) {
        if !self.appended {
            return;
        }
        let oldest = self.time.oldest(self.options.abandoned_after);
        for log in 0..self.logs.len() {
            let held = self.logs[log].segments.iter_mut().filter(|segment| segment.held);
            let mut given_up = 0;
            for segment in held.filter(|segment| segment.latest_past < oldest) {
                segment.held = false;
                given_up += segment.bytes;
            }
            if given_up > 0 {
                tracing::warn!(
                    "{given_up} bytes of log {:?}, kept for an endpoint whose cursor was lost, are not kept any more: \
                     it has not come back",
                    self.logs[log].key
                );
                self.drop_decided_segments(log);
            }
            let known = &mut self.logs[log];
            if !known.segments.iter().any(|segment| segment.held) {
                known.held_from = None;
            }
        }
        if !self.lost_cursors.is_empty() && self.logs.iter().all(|log| log.held_from.is_none()) {
            self.give_up_lost_cursors();
        }
    }

    /// Nothing is kept for them any more: the next start takes no notice of what was set aside of them.
    fn give_up_lost_cursors(&mut self) {
        for path in std::mem::take(&mut self.lost_cursors) {
            let aside = format!("{path}{SET_ASIDE_SUFFIX}");
            match self.storage.rename(&aside, &format!("{path}{GIVEN_UP_SUFFIX}")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.note_failure(&storage_error("rename", &aside)(error));
                }
                _ => {}
            }
        }
    }

    /// Where an endpoint whose cursor was lost begins: at the oldest that is or was kept for it, after what its own
    /// file still knows of.
    pub(super) fn beginning(&self, endpoint: usize, log: usize) -> (u64, Counts) {
        let known = &self.logs[log];
        let oldest = known.segments.front().map(|oldest| (oldest.first_sequence, oldest.accepted_before));
        let begin = known.held_from.or(oldest).unwrap_or((known.next_sequence, known.accepted));
        let earlier = self.endpoints[endpoint].attachments.iter().filter(|earlier| earlier.log == Some(log));
        let end = earlier.filter_map(|earlier| earlier.end).max_by_key(|(sequence, _)| *sequence);
        end.filter(|(sequence, _)| *sequence > begin.0).unwrap_or(begin)
    }

    /// Lets a new attachment wait for everything that is stored from its start on. What is missing of that is lost.
    pub(super) fn take_up(&mut self, log: usize, attachment: &mut Attachment) {
        for at in 0..self.logs[log].segments.len() {
            // It ends: what can't be read again and again counts as empty.
            while !self.load_index(log, at) {}
            let segment = &mut self.logs[log].segments[at];
            let records = segment.records_from(attachment.start);
            let undecided = records.len() as u64;
            for meta in records {
                let amount = Amount { records: 1, bytes: meta.body_len.into(), counts: meta.counts() };
                attachment.lanes[meta.lane.index()].unfetched.add(amount);
            }
            segment.undecided += undecided;
        }
        let stored = self.logs[log].accepted - attachment.start_accepted;
        attachment.lost.add(&Reason::CORRUPT, stored - attachment.pending().counts);
    }
}

impl<F> Log<F> {
    fn release(&mut self) {
        self.held_from = None;
        for segment in &mut self.segments {
            segment.held = false;
        }
    }
}
