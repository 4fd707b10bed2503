use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::spool::Reason;

/// What is counted and shown of an endpoint's limits.
#[derive(Debug, Default)]
pub(crate) struct LimitsStats {
    reason: Mutex<Option<Reason>>,
    accepted_series: AtomicUsize,
    parked_series: AtomicUsize,
    held_series: AtomicUsize,
    probes: [AtomicU64; 2],
    tests: [AtomicU64; 2],
    held_out: AtomicU64,
}

/// An endpoint's limits at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitsSnapshot {
    /// The lasting limit that is in force, by its reason.
    pub limit: Option<Reason>,
    /// Series that the endpoint is known to have accepted.
    pub accepted_series: usize,
    /// Series of which samples are parked: the endpoint does not take them for now.
    pub parked_series: usize,
    /// Series that are held out after they were refused for what they are.
    pub held_series: usize,
    /// Probes of the parked queue.
    pub probes: u64,
    /// Those of them that were taken.
    pub probes_taken: u64,
    /// Requests made to find out which series the endpoint takes.
    pub tests: u64,
    /// Those of them that were taken.
    pub tests_taken: u64,
    /// Samples and histograms dropped because their series is held out.
    pub held_out: u64,
}

impl LimitsStats {
    pub(crate) fn snapshot(&self) -> LimitsSnapshot {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let size = |gauge: &AtomicUsize| gauge.load(Ordering::Relaxed);
        LimitsSnapshot {
            limit: self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            accepted_series: size(&self.accepted_series),
            parked_series: size(&self.parked_series),
            held_series: size(&self.held_series),
            probes: load(&self.probes[0]) + load(&self.probes[1]),
            probes_taken: load(&self.probes[1]),
            tests: load(&self.tests[0]) + load(&self.tests[1]),
            tests_taken: load(&self.tests[1]),
            held_out: load(&self.held_out),
        }
    }

    pub(super) fn count_probe(&self, taken: bool) {
        self.probes[usize::from(taken)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_test(&self, taken: bool) {
        self.tests[usize::from(taken)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_held_out(&self, values: u64) {
        self.held_out.fetch_add(values, Ordering::Relaxed);
    }

    pub(super) fn show(&self, reason: Option<Reason>, [accepted, parked, held]: [usize; 3]) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        self.accepted_series.store(accepted, Ordering::Relaxed);
        self.parked_series.store(parked, Ordering::Relaxed);
        self.held_series.store(held, Ordering::Relaxed);
    }
}
