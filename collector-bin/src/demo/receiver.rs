use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promferry_remote_write::wire;
use promferry_sigv4_auth::Scope;
use promferry_sigv4_auth::verify::{KnownKey, Verifier};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// A remote-write receiver that stands in for an AMP workspace: it verifies signatures, decodes and counts.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Counts>,
    task: AbortHandle,
}

/// What a [`Receiver`] has seen.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests received.
    pub requests: AtomicU64,
    /// Requests whose signature was right.
    pub verified: AtomicU64,
    /// Samples taken.
    pub samples: AtomicU64,
    /// Native histograms taken.
    pub histograms: AtomicU64,
    /// Exemplars taken.
    pub exemplars: AtomicU64,
}

/// AMP's own limit for a request.
const MAX_BODY_BYTES: usize = 1_000_000;

impl Receiver {
    /// Starts one on a free port of the loopback interface. It takes requests signed for `scope` by `key`.
    ///
    /// # Errors
    /// What the system answered.
    pub async fn start(scope: Scope, access_key: &'static str, secret_key: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let known = move |key: &str| (key == access_key).then(|| KnownKey::new(secret_key));
        let verifier = Arc::new(Verifier::new(known).for_scope(scope));
        let shared = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (verifier, counts) = (Arc::clone(&verifier), Arc::clone(&shared));
                let service = service_fn(move |request| {
                    let (verifier, counts) = (Arc::clone(&verifier), Arc::clone(&counts));
                    async move { Ok::<_, Infallible>(answer(request, &verifier, &counts).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { address, counts, task: accepting.abort_handle() })
    }

    /// What it has seen so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(request: Request<Incoming>, verifier: &Verifier, counts: &Counts) -> Response<Full<Bytes>> {
    counts.requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE, "request too large");
    };
    let body = body.to_bytes();
    if let Err(error) = verifier.verify(&head, &body, SystemTime::now()) {
        return error.to_response().map(|text| Full::new(text.into()));
    }
    counts.verified.fetch_add(1, Ordering::Relaxed);
    let is_v2 = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("io.prometheus.write.v2.Request"));
    if is_v2 {
        // AMP speaks 1.0.
        return status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "remote write 1.0 only");
    }
    match wire::decode_v1(&body, 16 * MAX_BODY_BYTES) {
        Ok(request) => {
            for series in &request.timeseries {
                counts.samples.fetch_add(series.samples.len() as u64, Ordering::Relaxed);
                counts.histograms.fetch_add(series.histograms.len() as u64, Ordering::Relaxed);
                counts.exemplars.fetch_add(series.exemplars.len() as u64, Ordering::Relaxed);
            }
            status(StatusCode::OK, "")
        }
        Err(error) => status(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn status(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}
