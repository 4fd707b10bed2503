//! What a job's scrapes came to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ScrapeError;
use crate::section::SectionOutput;
use crate::state::PageCounts;

/// One job's account of its scrapes: `scheduled = scraped + failed + missed + running`, in every snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrapeLedger {
    /// Moments at which a target was to be scraped.
    pub scheduled: u64,
    /// Scrapes whose page was taken.
    pub scraped: u64,
    /// Scrapes that were tried and failed, by [reason](crate::ScrapeError::reason).
    pub failed: BTreeMap<&'static str, u64>,
    /// Moments at which no scrape was tried, by reason: `late` (the scrape before was not over), `clock` (the
    /// wall clock was set back and has not caught up), `panic`
    /// (the loop had to be restarted), `gateway` (its address had not taken the scrape before the next moment), `shutdown` (given up because the process ends).
    pub missed: BTreeMap<&'static str, u64>,
    /// Scrapes under way.
    pub running: u64,
}

impl ScrapeLedger {
    /// Whether the account adds up.
    pub fn balances(&self) -> bool {
        let sum = |reasons: &BTreeMap<_, u64>| reasons.values().sum::<u64>();
        self.scheduled == self.scraped + sum(&self.failed) + sum(&self.missed) + self.running
    }
}

/// Counters of one job; each only grows but for the gauges [`targets`](Self::targets) and
/// [`series`](Self::series).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobStats {
    /// The account of scrapes.
    pub ledger: ScrapeLedger,
    /// Samples on pages, those dropped afterwards included.
    pub samples_scraped: u64,
    /// Samples left after metric relabelling.
    pub samples_post_metric_relabeling: u64,
    /// Lines that were not known from the page before.
    pub series_added: u64,
    /// Samples left out because the page had the series before without a timestamp.
    pub samples_duplicate: u64,
    /// Samples left out because they are more than 10 minutes in the future.
    pub samples_out_of_bounds: u64,
    /// Samples left out because the series already has one at that timestamp or later.
    pub samples_out_of_order: u64,
    /// Samples of series that were not taken because of the memory budget.
    pub refused_over_budget: u64,
    /// Samples of series that were not taken because another target writes them.
    pub refused_owned_elsewhere: u64,
    /// Samples of series that were not taken because the target has too many.
    pub refused_too_many: u64,
    /// Exemplars left out: known already, out of order, or labels longer than 128 characters.
    pub exemplars_left_out: u64,
    /// Stale markers written.
    pub stale_markers: u64,
    /// Scrapes failed by `sample_limit`.
    pub exceeded_sample_limit: u64,
    /// Scrapes failed by `body_size_limit`.
    pub exceeded_body_size_limit: u64,
    /// Scrapes failed by a label limit.
    pub exceeded_label_limits: u64,
    /// Scrapes failed by `native_histogram_bucket_limit`.
    pub exceeded_bucket_limit: u64,
    /// Updates that left more targets than `target_limit`.
    pub exceeded_target_limit: u64,
    /// Panics while a page was read; the page was put aside.
    pub panics: u64,
    /// Loops that panicked and were started again.
    pub loop_restarts: u64,
    /// Commits that the sink could not store.
    pub commits_failed: u64,
    /// Bytes of pages as received.
    pub bytes_received: u64,
    /// Bytes of pages once inflated.
    pub bytes_inflated: u64,
    /// Targets that could not be made from what discovery said, summed over updates.
    pub target_errors: u64,
    /// Targets scraped now.
    pub targets: u64,
    /// Series known now.
    pub series: u64,
}

impl JobStats {
    /// Adds all but the ledger of one section.
    pub(crate) fn add_section<C>(&mut self, section: &SectionOutput<C>) {
        match &section.result {
            Err(ScrapeError::SampleLimit { .. }) => self.exceeded_sample_limit += 1,
            Err(ScrapeError::BodySizeLimit { .. }) => self.exceeded_body_size_limit += 1,
            Err(ScrapeError::LabelLimits { .. }) => self.exceeded_label_limits += 1,
            Err(ScrapeError::BucketLimit { .. }) => self.exceeded_bucket_limit += 1,
            _ => {}
        }
        self.panics += section.panics;
        self.bytes_received += section.bytes_received;
        self.bytes_inflated += section.bytes_inflated;
        self.add(&section.counts);
    }

    pub(crate) fn add(&mut self, page: &PageCounts) {
        self.samples_scraped += page.scraped;
        self.samples_post_metric_relabeling += page.post_metric_relabeling;
        self.series_added += page.series_added;
        self.samples_duplicate += page.duplicate;
        self.samples_out_of_bounds += page.out_of_bounds;
        self.samples_out_of_order += page.out_of_order;
        self.refused_over_budget += page.refused.over_budget;
        self.refused_owned_elsewhere += page.refused.owned_elsewhere;
        self.refused_too_many += page.refused.too_many;
        self.exemplars_left_out += page.exemplars_left_out;
        self.stale_markers += page.stale_markers;
    }
}

/// [`JobStats`] shared by a job's loops. A scrape locks it a few times, a sample never.
#[derive(Debug, Default)]
pub(crate) struct SharedStats(Mutex<JobStats>);

impl SharedStats {
    pub(crate) fn lock(&self) -> MutexGuard<'_, JobStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scheduled(&self) {
        let ledger = &mut self.lock().ledger;
        ledger.scheduled += 1;
        ledger.running += 1;
    }

    pub(crate) fn missed(&self, reason: &'static str, moments: u64) {
        if moments > 0 {
            let ledger = &mut self.lock().ledger;
            ledger.scheduled += moments;
            *ledger.missed.entry(reason).or_default() += moments;
        }
    }

    /// A scrape that was scheduled and under way comes to nothing.
    pub(crate) fn given_up(&self, reason: &'static str) {
        let ledger = &mut self.lock().ledger;
        ledger.running -= 1;
        *ledger.missed.entry(reason).or_default() += 1;
    }
}
