//! The whole pipeline at work inside one process: exporters, collector, and a receiver that verifies what it
//! is sent.

mod exporters;
mod receiver;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use promferry_config::{Config, NoFiles};
use promferry_remote_write::spool::SpoolOptions;
use promferry_sigv4_auth::{Environment, Scope};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{DemoArgs, LogFormat, LogLevel, WebArgs};
use crate::limits::{Limits, raise_open_files};
use crate::logging;
use crate::pages::CollectorPages;
use crate::pipeline::{DeliveryStatus, Pipeline, PipelineOptions};
use crate::run::{SHUTDOWN_LIMIT, runtime};
use crate::web::Web;

pub use exporters::Exporters;
pub use receiver::{Counts, Receiver};

/// Keys that open nothing: AWS' own documentation uses them as examples.
const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// `promferry demo`: runs until Ctrl-C or for as long as the arguments say; exit status 0 when the account
/// balances.
#[expect(clippy::print_stderr, reason = "the command's answer")]
pub fn run(args: &DemoArgs) -> ExitCode {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        eprintln!(
            "DEMO: this is a demonstration and refuses to run in Kubernetes; use `promferry run --config.file=…`"
        );
        return ExitCode::from(64);
    }
    logging::start(LogLevel::Warn, LogFormat::Logfmt);
    let limits = Limits::of_process();
    // The demo has few connections: the limit it started with does.
    let _ = raise_open_files();
    let played = runtime(&limits).map_err(Into::into).and_then(|runtime| {
        let played = runtime.block_on(play(args, limits));
        runtime.shutdown_timeout(Duration::from_secs(1));
        played
    });
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("DEMO: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn play(args: &DemoArgs, limits: Limits) -> Result<bool, Box<dyn std::error::Error>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let scope = Scope { region: "eu-west-1".to_owned(), service: "aps".to_owned() };
    let receiver = Receiver::start(scope, ACCESS_KEY, SECRET_KEY).await?;
    let exporters = Exporters::start().await?;
    let storage = tempfile::Builder::new().prefix("promferry-demo-").tempdir()?;
    let text = configuration(&exporters, &receiver);
    let config = Config::from_prometheus("demo.yml".as_ref(), &text, &NoFiles, &|_: &str| None)?;
    let options = PipelineOptions {
        storage_path: storage.path().to_owned(),
        spool: SpoolOptions::default(),
        limits,
        user_agent: concat!("Promferry/", env!("CARGO_PKG_VERSION"), " (demo)").to_owned(),
        environment: Environment::from_pairs([] as [(&str, &str); 0]),
        discovery_debounce: Duration::from_secs(1),
        start_timestamps: false,
        transports: None,
    };
    let pipeline = std::sync::Arc::new(Pipeline::start(&config, options).await?);
    let web = Web::bind(&WebArgs {
        listen_addresses: vec!["127.0.0.1:0".to_owned()],
        page_title: "Promferry DEMO".to_owned(),
        ..WebArgs::default()
    })
    .await?;
    println!(
        "DEMO  3 exporters (one behind a gateway) → scrape → relabel → spool → SigV4 → remote write → a receiver that \
         verifies"
    );
    println!("DEMO  status page: {}   Ctrl-C ends it with a balance", web.urls()?.join(" "));
    web.readiness().store(true, Ordering::Release);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let pages = std::sync::OnceLock::from(CollectorPages::new(std::sync::Arc::clone(&pipeline)));
    let serving = tokio::spawn(web.serve(std::sync::Arc::new(pages), None, stopped));

    let ends = async {
        if args.seconds == 0 {
            std::future::pending().await
        } else {
            tokio::time::sleep(Duration::from_secs(args.seconds)).await
        }
    };
    tokio::pin!(ends);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    let mut before = 0;
    loop {
        tokio::select! {
            _ = tick.tick() => before = line(&pipeline, &receiver, before).await,
            () = &mut ends => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    println!("DEMO  stopping: scraping ends, what waits is sent");
    // The ledger is read once nothing is added any more, and before the spool is closed.
    pipeline.scraper().shutdown().await;
    for _ in 0..200 {
        if pipeline.endpoints().await?.iter().all(|endpoint| endpoint.ledger.pending.is_zero()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let balanced = balance(&pipeline, &receiver).await?;
    pipeline.shutdown(SHUTDOWN_LIMIT).await;
    stop.send_replace(true);
    let _ = tokio::time::timeout(Duration::from_millis(500), serving).await;
    Ok(balanced)
}

/// One line on how things stand; returns what was delivered so far.
#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn line(pipeline: &Pipeline, receiver: &Receiver, before: u64) -> u64 {
    let pools = pipeline.scraper().status();
    let targets = pools.iter().flat_map(|pool| &pool.active);
    let up = targets.clone().filter(|target| target.health == promferry_scrape::TargetHealth::Up).count();
    let all = targets.count();
    let DeliveryStatus { endpoints, spool, .. } = pipeline.delivery().await;
    let spool_bytes: u64 = spool.stats.logs.iter().map(|log| log.bytes).sum();
    let Some(endpoint) = endpoints.first() else { return before };
    let ledger = &endpoint.ledger;
    let delivered = ledger.delivered.samples;
    println!(
        "DEMO  targets {up}/{all} up   {:>4} samples/s   delivered {delivered:>6}   waiting {:>4}   refused {}   spool {:>4} KiB   \
         signatures {}/{}",
        delivered - before,
        ledger.pending.samples,
        ledger.dropped_total().samples,
        spool_bytes / 1024,
        receiver.counts().verified.load(Ordering::Relaxed),
        receiver.counts().requests.load(Ordering::Relaxed),
    );
    delivered
}

/// The account at the end: what was scraped is delivered or refused, and the receiver counted the same.
#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn balance(pipeline: &Pipeline, receiver: &Receiver) -> Result<bool, Box<dyn std::error::Error>> {
    let endpoints = pipeline.endpoints().await?;
    let endpoint = endpoints.first().ok_or("the demo has an endpoint")?;
    let ledger = &endpoint.ledger;
    let counts = receiver.counts();
    let received = counts.samples.load(Ordering::Relaxed);
    let (requests, verified) =
        (counts.requests.load(Ordering::Relaxed), counts.verified.load(Ordering::Relaxed));
    let scrapes: u64 = pipeline.scraper().stats().values().map(|stats| stats.ledger.scraped).sum();
    let balanced = ledger.balances()
        && ledger.accepted.samples == received + ledger.dropped_total().samples + ledger.pending.samples
        && requests == verified;
    println!(
        "DEMO  {scrapes} scrapes gave {} samples = {} delivered + {} refused + {} waiting; the receiver counted {received}; \
         signatures checked: {verified} of {requests}. {}",
        ledger.accepted.samples,
        ledger.delivered.samples,
        ledger.dropped_total().samples,
        ledger.pending.samples,
        if balanced { "It balances." } else { "It does NOT balance." }
    );
    println!(
        "DEMO  next: promferry check config prometheus.yml && promferry run --config.file=prometheus.yml"
    );
    Ok(balanced)
}

fn configuration(exporters: &Exporters, receiver: &Receiver) -> String {
    let direct: Vec<_> = exporters.direct.iter().map(|address| format!("'{address}'")).collect();
    format!(
        r#"
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  external_labels: {{cluster: demo}}
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: [{direct}], labels: {{team: shop}}}}]
    metric_relabel_configs:
      - {{source_labels: [__name__], regex: build_info, action: drop}}
  - job_name: ray-via-gateway
    static_configs: [{{targets: [worker-1]}}]
    relabel_configs:
      - {{source_labels: [__address__], target_label: instance}}
      - {{source_labels: [__address__], regex: '(.+)', replacement: '/node/$1/metrics', target_label: __metrics_path__}}
      - {{target_label: __address__, replacement: '{gateway}'}}
remote_write:
  - name: demo
    url: http://{receiver}/workspaces/ws-demo/api/v1/remote_write
    send_exemplars: true
    sigv4: {{region: eu-west-1, access_key: {ACCESS_KEY}, secret_key: {SECRET_KEY}}}
    queue_config: {{batch_send_deadline: 500ms}}
"#,
        direct = direct.join(", "),
        gateway = exporters.gateway,
        receiver = receiver.address,
    )
}
