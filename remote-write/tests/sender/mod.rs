#![allow(dead_code, reason = "shared by several test binaries, each of which uses a part")]
//! A sender over a real disk and real HTTP, and targets that feed it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
use promferry_model::{
    Clock, Labels, LabelsBuilder, MemoryBudget, MetadataView, MetricType, SeriesId, SeriesView, Sink as _,
    TargetInfo, TargetSink as _,
};
use promferry_remote_write::delivery::transport;
use promferry_remote_write::spool::{DiskStorage, Spool, SpoolOptions, Storage};
use promferry_remote_write::{Endpoint, RemoteWrite, RemoteWriteConfig, RemoteWriteTarget, Shared};

/// What every series of [`gauges`] is.
pub(crate) const GAUGE: MetadataView<'static> =
    MetadataView { family: "m", metric_type: MetricType::Gauge, unit: "", help: "A gauge." };

pub(crate) fn http() -> Client {
    Client::new(Http::new(&HttpClientConfig::default(), HttpOptions::default()).unwrap())
}

pub(crate) fn endpoint(config: RemoteWriteConfig) -> Endpoint {
    Endpoint { config, transport: transport(http()), explain_denial: None, describe_body: None }
}

/// Starts a sender with its spool in this directory.
pub(crate) async fn start(
    spool: &Path,
    clock: Arc<dyn Clock>,
    external_labels: Labels,
    endpoints: Vec<Endpoint>,
) -> RemoteWrite {
    let storage = DiskStorage::new(spool).unwrap();
    start_in(storage, SpoolOptions::default(), clock, external_labels, endpoints).await
}

/// Starts a sender with its spool in this storage.
pub(crate) async fn start_in(
    storage: impl Storage,
    options: SpoolOptions,
    clock: Arc<dyn Clock>,
    external_labels: Labels,
    endpoints: Vec<Endpoint>,
) -> RemoteWrite {
    let budget = MemoryBudget::new(256 << 20);
    let (spool, _) = Spool::open(storage, options, budget.clone(), clock.clone()).unwrap();
    let shared =
        Shared { external_labels, spool, budget, clock, seed: 7, user_agent: "promferry-test".to_owned() };
    RemoteWrite::start(shared, endpoints).await.unwrap()
}

/// Opens a target of this job.
pub(crate) fn open(remote: &RemoteWrite, job: &str, instance: &str) -> (RemoteWriteTarget, Labels) {
    let labels = Labels::from_pairs([("instance", instance), ("job", job)]);
    let sink = remote.open(&TargetInfo {
        job: job.into(),
        labels: labels.clone(),
        url: format!("http://{instance}/metrics"),
        scrape_interval: Duration::from_secs(1),
    });
    (sink, labels)
}

/// Opens a target with one gauge `m` for each value of its label `number`.
pub(crate) fn gauges(
    remote: &RemoteWrite,
    instance: &str,
    numbers: impl IntoIterator<Item = String>,
) -> (RemoteWriteTarget, Vec<SeriesId>) {
    let (mut sink, labels) = open(remote, "test", instance);
    let series = numbers.into_iter().map(|number| {
        let mut builder = LabelsBuilder::from(&labels);
        builder.set("__name__", "m");
        builder.set("number", number);
        sink.admit(&SeriesView { labels: builder.as_slice(), metadata: GAUGE }).unwrap()
    });
    let series = series.collect();
    (sink, series)
}
