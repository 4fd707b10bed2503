//! The keys of Prometheus' `scrape_config` and of the part of `global` that they inherit.

mod byte_size;
mod gateway;
mod query_params;
mod validate;

use std::path::{Path, PathBuf};

use promferry_http_client::HttpClientConfig;
use promferry_model::{EscapingScheme, NameValidation, PromDuration};
use promferry_relabel::RelabelConfig;
use serde::{Deserialize, Deserializer};

pub use byte_size::{ByteSize, ByteSizeError};
pub use gateway::GatewayConfig;
pub use promferry_exposition::{LeFormat, ScrapeProtocol};
pub use query_params::QueryParams;

/// A job: how its targets are scraped and what is kept of them.
///
/// The keys, their defaults and their rules are those of Prometheus 3.16 (`config/config.go`
/// `ScrapeConfig`), without `*_sd_configs`, which name where targets come from, and without the keys of
/// `http_config`, which Prometheus inlines here and which a reader splits off into [`http`](Self::http).
///
/// Three steps make a job usable: deserializing checks names and types,
/// [`apply_defaults`](Self::apply_defaults) fills what the job leaves to `global`, and
/// [`validate`](Self::validate) checks what belongs together.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ScrapeConfig {
    /// The value of the label `job` unless discovery says otherwise; required, unique among jobs.
    #[serde(deserialize_with = "null_is_default")]
    pub job_name: String,
    /// Labels on the page win over the target's; otherwise the page's are renamed to `exported_…`.
    #[serde(deserialize_with = "null_is_default")]
    pub honor_labels: bool,
    /// Timestamps on the page are used. On by default; off where the key has no value, as in Go.
    #[serde(deserialize_with = "null_is_default")]
    pub honor_timestamps: bool,
    /// Series with timestamps on the page get stale markers too.
    #[serde(deserialize_with = "null_is_default")]
    pub track_timestamps_staleness: bool,
    /// Query parameters of the scrape's URL.
    #[serde(deserialize_with = "null_is_default")]
    pub params: QueryParams,
    /// How often each target is scraped; zero takes `global`'s.
    #[serde(deserialize_with = "null_is_default")]
    pub scrape_interval: PromDuration,
    /// How long a scrape may take from connecting to the last byte of the page; zero takes the smaller of
    /// `global`'s and the interval.
    #[serde(deserialize_with = "null_is_default")]
    pub scrape_timeout: PromDuration,
    /// The formats asked for, the preferred one first; absent takes `global`'s or Prometheus' defaults.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// How a page without a usable `Content-Type` is read; absent fails such a scrape.
    #[serde(deserialize_with = "empty_is_none")]
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Native histograms are read; absent takes `global`'s.
    pub scrape_native_histograms: Option<bool>,
    /// Classic buckets are read even where a native histogram stands beside them; absent takes `global`'s.
    pub always_scrape_classic_histograms: Option<bool>,
    /// Classic histograms become native ones with custom buckets; absent takes `global`'s.
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    /// Where Prometheus writes failed scrapes; accepted and ignored, since failures are in the log.
    #[serde(deserialize_with = "null_is_default")]
    pub scrape_failure_log_file: PathBuf,
    /// The path of the scrape's URL, `/metrics` by default; `/` where the key has no value, as in Go.
    #[serde(deserialize_with = "null_is_default")]
    pub metrics_path: String,
    /// `http` (the default) or `https`.
    #[serde(deserialize_with = "null_is_http")]
    pub scheme: String,
    /// The target is asked for gzip. On by default; off where the key has no value, as in Go.
    #[serde(deserialize_with = "null_is_default")]
    pub enable_compression: bool,
    /// A page of this many bytes or more, compressed or not, fails its scrape; zero takes `global`'s.
    #[serde(deserialize_with = "null_is_default")]
    pub body_size_limit: ByteSize,
    /// More samples than this after metric relabelling fail the scrape; zero takes `global`'s.
    #[serde(deserialize_with = "null_is_default")]
    pub sample_limit: u64,
    /// More targets than this after relabelling fail all the job's scrapes; zero takes `global`'s.
    #[serde(deserialize_with = "null_is_default")]
    pub target_limit: u64,
    /// A series with more labels than this fails the scrape; zero takes `global`'s.
    #[serde(deserialize_with = "null_is_default")]
    pub label_limit: u64,
    /// A label name of more bytes than this fails the scrape; zero takes `global`'s.
    #[serde(deserialize_with = "null_is_default")]
    pub label_name_length_limit: u64,
    /// A label value of more bytes than this fails the scrape; zero takes `global`'s.
    #[serde(deserialize_with = "null_is_default")]
    pub label_value_length_limit: u64,
    /// A native histogram with more buckets than this is made coarser until it fits; one that cannot be
    /// fails the scrape. Zero is no limit.
    #[serde(deserialize_with = "null_is_default")]
    pub native_histogram_bucket_limit: u64,
    /// A native histogram whose buckets grow by less than this factor is made coarser. Zero is no limit.
    #[serde(deserialize_with = "null_is_default")]
    pub native_histogram_min_bucket_factor: f64,
    /// How many targets dropped by relabelling are kept to be looked at; zero takes `global`'s, and zero
    /// there keeps all.
    #[serde(deserialize_with = "null_is_default")]
    pub keep_dropped_targets: u64,
    /// Which names are valid; absent takes `global`'s.
    #[serde(deserialize_with = "empty_is_none")]
    pub metric_name_validation_scheme: Option<NameValidation>,
    /// How the target is asked to write names that are not valid; absent follows from the validation scheme.
    #[serde(deserialize_with = "empty_is_none")]
    pub metric_name_escaping_scheme: Option<EscapingScheme>,
    /// Adds `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` to the report
    /// series; absent takes `global`'s, and where that is absent too, nothing is added.
    pub extra_scrape_metrics: Option<bool>,
    /// How `le` and `quantile` are written: a key of Promferry's own.
    #[serde(deserialize_with = "null_is_default")]
    pub le_format: LeFormat,
    /// Addresses that many targets share, and headers from files: a key of Promferry's own.
    #[serde(deserialize_with = "null_is_default")]
    pub gateway: GatewayConfig,
    /// Rules for targets, before they are scraped.
    #[serde(deserialize_with = "null_is_default")]
    pub relabel_configs: Vec<RelabelConfig>,
    /// Rules for series, before they are limited and passed on.
    #[serde(deserialize_with = "null_is_default")]
    pub metric_relabel_configs: Vec<RelabelConfig>,
    /// How the targets are reached; no key of this block but the inlined keys of `http_config`.
    #[serde(skip)]
    pub http: HttpClientConfig,
}

/// The keys of `global` that jobs inherit. The others belong to other parts; [`KEYS`](Self::KEYS) tells them
/// apart.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GlobalConfig {
    /// As [`ScrapeConfig::scrape_interval`]; 1 minute by default.
    #[serde(deserialize_with = "null_is_default")]
    pub scrape_interval: PromDuration,
    /// As [`ScrapeConfig::scrape_timeout`]; the smaller of 10 seconds and the interval by default.
    #[serde(deserialize_with = "null_is_default")]
    pub scrape_timeout: PromDuration,
    /// As [`ScrapeConfig::scrape_protocols`].
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// As [`ScrapeConfig::scrape_failure_log_file`].
    #[serde(deserialize_with = "null_is_default")]
    pub scrape_failure_log_file: PathBuf,
    /// As [`ScrapeConfig::body_size_limit`].
    #[serde(deserialize_with = "null_is_default")]
    pub body_size_limit: ByteSize,
    /// As [`ScrapeConfig::sample_limit`].
    #[serde(deserialize_with = "null_is_default")]
    pub sample_limit: u64,
    /// As [`ScrapeConfig::target_limit`].
    #[serde(deserialize_with = "null_is_default")]
    pub target_limit: u64,
    /// As [`ScrapeConfig::label_limit`].
    #[serde(deserialize_with = "null_is_default")]
    pub label_limit: u64,
    /// As [`ScrapeConfig::label_name_length_limit`].
    #[serde(deserialize_with = "null_is_default")]
    pub label_name_length_limit: u64,
    /// As [`ScrapeConfig::label_value_length_limit`].
    #[serde(deserialize_with = "null_is_default")]
    pub label_value_length_limit: u64,
    /// As [`ScrapeConfig::keep_dropped_targets`].
    #[serde(deserialize_with = "null_is_default")]
    pub keep_dropped_targets: u64,
    /// As [`ScrapeConfig::metric_name_validation_scheme`]; UTF-8 by default.
    #[serde(deserialize_with = "empty_is_none")]
    pub metric_name_validation_scheme: Option<NameValidation>,
    /// As [`ScrapeConfig::metric_name_escaping_scheme`].
    #[serde(deserialize_with = "empty_is_none")]
    pub metric_name_escaping_scheme: Option<EscapingScheme>,
    /// As [`ScrapeConfig::scrape_native_histograms`]; off by default.
    pub scrape_native_histograms: Option<bool>,
    /// As [`ScrapeConfig::convert_classic_histograms_to_nhcb`].
    #[serde(deserialize_with = "null_is_default")]
    pub convert_classic_histograms_to_nhcb: bool,
    /// As [`ScrapeConfig::always_scrape_classic_histograms`].
    #[serde(deserialize_with = "null_is_default")]
    pub always_scrape_classic_histograms: bool,
    /// As [`ScrapeConfig::extra_scrape_metrics`].
    pub extra_scrape_metrics: Option<bool>,
}

/// A rule of the options that is broken: where and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.join("."))]
pub struct ConfigError {
    /// The keys that lead to the offending value, from the block that was validated; positions in lists are
    /// decimal numbers.
    pub path: Vec<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl ScrapeConfig {
    /// The names of this block's own keys, for a reader of a mapping in which they stand among others.
    pub const KEYS: &'static [&'static str] = &[
        "job_name",
        "honor_labels",
        "honor_timestamps",
        "track_timestamps_staleness",
        "params",
        "scrape_interval",
        "scrape_timeout",
        "scrape_protocols",
        "fallback_scrape_protocol",
        "scrape_native_histograms",
        "always_scrape_classic_histograms",
        "convert_classic_histograms_to_nhcb",
        "scrape_failure_log_file",
        "metrics_path",
        "scheme",
        "enable_compression",
        "body_size_limit",
        "sample_limit",
        "target_limit",
        "label_limit",
        "label_name_length_limit",
        "label_value_length_limit",
        "native_histogram_bucket_limit",
        "native_histogram_min_bucket_factor",
        "keep_dropped_targets",
        "metric_name_validation_scheme",
        "metric_name_escaping_scheme",
        "extra_scrape_metrics",
        "le_format",
        "gateway",
        "relabel_configs",
        "metric_relabel_configs",
    ];

    /// A job of this name with Prometheus' defaults; the intervals and what else `global` decides are still
    /// to be filled by [`apply_defaults`](Self::apply_defaults).
    pub fn new(job_name: impl Into<String>) -> Self {
        Self { job_name: job_name.into(), ..Self::default() }
    }

    /// Makes every relative path one below `base_dir`, where Prometheus looks for it.
    pub fn resolve_paths(&mut self, base_dir: &Path) {
        resolve_path(&mut self.scrape_failure_log_file, base_dir);
        self.gateway.resolve_paths(base_dir);
        self.http.resolve_paths(base_dir);
    }

    /// Fills what the job leaves open from `global`, whose own gaps are filled from Prometheus' defaults.
    pub fn apply_defaults(&mut self, global: &GlobalConfig) {
        let mut global = global.clone();
        global.apply_defaults();
        or_inherit(&mut self.scrape_interval, global.scrape_interval);
        or_inherit(&mut self.scrape_timeout, global.scrape_timeout.min(self.scrape_interval));
        or_inherit(&mut self.body_size_limit, global.body_size_limit);
        or_inherit(&mut self.sample_limit, global.sample_limit);
        or_inherit(&mut self.target_limit, global.target_limit);
        or_inherit(&mut self.label_limit, global.label_limit);
        or_inherit(&mut self.label_name_length_limit, global.label_name_length_limit);
        or_inherit(&mut self.label_value_length_limit, global.label_value_length_limit);
        or_inherit(&mut self.keep_dropped_targets, global.keep_dropped_targets);
        or_inherit(&mut self.scrape_failure_log_file, global.scrape_failure_log_file);
        or_inherit(&mut self.scrape_native_histograms, global.scrape_native_histograms);
        or_inherit(&mut self.extra_scrape_metrics, global.extra_scrape_metrics);
        or_inherit(&mut self.scrape_protocols, global.scrape_protocols);
        let default_protocols: &[ScrapeProtocol] = if self.scrape_native_histograms == Some(true) {
            &ScrapeProtocol::DEFAULT_PROTOBUF_FIRST
        } else {
            &ScrapeProtocol::DEFAULT
        };
        or_inherit(&mut self.scrape_protocols, Some(default_protocols.to_vec()));
        let convert = global.convert_classic_histograms_to_nhcb;
        or_inherit(&mut self.convert_classic_histograms_to_nhcb, Some(convert));
        let classic = global.always_scrape_classic_histograms;
        or_inherit(&mut self.always_scrape_classic_histograms, Some(classic));

        // A job that sets only the validation scheme does not inherit an escaping that contradicts it.
        let escaping = match self.metric_name_validation_scheme {
            None => global.metric_name_escaping_scheme,
            Some(scheme) => Some(escaping_for(scheme)),
        };
        or_inherit(&mut self.metric_name_validation_scheme, global.metric_name_validation_scheme);
        or_inherit(&mut self.metric_name_escaping_scheme, escaping);
    }

    /// Whether native histograms are read, once defaults are applied.
    pub fn native_histograms(&self) -> bool {
        self.scrape_native_histograms == Some(true)
    }

    /// The names that are valid, once defaults are applied.
    pub fn name_validation(&self) -> NameValidation {
        self.metric_name_validation_scheme.unwrap_or_default()
    }

    /// The escaping that the target is asked for, once defaults are applied.
    pub fn escaping(&self) -> EscapingScheme {
        self.metric_name_escaping_scheme.unwrap_or_else(|| escaping_for(self.name_validation()))
    }
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            params: QueryParams::default(),
            scrape_interval: PromDuration::default(),
            scrape_timeout: PromDuration::default(),
            scrape_protocols: None,
            fallback_scrape_protocol: None,
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            scrape_failure_log_file: PathBuf::new(),
            metrics_path: METRICS_PATH.to_owned(),
            scheme: HTTP.to_owned(),
            enable_compression: true,
            body_size_limit: ByteSize::default(),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: 0.0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: None,
            extra_scrape_metrics: None,
            le_format: LeFormat::default(),
            gateway: GatewayConfig::default(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            http: HttpClientConfig::default(),
        }
    }
}

impl GlobalConfig {
    /// The names of the keys that belong to this block.
    pub const KEYS: &'static [&'static str] = &[
        "scrape_interval",
        "scrape_timeout",
        "scrape_protocols",
        "scrape_failure_log_file",
        "body_size_limit",
        "sample_limit",
        "target_limit",
        "label_limit",
        "label_name_length_limit",
        "label_value_length_limit",
        "keep_dropped_targets",
        "metric_name_validation_scheme",
        "metric_name_escaping_scheme",
        "scrape_native_histograms",
        "convert_classic_histograms_to_nhcb",
        "always_scrape_classic_histograms",
        "extra_scrape_metrics",
    ];

    /// Fills what is left open with Prometheus' defaults.
    pub fn apply_defaults(&mut self) {
        or_inherit(&mut self.scrape_interval, PromDuration::from_secs(60));
        or_inherit(&mut self.scrape_timeout, PromDuration::from_secs(10).min(self.scrape_interval));
        or_inherit(&mut self.metric_name_validation_scheme, Some(NameValidation::Utf8));
        let scheme = self.metric_name_validation_scheme.unwrap_or_default();
        or_inherit(&mut self.metric_name_escaping_scheme, Some(escaping_for(scheme)));
        or_inherit(&mut self.scrape_native_histograms, Some(false));
    }

    /// Makes every relative path one below `base_dir`.
    pub fn resolve_paths(&mut self, base_dir: &Path) {
        resolve_path(&mut self.scrape_failure_log_file, base_dir);
    }
}

impl Default for GlobalConfig {
    /// Nothing said: everything is left to [`apply_defaults`](Self::apply_defaults).
    fn default() -> Self {
        Self {
            scrape_interval: PromDuration::default(),
            scrape_timeout: PromDuration::default(),
            scrape_protocols: None,
            scrape_failure_log_file: PathBuf::new(),
            body_size_limit: ByteSize::default(),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: None,
            scrape_native_histograms: None,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: None,
        }
    }
}

impl ConfigError {
    /// An error at this path.
    pub fn new<K: Into<String>>(path: impl IntoIterator<Item = K>, message: impl Into<String>) -> Self {
        Self { path: path.into_iter().map(Into::into).collect(), message: message.into() }
    }

    /// The same error as seen from the block that holds this one under `key`.
    #[must_use]
    pub fn within(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }
}

const METRICS_PATH: &str = "/metrics";
const HTTP: &str = "http";

/// What a target is asked for where only the validation scheme is said (`config.go` `ScrapeConfig.Validate`).
const fn escaping_for(scheme: NameValidation) -> EscapingScheme {
    match scheme {
        NameValidation::Legacy => EscapingScheme::Underscores,
        _ => EscapingScheme::AllowUtf8,
    }
}

impl From<promferry_relabel::ConfigError> for ConfigError {
    fn from(error: promferry_relabel::ConfigError) -> Self {
        Self { path: error.path, message: error.message }
    }
}

impl From<promferry_http_client::ConfigError> for ConfigError {
    fn from(error: promferry_http_client::ConfigError) -> Self {
        Self { path: error.path, message: error.message }
    }
}

/// Go's zero value is "not said".
fn or_inherit<T: PartialEq + Default>(own: &mut T, inherited: T) {
    if *own == T::default() {
        *own = inherited;
    }
}

fn resolve_path(path: &mut PathBuf, base_dir: &Path) {
    if !path.as_os_str().is_empty() && path.is_relative() {
        *path = base_dir.join(&*path);
    }
}

/// YAML's empty value is Go's zero value, also of what is on by default (go.yaml.in/yaml/v2 `decode.go`).
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Go's zero value would be a URL without a scheme, and every scrape would fail.
fn null_is_http<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_else(|| HTTP.to_owned()))
}

/// An empty text says nothing, as in Prometheus.
fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    use serde::de::IntoDeserializer;
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => T::deserialize(text.into_deserializer()).map(Some),
    }
}
