//! `promferry spool`: looks at a spool, checks it, delivers what waits in it, or gives it up.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use promferry_config::{Config, NoFiles};
use promferry_http_client::HttpOptions;
use promferry_model::{Clock, Labels, MemoryBudget, PromDuration, Rng as _, SeededRng, SystemClock};
use promferry_remote_write::spool::{
    DiskStorage, LedgerSnapshot, ReadOnly, Spool, SpoolCore, SpoolError, SpoolOptions, Storage as _, verify,
};
use promferry_remote_write::{Counts, RemoteWrite, Shared};
use promferry_sigv4_auth::Environment;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{self, DrainArgs, LogFormat, LogLevel, SpoolDirectory};
use crate::limits::Limits;
use crate::pipeline::{self, SPOOL_DIRECTORY};
use crate::run::{SHUTDOWN_LIMIT, runtime};
use crate::{check, logging};

/// Exit status when the spool can't be used; 1 says that something is damaged or still waits.
const CANNOT_USE: u8 = 2;
/// How often a drain says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How often it looks whether it is done.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

type Failure = Box<dyn std::error::Error>;

/// Does what the command line says.
#[expect(clippy::print_stderr, reason = "the command's answer")]
pub fn run(what: &cli::Spool) -> ExitCode {
    let done = match what {
        cli::Spool::Ls(directory) => ls(directory),
        cli::Spool::Verify(directory) => check_records(directory),
        cli::Spool::Drain(args) => drain(args),
        cli::Spool::Forget { directory, endpoint } => forget(directory, endpoint),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(CANNOT_USE)
        }
    }
}

fn storage(directory: &SpoolDirectory) -> Result<DiskStorage, Failure> {
    let path = directory.storage_path.join(SPOOL_DIRECTORY);
    DiskStorage::existing(&path)
        .map_err(|error| format!("there is no spool in {}: {error}", path.display()).into())
}

/// `spool ls`.
#[expect(clippy::print_stdout, reason = "the command's answer")]
fn ls(directory: &SpoolDirectory) -> Result<bool, Failure> {
    let mut storage = storage(directory)?;
    println!("spool {}", storage.root().display());
    if let Some(holder) = storage.lock_holder("lock") {
        println!("last opened by {holder}");
    }
    let now = SystemClock::new().now();
    let (core, recovery) =
        SpoolCore::open(ReadOnly::new(storage), SpoolOptions::default(), MemoryBudget::unlimited(), now)?;
    let stats = core.stats();
    for log in &stats.logs {
        println!("log {}: {} segments, {} bytes", log.key, log.segments, log.bytes);
    }
    for endpoint in &stats.endpoints {
        let ledger = &endpoint.ledger;
        let mut line = format!("endpoint {}: {} wait", endpoint.key, counts(ledger.pending));
        let _ = write!(line, " ({} fragments, {} bytes", endpoint.pending_fragments, endpoint.pending_bytes);
        if let Some(oldest) = endpoint.oldest_pending
            && let Some(oldest) = u64::try_from(oldest.as_millis())
                .ok()
                .and_then(|millis| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)))
        {
            let _ = write!(line, ", the oldest of {}", humantime::format_rfc3339_millis(oldest));
        }
        println!("{line}); {}", ledger_line(ledger));
    }
    for file in &recovery.set_aside {
        println!("not understood and left alone: {file}");
    }
    for cursor in &recovery.lost_cursors {
        println!("lost: {cursor}; its endpoint will be sent again what is stored of its log");
    }
    for (log, bytes) in &recovery.unclaimed_logs {
        println!(
            "log {log} has {bytes} bytes and no cursor: an endpoint like the one it was for will be sent it"
        );
    }
    Ok(true)
}

/// `spool verify`.
#[expect(clippy::print_stdout, reason = "the command's answer")]
fn check_records(directory: &SpoolDirectory) -> Result<bool, Failure> {
    let mut storage = ReadOnly::new(storage(directory)?);
    let found = verify(&mut storage)?;
    for damage in &found.damage {
        let lost =
            if damage.counts.is_zero() { String::new() } else { format!(" ({})", counts(damage.counts)) };
        println!("damaged: {} at byte {}: {}{lost}", damage.path, damage.offset, damage.what);
    }
    for file in &found.unknown {
        println!("not understood and left alone: {file}");
    }
    if found.torn_bytes > 0 {
        println!("{} bytes at the ends of logs are no complete scrape", found.torn_bytes);
    }
    println!(
        "{} logs, {} segments, {} records, {} cursors, {} bytes read: {}",
        found.logs,
        found.segments,
        found.records,
        found.cursors,
        found.bytes,
        match found.damage.len() {
            0 => "nothing is damaged".to_owned(),
            places => format!("{places} places are damaged"),
        }
    );
    Ok(found.damage.is_empty())
}

/// `spool forget`.
#[expect(clippy::print_stdout, reason = "the command's answer")]
fn forget(directory: &SpoolDirectory, endpoint: &str) -> Result<bool, Failure> {
    let now = SystemClock::new().now();
    let options = SpoolOptions::default();
    let (mut core, _) = SpoolCore::open(storage(directory)?, options, MemoryBudget::unlimited(), now)?;
    let given_up = core.forget(endpoint).map_err(|error| match error {
        SpoolError::Unknown { .. } => {
            Failure::from(format!("the spool knows no endpoint called {endpoint:?}"))
        }
        error => error.into(),
    })?;
    core.close(now);
    println!("{endpoint}: forgotten; {} were given up", counts(given_up));
    Ok(true)
}

/// `spool drain`.
fn drain(args: &DrainArgs) -> Result<bool, Failure> {
    logging::start(LogLevel::Warn, LogFormat::Logfmt);
    let limits = Limits::of_process();
    let config = args.config_file.as_deref().map(load).transpose()?;
    let runtime = runtime(&limits)?;
    let drained = runtime.block_on(deliver(args, config.as_ref(), limits));
    runtime.shutdown_timeout(Duration::from_secs(1));
    drained
}

fn load(file: &Path) -> Result<Config, Failure> {
    check::load_file(file).map_err(|error| format!("{error}\n{}", error.excerpt()).into())
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn deliver(args: &DrainArgs, config: Option<&Config>, limits: Limits) -> Result<bool, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let budget = MemoryBudget::new(limits.budget_bytes());
    let options = SpoolOptions::default();
    let (spool, recovery) =
        Spool::open(storage(&args.directory)?, options, budget.clone(), Arc::clone(&clock))?;
    let waiting = recovery.endpoints.iter().filter(|(key, pending)| match args.endpoints.as_slice() {
        [] => !pending.is_zero(),
        named => named.contains(key),
    });
    let keys: Vec<String> = waiting.map(|(key, _)| key.clone()).collect();
    if let Some(unknown) = args.endpoints.iter().find(|named| !keys.contains(named)) {
        return Err(format!("the spool knows no endpoint called {unknown:?}").into());
    }
    let unowned = recovery.lost_cursors.len() + recovery.unclaimed_logs.len();
    if unowned > 0 {
        println!(
            "{unowned} cursors are lost: what is stored for their endpoints can't be drained; a start with the \
             configuration that they are in sends it"
        );
    }
    if keys.is_empty() {
        println!("{}", if unowned > 0 { "nothing else waits" } else { "nothing waits" });
        spool.close().await;
        return Ok(unowned == 0);
    }
    let user_agent = concat!("Promferry/", env!("CARGO_PKG_VERSION")).to_owned();
    let http = HttpOptions { user_agent: user_agent.clone(), ..HttpOptions::default() };
    let mut endpoints = Vec::new();
    for key in keys {
        let entry = entry(&key, args.to.as_deref(), config)?;
        endpoints.push(pipeline::endpoint(&entry, &http, &Environment::process())?.0);
    }
    let seed = SeededRng::from_process().next_u64();
    let shared = Shared { external_labels: Labels::default(), spool, budget, clock, seed, user_agent };
    let remote = RemoteWrite::drain(shared, endpoints).await?;

    let ends = async {
        match args.timeout {
            0 => std::future::pending().await,
            seconds => tokio::time::sleep(Duration::from_secs(seconds)).await,
        }
    };
    tokio::select! {
        done = until_delivered(&remote) => done?,
        () = ends => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let status = remote.shutdown(SHUTDOWN_LIMIT).await;
    for endpoint in &status {
        let ledger = &endpoint.ledger;
        println!("{}: {} wait; {}", endpoint.key, counts(ledger.pending), ledger_line(ledger));
    }
    Ok(unowned == 0 && status.iter().all(|endpoint| endpoint.ledger.pending.is_zero()))
}

/// The endpoint's entry in the configuration, or one without any authentication, under the endpoint's key.
fn entry(
    key: &str,
    to: Option<&str>,
    config: Option<&Config>,
) -> Result<promferry_config::Endpoint, Failure> {
    let mut entry = match config {
        Some(config) => {
            let known = config.remote_write.iter().find(|endpoint| endpoint.write.key() == key);
            let known =
                known.or_else(|| config.remote_write.iter().find(|e| Some(e.write.url.as_str()) == to));
            known.cloned().ok_or_else(|| {
                format!(
                    "the configuration has no remote_write entry called {key:?}{}; choose endpoints with --endpoint",
                    to.map(|to| format!(" and none for {to}")).unwrap_or_default()
                )
            })?
        }
        // As an entry without any authentication is read.
        None => {
            let url = serde_json::to_string(to.unwrap_or_default())?;
            let text = format!("remote_write:\n- url: {url}\n");
            let config = Config::from_prometheus("--to".as_ref(), &text, &NoFiles, &|_: &str| None)?;
            let mut entry = config.remote_write.into_iter().next().ok_or("there is nowhere to deliver to")?;
            // What was stored for 2.0 may have them, and nobody has asked that they be left out.
            entry.write.send_native_histograms = true;
            entry
        }
    };
    if let Some(to) = to {
        entry.write.url = to.to_owned();
    }
    entry.write.name = key.to_owned();
    entry.write.metadata_config.send = false;
    // Nothing more is coming that a request could wait for.
    entry.write.queue_config.batch_send_deadline = PromDuration::from_millis(100);
    Ok(entry)
}

#[expect(clippy::print_stderr, reason = "the command's answer")]
async fn until_delivered(remote: &RemoteWrite) -> Result<(), SpoolError> {
    let mut said = tokio::time::Instant::now();
    loop {
        let status = remote.status().await?;
        if status.iter().all(|endpoint| endpoint.ledger.pending.is_zero()) {
            return Ok(());
        }
        if said.elapsed() >= PROGRESS_INTERVAL {
            said = tokio::time::Instant::now();
            for endpoint in status {
                let trouble = endpoint.delivery.last_error.map(|error| format!("; {}", error.text));
                eprintln!(
                    "{}: {} wait{}",
                    endpoint.key,
                    counts(endpoint.ledger.pending),
                    trouble.unwrap_or_default()
                );
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn counts(counts: Counts) -> String {
    let mut text = format!("{} samples", counts.samples);
    for (count, kind) in [(counts.histograms, "histograms"), (counts.exemplars, "exemplars")] {
        if count > 0 {
            let _ = write!(text, ", {count} {kind}");
        }
    }
    text
}

fn ledger_line(ledger: &LedgerSnapshot) -> String {
    let mut line =
        format!("{} accepted so far, {} delivered", counts(ledger.accepted), counts(ledger.delivered));
    for (reason, dropped) in &ledger.dropped {
        let _ = write!(line, ", {} dropped as {reason}", counts(*dropped));
    }
    line
}
