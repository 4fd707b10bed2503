//! The OpenTelemetry Collector's `health_check`: an address of its own that probes of its manifests ask.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use promferry_config::HealthCheck;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::listener;

/// The listening socket of `health_check`.
#[derive(Debug)]
pub struct HealthCheckServer {
    listener: TcpListener,
    health: Arc<Health>,
}

/// What the answers say.
#[derive(Debug)]
struct Health {
    path: String,
    ready: Arc<AtomicBool>,
    up_since: SystemTime,
    started: Instant,
}

/// A client gets this long to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections beyond this wait.
const MAX_CONNECTIONS: usize = 16;

impl HealthCheckServer {
    /// Listens as `config` says; answers are good from when `ready` is true.
    ///
    /// # Errors
    /// What the system answered, with the address.
    pub async fn bind(config: &HealthCheck, ready: Arc<AtomicBool>) -> io::Result<Self> {
        let listener = listener::bind(&config.endpoint).await?;
        let health =
            Health { path: config.path.clone(), ready, up_since: SystemTime::now(), started: Instant::now() };
        Ok(Self { listener, health: Arc::new(health) })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// What the system answered.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `stop` says true.
    pub async fn serve(self, stop: watch::Receiver<bool>) {
        let health = self.health;
        let serve = move |stream| {
            let health = Arc::clone(&health);
            async move {
                let service = service_fn(move |request| {
                    let answer = health.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                // A probe asks once; connections that are kept would take the others' places.
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false);
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        };
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        listener::accept(self.listener, places, stop, serve).await;
    }
}

impl Health {
    /// In the extension's words (core v1.62 `internal/healthcheck/handler.go`).
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != self.path {
            let mut response = Response::new(Full::new(Bytes::from_static(b"404 page not found\n")));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        let (status, body) = if self.ready.load(Ordering::Acquire) {
            let up_since = humantime::format_rfc3339_nanos(self.up_since);
            let uptime = format!("{}s", self.started.elapsed().as_secs_f64());
            let body =
                format!(r#"{{"status":"Server available","upSince":"{up_since}","uptime":"{uptime}"}}"#);
            (StatusCode::OK, body)
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"Server not available"}"#.to_owned())
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}
