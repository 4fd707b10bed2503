//! A small HTTP server over loopback, and one that checks signatures as AMP does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use promferry_sigv4_auth::verify::Verifier;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tower::Service;

/// Ends with the value that is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    down: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers each request by `answer`.
    pub(crate) async fn start(
        answer: impl Fn(Parts, Bytes) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        Self::start_by(None, answer).await
    }

    /// The same, behind TLS if there is an acceptor.
    pub(crate) async fn start_by(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Parts, Bytes) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let down = Arc::new(AtomicBool::new(false));
        let is_down = Arc::clone(&down);
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                if is_down.load(Ordering::SeqCst) {
                    continue;
                }
                let (answer, is_down) = (Arc::clone(&answer), Arc::clone(&is_down));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (answer, is_down) = (Arc::clone(&answer), Arc::clone(&is_down));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.expect("a body").to_bytes();
                        if is_down.load(Ordering::SeqCst) {
                            return Err(std::io::Error::other("down"));
                        }
                        Ok(answer(head, body).map(|body| Full::new(Bytes::from(body))))
                    }
                });
                let tls = tls.clone();
                tokio::spawn(async move {
                    let connections = hyper::server::conn::http1::Builder::new();
                    // One that is down ends its connections with an error.
                    match tls {
                        None => drop(connections.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(connections.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, down, task }
    }

    /// While down, connections are closed without an answer.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Requests that a front has seen: the head, and whether the signature was taken.
pub(crate) type Seen = Arc<Mutex<Vec<(Parts, Result<String, String>)>>>;

/// A server that answers 200 to what `verifier` takes and AWS' 403 to the rest.
pub(crate) async fn verifying_front(verifier: Verifier) -> (Server, Seen) {
    verifying_front_by(verifier, SystemTime::now).await
}

/// The same by a time of its own.
pub(crate) async fn verifying_front_by(
    verifier: Verifier,
    now: impl Fn() -> SystemTime + Send + Sync + 'static,
) -> (Server, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let server = Server::start(move |head, body| {
        let now = now();
        let verdict = verifier.verify(&head, &body, now);
        let mut response = match &verdict {
            Ok(_) => Response::new(String::new()),
            Err(error) => error.to_response(),
        };
        response.headers_mut().insert("date", http_date(now));
        let verdict = verdict.map_err(|error| error.to_string());
        log.lock().unwrap_or_else(PoisonError::into_inner).push((head, verdict));
        response
    })
    .await;
    (server, seen)
}

/// A time as the `Date` header has it.
pub(crate) fn http_date(time: SystemTime) -> HeaderValue {
    let text = DateTime::from(time).fmt(Format::HttpDate).expect("a time");
    HeaderValue::from_str(&text).expect("a header's value")
}

/// hyper's client as a service over whole bodies.
#[derive(Clone)]
pub(crate) struct HttpClient(Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>);

impl HttpClient {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

impl Service<Request<Bytes>> for HttpClient {
    type Response = Response<Bytes>;
    type Error = hyper_util::client::legacy::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let response = self.0.request(request.map(Full::new));
        Box::pin(async move {
            let (head, body) = response.await?.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Ok(Response::from_parts(head, body))
        })
    }
}
