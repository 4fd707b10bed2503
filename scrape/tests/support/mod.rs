//! A target that serves what the test says, a clock that follows tokio's, and a scraper between them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

pub mod null_sink;
pub mod refusing_sink;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use promferry_http_client::HttpOptions;
use promferry_model::{
    Appended, Clock, Labels, MemorySink, Receipt, Sink, SinkError, TargetGroup, Timestamp, is_stale_nan,
};
use promferry_scrape::{
    GlobalConfig, Job, PageOutcome, PageReader, ScrapeConfig, ScrapeError, Scraper, ScraperOptions, Target,
    discovered_labels,
};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// What an exporter answers.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    pub delay: Duration,
}

impl Answer {
    pub fn text(page: &str) -> Self {
        Self::typed("text/plain; version=0.0.4", page)
    }

    pub fn openmetrics(page: &str) -> Self {
        Self::typed("application/openmetrics-text; version=1.0.0", page)
    }

    pub fn typed(content_type: &str, page: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", content_type.to_owned())],
            body: Bytes::copy_from_slice(page.as_bytes()),
            delay: Duration::ZERO,
        }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::text("") }
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// A target on a port of its own.
#[derive(Clone)]
pub struct Exporter {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Exporter {
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let exporter = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            requests: Arc::default(),
        };
        let serving = exporter.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let exporter = serving.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| exporter.clone().answer(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        exporter
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        self.requests.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
        let answer = self.answer.lock().unwrap().clone();
        if answer.delay > Duration::ZERO {
            tokio::time::sleep(answer.delay).await;
        }
        let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap());
        for (name, value) in &answer.headers {
            response = response.header(*name, value);
        }
        Ok(response.body(Full::new(answer.body)).unwrap())
    }

    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn requests(&self) -> Vec<(String, HeaderMap)> {
        self.requests.lock().unwrap().clone()
    }

    pub fn group(&self, labels: &[(&str, &str)]) -> TargetGroup {
        group(&self.address.to_string(), labels)
    }
}

pub fn group(address: &str, labels: &[(&str, &str)]) -> TargetGroup {
    TargetGroup {
        source: "test".into(),
        labels: Labels::from_pairs(labels.iter().copied()),
        targets: vec![Labels::from_pairs([("__address__", address)])],
    }
}

/// Wall-clock time that starts at a fixed moment and goes as tokio's does, paused or not.
#[derive(Clone, Copy)]
pub struct TokioClock(Instant);

pub const START_MS: i64 = 1_700_000_000_000;

impl TokioClock {
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(START_MS).saturating_add(self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A job from its keys as JSON.
pub fn config(keys: serde_json::Value) -> ScrapeConfig {
    let mut keys = keys;
    keys.as_object_mut().unwrap().entry("job_name").or_insert("test".into());
    let mut config: ScrapeConfig = serde_json::from_value(keys).unwrap();
    config.apply_defaults(&GlobalConfig::default());
    config
}

pub fn job(keys: serde_json::Value) -> Job {
    Job::new(config(keys), Vec::new(), HttpOptions::default()).unwrap()
}

pub fn options() -> ScraperOptions {
    let mut options = ScraperOptions::default();
    options.clock = Arc::new(TokioClock::new());
    options
}

/// One job and one exporter, scraped into memory.
pub struct Scene {
    pub exporter: Exporter,
    pub sink: MemorySink,
    pub scraper: Scraper<MemorySink>,
}

impl Scene {
    /// Starts to scrape `answer` under a job of these keys.
    pub async fn start(keys: serde_json::Value, answer: Answer) -> Self {
        Self::with_options(keys, answer, options()).await
    }

    pub async fn with_options(keys: serde_json::Value, answer: Answer, options: ScraperOptions) -> Self {
        let exporter = Exporter::start(answer).await;
        let sink = MemorySink::new();
        let scraper = Scraper::new(sink.clone(), options);
        scraper.apply(vec![job(keys)]);
        let scene = Self { exporter, sink, scraper };
        scene.discover(&[]);
        scene
    }

    pub fn discover(&self, labels: &[(&str, &str)]) {
        self.scraper.update("test", vec![self.exporter.group(labels)]).unwrap();
    }

    /// What the next scrape that ends brings.
    pub async fn next_scrape(&self) -> Vec<Appended> {
        loop {
            let before = self.ended();
            wait_for(|| self.ended() > before).await;
            let samples = self.sink.take();
            // A scrape is stored before it is counted. What was counted just now may have been taken before:
            // every scrape that ends brings report series, so nothing means that.
            if !samples.is_empty() {
                return samples;
            }
        }
    }

    /// Forgets everything up to now, including a scrape under way, and takes the next whole one.
    pub async fn scrape_of(&self, answer: Answer) -> Vec<Appended> {
        self.exporter.set(answer);
        self.sink.take();
        self.next_scrape().await
    }

    fn ended(&self) -> u64 {
        let stats = &self.scraper.stats()["test"].ledger;
        stats.scraped + stats.failed.values().sum::<u64>()
    }

    pub fn last_error(&self) -> String {
        self.scraper.status()[0].active[0].last_error.clone()
    }
}

/// Waits until `done`, for as long as a slow machine may need.
pub async fn wait_for(mut done: impl FnMut() -> bool) {
    for _ in 0..30_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("waited in vain");
}

/// Samples as text, without the report series and without the target's own labels: `name{labels} value`,
/// `stale` for a marker.
pub fn lines(appended: &[Appended]) -> Vec<String> {
    appended
        .iter()
        .filter(|sample| !is_report(sample))
        .map(|sample| {
            let name = sample.labels.get("__name__");
            let labels: Labels = sample
                .labels
                .iter()
                .filter(|label| !matches!(label.name.as_str(), "__name__" | "instance" | "job"))
                .map(|label| (label.name.clone(), label.value.clone()))
                .collect();
            let labels = if labels.is_empty() { String::new() } else { labels.to_string() };
            format!("{name}{labels} {}", value(sample))
        })
        .collect()
}

pub fn is_report(sample: &Appended) -> bool {
    let name = sample.labels.get("__name__");
    name == "up" || name.starts_with("scrape_")
}

pub fn value(sample: &Appended) -> String {
    if is_stale_nan(sample.sample.value) { "stale".to_owned() } else { sample.sample.value.to_string() }
}

/// The value of a series by name.
pub fn value_of(appended: &[Appended], name: &str) -> String {
    let found = appended.iter().find(|sample| sample.labels.get("__name__") == name);
    found.map_or_else(|| "absent".to_owned(), value)
}

#[allow(dead_code, reason = "a bound that the compiler checks")]
fn a_scraper_may_be_shared<S: Sink>(scraper: &Scraper<S>) -> &(dyn Send + Sync) {
    scraper
}

/// Pages of one target, read one after the other at an interval of 15 s.
pub struct Pages {
    pub sink: MemorySink,
    pub reader: PageReader<MemorySink>,
    scrapes: i64,
}

impl Pages {
    pub fn new(keys: serde_json::Value) -> Self {
        Self::with_options(keys, &[], options_at_start())
    }

    pub fn with_options(keys: serde_json::Value, labels: &[(&str, &str)], options: ScraperOptions) -> Self {
        Self::of_job(job(keys), labels, options)
    }

    pub fn of_job(job: Job, labels: &[(&str, &str)], options: ScraperOptions) -> Self {
        let sink = MemorySink::new();
        let reader = PageReader::new(&sink, job.clone(), target(&job, labels), options);
        Self { sink, reader, scrapes: 0 }
    }

    /// The timestamp of the scrape that comes next.
    pub fn next_at(&self) -> Timestamp {
        Timestamp::from_millis(START_MS + self.scrapes * 15_000)
    }

    /// Reads a text page; gives the samples without the report series.
    pub fn text(&mut self, page: &str) -> Vec<String> {
        lines(&self.read(page, "text/plain").1)
    }

    pub fn read(&mut self, page: &str, content_type: &str) -> (Read, Vec<Appended>) {
        self.bytes(page.as_bytes().to_vec(), content_type)
    }

    pub fn bytes(&mut self, page: Vec<u8>, content_type: &str) -> (Read, Vec<Appended>) {
        let at = self.next_at();
        self.scrapes += 1;
        let outcome = self.reader.read(page, Some(content_type), at);
        (outcome, self.sink.take())
    }

    /// A scrape whose target did not answer.
    pub fn unreachable(&mut self) -> Vec<String> {
        let at = self.next_at();
        self.scrapes += 1;
        let _ = self.reader.fail(ScrapeError::Timeout { timeout_ms: 1 }, at);
        lines(&self.sink.take())
    }
}

pub type Read = PageOutcome<std::future::Ready<Result<Receipt, SinkError>>>;

pub fn target(job: &Job, labels: &[(&str, &str)]) -> Target {
    let own = [("__address__", "host:80")].into_iter().chain(labels.iter().copied());
    let discovered = discovered_labels(job.config(), &Labels::from_pairs(own), &Labels::default());
    Target::populate(job.config(), &discovered, |labels| job.target_rules().apply(labels)).unwrap().unwrap()
}

/// Options whose clock stands still.
pub fn options_at_start() -> ScraperOptions {
    let mut options = ScraperOptions::default();
    options.clock = Arc::new(StandingClock);
    options
}

struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(START_MS)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A page of `series` series in families of ten, as exporters write them.
pub fn large_page(series: usize) -> String {
    families(series).concat()
}

/// The families of [`large_page`], each a text of its own.
pub fn families(series: usize) -> Vec<String> {
    let sample = |family: usize, n: usize| {
        format!(
            "app_requests_{family}_total{{method=\"GET\",handler=\"/api/v1/things/{}\",code=\"{}\"}} {}\n",
            n % 10,
            200 + n % 7,
            n * 17
        )
    };
    let family = |family: usize| {
        let name = format!("app_requests_{family}_total");
        let samples: String =
            (family * 10..series.min(family * 10 + 10)).map(|n| sample(family, n)).collect();
        format!("# HELP {name} Requests handled.\n# TYPE {name} counter\n{samples}")
    };
    (0..series.div_ceil(10)).map(family).collect()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}
