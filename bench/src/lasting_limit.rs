//! A receiver that knows as many series as it may: what happens to those it knows while new ones are offered.

use crate::{
    account::{Account, GRACE_MS, Interruption},
    clock::now_ms,
    collector::{Collector, Work},
    farm::Record,
    http_call::{call, get_json},
    ledger::{Received, SeriesLimits, Stats},
    process::Process,
    runner::{FarmAddresses, RunError, Running, STOP_LIMIT, Stand, first_line},
};
use http::Method;
use serde::{Deserialize, Serialize};
use std::{env, path::Path, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};

/// A run into a limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Targets whose series the receiver knows before the limit is reached.
    pub known_targets: usize,
    /// Targets that appear afterwards.
    pub new_targets: usize,
    /// Series on each.
    pub series: usize,
    /// Milliseconds between scrapes.
    pub interval_ms: u64,
    /// What the receiver takes in.
    pub limits: SeriesLimits,
    /// Milliseconds before the new targets appear.
    pub warmup_ms: u64,
    /// Milliseconds from then to the end.
    pub limited_ms: u64,
    /// Remote write 2.0 for collectors that speak it.
    pub remote_write_2: bool,
}

/// How the series that the receiver knew fared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limited {
    /// Which collector.
    pub collector: Collector,
    /// What it says about its version.
    pub version: String,
    /// What became of each scrape of the known targets until the end; those that still waited then count as lost.
    pub known: Account,
    /// The furthest that any known target ever was behind, milliseconds: the age of its newest scrape that is there whole.
    pub behind_most_ms: i64,
    /// The same for the last reading.
    pub behind_at_the_end_ms: i64,
    /// Requests before the new targets appeared, for each second.
    pub requests_before: f64,
    /// Requests afterwards, for each second.
    pub requests_after: f64,
    /// The sink's counts at the end.
    pub sink: Stats,
}

/// Runs one collector into the limit.
pub async fn run_into_limit(
    collector: Collector,
    program: &Path,
    plan: &Plan,
    folder: &Path,
) -> Result<Limited, RunError> {
    let mut stand = Stand::start(plan.known_targets, plan.series).await?;
    let (new, series) = (plan.new_targets.to_string(), plan.series.to_string());
    let arguments = ["farm", "--asleep", "--targets", &new, "--series", &series];
    let (mut newcomers, output) = Process::start_piped(&env::current_exe()?, arguments)?;
    let newcomers_at: FarmAddresses = first_line(output)?;
    let limits = serde_json::to_vec(&plan.limits)?;
    call(stand.sink_at, Method::PUT, "/limits", &[], limits).await?;
    let work = Work {
        targets: [&stand.targets[..], &newcomers_at.targets[..]].concat(),
        interval: Duration::from_millis(plan.interval_ms),
        url: stand.url.clone(),
        remote_write_2: plan.remote_write_2,
        signed: false,
        batch_send_deadline: None,
    };
    let mut running = Running::start(collector, program, &work, folder)?;
    let start = Instant::now();
    sleep_until(start + Duration::from_millis(plan.warmup_ms / 2)).await;
    let half_way = requests(&stand.stats().await?);
    sleep_until(start + Duration::from_millis(plan.warmup_ms)).await;
    let warm = requests(&stand.stats().await?);

    call(newcomers_at.control, Method::PUT, "/awake", &[], "").await?;
    let awake = Instant::now();
    let (mut behind_most_ms, mut behind_at_the_end_ms) = (0, 0);
    while awake.elapsed() < Duration::from_millis(plan.limited_ms) {
        sleep(Duration::from_secs(1)).await;
        running.usage()?;
        let received: Received = get_json(stand.sink_at, "/received").await?;
        let record = stand.record().await?;
        behind_at_the_end_ms = behind_ms(&record, &expected_only(received, &record, plan.limits));
        behind_most_ms = behind_most_ms.max(behind_at_the_end_ms);
    }
    let after = requests(&stand.stats().await?);
    let began_ms = now_ms();
    running.process.terminate(STOP_LIMIT).await?;
    let stop = Interruption { began_ms, over_ms: now_ms(), grace_ms: GRACE_MS };
    let record = stand.record().await?;
    let received = expected_only(stand.received().await?, &record, plan.limits);
    let known = Account::new(&record, &received, &[stop]);
    let sink = stand.stats().await?;
    stand.stop()?;
    newcomers.kill()?;
    Ok(Limited {
        collector,
        version: collector.version(program),
        known,
        behind_most_ms,
        behind_at_the_end_ms,
        requests_before: (warm - half_way) as f64 * 2000.0 / plan.warmup_ms as f64,
        requests_after: (after - warm) as f64 * 1000.0 / plan.limited_ms as f64,
        sink,
    })
}

/// Every request that was answered.
fn requests(stats: &Stats) -> u64 {
    stats.accepted_requests + stats.faulted_requests + stats.bad_requests
}

/// What was received, where series that are always refused count as having come with each scrape of which anything came.
fn expected_only(mut received: Received, record: &Record, limits: SeriesLimits) -> Received {
    if limits.refuse_one_in > 0 {
        for instance in received.instances.values_mut() {
            let never = (record.series as u64).saturating_sub(instance.series) as u32;
            instance.scrapes.values_mut().for_each(|arrived| arrived.series += never);
        }
    }
    received
}

/// How old the newest complete scrape of the target is that is furthest behind.
fn behind_ms(record: &Record, received: &Received) -> i64 {
    let now_ms = now_ms();
    let newest = record.targets.iter().map(|target| {
        let scrapes = received.instances.get(&target.instance)?.scrapes.values();
        let complete = scrapes.filter(|arrived| arrived.series as usize >= record.series);
        complete.map(|arrived| arrived.timestamp_ms).max()
    });
    // One of which nothing is there is as far behind as its first answer is old.
    let behind = newest.zip(&record.targets).filter_map(|(newest, target)| {
        let since = newest.or_else(|| target.answered.first().map(|(_, at)| *at))?;
        Some(now_ms - since)
    });
    behind.max().unwrap_or(0)
}
