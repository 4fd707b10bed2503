//! Time as an argument, and its correction.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_smithy_types::date_time::{DateTime, Format};
use http::HeaderMap;
use http::header::{AGE, DATE};

/// AWS refuses a signature whose time is more than five minutes away from its own; a minute less leaves room
/// for the way.
const SKEW_TOLERATED: Duration = Duration::from_secs(4 * 60);

/// The time of day, corrected by what a server's `Date` said. Clones share the correction.
///
/// A correction is logged once, however many requests or answers show the same skew.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    correction: Arc<Correction>,
}

#[derive(Default)]
struct Correction {
    offset_ms: AtomicI64,
    /// The log has not had it yet.
    unsaid: AtomicBool,
    /// Held while it changes: of those who see the same skew, one corrects it.
    changing: Mutex<()>,
    passed: Mutex<Passed>,
}

/// The source's time when it was last looked at, and what had passed by then.
#[derive(Default)]
struct Passed {
    at: Option<SystemTime>,
    passed: Duration,
}

/// What an answer's time says about the time that its request was signed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skew {
    /// AWS takes signatures of that time.
    Within,
    /// AWS does not; the clock has been corrected.
    Corrected {
        /// What is added to this machine's time from now on, in milliseconds.
        offset_ms: i64,
    },
    /// AWS does not, but another answer has corrected the clock since the request was signed.
    CorrectedMeanwhile,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::from_fn(SystemTime::now)
    }

    /// A clock that reads `source`.
    pub fn from_fn(source: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { source: Arc::new(source), correction: Arc::default() }
    }

    /// The corrected time.
    pub fn now(&self) -> SystemTime {
        shift(self.uncorrected(), self.offset_ms())
    }

    /// What is added to the source's time, in milliseconds. 0 until a server showed skew.
    pub fn offset_ms(&self) -> i64 {
        self.correction.offset_ms.load(Ordering::Relaxed)
    }

    /// Takes a server's time. When it is so far from ours that AWS would refuse a signature, the clock is
    /// corrected and the new offset in milliseconds returned.
    pub fn observe(&self, server: SystemTime) -> Option<i64> {
        let offset_ms = self.correct(server);
        self.say_correction();
        offset_ms
    }

    /// Takes the server's time of an answer to a request that was signed at `signed_at` (corrected time, as
    /// [`now`](Self::now) gave it then), and says whether to sign and send that request again: after anything
    /// but [`Skew::Within`].
    pub fn judge(&self, signed_at: SystemTime, server: SystemTime) -> Skew {
        if distance(signed_at, server) <= SKEW_TOLERATED {
            return Skew::Within;
        }
        match self.observe(server) {
            Some(offset_ms) => Skew::Corrected { offset_ms },
            None => Skew::CorrectedMeanwhile,
        }
    }

    /// The time that has passed since this was first asked, as far as the source tells: neither a correction nor a
    /// source that is set back takes anything from it.
    pub(crate) fn elapsed(&self) -> Duration {
        let mut last = self.correction.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.uncorrected();
        if let Some(passed) = last.at.and_then(|at| now.duration_since(at).ok()) {
            last.passed = last.passed.saturating_add(passed);
        }
        last.at = Some(now);
        last.passed
    }

    fn uncorrected(&self) -> SystemTime {
        (self.source)()
    }

    /// [`observe`](Self::observe) for places whose log is not kept; [`say_correction`](Self::say_correction) follows.
    pub(crate) fn correct(&self, server: SystemTime) -> Option<i64> {
        let _changing = self.correction.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if distance(self.now(), server) <= SKEW_TOLERATED {
            return None;
        }
        let offset_ms = match server.duration_since(self.uncorrected()) {
            Ok(ahead) => i64::try_from(ahead.as_millis()).ok()?,
            Err(behind) => -i64::try_from(behind.duration().as_millis()).ok()?,
        };
        // A source that is right by itself is not moved by the part of a second that a `Date` does not tell.
        let is_right = Duration::from_millis(offset_ms.unsigned_abs()) <= SKEW_TOLERATED;
        let offset_ms = if is_right { 0 } else { offset_ms };
        self.correction.offset_ms.store(offset_ms, Ordering::Relaxed);
        self.correction.unsaid.store(true, Ordering::Relaxed);
        Some(offset_ms)
    }

    /// Logs a correction that was not logged yet.
    pub(crate) fn say_correction(&self) {
        if !self.correction.unsaid.swap(false, Ordering::Relaxed) {
            return;
        }
        let offset_ms = self.offset_ms();
        let offset_seconds = offset_ms / 1000;
        if offset_ms == 0 {
            tracing::info!("this machine's clock agrees with AWS' again");
        } else {
            tracing::warn!(
                offset_seconds,
                "this machine's clock differs from AWS' by more than the five minutes that a signature may; signing \
                 with AWS' time from now on: set the machine's clock right, for samples keep its timestamps"
            );
        }
    }
}

/// The time that an answer was made at: its `Date`, unless it comes from a cache.
pub(crate) fn server_time(headers: &HeaderMap) -> Option<SystemTime> {
    if headers.contains_key(AGE) {
        return None;
    }
    http_date(headers.get(DATE)?.to_str().ok()?)
}

/// Reads the value of a `Date` header.
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    DateTime::from_str(text, Format::HttpDate).ok()?.try_into().ok()
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

fn distance(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).unwrap_or_else(|error| error.duration())
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
        let with_whole_seconds = local - Duration::from_millis(999);
        assert_eq!(clock.observe(with_whole_seconds), Some(0), "back again");
        assert_eq!(clock.now(), local);
    }

    #[test]
    fn a_request_is_judged_by_when_it_was_signed() {
        let local = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock = Clock::from_fn(move || local);
        let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
        assert_eq!(clock.judge(local, local + 4 * minute), Skew::Within);
        assert_eq!(clock.judge(local, local + hour), Skew::Corrected { offset_ms: 3_600_000 });
        assert_eq!(clock.judge(local, local + hour), Skew::CorrectedMeanwhile, "signed before that");
        assert_eq!(clock.judge(clock.now(), local + hour + minute), Skew::Within);
        assert_eq!(clock.judge(clock.now(), local), Skew::Corrected { offset_ms: 0 });
    }

    #[test]
    fn what_passed_is_not_taken_back() {
        let seconds = Arc::new(AtomicI64::new(1_000_000));
        let read = Arc::clone(&seconds);
        let clock = Clock::from_fn(move || {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(read.load(Ordering::SeqCst)).expect("after 1970"))
        });
        let mut passed = clock.elapsed();
        for (moved, counted) in [(10, 10), (-7_200, 0), (5, 5), (7_200, 7_200), (0, 0)] {
            seconds.fetch_add(moved, Ordering::SeqCst);
            passed += Duration::from_secs(counted);
            assert_eq!(clock.elapsed(), passed);
            clock.observe(UNIX_EPOCH).expect("corrected");
            assert_eq!(clock.clone().elapsed(), passed, "no correction counts");
            clock.observe(UNIX_EPOCH + Duration::from_secs(9_000)).expect("corrected");
        }
    }

    #[test]
    fn answers_of_caches_tell_no_time() {
        let mut headers = HeaderMap::new();
        assert_eq!(server_time(&headers), None);
        headers.insert(DATE, http::HeaderValue::from_static("Sun, 22 Nov 2026 12:00:00 GMT"));
        assert_eq!(server_time(&headers), Some(UNIX_EPOCH + Duration::from_secs(1_795_348_800)));
        headers.insert(AGE, http::HeaderValue::from_static("0"));
        assert_eq!(server_time(&headers), None);
    }
}
