use std::time::Duration;

/// How many requests may be in flight at once: grows while all of them are busy and more waits, shrinks while
/// some have nothing to do.
///
/// Lanes are not bound to shards: any request takes what waits in lanes that have none in flight. So a change
/// takes effect at once, and nothing is drained for it.
#[derive(Clone, Debug)]
pub(super) struct Shards {
    min: usize,
    max: usize,
    current: usize,
    seen_time: Duration,
}

impl Shards {
    /// How often the number is looked at (Prometheus' `shardUpdateDuration`).
    pub(super) const PERIOD: Duration = Duration::from_secs(10);

    pub(super) fn new(min: usize, max: usize) -> Self {
        let max = max.clamp(1, crate::Lane::COUNT);
        let min = min.clamp(1, max);
        Self { min, max, current: min, seen_time: Duration::ZERO }
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Looks at the last period: `attempt_time` is the time spent in attempts so far, in all.
    pub(super) fn adjust(&mut self, attempt_time: Duration, in_flight: usize, full_request_waits: bool) {
        let spent = attempt_time.saturating_sub(self.seen_time);
        self.seen_time = attempt_time;
        let busy = spent.as_secs_f64() / Self::PERIOD.as_secs_f64();
        if full_request_waits && in_flight >= self.current {
            // At least half of them have to be waiting for answers and not for the end of a backoff: more
            // senders don't help an endpoint that refuses.
            if busy >= 0.5 * self.current as f64 {
                self.current = (self.current * 2).min(self.max);
            }
        } else if busy < 0.5 * self.current as f64 {
            self.current = (busy.ceil() as usize + 1).clamp(self.min, self.current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_while_all_are_busy_and_shrinks_when_they_are_not() {
        let mut shards = Shards::new(1, 6);
        let mut spent = Duration::ZERO;
        let mut period = |shards: &mut Shards, busy: f64, waits: bool| {
            spent += Shards::PERIOD.mul_f64(busy);
            let in_flight = if waits { shards.current() } else { 0 };
            shards.adjust(spent, in_flight, waits);
            shards.current()
        };
        assert_eq!(period(&mut shards, 1.0, true), 2);
        assert_eq!(period(&mut shards, 2.0, true), 4);
        assert_eq!(period(&mut shards, 4.0, true), 6);
        assert_eq!(
            period(&mut shards, 0.1, true),
            6,
            "an endpoint that refuses at once gets no more senders"
        );
        assert_eq!(period(&mut shards, 1.4, false), 3);
        assert_eq!(period(&mut shards, 0.0, false), 1);
    }
}
