//! The jobs and their targets: what is scraped now.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use promferry_model::{Clock, Labels, MemoryBudget, Rng, SeededRng, Sink, SystemClock, TargetGroup};
use smol_str::SmolStr;
use tokio::task::JoinHandle;

use crate::dropped::by_kind;
use crate::notices::Notices;
use crate::section::PageKeeper;
use crate::stats::SharedStats;
use crate::status::global_url;
use crate::target::without_query;
use crate::target_loop::{self, Assignment, Context, LoopShared, Order};
use crate::{
    CpuSections, DroppedBy, InvalidTargets, Job, JobStats, PoolStatus, Schedule, Target, TargetStatus,
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
    /// Under which name others reach this host, for [`TargetStatus::global_url`].
    pub external_host: Option<String>,
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
        }
    }
}

/// There is no job of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no job {0:?}")]
pub struct UnknownJob(pub String);

/// Scrapes the targets of its jobs into a [`Sink`].
///
/// [`apply`](Self::apply) says which jobs there are, [`update`](Self::update) which targets a job has; both
/// change only what differs, and a target that stays goes on without a gap. They have to be called within a
/// tokio runtime with time and I/O enabled, which then runs one task for each target. Dropping a scraper stops
/// its loops as [`shutdown`](Self::shutdown) does, without waiting for them.
pub struct Scraper<S: Sink> {
    context: Arc<Context<S>>,
    external_host: Option<String>,
    state: Mutex<ScraperState>,
}

struct ScraperState {
    pools: BTreeMap<SmolStr, Pool>,
    /// Loops of jobs that are gone, until they have ended.
    leaving: Vec<TargetTask>,
    rng: Box<dyn Rng>,
    stopped: bool,
}

/// One job's targets.
struct Pool {
    job: Arc<Job>,
    stats: Arc<SharedStats>,
    groups: Vec<TargetGroup>,
    active: HashMap<u64, TargetTask>,
    /// Targets that are gone but whose series have not ended yet.
    retiring: Vec<TargetTask>,
    dropped: Vec<Labels>,
    counts: TargetCounts,
}

/// What became of a job's discovered targets that are not scraped; see [`PoolStatus`].
#[derive(Clone, Default)]
struct TargetCounts {
    discovered: u64,
    dropped: u64,
    dropped_by: Vec<DroppedBy>,
    invalid: Vec<InvalidTargets>,
    duplicates: u64,
}

struct TargetTask {
    /// What its series carry; the same for as long as the loop runs.
    labels: Labels,
    shared: Arc<LoopShared>,
    task: JoinHandle<()>,
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
        } = options;
        let notices = Notices::default();
        let context = Context { sink, clock, budget, cpu, phase_seed, start_timestamps, keeper, notices };
        let state = ScraperState { pools: BTreeMap::new(), leaving: Vec::new(), rng, stopped: false };
        Self { context: Arc::new(context), external_host, state: Mutex::new(state) }
    }

    /// Makes these the jobs. A job of a known name keeps its targets; if its options are the same, nothing of
    /// it is touched, otherwise its loops go on under the new ones and lines are judged anew. Targets of jobs
    /// that are gone are gone. Of jobs with one name the last counts.
    pub fn apply(&self, jobs: Vec<Job>) {
        let mut state = self.lock();
        if state.stopped {
            return;
        }
        let mut before = std::mem::take(&mut state.pools);
        for job in jobs {
            let mut pool = match before.remove(&job.name).or_else(|| state.pools.remove(&job.name)) {
                Some(pool) if pool.job.is_same(&job) => {
                    state.pools.insert(job.name.clone(), pool);
                    continue;
                }
                Some(mut pool) => {
                    pool.job = Arc::new(job);
                    pool
                }
                None => Pool::new(job),
            };
            // A job that comes back finds the loops that still end its series, and its counters with them.
            let name = pool.job.name.clone();
            pool.retiring
                .extend(state.leaving.extract_if(.., |task| task.shared.assignment().job.name == name));
            if let Some(task) = pool.retiring.first() {
                pool.stats = Arc::clone(&task.shared.stats);
            }
            self.sync(&mut pool, &mut *state.rng, true);
            state.pools.insert(pool.job.name.clone(), pool);
        }
        for (_, mut pool) in before {
            for (_, task) in pool.active.drain() {
                task.retire();
                state.leaving.push(task);
            }
            state.leaving.append(&mut pool.retiring);
        }
        state.leaving.retain(|task| !task.shared.is_closed());
    }

    /// Makes these the groups of a job's targets: all of them, each time. Targets that stay are untouched.
    ///
    /// # Errors
    /// [`UnknownJob`] when no job of this name was [applied](Self::apply).
    pub fn update(&self, job: &str, groups: Vec<TargetGroup>) -> Result<(), UnknownJob> {
        let mut state = self.lock();
        let ScraperState { pools, rng, stopped, leaving } = &mut *state;
        let pool = pools.get_mut(job).ok_or_else(|| UnknownJob(job.to_owned()))?;
        if !*stopped {
            pool.groups = groups;
            self.sync(pool, &mut **rng, false);
        }
        leaving.retain(|task| !task.shared.is_closed());
        Ok(())
    }

    /// Each job's targets, in the order of the jobs' names.
    pub fn status(&self) -> Vec<PoolStatus> {
        self.lock().pools.values().map(|pool| pool.status(self.external_host.as_deref())).collect()
    }

    /// Each job's counters. A job that is gone is no longer counted.
    pub fn stats(&self) -> BTreeMap<SmolStr, JobStats> {
        self.lock().pools.iter().map(|(name, pool)| (name.clone(), pool.stats())).collect()
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
        for pool in state.pools.values_mut() {
            tasks.extend(pool.active.drain().map(|(_, task)| task));
            tasks.append(&mut pool.retiring);
        }
        for task in &tasks {
            task.shared.assign(|assignment| assignment.order = Order::Stop);
        }
        tasks
    }

    /// Starts, changes and retires loops until they are those of the pool's targets.
    fn sync(&self, pool: &mut Pool, rng: &mut dyn Rng, job_changed: bool) {
        let found = pool.job.targets(&pool.groups);
        for (source, labels, error) in &found.errors {
            // No other label: parameters, and what annotations say, may be secrets.
            let address = without_query(labels.get("__address__"));
            tracing::debug!(job = %pool.job.name, group = %source, address, %error, "creating a target failed");
        }
        pool.stats.lock().target_errors += found.errors.len() as u64;
        pool.dropped = found.dropped;
        pool.counts = TargetCounts {
            discovered: found.discovered,
            dropped: found.dropped_count,
            dropped_by: found.dropped_by,
            invalid: by_kind(&found.errors),
            duplicates: found.duplicates,
        };

        let mut gone = std::mem::take(&mut pool.active);
        let mut new = Vec::new();
        for target in found.active {
            match gone.remove(&target.identity()) {
                Some(task) if task.keep(&pool.job, &target, job_changed) => {
                    pool.active.insert(target.identity(), task);
                }
                _ => new.push(target),
            }
        }
        pool.retiring.retain(|task| !task.shared.is_closed());
        pool.retiring.extend(gone.into_values());
        let starting = new.len();
        for target in new {
            let schedule =
                Schedule::new(target.scrape_interval(), target.identity(), self.context.phase_seed);
            let delay = schedule.first_delay(target.identity(), starting);
            let target = Arc::new(target);
            let identity = target.identity();
            // A target with the same public labels writes the same series: the loop that knows them goes on.
            let known = pool.retiring.iter().position(|task| task.labels == *target.public_labels());
            let taken_over = known
                .map(|at| pool.retiring.swap_remove(at))
                .filter(|task| task.take_over(&pool.job, &target, delay));
            let task = taken_over.unwrap_or_else(|| {
                let stats = Arc::clone(&pool.stats);
                let labels = target.public_labels().clone();
                let shared = Arc::new(LoopShared::new(Arc::clone(&pool.job), target, delay, stats));
                let running =
                    target_loop::run(Arc::clone(&self.context), Arc::clone(&shared), rng.next_u64());
                TargetTask { labels, shared, task: tokio::spawn(running) }
            });
            pool.active.insert(identity, task);
        }
        for task in &pool.retiring {
            task.retire();
        }
        pool.enforce_target_limit();
    }

    fn lock(&self) -> MutexGuard<'_, ScraperState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Sink> Drop for Scraper<S> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<S: Sink> fmt::Debug for Scraper<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let targets: BTreeMap<&str, usize> =
            state.pools.iter().map(|(name, pool)| (name.as_str(), pool.active.len())).collect();
        f.debug_struct("Scraper").field("targets", &targets).field("stopped", &state.stopped).finish()
    }
}

impl Pool {
    fn new(job: Job) -> Self {
        Self {
            job: Arc::new(job),
            stats: Arc::default(),
            groups: Vec::new(),
            active: HashMap::new(),
            retiring: Vec::new(),
            dropped: Vec::new(),
            counts: TargetCounts::default(),
        }
    }

    /// How many targets there are where that is more than the limit.
    fn over_target_limit(&self) -> Option<u64> {
        let (targets, limit) = (self.active.len() as u64, self.job.config.target_limit);
        (limit > 0 && targets > limit).then_some(targets)
    }

    /// Over the limit no target is scraped: each fails with the reason until there are fewer.
    fn enforce_target_limit(&self) {
        let over = self.over_target_limit();
        if over.is_some() {
            self.stats.lock().exceeded_target_limit += 1;
        }
        for task in self.active.values() {
            if task.shared.assignment().over_target_limit != over {
                task.shared.assign(|assignment| assignment.over_target_limit = over);
            }
        }
    }

    fn status(&self, external_host: Option<&str>) -> PoolStatus {
        let mut active: Vec<TargetStatus> =
            self.active.values().map(|task| task.status(external_host)).collect();
        let counts = self.counts.clone();
        active.sort_by(|a, b| a.scrape_url.cmp(&b.scrape_url).then_with(|| a.labels.cmp(&b.labels)));
        PoolStatus {
            scrape_pool: self.job.name.clone(),
            active,
            dropped: self.dropped.clone(),
            dropped_count: counts.dropped,
            discovered: counts.discovered,
            dropped_by: counts.dropped_by,
            invalid: counts.invalid,
            duplicates: counts.duplicates,
            exceeded_target_limit: self.over_target_limit().map(|_| self.job.config.target_limit),
        }
    }

    fn stats(&self) -> JobStats {
        let mut stats = self.stats.lock().clone();
        stats.targets = self.active.len() as u64;
        let tasks = self.active.values().chain(&self.retiring);
        stats.series = tasks.map(|task| task.shared.series() as u64).sum();
        stats
    }
}

impl TargetTask {
    /// Lets the loop of a target that stays go on; `false` when it has ended.
    fn keep(&self, job: &Arc<Job>, target: &Target, job_changed: bool) -> bool {
        let is_same = *self.shared.assignment().target == *target;
        if is_same && !job_changed {
            return !self.shared.is_closed();
        }
        self.shared.assign(|assignment| {
            assignment.job = Arc::clone(job);
            assignment.target = Arc::new(target.clone());
            if job_changed {
                start_over(assignment);
                assignment.first_delay = None;
            }
        })
    }

    /// Has a loop go on with another target of the same public labels; `false` when it has ended.
    fn take_over(&self, job: &Arc<Job>, target: &Arc<Target>, delay: std::time::Duration) -> bool {
        self.shared.assign(|assignment| {
            assignment.order = Order::Scrape;
            assignment.job = Arc::clone(job);
            assignment.target = Arc::clone(target);
            start_over(assignment);
            assignment.first_delay = Some(delay);
        })
    }

    fn retire(&self) {
        if self.shared.assignment().order == Order::Scrape {
            self.shared.assign(|assignment| assignment.order = Order::Retire);
        }
    }

    fn status(&self, external_host: Option<&str>) -> TargetStatus {
        let Assignment { target, job, .. } = self.shared.assignment();
        let last = self.shared.last_scrape();
        TargetStatus {
            discovered_labels: target.discovered_labels().clone(),
            labels: target.public_labels().clone(),
            scrape_pool: job.name.clone(),
            scrape_url: target.url().to_owned(),
            global_url: global_url(target.url(), external_host),
            last_error: last.error.unwrap_or_default(),
            refused_series: last.refused.map(String::from).unwrap_or_default(),
            last_scrape: last.at,
            last_scrape_duration: last.duration,
            health: last.health,
            scrape_interval: target.scrape_interval(),
            scrape_timeout: target.scrape_timeout(),
        }
    }
}

fn start_over(assignment: &mut Assignment) {
    assignment.revision += 1;
}
