use promferry_model::{MemoryBudget, Timestamp};

use super::core::{EndpointId, LogId, Position, SpoolCore};
use super::endpoint::Endpoint;
use super::error::SpoolError;
use super::ledger::Reason;
use super::log::Log;
use super::options::{EndpointOptions, SpoolOptions};
use super::storage::Storage;
use crate::{Counts, Lane, LaneSet};

/// What a [`SpoolCore`] knew that is not on the disk: enough to open it again under the same numbers.
#[derive(Clone)]
pub(super) struct Known {
    options: SpoolOptions,
    budget: MemoryBudget,
    logs: Vec<KnownLog>,
    endpoints: Vec<KnownEndpoint>,
    appended: bool,
}

#[derive(Clone)]
struct KnownLog {
    key: String,
    hash: u64,
    directory: String,
    opened: bool,
    next_sequence: u64,
}

#[derive(Clone)]
struct KnownEndpoint {
    key: String,
    path: String,
    options: EndpointOptions,
    attached: bool,
    forgotten: bool,
    log: Option<usize>,
    /// What only memory held for it.
    unstored: Counts,
}

impl<S: Storage> SpoolCore<S> {
    /// Takes the core apart after something in it went wrong: its own state is not to be trusted.
    pub(super) fn into_parts(mut self) -> (S, Known) {
        let mut unstored = vec![Counts::default(); self.endpoints.len()];
        for (endpoint, unstored) in unstored.iter_mut().enumerate() {
            for attachment in 0..self.endpoints[endpoint].attachments.len() {
                *unstored += self.take_unstored(endpoint, attachment);
            }
        }
        let logs = self.logs.iter().map(|log| KnownLog {
            key: log.key.clone(),
            hash: log.hash,
            directory: log.directory.clone(),
            opened: log.opened,
            next_sequence: log.next_sequence,
        });
        let endpoints = self.endpoints.iter().zip(unstored).map(|(endpoint, unstored)| KnownEndpoint {
            unstored,
            key: endpoint.key.clone(),
            path: endpoint.path.clone(),
            options: endpoint.options,
            attached: endpoint.attached,
            forgotten: endpoint.forgotten,
            log: endpoint.attachments.last().filter(|last| last.end.is_none()).and_then(|last| last.log),
        });
        let known = Known {
            logs: logs.collect(),
            endpoints: endpoints.collect(),
            appended: self.appended,
            options: self.options,
            budget: self.budget,
        };
        (self.storage, known)
    }

    /// Opens the spool again; logs and endpoints keep their numbers. What was in memory alone is lost and counted.
    pub(super) fn reopen(storage: S, known: Known, now: Timestamp) -> Result<Self, SpoolError> {
        let (mut core, _) = Self::open(storage, known.options, known.budget, now)?;
        for (at, log) in known.logs.iter().enumerate() {
            let found = core.logs.iter().position(|found| found.hash == log.hash);
            let found = found.unwrap_or_else(|| {
                let mut missing = Log::new(log.key.clone(), log.hash, log.directory.clone());
                missing.key_unwritten = true;
                core.logs.push(missing);
                core.logs.len() - 1
            });
            core.swap_logs(at, found);
            core.logs[at].opened = log.opened;
            // What only memory held may be on its way: nothing else gets its numbers.
            if core.logs[at].next_sequence < log.next_sequence {
                core.logs[at].next_sequence = log.next_sequence;
                core.logs[at].growing = false;
            }
            if core.logs[at].key.is_empty() {
                core.logs[at].key.clone_from(&log.key);
                core.logs[at].key_unwritten = true;
            }
        }
        for (at, endpoint) in known.endpoints.iter().enumerate() {
            let found =
                core.endpoints.iter().position(|found| !endpoint.forgotten && found.path == endpoint.path);
            let found = found.unwrap_or_else(|| {
                let missing = Endpoint::new(endpoint.key.clone(), endpoint.path.clone());
                let (forgotten, rewrite) = (endpoint.forgotten, !endpoint.forgotten);
                core.endpoints.push(Endpoint { forgotten, rewrite, ..missing });
                core.endpoints.len() - 1
            });
            core.endpoints.swap(at, found);
            match endpoint.log {
                Some(log) if endpoint.attached => {
                    core.attach(&endpoint.key, LogId(log), endpoint.options)?;
                }
                _ => {
                    core.endpoints[at].options = endpoint.options;
                    core.endpoints[at].attached = endpoint.attached;
                }
            }
        }
        core.link_parked();
        core.appended = known.appended;
        if core.appended {
            core.note_claims();
        }
        for (at, endpoint) in
            known.endpoints.iter().enumerate().filter(|(_, known)| !known.unstored.is_zero())
        {
            core.endpoints[at].refuse(&Reason::STORAGE, endpoint.unstored);
        }
        Ok(core)
    }

    /// Notes that a lane was handed out as far as `position`: it is in flight.
    pub(super) fn resume(&mut self, now: Timestamp, endpoint: EndpointId, lane: Lane, position: Position) {
        let lanes: LaneSet = std::iter::once(lane).collect();
        let Some(known) = self.endpoints.get(endpoint.0) else { return };
        let is_before = |attachment: &super::endpoint::Attachment| {
            let first = attachment.lanes[lane.index()].settled.max(attachment.start.saturating_sub(1));
            (attachment.id, first) < (position.attachment, position.sequence)
        };
        let mut wanted =
            known.attachments.iter().any(|a| is_before(a) && a.lanes[lane.index()].unfetched.records > 0);
        while wanted {
            // One at a time, so that none beyond it is taken.
            let fetched = self.fetch(now, endpoint, lanes, 1).unwrap_or_default();
            wanted = fetched.last().is_some_and(|last| last.position < position);
        }
    }

    fn swap_logs(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        self.logs.swap(a, b);
        for attachment in self.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.attachments) {
            attachment.log = attachment.log.map(|log| match log {
                log if log == a => b,
                log if log == b => a,
                log => log,
            });
        }
    }
}
