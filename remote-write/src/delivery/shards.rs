use std::time::Duration;

/// How many requests may be in flight at once: as many as what arrives, and a part of what waits, takes at the
/// pace at which the endpoint answers.
///
/// Lanes are not bound to shards: any request takes what waits in lanes that have none in flight. So a change
/// takes effect at once, and nothing is drained for it.
#[derive(Clone, Debug)]
pub(super) struct Shards {
    min: usize,
    max: usize,
    current: usize,
    seen: Option<Measurement>,
    /// How many were needed at the last look, whatever the bounds.
    desired: usize,
    /// Samples and histograms that arrive in a second, smoothed: scrapes come in bursts.
    arriving: Option<f64>,
}

/// Sums since the start, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measurement {
    /// Time since a fixed moment.
    pub(super) at: Duration,
    /// Samples and histograms that were to be sent.
    pub(super) accepted: u64,
    /// Samples and histograms that wait, in flight included.
    pub(super) pending: u64,
    /// Samples and histograms in attempts that were answered for good.
    pub(super) answered: u64,
    /// How long these attempts took.
    pub(super) answer_time: Duration,
}

/// The part of what waits that is to be sent each second beside what arrives (Prometheus 3.16
/// storage/remote/queue_manager.go `calculateDesiredShards`).
const CATCH_UP: f64 = 0.05;
/// How much the latest period counts in what arrives.
const SMOOTHING: f64 = 0.3;
/// Fewer are needed only below this part of the current number: what is needed varies from period to period.
const SHRINK_BELOW: f64 = 0.7;
/// With more than this many seconds' arrivals waiting the number does not fall.
const BEHIND_SECONDS: f64 = 10.0;

impl Shards {
    /// How often the number is looked at.
    pub(super) const PERIOD: Duration = Duration::from_secs(5);

    pub(super) fn new(min: usize, max: usize) -> Self {
        let max = max.clamp(1, crate::Lane::COUNT);
        let min = min.clamp(1, max);
        Self { min, max, current: min, desired: min, seen: None, arriving: None }
    }

    pub(super) const fn current(&self) -> usize {
        self.current
    }

    /// How many were needed at the last look, be it fewer or more than there may be.
    pub(super) const fn desired(&self) -> usize {
        self.desired
    }

    /// Looks at what happened since the last measurement. While nothing is answered for good the number stays:
    /// more senders don't help an endpoint that is down.
    pub(super) fn adjust(&mut self, now: Measurement) {
        let Some(seen) = self.seen else {
            self.seen = Some(now);
            return;
        };
        let seconds = now.at.saturating_sub(seen.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let answered = now.answered.saturating_sub(seen.answered);
        if answered == 0 && now.pending > 0 {
            return;
        }
        self.seen = Some(now);
        let arrived = now.accepted.saturating_sub(seen.accepted) as f64 / seconds;
        let arriving = self.arriving.map_or(arrived, |before| before + SMOOTHING * (arrived - before));
        self.arriving = Some(arriving);
        let pending = now.pending as f64;
        let time_a_value = match answered {
            0 => 0.0,
            _ => now.answer_time.saturating_sub(seen.answer_time).as_secs_f64() / answered as f64,
        };
        let needed = (time_a_value * (arriving + CATCH_UP * pending)).ceil();
        self.desired = needed as usize;
        if needed > self.current as f64 {
            self.current = (needed as usize).min(self.max);
        } else if needed < SHRINK_BELOW * self.current as f64 && pending <= BEHIND_SECONDS * arriving.max(1.0)
        {
            self.current = (needed as usize).max(self.min);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint that answers each request of 2,000 after a while, and what waits for it.
    struct World {
        shards: Shards,
        now: Measurement,
        highest: usize,
        most_pending: u64,
    }

    const PER_REQUEST: f64 = 2000.0;

    impl World {
        fn new(min: usize, max: usize) -> Self {
            let now = Measurement {
                at: Duration::ZERO,
                accepted: 0,
                pending: 0,
                answered: 0,
                answer_time: Duration::ZERO,
            };
            Self { shards: Shards::new(min, max), now, highest: 0, most_pending: 0 }
        }

        /// Lets `seconds` pass in which `arriving` come each second and an answer takes `latency`; `None` is
        /// an endpoint that is down.
        fn run(&mut self, seconds: u64, arriving: u64, latency: Option<Duration>) -> &mut Self {
            for _ in 0..seconds {
                let now = &mut self.now;
                now.at += Duration::from_secs(1);
                now.accepted += arriving;
                now.pending += arriving;
                if let Some(latency) = latency {
                    let most = self.shards.current() as f64 * PER_REQUEST / latency.as_secs_f64();
                    let sent = now.pending.min(most as u64);
                    now.pending -= sent;
                    now.answered += sent;
                    now.answer_time += latency.mul_f64(sent as f64 / PER_REQUEST);
                }
                self.most_pending = self.most_pending.max(now.pending);
                if now.at.as_secs().is_multiple_of(Shards::PERIOD.as_secs()) {
                    self.shards.adjust(*now);
                }
                self.highest = self.highest.max(self.shards.current());
            }
            self
        }
    }

    const FAST: Option<Duration> = Some(Duration::from_millis(10));
    const SLOW: Option<Duration> = Some(Duration::from_millis(200));

    #[test]
    fn a_slow_endpoint_gets_more_and_a_fast_one_fewer() {
        let mut world = World::new(1, 50);
        world.run(60, 40_000, FAST);
        assert_eq!((world.highest, world.now.pending), (1, 0), "200,000 a second fit through one");
        world.run(60, 40_000, SLOW);
        assert!((4..=12).contains(&world.highest), "four are needed: {}", world.highest);
        assert!(world.most_pending < 10 * 40_000, "held within ten seconds: {}", world.most_pending);
        assert_eq!(world.now.pending, 0, "and drained");
        world.run(120, 40_000, SLOW);
        assert!((4..=5).contains(&world.shards.current()), "{}", world.shards.current());
        world.run(60, 40_000, FAST);
        assert_eq!(world.shards.current(), 1);
    }

    #[test]
    fn a_long_outage_is_drained_with_all_there_is() {
        let mut world = World::new(1, 50);
        world.run(30, 40_000, SLOW).run(1800, 40_000, None);
        let during = world.shards.current();
        let backlog = world.now.pending;
        assert!(backlog > 70_000_000 && during <= 12, "an endpoint that is down gets no more senders");
        world.run(300, 40_000, SLOW);
        assert_eq!((world.highest, world.now.pending), (50, 0), "500,000 a second: twelve times real time");
        world.run(120, 40_000, SLOW);
        assert!(world.shards.current() <= 5);
    }

    #[test]
    fn bounds_hold_and_idleness_shrinks() {
        let mut world = World::new(2, 6);
        world.run(60, 400_000, SLOW);
        assert_eq!(world.shards.current(), 6);
        world.run(3600, 0, SLOW);
        assert_eq!(world.shards.current(), 2);
        assert_eq!(
            World::new(100, 200).shards.current(),
            crate::Lane::COUNT,
            "more than lanes are of no use"
        );
    }

    #[test]
    fn an_answer_that_takes_longer_than_a_period_counts_when_it_is_there() {
        let mut shards = Shards::new(1, 50);
        let mut now = World::new(1, 1).now;
        for period in 0..8_u64 {
            now.at += Shards::PERIOD;
            (now.accepted, now.pending) = (now.accepted + 50_000, now.pending + 50_000);
            if period == 6 {
                (now.answered, now.answer_time) = (2000, Duration::from_secs(30));
            }
            shards.adjust(now);
            assert_eq!(shards.current() > 1, period >= 6, "period {period}");
        }
    }
}
