use std::collections::VecDeque;
use std::time::Duration;

use promferry_model::Timestamp;

/// What the calls said the time is, and what can be concluded from it: the wall clock may be set while samples
/// wait.
#[derive(Debug)]
pub(crate) struct Time {
    now: Timestamp,
    /// Milliseconds since the start, without the jumps.
    steady: i64,
    jumps: VecDeque<Jump>,
}

#[derive(Clone, Copy, Debug)]
struct Jump {
    at: i64,
    by: i64,
}

/// Calls come about once a second: when more than this lies between two, the clock was set.
const JUMP: i64 = 60_000;
/// What is taken to have passed when the clock was set.
const STEP: i64 = 1_000;
/// A clock that is set more often than this while samples wait has no time to tell.
const MAX_JUMPS: usize = 64;

impl Time {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { now, steady: 0, jumps: VecDeque::new() }
    }

    /// What the last call said.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Milliseconds since the spool was opened, whatever the clock did.
    pub(super) fn steady(&self) -> i64 {
        self.steady
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        let passed = now.as_millis().saturating_sub(self.now.as_millis());
        self.now = now;
        if passed.abs() > JUMP {
            self.steady += STEP;
            self.jumped(passed);
        } else {
            self.steady += passed.max(0);
        }
    }

    /// The same where a monotonic clock says how much has passed: calls may be as rare as they like.
    pub(crate) fn advance_by(&mut self, now: Timestamp, elapsed: Duration) {
        let elapsed = i64::try_from(millis(elapsed)).unwrap_or(i64::MAX);
        let passed = now.as_millis().saturating_sub(self.now.as_millis());
        self.now = now;
        self.steady = self.steady.saturating_add(elapsed);
        let jump = passed.saturating_sub(elapsed);
        if jump.abs() > JUMP {
            self.jumped(jump);
        }
    }

    fn jumped(&mut self, by: i64) {
        if self.jumps.len() == MAX_JUMPS {
            self.jumps.pop_front();
        }
        self.jumps.push_back(Jump { at: self.steady, by });
    }

    /// Samples before this are older than `limit`, in milliseconds.
    ///
    /// A clock that was set forward makes nothing old that was young before: for as long as the limit the jump
    /// is taken off, and of several as many of the latest as take off most: a sample may be from before any of
    /// them. Sending what the endpoint then refuses is safe, dropping what it would have taken is not.
    pub(crate) fn oldest(&self, limit: Duration) -> i64 {
        let limit = i64::try_from(millis(limit)).unwrap_or(i64::MAX);
        let recent = self.jumps.iter().rev().take_while(|jump| self.steady - jump.at < limit);
        let (ahead, _) = recent.fold((0i64, 0i64), |(most, sum), jump| {
            let sum = sum.saturating_add(jump.by);
            (most.max(sum), sum)
        });
        self.now.as_millis().saturating_sub(ahead).saturating_sub(limit)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_clock_that_was_set_does_not_age_what_waits() {
        let limit = Duration::from_secs(300);
        let mut time = Time::new(at(10_000));
        time.advance(at(10_001));
        assert_eq!(time.oldest(limit), 9_701_000);
        // Set forward by an hour: for the limit's length samples are as old as before.
        time.advance(at(13_601));
        assert_eq!((time.oldest(limit), time.steady()), (9_701_000, 2_000));
        for second in 1..=299 {
            time.advance(at(13_601 + second));
        }
        assert_eq!(time.oldest(limit), 9_701_000 + 299_000);
        time.advance(at(13_901));
        assert_eq!(time.oldest(limit), 13_601_000);
        // Set back: everything is younger than it says, and the steady clock goes on.
        let steady = time.steady();
        time.advance(at(5_000));
        assert_eq!((time.oldest(limit), time.steady()), (4_700_000, steady + 1_000));
        // And forward to where it was: what was scraped in between is as young as it was.
        time.advance(at(13_902));
        assert_eq!(time.oldest(limit), 4_700_000);
    }

    #[test]
    fn with_a_monotonic_clock_a_long_wait_is_no_jump() {
        let limit = Duration::from_secs(300);
        let mut time = Time::new(at(10_000));
        time.advance_by(at(13_600), Duration::from_secs(3_600));
        assert_eq!(time.oldest(limit), 13_300_000);
        time.advance_by(at(17_201), Duration::from_secs(1));
        assert_eq!(time.oldest(limit), 13_301_000);
        time.advance_by(at(17_501), Duration::from_secs(300));
        assert_eq!(time.oldest(limit), 17_201_000);
    }
}
