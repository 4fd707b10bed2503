use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use promferry_model::{Clock, MemoryBudget, Purpose, Receipt, Reservation, SinkError};
use tokio::sync::{oneshot, watch};

use super::backlog::Backlog;
use super::core::{EndpointId, LogId, Position, ProtocolChoice, SpoolCore, StoredFragment};
use super::error::SpoolError;
use super::ledger::{LedgerSnapshot, Reason};
use super::options::{EndpointOptions, SpoolOptions};
use super::stats::{RecoveryReport, SpoolStats};
use super::storage::Storage;
use super::worker::{self, Desk};
use crate::{Counts, Fragment, Lane, LaneSet};

/// A [`SpoolCore`] on a thread of its own, which does all reading and writing.
///
/// Clones share it. Calls take effect in the order in which they are made, also those whose answer nobody
/// waits for.
#[derive(Clone)]
pub struct Spool {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    budget: MemoryBudget,
    clock: Arc<dyn Clock>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) arrivals: Mutex<Vec<(EndpointId, watch::Sender<u64>)>>,
    /// What there was when it was closed.
    closed: Mutex<Option<SpoolStats>>,
    /// What the thread published last, and when.
    published: Mutex<(Duration, Arc<SpoolStats>)>,
}

impl Shared {
    /// Lets everybody see these stats without asking the thread.
    pub(super) fn publish(&self, stats: SpoolStats) {
        let published = (self.clock.monotonic(), Arc::new(stats));
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
    }
}

/// [`SpoolStats`] and how old they are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishedStats {
    /// What there was.
    pub stats: Arc<SpoolStats>,
    /// How long ago: about a second at most, unless the disk holds the spool's thread up.
    pub age: Duration,
}

/// Stats that are older were not followed by others because the thread is held up: it would not answer either.
const HELD_UP_AFTER: Duration = Duration::from_secs(3);

impl Spool {
    /// Opens the spool in the storage and starts its thread.
    ///
    /// # Errors
    /// Those of [`SpoolCore::open`], and [`SpoolError::Storage`] when no thread can be started.
    pub fn open<S: Storage>(
        storage: S,
        options: SpoolOptions,
        budget: MemoryBudget,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, RecoveryReport), SpoolError> {
        let (core, report) = SpoolCore::open(storage, options, budget.clone(), clock.now())?;
        let (commands, queue) = mpsc::channel();
        let shared = Arc::new(Shared {
            budget,
            clock: Arc::clone(&clock),
            thread: Mutex::default(),
            arrivals: Mutex::default(),
            closed: Mutex::default(),
            published: Mutex::new((clock.monotonic(), Arc::new(core.stats()))),
        });
        let desk = Desk::new(clock, queue, Arc::downgrade(&shared));
        let thread = thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || worker::run(core, desk))
            .map_err(super::error::storage_error("start a thread for", "."))?;
        *shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok((Self { commands, shared }, report))
    }

    /// See [`SpoolCore::open_log`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn open_log(&self, key: &str) -> Result<LogId, SpoolError> {
        let key = key.to_owned();
        self.ask(|answer| Command::OpenLog { key, answer }).await?
    }

    /// See [`SpoolCore::attach`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn attach(
        &self,
        key: &str,
        log: LogId,
        options: EndpointOptions,
    ) -> Result<EndpointId, SpoolError> {
        let key = key.to_owned();
        self.ask(|answer| Command::Attach { key, log, options, answer }).await?
    }

    /// See [`SpoolCore::close_log`].
    ///
    /// # Errors
    /// [`SpoolError::Closed`].
    pub async fn close_log(&self, log: LogId) -> Result<(), SpoolError> {
        self.ask(|answer| Command::CloseLog { log, answer }).await
    }

    /// See [`SpoolCore::check_key`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn check_key(&self, key: &str) -> Result<(), SpoolError> {
        let key = key.to_owned();
        self.ask(|answer| Command::CheckKey { key, answer }).await?
    }

    /// See [`SpoolCore::adopt`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn adopt(&self, key: &str, options: EndpointOptions) -> Result<EndpointId, SpoolError> {
        let key = key.to_owned();
        self.ask(|answer| Command::Adopt { key, options, answer }).await?
    }

    /// See [`SpoolCore::forget`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn forget(&self, key: &str) -> Result<Counts, SpoolError> {
        let key = key.to_owned();
        self.ask(|answer| Command::Forget { key, answer }).await?
    }

    /// See [`SpoolCore::detach`].
    ///
    /// # Errors
    /// [`SpoolError::Closed`].
    pub async fn detach(&self, endpoint: EndpointId) -> Result<(), SpoolError> {
        self.ask(|answer| Command::Detach { endpoint, answer }).await
    }

    /// Hands over one scrape: the fragments for each log. It is queued when this returns, so the order of
    /// calls is the order of storage. The ticket resolves when it is written; dropping it cancels nothing.
    ///
    /// Until it is written its bytes are reserved ([`Purpose::Buffers`]). What the budget has no room for is
    /// not stored: the ticket resolves to [`SinkError::OverBudget`], and it is counted as dropped for
    /// `over_budget`.
    pub fn append(&self, scrape: Vec<(LogId, Vec<Fragment>)>) -> Ticket {
        let bytes = scrape.iter().flat_map(|(_, fragments)| fragments).map(|f| f.body.len()).sum();
        let Ok(reservation) = self.shared.budget.try_reserve(Purpose::Buffers, bytes) else {
            let counts = scrape
                .into_iter()
                .map(|(log, fragments)| {
                    (log, fragments.iter().fold(Counts::default(), |sum, f| sum + f.counts))
                })
                .collect();
            return match self.commands.send(Command::Refuse { counts, reason: Reason::OVER_BUDGET }) {
                Ok(()) => Ticket::failed(SinkError::OverBudget),
                Err(_) => Ticket::failed(SinkError::Closed),
            };
        };
        let (answer, resolved) = oneshot::channel();
        let at = self.shared.clock.monotonic();
        let append = Append { scrape, at, answer, reservation };
        match self.commands.send(Command::Append(append)) {
            Ok(()) => Ticket(Outcome::Waiting(resolved)),
            Err(_) => Ticket::failed(SinkError::Closed),
        }
    }

    /// Counts what was never encoded for this log: accepted and dropped.
    pub fn refuse(&self, counts: Vec<(LogId, Counts)>, reason: Reason) {
        // A closed spool counts nothing any more.
        let _ = self.commands.send(Command::Refuse { counts, reason });
    }

    /// See [`SpoolCore::fetch`]. The caller reserves the memory for what comes back.
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn fetch(
        &self,
        endpoint: EndpointId,
        lanes: LaneSet,
        max_bytes: usize,
    ) -> Result<Vec<StoredFragment>, SpoolError> {
        self.ask(|answer| Command::Fetch { endpoint, lanes, max_bytes, answer }).await?
    }

    /// See [`SpoolCore::settle`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn settle(
        &self,
        endpoint: EndpointId,
        lane: Lane,
        position: Position,
        delivered: Counts,
        dropped: Vec<(Reason, Counts)>,
    ) -> Result<(), SpoolError> {
        self.settle_all(endpoint, vec![Settled { lane, position, delivered, dropped }]).await
    }

    /// [Settles](SpoolCore::settle) several lanes in one trip to the thread.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub async fn settle_all(&self, endpoint: EndpointId, lanes: Vec<Settled>) -> Result<(), SpoolError> {
        self.ask(|answer| Command::Settle { endpoint, lanes, answer }).await?
    }

    /// See [`SpoolCore::parked`].
    ///
    /// # Errors
    /// [`SpoolError::Closed`].
    pub async fn parked(&self, endpoint: EndpointId) -> Result<Option<EndpointId>, SpoolError> {
        self.ask(|answer| Command::Parked { endpoint, answer }).await
    }

    /// See [`SpoolCore::park`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn park(
        &self,
        from: EndpointId,
        parked: Vec<(Lane, Vec<Fragment>)>,
        settled: Vec<Settled>,
    ) -> Result<EndpointId, SpoolError> {
        self.ask(|answer| Command::Park(Park { from, parked, settled, answer })).await?
    }

    /// See [`SpoolCore::backlog`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn backlog(&self, endpoint: EndpointId) -> Result<Backlog, SpoolError> {
        self.ask(|answer| Command::Backlog { endpoint, answer }).await?
    }

    /// See [`SpoolCore::spread_targets`].
    ///
    /// # Errors
    /// [`SpoolError::Closed`].
    pub async fn spread_targets(&self) -> Result<(Vec<u64>, LaneSet), SpoolError> {
        self.ask(|answer| Command::SpreadTargets { answer }).await
    }

    /// See [`SpoolCore::note_spread`]. Nothing waits for it: it takes effect before what is appended afterwards.
    pub fn note_spread(&self, target: u64) {
        let _ = self.commands.send(Command::NoteSpread { target });
    }

    /// See [`SpoolCore::rewind`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn rewind(&self, endpoint: EndpointId, lane: Lane) -> Result<(), SpoolError> {
        self.ask(|answer| Command::Rewind { endpoint, lane, answer }).await?
    }

    /// See [`SpoolCore::protocol_choice`].
    ///
    /// # Errors
    /// [`SpoolError::Closed`].
    pub async fn protocol_choice(&self, endpoint: EndpointId) -> Result<Option<ProtocolChoice>, SpoolError> {
        self.ask(|answer| Command::ProtocolChoice { endpoint, answer }).await
    }

    /// See [`SpoolCore::choose_protocol`]. Nothing waits for it; a closed spool remembers nothing any more.
    pub fn choose_protocol(&self, endpoint: EndpointId, choice: ProtocolChoice) {
        let _ = self.commands.send(Command::ChooseProtocol { endpoint, choice });
    }

    /// See [`SpoolCore::ledger`].
    ///
    /// # Errors
    /// The same, and [`SpoolError::Closed`].
    pub async fn ledger(&self, endpoint: EndpointId) -> Result<LedgerSnapshot, SpoolError> {
        self.ask(|answer| Command::Ledger { endpoint, answer }).await?
    }

    /// See [`SpoolCore::stats`].
    ///
    /// # Errors
    /// [`SpoolError::Closed`].
    pub async fn stats(&self) -> Result<SpoolStats, SpoolError> {
        self.ask(|answer| Command::Stats { answer }).await
    }

    /// The stats as the thread published them last, which it does about once a second. Waits for nothing.
    pub fn published_stats(&self) -> PublishedStats {
        let (at, stats) = self.shared.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        PublishedStats { stats, age: self.shared.clock.monotonic().saturating_sub(at) }
    }

    /// The stats as they are now, or those that were [published](Self::published_stats) last where the thread does
    /// not answer within `limit`, since the disk holds it up: for pages, which have to be there then. After
    /// [`close`](Self::close) those at the end.
    pub async fn stats_within(&self, limit: Duration) -> PublishedStats {
        let published = self.published_stats();
        if let Some(last) = self.closing_stats() {
            return PublishedStats { stats: Arc::new(last), age: Duration::ZERO };
        }
        // Not asked in vain: what is asked waits in the thread's queue, also when nobody waits for it any more.
        if published.age < HELD_UP_AFTER
            && let Ok(Ok(stats)) = tokio::time::timeout(limit, self.stats()).await
        {
            return PublishedStats { stats: Arc::new(stats), age: Duration::ZERO };
        }
        self.published_stats()
    }

    /// A counter that changes whenever something was stored that the endpoint may fetch. Mark it as seen
    /// before fetching, and wait for a change when a fetch came back empty.
    pub fn arrivals(&self, endpoint: EndpointId) -> watch::Receiver<u64> {
        let mut arrivals = self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        match arrivals.iter().find(|(id, _)| *id == endpoint) {
            Some((_, sender)) => sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(0);
                arrivals.push((endpoint, sender));
                receiver
            }
        }
    }

    /// Writes what is queued, closes the files and ends the thread. Calls on clones fail from then on.
    pub async fn close(&self) {
        // An error says that it is closed already.
        if let Ok(stats) = self.ask(|answer| Command::Close { answer }).await {
            *self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
        }
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It answered as the last thing it did, so this doesn't wait.
            let _ = thread.join();
        }
    }

    /// Whether its thread works: not after [`close`](Self::close), and not after faults of ours from which it could
    /// not recover. Then every call fails and nothing is stored any more.
    pub fn is_working(&self) -> bool {
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// What there was when the spool was closed; nothing while it is open.
    pub fn closing_stats(&self) -> Option<SpoolStats> {
        self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, SpoolError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).map_err(|_| SpoolError::Closed)?;
        answered.await.map_err(|_| SpoolError::Closed)
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").finish_non_exhaustive()
    }
}

/// What became of a lane up to a position; see [`SpoolCore::settle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The lane.
    pub lane: Lane,
    /// Everything up to and including this is decided.
    pub position: Position,
    /// What of it the endpoint took.
    pub delivered: Counts,
    /// What of it was given up, by reason.
    pub dropped: Vec<(Reason, Counts)>,
}

/// Resolves when a scrape is stored; dropping it cancels nothing.
#[derive(Debug)]
#[must_use = "a ticket tells whether the scrape was stored"]
pub struct Ticket(Outcome);

#[derive(Debug)]
enum Outcome {
    Waiting(oneshot::Receiver<Result<Receipt, SinkError>>),
    Failed(SinkError),
}

impl Ticket {
    /// A ticket of something that was not queued.
    pub fn failed(error: SinkError) -> Self {
        Self(Outcome::Failed(error))
    }
}

impl Future for Ticket {
    type Output = Result<Receipt, SinkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Outcome::Failed(error) => Poll::Ready(Err(error.clone())),
            Outcome::Waiting(answer) => {
                Pin::new(answer).poll(cx).map(|answer| answer.unwrap_or(Err(SinkError::Closed)))
            }
        }
    }
}

pub(super) struct Append {
    pub(super) scrape: Vec<(LogId, Vec<Fragment>)>,
    /// When it was handed over.
    pub(super) at: Duration,
    pub(super) answer: oneshot::Sender<Result<Receipt, SinkError>>,
    pub(super) reservation: Reservation,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, SpoolError>>;

pub(super) enum Command {
    OpenLog { key: String, answer: Answer<LogId> },
    CloseLog { log: LogId, answer: oneshot::Sender<()> },
    CheckKey { key: String, answer: Answer<()> },
    Attach { key: String, log: LogId, options: EndpointOptions, answer: Answer<EndpointId> },
    Adopt { key: String, options: EndpointOptions, answer: Answer<EndpointId> },
    Forget { key: String, answer: Answer<Counts> },
    Detach { endpoint: EndpointId, answer: oneshot::Sender<()> },
    Append(Append),
    Refuse { counts: Vec<(LogId, Counts)>, reason: Reason },
    Fetch { endpoint: EndpointId, lanes: LaneSet, max_bytes: usize, answer: Answer<Vec<StoredFragment>> },
    Settle { endpoint: EndpointId, lanes: Vec<Settled>, answer: Answer<()> },
    Parked { endpoint: EndpointId, answer: oneshot::Sender<Option<EndpointId>> },
    Park(Park),
    Backlog { endpoint: EndpointId, answer: Answer<Backlog> },
    SpreadTargets { answer: oneshot::Sender<(Vec<u64>, LaneSet)> },
    NoteSpread { target: u64 },
    Rewind { endpoint: EndpointId, lane: Lane, answer: Answer<()> },
    ProtocolChoice { endpoint: EndpointId, answer: oneshot::Sender<Option<ProtocolChoice>> },
    ChooseProtocol { endpoint: EndpointId, choice: ProtocolChoice },
    Ledger { endpoint: EndpointId, answer: Answer<LedgerSnapshot> },
    Stats { answer: oneshot::Sender<SpoolStats> },
    Close { answer: oneshot::Sender<SpoolStats> },
}

pub(super) struct Park {
    pub(super) from: EndpointId,
    pub(super) parked: Vec<(Lane, Vec<Fragment>)>,
    pub(super) settled: Vec<Settled>,
    pub(super) answer: Answer<EndpointId>,
}
