//! What Prometheus' configuration says about discovery.

use std::collections::BTreeMap;
use std::path::Path;
#[cfg(any(feature = "file", feature = "http", feature = "dns"))]
use std::time::Duration;

use promferry_model::NameValidation;
#[cfg(any(feature = "static", feature = "file", feature = "http"))]
use promferry_model::{Labels, LabelsBuilder, TargetGroup};
use serde::{Deserialize, Deserializer};
use smol_str::SmolStr;

#[cfg(feature = "dns")]
use crate::mechanisms::dns::DnsSdConfig;
#[cfg(feature = "file")]
use crate::mechanisms::file::FileSdConfig;
#[cfg(feature = "http")]
use crate::mechanisms::http::HttpSdConfig;
#[cfg(feature = "kubernetes")]
use crate::mechanisms::kubernetes::KubernetesSdConfig;
use crate::mechanisms::mechanism::CustomMechanism;

/// The discovery keys of one `scrape_config`.
///
/// The keys are those of the features that are switched on; [`KEYS`](Self::KEYS) names them for a reader of a mapping
/// in which they stand among others.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DiscoveryConfigs {
    /// Targets written down.
    #[cfg(feature = "static")]
    #[serde(deserialize_with = "null_is_default")]
    pub static_configs: Vec<StaticConfig>,
    /// Targets in files.
    #[cfg(feature = "file")]
    #[serde(deserialize_with = "null_is_default")]
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Targets listed by HTTP servers.
    #[cfg(feature = "http")]
    #[serde(deserialize_with = "null_is_default")]
    pub http_sd_configs: Vec<HttpSdConfig>,
    /// Targets in the DNS.
    #[cfg(feature = "dns")]
    #[serde(deserialize_with = "null_is_default")]
    pub dns_sd_configs: Vec<DnsSdConfig>,
    /// Targets that a Kubernetes API server knows.
    #[cfg(feature = "kubernetes")]
    #[serde(deserialize_with = "null_is_default")]
    pub kubernetes_sd_configs: Vec<KubernetesSdConfig>,
    /// Mechanisms of the embedding program's own; no key of the configuration.
    #[serde(skip)]
    pub custom: Vec<CustomMechanism>,
}

impl DiscoveryConfigs {
    /// The names of the keys.
    pub const KEYS: &'static [&'static str] = &[
        #[cfg(feature = "static")]
        "static_configs",
        #[cfg(feature = "file")]
        "file_sd_configs",
        #[cfg(feature = "http")]
        "http_sd_configs",
        #[cfg(feature = "dns")]
        "dns_sd_configs",
        #[cfg(feature = "kubernetes")]
        "kubernetes_sd_configs",
    ];

    /// Checks what Prometheus checks when it loads a configuration; nothing is opened or asked.
    ///
    /// # Errors
    /// The first rule that is broken, with the keys and indexes that lead to it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        #[cfg(feature = "static")]
        each("static_configs", &self.static_configs, StaticConfig::validate)?;
        #[cfg(feature = "file")]
        each("file_sd_configs", &self.file_sd_configs, FileSdConfig::validate)?;
        #[cfg(feature = "http")]
        each("http_sd_configs", &self.http_sd_configs, HttpSdConfig::validate)?;
        #[cfg(feature = "dns")]
        each("dns_sd_configs", &self.dns_sd_configs, DnsSdConfig::validate)?;
        #[cfg(feature = "kubernetes")]
        each("kubernetes_sd_configs", &self.kubernetes_sd_configs, KubernetesSdConfig::validate)?;
        Ok(())
    }

    /// Makes relative paths ones below `base_dir`, the directory of the configuration file.
    pub fn resolve_paths(&mut self, base_dir: &Path) {
        #[cfg(feature = "file")]
        self.file_sd_configs.iter_mut().for_each(|config| config.resolve_paths(base_dir));
        #[cfg(feature = "http")]
        self.http_sd_configs.iter_mut().for_each(|config| config.http_config.resolve_paths(base_dir));
        #[cfg(feature = "kubernetes")]
        self.kubernetes_sd_configs.iter_mut().for_each(|config| config.resolve_paths(base_dir));
        // Without these features there is nothing to resolve.
        let _ = base_dir;
    }
}

/// One of the `static_configs`, and one entry of a file or an HTTP answer: addresses and the labels they share.
///
/// Labels with an empty value are absent, addresses are `host:port` or whatever relabelling makes one of.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StaticConfig {
    /// The addresses.
    #[serde(deserialize_with = "nulls_are_empty")]
    pub targets: Vec<SmolStr>,
    /// The labels.
    #[serde(deserialize_with = "null_values_are_empty")]
    pub labels: BTreeMap<SmolStr, SmolStr>,
}

impl StaticConfig {
    /// # Errors
    /// A label whose name is empty.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.labels.keys().find(|name| !NameValidation::Utf8.is_valid_label_name(name)) {
            None => Ok(()),
            Some(name) => {
                Err(ConfigError::new(&["labels", name], format!("{name:?} is not a valid label name")))
            }
        }
    }

    /// The group that this entry describes. `meta` labels win over the entry's own, as in Prometheus.
    #[cfg(any(feature = "static", feature = "file", feature = "http"))]
    pub(crate) fn into_group(self, source: SmolStr, meta: &[(&str, &str)]) -> TargetGroup {
        let mut labels = LabelsBuilder::default();
        for (name, value) in self.labels {
            labels.set(name, value);
        }
        for (name, value) in meta {
            labels.set(*name, *value);
        }
        let targets = self.targets.into_iter();
        let targets = targets.map(|address| Labels::from_pairs([("__address__", address)]));
        TargetGroup { source, labels: labels.to_labels(), targets: targets.collect() }
    }
}

/// A rule of the configuration that is broken: where and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.join("."))]
pub struct ConfigError {
    /// The keys and indexes that lead to the offending value: `["file_sd_configs", "0", "files", "1"]`.
    pub path: Vec<String>,
    /// What is wrong and what to do, lower-case.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self { path: path.iter().map(|key| (*key).to_owned()).collect(), message: message.into() }
    }

    /// The same error as seen from the block that holds this one under `key`.
    #[must_use]
    pub fn within(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }
}

#[cfg(any(feature = "http", feature = "kubernetes"))]
impl From<promferry_http_client::ConfigError> for ConfigError {
    fn from(error: promferry_http_client::ConfigError) -> Self {
        Self { path: error.path, message: error.message }
    }
}

#[cfg(any(feature = "static", feature = "file", feature = "http", feature = "dns", feature = "kubernetes"))]
fn each<T>(
    key: &str,
    configs: &[T],
    validate: impl Fn(&T) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    for (index, config) in configs.iter().enumerate() {
        validate(config).map_err(|error| error.within(&index.to_string()).within(key))?;
    }
    Ok(())
}

/// A refresh interval of zero would be a busy loop; Go's ticker panics on it.
#[cfg(any(feature = "file", feature = "http", feature = "dns"))]
pub(crate) fn validate_interval(interval: promferry_model::PromDuration) -> Result<Duration, ConfigError> {
    if interval.is_zero() {
        return Err(ConfigError::new(&["refresh_interval"], "the interval must be longer than 0s"));
    }
    Ok(interval.as_std())
}

/// YAML's empty value is Go's zero value.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// As above, for each entry of a list.
fn nulls_are_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SmolStr>, D::Error> {
    let list: Vec<Option<SmolStr>> = null_is_default(deserializer)?;
    Ok(list.into_iter().map(Option::unwrap_or_default).collect())
}

/// As above, for each value of a mapping.
fn null_values_are_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<SmolStr, SmolStr>, D::Error> {
    let labels: BTreeMap<SmolStr, Option<SmolStr>> = null_is_default(deserializer)?;
    Ok(labels.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}
