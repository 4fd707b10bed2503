use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long attempts took, counted in buckets.
#[derive(Debug, Default)]
pub(super) struct AttemptDurations {
    /// Of each bound those at most as long and longer than the bound before; last those beyond all.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

/// [`EndpointSnapshot::attempt_durations`](super::EndpointSnapshot::attempt_durations): how long attempts took.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DurationHistogram {
    /// For each upper bound in seconds, ascending, how many took at most that long; the last bound is infinite.
    pub cumulative: Vec<(f64, u64)>,
    /// How long they took in all.
    pub sum: Duration,
}

/// In seconds; Prometheus' for `prometheus_remote_storage_sent_batch_duration_seconds` (Prometheus 3.16
/// storage/remote/queue_manager.go).
const BOUNDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0];

impl AttemptDurations {
    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros.load(Ordering::Relaxed))
    }

    pub(super) fn snapshot(&self) -> DurationHistogram {
        let mut sum = 0;
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let cumulative = bounds.zip(&self.counts).map(|(bound, count)| {
            sum += count.load(Ordering::Relaxed);
            (bound, sum)
        });
        DurationHistogram { cumulative: cumulative.collect(), sum: self.sum() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_that_it_fits_into() {
        let durations = AttemptDurations::default();
        for millis in [5, 6, 70_000, 400_000] {
            durations.observe(Duration::from_millis(millis));
        }
        let DurationHistogram { cumulative, sum } = durations.snapshot();
        assert_eq!(sum, Duration::from_millis(470_011));
        assert_eq!(cumulative.len(), 16);
        assert_eq!(cumulative[..2], [(0.005, 1), (0.01, 2)]);
        assert_eq!(cumulative[12..], [(60.0, 2), (120.0, 3), (300.0, 3), (f64::INFINITY, 4)]);
    }
}
