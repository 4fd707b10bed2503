//! The rhythm of mechanisms that ask somebody again and again.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// After a failure it is not the whole interval until the next attempt.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Runs `attempt` at once and then each `interval`, sooner while it fails: after 1 s, 2 s, 4 s, … up to the interval.
pub(super) async fn run<F: Future<Output = bool>>(interval: Duration, mut attempt: impl FnMut() -> F) {
    let mut retry = FIRST_RETRY;
    loop {
        let started = Instant::now();
        let wait = if attempt().await {
            retry = FIRST_RETRY;
            interval
        } else {
            let wait = retry.min(interval);
            retry = (retry * 2).min(interval);
            wait
        };
        // Of a failure that took long, such as a timeout, the time counts too, but there is always a pause.
        tokio::time::sleep_until((started + wait).max(Instant::now() + interval.min(FIRST_RETRY) / 2)).await;
    }
}
