//! The applications of a shop, each with a page of metrics in a format of its own.

pub(super) mod pages;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use promferry_exposition::Encoder;

use super::server::{self, Server};

/// Four exporters: a frontend in the text format, a checkout in OpenMetrics with exemplars, payments in protobuf with
/// native histograms, and a worker that only a gateway reaches, by path. A registry lists the first three for
/// `http_sd_configs`.
#[derive(Debug)]
pub(super) struct Exporters {
    registry: Server,
    gateway: Server,
    notes: Arc<Notes>,
    _direct: Vec<Server>,
}

/// How many exporters there are.
pub(super) const EXPORTERS: usize = 4;
/// The worker's path at the gateway; the name of the target stands for the `{}`.
pub(super) const GATEWAY_PATH: &str = "/node/{}/metrics";
/// The target that only the gateway reaches.
pub(super) const WORKER: &str = "worker-1";

/// The checkout's label of no sensible length.
#[derive(Debug, Default)]
struct Notes {
    /// Scrapes that still show it.
    left: AtomicU64,
    /// The checkout's scrapes since it was last shown.
    since: AtomicU64,
}

/// What makes a page of a scrape's number.
type Page = Arc<dyn Fn(u64) -> Encoder + Send + Sync>;

impl Exporters {
    /// Starts them on free ports.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) async fn start() -> io::Result<Self> {
        let notes = Arc::new(Notes::default());
        let for_checkout = Arc::clone(&notes);
        let applications: [(&str, Page); 3] = [
            ("frontend", Arc::new(pages::frontend)),
            ("checkout", Arc::new(move |scrape| pages::checkout(scrape, for_checkout.take()))),
            ("payments", Arc::new(pages::payments)),
        ];
        let (mut direct, mut groups) = (Vec::new(), Vec::new());
        for (name, page) in applications {
            let server = exporter("/metrics".to_owned(), page).await?;
            groups.push(serde_json::json!({
                "targets": [server.address.to_string()],
                "labels": {"app": name},
            }));
            direct.push(server);
        }
        let gateway = exporter(GATEWAY_PATH.replace("{}", WORKER), Arc::new(pages::worker)).await?;
        let list = Bytes::from(serde_json::Value::from(groups).to_string());
        let registry = Server::start(move |_, _| {
            let list = list.clone();
            async move { page("application/json", list) }
        })
        .await?;
        Ok(Self { registry, gateway, notes, _direct: direct })
    }

    /// Where the frontend, the checkout and payments are listed.
    pub(super) fn registry(&self) -> SocketAddr {
        self.registry.address
    }

    /// What reaches the worker.
    pub(super) fn gateway(&self) -> SocketAddr {
        self.gateway.address
    }

    /// Has the checkout show a label value of [`pages::NOTE_BYTES`] bytes in its next `scrapes` pages.
    pub(super) fn show_long_note(&self, scrapes: u64) {
        self.notes.since.store(0, Ordering::Relaxed);
        self.notes.left.store(scrapes, Ordering::Relaxed);
    }

    /// Whether the long value was shown as often as it was to be, and was gone on a later page.
    pub(super) fn long_note_is_over(&self) -> bool {
        self.notes.since.load(Ordering::Relaxed) > 0
    }
}

impl Notes {
    /// Whether this page shows it.
    fn take(&self) -> bool {
        let shown = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if shown.is_err() {
            self.since.fetch_add(1, Ordering::Relaxed);
        }
        shown.is_ok()
    }
}

async fn exporter(path: String, make: Page) -> io::Result<Server> {
    let scrapes = Arc::new(AtomicU64::new(0));
    Server::start(move |head, _| {
        let answer = if head.uri.path() == path {
            let encoder = make(scrapes.fetch_add(1, Ordering::Relaxed) + 1);
            page(&encoder.content_type(), encoder.finish().into())
        } else {
            server::text(StatusCode::NOT_FOUND, "no such page\n")
        };
        async move { answer }
    })
    .await
}

fn page(content_type: &str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    // A content type is always a header's value.
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}
