//! What happens in a CPU section: inflate, read, report, commit.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use promferry_exposition::format_for;
use promferry_model::{Clock, Reservation, TargetSink, Timestamp};

use crate::bits::SeriesSet;
use crate::cpu::Section;
use crate::inflate::PageLimits;
use crate::report::Report;
use crate::scratch::Scratch;
use crate::state::{PageCounts, PageInput, TargetState};
use crate::{Job, ScrapeError, Target};

/// Keeps pages aside whose reading panicked.
pub trait PageKeeper: Send + Sync + 'static {
    /// Keeps `page`. Called on a thread that may block.
    fn keep(&self, page: &KeptPage<'_>);
}

/// A page whose reading panicked.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct KeptPage<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The URL it came from.
    pub url: &'a str,
    /// Its `Content-Type`.
    pub content_type: &'a str,
    /// Its first bytes once inflated, at most 1 MiB. They may hold secrets of the target: never log them.
    pub page: &'a [u8],
}

/// A page as it came over the wire.
pub(crate) struct Fetched {
    pub(crate) body: Vec<u8>,
    pub(crate) is_gzip: bool,
    pub(crate) content_type: Option<String>,
    /// The budget for `body`.
    pub(crate) reservation: Reservation,
}

/// What a section works on.
pub(crate) struct SectionInput {
    pub(crate) job: Arc<Job>,
    pub(crate) target: Arc<Target>,
    pub(crate) fetched: Result<Fetched, ScrapeError>,
    pub(crate) at: Timestamp,
    /// When the scrape started, by the monotonic clock.
    pub(crate) started: Duration,
    pub(crate) limits: PageLimits,
    pub(crate) start_timestamps: bool,
}

/// What came of it.
pub(crate) struct SectionOutput<C> {
    pub(crate) result: Result<(), ScrapeError>,
    pub(crate) counts: PageCounts,
    /// `None` when even reporting the failure panicked.
    pub(crate) commit: Option<Commit<C>>,
    pub(crate) duration: Duration,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_inflated: u64,
    pub(crate) panics: u64,
    /// The first series that was refused, and why.
    pub(crate) refused: Option<String>,
    /// The text of a panic of the sink.
    pub(crate) store_panic: Option<String>,
}

/// A scrape handed to the sink.
pub(crate) struct Commit<C> {
    pub(crate) ticket: C,
    /// Series whose markers are lost if it is not stored.
    pub(crate) marked: SeriesSet,
}

/// Takes a scrape from its page to the sink. Whatever happens to the page, the state survives and the scrape
/// is reported.
pub(crate) fn run<T: TargetSink>(
    state: &mut TargetState<T>,
    section: &mut Section,
    budget: &promferry_model::MemoryBudget,
    clock: &dyn Clock,
    keeper: Option<&dyn PageKeeper>,
    input: SectionInput,
) -> SectionOutput<T::Commit> {
    let SectionInput { job, target, fetched, at, started, limits, start_timestamps } = input;
    let mut counts = PageCounts::default();
    let (mut bytes_received, mut bytes_inflated, mut panics) = (0, 0, 0);

    let scratch = section.scratch(budget);
    let mut is_empty = false;
    let read = catch_unwind(AssertUnwindSafe(|| -> Result<(), ScrapeError> {
        scratch.start();
        state.begin(at, &job, &mut counts);
        let fetched = fetched?;
        bytes_received = fetched.body.len() as u64;
        let page = Page::new(fetched, scratch, limits)?;
        bytes_inflated = page.bytes().len() as u64;
        is_empty = page.bytes().is_empty();
        let result = if is_empty {
            // Prometheus takes an empty body as a page without series, whatever its type.
            Ok(())
        } else {
            read_page(state, scratch, &page, &job, &target, at, clock, start_timestamps, &mut counts, keeper)
        };
        page.give_back(scratch);
        result
    }));
    let result = match read {
        Ok(result) => result,
        Err(panic) => {
            panics += 1;
            Err(ScrapeError::Panic { message: panic_message(&*panic) })
        }
    };
    if panics > 0 {
        section.discard_scratch();
    }
    let scratch = section.scratch(budget);

    // From here on the scrape is accounted for; a panic in the sink itself is all that can still come.
    let finished = catch_unwind(AssertUnwindSafe(|| {
        let report = |counts: &PageCounts| Report {
            up: result.is_ok(),
            duration_seconds: clock.monotonic().saturating_sub(started).as_secs_f64(),
            samples_scraped: counts.scraped,
            samples_post_metric_relabeling: counts.post_metric_relabeling,
            series_added: counts.series_added,
            timeout_seconds: target.scrape_timeout().as_secs_f64(),
            sample_limit: job.config.sample_limit,
            body_size_bytes: match &result {
                Ok(()) => i64::try_from(bytes_inflated).unwrap_or(i64::MAX),
                Err(ScrapeError::BodySizeLimit { .. }) => -1,
                // A page that was read and then refused has a size.
                Err(_) => i64::try_from(bytes_inflated).unwrap_or(i64::MAX),
            },
        };
        if result.is_ok() && !is_empty {
            let report = report(&counts);
            let ticket = state.accept(scratch, at, &report, &mut counts);
            return Commit { ticket, marked: SeriesSet::default() };
        }
        if result.is_err() {
            state.reject(scratch);
            if panics > 0 {
                state.forget_lines();
            }
            let mut again = PageCounts::default();
            state.begin(at, &job, &mut again);
        }
        let report = report(&counts);
        let (ticket, marked) = state.accept_nothing(at, &report, &mut counts);
        Commit { ticket, marked }
    }));
    let (commit, store_panic) = match finished {
        Ok(commit) => (Some(commit), None),
        Err(panic) => {
            panics += 1;
            section.discard_scratch();
            (None, Some(panic_message(&*panic)))
        }
    };
    let scratch = section.scratch(budget);
    scratch.finish();
    let refused = scratch.refused.take();
    SectionOutput {
        result,
        counts,
        commit,
        duration: clock.monotonic().saturating_sub(started),
        bytes_received,
        bytes_inflated,
        panics,
        refused,
        store_panic,
    }
}

/// Text of a panic, for those that have one.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Kept pages are no longer than this.
const KEPT_BYTES: usize = 1 << 20;

/// A page ready to be read, in a buffer of its own or in the scratch's.
struct Page {
    bytes: Vec<u8>,
    is_scratch: bool,
    content_type: Option<String>,
    _reservation: Option<Reservation>,
}

impl Page {
    fn new(fetched: Fetched, scratch: &mut Scratch, limits: PageLimits) -> Result<Self, ScrapeError> {
        let Fetched { body, is_gzip, content_type, reservation } = fetched;
        if !is_gzip || body.is_empty() {
            return Ok(Self {
                bytes: body,
                is_scratch: false,
                content_type,
                _reservation: Some(reservation),
            });
        }
        let bytes = scratch.inflate(&body, limits)?;
        // The compressed body is given back as early as possible.
        drop((body, reservation));
        Ok(Self { bytes, is_scratch: true, content_type, _reservation: None })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn give_back(self, scratch: &mut Scratch) {
        if self.is_scratch {
            scratch.put_back(self.bytes);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one call, and each is another thing")]
fn read_page<T: TargetSink>(
    state: &mut TargetState<T>,
    scratch: &mut Scratch,
    page: &Page,
    job: &Job,
    target: &Target,
    at: Timestamp,
    clock: &dyn Clock,
    start_timestamps: bool,
    counts: &mut PageCounts,
    keeper: Option<&dyn PageKeeper>,
) -> Result<(), ScrapeError> {
    let content_type = page.content_type.as_deref();
    let format = format_for(content_type, job.config.fallback_scrape_protocol)
        .map_err(|error| ScrapeError::ContentType { reason: error.to_string() })?;
    let input = PageInput { page: page.bytes(), format, job, target, at, now: clock.now(), start_timestamps };
    let read = catch_unwind(AssertUnwindSafe(|| state.read(&input, scratch, counts)));
    read.unwrap_or_else(|panic| {
        if let Some(keeper) = keeper {
            let bytes = page.bytes();
            keeper.keep(&KeptPage {
                job: &job.name,
                url: target.url(),
                content_type: content_type.unwrap_or_default(),
                page: &bytes[..bytes.len().min(KEPT_BYTES)],
            });
        }
        std::panic::resume_unwind(panic)
    })
}
