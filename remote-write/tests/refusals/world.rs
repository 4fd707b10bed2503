//! A sender with one endpoint, and targets that feed it.

use std::sync::Arc;
use std::time::Duration;

use promferry_model::{Labels, PromDuration, Sample, SeriesId, SystemClock, TargetSink, Timestamp};
use promferry_remote_write::delivery::{EndpointSnapshot, transport};
use promferry_remote_write::spool::Reason;
use promferry_remote_write::{Endpoint, ProtobufMessage, RemoteWrite, RemoteWriteConfig, RemoteWriteTarget};
use tower::ServiceExt as _;

use crate::receiver::Receiver;
use crate::sender;

pub(crate) const START: i64 = 1_700_000_000_000;
/// The URL of a workspace; requests to it go to the receiver.
pub(crate) const AMP: &str =
    "http://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write";

pub(crate) struct World {
    pub(crate) receiver: Receiver,
    pub(crate) remote: RemoteWrite,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::configured(|_| {}).await
    }

    pub(crate) async fn with_2_0() -> Self {
        Self::configured(|config| config.protobuf_message = ProtobufMessage::V2).await
    }

    pub(crate) async fn configured(change: impl FnOnce(&mut RemoteWriteConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        let mut config = RemoteWriteConfig { url: receiver.url(), ..RemoteWriteConfig::default() };
        config.queue_config.batch_send_deadline = PromDuration::from_millis(20);
        config.queue_config.max_backoff = PromDuration::from_millis(100);
        // Test data is old.
        config.queue_config.sample_age_limit = Some(PromDuration::from_secs(100 * 365 * 24 * 3600));
        config.metadata_config.send = false;
        change(&mut config);
        let address: http::Uri =
            if config.url == AMP { receiver.url() } else { config.url.clone() }.parse().unwrap();
        let client = sender::http().map_request(move |mut request: http::Request<bytes::Bytes>| {
            *request.uri_mut() = address.clone();
            request
        });
        let endpoint =
            Endpoint { config, transport: transport(client), explain_denial: None, describe_body: None };
        let (spool, clock) = (dir.path().join("spool"), Arc::new(SystemClock::new()));
        let remote = sender::start(&spool, clock, Labels::default(), vec![endpoint]).await;
        Self { receiver, remote, _dir: dir }
    }

    pub(crate) fn target(&self, instance: &str, series: usize) -> Target {
        Target::open(&self.remote, instance, (0..series).map(|number| number.to_string()))
    }

    pub(crate) async fn snapshot(&self) -> EndpointSnapshot {
        self.remote.status().await.unwrap().remove(0).delivery
    }

    /// Waits until nothing is pending, checks that the ledger balances, and returns what was delivered and
    /// what was dropped, by reason.
    pub(crate) async fn settled(&self) -> (u64, Vec<(String, u64)>) {
        for _ in 0..3000 {
            let status = self.remote.status().await.unwrap().remove(0);
            assert!(status.ledger.balances(), "{status:?}");
            if status.ledger.pending.is_zero() {
                let dropped = status.ledger.dropped.iter();
                let dropped = dropped.map(|(reason, counts)| (reason.to_string(), counts.samples));
                return (status.ledger.delivered.samples, dropped.collect());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never settled: {:?}", self.remote.status().await);
    }

    pub(crate) async fn shutdown(self) {
        self.remote.shutdown(Duration::from_secs(20)).await;
    }
}

pub(crate) fn dropped(reason: &str, samples: u64) -> Vec<(String, u64)> {
    vec![(Reason::new(reason).to_string(), samples)]
}

pub(crate) struct Target {
    sink: RemoteWriteTarget,
    series: Vec<SeriesId>,
}

impl Target {
    pub(crate) fn open(
        remote: &RemoteWrite,
        instance: &str,
        values: impl IntoIterator<Item = String>,
    ) -> Self {
        let (sink, series) = sender::gauges(remote, instance, values);
        Self { sink, series }
    }

    pub(crate) async fn scrape(&mut self, number: i64) {
        self.scrape_at(Timestamp::from_millis(START + 1000 * number), number as f64).await;
    }

    pub(crate) async fn scrape_at(&mut self, at: Timestamp, value: f64) {
        self.sink.begin(at);
        for &id in &self.series {
            self.sink.sample(id, Sample::new(at, value));
        }
        self.sink.commit().await.unwrap();
    }
}

/// The labels of the receiver's text of a series as Go prints them.
pub(crate) fn as_go_prints(series: &str) -> String {
    let labels: Vec<_> = series
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{{{}}}", labels.join(", "))
}
