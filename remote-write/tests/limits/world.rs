//! A sender whose minutes are seconds, and targets that feed it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use promferry_model::{
    Labels, LabelsBuilder, MetadataView, PromDuration, Sample, SeriesId, SeriesView, SystemClock, TargetSink,
    Timestamp,
};
use promferry_remote_write::spool::{SpoolOptions, Storage};
use promferry_remote_write::{EndpointStatus, RemoteWrite, RemoteWriteConfig, RemoteWriteTarget};

use crate::sender;

/// A minute, as the tests here count time.
pub(crate) const MINUTE: Duration = Duration::from_millis(1500);

pub(crate) fn config(url: String) -> RemoteWriteConfig {
    let mut config = RemoteWriteConfig { url, ..RemoteWriteConfig::default() };
    config.queue_config.batch_send_deadline = PromDuration::from_millis(20);
    config.queue_config.max_backoff = PromDuration::from_millis(100);
    config.queue_config.max_samples_per_send = 500;
    config.metadata_config.send = false;
    config.lasting_limits.probe_interval = PromDuration::from_millis(MINUTE.as_millis() as u64);
    config.lasting_limits.hold_out = PromDuration::from_millis(10 * MINUTE.as_millis() as u64);
    config
}

pub(crate) async fn start(dir: &Path, configs: Vec<RemoteWriteConfig>) -> RemoteWrite {
    let endpoints = configs.into_iter().map(sender::endpoint).collect();
    sender::start(&dir.join("spool"), Arc::new(SystemClock::new()), Labels::default(), endpoints).await
}

/// A sender with its spool in this storage.
pub(crate) async fn start_in(
    storage: impl Storage,
    options: SpoolOptions,
    config: RemoteWriteConfig,
) -> RemoteWrite {
    let clock = Arc::new(SystemClock::new());
    sender::start_in(storage, options, clock, Labels::default(), vec![sender::endpoint(config)]).await
}

pub(crate) struct Target {
    sink: RemoteWriteTarget,
    labels: Labels,
    series: Vec<SeriesId>,
    scraped_at: i64,
}

impl Target {
    pub(crate) fn open(remote: &RemoteWrite, instance: &str) -> Self {
        let (sink, labels) = sender::open(remote, "shop", instance);
        Self { sink, labels, series: Vec::new(), scraped_at: 0 }
    }

    /// More series from the next scrape on, of this kind.
    pub(crate) fn add(&mut self, kind: &str, count: usize) {
        for number in 0..count {
            let mut builder = LabelsBuilder::from(&self.labels);
            builder.set("__name__", format!("requests_{}", number % 7));
            builder.set("kind", kind);
            builder.set("number", number.to_string());
            let view = SeriesView { labels: builder.as_slice(), metadata: MetadataView::default() };
            // Not one after the other: what is new stands between what is known.
            let at = (number * 7919) % (self.series.len() + 1);
            self.series.insert(at, self.sink.admit(&view).unwrap());
        }
    }

    /// A scrape now.
    pub(crate) async fn scrape(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        self.scraped_at = now.max(self.scraped_at + 1);
        let at = Timestamp::from_millis(self.scraped_at);
        self.sink.begin(at);
        for &id in &self.series {
            self.sink.sample(id, Sample::new(at, 1.0));
        }
        self.sink.commit().await.unwrap();
    }
}

pub(crate) async fn scrape_all(targets: &mut [Target]) {
    for target in targets {
        target.scrape().await;
    }
}

/// The first endpoint's status; every ledger balances.
pub(crate) async fn status(remote: &RemoteWrite) -> EndpointStatus {
    let mut status = remote.status().await.unwrap();
    for endpoint in &status {
        assert!(endpoint.ledger.balances(), "{endpoint:?}");
    }
    status.remove(0)
}

/// Waits until `met` says yes of the first endpoint; 60 s at most.
pub(crate) async fn until(
    remote: &RemoteWrite,
    what: &str,
    met: impl Fn(&EndpointStatus) -> bool,
) -> EndpointStatus {
    for _ in 0..3000 {
        let status = status(remote).await;
        if met(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never happened: {what}; {:?}", status(remote).await);
}

/// The receiver's text of a series as Go prints it.
pub(crate) fn as_go_prints(series: &str) -> String {
    let pairs = series.split(',').filter_map(|pair| pair.split_once('='));
    let name = pairs.clone().find(|(name, _)| *name == "__name__").map_or("", |(_, value)| value);
    let others =
        pairs.filter(|(name, _)| *name != "__name__").map(|(name, value)| format!("{name}={value:?}"));
    format!("{name}{{{}}}", others.collect::<Vec<_>>().join(", "))
}
