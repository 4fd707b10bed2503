use std::collections::VecDeque;
use std::time::Duration;

use promferry_model::Timestamp;

/// What the calls said the time is, and what can be concluded from it: the wall clock may be set while samples
/// wait.
#[derive(Debug)]
pub(super) struct Time {
    now: Timestamp,
    /// Milliseconds since the spool was opened, without the jumps.
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
    pub(super) fn new(now: Timestamp) -> Self {
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
            if self.jumps.len() == MAX_JUMPS {
                self.jumps.pop_front();
            }
            self.steady += STEP;
            self.jumps.push_back(Jump { at: self.steady, by: passed });
        } else {
            self.steady += passed.max(0);
        }
    }

    /// Samples before this are older than `limit`, in milliseconds.
    ///
    /// A clock that was set forward makes nothing old that was young before: for as long as the limit the jump
    /// is taken off. Sending what the endpoint then refuses is safe, dropping what it would have taken is not.
    pub(super) fn oldest(&self, limit: Duration) -> i64 {
        let limit = i64::try_from(millis(limit)).unwrap_or(i64::MAX);
        let recent = self.jumps.iter().filter(|jump| self.steady - jump.at < limit);
        let ahead = recent.fold(0i64, |sum, jump| sum.saturating_add(jump.by)).max(0);
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
        // And forward to where it was: the two cancel out.
        time.advance(at(13_902));
        assert_eq!(time.oldest(limit), 13_602_000 - 1_000);
    }
}
