//! The command line of the benchmark: `bench farm`, `bench sink`, `bench run`, `bench kill`, `bench limit`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its findings")]

use clap::{Args, Parser, Subcommand};
use http::{Method, StatusCode};
use promferry_bench::{
    check,
    collector::Collector,
    control::{Control, json},
    duration,
    farm::Farm,
    lasting_limit::{Plan, run_into_limit},
    ledger::{Judgement, SeriesLimits},
    runner::{FarmAddresses, Load, RunError, SinkAddresses, Torment, measure, outage, torment},
    sink::Sink,
    table,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;

/// Measures metrics collectors beside each other, on loopback.
#[derive(Parser)]
#[command(name = "bench")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Targets that listen on 127.0.0.1 and record the scrapes they answered (GET /record).
    Farm {
        /// How many targets.
        #[arg(long, default_value_t = 200)]
        targets: usize,
        /// Series on each page.
        #[arg(long, default_value_t = 1000)]
        series: usize,
        /// Answers with 503 until told otherwise (PUT /awake).
        #[arg(long)]
        asleep: bool,
        /// Ends after this time.
        #[arg(long = "for", value_parser = duration::parse, default_value = "1h")]
        lifetime: Duration,
    },
    /// A remote-write receiver that records (GET /stats, /received) and fails on demand (PUT /fault, DELETE /fault,
    /// PUT /limits).
    Sink {
        /// Count samples without following each series: the least work.
        #[arg(long)]
        count_only: bool,
        /// Ends after this time.
        #[arg(long = "for", value_parser = duration::parse, default_value = "1h")]
        lifetime: Duration,
    },
    /// Measures CPU, memory, bytes and losses of collectors at steady work.
    Run {
        #[command(flatten)]
        collectors: Collectors,
        /// How many targets.
        #[arg(long, default_value_t = 200)]
        targets: usize,
        /// Series on each page.
        #[arg(long, default_value_t = 1000)]
        series: usize,
        /// Time between scrapes.
        #[arg(long, value_parser = duration::parse, default_value = "15s")]
        interval: Duration,
        /// Time before measuring begins.
        #[arg(long, value_parser = duration::parse, default_value = "45s")]
        warmup: Duration,
        /// Time measured; a multiple of the interval.
        #[arg(long, value_parser = duration::parse, default_value = "60s")]
        window: Duration,
        /// Longest wait for a request to fill, for collectors with Prometheus' configuration; their default without it.
        #[arg(long, value_parser = duration::parse)]
        batch_send_deadline: Option<Duration>,
        /// Requests signed with Signature Version 4, as for Amazon Managed Service for Prometheus.
        #[arg(long)]
        signed: bool,
    },
    /// Kills collectors with signal 9 at random moments, the receiver being down part of the time, and counts losses.
    Kill {
        #[command(flatten)]
        collectors: Collectors,
        /// How many targets.
        #[arg(long, default_value_t = 20)]
        targets: usize,
        /// Series on each page.
        #[arg(long, default_value_t = 500)]
        series: usize,
        /// Time between scrapes.
        #[arg(long, value_parser = duration::parse, default_value = "1s")]
        interval: Duration,
        /// How many kills.
        #[arg(long, default_value_t = 10)]
        kills: u32,
        /// Shortest time from a start to a kill.
        #[arg(long, value_parser = duration::parse, default_value = "8s")]
        shortest: Duration,
        /// Longest time from a start to a kill.
        #[arg(long, value_parser = duration::parse, default_value = "16s")]
        longest: Duration,
        /// Chooses the moments.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Kills nothing: takes the receiver away once, for this long, instead.
        #[arg(long, value_parser = duration::parse)]
        only_outage: Option<Duration>,
    },
    /// Offers new series to a receiver that knows as many as it may (AMP's answer, 429), and sees how the known ones fare.
    Limit {
        #[command(flatten)]
        collectors: Collectors,
        /// Targets whose series the receiver knows when the limit is met.
        #[arg(long, default_value_t = 45)]
        known_targets: usize,
        /// Targets that appear afterwards.
        #[arg(long, default_value_t = 10)]
        new_targets: usize,
        /// Series on each page.
        #[arg(long, default_value_t = 1000)]
        series: usize,
        /// Time between scrapes.
        #[arg(long, value_parser = duration::parse, default_value = "5s")]
        interval: Duration,
        /// Series that the receiver takes in.
        #[arg(long, default_value_t = 50_000)]
        limit: u64,
        /// One in so many series is refused for good with status 400; 0 refuses none.
        #[arg(long, default_value_t = 0)]
        refuse_one_in: u64,
        /// The answer to that names the first of them.
        #[arg(long)]
        named: bool,
        /// Time before the new targets appear.
        #[arg(long, value_parser = duration::parse, default_value = "30s")]
        warmup: Duration,
        /// Time afterwards.
        #[arg(long = "for", value_parser = duration::parse, default_value = "20m")]
        limited: Duration,
        /// All collectors beside each other, each with a receiver and targets of its own, instead of one after another.
        #[arg(long)]
        at_once: bool,
    },
}

#[derive(Args)]
struct Collectors {
    /// Which collectors, one after another; one that is missing is skipped aloud.
    #[arg(long = "collector", value_delimiter = ',', default_value = "promferry,prometheus,vmagent")]
    collectors: Vec<Collector>,
    /// Our executable.
    #[arg(long, default_value = "target/release/promferry")]
    binary: PathBuf,
    /// Remote write 2.0 for collectors that speak it.
    #[arg(long)]
    remote_write_2: bool,
    /// Writes all figures to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keeps configurations, data and logs in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Ends with a failure when a collector is missing or ended by itself, or when ours lost a scrape, sent a sample out
    /// of order, fell further behind than 15 s or sent more bytes a sample than a rival.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread is enough for all of it, and leaves the other core to the collector.
#[tokio::main(flavor = "current_thread")]
async fn run(command: Command) -> Result<ExitCode, RunError> {
    tokio::select! {
        done = execute(command) => done,
        // Dropping the future ends every program that was started.
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
    }
}

async fn execute(command: Command) -> Result<ExitCode, RunError> {
    match command {
        Command::Farm { targets, series, asleep, lifetime } => {
            farm(targets, series, asleep, lifetime).await?
        }
        Command::Sink { count_only, lifetime } => {
            let judgement = if count_only { Judgement::CountOnly } else { Judgement::EachSeries };
            sink(judgement, lifetime).await?;
        }
        Command::Run {
            collectors,
            targets,
            series,
            interval,
            warmup,
            window,
            batch_send_deadline,
            signed,
        } => {
            let load = Load {
                targets,
                series,
                interval_ms: interval.as_millis() as u64,
                warmup_ms: warmup.as_millis() as u64,
                window_ms: window.as_millis() as u64,
                remote_write_2: collectors.remote_write_2,
                signed,
                batch_send_deadline_ms: batch_send_deadline.map(|deadline| deadline.as_millis() as u64),
            };
            let mut measurements = Vec::new();
            for (collector, program, folder) in collectors.present()? {
                eprintln!("bench: {} for {:?}", collector.name(), warmup + window);
                measurements.extend(said(measure(collector, &program, &load, folder.path()).await));
            }
            print!("{}", table::steady(&load, &measurements));
            collectors.write_json(&(&load, table::machine(), &measurements))?;
            return Ok(collectors.verdict(measurements.len(), check::steady(&measurements)));
        }
        Command::Kill {
            collectors,
            targets,
            series,
            interval,
            kills,
            shortest,
            longest,
            seed,
            only_outage,
        } => {
            let plan = Torment {
                targets,
                series,
                interval_ms: interval.as_millis() as u64,
                kills: if only_outage.is_some() { 0 } else { kills },
                life_ms: (shortest.as_millis() as u64, longest.max(shortest).as_millis() as u64),
                seed,
                remote_write_2: collectors.remote_write_2,
            };
            let mut survivals = Vec::new();
            for (collector, program, folder) in collectors.present()? {
                let outcome = match only_outage {
                    Some(down) => {
                        eprintln!("bench: {} without its receiver for {down:?}", collector.name());
                        outage(collector, &program, &plan, down, folder.path()).await
                    }
                    None => {
                        eprintln!("bench: {} and {kills} kills", collector.name());
                        torment(collector, &program, &plan, folder.path()).await
                    }
                };
                survivals.extend(said(outcome));
            }
            print!("{}", table::survival(&plan, &survivals));
            collectors.write_json(&(&plan, table::machine(), &survivals))?;
            return Ok(collectors.verdict(survivals.len(), check::survival(&survivals)));
        }
        Command::Limit {
            collectors,
            known_targets,
            new_targets,
            series,
            interval,
            limit,
            refuse_one_in,
            named,
            warmup,
            limited,
            at_once,
        } => {
            let limits = SeriesLimits { active_series: Some(limit), refuse_one_in, names_refused: named };
            let plan = Plan {
                known_targets,
                new_targets,
                series,
                interval_ms: interval.as_millis() as u64,
                limits,
                warmup_ms: warmup.as_millis() as u64,
                limited_ms: limited.as_millis() as u64,
                remote_write_2: collectors.remote_write_2,
            };
            let mut under_way = JoinSet::new();
            let mut runs = Vec::new();
            for (collector, program, folder) in collectors.present()? {
                eprintln!("bench: {} and a limit of {limit} series for {limited:?}", collector.name());
                let plan = plan.clone();
                under_way
                    .spawn(async move { run_into_limit(collector, &program, &plan, folder.path()).await });
                if !at_once {
                    runs.extend(under_way.join_next().await);
                }
            }
            while let Some(run) = under_way.join_next().await {
                runs.push(run);
            }
            let mut runs: Vec<_> = runs
                .into_iter()
                .filter_map(|run| said(run.unwrap_or_else(|error| Err(error.into()))))
                .collect();
            runs.sort_by_key(|run| run.collector);
            print!("{}", table::limited(&plan, &runs));
            collectors.write_json(&(&plan, table::machine(), &runs))?;
            return Ok(collectors.verdict(runs.len(), check::limited(&runs)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn farm(targets: usize, series: usize, asleep: bool, lifetime: Duration) -> Result<(), RunError> {
    let farm = Arc::new(Farm::start(targets, series).await?);
    farm.set_asleep(asleep);
    let answering = Arc::clone(&farm);
    let control = Control::start(move |method, path, _| match (method, path) {
        (&Method::GET, "/record") => json(&answering.record()),
        (&Method::PUT, "/awake") => {
            answering.set_asleep(false);
            (StatusCode::OK, Vec::new())
        }
        _ => (StatusCode::NOT_FOUND, b"GET /record, PUT /awake".to_vec()),
    })
    .await?;
    let addresses = FarmAddresses { control: control.address(), targets: farm.addresses().to_vec() };
    println!("{}", serde_json::to_string(&addresses)?);
    tokio::time::sleep(lifetime).await;
    Ok(())
}

async fn sink(judgement: Judgement, lifetime: Duration) -> Result<(), RunError> {
    let sink = Arc::new(Sink::start(judgement).await?);
    let answering = Arc::clone(&sink);
    let control = Control::start(move |method, path, body| match (method, path) {
        (&Method::GET, "/stats") => json(&answering.stats()),
        (&Method::GET, "/received") => json(&answering.received()),
        (&Method::PUT, "/fault") => match serde_json::from_slice(body) {
            Ok(fault) => {
                answering.set_fault(Some(fault));
                (StatusCode::OK, Vec::new())
            }
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string().into_bytes()),
        },
        (&Method::PUT, "/limits") => match serde_json::from_slice(body) {
            Ok(limits) => {
                answering.set_limits(limits);
                (StatusCode::OK, Vec::new())
            }
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string().into_bytes()),
        },
        (&Method::DELETE, "/fault") => {
            answering.set_fault(None);
            (StatusCode::OK, Vec::new())
        }
        _ => (
            StatusCode::NOT_FOUND,
            b"GET /stats, GET /received, PUT /fault, DELETE /fault, PUT /limits".to_vec(),
        ),
    })
    .await?;
    println!("{}", serde_json::to_string(&SinkAddresses { control: control.address(), url: sink.url() })?);
    tokio::time::sleep(lifetime).await;
    Ok(())
}

/// Where one collector keeps its files.
enum Folder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

impl Collectors {
    /// Those that are there, each with an empty folder.
    fn present(&self) -> io::Result<Vec<(Collector, PathBuf, Folder)>> {
        let mut present = Vec::new();
        for &collector in &self.collectors {
            let Some(program) = collector.program(Some(&self.binary)) else {
                let from = if collector == Collector::Promferry { "--binary" } else { "scripts/peers" };
                eprintln!("bench: SKIPPED {}: its executable is missing ({from})", collector.name());
                continue;
            };
            let folder = match &self.keep {
                Some(keep) => {
                    let path = keep.join(collector.name().replace([' ', ','], ""));
                    fs::create_dir_all(&path)?;
                    Folder::Kept(path)
                }
                None => Folder::Temporary(tempfile::tempdir()?),
            };
            present.push((collector, program, folder));
        }
        Ok(present)
    }

    /// How the program ends when so many collectors gave figures.
    fn verdict(&self, measured: usize, broken: Vec<String>) -> ExitCode {
        if !self.check {
            return if measured == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
        for promise in &broken {
            eprintln!("bench: BROKEN: {promise}");
        }
        let complete = measured == self.collectors.len();
        if complete && broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn write_json(&self, figures: &impl serde::Serialize) -> Result<(), RunError> {
        if let Some(path) = &self.json {
            fs::write(path, serde_json::to_vec_pretty(figures)?)?;
        }
        Ok(())
    }
}

/// What came of a run; an error is printed.
fn said<T>(outcome: Result<T, RunError>) -> Option<T> {
    outcome.inspect_err(|error| eprintln!("bench: {error}")).ok()
}
