//! A receiver that refuses long label values in AMP's words, and answers 503 when told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promferry_remote_write::wire;
use tokio::net::TcpListener;

/// AMP's limit.
const MAX_LABEL_VALUE: usize = 2048;
/// What it calls each request that it takes.
pub(crate) const REQUEST_ID: &str = "5c7a0a3e-0d11-4c5e-9d36-a4a1d6c0ffee";

#[derive(Clone)]
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_away: AtomicBool,
    samples: AtomicU64,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let accepting = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = accepting.clone();
                let service = service_fn(move |request| receiver.clone().take(request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.shared.is_away.store(is_away, Ordering::Relaxed);
    }

    pub(crate) fn samples(&self) -> u64 {
        self.shared.samples.load(Ordering::Relaxed)
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if self.shared.is_away.load(Ordering::Relaxed) {
            return Ok(answer(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream".to_owned()));
        }
        let message = wire::decode_v1(&body, 64 << 20).unwrap();
        let mut refusal = None;
        for series in message.timeseries {
            match series.labels.iter().find(|label| label.value.len() > MAX_LABEL_VALUE) {
                None => {
                    self.shared.samples.fetch_add(series.samples.len() as u64, Ordering::Relaxed);
                }
                Some(label) => {
                    let name = series.labels.iter().find(|label| label.name == "__name__");
                    let value: String = label.value.chars().take(200).collect();
                    let text = format!(
                        "label value too long for metric (actual: {}, limit: {MAX_LABEL_VALUE}) metric: \
                         \"{}{{{}=\\\"{value}\" label name: \"{}\" label value: \"{value}\"",
                        label.value.len(),
                        name.map(|label| label.value.as_str()).unwrap_or_default(),
                        label.name,
                        label.name,
                    );
                    refusal.get_or_insert(text);
                }
            }
        }
        Ok(match refusal {
            Some(text) => answer(StatusCode::BAD_REQUEST, text),
            None => answer(StatusCode::OK, String::new()),
        })
    }
}

fn answer(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("x-amzn-requestid", REQUEST_ID);
    response.body(Full::new(text.into())).unwrap()
}
