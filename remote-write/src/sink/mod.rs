mod apply;
mod limits;
mod profiles;
mod running;
mod set;
mod target;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promferry_model::{Clock, Labels, MemoryBudget, Timestamp};
use tokio::sync::watch;

use crate::delivery::{DescribeBody, EndpointSnapshot, ExplainDenial, Phase, Transport};
use crate::duplicates::DuplicateNotices;
use crate::encode::{DuplicateSeries, EncodingContext};
use crate::options::{ConfigError, QueueConfig, RemoteWriteConfig};
use crate::spool::{LedgerSnapshot, Spool, SpoolError, SpoolStats};
use crate::usage::{ConfiguredLimits, JobUsage, LimitUsage, TotalIntake};
use crate::{Counts, Protocol};
use limits::watch_limits;
use profiles::ProfilePlan;
use running::{Delivering, Reach, Running, options};
use set::Set;

pub use apply::{Applied, EndpointChange};
pub use set::Commit;
pub use target::RemoteWriteTarget;

/// A durable remote-write sender: the [`Sink`](promferry_model::Sink) that samples are given to, and the delivery to
/// every endpoint.
///
/// Clones share everything. Samples of a committed scrape are in the spool before the commit resolves, and
/// leave it when the endpoint has them or has refused them for good. Endpoints and external labels can be
/// [changed](Self::apply) meanwhile.
#[derive(Clone)]
pub struct RemoteWrite(Arc<Inner>);

/// An endpoint: what is configured, and how its requests travel.
pub struct Endpoint {
    /// The entry of `remote_write`.
    pub config: RemoteWriteConfig,
    /// What carries requests; signing and authentication included.
    pub transport: Transport,
    /// Turns a denial, whatever status it came with, into what the operator has to do.
    pub explain_denial: Option<ExplainDenial>,
    /// Makes what belongs to each body and not to each attempt, for `transport` to find in the requests' extensions:
    /// a signature's hash of the body, say.
    pub describe_body: Option<DescribeBody>,
}

/// What endpoints are sent.
#[derive(Clone, Copy)]
enum Sends {
    SamplesAndBacklog,
    BacklogOnly,
}

/// What all endpoints of a [`RemoteWrite`] share.
pub struct Shared {
    /// Labels for every series that has none of that name (`global.external_labels`).
    pub external_labels: Labels,
    /// The queue on disk.
    pub spool: Spool,
    /// What memory is reserved from.
    pub budget: MemoryBudget,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from: jitter and hash seeds.
    pub seed: u64,
    /// The `User-Agent` of requests.
    pub user_agent: String,
}

/// Why a [`RemoteWrite`] could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An option that cannot be.
    #[error("remote_write endpoint {endpoint}: {source}")]
    Config {
        /// The endpoint's name or URL.
        endpoint: String,
        /// What is wrong.
        source: ConfigError,
    },
    /// Two endpoints are known by one name: their backlogs could not be told apart.
    #[error("two remote_write endpoints are called {0}; give each a name of its own")]
    DuplicateEndpoint(String),
    /// [`RemoteWrite::apply`] was to keep the transport of an endpoint that there is not.
    #[error("there is no remote_write endpoint {0} whose transport could stay")]
    NoTransport(String),
    /// [`RemoteWrite::apply`] on what only [drains](RemoteWrite::drain).
    #[error("the endpoints of a spool that is being drained can't be changed")]
    Draining,
    /// The spool could not be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// An endpoint as it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// The endpoint's name, else its URL.
    pub key: String,
    /// Where it is, without credentials.
    pub url: String,
    /// The message that is configured.
    pub protocol: Protocol,
    /// What became of everything so far.
    pub ledger: LedgerSnapshot,
    /// Requests, bytes and the latest trouble, since its delivery began: at the start, or when
    /// [`RemoteWrite::apply`] last changed it.
    pub delivery: EndpointSnapshot,
    /// What each job writes to the endpoint, by name.
    pub jobs: Vec<JobUsage>,
    /// How much of each limit that is configured is used.
    pub limits: Vec<LimitUsage>,
    /// The latest timestamp that was to be sent; zero before the first of this run.
    pub highest_accepted: Timestamp,
    /// The queue as it is configured.
    pub queue: QueueConfig,
}

struct Inner {
    sends: Sends,
    context: Arc<EncodingContext>,
    /// That of the current set: what a scrape looks at when it begins.
    generation: AtomicU32,
    set: Mutex<Arc<Set>>,
    total_intake: TotalIntake,
    duplicates: DuplicateNotices,
    budget: MemoryBudget,
    clock: Arc<dyn Clock>,
    spool: Spool,
    user_agent: String,
    seed: u64,
    /// How many deliveries were started.
    deliveries: AtomicU64,
    /// In the order of the configuration.
    endpoints: Mutex<Vec<Arc<Running>>>,
    /// How delivery as a whole stands.
    phase: watch::Sender<Phase>,
    /// Held by who changes the endpoints.
    changing: tokio::sync::Mutex<()>,
    /// Whether somebody watches configured limits.
    watches_limits: AtomicBool,
}

/// How long a shutdown waits for the spool when its time is up.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// The first set's; every other has another.
const FIRST_GENERATION: u32 = 1;

/// How often a flush looks whether anything waits.
const FLUSH_LOOK: Duration = Duration::from_millis(10);

impl RemoteWrite {
    /// Starts delivery to `endpoints`, beginning with what earlier runs left in the spool. Has to be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]. An endpoint that can't be reached is none: its data waits.
    pub async fn start(shared: Shared, endpoints: Vec<Endpoint>) -> Result<Self, StartError> {
        Self::begin(shared, endpoints, Sends::SamplesAndBacklog).await
    }

    /// Starts delivery of what earlier runs left in the spool for these endpoints, and of nothing else: samples
    /// that are given to it go nowhere. What was left is sent as it was encoded, whatever relabelling and external
    /// labels the endpoints now have. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; [`SpoolError::Unknown`] when the spool knows no endpoint of that key.
    pub async fn drain(shared: Shared, endpoints: Vec<Endpoint>) -> Result<Self, StartError> {
        Self::begin(shared, endpoints, Sends::BacklogOnly).await
    }

    async fn begin(shared: Shared, endpoints: Vec<Endpoint>, sends: Sends) -> Result<Self, StartError> {
        check(endpoints.iter().map(|endpoint| &endpoint.config))?;
        let Shared { external_labels, spool, budget, clock, seed, user_agent } = shared;
        let context = EncodingContext::new(budget.clone(), seed);
        let (spread, backlog) = spool.spread_targets().await?;
        context.expect_backlog(spread, backlog);
        let configs = endpoints.iter().map(|endpoint| (&endpoint.config, None));
        let plan = match sends {
            Sends::SamplesAndBacklog => ProfilePlan::new(None, &external_labels, configs)?,
            Sends::BacklogOnly => ProfilePlan::default(),
        };
        let opened = plan.open(&spool).await?;
        let set = Set::new(FIRST_GENERATION, external_labels, opened.logs);
        let inner = Arc::new(Inner {
            sends,
            context,
            generation: AtomicU32::new(set.generation()),
            set: Mutex::new(Arc::new(set)),
            total_intake: TotalIntake::default(),
            duplicates: DuplicateNotices::default(),
            budget,
            clock,
            spool,
            user_agent,
            seed,
            deliveries: AtomicU64::new(0),
            endpoints: Mutex::default(),
            phase: watch::Sender::new(Phase::Running),
            changing: tokio::sync::Mutex::default(),
            watches_limits: AtomicBool::new(false),
        });
        let mut profiles = opened.of_endpoints.into_iter();
        let mut attached = Vec::new();
        for endpoint in endpoints {
            let (config, reach) = Reach::of(endpoint);
            let (key, profile) = (config.key(), profiles.next());
            let id = match &profile {
                Some(known) => inner.spool.attach(&key, known.log, options(&config)).await?,
                None => inner.spool.adopt(&key, options(&config)).await?,
            };
            attached.push((key, config, reach, id, profile));
        }
        let mut running = Vec::new();
        for (key, config, reach, id, profile) in attached {
            let choice = inner.spool.protocol_choice(id).await?;
            let delivering = Delivering::start(&inner, &config, &reach, id, choice, None);
            running.push(Arc::new(Running { key, config, reach, id, profile, delivering }));
        }
        *inner.lock_endpoints() = running;
        inner.watch_limits();
        Ok(Self(inner))
    }

    /// Sends what waits without waiting for more, for at most `limit`, and goes on. Every endpoint as it then
    /// stands; it ends early when nothing waits any more but what is [parked](LedgerSnapshot::parked), which the
    /// endpoints do not take for now: flushing does not change that.
    ///
    /// # Errors
    /// [`SpoolError::Closed`] after [`RemoteWrite::shutdown`].
    pub async fn flush(&self, limit: Duration) -> Result<Vec<EndpointStatus>, SpoolError> {
        self.0.endpoints().iter().for_each(|endpoint| endpoint.delivering.hurry());
        let end = tokio::time::Instant::now() + limit;
        loop {
            let status = self.status().await?;
            let waits = status.iter().any(|endpoint| endpoint.ledger.pending != endpoint.ledger.parked);
            if !waits || tokio::time::Instant::now() >= end {
                return Ok(status);
            }
            tokio::time::sleep(FLUSH_LOOK.min(limit)).await;
        }
    }

    /// Sends what waits without waiting for more, for at most `limit`, then stops delivery and closes the
    /// spool. What could not be delivered stays there for the next start. It ends early when everything is
    /// delivered or the endpoints refuse, and three seconds after `limit` at the latest, also when the disk does not
    /// answer. Every endpoint as it finally stands.
    pub async fn shutdown(&self, limit: Duration) -> Vec<EndpointStatus> {
        let started = tokio::time::Instant::now();
        let inner = &self.0;
        inner.enter(Phase::Flushing);
        // Who changes the endpoints just now comes to its end first.
        let mut unchanging = tokio::time::timeout(limit, inner.changing.lock()).await.ok();
        if unchanging.is_none() {
            inner.enter(Phase::Stopped);
            unchanging = tokio::time::timeout(LAST_ANSWER, inner.changing.lock()).await.ok();
        }
        let endpoints = inner.endpoints();
        let mut all = tokio::task::JoinSet::new();
        for task in endpoints.iter().filter_map(|endpoint| endpoint.delivering.take_task()) {
            all.spawn(task);
        }
        let left = limit.saturating_sub(started.elapsed());
        let flushed = tokio::time::timeout(left, async { while all.join_next().await.is_some() {} }).await;
        if flushed.is_err() {
            inner.enter(Phase::Stopped);
            // They wait for nothing any more but the spool.
            let stopped = async { while all.join_next().await.is_some() {} };
            if tokio::time::timeout(LAST_ANSWER, stopped).await.is_err() {
                endpoints.iter().for_each(|endpoint| endpoint.delivering.abort());
            }
        }
        let closed = async {
            let status = match self.status().await {
                Ok(status) => status,
                Err(error) => {
                    tracing::error!(
                        "the spool can't say how it stands ({error}): what it said last is shown"
                    );
                    self.status_in(&self.0.spool.published_stats().stats)
                }
            };
            self.0.spool.close().await;
            status
        };
        let left = limit.saturating_sub(started.elapsed()).max(LAST_ANSWER);
        let status = match tokio::time::timeout(left, closed).await {
            Ok(status) => status,
            Err(_) => {
                let published = self.0.spool.published_stats();
                tracing::error!(
                    "the disk has not answered for {} s: the spool is left as it is",
                    published.age.as_secs()
                );
                self.status_in(&published.stats)
            }
        };
        drop(unchanging);
        status
    }

    /// Every endpoint as it stands now, or, after [`RemoteWrite::shutdown`], as it stood at the end.
    ///
    /// # Errors
    /// [`SpoolError::Closed`] when the spool was closed by another hand.
    pub async fn status(&self) -> Result<Vec<EndpointStatus>, SpoolError> {
        let stats = match self.0.spool.stats().await {
            Ok(stats) => stats,
            Err(error) => self.0.spool.closing_stats().ok_or(error)?,
        };
        Ok(self.status_in(&stats))
    }

    /// Every endpoint with the ledger that these stats of the [spool](Self::spool) have for it: for a page that shows
    /// both and waits for neither.
    pub fn status_in(&self, stats: &SpoolStats) -> Vec<EndpointStatus> {
        let endpoints = self.0.endpoints();
        let status = endpoints.iter().filter_map(|endpoint| {
            let stored = stats.endpoints.iter().find(|stored| stored.key == endpoint.key)?;
            let jobs = self.0.usage(endpoint);
            let profile = endpoint.profile.as_ref();
            Some(EndpointStatus {
                key: endpoint.key.clone(),
                url: endpoint.config.shown_url(),
                protocol: endpoint.config.protocol(),
                ledger: stored.ledger.clone(),
                delivery: endpoint.delivering.stats.snapshot(),
                limits: LimitUsage::all(&ConfiguredLimits::from(&endpoint.config), &jobs),
                jobs,
                highest_accepted: profile.map(|known| known.intake.highest()).unwrap_or_default(),
                queue: endpoint.config.queue_config.clone(),
            })
        });
        status.collect()
    }

    /// What scrapes have brought in this run, before it is known which endpoint gets what of it.
    pub fn total_intake(&self) -> Counts {
        self.0.total_intake.counts()
    }

    /// The latest series that were found to leave under the same labels as others, and are not sent; the latest
    /// last.
    pub fn duplicates(&self) -> Vec<DuplicateSeries> {
        self.0.duplicates.latest()
    }

    /// How many series are active over all targets.
    pub fn active_series(&self) -> usize {
        self.0.context.active_series()
    }

    /// The queue on disk.
    pub fn spool(&self) -> &Spool {
        &self.0.spool
    }
}

impl Inner {
    fn set(&self) -> Arc<Set> {
        Arc::clone(&self.set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes this the set that scrapes begin with.
    fn replace_set(&self, set: &Arc<Set>) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(set);
        self.generation.store(set.generation(), Ordering::SeqCst);
    }

    /// The endpoints in the order of the configuration.
    fn endpoints(&self) -> Vec<Arc<Running>> {
        self.lock_endpoints().clone()
    }

    fn lock_endpoints(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings all of delivery to this phase.
    fn enter(&self, phase: Phase) {
        // Whoever changes the endpoints looks at the phase while it holds these, too.
        let endpoints = self.lock_endpoints();
        self.phase.send_modify(|current| *current = phase.max(*current));
        endpoints.iter().for_each(|endpoint| endpoint.delivering.enter(phase));
    }

    /// Whether there were endpoints before those that are being started.
    fn is_started(&self) -> bool {
        !self.lock_endpoints().is_empty()
    }

    fn next_seed(&self) -> u64 {
        self.seed ^ (1 + self.deliveries.fetch_add(1, Ordering::Relaxed))
    }

    /// Sees that limits are watched once there are some.
    fn watch_limits(self: &Arc<Self>) {
        let mut limits =
            self.endpoints().into_iter().map(|endpoint| ConfiguredLimits::from(&endpoint.config));
        if !limits.all(ConfiguredLimits::is_none) && !self.watches_limits.swap(true, Ordering::Relaxed) {
            tokio::spawn(watch_limits(Arc::downgrade(self)));
        }
    }

    fn usage(&self, endpoint: &Running) -> Vec<JobUsage> {
        let Some(known) = &endpoint.profile else { return Vec::new() };
        let series = self.context.active_series_by_job(&known.profile);
        known.intake.usage(self.clock.monotonic(), series)
    }
}

/// Checks what can be checked of endpoints without a spool.
fn check<'a>(configs: impl IntoIterator<Item = &'a RemoteWriteConfig>) -> Result<(), StartError> {
    let mut keys = Vec::new();
    for config in configs {
        let key = config.key();
        if let Err(source) = config.validate() {
            return Err(StartError::Config { endpoint: key, source });
        }
        if keys.contains(&key) {
            return Err(StartError::DuplicateEndpoint(key));
        }
        keys.push(key);
    }
    Ok(())
}

/// How often the spool is asked when faults of its thread come upon the question. After fewer than these in a row it
/// goes on in memory, where it has none of the disk's.
const ASKED_AT_MOST: u32 = 6;

/// Asks the spool again when a fault of its thread came upon the question: the thread goes on after it, and what is
/// asked may be asked twice.
async fn insist<T, F>(spool: &Spool, ask: impl Fn() -> F) -> Result<T, SpoolError>
where
    F: Future<Output = Result<T, SpoolError>>,
{
    for _ in 1..ASKED_AT_MOST {
        match ask().await {
            Err(SpoolError::Closed) if spool.is_working() => {}
            answered => return answered,
        }
    }
    ask().await
}
