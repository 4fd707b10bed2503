//! `promferry check`: judges files without running anything.

use std::path::Path;
use std::process::ExitCode;

use promferry_config::{Config, ConfigError, DiskFiles, Sources};

use crate::cli::{Check, CheckArgs};

/// `promferry check config FILE` and `promferry check --config=URI`: says what is wrong or what there is; exit status 1
/// when something is wrong.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command's answer")]
pub fn run(args: &CheckArgs) -> ExitCode {
    let (sources, name) = match (&args.what, args.opentelemetry.sources()) {
        (Some(Check::Config { file }), _) => (Sources::Prometheus(file.clone()), file.display().to_string()),
        (None, Some(sources)) => (sources, args.opentelemetry.configs.join(" and ")),
        // The command line is not taken without either.
        (None, None) => return ExitCode::FAILURE,
    };
    match load(&sources) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            for difference in &config.differences {
                println!("other than from the OpenTelemetry Collector: {difference}");
            }
            let (jobs, endpoints) = (config.jobs.len(), config.remote_write.len());
            println!("{name}: valid, {jobs} jobs, {endpoints} remote_write endpoints");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}\n{}", error.excerpt());
            ExitCode::FAILURE
        }
    }
}

/// Reads a configuration as `run` does.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    Config::load(sources, &DiskFiles, &|name: &str| std::env::var(name).ok())
}

/// Reads the file that `--config.file` names.
///
/// # Errors
/// As [`load`].
pub fn load_file(file: &Path) -> Result<Config, ConfigError> {
    load(&Sources::Prometheus(file.to_owned()))
}
