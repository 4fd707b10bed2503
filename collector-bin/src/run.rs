//! `promferry run` and `promferry version`.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use promferry_config::{Config, Sources};
use promferry_remote_write::spool::SpoolOptions;
use promferry_sigv4_auth::Environment;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::cli::{LogLevel, RunArgs};
use crate::health_check::HealthCheckServer;
use crate::limits::{Limits, raise_open_files};
use crate::pages::CollectorPages;
use crate::pipeline::{Pipeline, PipelineOptions, SPOOL_DIRECTORY, host_name};
use crate::reload::Reloader;
use crate::storage_location::StorageLocation;
use crate::watched_files::{ConfigFiles, Reading};
use crate::web::{BoxFuture, Lifecycle, Web};
use crate::{dry_run, logging, promise, reload, verdict, watched_files};

/// How long a stop may take unless told: Kubernetes kills after 30 s.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Exit status for a configuration or a machine that the collector can't run with; 1 is left to panics.
pub(crate) const CANNOT_START: u8 = 2;

/// How requests introduce themselves.
pub(crate) const USER_AGENT: &str = concat!("Promferry/", env!("CARGO_PKG_VERSION"));

/// `promferry run`: scrapes and delivers until SIGTERM or SIGINT, then exits with 0.
pub fn run(args: &RunArgs) -> ExitCode {
    let limits = Limits { budget_share: args.budget_share, ..Limits::of_process() };
    // First of all: until it is listened to, SIGHUP ends the process.
    let listening = listening_runtime(&limits);
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let sources = args.sources(is_set);
    let (loaded, files) = watched_files::load(&sources, Reading::First);
    let of_file = loaded.as_ref().ok().and_then(|config| config.log_level).map(LogLevel::from);
    // Of a dry run the report is what is to be read.
    let least = if args.dry_run.is_some() { Some(LogLevel::Warn) } else { of_file };
    logging::start(args.log_level.or(least).unwrap_or(LogLevel::Info), args.log_format);
    let (configuration, host) = (named(&sources), host_name());
    tracing::info!(config = configuration, host, "promferry {}", env!("CARGO_PKG_VERSION"));
    for warning in args.warnings() {
        tracing::warn!("{warning}");
    }
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(CANNOT_START);
        }
    };
    if let Some(limit) = args.dry_run {
        drop(listening);
        return dry_run::run(args, (&sources, &config), limits, limit.as_std());
    }
    reload::notes(&config).for_each(|note| note.log());
    match raise_open_files() {
        Ok(open_files) => tracing::info!(
            open_files,
            memory_bytes = limits.memory_bytes,
            budget_bytes = limits.budget_bytes(),
            cpus = limits.cpus,
            "limits"
        ),
        Err(error) => tracing::warn!("the limit of open files can't be raised: {error}"),
    }
    let (runtime, hangup) = match listening {
        Ok(listening) => listening,
        Err(error) => {
            tracing::error!("the runtime can't be started: {error}");
            return ExitCode::from(CANNOT_START);
        }
    };
    let outcome = runtime.block_on(serve(args, Read { sources, config, files }, limits, hangup));
    // A task that hangs on something outside must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(CANNOT_START)
        }
    }
}

/// `promferry version`.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub fn version() -> ExitCode {
    println!("promferry {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

/// A runtime for what waits: connections, timers, delivery. Pages are read on its blocking pool, as many at
/// once as there are cores, so that half as many threads are enough here; each one more costs wake-ups.
///
/// # Errors
/// What the system answered.
pub fn runtime(limits: &Limits) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((limits.workers() / 2).clamp(1, 4))
        .max_blocking_threads(limits.workers() + 4)
        .thread_name("promferry")
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
}

/// A runtime and what hears SIGHUP, which asks to read the configuration again.
fn listening_runtime(limits: &Limits) -> std::io::Result<(tokio::runtime::Runtime, Signal)> {
    let runtime = runtime(limits)?;
    let hangup = {
        let _inside = runtime.enter();
        signal(SignalKind::hangup())?
    };
    Ok((runtime, hangup))
}

/// Where the configuration is, without what it says.
fn named(sources: &Sources) -> String {
    match sources {
        Sources::Prometheus(path) => path.display().to_string(),
        Sources::OpenTelemetry { uris, .. } => {
            let named =
                |uri: &String| if uri.starts_with("yaml:") { "yaml:…".to_owned() } else { uri.clone() };
            uris.iter().map(named).collect::<Vec<_>>().join(",")
        }
    }
}

/// A configuration and where it came from.
struct Read {
    sources: Sources,
    config: Config,
    files: ConfigFiles,
}

async fn serve(
    args: &RunArgs,
    read: Read,
    limits: Limits,
    mut hangup: Signal,
) -> Result<(), Box<dyn std::error::Error>> {
    let Read { sources, config, files } = read;
    let mut signals = Signals::listen()?;
    let web = Web::bind(&args.web).await?;
    for url in web.urls()? {
        tracing::info!("listening on {url}");
    }
    let ready = web.readiness();
    let (stop, stopped) = watch::channel(false);
    let pages = Arc::new(OnceLock::new());
    let health_check = match &config.health_check {
        None => None,
        Some(config) => match HealthCheckServer::bind(config, Arc::clone(&ready)).await {
            Ok(server) => {
                tracing::info!("health_check: listening on {}", server.local_addr()?);
                Some(tokio::spawn(server.serve(stopped.clone())))
            }
            // What is scraped and delivered is more than what is said of it.
            Err(error) => {
                tracing::warn!("health_check: {error}");
                None
            }
        },
    };
    let lifecycle = Arc::new(ProcessLifecycle::default());
    let serving = tokio::spawn(web.serve(Arc::clone(&pages), Some(lifecycle.clone()), stopped));
    log_promise(args);
    let features = args.features();
    let options = PipelineOptions {
        storage_path: args.storage_path().to_owned(),
        spool: SpoolOptions { fsync: args.fsync, max_bytes: args.max_bytes, ..SpoolOptions::default() },
        limits,
        user_agent: USER_AGENT.to_owned(),
        environment: Environment::process(),
        discovery_debounce: args.discovery_debounce(),
        start_timestamps: features.start_timestamps,
        extra_scrape_metrics: features.extra_scrape_metrics,
        transports: None,
    };
    // What earlier runs left is read first, which may take as long as it is large.
    let pipeline = tokio::select! {
        started = Pipeline::start(&config, options) => Arc::new(started?),
        end = ending(&mut signals, &lifecycle) => {
            tracing::info!("{end} before the start was over");
            return Ok(());
        }
    };
    let _ = pages.set(CollectorPages::new(Arc::clone(&pipeline)).with_sources(&sources));
    log_start(&config, &pipeline);
    let reloader = Reloader::new(sources, &config, files, Arc::clone(&pipeline));
    drop(config);
    let _ = lifecycle.reloader.set(reloader.clone());
    let mut reloading = JoinSet::new();
    if args.auto_reload {
        let web_config = args.web.config_file.iter().filter(|file| !file.as_os_str().is_empty());
        let web_config = web_config.map(|file| (file.clone(), "--web.config.file".to_owned()));
        reloading.spawn(reloader.clone().watch(args.auto_reload_interval.as_std(), web_config.collect()));
    }
    reloading.spawn(verdict::speak(Arc::clone(&pipeline), stop.subscribe()));
    ready.store(true, Ordering::Release);

    let end = loop {
        tokio::select! {
            end = ending(&mut signals, &lifecycle) => break Ok(end),
            () = pipeline.blinded() => break Err("what is discovered is not taken up any more"),
            _ = hangup.recv() => {
                let reloader = reloader.clone();
                // Whatever it comes to is in the log.
                reloading.spawn(async move { let _ = reloader.reload().await; });
            }
            Some(_) = reloading.join_next() => {}
        }
    };
    reloading.abort_all();
    let (Ok(reason) | Err(reason)) = end;
    tracing::info!("{reason}: scraping stops, what waits is sent for up to {}", args.flush_deadline);
    ready.store(false, Ordering::Release);
    for endpoint in pipeline.shutdown(args.flush_deadline.as_std()).await {
        let ledger = endpoint.ledger;
        let lost = |is_refusal: bool| -> u64 {
            let lost = ledger.dropped.iter().filter(|(reason, _)| reason.is_refusal() == is_refusal);
            lost.map(|(_, counts)| counts.values()).sum()
        };
        tracing::info!(
            "{}: stopped; {} samples accepted, {} delivered, {} refused, {} dropped, {} stay in the spool",
            endpoint.key,
            ledger.accepted.values(),
            ledger.delivered.values(),
            lost(true),
            lost(false),
            ledger.pending.values()
        );
    }
    stop.send_replace(true);
    // Requests under way are answered or given up with the runtime.
    let _ = tokio::time::timeout(Duration::from_millis(500), serving).await;
    if let Some(health_check) = health_check {
        health_check.abort();
    }
    Ok(end.map(|_| ())?)
}

/// What ends the process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// What can be asked of the process over HTTP.
#[derive(Default)]
struct ProcessLifecycle {
    /// There once everything has started.
    reloader: OnceLock<Reloader>,
    quit: Notify,
}

impl Lifecycle for ProcessLifecycle {
    fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let reloader = self.reloader.get().ok_or("the start is not over yet")?;
            reloader.reload().await.map(|_| ()).map_err(|error| error.to_string())
        })
    }

    fn quit(&self) {
        self.quit.notify_one();
    }
}

/// Resolves when the process is to end, with who wants that.
async fn ending(signals: &mut Signals, lifecycle: &ProcessLifecycle) -> &'static str {
    tokio::select! {
        signal = signals.next() => signal,
        () = lifecycle.quit.notified() => "/-/quit",
    }
}

/// Says what becomes of waiting data where the spool actually lies.
fn log_promise(args: &RunArgs) {
    let location = StorageLocation::of(&args.storage_path().join(SPOOL_DIRECTORY));
    tracing::info!("{}", promise::sentence(&location, args.fsync));
    if let Some(advice) = promise::advice(&location) {
        tracing::warn!("{advice}");
    }
}

fn log_start(config: &Config, pipeline: &Pipeline) {
    let recovery = pipeline.recovery();
    for endpoint in &config.remote_write {
        let key = endpoint.write.key();
        let waiting =
            recovery.endpoints.iter().find(|(known, _)| *known == key).map(|(_, counts)| counts.samples);
        tracing::info!(
            "remote_write {key}: {}{}",
            if endpoint.sigv4.is_some() { "signed with SigV4" } else { "not signed" },
            waiting.map(|samples| format!(", {samples} samples wait from before")).unwrap_or_default()
        );
        // With a role of another account a warning has said it.
        let signs_as_itself =
            endpoint.sigv4.as_ref().is_some_and(|sigv4| sigv4.credentials().roles.is_empty());
        if signs_as_itself && endpoint.distinguishing_labels(&config.global).is_empty() {
            tracing::info!(
                "remote_write {key}: no external label tells this cluster from others; should clusters of other \
                 accounts write to the same workspace, by its resource policy, those with the same pod addresses \
                 would write the same series: set global.external_labels.cluster"
            );
        }
    }
    let configured: Vec<String> = config.remote_write.iter().map(|endpoint| endpoint.write.key()).collect();
    for (key, waiting) in recovery.endpoints.iter().filter(|(key, _)| !configured.contains(key)) {
        if !waiting.is_zero() {
            tracing::warn!("{} samples wait for {key}, {}", waiting.samples, reload::LEFT_BEHIND);
        }
    }
    if config.remote_write.is_empty() {
        tracing::warn!("there is no remote_write: targets are scraped and nothing is sent");
    }
    if recovery.damaged > 0 {
        tracing::warn!(
            "the spool had {} damaged places; {} samples are lost",
            recovery.damaged,
            recovery.lost.samples
        );
    }
    for file in &recovery.set_aside {
        tracing::warn!("the spool had a file of another format, which is left alone as {file}");
    }
    let jobs = config.jobs.len();
    tracing::info!("started: {jobs} jobs, {} endpoints", config.remote_write.len());
}
