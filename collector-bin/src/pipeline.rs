//! From a configuration to everything running.

mod configured;
mod endpoint;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use promferry_config::Config;
use promferry_discovery::{Change, Changes, Discovery, DiscoveryCounts, DiscoveryOptions, MechanismStatus};
use promferry_http_client::HttpOptions;
use promferry_model::{Clock, MemoryBudget, Rng, SeededRng, SystemClock, TargetGroup};
use promferry_remote_write::delivery::Transport;
use promferry_remote_write::spool::{
    DiskStorage, PublishedStats, RecoveryReport, Spool, SpoolError, SpoolOptions, Storage,
};
use promferry_remote_write::{EndpointChange, EndpointStatus, RemoteWrite, Shared};
use promferry_scrape::{
    CpuSections, GroupChange, GroupSource, JobError, KeptPage, PageKeeper, Scraper, ScraperOptions,
};
use promferry_sigv4_auth::{Environment, SetupError};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::configured::{Configured, Means};
pub use self::configured::{Differences, Reloaded};
pub(crate) use self::endpoint::endpoint;
use crate::heartbeat::Heartbeat;
use crate::kept_pages::KeptPages;
use crate::limits::Limits;
use crate::reload::ReloadStatus;
use crate::signing::Signing;

/// Everything between a configuration and the endpoints, running.
pub struct Pipeline {
    scraper: Arc<Scraper<RemoteWrite>>,
    remote: RemoteWrite,
    discovery: Discovery,
    budget: MemoryBudget,
    limits: Limits,
    heartbeat: Heartbeat,
    means: Means,
    /// Locked while a configuration is applied, so that one is applied after the other.
    configured: tokio::sync::Mutex<Arc<Configured>>,
    signing: Mutex<Vec<Signing>>,
    reload_status: Mutex<ReloadStatus>,
    recovery: RecoveryReport,
    tasks: Vec<JoinHandle<()>>,
    /// Changes of discovery are not taken up any more.
    is_blind: watch::Sender<bool>,
    is_stopping: AtomicBool,
}

/// What pages show of delivery, all of one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryStatus {
    /// Every endpoint as it stands.
    pub endpoints: Vec<EndpointStatus>,
    /// What there is in the spool, of which the endpoints' ledgers are a part.
    pub spool: PublishedStats,
}

/// How long a page waits for what the spool's thread says before it shows what that said last.
const SPOOL_ANSWER: Duration = Duration::from_millis(250);

/// Where the spool lies under the storage path.
pub const SPOOL_DIRECTORY: &str = "spool";

/// What a [`Pipeline`] is given besides its configuration.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Where the spool and kept pages lie.
    pub storage_path: PathBuf,
    /// How the spool keeps what it is given.
    pub spool: SpoolOptions,
    /// What the process may use.
    pub limits: Limits,
    /// How requests introduce themselves.
    pub user_agent: String,
    /// Where credentials are looked for.
    pub environment: Environment,
    /// How soon the changes of discovery are taken up after the first.
    pub discovery_debounce: Duration,
    /// Start timestamps are read, and OpenMetrics' `_created` series are no series of their own.
    pub start_timestamps: bool,
    /// What `extra_scrape_metrics` is for jobs of which neither they nor `global` say it.
    pub extra_scrape_metrics: bool,
    /// What carries the requests instead of HTTP and signing, if anything does.
    pub transports: Option<Transports>,
}

/// What carries an endpoint's requests instead of HTTP and signing, by the endpoint's name or URL: for a run from
/// which nothing is sent. Credentials are fetched all the same, when [`Pipeline::signing`] is asked for them.
#[derive(Clone)]
pub struct Transports(Arc<dyn Fn(&str) -> Transport + Send + Sync>);

impl Transports {
    /// Asks `of` for the transport of each endpoint.
    pub fn new(of: impl Fn(&str) -> Transport + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transports")
    }
}

/// Why a [`Pipeline`] could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The storage path can't be used.
    #[error("the storage path {path:?} can't be used: {source}")]
    Storage {
        /// The path.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The spool can't be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A job's options can't be used.
    #[error(transparent)]
    Job(#[from] JobError),
    /// An endpoint's `http_config` can't be used.
    #[error("remote_write {endpoint}: {source}")]
    Http {
        /// The endpoint's name or URL.
        endpoint: String,
        /// What is wrong.
        source: promferry_http_client::Error,
    },
    /// An endpoint's `sigv4` can't be used.
    #[error("remote_write {endpoint}: sigv4: {source}")]
    SigV4 {
        /// The endpoint's name or URL.
        endpoint: String,
        /// What is wrong.
        source: SetupError,
    },
    /// An endpoint's URL can't be signed for.
    #[error(
        "remote_write {endpoint}: sigv4 needs a url like https://aps-workspaces.REGION.amazonaws.com/…: {source}"
    )]
    Url {
        /// The endpoint's name or URL.
        endpoint: String,
        /// What is wrong.
        source: http::uri::InvalidUri,
    },
    /// Delivery can't be started.
    #[error(transparent)]
    RemoteWrite(#[from] promferry_remote_write::StartError),
    /// A configuration came while everything was being stopped.
    #[error("the process is ending")]
    Stopping,
}

impl Pipeline {
    /// Starts everything that `config` asks for. Nothing has to be reachable: targets that are not answer
    /// later or are down, and what an endpoint does not take waits in the spool.
    ///
    /// # Errors
    /// [`StartError`] names what in the configuration or on this machine can't be used.
    pub async fn start(config: &Config, options: PipelineOptions) -> Result<Self, StartError> {
        let spool = options.storage_path.join(SPOOL_DIRECTORY);
        Self::start_on(config, options, || DiskStorage::new(spool)).await
    }

    /// The same with a spool in this storage. What earlier runs left is read on the blocking pool, for however long
    /// that takes; the runtime goes on meanwhile.
    ///
    /// # Errors
    /// As [`Pipeline::start`].
    pub async fn start_on<S: Storage>(
        config: &Config,
        options: PipelineOptions,
        storage: impl FnOnce() -> std::io::Result<S> + Send + 'static,
    ) -> Result<Self, StartError> {
        let PipelineOptions {
            storage_path,
            spool,
            limits,
            user_agent,
            environment,
            discovery_debounce,
            start_timestamps,
            extra_scrape_metrics,
            transports,
        } = options;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let budget = MemoryBudget::new(limits.budget_bytes());
        let mut rng = SeededRng::from_process();
        let http_options = HttpOptions { user_agent: user_agent.clone(), ..HttpOptions::default() };
        let means = Means { http: http_options.clone(), extra_scrape_metrics, environment, transports };
        let (configured, endpoints) = Configured::new(config, &Configured::default(), &means)?;
        let endpoints = endpoints.into_iter().filter_map(|endpoint| match endpoint {
            EndpointChange::Anew(endpoint) => Some(endpoint),
            // There is none whose transport it could have.
            EndpointChange::SameTransport(_) => None,
        });

        let opening = tokio::task::spawn_blocking({
            let (storage_path, budget, clock) = (storage_path.clone(), budget.clone(), Arc::clone(&clock));
            move || {
                let storage =
                    storage().map_err(|source| StartError::Storage { path: storage_path, source })?;
                Ok::<_, StartError>(Spool::open(storage, spool, budget, clock)?)
            }
        });
        let (spool, recovery) = match opening.await {
            Ok(opened) => opened?,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => return Err(SpoolError::Closed.into()),
            },
        };
        let shared = Shared {
            external_labels: config.global.external_labels.clone(),
            spool,
            budget: budget.clone(),
            clock: Arc::clone(&clock),
            seed: rng.next_u64(),
            user_agent,
        };
        let remote = RemoteWrite::start(shared, endpoints.collect()).await?;

        let (discovery, changes) = Discovery::new(DiscoveryOptions {
            debounce: discovery_debounce,
            http: http_options,
            ..Default::default()
        });
        let mut scraping = ScraperOptions::default();
        scraping.clock = clock;
        scraping.phase_seed = phase_seed(&config.global.external_labels.to_string());
        scraping.rng = Box::new(rng);
        scraping.budget = budget.clone();
        scraping.cpu = CpuSections::new(limits.workers());
        scraping.start_timestamps = start_timestamps;
        scraping.page_keeper =
            Some(Arc::new(Keeper { pages: KeptPages::new(&storage_path), said: Mutex::default() }));
        scraping.external_host = host_name();
        scraping.groups = Some(Arc::new(DiscoveredGroups(discovery.clone())));
        let scraper = Arc::new(Scraper::new(remote.clone(), scraping));
        scraper.apply(configured.jobs());

        apply_discovery(&discovery, &configured);
        let heartbeat = Heartbeat::default();
        let is_blind = watch::Sender::new(false);
        let following = watched(follow(changes, Arc::clone(&scraper)), is_blind.clone());
        let tasks = vec![tokio::spawn(following), tokio::spawn(heartbeat.clone().run())];
        Ok(Self {
            scraper,
            remote,
            discovery,
            budget,
            limits,
            heartbeat,
            means,
            signing: Mutex::new(configured.signing()),
            configured: tokio::sync::Mutex::new(Arc::new(configured)),
            reload_status: Mutex::new(ReloadStatus::at_start()),
            recovery,
            tasks,
            is_blind,
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Takes `config` into what runs. Everything new is made ready first: unless all of it can be, nothing changes.
    /// What did not change is not touched: its loops, caches and connections live on. The future has to be driven to
    /// its end.
    ///
    /// # Errors
    /// As [`Pipeline::start`], and [`StartError::Stopping`].
    pub async fn apply(&self, config: &Config) -> Result<Reloaded, StartError> {
        let mut running = self.configured.lock().await;
        if self.is_stopping() {
            return Err(StartError::Stopping);
        }
        let (config, before) = (config.clone(), Arc::clone(&running));
        let means = self.means.clone();
        // Certificates are read.
        let (after, endpoints) = blocking(move || Configured::new(&config, &before, &means)).await??;
        let reloaded = after.differences(&running);
        // Delivery comes first, since it alone can still refuse.
        self.remote.apply(after.external_labels.clone(), endpoints).await?;
        // A changed job's rules are applied to all of its targets.
        let (scraper, jobs) = (Arc::clone(&self.scraper), after.jobs());
        blocking(move || scraper.apply(jobs)).await?;
        apply_discovery(&self.discovery, &after);
        *self.signing.lock().unwrap_or_else(PoisonError::into_inner) = after.signing();
        *running = Arc::new(after);
        Ok(reloaded)
    }

    /// How reading the configuration went the last time.
    pub fn reload_status(&self) -> ReloadStatus {
        self.reload_status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_reload_status(&self, change: impl FnOnce(&mut ReloadStatus)) {
        change(&mut self.reload_status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Stops scraping, sends what waits for at most `limit`, and closes the spool. The rest stays there for
    /// the next start. Every endpoint as it finally stands.
    pub async fn shutdown(&self, limit: Duration) -> Vec<EndpointStatus> {
        let started = tokio::time::Instant::now();
        self.is_stopping.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
        // Scrapes that are being read are finished; that is quick, but nothing may hold up the flush.
        let half = limit / 2;
        if tokio::time::timeout(half, self.scraper.shutdown()).await.is_err() {
            tracing::warn!("scrapes under way did not end within {half:?} and are given up");
        }
        self.remote.shutdown(limit.saturating_sub(started.elapsed())).await
    }

    /// Whether what is discovered is scraped and what is scraped can be stored. Faults of ours from which the spool's
    /// thread, or what takes up discovery's changes, could not recover end that; a new start finds on the disk what
    /// waits.
    pub fn is_working(&self) -> bool {
        (self.remote.spool().is_working() && !*self.is_blind.borrow()) || self.is_stopping()
    }

    /// Resolves when changes of discovery are not taken up any more, for a fault of ours: only a new start helps, and
    /// the error log says so.
    pub(crate) async fn blinded(&self) {
        // The sender is ours: it does not go away.
        let _ = self.is_blind.subscribe().wait_for(|is_blind| *is_blind).await;
    }

    /// Whether [`Pipeline::shutdown`] was called.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// The scrape side.
    pub fn scraper(&self) -> &Scraper<RemoteWrite> {
        &self.scraper
    }

    /// Every endpoint as it stands.
    ///
    /// # Errors
    /// [`SpoolError::Closed`] after [`Pipeline::shutdown`].
    pub async fn endpoints(&self) -> Result<Vec<EndpointStatus>, SpoolError> {
        self.remote.status().await
    }

    /// Every endpoint and the spool, in time for a page: while the disk does not answer, as they stood before.
    pub async fn delivery(&self) -> DeliveryStatus {
        let spool = self.remote.spool().stats_within(SPOOL_ANSWER).await;
        DeliveryStatus { endpoints: self.remote.status_in(&spool.stats), spool }
    }

    /// The sink: for how many series are active.
    pub fn remote(&self) -> &RemoteWrite {
        &self.remote
    }

    /// Every discovery mechanism as it stands.
    pub fn discovery(&self) -> Vec<MechanismStatus> {
        self.discovery.status()
    }

    /// Bytes of memory that the objects of Kubernetes clusters take.
    pub fn discovered_objects_bytes(&self) -> usize {
        self.discovery.objects_bytes()
    }

    /// What discovery has done since the start.
    pub fn discovery_counts(&self) -> DiscoveryCounts {
        self.discovery.counts()
    }

    /// The endpoints whose requests are signed.
    pub fn signing(&self) -> Vec<Signing> {
        self.signing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The memory budget.
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// What the process may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How late timers are.
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// What the spool held when it was opened.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }
}

/// What `work` gives, done where blocking does no harm. It fails only when the runtime ends.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => StartError::Stopping,
    })
}

fn apply_discovery(discovery: &Discovery, configured: &Configured) {
    for error in discovery.apply(configured.discovery().map(|(job, configs)| (job.into(), configs))) {
        // The mechanism is tried again and says by itself that it fails.
        tracing::debug!("{error}");
    }
}

/// The groups of all jobs, as discovery knows them: nobody else keeps them.
struct DiscoveredGroups(Discovery);

impl GroupSource for DiscoveredGroups {
    fn for_each(&self, job: &str, each: &mut dyn FnMut(u64, &TargetGroup)) {
        self.0.for_each_group(job, &mut |mechanism, group| each(mechanism.number(), group));
    }
}

/// Takes up the changes of discovery, batch by batch.
async fn follow(mut changes: Changes, scraper: Arc<Scraper<RemoteWrite>>) {
    loop {
        let mut of_jobs: BTreeMap<_, Vec<GroupChange>> = BTreeMap::new();
        for Change { job, mechanism, source, group } in changes.next().await {
            let mechanism = mechanism.number();
            of_jobs.entry(job).or_default().push(GroupChange { mechanism, source, group });
        }
        let scraper = Arc::clone(&scraper);
        let taken = blocking(move || {
            for (job, changes) in of_jobs {
                // A job that has left the configuration may still have changes under way.
                let _ = scraper.change(&job, changes);
            }
        });
        if taken.await.is_err() {
            return;
        }
    }
}

/// Runs what takes up discovery's changes. Should that panic, with groups half taken up, nobody can say what is scraped
/// and what is not: nothing is mended here.
async fn watched(following: impl Future<Output = ()> + Send + 'static, is_blind: watch::Sender<bool>) {
    // It ends with this.
    let mut running = JoinSet::new();
    running.spawn(following);
    if let Some(Err(error)) = running.join_next().await
        && error.is_panic()
    {
        tracing::error!(
            "taking up what was discovered panicked, a fault that only a new start helps against; please report it"
        );
        is_blind.send_replace(true);
    }
}

/// Puts pages aside whose reading panicked.
struct Keeper {
    pages: KeptPages,
    /// When it was said last, which is once a minute at most.
    said: Mutex<Option<Instant>>,
}

const BETWEEN_PANICS_SAID: Duration = Duration::from_secs(60);

impl PageKeeper for Keeper {
    fn keep(&self, page: &KeptPage<'_>) {
        let name = page.url.split('?').next().unwrap_or_default();
        let kept = match self.pages.keep(page.page, name) {
            Ok(path) => format!("its page is kept in {path:?}"),
            Err(error) => format!("its page can't be kept: {error}"),
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= BETWEEN_PANICS_SAID) {
            *said = Some(Instant::now());
            tracing::error!("job {}: reading {name} panicked, and {kept}; please report it", page.job);
        }
    }
}

/// As in Prometheus, replicas with other external labels or on other hosts scrape at other moments.
fn phase_seed(external_labels: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (host_name(), external_labels).hash(&mut hasher);
    hasher.finish()
}

/// In Kubernetes that is the pod's name.
pub(crate) fn host_name() -> Option<String> {
    let name = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_heard_of_and_an_end_is_not() {
        let is_blind = watch::Sender::new(false);
        watched(async {}, is_blind.clone()).await;
        assert!(!*is_blind.borrow());
        watched(async { panic!("planted") }, is_blind.clone()).await;
        assert!(*is_blind.borrow());
    }
}
