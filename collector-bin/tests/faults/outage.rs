//! A receiver that is away for long, and one that is slow.

use std::time::{Duration, Instant};

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::proc::Usage;
use promferry_bench::sink::{Fault, Sink};

use crate::collector::{Collector, config, is_full_tier, until, until_within};
use crate::outcome::{assert_nothing_lost, until_counts_agree};

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_through_a_long_outage_and_the_backlog_is_drained_fast() {
    // In the long form 40,000 samples a second for 30 minutes.
    let (targets, series, outage) = if is_full_tier() { (40, 1000, 1800) } else { (10, 300, 15) };
    let outage = Duration::from_secs(outage);
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(targets, series).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let mut config = config(farm.addresses(), &sink, "1s");
    config.push_str("    max_backoff: 1s\n");
    let mut collector = Collector::start(folder.path(), &config);
    let a_scrape = (targets * series) as u64;
    until("the first samples", async || sink.stats().samples > 3 * a_scrape).await;

    sink.set_fault(Some(Fault { down: true, ..Fault::default() }));
    let anonymous = || Usage::of(collector.pid()).unwrap().anonymous as f64 / f64::from(1 << 20);
    tokio::time::sleep(outage / 5).await;
    let early = anonymous();
    tokio::time::sleep(outage * 4 / 5).await;
    let late = anonymous();
    collector.assert_balanced().await;

    sink.set_fault(None);
    let (back, before) = (Instant::now(), sink.stats().samples);
    // A backlog that takes longer than this is drained at less than five times real time.
    let limit = Duration::from_secs(60) + outage / 4;
    until_within(limit, "the backlog is drained", async || {
        collector.metric("prometheus_remote_storage_samples_pending", "").await < 1.5 * a_scrape as f64
    })
    .await;
    let (took, sent) = (back.elapsed(), sink.stats().samples - before);
    let faster = sent as f64 / took.as_secs_f64() / a_scrape as f64;
    let drained = anonymous();
    eprintln!(
        "{} s away at {a_scrape} samples/s: {early:.1} MiB early, {late:.1} MiB late, {drained:.1} MiB after; \
         {sent} samples in {:.1} s, {faster:.1} times real time",
        outage.as_secs(),
        took.as_secs_f64()
    );
    assert!(late < early * 1.1 + 4.0, "memory grew during the outage");
    assert!(faster >= 5.0, "the backlog was drained too slowly");
    until_counts_agree(&collector, &sink).await;
    assert_eq!(collector.metric("prometheus_remote_storage_samples_dropped_total", "").await, 0.0);
    collector.terminate().await;
    assert_nothing_lost(&farm, &sink, collector.interruption().as_slice(), &collector);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_rise_with_a_slow_receiver_and_fall_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(20, 100).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let mut config = config(farm.addresses(), &sink, "1s");
    // 200 ms a request of 200 samples: 1,000 samples a second with one sender, and 2,200 arrive.
    config.push_str("    max_samples_per_send: 200\n");
    let mut collector = Collector::start(folder.path(), &config);
    let shards = async || collector.metric("prometheus_remote_storage_shards", "").await;
    let pending = async || collector.metric("prometheus_remote_storage_samples_pending", "").await;
    until("the first samples", async || sink.stats().samples > 0).await;
    assert_eq!(shards().await, 1.0);
    sink.set_fault(Some(Fault { delay_ms: 200, ..Fault::default() }));
    until("more shards", async || shards().await >= 3.0).await;
    let risen = shards().await;
    until("the backlog is gone", async || pending().await < 2.0 * 2200.0).await;
    let mut most: f64 = 0.0;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        most = most.max(pending().await);
    }
    assert!(most < 4.0 * 2200.0, "the backlog does not hold: {most}");
    sink.set_fault(None);
    until("fewer shards", async || shards().await <= 1.0).await;
    eprintln!("{risen} shards at 200 ms, at most {most} samples waiting, 1 shard afterwards");
    collector.assert_balanced().await;
    collector.terminate().await;
    assert_nothing_lost(&farm, &sink, collector.interruption().as_slice(), &collector);
}
