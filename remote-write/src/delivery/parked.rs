use std::sync::Arc;
use std::time::Duration;

use promferry_model::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::request::{Phase, Probed, Sender};
use crate::encode::{for_each_fingerprint, sort};
use crate::limits::{SLOTS, Way};
use crate::spool::{EndpointId, Position, Reason, Settled, Spool, SpoolError, StoredFragment};
use crate::{Counts, Fragment, Lane, LaneSet};

/// What becomes of an endpoint's parked queue: it is probed, drained in order as far as the endpoint takes it
/// again, and what is in it for too long is dropped.
///
/// A slot of the queue has three lanes. New samples take the first. A *pass* reads the slot from its oldest
/// sample on, delivers what the endpoint takes and parks the rest again, in one of the other two lanes and in
/// order; the next pass reads that lane before the first one, and parks what it leaves in the third. After a
/// crash in the middle of a pass both hold something: the one that was being filled has the later positions,
/// and what is in it comes before what is left in the other.
pub(super) struct ParkedLoop {
    pub(super) spool: Spool,
    /// The endpoint.
    pub(super) id: EndpointId,
    pub(super) sender: Arc<Sender>,
    pub(super) max_values: u64,
    pub(super) phase: watch::Receiver<Phase>,
    /// Its parked queue, once there is one.
    pub(super) queue: Option<EndpointId>,
    /// From the latest probe to the next: longer after each that is refused.
    pub(super) pause: Duration,
    /// What a probe delivered ahead of its place in the queue.
    pub(super) ahead: Option<(Position, u64)>,
}

/// Bytes that are read at once.
const WINDOW_BYTES: usize = 256 * 1024;
/// Of the bytes that the parked queue may take, the oldest goes before this many quarters are full: what the
/// spool itself would drop has no limit's name.
const FULL_QUARTERS: u64 = 3;
/// Parts of the probe interval: after the first refused probe and for what a drained queue got meanwhile, for
/// looking after age, and for looking at all.
const FIRST_PAUSE: u32 = 12;
const AGE_CHECK: u32 = 6;
const SETTLE: u32 = 60;

/// Delivery was stopped, or the spool closed.
struct Stopped;

impl From<SpoolError> for Stopped {
    fn from(_: SpoolError) -> Self {
        Self
    }
}

impl ParkedLoop {
    /// Finds out what earlier runs parked. Has to be done before anything is delivered: what comes now has to
    /// wait behind it.
    pub(super) async fn load(&mut self) {
        if self.try_load().await.is_err() {
            tracing::error!("{}: what is parked can't be read", self.sender.endpoint);
        }
    }

    /// Runs until the phase says stop.
    pub(super) async fn run(mut self) {
        let interval = self.sender.limits.options().probe_interval;
        let mut phase = self.phase.clone();
        let mut next_probe = Instant::now();
        let mut next_drain = next_probe;
        let mut next_age_check = Instant::now() + interval / AGE_CHECK;
        let mut was_parked = self.queue.is_some();
        loop {
            let period = interval / SETTLE;
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
            }
            self.sender.limits.tick();
            let parked = self.sender.limits.parked_series() > 0;
            if !parked {
                (was_parked, self.pause) = (false, interval / FIRST_PAUSE);
                continue;
            }
            let now = Instant::now();
            if !std::mem::replace(&mut was_parked, true) {
                next_probe = now + self.pause;
            }
            let worked = async {
                if self.queue.is_none() {
                    self.queue = self.spool.parked(self.id).await?;
                }
                let Some(queue) = self.queue else { return Ok(()) };
                if now >= next_age_check {
                    next_age_check = now + interval / AGE_CHECK;
                    self.drop_old(queue).await?;
                }
                if now >= next_probe {
                    let taken = self.probe(queue).await?;
                    if taken {
                        self.drain(queue, true).await?;
                        self.pause = interval / FIRST_PAUSE;
                    } else {
                        self.say();
                        self.pause = (2 * self.pause).min(interval);
                    }
                    next_probe = Instant::now() + self.pause;
                } else if now >= next_drain && self.sender.limits.has_promoted() {
                    // What was on its way to the queue while that was drained.
                    self.drain(queue, false).await?;
                    next_drain = Instant::now() + interval / FIRST_PAUSE;
                }
                Ok::<(), Stopped>(())
            };
            if worked.await.is_err() {
                return;
            }
        }
    }

    async fn try_load(&mut self) -> Result<(), Stopped> {
        self.queue = self.spool.parked(self.id).await?;
        let Some(queue) = self.queue else { return Ok(()) };
        loop {
            let fetched = self.spool.fetch(queue, LaneSet::ALL, WINDOW_BYTES).await?;
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

    /// Sends one parked series' oldest sample. Says whether it was taken.
    async fn probe(&mut self, queue: EndpointId) -> Result<bool, Stopped> {
        let first = (self.random() * SLOTS as f64) as usize;
        for slot in (0..SLOTS).map(|at| (first + at) % SLOTS) {
            let (sources, _) = self.lanes_of(queue, slot).await?;
            for lane in sources {
                let window = self.spool.fetch(queue, only(lane), WINDOW_BYTES).await?;
                self.rewind(queue, only(lane)).await?;
                if window.is_empty() {
                    continue;
                }
                let Some((position, fingerprint, sample)) = self.choose(&window) else { continue };
                let probed = self.sender.probe(sample).await.ok_or(Stopped)?;
                self.sender.limits.count_probe(probed != Probed::Limited);
                if probed == Probed::Taken {
                    self.ahead = Some((position, fingerprint));
                }
                return Ok(probed != Probed::Limited);
            }
        }
        // The account knows of parked series and the queue does not: the spool gave them up.
        self.sender.limits.nothing_parked();
        Ok(false)
    }

    /// The oldest sample of one of the series in the window, by chance: each may be under another limit.
    fn choose(&self, window: &[StoredFragment]) -> Option<(Position, u64, Fragment)> {
        let at = (self.random() * window.len() as f64) as usize;
        let chance = self.random();
        let mut series = Vec::new();
        for_each_fingerprint(&window.get(at)?.fragment, |one| series.push(one.fingerprint)).ok()?;
        let fingerprint = *series.get((chance * series.len() as f64) as usize)?;
        for stored in window {
            let mut found = false;
            let sorted = sort(&stored.fragment, |one| {
                let first = !found && one.fingerprint == fingerprint;
                found |= first;
                usize::from(!first)
            });
            if let (true, Ok(sorted)) = (found, sorted) {
                let (_, sample) = sorted.into_parts().into_iter().next()?;
                return Some((stored.position, fingerprint, sample));
            }
        }
        None
    }

    /// Passes over all slots as long as that brings anything.
    async fn drain(&mut self, queue: EndpointId, tests: bool) -> Result<(), Stopped> {
        let mut next = Some(tests);
        while let Some(tests) = next {
            next = self.pass_over_all(queue, tests).await?;
        }
        Ok(())
    }

    /// Passes once over all slots. When that brought something, says whether a test was among it.
    async fn pass_over_all(&mut self, queue: EndpointId, tests: bool) -> Result<Option<bool>, Stopped> {
        let limits = &self.sender.limits;
        let taken = limits.tests_taken();
        limits.begin_pass(tests);
        let mut delivered = Counts::default();
        for slot in 0..SLOTS {
            delivered += self.pass(queue, slot).await?;
        }
        let brought_something = !delivered.is_zero() && self.sender.limits.parked_series() > 0;
        Ok(brought_something.then(|| self.sender.limits.tests_taken() > taken))
    }

    /// Reads a slot in order, delivers what is taken and parks the rest again. Returns what was delivered.
    async fn pass(&mut self, queue: EndpointId, slot: usize) -> Result<Counts, Stopped> {
        let (sources, rest) = self.lanes_of(queue, slot).await?;
        let mut delivered = Counts::default();
        for lane in sources {
            loop {
                let fetched = self.spool.fetch(queue, only(lane), WINDOW_BYTES).await?;
                if fetched.is_empty() {
                    break;
                }
                let mut request = Vec::new();
                let mut values = 0;
                for stored in fetched {
                    let more = stored.fragment.counts.values();
                    if values + more > self.max_values && !request.is_empty() {
                        delivered += self.pass_over(queue, std::mem::take(&mut request), rest).await?;
                        values = 0;
                    }
                    values += more;
                    request.push(stored);
                }
                delivered += self.pass_over(queue, request, rest).await?;
            }
        }
        Ok(delivered)
    }

    async fn pass_over(
        &mut self,
        queue: EndpointId,
        mut request: Vec<StoredFragment>,
        rest: Lane,
    ) -> Result<Counts, Stopped> {
        let Some(last) = request.last() else { return Ok(Counts::default()) };
        let (lane, position) = (last.fragment.lane, last.position);
        let fetched: Vec<Fragment> = request.iter().map(|stored| stored.fragment.clone()).collect();
        let mut delivered = self.leave_out_what_went_ahead(&mut request);
        let mut dropped = Vec::new();
        let mut parked = Vec::new();
        if !request.is_empty() {
            for settled in self.sender.deliver(Way::Parked, request).await.ok_or(Stopped)? {
                delivered += settled.delivered;
                dropped.extend(settled.dropped);
                parked.extend(settled.parked.into_iter().map(|fragment| Fragment { lane: rest, ..fragment }));
            }
        }
        let settled = Settled { lane, position, delivered, dropped };
        let again = parked.clone();
        self.spool.park(queue, vec![(lane, parked)], vec![settled]).await?;
        self.sender.limits.unparked(&fetched, &again);
        Ok(delivered)
    }

    /// Takes out the sample that was probed with.
    fn leave_out_what_went_ahead(&mut self, request: &mut Vec<StoredFragment>) -> Counts {
        let Some((position, fingerprint)) = self.ahead else { return Counts::default() };
        let Some(at) = request.iter().position(|stored| stored.position == position) else {
            return Counts::default();
        };
        self.ahead = None;
        let mut found = false;
        let sorted = sort(&request[at].fragment, |one| {
            let first = !found && one.fingerprint == fingerprint;
            found |= first;
            usize::from(!first)
        });
        let Ok(sorted) = sorted else { return Counts::default() };
        let mut ahead = Counts::default();
        let mut left = None;
        for (class, part) in sorted.into_parts() {
            match class {
                0 => ahead = part.counts,
                _ => left = Some(part),
            }
        }
        match left {
            Some(fragment) => request[at].fragment = fragment,
            None => drop(request.remove(at)),
        }
        ahead
    }

    /// Drops what is parked for too long, and the oldest of what is too much.
    async fn drop_old(&mut self, queue: EndpointId) -> Result<(), Stopped> {
        let options = *self.sender.limits.options();
        let oldest = self.sender.clock.now().saturating_sub(options.max_parked_age);
        let mut excess = self.excess_bytes().await?;
        let reason = self.sender.limits.reason();
        loop {
            let fetched = self.spool.fetch(queue, LaneSet::ALL, WINDOW_BYTES).await?;
            let mut kept = LaneSet::EMPTY;
            let mut settled: Vec<Settled> = Vec::new();
            let mut gone = Vec::new();
            for StoredFragment { position, fragment } in &fetched {
                let lane = fragment.lane;
                let too_much = excess > 0;
                if kept.contains(lane) || !(too_much || is_before(fragment, oldest)) {
                    kept.insert(lane);
                    continue;
                }
                excess = excess.saturating_sub(fragment.body.len() as u64);
                let at = settled.iter().position(|known| known.lane == lane).unwrap_or_else(|| {
                    let (delivered, dropped) = (Counts::default(), vec![(reason.clone(), Counts::default())]);
                    settled.push(Settled { lane, position: *position, delivered, dropped });
                    settled.len() - 1
                });
                settled[at].position = *position;
                settled[at].dropped[0].1 += fragment.counts;
                gone.push(fragment.clone());
            }
            if !gone.is_empty() {
                let values: u64 = gone.iter().map(|fragment| fragment.counts.values()).sum();
                self.spool.settle_all(queue, settled).await?;
                self.sender.limits.unparked(&gone, &[]);
                self.sender.say_given_up(values, &reason);
            }
            self.rewind(queue, kept).await?;
            if fetched.is_empty() || !kept.is_empty() {
                return Ok(());
            }
        }
    }

    async fn excess_bytes(&self) -> Result<u64, Stopped> {
        let stats = self.spool.stats().await?;
        let key = format!("{} (parked)", self.sender.endpoint);
        let log = stats.logs.iter().find(|log| log.key == key);
        Ok(log.map_or(0, |log| log.bytes.saturating_sub(log.max_bytes / 4 * FULL_QUARTERS)))
    }

    /// The lanes of a slot in the order in which they are read, and the one for what a pass leaves.
    async fn lanes_of(&self, queue: EndpointId, slot: usize) -> Result<([Lane; 2], Lane), Stopped> {
        let lane = |bank: usize| Lane::of_hash((bank * SLOTS + slot) as u64);
        let mut heads = [None, None];
        for (bank, head) in [1, 2].into_iter().zip(&mut heads) {
            let fetched = self.spool.fetch(queue, only(lane(bank)), 1).await?;
            *head = fetched.first().map(|stored| stored.position);
            self.rewind(queue, only(lane(bank))).await?;
        }
        let second_is_read = match heads {
            [Some(first), Some(second)] => second < first,
            [None, Some(_)] => true,
            _ => false,
        };
        let (read, rest) = if second_is_read { (lane(2), lane(1)) } else { (lane(1), lane(2)) };
        Ok(([read, lane(0)], rest))
    }

    async fn rewind(&self, queue: EndpointId, lanes: LaneSet) -> Result<(), Stopped> {
        for lane in lanes.iter() {
            self.spool.rewind(queue, lane).await?;
        }
        Ok(())
    }

    fn random(&self) -> f64 {
        let mut rng = self.sender.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rng.next_f64()
    }

    fn say(&self) {
        let limits = &self.sender.limits;
        let most: Vec<_> =
            limits.most_parked().into_iter().map(|(name, series)| format!("{series} {name}")).collect();
        let text = format!(
            "{}: {}: {} series are not taken and parked on disk, most of them {}; the others go on",
            self.sender.endpoint,
            limits.reason(),
            limits.parked_series(),
            most.join(", ")
        );
        self.sender.notices.warn(self.sender.clock.monotonic(), "parked", &text);
    }
}

impl Sender {
    fn say_given_up(&self, values: u64, reason: &Reason) {
        let most: Vec<_> =
            self.limits.most_parked().into_iter().map(|(name, series)| format!("{series} {name}")).collect();
        let text = format!(
            "{}: {values} parked samples are dropped ({reason}): they were not taken for too long or are too \
             many; most series: {}",
            self.endpoint,
            most.join(", ")
        );
        self.notices.error(self.clock.monotonic(), "parked dropped", &text);
    }
}

fn is_before(fragment: &Fragment, oldest: Timestamp) -> bool {
    fragment.max_timestamp < oldest
}

fn only(lane: Lane) -> LaneSet {
    [lane].into_iter().collect()
}
