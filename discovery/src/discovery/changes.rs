//! What the consumer is told, in batches.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use promferry_model::TargetGroup;
use smol_str::SmolStr;
use tokio::time::Instant;

use super::{Inherited, MechanismId, Set, State};
#[cfg(doc)]
use crate::DiscoveryOptions;

/// What changes about the targets of all jobs, in batches.
///
/// Nothing is queued: what has not been asked for yet is merged, so a consumer that is busy gets the newest state when
/// it comes back, and misses nothing.
pub struct Changes {
    set: Arc<Set>,
    last_batch: Option<Instant>,
    /// The last batch was full.
    has_more: bool,
}

/// A group of targets that is new, different or gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The job it belongs to.
    pub job: SmolStr,
    /// The mechanism that found it: sources are unique within a mechanism.
    pub mechanism: MechanismId,
    /// The group's name within the mechanism.
    pub source: SmolStr,
    /// The group as it is now, shared between the jobs that have it; `None` when it is gone. A source that was never
    /// announced may be reported gone.
    pub group: Option<Arc<TargetGroup>>,
}

/// Groups in a batch: what there is once more of a cluster's pods while they are passed on.
const BATCH_GROUPS: usize = 256;

/// A batch with so many targets is full, however few groups they are in: endpoints have up to 1,000 each.
const BATCH_TARGETS: usize = 512;

/// What a job has yet to be told about a mechanism.
pub(super) enum Pending {
    /// It gets the groups that others know already, those up to `mark` it has.
    Joined { job: SmolStr, mechanism: MechanismId, mark: Option<SmolStr> },
    /// It loses these.
    Left { job: SmolStr, mechanism: MechanismId, sources: Vec<SmolStr> },
}

/// Changes that are passed on together.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    groups: usize,
    targets: usize,
}

/// What [`State::take`] gives.
struct Taken {
    changes: Vec<Change>,
    /// There is something that has to wait for the debounce.
    is_waiting: bool,
    /// There is something that does not fit.
    has_more: bool,
}

impl Changes {
    pub(super) fn new(set: Arc<Set>) -> Self {
        Self { set, last_batch: None, has_more: false }
    }

    /// The next batch of changes, as soon as there is one that may be passed on: a first result or a changed
    /// configuration at once, others when [`DiscoveryOptions::debounce`] has passed since the last batch.
    ///
    /// A batch is about at most 256 groups, each as often as jobs have it, and full with 512 targets. What is left comes with the next ones, at
    /// once; the debounce counts from the first of them.
    ///
    /// Cancelling the future loses nothing.
    pub async fn next(&mut self) -> Vec<Change> {
        loop {
            // Registered before looking, so that what comes in between is not missed.
            let changed = self.set.changed.notified();
            let due = self.last_batch.map(|last| last + self.set.options.debounce);
            let now = Instant::now();
            let goes_on = std::mem::take(&mut self.has_more);
            let is_due = goes_on || due.is_none_or(|due| due <= now);
            let Taken { changes, is_waiting, has_more } = self.set.state().take(is_due);
            self.has_more = has_more;
            if !changes.is_empty() {
                if !goes_on {
                    self.last_batch = Some(now);
                }
                self.set.shared.counts.change(|counts| {
                    counts.sent_updates_total += 1;
                    counts.last_sent = Some(SystemTime::now());
                });
                return changes;
            }
            if has_more {
                tokio::task::yield_now().await;
                continue;
            }
            match due {
                Some(due) if is_waiting => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                _ => changed.await,
            }
        }
    }
}

impl State {
    /// The changes that may be passed on now.
    fn take(&mut self, is_due: bool) -> Taken {
        let mut urgent = !self.backlog.is_empty();
        let mut is_waiting = false;
        for running in self.running.values() {
            let has_news = running.updates.groups().has_news();
            let found = running.updates.found();
            let is_first = found.has_result && !found.is_announced;
            urgent |= is_first && (has_news || !running.inherited.is_empty());
            is_waiting |= has_news || found.has_inherited;
        }
        if !(urgent || is_due) {
            return Taken { changes: Vec::new(), is_waiting, has_more: false };
        }
        let mut batch = Batch::default();
        let mut has_more = false;
        self.take_backlog(&mut batch);
        for (id, running) in &mut self.running {
            if batch.is_full() {
                has_more = true;
                break;
            }
            let (groups, has_result) = {
                let found = running.updates.found();
                (found.groups.clone(), found.has_result)
            };
            let jobs: BTreeSet<&SmolStr> = running.slots.iter().map(|slot| &slot.job).collect();
            let is_left = groups.take(&mut |source, group| {
                batch.add(&jobs, *id, source, group);
                !batch.is_full()
            });
            has_more |= is_left;
            if has_result && !is_left {
                running.updates.found().is_announced = true;
                self.backlog.extend(running.settle());
            }
        }
        self.take_backlog(&mut batch);
        has_more |= !self.backlog.is_empty();
        Taken { changes: batch.changes, is_waiting: has_more, has_more }
    }

    fn take_backlog(&mut self, batch: &mut Batch) {
        while let Some(pending) = self.backlog.front_mut() {
            if batch.is_full() {
                return;
            }
            match pending {
                Pending::Joined { job, mechanism, mark } => {
                    let Some(running) = self.running.get(mechanism) else {
                        self.backlog.pop_front();
                        continue;
                    };
                    let jobs = BTreeSet::from([&*job]);
                    let rest = running.updates.groups().told(mark.take(), &mut |group| {
                        batch.add(&jobs, *mechanism, group.source.clone(), Some(group));
                        !batch.is_full()
                    });
                    if rest.is_some() {
                        *mark = rest;
                        return;
                    }
                }
                Pending::Left { job, mechanism, sources } => {
                    let jobs = BTreeSet::from([&*job]);
                    while !batch.is_full()
                        && let Some(source) = sources.pop()
                    {
                        batch.add(&jobs, *mechanism, source, None);
                    }
                    if !sources.is_empty() {
                        return;
                    }
                }
            }
            self.backlog.pop_front();
        }
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.groups >= BATCH_GROUPS || self.targets >= BATCH_TARGETS
    }

    fn add(
        &mut self,
        jobs: &BTreeSet<&SmolStr>,
        mechanism: MechanismId,
        source: SmolStr,
        group: Option<Arc<TargetGroup>>,
    ) {
        self.groups += 1;
        self.targets += group.as_ref().map_or(0, |group| group.targets.len());
        self.changes.extend(jobs.iter().map(|job| Change {
            job: (*job).clone(),
            mechanism,
            source: source.clone(),
            group: group.clone(),
        }));
    }
}

impl From<Inherited> for Pending {
    fn from(legacy: Inherited) -> Self {
        Self::Left { job: legacy.job, mechanism: legacy.mechanism, sources: legacy.sources }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}
