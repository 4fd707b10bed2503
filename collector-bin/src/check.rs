//! `promferry check`: judges files without running anything.

use std::path::Path;
use std::process::ExitCode;

use promferry_config::{Config, DiskFiles};

/// `promferry check config FILE`: says what is wrong or what there is; exit status 1 when something is wrong.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command's answer")]
pub fn config(file: &Path) -> ExitCode {
    match load(file) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            let (jobs, endpoints) = (config.jobs.len(), config.remote_write.len());
            println!("{}: valid, {jobs} jobs, {endpoints} remote_write endpoints", file.display());
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
pub fn load(file: &Path) -> Result<Config, promferry_config::ConfigError> {
    Config::load_prometheus(file, &DiskFiles, &|name: &str| std::env::var(name).ok())
}
