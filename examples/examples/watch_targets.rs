//! Prints discovered targets as they change, until Ctrl-C. The argument is a YAML file with discovery blocks as a job
//! has them:
//!
//! ```yaml
//! http_sd_configs: [{url: "http://ray-head:8265/api/prometheus/sd", refresh_interval: 10s}]
//! file_sd_configs: [{files: [targets/*.json]}]
//! ```
//!
//! `cargo run -p promferry-examples --example watch_targets -- discovery.yml`

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;
use std::path::Path;

use promferry_discovery::{Discovery, DiscoveryConfigs, DiscoveryOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("say which file has the discovery blocks")?;
    let mut configs: DiscoveryConfigs = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
    configs.validate()?;
    configs.resolve_paths(Path::new(&file).parent().unwrap_or_else(|| Path::new("")));

    let (discovery, mut changes) = Discovery::new(DiscoveryOptions::default());
    for error in discovery.apply([("job".into(), configs)]) {
        println!("{}: {}", error.mechanism, error.error);
    }
    loop {
        let batch = tokio::select! {
            batch = changes.next() => batch,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        for change in batch {
            let Some(group) = change.group else {
                println!("- {}", change.source);
                continue;
            };
            println!("+ {} {}", change.source, group.labels);
            for target in &group.targets {
                println!("    {target}");
            }
        }
        for mechanism in discovery.status().iter().filter(|mechanism| mechanism.is_failing) {
            if let Some((_, why)) = &mechanism.last_failure {
                println!("! {} {}: {why}", mechanism.mechanism, mechanism.subject);
            }
        }
    }
}
