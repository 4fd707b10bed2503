//! The jobs and their targets: what is scraped now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promferry_model::{Clock, Labels, MemoryBudget, Rng, SeededRng, Sink, SystemClock, TargetGroup};
use smol_str::SmolStr;

use crate::groups::{GroupKey, GroupOutcomes, Groups, Moves, Outcome};
use crate::notices::Notices;
use crate::pool::{Pool, Starter, TargetTask};
use crate::section::PageKeeper;
use crate::target_loop::{Assignment, Context, LoopShared, Order};
use crate::{
    ActiveTarget, CpuSections, GatewayStatus, GroupChange, GroupSource, Job, JobStats, PoolStatus,
    PoolSummary, TargetRow, TargetState, discovered_labels,
};

/// What a [`Scraper`] is given besides its sink and its jobs. Time, chance and memory are arguments, so that
/// a test can decide them.
#[non_exhaustive]
pub struct ScraperOptions {
    /// Where timestamps come from. Waiting goes by tokio's clock.
    pub clock: Arc<dyn Clock>,
    /// Seeds the hashes of series.
    pub rng: Box<dyn Rng>,
    /// What pages and series are reserved from.
    pub budget: MemoryBudget,
    /// How many pages are read at once.
    pub cpu: CpuSections,
    /// Shifts every target's phase, so that replicas of one scraper scrape at different moments.
    pub phase_seed: u64,
    /// Reads start timestamps (`_created` in OpenMetrics) instead of taking them for series.
    pub start_timestamps: bool,
    /// Keeps pages aside whose reading panicked.
    pub page_keeper: Option<Arc<dyn PageKeeper>>,
    /// Under which name others reach this host, for [`TargetStatus::global_url`](crate::TargetStatus::global_url).
    pub external_host: Option<String>,
    /// Who knows the groups of all jobs. With it a target that relabelling drops takes some tens of bytes, however
    /// many labels it has; without it the scraper keeps all groups itself.
    pub groups: Option<Arc<dyn GroupSource>>,
}

impl Default for ScraperOptions {
    /// The machine's clock, a random seed, memory without limit and as many sections as there are cores.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            clock: Arc::new(SystemClock::new()),
            rng: Box::new(SeededRng::from_process()),
            budget: MemoryBudget::unlimited(),
            cpu: CpuSections::new(cores),
            phase_seed: 0,
            start_timestamps: false,
            page_keeper: None,
            external_host: None,
            groups: None,
        }
    }
}

/// There is no job of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no job {0:?}")]
pub struct UnknownJob(pub String);

/// Scrapes the targets of its jobs into a [`Sink`].
///
/// [`apply`](Self::apply) says which jobs there are, [`update`](Self::update) which targets a job has, and
/// [`change`](Self::change) what is different about those; all change only what differs, and a target that stays goes on
/// without a gap. They have to be called within a tokio runtime with time and I/O enabled, which then runs one task for
/// each target. One waits for the other, and judging ten thousand targets takes a part of a second: call them where
/// blocking does no harm. What only looks waits for none of them. Dropping a scraper stops
/// its loops as [`shutdown`](Self::shutdown) does, without waiting for them.
pub struct Scraper<S: Sink> {
    context: Arc<Context<S>>,
    source: Option<Arc<dyn GroupSource>>,
    external_host: Option<String>,
    /// Locked, before the state, by who changes jobs or groups, for as long as that takes.
    changing: Mutex<()>,
    /// Locked for a moment.
    state: Mutex<ScraperState>,
}

struct ScraperState {
    pools: BTreeMap<SmolStr, Pool>,
    /// Loops of jobs that are gone, until they have ended.
    leaving: Vec<TargetTask>,
    rng: Box<dyn Rng>,
    stopped: bool,
}

impl<S: Sink> Scraper<S> {
    /// A scraper without jobs.
    pub fn new(sink: S, options: ScraperOptions) -> Self {
        let ScraperOptions {
            clock,
            rng,
            budget,
            cpu,
            phase_seed,
            start_timestamps,
            page_keeper: keeper,
            external_host,
            groups: source,
        } = options;
        let notices = Notices::default();
        let (gates, alike) = Default::default();
        let context =
            Context { sink, clock, budget, cpu, phase_seed, start_timestamps, keeper, notices, gates, alike };
        let state = ScraperState { pools: BTreeMap::new(), leaving: Vec::new(), rng, stopped: false };
        let changing = Mutex::default();
        Self { context: Arc::new(context), source, external_host, changing, state: Mutex::new(state) }
    }

    /// Makes these the jobs. A job of a known name keeps its targets; if its options are the same, nothing of
    /// it is touched, otherwise its loops go on under the new ones and lines are judged anew. Targets of jobs
    /// that are gone are gone. Of jobs with one name the last counts.
    pub fn apply(&self, jobs: Vec<Job>) {
        let _changing = self.changing();
        let jobs: BTreeMap<SmolStr, Job> = jobs.into_iter().map(|job| (job.name.clone(), job)).collect();
        let names: BTreeSet<SmolStr> = jobs.keys().cloned().collect();
        for job in jobs.into_values() {
            self.apply_job(job);
        }
        let mut state = self.lock();
        let ScraperState { pools, leaving, stopped, .. } = &mut *state;
        if !*stopped {
            let gone = pools.extract_if(.., |name, _| !names.contains(name));
            leaving.extend(gone.flat_map(|(_, pool)| pool.retire()));
            leaving.retain(|task| !task.shared.is_closed());
        }
    }

    /// Takes in what changed of a job's groups: the others stay as they are, and what is done is bounded by the
    /// targets of those that changed. Later changes of a group count.
    ///
    /// # Errors
    /// [`UnknownJob`] when no job of this name was [applied](Self::apply).
    pub fn change(
        &self,
        job: &str,
        changes: impl IntoIterator<Item = GroupChange>,
    ) -> Result<(), UnknownJob> {
        self.with_pool(job, |pool, starter| pool.change(starter, changes))
    }

    /// Makes these the groups of a job's targets: all of them, each time. Targets that stay are untouched. With a
    /// [`ScraperOptions::groups`] these have to be the groups that it has, each as of mechanism 0.
    ///
    /// # Errors
    /// [`UnknownJob`] when no job of this name was [applied](Self::apply).
    pub fn update(&self, job: &str, groups: Vec<TargetGroup>) -> Result<(), UnknownJob> {
        self.with_pool(job, |pool, starter| pool.replace(starter, groups))
    }

    /// Each job's targets in numbers, in the order of the jobs' names.
    pub fn summary(&self) -> Vec<PoolSummary> {
        self.lock().pools.values().map(Pool::summary).collect()
    }

    /// Each job's targets, in the order of the jobs' names. Where there are many, [`summary`](Self::summary) and
    /// [`for_each_target`](Self::for_each_target) take far less memory and time.
    pub fn status(&self) -> Vec<PoolStatus> {
        let status = |summary: PoolSummary| {
            let (mut active, mut dropped) = (Vec::new(), Vec::new());
            for state in [TargetState::Active, TargetState::Dropped] {
                self.for_each_target(Some(&summary.scrape_pool), state, &mut |row| match row {
                    TargetRow::Active(target) => active.push(target.clone()),
                    TargetRow::Dropped { discovered_labels, .. } => dropped.push(discovered_labels.clone()),
                });
            }
            active.sort_by(|a, b| a.scrape_url.cmp(&b.scrape_url).then_with(|| a.labels.cmp(&b.labels)));
            PoolStatus {
                scrape_pool: summary.scrape_pool,
                active,
                dropped,
                dropped_count: summary.dropped_count,
                discovered: summary.discovered,
                dropped_by: summary.dropped_by,
                invalid: summary.invalid,
                duplicates: summary.duplicates,
                exceeded_target_limit: summary.exceeded_target_limit,
            }
        };
        self.summary().into_iter().map(status).collect()
    }

    /// Calls `each` with every target that is scraped, in the order of the jobs' names. The scraper is not locked
    /// meanwhile.
    pub fn for_each_active(&self, each: &mut dyn FnMut(ActiveTarget<'_>)) {
        let loops: Vec<_> = self.lock().pools.values().flat_map(Pool::loops).map(Arc::clone).collect();
        for shared in loops {
            let Assignment { job, target, .. } = shared.assignment();
            each(ActiveTarget::new(&job.name, &target, &shared.last_scrape()));
        }
    }

    /// Calls `each` with the targets of all jobs, or of the one of this name, one after the other: job by job in the
    /// order of their names, and group by group. Their labels before relabelling are made again for it. Of targets
    /// that are dropped there are as many as `keep_dropped_targets` says. A group that changes meanwhile may be left
    /// out. The scraper is not locked while `each` is called, and `each` may take its time.
    pub fn for_each_target(
        &self,
        pool: Option<&str>,
        state: TargetState,
        each: &mut dyn FnMut(TargetRow<'_>),
    ) {
        let names: Vec<SmolStr> = self.lock().pools.keys().cloned().collect();
        for name in names.iter().filter(|name| pool.is_none_or(|pool| pool == name.as_str())) {
            match state {
                TargetState::Active => self.for_each_active_of(name, each),
                TargetState::Dropped => self.for_each_dropped_of(name, each),
            }
        }
    }

    /// Each job's counters. A job that is gone is no longer counted.
    pub fn stats(&self) -> BTreeMap<SmolStr, JobStats> {
        self.lock().pools.iter().map(|(name, pool)| (name.clone(), pool.stats())).collect()
    }

    /// The addresses that more than one target is reached through, in their order.
    pub fn gateways(&self) -> Vec<GatewayStatus> {
        self.context.gates.status()
    }

    /// Stops scraping: scrapes that wait for their target are given up, those being read are finished, and
    /// what was handed to the sink is waited for. No stale markers are written, since the process is expected
    /// to come back. Put a limit on the time it may take from outside.
    pub async fn shutdown(&self) {
        let tasks = self.stop();
        for task in tasks {
            // A loop's panics are caught and counted; a cancelled one has nothing to say.
            let _ = task.task.await;
        }
    }

    fn stop(&self) -> Vec<TargetTask> {
        let mut state = self.lock();
        state.stopped = true;
        let mut tasks = std::mem::take(&mut state.leaving);
        tasks.extend(state.pools.values_mut().flat_map(Pool::take_tasks));
        for task in &tasks {
            task.shared.assign(|assignment| assignment.order = Order::Stop);
        }
        tasks
    }

    fn apply_job(&self, job: Job) {
        let mut groups = match self.lock().pools.get(&job.name) {
            Some(pool) if pool.job.is_same(&job) => return,
            Some(pool) => pool.groups.unjudged(),
            None => Groups::new(self.source.is_some()),
        };
        // All targets of a job are relabelled. That takes a second where they are many, for which nobody waits who only
        // looks.
        let mut moves = Moves::default();
        groups.judge_again(&job, self.source.as_deref(), &mut moves);
        let mut state = self.lock();
        let ScraperState { pools, leaving, rng, stopped } = &mut *state;
        if *stopped {
            return;
        }
        let name = job.name.clone();
        let pool = pools.entry(name.clone()).or_insert_with(|| Pool::new(job.clone(), self.source.is_some()));
        // A job that comes back finds the loops that still end its series, and its counters with them.
        pool.adopt(leaving.extract_if(.., |task| task.shared.assignment().job.name == name));
        pool.assign_job(self.starter(&mut **rng), job, groups, moves);
    }

    fn with_pool(&self, job: &str, change: impl FnOnce(&mut Pool, Starter<'_, S>)) -> Result<(), UnknownJob> {
        let _changing = self.changing();
        let mut state = self.lock();
        let ScraperState { pools, rng, stopped, leaving } = &mut *state;
        let pool = pools.get_mut(job).ok_or_else(|| UnknownJob(job.to_owned()))?;
        if !*stopped {
            change(pool, self.starter(&mut **rng));
        }
        leaving.retain(|task| !task.shared.is_closed());
        Ok(())
    }

    fn starter<'a>(&'a self, rng: &'a mut dyn Rng) -> Starter<'a, S> {
        Starter { context: &self.context, source: self.source.as_deref(), rng }
    }

    fn for_each_active_of(&self, pool: &SmolStr, each: &mut dyn FnMut(TargetRow<'_>)) {
        let mut show = |shared: &LoopShared, discovered: Labels| {
            let Assignment { job, target, .. } = shared.assignment();
            let last = shared.last_scrape();
            let active = ActiveTarget::new(&job.name, &target, &last);
            each(TargetRow::Active(&active.status(discovered, self.external_host.as_deref())));
        };
        let Some(mut unseen) = self.with(pool, Pool::active_loops) else { return };
        if unseen.is_empty() {
            return;
        }
        let mut look = |pool: &Pool, outcomes: &GroupOutcomes| {
            let active = outcomes.iter().enumerate().filter_map(|(at, outcome)| {
                let identity = outcome.identity()?;
                // Of targets that are alike, the first is shown.
                unseen.remove(&identity)?;
                Some((at, pool.loop_of(identity)?))
            });
            active.collect()
        };
        self.for_each_group(pool, &mut look, &mut |job, group, found| {
            for (at, shared) in found {
                let discovered = discovered_labels(&job.config, &group.targets[at], &group.labels);
                show(&shared, discovered.to_labels());
            }
        });
        // Their groups are being changed: how they were discovered is not known just now.
        for shared in unseen.into_values() {
            show(&shared, Labels::default());
        }
    }

    fn for_each_dropped_of(&self, pool: &SmolStr, each: &mut dyn FnMut(TargetRow<'_>)) {
        let mut left = usize::MAX;
        let mut look = |pool: &Pool, outcomes: &GroupOutcomes| {
            let is_dropped = |(at, outcome)| matches!(outcome, Outcome::DroppedBy(_)).then_some((at, ()));
            let keep = pool.job.config.keep_dropped_targets;
            let most = if keep == 0 { usize::MAX } else { left.min(keep as usize) };
            let dropped: Vec<_> = outcomes.iter().enumerate().filter_map(is_dropped).take(most).collect();
            left = most - dropped.len();
            dropped
        };
        self.for_each_group(pool, &mut look, &mut |job, group, found| {
            for (at, ()) in found {
                let discovered =
                    discovered_labels(&job.config, &group.targets[at], &group.labels).to_labels();
                each(TargetRow::Dropped { scrape_pool: pool, discovered_labels: &discovered });
            }
        });
    }

    /// Calls `each` with the groups of a pool of which `look`, which is called under the lock, finds something.
    fn for_each_group<T>(&self, pool: &str, look: &mut Look<'_, T>, each: &mut Show<'_, T>) {
        let mut visit = |mechanism, group: &TargetGroup| {
            let found = self.with(pool, |pool| {
                let outcomes = pool.groups.outcomes(GroupKey::new(mechanism, &group.source))?;
                // One that is about to change has other targets.
                let is_same = outcomes.len() == group.targets.len();
                is_same.then(|| (Arc::clone(&pool.job), look(pool, outcomes)))
            });
            if let Some((job, found)) = found.flatten().filter(|(_, found)| !found.is_empty()) {
                each(&job, group, found);
            }
        };
        let kept = self.with(pool, |pool| pool.groups.kept()).flatten();
        match (kept, &self.source) {
            (Some(kept), _) => kept.into_iter().for_each(|(mechanism, group)| visit(mechanism, &group)),
            (None, Some(source)) => source.for_each(pool, &mut visit),
            (None, None) => {}
        }
    }

    fn with<T>(&self, pool: &str, look: impl FnOnce(&Pool) -> T) -> Option<T> {
        self.lock().pools.get(pool).map(look)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, ScraperState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the targets of a group that are wanted: each one's place in the group, and what is known of it.
type Look<'a, T> = dyn FnMut(&Pool, &GroupOutcomes) -> Vec<(usize, T)> + 'a;
/// Shows what was found of a group.
type Show<'a, T> = dyn FnMut(&Job, &TargetGroup, Vec<(usize, T)>) + 'a;

impl<S: Sink> Drop for Scraper<S> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<S: Sink> fmt::Debug for Scraper<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let targets: BTreeMap<&str, usize> =
            state.pools.iter().map(|(name, pool)| (name.as_str(), pool.active_targets())).collect();
        f.debug_struct("Scraper").field("targets", &targets).field("stopped", &state.stopped).finish()
    }
}
