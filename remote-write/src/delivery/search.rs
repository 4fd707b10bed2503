use std::sync::{Mutex, PoisonError};

/// How many requests may be spent on finding out which sample of a request was refused, where the endpoint
/// gives up a whole request for one sample and does not say for which.
///
/// One bad sample of 2,000 is found with 22 requests, 20 of them with about 250. A request that needs more is
/// full of bad samples: what is left of it is refused as a whole. An endpoint that refuses everything must
/// not be sent many times as much for it: over time, one request in twenty may be a search, after 4,096 that
/// an endpoint has in hand when it starts. So a hundred bad series are found at once, and something that goes
/// on being refused costs 5 % more requests.
#[derive(Debug)]
pub(super) struct SearchAllowance {
    /// In shares of a request.
    left: Mutex<u32>,
}

/// The most requests that are spent on one.
pub(super) const MAX_OF_ONE_REQUEST: u32 = 512;

const IN_HAND: u32 = 4096;
const EARNED_BY: u32 = 20;

impl Default for SearchAllowance {
    fn default() -> Self {
        Self { left: Mutex::new(IN_HAND * EARNED_BY) }
    }
}

impl SearchAllowance {
    /// An ordinary request was sent.
    pub(super) fn earn(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = (*left + 1).min(IN_HAND * EARNED_BY);
    }

    /// Whether `requests` more may be spent; they are then.
    pub(super) fn spend(&self, requests: u32) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.checked_sub(requests * EARNED_BY) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_hand_is_spent_and_one_in_twenty_earned() {
        let allowance = SearchAllowance::default();
        for _ in 0..IN_HAND / 2 {
            assert!(allowance.spend(2));
        }
        assert!(!allowance.spend(1));
        for _ in 0..39 {
            allowance.earn();
        }
        assert!(!allowance.spend(2));
        allowance.earn();
        assert!(allowance.spend(2) && !allowance.spend(1));
    }
}
