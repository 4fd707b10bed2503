use std::collections::VecDeque;

use tokio::time::Instant;

use crate::spool::StoredFragment;
use crate::{Counts, Lane, LaneSet};

/// What was read from the spool and waits to be sent: in the log's order, bounded in bytes by its owner.
///
/// A lane has at most one request in flight, so that what is in it arrives in order: while it is busy its
/// other fragments wait, and other lanes go ahead of them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    busy: LaneSet,
    waiting_bytes: usize,
    waiting_values: u64,
    busy_bytes: usize,
    lane_bytes: LaneBytes,
    /// Lanes that nothing is sent of any more.
    abandoned: LaneSet,
}

/// A fragment read from the spool, and since when it could have been sent.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) stored: StoredFragment,
    pub(super) since: Instant,
}

/// How much one request may carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLimits {
    /// Samples and histograms.
    pub(super) values: u64,
    /// Bytes before compression.
    pub(super) raw_bytes: usize,
}

#[derive(Debug)]
struct LaneBytes([usize; Lane::COUNT]);

impl Default for LaneBytes {
    fn default() -> Self {
        Self([0; Lane::COUNT])
    }
}

impl Queue {
    pub(super) fn push(&mut self, stored: StoredFragment, since: Instant) {
        if self.abandoned.contains(stored.fragment.lane) {
            return;
        }
        let bytes = stored.fragment.body.len();
        self.waiting_bytes += bytes;
        self.waiting_values += stored.fragment.counts.values();
        self.lane_bytes.0[stored.fragment.lane.index()] += bytes;
        self.waiting.push_back(Waiting { stored, since });
    }

    /// Bytes held: waiting and in flight.
    pub(super) fn bytes(&self) -> usize {
        self.waiting_bytes + self.busy_bytes
    }

    /// Samples and histograms that are read and not in flight.
    pub(super) const fn waiting_values(&self) -> u64 {
        self.waiting_values
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.busy == self.abandoned
    }

    /// All lanes but those that are abandoned.
    pub(super) fn lanes(&self) -> LaneSet {
        Lane::all().filter(|lane| !self.abandoned.contains(*lane)).collect()
    }

    /// How many lanes nothing is sent of any more.
    pub(super) fn abandoned_lanes(&self) -> usize {
        self.abandoned.iter().count()
    }

    /// Lanes that hold less than `lane_limit` bytes: the ones worth reading more of.
    pub(super) fn lanes_with_room(&self, lane_limit: usize) -> LaneSet {
        self.lanes().iter().filter(|lane| self.lane_bytes.0[lane.index()] < lane_limit).collect()
    }

    /// When the next request is due: at once when enough waits in idle lanes for a full one, else when the
    /// oldest of it has waited for `deadline`. `None` while nothing waits in an idle lane.
    pub(super) fn due(&self, limits: RequestLimits, deadline: std::time::Duration) -> Option<Due> {
        let mut counts = Counts::default();
        let mut raw_bytes = 0;
        let mut oldest: Option<Instant> = None;
        for waiting in self.waiting.iter().filter(|w| !self.busy.contains(w.stored.fragment.lane)) {
            counts += waiting.stored.fragment.counts;
            raw_bytes += waiting.stored.fragment.raw_len as usize;
            oldest = Some(oldest.map_or(waiting.since, |oldest| oldest.min(waiting.since)));
            if counts.values() >= limits.values || raw_bytes >= limits.raw_bytes {
                return Some(Due::Now);
            }
        }
        oldest.map(|oldest| Due::At(oldest + deadline))
    }

    /// Takes the next request's fragments and makes their lanes busy. A fragment beyond the limits still
    /// goes, alone.
    pub(super) fn take(&mut self, limits: RequestLimits) -> Vec<StoredFragment> {
        let mut taken = Vec::new();
        let mut lanes = LaneSet::EMPTY;
        let mut passed = self.busy;
        let (mut values, mut raw_bytes) = (0, 0);
        let mut at = 0;
        while at < self.waiting.len() {
            let fragment = &self.waiting[at].stored.fragment;
            let (lane, fragment_raw) = (fragment.lane, fragment.raw_len as usize);
            let fits = values + fragment.counts.values() <= limits.values
                && raw_bytes + fragment_raw <= limits.raw_bytes;
            let same_protocol = taken
                .first()
                .is_none_or(|first: &StoredFragment| first.fragment.protocol == fragment.protocol);
            if passed.contains(lane) || !(taken.is_empty() || (fits && same_protocol)) {
                // What stays behind holds its whole lane back.
                passed.insert(lane);
                at += 1;
                if passed == LaneSet::ALL || values >= limits.values {
                    break;
                }
                continue;
            }
            values += fragment.counts.values();
            raw_bytes += fragment_raw;
            lanes.insert(lane);
            if let Some(waiting) = self.waiting.remove(at) {
                let bytes = waiting.stored.fragment.body.len();
                self.waiting_bytes -= bytes;
                self.waiting_values -= waiting.stored.fragment.counts.values();
                self.busy_bytes += bytes;
                taken.push(waiting.stored);
            }
        }
        for lane in lanes.iter() {
            self.busy.insert(lane);
        }
        taken
    }

    /// Frees the lanes of a request whose fragments are decided and recorded.
    pub(super) fn settled(&mut self, fragments: impl IntoIterator<Item = (Lane, usize)>) {
        for (lane, bytes) in fragments {
            self.busy.remove(lane);
            self.busy_bytes -= bytes;
            self.lane_bytes.0[lane.index()] -= bytes;
        }
    }

    /// What became of a request of these fragments will never be known. Nothing of their lanes may overtake it:
    /// they stay busy, and what is held of them is given back. It is in the spool.
    pub(super) fn abandon(&mut self, fragments: impl IntoIterator<Item = (Lane, usize)>) {
        for (lane, bytes) in fragments {
            self.abandoned.insert(lane);
            self.busy_bytes -= bytes;
            self.lane_bytes.0[lane.index()] -= bytes;
        }
        let Self { waiting, abandoned, waiting_bytes, waiting_values, lane_bytes, .. } = self;
        waiting.retain(|Waiting { stored: StoredFragment { fragment, .. }, .. }| {
            let keep = !abandoned.contains(fragment.lane);
            if !keep {
                *waiting_bytes -= fragment.body.len();
                *waiting_values -= fragment.counts.values();
                lane_bytes.0[fragment.lane.index()] -= fragment.body.len();
            }
            keep
        });
    }
}

/// When a request is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Position;
    use crate::{Compression, Fragment, Protocol};
    use promferry_model::Timestamp;
    use std::time::Duration;

    const LIMITS: RequestLimits = RequestLimits { values: 1000, raw_bytes: 100_000 };
    const DEADLINE: Duration = Duration::from_secs(5);

    fn fragment(lane: u8, samples: u64, at: i64) -> StoredFragment {
        let at = Timestamp::from_millis(at);
        let fragment = Fragment {
            lane: Lane::new(lane).unwrap(),
            protocol: Protocol::V1,
            compression: Compression::None,
            counts: Counts { samples, ..Counts::default() },
            raw_len: 10 * samples as u32,
            min_timestamp: at,
            max_timestamp: at,
            body: vec![0; samples as usize].into(),
        };
        StoredFragment { position: Position::default(), fragment }
    }

    fn queue(fragments: &[(u8, u64)], since: Instant) -> Queue {
        let mut queue = Queue::default();
        for (at, &(lane, samples)) in fragments.iter().enumerate() {
            queue.push(fragment(lane, samples, at as i64), since);
        }
        queue
    }

    fn take(queue: &mut Queue) -> Vec<(usize, i64)> {
        let taken = queue.take(LIMITS);
        taken.iter().map(|s| (s.fragment.lane.index(), s.fragment.min_timestamp.as_millis())).collect()
    }

    #[test]
    fn a_request_takes_what_fits_and_never_passes_a_lane_by() {
        let mut queue = queue(&[(1, 600), (2, 300), (1, 500), (3, 100), (1, 10)], Instant::now());
        assert_eq!(take(&mut queue), [(1, 0), (2, 1), (3, 3)]);
        assert_eq!(take(&mut queue), [], "lane 1 is in flight");
        assert_eq!(queue.waiting_values(), 510);
        queue.settled([(Lane::new(1).unwrap(), 600)]);
        assert_eq!(take(&mut queue), [(1, 2), (1, 4)]);
        assert_eq!(queue.bytes(), 300 + 100 + 510);
    }

    #[test]
    fn a_fragment_beyond_the_limits_goes_alone() {
        let mut queue = queue(&[(1, 5000), (2, 1)], Instant::now());
        assert_eq!(take(&mut queue), [(1, 0)]);
        assert_eq!(take(&mut queue), [(2, 1)]);
    }

    #[test]
    fn what_is_abandoned_holds_up_its_own_lanes_alone() {
        let mut queue = queue(&[(1, 600), (2, 300), (1, 500), (3, 500)], Instant::now());
        assert_eq!(take(&mut queue), [(1, 0), (2, 1)]);
        queue.abandon([(1, 600), (2, 300)].map(|(lane, bytes)| (Lane::new(lane).unwrap(), bytes)));
        assert_eq!((queue.bytes(), queue.waiting_values()), (500, 500));
        queue.push(fragment(2, 100, 9), Instant::now());
        assert_eq!(take(&mut queue), [(3, 3)], "lane 2 was being read");
        assert_eq!(queue.bytes(), 500);
        queue.settled([(Lane::new(3).unwrap(), 500)]);
        assert!(queue.is_idle() && queue.bytes() == 0);
        assert!(
            queue.lanes_with_room(1000) == queue.lanes() && !queue.lanes().contains(Lane::new(1).unwrap())
        );
    }

    #[test]
    fn a_request_is_due_when_full_or_when_its_oldest_part_has_waited() {
        let since = Instant::now();
        let mut queue = queue(&[(1, 400), (2, 400)], since);
        assert_eq!(queue.due(LIMITS, DEADLINE), Some(Due::At(since + DEADLINE)));
        queue.push(fragment(3, 200, 9), since + DEADLINE);
        assert_eq!(queue.due(LIMITS, DEADLINE), Some(Due::Now));
        queue.take(LIMITS);
        assert_eq!(queue.due(LIMITS, DEADLINE), None);
        assert!(!queue.is_idle());
        queue.settled([(1, 400), (2, 400), (3, 200)].map(|(lane, bytes)| (Lane::new(lane).unwrap(), bytes)));
        assert!(queue.is_idle() && queue.bytes() == 0 && queue.lanes_with_room(1) == LaneSet::ALL);
    }
}
