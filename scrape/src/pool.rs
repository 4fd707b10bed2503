//! One job's targets: which of its groups' are scraped, and the loops that do.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use promferry_model::{Rng, Sink, TargetGroup};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::groups::{Groups, Moves};
use crate::stats::SharedStats;
use crate::target_loop::{self, Context, LoopShared, Order};
use crate::{GroupChange, GroupSource, Job, JobStats, PoolSummary, Schedule, Target, TargetHealth};

/// One job's targets.
pub(crate) struct Pool {
    pub(crate) job: Arc<Job>,
    pub(crate) groups: Groups,
    stats: Arc<SharedStats>,
    active: HashMap<u64, Active>,
    /// How many targets of groups are active: more than there are identities where some are alike.
    owners: u64,
    /// Targets that are gone but whose series have not ended yet.
    retiring: Vec<TargetTask>,
    starting: Starting,
    /// There were more targets than may be when they last changed.
    was_over_limit: bool,
}

/// A target that is scraped.
struct Active {
    /// How many targets of groups have this identity.
    owners: u32,
    /// Absent only while a change is taken in.
    task: Option<TargetTask>,
}

/// How many targets were started lately: discovery comes in batches, and those of several start together.
#[derive(Default)]
struct Starting {
    since: Option<Instant>,
    targets: usize,
}

/// Targets that start within this time of each other are spread.
const TOGETHER: Duration = Duration::from_secs(3);

/// What the loops of all pools are started with.
pub(crate) struct Starter<'a, S> {
    pub(crate) context: &'a Arc<Context<S>>,
    pub(crate) source: Option<&'a dyn GroupSource>,
    pub(crate) rng: &'a mut dyn Rng,
}

/// A loop, as long as it runs.
pub(crate) struct TargetTask {
    /// The hash of the labels that its series carry; the same for as long as the loop runs.
    labels: u64,
    pub(crate) shared: Arc<LoopShared>,
    pub(crate) task: JoinHandle<()>,
}

impl Pool {
    pub(crate) fn new(job: Job, has_source: bool) -> Self {
        Self {
            job: Arc::new(job),
            groups: Groups::new(has_source),
            stats: Arc::default(),
            active: HashMap::new(),
            owners: 0,
            retiring: Vec::new(),
            starting: Starting::default(),
            was_over_limit: false,
        }
    }

    /// Takes over loops that still end the series of an earlier pool of this job, and its counters with them.
    pub(crate) fn adopt(&mut self, tasks: impl IntoIterator<Item = TargetTask>) {
        self.retiring.extend(tasks);
        if let Some(task) = self.retiring.first() {
            self.stats = Arc::clone(&task.shared.stats);
        }
    }

    /// Takes in changes of groups. What is done is bounded by the targets of those.
    pub(crate) fn change<S: Sink>(
        &mut self,
        starter: Starter<'_, S>,
        changes: impl IntoIterator<Item = GroupChange>,
    ) {
        let mut moves = Moves::default();
        for change in changes {
            self.groups.change(&self.job, change, &mut moves);
        }
        self.settle(starter, moves);
    }

    /// Makes these groups all there is.
    pub(crate) fn replace<S: Sink>(&mut self, starter: Starter<'_, S>, groups: Vec<TargetGroup>) {
        let mut moves = Moves::default();
        self.groups.replace(&self.job, groups, &mut moves);
        self.settle(starter, moves);
    }

    /// Makes these the job and its groups, judged under it, and lets loops of targets that stay go on.
    pub(crate) fn assign_job<S: Sink>(
        &mut self,
        starter: Starter<'_, S>,
        job: Job,
        groups: Groups,
        moves: Moves,
    ) {
        self.job = Arc::new(job);
        self.groups = groups;
        self.stats.lock().target_errors += moves.errors;
        let mut before = std::mem::take(&mut self.active);
        self.owners = 0;
        let joining = self.join(moves.joined);
        let mut new = Vec::new();
        for target in joining {
            let kept = before.remove(&target.identity()).and_then(|active| active.task);
            match kept.filter(|task| task.go_on(&self.job, &target)) {
                Some(task) => {
                    if let Some(active) = self.active.get_mut(&target.identity()) {
                        active.task = Some(task);
                    }
                }
                None => new.push(target),
            }
        }
        let gone = before.into_values().filter_map(|active| active.task).collect();
        self.start_and_retire(starter, new, gone);
    }

    /// Ends all loops; those that still have to end series are given back.
    pub(crate) fn retire(mut self) -> Vec<TargetTask> {
        for task in self.active.drain().filter_map(|(_, active)| active.task) {
            task.retire();
            self.retiring.push(task);
        }
        self.retiring
    }

    /// All loops, which belong to the pool no longer.
    pub(crate) fn take_tasks(&mut self) -> impl Iterator<Item = TargetTask> {
        let active = self.active.drain().filter_map(|(_, active)| active.task);
        active.chain(self.retiring.drain(..))
    }

    pub(crate) fn active_targets(&self) -> usize {
        self.active.len()
    }

    /// The loops of the targets that are scraped.
    pub(crate) fn loops(&self) -> impl Iterator<Item = &Arc<LoopShared>> {
        self.active.values().filter_map(|active| active.task.as_ref()).map(|task| &task.shared)
    }

    /// The same, by the targets' identities.
    pub(crate) fn active_loops(&self) -> HashMap<u64, Arc<LoopShared>> {
        let active = self.active.keys().filter_map(|identity| Some((*identity, self.loop_of(*identity)?)));
        active.collect()
    }

    /// The loop of the target that is scraped under this identity.
    pub(crate) fn loop_of(&self, identity: u64) -> Option<Arc<LoopShared>> {
        let task = self.active.get(&identity)?.task.as_ref()?;
        Some(Arc::clone(&task.shared))
    }

    pub(crate) fn summary(&self) -> PoolSummary {
        let mut summary = PoolSummary {
            scrape_pool: self.job.name.clone(),
            groups: self.groups.len() as u64,
            active: self.active.len() as u64,
            dropped_count: self.groups.dropped_count(),
            discovered: self.groups.discovered(),
            dropped_by: self.groups.dropped_by(&self.job),
            invalid: self.groups.invalid(),
            duplicates: self.owners - self.active.len() as u64,
            exceeded_target_limit: self.over_target_limit().map(|_| self.job.config.target_limit),
            ..PoolSummary::default()
        };
        for shared in self.loops() {
            let count = match shared.last_scrape().health {
                TargetHealth::Up => &mut summary.up,
                TargetHealth::Down => &mut summary.down,
                TargetHealth::Unknown => &mut summary.unknown,
            };
            *count += 1;
        }
        summary
    }

    pub(crate) fn stats(&self) -> JobStats {
        let mut stats = self.stats.lock().clone();
        stats.targets = self.active.len() as u64;
        let loops = self.loops().chain(self.retiring.iter().map(|task| &task.shared));
        stats.series = loops.map(|shared| shared.series() as u64).sum();
        stats
    }

    /// Starts, changes and retires loops until they are those of the groups' targets.
    fn settle<S: Sink>(&mut self, starter: Starter<'_, S>, moves: Moves) {
        let Moves { joined, left, errors } = moves;
        self.stats.lock().target_errors += errors;
        let new = self.join(joined);
        let mut gone = Vec::new();
        for identity in left {
            let Entry::Occupied(mut active) = self.active.entry(identity) else { continue };
            active.get_mut().owners -= 1;
            self.owners -= 1;
            if active.get().owners == 0 {
                gone.extend(active.remove().task);
            }
        }
        self.start_and_retire(starter, new, gone);
    }

    /// Counts targets that joined; those that nobody was before, each identity once.
    fn join(&mut self, joined: Vec<Target>) -> Vec<Target> {
        self.owners += joined.len() as u64;
        let mut new = Vec::new();
        for target in joined {
            match self.active.entry(target.identity()) {
                Entry::Occupied(mut active) => active.get_mut().owners += 1,
                Entry::Vacant(place) => {
                    place.insert(Active { owners: 1, task: None });
                    new.push(target);
                }
            }
        }
        new
    }

    fn start_and_retire<S: Sink>(
        &mut self,
        starter: Starter<'_, S>,
        new: Vec<Target>,
        gone: Vec<TargetTask>,
    ) {
        let Starter { context, source, rng } = starter;
        self.retiring.retain(|task| !task.shared.is_closed());
        self.retiring.extend(gone);
        let starting = self.starting.count(new.len());
        for target in new {
            let identity = target.identity();
            // It may have left again with the same changes.
            let Some(active) = self.active.get_mut(&identity) else { continue };
            let schedule = Schedule::new(target.scrape_interval(), identity, context.phase_seed);
            let delay = schedule.first_delay(identity, starting);
            let target = Arc::new(target);
            // A target with the same public labels writes the same series: the loop that knows them goes on.
            let labels = target.public_labels().stable_hash();
            let known = self.retiring.iter().position(|task| task.writes_as(&target, labels));
            let taken_over = known
                .map(|at| self.retiring.swap_remove(at))
                .filter(|task| task.take_over(&self.job, &target, delay));
            active.task = Some(taken_over.unwrap_or_else(|| {
                let stats = Arc::clone(&self.stats);
                let shared = Arc::new(LoopShared::new(Arc::clone(&self.job), target, delay, stats));
                let running = target_loop::run(Arc::clone(context), Arc::clone(&shared), rng.next_u64());
                TargetTask { labels, shared, task: tokio::spawn(running) }
            }));
        }
        for task in &self.retiring {
            task.retire();
        }
        self.enforce_target_limit();
        self.groups.find_examples(&self.job, source);
    }

    /// How many targets there are where that is more than the limit.
    fn over_target_limit(&self) -> Option<u64> {
        let (targets, limit) = (self.active.len() as u64, self.job.config.target_limit);
        (limit > 0 && targets > limit).then_some(targets)
    }

    /// Over the limit no target is scraped: each fails with the reason until there are fewer.
    fn enforce_target_limit(&mut self) {
        let over = self.over_target_limit();
        let was_over_limit = std::mem::replace(&mut self.was_over_limit, over.is_some());
        if over.is_some() {
            self.stats.lock().exceeded_target_limit += 1;
        } else if !was_over_limit {
            return;
        }
        for shared in self.loops() {
            if shared.assignment().over_target_limit != over {
                shared.assign(|assignment| assignment.over_target_limit = over);
            }
        }
    }
}

impl Starting {
    /// How many start together with `more`, themselves included.
    fn count(&mut self, more: usize) -> usize {
        if more > 0 && self.since.is_none_or(|since| since.elapsed() >= TOGETHER) {
            *self = Self { since: Some(Instant::now()), targets: 0 };
        }
        self.targets += more;
        self.targets
    }
}

impl TargetTask {
    /// Lets the loop of a target that stays go on under another job; `false` when it has ended.
    fn go_on(&self, job: &Arc<Job>, target: &Target) -> bool {
        self.shared.assign(|assignment| {
            assignment.job = Arc::clone(job);
            assignment.target = Arc::new(target.clone());
            assignment.revision += 1;
            assignment.first_delay = None;
        })
    }

    /// Whether its series are those of `target`, whose public labels have this hash.
    fn writes_as(&self, target: &Target, labels: u64) -> bool {
        self.labels == labels && self.shared.assignment().target.public_labels() == target.public_labels()
    }

    /// Has a loop go on with another target of the same public labels; `false` when it has ended.
    fn take_over(&self, job: &Arc<Job>, target: &Arc<Target>, delay: Duration) -> bool {
        self.shared.assign(|assignment| {
            assignment.order = Order::Scrape;
            assignment.job = Arc::clone(job);
            assignment.target = Arc::clone(target);
            assignment.revision += 1;
            assignment.first_delay = Some(delay);
            assignment.over_target_limit = None;
        })
    }

    pub(crate) fn retire(&self) {
        if self.shared.assignment().order == Order::Scrape {
            self.shared.assign(|assignment| assignment.order = Order::Retire);
        }
    }
}
