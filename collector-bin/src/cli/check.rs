//! What `promferry check` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OpenTelemetryArgs;

/// What `check` takes: a subcommand, or the OpenTelemetry Collector's flags.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct CheckArgs {
    /// What to judge.
    #[command(subcommand)]
    pub what: Option<Check>,
    /// The OpenTelemetry Collector's configuration.
    #[command(flatten)]
    pub opentelemetry: OpenTelemetryArgs,
}

/// What can be checked.
#[derive(Clone, Debug, Subcommand)]
pub enum Check {
    /// A configuration: says every error with file, line and column; exit status 1 if there is one.
    Config {
        /// The configuration file.
        file: PathBuf,
    },
}
