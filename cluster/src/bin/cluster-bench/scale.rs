//! `cluster-bench scale`: what it costs to watch thousands of pods, and how soon a change is a target.

use crate::{
    Failure,
    collectors::{Collector, Collectors, Running},
    mebibytes, pods,
    sampler::{Sampler, Taken, mappings},
    verdict,
};
use clap::Args;
use http::Method;
use promferry_bench::{
    clock::now_ms, duration, farm::Farm, http_call, ledger::Judgement, proc::Usage, sink::Sink,
    table::machine,
};
use promferry_cluster::Cluster;
use promferry_model::{Rng, SeededRng};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    fs,
    path::Path,
    process::ExitCode,
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

/// Objects written to etcd at a time.
const WRITTEN_AT_ONCE: usize = 100;
/// Time between two pods whose first scrape is waited for, and how long such pods appear.
const PROBE_STEP: Duration = Duration::from_secs(2);
const PROBED: Duration = Duration::from_secs(60);
/// vmagent looks at what its watches brought every 30 s.
const PROBE_LIMIT: Duration = Duration::from_secs(45);
/// Five lists of ten thousand pods take half a minute on a busy machine.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// A collector that takes so much CPU time in such a step, twice running, has its lists.
const QUIET_STEP: Duration = Duration::from_secs(4);
const QUIET_SECONDS: f64 = 0.15;
const PROBE_NAMESPACE: &str = "team-00";
/// Series on a probed page: the scrape is not what is measured.
const PROBE_SERIES: usize = 10;
/// Numbers of pods that appear during a run.
const NEW_PODS_FROM: u32 = 1_000_000;
const SEED: u64 = 1;

/// What ours may take above what it takes without discovery.
const ABOVE_IDLE_MAX: f64 = 25.0 * 1024.0 * 1024.0;
/// Of what Prometheus takes.
const SHARE_MAX: f64 = 0.25;
/// Our debounce, and a second.
const DELAY_MAX_MS: i64 = 6000;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    collectors: Collectors,
    /// How many pods there are.
    #[arg(long, default_value_t = 10_000)]
    pods: u32,
    /// How many of them change in a second: labels and status by PATCH, others appear and disappear.
    #[arg(long, default_value_t = 50)]
    changes: u32,
    /// How many jobs watch all pods, each with another selector; one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "1,5")]
    jobs: Vec<usize>,
    /// Time without changes, after the start of a collector and before measuring; longer where its lists take longer.
    #[arg(long, value_parser = duration::parse, default_value = "30s")]
    settle: Duration,
    /// Time measured, with changes; delays are measured in a further minute.
    #[arg(long, value_parser = duration::parse, default_value = "60s")]
    window: Duration,
    /// Time without any discovery that is measured, after ten seconds.
    #[arg(long, value_parser = duration::parse, default_value = "10s")]
    idle: Duration,
}

/// What all of it printed.
#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    pods: u32,
    changes_per_second: u32,
    settle_seconds: u64,
    window_seconds: u64,
    runs: Vec<Run>,
}

/// One collector at one number of jobs.
#[derive(Debug, Clone, Serialize)]
struct Run {
    collector: Collector,
    version: String,
    /// Jobs that watch all pods; a further one watches the pods that are waited for.
    jobs: usize,
    /// The same program with one job that has no targets.
    idle: Taken,
    /// While pods changed and nothing was scraped. Its CPU time before is that of the start, with the first lists.
    busy: Taken,
    /// Changes made in that time.
    changes: u64,
    /// From the moment a pod was written to the first scrape of it, milliseconds, sorted.
    delays_ms: Vec<i64>,
    /// Pods that were waited for in vain.
    never_scraped: usize,
    /// Targets found, as the collector's own metrics have it.
    discovered: Option<f64>,
    /// Resident bytes at the end, by what they are of.
    mappings: Vec<(String, u64)>,
    load_average: f64,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Some(cluster) = Cluster::start("cluster-bench scale").await else { return Ok(ExitCode::FAILURE) };
    let started = Instant::now();
    populate(&cluster, arguments.pods).await;
    eprintln!("cluster-bench: {} pods written in {:.1} s", arguments.pods, started.elapsed().as_secs_f64());
    let present = arguments.collectors.present();
    let mut runs = Vec::new();
    for (collector, program) in &present {
        match idle(&arguments, *collector, program).await {
            Ok(idle) => {
                for jobs in &arguments.jobs {
                    eprintln!("cluster-bench: {} with {jobs} jobs", collector.name());
                    let began_ms = now_ms();
                    match measure(&cluster, &arguments, *collector, program, *jobs, idle).await {
                        Ok(run) => {
                            eprintln!("cluster-bench: {}", line(&run));
                            runs.push(run);
                        }
                        Err(error) => eprintln!("cluster-bench: {error}"),
                    }
                    eprintln!("cluster-bench: took {} s", (now_ms() - began_ms) / 1000);
                }
            }
            Err(error) => eprintln!("cluster-bench: {error}"),
        }
    }
    let report = Report {
        machine: machine(),
        pods: arguments.pods,
        changes_per_second: arguments.changes,
        settle_seconds: arguments.settle.as_secs(),
        window_seconds: arguments.window.as_secs(),
        runs,
    };
    print!("{}", table(&report));
    arguments.collectors.write_json(&report)?;
    let mut broken = broken(&report.runs);
    if report.runs.len() < arguments.collectors.collectors.len() * arguments.jobs.len() {
        broken.push("every collector that was asked for is measured".to_owned());
    }
    Ok(verdict(arguments.collectors.check, !report.runs.is_empty(), &broken))
}

async fn populate(cluster: &Cluster, count: u32) {
    let namespaces: Vec<_> = (0..pods::NAMESPACES).map(pods::namespace_object).collect();
    cluster.etcd_put(&namespaces).await;
    let numbers: Vec<u32> = (0..count).collect();
    for numbers in numbers.chunks(WRITTEN_AT_ONCE) {
        let written: Vec<_> = numbers.iter().map(|number| pods::pod(*number)).collect();
        cluster.etcd_put(&written).await;
    }
}

/// The collector without anything to do.
async fn idle(arguments: &Arguments, collector: Collector, program: &Path) -> Result<Taken, Failure> {
    let sink = Sink::start(Judgement::CountOnly).await?;
    let config = "scrape_configs:\n- job_name: idle\n";
    let mut running = arguments.collectors.start(collector, program, "idle", config, &sink.url())?;
    sleep(Duration::from_secs(10)).await;
    let sampler = Sampler::start(running.pid())?;
    sleep(arguments.idle).await;
    running.must_run()?;
    let taken = sampler.finish().await?;
    running.stop().await?;
    Ok(taken)
}

async fn measure(
    cluster: &Cluster,
    arguments: &Arguments,
    collector: Collector,
    program: &Path,
    jobs: usize,
    idle: Taken,
) -> Result<Run, Failure> {
    let sink = Sink::start(Judgement::CountOnly).await?;
    let probes = (PROBED.as_millis() / PROBE_STEP.as_millis()) as usize;
    let farm = Farm::start(probes, PROBE_SERIES).await?;
    let config = scrape_configs(&cluster.sd_config("admin"), jobs);
    let run = format!("{jobs}-jobs");
    let mut running = arguments.collectors.start(collector, program, &run, &config, &sink.url())?;
    settle(&mut running, arguments.settle).await?;

    let sampler = Sampler::start(running.pid())?;
    let mut churn = Churn::new(arguments.pods);
    let changes = churn.run(cluster, arguments.changes, Instant::now() + arguments.window).await;
    running.must_run()?;
    let busy = sampler.finish().await?;
    let mappings = mappings(running.pid())?;
    let discovered = discovered(&running).await;

    // Apart from that, for scraping is not what is measured.
    let until = Instant::now() + PROBED;
    let (_, written) =
        tokio::join!(churn.run(cluster, arguments.changes, until), probe(cluster, &farm, until));
    let delays = delays(&farm, &written, &mut running).await?;
    running.stop().await?;
    let names: Vec<_> = (0..probes).map(|index| pods::pod_key(PROBE_NAMESPACE, &probe_name(index))).collect();
    cluster.etcd_delete(&names).await;
    churn.undo(cluster).await;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(Run {
        collector,
        version: collector.version(program),
        jobs,
        idle,
        busy,
        changes,
        never_scraped: written.len() - delays.len(),
        delays_ms: delays,
        discovered,
        mappings,
        load_average: load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0),
    })
}

/// Waits for so long, and then until the collector is done with its lists: until it takes next to no CPU time.
async fn settle(running: &mut Running, least: Duration) -> Result<(), Failure> {
    sleep(least).await;
    let until = Instant::now() + SETTLE_LIMIT;
    let mut quiet = 0;
    while quiet < 2 && Instant::now() < until {
        running.must_run()?;
        let before = Usage::of(running.pid())?;
        sleep(QUIET_STEP).await;
        let taken = Usage::of(running.pid())?.cpu_seconds() - before.cpu_seconds();
        quiet = if taken < QUIET_SECONDS { quiet + 1 } else { 0 };
    }
    Ok(())
}

/// So many jobs that watch all pods and keep those with an annotation that none has, and one for the pods that are
/// waited for.
fn scrape_configs(reach: &str, jobs: usize) -> String {
    let mut text = "global:\n  scrape_interval: 15s\nscrape_configs:\n".to_owned();
    for job in 0..jobs {
        let selector = match jobs {
            1 => String::new(),
            // Each another, so that nobody can watch once for all; every pod matches all of them.
            _ => format!("selectors: [{{role: pod, label: 'app!=other-{job}'}}], "),
        };
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "- job_name: pods-{job}\n  kubernetes_sd_configs:\n  - {{role: pod, {selector}{reach}}}\n  relabel_configs:\n  \
             - {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: 'true'}}\n  \
             - {{action: labelmap, regex: __meta_kubernetes_pod_label_(.+)}}\n  \
             - {{source_labels: [__meta_kubernetes_namespace], target_label: namespace}}\n  \
             - {{source_labels: [__meta_kubernetes_pod_name], target_label: pod}}\n"
        );
    }
    let _ = write!(
        text,
        "- job_name: probe\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  kubernetes_sd_configs:\n  \
         - {{role: pod, selectors: [{{role: pod, label: probe=yes}}], {reach}}}\n"
    );
    text
}

/// Pods that change: those that were there get other labels and another readiness, others come and go.
struct Churn {
    chance: SeededRng,
    pods: u32,
    next: u32,
    there: VecDeque<u32>,
}

impl Churn {
    fn new(pods: u32) -> Self {
        Self { chance: SeededRng::new(SEED), pods, next: NEW_PODS_FROM, there: VecDeque::new() }
    }

    /// Changes so many pods a second, and gives how many were changed.
    async fn run(&mut self, cluster: &Cluster, rate: u32, until: Instant) -> u64 {
        if rate == 0 {
            sleep_until(until).await;
            return 0;
        }
        let mut pace = interval(Duration::from_secs(1) / rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut changes = 0;
        while Instant::now() < until {
            pace.tick().await;
            self.change(cluster, changes).await;
            changes += 1;
        }
        changes
    }

    async fn change(&mut self, cluster: &Cluster, index: u64) {
        let any = (self.chance.next_u64() % u64::from(self.pods)) as u32;
        let path = format!("/api/v1/namespaces/{}/pods/{}", pods::namespace(any), pods::name(any));
        match index % 4 {
            0 => {
                cluster
                    .patch(&path, &json!({ "metadata": { "labels": { "revision": index.to_string() } } }))
                    .await
            }
            1 => {
                let ready = if index % 8 == 1 { "False" } else { "True" };
                let patch = json!({ "status": { "conditions": conditions(ready) } });
                cluster.patch(&format!("{path}/status"), &patch).await;
            }
            2 => {
                cluster.etcd_put(&[pods::pod(self.next)]).await;
                self.there.push_back(self.next);
                self.next += 1;
            }
            _ => {
                if let Some(gone) = self.there.pop_front() {
                    cluster.etcd_delete(&[pods::pod_key(&pods::namespace(gone), &pods::name(gone))]).await;
                }
            }
        }
    }

    async fn undo(self, cluster: &Cluster) {
        let keys: Vec<_> = (self.there.iter())
            .map(|number| pods::pod_key(&pods::namespace(*number), &pods::name(*number)))
            .collect();
        if !keys.is_empty() {
            cluster.etcd_delete(&keys).await;
        }
    }
}

fn conditions(ready: &str) -> Value {
    let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    kinds
        .iter()
        .map(|kind| {
            let status = if kind.ends_with("Ready") { ready } else { "True" };
            json!({ "type": kind, "status": status, "lastTransitionTime": "2026-11-20T08:00:00Z" })
        })
        .collect()
}

fn probe_name(index: usize) -> String {
    format!("probe-{index}")
}

/// Writes one pod after the other, each at an address of the farm; gives when each was written.
async fn probe(cluster: &Cluster, farm: &Farm, until: Instant) -> Vec<i64> {
    let mut pace = interval(PROBE_STEP);
    let mut written = Vec::new();
    for (index, address) in farm.addresses().iter().enumerate() {
        pace.tick().await;
        if Instant::now() >= until {
            break;
        }
        let (_, mut pod) = pods::pod(NEW_PODS_FROM * 2 + index as u32);
        let name = probe_name(index);
        pod["metadata"]["name"] = Value::from(name.as_str());
        pod["metadata"]["namespace"] = Value::from(PROBE_NAMESPACE);
        pod["metadata"]["labels"]["probe"] = Value::from("yes");
        pod["spec"]["containers"][0]["ports"] =
            json!([{ "name": "metrics", "containerPort": address.port(), "protocol": "TCP" }]);
        pod["status"]["podIP"] = Value::from("127.0.0.1");
        pod["status"]["podIPs"] = json!([{ "ip": "127.0.0.1" }]);
        written.push(now_ms());
        cluster.etcd_put(&[(pods::pod_key(PROBE_NAMESPACE, &name), pod)]).await;
    }
    written
}

/// Waits until all pods were scraped, or for as long as anybody takes; gives the times that it took.
async fn delays(farm: &Farm, written: &[i64], running: &mut Running) -> Result<Vec<i64>, Failure> {
    let until = Instant::now() + PROBE_LIMIT;
    loop {
        let record = farm.record();
        let first = record.targets.iter().map(|target| target.answered.first().map(|(_, at)| *at));
        let mut delays: Vec<i64> =
            first.zip(written).filter_map(|(first, written)| Some(first? - written)).collect();
        if delays.len() == written.len() || Instant::now() > until {
            delays.sort_unstable();
            return Ok(delays);
        }
        running.must_run()?;
        sleep(Duration::from_millis(500)).await;
    }
}

/// What the collector says that it found; vmagent does not say it.
async fn discovered(running: &Running) -> Option<f64> {
    let (_, page) = http_call::call(running.address, Method::GET, "/metrics", &[], Vec::new()).await.ok()?;
    let page = String::from_utf8_lossy(&page);
    // Kept beside the log, for who wants to know more.
    let _ = fs::write(running.folder.join("metrics"), page.as_bytes());
    let values = page.lines().filter(|line| line.starts_with("prometheus_sd_discovered_targets{"));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).reduce(|sum, value| sum + value)
}

fn at_share(sorted: &[i64], share: f64) -> Option<i64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

fn seconds(ms: Option<i64>) -> String {
    ms.map_or_else(|| "–".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0))
}

impl Run {
    fn rss_above_idle(&self) -> f64 {
        self.busy.rss_mean - self.idle.rss_mean
    }

    fn anonymous_above_idle(&self) -> f64 {
        self.busy.anonymous_mean - self.idle.anonymous_mean
    }
}

fn line(run: &Run) -> String {
    format!(
        "{} with {} jobs: RSS {:.1} MiB ({:+.1}; peak {:.1}; anonymous {:+.1}), CPU {:.2} s and {:.2} s before, delay {}",
        run.collector.name(),
        run.jobs,
        mebibytes(run.busy.rss_mean),
        mebibytes(run.rss_above_idle()),
        mebibytes(run.busy.rss_peak as f64),
        mebibytes(run.anonymous_above_idle()),
        run.busy.cpu_seconds,
        run.busy.cpu_seconds_before,
        seconds(run.delays_ms.last().copied()),
    )
}

fn table(report: &Report) -> String {
    let mut text = format!(
        "{} pods, {} changes a second, {} s measured after {} s; {}.\n\n\
         | collector | jobs | RSS idle | RSS mean | RSS peak | above idle | × | anonymous above idle | × RSS in all \
         | CPU s | × | CPU s of the start | change to target, median | 99 % | most | never |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        report.pods, report.changes_per_second, report.window_seconds, report.settle_seconds, report.machine,
    );
    for run in &report.runs {
        let ours = (report.runs.iter())
            .find(|ours| ours.collector == Collector::Promferry && ours.jobs == run.jobs)
            .filter(|_| run.collector != Collector::Promferry);
        let ratio = |of: &dyn Fn(&Run) -> f64| {
            ours.map_or_else(String::new, |ours| format!("{:.1}", of(run) / of(ours)))
        };
        let mib = |bytes: f64| format!("{:.1} MiB", mebibytes(bytes));
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2} | {} | {:.2} | {} | {} | {} | {} |",
            run.collector.name(),
            run.jobs,
            mib(run.idle.rss_mean),
            mib(run.busy.rss_mean),
            mib(run.busy.rss_peak as f64),
            mib(run.rss_above_idle()),
            ratio(&Run::rss_above_idle),
            mib(run.anonymous_above_idle()),
            ratio(&|run| run.busy.rss_mean),
            run.busy.cpu_seconds,
            ratio(&|run| run.busy.cpu_seconds),
            run.busy.cpu_seconds_before,
            seconds(at_share(&run.delays_ms, 0.5)),
            seconds(at_share(&run.delays_ms, 0.99)),
            seconds(run.delays_ms.last().copied()),
            run.never_scraped,
        );
    }
    text
}

/// What ours promised and did not keep.
fn broken(runs: &[Run]) -> Vec<String> {
    let mut broken = Vec::new();
    let prometheus: BTreeMap<usize, &Run> = (runs.iter())
        .filter(|run| run.collector == Collector::PrometheusDiscovery)
        .map(|run| (run.jobs, run))
        .collect();
    for ours in runs.iter().filter(|run| run.collector == Collector::Promferry) {
        let jobs = ours.jobs;
        let above = ours.rss_above_idle();
        if above > ABOVE_IDLE_MAX {
            broken.push(format!("{jobs} jobs: at most 25 MiB above idle: {:.1} MiB", mebibytes(above)));
        }
        if ours.never_scraped > 0 {
            broken.push(format!("{jobs} jobs: {} pods never became targets", ours.never_scraped));
        }
        if ours.delays_ms.last().is_some_and(|most| *most > DELAY_MAX_MS) {
            let most = seconds(ours.delays_ms.last().copied());
            broken.push(format!("{jobs} jobs: a change is a target within {DELAY_MAX_MS} ms: {most}"));
        }
        let Some(theirs) = prometheus.get(&jobs) else { continue };
        for (what, ours, theirs) in [
            ("RSS above idle", above, theirs.rss_above_idle()),
            ("CPU", ours.busy.cpu_seconds, theirs.busy.cpu_seconds),
        ] {
            if ours > theirs * SHARE_MAX {
                let share = ours / theirs;
                broken.push(format!("{jobs} jobs: a quarter of Prometheus' {what} at most: {share:.2}"));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(collector: Collector, above_mib: f64, cpu_seconds: f64, delays_ms: &[i64]) -> Run {
        let mib = f64::from(1 << 20);
        let idle = Taken { rss_mean: 30.0 * mib, ..Taken::default() };
        let busy = Taken { rss_mean: (30.0 + above_mib) * mib, cpu_seconds, ..Taken::default() };
        Run {
            collector,
            version: String::new(),
            jobs: 1,
            idle,
            busy,
            changes: 0,
            delays_ms: delays_ms.to_vec(),
            never_scraped: 0,
            discovered: None,
            mappings: Vec::new(),
            load_average: 0.0,
        }
    }

    #[test]
    fn each_promise_can_be_broken() {
        let prometheus = run(Collector::PrometheusDiscovery, 100.0, 8.0, &[9000]);
        for (above, cpu, delay, expected) in
            [(20.0, 1.0, 5900, 0), (25.5, 1.0, 5900, 2), (20.0, 2.1, 5900, 1), (20.0, 1.0, 6001, 1)]
        {
            let ours = run(Collector::Promferry, above, cpu, &[delay]);
            let found = broken(&[ours, prometheus.clone()]);
            assert_eq!(found.len(), expected, "{found:?}");
        }
        assert!(broken(&[prometheus]).is_empty(), "nobody else promised anything");
    }

    #[test]
    fn the_last_is_the_most() {
        let sorted = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        assert_eq!(
            (at_share(&sorted, 1.0), at_share(&sorted, 0.5), at_share(&[], 0.5)),
            (Some(10), Some(6), None)
        );
    }
}
