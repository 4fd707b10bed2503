//! One target's pages without a network.

use std::sync::Arc;

use promferry_model::{Clock, MemoryBudget, Purpose, Sink, TargetSink, Timestamp};

use crate::cpu::Section;
use crate::inflate::PageLimits;
use crate::section::{self, Fetched, PageKeeper, SectionInput};
use crate::state::{PageCounts, TargetState};
use crate::{Job, JobStats, ScrapeError, ScraperOptions, Target};

/// Reads pages of one target into a sink, one after the other, as a [`Scraper`](crate::Scraper) does with
/// what it fetched: to replay a page that was kept, to try rules on it, or to measure.
///
/// ```
/// use promferry_model::{LabelsBuilder, Labels, MemorySink, Timestamp};
/// use promferry_scrape::{GlobalConfig, Job, PageReader, ScrapeConfig, ScraperOptions, Target, discovered_labels};
///
/// let mut config = ScrapeConfig::new("replay");
/// config.apply_defaults(&GlobalConfig::default());
/// let address = Labels::from_pairs([("__address__", "10.0.0.7:8080")]);
/// let labels = discovered_labels(&config, &address, &Labels::default());
/// let target = Target::populate(&config, &labels, |_| true)?.ok_or("dropped")?;
/// let job = Job::new(config, Vec::new(), Default::default())?;
///
/// let sink = MemorySink::new();
/// let mut reader = PageReader::new(&sink, job, target, ScraperOptions::default());
/// let outcome = reader.read(b"a 1\na 2\n".to_vec(), Some("text/plain"), Timestamp::from_millis(1000));
/// assert!(outcome.result.is_ok());
/// assert_eq!(outcome.stats.samples_duplicate, 1);
/// assert_eq!(sink.appended()[0].labels.get("instance"), "10.0.0.7:8080");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PageReader<S: Sink> {
    state: TargetState<S::Target>,
    section: Section,
    job: Arc<Job>,
    target: Arc<Target>,
    budget: MemoryBudget,
    clock: Arc<dyn Clock>,
    keeper: Option<Arc<dyn PageKeeper>>,
    start_timestamps: bool,
    limits: PageLimits,
}

/// What reading a page came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct PageOutcome<C> {
    /// Why the page was refused, if it was.
    pub result: Result<(), ScrapeError>,
    /// The counters that this page has moved; the ledger is not among them.
    pub stats: JobStats,
    /// Resolves when the scrape is stored. `None` when the sink panicked.
    pub commit: Option<C>,
}

impl<S: Sink> PageReader<S> {
    /// A reader that knows no page yet. Of the options it takes the clock, chance, memory and how pages are
    /// read.
    pub fn new(sink: &S, job: Job, target: Target, mut options: ScraperOptions) -> Self {
        let state = TargetState::open(sink, &job, &target, options.rng.next_u64(), &options.budget);
        let limits = PageLimits {
            body_size_limit: job.config.body_size_limit.bytes(),
            memory: options.budget.limit() / (options.cpu.permits() + 1),
        };
        Self {
            state,
            section: Section::alone(),
            job: Arc::new(job),
            target: Arc::new(target),
            budget: options.budget,
            clock: options.clock,
            keeper: options.page_keeper,
            start_timestamps: options.start_timestamps,
            limits,
        }
    }

    /// Reads a page as it came over the wire; gzip data is known by its first bytes.
    pub fn read(
        &mut self,
        body: Vec<u8>,
        content_type: Option<&str>,
        at: Timestamp,
    ) -> PageOutcome<<S::Target as TargetSink>::Commit> {
        let fetched = self.limits.check(body.len()).and_then(|()| {
            let reservation = self.budget.try_reserve(Purpose::Bodies, body.capacity())?;
            let is_gzip = body.starts_with(GZIP_MAGIC);
            Ok(Fetched { body, is_gzip, content_type: content_type.map(str::to_owned), reservation })
        });
        self.run(fetched, at)
    }

    /// Takes note of a scrape that brought no page.
    pub fn fail(
        &mut self,
        error: ScrapeError,
        at: Timestamp,
    ) -> PageOutcome<<S::Target as TargetSink>::Commit> {
        self.run(Err(error), at)
    }

    /// Ends the target: its series and its report series get their markers.
    pub fn end(&mut self, at: Timestamp) -> <S::Target as TargetSink>::Commit {
        self.state.end(at, &mut PageCounts::default())
    }

    /// Series known.
    pub fn series(&self) -> usize {
        self.state.series()
    }

    /// Bytes of memory held from page to page, apart from the sink's.
    pub fn memory_bytes(&self) -> usize {
        self.state.memory_bytes()
    }

    fn run(
        &mut self,
        fetched: Result<Fetched, ScrapeError>,
        at: Timestamp,
    ) -> PageOutcome<<S::Target as TargetSink>::Commit> {
        let input = SectionInput {
            job: Arc::clone(&self.job),
            target: Arc::clone(&self.target),
            fetched,
            at,
            started: self.clock.monotonic(),
            limits: self.limits,
            start_timestamps: self.start_timestamps,
        };
        let keeper = self.keeper.as_deref();
        let output =
            section::run(&mut self.state, &mut self.section, &self.budget, &*self.clock, keeper, input);
        let mut stats = JobStats::default();
        stats.add_section(&output);
        PageOutcome { result: output.result, stats, commit: output.commit.map(|commit| commit.ticket) }
    }
}

impl<S: Sink> std::fmt::Debug for PageReader<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageReader").field("target", &self.target.url_without_query()).finish_non_exhaustive()
    }
}

/// RFC 1952 §2.3.1.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
