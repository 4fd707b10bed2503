use std::path::PathBuf;

use promferry_discovery::DiscoveryConfigs;
use promferry_http_client::HttpClientConfig;
use promferry_model::{Labels, LabelsBuilder};
use promferry_relabel::{Action, RelabelRules};
use promferry_remote_write::RemoteWriteConfig;
use promferry_scrape::{GlobalConfig, ScrapeConfig};
use promferry_sigv4_auth::SigV4Config;

use crate::{ConfigWarning, Places};

/// A configuration, whichever dialect it was written in: made of the options of the parts it configures,
/// checked, with defaults applied and relative paths resolved.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The dialect it was written in.
    pub dialect: Dialect,
    /// What holds for all jobs and endpoints.
    pub global: Global,
    /// What is scraped; job names are unique.
    pub jobs: Vec<Job>,
    /// Where samples go; names that are set are unique.
    pub remote_write: Vec<Endpoint>,
    /// The files that were read besides the one that Prometheus' dialect begins with (`scrape_config_files`); of the
    /// OpenTelemetry Collector's, each that `--config` names and each that a placeholder puts in as well. A change of
    /// one of them changes the configuration.
    pub included_files: Vec<PathBuf>,
    /// What was accepted without effect, or is likely to go wrong.
    pub warnings: Vec<ConfigWarning>,
    /// Where jobs, their rules and endpoints stand in the files.
    pub places: Places,
    /// Where and how health is to be told besides the usual pages: the collector's `health_check`.
    pub health_check: Option<HealthCheck>,
    /// The least important messages that are to be logged, where the configuration says it.
    pub log_level: Option<LogLevel>,
    /// What arrives otherwise than from the collector that the configuration was written for, a sentence each.
    pub differences: Vec<String>,
}

/// In whose words a configuration is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// Prometheus' `prometheus.yml`.
    #[default]
    Prometheus,
    /// The OpenTelemetry Collector's, as ADOT takes it.
    OpenTelemetry,
}

/// The collector's extension `health_check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `host:port` to listen on. Unless it is set, all addresses and port 13133: ADOT since 0.41 listens on
    /// localhost alone, where the probes of its own manifests do not reach it.
    pub endpoint: String,
    /// The path that is answered, `/` unless it is set.
    pub path: String,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { endpoint: "0.0.0.0:13133".to_owned(), path: "/".to_owned() }
    }
}

/// How important a message of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may need attention.
    Warn,
    /// What needs attention.
    Error,
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

impl Endpoint {
    /// The labels that can tell this cluster's series from another's where both write to this endpoint: external
    /// labels, and those that write relabelling gives whatever the target, as they leave. Not among them are what
    /// targets bring along (pods of two clusters may well have the same address) and the labels that tell replicas
    /// of one cluster apart.
    ///
    /// With none, two clusters write the same series, and each loses what the other was faster with.
    pub fn distinguishing_labels(&self, global: &Global) -> Labels {
        // What keeps or drops series says nothing about their labels.
        let renaming = self.write.write_relabel_configs.iter().filter(|rule| {
            !matches!(rule.action, Action::Keep | Action::Drop | Action::KeepEqual | Action::DropEqual)
        });
        let renaming: Vec<_> = renaming.cloned().collect();
        let validation = global.scrape.metric_name_validation_scheme.unwrap_or_default();
        let rules = RelabelRules::compile(&renaming, validation).ok();
        let leaving = |instance: &str| {
            let of_target = [("__name__", "up"), ("instance", instance), ("job", "job")];
            let mut labels = LabelsBuilder::from(&Labels::from_pairs(of_target));
            for label in global
                .external_labels
                .iter()
                .filter(|label| !of_target.iter().any(|(name, _)| label.name == *name))
            {
                labels.set(label.name.clone(), label.value.clone());
            }
            if let Some(rules) = &rules {
                rules.apply(&mut labels);
            }
            labels
        };
        let (mut labels, of_another_target) = (leaving("10.0.0.1:8080"), leaving("10.0.0.2:9090"));
        labels.retain(|label| {
            !OF_TARGETS_AND_REPLICAS.contains(&label.name.as_str())
                && of_another_target.get(&label.name) == label.value.as_str()
        });
        labels.to_labels()
    }
}

/// Labels that every target has, and those by which replicas of one cluster are commonly told apart (Cortex'
/// `ha_replica_label`, the Prometheus operator's `replicaExternalLabelName`).
const OF_TARGETS_AND_REPLICAS: [&str; 6] =
    ["__name__", "instance", "job", "__replica__", "replica", "prometheus_replica"];
