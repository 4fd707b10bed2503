use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use promferry_model::{Labels, Receipt, Reservation, SinkError};
use promferry_relabel::RelabelConfig;
use tokio::sync::oneshot;

use crate::encode::{Profile, Profiles};
use crate::spool::{LogId, Reason, Spool, Ticket};
use crate::usage::Intake;
use crate::{Counts, Fragment};

/// A profile and where what is encoded for it goes.
pub(super) struct ProfileLog {
    /// A number that only equal profiles share; it names their log on disk.
    pub(super) identity: u64,
    /// What its write relabelling is compiled from.
    pub(super) rules: Vec<RelabelConfig>,
    pub(super) profile: Arc<Profile>,
    pub(super) log: LogId,
    /// What was written for it.
    pub(super) intake: Intake,
}

/// The profiles that there are at one time. A scrape is encoded and stored with the set that its beginning saw.
pub(super) struct Set {
    generation: u32,
    pub(super) external_labels: Labels,
    pub(super) profiles: Arc<Profiles>,
    /// By the profile's position.
    pub(super) logs: Vec<Arc<ProfileLog>>,
    /// Scrapes that have begun and are not stored yet.
    open: AtomicUsize,
    /// Whether what is stored is held.
    is_holding: AtomicBool,
    /// What waits for the endpoints to have their logs, in order; `None` when nothing has to wait.
    held: Mutex<Option<Vec<HeldScrape>>>,
}

/// A scrape that waits, and who waits for it.
type HeldScrape = (Scrape, oneshot::Sender<Ticket>);

/// How often it is looked whether a set's scrapes have ended; most take less.
const LEFT_LOOK: Duration = Duration::from_millis(1);

impl Set {
    pub(super) fn new(generation: u32, external_labels: Labels, logs: Vec<Arc<ProfileLog>>) -> Self {
        let profiles = logs.iter().map(|known| Arc::clone(&known.profile)).collect();
        Self {
            generation,
            external_labels,
            profiles: Arc::new(Profiles::new(generation, profiles)),
            logs,
            open: AtomicUsize::new(0),
            is_holding: AtomicBool::new(false),
            held: Mutex::default(),
        }
    }

    /// The same, for a time at which endpoints have not got its logs yet: what is stored waits for
    /// [`Set::release`].
    pub(super) fn held(self) -> Self {
        Self { is_holding: AtomicBool::new(true), held: Mutex::new(Some(Vec::new())), ..self }
    }

    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Stores what was held, in order, and what comes from now on at once.
    pub(super) fn release(&self, spool: &Spool) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (scrape, stored) in held.take().into_iter().flatten() {
            // Nobody has to wait for it.
            let _ = stored.send(scrape.store(spool));
        }
        // What comes once this is seen is stored after all of it.
        self.is_holding.store(false, Ordering::Release);
    }

    /// Waits until every scrape that began with this set is stored. The set must not be the current one any more.
    pub(super) async fn left(&self) {
        while self.open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(LEFT_LOOK).await;
        }
    }

    /// Stores a scrape in the order of calls.
    pub(super) fn store(&self, scrape: Scrape, spool: &Spool) -> Commit {
        if self.is_holding.load(Ordering::Acquire) {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = held.as_mut() {
                let (stored, ticket) = oneshot::channel();
                held.push((scrape, stored));
                return Commit(Stored::Held(ticket));
            }
        }
        Commit(Stored::Queued(scrape.store(spool)))
    }
}

/// A target's hold on the set that its scrapes are encoded and stored with.
pub(super) struct Entered {
    set: Arc<Set>,
    /// Whether a scrape is under way.
    is_open: bool,
}

impl Entered {
    pub(super) const fn new(set: Arc<Set>) -> Self {
        Self { set, is_open: false }
    }

    /// A scrape begins. It is to end at once where the set is not the current one any more.
    pub(super) fn begin(&mut self) {
        if !std::mem::replace(&mut self.is_open, true) {
            // Either who waits for the set to be left sees this, or who begins sees after this that another set is
            // current.
            self.set.open.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The scrape is stored, or taken back.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.set.open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Deref for Entered {
    type Target = Set;

    fn deref(&self) -> &Set {
        &self.set
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.end();
    }
}

/// What became of a scrape's values: fragments, and what is counted instead.
#[derive(Default)]
pub(super) struct Scrape {
    pub(super) groups: Vec<(LogId, Vec<Fragment>)>,
    pub(super) refused: Vec<(LogId, Counts, Reason)>,
    /// The memory that the fragments have until they are stored; nothing when there was none left for them.
    pub(super) reservation: Option<Reservation>,
}

impl Scrape {
    fn store(self, spool: &Spool) -> Ticket {
        for (log, counts, reason) in self.refused {
            spool.refuse(vec![(log, counts)], reason);
        }
        match self.reservation {
            None => Ticket::failed(SinkError::OverBudget),
            Some(reservation) => {
                // The spool reserves anew what it queues: both at once would count the same bytes twice.
                drop(reservation);
                spool.append(self.groups)
            }
        }
    }
}

/// Resolves when a scrape is in the spool.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Commit(Stored);

#[derive(Debug)]
enum Stored {
    Queued(Ticket),
    Held(oneshot::Receiver<Ticket>),
}

impl Future for Commit {
    type Output = Result<Receipt, SinkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                Stored::Queued(ticket) => return Pin::new(ticket).poll(cx),
                Stored::Held(held) => match Pin::new(held).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(ticket)) => self.0 = Stored::Queued(ticket),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(SinkError::Closed)),
                },
            }
        }
    }
}
