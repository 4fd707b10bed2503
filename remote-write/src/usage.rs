//! What jobs write, measured where it is written: how many series, how many samples a second, and how near that
//! is to what an endpoint takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promferry_model::Timestamp;
use smol_str::SmolStr;

use crate::encode::{EncodedProfile, JobSeries};
use crate::{Counts, RemoteWriteConfig};

/// What one job writes to an endpoint.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobUsage {
    /// The job's name.
    pub job: SmolStr,
    /// Series that are written now, each once; exact.
    pub active_series: usize,
    /// Series that are known and not written, because others leave under the very same labels.
    pub duplicate_series: usize,
    /// Samples and native histograms that scrapes brought, a second, as a mean over the last minute.
    pub samples_per_second: f64,
}

/// How much of a configured limit is used.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LimitUsage {
    /// The limit's key in the configuration.
    pub limit: &'static str,
    /// How much is used.
    pub used: f64,
    /// How much there is.
    pub of: f64,
    /// The jobs that use the most, three at most.
    pub largest: Vec<(SmolStr, f64)>,
}

impl LimitUsage {
    /// From this part of a limit on there are warnings.
    pub const WARN_FROM: f64 = 0.8;

    /// What part of the limit is used; beyond 1 it is exceeded.
    pub fn ratio(&self) -> f64 {
        self.used / self.of
    }

    /// The usage of each limit that `config` sets.
    pub(crate) fn all(config: &ConfiguredLimits, jobs: &[JobUsage]) -> Vec<Self> {
        let usage = |limit, of: u64, each: fn(&JobUsage) -> f64| {
            let mut largest: Vec<_> = jobs.iter().map(|job| (job.job.clone(), each(job))).collect();
            largest.sort_by(|a, b| b.1.total_cmp(&a.1));
            let used = largest.iter().map(|(_, used)| used).sum();
            largest.truncate(3);
            largest.retain(|(_, used)| *used > 0.0);
            (of > 0).then_some(Self { limit, used, of: of as f64, largest })
        };
        [
            usage("active_series_limit", config.active_series, |job| job.active_series as f64),
            usage("samples_per_second_limit", config.samples_per_second, |job| job.samples_per_second),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn text(&self, endpoint: &str) -> String {
        let of_what = if self.limit == "active_series_limit" { "active series" } else { "samples a second" };
        let beyond = if self.ratio() >= 1.0 {
            "the endpoint is likely to refuse what is beyond it"
        } else {
            "beyond it the endpoint is likely to refuse data"
        };
        let largest: Vec<_> =
            self.largest.iter().map(|(job, used)| format!("{job:?} with {used:.0}")).collect();
        format!(
            "{endpoint}: {:.0} {of_what}, {:.0} % of its {} of {:.0}; {beyond}; the jobs with the most are {}",
            self.used,
            100.0 * self.ratio(),
            self.limit,
            self.of,
            largest.join(", ")
        )
    }
}

/// The limits that an endpoint's configuration sets; 0 is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfiguredLimits {
    active_series: u64,
    samples_per_second: u64,
}

impl From<&RemoteWriteConfig> for ConfiguredLimits {
    fn from(config: &RemoteWriteConfig) -> Self {
        Self {
            active_series: config.active_series_limit,
            samples_per_second: config.samples_per_second_limit,
        }
    }
}

impl ConfiguredLimits {
    pub(crate) const fn is_none(self) -> bool {
        self.active_series == 0 && self.samples_per_second == 0
    }
}

/// Says once in a while that a limit is near, and at once when it is reached.
#[derive(Debug, Default)]
pub(crate) struct LimitWatch {
    said: BTreeMap<&'static str, (Duration, bool)>,
}

/// How often it is said.
const REPEAT: Duration = Duration::from_secs(600);

impl LimitWatch {
    /// How often to look.
    pub(crate) const PERIOD: Duration = Duration::from_secs(10);

    /// What is to be said of `usage` now, and whether it is an error.
    pub(crate) fn judge(
        &mut self,
        now: Duration,
        endpoint: &str,
        usage: &LimitUsage,
    ) -> Option<(String, bool)> {
        let is_reached = usage.ratio() >= 1.0;
        if usage.ratio() < LimitUsage::WARN_FROM {
            // A little below it is not over: what is about the limit is not said each time it crosses.
            if usage.ratio() < 0.9 * LimitUsage::WARN_FROM {
                self.said.remove(usage.limit);
            }
            return None;
        }
        match self.said.get(usage.limit) {
            Some(&(at, was_reached)) if now < at + REPEAT && (was_reached || !is_reached) => None,
            _ => {
                self.said.insert(usage.limit, (now, is_reached));
                Some((usage.text(endpoint), is_reached))
            }
        }
    }
}

/// What scrapes brought for one profile.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    jobs: Mutex<BTreeMap<SmolStr, Arc<RateMeter>>>,
    highest_ms: AtomicI64,
}

impl Intake {
    /// Nothing yet, for a profile that endpoints have which had these until now.
    pub(crate) fn after<'a>(before: impl IntoIterator<Item = &'a Self>) -> Self {
        let highest = before.into_iter().map(|before| before.highest_ms.load(Ordering::Relaxed)).max();
        Self { highest_ms: AtomicI64::new(highest.unwrap_or_default()), ..Self::default() }
    }

    /// The meter of a job; all of its targets share it.
    pub(crate) fn meter(&self, job: &SmolStr) -> Arc<RateMeter> {
        Arc::clone(lock(&self.jobs).entry(job.clone()).or_default())
    }

    /// Counts what is about to be stored.
    pub(crate) fn count(&self, meter: &RateMeter, now: Duration, scrape: &EncodedProfile) {
        let values: u64 = scrape.fragments.iter().map(|fragment| fragment.counts.values()).sum();
        meter.add(now, values);
        if let Some(highest) = scrape.fragments.iter().map(|fragment| fragment.max_timestamp).max() {
            self.highest_ms.fetch_max(highest.as_millis(), Ordering::Relaxed);
        }
    }

    /// The latest timestamp that was to be sent; zero before the first.
    pub(crate) fn highest(&self) -> Timestamp {
        Timestamp::from_millis(self.highest_ms.load(Ordering::Relaxed))
    }

    /// What each job writes, by name.
    pub(crate) fn usage(&self, now: Duration, series: Vec<JobSeries>) -> Vec<JobUsage> {
        let mut jobs = lock(&self.jobs);
        // Nobody writes for it any more, and what was written is longer ago than a minute.
        jobs.retain(|_, meter| Arc::strong_count(meter) > 1 || meter.rate(now) > 0.0);
        let mut usage: BTreeMap<_, _> = jobs
            .iter()
            .map(|(job, meter)| {
                let samples_per_second = meter.rate(now);
                let job = job.clone();
                (job.clone(), JobUsage { job, active_series: 0, duplicate_series: 0, samples_per_second })
            })
            .collect();
        drop(jobs);
        for series in series {
            if let Some(usage) = usage.get_mut(&series.job) {
                usage.active_series = series.active;
                usage.duplicate_series = series.duplicates;
            }
        }
        usage.into_values().collect()
    }
}

/// What scrapes brought for all endpoints together.
#[derive(Debug, Default)]
pub(crate) struct TotalIntake([AtomicU64; 3]);

impl TotalIntake {
    pub(crate) fn add(&self, counts: Counts) {
        for (sum, count) in self.0.iter().zip([counts.samples, counts.histograms, counts.exemplars]) {
            sum.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let [samples, histograms, exemplars] = self.0.each_ref().map(|sum| sum.load(Ordering::Relaxed));
        Counts { samples, histograms, exemplars }
    }
}

/// Counts over the last minute, in steps.
#[derive(Debug, Default)]
pub(crate) struct RateMeter(Mutex<Steps>);

#[derive(Debug, Default)]
struct Steps {
    /// Counts of the step that runs and of those before it, by the step's number.
    counts: [u64; STEPS + 1],
    /// The first step and the one that runs.
    started: Option<u64>,
    current: u64,
}

const STEP_SECONDS: u64 = 5;
/// Whole steps that make a minute.
const STEPS: usize = 12;

impl RateMeter {
    pub(crate) fn add(&self, now: Duration, count: u64) {
        let mut steps = lock(&self.0);
        let at = steps.move_to(now);
        steps.counts[at] += count;
    }

    /// A second, over the whole steps of the last minute, or of what there was of it.
    pub(crate) fn rate(&self, now: Duration) -> f64 {
        let mut steps = lock(&self.0);
        let running = steps.move_to(now);
        let whole = (steps.current - steps.started.unwrap_or(steps.current)).min(STEPS as u64);
        if whole == 0 {
            return 0.0;
        }
        let sum: u64 = steps.counts.iter().sum::<u64>() - steps.counts[running];
        sum as f64 / (whole * STEP_SECONDS) as f64
    }
}

impl Steps {
    /// Clears what is longer ago than a minute; where the step that runs is counted.
    fn move_to(&mut self, now: Duration) -> usize {
        let step = now.as_secs() / STEP_SECONDS;
        if self.started.is_none() {
            (self.started, self.current) = (Some(step), step);
        }
        for passed in (self.current + 1..=step).take(STEPS + 1) {
            self.counts[passed as usize % (STEPS + 1)] = 0;
        }
        if step > self.current + STEPS as u64 {
            self.counts = [0; STEPS + 1];
        }
        self.current = self.current.max(step);
        self.current as usize % (STEPS + 1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rate_is_the_mean_of_a_whole_minute() {
        let meter = RateMeter::default();
        assert_eq!(meter.rate(at(1000)), 0.0);
        meter.add(at(1001), 100);
        assert_eq!(meter.rate(at(1004)), 0.0, "the step runs");
        assert_eq!(meter.rate(at(1005)), 20.0);
        assert_eq!(meter.rate(at(1010)), 10.0);
        // One scrape a minute is seen as it is, wherever the minute begins.
        for minute in 1..4 {
            meter.add(at(1001 + 60 * minute), 600);
            for after in [5, 20, 40, 59] {
                assert_eq!(meter.rate(at(1001 + 60 * minute + after)), 10.0, "{minute} {after}");
            }
        }
        assert_eq!(meter.rate(at(10_000)), 0.0);
        meter.add(at(10_001), 60);
        assert_eq!(meter.rate(at(10_005)), 1.0);
    }

    fn usage(ratio: f64) -> LimitUsage {
        let jobs: Vec<_> = [("db", 1.0), ("api", 5.0), ("web", 3.0), ("idle", 0.0), ("cron", 1.5)]
            .map(|(job, share)| JobUsage {
                job: job.into(),
                active_series: (share * 100.0) as usize,
                duplicate_series: 0,
                samples_per_second: 0.0,
            })
            .into();
        let config = RemoteWriteConfig {
            active_series_limit: (1050.0 / ratio).round() as u64,
            ..RemoteWriteConfig::default()
        };
        LimitUsage::all(&ConfiguredLimits::from(&config), &jobs).remove(0)
    }

    #[test]
    fn a_limit_is_warned_of_from_80_percent_on_and_names_the_largest_jobs() {
        let mut watch = LimitWatch::default();
        assert_eq!(watch.judge(at(0), "amp", &usage(0.79)), None);
        let (text, is_error) = watch.judge(at(10), "amp", &usage(0.84)).unwrap_or_default();
        assert_eq!(
            text,
            "amp: 1050 active series, 84 % of its active_series_limit of 1250; beyond it the endpoint is \
             likely to refuse data; the jobs with the most are \"api\" with 500, \"web\" with 300, \"cron\" with 150"
        );
        assert!(!is_error);
        // Not each time it crosses, but at once when it is reached, and every ten minutes.
        assert_eq!(watch.judge(at(20), "amp", &usage(0.79)), None);
        assert_eq!(watch.judge(at(30), "amp", &usage(0.85)), None);
        assert!(watch.judge(at(40), "amp", &usage(1.02)).is_some_and(|(_, is_error)| is_error));
        assert_eq!(watch.judge(at(50), "amp", &usage(1.02)), None);
        assert_eq!(watch.judge(at(639), "amp", &usage(0.9)), None);
        assert!(watch.judge(at(640), "amp", &usage(0.9)).is_some_and(|(_, is_error)| !is_error));
        // Well below it is over; then it is news again.
        assert_eq!(watch.judge(at(650), "amp", &usage(0.5)), None);
        assert!(watch.judge(at(660), "amp", &usage(0.81)).is_some());
    }
}
