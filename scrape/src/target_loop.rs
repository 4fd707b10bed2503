//! One target's loop: wait, fetch, read, report, and at the end say goodbye to its series.

mod place;
mod tickets;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use promferry_http_client::Connection;
use promferry_model::{Clock, MemoryBudget, Receipt, Sink, SinkError, TargetSink, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::place::{Entered, Place};
use self::tickets::Tickets;
use crate::alike::Alike;
use crate::bits::SeriesSet;
use crate::cpu::CpuSections;
use crate::fetch::{Fetch, fetch};
use crate::gate::{Gates, Pass};
use crate::inflate::PageLimits;
use crate::notices::{Event, Notices};
use crate::section::{self, PageKeeper, SectionInput, SectionOutput, panic_message};
use crate::state::{PageCounts, TargetState};
use crate::stats::SharedStats;
use crate::status::{LastScrape, TargetHealth};
use crate::{Job, ScrapeError, Target};

/// What every loop shares.
pub(crate) struct Context<S> {
    pub(crate) sink: S,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) budget: MemoryBudget,
    pub(crate) cpu: CpuSections,
    pub(crate) phase_seed: u64,
    pub(crate) start_timestamps: bool,
    pub(crate) keeper: Option<Arc<dyn PageKeeper>>,
    pub(crate) notices: Notices,
    pub(crate) gates: Gates,
    pub(crate) alike: Alike,
}

/// What a loop has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Scrape.
    Scrape,
    /// The target is gone: end its series unless it comes back in time.
    Retire,
    /// The process ends: stop at once and write no markers.
    Stop,
}

/// What a loop works on, replaced while it runs.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) order: Order,
    pub(crate) job: Arc<Job>,
    pub(crate) target: Arc<Target>,
    /// Counts the changes that make the loop start over.
    pub(crate) revision: u64,
    /// How long to wait before the first scrape of this revision; absent to wait for the target's phase.
    pub(crate) first_delay: Option<Duration>,
    /// The job has this many targets, more than it may.
    pub(crate) over_target_limit: Option<u64>,
    /// The loop has ended.
    closed: bool,
}

/// One loop as its pool sees it.
pub(crate) struct LoopShared {
    assignment: Mutex<Assignment>,
    changed: Notify,
    pub(crate) stats: Arc<SharedStats>,
    last_scrape: Mutex<LastScrape>,
    series: AtomicUsize,
    /// A scrape is under way, for the ledger's sake if the loop panics.
    running: AtomicBool,
}

impl LoopShared {
    pub(crate) fn new(
        job: Arc<Job>,
        target: Arc<Target>,
        first_delay: Duration,
        stats: Arc<SharedStats>,
    ) -> Self {
        Self {
            assignment: Mutex::new(Assignment {
                order: Order::Scrape,
                job,
                target,
                revision: 1,
                first_delay: Some(first_delay),
                over_target_limit: None,
                closed: false,
            }),
            changed: Notify::new(),
            stats,
            last_scrape: Mutex::default(),
            series: AtomicUsize::new(0),
            running: AtomicBool::new(false),
        }
    }

    /// What the loop works on now.
    pub(crate) fn assignment(&self) -> Assignment {
        self.lock().clone()
    }

    /// Changes what the loop works on and wakes it; `false` when the loop has ended.
    pub(crate) fn assign(&self, change: impl FnOnce(&mut Assignment)) -> bool {
        let mut assignment = self.lock();
        if assignment.closed {
            return false;
        }
        change(&mut assignment);
        drop(assignment);
        self.changed.notify_one();
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn last_scrape(&self) -> LastScrape {
        self.last_scrape.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn series(&self) -> usize {
        self.series.load(Ordering::Relaxed)
    }

    /// Ends the loop unless it was given something to do meanwhile.
    fn close_if(&self, order: Order) -> bool {
        let mut assignment = self.lock();
        assignment.closed = assignment.order == order;
        assignment.closed
    }

    fn lock(&self) -> MutexGuard<'_, Assignment> {
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a loop to its end. A loop that panics is counted, logged and started again with the state that the
/// panic left.
pub(crate) async fn run<S: Sink>(context: Arc<Context<S>>, shared: Arc<LoopShared>, seed: u64) {
    let mut state = None;
    loop {
        let mut running = Box::pin(TargetLoop::new(&context, &shared, seed, &mut state).run());
        let ended = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await;
        drop(running);
        let Err(panic) = ended else { return };
        let assignment = shared.assignment();
        if let Some(more) = context.notices.due(Event::LoopPanic) {
            let (job, target) = (&assignment.job.name, assignment.target.url_without_query());
            let panic = panic_message(&*panic);
            tracing::error!(%job, target, panic, "a scrape loop panicked and is started again{more}");
        }
        shared.stats.lock().loop_restarts += 1;
        if shared.running.swap(false, Ordering::Relaxed) {
            shared.stats.given_up("panic");
        }
        shared.assign(|assignment| assignment.first_delay = None);
        // A loop that panics at once may not take the processor for itself.
        tokio::time::sleep(assignment.target.scrape_interval().min(RESTART_DELAY)).await;
    }
}

const RESTART_DELAY: Duration = Duration::from_secs(1);

struct TargetLoop<'a, S: Sink> {
    context: &'a Arc<Context<S>>,
    shared: &'a Arc<LoopShared>,
    seed: u64,
    /// Outlives the loop if that panics.
    state: &'a mut Option<Box<TargetState<S::Target>>>,
    tickets: Tickets<<S::Target as TargetSink>::Commit>,
    connection: Option<Connection>,
    /// What the target shares with others.
    place: Option<Place>,
    /// Since when the server refuses it with 429 or 503.
    refused_since: Option<Instant>,
    expected_bytes: usize,
    last_at: Timestamp,
    clock_is_behind: bool,
}

impl<'a, S: Sink> TargetLoop<'a, S> {
    fn new(
        context: &'a Arc<Context<S>>,
        shared: &'a Arc<LoopShared>,
        seed: u64,
        state: &'a mut Option<Box<TargetState<S::Target>>>,
    ) -> Self {
        Self {
            context,
            shared,
            seed,
            state,
            tickets: Tickets::default(),
            connection: None,
            place: None,
            refused_since: None,
            expected_bytes: 0,
            last_at: Timestamp::MIN,
            clock_is_behind: false,
        }
    }

    async fn run(mut self) {
        let mut revision = 0;
        let mut due = Timestamp::MIN;
        let mut is_first = false;
        // It was due already when something changed.
        let mut is_waiting = false;
        let mut last_job: Option<Arc<Job>> = None;
        loop {
            let assignment = self.shared.assignment();
            match assignment.order {
                Order::Stop => {
                    self.settle_all().await;
                    self.shared.close_if(Order::Stop);
                    return;
                }
                Order::Retire => {
                    if self.retire(&assignment).await {
                        return;
                    }
                }
                Order::Scrape => {
                    let target = &assignment.target;
                    if revision != assignment.revision {
                        revision = assignment.revision;
                        self.connection = None;
                        self.take_place(&assignment);
                        let before = last_job.replace(Arc::clone(&assignment.job));
                        if let Some(state) = self.state
                            && !before.is_some_and(|before| before.reads_like(&assignment.job))
                        {
                            state.forget_lines();
                        }
                        let now = self.context.clock.now();
                        match assignment.first_delay {
                            Some(delay) => (is_first, due) = (true, now.saturating_add(delay)),
                            None if is_waiting => {}
                            None => (is_first, due) = (false, self.schedule(target).next_after(now)),
                        }
                    }
                    is_waiting = false;
                    // A prompt first scrape and the target's own moment may nearly coincide.
                    let spacing = target.scrape_interval() / 10;
                    if !self.wait_until(due).await {
                        continue;
                    }
                    let (pass, latest) = match self.enter(&assignment, due, is_first).await {
                        Entered::Now(pass) => (pass, due),
                        Entered::After(pass, latest) => (Some(pass), latest),
                        Entered::Changed(latest) => {
                            is_first &= latest == due;
                            (due, is_waiting) = (latest, true);
                            continue;
                        }
                    };
                    is_first &= latest == due;
                    due = latest;
                    let at = self.schedule(target).snap(due, self.context.clock.now());
                    if self.is_after_last(&assignment, at) && !self.scrape(&assignment, at, pass).await {
                        continue;
                    }
                    if is_first {
                        // By now it is known with how many others it shares its address.
                        self.spread(&assignment);
                    }
                    let schedule = self.schedule(target);
                    let (next, late) = schedule.following(due, self.context.clock.now());
                    self.shared.stats.missed("late", late);
                    due = if is_first {
                        next.max(schedule.next_after(due.saturating_add(spacing)))
                    } else {
                        next
                    };
                    is_first = false;
                }
            }
        }
    }

    /// Waits for a moment of the wall clock, attending to tickets meanwhile; `false` when there is something
    /// else to do.
    async fn wait_until(&mut self, due: Timestamp) -> bool {
        let sleep = tokio::time::sleep(due.since(self.context.clock.now()));
        tokio::pin!(sleep);
        let changed = self.shared.changed.notified();
        tokio::pin!(changed);
        loop {
            tokio::select! {
                biased;
                () = &mut changed => return false,
                () = &mut sleep => return true,
                settled = self.tickets.next() => self.settle(settled),
            }
        }
    }

    /// Whether time has gone on since the last scrape. While the wall clock is behind where it was, samples
    /// would be out of order everywhere: such moments are missed and counted.
    fn is_after_last(&mut self, assignment: &Assignment, at: Timestamp) -> bool {
        let behind = at <= self.last_at;
        if behind {
            self.shared.stats.missed("clock", 1);
        }
        if behind
            && !self.clock_is_behind
            && let Some(more) = self.context.notices.due(Event::ClockSetBack)
        {
            let (job, target) = (&assignment.job.name, assignment.target.url_without_query());
            let behind_s = self.last_at.since(at).as_secs();
            tracing::warn!(%job, target, behind_s, "the clock was set back: not scraping until it has caught up{more}");
        }
        self.clock_is_behind = behind;
        if !behind {
            self.last_at = at;
        }
        !behind
    }

    /// Scrapes once; `false` when the scrape was given up because the process ends.
    async fn scrape(&mut self, assignment: &Assignment, at: Timestamp, pass: Option<Pass>) -> bool {
        let context = Arc::clone(self.context);
        let started = context.clock.monotonic();
        self.shared.stats.scheduled();
        self.shared.running.store(true, Ordering::Relaxed);
        let job = &assignment.job;
        let limits = PageLimits {
            body_size_limit: job.config.body_size_limit.bytes(),
            memory: context.budget.limit() / (context.cpu.permits() + 1),
        };
        let fetched = match assignment.over_target_limit {
            Some(targets) => Some(Err(ScrapeError::TargetLimit { targets, limit: job.config.target_limit })),
            None => self.fetch(assignment, limits, pass).await,
        };
        let Some(fetched) = fetched else {
            return self.give_up();
        };
        if let Ok(fetched) = &fetched {
            self.expected_bytes = fetched.body.len();
        }
        let input = SectionInput {
            job: Arc::clone(job),
            target: Arc::clone(&assignment.target),
            fetched,
            at,
            started,
            limits,
            start_timestamps: context.start_timestamps,
        };
        let Some(output) = self
            .section(
                move |state, section, context| {
                    let keeper = context.keeper.as_deref();
                    section::run(state, section, &context.budget, &*context.clock, keeper, input)
                },
                assignment,
            )
            .await
        else {
            return self.give_up();
        };
        self.finish(assignment, at, output);
        true
    }

    /// The page, or nothing if the process ends first.
    async fn fetch(
        &mut self,
        assignment: &Assignment,
        limits: PageLimits,
        pass: Option<Pass>,
    ) -> Option<Result<section::Fetched, ScrapeError>> {
        let Assignment { job, target, .. } = assignment;
        let asked = Fetch {
            job,
            target,
            budget: &self.context.budget,
            limits,
            expected_bytes: self.expected_bytes,
            own: &mut self.connection,
            pass,
            refused_since: self.refused_since,
        };
        let fetching = fetch(asked);
        // A loop spends nearly all its time waiting for its moment: what only a request needs is not kept in
        // the loop's own memory.
        let mut fetching = Box::pin(fetching);
        let fetched = loop {
            tokio::select! {
                biased;
                fetched = fetching.as_mut() => break fetched,
                // A scrape under way is finished whatever else changes; the change is found afterwards.
                () = self.shared.changed.notified() => {
                    if self.shared.assignment().order == Order::Stop {
                        return None;
                    }
                }
            }
        };
        drop(fetching);
        self.refused_since = fetched.refused_since;
        Some(fetched.page)
    }

    /// Runs `work` with the target's state and a set of buffers where blocking does no harm. `None` when the
    /// runtime is being shut down.
    async fn section<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut TargetState<S::Target>, &mut crate::cpu::Section, &Context<S>) -> R
        + Send
        + 'static,
        assignment: &Assignment,
    ) -> Option<R> {
        let mut section = self.context.cpu.enter(&self.context.budget).await;
        let context = Arc::clone(self.context);
        let (job, target, seed) = (Arc::clone(&assignment.job), Arc::clone(&assignment.target), self.seed);
        let mut state = self.state.take();
        let done = tokio::task::spawn_blocking(move || {
            let mut known = state.take().unwrap_or_else(|| {
                Box::new(TargetState::open(&context.sink, &job, &target, seed, &context.budget))
            });
            let result = work(&mut known, &mut section, &context);
            (known, result)
        })
        .await;
        let (state, result) = done.ok()?;
        self.shared.series.store(state.series(), Ordering::Relaxed);
        *self.state = Some(state);
        Some(result)
    }

    fn give_up(&self) -> bool {
        self.shared.running.store(false, Ordering::Relaxed);
        self.shared.stats.given_up("shutdown");
        false
    }

    fn finish(
        &mut self,
        assignment: &Assignment,
        at: Timestamp,
        output: SectionOutput<<S::Target as TargetSink>::Commit>,
    ) {
        self.shared.running.store(false, Ordering::Relaxed);
        let error = output.result.as_ref().err();
        let mut stats = self.shared.stats.lock();
        stats.ledger.running -= 1;
        match error {
            None => stats.ledger.scraped += 1,
            Some(error) => *stats.ledger.failed.entry(error.reason()).or_default() += 1,
        }
        stats.add_section(&output);
        drop(stats);
        let url = assignment.target.url_without_query();
        let health = if error.is_none() { TargetHealth::Up } else { TargetHealth::Down };
        let mut last = self.shared.last_scrape.lock().unwrap_or_else(PoisonError::into_inner);
        // A gateway takes hundreds of targets with it: who runs the scraper says it of all at once.
        if let Some(error) = error {
            tracing::debug!(job = %assignment.job.name, target = url, %error, "scrape failed");
        }
        if let Some(refused) = &output.refused
            && last.refused.is_none()
        {
            tracing::debug!(job = %assignment.job.name, target = url, series = refused, "new series are refused");
        }
        if let Some(panic) = &output.store_panic
            && let Some(more) = self.context.notices.due(Event::StorePanic)
        {
            tracing::error!(job = %assignment.job.name, target = url, panic, "storing a scrape panicked{more}");
        }
        *last = LastScrape {
            refused: output.refused.map(String::into_boxed_str),
            error: error.map(ToString::to_string),
            at: Some(at),
            duration: output.duration,
            health,
        };
        drop(last);
        if let Some(section::Commit { ticket, marked }) = output.commit {
            self.tickets.push(ticket, marked);
        }
    }

    /// Ends a target that is gone: its series get their markers at the time of the first scrape that did not
    /// happen, written when another interval and a tenth have passed without its coming back (Prometheus 3.16
    /// `scrape/scrape.go` `endOfRunStaleness`). `false` when there is something else to do.
    async fn retire(&mut self, assignment: &Assignment) -> bool {
        self.connection = None;
        let target = &assignment.target;
        let schedule = self.schedule(target);
        self.place = None;
        if self.state.is_some() {
            let interval = target.scrape_interval();
            let stale_at = schedule.next_after(self.context.clock.now());
            let until = stale_at.saturating_add(interval).saturating_add(interval / 10);
            if !self.wait_until(until).await {
                return false;
            }
            let ended = self.section(
                move |state, _, _| {
                    let mut counts = PageCounts::default();
                    let ended = catch_unwind(AssertUnwindSafe(|| state.end(stale_at, &mut counts)));
                    (ended.ok(), counts)
                },
                assignment,
            );
            if let Some((ticket, counts)) = ended.await {
                self.shared.stats.lock().add(&counts);
                if let Some(ticket) = ticket {
                    self.tickets.push(ticket, SeriesSet::default());
                }
            }
        }
        self.settle_all().await;
        if !self.shared.close_if(Order::Retire) {
            return false;
        }
        self.shared.series.store(0, Ordering::Relaxed);
        *self.state = None;
        true
    }

    async fn settle_all(&mut self) {
        while !self.tickets.is_empty() {
            let settled = self.tickets.next().await;
            self.settle(settled);
        }
    }

    fn settle(&mut self, (result, marked): (Result<Receipt, SinkError>, SeriesSet)) {
        let Err(error) = result else { return };
        self.shared.stats.lock().commits_failed += 1;
        if let Some(more) = self.context.notices.due(Event::NotStored) {
            let Assignment { job, target, .. } = self.shared.assignment();
            tracing::warn!(job = %job.name, target = target.url_without_query(), %error, "a scrape was not stored{more}");
        }
        if let Some(state) = self.state {
            state.owe_markers(&marked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use promferry_model::{Labels, LabelsBuilder, MemorySink, SystemClock};

    #[test]
    fn a_waiting_loop_is_small() {
        let mut config = crate::ScrapeConfig::new("test");
        config.apply_defaults(&crate::GlobalConfig::default());
        let own = Labels::from_pairs([("__address__", "h:1")]);
        let labels: LabelsBuilder = crate::discovered_labels(&config, &own, &Labels::default());
        let target = Target::populate(&config, &labels, |_| true).unwrap().unwrap();
        let job = Arc::new(Job::new(config, Vec::new(), Default::default()).unwrap());
        let context = Context {
            sink: MemorySink::new(),
            clock: Arc::new(SystemClock::new()),
            budget: MemoryBudget::unlimited(),
            cpu: CpuSections::new(1),
            phase_seed: 0,
            start_timestamps: false,
            keeper: None,
            notices: Notices::default(),
            gates: Gates::default(),
            alike: Alike::default(),
        };
        let stats = Arc::default();
        let shared = Arc::new(LoopShared::new(job, Arc::new(target), Duration::ZERO, stats));
        let (context, mut state) = (Arc::new(context), None);
        let inner = size_of_val(&TargetLoop::new(&context, &shared, 0, &mut state).run());
        let outer = size_of_val(&run(Arc::clone(&context), Arc::clone(&shared), 0));
        println!(
            "a loop takes {outer} + {inner} bytes, and {} shared with its pool",
            size_of::<LoopShared>()
        );
        assert!(inner + outer < 6 << 10);
    }
}
