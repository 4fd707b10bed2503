//! Many targets behind one address, most of them on a simulated clock: tokio's time is paused and goes on when all
//! wait.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

#[path = "gateways/pauses.rs"]
mod pauses;
#[path = "gateways/rules.rs"]
mod rules;
#[path = "gateways/secrets.rs"]
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use promferry_http_client::HttpOptions;
use promferry_model::{Labels, MemorySink, TargetGroup};
use promferry_scrape::{GlobalConfig, Job, JobError, ScrapeConfig, ScrapeLedger, Scraper, TargetHealth};
use serde_json::json;
use support::{config, group, job, options, wait_for};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// A request as it reached a gateway.
#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    path: String,
    headers: http::HeaderMap,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type Answer = dyn Fn(&Seen) -> Response<&'static str> + Send + Sync;

/// A server that many targets are behind.
#[derive(Clone)]
struct Gateway {
    address: SocketAddr,
    delay: Duration,
    state: Arc<Mutex<State>>,
    answer: Arc<Answer>,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    most_in_flight: usize,
    open: usize,
    most_open: usize,
    seen: Vec<Seen>,
}

fn page() -> Response<&'static str> {
    Response::builder().header("content-type", "text/plain; version=0.0.4").body("a 1\n").unwrap()
}

fn refused(status: u16, retry_after: &str) -> Response<&'static str> {
    Response::builder().status(status).header("retry-after", retry_after).body("").unwrap()
}

impl Gateway {
    async fn start(
        delay: Duration,
        answer: impl Fn(&Seen) -> Response<&'static str> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            address: listener.local_addr().unwrap(),
            delay,
            state: Arc::default(),
            answer: Arc::new(answer),
        };
        let serving = gateway.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let gateway = serving.clone();
                tokio::spawn(async move {
                    gateway.change(|state| {
                        state.open += 1;
                        state.most_open = state.most_open.max(state.open);
                    });
                    let server = gateway.clone();
                    let service = hyper::service::service_fn(move |request| server.clone().answer(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    gateway.change(|state| state.open -= 1);
                });
            }
        });
        gateway
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let seen =
            Seen { at: Instant::now(), path: request.uri().to_string(), headers: request.headers().clone() };
        self.change(|state| {
            state.seen.push(seen.clone());
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
        });
        if self.delay > Duration::ZERO {
            tokio::time::sleep(self.delay).await;
        }
        self.change(|state| state.in_flight -= 1);
        Ok((self.answer)(&seen).map(|body| Full::new(Bytes::from_static(body.as_bytes()))))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    fn seen(&self) -> Vec<Seen> {
        self.change(|state| state.seen.clone())
    }

    /// Targets that differ in what rules make of `__meta_app`.
    fn group(&self, apps: std::ops::Range<usize>) -> TargetGroup {
        let address = self.address.to_string();
        let mut group = group(&address, &[]);
        group.source = address.as_str().into();
        group.targets = apps
            .map(|app| {
                Labels::from_pairs([("__address__", &*address), ("__meta_app", &format!("app-{app}"))])
            })
            .collect();
        group
    }
}

/// Each application has a path of its own.
fn by_path(keys: serde_json::Value) -> serde_json::Value {
    let mut keys = keys;
    keys["relabel_configs"] = json!([
        {"source_labels": ["__meta_app"], "target_label": "instance"},
        {"source_labels": ["__meta_app"], "target_label": "__metrics_path__", "replacement": "/$1/metrics"},
    ]);
    keys
}

fn scraper_of(keys: serde_json::Value, groups: Vec<TargetGroup>) -> (Scraper<MemorySink>, MemorySink) {
    let sink = MemorySink::new();
    let scraper = Scraper::new(sink.clone(), options());
    scraper.apply(vec![job(keys)]);
    scraper.update("test", groups).unwrap();
    (scraper, sink)
}

fn ledger(scraper: &Scraper<MemorySink>) -> ScrapeLedger {
    let ledger = scraper.stats().remove("test").unwrap().ledger;
    assert!(ledger.balances(), "{ledger:?}");
    ledger
}

/// How often each instance was up, and how often it was not.
fn ups(sink: &MemorySink) -> BTreeMap<String, (u64, u64)> {
    let mut ups: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for sample in sink.appended().iter().filter(|sample| sample.labels.get("__name__") == "up") {
        let counts = ups.entry(sample.labels.get("instance").to_owned()).or_default();
        if sample.sample.value == 1.0 { counts.0 += 1 } else { counts.1 += 1 }
    }
    ups
}

#[tokio::test(start_paused = true)]
async fn one_job_reaches_a_hundred_hosts_behind_one_address() {
    let keys = tempfile::tempdir().unwrap();
    for app in 0..100 {
        std::fs::write(keys.path().join(format!("app-{app}")), format!("key of app-{app}\n")).unwrap();
    }
    let folder = keys.path().to_str().unwrap();
    let gateway = Gateway::start(Duration::ZERO, |_| page()).await;
    let (scraper, sink) = scraper_of(
        json!({
            "scrape_interval": "15s",
            "gateway": {"header_files": [folder]},
            "relabel_configs": [
                {"source_labels": ["__meta_app"], "target_label": "instance"},
                {"source_labels": ["__meta_app"], "target_label": "__host__", "replacement": "$1.apps.example:8443"},
                {"source_labels": ["__meta_app"], "target_label": "__header_x_api_key",
                 "replacement": format!("file:{folder}/$1")},
                {"target_label": "__header_authorization", "replacement": "Key all-of-them"},
            ],
        }),
        vec![gateway.group(0..100)],
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    let ups = ups(&sink);
    assert_eq!(ups.len(), 100);
    assert!(ups.values().all(|(up, down)| *up >= 3 && *down == 0), "{ups:?}");
    let seen = gateway.seen();
    for request in &seen {
        let app = request.header("host").strip_suffix(".apps.example:8443").unwrap();
        assert_eq!(request.header("x-api-key"), format!("key of {app}"));
        assert_eq!(request.header("authorization"), "Key all-of-them");
        assert_eq!(request.path, "/metrics");
    }
    let hosts: BTreeSet<_> = seen.iter().map(|request| request.header("host").to_owned()).collect();
    assert_eq!(hosts.len(), 100);

    // A file that changes is read again.
    std::fs::write(keys.path().join("app-7"), "another key\n").unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let last =
        gateway.seen().into_iter().rfind(|request| request.header("host").starts_with("app-7.")).unwrap();
    assert_eq!(last.header("x-api-key"), "another key");
    scraper.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn never_more_than_the_cap_are_in_flight_and_connections_are_lent() {
    for (keys, path, cap, delay_ms) in [
        (json!({}), "/$1/metrics", 32, 500),
        (json!({"gateway": {"max_in_flight": 5}}), "/$1/metrics", 5, 100),
        (json!({}), "/k8s/api/v1/namespaces/shop/pods/http:$1:8080/proxy/metrics", 10, 200),
    ] {
        let gateway = Gateway::start(Duration::from_millis(delay_ms), |_| page()).await;
        let mut keys = by_path(keys);
        keys["scrape_interval"] = json!("15s");
        keys["relabel_configs"][1]["replacement"] = json!(path);
        let (scraper, sink) = scraper_of(keys, vec![gateway.group(0..300)]);
        tokio::time::sleep(Duration::from_secs(61)).await;
        let status = scraper.gateways();
        scraper.shutdown().await;
        let (most_in_flight, most_open) = gateway.change(|state| (state.most_in_flight, state.most_open));
        assert_eq!(most_in_flight, cap, "all start within three seconds");
        // The server may see the end of one after the beginning of another.
        assert!(most_open <= cap + 3, "{most_open} connections for {cap} at once");
        let ups = ups(&sink);
        assert_eq!(ups.len(), 300);
        assert!(ups.values().all(|(up, down)| *up >= 4 && *down == 0), "{ups:?}");
        assert_eq!(status.len(), 1);
        assert_eq!((status[0].targets, status[0].missed, status[0].throttled), (300, 0, 0));
        assert!(status[0].connections as usize <= cap, "{status:?}");
        assert!(ledger(&scraper).failed.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn targets_of_one_address_are_spread_over_the_interval() {
    let gateway = Gateway::start(Duration::ZERO, |_| page()).await;
    let (scraper, _) = scraper_of(by_path(json!({"scrape_interval": "15s"})), vec![gateway.group(0..600)]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = Instant::now();
    scraper.shutdown().await;
    let mut each_10_ms: BTreeMap<u128, usize> = BTreeMap::new();
    for request in gateway.seen() {
        let ago = now - request.at;
        if ago < Duration::from_secs(15) {
            *each_10_ms.entry(ago.as_millis() / 10).or_default() += 1;
        }
    }
    // The clock goes on while the machine is busy.
    assert!((590..=610).contains(&each_10_ms.values().sum::<usize>()), "{each_10_ms:?}");
    assert!(each_10_ms.values().all(|requests| *requests < 8), "{each_10_ms:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_keep_the_pace_that_is_asked_for() {
    let gateway = Gateway::start(Duration::ZERO, |_| page()).await;
    let keys = by_path(json!({"scrape_interval": "15s", "gateway": {"requests_per_second": 20}}));
    let (scraper, sink) = scraper_of(keys, vec![gateway.group(0..100)]);
    tokio::time::sleep(Duration::from_secs(45)).await;
    scraper.shutdown().await;
    let mut times: Vec<_> = gateway.seen().iter().map(|request| request.at).collect();
    times.sort();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(49)));
    assert!(ups(&sink).values().all(|(up, down)| *up >= 2 && *down == 0));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_waits_too_long_keeps_its_place_in_line() {
    // Ten targets that take a second each, one after the other, every five seconds: each has its turn every tenth.
    let gateway = Gateway::start(Duration::from_secs(1), |_| page()).await;
    let keys =
        by_path(json!({"scrape_interval": "5s", "scrape_timeout": "4s", "gateway": {"max_in_flight": 1}}));
    let (scraper, sink) = scraper_of(keys, vec![gateway.group(0..10)]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let most_in_flight = gateway.change(|state| state.most_in_flight);
    scraper.shutdown().await;
    let ups = ups(&sink);
    assert!(ups.values().all(|(up, down)| (8..=11).contains(up) && *down == 0), "{ups:?}");
    let ledger = ledger(&scraper);
    let missed = |reason| ledger.missed.get(reason).copied().unwrap_or_default();
    // Some moments come while the scrape before is under way.
    assert!(
        missed("gateway") > 30 && (80..=110).contains(&(missed("gateway") + missed("late"))),
        "{ledger:?}"
    );
    assert_eq!(most_in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_a_gateway_is_scraped_though_its_job_changes() {
    let gateway = Gateway::start(Duration::from_secs(5), |_| page()).await;
    let mut keys = by_path(json!({
        "scrape_interval": "10m", "scrape_timeout": "1m", "gateway": {"max_in_flight": 1},
    }));
    let (scraper, sink) = scraper_of(keys.clone(), vec![gateway.group(0..8)]);
    for sample_limit in [10, 20] {
        tokio::time::sleep(Duration::from_secs(9)).await;
        keys["sample_limit"] = json!(sample_limit);
        scraper.apply(vec![job(keys.clone())]);
    }
    tokio::time::sleep(Duration::from_secs(42)).await;
    scraper.shutdown().await;
    let ups = ups(&sink);
    assert!(ups.len() == 8 && ups.values().all(|(up, down)| *up >= 1 && *down == 0), "{ups:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_a_gateway_wakes_for_the_end() {
    let gateway = Gateway::start(Duration::from_secs(3600), |_| page()).await;
    let keys =
        by_path(json!({"scrape_interval": "2h", "scrape_timeout": "2h", "gateway": {"max_in_flight": 1}}));
    let (scraper, _) = scraper_of(keys, vec![gateway.group(0..20)]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((scraper.gateways()[0].in_flight, scraper.gateways()[0].waiting), (1, 19));
    scraper.update("test", vec![gateway.group(0..10)]).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A scrape under way is finished, whatever becomes of its target.
    assert!(scraper.gateways()[0].targets <= 11);
    let before = Instant::now();
    scraper.shutdown().await;
    assert!(before.elapsed() < Duration::from_secs(1));
    assert!(scraper.gateways().is_empty());
}

#[tokio::test]
async fn the_servers_reason_is_shown_with_its_status() {
    for (content_type, body, expected) in [
        (
            "application/json",
            r#"{"kind":"Status","status":"Failure","message":"pods \"a\" is forbidden: no","code":403}"#,
            ": pods \"a\" is forbidden: no",
        ),
        ("text/plain; charset=utf-8", "\n  first\u{7} line \nsecond line", ": first  line"),
        ("", "plain", ": plain"),
        ("application/json", r#"{"message":"something else"}"#, ""),
        ("text/html", "<h1>Forbidden</h1>", ""),
        ("text/plain", "", ""),
    ] {
        let gateway = Gateway::start(Duration::ZERO, move |_| {
            Response::builder().status(403).header("content-type", content_type).body(body).unwrap()
        })
        .await;
        let (scraper, _) =
            scraper_of(json!({"scrape_interval": "1s", "scrape_timeout": "1s"}), vec![gateway.group(0..1)]);
        let error = || scraper.status()[0].active[0].last_error.clone();
        wait_for(|| !error().is_empty()).await;
        assert_eq!(error(), format!("server returned HTTP status 403 Forbidden{expected}"));
        scraper.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn targets_with_the_same_labels_are_named_with_a_rule() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let gateway = Gateway::start(Duration::ZERO, |_| page()).await;
    let mut keys = by_path(json!({"scrape_interval": "15s"}));
    let (scraper, _) = scraper_of(keys.clone(), vec![gateway.group(0..10)]);
    tokio::time::sleep(Duration::from_secs(40)).await;
    // A target that comes in the place of another is that other's loop: nobody is alike.
    let mut moved = gateway.group(0..10);
    moved.labels = Labels::from_pairs([("__param_moved", "yes")]);
    scraper.update("test", vec![moved]).unwrap();
    tokio::time::sleep(Duration::from_secs(40)).await;
    scraper.shutdown().await;
    assert_eq!(log.text(), "");

    for (rule, named) in [
        (json!({"source_labels": ["__meta_app"], "target_label": "__metrics_path__"}), "__metrics_path__"),
        (json!({"source_labels": ["__meta_app"], "target_label": "__host__"}), "__host__"),
        (json!({"source_labels": ["__meta_app"], "target_label": "__param_target"}), "__param_target"),
        (
            json!({"source_labels": ["__meta_app"], "target_label": "__address__", "replacement": "127.0.0.1:1"}),
            "__address__",
        ),
    ] {
        keys["relabel_configs"] = json!([{"target_label": "instance", "replacement": "all"}, rule]);
        let mut groups = vec![gateway.group(0..3)];
        if named == "__address__" {
            keys["relabel_configs"][1]["source_labels"] = json!(["__meta_other"]);
            keys["relabel_configs"][1]["regex"] = json!("yes");
            groups = vec![gateway.group(0..1), gateway.group(1..2)];
            groups[1].source = "other".into();
            groups[1].labels = Labels::from_pairs([("__meta_other", "yes")]);
        }
        let (scraper, _) = scraper_of(keys.clone(), groups);
        tokio::time::sleep(Duration::from_secs(5)).await;
        scraper.shutdown().await;
        let text = log.text();
        let rule = format!("{{source_labels: [{named}], target_label: instance}}");
        assert!(text.contains("differ in how they are reached") && text.contains(&rule), "{named}: {text}");
        assert!(text.contains("instance=\\\"all\\\"") || text.contains("instance=\"all\""), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("differ in how")).count(), 1, "{text}");
    }
}

/// What was logged, taken out line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_of_one_target_is_not_held() {
    let gateway = Gateway::start(Duration::ZERO, |_| page()).await;
    let keys = by_path(
        json!({"scrape_interval": "1s", "gateway": {"max_in_flight": 1, "requests_per_second": 0.01}}),
    );
    let (scraper, sink) = scraper_of(keys, vec![gateway.group(0..1)]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(scraper.gateways().is_empty());
    assert!(scraper.status()[0].active.iter().all(|target| target.health == TargetHealth::Up));
    scraper.shutdown().await;
    assert!(ups(&sink)["app-0"].0 >= 9);
}
