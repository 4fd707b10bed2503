use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use promferry_model::{MemoryBudget, Receipt, SinkError, Timestamp};

use super::cursor::CursorRecord;
use super::endpoint::{Endpoint, Entry};
use super::error::{SpoolError, storage_error};
use super::ledger::{LedgerSnapshot, Reason};
use super::log::Log;
use super::options::{FsyncPolicy, SpoolOptions};
use super::persist::{Syncing, Warned};
use super::spread::Spread;
use super::stats::StorageState;
use super::storage::Storage;
use super::time::{Time, millis};
use crate::{Counts, Fragment, Lane, LaneSet, Protocol};

/// A log of a [`SpoolCore`]: what all endpoints that want the same bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub(super) usize);

/// An endpoint of a [`SpoolCore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(super) usize);

/// Where a fragment stands among those of its endpoint: ordered as they are to be sent, the same after a
/// restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub(super) attachment: u32,
    pub(super) sequence: u64,
}

/// A fragment as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFragment {
    /// What to settle it with.
    pub position: Position,
    /// The fragment.
    pub fragment: Fragment,
}

/// The message that an endpoint was found to take; kept beside its cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolChoice {
    /// The message.
    pub protocol: Protocol,
    /// When it was found out.
    pub chosen_at: Timestamp,
    /// A hash of the URL at which it was found out: elsewhere it means nothing.
    pub url_hash: u64,
}

/// The queue on disk, without threads and without a clock: each call does its work before it returns.
///
/// Use [`Spool`](super::Spool) for the same on a thread of its own.
pub struct SpoolCore<S: Storage> {
    pub(super) storage: S,
    pub(super) options: SpoolOptions,
    pub(super) budget: MemoryBudget,
    pub(super) logs: Vec<Log<S::File>>,
    pub(super) endpoints: Vec<Endpoint<S::File>>,
    pub(super) max_bytes: u64,
    pub(super) state: StorageState,
    pub(super) time: Time,
    /// Whether the lock is held; without it nothing is written.
    pub(super) locked: bool,
    /// Whether it failed last for want of space.
    pub(super) disk_full: bool,
    /// When the disk is tried again, by the steady clock.
    pub(super) retry_at: i64,
    pub(super) reads: u64,
    /// When everything was last made durable, by the steady clock.
    pub(super) synced_at: i64,
    pub(super) syncing: Vec<Syncing>,
    /// Files that should have been set aside and could not: they must not be written over.
    pub(super) keep: Vec<String>,
    pub(super) warned: Warned,
    /// Targets whose series are spread over several lanes.
    pub(super) spread: Spread,
    /// Whether the file lacks some of them.
    pub(super) spread_unwritten: bool,
    /// Lanes in which something waited when the spool was opened.
    pub(super) backlog: LaneSet,
    /// Cursor files that do not tell what their endpoints have settled, and whose endpoints have not attached yet.
    pub(super) lost_cursors: BTreeSet<String>,
    /// Whether anything was appended: then everybody has attached who takes part in this run.
    pub(super) appended: bool,
    pub(super) settle_mismatches: u64,
    pub(super) buffer: Vec<u8>,
}

impl<S: Storage> SpoolCore<S> {
    /// Stores one scrape: the fragments for each log, which become visible together.
    ///
    /// # Errors
    /// [`SinkError::Storage`] when neither the disk nor the memory that stands in for it could take all of
    /// it; what was not taken is counted as dropped for `storage`.
    pub fn append_all(
        &mut self,
        now: Timestamp,
        scrape: &[(LogId, Vec<Fragment>)],
    ) -> Result<Receipt, SinkError> {
        self.append_batch(now, &[scrape]).pop().unwrap_or(Err(SinkError::Closed))
    }

    /// Stores several scrapes with as few writes as possible; the answers are in the same order.
    pub fn append_batch(
        &mut self,
        now: Timestamp,
        scrapes: &[&[(LogId, Vec<Fragment>)]],
    ) -> Vec<Result<Receipt, SinkError>> {
        self.time.advance(now);
        if !std::mem::replace(&mut self.appended, true) {
            self.note_claims();
        }
        let mut failures: Vec<Option<String>> = vec![None; scrapes.len()];
        for log in 0..self.logs.len() {
            let groups: Vec<(usize, &[Fragment])> = scrapes
                .iter()
                .enumerate()
                .flat_map(|(scrape, parts)| {
                    parts
                        .iter()
                        .filter(|(id, fragments)| id.0 == log && !fragments.is_empty())
                        .map(move |(_, fragments)| (scrape, fragments.as_slice()))
                })
                .collect();
            if !groups.is_empty() {
                for (scrape, failure) in self.append_to_log(log, &groups) {
                    failures[scrape] = Some(failure);
                }
                self.enforce_quota(log);
            }
        }
        self.enforce_max_bytes();
        let receipt = |scrape: &[(LogId, Vec<Fragment>)]| {
            let bytes = scrape.iter().flat_map(|(_, f)| f).map(|f| f.body.len() as u64).sum();
            let samples = |fragments: &[Fragment]| fragments.iter().map(|f| f.counts.values()).sum();
            let first = scrape.iter().find(|(_, fragments)| !fragments.is_empty());
            Receipt::new(first.map_or(0, |(_, fragments)| samples(fragments)), bytes, Duration::ZERO)
        };
        let answers = scrapes.iter().zip(failures);
        answers
            .map(|(scrape, failure)| match failure {
                None => Ok(receipt(scrape)),
                Some(failure) => Err(SinkError::Storage(failure)),
            })
            .collect()
    }

    /// Counts a scrape that was not stored: accepted and dropped, for every endpoint of the log.
    pub fn refuse(&mut self, log: LogId, counts: Counts, reason: &Reason) {
        for endpoint in &mut self.endpoints {
            if endpoint.attached && endpoint.growing(log.0).is_some() {
                endpoint.refuse(reason, counts);
            }
        }
    }

    /// Reads what the endpoint was not given yet, of these lanes, in order: at least one fragment if there is
    /// any, more until their bodies come to `max_bytes`.
    ///
    /// Lanes that are not asked for are passed over and not forgotten. What was returned is in flight until it
    /// is settled and is not returned again, except after [`rewind`](Self::rewind) or a restart. What is too
    /// old or damaged is dropped here, with its reason.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] for an endpoint of another spool.
    pub fn fetch(
        &mut self,
        now: Timestamp,
        endpoint: EndpointId,
        lanes: LaneSet,
        max_bytes: usize,
    ) -> Result<Vec<StoredFragment>, SpoolError> {
        self.time.advance(now);
        let known = self.endpoints.get(endpoint.0).ok_or(SpoolError::Unknown { what: "endpoint" })?;
        let mut wanted = lanes;
        let mut fetched = Vec::new();
        let mut bytes = 0;
        for attachment in 0..known.attachments.len() {
            if wanted.is_empty() || (bytes >= max_bytes && !fetched.is_empty()) {
                break;
            }
            self.fetch_from(endpoint.0, attachment, wanted, max_bytes, &mut bytes, &mut fetched);
            for (number, lane) in Lane::all().enumerate() {
                // Each lane's order goes over all attachments.
                if self.endpoints[endpoint.0].attachments[attachment].lanes[number].unfetched.records > 0 {
                    wanted.remove(lane);
                }
            }
        }
        self.retire(endpoint.0);
        Ok(fetched)
    }

    /// Decides everything of the lane up to and including `position`: what of it was delivered and what was
    /// dropped, by reason. It is written before this returns.
    ///
    /// What the sums leave out is counted as dropped for `unaccounted`, so that the ledger balances whatever
    /// the caller does; settling again what is settled changes nothing.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] for an endpoint of another spool. A cursor that can't be written is no error:
    /// it is tried again later ([`StorageState`]).
    pub fn settle(
        &mut self,
        endpoint: EndpointId,
        lane: Lane,
        position: Position,
        delivered: Counts,
        dropped: &[(Reason, Counts)],
    ) -> Result<(), SpoolError> {
        let known = self.endpoints.get(endpoint.0).ok_or(SpoolError::Unknown { what: "endpoint" })?;
        let said = delivered + dropped.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts);
        let mut unsaid = (delivered, dropped.to_vec());
        let mut sum = Counts::default();
        let attachments = known.attachments.len();
        for at in 0..attachments {
            let id = self.endpoints[endpoint.0].attachments[at].id;
            let through = match id.cmp(&position.attachment) {
                Ordering::Less => u64::MAX,
                Ordering::Equal => position.sequence,
                Ordering::Greater => break,
            };
            sum += self.settle_through(endpoint.0, at, lane, through, &mut unsaid);
        }
        if said != sum {
            self.settle_mismatches += 1;
        }
        self.retire(endpoint.0);
        Ok(())
    }

    /// Settles a lane of one attachment up to this sequence, with as much of what was said as there is; takes
    /// that off, and returns how much was in flight.
    fn settle_through(
        &mut self,
        endpoint: usize,
        attachment: usize,
        lane: Lane,
        through: u64,
        (delivered, dropped): &mut (Counts, Vec<(Reason, Counts)>),
    ) -> Counts {
        let stretch = &mut self.endpoints[endpoint].attachments[attachment];
        let state = &mut stretch.lanes[lane.index()];
        let mut settled = Vec::new();
        let mut sum = Counts::default();
        while let Some(entry) = state.open.pop_front_if(|entry| entry.last <= through) {
            match &entry.decided {
                Some(reason) => state.dropped.add(reason, entry.amount.counts),
                None => sum += entry.amount.counts,
            }
            state.settled = entry.last;
            settled.push(entry);
        }
        if settled.is_empty() {
            return sum;
        }
        let mut rest = sum;
        let counted = at_most(*delivered, rest);
        state.delivered += counted;
        *delivered = *delivered - counted;
        rest = rest - counted;
        for (reason, counts) in dropped {
            let counted = at_most(*counts, rest);
            state.dropped.add(reason, counted);
            *counts = *counts - counted;
            rest = rest - counted;
        }
        state.dropped.add(&Reason::UNACCOUNTED, rest);
        settled.extend(state.take_decided());
        let record = stretch.lane_record(lane);
        self.write_cursor(endpoint, &[record]);
        self.decided(endpoint, attachment, &settled);
        sum
    }

    /// Forgets that what is in flight of a lane was fetched: it is returned again, in order.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] for an endpoint of another spool.
    pub fn rewind(&mut self, endpoint: EndpointId, lane: Lane) -> Result<(), SpoolError> {
        let known = self.endpoints.get_mut(endpoint.0).ok_or(SpoolError::Unknown { what: "endpoint" })?;
        for at in 0..known.attachments.len() {
            let known = &mut self.endpoints[endpoint.0];
            let state = &mut known.attachments[at].lanes[lane.index()];
            for entry in std::mem::take(&mut state.open) {
                if entry.evicted {
                    // It can't be read again.
                    let decided = entry.decided.clone().or(Some(Reason::SPOOL_FULL));
                    state.open.push_back(Entry { decided, ..entry });
                } else {
                    state.next = state.next.min(entry.first);
                    state.unfetched.add(entry.amount);
                }
            }
            self.settle_decided(endpoint.0, at, lane);
        }
        self.retire(endpoint.0);
        Ok(())
    }

    /// The message that the endpoint was found to take, in this run or an earlier one.
    pub fn protocol_choice(&self, endpoint: EndpointId) -> Option<ProtocolChoice> {
        self.endpoints.get(endpoint.0).and_then(|endpoint| endpoint.protocol)
    }

    /// Remembers which message the endpoint takes, over restarts.
    pub fn choose_protocol(&mut self, endpoint: EndpointId, choice: ProtocolChoice) {
        if let Some(known) = self.endpoints.get_mut(endpoint.0)
            && known.protocol != Some(choice)
        {
            known.protocol = Some(choice);
            self.write_cursor(endpoint.0, &[CursorRecord::Protocol(choice)]);
        }
    }

    /// What became of everything the endpoint was to be sent.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] for an endpoint of another spool.
    pub fn ledger(&self, endpoint: EndpointId) -> Result<LedgerSnapshot, SpoolError> {
        let known = self.endpoints.get(endpoint.0).ok_or(SpoolError::Unknown { what: "endpoint" })?;
        Ok(self.whole_ledger(known))
    }

    /// What is due by time: the age limit, the disk's next try, durability. To be called about once a second.
    pub fn maintain(&mut self, now: Timestamp) {
        self.time.advance(now);
        for endpoint in 0..self.endpoints.len() {
            self.expire(endpoint);
            self.retire(endpoint);
            self.forget_if_abandoned(endpoint);
        }
        self.give_up_unclaimed();
        self.enforce_max_bytes();
        if self.disk_is_due() {
            for log in 0..self.logs.len() {
                if self.logs[log].has_memory_tail() {
                    self.drain_memory(log);
                }
            }
        }
        self.write_cursors();
        self.write_spread();
        self.finish_syncs();
        if let FsyncPolicy::Interval(interval) = self.options.fsync
            && self.time.steady() >= self.synced_at.saturating_add_unsigned(millis(interval))
            && self.syncing.is_empty()
        {
            self.synced_at = self.time.steady();
            self.start_syncs();
        }
        self.release_caches();
        // While an endpoint is away nothing is read, and what is written has indices too.
        self.forget_indices(u64::MAX);
        self.note_recovery();
    }

    /// Whether something could not be read and is to be tried again: then a fetch that came back empty is worth
    /// repeating.
    pub fn reads_are_retried(&self) -> bool {
        self.logs.iter().flat_map(|log| &log.segments).any(|segment| segment.read_retry_at.is_some())
    }

    /// Writes what is not written yet. What the disk does not take even now is dropped for [`Reason::STORAGE`].
    pub fn close(&mut self, now: Timestamp) {
        self.time.advance(now);
        for log in 0..self.logs.len() {
            // There is no later: a disk that failed just once is asked again.
            for _ in 0..2 {
                if self.logs[log].has_memory_tail() {
                    self.drain_memory(log);
                }
            }
        }
        self.give_up_memory();
        self.write_cursors();
        self.write_spread();
        if self.options.fsync != FsyncPolicy::Never {
            self.sync_all();
        }
    }

    /// The storage's free space in bytes.
    ///
    /// # Errors
    /// When the storage doesn't tell.
    pub fn free_space(&mut self) -> Result<u64, SpoolError> {
        self.storage.free_space().map_err(storage_error("ask the free space of", "."))
    }

    /// The endpoint's last attachment doesn't grow any more.
    pub(super) fn end_attachment(&mut self, endpoint: usize) {
        let Some(last) = self.endpoints[endpoint].attachments.last_mut() else { return };
        if last.end.is_some() {
            return;
        }
        let (sequence, accepted) = match last.log {
            Some(log) => (self.logs[log].next_sequence, self.logs[log].accepted),
            None => return,
        };
        last.end = Some((sequence, accepted));
        let record = CursorRecord::End { attachment: last.id, sequence, accepted };
        self.write_cursor(endpoint, &[record]);
    }

    /// Folds attachments of which nothing is open into the totals, and lets go of logs that nobody needs.
    pub(super) fn retire(&mut self, endpoint: usize) {
        let known = &mut self.endpoints[endpoint];
        let mut retired = Vec::new();
        while known.attachments.first().is_some_and(|first| first.end.is_some() && first.is_settled()) {
            let first = known.attachments.remove(0);
            known.retired.attachment = first.id;
            known.retired.accepted += first.accepted(Counts::default());
            known.retired.delivered += first.delivered();
            known.retired.dropped.merge(&first.dropped());
            retired.extend(first.log);
        }
        if retired.is_empty() {
            return;
        }
        let totals = &known.retired;
        let record = CursorRecord::Retired {
            attachment: totals.attachment,
            accepted: totals.accepted,
            delivered: totals.delivered,
            dropped: totals.dropped.clone(),
        };
        self.write_cursor(endpoint, &[record]);
        for log in retired {
            self.drop_decided_segments(log);
        }
    }

    /// Notes that these are decided and removes the segments that nobody needs any more.
    pub(super) fn decided(&mut self, endpoint: usize, attachment: usize, entries: &[Entry]) {
        let Some(log) = self.endpoints[endpoint].attachments[attachment].log else { return };
        for entry in entries.iter().filter(|entry| !entry.missing) {
            self.logs[log].decide(entry.last, entry.amount.records);
        }
        self.drop_decided_segments(log);
    }

    /// Settles what heads a lane's queue and is decided already.
    pub(super) fn settle_decided(&mut self, endpoint: usize, attachment: usize, lane: Lane) {
        let known = &mut self.endpoints[endpoint].attachments[attachment];
        let taken = known.lanes[lane.index()].take_decided();
        if !taken.is_empty() {
            let record = known.lane_record(lane);
            self.write_cursor(endpoint, &[record]);
            self.decided(endpoint, attachment, &taken);
        }
    }
}

/// As much of `counts` as there is in `available`, kind by kind.
fn at_most(counts: Counts, available: Counts) -> Counts {
    Counts {
        samples: counts.samples.min(available.samples),
        histograms: counts.histograms.min(available.histograms),
        exemplars: counts.exemplars.min(available.exemplars),
    }
}

/// Part of the format: names a log's directory and an endpoint's file.
pub(super) fn key_hash(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes())
}

pub(super) fn log_directory(hash: u64) -> String {
    format!("log-{hash:016x}")
}

pub(super) fn cursor_path(endpoint: &str) -> String {
    format!("{CURSOR_DIRECTORY}/{:016x}.cursor", key_hash(endpoint))
}

/// Where the endpoints' cursor files are.
pub(super) const CURSOR_DIRECTORY: &str = "cursors";
