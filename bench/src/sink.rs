//! A remote-write receiver that records what arrives and fails when told to.

use crate::{
    clock::now_ms,
    ledger::{Judgement, Ledger, Received, SeriesLimits, Stats, Withheld},
    port::HeldPort,
    wire::Protocol,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// Larger bodies are refused with 413; Prometheus' own receiver takes 32 MiB.
const BODY_MAX: usize = 64 << 20;

/// A receiver on a port of 127.0.0.1 that ends when this is dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

/// What the sink does instead of accepting, until its time or its number of requests is over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Answered instead of 2xx.
    pub status: Option<u16>,
    /// The body of that answer.
    pub body: String,
    /// Headers of that answer, such as `retry-after`.
    pub headers: BTreeMap<String, String>,
    /// Waited before any answer, milliseconds.
    pub delay_ms: u64,
    /// The connection is closed without an answer.
    pub drop: Option<When>,
    /// Nothing listens, and the port stays the sink's: connections are refused, open ones are closed.
    pub down: bool,
    /// The fault's time, milliseconds; without it the fault lasts until the next one.
    pub for_ms: Option<u64>,
    /// The fault's number of requests.
    pub requests: Option<u64>,
}

/// When a connection is closed without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The request is not taken in.
    Before,
    /// It is, but the sender does not learn of it and will rightly send it again.
    After,
}

#[derive(Debug)]
struct Shared {
    ledger: Mutex<Ledger>,
    fault: Mutex<Option<Active>>,
    down: watch::Sender<bool>,
}

#[derive(Debug)]
struct Active {
    fault: Fault,
    until: Option<Instant>,
    requests: Option<u64>,
}

impl Sink {
    /// Starts a receiver that accepts everything. Its path is `/api/v1/write`, though any is taken.
    pub async fn start(judgement: Judgement) -> io::Result<Self> {
        let port = HeldPort::any()?;
        let address = port.address();
        let listener = port.listen()?;
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(judgement)),
            fault: Mutex::new(None),
            down: watch::Sender::new(false),
        });
        let mut server = JoinSet::new();
        server.spawn(listen(port, listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _server: server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to write to.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Counts so far.
    pub fn stats(&self) -> Stats {
        self.shared.ledger().stats()
    }

    /// What came from each target of a farm so far.
    pub fn received(&self) -> Received {
        self.shared.ledger().received()
    }

    /// Takes in less from now on: of a request with series that are refused, the others are taken in, and the answer says
    /// what was not, in the words of Amazon Managed Service for Prometheus.
    pub fn set_limits(&self, limits: SeriesLimits) {
        self.shared.ledger().set_limits(limits);
    }

    /// Replaces the fault in force; `None` ends it.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let down = fault.as_ref().is_some_and(|fault| fault.down);
        let duration = fault.as_ref().and_then(|fault| fault.for_ms).map(Duration::from_millis);
        let until = duration.map(|duration| Instant::now() + duration);
        *self.shared.fault() = fault.map(|fault| Active { until, requests: fault.requests, fault });
        self.shared.down.send_replace(down);
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> MutexGuard<'_, Option<Active>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that the next request meets, which uses up one of its requests.
    fn next_fault(&self) -> Option<Fault> {
        let mut active = self.fault();
        let current = active.as_mut()?;
        if current.until.is_some_and(|until| until <= Instant::now()) || current.requests == Some(0) {
            *active = None;
            return None;
        }
        if let Some(requests) = &mut current.requests {
            *requests -= 1;
        }
        Some(current.fault.clone())
    }

    /// How long the sink still has to be down.
    fn down_until(&self) -> Option<Instant> {
        self.fault().as_ref().filter(|active| active.fault.down).and_then(|active| active.until)
    }
}

async fn listen(port: HeldPort, listener: TcpListener, shared: Arc<Shared>) {
    let mut down = shared.down.subscribe();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        if *down.borrow_and_update() {
            listener = None;
            connections.shutdown().await;
            let until = shared.down_until();
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => { shared.down.send_replace(false); }
                _ = down.changed() => {}
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
                if let Ok((stream, _)) = accepted {
                    let _ = stream.set_nodelay(true);
                    let shared = Arc::clone(&shared);
                    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
                    connections.spawn(async move {
                        // Ends with an error when a fault closes the connection, or when the sender does.
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
            _ = down.changed() => {}
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was dropped on purpose")]
struct Dropped;

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Dropped> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        shared.ledger().add_bad_request();
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 MiB or broke off"));
    };
    let body = body.to_bytes();
    let fault = shared.next_fault();
    if let Some(fault) = &fault {
        shared.ledger().add_fault();
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
        if fault.drop == Some(When::Before) || fault.down {
            return Err(Dropped);
        }
        if let Some(status) = fault.status {
            let mut response =
                plain(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &fault.body);
            for (name, value) in &fault.headers {
                if let (Ok(name), Ok(value)) =
                    (http::HeaderName::try_from(name), http::HeaderValue::try_from(value))
                {
                    response.headers_mut().insert(name, value);
                }
            }
            return Ok(response);
        }
    }
    let response = accept(&head, &body, &shared);
    if fault.is_some_and(|fault| fault.drop == Some(When::After)) { Err(Dropped) } else { Ok(response) }
}

fn accept(head: &Parts, body: &[u8], shared: &Shared) -> Response<Full<Bytes>> {
    let protocol = match protocol(&head.headers) {
        Ok(protocol) => protocol,
        Err(refusal) => {
            shared.ledger().add_bad_request();
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal);
        }
    };
    let mut ledger = shared.ledger();
    match ledger.accept(body, protocol, now_ms()) {
        Ok(totals) => {
            ledger.add_head_bytes(head_bytes(head));
            let mut response = match refusal(ledger.withheld(), ledger.limits()) {
                Some((status, text)) => plain(status, &text),
                None => plain(StatusCode::NO_CONTENT, ""),
            };
            if protocol == Protocol::V2 {
                let headers = response.headers_mut();
                headers.insert("x-prometheus-remote-write-samples-written", totals.samples.into());
                headers.insert("x-prometheus-remote-write-histograms-written", totals.histograms.into());
                headers.insert("x-prometheus-remote-write-exemplars-written", totals.exemplars.into());
            }
            response
        }
        Err(error) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// The answer to a request of which not everything was taken in, by Cortex' precedence: what will never be taken is said
/// before what may be later. The text of the limit is the one in AMP's user guide, "Ingestion errors"; the others are those
/// of Cortex, pkg/util/validation/errors.go.
fn refusal(withheld: &Withheld, limits: SeriesLimits) -> Option<(StatusCode, String)> {
    match (&withheld.refused, withheld.over_limit, limits.active_series) {
        (Some(series), ..) if limits.names_refused => {
            let text = format!("series has too many labels (actual: 151, limit: 150) series: '{series}'");
            Some((StatusCode::BAD_REQUEST, text))
        }
        (Some(_), ..) => Some((StatusCode::BAD_REQUEST, "sample missing metric name".to_owned())),
        (None, 1.., Some(limit)) => {
            let text = format!(
                "user=accountid_workspace_id: per-user series limit (local limit: 0 global limit: {limit} actual local \
                 limit: {limit}) exceeded"
            );
            Some((StatusCode::TOO_MANY_REQUESTS, text))
        }
        _ => None,
    }
}

/// The message that the headers announce, as the specifications ask for it.
fn protocol(headers: &HeaderMap) -> Result<Protocol, &'static str> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    if value("content-encoding") != "snappy" {
        return Err("content-encoding must be snappy");
    }
    let mut parts = value("content-type").split(';').map(str::trim);
    if parts.next() != Some("application/x-protobuf") {
        return Err("content-type must be application/x-protobuf");
    }
    match parts.find_map(|part| part.strip_prefix("proto=")) {
        None | Some("prometheus.WriteRequest") => Ok(Protocol::V1),
        Some("io.prometheus.write.v2.Request") => Ok(Protocol::V2),
        Some(_) => Err("the message must be prometheus.WriteRequest or io.prometheus.write.v2.Request"),
    }
}

/// Bytes of a request head in HTTP/1.1: "POST /path HTTP/1.1\r\n", "name: value\r\n" each, "\r\n".
fn head_bytes(head: &Parts) -> u64 {
    let line = head.method.as_str().len() + head.uri.to_string().len() + " HTTP/1.1\r\n".len() + 1;
    let headers: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    (line + headers + "\r\n".len()) as u64
}

fn plain(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
}
