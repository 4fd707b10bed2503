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
use promferry_remote_write::receiver::{self, WriteRequest};
use tokio::net::TcpListener;

/// Bytes of a request, compressed and not, that are read at most.
const MAX_BODY_BYTES: usize = 16 << 20;

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
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
        let mut response =
            Response::new(Full::new(Bytes::from_static(b"the body is too large or broke off")));
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(response);
    };
    let received = receiver::read(&head.headers, &body.to_bytes(), MAX_BODY_BYTES);
    match &received {
        Ok(request) => print(request),
        Err(error) => println!("refused: {error}"),
    }
    Ok(receiver::response(&received.map(|request| request.written())).map(Full::new))
}

fn print(request: &WriteRequest) {
    println!("{}, {:?}", request.protocol, request.counts());
    for family in &request.metadata {
        println!("{} is a {}: {}", family.family, family.metric_type.as_str(), family.help);
    }
    for series in &request.series {
        let labels = &series.labels;
        if let Some(known) = &series.metadata {
            println!("{labels} is a {}: {}", known.metric_type.as_str(), known.help);
        }
        for sample in &series.samples {
            println!("{labels} {} @{}", sample.value, sample.timestamp.as_millis());
        }
        for sample in &series.histograms {
            println!("{labels} {:?} @{}", sample.histogram.counts, sample.timestamp.as_millis());
        }
        for exemplar in &series.exemplars {
            println!("{labels} exemplar {} {}", exemplar.labels, exemplar.value);
        }
    }
}
