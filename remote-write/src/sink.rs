use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use promferry_model::{
    Clock, ExemplarView, Histogram, Labels, MemoryBudget, MetadataView, Receipt, Refused, Sample, SeededRng,
    SeriesId, SeriesView, Sink, SinkError, Stage, TargetInfo, TargetSink, Timestamp,
};
use promferry_relabel::{RelabelConfig, RelabelRules};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use xxhash_rust::xxh3::xxh3_64;

use crate::delivery::{
    Delivery, DescribeBody, EndpointSnapshot, EndpointStats, ExplainDenial, Phase, Transport, start_endpoint,
};
use crate::duplicates::DuplicateNotices;
use crate::encode::{
    DuplicateSeries, EncodedProfile, EncodingContext, NotEncoded, Profile, Profiles, TargetEncoder,
};
use crate::options::{ConfigError, QueueConfig, RemoteWriteConfig};
use crate::spool::{EndpointOptions, LedgerSnapshot, LogId, Reason, Spool, SpoolError, SpoolStats, Ticket};
use crate::usage::{ConfiguredLimits, Intake, JobUsage, LimitUsage, LimitWatch, RateMeter, TotalIntake};
use crate::{Counts, Protocol};

/// A durable remote-write sender: the [`Sink`] that samples are given to, and the delivery to every endpoint.
///
/// Clones share everything. Samples of a committed scrape are in the spool before the commit resolves, and
/// leave it when the endpoint has them or has refused them for good.
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
    /// Requests, bytes and the latest trouble.
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
    context: Arc<EncodingContext>,
    profiles: Arc<Profiles>,
    /// The log of each profile, by the profile's position.
    logs: Vec<LogId>,
    /// What was written, by the profile's position.
    intakes: Vec<Intake>,
    total_intake: TotalIntake,
    duplicates: DuplicateNotices,
    clock: Arc<dyn Clock>,
    spool: Spool,
    endpoints: Vec<Running>,
    phase: watch::Sender<Phase>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Running {
    key: String,
    url: String,
    protocol: Protocol,
    stats: Arc<EndpointStats>,
    /// The position of its profile; `None` if it gets no samples of this run.
    profile: Option<usize>,
    limits: ConfiguredLimits,
    queue: QueueConfig,
}

/// How long a shutdown waits for the spool when its time is up.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How often a flush looks whether anything waits.
const FLUSH_LOOK: Duration = Duration::from_millis(10);

/// What a profile's write relabelling is made of.
type Stages = Vec<Arc<dyn Stage>>;

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
        let context = EncodingContext::new(shared.budget.clone(), shared.seed);
        let (spread, backlog) = shared.spool.spread_targets().await?;
        context.expect_backlog(spread, backlog);
        let (phase, phases) = watch::channel(Phase::Running);
        let mut profiles: Vec<(u64, Arc<Profile>)> = Vec::new();
        let mut stages: Vec<(Vec<RelabelConfig>, Stages)> = Vec::new();
        let mut logs = Vec::new();
        let mut running: Vec<Running> = Vec::new();
        let mut deliveries = Vec::new();
        for endpoint in endpoints {
            let config = endpoint.config;
            let key = config.key();
            let in_config = |source| StartError::Config { endpoint: key.clone(), source };
            config.validate().map_err(in_config)?;
            if running.iter().any(|other| other.key == key) {
                return Err(StartError::DuplicateEndpoint(key));
            }
            let options = EndpointOptions { sample_age_limit: config.sample_age_limit() };
            let (id, profile) = match sends {
                Sends::BacklogOnly => (shared.spool.adopt(&key, options).await?, None),
                Sends::SamplesAndBacklog => {
                    let (identity, mut profile) =
                        profile_of(&config, &shared.external_labels).map_err(in_config)?;
                    let at = match profiles.iter().position(|(known, _)| *known == identity) {
                        Some(at) => at,
                        None => {
                            // The same rules are the same stage, so that it is known that they make the same of
                            // every series.
                            let rules = &config.write_relabel_configs;
                            match stages.iter().find(|(known, _)| known == rules) {
                                Some((_, stages)) => profile.write_relabel.clone_from(stages),
                                None => stages.push((rules.clone(), profile.write_relabel.clone())),
                            }
                            let log = format!("{}-{identity:016x}", protocol_name(profile.protocol));
                            logs.push(shared.spool.open_log(&log).await?);
                            profiles.push((identity, Arc::new(profile)));
                            profiles.len() - 1
                        }
                    };
                    (shared.spool.attach(&key, logs[at], options).await?, Some(at))
                }
            };
            let protocol_choice = shared.spool.protocol_choice(id).await?;
            let stats = Arc::new(EndpointStats::default());
            running.push(Running {
                url: config.shown_url(),
                protocol: config.protocol(),
                stats: Arc::clone(&stats),
                profile,
                limits: ConfiguredLimits::from(&config),
                queue: config.queue_config.clone(),
                key,
            });
            deliveries.push(Delivery {
                headers: headers(&config, &shared.user_agent),
                config,
                transport: endpoint.transport,
                explain_denial: endpoint.explain_denial,
                describe_body: endpoint.describe_body,
                spool: shared.spool.clone(),
                id,
                protocol_choice,
                stats,
                budget: shared.budget.clone(),
                clock: Arc::clone(&shared.clock),
                rng: Box::new(SeededRng::new(shared.seed ^ running.len() as u64)),
                context: Arc::clone(&context),
                phase: phases.clone(),
            });
        }
        let tasks = deliveries.into_iter().map(|delivery| tokio::spawn(start_endpoint(delivery))).collect();
        let profiles: Vec<_> = profiles.into_iter().map(|(_, profile)| profile).collect();
        let inner = Arc::new(Inner {
            context,
            intakes: profiles.iter().map(|_| Intake::default()).collect(),
            total_intake: TotalIntake::default(),
            duplicates: DuplicateNotices::default(),
            clock: shared.clock,
            profiles: Arc::new(Profiles::new(1, profiles)),
            logs,
            spool: shared.spool,
            endpoints: running,
            phase,
            tasks: Mutex::new(tasks),
        });
        if inner.endpoints.iter().any(|endpoint| !endpoint.limits.is_none()) {
            tokio::spawn(watch_limits(Arc::downgrade(&inner), phases));
        }
        Ok(Self(inner))
    }

    /// Sends what waits without waiting for more, for at most `limit`, and goes on. Every endpoint as it then
    /// stands; it ends early when nothing waits any more but what is [parked](LedgerSnapshot::parked), which the
    /// endpoints do not take for now: flushing does not change that.
    ///
    /// # Errors
    /// [`SpoolError::Closed`] after [`RemoteWrite::shutdown`].
    pub async fn flush(&self, limit: Duration) -> Result<Vec<EndpointStatus>, SpoolError> {
        // The phase stays: to be told of it again is what makes delivery look for what waits.
        self.0.phase.send_modify(|_| {});
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
    /// delivered or the endpoints refuse, and two seconds after `limit` at the latest, also when the disk does not
    /// answer. Every endpoint as it finally stands.
    pub async fn shutdown(&self, limit: Duration) -> Vec<EndpointStatus> {
        let started = tokio::time::Instant::now();
        self.0.phase.send_replace(Phase::Flushing);
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let mut all = tokio::task::JoinSet::new();
        for task in tasks {
            all.spawn(task);
        }
        let flushed = tokio::time::timeout(limit, async { while all.join_next().await.is_some() {} }).await;
        if flushed.is_err() {
            self.0.phase.send_replace(Phase::Stopped);
            // They wait for nothing any more but the spool.
            let stopped = async { while all.join_next().await.is_some() {} };
            if tokio::time::timeout(LAST_ANSWER, stopped).await.is_err() {
                aborts.iter().for_each(AbortHandle::abort);
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
        match tokio::time::timeout(limit.saturating_sub(started.elapsed()).max(LAST_ANSWER), closed).await {
            Ok(status) => status,
            Err(_) => {
                let published = self.0.spool.published_stats();
                tracing::error!(
                    "the disk has not answered for {} s: the spool is left as it is",
                    published.age.as_secs()
                );
                self.status_in(&published.stats)
            }
        }
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
        let status = self.0.endpoints.iter().filter_map(|endpoint| {
            let stored = stats.endpoints.iter().find(|stored| stored.key == endpoint.key)?;
            let jobs = self.0.usage(endpoint);
            Some(EndpointStatus {
                key: endpoint.key.clone(),
                url: endpoint.url.clone(),
                protocol: endpoint.protocol,
                ledger: stored.ledger.clone(),
                delivery: endpoint.stats.snapshot(),
                limits: LimitUsage::all(&endpoint.limits, &jobs),
                jobs,
                highest_accepted: endpoint.profile.map(|at| self.0.intakes[at].highest()).unwrap_or_default(),
                queue: endpoint.queue.clone(),
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
    /// Counts what a scrape had for this log and what is not among its fragments.
    fn refuse_left_out(&self, log: LogId, profile: &EncodedProfile) {
        if profile.nhcb_in_rw1_not_supported > 0 {
            let counts = Counts { histograms: profile.nhcb_in_rw1_not_supported, ..Counts::default() };
            self.spool.refuse(vec![(log, counts)], Reason::NHCB_IN_RW1);
        }
        if !profile.duplicate_series.is_zero() {
            self.spool.refuse(vec![(log, profile.duplicate_series)], Reason::DUPLICATE_SERIES);
        }
    }

    fn usage(&self, endpoint: &Running) -> Vec<JobUsage> {
        let Some(at) = endpoint.profile else { return Vec::new() };
        let series = self.context.active_series_by_job(&self.profiles[at]);
        self.intakes[at].usage(self.clock.monotonic(), series)
    }
}

/// Says when an endpoint's limits are near, until delivery ends.
async fn watch_limits(inner: Weak<Inner>, mut phase: watch::Receiver<Phase>) {
    let mut watches: Vec<LimitWatch> = Vec::new();
    let ended = async move { phase.wait_for(|phase| *phase != Phase::Running).await.is_ok() };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            _ = &mut ended => return,
            () = tokio::time::sleep(LimitWatch::PERIOD) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        watches.resize_with(inner.endpoints.len(), LimitWatch::default);
        for (endpoint, watch) in inner.endpoints.iter().zip(&mut watches) {
            for usage in LimitUsage::all(&endpoint.limits, &inner.usage(endpoint)) {
                match watch.judge(inner.clock.monotonic(), &endpoint.key, &usage) {
                    Some((text, true)) => tracing::error!("{text}"),
                    Some((text, false)) => tracing::warn!("{text}"),
                    None => {}
                }
            }
        }
    }
}

impl Sink for RemoteWrite {
    type Target = RemoteWriteTarget;

    fn open(&self, target: &TargetInfo) -> RemoteWriteTarget {
        let encoder = TargetEncoder::new(target, Arc::clone(&self.0.profiles), Arc::clone(&self.0.context));
        let meters = self.0.intakes.iter().map(|intake| intake.meter(&target.job)).collect();
        RemoteWriteTarget { encoder, inner: Arc::clone(&self.0), meters, values: Counts::default() }
    }
}

/// The [`TargetSink`] of a [`RemoteWrite`].
pub struct RemoteWriteTarget {
    encoder: TargetEncoder,
    inner: Arc<Inner>,
    /// What the job's rate is counted with, by the profile's position.
    meters: Box<[Arc<RateMeter>]>,
    /// What was added since `begin`, whichever profiles send it.
    values: Counts,
}

impl TargetSink for RemoteWriteTarget {
    type Commit = Commit;

    fn generation(&self) -> u32 {
        self.inner.profiles.generation()
    }

    fn admit(&mut self, series: &SeriesView<'_>) -> Result<SeriesId, Refused> {
        let admitted = self.encoder.admit(series);
        if let Some(duplicate) = self.encoder.take_duplicate() {
            self.inner.duplicates.say(self.inner.clock.monotonic(), duplicate);
        }
        admitted
    }

    fn release(&mut self, id: SeriesId) {
        self.encoder.release(id);
    }

    fn metadata(&mut self, metadata: &MetadataView<'_>) {
        self.encoder.metadata(metadata);
    }

    fn begin(&mut self, at: Timestamp) {
        self.values = Counts::default();
        self.encoder.set_time(at);
        self.encoder.begin();
    }

    fn sample(&mut self, id: SeriesId, sample: Sample) {
        self.values.samples += 1;
        self.encoder.sample(id, sample);
    }

    fn histogram(
        &mut self,
        id: SeriesId,
        timestamp: Timestamp,
        start: Option<Timestamp>,
        histogram: &Histogram,
    ) {
        self.values.histograms += 1;
        self.encoder.histogram(id, timestamp, start, histogram);
    }

    fn exemplar(&mut self, exemplar: &ExemplarView<'_>) {
        self.values.exemplars += 1;
        self.encoder.exemplar(exemplar);
    }

    fn abort(&mut self) {
        self.encoder.abort();
    }

    fn commit(&mut self) -> Commit {
        let values = std::mem::take(&mut self.values);
        self.inner.total_intake.add(values);
        if self.encoder.is_undecided() {
            self.inner.context.narrow_backlog(self.inner.spool.published_stats().stats.backlog);
        }
        let scrape = match self.encoder.finish() {
            Ok(scrape) => scrape,
            Err(NotEncoded { profiles, .. }) => {
                for (log, profile) in self.inner.logs.iter().zip(&profiles) {
                    self.inner.spool.refuse(vec![(*log, profile.counts)], Reason::OVER_BUDGET);
                    self.inner.refuse_left_out(*log, profile);
                }
                return Commit(Ticket::failed(SinkError::OverBudget));
            }
        };
        if let Some(target) = self.encoder.take_newly_spread() {
            self.inner.spool.note_spread(target);
        }
        let mut groups = Vec::with_capacity(scrape.profiles.len());
        let now = self.inner.clock.monotonic();
        for ((intake, meter), profile) in self.inner.intakes.iter().zip(&self.meters).zip(&scrape.profiles) {
            intake.count(meter, now, profile);
        }
        for (log, profile) in self.inner.logs.iter().zip(scrape.profiles) {
            self.inner.refuse_left_out(*log, &profile);
            if !profile.fragments.is_empty() {
                groups.push((*log, profile.fragments));
            }
        }
        // The spool reserves anew what it queues: both at once would count the same bytes twice.
        drop(scrape.reservation);
        Commit(self.inner.spool.append(groups))
    }
}

/// Resolves when a scrape is in the spool.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Commit(Ticket);

impl Future for Commit {
    type Output = Result<Receipt, SinkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// The profile of an endpoint, and a number that only equal profiles share; it names their log on disk.
fn profile_of(config: &RemoteWriteConfig, external_labels: &Labels) -> Result<(u64, Profile), ConfigError> {
    let protocol = config.protocol();
    let send_native_histograms = config.send_native_histograms || protocol == Protocol::V2;
    let rules = &config.write_relabel_configs;
    let identity = format!(
        "{external_labels} {rules:?} {protocol:?} {} {send_native_histograms}",
        config.send_exemplars
    );
    let compiled = RelabelRules::compile(rules, Default::default()).map_err(|error| ConfigError {
        path: std::iter::once("write_relabel_configs".to_owned()).chain(error.path).collect(),
        message: error.message,
    })?;
    let write_relabel =
        if rules.is_empty() { Vec::new() } else { vec![Arc::new(compiled) as Arc<dyn Stage>] };
    let profile = Profile {
        external_labels: external_labels.clone(),
        write_relabel,
        protocol,
        send_exemplars: config.send_exemplars,
        send_native_histograms,
    };
    Ok((xxh3_64(identity.as_bytes()), profile))
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V1 => "v1",
        Protocol::V2 => "v2",
    }
}

/// Configured headers and the user agent; names were validated, and a value that is no header value is left
/// out as a server could not read it either.
fn headers(config: &RemoteWriteConfig, user_agent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    if let Ok(value) = HeaderValue::from_str(user_agent) {
        headers.insert(http::header::USER_AGENT, value);
    }
    headers
}
