mod lasting_limits;
mod redacted;

use std::collections::BTreeMap;
use std::time::Duration;

use promferry_model::PromDuration;
use promferry_relabel::RelabelConfig;
use serde::{Deserialize, Deserializer};

use crate::Protocol;

pub use lasting_limits::LastingLimitsConfig;
pub(crate) use redacted::{host as shown_host, secrets as secrets_of_url, url as shown_url};

/// One entry of Prometheus' `remote_write`, without the keys of `http_config` and of signing, which belong
/// to other crates.
///
/// A key without a value has Go's zero value, as in Prometheus 3.16, where that can work. `Debug` shows neither
/// a password in the URL nor the values of headers.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteWriteConfig {
    /// Where requests go.
    #[serde(deserialize_with = "null_default")]
    pub url: String,
    /// What the endpoint is called in metrics, logs and the spool; unset means the URL.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// Headers sent along; reserved ones are refused.
    #[serde(deserialize_with = "null_default")]
    pub headers: BTreeMap<String, String>,
    /// Relabelling of what goes to this endpoint alone, after the external labels were added.
    #[serde(deserialize_with = "null_default")]
    pub write_relabel_configs: Vec<RelabelConfig>,
    /// How long one attempt may take (30 s, also without a value). Prometheus accepts zero and then no attempt
    /// comes to an answer; here zero is refused.
    #[serde(deserialize_with = "null_is_default_timeout")]
    pub remote_timeout: PromDuration,
    /// Which message is sent; unset means 1.0.
    pub protobuf_message: ProtobufMessage,
    /// Whether 1.0 is sent where 2.0 is configured and refused (yes). Not one of Prometheus' keys: it never does that.
    #[serde(deserialize_with = "null_is_true")]
    pub protobuf_fallback: bool,
    /// Whether exemplars are sent along (no).
    #[serde(deserialize_with = "null_default")]
    pub send_exemplars: bool,
    /// Whether native histograms are sent over 1.0 (no); 2.0 always sends them.
    #[serde(deserialize_with = "null_default")]
    pub send_native_histograms: bool,
    /// Resolving the host at each connection and taking its addresses in turn (no).
    #[serde(deserialize_with = "null_default")]
    pub round_robin_dns: bool,
    /// How much is sent at once, how often and how many at a time. Without a value all is zero, which is refused.
    #[serde(deserialize_with = "null_is_zero_queue")]
    pub queue_config: QueueConfig,
    /// Whether and how often 1.0's metadata requests are sent. Without a value all is zero: none are sent.
    #[serde(deserialize_with = "null_is_zero_metadata")]
    pub metadata_config: MetadataConfig,
    /// What becomes of series that the endpoint does not take. Not one of Prometheus' keys: it drops them.
    #[serde(deserialize_with = "null_default")]
    pub lasting_limits: LastingLimitsConfig,
    /// How many series the endpoint takes at once, 0 for any number: from 80 % on there are warnings that name
    /// the jobs with the most. Nothing is dropped for it. Not one of Prometheus' keys.
    #[serde(deserialize_with = "null_default")]
    pub active_series_limit: u64,
    /// How many samples a second the endpoint takes, 0 for any number: from 80 % on, as a mean over a minute,
    /// there are warnings that name the jobs with the most. Nothing is dropped for it. Not one of Prometheus'
    /// keys.
    #[serde(deserialize_with = "null_default")]
    pub samples_per_second_limit: u64,
}

/// Prometheus' `protobuf_message`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub enum ProtobufMessage {
    /// Remote write 1.0.
    #[default]
    #[serde(rename = "prometheus.WriteRequest")]
    V1,
    /// Remote write 2.0; 1.0 when the endpoint refuses it for that, unless
    /// [`protobuf_fallback`](RemoteWriteConfig::protobuf_fallback) forbids it.
    #[serde(rename = "io.prometheus.write.v2.Request")]
    V2,
    /// Whichever of both the endpoint takes, 2.0 before 1.0. Not one of Prometheus' values.
    #[serde(rename = "auto")]
    Auto,
}

/// Prometheus' `queue_config`, with its defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Samples that are read ahead from the spool for each shard, about (10,000).
    #[serde(deserialize_with = "null_default")]
    pub capacity: usize,
    /// The most requests in flight at once (50; more than the 64 lanes are of no use).
    #[serde(deserialize_with = "null_default")]
    pub max_shards: usize,
    /// The fewest shards, and how many there are at start (1).
    #[serde(deserialize_with = "null_default")]
    pub min_shards: usize,
    /// The most samples and histograms in a request (2,000).
    #[serde(deserialize_with = "null_default")]
    pub max_samples_per_send: usize,
    /// How long the first waiting sample waits for others (5 s).
    #[serde(deserialize_with = "null_default")]
    pub batch_send_deadline: PromDuration,
    /// The first pause after a failed attempt (30 ms); each further one doubles.
    #[serde(deserialize_with = "null_default")]
    pub min_backoff: PromDuration,
    /// The longest pause between attempts (5 s).
    #[serde(deserialize_with = "null_default")]
    pub max_backoff: PromDuration,
    /// Accepted for compatibility: 429 is always retried here.
    #[serde(deserialize_with = "null_default")]
    pub retry_on_http_429: bool,
    /// Samples older than this are dropped and counted; 0 means no limit. Unset it is 55 minutes towards Amazon
    /// Managed Service for Prometheus and no limit elsewhere: see [`RemoteWriteConfig::sample_age_limit`].
    #[serde(deserialize_with = "null_is_off")]
    pub sample_age_limit: Option<PromDuration>,
}

/// Prometheus' `metadata_config`, with its defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetadataConfig {
    /// Whether metadata is sent (yes).
    #[serde(deserialize_with = "null_default")]
    pub send: bool,
    /// How often (1 minute).
    #[serde(deserialize_with = "null_default")]
    pub send_interval: PromDuration,
    /// The most entries in a request (2,000).
    #[serde(deserialize_with = "null_default")]
    pub max_samples_per_send: usize,
}

/// An option that cannot be, by its key path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.join("."))]
pub struct ConfigError {
    /// The keys from the entry to the option, list positions as numbers.
    pub path: Vec<String>,
    /// What is wrong with it and what it should be.
    pub message: String,
}

/// Headers that requests carry for the protocol or that signing and authentication set
/// (Prometheus 3.16 config/config.go `reservedHeaders`).
const RESERVED_HEADERS: [&str; 17] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// AMP refuses samples older than an hour (`greater_than_max_sample_age`); what is sent at 55 minutes has time
/// to be tried again.
const AMP_SAMPLE_AGE_LIMIT: Duration = Duration::from_secs(55 * 60);

impl RemoteWriteConfig {
    /// The keys that belong here; an entry's other keys are `http_config`'s and signing's.
    pub const KEYS: &'static [&'static str] = &[
        "url",
        "name",
        "headers",
        "write_relabel_configs",
        "remote_timeout",
        "protobuf_message",
        "protobuf_fallback",
        "send_exemplars",
        "send_native_histograms",
        "round_robin_dns",
        "queue_config",
        "metadata_config",
        "lasting_limits",
        "active_series_limit",
        "samples_per_second_limit",
    ];

    /// What the endpoint is known by, in metrics, logs and the spool: its name, else its URL without what may
    /// be secret in it. Where something was left out, eight digits of a hash of the user and the query follow,
    /// so that endpoints that differ only there are told apart.
    pub fn key(&self) -> String {
        if self.name.is_empty() { redacted::key(&self.url) } else { self.name.clone() }
    }

    /// Where the endpoint is, fit to be shown: without user and password, the values of its query hidden.
    pub fn shown_url(&self) -> String {
        redacted::url(&self.url)
    }

    /// Whether the URL is one of Amazon Managed Service for Prometheus, in any region and partition, by way of
    /// an interface endpoint too.
    pub fn is_amp(&self) -> bool {
        let Ok(url) = self.url.parse::<http::Uri>() else { return false };
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        let of_aws =
            [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().any(|domain| host.ends_with(domain));
        of_aws && host.split('.').any(|label| matches!(label, "aps-workspaces" | "aps-workspaces-fips"))
    }

    /// How old a sample may be when it is sent: `queue_config.sample_age_limit` where it is set, else 55
    /// minutes towards AMP, which refuses what is older than an hour. `None` means any age.
    pub fn sample_age_limit(&self) -> Option<Duration> {
        let unset = if self.is_amp() { AMP_SAMPLE_AGE_LIMIT } else { Duration::ZERO };
        let limit = self.queue_config.sample_age_limit.map_or(unset, PromDuration::as_std);
        (!limit.is_zero()).then_some(limit)
    }

    /// The message that is sent as long as the endpoint does not refuse it; what is stored is of this message.
    pub const fn protocol(&self) -> Protocol {
        match self.protobuf_message {
            ProtobufMessage::V1 => Protocol::V1,
            ProtobufMessage::V2 | ProtobufMessage::Auto => Protocol::V2,
        }
    }

    /// Checks what the types alone don't say.
    ///
    /// # Errors
    /// The first option that cannot be. A URL that cannot be reached, or that has an odd scheme, is no error
    /// here: it fails when it is used, as in Prometheus.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at = |path: &[&str], message: String| {
            Err(ConfigError { path: path.iter().map(ToString::to_string).collect(), message })
        };
        if self.url.is_empty() {
            return at(&["url"], "remote_write needs a url".to_owned());
        }
        for name in self.headers.keys() {
            let lower = name.to_ascii_lowercase();
            if lower == "authorization" {
                let message =
                    "authorization is set by basic_auth, authorization, oauth2 or sigv4, not by headers";
                return at(&["headers", name], message.to_owned());
            }
            if RESERVED_HEADERS.contains(&lower.as_str()) {
                return at(&["headers", name], format!("{name} is a reserved header and can't be set here"));
            }
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return at(&["headers", name], format!("{name:?} is not a header name"));
            }
        }
        if self.protobuf_message == ProtobufMessage::Auto && !self.protobuf_fallback {
            let message =
                "has to be true with protobuf_message: auto, which is to find out which message is taken";
            return at(&["protobuf_fallback"], message.to_owned());
        }
        if self.remote_timeout.is_zero() {
            let message = "has to be longer than 0s: no request is answered in no time";
            return at(&["remote_timeout"], message.to_owned());
        }
        let queue = &self.queue_config;
        for (key, value) in [
            ("max_shards", queue.max_shards),
            ("min_shards", queue.min_shards),
            ("max_samples_per_send", queue.max_samples_per_send),
            ("capacity", queue.capacity),
        ] {
            if value == 0 {
                return at(&["queue_config", key], format!("{key} has to be at least 1"));
            }
        }
        if queue.min_shards > queue.max_shards {
            let message =
                format!("min_shards {} is more than max_shards {}", queue.min_shards, queue.max_shards);
            return at(&["queue_config", "min_shards"], message);
        }
        if queue.min_backoff > queue.max_backoff {
            let message =
                format!("min_backoff {} is more than max_backoff {}", queue.min_backoff, queue.max_backoff);
            return at(&["queue_config", "min_backoff"], message);
        }
        for (key, value) in [
            ("probe_interval", self.lasting_limits.probe_interval),
            ("hold_out", self.lasting_limits.hold_out),
        ] {
            if value.is_zero() {
                return at(&["lasting_limits", key], "has to be longer than 0s".to_owned());
            }
        }
        let metadata = &self.metadata_config;
        if metadata.send && metadata.max_samples_per_send == 0 {
            return at(&["metadata_config", "max_samples_per_send"], "has to be at least 1".to_owned());
        }
        if metadata.send && metadata.send_interval.is_zero() {
            return at(&["metadata_config", "send_interval"], "has to be longer than 0s".to_owned());
        }
        Ok(())
    }
}

impl Default for RemoteWriteConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            name: String::new(),
            headers: BTreeMap::new(),
            write_relabel_configs: Vec::new(),
            remote_timeout: PromDuration::from_secs(30),
            protobuf_message: ProtobufMessage::V1,
            protobuf_fallback: true,
            send_exemplars: false,
            send_native_histograms: false,
            round_robin_dns: false,
            queue_config: QueueConfig::default(),
            metadata_config: MetadataConfig::default(),
            lasting_limits: LastingLimitsConfig::default(),
            active_series_limit: 0,
            samples_per_second_limit: 0,
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2000,
            batch_send_deadline: PromDuration::from_secs(5),
            min_backoff: PromDuration::from_millis(30),
            max_backoff: PromDuration::from_secs(5),
            retry_on_http_429: false,
            sample_age_limit: None,
        }
    }
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self { send: true, send_interval: PromDuration::from_secs(60), max_samples_per_send: 2000 }
    }
}

/// YAML's `key:` without a value is Go's zero value (go.yaml.in/yaml/v2 `decode.go`).
fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn null_is_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(true))
}

/// Without a value the limit is Go's zero: off, also towards AMP.
fn null_is_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PromDuration>, D::Error> {
    null_default(deserializer).map(Some)
}

fn null_is_default_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PromDuration, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(|| RemoteWriteConfig::default().remote_timeout))
}

fn null_is_zero_queue<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QueueConfig, D::Error> {
    let zero = PromDuration::from_millis(0);
    Ok(Option::deserialize(deserializer)?.unwrap_or(QueueConfig {
        capacity: 0,
        max_shards: 0,
        min_shards: 0,
        max_samples_per_send: 0,
        batch_send_deadline: zero,
        min_backoff: zero,
        max_backoff: zero,
        retry_on_http_429: false,
        sample_age_limit: Some(zero),
    }))
}

fn null_is_zero_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MetadataConfig, D::Error> {
    let zero =
        MetadataConfig { send: false, send_interval: PromDuration::from_millis(0), max_samples_per_send: 0 };
    Ok(Option::deserialize(deserializer)?.unwrap_or(zero))
}
