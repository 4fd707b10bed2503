use std::time::Duration;

use promferry_model::Rng;

/// Pauses between attempts: doubling from a first to a longest one, each up to 10 % shorter or longer by
/// chance, so that senders that failed together don't come back together.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    max: Duration,
    next: Duration,
}

/// How far chance may move a pause: receivers judge senders by the ratio of successive pauses.
const JITTER: f64 = 0.1;
/// What is taken where no pause is configured.
const LEAST: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_secs(5);

impl Backoff {
    /// Pauses from `min` to `max`.
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        // Nothing, doubled, is nothing: an endpoint that is down would get all that the machine can send.
        let min = if min.is_zero() { LEAST } else { min };
        let max = if max.is_zero() { MOST } else { max };
        Self { max: max.max(min), next: min }
    }

    /// The next pause. One that the endpoint asked for (`Retry-After`) takes its place, if it is longer.
    pub(super) fn pause(&mut self, asked: Option<Duration>, rng: &mut dyn Rng) -> Duration {
        let planned = self.next.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.next_f64()).min(self.max);
        self.next = (self.next * 2).min(self.max);
        asked.map_or(planned, |asked| asked.max(planned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use promferry_model::SeededRng;

    #[test]
    fn pauses_double_up_to_the_longest_and_hardly_vary() {
        let mut rng = SeededRng::new(7);
        let mut backoff = Backoff::new(Duration::from_millis(30), Duration::from_secs(5));
        let pauses: Vec<_> = (0..16).map(|_| backoff.pause(None, &mut rng).as_secs_f64()).collect();
        assert!((0.027..=0.033).contains(&pauses[0]) && pauses[15] <= 5.0);
        // The compliance suite for 2.0 senders takes a ratio below 0.8 for a missing backoff.
        assert!(pauses.windows(2).all(|pair| pair[1] / pair[0] >= 0.8), "{pauses:?}");
    }

    #[test]
    fn there_is_always_a_pause() {
        let mut rng = SeededRng::new(7);
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        let pauses: Vec<_> = (0..20).map(|_| backoff.pause(None, &mut rng)).collect();
        assert!(pauses[0] > Duration::ZERO && pauses[19] > Duration::from_secs(4), "{pauses:?}");
    }

    #[test]
    fn what_the_endpoint_asks_for_is_waited() {
        let mut backoff = Backoff::new(Duration::from_millis(30), Duration::from_secs(5));
        assert_eq!(
            backoff.pause(Some(Duration::from_secs(60)), &mut SeededRng::new(1)),
            Duration::from_secs(60)
        );
    }
}
