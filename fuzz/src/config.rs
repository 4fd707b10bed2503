use std::path::Path;

use promferry_config::{Config, ConfigError, NoFiles};

/// The text of a `prometheus.yml`.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let environment = |name: &str| (name == "CLUSTER").then(|| "blue".to_owned());
    judge(text, Config::from_prometheus(Path::new("prometheus.yml"), text, &NoFiles, &environment));
}

/// The text of an OpenTelemetry Collector's configuration, in an environment that leads to ever more.
pub fn otel_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let environment = |name: &str| {
        let value = match name {
            "X" => "x",
            "MAP" => "{a: 1, b: [\"${env:X}\"]}",
            "SELF" => "${env:SELF}",
            "TWICE" => "${env:TWICE}${env:TWICE} ",
            "DEEPER" => "[[[[\"${env:DEEPER}\"]]]]",
            "DOLLARS" => "$$${env:X}",
            _ => return None,
        };
        Some(value.to_owned())
    };
    judge(text, Config::from_opentelemetry(Path::new("collector.yaml"), text, &NoFiles, &environment));
}

/// What holds for whatever is read.
fn judge(text: &str, read: Result<Config, ConfigError>) {
    match read {
        Ok(config) => {
            let mut names: Vec<_> = config.jobs.iter().map(|job| &job.scrape.job_name).collect();
            let jobs = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), jobs, "two jobs of one name");
            config.warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty()));
        }
        Err(error) => {
            let (line, full) = (error.to_string(), format!("{error:#}"));
            assert!(full.starts_with(&line));
            if let Some(position) = error.position() {
                let lines = text.lines().count() + 1;
                assert!(position.line >= 1 && position.line <= lines && position.column >= 1, "{line}");
            }
        }
    }
}
