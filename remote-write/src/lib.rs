//! A durable Prometheus remote-write sender: give it samples, it delivers them — over outages, restarts and
//! kills, in order, with an account of every one.
//!
//! What it is:
//! - [`RemoteWrite`]: the [`Sink`](promferry_model::Sink) for scraped samples, and delivery to any number of
//!   endpoints over remote write 1.0 and 2.0.
//! - [`spool`]: the queue on disk between the two, and the ledger that balances:
//!   `accepted = delivered + dropped{reason} + pending`.
//! - [`encode`]: from samples to wire bytes without building messages, and from stored bytes to requests.
//! - [`delivery`]: what each answer means, pauses between attempts, the [`Transport`](delivery::Transport)
//!   that requests travel by.
//! - [`refusal`]: what receivers' texts mean, so that only what they are about is given up.
//! - [`wire`]: the protobuf messages, for receivers and tests.
//!
//! What it is not: it scrapes nothing, it queries nothing, and it does not sign — signing is a layer of the
//! transport.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
//! use promferry_model::{
//!     Labels, MemoryBudget, MetadataView, Sample, SeriesView, Sink, SystemClock, TargetInfo, TargetSink, Timestamp,
//! };
//! use promferry_remote_write::delivery::transport;
//! use promferry_remote_write::spool::{DiskStorage, Spool, SpoolOptions};
//! use promferry_remote_write::{Endpoint, RemoteWrite, RemoteWriteConfig, Shared};
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
//! remote.shutdown(Duration::ZERO).await;        // it stays in the spool for the next start
//! # Ok(())
//! # }
//! ```

pub mod delivery;
mod duplicates;
pub mod encode;
mod fragment;
mod options;
pub mod refusal;
mod sink;
pub mod spool;
mod usage;
pub mod wire;

pub use fragment::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};
pub use options::{ConfigError, MetadataConfig, ProtobufMessage, QueueConfig, RemoteWriteConfig};
pub use sink::{Commit, Endpoint, EndpointStatus, RemoteWrite, RemoteWriteTarget, Shared, StartError};
pub use usage::{JobUsage, LimitUsage};
