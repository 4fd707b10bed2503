//! A target whose page changes only when the test says so.

use crate::{clock::now_ms, exposition_messages::MetricFamily};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// A server on a port of 127.0.0.1 that shows one [`Page`] until it is told to show another; ends when it is dropped.
#[derive(Debug)]
pub struct ScriptedTarget {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

/// What the target answers to every scrape.
#[derive(Debug, Clone)]
pub enum Page {
    /// A page.
    Shown {
        /// The status.
        status: StatusCode,
        /// The `Content-Type` header; none when empty.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// The connection is closed without an answer.
    Broken,
}

/// One scrape that was answered.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// Which page it saw: 0 for the first one, one more with each [`ScriptedTarget::show`].
    pub step: usize,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// Path and query asked for.
    pub path: String,
    /// Headers of the request.
    pub headers: HeaderMap,
}

/// A page was not scraped as often as was waited for.
#[derive(Debug, thiserror::Error)]
#[error("the page of step {step} was scraped {seen} times in {waited:?}, not {wanted}")]
pub struct NotScraped {
    step: usize,
    seen: usize,
    wanted: usize,
    waited: Duration,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Number of scrapes answered.
    scraped: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    page: Page,
    step: usize,
    scrapes: Vec<Scrape>,
}

impl Page {
    /// Prometheus text, `text/plain; version=0.0.4`.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::with_type("text/plain; version=0.0.4; charset=utf-8", body)
    }

    /// OpenMetrics 1.0; the body must end with `# EOF`.
    pub fn open_metrics(body: impl Into<Bytes>) -> Self {
        Self::with_type("application/openmetrics-text; version=1.0.0; charset=utf-8", body)
    }

    /// Prometheus protobuf: each family behind its length.
    pub fn protobuf(families: &[MetricFamily]) -> Self {
        let body: Vec<u8> = families.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
        let content_type =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        Self::with_type(content_type, body)
    }

    /// A page of any content type.
    pub fn with_type(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::Shown { status: StatusCode::OK, content_type: content_type.to_owned(), body: body.into() }
    }

    /// A refusal.
    pub fn status(status: StatusCode) -> Self {
        Self::Shown { status, content_type: "text/plain".to_owned(), body: Bytes::new() }
    }
}

impl ScriptedTarget {
    /// Starts a target that shows `page`, at any path.
    pub async fn start(page: Page) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Mutex::new(State { page, step: 0, scrapes: Vec::new() });
        let shared = Arc::new(Shared { state, scraped: watch::Sender::new(0) });
        let mut server = JoinSet::new();
        server.spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _server: server })
    }

    /// Where it listens: its `instance` label.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows another page from the next request on, and gives its step.
    pub fn show(&self, page: Page) -> usize {
        let mut state = self.shared.state();
        state.page = page;
        state.step += 1;
        state.step
    }

    /// Every scrape so far.
    pub fn scrapes(&self) -> Vec<Scrape> {
        self.shared.state().scrapes.clone()
    }

    /// Waits until the page shown now was scraped `wanted` times by requests that `by` recognises, for instance by their
    /// `User-Agent` header or a query parameter.
    pub async fn scraped(
        &self,
        wanted: usize,
        by: impl Fn(&Scrape) -> bool,
        limit: Duration,
    ) -> Result<(), NotScraped> {
        let mut scraped = self.shared.scraped.subscribe();
        let count = || {
            let state = self.shared.state();
            let seen = state.scrapes.iter().filter(|scrape| scrape.step == state.step && by(scrape)).count();
            (state.step, seen)
        };
        let enough = async { while count().1 < wanted && scraped.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, enough).await.is_err() {
            let (step, seen) = count();
            return Err(NotScraped { step, seen, wanted, waited: limit });
        }
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
        let page = {
            let mut state = self.state();
            let scrape = Scrape {
                step: state.step,
                at_ms: now_ms(),
                path: request.uri().to_string(),
                headers: request.headers().clone(),
            };
            state.scrapes.push(scrape);
            state.page.clone()
        };
        self.scraped.send_modify(|scrapes| *scrapes += 1);
        let Page::Shown { status, content_type, body } = page else { return Err(Broken) };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        if let Ok(value) = http::HeaderValue::from_str(&content_type)
            && !content_type.is_empty()
        {
            response.headers_mut().insert(http::header::CONTENT_TYPE, value);
        }
        Ok(response)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection is broken on purpose")]
struct Broken;

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| std::future::ready(shared.answer(&request)));
        connections.spawn(async move {
            // Ends with an error when the page is broken, or when the scraper hangs up.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
