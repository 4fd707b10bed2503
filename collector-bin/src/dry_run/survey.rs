//! What a dry run finds out.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use promferry_config::{Config, Sources};
use promferry_discovery::MechanismStatus;
use promferry_http_client::HttpOptions;
use promferry_remote_write::encode::DuplicateSeries;
use promferry_remote_write::spool::{MemoryStorage, SpoolOptions};
use promferry_remote_write::{EndpointStatus, JobUsage};
use promferry_scrape::{Job, PoolStatus, PoolSummary, TargetStatus};
use promferry_sigv4_auth::Environment;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::findings::Finding;
use super::recorder::{Recorded, Recorder};
use super::storage::StorageSight;
use crate::cli::{RunArgs, WebArgs};
use crate::limits::Limits;
use crate::listener;
use crate::pipeline::{self, Pipeline, PipelineOptions, StartError};
use crate::run::{Signals, USER_AGENT};
use crate::web::Web;

/// What a dry run found out.
pub(super) struct Survey<'a> {
    pub(super) config: &'a Config,
    /// How the configuration was named on the command line.
    pub(super) source: String,
    pub(super) ended: Ended,
    /// Whether requests were made of all that was scraped.
    pub(super) is_encoded: bool,
    /// What is in nothing below, or not all of it: jobs and endpoints that can't be started, what was not encoded in time.
    pub(super) left_out: Vec<Finding>,
    pub(super) pools: BTreeMap<String, PoolStatus>,
    /// Series that are taken of each job's pages; those that say how the scrapes went are not among them.
    pub(super) series: BTreeMap<String, u64>,
    pub(super) mechanisms: Vec<MechanismStatus>,
    pub(super) endpoints: BTreeMap<String, EndpointStatus>,
    pub(super) recorded: BTreeMap<String, Recorded>,
    /// As whom each endpoint's requests would be signed, or why nothing is there to sign with; endpoints that are not
    /// signed for are left out.
    pub(super) signing: BTreeMap<String, Result<String, String>>,
    /// Series that some endpoint would not get, because others leave under their labels.
    pub(super) duplicates: Vec<DuplicateSeries>,
    pub(super) storage: StorageSight,
    /// The addresses of the pages, and why one can't be listened on now.
    pub(super) addresses: Vec<(String, Result<(), String>)>,
    /// Why the pages can't be served as the flags say, wherever they listen.
    pub(super) pages_fault: Option<String>,
}

/// What ended a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All that was to be found out was.
    Complete,
    /// The time was up.
    AtLimit(Duration),
    /// A signal.
    BySignal,
}

/// How often it is looked whether everything is known.
const LOOK: Duration = Duration::from_millis(50);
/// A mechanism that fails is waited for as long as its first attempts take.
const SECOND_ATTEMPT: Duration = Duration::from_secs(2);
/// How long it may take at least to make requests of what waits.
const FLUSH: Duration = Duration::from_secs(5);
/// How long delivery may take to say how it stands.
const ANSWER: Duration = Duration::from_secs(5);
/// What may wait in memory: requests are taken at once.
const SPOOL_BYTES: u64 = 256 << 20;

impl<'a> Survey<'a> {
    /// Runs the pipeline and looks.
    ///
    /// # Errors
    /// What of the configuration can't be used that is no single job's or endpoint's.
    pub(super) async fn make(
        args: &RunArgs,
        (sources, config): (&Sources, &'a Config),
        limits: Limits,
        limit: Duration,
    ) -> Result<Self, SurveyError> {
        let mut signals = Signals::listen()?;
        let end = Instant::now() + limit;
        let mut addresses = Vec::new();
        for address in &args.web.listen_addresses {
            // For a moment alone: it is for a real run.
            let bound = listener::bind(address).await.map(drop);
            let reason = |error: std::io::Error| std::io::Error::from(error.kind()).to_string();
            addresses.push((address.clone(), bound.map_err(reason)));
        }
        // The rest of what a real run would find wrong with the pages.
        let elsewhere = WebArgs { listen_addresses: Vec::new(), ..args.web.clone() };
        let pages_fault = Web::bind(&elsewhere).await.err().map(|error| error.to_string());
        let environment = Environment::process();
        let (startable, mut left_out) = startable(config, &environment);
        let recorder = Recorder::new(config);
        let features = args.features();
        let options = PipelineOptions {
            // Only a page whose reading panics would be kept there.
            storage_path: std::env::temp_dir().join("promferry-dry-run"),
            spool: SpoolOptions { max_bytes: Some(SPOOL_BYTES), ..SpoolOptions::default() },
            limits,
            user_agent: USER_AGENT.to_owned(),
            environment,
            discovery_debounce: Duration::from_millis(200),
            start_timestamps: features.start_timestamps,
            extra_scrape_metrics: features.extra_scrape_metrics,
            transports: Some(recorder.transports()),
        };
        let pipeline = Pipeline::start_on(&startable, options, || Ok(MemoryStorage::new())).await?;
        let mut asking = JoinSet::new();
        for signing in pipeline.signing().iter().cloned() {
            asking.spawn(async move {
                let told = signing.as_whom().await.map_err(|error| error.to_string());
                (signing.endpoint.clone(), told)
            });
        }
        let mut signing = BTreeMap::new();
        let mut ended = tokio::select! {
            () = known(&pipeline, &mut asking, &mut signing) => Ended::Complete,
            () = tokio::time::sleep_until(end) => Ended::AtLimit(limit),
            _ = signals.next() => Ended::BySignal,
        };
        asking.abort_all();
        let limit = match ended {
            Ended::Complete => FLUSH.max(end.saturating_duration_since(Instant::now())),
            Ended::AtLimit(_) | Ended::BySignal => FLUSH,
        };
        let mut endpoints = tokio::select! {
            // It looks at the limit only when it has an answer.
            flushed = tokio::time::timeout(limit + ANSWER, pipeline.remote().flush(limit)) => {
                flushed.ok().and_then(Result::ok)
            }
            _ = signals.next() => {
                ended = Ended::BySignal;
                None
            }
        };
        if endpoints.is_none() {
            let told = tokio::time::timeout(ANSWER, pipeline.remote().status()).await;
            endpoints = told.ok().and_then(Result::ok);
        }
        let endpoints = endpoints.unwrap_or_default();
        let is_encoded = endpoints.len() == startable.remote_write.len()
            && endpoints.iter().all(|endpoint| endpoint.ledger.pending == endpoint.ledger.parked);
        if !is_encoded {
            let text = "not all that was scraped was made requests of in time: what is told of remote_write is less \
                        than a run would send";
            left_out.push(Finding::new(None, text));
        }
        let endpoints = endpoints.into_iter().map(|endpoint| (endpoint.key.clone(), endpoint));
        let pools = pipeline.scraper().status().into_iter();
        let stats = pipeline.scraper().stats().into_iter();
        let survey = Self {
            config,
            source: source(sources),
            ended,
            is_encoded,
            left_out,
            pools: pools.map(|pool| (pool.scrape_pool.to_string(), pool)).collect(),
            series: stats.map(|(job, stats)| (job.to_string(), stats.series)).collect(),
            mechanisms: pipeline.discovery(),
            endpoints: endpoints.collect(),
            recorded: recorder.recorded(),
            signing,
            duplicates: pipeline.remote().duplicates(),
            storage: StorageSight::of(args.storage_path()),
            addresses,
            pages_fault,
        };
        // It ends with the runtime: there is nothing that a shutdown would have to bring to safety.
        Ok(survey)
    }

    /// The mechanisms that find targets for a job.
    pub(super) fn mechanisms_of(&self, job: &str) -> impl Iterator<Item = &MechanismStatus> {
        self.mechanisms.iter().filter(move |mechanism| mechanism.jobs.iter().any(|name| name == job))
    }

    /// Whether a target is one of the pages that this program would serve, and in a dry run does not.
    pub(super) fn is_own_page(&self, target: &TargetStatus) -> bool {
        let Ok(url) = target.scrape_url.parse::<Uri>() else { return false };
        let is_here = matches!(url.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let port = url.port_u16();
        let port_of = |address: &str| address.rsplit(':').next().and_then(|port| port.parse().ok());
        is_here && port.is_some() && self.addresses.iter().any(|(address, _)| port_of(address) == port)
    }

    /// Samples a second that an endpoint would get, by the targets' intervals.
    pub(super) fn samples_per_second(&self, status: &EndpointStatus) -> f64 {
        let of_job = |job: &JobUsage| job.active_series as f64 * self.scrapes_per_second(&job.job);
        status.jobs.iter().map(of_job).sum()
    }

    /// How often a target of a job is scraped in a second, as a mean over those that are.
    fn scrapes_per_second(&self, job: &str) -> f64 {
        let Some(pool) = self.pools.get(job).filter(|pool| !pool.active.is_empty()) else { return 0.0 };
        let sum: f64 = pool.active.iter().map(|target| 1.0 / target.scrape_interval.as_secs_f64()).sum();
        sum / pool.active.len() as f64
    }
}

/// Why there is nothing to tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum SurveyError {
    #[error("signals can't be listened for: {0}")]
    Signals(#[from] std::io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// How the configuration was named.
fn source(sources: &Sources) -> String {
    match sources {
        Sources::Prometheus(file) => file.display().to_string(),
        // A text may hold secrets.
        Sources::OpenTelemetry { uris, .. } if uris.iter().any(|uri| uri.starts_with("yaml:")) => {
            "the configuration on the command line".to_owned()
        }
        Sources::OpenTelemetry { uris, .. } => uris.join(" and "),
    }
}

/// What of the configuration can be started, and what can't.
fn startable(config: &Config, environment: &Environment) -> (Config, Vec<Finding>) {
    let mut startable = config.clone();
    let mut left_out = Vec::new();
    let options = HttpOptions::default();
    startable.jobs.retain(|job| {
        let made = Job::new(job.scrape.clone(), Vec::new(), options.clone());
        let name = &job.scrape.job_name;
        made.map_err(|error| {
            let place = config.places.job(name).map(ToString::to_string);
            left_out.push(Finding::new(place, format!("a run would not start: {error}")));
        })
        .is_ok()
    });
    let mut index = 0;
    startable.remote_write.retain(|endpoint| {
        let made = pipeline::endpoint(endpoint, &options, environment);
        let place = config.places.endpoint(index).map(ToString::to_string);
        index += 1;
        made.map_err(|error| left_out.push(Finding::new(place, format!("a run would not start: {error}"))))
            .is_ok()
    });
    (startable, left_out)
}

/// Returns once discovery has answered, every target was scraped and it is known as whom is signed.
async fn known(
    pipeline: &Pipeline,
    asking: &mut JoinSet<(String, Result<String, String>)>,
    signing: &mut BTreeMap<String, Result<String, String>>,
) {
    let started = Instant::now();
    let mut pause = LOOK;
    loop {
        tokio::select! {
            Some(told) = asking.join_next() => signing.extend(told),
            () = tokio::time::sleep(pause) => {}
        }
        let mechanisms = pipeline.discovery();
        let has_answered = |mechanism: &MechanismStatus| {
            let is_failing = mechanism.is_failing && started.elapsed() >= SECOND_ATTEMPT;
            mechanism.last_success.is_some() || is_failing
        };
        if !asking.is_empty() || !mechanisms.iter().all(has_answered) {
            continue;
        }
        let is_scraped = |pool: &PoolSummary| {
            let found = mechanisms.iter().filter(|mechanism| mechanism.jobs.contains(&pool.scrape_pool));
            // Groups tell of what is on its way, which comes in batches.
            let found = found.fold((0, 0), |sum, found| (sum.0 + found.groups, sum.1 + found.targets));
            (pool.groups, pool.discovered) == (found.0 as u64, found.1 as u64) && pool.unknown == 0
        };
        let looking = Instant::now();
        if pipeline.scraper().summary().iter().all(is_scraped) {
            return;
        }
        // Looking at tens of thousands of targets may not take the time in which they are scraped.
        pause = LOOK.max(10 * looking.elapsed());
    }
}
