use std::collections::HashSet;
use std::time::Duration;

use crate::refusal::{LimitScope, Meaning, Refusal};
use crate::spool::Reason;

/// A lasting limit in force.
#[derive(Debug)]
pub(super) struct Limit {
    reason: Reason,
    /// When it was last answered with.
    seen: Duration,
    /// The metrics that it is about; empty when it is about all.
    metrics: HashSet<String>,
    /// Whether there may be series that it is not about.
    partial: bool,
    tested_at: Duration,
}

/// The most metrics that a limit is narrowed down to.
const MAX_METRICS: usize = 256;

impl Limit {
    pub(super) fn new(now: Duration, refusal: &Refusal) -> Self {
        Self {
            reason: refusal.reason.clone(),
            seen: now,
            metrics: metrics(refusal).collect(),
            partial: is_partial(refusal),
            tested_at: now,
        }
    }

    /// It was answered with again.
    pub(super) fn answered(&mut self, now: Duration, refusal: &Refusal) {
        (self.reason, self.seen) = (refusal.reason.clone(), now);
        self.partial |= is_partial(refusal);
        if self.metrics.is_empty() {
            // It is about all of them already.
            return;
        }
        let before = self.metrics.len();
        let mut named = 0;
        self.metrics.extend(metrics(refusal).inspect(|_| named += 1));
        // One answer that names no metric: it may be about any.
        if named == 0 || before + named > MAX_METRICS {
            self.metrics.clear();
        }
    }

    /// Under what samples are dropped that it keeps out for too long.
    pub(super) const fn reason(&self) -> &Reason {
        &self.reason
    }

    pub(super) fn is_about(&self, labels: &[(&str, &str)]) -> bool {
        self.metrics.is_empty()
            || labels.iter().any(|(name, value)| *name == "__name__" && self.metrics.contains(*value))
    }

    /// The metrics that it names are in no request that it was the answer to: relabelled on the other side, or
    /// made up. To go by them would be to send the same again.
    pub(super) fn disregard_names(&mut self) {
        self.metrics.clear();
    }

    /// Whether it was not answered with for so long.
    pub(super) fn is_quiet(&self, now: Duration, quiet: Duration) -> bool {
        now >= self.seen + quiet
    }

    /// Whether a test of unknown series may be made although none succeeded lately: a limit of some series leaves
    /// others free, which only tests can find out. Once an interval.
    pub(super) fn leaves_room_for_a_test(&mut self, now: Duration, interval: Duration) -> bool {
        let is_due = self.partial && now >= self.tested_at + interval;
        if is_due {
            self.tested_at = now;
        }
        is_due
    }
}

fn is_partial(refusal: &Refusal) -> bool {
    refusal.meaning() != Some(Meaning::LastingLimit(LimitScope::Workspace))
}

/// The metrics that an answer is about, if it is about some.
fn metrics(refusal: &Refusal) -> impl Iterator<Item = String> {
    let of_metric = refusal.meaning() == Some(Meaning::LastingLimit(LimitScope::Metric));
    let named = refusal.offenders.iter().filter_map(|named| named.series.metric().map(str::to_owned));
    named.take(if of_metric { usize::MAX } else { 0 })
}
