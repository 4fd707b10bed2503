//! What Promferry is measured and compared with: a [`Farm`](farm::Farm) of targets, a recording
//! [`Sink`](sink::Sink), the rivals' command lines, and fixtures that put a real Prometheus beside it.
//!
//! Nothing here is published or part of the collector, and nothing of the collector is used here: requests are decoded
//! by a second reading of the specification ([`messages`], [`wire`]).
//!
//! `bench/README.md` has the commands. A farm and a sink in one program:
//!
//! ```
//! use promferry_bench::{farm::Farm, ledger::Judgement, sink::Sink};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let farm = Farm::start(2, 100).await?;
//! let sink = Sink::start(Judgement::EachSeries).await?;
//! println!("scrape {:?} and write to {}", farm.addresses(), sink.url());
//! assert_eq!(sink.stats().samples, 0);
//! # Ok::<_, std::io::Error>(())
//! # })?;
//! # Ok::<_, std::io::Error>(())
//! ```

pub mod account;
pub mod check;
pub mod clock;
pub mod collector;
pub mod compare;
pub mod control;
pub mod duration;
pub mod exposition_messages;
pub mod farm;
pub mod http_call;
pub mod lasting_limit;
pub mod ledger;
pub mod messages;
pub mod page;
pub mod peers;
pub mod port;
pub mod proc;
pub mod process;
pub mod prometheus_server;
pub mod proxy;
pub mod runner;
pub mod scripted_target;
pub mod sink;
pub mod table;
pub mod wire;
