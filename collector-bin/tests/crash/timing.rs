//! When things happen.

use std::time::Instant;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;

use crate::alone;
use crate::collector::{Collector, LIMIT, config, until, until_within};
use crate::limits::{answer, serve};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_scrapes_are_prompt() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) =
        (Farm::start(20, 50).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let started = Instant::now();
    let collector = Collector::start(folder.path(), &config(farm.addresses(), &sink, "15s"));
    until("a first sample", async || sink.stats().samples > 0).await;
    let first = started.elapsed();
    until("samples of every target", async || sink.received().instances.len() == 20).await;
    let all = started.elapsed();
    drop(collector);
    eprintln!(
        "first sample after {:.2} s, all of 20 targets after {:.2} s",
        first.as_secs_f64(),
        all.as_secs_f64()
    );
    // Each target once, within the first interval: first scrapes don't wait for a phase.
    assert!(farm.record().targets.iter().all(|target| target.answered.len() <= 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_stay_on_time_while_a_huge_page_is_read() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    let huge = serve(|number| {
        let lines: String =
            (0..500_000).map(|at| format!("huge{{id=\"{at}\",kind=\"x{}\"}} {number}\n", at % 7)).collect();
        answer("", lines.as_bytes())
    })
    .await;
    let collector = Collector::start(folder.path(), &config(&[huge], &sink, "2m").replace("500ms", "5s"));
    collector.until_ready().await;
    collector.metric("promferry_timer_lag_seconds", "").await;
    // An unoptimised build on a busy machine takes a minute for it.
    until_within(4 * LIMIT, "the page is read", async || sink.stats().samples >= 500_000).await;
    let lag = collector.metric("promferry_timer_lag_seconds", "").await;
    let targets: serde_json::Value = serde_json::from_str(&collector.text("/api/v1/targets").await).unwrap();
    let took = targets["data"]["activeTargets"][0]["lastScrapeDuration"].as_f64().unwrap();
    eprintln!("the scrape took {took:.2} s, the latest timer was {:.1} ms late", lag * 1000.0);
    // Reading holds up no timer: what is late is late by the machine, not by the page.
    assert!(lag < took / 2.0, "{lag} s late in a scrape of {took} s");
}
