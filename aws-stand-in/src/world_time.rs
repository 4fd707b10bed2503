//! The time of AWS' world, which tests move against this machine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// Shared by all that lives in one cloud.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorldTime {
    shift_ms: Arc<AtomicI64>,
}

impl WorldTime {
    pub(crate) fn shift_by(&self, shift_ms: i64) {
        self.shift_ms.store(shift_ms, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> SystemTime {
        let shift_ms = self.shift_ms.load(Ordering::SeqCst);
        let shift = Duration::from_millis(shift_ms.unsigned_abs());
        if shift_ms < 0 { SystemTime::now() - shift } else { SystemTime::now() + shift }
    }
}

/// Whole seconds since 1970, as JSON Web Tokens count.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
