//! Time as an argument, and its correction.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// AWS refuses a signature whose time is more than five minutes away from its own; a minute less leaves room
/// for the way.
const SKEW_TOLERATED: Duration = Duration::from_secs(4 * 60);

/// The time of day, corrected by what a server's `Date` said. Clones share the correction.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::from_fn(SystemTime::now)
    }

    /// A clock that reads `source`.
    pub fn from_fn(source: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { source: Arc::new(source), offset_ms: Arc::new(AtomicI64::new(0)) }
    }

    /// The corrected time.
    pub fn now(&self) -> SystemTime {
        shift((self.source)(), self.offset_ms())
    }

    /// What is added to the source's time, in milliseconds. 0 until a server showed skew.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Takes a server's time. When it is so far from ours that AWS would refuse a signature, the clock is
    /// corrected and the new offset in milliseconds returned.
    pub fn observe(&self, server: SystemTime) -> Option<i64> {
        let (ahead, behind) = (server.duration_since(self.now()), self.now().duration_since(server));
        if ahead.unwrap_or_default().max(behind.unwrap_or_default()) <= SKEW_TOLERATED {
            return None;
        }
        let source = (self.source)();
        let offset_ms = match server.duration_since(source) {
            Ok(ahead) => i64::try_from(ahead.as_millis()).ok()?,
            Err(behind) => -i64::try_from(behind.duration().as_millis()).ok()?,
        };
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
        Some(offset_ms)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("offset_ms", &self.offset_ms()).finish_non_exhaustive()
    }
}

fn shift(time: SystemTime, offset_ms: i64) -> SystemTime {
    let by = Duration::from_millis(offset_ms.unsigned_abs());
    let shifted = if offset_ms < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn corrects_only_what_aws_would_refuse() {
        let local = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock = Clock::from_fn(move || local);
        assert_eq!(clock.observe(local + Duration::from_secs(200)), None);
        assert_eq!(clock.now(), local);
        let server = local - Duration::from_secs(3_600);
        let shares_the_correction = clock.clone();
        assert_eq!(shares_the_correction.observe(server), Some(-3_600_000));
        assert_eq!(clock.now(), server);
        assert_eq!(clock.observe(server), None, "already corrected");
        assert_eq!(clock.observe(local), Some(0), "back again");
    }
}
