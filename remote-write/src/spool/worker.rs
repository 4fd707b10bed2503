use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, Weak, mpsc};
use std::time::Duration;

use promferry_model::{Clock, Receipt, SinkError};
use tokio::sync::oneshot;

use super::core::{EndpointId, LogId, Position, SpoolCore};
use super::error::SpoolError;
use super::handle::{Answer, Append, Command, Park, Settled, Shared};
use super::memory::MemoryStorage;
use super::read_only::ReadOnly;
use super::reopen::Known;
use super::stats::SpoolStats;
use super::storage::Storage;
use crate::Lane;

/// What the spool's thread does.
pub(super) struct Worker<S: Storage> {
    core: SpoolCore<S>,
    desk: Desk,
}

/// What the thread needs besides the spool itself, and keeps when that has to be opened again.
pub(super) struct Desk {
    clock: Arc<dyn Clock>,
    queue: mpsc::Receiver<Command>,
    arrivals: Weak<Shared>,
    /// Which log each endpoint gets.
    logs: Vec<(EndpointId, LogId)>,
    /// How far each lane was handed out.
    handed: BTreeMap<(EndpointId, Lane), Position>,
    /// Scrapes that are being stored.
    storing: Vec<Append>,
    /// What came after the last of them.
    next: Option<Command>,
    /// A settlement that is being written.
    settling: Option<(EndpointId, Vec<Settled>, Answer<()>)>,
    /// Who waits for the spool to be closed.
    closing: Option<oneshot::Sender<SpoolStats>>,
    maintained: Duration,
    restarts: u32,
    /// When it last panicked.
    panicked: Duration,
}

/// How often what is due by time is looked at.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Scrapes that are taken together into one write at most.
const MAX_BATCH: usize = 256;
/// So often the spool is opened again after panics that follow each other before it goes on in memory.
const MAX_RESTARTS: u32 = 3;
/// After so long without a panic earlier ones count no more.
const RESTARTS_FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// Why the work ended.
enum End {
    /// Nobody is there any more.
    Abandoned,
    Closed,
}

impl Desk {
    pub(super) fn new(clock: Arc<dyn Clock>, queue: mpsc::Receiver<Command>, arrivals: Weak<Shared>) -> Self {
        Self {
            maintained: clock.monotonic(),
            clock,
            queue,
            arrivals,
            logs: Vec::new(),
            handed: BTreeMap::new(),
            storing: Vec::new(),
            next: None,
            settling: None,
            closing: None,
            restarts: 0,
            panicked: Duration::ZERO,
        }
    }
}

/// Works until the spool is closed.
///
/// A panic is a fault of ours and must not cost what waits: what is on the disk is opened again as after a restart of
/// the process, in the same order and with the same in flight. Where that does not help the spool goes on in memory.
pub(super) fn run<S: Storage>(core: SpoolCore<S>, desk: Desk) {
    let mut worker = Worker { core, desk };
    loop {
        let Some(Worker { core, mut desk }) = worker.until_panic() else { return };
        desk.give_up_what_was_being_stored();
        desk.note_panic();
        let (storage, known) = core.into_parts();
        let opened = match desk.restarts {
            ..=MAX_RESTARTS => desk.reopen(storage, &known),
            _ => None,
        };
        worker = match opened {
            Some(core) => {
                tracing::error!("the spool's thread panicked; it was opened again as it is on the disk");
                // Who waits for something may have been promised it by what is gone.
                desk.announce_all();
                Worker { core, desk }
            }
            None => {
                tracing::error!(
                    "the spool's thread panicked and can't be opened again: from now on samples wait in memory, and what \
                     is on the disk is delivered by the next start of the process"
                );
                desk.handed.clear();
                let nowhere = ReadOnly::new(MemoryStorage::new());
                if let Some(core) = desk.reopen(nowhere, &known) {
                    // Should this panic, too, calls fail from then on.
                    Worker { core, desk }.until_panic();
                }
                return;
            }
        }
    }
}

impl Desk {
    fn note_panic(&mut self) {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.panicked) > RESTARTS_FORGOTTEN_AFTER {
            self.restarts = 0;
        }
        self.restarts += 1;
        self.panicked = now;
    }

    /// Lets every endpoint look again for what it may fetch, also those that get nothing new.
    fn announce_all(&self) {
        let Some(shared) = self.arrivals.upgrade() else { return };
        let arrivals = shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, sender) in arrivals.iter() {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Whether they are on the disk nobody knows: they are not promised.
    fn give_up_what_was_being_stored(&mut self) {
        for append in self.storing.drain(..) {
            let failure = SinkError::Storage("the spool's thread panicked".to_owned());
            let _ = append.answer.send(Err(failure));
        }
    }

    fn reopen<S: Storage>(&self, storage: S, known: &Known) -> Option<SpoolCore<S>> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let now = self.clock.now();
            let mut core = SpoolCore::reopen(storage, known.clone(), now)?;
            for (&(endpoint, lane), &position) in &self.handed {
                core.resume(now, endpoint, lane, position);
            }
            Ok::<_, SpoolError>(core)
        }));
        match opened {
            Ok(Ok(core)) => Some(core),
            Ok(Err(error)) => {
                tracing::error!("{error}");
                None
            }
            Err(_) => None,
        }
    }
}

impl<S: Storage> Worker<S> {
    /// Works until the spool is closed; returns itself when something panicked.
    fn until_panic(mut self) -> Option<Self> {
        match catch_unwind(AssertUnwindSafe(|| self.work())) {
            Ok(End::Abandoned) => None,
            Ok(End::Closed) => {
                let (stats, answer) = (self.core.stats(), self.desk.closing.take());
                // The lock has to be free when the caller goes on.
                drop(self);
                let _ = answer.map(|answer| answer.send(stats));
                None
            }
            Err(_) => Some(self),
        }
    }

    fn work(&mut self) -> End {
        self.settle();
        if self.desk.closing.is_some() {
            return self.close();
        }
        loop {
            let command = match self.desk.next.take() {
                Some(command) => Some(command),
                None => match self.desk.queue.recv_timeout(MAINTENANCE_INTERVAL) {
                    Ok(command) => Some(command),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => {
                        self.core.close(self.desk.clock.now());
                        return End::Abandoned;
                    }
                },
            };
            let monotonic = self.desk.clock.monotonic();
            if command.is_none() || monotonic.saturating_sub(self.desk.maintained) >= MAINTENANCE_INTERVAL {
                self.desk.maintained = monotonic;
                self.core.maintain(self.desk.clock.now());
                self.publish();
                if self.core.reads_are_retried() {
                    self.desk.announce_all();
                }
            }
            match command {
                None => {}
                Some(Command::Append(first)) => self.append(first),
                Some(Command::Close { answer }) => {
                    self.desk.closing = Some(answer);
                    return self.close();
                }
                Some(command) => self.answer(command),
            }
        }
    }

    fn close(&mut self) -> End {
        self.core.close(self.desk.clock.now());
        End::Closed
    }

    /// Stores all scrapes that are queued, up to the first command that is something else.
    fn append(&mut self, first: Append) {
        let Desk { storing, next, queue, clock, .. } = &mut self.desk;
        storing.push(first);
        while storing.len() < MAX_BATCH && next.is_none() {
            match queue.try_recv() {
                Ok(Command::Append(append)) => storing.push(append),
                Ok(other) => *next = Some(other),
                Err(_) => break,
            }
        }
        let scrapes: Vec<_> = storing.iter().map(|append| append.scrape.as_slice()).collect();
        let answers = self.core.append_batch(clock.now(), &scrapes);
        let stored = std::mem::take(&mut self.desk.storing);
        self.announce(|log| stored.iter().any(|append| append.scrape.iter().any(|(id, _)| *id == log)));
        let now = self.desk.clock.monotonic();
        for (Append { scrape, at, answer: resolve, reservation }, answer) in stored.into_iter().zip(answers) {
            let answer =
                answer.map(|receipt| Receipt::new(receipt.samples, receipt.bytes, now.saturating_sub(at)));
            drop((scrape, reservation));
            // Nobody has to wait for it.
            let _ = resolve.send(answer);
        }
    }

    /// Writes the settlement that was asked for; after a panic again, for settling twice changes nothing.
    fn settle(&mut self) {
        let Some((endpoint, lanes, _)) = &self.desk.settling else { return };
        let mut lanes = lanes.iter();
        let settled = lanes.try_for_each(|Settled { lane, position, delivered, dropped }| {
            self.core.settle(*endpoint, *lane, *position, *delivered, dropped)
        });
        if let Some((.., answer)) = self.desk.settling.take() {
            let _ = answer.send(settled);
        }
    }

    /// Lets pages see how things stand without asking.
    fn publish(&self) {
        if let Some(shared) = self.desk.arrivals.upgrade() {
            shared.publish(self.core.stats());
        }
    }

    fn announce(&self, stored: impl Fn(LogId) -> bool) {
        let Some(shared) = self.desk.arrivals.upgrade() else { return };
        let arrivals = shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        for (endpoint, sender) in arrivals.iter() {
            if self.desk.logs.iter().any(|(id, log)| id == endpoint && stored(*log)) {
                sender.send_modify(|count| *count += 1);
            }
        }
    }

    /// Does what is asked; that nobody waits for the answer any more is fine.
    fn answer(&mut self, command: Command) {
        match command {
            Command::OpenLog { key, answer } => drop(answer.send(self.core.open_log(&key))),
            Command::CloseLog { log, answer } => {
                self.core.close_log(log);
                let _ = answer.send(());
            }
            Command::CheckKey { key, answer } => drop(answer.send(self.core.check_key(&key))),
            Command::Attach { key, log, options, answer } => {
                let attached = self.core.attach(&key, log, options);
                if let Ok(endpoint) = attached {
                    self.desk.logs.retain(|(id, _)| *id != endpoint);
                    self.desk.logs.push((endpoint, log));
                }
                self.publish();
                drop(answer.send(attached));
            }
            Command::Adopt { key, options, answer } => {
                let adopted = self.core.adopt(&key, options);
                self.publish();
                drop(answer.send(adopted));
            }
            Command::Forget { key, answer } => drop(answer.send(self.core.forget(&key))),
            Command::Detach { endpoint, answer } => {
                self.desk.logs.retain(|(id, _)| *id != endpoint);
                self.core.detach(endpoint);
                self.publish();
                let _ = answer.send(());
            }
            Command::Refuse { counts, reason } => {
                for (log, counts) in counts {
                    self.core.refuse(log, counts, &reason);
                }
            }
            Command::Fetch { endpoint, lanes, max_bytes, answer } => {
                let fetched = self.core.fetch(self.desk.clock.now(), endpoint, lanes, max_bytes);
                for stored in fetched.iter().flatten() {
                    self.desk.handed.insert((endpoint, stored.fragment.lane), stored.position);
                }
                drop(answer.send(fetched));
            }
            Command::Settle { endpoint, lanes, answer } => {
                self.desk.settling = Some((endpoint, lanes, answer));
                self.settle();
            }
            Command::Parked { endpoint, answer } => {
                let _ = answer.send(self.core.parked(endpoint));
            }
            Command::Park(Park { from, parked, settled, answer }) => {
                let queue = self.core.park(self.desk.clock.now(), from, &parked, &settled);
                // Nobody may be waiting any more; what is parked is parked.
                let _ = answer.send(queue);
            }
            Command::Backlog { endpoint, answer } => drop(answer.send(self.core.backlog(endpoint))),
            Command::SpreadTargets { answer } => drop(answer.send(self.core.spread_targets())),
            Command::NoteSpread { target } => self.core.note_spread(target),
            Command::Rewind { endpoint, lane, answer } => {
                self.desk.handed.remove(&(endpoint, lane));
                drop(answer.send(self.core.rewind(endpoint, lane)));
            }
            Command::ProtocolChoice { endpoint, answer } => {
                let _ = answer.send(self.core.protocol_choice(endpoint));
            }
            Command::ChooseProtocol { endpoint, choice } => self.core.choose_protocol(endpoint, choice),
            Command::Ledger { endpoint, answer } => drop(answer.send(self.core.ledger(endpoint))),
            Command::Stats { answer } => {
                self.publish();
                drop(answer.send(self.core.stats()));
            }
            // The loop has these.
            Command::Append(_) | Command::Close { .. } => {}
        }
    }
}
