mod trim;

use std::ops::{AddAssign, Range};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::limited::by_lane;
use super::request::{Phase, Probed, Sender, Settlement};
use crate::encode::{for_each_fingerprint, sort};
use crate::limits::{SLOTS, Way};
use crate::spool::{EndpointId, Position, Reason, Spool, SpoolError, StoredFragment};
use crate::{Counts, Fragment, Lane, LaneSet};

/// What becomes of an endpoint's parked queue: it is probed, drained in order as far as the endpoint takes it
/// again, and what is in it for too long is dropped.
///
/// A slot of the queue has three lanes. New samples take the first. A *pass* reads the slot from its oldest
/// sample on up to what is there when it comes to the new ones, delivers what the endpoint takes and parks the
/// rest again, in one of the other two lanes and in order; the next pass reads that lane before the first one,
/// and parks what it leaves in the third. When a pass is interrupted both hold something: the one that was being
/// filled has the later positions, and what is in it comes before what is left in the other. Before anything
/// else is read of such a slot that pass is finished, without sending anything.
#[derive(Clone)]
pub(super) struct ParkedLoop {
    pub(super) spool: Spool,
    /// The endpoint.
    pub(super) id: EndpointId,
    pub(super) sender: Arc<Sender>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Its parked queue, once there is one.
    pub(super) queue: Option<EndpointId>,
    pub(super) ahead: SentAhead,
}

/// What a probe delivered ahead of its place in the queue. It outlives a delivery that is handed over.
pub(crate) type SentAhead = Arc<Mutex<Option<Ahead>>>;

/// A sample that was delivered ahead of its place: where it stands, and its series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    position: Position,
    fingerprint: u64,
}

/// The bank of lanes that take new samples, and those that take what passes leave.
const NEW: usize = 0;
const LEFT: [usize; 2] = [1, 2];
/// Bytes that are read at once.
const WINDOW_BYTES: usize = 256 * 1024;
/// A pass reads slots in so many groups at once, each with one request in flight.
const GROUPS: usize = 4;
const GROUP_SLOTS: usize = SLOTS / GROUPS;
/// Parts of the probe interval: after the first refused probe and for what a drained queue got meanwhile, for
/// looking after age, for looking at all, and how long to try to read the queue at the start.
const FIRST_PAUSE: u32 = 12;
const AGE_CHECK: u32 = 6;
const SETTLE: u32 = 60;
const LOAD: u32 = 4;

/// A pass of which less than this part was delivered is not followed by another at once: to read and store all of
/// the queue again for the little room that idle series leave would take all of a small CPU, for as long as the limit
/// is in force.
const WORTHWHILE_PART: u64 = 8;

/// Why work at the queue ended early. What was in hand is in the queue still.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("delivery was stopped")]
    Stopped,
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("a part of it can't be read for now")]
    Unreadable,
}

/// What a pass came to, in samples and histograms.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    read: u64,
    delivered: u64,
}

impl AddAssign for Passed {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.delivered += other.delivered;
    }
}

/// The lanes of a slot.
struct SlotLanes {
    /// What the pass before left.
    older: Lane,
    /// New samples.
    newer: Lane,
    /// For what this pass leaves.
    rest: Lane,
}

impl ParkedLoop {
    /// Finds out what earlier runs parked. Has to be done before anything is delivered: what comes now has to
    /// wait behind it. Says whether that was done; delivery was stopped before otherwise.
    pub(super) async fn load(&mut self) -> bool {
        let mut phase = self.phase.clone();
        tokio::select! {
            () = self.load_patiently() => true,
            _ = phase.wait_for(|phase| *phase >= Phase::HandingOver) => false,
        }
    }

    /// Runs until the phase says stop. A panic ends what was being done, and that is begun again.
    pub(super) async fn run(self) {
        loop {
            // What is in it ends with this future.
            let mut task = JoinSet::new();
            task.spawn(self.clone().work());
            let Some(Err(error)) = task.join_next().await else { return };
            tracing::error!("{}: the work at what is parked failed: {error}", self.sender.endpoint);
            tokio::time::sleep(self.interval()).await;
        }
    }

    async fn work(mut self) {
        let interval = self.interval();
        let mut phase = self.phase.clone();
        let mut pause = interval / FIRST_PAUSE;
        let mut next_probe = Instant::now() + pause;
        let mut next_drain = next_probe;
        let mut next_age_check = Instant::now();
        let mut was_interrupted = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval / SETTLE) => {}
                _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
            }
            self.sender.limits.tick();
            let worked = async {
                let Some(queue) = self.find_queue().await? else { return Ok(()) };
                if was_interrupted {
                    self.rewind(queue, LaneSet::ALL).await?;
                }
                if self.is_empty(queue).await? {
                    pause = interval / FIRST_PAUSE;
                    next_probe = Instant::now() + pause;
                    return Ok(());
                }
                let now = Instant::now();
                if now >= next_age_check {
                    next_age_check = now + interval / AGE_CHECK;
                    self.drop_old(queue).await?;
                }
                if now >= next_probe {
                    let probed = self.probe(queue).await?;
                    pause = match probed {
                        Some(Probed::Taken) => interval / FIRST_PAUSE,
                        _ => (2 * pause).min(interval),
                    };
                    match probed {
                        Some(Probed::Limited) => self.say(),
                        Some(Probed::Taken | Probed::Refused) => self.drain(queue).await?,
                        None => {}
                    }
                    next_probe = Instant::now() + pause.max(rest_after(now, interval));
                } else if now >= next_drain && self.sender.limits.has_promoted() {
                    // What was on its way to the queue while that was drained.
                    self.pass(queue, false).await?;
                    next_drain = Instant::now() + (interval / FIRST_PAUSE).max(rest_after(now, interval));
                }
                Ok::<(), Interrupted>(())
            };
            let worked = worked.await;
            was_interrupted = worked.is_err();
            match worked {
                Ok(()) => {}
                Err(Interrupted::Stopped) => return,
                Err(error) => {
                    // Begun again at once it would be interrupted as soon, for as long as a disk is in trouble.
                    pause = (2 * pause).min(interval);
                    next_probe = Instant::now() + pause;
                    next_drain = next_probe;
                    self.say_interrupted(&error);
                }
            }
        }
    }

    async fn load_patiently(&mut self) {
        let pause = self.interval() / SETTLE;
        let end = Instant::now() + self.interval() / LOAD;
        while let Err(error) = self.try_load().await {
            self.say_interrupted(&error);
            if Instant::now() >= end {
                // The others don't wait for it any longer. What is overtaken is refused as out of order.
                tracing::error!("{}: what is parked can't be read: {error}", self.sender.endpoint);
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn try_load(&mut self) -> Result<(), Interrupted> {
        self.queue = self.spool.parked(self.id).await?;
        let Some(queue) = self.queue else { return Ok(()) };
        loop {
            let fetched = self.fetch(queue, LaneSet::ALL).await?;
            if fetched.is_empty() {
                break;
            }
            for stored in &fetched {
                // What can't be read has no series; it is dropped when its turn comes.
                let _ = self.sender.limits.found_parked(&stored.fragment);
            }
        }
        self.rewind(queue, LaneSet::ALL).await
    }

    async fn find_queue(&mut self) -> Result<Option<EndpointId>, Interrupted> {
        if self.queue.is_none() && self.sender.limits.parked_series() > 0 {
            self.queue = self.spool.parked(self.id).await?;
        }
        Ok(self.queue)
    }

    /// Whether nothing is in the queue. Then nothing is in the account but what is on its way.
    async fn is_empty(&self, queue: EndpointId) -> Result<bool, Interrupted> {
        let limits = &self.sender.limits;
        if !self.spool.backlog(queue).await?.lanes.is_empty() {
            return Ok(false);
        }
        if limits.parked_series() > 0 {
            limits.begin_pass(false);
            if !self.spool.backlog(queue).await?.lanes.is_empty() {
                return Ok(false);
            }
            limits.end_pass(0..SLOTS);
        }
        Ok(true)
    }

    /// Sends one parked series' oldest sample.
    async fn probe(&self, queue: EndpointId) -> Result<Option<Probed>, Interrupted> {
        let first = (self.random() * SLOTS as f64) as usize;
        for slot in (0..SLOTS).map(|at| (first + at) % SLOTS) {
            let lanes = self.lanes_of(queue, slot).await?;
            for lane in [lanes.older, lanes.newer] {
                let window = self.fetch(queue, only(lane)).await?;
                self.rewind(queue, only(lane)).await?;
                if window.is_empty() {
                    continue;
                }
                self.may_send()?;
                // What can't be read is dropped by a pass.
                let Some((ahead, sample)) = self.choose(&window) else { return Ok(Some(Probed::Refused)) };
                let probed = self.sender.probe(sample).await.ok_or(Interrupted::Stopped)?;
                self.sender.limits.count_probe(probed == Probed::Taken);
                if probed == Probed::Taken {
                    *self.ahead() = Some(ahead);
                }
                return Ok(Some(probed));
            }
        }
        Ok(None)
    }

    /// The oldest sample of one of the series in the window, by chance: each may be under another limit.
    fn choose(&self, window: &[StoredFragment]) -> Option<(Ahead, Fragment)> {
        let at = (self.random() * window.len() as f64) as usize;
        let chance = self.random();
        let mut series = Vec::new();
        for_each_fingerprint(&window.get(at)?.fragment, |one| series.push(one.fingerprint)).ok()?;
        let fingerprint = *series.get((chance * series.len() as f64) as usize)?;
        window.iter().find_map(|stored| {
            let (first, _) = first_of(&stored.fragment, fingerprint)?;
            Some((Ahead { position: stored.position, fingerprint }, first))
        })
    }

    /// Passes over the queue for as long as that finds series that are taken by now.
    async fn drain(&self, queue: EndpointId) -> Result<(), Interrupted> {
        loop {
            let passed = self.pass(queue, true).await?;
            let limits = &self.sender.limits;
            let is_drained = limits.tests_taken_in_pass() == 0 || limits.parked_series() == 0;
            if is_drained || passed.delivered == 0 || passed.delivered < passed.read / WORTHWHILE_PART {
                return Ok(());
            }
        }
    }

    /// Passes once over all slots.
    async fn pass(&self, queue: EndpointId, tests: bool) -> Result<Passed, Interrupted> {
        self.drop_old(queue).await?;
        // What the account has by now is there by now.
        self.sender.limits.begin_pass(tests);
        let group = |at: usize| self.pass_over(queue, at * GROUP_SLOTS..(at + 1) * GROUP_SLOTS);
        let (first, second, third, fourth) = tokio::join!(group(0), group(1), group(2), group(3));
        let mut passed = Passed::default();
        for group in [first?, second?, third?, fourth?] {
            passed += group;
        }
        Ok(passed)
    }

    /// Reads some slots in order, delivers what is taken and parks the rest again.
    async fn pass_over(&self, queue: EndpointId, slots: Range<usize>) -> Result<Passed, Interrupted> {
        let (mut older, mut newer) = (LaneSet::EMPTY, LaneSet::EMPTY);
        let mut rest = Vec::with_capacity(slots.len());
        for slot in slots.clone() {
            let lanes = self.lanes_of(queue, slot).await?;
            older.insert(lanes.older);
            newer.insert(lanes.newer);
            rest.push(lanes.rest);
        }
        let rest_of = |lane: Lane| rest[lane.index() % SLOTS - slots.start];
        let mut passed = self.read_through(queue, older, None, &rest_of, true).await?;
        // What comes from now on is for the next pass: there may be no end of it.
        let end = self.spool.backlog(queue).await?.end;
        passed += self.read_through(queue, newer, Some(end), &rest_of, true).await?;
        self.sender.limits.end_pass(slots);
        Ok(passed)
    }

    /// Reads lanes up to `end`, or to their end, and decides what is in them; without `sends` all of it is
    /// parked again.
    async fn read_through(
        &self,
        queue: EndpointId,
        lanes: LaneSet,
        end: Option<Position>,
        rest_of: &(dyn Fn(Lane) -> Lane + Sync),
        sends: bool,
    ) -> Result<Passed, Interrupted> {
        let mut passed = Passed::default();
        loop {
            let mut fetched = self.fetch(queue, lanes).await?;
            // They are in the order of the log.
            let beyond = fetched.iter().position(|stored| end.is_some_and(|end| stored.position >= end));
            let later = fetched.split_off(beyond.unwrap_or(fetched.len()));
            if fetched.is_empty() && later.is_empty() {
                return Ok(passed);
            }
            let is_full = trim::is_full(&self.spool.backlog(queue).await?);
            let now = self.sender.clock.monotonic();
            let most = (self.sender.size.values(now), self.sender.size.raw_bytes(now) as u64);
            let mut request = Vec::new();
            let (mut values, mut bytes) = (0, 0);
            for stored in fetched {
                let (more, longer) = (stored.fragment.counts.values(), u64::from(stored.fragment.raw_len));
                if !request.is_empty() && (values + more > most.0 || bytes + longer > most.1) {
                    let request = std::mem::take(&mut request);
                    passed += self.decide(queue, request, rest_of, sends, is_full).await?;
                    (values, bytes) = (0, 0);
                }
                (values, bytes) = (values + more, bytes + longer);
                request.push(stored);
            }
            passed += self.decide(queue, request, rest_of, sends, is_full).await?;
            if !later.is_empty() {
                self.rewind(queue, lanes).await?;
                return Ok(passed);
            }
        }
    }

    /// Delivers a request of what is parked, and parks again what is not taken; where the queue `is_full` that
    /// is dropped.
    async fn decide(
        &self,
        queue: EndpointId,
        request: Vec<StoredFragment>,
        rest_of: &(dyn Fn(Lane) -> Lane + Sync),
        sends: bool,
        is_full: bool,
    ) -> Result<Passed, Interrupted> {
        if request.is_empty() {
            return Ok(Passed::default());
        }
        let read = request.iter().map(|stored| stored.fragment.counts.values()).sum();
        let fetched: Vec<Fragment> = request.iter().map(|stored| stored.fragment.clone()).collect();
        let reason = self.sender.limits.reason();
        let mut settlements = Vec::new();
        let request = self.leave_out_what_is_old(request, &reason, &mut settlements);
        let request = self.leave_out_what_went_ahead(request, &mut settlements);
        if !sends {
            settlements.extend(request.into_iter().map(|stored| {
                let mut settlement = settlement_of(&stored);
                settlement.park(vec![stored.fragment]);
                settlement
            }));
        } else if !request.is_empty() {
            self.may_send()?;
            let decided = self.sender.deliver(Way::Parked, request).await;
            settlements.extend(decided.ok_or(Interrupted::Stopped)?);
        }
        if is_full {
            for settlement in &mut settlements {
                settlement.parked.clear();
                for (parked, _) in settlement.dropped.iter_mut().filter(|(why, _)| *why == Reason::PARKED) {
                    *parked = reason.clone();
                }
            }
        }
        let given_up = settlements.iter().flat_map(|settlement| &settlement.dropped);
        let given_up = given_up.filter(|(why, _)| *why == reason).map(|(_, counts)| counts.values()).sum();
        let delivered = settlements.iter().map(|settled| settled.delivered.values()).sum();
        let (settled, mut parked) = by_lane(settlements);
        for fragment in parked.iter_mut().flat_map(|(_, fragments)| fragments) {
            fragment.lane = rest_of(fragment.lane);
        }
        let again: Vec<Fragment> = parked.iter().flat_map(|(_, fragments)| fragments).cloned().collect();
        if again.is_empty() {
            self.spool.settle_all(queue, settled).await?;
        } else {
            self.spool.park(queue, parked, settled).await?;
        }
        self.sender.limits.unparked(&fetched, &again);
        self.say_given_up(given_up, &reason);
        Ok(Passed { read, delivered })
    }

    /// Takes out the sample that was probed with.
    fn leave_out_what_went_ahead(
        &self,
        mut request: Vec<StoredFragment>,
        settlements: &mut Vec<Settlement>,
    ) -> Vec<StoredFragment> {
        let mut known = self.ahead();
        let Some(ahead) = *known else { return request };
        let Some(at) = request.iter().position(|stored| stored.position == ahead.position) else {
            return request;
        };
        *known = None;
        let Some((first, rest)) = first_of(&request[at].fragment, ahead.fingerprint) else { return request };
        settlements.push(Settlement { delivered: first.counts, ..settlement_of(&request[at]) });
        match rest {
            Some(rest) => request[at].fragment = rest,
            None => drop(request.remove(at)),
        }
        request
    }

    /// The lanes of a slot. If a pass over it was interrupted, that is finished first: what it did not come to is
    /// parked behind what it left.
    async fn lanes_of(&self, queue: EndpointId, slot: usize) -> Result<SlotLanes, Interrupted> {
        let lane = |bank| lane(bank, slot);
        let waiting = self.spool.backlog(queue).await?.lanes;
        let (mut older, mut rest) = (lane(LEFT[0]), lane(LEFT[1]));
        match (waiting.contains(older), waiting.contains(rest)) {
            (false, true) => (older, rest) = (rest, older),
            (true, true) => {
                let mut heads = [older, rest].map(|lane| (None, lane));
                for (head, lane) in &mut heads {
                    *head = self.fetch(queue, only(*lane)).await?.first().map(|stored| stored.position);
                    self.rewind(queue, only(*lane)).await?;
                }
                heads.sort();
                let [(_, unread), (_, filled)] = heads;
                self.read_through(queue, only(unread), None, &|_| filled, false).await?;
                (older, rest) = (filled, unread);
            }
            _ => {}
        }
        Ok(SlotLanes { older, newer: lane(NEW), rest })
    }

    /// What is next in these lanes; nothing only if nothing is there.
    async fn fetch(&self, queue: EndpointId, lanes: LaneSet) -> Result<Vec<StoredFragment>, Interrupted> {
        let fetched = self.spool.fetch(queue, lanes, WINDOW_BYTES).await?;
        if fetched.is_empty() {
            let backlog = self.spool.backlog(queue).await?;
            if backlog.reads_are_retried && lanes.iter().any(|lane| backlog.lanes.contains(lane)) {
                return Err(Interrupted::Unreadable);
            }
        }
        Ok(fetched)
    }

    async fn rewind(&self, queue: EndpointId, lanes: LaneSet) -> Result<(), Interrupted> {
        for lane in lanes.iter() {
            self.spool.rewind(queue, lane).await?;
        }
        Ok(())
    }

    /// Whether another request may begin.
    fn may_send(&self) -> Result<(), Interrupted> {
        if *self.phase.borrow() >= Phase::HandingOver { Err(Interrupted::Stopped) } else { Ok(()) }
    }

    fn interval(&self) -> Duration {
        self.sender.limits.options().probe_interval
    }

    fn ahead(&self) -> std::sync::MutexGuard<'_, Option<Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random(&self) -> f64 {
        let mut rng = self.sender.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.next_f64()
    }

    fn most_parked(&self) -> String {
        let most = self.sender.limits.most_parked();
        most.into_iter().map(|(name, series)| format!("{series} {name}")).collect::<Vec<_>>().join(", ")
    }

    fn say(&self) {
        let limits = &self.sender.limits;
        let text = format!(
            "{}: {}: {} series are not taken and parked on disk, most of them {}; the others go on",
            self.sender.endpoint,
            limits.reason(),
            limits.parked_series(),
            self.most_parked()
        );
        self.sender.notices.warn(self.sender.clock.monotonic(), "parked", &text);
    }

    fn say_interrupted(&self, error: &Interrupted) {
        let text = format!("{}: what is parked waits: {error}", self.sender.endpoint);
        self.sender.notices.warn(self.sender.clock.monotonic(), "parked waits", &text);
    }
}

/// How long to leave the queue alone after work that began at `start`: to read and write all of a large one may
/// take long.
fn rest_after(start: Instant, interval: Duration) -> Duration {
    (4 * start.elapsed()).min(interval)
}

/// Nothing of it is decided yet.
fn settlement_of(stored: &StoredFragment) -> Settlement {
    Settlement {
        lane: stored.fragment.lane,
        position: stored.position,
        delivered: Counts::default(),
        dropped: Vec::new(),
        parked: Vec::new(),
    }
}

/// The first sample of the series in a fragment, and what is left of that; `None` where there is none.
fn first_of(fragment: &Fragment, fingerprint: u64) -> Option<(Fragment, Option<Fragment>)> {
    let mut found = false;
    let sorted = sort(fragment, |one| {
        let first = !found && one.fingerprint == fingerprint;
        found |= first;
        usize::from(!first)
    });
    let parts = sorted.ok().filter(|_| found)?.into_parts();
    let mut parts = parts.into_iter().map(|(_, part)| part);
    Some((parts.next()?, parts.next()))
}

/// The slot's lane of a bank.
fn lane(bank: usize, slot: usize) -> Lane {
    Lane::of_hash((bank * SLOTS + slot) as u64)
}

fn only(lane: Lane) -> LaneSet {
    [lane].into_iter().collect()
}
