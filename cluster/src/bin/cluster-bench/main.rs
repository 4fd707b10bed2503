//! Measures discovery on a cluster: `cluster-bench scale`, `cluster-bench churn`, `cluster-bench gateway`.
//!
//! The cluster is a real API server with its etcd ([`promferry_cluster::Cluster`]); there is no kubelet, so pods are
//! written as one would have left them. The rivals come from `scripts/peers`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its findings")]

mod churn;
mod collectors;
mod gateway;
mod pods;
mod sampler;
mod scale;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures discovery on a real Kubernetes API server, and scraping through a gateway, on loopback.
#[derive(Parser)]
#[command(name = "cluster-bench")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Memory, CPU and delay of collectors that watch thousands of pods while some change.
    Scale(scale::Arguments),
    /// Random changes of all kinds of objects through connections that break, held against the API's own list.
    Churn(churn::Arguments),
    /// Targets behind one nginx that lets few requests in, beside targets that are reached directly.
    Gateway(gateway::Arguments),
}

/// Why there are no figures.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn run(command: Command) -> Result<ExitCode, Failure> {
    let command = async {
        match command {
            Command::Scale(arguments) => scale::run(arguments).await,
            Command::Churn(arguments) => churn::run(arguments).await,
            Command::Gateway(arguments) => gateway::run(arguments).await,
        }
    };
    tokio::select! {
        done = command => done,
        // Dropping the future ends every program that was started.
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
    }
}

/// How a run ends: without `--check`, well if there are figures at all.
fn verdict(check: bool, has_figures: bool, broken: &[String]) -> ExitCode {
    for promise in broken {
        eprintln!("cluster-bench: BROKEN: {promise}");
    }
    if has_figures && (broken.is_empty() || !check) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
