//! The HTTP server of the pages.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::listener;

/// What the pages show; asked anew for each request.
pub trait Pages: Send + Sync + 'static {
    /// Whether the process can still do its work; if not, it is better started anew.
    fn is_healthy(&self) -> bool;

    /// The collector's own metrics in the format that `accept` prefers: content type and page.
    fn metrics(&self, accept: Option<&str>) -> impl Future<Output = (String, Vec<u8>)> + Send;

    /// `/api/v1/targets` as Prometheus answers it; `query` is the URL's query string.
    fn targets(&self, query: &str) -> impl Future<Output = Vec<u8>> + Send;

    /// A page for people.
    fn status(&self) -> impl Future<Output = String> + Send;
}

/// The listening socket of the pages.
#[derive(Debug)]
pub struct Web {
    listener: TcpListener,
    ready: Arc<AtomicBool>,
}

/// A client gets this long to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections beyond this wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

impl Web {
    /// Listens on `address` (`host:port`, an empty host meaning all addresses).
    ///
    /// # Errors
    /// What the system answered, with the address.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let listener = listener::bind(address).await?;
        Ok(Self { listener, ready: Arc::default() })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// What the system answered.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What `/-/ready` answers from now on.
    pub fn readiness(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// Answers requests until `stop` says true. Until there are pages, since what earlier runs left is still being
    /// read, only `/-/healthy` is answered with 200, and everything else with 503.
    pub async fn serve<P: Pages>(self, pages: Arc<OnceLock<P>>, stop: watch::Receiver<bool>) {
        let ready = self.ready;
        let serve = move |stream| {
            let (pages, ready) = (Arc::clone(&pages), Arc::clone(&ready));
            async move {
                let service =
                    service_fn(move |request| answer(request, Arc::clone(&pages), Arc::clone(&ready)));
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 * 1024);
                // A client that goes away in the middle is no concern of ours.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        };
        listener::accept(self.listener, MAX_CONNECTIONS, stop, serve).await;
    }
}

/// The path of a liveness probe.
const HEALTHY: &str = "/-/healthy";

async fn answer<P: Pages>(
    request: Request<Incoming>,
    pages: Arc<OnceLock<P>>,
    ready: Arc<AtomicBool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are answered here\n"));
    }
    let Some(pages) = pages.get() else {
        return Ok(match request.uri().path() {
            HEALTHY => page(StatusCode::OK, TEXT, "Promferry is Healthy.\n"),
            _ => {
                page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "Service Unavailable: the spool is being read\n")
            }
        });
    };
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    Ok(match request.uri().path() {
        "/" | "/status" => page(StatusCode::OK, "text/html; charset=utf-8", pages.status().await),
        "/metrics" => {
            let (content_type, metrics) = pages.metrics(accept).await;
            page(StatusCode::OK, &content_type, metrics)
        }
        HEALTHY if pages.is_healthy() => page(StatusCode::OK, TEXT, "Promferry is Healthy.\n"),
        HEALTHY => {
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "Service Unavailable: nothing is stored any more\n")
        }
        "/-/ready" if ready.load(Ordering::Acquire) => page(StatusCode::OK, TEXT, "Promferry is Ready.\n"),
        "/-/ready" => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "Service Unavailable"),
        "/api/v1/targets" => {
            let targets = pages.targets(request.uri().query().unwrap_or_default()).await;
            page(StatusCode::OK, "application/json", targets)
        }
        _ => page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
    })
}

fn page(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    if let Ok(content_type) = content_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}
