//! What can happen between the collector and its receiver.

use std::time::Duration;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::proxy::{Proxy, Weather};
use promferry_bench::sink::{Fault, Sink, When};

use crate::collector::{Collector, config_to, is_full_tier, until};
use crate::outcome::{assert_nothing_lost, until_counts_agree};

const TARGETS: usize = 10;
const SERIES: usize = 100;

/// One run through a proxy.
struct Stand {
    farm: Farm,
    sink: Sink,
    proxy: Proxy,
    collector: Collector,
    /// Removed after the collector has ended.
    _folder: tempfile::TempDir,
}

impl Stand {
    async fn start() -> Self {
        let farm = Farm::start(TARGETS, SERIES).await.unwrap();
        let sink = Sink::start(Judgement::EachSeries).await.unwrap();
        let proxy = Proxy::start(sink.address()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://{}/api/v1/write", proxy.address());
        let mut config = config_to(farm.addresses(), &url, "1s");
        config.push_str("    max_backoff: 500ms\n  remote_timeout: 1s\n");
        let collector = Collector::start(folder.path(), &config);
        until("the first samples", async || sink.stats().samples > 0).await;
        Self { farm, sink, proxy, collector, _folder: folder }
    }

    /// Attempts that ended like this so far.
    async fn attempts(&self, outcome: &str) -> f64 {
        self.collector.metric("promferry_remote_attempts_total", &format!("outcome=\"{outcome}\"")).await
    }

    async fn dropped(&self) -> f64 {
        self.collector.metric("prometheus_remote_storage_samples_dropped_total", "").await
    }

    /// Everything but the newest scrapes has been sent.
    async fn until_caught_up(&self) {
        until("it has caught up", async || {
            let pending = self.collector.metric("prometheus_remote_storage_samples_pending", "").await;
            pending <= (TARGETS * (SERIES + 10)) as f64
        })
        .await;
    }
}

fn how_long() -> Duration {
    Duration::from_secs(if is_full_tier() { 20 } else { 3 })
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_networks_and_failing_receivers_lose_nothing() {
    let mut stand = Stand::start().await;
    let weathers = [
        Weather::Latency(Duration::from_millis(200)),
        Weather::Slow(40_000),
        Weather::Down,
        Weather::ResetAfter(700),
        Weather::HalfOpen,
        Weather::CutAnswerAfter(20),
        Weather::Garbage,
    ];
    for weather in weathers {
        let before = stand.attempts("failed").await;
        stand.proxy.set(weather);
        tokio::time::sleep(how_long()).await;
        stand.collector.assert_balanced().await;
        let failed = stand.attempts("failed").await - before;
        stand.proxy.set(Weather::Fair);
        stand.until_caught_up().await;
        eprintln!("{weather:?}: {failed} attempts failed");
        let only_slow = matches!(weather, Weather::Latency(_) | Weather::Slow(_));
        assert_eq!(failed > 0.0, !only_slow, "{weather:?} did not do what it is for");
    }
    let mebibyte = "no ".repeat(350_000);
    let answers = [
        ("retry", Fault { status: Some(503), body: mebibyte, ..Fault::default() }),
        ("retry", Fault { status: Some(408), ..Fault::default() }),
        ("throttled", Fault { status: Some(429), ..Fault::default() }),
        ("failed", Fault { drop: Some(When::After), ..Fault::default() }),
        ("failed", Fault { delay_ms: 5_000, ..Fault::default() }),
    ];
    for (outcome, fault) in answers {
        let before = stand.attempts(outcome).await;
        let what = format!("{:?} {:?} {} ms", fault.status, fault.drop, fault.delay_ms);
        stand.sink.set_fault(Some(fault));
        tokio::time::sleep(how_long()).await;
        stand.collector.assert_balanced().await;
        let answered = stand.attempts(outcome).await - before;
        stand.sink.set_fault(None);
        stand.until_caught_up().await;
        eprintln!("{what}: {answered} times {outcome}");
        assert!(answered > 0.0, "{what} did not do what it is for");
    }
    until_counts_agree(&stand.collector, &stand.sink).await;
    assert_eq!(stand.dropped().await, 0.0);
    assert_eq!(stand.collector.terminate().await.status.unwrap().code(), Some(0));
    let interruption = stand.collector.interruption();
    let account = assert_nothing_lost(&stand.farm, &stand.sink, interruption.as_slice(), &stand.collector);
    eprintln!("{account:?}, {:?}", stand.sink.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_counted_and_nothing_else_is_lost() {
    let mut stand = Stand::start().await;
    let mebibyte = "no such thing ".repeat(75_000);
    let location = |to: &str| [("location".to_owned(), to.to_owned())].into();
    let refusals = [
        Fault { status: Some(400), body: mebibyte, ..Fault::default() },
        Fault { status: Some(404), ..Fault::default() },
        Fault { status: Some(302), ..Fault::default() },
        Fault { status: Some(308), headers: location("/api/v1/write"), ..Fault::default() },
    ];
    for fault in refusals {
        let (before, what) = (stand.dropped().await, format!("{:?} {:?}", fault.status, fault.headers));
        stand.sink.set_fault(Some(Fault { requests: Some(30), ..fault }));
        tokio::time::sleep(how_long()).await;
        stand.collector.assert_balanced().await;
        stand.sink.set_fault(None);
        stand.until_caught_up().await;
        eprintln!("{what}: {} samples refused", stand.dropped().await - before);
    }
    until_counts_agree(&stand.collector, &stand.sink).await;
    let dropped = stand.dropped().await;
    let lines = stand.collector.lines("prometheus_remote_storage_samples_dropped_total").await;
    eprintln!("{lines}");
    assert!(dropped > 0.0);
    assert_eq!(stand.collector.terminate().await.status.unwrap().code(), Some(0));
    // What is missing is what was counted, but for the series of the scrape itself, which the account leaves out.
    let interruption = stand.collector.interruption();
    let account = promferry_bench::account::Account::new(
        &stand.farm.record(),
        &stand.sink.received(),
        interruption.as_slice(),
    );
    let stats = stand.sink.stats();
    assert!(account.samples_lost as f64 <= dropped, "{account:?}, {dropped} dropped");
    assert!(account.samples_lost as f64 >= dropped * 0.9, "{account:?}, {dropped} dropped");
    assert_eq!((stats.out_of_order, stats.retimed), (0, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_keeps_everything_for_when_it_does() {
    let farm = Farm::start(2, SERIES).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The backlog belongs to the endpoint's name, whatever its URL.
    let config = |url: &str| config_to(farm.addresses(), url, "1s") + "    max_backoff: 500ms\n  name: aps\n";
    let mut collector = Collector::start(folder.path(), &config("http://no-such-host.invalid/api/v1/write"));
    until("scrapes wait", async || {
        collector.metric("prometheus_remote_storage_samples_pending", "aps").await > 3.0 * (2 * SERIES) as f64
    })
    .await;
    collector.assert_balanced().await;
    assert!(collector.log().contains("no-such-host.invalid"), "{}", collector.log());
    let mut interruptions = vec![collector.kill(&farm).await];
    let mut collector = Collector::start(folder.path(), &config(&sink.url()));
    collector.until_ready().await;
    until_counts_agree(&collector, &sink).await;
    collector.terminate().await;
    interruptions.extend(collector.interruption());
    assert_nothing_lost(&farm, &sink, &interruptions, &collector);
}
