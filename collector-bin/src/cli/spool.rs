//! What `promferry spool` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What can be done with a spool.
#[derive(Debug, Subcommand)]
pub enum Spool {
    /// List its logs and endpoints, with what waits; changes nothing and works beside a running collector.
    Ls(SpoolDirectory),
    /// Read every record and compare its checksums; changes nothing. Exit status 1 when something is damaged.
    Verify(SpoolDirectory),
    /// Deliver what waits, in order, while no collector works in it. Exit status 1 when something still waits.
    Drain(DrainArgs),
    /// Give up an endpoint that left the configuration, with all that waits for it, while no collector works in it.
    Forget {
        /// Where the spool is.
        #[command(flatten)]
        directory: SpoolDirectory,
        /// The endpoint, as `spool ls` names it.
        endpoint: String,
    },
}

/// Where a spool is.
#[derive(Clone, Debug, Args)]
pub struct SpoolDirectory {
    /// Where the spool and what goes with it is kept.
    #[arg(long = "storage.agent.path", value_name = "DIR", default_value = "data-agent/")]
    pub storage_path: PathBuf,
}

/// The flags of `spool drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// Where the spool is.
    #[command(flatten)]
    pub directory: SpoolDirectory,
    /// Where to deliver to, instead of where the configuration says.
    #[arg(long = "to", value_name = "URL", required_unless_present = "config_file")]
    pub to: Option<String>,
    /// Take authentication, signing, headers and queue_config from the endpoint's entry of remote_write in this
    /// configuration.
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The endpoints to deliver for, as `spool ls` names them; all that wait when none is named.
    #[arg(long = "endpoint", value_name = "NAME")]
    pub endpoints: Vec<String>,
    /// Give up after this many seconds; what then waits stays. 0 means never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub timeout: u64,
}
