//! `promferry run --dry-run`: everything but sending and storing.
//!
//! The real pipeline discovers, relabels, scrapes and encodes into a spool in memory; its requests go to a recorder that
//! takes everything. Credentials are fetched and STS is asked whose they are, as at a start; nothing is written at AWS.

mod findings;
mod format;
mod recorder;
mod report;
mod storage;
mod survey;

use std::process::ExitCode;
use std::time::Duration;

use promferry_config::{Config, Sources};

use self::findings::findings;
use self::report::Report;
use self::survey::Survey;
use crate::cli::RunArgs;
use crate::limits::{Limits, raise_open_files};
use crate::run::{CANNOT_START, runtime};

/// Runs what was read from `sources` until discovery has answered and every target was scraped, for at most `limit`, and prints what was found.
/// SIGINT and SIGTERM end it early, with what is known by then. Exit status 0 when nothing is wrong, 1 when something is.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command's answer")]
pub(crate) fn run(
    args: &RunArgs,
    (sources, config): (&Sources, &Config),
    limits: Limits,
    limit: Duration,
) -> ExitCode {
    if let Err(error) = raise_open_files() {
        eprintln!("the limit of open files can't be raised: {error}");
    }
    let runtime = match runtime(&limits) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime can't be started: {error}");
            return ExitCode::from(CANNOT_START);
        }
    };
    let surveyed = runtime.block_on(Survey::make(args, (sources, config), limits, limit));
    // A look-up of a name that hangs must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let survey = match surveyed {
        Ok(survey) => survey,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(CANNOT_START);
        }
    };
    let findings = findings(&survey);
    let is_well = findings.is_empty();
    print!("{}", Report { survey: &survey, findings });
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
