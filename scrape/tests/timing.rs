//! When targets are scraped, on a simulated clock: tokio's time is paused and goes on when all wait.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use promferry_model::{Clock, MemorySink, TargetGroup, Timestamp};
use promferry_scrape::Scraper;
use serde_json::json;
use support::{Answer, Exporter, Scene, TokioClock, group, job, lines, options};

/// The timestamps of `up` for each instance, in milliseconds since the start.
fn scrape_times(sink: &MemorySink) -> BTreeMap<String, Vec<i64>> {
    let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for sample in sink.appended() {
        if sample.labels.get("__name__") == "up" {
            let at = sample.sample.timestamp.as_millis() - support::START_MS;
            times.entry(sample.labels.get("instance").to_owned()).or_default().push(at);
        }
    }
    times
}

fn twenty(exporter: &Exporter) -> Vec<TargetGroup> {
    (0..20).map(|n| exporter.group(&[("instance", &format!("target-{n:02}"))])).collect()
}

#[tokio::test(start_paused = true)]
async fn first_scrapes_are_prompt_and_later_ones_are_even() {
    let exporter = Exporter::start(Answer::text("a 1\n")).await;
    let sink = MemorySink::new();
    let scraper = Scraper::new(sink.clone(), options());
    scraper.apply(vec![job(json!({"scrape_interval": "15s"}))]);
    scraper.update("test", twenty(&exporter)).unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    scraper.shutdown().await;

    let times = scrape_times(&sink);
    assert_eq!(times.len(), 20);
    let mut phases: Vec<i64> = Vec::new();
    for (instance, times) in &times {
        assert!(times[0] < 5000, "{instance} was first scraped after {} ms", times[0]);
        let phase = times[1] % 15_000;
        for pair in times[1..].windows(2) {
            assert_eq!(pair[1] - pair[0], 15_000, "{instance}: {times:?}");
        }
        assert!(times[1] - times[0] <= 15_000 + 1500, "{instance}: {times:?}");
        phases.push(phase);
    }
    phases.sort_unstable();
    let largest_gap = phases.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(largest_gap < 7500, "phases are spread: {phases:?}");

    let ledger = scraper.stats().remove("test").unwrap().ledger;
    assert!(ledger.balances() && ledger.missed.is_empty() && ledger.failed.is_empty(), "{ledger:?}");
}

#[tokio::test(start_paused = true)]
async fn the_phase_is_that_of_the_target_and_the_seed() {
    let mut phases = Vec::new();
    for seed in [0, 0, 12_345] {
        let mut options = options();
        options.phase_seed = seed;
        options.clock = std::sync::Arc::new(TokioClock::new());
        let sink = MemorySink::new();
        let scraper = Scraper::new(sink.clone(), options);
        scraper.apply(vec![job(json!({"scrape_interval": "15s"}))]);
        // Nobody listens there: a failed scrape has a time as well.
        scraper.update("test", vec![group("127.0.0.1:1", &[])]).unwrap();
        tokio::time::sleep(Duration::from_secs(40)).await;
        scraper.shutdown().await;
        phases.push(scrape_times(&sink)["127.0.0.1:1"][1] % 15_000);
    }
    assert_eq!(phases[0], phases[1]);
    assert_ne!(phases[0], phases[2]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_scrape_makes_later_ones_neither_early_nor_double() {
    let scene =
        Scene::start(json!({"scrape_interval": "10s", "scrape_timeout": "10s"}), Answer::text("a 1\n")).await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    scene.exporter.set(Answer::text("a 1\n").after(Duration::from_millis(9999)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.scraper.shutdown().await;
    let times = scrape_times(&scene.sink).into_values().next().unwrap();
    for pair in times[1..].windows(2) {
        assert_eq!((pair[1] - pair[0]) % 10_000, 0, "{times:?}");
    }
    assert!(scene.scraper.stats()["test"].ledger.balances());
}

#[tokio::test(start_paused = true)]
async fn markers_of_a_gone_target_come_after_two_intervals_and_a_tenth() {
    let scene = Scene::start(json!({"scrape_interval": "10s"}), Answer::text("a 1\n")).await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    scene.scraper.update("test", Vec::new()).unwrap();
    let last = *scrape_times(&scene.sink).into_values().next().unwrap().last().unwrap();
    scene.sink.take();
    let gone = tokio::time::Instant::now();
    while scene.sink.appended().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let waited = gone.elapsed();
    assert!(waited >= Duration::from_secs(11) && waited <= Duration::from_millis(21_100), "{waited:?}");
    let markers = scene.sink.take();
    assert_eq!(lines(&markers), ["a stale"]);
    let at = markers[0].sample.timestamp.as_millis() - support::START_MS;
    assert_eq!(at - last, 10_000, "at the time of the first scrape that did not happen");
    assert!(markers.iter().all(|marker| marker.sample.timestamp == markers[0].sample.timestamp));
}

#[tokio::test(start_paused = true)]
async fn while_the_clock_is_behind_nothing_is_scraped_out_of_order() {
    let clock = std::sync::Arc::new(SetBack { clock: TokioClock::new(), by_ms: AtomicI64::new(0) });
    let mut options = options();
    options.clock = clock.clone();
    let scene = Scene::with_options(json!({"scrape_interval": "10s"}), Answer::text("a 1\n"), options).await;
    tokio::time::sleep(Duration::from_secs(35)).await;
    clock.by_ms.store(40_000, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(120)).await;
    scene.scraper.shutdown().await;
    let times = scrape_times(&scene.sink).into_values().next().unwrap();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert!(times.last().unwrap() > &100_000, "it goes on when the clock has caught up: {times:?}");
    let ledger = scene.scraper.stats().remove("test").unwrap().ledger;
    assert!(ledger.missed["clock"] >= 3 && ledger.balances(), "{ledger:?}");
}

/// A wall clock that can be set back; the monotonic one goes on.
struct SetBack {
    clock: TokioClock,
    by_ms: AtomicI64,
}

impl Clock for SetBack {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now().as_millis() - self.by_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}
