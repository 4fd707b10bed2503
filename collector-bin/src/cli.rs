//! The command line: Prometheus' flags where Prometheus has one.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Scrapes Prometheus targets and remote-writes what they expose, losing nothing on the way.
#[derive(Debug, Parser)]
#[command(name = "promferry", version, about, long_about = None)]
pub struct Cli {
    /// What to do; without a command the demo runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scrape and deliver as a configuration says.
    Run(RunArgs),
    /// Judge files without running anything.
    Check {
        /// What to judge.
        #[command(subcommand)]
        what: Check,
    },
    /// Show the whole pipeline at work against exporters and a receiver inside this process.
    Demo(DemoArgs),
    /// Print the version.
    Version,
}

/// What can be checked.
#[derive(Debug, Subcommand)]
pub enum Check {
    /// A configuration: says every error with file, line and column; exit status 1 if there is one.
    Config {
        /// The configuration file.
        file: PathBuf,
    },
}

/// The flags of `run`: Prometheus' names.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration file.
    #[arg(long = "config.file", value_name = "FILE", default_value = "prometheus.yml")]
    pub config_file: PathBuf,
    /// Where the status, metrics and health endpoints listen.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub listen_address: String,
    /// Where the spool and what goes with it is kept.
    #[arg(long = "storage.agent.path", value_name = "DIR", default_value = "data-agent/")]
    pub storage_path: PathBuf,
    /// What is off by default, separated by commas: st-storage reads start timestamps (OpenMetrics' `_created`
    /// series then are no series of their own) and sends them in Remote-Write 2.0.
    #[arg(long = "enable-feature", value_name = "NAME", value_delimiter = ',')]
    pub features: Vec<String>,
    /// The least important messages that are logged.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
    /// How messages are written.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub log_format: LogFormat,
}

/// The flags of `demo`.
#[derive(Clone, Debug, Default, Args)]
pub struct DemoArgs {
    /// Stop by itself after this many seconds; 0 means at Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub seconds: u64,
}

/// Prometheus' log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may need attention.
    Warn,
    /// What needs attention.
    Error,
}

/// Prometheus' log formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line a message, for people.
    Logfmt,
    /// One JSON object a message.
    Json,
}
