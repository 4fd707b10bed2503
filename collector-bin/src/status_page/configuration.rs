//! Which configuration is in force.

use std::time::{Duration, SystemTime};

use super::Shown;
use super::html::{Html, text, time, trouble};
use crate::pipeline::Pipeline;
use crate::reload::ReloadStatus;

/// The configuration in force, and how it went when it was last read.
pub(super) struct Configuration {
    source: String,
    status: ReloadStatus,
}

impl Configuration {
    pub(super) fn of(pipeline: &Pipeline, source: &str) -> Self {
        Self { source: source.to_owned(), status: pipeline.reload_status() }
    }

    /// Why what was read last is not in force, if it is not.
    pub(super) fn error(&self) -> Option<&str> {
        self.status.error.as_deref()
    }

    /// How long it has been in force.
    pub(super) fn age(&self) -> Duration {
        self.status.last_success.elapsed().unwrap_or_default()
    }
}

impl Html {
    pub(super) fn configuration(&mut self, shown: &Shown) {
        let configuration = &shown.configuration;
        let at = |time_of: SystemTime| {
            let passed = time_of.elapsed().unwrap_or_default();
            format!("{}, {} ago", humantime::format_rfc3339_seconds(time_of), time(passed))
        };
        let last_attempt = match configuration.error() {
            None => text("it is in force"),
            Some(error) => trouble(format!("{}: {error}", at(configuration.status.last_attempt))),
        };
        let mut heads = vec!["in force since", "as it is now", "Promferry"];
        let mut row =
            vec![text(at(configuration.status.last_success)), last_attempt, text(env!("CARGO_PKG_VERSION"))];
        if !configuration.source.is_empty() {
            heads.insert(0, "from");
            row.insert(0, text(&configuration.source));
        }
        self.table("Configuration", &heads, [row]);
    }
}
