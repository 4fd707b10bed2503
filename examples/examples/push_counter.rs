//! A service that sends a counter of its own over remote write, without being scraped: once a second for ten seconds,
//! through a spool on disk, so that an outage of the endpoint or of the service loses nothing.
//!
//! `cargo run -p promferry-examples --example push_counter -- http://127.0.0.1:9009/api/v1/write`
//!
//! An endpoint of Amazon Managed Service for Prometheus gets signed requests, with the credentials that the AWS CLI
//! would use. The example `receive` is an endpoint to try this with. Further arguments: the spool's directory and how
//! many seconds it goes on.

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Extensions, Uri};
use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
use promferry_model::{Labels, Metadata, MetricType};
use promferry_remote_write::delivery::transport;
use promferry_remote_write::{ProtobufMessage, RemoteWriteConfig, Writer, WriterBuilder};
use promferry_sigv4_auth::{Environment, PayloadHash, Scope, SigV4Config, SigV4Layer};
use tower::Layer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("say to which URL to send")?;
    let spool = arguments.next().map_or_else(|| std::env::temp_dir().join("push-counter-spool"), Into::into);
    let seconds = arguments.next().map_or(Ok(10), |seconds| seconds.parse())?;

    // 2.0 where the endpoint takes it, 1.0 where it does not.
    let protobuf_message = ProtobufMessage::Auto;
    let config = RemoteWriteConfig { protobuf_message, ..url.as_str().into() };
    let builder = Writer::builder(config)
        .external_labels(Labels::from_pairs([("instance", "self"), ("job", "orders")]))
        .spool_directory(spool)
        .user_agent("push-counter/1.0");
    let writer = signed(builder, &url.parse()?)?.start().await?;

    writer.describe(&Metadata {
        family: "orders".into(),
        metric_type: MetricType::Counter,
        unit: "".into(),
        help: "Orders taken.".into(),
    });
    let orders = Labels::from_pairs([("__name__", "orders_total"), ("shop", "eu")]);
    for taken in 1..=seconds {
        writer.append(&orders, SystemTime::now(), f64::from(taken))?;
        // On disk once this resolves; delivery goes on beside it.
        writer.commit().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    // What can't be delivered by then stays in the spool for the next run.
    let ledger = writer.close(Duration::from_secs(10)).await;
    println!(
        "of {} samples {} were delivered, {} dropped, and {} wait for the next run",
        ledger.accepted.samples,
        ledger.delivered.samples,
        ledger.dropped_total().samples,
        ledger.pending.samples
    );
    Ok(())
}

/// With a layer that signs, if the endpoint is one of AWS.
fn signed(builder: WriterBuilder, url: &Uri) -> Result<WriterBuilder, Box<dyn Error>> {
    if Scope::of_host(url.host().unwrap_or_default()).is_none() {
        return Ok(builder);
    }
    let client = Client::new(Http::new(&HttpClientConfig::default(), HttpOptions::default())?);
    let signing = SigV4Layer::from_config(&SigV4Config::default(), url, &Environment::process())?;
    let (transport, url) = (transport(signing.layer(client)), url.clone());
    Ok(builder
        .transport(transport)
        // Hashed once, however often it is sent.
        .describe_body(Arc::new(|body| {
            let mut extensions = Extensions::new();
            extensions.insert(PayloadHash::of(body));
            extensions
        }))
        // What expired is replaced, a clock that is wrong corrected, and what is left for people said.
        .explain_denial(Arc::new(move |status, headers, body| {
            let explanation = signing.learn_from_denial(status, body, headers, &url);
            explanation.map(|explanation| explanation.message)
        })))
}
