//! Addresses that several targets are reached through: a gateway, a load balancer, an API server.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use http::uri::Authority;
use promferry_http_client::{Connection, Http};
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Job, Target};

/// An address that more than one target is reached through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStatus {
    /// Host and port.
    pub address: SmolStr,
    /// How many targets are reached through it.
    pub targets: u64,
    /// Scrapes under way.
    pub in_flight: u64,
    /// Scrapes that are due and wait for others to end, for the pace that is asked for, or for the end of a pause.
    pub waiting: u64,
    /// Connections that wait to be used. Targets that are fewer than may be scraped at once keep theirs, which are not
    /// counted.
    pub connections: u64,
    /// Answers with status 429 or 503 that had all wait.
    pub throttled: u64,
    /// Moments at which a target was to be scraped and still waited since the moment before.
    pub missed: u64,
}

/// The addresses that targets are reached through.
#[derive(Clone, Default)]
pub(crate) struct Gates(Arc<Mutex<HashMap<SmolStr, Arc<Gate>>>>);

impl Gates {
    /// Counts a target among those of its address.
    pub(crate) fn join(&self, target: &Target) -> Membership {
        let address = target.connect_address();
        let mut gates = self.lock();
        let gate = gates.entry(address.clone()).or_insert_with(|| Arc::new(Gate::new(address)));
        gate.members.fetch_add(1, Ordering::Relaxed);
        Membership { gate: Arc::clone(gate), gates: self.clone() }
    }

    /// Those that are shared, in the order of their addresses.
    pub(crate) fn status(&self) -> Vec<GatewayStatus> {
        let gates = self.lock();
        let mut status: Vec<_> = gates.values().filter_map(|gate| gate.status()).collect();
        drop(gates);
        status.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        status
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SmolStr, Arc<Gate>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One target's place at its address.
pub(crate) struct Membership {
    gate: Arc<Gate>,
    gates: Gates,
}

impl Membership {
    /// The gate, if the target has to share it.
    pub(crate) fn shared(&self) -> Option<&Arc<Gate>> {
        self.gate.is_shared().then_some(&self.gate)
    }

    pub(crate) fn address(&self) -> &SmolStr {
        &self.gate.address
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut gates = self.gates.lock();
        if self.gate.members.fetch_sub(1, Ordering::Relaxed) == 1 {
            gates.remove(&self.gate.address);
        }
    }
}

/// What a job asks of the addresses that its targets share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateLimits {
    max_in_flight: usize,
    /// Between one start and the next.
    spacing: Duration,
}

impl GateLimits {
    pub(crate) fn of(job: &Job, target: &Target) -> Self {
        let config = &job.config.gateway;
        let default = if target.is_behind_api_server() { API_SERVER_IN_FLIGHT } else { IN_FLIGHT };
        let rate = config.requests_per_second;
        Self {
            max_in_flight: config.max_in_flight.unwrap_or(default) as usize,
            spacing: if rate > 0.0 { Duration::from_secs_f64(1.0 / rate) } else { Duration::ZERO },
        }
    }
}

const IN_FLIGHT: u32 = 32;
/// An API server counts what it passes on among its requests in flight, 400 of which and no more it serves
/// (kube-apiserver `--max-requests-inflight`).
const API_SERVER_IN_FLIGHT: u32 = 10;

/// Connections that are kept for each address at most: as many as may be in flight, or more where each of a hundred
/// hosts needs its own.
const MAX_IDLE: usize = 128;
/// Servers close theirs after 60 to 75 s mostly.
const MAX_IDLE_TIME: Duration = Duration::from_secs(90);

/// An address. One that a single target has costs no more than this.
pub(crate) struct Gate {
    address: SmolStr,
    members: AtomicUsize,
    shared: OnceLock<Box<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Whose turn it is. The first in line waits for room, for the pace and for the end of a pause, and the others, in
    /// the order in which they came, for the first.
    turn: tokio::sync::Mutex<()>,
    /// Some room may be there.
    left: Notify,
    waiting: AtomicUsize,
    throttled: AtomicU64,
    missed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    last_start: Option<Instant>,
    pause: Option<Pause>,
    /// Refusals without a word on how long, one after the other.
    refusals: u32,
    served_at: Option<Instant>,
    idle: Vec<Idle>,
}

/// Nobody starts.
#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    /// It is made of what may be one application's answer.
    ends_when_served: bool,
}

/// A connection that nobody uses.
struct Idle {
    connection: Connection,
    server: Server,
    since: Instant,
}

/// Whom a connection is with, beyond its address: over TLS each name needs its own.
#[derive(Clone, PartialEq, Eq)]
enum Server {
    Plain,
    Tls(Option<Authority>),
}

impl Server {
    fn of(target: &Target) -> Self {
        if target.url().starts_with("https:") { Self::Tls(target.host().cloned()) } else { Self::Plain }
    }
}

/// What keeps the first in line.
enum Hold {
    Until(Instant),
    Full,
}

impl Gate {
    fn new(address: SmolStr) -> Self {
        Self { address, members: AtomicUsize::new(0), shared: OnceLock::new() }
    }

    fn is_shared(&self) -> bool {
        self.members.load(Ordering::Relaxed) > 1
    }

    /// Whether there are more targets than may be scraped at once.
    pub(crate) fn is_crowded(&self, limits: GateLimits) -> bool {
        self.members.load(Ordering::Relaxed) > limits.max_in_flight
    }

    /// Waits until a scrape may start. Who goes away while waiting holds up nobody.
    pub(crate) async fn enter(self: &Arc<Self>, limits: GateLimits) -> Pass {
        let shared = self.shared();
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&shared.waiting);
        let _turn = shared.turn.lock().await;
        loop {
            // Not within the match: a guard there would be held over the waiting.
            let held = shared.lock().start(limits, Instant::now());
            match held {
                None => {
                    let lends = self.is_crowded(limits);
                    return Pass { gate: Arc::clone(self), limits, lends, served: false };
                }
                // A pause may end early.
                Some(Hold::Until(at)) => {
                    let _ = tokio::time::timeout_at(at, shared.left.notified()).await;
                }
                Some(Hold::Full) => shared.left.notified().await,
            }
        }
    }

    pub(crate) fn count_missed(&self, moments: u64) {
        self.shared().missed.fetch_add(moments, Ordering::Relaxed);
    }

    fn status(&self) -> Option<GatewayStatus> {
        let targets = self.members.load(Ordering::Relaxed) as u64;
        let shared = self.shared.get().filter(|_| targets > 1)?;
        let state = shared.lock();
        Some(GatewayStatus {
            address: self.address.clone(),
            targets,
            in_flight: state.in_flight as u64,
            waiting: shared.waiting.load(Ordering::Relaxed) as u64,
            connections: state.idle.len() as u64,
            throttled: shared.throttled.load(Ordering::Relaxed),
            missed: shared.missed.load(Ordering::Relaxed),
        })
    }

    fn shared(&self) -> &Shared {
        self.shared.get_or_init(Box::default)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Starts a scrape if nothing holds it back.
    fn start(&mut self, limits: GateLimits, now: Instant) -> Option<Hold> {
        if let Some(pause) = self.pause {
            if now < pause.until {
                return Some(Hold::Until(pause.until));
            }
            self.pause = None;
        }
        if self.in_flight >= limits.max_in_flight {
            return Some(Hold::Full);
        }
        let earliest = self.last_start.map(|last| last + limits.spacing);
        if let Some(earliest) = earliest.filter(|earliest| now < *earliest) {
            return Some(Hold::Until(earliest));
        }
        self.in_flight += 1;
        self.last_start = Some(now);
        None
    }

    fn close_idle(&mut self, now: Instant) {
        self.idle.retain(|idle| now.duration_since(idle.since) < MAX_IDLE_TIME);
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A scrape that may be under way, until this is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    limits: GateLimits,
    lends: bool,
    served: bool,
}

impl Pass {
    /// A connection for `target`, or none where targets keep their own.
    pub(crate) fn borrow(&self, http: &Http, target: &Target) -> Option<Lent> {
        if !self.lends {
            return None;
        }
        let server = Server::of(target);
        let mut state = self.gate.shared().lock();
        state.close_idle(Instant::now());
        let known =
            state.idle.iter().rposition(|idle| idle.server == server && idle.connection.http().is_same(http));
        let connection = known.map(|at| state.idle.remove(at).connection);
        drop(state);
        Some(Lent { connection: connection.unwrap_or_else(|| Connection::new(http.clone())), server })
    }

    /// Gives back a connection whose last answer was read to its end.
    pub(crate) fn give_back(&self, lent: Lent) {
        let now = Instant::now();
        let mut state = self.gate.shared().lock();
        // The oldest first.
        let surplus = (state.idle.len() + 1).saturating_sub(MAX_IDLE);
        state.idle.drain(..surplus);
        state.idle.push(Idle { connection: lent.connection, server: lent.server, since: now });
    }

    /// The target was answered.
    pub(crate) fn served(&mut self) {
        self.served = true;
    }

    /// The target was refused for now, and was before, since `since`, where it is refused again. Gives the moment at
    /// which the request may be repeated, if it is worth it.
    ///
    /// All wait for as long as the server says, unless it speaks of the one application: where others were served since
    /// the target was refused first, and with 503 also where one was just now. Such a target waits for itself.
    pub(crate) fn refused(&self, refusal: Refusal, since: Option<Instant>) -> Option<Instant> {
        let shared = self.gate.shared();
        let now = Instant::now();
        let mut state = shared.lock();
        let (pause, speaks_of_one) = match refusal {
            Refusal::TooMany(Some(pause)) => (pause, false),
            Refusal::TooMany(None) => {
                // Those that were under way together are refused together.
                if state.pause.is_none_or(|pause| pause.until <= now) {
                    state.refusals += 1;
                }
                let doubled = FIRST_PAUSE.saturating_mul(1 << state.refusals.saturating_sub(1).min(5));
                (doubled.min(LONGEST_PAUSE), false)
            }
            Refusal::Unavailable(Some(pause)) => {
                (pause, state.served_at.is_some_and(|served| now.duration_since(served) < JUST_NOW))
            }
            Refusal::Unavailable(None) => return None,
        };
        let until = now + pause;
        if speaks_of_one || since.is_some_and(|since| state.served_at.is_some_and(|served| served > since)) {
            return Some(until).filter(|_| since.is_none());
        }
        shared.throttled.fetch_add(1, Ordering::Relaxed);
        let ends_when_served = matches!(refusal, Refusal::Unavailable(_));
        let pause = match state.pause.filter(|known| known.until > now) {
            Some(known) => Pause {
                until: known.until.max(until),
                ends_when_served: known.ends_when_served && ends_when_served,
            },
            None => Pause { until, ends_when_served },
        };
        state.pause = Some(pause);
        Some(until)
    }

    /// Makes room for others until `at`, and then waits in line again.
    pub(crate) async fn again(self, at: Instant) -> Self {
        let (gate, limits) = (Arc::clone(&self.gate), self.limits);
        drop(self);
        tokio::time::sleep_until(at).await;
        gate.enter(limits).await
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let shared = self.gate.shared();
        let mut state = shared.lock();
        state.in_flight -= 1;
        if self.served {
            state.served_at = Some(Instant::now());
            state.refusals = 0;
            state.pause = state.pause.filter(|pause| !pause.ends_when_served);
        }
        drop(state);
        shared.left.notify_one();
    }
}

/// A connection that belongs to an address and not to one of its targets.
pub(crate) struct Lent {
    pub(crate) connection: Connection,
    server: Server,
}

/// A status that asks to come again later, with what its `Retry-After` says of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 429.
    TooMany(Option<Duration>),
    /// 503: a load balancer says so of each application that is down, and others are well.
    Unavailable(Option<Duration>),
}

impl Refusal {
    /// What `Retry-After` says.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let (Self::TooMany(pause) | Self::Unavailable(pause)) = self;
        *pause
    }

    pub(crate) fn at_most(self, longest: Duration) -> Self {
        match self {
            Self::TooMany(pause) => Self::TooMany(pause.map(|pause| pause.min(longest))),
            Self::Unavailable(pause) => Self::Unavailable(pause.map(|pause| pause.min(longest))),
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An address that served somebody this short a time ago is not what is unavailable.
const JUST_NOW: Duration = Duration::from_secs(1);
