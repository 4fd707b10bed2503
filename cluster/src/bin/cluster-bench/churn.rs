//! `cluster-bench churn`: nothing is missed and nothing is doubled, whatever happens to connections and to the server.

use crate::{
    Failure,
    collectors::{Collector, Collectors},
    mebibytes, verdict,
};
use clap::Args;
use promferry_bench::{duration, http_call, ledger::Judgement, proc::Usage, proxy::Proxy, sink::Sink};
use promferry_cluster::{
    Cluster,
    churn::{Judge, Storm, World},
};
use promferry_discovery::{Changes, Discovery, DiscoveryConfigs, DiscoveryOptions};
use promferry_model::TargetGroup;
use serde::Serialize;
use serde_json::Value;
use smol_str::SmolStr;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};

/// What is known at rest must be what there is within this time: retries back off to 30 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// How much more anonymous memory ours may have at the end than at the first rest.
const GROWTH_MAX: f64 = 2.0 * 1024.0 * 1024.0;
/// Differences that are printed.
const DIFFERENCES_SHOWN: usize = 20;
const ATTACH: &str =
    "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}";
const JOBS: &[(&str, &str)] = &[
    ("pod-all", "role: pod"),
    ("pod-tier", "role: pod, selectors: [{role: pod, label: 'tier!=none'}]"),
    ("service-all", "role: service"),
    ("endpointslice-all", "role: endpointslice"),
    ("endpoints-all", "role: endpoints"),
    ("ingress-all", "role: ingress"),
    ("node-all", "role: node"),
];

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    collectors: Collectors,
    /// How long.
    #[arg(long = "for", value_parser = duration::parse, default_value = "1h")]
    length: Duration,
    /// Chooses what happens.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Changes a second.
    #[arg(long, default_value_t = 50)]
    changes: u32,
    /// From one comparison at rest, and restart of the API server, to the next.
    #[arg(long, value_parser = duration::parse, default_value = "10m")]
    round: Duration,
}

/// What it printed.
#[derive(Debug, Serialize)]
struct Report {
    seed: u64,
    rounds: Vec<Round>,
    broken: Vec<String>,
}

/// One storm and the rest after it.
#[derive(Debug, Clone, Serialize)]
struct Round {
    /// From the beginning of all to this rest, seconds.
    at_seconds: u64,
    /// Objects changed, all in all.
    changes: u64,
    disturbances: u64,
    restarts: u64,
    /// Target groups that changed, as the library's user sees it.
    seen: u64,
    /// Target groups that are known.
    groups: usize,
    /// From the end of the storm until all that is known is what there is, milliseconds: the library, the program.
    settled_ms: (u64, Option<u64>),
    /// Of the program, bytes.
    rss: Option<u64>,
    anonymous: Option<u64>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Some(mut cluster) = Cluster::start("cluster-bench churn").await else { return Ok(ExitCode::FAILURE) };
    let mut world = World::new(arguments.seed);
    world.populate(&cluster).await;
    let proxy = Proxy::start(cluster.address()).await?;
    let straight = cluster.sd_config("admin");
    let through = straight.replace(cluster.url(), &format!("https://{}", proxy.address()));
    let mut follower = Follower::start(&through, Duration::from_millis(200))?;
    // Only ours makes this promise; nothing of it is compared with others here.
    let program = arguments.collectors.present().into_iter().find(|(one, _)| *one == Collector::Promferry);
    let sink = Sink::start(Judgement::CountOnly).await?;
    let mut running = match &program {
        Some((collector, program)) => {
            let config = scrape_configs(&through);
            Some(arguments.collectors.start(*collector, program, "churn", &config, &sink.url())?)
        }
        None => None,
    };
    let storm =
        Storm { rate: arguments.changes, calm_ms: (5000, 60_000), disturbed_ms: (200, 8000), restart: true };
    let began = Instant::now();
    let (mut rounds, mut broken) = (Vec::new(), Vec::new());
    let (mut disturbances, mut restarts) = (0, 0);
    while began.elapsed() < arguments.length && broken.is_empty() {
        let length = arguments.round.min(arguments.length.saturating_sub(began.elapsed()));
        let counts = tokio::select! {
            counts = storm.rage(&mut cluster, &mut world, &proxy, length) => counts,
            () = follower.follow() => unreachable!("it follows for ever"),
        };
        disturbances += counts.disturbances;
        restarts += counts.restarts;
        let unlisted = world.compare(&cluster).await;
        for difference in unlisted.iter().take(DIFFERENCES_SHOWN) {
            eprintln!("cluster-bench: {difference}");
        }
        broken.extend(unlisted);

        let rest = Instant::now();
        let deadline = rest + SETTLE_LIMIT;
        let missed = follower.settle(&world, deadline).await;
        let settled = rest.elapsed();
        if !missed.is_empty() {
            eprintln!("cluster-bench: not settled after {settled:?}:{}", follower.failing());
        }
        broken.extend(missed);
        let fresh = fresh(&straight, &world, Instant::now() + SETTLE_LIMIT).await?;
        broken.extend(differences("library", &keyed(&follower.judge.known), &keyed(&fresh)));
        broken.extend(follower.judge.faults().iter().cloned());
        let mut program_settled = None;
        if let Some(running) = &mut running {
            running.must_run()?;
            let expected = discovered_labels(&fresh);
            let (difference, after) = program_settles(running.address, &expected, rest, deadline).await?;
            broken.extend(difference);
            program_settled = Some(after);
        }
        let usage = running.as_ref().map(|running| Usage::of(running.pid())).transpose()?;
        let round = Round {
            at_seconds: began.elapsed().as_secs(),
            changes: world.changes(),
            disturbances,
            restarts,
            seen: follower.judge.changes(),
            groups: follower.judge.known.len(),
            settled_ms: (settled.as_millis() as u64, program_settled),
            rss: usage.map(|usage| usage.rss),
            anonymous: usage.map(|usage| usage.anonymous),
        };
        println!("{}", line(&round));
        rounds.push(round);
    }
    if let (Some(first), Some(last)) = (anonymous(rounds.first()), anonymous(rounds.last()))
        && last > first + GROWTH_MAX
    {
        broken.push(format!("memory grew from {:.1} to {:.1} MiB", mebibytes(first), mebibytes(last)));
    }
    if let Some(running) = running {
        running.stop().await?;
    }
    broken.truncate(DIFFERENCES_SHOWN);
    let report = Report { seed: arguments.seed, rounds, broken };
    arguments.collectors.write_json(&report)?;
    println!("churn: seed {}, {} rounds, {} faults", report.seed, report.rounds.len(), report.broken.len());
    Ok(verdict(true, !report.rounds.is_empty(), &report.broken))
}

fn anonymous(round: Option<&Round>) -> Option<f64> {
    Some(round?.anonymous? as f64)
}

fn line(round: &Round) -> String {
    let mut text = format!(
        "{} s: {} changes, {} disturbances, {} restarts; {} groups, changed {} times; settled after {} ms",
        round.at_seconds,
        round.changes,
        round.disturbances,
        round.restarts,
        round.groups,
        round.seen,
        round.settled_ms.0,
    );
    if let (Some(settled), Some(rss), Some(anonymous)) = (round.settled_ms.1, round.rss, round.anonymous) {
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            ", the program after {settled} ms; RSS {:.1} MiB, anonymous {:.1} MiB",
            mebibytes(rss as f64),
            mebibytes(anonymous as f64)
        );
    }
    text
}

/// A program that uses the library and applies all changes.
struct Follower {
    discovery: Discovery,
    changes: Changes,
    judge: Judge,
}

impl Follower {
    fn start(reach: &str, debounce: Duration) -> Result<Self, Failure> {
        let (discovery, changes) =
            Discovery::new(DiscoveryOptions { debounce, ..DiscoveryOptions::default() });
        let mut jobs = Vec::new();
        for (job, keys) in JOBS {
            let yaml = format!("kubernetes_sd_configs: [{{{}}}]", sd_config(job, keys, reach));
            let configs: DiscoveryConfigs = serde_saphyr::from_str(&yaml)?;
            jobs.push((SmolStr::from(*job), configs));
        }
        if let Some(error) = discovery.apply(jobs).pop() {
            return Err(error.into());
        }
        Ok(Self { discovery, changes, judge: Judge::default() })
    }

    async fn follow(&mut self) {
        loop {
            for change in self.changes.next().await {
                self.judge.change(change.job, change.source, change.group);
            }
        }
    }

    /// What fails now, a line each.
    fn failing(&self) -> String {
        let failing = self.discovery.status().into_iter().filter(|status| status.is_failing);
        failing.map(|status| format!("\n{}: {:?}", status.subject, status.last_failure)).collect()
    }

    /// Follows until what is known is what there is; gives what differs at the deadline.
    async fn settle(&mut self, world: &World, deadline: Instant) -> Vec<String> {
        loop {
            let missed: Vec<String> =
                JOBS.iter().flat_map(|(job, _)| self.judge.missed(world, job)).collect();
            if missed.is_empty() || Instant::now() >= deadline {
                // What is still to come may only be what attached objects changed.
                let calm = (Instant::now() + Duration::from_secs(3)).min(deadline);
                let _ = timeout_at(calm, self.follow()).await;
                return missed;
            }
            let soon = (Instant::now() + Duration::from_millis(100)).min(deadline);
            let _ = timeout_at(soon, self.follow()).await;
        }
    }
}

fn sd_config(job: &str, keys: &str, reach: &str) -> String {
    // A node has nothing attached.
    let attach = if job.starts_with("node") { String::new() } else { format!("{ATTACH}, ") };
    format!("{keys}, {attach}{reach}")
}

/// All jobs of the follower, each dropping what it finds.
fn scrape_configs(reach: &str) -> String {
    let mut text = "scrape_configs:\n".to_owned();
    for (job, keys) in JOBS {
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "- job_name: {job}\n  kubernetes_sd_configs:\n  - {{{}}}\n  relabel_configs:\n  \
             - {{source_labels: [__address__], regex: '.*', action: drop}}\n",
            sd_config(job, keys, reach)
        );
    }
    text
}

type Known = BTreeMap<(SmolStr, SmolStr), Arc<TargetGroup>>;

/// What somebody knows who has just begun.
async fn fresh(reach: &str, world: &World, deadline: Instant) -> Result<Known, Failure> {
    let mut fresh = Follower::start(reach, Duration::from_millis(50))?;
    let missed = fresh.settle(world, deadline).await;
    if !missed.is_empty() {
        let shown = missed.into_iter().take(DIFFERENCES_SHOWN).collect::<Vec<_>>().join("\n");
        return Err(format!(
            "a fresh start does not find what there is:
{shown}{}",
            fresh.failing()
        )
        .into());
    }
    Ok(fresh.judge.known)
}

fn keyed(known: &Known) -> BTreeSet<String> {
    known.iter().map(|((job, source), group)| format!("{job} {source} {group:?}")).collect()
}

fn differences(who: &str, known: &BTreeSet<String>, expected: &BTreeSet<String>) -> Vec<String> {
    let missing = expected.difference(known).map(|one| format!("{who} misses {one}"));
    let wrong = known.difference(expected).map(|one| format!("{who} has {one}"));
    missing.chain(wrong).take(DIFFERENCES_SHOWN).collect()
}

/// The labels of each target as they are before relabelling, without what the collector adds.
fn discovered_labels(known: &Known) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for ((job, _), group) in known {
        for target in &group.targets {
            let mut labels = BTreeMap::new();
            for label in group.labels.iter().chain(target.iter()) {
                labels.insert(label.name.to_string(), label.value.to_string());
            }
            all.insert(target_line(job, &labels));
        }
    }
    all
}

fn target_line(job: &str, labels: &BTreeMap<String, String>) -> String {
    let of_discovery = labels.iter().filter(|(name, _)| {
        name.starts_with("__meta_") || *name == "__address__" || *name == "__metrics_path__"
    });
    let text: Vec<_> = of_discovery
        // The default that a collector adds.
        .filter(|(name, value)| *name != "__metrics_path__" || *value != "/metrics")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{job} {}", text.join(","))
}

/// Asks the program until its dropped targets are those; gives what differs at the deadline, and how long it took.
async fn program_settles(
    address: SocketAddr,
    expected: &BTreeSet<String>,
    rest: Instant,
    deadline: Instant,
) -> Result<(Vec<String>, u64), Failure> {
    loop {
        let answer: Value = http_call::get_json(address, "/api/v1/targets?state=dropped").await?;
        let dropped = answer["data"]["droppedTargets"].as_array().cloned().unwrap_or_default();
        let known: BTreeSet<String> = (dropped.iter())
            .map(|target| {
                let labels: BTreeMap<String, String> =
                    serde_json::from_value(target["discoveredLabels"].clone()).unwrap_or_default();
                let pool = target["scrapePool"].as_str().or_else(|| labels.get("job").map(String::as_str));
                target_line(pool.unwrap_or_default(), &labels)
            })
            .collect();
        let difference = differences("program", &known, expected);
        if difference.is_empty() || Instant::now() >= deadline {
            return Ok((difference, rest.elapsed().as_millis() as u64));
        }
        sleep(Duration::from_millis(500)).await;
    }
}
