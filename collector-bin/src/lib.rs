//! The collector behind the `promferry` command: reads a configuration, wires the crates together, answers
//! the pages. It holds no metric logic of its own.
//!
//! This library exists so that tests can run what the binary runs; use the crates it wires for anything else.
//!
//! ```
//! use clap::Parser as _;
//! use promferry_collector::cli::{Cli, Command};
//!
//! let cli = Cli::parse_from(["promferry", "run", "--config.file=prometheus.yml"]);
//! assert!(matches!(cli.command, Some(Command::Run(_))));
//! ```

pub mod aws;
pub mod check;
pub mod cli;
mod counts;
pub mod demo;
mod dry_run;
pub mod health_check;
pub mod heartbeat;
pub mod kept_pages;
pub mod limits;
mod listener;
pub mod logging;
pub mod pages;
pub mod parse;
pub mod pipeline;
pub mod promise;
mod reasons;
pub mod reload;
pub mod run;
pub mod self_metrics;
pub mod signing;
pub mod spool;
mod status_page;
pub mod storage_location;
pub mod targets;
pub mod verdict;
pub mod watched_files;
pub mod web;
pub mod web_config;
