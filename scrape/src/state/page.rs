//! The hot path: from the lines of a page to samples.

use std::time::Duration;

use promferry_exposition::{Event, Exemplars, Format, Parser};
use promferry_model::{HistogramError, Sample, SeriesId, TargetSink, Timestamp};

use super::admission::{Admission, Line};
use super::{PageCounts, TargetState};
use crate::cache::Key;
use crate::scratch::Scratch;
use crate::{Job, ScrapeError, Target};

/// A page and what decides how it is read.
#[derive(Clone, Copy)]
pub(crate) struct PageInput<'a> {
    pub(crate) page: &'a [u8],
    pub(crate) format: Format,
    pub(crate) job: &'a Job,
    pub(crate) target: &'a Target,
    /// The scrape's timestamp.
    pub(crate) at: Timestamp,
    /// The wall clock, which bounds timestamps on the page.
    pub(crate) now: Timestamp,
    pub(crate) start_timestamps: bool,
}

/// How far into the future a sample may be (Prometheus 3.16 `scrape/scrape.go` `maxAheadTime`).
const MAX_AHEAD: Duration = Duration::from_secs(10 * 60);

/// A page on its way: what every line needs.
struct Reading<'a> {
    job: &'a Job,
    at: Timestamp,
    latest: Timestamp,
    /// Samples that count against `sample_limit`.
    limited: u64,
    over_bucket_limit: bool,
}

impl Reading<'_> {
    fn sample_limit_is_reached(&self) -> bool {
        self.job.config.sample_limit > 0 && self.limited >= self.job.config.sample_limit
    }

    fn is_over_sample_limit(&self) -> bool {
        self.job.config.sample_limit > 0 && self.limited > self.job.config.sample_limit
    }
}

impl<T: TargetSink> TargetState<T> {
    /// Reads a page into the sink, between `begin` and either `accept` or `reject`.
    ///
    /// # Errors
    /// What fails the whole scrape. A sample that is left out alone is counted.
    pub(crate) fn read(
        &mut self,
        input: &PageInput<'_>,
        scratch: &mut Scratch,
        counts: &mut PageCounts,
    ) -> Result<(), ScrapeError> {
        let &PageInput { page, format, job, target, at, now, start_timestamps } = input;
        let mut reading =
            Reading { job, at, latest: now.saturating_add(MAX_AHEAD), limited: 0, over_bucket_limit: false };
        let mut parser = Parser::new(format, page, job.parse_options(target, start_timestamps));
        while let Some(event) = parser.next()? {
            match event {
                Event::Series(series) => {
                    let key = series.key(self.seed).0;
                    let Some(id) = self.look_up(&mut reading, scratch, counts, key, &series)? else {
                        continue;
                    };
                    let (timestamp, start) = (series.timestamp(), series.start());
                    let Some(timestamp) = self.place(&mut reading, scratch, counts, id, timestamp) else {
                        continue;
                    };
                    self.sink.sample(id.id, Sample { timestamp, value: series.value(), start });
                    self.native.remove(id.id);
                    self.add_exemplars(scratch, counts, series.exemplars(), id.id, Some(timestamp));
                }
                Event::Histogram(series) => {
                    let key = series.key(self.seed).0;
                    let Some(id) = self.look_up(&mut reading, scratch, counts, key, &series)? else {
                        continue;
                    };
                    let mut histogram = series.histogram();
                    // What contradicts itself fails the scrape, as it does when Prometheus stores it; resolutions that it
                    // does not store are what the limits bring down.
                    let contradiction =
                        |error: HistogramError| ScrapeError::Series { reason: error.to_string() };
                    histogram.check().map_err(contradiction)?;
                    if job.histogram_limits.exceeded_by(&histogram)
                        && !job.histogram_limits.apply(&mut histogram)
                    {
                        reading.over_bucket_limit = true;
                        scratch.seen.insert(id.id);
                        counts.post_metric_relabeling += 1;
                        continue;
                    }
                    histogram.validate().map_err(contradiction)?;
                    let (timestamp, start) = (series.timestamp(), series.start());
                    let Some(timestamp) = self.place(&mut reading, scratch, counts, id, timestamp) else {
                        continue;
                    };
                    self.sink.histogram(id.id, timestamp, start, &histogram);
                    self.native.insert(id.id);
                    // Prometheus wants those of histograms to have a time.
                    self.add_exemplars(scratch, counts, series.exemplars(), id.id, None);
                }
                Event::Type { family, metric_type } => {
                    self.leave_family(scratch, &family);
                    scratch.family.set_type(&family, metric_type);
                }
                Event::Unit { family, unit } => {
                    self.leave_family(scratch, &family);
                    scratch.family.set_unit(&family, &unit);
                }
                Event::Help { family, help } => {
                    self.leave_family(scratch, &family);
                    scratch.family.set_help(&family, &help.unescape());
                }
                _ => {}
            }
        }
        scratch.family.tell(&mut self.families, &mut self.sink);
        if reading.is_over_sample_limit() {
            return Err(ScrapeError::SampleLimit { limit: job.config.sample_limit });
        }
        if reading.over_bucket_limit {
            return Err(ScrapeError::BucketLimit { limit: job.config.native_histogram_bucket_limit });
        }
        Ok(())
    }

    /// The series of a line; `None` when the line is left out.
    #[inline]
    fn look_up(
        &mut self,
        reading: &mut Reading<'_>,
        scratch: &mut Scratch,
        counts: &mut PageCounts,
        key: Key,
        line: &impl Line,
    ) -> Result<Option<Located>, ScrapeError> {
        counts.scraped += 1;
        if let Some(outcome) = scratch.walk.find(&self.cache, key) {
            return Ok(outcome.id().map(|id| Located { id, is_new: false }));
        }
        scratch.family.tell(&mut self.families, &mut self.sink);
        let over_limit = reading.sample_limit_is_reached();
        match self.admit(reading.job, scratch, counts, key, line, over_limit)? {
            Admission::Series(id) => Ok(Some(Located { id, is_new: true })),
            Admission::Dropped => Ok(None),
            Admission::Refused => {
                counts.post_metric_relabeling += 1;
                Ok(None)
            }
            Admission::OverLimit => {
                counts.post_metric_relabeling += 1;
                reading.limited += 1;
                Ok(None)
            }
        }
    }

    /// Judges a sample by what the page and its own timestamp say; `None` when it is left out.
    #[inline]
    fn place(
        &mut self,
        reading: &mut Reading<'_>,
        scratch: &mut Scratch,
        counts: &mut PageCounts,
        Located { id, is_new }: Located,
        timestamp: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let config = &reading.job.config;
        let explicit = if config.honor_timestamps { timestamp } else { None };
        counts.post_metric_relabeling += 1;
        if !scratch.seen.insert(id) && explicit.is_none() {
            counts.duplicate += 1;
            return None;
        }
        reading.limited += 1;
        if reading.is_over_sample_limit() {
            return None;
        }
        let timestamp = explicit.unwrap_or(reading.at);
        if timestamp > reading.latest && explicit.is_some() {
            counts.out_of_bounds += 1;
            return None;
        }
        // Few pages have timestamps: without any there is nothing to look up.
        if (explicit.is_some() || !self.timestamps.is_empty())
            && !self.advance(scratch, id, timestamp, explicit, reading.at)
        {
            counts.out_of_order += 1;
            return None;
        }
        if explicit.is_none() || config.track_timestamps_staleness {
            scratch.tracked.insert(id);
        }
        counts.series_added += u64::from(is_new);
        Some(timestamp)
    }

    /// Notes the timestamp of a series that has or had timestamps on the page; `false` when the series has a
    /// sample at that time or later.
    fn advance(
        &mut self,
        scratch: &mut Scratch,
        id: SeriesId,
        timestamp: Timestamp,
        explicit: Option<Timestamp>,
        at: Timestamp,
    ) -> bool {
        let noted = self.timestamps.get(&id).copied();
        if noted.is_none() && explicit.is_none() {
            return true;
        }
        // The page may have had the series without a timestamp a few lines before.
        let last = noted
            .or_else(|| scratch.tracked.contains(id).then_some(at))
            .or_else(|| self.live.contains(id).then_some(self.last_at));
        if last.is_some_and(|last| timestamp <= last) {
            return false;
        }
        self.timestamps.insert(id, timestamp);
        scratch.replaced_timestamps.push((id, noted));
        true
    }

    #[inline]
    fn add_exemplars(
        &mut self,
        scratch: &mut Scratch,
        counts: &mut PageCounts,
        exemplars: Exemplars<'_>,
        id: SeriesId,
        at: Option<Timestamp>,
    ) {
        counts.exemplars_left_out +=
            scratch.exemplars.add(exemplars, id, at, &self.exemplars, &mut self.sink);
    }

    fn leave_family(&mut self, scratch: &mut Scratch, next: &str) {
        if scratch.family.is_left_for(next) {
            scratch.family.tell(&mut self.families, &mut self.sink);
        }
    }
}

/// A line's series.
#[derive(Clone, Copy)]
struct Located {
    id: SeriesId,
    /// The line was not known from the page before.
    is_new: bool,
}
