//! Writes one sample to Amazon Managed Service for Prometheus with hyper's client behind the layer that signs, with the
//! credentials that this machine or pod has, and prints what it is answered:
//!
//! `cargo run -p promferry-examples --example sign_with_hyper -- https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write`
//!
//! Where the URL's host does not tell the region, as with an interface endpoint's, `AWS_REGION` does.

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use promferry_remote_write::wire::{self, v1};
use promferry_sigv4_auth::{Environment, SigV4Config, SigV4Layer};
use tower::{ServiceBuilder, ServiceExt as _};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri: Uri = std::env::args().nth(1).ok_or("say to which URL to write")?.parse()?;
    let signing = SigV4Layer::from_config(&SigV4Config::default(), &uri, &Environment::process())?;
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .build();
    // Signing reads the body, so it stands before what turns bytes into a stream.
    let mut client = ServiceBuilder::new()
        .layer(signing)
        .map_request(|request: Request<Bytes>| request.map(Full::new))
        .service(Client::builder(TokioExecutor::new()).build(https));

    let request = Request::post(uri)
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(Bytes::from(wire::encode(&one_sample()?)))?;
    let response = client.ready().await?.oneshot(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    println!("{status} {}", String::from_utf8_lossy(&body));
    Ok(())
}

fn one_sample() -> Result<v1::WriteRequest, Box<dyn Error>> {
    let timestamp = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let label = |name: &str, value: &str| v1::Label { name: name.into(), value: value.into() };
    let series = v1::TimeSeries {
        labels: vec![label("__name__", "sign_with_hyper"), label("job", "example")],
        samples: vec![v1::Sample { value: 1.0, timestamp }],
        ..Default::default()
    };
    Ok(v1::WriteRequest { timeseries: vec![series], ..Default::default() })
}
