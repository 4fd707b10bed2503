//! A scraper against real HTTP servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use promferry_http_client::HttpOptions;
use promferry_model::{
    Clock, LabelsBuilder, MemoryBudget, MemorySink, Purpose, SeriesContext, Stage, Timestamp, Verdict,
};
use promferry_scrape::{Job, KeptPage, PageKeeper, Scraper, TargetHealth};
use serde_json::json;
use support::{Answer, Exporter, Scene, config, group, job, lines, options, value_of, wait_for};

/// The interval of a target that is scraped while a test waits.
const FAST: &str = "100ms";

fn fast() -> serde_json::Value {
    json!({"scrape_interval": FAST, "scrape_timeout": FAST})
}

#[tokio::test]
async fn a_page_becomes_samples_with_the_targets_labels() {
    let page = "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
                requests_total{code=\"200\"} 5\nrequests_total{code=\"500\"} 1\ntemperature 3.5\n";
    let scene = Scene::start(fast(), Answer::text(page)).await;
    let samples = scene.next_scrape().await;
    assert_eq!(
        lines(&samples),
        ["requests_total{code=\"200\"} 5", "requests_total{code=\"500\"} 1", "temperature 3.5"]
    );
    let address = scene.exporter.address.to_string();
    for sample in &samples {
        assert_eq!((sample.labels.get("job"), sample.labels.get("instance")), ("test", address.as_str()));
        assert_eq!(sample.sample.timestamp, samples[0].sample.timestamp);
    }
    assert_eq!(samples[0].metadata.help, "Requests.");
    assert_eq!(samples[2].metadata.help, "");
    assert_eq!(value_of(&samples, "up"), "1");
    assert_eq!(value_of(&samples, "scrape_samples_scraped"), "3");
    assert_eq!(value_of(&samples, "scrape_samples_post_metric_relabeling"), "3");
    assert_eq!(value_of(&samples, "scrape_series_added"), "3");
    assert_eq!(value_of(&samples, "scrape_timeout_seconds"), "absent");
    assert_eq!(value_of(&scene.next_scrape().await, "scrape_series_added"), "0");
    scene.scraper.shutdown().await;
    assert!(scene.scraper.stats()["test"].ledger.balances());
}

#[tokio::test]
async fn requests_say_what_is_wanted() {
    let keys = json!({
        "scrape_interval": "1s", "scrape_timeout": "500ms", "metrics_path": "/m", "params": {"a": ["1"]},
        "scrape_native_histograms": true,
    });
    let scene = Scene::start(keys, Answer::text("a 1\n")).await;
    scene.next_scrape().await;
    let (path, headers) = scene.exporter.requests().remove(0);
    assert_eq!(path, "/m?a=1");
    for (name, value) in [
        ("accept-encoding", "gzip"),
        ("user-agent", concat!("promferry/", env!("CARGO_PKG_VERSION"))),
        ("x-prometheus-scrape-timeout-seconds", "0.5"),
        ("host", &scene.exporter.address.to_string()),
        (
            "accept",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let scene = Scene::start(json!({"enable_compression": false}), Answer::text("a 1\n")).await;
    scene.next_scrape().await;
    assert_eq!(scene.exporter.requests()[0].1["accept-encoding"], "identity");
}

#[tokio::test]
async fn failures_are_named_and_end_series() {
    let scene = Scene::start(fast(), Answer::text("a 1\n")).await;
    scene.next_scrape().await;
    let gzip_header = |mut answer: Answer, encoding: &str| {
        answer.headers.push(("content-encoding", encoding.to_owned()));
        answer
    };
    let slow = Answer::text("a 1\n").after(Duration::from_secs(2));
    for (answer, error) in [
        (Answer::status(503), "server returned HTTP status 503 Service Unavailable"),
        (Answer::typed("text/html", "<html>"), "unsupported Content-Type"),
        (gzip_header(Answer::text("a 1\n"), "gzip"), "the page cannot be inflated"),
        (gzip_header(Answer::text("a 1\n"), "zstd"), "encoded as \"zstd\""),
        (slow, "did not answer within the scrape timeout of 100 ms"),
        (Answer::text("a{ 1\n"), "line 1, column"),
    ] {
        scene.exporter.set(Answer::text("a 1\n"));
        wait_for(|| scene.last_error().is_empty()).await;
        scene.sink.take();
        scene.exporter.set(answer);
        wait_for(|| !scene.last_error().is_empty()).await;
        assert!(scene.last_error().contains(error), "{}", scene.last_error());
        let samples = scene.sink.take();
        let markers = lines(&samples).iter().filter(|line| line.as_str() == "a stale").count();
        assert_eq!(markers, 1, "{error}");
        assert_eq!(value_of(&samples[samples.len() - 5..], "up"), "0");
        assert_eq!(scene.scraper.status()[0].active[0].health, TargetHealth::Down);
    }
    let stats = scene.scraper.stats().remove("test").unwrap();
    for reason in ["status", "content_type", "content_encoding", "timeout", "parse"] {
        assert!(stats.ledger.failed[reason] > 0, "{reason}");
    }
    assert!(stats.ledger.balances());
}

#[tokio::test]
async fn an_unreachable_target_is_down() {
    let sink = MemorySink::new();
    let scraper = Scraper::new(sink.clone(), options());
    scraper.apply(vec![job(fast())]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scraper.update("test", vec![group(&free.to_string(), &[])]).unwrap();
    wait_for(|| scraper.status()[0].active[0].health == TargetHealth::Down).await;
    assert_eq!(value_of(&sink.appended(), "up"), "0");
    let status = scraper.status();
    assert!(
        status[0].active[0].last_error.contains("connection refused"),
        "{}",
        status[0].active[0].last_error
    );
    assert!(scraper.update("other", Vec::new()).is_err());
}

#[tokio::test]
async fn a_page_larger_than_its_share_fails_before_it_is_read() {
    let mut options = options();
    let budget = MemoryBudget::new(300_000);
    options.budget = budget.clone();
    options.cpu = promferry_scrape::CpuSections::new(2);
    let big = "a 1\n".repeat(50_000);
    let scene = Scene::with_options(fast(), Answer::text(&big), options).await;
    scene.next_scrape().await;
    assert!(scene.last_error().contains("larger than the 100000 bytes"), "{}", scene.last_error());
    assert!(budget.peak() <= 150_000, "{}", budget.peak());
    let samples = scene.scrape_of(Answer::text("a 1\n")).await;
    assert!(value_of(&samples, "up") == "1" || value_of(&scene.next_scrape().await, "up") == "1");
}

#[tokio::test]
async fn one_connection_is_used_again_and_gzip_is_inflated() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"a 1\n").unwrap();
    let mut answer = Answer::text("");
    answer.body = encoder.finish().unwrap().into();
    answer.headers.push(("content-encoding", "gzip".to_owned()));
    let scene = Scene::start(fast(), answer).await;
    for _ in 0..3 {
        assert_eq!(lines(&scene.next_scrape().await), ["a 1"]);
    }
    let stats = scene.scraper.stats().remove("test").unwrap();
    assert_eq!(stats.bytes_inflated, 4 * stats.ledger.scraped);
    assert!(stats.bytes_received > stats.bytes_inflated);
}

#[tokio::test]
async fn the_status_is_that_of_the_targets_api() {
    let keys = json!({
        "scrape_interval": FAST, "scrape_timeout": "50ms",
        "relabel_configs": [{"source_labels": ["drop"], "regex": "yes", "action": "drop"}],
    });
    let mut options = options();
    options.external_host = Some("pod-1".to_owned());
    let scene = Scene::with_options(keys, Answer::text("a 1\n"), options).await;
    let dropped = group("10.0.0.1:80", &[("drop", "yes")]);
    let invalid = group("10.0.0.2/path", &[]);
    let groups = vec![scene.exporter.group(&[("__meta_x", "y")]), dropped, invalid];
    scene.scraper.update("test", groups).unwrap();
    scene.next_scrape().await;
    let status = scene.scraper.status();
    let [pool] = status.as_slice() else { panic!("one pool") };
    let [active] = pool.active.as_slice() else { panic!("one target") };
    let address = scene.exporter.address;
    assert_eq!((active.scrape_pool.as_str(), active.health), ("test", TargetHealth::Up));
    assert_eq!(active.scrape_url, format!("http://{address}/metrics"));
    assert_eq!(active.global_url, format!("http://pod-1:{}/metrics", address.port()));
    assert_eq!(active.discovered_labels.get("__meta_x"), "y");
    assert_eq!(active.labels.to_string(), format!("{{instance=\"{address}\", job=\"test\"}}"));
    assert_eq!(
        (active.scrape_interval, active.scrape_timeout),
        (Duration::from_millis(100), Duration::from_millis(50))
    );
    assert!(active.last_scrape.is_some() && active.last_error.is_empty());
    assert_eq!((pool.dropped.len(), pool.dropped_count), (1, 1));
    assert_eq!(pool.dropped[0].get("__address__"), "10.0.0.1:80");
    assert_eq!((pool.discovered, pool.duplicates, pool.exceeded_target_limit), (3, 0, None));
    let [by] = pool.dropped_by.as_slice() else { panic!("one rule drops") };
    assert_eq!(by.to_string(), "relabel_configs[0] (drop drop =~ \"yes\")");
    let [invalid] = pool.invalid.as_slice() else { panic!("one cannot be scraped") };
    assert_eq!((invalid.targets, invalid.labels.get("__address__")), (1, "10.0.0.2/path"));
}

#[tokio::test]
async fn too_many_targets_fail_all_without_being_asked() {
    let scene = Scene::start(
        json!({"scrape_interval": FAST, "scrape_timeout": FAST, "target_limit": 1}),
        Answer::text("a 1\n"),
    )
    .await;
    scene.next_scrape().await;
    let two = vec![scene.exporter.group(&[]), scene.exporter.group(&[("x", "y")])];
    scene.scraper.update("test", two).unwrap();
    wait_for(|| scene.scraper.status()[0].active.iter().all(|target| target.health == TargetHealth::Down))
        .await;
    let asked = scene.exporter.requests().len();
    assert_eq!(scene.last_error(), "target_limit exceeded (number of targets: 2, limit: 1)");
    assert_eq!(scene.scraper.status()[0].exceeded_target_limit, Some(1));
    assert!(lines(&scene.sink.take()).contains(&"a stale".to_owned()));
    scene.next_scrape().await;
    assert_eq!(scene.exporter.requests().len(), asked);
    scene.discover(&[]);
    wait_for(|| scene.scraper.status()[0].active[0].health == TargetHealth::Up).await;
}

#[tokio::test]
async fn reloading_leaves_unchanged_jobs_alone_and_judges_changed_ones_anew() {
    let scene = Scene::start(fast(), Answer::text("a 1\nb 1\n")).await;
    scene.next_scrape().await;
    scene.scraper.apply(vec![job(fast())]);
    assert_eq!(value_of(&scene.next_scrape().await, "scrape_series_added"), "0", "nothing was touched");

    let mut keys = fast();
    keys["sample_limit"] = json!(100);
    scene.scraper.apply(vec![job(keys)]);
    for _ in 0..3 {
        let samples = scene.next_scrape().await;
        assert_eq!((lines(&samples).len(), value_of(&samples, "scrape_series_added").as_str()), (2, "0"));
    }

    let mut keys = fast();
    keys["metric_relabel_configs"] = json!([{"source_labels": ["__name__"], "regex": "b", "action": "drop"}]);
    scene.scraper.apply(vec![job(keys)]);
    scene.sink.take();
    let mut seen = Vec::new();
    wait_for(|| {
        seen.extend(lines(&scene.sink.take()));
        seen.contains(&"b stale".to_owned())
    })
    .await;
    assert!(!seen.contains(&"a stale".to_owned()), "a stays: {seen:?}");
    assert_eq!(lines(&scene.next_scrape().await), ["a 1"]);

    scene.scraper.apply(Vec::new());
    assert!(scene.scraper.stats().is_empty());
    wait_for(|| lines(&scene.sink.take()).contains(&"a stale".to_owned())).await;
}

#[tokio::test]
async fn a_target_that_is_gone_ends_after_two_intervals_unless_it_returns() {
    let scene =
        Scene::start(json!({"scrape_interval": "300ms", "scrape_timeout": "300ms"}), Answer::text("a 1\n"))
            .await;
    scene.next_scrape().await;
    // Gone and back under another identity with the same public labels: no marker in between.
    scene.scraper.update("test", Vec::new()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut returned = scene.exporter.group(&[]);
    returned.labels = promferry_model::Labels::from_pairs([("__tmp", "changed")]);
    scene.scraper.update("test", vec![returned]).unwrap();
    scene.sink.take();
    for _ in 0..4 {
        assert_eq!(lines(&scene.next_scrape().await), ["a 1"]);
    }
    let last = scene.scraper.status()[0].active[0].last_scrape.unwrap();

    scene.scraper.update("test", Vec::new()).unwrap();
    let mut ended = Vec::new();
    wait_for(|| {
        ended.extend(scene.sink.take());
        lines(&ended).contains(&"a stale".to_owned())
    })
    .await;
    let markers: Vec<_> = ended.iter().filter(|s| promferry_model::is_stale_nan(s.sample.value)).collect();
    assert_eq!(markers.len(), 6, "the series and its five report series");
    for marker in markers {
        let after = marker.sample.timestamp.since(last);
        assert!(after > Duration::ZERO && after <= Duration::from_millis(650), "{after:?}");
    }
}

#[tokio::test]
async fn shutting_down_writes_no_markers() {
    let scene = Scene::start(json!({}), Answer::text("a 1\n")).await;
    assert_eq!(lines(&scene.next_scrape().await), ["a 1"]);
    scene.scraper.shutdown().await;
    assert!(scene.sink.take().is_empty());
    scene.scraper.apply(vec![job(fast())]);
    scene.discover(&[("too", "late")]);
    assert!(scene.scraper.status()[0].active.is_empty());
}

#[tokio::test]
async fn a_scrape_under_way_is_given_up_by_shutting_down() {
    let scene = Scene::start(json!({}), Answer::text("a 1\n").after(Duration::from_secs(60))).await;
    wait_for(|| !scene.exporter.requests().is_empty()).await;
    scene.scraper.shutdown().await;
    assert!(scene.sink.take().is_empty());
    let ledger = scene.scraper.stats().remove("test").unwrap().ledger;
    assert_eq!((ledger.scheduled, ledger.running, ledger.missed["shutdown"]), (1, 0, 1));
    assert!(ledger.balances());
}

#[tokio::test]
async fn a_slow_target_misses_moments_that_are_counted() {
    let keys = json!({"scrape_interval": "50ms", "scrape_timeout": "50ms"});
    let mut options = options();
    options.cpu = promferry_scrape::CpuSections::new(1);
    let job = Job::new(config(keys), vec![Arc::new(SlowStage)], HttpOptions::default()).unwrap();
    let exporter = Exporter::start(Answer::text("slow 1\n")).await;
    let scraper = Scraper::new(MemorySink::new(), options);
    scraper.apply(vec![job]);
    scraper.update("test", vec![exporter.group(&[])]).unwrap();
    wait_for(|| scraper.stats()["test"].ledger.scraped > 1).await;
    scraper.shutdown().await;
    let ledger = scraper.stats().remove("test").unwrap().ledger;
    assert!(ledger.missed["late"] >= 2, "{ledger:?}");
    assert!(ledger.balances(), "{ledger:?}");
}

#[tokio::test]
async fn a_panic_fails_the_scrape_keeps_the_page_and_the_state() {
    let kept = Arc::new(Kept::default());
    let mut options = options();
    options.page_keeper = Some(kept.clone());
    let job = Job::new(config(fast()), vec![Arc::new(PanicStage)], HttpOptions::default()).unwrap();
    let exporter = Exporter::start(Answer::text("a 1\n")).await;
    let sink = MemorySink::new();
    let scraper = Scraper::new(sink.clone(), options);
    scraper.apply(vec![job]);
    scraper.update("test", vec![exporter.group(&[])]).unwrap();
    wait_for(|| lines(&sink.appended()).contains(&"a 1".to_owned())).await;
    exporter.set(Answer::text("a 1\npanic 1\n"));
    wait_for(|| scraper.stats()["test"].panics > 0).await;
    assert!(scraper.status()[0].active[0].last_error.contains("panicked (a stage that panics)"));
    wait_for(|| lines(&sink.appended()).contains(&"a stale".to_owned())).await;
    exporter.set(Answer::text("a 2\n"));
    wait_for(|| lines(&sink.appended()).contains(&"a 2".to_owned())).await;
    let pages = kept.0.lock().unwrap();
    assert_eq!(pages[0], ("test".to_owned(), b"a 1\npanic 1\n".to_vec()));
    let stats = scraper.stats().remove("test").unwrap();
    assert!(stats.ledger.failed["panic"] > 0 && stats.ledger.balances() && stats.loop_restarts == 0);
}

#[tokio::test]
async fn a_loop_that_panics_is_started_again_and_goes_on_with_its_series() {
    let clock = Arc::new(PanickingClock::new());
    let mut options = options();
    options.clock = clock.clone();
    let scene = Scene::with_options(fast(), Answer::text("a 1\n"), options).await;
    scene.next_scrape().await;
    clock.panic_once.store(true, Ordering::SeqCst);
    wait_for(|| scene.scraper.stats()["test"].loop_restarts == 1).await;
    scene.sink.take();
    assert_eq!(lines(&scene.next_scrape().await), ["a 1"]);
    scene.exporter.set(Answer::text("b 1\n"));
    wait_for(|| lines(&scene.sink.appended()).contains(&"a stale".to_owned())).await;
    assert!(scene.scraper.stats()["test"].ledger.balances());
}

#[tokio::test]
async fn a_page_waits_for_memory_and_then_fails_by_name() {
    let budget = MemoryBudget::new(1 << 20);
    let mut options = options();
    options.budget = budget.clone();
    let scene = Scene::with_options(fast(), Answer::text("a 1\n"), options).await;
    scene.next_scrape().await;
    let all = budget.try_reserve(Purpose::Buffers, budget.available()).unwrap();
    wait_for(|| scene.last_error().contains("no memory was free for the page")).await;
    drop(all);
    wait_for(|| scene.last_error().is_empty()).await;
    assert!(scene.scraper.stats()["test"].ledger.failed["memory"] > 0);
}

#[tokio::test]
async fn a_job_that_returns_goes_on_with_its_series() {
    let keys = || json!({"scrape_interval": "300ms", "scrape_timeout": "300ms"});
    let scene = Scene::start(keys(), Answer::text("a 1\n")).await;
    scene.next_scrape().await;
    scene.scraper.apply(Vec::new());
    tokio::time::sleep(Duration::from_millis(50)).await;
    scene.scraper.apply(vec![job(keys())]);
    scene.discover(&[]);
    scene.sink.take();
    for _ in 0..4 {
        assert_eq!(lines(&scene.next_scrape().await), ["a 1"]);
    }
}

#[tokio::test]
async fn a_sink_that_cannot_store_is_counted_and_markers_are_owed_again() {
    use support::refusing_sink::RefusingSink;
    let sink = RefusingSink::default();
    let exporter = Exporter::start(Answer::text("a 1\n")).await;
    let scraper = Scraper::new(sink.clone(), options());
    scraper.apply(vec![job(fast())]);
    scraper.update("test", vec![exporter.group(&[])]).unwrap();
    wait_for(|| lines(&sink.memory.appended()).contains(&"a 1".to_owned())).await;
    sink.refuse(true);
    exporter.set(Answer::status(500));
    wait_for(|| scraper.stats()["test"].commits_failed > 1).await;
    sink.memory.take();
    sink.refuse(false);
    wait_for(|| lines(&sink.memory.appended()).contains(&"a stale".to_owned())).await;
    assert!(scraper.stats()["test"].ledger.balances());
}

/// Panics once when told to, on the thread of the loops.
struct PanickingClock {
    clock: support::TokioClock,
    panic_once: AtomicBool,
    thread: std::thread::ThreadId,
}

impl PanickingClock {
    fn new() -> Self {
        let thread = std::thread::current().id();
        Self { clock: support::TokioClock::new(), panic_once: AtomicBool::new(false), thread }
    }
}

impl Clock for PanickingClock {
    fn now(&self) -> Timestamp {
        let told =
            self.thread == std::thread::current().id() && self.panic_once.swap(false, Ordering::SeqCst);
        assert!(!told, "a clock that panics");
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

struct SlowStage;

impl Stage for SlowStage {
    fn name(&self) -> &str {
        "slow"
    }

    fn apply(&self, _: &mut LabelsBuilder, _: &SeriesContext<'_>) -> Verdict {
        std::thread::sleep(Duration::from_millis(180));
        Verdict::Drop
    }
}

struct PanicStage;

impl Stage for PanicStage {
    fn name(&self) -> &str {
        "panics"
    }

    fn apply(&self, labels: &mut LabelsBuilder, _: &SeriesContext<'_>) -> Verdict {
        assert!(labels.get("__name__") != "panic", "a stage that panics");
        Verdict::Keep
    }
}

#[derive(Default)]
struct Kept(std::sync::Mutex<Vec<(String, Vec<u8>)>>);

impl PageKeeper for Kept {
    fn keep(&self, page: &KeptPage<'_>) {
        self.0.lock().unwrap().push((page.job.to_owned(), page.page.to_vec()));
    }
}
