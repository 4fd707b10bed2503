use promferry_model::Timestamp;

use super::core::SpoolCore;
use super::endpoint::{Attachment, Endpoint};
use super::ledger::LedgerSnapshot;
use super::parked::readable_key;
use super::storage::Storage;
use crate::{Counts, LaneSet};

/// What there is in a spool.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpoolStats {
    /// Every log, also those of earlier configurations that are still being drained.
    pub logs: Vec<LogStats>,
    /// Every endpoint with a cursor, also those that take no part in this run.
    pub endpoints: Vec<EndpointStats>,
    /// How the disk does.
    pub storage: StorageState,
    /// Settlements whose sums were not those of the fragments.
    pub settle_mismatches: u64,
    /// Lanes in which something waits that was there when the spool was opened.
    pub backlog: LaneSet,
}

/// What there is in one log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogStats {
    /// The log's key.
    pub key: String,
    /// Segments, on disk and in memory.
    pub segments: usize,
    /// Bytes in all of them.
    pub bytes: u64,
    /// Bytes of them that are in memory because the disk did not take them.
    pub memory_bytes: u64,
    /// Bytes the log may take before its oldest segment goes.
    pub max_bytes: u64,
    /// Everything it was ever given.
    pub accepted: Counts,
}

/// What one endpoint waits for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStats {
    /// The endpoint's key.
    pub key: String,
    /// Whether it takes part in this run.
    pub attached: bool,
    /// Fragments stored or in flight.
    pub pending_fragments: u64,
    /// Bytes of their bodies.
    pub pending_bytes: u64,
    /// The timestamp of the oldest pending sample, or an earlier one in the same segment.
    pub oldest_pending: Option<Timestamp>,
    /// Fragments in its parked queue, which the numbers above leave out.
    pub parked_fragments: u64,
    /// Bytes of their bodies.
    pub parked_bytes: u64,
    /// The timestamp of the oldest parked sample, or an earlier one in the same segment.
    pub oldest_parked: Option<Timestamp>,
    /// What became of everything.
    pub ledger: LedgerSnapshot,
}

/// How the disk does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StorageState {
    /// Everything is written.
    #[default]
    Healthy,
    /// Something could not be written or read: samples are kept in memory as far as the budget goes.
    Degraded {
        /// Since when.
        since: Timestamp,
        /// What failed last.
        error: String,
    },
}

/// What was found when a spool was opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Segments found.
    pub segments: u64,
    /// Records found.
    pub records: u64,
    /// Bytes at the ends of logs that were no complete scrape and were cut off.
    pub torn_bytes: u64,
    /// Places in logs and cursor files where something damaged stood.
    pub damaged: u64,
    /// What was found missing, counted for each endpoint that was to be sent it.
    pub lost: Counts,
    /// Files of an unknown format or version, which were renamed and left alone.
    pub set_aside: Vec<String>,
    /// Cursor files that were lost (destroyed, unreadable, of another version): their endpoints are sent again what
    /// is stored of their logs, and their ledgers start anew.
    pub lost_cursors: Vec<String>,
    /// Logs that no cursor speaks of, with their bytes: an endpoint that attaches to one is sent it from the
    /// beginning.
    pub unclaimed_logs: Vec<(String, u64)>,
    /// Keys of endpoints that have a cursor, with what is pending for them.
    pub endpoints: Vec<(String, Counts)>,
}

impl<S: Storage> SpoolCore<S> {
    /// What there is, for metrics and pages.
    pub fn stats(&self) -> SpoolStats {
        // Of one that left nothing behind there is only its number.
        let logs = self.logs.iter().enumerate().filter(|(_, log)| log.is_in_use() || !log.key.is_empty());
        let logs = logs.map(|(at, log)| LogStats {
            key: readable_key(&log.key),
            segments: log.segments.len(),
            bytes: log.bytes(),
            memory_bytes: log.memory_bytes(),
            max_bytes: self.quota(at),
            accepted: log.accepted,
        });
        let known = self.endpoints.iter().filter(|endpoint| !endpoint.forgotten && !endpoint.is_parked());
        let endpoints = known.map(|endpoint| {
            let pending = endpoint.pending();
            let parked = endpoint.parked.map(|at| &self.endpoints[at]);
            let parked_amount = parked.map(Endpoint::pending).unwrap_or_default();
            EndpointStats {
                key: endpoint.key.clone(),
                attached: endpoint.attached,
                pending_fragments: pending.records,
                pending_bytes: pending.bytes,
                oldest_pending: self.oldest_pending(endpoint),
                parked_fragments: parked_amount.records,
                parked_bytes: parked_amount.bytes,
                oldest_parked: parked.and_then(|parked| self.oldest_pending(parked)),
                ledger: self.whole_ledger(endpoint),
            }
        });
        SpoolStats {
            logs: logs.collect(),
            endpoints: endpoints.collect(),
            storage: self.state.clone(),
            settle_mismatches: self.settle_mismatches,
            backlog: self.remaining_backlog(),
        }
    }

    fn oldest_pending(&self, endpoint: &Endpoint<S::File>) -> Option<Timestamp> {
        let of_attachment = |attachment: &Attachment| {
            let log = &self.logs[attachment.log?];
            // What comes next in the segment is of about the same time, whichever lane it is of.
            let of_segment = |sequence: u64| {
                let segment = log.segments.get(log.segment_after(sequence))?;
                let next = segment.records_from(sequence).first();
                Some(next.map_or(segment.min_timestamp, |meta| meta.max_timestamp))
            };
            attachment
                .lanes
                .iter()
                .filter_map(|lane| match lane.open.front() {
                    Some(entry) => Some(entry.oldest_timestamp),
                    None if lane.unfetched.records > 0 => of_segment(lane.next),
                    None => None,
                })
                .min()
        };
        endpoint.attachments.iter().filter_map(of_attachment).min().map(Timestamp::from_millis)
    }
}
