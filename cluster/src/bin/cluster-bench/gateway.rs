//! `cluster-bench gateway`: thousands of targets behind one nginx that lets 32 requests in, beside targets that are
//! reached directly.
//!
//! All of it is in a network namespace of its own, in which every address of 10.0.0.0/8 is this machine's: the nodes have
//! addresses that nginx' configuration allows, and it is the one in `examples/nginx`, unchanged.

use crate::{
    Failure,
    collectors::{Collector, Collectors},
    verdict,
};
use clap::Args;
use promferry_bench::{
    duration, ledger::Judgement, page::Page, peers::Peer, process::Process, sink::Sink, table::machine,
};
use serde::Serialize;
use std::{
    collections::HashMap,
    env,
    fmt::Write,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

/// The port of a Ray node's agent, which the configuration lets through.
const NODE_PORT: u16 = 8080;
const DIRECT_PORT: u16 = 9100;
/// 10.1.0.0 and what follows are nodes, 10.200.0.0 and what follows are reached directly.
const NODES_FROM: u32 = 0x0a01_0000;
const DIRECT_FROM: u32 = 0x0ac8_0000;
/// Where nginx listens.
const GATEWAY: &str = "10.0.0.1";
/// As in the configuration.
const LIMIT: usize = 32;
/// How much later the direct targets may be scraped while others wait at the gateway.
const LATER_MAX_MS: f64 = 20.0;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    collectors: Collectors,
    /// Targets behind nginx.
    #[arg(long, default_value_t = 2000)]
    targets: u32,
    /// Targets that are reached directly.
    #[arg(long, default_value_t = 50)]
    direct: u32,
    /// Series on each page.
    #[arg(long, default_value_t = 50)]
    series: usize,
    /// How long a target takes for its answer.
    #[arg(long, value_parser = duration::parse, default_value = "150ms")]
    answers_after: Duration,
    /// Time between scrapes.
    #[arg(long, value_parser = duration::parse, default_value = "15s")]
    interval: Duration,
    /// How long each collector scrapes: once the direct targets alone, once all.
    #[arg(long = "for", value_parser = duration::parse, default_value = "95s")]
    length: Duration,
    /// This process is in the network namespace already.
    #[arg(long, hide = true)]
    inside: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    targets: u32,
    direct: u32,
    interval_ms: u64,
    seconds: u64,
    runs: Vec<Run>,
}

/// What one collector did.
#[derive(Debug, Clone, Serialize)]
struct Run {
    collector: Collector,
    version: String,
    /// Scrapes that nodes answered.
    answered: usize,
    /// Of all nodes, the fewest.
    fewest: usize,
    /// Nodes' scrapes that the collector itself calls failed (`up` is 0).
    failed: usize,
    /// Nodes of which nothing arrived.
    silent: usize,
    /// Answers of nginx with status 503.
    refused: usize,
    /// The most requests that nodes were answering at a time.
    most_at_once: usize,
    /// How late the direct targets were scraped, the 99th of a hundred, milliseconds: alone, and beside the nodes.
    late_alone_ms: f64,
    late_beside_ms: f64,
    /// Direct targets' scrapes that failed, beside the nodes.
    direct_failed: usize,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    if !arguments.inside {
        return enter();
    }
    let Some(nginx) = Peer::Nginx.path() else {
        return Err("nginx is missing: scripts/peers provides it".into());
    };
    let mut runs = Vec::new();
    let present = arguments.collectors.present();
    for (collector, program) in &present {
        eprintln!("cluster-bench: {} for two times {:?}", collector.name(), arguments.length);
        match measure(&arguments, *collector, program, &nginx).await {
            Ok(run) => {
                eprintln!("cluster-bench: {run:?}");
                runs.push(run);
            }
            Err(error) => eprintln!("cluster-bench: {error}"),
        }
    }
    let report = Report {
        machine: machine(),
        targets: arguments.targets,
        direct: arguments.direct,
        interval_ms: arguments.interval.as_millis() as u64,
        seconds: arguments.length.as_secs(),
        runs,
    };
    print!("{}", table(&report));
    arguments.collectors.write_json(&report)?;
    let fewest = (arguments.length.as_millis() / arguments.interval.as_millis()) as usize - 1;
    let mut broken = broken(&report.runs, fewest);
    if report.runs.len() < arguments.collectors.collectors.len() {
        broken.push("every collector that was asked for is measured".to_owned());
    }
    Ok(verdict(arguments.collectors.check, !report.runs.is_empty(), &broken))
}

/// Starts this program again in a network namespace of its own.
fn enter() -> Result<ExitCode, Failure> {
    // Who may not make one without a user namespace is mapped to root in one.
    let plain = Command::new("unshare").args(["--net", "true"]).output();
    let mut command = Command::new("unshare");
    command.args(["--net", "--kill-child"]);
    if !plain.is_ok_and(|output| output.status.success()) {
        command.arg("--map-root-user");
    }
    let script = "ip link set lo up && ip address add 10.0.0.1/8 dev lo && exec \"$0\" \"$@\" --inside";
    command.args(["--fork", "sh", "-c", script]).arg(env::current_exe()?).args(env::args_os().skip(1));
    let status = command.status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(
    arguments: &Arguments,
    collector: Collector,
    program: &Path,
    nginx: &Path,
) -> Result<Run, Failure> {
    let folder = tempfile::tempdir()?;
    let _nginx = start_nginx(nginx, folder.path())?;
    let mut late = [0.0; 2];
    let (nodes, received) = {
        let direct = Targets::listen(DIRECT_PORT, arguments.series, Duration::ZERO).await?;
        let sink = Sink::start(Judgement::EachSeries).await?;
        let config = scrape_configs(arguments, false);
        let mut running = arguments.collectors.start(collector, program, "alone", &config, &sink.url())?;
        sleep(arguments.length).await;
        running.must_run()?;
        running.stop().await?;
        late[0] = direct.late_ms(arguments.interval);
        direct.forget();

        let nodes = Targets::listen(NODE_PORT, arguments.series, arguments.answers_after).await?;
        let sink = Sink::start(Judgement::EachSeries).await?;
        let config = scrape_configs(arguments, true);
        let mut running = arguments.collectors.start(collector, program, "beside", &config, &sink.url())?;
        sleep(arguments.length).await;
        running.must_run()?;
        running.stop().await?;
        late[1] = direct.late_ms(arguments.interval);
        (nodes, sink.received())
    };
    let node = |index: u32| SocketAddr::from((Ipv4Addr::from(NODES_FROM + index), NODE_PORT)).to_string();
    let all: Vec<_> = (0..arguments.targets).map(|index| received.instances.get(&node(index))).collect();
    let is_node = |instance: &str| instance.ends_with(&format!(":{NODE_PORT}"));
    let direct_failed = (received.instances.iter())
        .filter(|(instance, _)| !is_node(instance))
        .map(|(_, instance)| instance.failed_ms.len())
        .sum();
    let log = fs::read_to_string(folder.path().join("access.log"))?;
    let (answered, fewest) = nodes.counts(arguments.targets);
    Ok(Run {
        collector,
        version: collector.version(program),
        answered,
        fewest,
        failed: all.iter().flatten().map(|instance| instance.failed_ms.len()).sum(),
        silent: all.iter().filter(|instance| instance.is_none()).count(),
        refused: log.lines().filter(|line| line.contains("\" 503 ")).count(),
        most_at_once: nodes.most_at_once(),
        late_alone_ms: late[0],
        late_beside_ms: late[1],
        direct_failed,
    })
}

/// nginx with the configuration of `examples/nginx`, and around it what belongs to this machine.
fn start_nginx(program: &Path, folder: &Path) -> Result<Process, Failure> {
    let example =
        fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nginx/ray-gateway.conf"))?;
    let shown = folder.display();
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        // Writing into a String cannot fail.
        let _ = writeln!(temporary, "  {kind}_temp_path {shown}/{kind};");
    }
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {shown}/pid;\nerror_log {shown}/error.log;\n\
         events {{ worker_connections 8192; }}\nworker_rlimit_nofile 20000;\n\
         http {{\n  access_log {shown}/access.log;\n{temporary}  include {};\n}}\n",
        example.display()
    );
    fs::write(&config, text)?;
    let arguments = [
        "-p".as_ref(),
        folder.as_os_str(),
        "-c".as_ref(),
        config.as_os_str(),
        "-e".as_ref(),
        "stderr".as_ref(),
    ];
    Ok(Process::start(program, arguments, &folder.join("nginx.log"))?)
}

fn scrape_configs(arguments: &Arguments, with_nodes: bool) -> String {
    let interval = arguments.interval.as_millis();
    let mut text =
        format!("global:\n  scrape_interval: {interval}ms\n  scrape_timeout: 10s\nscrape_configs:\n");
    let targets = |text: &mut String, from: u32, count: u32, port: u16| {
        text.push_str("  static_configs:\n  - targets:\n");
        for index in 0..count {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "    - {}:{port}", Ipv4Addr::from(from + index));
        }
    };
    text.push_str("- job_name: direct\n");
    targets(&mut text, DIRECT_FROM, arguments.direct, DIRECT_PORT);
    if with_nodes {
        text.push_str("- job_name: nodes\n");
        targets(&mut text, NODES_FROM, arguments.targets, NODE_PORT);
        let _ = write!(
            text,
            "  relabel_configs:\n  - {{source_labels: [__address__], target_label: instance}}\n  \
             - {{source_labels: [__address__], regex: '(.+):(\\d+)', target_label: __metrics_path__, \
             replacement: /node/$1/$2/metrics}}\n  \
             - {{target_label: __address__, replacement: '{GATEWAY}:80'}}\n"
        );
    }
    text
}

/// Targets of one port, on every address of this network namespace.
struct Targets {
    shared: Arc<Shared>,
    _listener: JoinSet<()>,
}

struct Shared {
    series: usize,
    answers_after: Duration,
    began: Instant,
    /// When each was asked.
    asked: Mutex<HashMap<IpAddr, Vec<Duration>>>,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Targets {
    async fn listen(port: u16, series: usize, answers_after: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let shared = Arc::new(Shared {
            series,
            answers_after,
            began: Instant::now(),
            asked: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        });
        let mut task = JoinSet::new();
        let of_task = Arc::clone(&shared);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        let shared = Arc::clone(&of_task);
                        // A connection that breaks is the collector's to report.
                        connections.spawn(async move { drop(serve(stream, &shared).await) });
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { shared, _listener: task })
    }

    fn forget(&self) {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn asked(&self) -> HashMap<IpAddr, Vec<Duration>> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often all were asked, and how often the one that was asked least.
    fn counts(&self, targets: u32) -> (usize, usize) {
        let asked = self.asked();
        let of = |index| asked.get(&IpAddr::from(Ipv4Addr::from(NODES_FROM + index))).map_or(0, Vec::len);
        ((0..targets).map(of).sum(), (0..targets).map(of).min().unwrap_or(0))
    }

    fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::Relaxed)
    }

    /// How much later than an even rhythm scrapes came, the 99th of a hundred, milliseconds.
    fn late_ms(&self, interval: Duration) -> f64 {
        let mut late: Vec<f64> = self.asked().values().flat_map(|times| lateness(times, interval)).collect();
        late.sort_unstable_by(f64::total_cmp);
        let last = late.len().saturating_sub(1);
        late.get((last as f64 * 0.99).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// How much later each came than the one that was earliest in its rhythm, milliseconds. The first is left out: it comes
/// when the collector starts.
fn lateness(times: &[Duration], interval: Duration) -> Vec<f64> {
    let offsets: Vec<f64> = (times.iter().skip(1).zip(0..))
        .map(|(time, index)| (time.as_secs_f64() - f64::from(index) * interval.as_secs_f64()) * 1000.0)
        .collect();
    let earliest = offsets.iter().copied().fold(f64::INFINITY, f64::min);
    offsets.into_iter().map(|offset| offset - earliest).collect()
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let address = stream.local_addr()?.ip();
    let mut input = Vec::new();
    let index = match address {
        IpAddr::V4(address) => u32::from(address) as usize,
        IpAddr::V6(_) => 0,
    };
    let page = Page::new(index, shared.series);
    loop {
        while !input.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
        input.clear();
        let sequence = {
            let mut asked = shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let times = asked.entry(address).or_default();
            times.push(shared.began.elapsed());
            times.len() as u64
        };
        let under_way = shared.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_at_once.fetch_max(under_way, Ordering::Relaxed);
        sleep(shared.answers_after).await;
        let mut body = Vec::new();
        page.render(sequence, &mut body);
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.append(&mut body);
        // Whoever has the answer may send the next request before this goes on.
        shared.under_way.fetch_sub(1, Ordering::Relaxed);
        stream.write_all(&answer).await?;
    }
}

fn table(report: &Report) -> String {
    let mut text = format!(
        "{} targets behind one nginx with `limit_conn {LIMIT}` and {} direct ones, every {} s for {} s; {}.\n\n\
         | collector | scrapes answered | fewest of a target | failed | silent targets | 503 of nginx | most at once \
         | direct: late alone, 99 % | beside | failed |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        report.targets,
        report.direct,
        report.interval_ms as f64 / 1000.0,
        report.seconds,
        report.machine,
    );
    for run in &report.runs {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {:.1} ms | {:.1} ms | {} |",
            run.collector.name(),
            run.answered,
            run.fewest,
            run.failed,
            run.silent,
            run.refused,
            run.most_at_once,
            run.late_alone_ms,
            run.late_beside_ms,
            run.direct_failed,
        );
    }
    text
}

/// What ours promised and did not keep; each target was to be scraped `fewest` times.
fn broken(runs: &[Run], fewest: usize) -> Vec<String> {
    let mut broken = Vec::new();
    for ours in runs.iter().filter(|run| run.collector == Collector::Promferry) {
        let failed = ours.failed + ours.silent + ours.refused + ours.direct_failed;
        if failed > 0 || ours.fewest < fewest {
            broken.push(format!("no scrape fails, each target has {fewest} at the least: {ours:?}"));
        }
        if ours.late_beside_ms > ours.late_alone_ms + LATER_MAX_MS {
            broken.push(format!(
                "direct targets are not scraped later: {:.1} ms, alone {:.1} ms",
                ours.late_beside_ms, ours.late_alone_ms
            ));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_counted_from_the_earliest() {
        let times = [10, 1000, 2005, 2990, 4000].map(Duration::from_millis);
        let late: Vec<i64> =
            lateness(&times, Duration::from_secs(1)).iter().map(|ms| ms.round() as i64).collect();
        assert_eq!(late, [10, 15, 0, 10]);
    }
}
