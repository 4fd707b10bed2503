//! What the tests of changes have in common: targets that are scraped, and endpoints.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use promferry_model::{
    Clock as _, Labels, PromDuration, Sample, SeriesId, SystemClock, TargetSink as _, Timestamp,
};
use promferry_relabel::{Action, RelabelConfig};
use promferry_remote_write::delivery::Transport;
use promferry_remote_write::{
    Applied, Commit, EndpointChange, EndpointStatus, RemoteWrite, RemoteWriteConfig, RemoteWriteTarget, wire,
};
use tokio::task::JoinHandle;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, service_fn};

use crate::receiver::{Receiver, Verdict};
use crate::sender;

/// The time of the first scrape: lately, for what is old is not kept for who has left.
pub(crate) static START: LazyLock<i64> = LazyLock::new(|| SystemClock::new().now().as_millis() - 60_000);

pub(crate) fn config(name: &str, address: SocketAddr) -> RemoteWriteConfig {
    let mut config = RemoteWriteConfig {
        url: format!("http://{address}/api/v1/write"),
        name: name.to_owned(),
        ..RemoteWriteConfig::default()
    };
    config.queue_config.batch_send_deadline = PromDuration::from_millis(10);
    config.queue_config.max_backoff = PromDuration::from_millis(50);
    config.metadata_config.send = false;
    config
}

pub(crate) fn cluster(name: &str) -> Labels {
    Labels::from_pairs([("cluster", name)])
}

pub(crate) async fn start(dir: &Path, labels: Labels, configs: Vec<RemoteWriteConfig>) -> RemoteWrite {
    let endpoints = configs.into_iter().map(sender::endpoint).collect();
    sender::start(&dir.join("spool"), Arc::new(SystemClock::new()), labels, endpoints).await
}

pub(crate) fn anew(config: RemoteWriteConfig) -> EndpointChange {
    sender::endpoint(config).into()
}

pub(crate) fn same(config: &RemoteWriteConfig) -> EndpointChange {
    EndpointChange::SameTransport(config.clone())
}

pub(crate) fn names(applied: &Applied) -> [Vec<&str>; 3] {
    [&applied.added, &applied.changed, &applied.removed]
        .map(|names| names.iter().map(String::as_str).collect())
}

pub(crate) struct Target {
    pub(crate) sink: RemoteWriteTarget,
    pub(crate) series: Vec<SeriesId>,
}

impl Target {
    pub(crate) fn open(remote: &RemoteWrite, instance: &str, series: usize) -> Self {
        let (sink, series) = sender::gauges(remote, instance, (0..series).map(|number| number.to_string()));
        Self { sink, series }
    }

    pub(crate) fn begin(&mut self, number: i64) {
        let at = Timestamp::from_millis(*START + number);
        self.sink.begin(at);
        for &id in &self.series {
            self.sink.sample(id, Sample::new(at, number as f64));
        }
    }

    pub(crate) fn commit(&mut self) -> Commit {
        self.sink.commit()
    }

    pub(crate) async fn scrape(&mut self, number: i64) {
        self.begin(number);
        self.commit().await.unwrap();
    }
}

/// Every endpoint by name; every ledger balances.
pub(crate) async fn status(remote: &RemoteWrite) -> BTreeMap<String, EndpointStatus> {
    let status = remote.status().await.unwrap();
    for endpoint in &status {
        assert!(endpoint.ledger.balances(), "{endpoint:?}");
    }
    status.into_iter().map(|endpoint| (endpoint.key.clone(), endpoint)).collect()
}

/// Waits until nothing waits any more; 30 s at most.
pub(crate) async fn drained(remote: &RemoteWrite) -> BTreeMap<String, EndpointStatus> {
    remote.flush(Duration::from_secs(30)).await.unwrap();
    let status = status(remote).await;
    assert!(status.values().all(|endpoint| endpoint.ledger.pending.is_zero()), "{status:?}");
    status
}

/// The numbers of the scrapes of which a series came, in the order of arrival.
pub(crate) fn numbers(receiver: &Receiver) -> BTreeMap<String, Vec<i64>> {
    let samples = receiver.samples().into_iter();
    samples.map(|(series, samples)| (series, samples.iter().map(|(at, _)| at - *START).collect())).collect()
}

/// Targets that are scraped one after the other for as long as it takes.
pub(crate) struct Load {
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) rounds: Arc<AtomicI64>,
    pub(crate) scraping: Vec<JoinHandle<i64>>,
}

impl Load {
    pub(crate) fn start(remote: &RemoteWrite, targets: usize, series: usize) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let scraping = (0..targets).map(|target| {
            let mut target = Target::open(remote, &format!("host-{target}:80"), series);
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            tokio::spawn(async move {
                let mut scrapes = 0;
                while !stop.load(Ordering::Relaxed) {
                    target.scrape(scrapes).await;
                    scrapes += 1;
                    rounds.fetch_max(scrapes, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
                scrapes
            })
        });
        let scraping = scraping.collect();
        Self { stop, rounds, scraping }
    }

    /// Waits until a target was scraped so many times more.
    pub(crate) async fn go_on_for(&self, scrapes: i64) {
        let end = self.rounds.load(Ordering::Relaxed) + scrapes;
        while self.rounds.load(Ordering::Relaxed) < end {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How many scrapes there were, of each target.
    pub(crate) async fn stop(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut scrapes = Vec::new();
        for target in self.scraping {
            scrapes.push(target.await.unwrap());
        }
        scrapes
    }
}

/// A receiver that takes its time, so that requests are in flight at any moment, and refuses some for now. What it has
/// it takes, whoever waits for the answer.
pub(crate) async fn slow_receiver() -> Receiver {
    let receiver = Receiver::start().await;
    receiver.state.lock().unwrap().is_thorough = true;
    let mut requests = 0;
    receiver.answer_by(move |_| {
        requests += 1;
        let status = if requests % 7 == 3 { 503 } else { 200 };
        Verdict { after: Duration::from_millis(15), ..(status, String::new()).into() }
    });
    receiver
}

/// The samples of an endpoint in the order in which they came: series, and number of the scrape.
pub(crate) type Taken = Arc<Mutex<Vec<(String, i64)>>>;

/// An endpoint in memory, which refuses one request in so many for now.
pub(crate) fn in_memory(taken: &Taken, one_in: usize) -> Transport {
    let (taken, requests) = (Arc::clone(taken), Arc::new(Mutex::new(0)));
    BoxCloneSyncService::new(service_fn(move |request: Request<Bytes>| {
        let (taken, requests) = (Arc::clone(&taken), Arc::clone(&requests));
        async move {
            let mut answer = Response::new(Bytes::new());
            let number = {
                let mut requests = requests.lock().unwrap();
                *requests += 1;
                *requests
            };
            let message = wire::decode_v1(request.body(), 1 << 20).unwrap();
            if number % one_in == 0 {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            for series in message.timeseries.into_iter().filter(|_| number % one_in != 0) {
                let value =
                    |name| series.labels.iter().find(|label| label.name == name).map(|label| &label.value);
                let text =
                    ["cluster", "instance", "number"].map(|name| value(name).cloned().unwrap_or_default());
                taken
                    .lock()
                    .unwrap()
                    .extend(series.samples.iter().map(|sample| (text.join(" "), sample.timestamp - *START)));
            }
            // It has them, whether the answer arrives or not.
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<_, BoxError>(answer)
        }
    }))
}

/// Drops the series whose number matches.
pub(crate) fn drop_numbers(regex: &str) -> Vec<RelabelConfig> {
    let rule = RelabelConfig {
        source_labels: vec!["number".into()],
        regex: Some(regex.into()),
        action: Action::Drop,
        ..RelabelConfig::default()
    };
    vec![rule]
}
