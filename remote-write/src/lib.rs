//! A durable Prometheus remote-write sender: give it samples, it delivers them — over outages, restarts and
//! kills, in order, with an account of every one.
//!
//! ```no_run
//! use std::time::{Duration, SystemTime};
//! use promferry_model::Labels;
//! use promferry_remote_write::Writer;
//!
//! # async fn push() -> Result<(), Box<dyn std::error::Error>> {
//! let writer = Writer::builder("https://metrics.example.com/api/v1/write")
//!     .spool_directory("/var/lib/orders/spool")
//!     .start()
//!     .await?;
//! let orders = Labels::from_pairs([("__name__", "orders_total"), ("job", "orders")]);
//! writer.append(&orders, SystemTime::now(), 42.0)?;
//! writer.close(Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
//!
//! What it is:
//! - [`Writer`]: what a service appends its own samples to.
//! - [`RemoteWrite`]: the [`Sink`](promferry_model::Sink) for scraped samples, and delivery to any number of
//!   endpoints over remote write 1.0 and 2.0, which can be [changed](RemoteWrite::apply) while it runs.
//! - [`Client`]: one request and what became of it; [`WriteLayer`] and
//!   [`ReadAnswerLayer`](delivery::ReadAnswerLayer) are the tower layers that it is made of.
//! - [`receiver`]: both versions of the message read into one model, and the answers that senders expect.
//! - [`spool`]: the queue between appending and sending, on disk or in memory, and the ledger that balances:
//!   `accepted = delivered + dropped{reason} + pending`.
//! - [`encode`]: from samples to wire bytes without building messages, and from stored bytes to requests.
//! - [`delivery`]: what each answer means, pauses between attempts, the [`Transport`](delivery::Transport)
//!   that requests travel by.
//! - [`refusal`]: what receivers' texts mean when they refuse.
//! - [`wire`]: the protobuf messages.
//!
//! What it is not: it scrapes nothing, it queries nothing, and it does not sign — signing is a layer of the
//! transport.
//!
//! # Which message is sent
//!
//! | `protobuf_message` | sent |
//! |---|---|
//! | not set, `prometheus.WriteRequest` | 1.0, and nothing else |
//! | `io.prometheus.write.v2.Request` | 2.0; 1.0 where 2.0 is refused, unless `protobuf_fallback: false` |
//! | `auto` | 2.0; 1.0 where 2.0 is refused |
//!
//! 2.0 counts as refused by a 415, by a 400 that says that the content can't be decoded, and by a success without
//! any of the `X-Prometheus-Remote-Write-…-Written` headers. What was found out is kept beside the endpoint's
//! cursors, over restarts; once a day one request asks for 2.0 again, and an endpoint that refuses the 1.0 which
//! it was found to take is asked at once. What is stored is of the configured message, and is turned into the
//! other when it is sent: towards 1.0 start timestamps and metadata on series stay behind (1.0 has its own
//! metadata requests), and what it can't carry is counted (`nhcb_in_rw1_not_supported`), as are native histograms
//! that are not to be sent over 1.0 (`native_histograms_off`, where `send_native_histograms` is not set).
//!
//! # A scraper's sink
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
//! use promferry_model::{
//!     Labels, MemoryBudget, MetadataView, PromDuration, Sample, SeriesView, Sink, SystemClock, TargetInfo, TargetSink,
//!     Timestamp,
//! };
//! use promferry_remote_write::delivery::transport;
//! use promferry_remote_write::spool::{DiskStorage, Spool, SpoolOptions};
//! use promferry_remote_write::{Endpoint, EndpointChange, RemoteWrite, RemoteWriteConfig, Shared};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let (clock, budget) = (Arc::new(SystemClock::new()), MemoryBudget::new(64 << 20));
//! let storage = DiskStorage::new(directory.path())?;
//! let (spool, _) = Spool::open(storage, SpoolOptions::default(), budget.clone(), clock.clone())?;
//! let endpoint = Endpoint {
//!     config: RemoteWriteConfig { url: "http://127.0.0.1:9/api/v1/write".into(), ..Default::default() },
//!     transport: transport(Client::new(Http::new(&HttpClientConfig::default(), HttpOptions::default())?)),
//!     explain_denial: None,
//!     describe_body: None,
//! };
//! let external_labels = Labels::from_pairs([("cluster", "blue")]);
//! let user_agent = "orders/1.0".into();
//! let shared = Shared { external_labels, spool, budget, clock, seed: 1, user_agent };
//! let remote = RemoteWrite::start(shared, vec![endpoint]).await?;
//!
//! let own = Labels::from_pairs([("job", "orders"), ("instance", "self")]);
//! let mut target = remote.open(&TargetInfo {
//!     job: "orders".into(), labels: own, url: "self".into(), scrape_interval: Duration::from_secs(15),
//! });
//! let labels = Labels::from_pairs([("__name__", "orders_total"), ("job", "orders"), ("instance", "self")]);
//! let orders = target.admit(&SeriesView { labels: &labels, metadata: MetadataView::default() })?;
//! let now = Timestamp::from_millis(1_700_000_000_000);
//! target.begin(now);
//! target.sample(orders, Sample::new(now, 42.0));
//! target.commit().await?;                       // on disk from here on
//!
//! let status = remote.status().await?;
//! assert_eq!(status[0].ledger.pending.samples, 1); // nobody listens on that port
//!
//! // Other external labels from the next scrape on, and more patience, by the same connections.
//! let mut config = RemoteWriteConfig { url: "http://127.0.0.1:9/api/v1/write".into(), ..Default::default() };
//! config.remote_timeout = PromDuration::from_secs(60);
//! let external_labels = Labels::from_pairs([("cluster", "green")]);
//! let applied = remote.apply(external_labels, vec![EndpointChange::SameTransport(config)]).await?;
//! assert_eq!(applied.changed, ["http://127.0.0.1:9/api/v1/write"]);
//! remote.shutdown(Duration::ZERO).await;        // it stays in the spool for the next start
//! # Ok(())
//! # }
//! ```

mod client;
pub mod delivery;
mod duplicates;
pub mod encode;
mod fragment;
mod limits;
mod options;
pub mod receiver;
pub mod refusal;
mod sink;
pub mod spool;
mod usage;
pub mod wire;
mod writer;

pub use client::{Answer, Client, InvalidUrl, SendError, Write, WriteLayer};
pub use fragment::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};
pub use limits::LimitsSnapshot;
pub use options::{
    ConfigError, LastingLimitsConfig, MetadataConfig, ProtobufMessage, QueueConfig, RemoteWriteConfig,
};
pub use sink::{
    Applied, Commit, Endpoint, EndpointChange, EndpointStatus, RemoteWrite, RemoteWriteTarget, Shared,
    StartError,
};
pub use usage::{JobUsage, LimitUsage};
pub use writer::{AppendError, Writer, WriterBuilder, WriterError};
