//! The command line: Prometheus' flags where Prometheus has one.

mod arguments;
mod aws;
mod check;
mod demo;
pub mod documents;
pub mod features;
mod log;
mod opentelemetry;
mod parse;
pub mod prometheus;
mod run;
mod spool;
mod web;

use clap::{Parser, Subcommand};

pub use arguments::{exit_status, parse};
pub use aws::{Aws, WhoamiArgs};
pub use check::{Check, CheckArgs};
pub use demo::DemoArgs;
pub use features::Features;
pub use log::{LogFormat, LogLevel};
pub use opentelemetry::OpenTelemetryArgs;
pub use parse::{PageFormat, ParseArgs, ParseOutput};
pub use run::{AOT_CONFIG_CONTENT, RunArgs};
pub use spool::{DrainArgs, Spool, SpoolDirectory};
pub use web::WebArgs;

/// Scrapes Prometheus targets and remote-writes what they expose, losing nothing on the way.
#[derive(Debug, Parser)]
#[command(name = "promferry", version, about, long_about = None)]
pub struct Cli {
    /// What to do; without a command the demo runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const OTHER_FLAGS: &str = "The other flags of Prometheus 3.16 are taken too. Those without effect here are named in one warning at the start.";

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scrape and deliver as a configuration says. Flags without a command mean this one.
    #[command(version, display_name = "promferry", after_help = OTHER_FLAGS)]
    Run(Box<RunArgs>),
    /// Judge files without running anything.
    Check(CheckArgs),
    /// Judge a page of metrics as a scrape or the OpenMetrics specification does, and print what it says. Exit status 0
    /// when it is accepted, 1 when it is refused, 2 when it cannot be read.
    Parse(ParseArgs),
    /// Look at the AWS side from where this runs.
    Aws {
        /// What to look at.
        #[command(subcommand)]
        what: Aws,
    },
    /// Look at what waits to be delivered, check it, deliver it or give it up.
    Spool {
        /// What to do with it.
        #[command(subcommand)]
        what: Spool,
    },
    /// Show the whole pipeline at work against exporters and a receiver inside this process.
    Demo(DemoArgs),
    /// Print the script with which a shell completes commands and flags.
    Completions {
        /// The shell.
        shell: documents::Shell,
    },
    /// Print the manual page, in the format of man.
    Man,
    /// Print the version.
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoami_takes_a_configuration_or_an_endpoint() {
        let whoami = |flags: &[&str]| {
            Cli::try_parse_from(["promferry", "aws", "whoami"].into_iter().chain(flags.iter().copied()))
                .is_ok()
        };
        assert!(whoami(&[]));
        assert!(whoami(&["--config.file=prometheus.yml", "--endpoint=amp", "--no-write", "--json"]));
        assert!(whoami(&[
            "--url=https://aps-workspaces.eu-west-1.amazonaws.com/",
            "--role-arn=arn",
            "--external-id=x"
        ]));
        assert!(!whoami(&["--endpoint=amp"]));
        assert!(!whoami(&["--config.file=prometheus.yml", "--role-arn=arn"]));
    }

    #[test]
    fn a_drain_needs_to_know_where_to() {
        let drain = |flags: &[&str]| {
            Cli::try_parse_from(["promferry", "spool", "drain"].into_iter().chain(flags.iter().copied()))
        };
        assert!(drain(&[]).is_err());
        assert!(drain(&["--to=http://127.0.0.1:9/"]).is_ok());
        assert!(drain(&["--config.file=prometheus.yml", "--endpoint=amp"]).is_ok());
    }
}
