use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use promferry_model::{Clock, Timestamp};

use crate::spool::Time;

/// What is too old to be sent: judged as the spool judges it, so that a clock that is set while samples wait makes
/// nothing old that was young before.
pub(super) struct SampleAge {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    time: Time,
    monotonic: Duration,
}

impl SampleAge {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State { time: Time::new(clock.now()), monotonic: clock.monotonic() };
        Self { clock, state: Mutex::new(state) }
    }

    /// Samples before this are older than `limit`.
    pub(super) fn oldest(&self, limit: Duration) -> Timestamp {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let monotonic = self.clock.monotonic();
        let elapsed = monotonic.saturating_sub(state.monotonic);
        state.monotonic = monotonic;
        state.time.advance_by(self.clock.now(), elapsed);
        Timestamp::from_millis(state.time.oldest(limit))
    }
}
