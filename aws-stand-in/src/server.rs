//! An HTTP server on loopback that can be gone, and whose `Date` is that of AWS' world.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::DATE;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promferry_bench::port::HeldPort;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world_time::WorldTime;

/// Bodies beyond it close the connection; remote write's largest are a few MiB.
const BODY_MAX: usize = 64 << 20;

/// Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    down: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed on purpose")]
pub(crate) struct Closed;

impl Server {
    /// Answers each request by `answer`, on a free port of 127.0.0.1.
    pub(crate) async fn start<A, F>(time: WorldTime, answer: A) -> Self
    where
        A: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response<String>, Closed>> + Send + 'static,
    {
        let port = HeldPort::any().expect("loopback has a free port");
        let address = port.address();
        let listener = port.listen().expect("the port is this server's own");
        let down = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(port, listener, down.subscribe(), time, Arc::new(answer)));
        Self { address, down, _tasks: tasks }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// While down, connections are refused and open ones are closed; the port stays this server's.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.send_if_modified(|current| std::mem::replace(current, down) != down);
    }
}

async fn listen<A, F>(
    port: HeldPort,
    listener: TcpListener,
    mut down: watch::Receiver<bool>,
    time: WorldTime,
    answer: Arc<A>,
) where
    A: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<String>, Closed>> + Send + 'static,
{
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        if *down.borrow_and_update() {
            listener = None;
            connections.shutdown().await;
            if down.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(open) = &listener else {
            match port.listen() {
                Ok(bound) => listener = Some(bound),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            continue;
        };
        tokio::select! {
            accepted = open.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Only costs time where it fails.
                let _ = stream.set_nodelay(true);
                let (answer, time) = (Arc::clone(&answer), time.clone());
                let service = service_fn(move |request| serve(request, Arc::clone(&answer), time.clone()));
                connections.spawn(async move {
                    // Ends with an error when the connection is closed on purpose, or by the caller.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            changed = down.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<A, F>(
    request: Request<Incoming>,
    answer: Arc<A>,
    time: WorldTime,
) -> Result<Response<Full<Bytes>>, Closed>
where
    A: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<String>, Closed>> + Send + 'static,
{
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(|_| Closed)?.to_bytes();
    let mut response = answer(head, body).await?;
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(time.now())) {
        response.headers_mut().insert(DATE, date);
    }
    Ok(response.map(|body| Full::new(Bytes::from(body))))
}
