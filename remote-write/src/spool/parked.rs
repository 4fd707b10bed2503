//! An endpoint's parked queue: samples that it does not take for now while it takes others.
//!
//! It is a log and a cursor of its own beside the endpoint's. What is parked is stored there before the cursor
//! that it is taken from passes it, as one step: [`SpoolCore::park`]. After a crash between the two the copy is
//! not there: it stands behind everything that the cursors say was parked, and is cut off.

use promferry_model::Timestamp;

use super::core::{EndpointId, LogId, SpoolCore, cursor_path, key_hash};
use super::endpoint::Endpoint;
use super::error::SpoolError;
use super::handle::Settled;
use super::ledger::{LedgerSnapshot, Reason};
use super::log::Log;
use super::options::EndpointOptions;
use super::storage::Storage;
use crate::{Counts, Fragment, Lane};

/// Ends the key of a parked queue. No name that a person gives an endpoint has this character.
const SUFFIX: &str = "\u{1f}parked";

/// Of the bytes that the spool may take, all parked queues together may take one in so many.
const PARKED_SHARE: u64 = 4;

impl<S: Storage> SpoolCore<S> {
    /// The endpoint's parked queue, if it has one: an endpoint to be fetched from and settled like any other.
    pub fn parked(&self, endpoint: EndpointId) -> Option<EndpointId> {
        self.endpoints.get(endpoint.0).and_then(|known| known.parked).map(EndpointId)
    }

    /// Settles what was fetched of `from`, an endpoint or its parked queue, and stores what of it the endpoint
    /// is to be sent later at the end of its parked queue. After a crash either both happened or neither.
    ///
    /// `parked` has for each lane of `from` what was taken from it; `settled` counts that as dropped for
    /// [`Reason::PARKED`]. The fragments' own lanes are those of the parked queue: which to use is the
    /// caller's choice.
    ///
    /// What neither the disk nor memory takes is dropped for [`Reason::STORAGE`].
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] for an endpoint of another spool, and what may happen when the parked queue's
    /// log is created; then nothing was done.
    pub fn park(
        &mut self,
        now: Timestamp,
        from: EndpointId,
        parked: &[(Lane, Vec<Fragment>)],
        settled: &[Settled],
    ) -> Result<EndpointId, SpoolError> {
        self.time.advance(now);
        let queue = self.open_parked(from)?;
        let log = self.endpoints[queue.0].attachments.last().and_then(|last| last.log);
        let Some(log) = log else { return Err(SpoolError::Unknown { what: "log" }) };
        // In the order in which their cursors are written: what a crash cuts off is the end.
        let groups: Vec<(usize, &[Fragment])> = settled
            .iter()
            .filter_map(|settled| parked.iter().find(|(lane, _)| *lane == settled.lane))
            .filter(|(_, fragments)| !fragments.is_empty())
            .map(|(_, fragments)| (0, fragments.as_slice()))
            .collect();
        // What fails is counted.
        let _ = self.append_to_log(log, &groups);
        for Settled { lane, position, delivered, dropped } in settled {
            self.settle(from, *lane, *position, *delivered, dropped)?;
        }
        self.enforce_quota(log);
        self.enforce_max_bytes();
        Ok(queue)
    }

    /// What became of everything the endpoint was to be sent, its parked queue included.
    pub(super) fn whole_ledger(&self, endpoint: &Endpoint<S::File>) -> LedgerSnapshot {
        let ledger = endpoint.ledger(|log| self.logs[log].accepted);
        match endpoint.parked {
            Some(parked) => ledger.with_parked(self.endpoints[parked].ledger(|log| self.logs[log].accepted)),
            None => ledger,
        }
    }

    /// Finds each endpoint's parked queue among the endpoints.
    pub(super) fn link_parked(&mut self) {
        for at in 0..self.endpoints.len() {
            // By the file: the key in it may be damaged.
            let path = parked_path(&self.endpoints[at].key);
            self.endpoints[at].parked =
                self.endpoints.iter().position(|other| other.path == path && !other.forgotten);
        }
    }

    /// Takes part in this run with the endpoint's parked queue, if there is one.
    pub(super) fn attach_parked(&mut self, endpoint: usize) {
        // It may be here without its endpoint, whose own file was lost.
        self.link_parked();
        let key = &self.endpoints[endpoint].key;
        let lost = self.lost_cursors.contains(&parked_path(key)) || {
            let hash = key_hash(&parked_key(key));
            self.logs.iter().any(|log| log.hash == hash && log.unclaimed && !log.segments.is_empty())
        };
        // That its log can't be opened shows in the storage's state; what is in it waits.
        if (lost || self.endpoints[endpoint].parked.is_some())
            && let Err(error) = self.open_parked_queue(endpoint)
        {
            self.note_failure(&error);
        }
    }

    /// Bytes that this log may take, if it is a parked queue's.
    pub(super) fn parked_quota(&self, log: usize) -> Option<u64> {
        is_parked_key(&self.logs[log].key).then(|| {
            let queues = self.logs.iter().filter(|log| log.is_parked() && log.is_in_use()).count();
            self.max_bytes / PARKED_SHARE / queues.max(1) as u64
        })
    }

    /// The parked queue that has this log.
    pub(super) fn parked_queue(&self, log_hash: u64) -> Option<&Endpoint<S::File>> {
        self.endpoints
            .iter()
            .find(|endpoint| is_parked_key(&endpoint.key) && key_hash(&endpoint.key) == log_hash)
    }

    /// What the parked queue's log should have accepted, by what the cursors say; more than that was being
    /// parked when a crash came. `None` when a damaged cursor file makes that uncertain: then it may be there twice.
    pub(super) fn parked_limit(&self, log_hash: u64) -> Option<Counts> {
        let queue = self.parked_queue(log_hash)?;
        let owner = self.endpoints.iter().find(|other| parked_key(&other.key) == queue.key)?;
        // What was being parked is still in the endpoint's own log. Where something of that is gone, the cursor has
        // lost what it said of it.
        let is_whole = owner.attachments.iter().all(|attachment| {
            let known = attachment.delivered() + attachment.dropped().total() + attachment.pending().counts;
            let log = attachment.log.and_then(|log| self.logs.get(log));
            log.is_some_and(|log| (attachment.accepted(log.accepted) - known).is_zero())
        });
        if queue.damaged || owner.damaged || !is_whole {
            return None;
        }
        let last = queue.attachments.last()?;
        let nothing = |_| Counts::default();
        let before = queue
            .attachments
            .iter()
            .rev()
            .skip(1)
            .fold(queue.retired.accepted, |sum, earlier| sum + earlier.accepted(Counts::default()));
        let moved = owner.ledger(nothing).dropped_for(&Reason::PARKED)
            + queue.ledger(nothing).dropped_for(&Reason::PARKED);
        Some(last.start_accepted + (moved - queue.refused.total() - before))
    }

    /// Brings an endpoint's ledger and its parked queue's together after one of the cursors was damaged: what was
    /// parked and is not in the queue any more is lost, and what is in the queue was parked.
    pub(super) fn account_for_parked(&mut self, endpoint: usize) {
        let Some(parked) = self.endpoints[endpoint].parked else { return };
        let ledger = |endpoint: usize| self.endpoints[endpoint].ledger(|log| self.logs[log].accepted);
        let (owner, queue) = (ledger(endpoint), ledger(parked));
        let moved = owner.dropped_for(&Reason::PARKED) + queue.dropped_for(&Reason::PARKED);
        let (missing, unknown) = (moved - queue.accepted, queue.accepted - moved);
        if !missing.is_zero() {
            self.endpoints[parked].refuse(&Reason::CORRUPT, missing);
        }
        if !unknown.is_zero() {
            // Otherwise the next start would cut so much off the queue's end as half parked.
            self.endpoints[endpoint].refuse(&Reason::PARKED, unknown);
        }
    }

    /// The parked queue that belongs to `from`, or that it is.
    fn open_parked(&mut self, from: EndpointId) -> Result<EndpointId, SpoolError> {
        let known = self.endpoints.get(from.0).ok_or(SpoolError::Unknown { what: "endpoint" })?;
        if is_parked_key(&known.key) {
            return Ok(from);
        }
        match known.parked {
            Some(parked) => Ok(EndpointId(parked)),
            None => self.open_parked_queue(from.0),
        }
    }

    fn open_parked_queue(&mut self, endpoint: usize) -> Result<EndpointId, SpoolError> {
        let key = parked_key(&self.endpoints[endpoint].key);
        let log: LogId = self.open_log(&key)?;
        let queue = self.attach(&key, log, EndpointOptions::default())?;
        self.endpoints[endpoint].parked = Some(queue.0);
        self.account_for_parked(endpoint);
        if self.endpoints[endpoint].refused_unwritten || self.endpoints[queue.0].refused_unwritten {
            self.write_cursors();
        }
        Ok(queue)
    }
}

impl<F> Log<F> {
    /// Whether it holds what is parked for an endpoint.
    pub(super) fn is_parked(&self) -> bool {
        is_parked_key(&self.key)
    }
}

impl<F> Endpoint<F> {
    /// Whether it is another endpoint's parked queue.
    pub(super) fn is_parked(&self) -> bool {
        is_parked_key(&self.key)
    }
}

/// A key as people are to read it.
pub(super) fn readable_key(key: &str) -> String {
    match key.strip_suffix(SUFFIX) {
        Some(endpoint) => format!("{endpoint} (parked)"),
        None => key.to_owned(),
    }
}

fn parked_path(key: &str) -> String {
    cursor_path(&parked_key(key))
}

fn parked_key(key: &str) -> String {
    format!("{key}{SUFFIX}")
}

fn is_parked_key(key: &str) -> bool {
    key.ends_with(SUFFIX)
}
