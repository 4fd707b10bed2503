//! A service that sends a counter of its own over remote write, without being scraped: once a second for ten seconds,
//! through a spool on disk, so that an outage of the endpoint or of the service loses nothing.
//!
//! `cargo run -p promferry-examples --example push_counter -- http://127.0.0.1:9009/api/v1/write`
//!
//! An endpoint of Amazon Managed Service for Prometheus gets signed requests, with the credentials that the AWS CLI
//! would use. The example `receive` is an endpoint to try this with.

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
use promferry_model::{
    Clock, Labels, MemoryBudget, MetadataView, MetricType, Sample, SeriesView, Sink, SystemClock, TargetInfo,
    TargetSink,
};
use promferry_remote_write::delivery::{ExplainDenial, transport};
use promferry_remote_write::spool::{DiskStorage, Spool, SpoolOptions};
use promferry_remote_write::{Endpoint, RemoteWrite, RemoteWriteConfig, Shared};
use promferry_sigv4_auth::{Environment, Scope, SigV4Config, SigV4Layer, explain_denial};
use tower::Layer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("say to which URL to send")?;
    let (clock, budget) = (Arc::new(SystemClock::new()), MemoryBudget::new(16 << 20));
    let storage = DiskStorage::new(std::env::temp_dir().join("push-counter-spool"))?;
    let (spool, found) = Spool::open(storage, SpoolOptions::default(), budget.clone(), clock.clone())?;
    println!("{} records of an earlier run in the spool", found.records);

    let shared = Shared {
        external_labels: Labels::from_pairs([("cluster", "blue")]),
        spool,
        budget,
        clock: clock.clone(),
        seed: 1,
        user_agent: "push-counter/1.0".into(),
    };
    let remote = RemoteWrite::start(shared, vec![endpoint(url)?]).await?;

    let own = Labels::from_pairs([("instance", "self"), ("job", "orders")]);
    let mut target = remote.open(&TargetInfo {
        job: "orders".into(),
        labels: own,
        url: "self".into(),
        scrape_interval: Duration::from_secs(1),
    });
    let labels = Labels::from_pairs([("__name__", "orders_total"), ("instance", "self"), ("job", "orders")]);
    let metadata = MetadataView {
        family: "orders",
        metric_type: MetricType::Counter,
        help: "Orders taken.",
        ..MetadataView::default()
    };
    let orders = target.admit(&SeriesView { labels: &labels, metadata })?;
    for taken in 1..=10 {
        let now = clock.now();
        target.begin(now);
        target.sample(orders, Sample::new(now, f64::from(taken)));
        // On disk once this resolves; delivery goes on beside it.
        target.commit().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    // Some of it still waits to be sent with more.
    for endpoint in remote.status().await? {
        println!("{}: {:?}", endpoint.url, endpoint.ledger);
    }
    // What cannot be delivered by then stays in the spool for the next run.
    remote.shutdown(Duration::from_secs(10)).await;
    Ok(())
}

/// The endpoint at `url`, with a layer that signs if it is one of AWS.
fn endpoint(url: String) -> Result<Endpoint, Box<dyn Error>> {
    let uri: Uri = url.parse()?;
    let config = RemoteWriteConfig { url, ..RemoteWriteConfig::default() };
    let client = Client::new(Http::new(&HttpClientConfig::default(), HttpOptions::default())?);
    if Scope::of_host(uri.host().unwrap_or_default()).is_none() {
        return Ok(Endpoint { config, transport: transport(client), explain_denial: None });
    }
    let signing = SigV4Layer::from_config(&SigV4Config::default(), &uri, &Environment::process())?;
    let explain: ExplainDenial = Arc::new(move |status, headers, body| {
        explain_denial(status, body, headers, &uri).map(|explanation| explanation.message)
    });
    Ok(Endpoint { config, transport: transport(signing.layer(client)), explain_denial: Some(explain) })
}
