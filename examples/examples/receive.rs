//! A remote-write receiver, 1.0 and 2.0, that prints what it is sent, until Ctrl-C:
//! `cargo run -p promferry-examples --example receive -- 127.0.0.1:9009`

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promferry_remote_write::wire;
use tokio::net::TcpListener;

/// Bytes of a request, compressed and not, that are read at most.
const MAX_BODY_BYTES: usize = 16 << 20;

/// How many of each kind a request held: what a receiver of 2.0 has to answer.
#[derive(Default)]
struct Written {
    samples: usize,
    histograms: usize,
    exemplars: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9009".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("receiving at http://{}/api/v1/write", listener.local_addr()?);
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    let is_v2 =
        content_type.is_some_and(|value| value.as_bytes().ends_with(b"proto=io.prometheus.write.v2.Request"));
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await else {
        return Ok(status(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off"));
    };
    let body = body.to_bytes();
    Ok(match if is_v2 { print_v2(&body) } else { print_v1(&body) } {
        Ok(written) => {
            let mut answer = status(StatusCode::NO_CONTENT, "");
            for (kind, count) in [
                ("x-prometheus-remote-write-samples-written", written.samples),
                ("x-prometheus-remote-write-histograms-written", written.histograms),
                ("x-prometheus-remote-write-exemplars-written", written.exemplars),
            ] {
                answer.headers_mut().insert(kind, count.into());
            }
            answer
        }
        Err(error) => status(StatusCode::BAD_REQUEST, &error.to_string()),
    })
}

fn print_v1(body: &[u8]) -> Result<Written, wire::WireError> {
    let message = wire::decode_v1(body, MAX_BODY_BYTES)?;
    let mut written = Written::default();
    for family in &message.metadata {
        println!("{} is a {:?}: {}", family.metric_family_name, family.r#type(), family.help);
    }
    for series in &message.timeseries {
        let labels: Vec<_> =
            series.labels.iter().map(|label| format!("{}={:?}", label.name, label.value)).collect();
        for sample in &series.samples {
            println!("{{{}}} {} @{}", labels.join(", "), sample.value, sample.timestamp);
        }
        for histogram in &series.histograms {
            println!("{{{}}} {:?} @{}", labels.join(", "), histogram.count, histogram.timestamp);
        }
        written.samples += series.samples.len();
        written.histograms += series.histograms.len();
        written.exemplars += series.exemplars.len();
    }
    Ok(written)
}

fn print_v2(body: &[u8]) -> Result<Written, wire::WireError> {
    let message = wire::decode_v2(body, MAX_BODY_BYTES)?;
    let mut written = Written::default();
    for series in &message.timeseries {
        let Some(labels) = message.labels(&series.labels_refs) else {
            println!("a series refers to symbols that are not there");
            continue;
        };
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        for sample in &series.samples {
            println!("{{{}}} {} @{}", labels.join(", "), sample.value, sample.timestamp);
        }
        for histogram in &series.histograms {
            println!("{{{}}} {:?} @{}", labels.join(", "), histogram.count, histogram.timestamp);
        }
        written.samples += series.samples.len();
        written.histograms += series.histograms.len();
        written.exemplars += series.exemplars.len();
    }
    Ok(written)
}

fn status(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}
