use std::path::PathBuf;

use promferry_discovery::DiscoveryConfigs;
use promferry_http_client::HttpClientConfig;
use promferry_model::Labels;
use promferry_remote_write::RemoteWriteConfig;
use promferry_scrape::{GlobalConfig, ScrapeConfig};
use promferry_sigv4_auth::SigV4Config;

use crate::ConfigWarning;

/// A configuration, whichever dialect it was written in: made of the options of the parts it configures,
/// checked, with defaults applied and relative paths resolved.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// What holds for all jobs and endpoints.
    pub global: Global,
    /// What is scraped; job names are unique.
    pub jobs: Vec<Job>,
    /// Where samples go; names that are set are unique.
    pub remote_write: Vec<Endpoint>,
    /// The files that were read besides the configuration's own (`scrape_config_files`): a change of one of
    /// them changes the configuration.
    pub included_files: Vec<PathBuf>,
    /// What was accepted without effect.
    pub warnings: Vec<ConfigWarning>,
}

/// What holds for all jobs and endpoints: Prometheus' `global`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Global {
    /// What jobs inherit.
    pub scrape: GlobalConfig,
    /// Labels added to each series that goes to an endpoint and does not have them; variables are expanded.
    pub external_labels: Labels,
}

/// One entry of `scrape_configs`: how targets are scraped and where they come from.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Job {
    /// How they are scraped; what `global` decides is filled in.
    pub scrape: ScrapeConfig,
    /// Where they come from.
    pub discovery: DiscoveryConfigs,
}

/// One entry of `remote_write`: what is sent where, how, and as whom.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Endpoint {
    /// What is sent where.
    pub write: RemoteWriteConfig,
    /// How the server is reached.
    pub http: HttpClientConfig,
    /// With which credentials requests are signed, if they are.
    pub sigv4: Option<SigV4Config>,
}
