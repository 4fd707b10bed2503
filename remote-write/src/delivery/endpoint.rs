use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use promferry_model::{MemoryBudget, Purpose, Reservation};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::limited::by_lane;
use super::metadata::MetadataSchedule;
use super::queue::{Due, Queue, RequestLimits};
use super::request::{Phase, Sender, Settlement};
use super::shards::{Measurement, Shards};
use crate::limits::Way;
use crate::spool::{EndpointId, LedgerSnapshot, Reason, Spool, SpoolError, StoredFragment};
use crate::{Fragment, Lane, LaneSet, Protocol};

/// One endpoint's delivery: reads its part of the spool, bounded in bytes, joins it into requests and keeps
/// as many of them in flight as there are shards.
pub(super) struct EndpointLoop {
    pub(super) spool: Spool,
    pub(super) id: EndpointId,
    pub(super) arrivals: watch::Receiver<u64>,
    pub(super) sender: Arc<Sender>,
    pub(super) budget: MemoryBudget,
    pub(super) batch_send_deadline: Duration,
    /// Samples and histograms that may wait in memory for each shard.
    pub(super) capacity: u64,
    pub(super) shards: Shards,
    pub(super) started: Instant,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) metadata: Option<MetadataSchedule>,
}

/// What is read ahead for each request that may be in flight, in bytes as stored.
const READ_AHEAD_BYTES: usize = 1024 * 1024;
/// The most that is read ahead in all.
const MAX_READ_AHEAD_BYTES: usize = 16 * 1024 * 1024;
/// The most that one lane may hold of it, so that a slow lane leaves room for the others.
const MAX_LANE_BYTES: usize = 1024 * 1024;
/// Less than this is not worth a trip to the disk while more is coming.
const MIN_READ_BYTES: usize = 64 * 1024;

/// What arrived waits to be read for a small part of what it may wait to be sent: a twentieth, at most 100 ms.
const WAIT_SHARE: u32 = 20;
const MAX_WAIT: Duration = Duration::from_secs(2);

enum Event {
    Fetched(Result<Vec<StoredFragment>, SpoolError>, LaneSet, Instant),
    Settled,
    /// Delivery was stopped before all of a request was decided.
    Undecided,
    MetadataSent,
    Counted(Result<LedgerSnapshot, SpoolError>, Instant),
}

/// What the loop knows while it runs.
struct State {
    queue: Queue,
    /// Memory for what the queue holds.
    held: Option<Reservation>,
    tasks: JoinSet<Event>,
    /// The read that is on its way, the metadata request, and the look at the ledger: one of each at most.
    reading: Option<Id>,
    sending_metadata: Option<Id>,
    counting: Option<Id>,
    /// The last read, over all lanes, found nothing: wait to be told of more.
    drained: bool,
    /// When to read what was announced since.
    read_at: Option<Instant>,
    /// The last read found nothing in the lanes that have room: wait until another has some.
    blocked: bool,
    /// What is in flight: the task of each request, and its fragments.
    requests: HashMap<Id, Vec<(Lane, usize)>>,
    /// What waits goes out without waiting for more, once.
    hurried: bool,
    /// A request came back undecided: delivery is being stopped, nothing new starts.
    stopping: bool,
}

impl State {
    /// Sends what waits now. What was stored meanwhile may not have been announced yet: it is looked for.
    const fn hurry(&mut self) {
        (self.hurried, self.drained) = (true, false);
    }
}

/// How an endpoint's delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// Every request came to its end, and another delivery goes on.
    HandedOver,
}

impl EndpointLoop {
    pub(super) async fn run(mut self) -> Ended {
        let mut state = State {
            queue: Queue::default(),
            held: None,
            tasks: JoinSet::new(),
            reading: None,
            sending_metadata: None,
            counting: None,
            drained: false,
            read_at: None,
            blocked: false,
            requests: HashMap::new(),
            hurried: false,
            stopping: false,
        };
        let mut next_metadata = self.metadata.as_ref().map(|schedule| Instant::now() + schedule.interval);
        let mut next_resize = Instant::now() + Shards::PERIOD;
        let ended = loop {
            if self.phase.has_changed().unwrap_or(false) {
                state.hurry();
            }
            let phase = *self.phase.borrow_and_update();
            if phase == Phase::Stopped {
                break Ended::Done;
            }
            state.stopping |= phase == Phase::HandingOver;
            // What is being read is waited for as well: it must not be handed out after the next delivery asked for it.
            if phase == Phase::HandingOver && state.requests.is_empty() && state.reading.is_none() {
                break Ended::HandedOver;
            }
            let flushing = phase == Phase::Flushing;
            let hurried = flushing || state.hurried;
            // The flush takes what the last scrapes brought, though it was announced as late as this.
            if hurried && state.drained && self.arrivals.has_changed().unwrap_or(false) {
                state.drained = false;
            }
            if !state.stopping {
                self.read_ahead(&mut state, hurried);
                self.start_requests(&mut state, hurried);
            }
            // Lanes that nothing is sent of any more are not waited for.
            let drained = state.drained || state.queue.lanes().is_empty();
            let all_sent = state.queue.is_idle() && drained && state.reading.is_none();
            state.hurried &= !all_sent;
            if flushing && (all_sent || (state.stopping && state.requests.is_empty())) {
                break Ended::Done;
            }
            self.sender.stats.set_gauges(self.shards.current(), state.requests.len(), state.queue.bytes());
            let mut wake = next_resize;
            if let Some(at) = next_metadata {
                wake = wake.min(at);
            }
            // Nothing that is due starts any more while delivery is being stopped.
            if !state.stopping {
                if let Some(at) = state.read_at {
                    wake = wake.min(at);
                }
                if state.requests.len() < self.senders()
                    && let Some(Due::At(at)) = state.queue.due(self.limits(), self.deadline(&state, hurried))
                {
                    wake = wake.min(at);
                }
            }
            tokio::select! {
                Some(event) = state.tasks.join_next_with_id(), if !state.tasks.is_empty() => match event {
                    Ok((task, event)) => self.handle(task, event, &mut state),
                    Err(error) => self.failed(&error, &mut state),
                },
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if now >= next_resize {
                        next_resize = now + Shards::PERIOD;
                        self.count(&mut state);
                    }
                    if next_metadata.is_some_and(|at| now >= at) {
                        next_metadata = self.send_metadata(&mut state, now);
                    }
                }
                arrived = self.arrivals.changed(), if (state.drained || state.blocked) && !state.stopping => match arrived {
                    Ok(()) => {
                        (state.drained, state.blocked) = (false, false);
                        state.read_at = Some(Instant::now() + self.batch_send_deadline.min(MAX_WAIT) / WAIT_SHARE);
                    }
                    // The spool is closed: what is in flight ends, and nothing comes after it.
                    Err(_) => state.stopping = true,
                },
                changed = self.phase.changed() => {
                    if changed.is_err() {
                        break Ended::Done;
                    }
                    state.hurry();
                }
            }
        };
        // None of them asks the spool for anything from here on.
        state.tasks.shutdown().await;
        self.sender.stats.set_gauges(0, 0, 0);
        ended
    }

    fn limits(&self) -> RequestLimits {
        let now = self.sender.clock.monotonic();
        RequestLimits { values: self.sender.size.values(now), raw_bytes: self.sender.size.raw_bytes(now) }
    }

    /// How many requests may be in flight: fewer than there are shards after a 429.
    fn senders(&self) -> usize {
        self.sender.pace.of(self.shards.current())
    }

    /// How long fragments may wait for others. In a flush not at all, but for those that are being read: they
    /// go in the same request.
    fn deadline(&self, state: &State, hurried: bool) -> Duration {
        if hurried && state.reading.is_none() { Duration::ZERO } else { self.batch_send_deadline }
    }

    fn read_ahead(&mut self, state: &mut State, hurried: bool) {
        if state.reading.is_some() || state.blocked || state.drained {
            return;
        }
        // Scrapes arrive one by one, requests take several: reading each at once would be a trip too many.
        if state.read_at.is_some_and(|at| at > Instant::now() && !hurried) {
            return;
        }
        state.read_at = None;
        let allowed = (READ_AHEAD_BYTES * self.shards.current()).min(MAX_READ_AHEAD_BYTES);
        let room = allowed.saturating_sub(state.queue.bytes());
        let lanes = state.queue.lanes_with_room(MAX_LANE_BYTES);
        if room < MIN_READ_BYTES || lanes.is_empty() {
            return;
        }
        // Enough waits, and among it a full request: what only waits for its lanes would keep other lanes idle.
        if state.queue.waiting_values() >= self.capacity.saturating_mul(self.shards.current() as u64)
            && state.queue.due(self.limits(), self.batch_send_deadline) == Some(Due::Now)
        {
            return;
        }
        let (spool, id) = (self.spool.clone(), self.id);
        // What arrives from here on is seen as a change.
        self.arrivals.mark_unchanged();
        let task = state.tasks.spawn(async move {
            let fetched = spool.fetch(id, lanes, room).await;
            Event::Fetched(fetched, lanes, Instant::now())
        });
        state.reading = Some(task.id());
    }

    fn start_requests(&mut self, state: &mut State, hurried: bool) {
        while state.requests.len() < self.senders() {
            match state.queue.due(self.limits(), self.deadline(state, hurried)) {
                Some(Due::Now) => {}
                Some(Due::At(at)) if at <= Instant::now() => {}
                _ => return,
            }
            let fragments = state.queue.take(self.limits());
            if fragments.is_empty() {
                return;
            }
            let (sender, spool, id) = (Arc::clone(&self.sender), self.spool.clone(), self.id);
            let held =
                fragments.iter().map(|stored| (stored.fragment.lane, stored.fragment.body.len())).collect();
            let task = state.tasks.spawn(async move {
                let Some(settlements) = sender.deliver(Way::Queue, fragments).await else {
                    return Event::Undecided;
                };
                // Recorded before the lane's next request may start: a restart repeats only what was in flight.
                if let Err(error) = sender.settle(&spool, id, settlements).await {
                    let text = format!("{}: what was delivered can't be recorded: {error}", sender.endpoint);
                    sender.notices.error(sender.clock.monotonic(), "record", &text);
                }
                Event::Settled
            });
            state.requests.insert(task.id(), held);
        }
    }

    fn handle(&mut self, task: Id, event: Event, state: &mut State) {
        match event {
            Event::Fetched(Ok(fragments), lanes, at) => {
                state.reading = None;
                let all = state.queue.lanes().iter().all(|lane| lanes.contains(lane));
                (state.drained, state.blocked) = (fragments.is_empty() && all, fragments.is_empty() && !all);
                for fragment in fragments {
                    state.queue.push(fragment, at);
                }
                self.hold(state);
            }
            Event::Fetched(Err(error), ..) => {
                state.reading = None;
                state.drained = true;
                let text = format!("{}: the spool can't be read: {error}", self.sender.endpoint);
                self.sender.notices.error(self.sender.clock.monotonic(), "read", &text);
            }
            Event::Settled => {
                state.queue.settled(state.requests.remove(&task).unwrap_or_default());
                state.blocked = false;
                self.hold(state);
            }
            Event::Undecided => {
                state.requests.remove(&task);
                state.stopping = true;
            }
            Event::MetadataSent => state.sending_metadata = None,
            Event::Counted(Ok(ledger), at) => {
                state.counting = None;
                self.resize(&ledger, at);
            }
            Event::Counted(Err(error), _) => {
                state.counting = None;
                tracing::debug!("{}: the number of shards stays: {error}", self.sender.endpoint);
            }
        }
    }

    /// A task panicked. Nothing more is sent of the lanes of a request until a restart: never out of order.
    fn failed(&self, error: &JoinError, state: &mut State) {
        tracing::error!("{}: a delivery task failed: {error}", self.sender.endpoint);
        if let Some(fragments) = state.requests.remove(&error.id()) {
            state.queue.abandon(fragments);
            let abandoned = state.queue.abandoned_lanes();
            self.sender.stats.set_abandoned_lanes(abandoned);
            tracing::error!(
                "{}: {abandoned} of {} lanes wait for a restart of this process",
                self.sender.endpoint,
                Lane::COUNT
            );
            state.blocked = false;
            self.hold(state);
        }
        for task in [&mut state.reading, &mut state.sending_metadata, &mut state.counting] {
            task.take_if(|task| *task == error.id());
        }
    }

    /// Accounts for what the queue holds. What is read is bounded already, so an exhausted budget is only
    /// not charged further: delivering is what gives memory back.
    fn hold(&self, state: &mut State) {
        let bytes = state.queue.bytes();
        match &mut state.held {
            Some(held) => {
                let _ = held.resize(bytes);
            }
            None => state.held = self.budget.try_reserve(Purpose::Buffers, bytes).ok(),
        }
    }

    fn count(&self, state: &mut State) {
        // A disk that stalls is asked once.
        if state.counting.is_none() {
            let (spool, id) = (self.spool.clone(), self.id);
            let task =
                state.tasks.spawn(async move { Event::Counted(spool.ledger(id).await, Instant::now()) });
            state.counting = Some(task.id());
        }
    }

    fn resize(&mut self, ledger: &LedgerSnapshot, at: Instant) {
        let before = self.shards.current();
        let (answered, answer_time) = self.sender.stats.answered();
        self.shards.adjust(Measurement {
            at: at.duration_since(self.started),
            accepted: ledger.accepted.values(),
            // What is parked is not for the shards.
            pending: ledger.pending.values().saturating_sub(ledger.parked.values()),
            answered,
            answer_time,
        });
        self.sender.stats.set_shards_desired(self.shards.desired());
        let now = self.shards.current();
        if now != before {
            tracing::debug!("{}: {now} requests may be in flight, {before} until now", self.sender.endpoint);
        }
    }

    /// Begins a round of metadata, unless the one before still waits for the endpoint.
    fn send_metadata(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let schedule = self.metadata.as_ref()?;
        let next = Some(now + schedule.interval);
        if state.sending_metadata.is_some() || self.sender.negotiation.protocol() != Protocol::V1 {
            return next;
        }
        let entries = schedule.context.metadata();
        if !entries.is_empty() {
            let (sender, max_entries) = (Arc::clone(&self.sender), schedule.max_entries);
            let task = state.tasks.spawn(async move {
                sender.deliver_metadata(&entries, max_entries).await;
                Event::MetadataSent
            });
            state.sending_metadata = Some(task.id());
        }
        next
    }
}

impl Sender {
    /// Records what became of a request's fragments.
    async fn settle(
        &self,
        spool: &Spool,
        id: EndpointId,
        settlements: Vec<Settlement>,
    ) -> Result<(), SpoolError> {
        let (mut settled, parked) = by_lane(settlements);
        if parked.is_empty() {
            return spool.settle_all(id, settled).await;
        }
        let later: Vec<Fragment> = parked.iter().flat_map(|(_, fragments)| fragments).cloned().collect();
        let result = spool.park(id, parked, settled.clone()).await;
        self.limits.parked(&later, result.is_ok());
        let Err(error) = result else { return Ok(()) };
        // The parked queue can't be had: what it was to hold is lost, and counted.
        for (reason, _) in settled.iter_mut().flat_map(|lane| &mut lane.dropped) {
            if *reason == Reason::PARKED {
                *reason = Reason::STORAGE;
            }
        }
        spool.settle_all(id, settled).await?;
        Err(error)
    }
}
