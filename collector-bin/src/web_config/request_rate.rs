//! `rate_limit`: so many requests at once, and one more each interval.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use promferry_config::RateLimit;

/// Counts requests against a limit, which may change.
#[derive(Default)]
pub(super) struct RequestRate(Mutex<Option<Bucket>>);

struct Bucket {
    limit: RateLimit,
    /// Requests that may come at once; full at the start.
    room: f64,
    at: Instant,
}

impl RequestRate {
    /// Whether one more may be answered now.
    pub(super) fn allows(&self, limit: Option<RateLimit>) -> bool {
        self.allows_at(limit, Instant::now())
    }

    fn allows_at(&self, limit: Option<RateLimit>, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = limit else {
            *bucket = None;
            return true;
        };
        let full = || Bucket { limit, room: f64::from(limit.burst), at: now };
        let bucket = match &mut *bucket {
            Some(bucket) if bucket.limit == limit => bucket,
            other => other.insert(full()),
        };
        let passed = now.saturating_duration_since(bucket.at);
        bucket.at = now;
        bucket.room = (bucket.room + passed.div_duration_f64(limit.interval)).min(f64::from(limit.burst));
        if bucket.room < 1.0 {
            return false;
        }
        bucket.room -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_then_one_each_interval() {
        let rate = RequestRate::default();
        let limit = Some(RateLimit { burst: 3, interval: Duration::from_secs(10) });
        let start = Instant::now();
        let allowed = |seconds: u64| rate.allows_at(limit, start + Duration::from_secs(seconds));
        assert_eq!([0, 0, 0, 0, 9].map(allowed), [true, true, true, false, false]);
        assert_eq!([10, 10, 25, 30, 31].map(allowed), [true, false, true, true, false]);
        assert_eq!([1000, 1000, 1000, 1000].map(allowed), [true, true, true, false]);
        assert!(rate.allows_at(None, start));
        // It was forgotten meanwhile.
        assert!(allowed(1000));
    }
}
