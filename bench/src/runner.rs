//! Measures collectors one after another over the same work.

use crate::{
    account::{Account, GRACE_MS, Interruption},
    clock::now_ms,
    collector::{Collector, Work},
    farm::Record,
    http_call::{CallError, call, get_json},
    ledger::{Received, Stats},
    proc::Usage,
    process::{Process, free_address},
    sink::Fault,
};
use http::Method;
use serde::{Deserialize, Serialize};
use std::{
    env, fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// Prometheus takes up to a minute to end when its receiver is gone.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(75);
/// What is still on its way after the last restart has this long to arrive.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// Why a run ended without figures.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A program or file could not be used.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Farm or sink did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The collector ended by itself.
    #[error("{name} ended by itself; it printed:\n{log}")]
    Ended {
        /// Which collector.
        name: &'static str,
        /// The end of its log.
        log: String,
    },
    /// It did not run to its end.
    #[error("a run broke off: {0}")]
    BrokeOff(#[from] tokio::task::JoinError),
    /// Farm or sink printed something else than their addresses.
    #[error("farm or sink did not say where it listens: {0}")]
    NoAddress(#[from] serde_json::Error),
}

/// The size and length of a measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// Targets.
    pub targets: usize,
    /// Series on each.
    pub series: usize,
    /// Milliseconds between scrapes.
    pub interval_ms: u64,
    /// Milliseconds from the start until measuring begins.
    pub warmup_ms: u64,
    /// Milliseconds measured: a multiple of the interval, so that every collector scrapes equally often in it.
    pub window_ms: u64,
    /// Remote write 2.0 for collectors that speak it.
    pub remote_write_2: bool,
    /// Every request signed with Signature Version 4, by collectors that can.
    #[serde(default)]
    pub signed: bool,
    /// Milliseconds that a sample may wait for its request to fill; each collector's default without it.
    pub batch_send_deadline_ms: Option<u64>,
}

/// What one collector did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// Which collector.
    pub collector: Collector,
    /// What it says about its version.
    pub version: String,
    /// CPU seconds for a million samples delivered in the window.
    pub cpu_seconds_per_million_samples: f64,
    /// CPU seconds in the window.
    pub cpu_seconds: f64,
    /// Of these, spent in the kernel.
    pub system_seconds: f64,
    /// Samples delivered in the window.
    pub samples: u64,
    /// Resident bytes, mean over the window (read once a second).
    pub rss_mean: f64,
    /// Resident bytes, most ever.
    pub rss_peak: u64,
    /// Anonymous resident bytes, mean over the window.
    pub anonymous_mean: f64,
    /// Bytes on the wire (request line, headers and body) for each sample delivered in the window.
    pub bytes_per_sample: f64,
    /// Requests in the window.
    pub requests: u64,
    /// From start to the first sample at the receiver, milliseconds.
    pub first_sample_ms: Option<i64>,
    /// From start until every target had arrived at the receiver, milliseconds.
    pub all_targets_ms: Option<i64>,
    /// Mean time from a sample's timestamp to its arrival, milliseconds.
    pub delay_mean_ms: f64,
    /// From SIGTERM to its end, milliseconds.
    pub stop_ms: u64,
    /// Whether it ended with status 0.
    pub stopped_cleanly: bool,
    /// What became of each scrape of the whole run.
    pub account: Account,
    /// The sink's counts at the end.
    pub sink: Stats,
    /// CPU seconds of farm and sink in the window: what the measurement itself took.
    pub harness_cpu_seconds: f64,
    /// The system's load average at the end.
    pub load_average: f64,
}

/// Measures one collector at steady work.
pub async fn measure(
    collector: Collector,
    program: &Path,
    load: &Load,
    folder: &Path,
) -> Result<Measurement, RunError> {
    let mut stand = Stand::start(load.targets, load.series).await?;
    let work = Work {
        signed: load.signed,
        batch_send_deadline: load.batch_send_deadline_ms.map(Duration::from_millis),
        ..stand.work(load.interval_ms, load.remote_write_2)
    };
    let mut running = Running::start(collector, program, &work, folder)?;
    let (start, start_ms) = (Instant::now(), now_ms());

    sleep_until(start + Duration::from_millis(load.warmup_ms)).await;
    let (before, stats_before) = (running.usage()?, stand.stats().await?);
    let harness_before = stand.cpu_seconds()?;
    let window = Instant::now();
    let (mut rss, mut anonymous, mut readings) = (0.0, 0.0, 0.0);
    while window.elapsed() < Duration::from_millis(load.window_ms) {
        let usage = running.usage()?;
        rss += usage.rss as f64;
        anonymous += usage.anonymous as f64;
        readings += 1.0;
        let next = window + Duration::from_secs(readings as u64);
        sleep_until(next.min(window + Duration::from_millis(load.window_ms))).await;
    }
    let (after, stats_after) = (running.usage()?, stand.stats().await?);
    let harness_after = stand.cpu_seconds()?;

    let began_ms = now_ms();
    let stopped = running.process.terminate(STOP_LIMIT).await?;
    let stop = Interruption { began_ms, over_ms: now_ms(), grace_ms: GRACE_MS };
    let (record, received) = (stand.record().await?, stand.received().await?);
    let sink = stand.stats().await?;
    stand.stop()?;

    let cpu_seconds = after.cpu_seconds() - before.cpu_seconds();
    let samples = stats_after.samples - stats_before.samples;
    let wire = |stats: &Stats| (stats.body_bytes + stats.head_bytes) as f64;
    let arrivals = record.targets.iter().map(|target| received.instances.get(&target.instance));
    let last_arrival =
        arrivals.map(|instance| Some(instance?.first_sample_at_ms)).max_by_key(|at| at.unwrap_or(i64::MAX));
    Ok(Measurement {
        collector,
        version: collector.version(program),
        cpu_seconds_per_million_samples: cpu_seconds / samples as f64 * 1e6,
        cpu_seconds,
        system_seconds: after.system_seconds - before.system_seconds,
        samples,
        rss_mean: rss / readings,
        rss_peak: after.peak,
        anonymous_mean: anonymous / readings,
        bytes_per_sample: (wire(&stats_after) - wire(&stats_before)) / samples as f64,
        requests: stats_after.accepted_requests - stats_before.accepted_requests,
        first_sample_ms: sink.first_sample_at_ms.map(|at| at - start_ms),
        all_targets_ms: last_arrival.flatten().map(|at| at - start_ms),
        delay_mean_ms: sink.delay_sum_ms as f64 / sink.samples as f64,
        stop_ms: stopped.after.as_millis() as u64,
        stopped_cleanly: stopped.status.is_some_and(|status| status.success()),
        account: Account::new(&record, &received, &[stop]),
        sink,
        harness_cpu_seconds: harness_after - harness_before,
        load_average: load_average(),
    })
}

/// A run with kills.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Torment {
    /// Targets.
    pub targets: usize,
    /// Series on each.
    pub series: usize,
    /// Milliseconds between scrapes.
    pub interval_ms: u64,
    /// How often the collector is killed with signal 9.
    pub kills: u32,
    /// The shortest and longest time from a start to the next kill, milliseconds.
    pub life_ms: (u64, u64),
    /// Chooses the moments.
    pub seed: u64,
    /// Remote write 2.0 for collectors that speak it.
    pub remote_write_2: bool,
}

/// What survived the kills.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Survival {
    /// Which collector.
    pub collector: Collector,
    /// What it says about its version.
    pub version: String,
    /// What became of each scrape.
    pub account: Account,
    /// How often it was killed.
    pub kills: u32,
    /// In how many of its lives the receiver was down at the kill.
    pub kills_with_receiver_down: u32,
    /// The sink's counts at the end.
    pub sink: Stats,
    /// Length of the run, milliseconds.
    pub run_ms: i64,
}

/// Kills one collector at random moments, the receiver being down in every second life, and counts what is lost.
pub async fn torment(
    collector: Collector,
    program: &Path,
    torment: &Torment,
    folder: &Path,
) -> Result<Survival, RunError> {
    let mut stand = Stand::start(torment.targets, torment.series).await?;
    let work = stand.work(torment.interval_ms, torment.remote_write_2);
    let mut chance = Chance(torment.seed);
    let (mut interruptions, mut kills_down) = (Vec::new(), 0);
    let start_ms = now_ms();
    for life in 0..torment.kills {
        let mut running = Running::start(collector, program, &work, folder)?;
        let length = chance.between(torment.life_ms.0, torment.life_ms.1);
        let receiver_down = life % 2 == 1;
        if receiver_down {
            // Down somewhere in the second half of this life, up again 1 to 4 seconds after the next start.
            let before = chance.between(length / 2, length * 9 / 10);
            sleep(Duration::from_millis(before)).await;
            let down = length - before + RESTART_MS + chance.between(1000, 4000);
            stand.fault(&Fault { down: true, for_ms: Some(down), ..Fault::default() }).await?;
            sleep(Duration::from_millis(length - before)).await;
            kills_down += 1;
        } else {
            sleep(Duration::from_millis(length)).await;
        }
        running.usage()?;
        let began_ms = now_ms();
        running.process.kill()?;
        sleep(Duration::from_millis(RESTART_MS)).await;
        interruptions.push(Interruption { began_ms, over_ms: now_ms(), grace_ms: GRACE_MS });
    }
    let mut running = Running::start(collector, program, &work, folder)?;
    sleep(Duration::from_millis(torment.life_ms.1)).await;
    stand.wait_until_drained(&mut running).await?;
    let began_ms = now_ms();
    running.process.terminate(STOP_LIMIT).await?;
    interruptions.push(Interruption { began_ms, over_ms: now_ms(), grace_ms: GRACE_MS });
    let account = Account::new(&stand.record().await?, &stand.received().await?, &interruptions);
    let sink = stand.stats().await?;
    stand.stop()?;
    Ok(Survival {
        collector,
        version: collector.version(program),
        account,
        kills: torment.kills,
        kills_with_receiver_down: kills_down,
        sink,
        run_ms: now_ms() - start_ms,
    })
}

/// Takes the receiver away from one collector for a while and counts what is lost.
pub async fn outage(
    collector: Collector,
    program: &Path,
    plan: &Torment,
    down: Duration,
    folder: &Path,
) -> Result<Survival, RunError> {
    let mut stand = Stand::start(plan.targets, plan.series).await?;
    let work = stand.work(plan.interval_ms, plan.remote_write_2);
    let start_ms = now_ms();
    let mut running = Running::start(collector, program, &work, folder)?;
    sleep(Duration::from_millis(plan.life_ms.1)).await;
    let for_ms = Some(down.as_millis() as u64);
    stand.fault(&Fault { down: true, for_ms, ..Fault::default() }).await?;
    sleep(down + Duration::from_millis(plan.life_ms.1)).await;
    stand.wait_until_drained(&mut running).await?;
    let began_ms = now_ms();
    running.process.terminate(STOP_LIMIT).await?;
    let stop = Interruption { began_ms, over_ms: now_ms(), grace_ms: GRACE_MS };
    let account = Account::new(&stand.record().await?, &stand.received().await?, &[stop]);
    let sink = stand.stats().await?;
    stand.stop()?;
    Ok(Survival {
        collector,
        version: collector.version(program),
        account,
        kills: 0,
        kills_with_receiver_down: 0,
        sink,
        run_ms: now_ms() - start_ms,
    })
}

/// From a kill to the next start.
const RESTART_MS: u64 = 500;

/// A farm and a sink in processes of their own, so that their work is not counted as the collector's.
#[derive(Debug)]
pub(crate) struct Stand {
    farm: Process,
    farm_at: SocketAddr,
    pub(crate) targets: Vec<SocketAddr>,
    sink: Process,
    pub(crate) sink_at: SocketAddr,
    pub(crate) url: String,
}

/// The line that `bench farm` prints when it listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FarmAddresses {
    /// Where it answers `/record`.
    pub control: SocketAddr,
    /// The targets.
    pub targets: Vec<SocketAddr>,
}

/// The line that `bench sink` prints when it listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SinkAddresses {
    /// Where it answers `/stats`, `/received` and takes `/fault`.
    pub control: SocketAddr,
    /// Where remote write goes.
    pub url: String,
}

impl Stand {
    pub(crate) async fn start(targets: usize, series: usize) -> Result<Self, RunError> {
        let ourselves = env::current_exe()?;
        let [targets, series] = [targets, series].map(|number| number.to_string());
        let farm = ["farm", "--targets", &targets, "--series", &series];
        let (farm, output) = Process::start_piped(&ourselves, farm)?;
        let farm_addresses: FarmAddresses = first_line(output)?;
        let (sink, output) = Process::start_piped(&ourselves, ["sink"])?;
        let sink_addresses: SinkAddresses = first_line(output)?;
        Ok(Self {
            farm,
            farm_at: farm_addresses.control,
            targets: farm_addresses.targets,
            sink,
            sink_at: sink_addresses.control,
            url: sink_addresses.url,
        })
    }

    fn work(&self, interval_ms: u64, remote_write_2: bool) -> Work {
        let interval = Duration::from_millis(interval_ms);
        Work {
            targets: self.targets.clone(),
            interval,
            url: self.url.clone(),
            remote_write_2,
            signed: false,
            batch_send_deadline: None,
        }
    }

    pub(crate) async fn stats(&self) -> Result<Stats, CallError> {
        get_json(self.sink_at, "/stats").await
    }

    pub(crate) async fn received(&self) -> Result<Received, CallError> {
        get_json(self.sink_at, "/received").await
    }

    pub(crate) async fn record(&self) -> Result<Record, CallError> {
        get_json(self.farm_at, "/record").await
    }

    async fn fault(&self, fault: &Fault) -> Result<(), RunError> {
        let body = serde_json::to_vec(fault)?;
        call(self.sink_at, Method::PUT, "/fault", &[], body).await?;
        Ok(())
    }

    fn cpu_seconds(&self) -> io::Result<f64> {
        Ok(Usage::of(self.farm.pid())?.cpu_seconds() + Usage::of(self.sink.pid())?.cpu_seconds())
    }

    /// Waits until nothing older than a few seconds is still arriving: the backlog is through, or never comes.
    async fn wait_until_drained(&self, running: &mut Running) -> Result<(), RunError> {
        let start = Instant::now();
        let mut lost_before = u64::MAX;
        while start.elapsed() < DRAIN_LIMIT {
            running.usage()?;
            let settled_ms = now_ms() - 10_000;
            let mut record = self.record().await?;
            for target in &mut record.targets {
                target.answered.retain(|(_, answered_ms)| *answered_ms < settled_ms);
            }
            let lost = Account::new(&record, &self.received().await?, &[]).lost;
            if lost == 0 || (lost == lost_before && start.elapsed() > DRAIN_LIMIT / 3) {
                break;
            }
            lost_before = lost;
            sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.farm.kill()?;
        self.sink.kill()
    }
}

pub(crate) fn first_line<T: serde::de::DeserializeOwned>(output: impl io::Read) -> Result<T, RunError> {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// A collector at work.
#[derive(Debug)]
pub(crate) struct Running {
    collector: Collector,
    pub(crate) process: Process,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(
        collector: Collector,
        program: &Path,
        work: &Work,
        folder: &Path,
    ) -> io::Result<Self> {
        let log = folder.join("log");
        let arguments = collector.prepare(work, folder, free_address()?)?;
        Ok(Self { collector, process: Process::start(program, arguments, &log)?, log })
    }

    pub(crate) fn usage(&mut self) -> Result<Usage, RunError> {
        if self.process.is_running()
            && let Ok(usage) = Usage::of(self.process.pid())
        {
            return Ok(usage);
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(20)..].join("\n");
        Err(RunError::Ended { name: self.collector.name(), log })
    }
}

/// Chance that is the same for the same seed (xorshift64*).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        low + (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % (high - low + 1)
    }
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
