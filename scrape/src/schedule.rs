//! When a target is scraped: promptly at first, then at its own phase of the interval.

use std::time::Duration;

use promferry_model::Timestamp;

/// The moments at which one target is scraped: a grid of its interval, shifted by its phase.
///
/// The grid is pinned to the wall clock, so a target is scraped at the same phase whenever the process
/// starts (Prometheus 3.16 `scrape/target.go` `offset`). Phases are multiples of a 32nd of the interval, at
/// most of half a second: targets that are scraped together share wake-ups and find caches warm, which takes
/// much less CPU time than a scrape alone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    interval_ms: i64,
    phase_ms: i64,
}

impl Schedule {
    /// The grid of a target with this [`identity`](crate::Target::identity). `seed` differs between
    /// replicas, so that they scrape at different moments. Intervals count whole milliseconds, at least one.
    pub fn new(interval: Duration, identity: u64, seed: u64) -> Self {
        let Self { interval_ms, phase_ms } = Self::spread(interval, identity, seed);
        let step_ms = (interval_ms / PHASES).clamp(1, MAX_PHASE_STEP_MS);
        Self { interval_ms, phase_ms: phase_ms - phase_ms % step_ms }
    }

    /// The same for a target that shares its address with so many that those of one phase would be too many at once:
    /// its phase is any millisecond of the interval.
    pub(crate) fn spread(interval: Duration, identity: u64, seed: u64) -> Self {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { interval_ms, phase_ms: ((identity ^ seed) % interval_ms.unsigned_abs()).cast_signed() }
    }

    /// The last moment that has come at `now` of those from `due` on, and how many it passes over.
    pub(crate) fn latest(&self, due: Timestamp, now: Timestamp) -> (Timestamp, u64) {
        let following = self.next_after(due);
        if now < following {
            return (due, 0);
        }
        let more = (now.as_millis() - following.as_millis()) / self.interval_ms;
        (Timestamp::from_millis(following.as_millis() + more * self.interval_ms), more.unsigned_abs() + 1)
    }

    /// The first moment of the grid after `now`.
    pub fn next_after(&self, now: Timestamp) -> Timestamp {
        let since_tick = (now.as_millis() - self.phase_ms).rem_euclid(self.interval_ms);
        Timestamp::from_millis(now.as_millis().saturating_add(self.interval_ms - since_tick))
    }

    /// What follows the scrape due at `due` once it is over at `now`: the next moment and how many moments
    /// passed meanwhile without a scrape.
    pub fn following(&self, due: Timestamp, now: Timestamp) -> (Timestamp, u64) {
        let earliest = self.next_after(due);
        let next = self.next_after(now);
        let ahead = earliest.as_millis() - next.as_millis();
        if ahead > self.interval_ms {
            // The wall clock went back by more than an interval: go on from where it is now.
            return (next, 0);
        }
        if ahead >= 0 {
            // A timer that fired early, or a clock that was set back a little, makes no second scrape.
            return (earliest, 0);
        }
        (next, (-ahead / self.interval_ms).unsigned_abs())
    }

    /// The timestamp of a scrape that was due at `due` and starts at `now`: the ideal one when it is near,
    /// which makes timestamps regular and so cheap to store (Prometheus' `AlignScrapeTimestamps`).
    pub fn snap(&self, due: Timestamp, now: Timestamp) -> Timestamp {
        let tolerance_ms = (self.interval_ms / 100).min(2);
        if (now.as_millis() - due.as_millis()).abs() <= tolerance_ms { due } else { now }
    }

    /// How long a target waits before its first scrape when `starting` targets start together: targets are
    /// spread over 20 ms each, up to 3 s and never more than an interval.
    pub fn first_delay(&self, identity: u64, starting: usize) -> Duration {
        let starting = u64::try_from(starting.saturating_sub(1)).unwrap_or(u64::MAX);
        let window_ms = FIRST_SPACING_MS
            .saturating_mul(starting)
            .min(FIRST_WINDOW_MS)
            .min(self.interval_ms.unsigned_abs());
        // Other bits than those that decide the phase.
        Duration::from_millis((identity >> 17) % window_ms.max(1))
    }
}

const PHASES: i64 = 32;
const MAX_PHASE_STEP_MS: i64 = 500;

const FIRST_SPACING_MS: u64 = 20;
const FIRST_WINDOW_MS: u64 = 3000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn late_moments_are_counted_and_early_timers_are_not() {
        let schedule = Schedule { interval_ms: 15_000, phase_ms: 4000 };
        assert_eq!(schedule.next_after(at(0)), at(4000));
        assert_eq!(schedule.next_after(at(4000)), at(19_000));
        for (due, now, expected) in [
            (4000, 4100, (19_000, 0)),
            (4000, 18_999, (19_000, 0)),
            (4000, 19_000, (34_000, 1)),
            (4000, 50_000, (64_000, 3)),
            (4000, 3999, (19_000, 0)),
            (4000, -6000, (19_000, 0)),
            (4_000_000, 100, (4000, 0)),
        ] {
            assert_eq!(schedule.following(at(due), at(now)), (at(expected.0), expected.1), "{due} {now}");
        }
    }

    #[test]
    fn timestamps_snap_within_a_hundredth_of_the_interval_and_two_milliseconds() {
        for (interval_ms, late_ms, snapped) in
            [(15_000, 2, true), (15_000, 3, false), (15_000, -2, true), (100, 1, true), (100, 2, false)]
        {
            let schedule = Schedule::new(Duration::from_millis(interval_ms), 0, 0);
            assert_eq!(schedule.snap(at(60_000), at(60_000 + late_ms)) == at(60_000), snapped, "{late_ms}");
        }
    }

    #[test]
    fn a_lone_target_starts_at_once_and_many_within_three_seconds() {
        let schedule = Schedule::new(Duration::from_secs(15), 0, 0);
        assert_eq!(schedule.first_delay(u64::MAX, 1), Duration::ZERO);
        for identity in (0..1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            assert!(schedule.first_delay(identity, 20) < Duration::from_millis(400));
            assert!(schedule.first_delay(identity, 100_000) < Duration::from_secs(3));
        }
        let short = Schedule::new(Duration::from_millis(100), 0, 0);
        assert!(short.first_delay(u64::MAX, 100_000) < Duration::from_millis(100));
    }

    #[test]
    fn phases_are_spread_in_steps_over_the_whole_interval() {
        for (interval_ms, step_ms, phases) in
            [(15_000, 468, 33), (60_000, 500, 120), (1000, 31, 33), (20, 1, 20)]
        {
            let interval = Duration::from_millis(interval_ms);
            let seen: std::collections::BTreeSet<_> = (0..20_000u64)
                .map(|n| Schedule::new(interval, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0).phase_ms)
                .collect();
            assert!(seen.iter().all(|phase| phase % step_ms == 0), "{interval:?}");
            assert_eq!(seen.len(), phases, "{interval:?}");
        }
    }

    #[test]
    fn a_long_wait_ends_at_the_latest_moment() {
        let schedule = Schedule { interval_ms: 10_000, phase_ms: 4000 };
        for (due, now, latest) in [
            (4000, 4000, (4000, 0)),
            (4000, 3000, (4000, 0)),
            (4000, 13_999, (4000, 0)),
            (4000, 14_000, (14_000, 1)),
            (4000, 39_000, (34_000, 3)),
            // A first scrape is not on the grid.
            (1000, 4100, (4000, 1)),
        ] {
            assert_eq!(schedule.latest(at(due), at(now)), (at(latest.0), latest.1), "{due} {now}");
        }
    }

    #[test]
    fn targets_of_a_crowded_address_are_spread_over_each_millisecond() {
        let phases: std::collections::BTreeSet<_> = (0..200_000u64)
            .map(|n| {
                Schedule::spread(Duration::from_secs(15), n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0).phase_ms
            })
            .collect();
        assert_eq!(phases.len(), 15_000);
    }

    proptest! {
        #[test]
        fn the_next_moment_is_on_the_grid_within_an_interval(
            interval in 1u64..100_000, identity: u64, seed: u64, now in -1_000_000_000_000i64..1_000_000_000_000,
        ) {
            let schedule = Schedule::new(Duration::from_millis(interval), identity, seed);
            let next = schedule.next_after(at(now)).as_millis();
            prop_assert!(next > now && next - now <= interval.cast_signed());
            prop_assert_eq!((next - schedule.phase_ms).rem_euclid(interval.cast_signed()), 0);
        }
    }
}
