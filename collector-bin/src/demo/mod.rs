//! The whole pipeline at work inside one process: exporters, collector, an STS that gives session keys, and a receiver
//! that verifies what it is sent. Three scenes show what becomes of the data when something goes wrong.

mod account;
mod exporters;
mod receiver;
mod scenes;
mod screen;
mod server;
mod sessions;
mod stage;
mod sts;

use std::collections::VecDeque;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::cli::{DemoArgs, WebArgs};
use crate::counts::Grouped;
use crate::limits::{Limits, raise_open_files};
use crate::pages::CollectorPages;
use crate::run::{SHUTDOWN_LIMIT, runtime};
use crate::web::{Web, WebError};
use account::Account;
use exporters::EXPORTERS;
use screen::{Screen, Tone};
use stage::Stage;

/// How long it runs without scenes.
const FAST: Duration = Duration::from_secs(6);
/// What waits at the end has left by then.
const WIND_DOWN: Duration = Duration::from_secs(30);
/// Where the status page is, unless that is taken.
const PORT: u16 = 9090;
/// So many ports are tried, one after the other.
const PORTS: u16 = 20;

/// `promferry demo`: runs until its scenes are told, until Ctrl-C, or for as long as the arguments say. Exit status 0
/// when the account at the end balances, 1 when it does not, 64 inside Kubernetes, where it refuses to run.
#[expect(clippy::print_stderr, reason = "the command's answer")]
pub fn run(args: &DemoArgs) -> ExitCode {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        eprintln!(
            "DEMO  this is a demonstration and refuses to run in Kubernetes; use `promferry run --config.file=…`"
        );
        return ExitCode::from(64);
    }
    if let Some(error) = without_proxies() {
        eprintln!("DEMO  it can't be run without the proxies of the environment: {error}");
        return ExitCode::FAILURE;
    }
    let screen = Screen::stdout();
    show_log(&screen);
    let limits = Limits::of_process();
    // The demo has few connections: the limit it started with does.
    let _ = raise_open_files();
    let played = runtime(&limits).map_err(Into::into).and_then(|runtime| {
        let played = runtime.block_on(play(args, limits, &screen));
        runtime.shutdown_timeout(Duration::from_secs(1));
        played
    });
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("DEMO  {error}");
            ExitCode::FAILURE
        }
    }
}

/// AWS' SDK, which asks STS, takes proxies from the process's environment alone, and none of them knows of what is
/// inside this process: starts the program anew without them, where there are any. Returns only if that fails.
fn without_proxies() -> Option<std::io::Error> {
    const PROXIES: [&str; 6] =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    if PROXIES.iter().all(|name| std::env::var_os(name).is_none()) {
        return None;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut again = match std::env::current_exe() {
        Ok(program) => Command::new(program),
        Err(error) => return Some(error),
    };
    for proxy in PROXIES {
        again.env_remove(proxy);
    }
    Some(again.arg0(name).args(arguments).exec())
}

/// What the pipeline's log says of what needs attention, among the demo's own lines.
fn show_log(screen: &Screen) {
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(screen.clone())
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .compact();
    // Only a second call fails.
    let _ = log.try_init();
}

async fn play(args: &DemoArgs, limits: Limits, screen: &Screen) -> Result<bool, Box<dyn std::error::Error>> {
    let mut signals = Signals::listen()?;
    let (web, taken) = bind().await?;
    let stage = Stage::start(limits).await?;
    screen.say(
        Tone::Plain,
        &format!(
            "{EXPORTERS} exporters (text, OpenMetrics, protobuf, one behind a gateway) → discover → scrape → relabel → \
             spool → SigV4 → remote write → a receiver that verifies"
        ),
    );
    screen.say(
        Tone::Plain,
        "all of it inside this process: nothing leaves this machine, nothing stays on its disk",
    );
    let taken = taken.map(|taken| format!(" (port {taken} is taken)")).unwrap_or_default();
    screen.say(Tone::Plain, &format!("status page: {}{taken}   Ctrl-C ends it early", web.urls()?.join(" ")));
    web.readiness().store(true, Ordering::Release);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let pages = OnceLock::from(CollectorPages::new(Arc::clone(&stage.pipeline)));
    let serving = tokio::spawn(web.serve(Arc::new(pages), None, stopped));

    let interrupted = tokio::select! {
        () = story(args, &stage, screen) => false,
        () = report(&stage, screen) => false,
        () = signals.next() => true,
    };
    screen.keep_status();
    stage.calm();
    let how = if interrupted { "ended early" } else { "the end" };
    screen.say(Tone::Plain, &format!("{how}: scraping stops, what waits is sent"));
    tokio::select! {
        () = wind_down(&stage) => {}
        () = signals.next() => {}
    }
    let endpoints = stage.pipeline.shutdown(SHUTDOWN_LIMIT).await;
    let endpoint = endpoints.first().ok_or("the demo has an endpoint")?;
    let account = Account::new(endpoint, stage.receiver.seen());
    account.tell(screen);
    let program = program();
    screen.say(
        Tone::Title,
        &format!(
            "next: {program} run --dry-run --config.file=prometheus.yml     (or --config=collector.yaml)"
        ),
    );
    if !interrupted && args.seconds == 0 {
        screen.say(
            Tone::Plain,
            &format!("      {program} demo --seconds=600     (the status page stays for ten minutes)"),
        );
    }
    stop.send_replace(true);
    let _ = tokio::time::timeout(Duration::from_millis(500), serving).await;
    Ok(account.balances())
}

/// The scenes, and what the arguments say of the time that they take.
async fn story(args: &DemoArgs, stage: &Stage, screen: &Screen) {
    let seconds = Duration::from_secs(args.seconds);
    let told = async {
        match args.fast {
            true => sleep(FAST).await,
            false => scenes::play(stage, screen).await,
        }
        if !seconds.is_zero() {
            std::future::pending().await
        }
    };
    if seconds.is_zero() {
        return told.await;
    }
    // What did not end by then is given up.
    let _ = tokio::time::timeout(seconds, told).await;
}

/// What is scraped in a second is a mean over so many of them.
const RATE_SECONDS: usize = 5;

/// One line a second on how things stand, for as long as somebody reads it.
async fn report(stage: &Stage, screen: &Screen) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    // A target is scraped at once and then in its phase: what the first second brings is no rate.
    tick.tick().await;
    let start = tick.tick().await;
    let mut scraped = VecDeque::from([(start, stage.standing().await.scraped.values())]);
    while !screen.is_closed() {
        let now = tick.tick().await;
        let standing = stage.standing().await;
        scraped.push_back((now, standing.scraped.values()));
        if scraped.len() > RATE_SECONDS + 1 {
            scraped.pop_front();
        }
        let (since, before) = scraped[0];
        let seconds = now.duration_since(since).as_secs_f64();
        let rate = (standing.scraped.values() - before) as f64 / seconds.max(f64::MIN_POSITIVE);
        let seen = stage.receiver.seen();
        screen.status(format!(
            "{}/{} up  {rate:>3.0} samples/s  delivered {:>5}  waiting {:>5}  refused {}  spool {:>3} KiB  \
             oldest {:>4.1} s  signatures {}/{}",
            standing.up,
            standing.targets,
            Grouped(standing.delivered.values()),
            Grouped(standing.waiting.values()),
            Grouped(standing.refused.values()),
            standing.waiting_bytes.div_ceil(1024),
            standing.oldest.unwrap_or_default().as_secs_f64(),
            seen.verified,
            seen.requests,
        ));
    }
}

/// Ends scraping and waits until nothing waits any more.
async fn wind_down(stage: &Stage) {
    let end = Instant::now() + WIND_DOWN;
    stage.pipeline.scraper().shutdown().await;
    while !stage.standing().await.waiting.is_zero() && Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
    }
}

/// The pages' socket on the first port that is free, and the port that is not, if that is another.
async fn bind() -> Result<(Web, Option<u16>), WebError> {
    for port in PORT..PORT + PORTS {
        if let Ok(web) = Web::bind(&on_port(port)).await {
            return Ok((web, (port != PORT).then_some(PORT)));
        }
    }
    Ok((Web::bind(&on_port(0)).await?, Some(PORT)))
}

fn on_port(port: u16) -> WebArgs {
    WebArgs {
        listen_addresses: vec![format!("127.0.0.1:{port}")],
        page_title: "Promferry DEMO".to_owned(),
        ..WebArgs::default()
    }
}

/// The program as it was called, fit to be typed again from here.
fn program() -> String {
    let name = std::env::args().next().unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let shown = std::path::Path::new(&name);
    let shown = shown.strip_prefix(here).unwrap_or(shown).display().to_string();
    if shown.is_empty() { "promferry".to_owned() } else { shown }
}

/// What ends the demo early.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
