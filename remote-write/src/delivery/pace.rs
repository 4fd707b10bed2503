use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many of an endpoint's shards may send: half of them after each 429, all of them again by and by.
///
/// Requests that were on their way together are refused together: they count as one 429 a second. Each second
/// without one gives a tenth of the shards back, so that a whole halving takes five seconds to undo.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    share: f64,
    changed_at: Duration,
}

const STEP: Duration = Duration::from_secs(1);
const GIVEN_BACK: f64 = 0.1;
/// One of the most shards there can be.
const LEAST: f64 = 1.0 / crate::Lane::COUNT as f64;

impl Default for Pace {
    fn default() -> Self {
        Self { state: Mutex::new(State { share: 1.0, changed_at: Duration::ZERO }) }
    }
}

impl Pace {
    /// The endpoint asked for less; `now` is monotonic.
    pub(super) fn throttled(&self, now: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.share == 1.0 || now >= state.changed_at + STEP {
            *state = State { share: (state.share / 2.0).max(LEAST), changed_at: now };
        }
    }

    /// The endpoint took a request.
    pub(super) fn delivered(&self, now: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.share < 1.0 && now >= state.changed_at + STEP {
            *state = State { share: (state.share + GIVEN_BACK).min(1.0), changed_at: now };
        }
    }

    /// How many of `shards` may send: one at least.
    pub(super) fn of(&self, shards: usize) -> usize {
        let share = self.state.lock().unwrap_or_else(PoisonError::into_inner).share;
        ((shards as f64 * share).ceil() as usize).clamp(1, shards.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_429_halves_and_successes_give_back() {
        let at = Duration::from_secs;
        let pace = Pace::default();
        assert_eq!(pace.of(16), 16);
        pace.throttled(at(10));
        pace.throttled(at(10));
        assert_eq!(pace.of(16), 8, "refused together counts once");
        pace.throttled(at(11));
        assert_eq!(pace.of(16), 4);
        pace.delivered(at(11));
        assert_eq!(pace.of(16), 4);
        for second in 12..20 {
            pace.delivered(at(second));
        }
        assert_eq!(pace.of(16), 16);
        for second in 20..60 {
            pace.throttled(at(second));
        }
        assert_eq!((pace.of(16), pace.of(1)), (1, 1));
    }
}
