//! Reads configuration files and says of each whether it can be used: `cargo run --example check -- FILE…`

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::process::ExitCode;

use promferry_config::{Config, DiskFiles};

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let mut failed = false;
    for file in std::env::args().skip(1) {
        match Config::load_prometheus(file.as_ref(), &DiskFiles, &environment) {
            Ok(config) => {
                for warning in &config.warnings {
                    println!("{warning}");
                }
                println!("{file}: ok, {} jobs, {} endpoints", config.jobs.len(), config.remote_write.len());
            }
            Err(error) => {
                println!("{error:#}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}
