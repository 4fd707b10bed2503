//! Scrapes metric targets: the jobs, targets, loops and series of Prometheus, into any
//! [`Sink`](promferry_model::Sink).
//!
//! What it is: [`ScrapeConfig`] reads a job as Prometheus 3.16 writes it, [`Target`] is what discovery and
//! relabelling make of one, and a [`Scraper`] runs a loop for each target: fetch the page within limits,
//! read it, end series that left with stale markers, report `up` and its kin, and hand all of it to the sink
//! as one commit. What is remembered of a series from page to page is some 20 bytes; a page whose lines are
//! known is read without splitting labels and without allocating for a sample.
//!
//! A scraper is given a job's groups whole ([`Scraper::update`]), or what changed of them ([`Scraper::change`]): then the
//! work is that of the groups that changed, and with a [`GroupSource`] a target that relabelling drops costs some tens
//! of bytes.
//!
//! What it is not: it discovers nothing (targets come as [`TargetGroup`](promferry_model::TargetGroup)s), it
//! sends nothing and keeps no samples.
//!
//! ```
//! use promferry_model::{Labels, MemorySink, TargetGroup};
//! use promferry_scrape::{GlobalConfig, Job, ScrapeConfig, Scraper, ScraperOptions};
//! # use std::io::{Read, Write};
//! # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = server.local_addr()?.to_string();
//! # std::thread::spawn(move || {
//! #     let (mut stream, _) = server.accept().unwrap();
//! #     let _ = stream.read(&mut [0; 4096]).unwrap();
//! #     let page = "temperature_celsius{room=\"attic\"} 31.5\n";
//! #     let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length";
//! #     write!(stream, "{head}: {}\r\n\r\n{page}", page.len()).unwrap();
//! # });
//! # let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
//! # runtime.block_on(async {
//! let mut config = ScrapeConfig::new("house");
//! config.apply_defaults(&GlobalConfig::default());
//! let job = Job::new(config, Vec::new(), Default::default())?;
//!
//! let sink = MemorySink::new();
//! let scraper = Scraper::new(sink.clone(), ScraperOptions::default());
//! scraper.apply(vec![job]);
//! scraper.update("house", vec![TargetGroup {
//!     source: "by hand".into(),
//!     labels: Labels::from_pairs([("floor", "2")]),
//!     targets: vec![Labels::from_pairs([("__address__", address.as_str())])],
//! }])?;
//! while sink.appended().is_empty() {
//!     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
//! }
//! scraper.shutdown().await;
//!
//! let sample = &sink.appended()[0];
//! assert_eq!(sample.sample.value, 31.5);
//! assert_eq!((sample.labels.get("room"), sample.labels.get("floor")), ("attic", "2"));
//! assert_eq!((sample.labels.get("job"), sample.labels.get("instance")), ("house", address.as_str()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where it differs from Prometheus
//!
//! - First scrapes come promptly: a lone target's at once, those of many within 3 s; later ones at their phase.
//! - A failed scrape ends every series that was tracked, also those that a broken page still showed.
//! - A target that comes back under the same public labels before its series were ended goes on with them.
//! - Two spellings of one series on one page are one series: the first counts.
//! - A sample whose timestamp on the page is not later than the one before is left out and counted.
//! - `__unix_socket__` is refused by name.
//! - A page may take no more than its share of the memory budget, whatever `body_size_limit` says.

mod alike;
mod bits;
mod cache;
mod cpu;
mod dropped;
mod error;
mod exemplars;
mod family;
mod fetch;
mod gate;
mod groups;
mod histogram;
mod inflate;
mod job;
mod notices;
mod options;
mod page_reader;
mod pool;
mod refusal;
mod report;
mod schedule;
mod scraper;
mod scratch;
mod section;
mod stages;
mod state;
mod stats;
mod status;
mod target;
mod target_loop;

pub use cpu::CpuSections;
pub use dropped::{DroppedBy, InvalidTargets};
pub use error::ScrapeError;
pub use gate::GatewayStatus;
pub use groups::{GroupChange, GroupSource};
pub use job::{DiscoveredTargets, Job, JobError};
pub use options::{
    ByteSize, ByteSizeError, ConfigError, GatewayConfig, GlobalConfig, LeFormat, QueryParams, ScrapeConfig,
    ScrapeProtocol,
};
pub use page_reader::{PageOutcome, PageReader};
pub use schedule::Schedule;
pub use scraper::{Scraper, ScraperOptions, UnknownJob};
pub use section::{KeptPage, PageKeeper};
pub use stages::{LabelLimits, TargetLabels, ValidNames};
pub use stats::{JobStats, ScrapeLedger};
pub use status::{ActiveTarget, PoolStatus, PoolSummary, TargetHealth, TargetRow, TargetState, TargetStatus};
pub use target::{Target, TargetError, discovered_labels};
