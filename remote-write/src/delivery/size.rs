use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::MAX_RAW_BYTES;
use crate::Counts;

/// How large an endpoint's requests may be: what it said with a 413 is remembered, and tried again slowly.
///
/// A 413 is a matter of size only above 64 KiB before compression or 500 values: then the request is split,
/// and from there on none is made that is larger than half of it. After ten minutes without another one the
/// limit grows by a quarter, and so on up to what it was at first: a gateway whose limit was raised gets
/// large requests again, and one whose limit stands says 413 once in ten minutes.
#[derive(Debug)]
pub(super) struct SizeLimit {
    /// Whether the endpoint is AMP's, which takes nothing larger, be it a single sample.
    strict: bool,
    max_values: u64,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    raw_bytes: usize,
    values: u64,
    lowered_at: Option<Duration>,
}

/// A 413 to a request below both is no matter of size: it is refused, not split.
pub(super) const BLAMABLE_RAW_BYTES: usize = 64 * 1024;
const BLAMABLE_VALUES: u64 = 500;

const GROW_EVERY: Duration = Duration::from_secs(600);

impl SizeLimit {
    /// The limit of an endpoint that is AMP's or another's, of at most `values` samples and histograms a request.
    pub(super) fn new(is_amp: bool, values: u64) -> Self {
        let state = State { raw_bytes: MAX_RAW_BYTES, values, lowered_at: None };
        Self { strict: is_amp, max_values: values, state: Mutex::new(state) }
    }

    /// Bytes before compression, and after it, that a request may have; `now` is monotonic.
    pub(super) fn raw_bytes(&self, now: Duration) -> usize {
        self.grown(now).raw_bytes
    }

    /// Samples and histograms that a request may have.
    pub(super) fn values(&self, now: Duration) -> u64 {
        self.grown(now).values
    }

    /// What nothing that is sent may exceed, be it a single sample; `None` for endpoints that have not said so.
    pub(super) fn single_value_bytes(&self) -> Option<usize> {
        self.strict.then_some(MAX_RAW_BYTES)
    }

    /// Whether the endpoint is AMP's.
    pub(super) fn is_amp(&self) -> bool {
        self.strict
    }

    /// A request of this size was answered 413. Whether its size is to blame: then smaller ones follow.
    pub(super) fn too_large(&self, raw_bytes: usize, counts: Counts, now: Duration) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if raw_bytes > BLAMABLE_RAW_BYTES {
            state.raw_bytes = state.raw_bytes.min((raw_bytes / 2).max(BLAMABLE_RAW_BYTES));
        } else if counts.values() > BLAMABLE_VALUES {
            state.values = state.values.min((counts.values() / 2).max(BLAMABLE_VALUES));
        } else {
            return false;
        }
        state.lowered_at = Some(now);
        true
    }

    fn grown(&self, now: Duration) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lowered_at.is_some_and(|at| now >= at + GROW_EVERY) {
            state.raw_bytes = (state.raw_bytes + state.raw_bytes / 4).min(MAX_RAW_BYTES);
            state.values = (state.values + state.values / 4).min(self.max_values);
            let whole = state.raw_bytes == MAX_RAW_BYTES && state.values == self.max_values;
            state.lowered_at = (!whole).then_some(now);
        }
        *state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn samples(samples: u64) -> Counts {
        Counts { samples, ..Counts::default() }
    }

    #[test]
    fn a_413_halves_and_ten_minutes_give_a_quarter_back() {
        let size = SizeLimit::new(false, 2000);
        assert!(size.too_large(400_000, samples(2000), SECOND));
        assert_eq!((size.raw_bytes(SECOND), size.values(SECOND)), (200_000, 2000));
        assert!(size.too_large(100_000, samples(2000), SECOND));
        assert_eq!(size.raw_bytes(SECOND), BLAMABLE_RAW_BYTES, "smaller ones are not to blame");
        assert_eq!(size.raw_bytes(600 * SECOND), BLAMABLE_RAW_BYTES);
        assert_eq!(size.raw_bytes(601 * SECOND), BLAMABLE_RAW_BYTES * 5 / 4);
        assert_eq!(size.raw_bytes(602 * SECOND), BLAMABLE_RAW_BYTES * 5 / 4);
        for minutes in 2..40 {
            size.raw_bytes(minutes * 601 * SECOND);
        }
        assert_eq!((size.raw_bytes(SECOND), size.values(SECOND)), (MAX_RAW_BYTES, 2000));
    }

    #[test]
    fn a_small_request_is_not_to_blame() {
        let size = SizeLimit::new(false, 2000);
        assert!(!size.too_large(BLAMABLE_RAW_BYTES, samples(BLAMABLE_VALUES), SECOND));
        assert_eq!(size.raw_bytes(SECOND), MAX_RAW_BYTES);
        assert!(size.too_large(40_000, samples(1500), SECOND));
        assert_eq!((size.raw_bytes(SECOND), size.values(SECOND)), (MAX_RAW_BYTES, 750));
    }
}
