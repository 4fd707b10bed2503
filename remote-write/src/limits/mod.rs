//! What one endpoint takes and what it does not: lasting limits, and series that are refused whatever they hold.
//!
//! A limit of active series concerns new series only, but the endpoint answers with it to whole requests. So
//! from the second such answer on requests are sorted by series, by what [`Limits`] knows:
//!
//! - *accepted before*: they go on at full rate;
//! - *unknown*: they are tested in requests of their own, as long as tests succeed now and then;
//! - *parked*: their samples go to the endpoint's parked queue on disk, and later ones join them there, until a
//!   probe shows that the endpoint takes them;
//! - *held out*: refused for what they are, and dropped unsent for ten minutes.
//!
//! While nothing of that happens the cost is a set of fingerprints, to which a series is added when its first
//! fragment is delivered: fragments without a first sample are not looked into.

mod held;
mod limit;
mod parked;
mod series_set;
mod stats;
mod trial;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promferry_model::{Clock, MemoryBudget, Purpose, Reservation};

use crate::encode::{EncodingContext, FragmentError, for_each_fingerprint, sort};
use crate::refusal::Refusal;
use crate::spool::Reason;
use crate::{Counts, Fragment, Lane};
pub(crate) use held::ProbeTurn;
use held::{HeldOut, Hold};
use limit::Limit;
use parked::ParkedSeries;
pub(crate) use parked::SLOTS;
use series_set::SeriesSet;
pub use stats::LimitsSnapshot;
pub(crate) use stats::LimitsStats;
use trial::Trial;

/// How long things take; what tests make shorter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitsOptions {
    /// From one probe of parked series to the next.
    pub(crate) probe_interval: Duration,
    /// What is parked for longer is dropped.
    pub(crate) max_parked_age: Duration,
    /// How long a refused series is held out.
    pub(crate) hold_out: Duration,
}

/// Where samples come from that are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the endpoint's own queue.
    Queue,
    /// From its parked queue.
    Parked,
}

/// A fragment by what is to be done with its series.
#[derive(Debug, Default)]
pub(crate) struct Sorting {
    /// To be sent.
    pub(crate) go: Option<Fragment>,
    /// To be sent in a request of its own: the endpoint may not take it.
    pub(crate) test: Option<Fragment>,
    /// To be sent once, in a request of its own: series whose time of being held out is over.
    pub(crate) probe: Option<Fragment>,
    /// For the parked queue; their lanes are that queue's.
    pub(crate) parked: Vec<Fragment>,
    /// Held out, or for a parked queue that has too many series already.
    pub(crate) dropped: Vec<(Reason, Counts)>,
}

/// See the [module](self).
pub(crate) struct Limits {
    options: LimitsOptions,
    clock: Arc<dyn Clock>,
    context: Arc<EncodingContext>,
    budget: MemoryBudget,
    stats: Arc<LimitsStats>,
    /// Whether requests have to be sorted.
    sorting: AtomicBool,
    /// Whether the set of accepted series is being filled anew.
    relearning: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    accepted: SeriesSet,
    /// What was accepted before the set was begun anew, and until when it counts.
    accepted_earlier: Option<(SeriesSet, Duration)>,
    memory: Option<Reservation>,
    held: HeldOut,
    parked: ParkedSeries,
    limit: Option<Limit>,
    /// Tests of what comes from the endpoint's own queue.
    queue: Trial,
    /// Tests of what this pass finds in the parked queue.
    pass: Trial,
}

/// Series that the set of accepted ones may hold beyond twice the active ones before it is begun anew.
const FORGET_SLACK: usize = 20_000;
/// How long a new set is filled beside the old one; longer than nearly every scrape interval.
const RELEARN: Duration = Duration::from_secs(600);
/// Memory is reserved in steps, so that not every series goes to the shared budget.
const RESERVE_STEP: usize = 64 * 1024;

/// Classes of [`sort`]; what is dropped has one for each reason, from [`DROPPED`] on.
const GO: usize = 0;
const TEST: usize = 1;
const PROBE: usize = 2;
const PARKED: usize = 3;
const DROPPED: usize = PARKED + SLOTS;

impl Limits {
    pub(crate) fn new(
        options: LimitsOptions,
        clock: Arc<dyn Clock>,
        context: Arc<EncodingContext>,
        budget: MemoryBudget,
        stats: Arc<LimitsStats>,
    ) -> Self {
        Self {
            options,
            clock,
            context,
            budget,
            stats,
            sorting: false.into(),
            relearning: false.into(),
            state: Mutex::default(),
        }
    }

    /// Learns for a while which series the endpoint takes from all that is delivered: their first samples went before
    /// this began.
    pub(crate) fn learn_anew(&self) {
        let until = self.clock.monotonic() + RELEARN;
        self.lock().accepted_earlier = Some((SeriesSet::default(), until));
        self.relearning.store(true, Ordering::Relaxed);
    }

    pub(crate) const fn options(&self) -> &LimitsOptions {
        &self.options
    }

    /// Whether requests have to be sorted before they are sent.
    pub(crate) fn is_sorting(&self) -> bool {
        self.sorting.load(Ordering::Relaxed)
    }

    /// Whether a lasting limit is known to be in force.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_sorting() && self.lock().limit.is_some()
    }

    /// Under what parked samples are dropped.
    pub(crate) fn reason(&self) -> Reason {
        self.lock().reason()
    }

    /// A request was answered with a lasting limit.
    pub(crate) fn limited(&self, refusal: &Refusal) {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        match &mut state.limit {
            Some(limit) => limit.answered(now, refusal),
            None => {
                state.queue = Trial::default();
                state.limit = Some(Limit::new(now, refusal));
            }
        }
        self.show(&state);
        self.sorting.store(true, Ordering::Relaxed);
    }

    /// A request is about to be sorted.
    pub(crate) fn begin_request(&self) -> ProbeTurn {
        self.lock().held.begin_request()
    }

    /// What is to be done with each series of a fragment of a request.
    pub(crate) fn sort(
        &self,
        way: Way,
        fragment: &Fragment,
        turn: &mut ProbeTurn,
    ) -> Result<Sorting, FragmentError> {
        let now = self.clock.monotonic();
        let mut guard = self.lock();
        let state = &mut *guard;
        state.refill(now, self.options.probe_interval);
        let slot = fragment.lane.index() % SLOTS;
        let mut reasons: Vec<Reason> = Vec::new();
        let mut class_of = |reason: Reason| {
            let at = reasons.iter().position(|known| *known == reason).unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            DROPPED + at
        };
        let mut held_out = 0;
        let mut coming = Vec::new();
        let sorted = sort(fragment, |series| {
            let fingerprint = series.fingerprint;
            if way == Way::Parked {
                return state.sort_parked(fingerprint, slot, series.labels);
            }
            if let Some(slot) = state.parked.add(fingerprint) {
                coming.push(fingerprint);
                return PARKED + slot;
            }
            match state.held.judge(now, fingerprint, turn) {
                Hold::Not => {}
                Hold::Probe => return PROBE,
                Hold::Drop(reason) => {
                    held_out += series.counts.values();
                    return class_of(reason);
                }
            }
            let Some(limit) = &state.limit else { return GO };
            if state.accepted(fingerprint) || !limit.is_about(series.labels) {
                GO
            } else if state.queue.may_test() {
                TEST
            } else if let Some(slot) = state.parked.begin(fingerprint, slot, series.labels) {
                coming.push(fingerprint);
                PARKED + slot
            } else {
                class_of(limit.reason().clone())
            }
        });
        let sorted = sorted.inspect_err(|_| {
            for fingerprint in coming {
                state.parked.arrived(fingerprint, false);
            }
        })?;
        let mut sorting = Sorting::default();
        for (class, part) in sorted.into_parts() {
            match class {
                GO => sorting.go = Some(part),
                TEST => sorting.test = Some(part),
                PROBE => sorting.probe = Some(part),
                parked if parked < DROPPED => sorting.parked.push(in_slot(part, parked - PARKED)),
                dropped => {
                    let reason = reasons.get(dropped - DROPPED).cloned();
                    sorting.dropped.extend(reason.map(|reason| (reason, part.counts)));
                }
            }
        }
        self.stats.count_held_out(held_out);
        self.show(&guard);
        Ok(sorting)
    }

    /// How many series the next test should have.
    pub(crate) fn test_size(&self, way: Way) -> usize {
        self.lock().trial(way).size()
    }

    /// A test of `series` series was taken, or not.
    pub(crate) fn tested(&self, way: Way, series: usize, taken: bool) {
        self.stats.count_test(taken);
        let mut state = self.lock();
        state.trial(way).tested(series, taken);
        if way == Way::Parked && taken {
            // There may be room for others, too.
            state.queue.earn();
        }
    }

    /// Whether another test is worth a request.
    pub(crate) fn may_test(&self, way: Way) -> bool {
        self.lock().trial(way).may_test()
    }

    /// What is believed of one of a request's series at least does not hold: the endpoint does not take it.
    pub(crate) fn doubt<'a>(&self, way: Way, request: impl Iterator<Item = &'a Fragment>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let (mut series, mut largest) = (0, 0);
        let mut is_about_one = false;
        for fragment in request {
            let before = series;
            let _ = for_each_fingerprint(fragment, |one| {
                series += 1;
                is_about_one |= state.limit.as_ref().is_some_and(|limit| limit.is_about(one.labels));
                match way {
                    Way::Queue => state.forget(one.fingerprint),
                    Way::Parked => state.parked.demote(one.fingerprint),
                }
            });
            largest = largest.max(series - before);
        }
        state.trial(way).divide(largest);
        if let Some(limit) = state.limit.as_mut().filter(|_| way == Way::Queue && !is_about_one) {
            limit.disregard_names();
        }
    }

    /// The endpoint does not take these series now: what is to be parked and what is too much for that.
    pub(crate) fn park(&self, way: Way, fragment: &Fragment) -> Result<Sorting, FragmentError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let slot = fragment.lane.index() % SLOTS;
        let mut coming = Vec::new();
        let sorted = sort(fragment, |series| {
            let fingerprint = series.fingerprint;
            if way == Way::Parked {
                state.parked.refuse(fingerprint);
                return slot;
            }
            state.forget(fingerprint);
            let parked = state.parked.add(fingerprint);
            let parked = parked.or_else(|| state.parked.begin(fingerprint, slot, series.labels));
            coming.extend(parked.map(|_| fingerprint));
            parked.unwrap_or(SLOTS)
        });
        let sorted = sorted.inspect_err(|_| {
            for fingerprint in coming {
                state.parked.arrived(fingerprint, false);
            }
        })?;
        let mut sorting = Sorting::default();
        for (slot, part) in sorted.into_parts() {
            match slot {
                SLOTS => sorting.dropped.push((state.reason(), part.counts)),
                slot => sorting.parked.push(in_slot(part, slot)),
            }
        }
        self.sorting.store(true, Ordering::Relaxed);
        self.reserve(state);
        self.show(&guard);
        Ok(sorting)
    }

    /// What was sorted out for the parked queue, or [parked](Self::park), from the endpoint's own queue is there
    /// now, or could not be stored.
    pub(crate) fn parked(&self, fragments: &[Fragment], stored: bool) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for fragment in fragments {
            let _ = for_each_fingerprint(fragment, |series| {
                if state.parked.arrived(series.fingerprint, stored) {
                    state.accepted.insert(series.fingerprint);
                }
            });
        }
        self.reserve(state);
        self.settle_down(state);
    }

    /// The endpoint took this fragment: its series are known to it.
    pub(crate) fn delivered(&self, way: Way, fragment: &Fragment) {
        let looks = self.is_sorting() || self.relearning.load(Ordering::Relaxed);
        let first = fragment.max_timestamp <= self.context.newest_first_sample(fragment.lane);
        if way == Way::Queue && !looks && !first {
            return;
        }
        let now = self.clock.monotonic();
        let mut guard = self.lock();
        let state = &mut *guard;
        // It was sent, so it can be read.
        let _ = for_each_fingerprint(fragment, |series| {
            if way == Way::Parked {
                state.parked.promote(series.fingerprint);
            } else if state.accepted_earlier.is_some() || !state.accepted(series.fingerprint) {
                state.accepted.insert(series.fingerprint);
            }
        });
        self.forget_departed(state, now);
        self.reserve(state);
        self.show(&guard);
    }

    /// A series was refused for what it is.
    pub(crate) fn hold_out(&self, fingerprint: u64, reason: &Reason) {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        state.held.hold(now, self.options.hold_out, fingerprint, reason);
        self.show(&state);
        self.sorting.store(true, Ordering::Relaxed);
    }

    /// A probe of held-out series was taken, or refused without a name.
    pub(crate) fn probed_held(&self, fragments: &[Fragment], taken: bool) {
        let mut state = self.lock();
        let mut series = 0;
        for fragment in fragments {
            let _ = for_each_fingerprint(fragment, |probed| {
                series += 1;
                if taken {
                    state.held.release(probed.fingerprint);
                }
            });
        }
        if taken {
            state.held.probe_accepted();
        } else {
            state.held.probe_refused(series);
        }
        self.settle_down(&mut state);
    }

    /// What an earlier run parked.
    pub(crate) fn found_parked(&self, fragment: &Fragment) -> Result<(), FragmentError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let slot = fragment.lane.index() % SLOTS;
        let found = for_each_fingerprint(fragment, |series| {
            if state.parked.add(series.fingerprint).is_some() {
                state.parked.arrived(series.fingerprint, true);
            } else {
                state.parked.find(series.fingerprint, slot, series.labels);
            }
        });
        self.sorting.store(true, Ordering::Relaxed);
        self.reserve(state);
        self.show(&guard);
        found
    }

    /// Begins a pass over the parked queue as it is now: each series is tested anew, or, where `tests` is false,
    /// only what is taken by now is taken out.
    pub(crate) fn begin_pass(&self, tests: bool) {
        let mut state = self.lock();
        state.parked.begin_pass();
        state.pass = Trial::of_pass(tests);
    }

    /// The pass has read all of these slots.
    pub(crate) fn end_pass(&self, slots: Range<usize>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for fingerprint in state.parked.end_pass(slots) {
            state.accepted.insert(fingerprint);
        }
        self.settle_down(state);
    }

    /// Whether there are parked series that the endpoint takes by now.
    pub(crate) fn has_promoted(&self) -> bool {
        self.lock().parked.has_promoted()
    }

    /// How many tests of this pass were taken.
    pub(crate) fn tests_taken_in_pass(&self) -> u64 {
        self.lock().pass.taken()
    }

    /// What was fetched from the parked queue is decided, and `rest` of it is parked again. Series of which
    /// nothing is parked any more go their ordinary way.
    pub(crate) fn unparked(&self, fetched: &[Fragment], rest: &[Fragment]) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for fragment in rest {
            let _ = for_each_fingerprint(fragment, |series| state.parked.stay(series.fingerprint));
        }
        for fragment in fetched {
            let _ = for_each_fingerprint(fragment, |series| {
                if state.parked.remove(series.fingerprint) {
                    state.accepted.insert(series.fingerprint);
                }
            });
        }
        self.settle_down(state);
    }

    /// How many series are parked.
    pub(crate) fn parked_series(&self) -> usize {
        self.lock().parked.len()
    }

    /// Counts a probe of the parked queue.
    pub(crate) fn count_probe(&self, taken: bool) {
        self.stats.count_probe(taken);
    }

    /// The jobs and metrics with the most parked series.
    pub(crate) fn most_parked(&self) -> Vec<(String, u64)> {
        self.lock().parked.most(3)
    }

    /// Ends what is over.
    pub(crate) fn tick(&self) {
        let mut state = self.lock();
        self.settle_down(&mut state);
    }

    fn settle_down(&self, state: &mut State) {
        let now = self.clock.monotonic();
        let quiet = 2 * self.options.probe_interval;
        state.held.forget_departed(now);
        if state.parked.is_empty() && state.limit.as_ref().is_some_and(|limit| limit.is_quiet(now, quiet)) {
            state.limit = None;
        }
        let sorting = state.limit.is_some() || !state.held.is_empty() || !state.parked.is_empty();
        self.sorting.store(sorting, Ordering::Relaxed);
        self.show(state);
    }

    /// Series come and go; once most of those in the set have gone it is begun anew, and for a while both
    /// count.
    fn forget_departed(&self, state: &mut State, now: Duration) {
        state.accepted_earlier.take_if(|(_, until)| now >= *until);
        let active = self.context.active_series();
        if state.accepted_earlier.is_none() && state.accepted.len() > 2 * active + FORGET_SLACK {
            state.accepted_earlier = Some((std::mem::take(&mut state.accepted), now + RELEARN));
        }
        self.relearning.store(state.accepted_earlier.is_some(), Ordering::Relaxed);
    }

    fn reserve(&self, state: &mut State) {
        let earlier = state.accepted_earlier.as_ref().map_or(0, |(set, _)| set.memory_bytes());
        let bytes = state.accepted.memory_bytes() + earlier + state.parked.memory_bytes();
        let bytes = bytes.next_multiple_of(RESERVE_STEP);
        // What can't be reserved is had all the same: it is small beside the series themselves.
        match &mut state.memory {
            Some(memory) if memory.bytes() == bytes => {}
            Some(memory) => drop(memory.resize(bytes)),
            None => state.memory = self.budget.try_reserve(Purpose::Series, bytes).ok(),
        }
    }

    fn show(&self, state: &State) {
        self.stats.show(
            state.limit.as_ref().map(|limit| limit.reason().clone()),
            [state.accepted.len(), state.parked.len(), state.held.len()],
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is to be done with a series of the parked queue.
    fn sort_parked(&mut self, fingerprint: u64, slot: usize, labels: &[(&str, &str)]) -> usize {
        if !self.parked.find(fingerprint, slot, labels) {
            // Without an account of it nobody would see that one of its samples was left behind.
            return PARKED + slot;
        }
        // Its later samples must not get ahead of one that this pass left behind, whatever became of it since.
        if self.parked.is_refused(fingerprint) {
            PARKED + slot
        } else if self.parked.is_promoted(fingerprint) {
            GO
        } else if self.pass.may_test() {
            TEST
        } else {
            self.parked.refuse(fingerprint);
            PARKED + slot
        }
    }

    fn trial(&mut self, way: Way) -> &mut Trial {
        match way {
            Way::Queue => &mut self.queue,
            Way::Parked => &mut self.pass,
        }
    }

    /// Under what parked samples are dropped.
    fn reason(&self) -> Reason {
        let known = self.limit.as_ref().map(|limit| limit.reason().clone());
        known.unwrap_or_else(|| Reason::new("per_user_series_limit"))
    }

    fn accepted(&self, fingerprint: u64) -> bool {
        self.accepted.contains(fingerprint)
            || self.accepted_earlier.as_ref().is_some_and(|(set, _)| set.contains(fingerprint))
    }

    fn forget(&mut self, fingerprint: u64) {
        self.accepted.remove(fingerprint);
        if let Some((earlier, _)) = &mut self.accepted_earlier {
            earlier.remove(fingerprint);
        }
    }

    /// A limit of some series leaves others free, which only tests can find out: one now and then stays
    /// possible.
    fn refill(&mut self, now: Duration, probe_interval: Duration) {
        if self.limit.as_mut().is_some_and(|limit| limit.leaves_room_for_a_test(now, probe_interval / 6)) {
            self.queue.allow_one();
        }
    }
}

/// The fragment as it stands in the parked queue.
fn in_slot(fragment: Fragment, slot: usize) -> Fragment {
    let lane = Lane::new(slot as u8).unwrap_or(fragment.lane);
    Fragment { lane, ..fragment }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pass_left_behind_is_not_overtaken_by_what_is_taken_later_in_it() {
        let labels = [("__name__", "m")];
        let mut state = State { pass: Trial::of_pass(true), ..State::default() };
        assert_eq!(state.sort_parked(7, 3, &labels), TEST);
        // Tests of others fail meanwhile, and the series' second sample is left behind untested.
        for _ in 0..64 {
            state.pass.tested(1, false);
        }
        assert_eq!(state.sort_parked(7, 3, &labels), PARKED + 3);
        // Then the first one is taken after all.
        state.parked.promote(7);
        assert_eq!(state.sort_parked(7, 3, &labels), PARKED + 3);
        state.parked.begin_pass();
        assert_eq!(state.sort_parked(7, 3, &labels), GO);
    }
}
