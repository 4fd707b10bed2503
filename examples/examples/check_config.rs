//! Reads configurations and says what they would do, or what is wrong with them and where:
//! `cargo run -p promferry-examples --example check_config -- examples/config/*.yml`

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::process::ExitCode;

use promferry_config::{Config, DiskFiles};

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let mut code = ExitCode::SUCCESS;
    for file in std::env::args().skip(1) {
        let config = match Config::load_prometheus(file.as_ref(), &DiskFiles, &environment) {
            Ok(config) => config,
            Err(error) => {
                println!("{error:#}");
                code = ExitCode::FAILURE;
                continue;
            }
        };
        println!("{file}:");
        for warning in &config.warnings {
            println!("  warning: {warning}");
        }
        for job in &config.jobs {
            println!("  scrapes {}", job.scrape.job_name);
        }
        for endpoint in &config.remote_write {
            let signed = if endpoint.sigv4.is_some() { ", signed" } else { "" };
            println!("  sends to {}{signed}", endpoint.write.url);
        }
    }
    code
}
