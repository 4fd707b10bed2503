//! The `promferry` command.

use std::process::ExitCode;

use clap::Parser as _;
use promferry_collector::cli::{Check, Cli, Command, DemoArgs};
use promferry_collector::{check, demo, run, spool};

// Many threads allocate and free pages and buffers of all sizes: glibc's allocator keeps what jemalloc gives
// back.
#[cfg(not(miri))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Check { what: Check::Config { file } }) => check::config(&file),
        Some(Command::Spool { what }) => spool::run(&what),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Version) => run::version(),
        None => demo::run(&DemoArgs::default()),
    }
}
