//! How a job behaves towards an address that many targets are reached through.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, null_is_default, resolve_path};

/// The key `gateway` of a job, which is Promferry's own: what its targets may ask of an address that they share, and
/// which files their headers may come from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// No scrape of the job starts while this many are in flight to the same address, whatever jobs they are of.
    /// Absent for 32, or for 10 where the address is a Kubernetes API server's that passes scrapes on to pods,
    /// services or nodes (`…/proxy/…`).
    pub max_in_flight: Option<u32>,
    /// Scrapes of one address follow each other at least this far apart that there are no more of them a second.
    /// Zero is no limit.
    #[serde(deserialize_with = "null_is_default")]
    pub requests_per_second: f64,
    /// Folders with the files that `__header_…: file:PATH` may name; relative ones are below the configuration file's.
    #[serde(deserialize_with = "null_is_default")]
    pub header_files: Vec<PathBuf>,
}

/// One in a quarter of an hour.
const LEAST_RATE: f64 = 0.001;

impl GatewayConfig {
    pub(super) fn resolve_paths(&mut self, base_dir: &Path) {
        self.header_files.iter_mut().for_each(|folder| resolve_path(folder, base_dir));
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.max_in_flight == Some(0) {
            return Err(ConfigError::new(["max_in_flight"], "has to be at least 1"));
        }
        let rate = self.requests_per_second;
        if !rate.is_finite() || (rate != 0.0 && rate < LEAST_RATE) {
            let message = format!("{rate} is no rate; use 0 for no limit, or {LEAST_RATE} and more");
            return Err(ConfigError::new(["requests_per_second"], message));
        }
        for (at, folder) in self.header_files.iter().enumerate() {
            let is_named = folder.components().any(|part| matches!(part, Component::Normal(_)));
            let message = if !is_named {
                "names no folder of its own: any file could be sent to a target".to_owned()
            } else if folder.components().any(|part| part == Component::ParentDir) {
                format!("{} may not have \"..\" in it", folder.display())
            } else {
                continue;
            };
            return Err(ConfigError::new(["header_files".to_owned(), at.to_string()], message));
        }
        Ok(())
    }
}
