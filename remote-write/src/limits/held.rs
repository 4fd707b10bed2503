use std::collections::HashMap;
use std::time::Duration;

use crate::spool::Reason;

/// The most series that are held out; one beyond is refused again with each of its samples.
const MAX_HELD: usize = 100_000;

/// Requests for each of which one probe may be made: what is held out costs 2.5 % more requests at most.
const REQUESTS_FOR_A_PROBE: u64 = 40;

/// Series that the endpoint refuses whatever they hold: what comes of them is dropped without being sent,
/// until one probe after ten minutes shows that they are taken again.
///
/// What is due of one request is probed together. When that is refused and the answer names nobody, half as
/// many are probed the next time, so that one that is refused for ever does not keep the others out.
#[derive(Debug)]
pub(super) struct HeldOut {
    series: HashMap<u64, Held>,
    requests: u64,
    /// The number of the request with which the next probe may be made.
    next_probe: u64,
    /// Series in a probe.
    probe_size: usize,
    /// When it is looked for series that nothing came of any more.
    next_sweep: Duration,
}

#[derive(Debug)]
struct Held {
    until: Duration,
    /// How long, and for how long again after a probe.
    length: Duration,
    /// When the latest sample of it came.
    seen: Duration,
    reason: Reason,
}

/// Looking for departed series takes a look at each: parts of the time of being held out.
const SWEEPS: u32 = 10;

/// How many series of a request may be probed.
#[derive(Debug, Default)]
pub(crate) struct ProbeTurn {
    left: usize,
}

/// What is to be done with a sample of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is not held out.
    Not,
    /// Drop it for this reason.
    Drop(Reason),
    /// Its ten minutes are over: send it and see.
    Probe,
}

impl Default for HeldOut {
    fn default() -> Self {
        Self {
            series: HashMap::new(),
            requests: 0,
            next_probe: 0,
            probe_size: usize::MAX,
            next_sweep: Duration::ZERO,
        }
    }
}

impl HeldOut {
    /// Holds a series out for `length` from now on.
    pub(super) fn hold(&mut self, now: Duration, length: Duration, fingerprint: u64, reason: &Reason) {
        if self.series.len() < MAX_HELD || self.series.contains_key(&fingerprint) {
            let held = Held { until: now + length, length, seen: now, reason: reason.clone() };
            self.series.insert(fingerprint, held);
        }
    }

    /// Forgets series of which nothing came for as long as they were held out, and as long again: they are gone.
    pub(super) fn forget_departed(&mut self, now: Duration) {
        if self.series.is_empty() || now < self.next_sweep {
            return;
        }
        self.series.retain(|_, held| now < held.seen.max(held.until) + held.length);
        match self.series.values().map(|held| held.length).min() {
            Some(length) => self.next_sweep = now + length / SWEEPS,
            None => *self = Self::default(),
        }
    }

    /// Lets a series in again.
    pub(super) fn release(&mut self, fingerprint: u64) {
        self.series.remove(&fingerprint);
        if self.series.is_empty() {
            *self = Self::default();
        }
    }

    /// A request is made: says whether, and of how many series, there may be a probe beside it.
    pub(super) fn begin_request(&mut self) -> ProbeTurn {
        self.requests += 1;
        ProbeTurn { left: if self.requests >= self.next_probe { self.probe_size } else { 0 } }
    }

    /// What to do with a sample of this series. A series that is to be probed is held out as long again,
    /// unless it is released before.
    pub(super) fn judge(&mut self, now: Duration, fingerprint: u64, turn: &mut ProbeTurn) -> Hold {
        let Some(held) = self.series.get_mut(&fingerprint) else { return Hold::Not };
        held.seen = now;
        if now < held.until || turn.left == 0 {
            return Hold::Drop(held.reason.clone());
        }
        turn.left -= 1;
        held.until = now + held.length;
        self.next_probe = self.requests + REQUESTS_FOR_A_PROBE;
        Hold::Probe
    }

    /// Notes that a probe of so many series was refused without a name.
    pub(super) fn probe_refused(&mut self, series: usize) {
        self.probe_size = (series / 2).max(1);
    }

    /// Notes that a probe was accepted.
    pub(super) fn probe_accepted(&mut self) {
        self.probe_size = self.probe_size.saturating_mul(2);
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(600);

    fn judge(held: &mut HeldOut, now: u64, series: u64) -> Hold {
        let mut turn = held.begin_request();
        held.judge(Duration::from_secs(now), series, &mut turn)
    }

    #[test]
    fn a_series_is_out_for_ten_minutes_and_then_probed_once() {
        let reason = Reason::new("label_value_too_long");
        let mut held = HeldOut::default();
        held.hold(Duration::ZERO, HOLD, 7, &reason);
        assert_eq!(judge(&mut held, 1, 8), Hold::Not);
        assert_eq!(judge(&mut held, 599, 7), Hold::Drop(reason.clone()));
        assert_eq!(judge(&mut held, 600, 7), Hold::Probe);
        for _ in 1..REQUESTS_FOR_A_PROBE {
            assert_eq!(judge(&mut held, 1200, 7), Hold::Drop(reason.clone()));
        }
        assert_eq!(judge(&mut held, 1200, 7), Hold::Probe);
        held.release(7);
        assert_eq!(judge(&mut held, 1201, 7), Hold::Not);
    }

    #[test]
    fn a_series_that_went_away_is_forgotten() {
        let reason = Reason::new("label_value_too_long");
        let mut held = HeldOut::default();
        let at = Duration::from_secs;
        held.hold(at(0), HOLD, 7, &reason);
        held.hold(at(0), HOLD, 8, &reason);
        assert_eq!(judge(&mut held, 900, 8), Hold::Probe);
        for now in [0, 600, 1199] {
            held.forget_departed(at(now));
            assert_eq!(held.len(), 2, "{now}");
        }
        held.forget_departed(at(1300));
        assert_eq!(judge(&mut held, 1300, 7), Hold::Not);
        assert_eq!(judge(&mut held, 1300, 8), Hold::Drop(reason), "that one is still there");
        held.forget_departed(at(10_000));
        assert!(held.is_empty());
    }

    fn make_requests(held: &mut HeldOut) {
        for _ in 0..REQUESTS_FOR_A_PROBE {
            let _ = held.begin_request();
        }
    }

    #[test]
    fn a_refused_probe_makes_the_next_one_smaller() {
        let reason = Reason::new("refused");
        let mut held = HeldOut::default();
        (0..100).for_each(|series| held.hold(Duration::ZERO, HOLD, series, &reason));
        let probed = |held: &mut HeldOut, now| {
            let mut turn = held.begin_request();
            let at = Duration::from_secs(now);
            (0..100).filter(|&series| held.judge(at, series, &mut turn) == Hold::Probe).count()
        };
        assert_eq!(probed(&mut held, 600), 100);
        held.probe_refused(100);
        assert_eq!(probed(&mut held, 1200), 0, "the probe before was too near");
        make_requests(&mut held);
        assert_eq!(probed(&mut held, 1200), 50);
        held.probe_accepted();
        make_requests(&mut held);
        assert_eq!(probed(&mut held, 1900), 100);
    }
}
