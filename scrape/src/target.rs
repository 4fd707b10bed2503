//! What discovery and relabelling make of a target.

pub(crate) mod gateway;
mod url;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use promferry_http_client::OriginHeader;
use promferry_model::{DurationError, Label, Labels, LabelsBuilder, PromDuration, hash_labels};
use smol_str::{SmolStr, format_smolstr};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::gateway::Served;
pub(crate) use self::url::escaped;
use crate::ScrapeConfig;

/// One thing to scrape: where it is, how often, and which labels its series carry.
///
/// Made by [`populate`](Self::populate) from what discovery says, as Prometheus 3.16 does
/// (`scrape/target.go`).
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    labels: Labels,
    public_labels: Labels,
    url: String,
    scrape_interval: Duration,
    scrape_timeout: Duration,
    native_histograms: bool,
    always_classic_histograms: bool,
    converts_classic_histograms: bool,
    identity: u64,
    /// Present where relabelling says so.
    served: Option<Box<Served>>,
    ignored_gateway_labels: bool,
}

/// Why a target cannot be scraped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// `__address__` is empty after relabelling.
    #[error("no address: __address__ is empty after relabelling")]
    NoAddress,
    /// `__address__` is more than host and port; shown without a query.
    #[error("{0:?} is not a valid hostname: scheme and path belong to scheme and metrics_path")]
    AddressWithPath(SmolStr),
    /// `__scrape_interval__` or `__scrape_timeout__` is not a duration.
    #[error("error parsing {label}: {error}")]
    Duration {
        /// Which label.
        label: &'static str,
        /// What is wrong with its value.
        error: DurationError,
    },
    /// `__scrape_interval__` or `__scrape_timeout__` is zero.
    #[error("{label} cannot be 0")]
    ZeroDuration {
        /// Which label.
        label: &'static str,
    },
    /// The timeout is longer than the interval.
    #[error("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})")]
    TimeoutExceedsInterval {
        /// `__scrape_timeout__`.
        timeout: SmolStr,
        /// `__scrape_interval__`.
        interval: SmolStr,
    },
    /// A label that switches histograms is not a truth value.
    #[error("error parsing {label}: {value:?} is neither true nor false")]
    Bool {
        /// Which label.
        label: &'static str,
        /// Its value.
        value: SmolStr,
    },
    /// `__host__` or a `__header_…` cannot be used.
    #[error("{label}: {reason}")]
    Gateway {
        /// Which label.
        label: SmolStr,
        /// What is wrong; a header's value is never shown.
        reason: String,
    },
    /// Judging it panicked.
    #[error("judging the target panicked, which is a fault of promferry's: please report it")]
    Panicked,
    /// The target asks for something that is not supported.
    #[error("{label} is not supported")]
    Unsupported {
        /// The label that asks for it.
        label: &'static str,
    },
}

/// The labels of a target as they are before relabelling: its own, its group's where it has none, and what
/// the job adds where both have none (`PopulateDiscoveredLabels`). The values of `__header_…` are hidden: only rules
/// set such headers.
pub fn discovered_labels(job: &ScrapeConfig, own: &Labels, group: &Labels) -> LabelsBuilder {
    let mut labels = LabelsBuilder::from(own);
    for Label { name, value } in group {
        if !own.has(name) {
            labels.set(name.clone(), value.clone());
        }
    }
    gateway::hide_discovered(&mut labels);
    let flag = |on: Option<bool>| SmolStr::new_static(if on == Some(true) { "true" } else { "false" });
    for (name, value) in [
        (JOB, SmolStr::from(&job.job_name)),
        (SCRAPE_INTERVAL, format_smolstr!("{}", job.scrape_interval)),
        (SCRAPE_TIMEOUT, format_smolstr!("{}", job.scrape_timeout)),
        (METRICS_PATH, SmolStr::from(&job.metrics_path)),
        (SCHEME, SmolStr::from(&job.scheme)),
        (CONVERT_CLASSIC, flag(job.convert_classic_histograms_to_nhcb)),
        (ALWAYS_CLASSIC, flag(job.always_scrape_classic_histograms)),
        (NATIVE_HISTOGRAMS, flag(job.scrape_native_histograms)),
    ] {
        if labels.get(name).is_empty() {
            labels.set(SmolStr::new_static(name), value);
        }
    }
    for (param, values) in job.params.iter() {
        if let Some(first) = values.first() {
            let name = format_smolstr!("{PARAM_PREFIX}{param}");
            if labels.get(&name).is_empty() {
                labels.set(name, first);
            }
        }
    }
    labels
}

impl Target {
    /// The target that these [`discovered_labels`] describe once `relabel` (the job's `relabel_configs`) has
    /// changed them. `None` when `relabel` drops it by answering `false`. What discovery says of `__host__` and
    /// `__header_…` is taken out before.
    ///
    /// # Errors
    /// [`TargetError`] when what is left of the labels cannot be scraped.
    pub fn populate(
        job: &ScrapeConfig,
        discovered: &LabelsBuilder,
        relabel: impl FnOnce(&mut LabelsBuilder) -> bool,
    ) -> Result<Option<Self>, TargetError> {
        let mut labels = discovered.clone();
        let ignored_gateway_labels = gateway::remove_discovered(&mut labels);
        if !relabel(&mut labels) {
            return Ok(None);
        }
        let address = SmolStr::from(labels.get(ADDRESS));
        if !labels.get(UNIX_SOCKET).is_empty() {
            return Err(TargetError::Unsupported { label: UNIX_SOCKET });
        }
        if address.is_empty() {
            return Err(TargetError::NoAddress);
        }
        if address.contains('/') {
            return Err(TargetError::AddressWithPath(without_query(&address).into()));
        }
        let interval = duration(&labels, SCRAPE_INTERVAL)?;
        let timeout = duration(&labels, SCRAPE_TIMEOUT)?;
        if timeout > interval {
            return Err(TargetError::TimeoutExceedsInterval {
                timeout: labels.get(SCRAPE_TIMEOUT).into(),
                interval: labels.get(SCRAPE_INTERVAL).into(),
            });
        }
        let converts_classic = go_bool(&labels, CONVERT_CLASSIC)?;
        let always_classic = go_bool(&labels, ALWAYS_CLASSIC)?;
        let native = go_bool(&labels, NATIVE_HISTOGRAMS)?;

        labels.retain(|label| !label.name.starts_with(META_PREFIX));
        if labels.get(INSTANCE).is_empty() {
            labels.set(SmolStr::new_static(INSTANCE), address);
        }
        let all_labels = labels.to_labels();
        let served = Served::take(&mut labels, &job.gateway.header_files)?;
        let labels_hash = hash_labels(&all_labels, 0);
        let labels = if served.is_some() { labels.to_labels() } else { all_labels };
        let url = target_url(&labels, &job.params);
        Ok(Some(Self {
            public_labels: labels
                .iter()
                .filter(|label| !label.name.starts_with(RESERVED_PREFIX))
                .map(|label| (label.name.clone(), label.value.clone()))
                .collect(),
            scrape_interval: interval.as_std(),
            scrape_timeout: timeout.as_std(),
            native_histograms: native.unwrap_or_else(|| job.native_histograms()),
            always_classic_histograms: always_classic
                .unwrap_or_else(|| job.always_scrape_classic_histograms == Some(true)),
            converts_classic_histograms: converts_classic
                .unwrap_or_else(|| job.convert_classic_histograms_to_nhcb == Some(true)),
            identity: xxh3_64_with_seed(url.as_bytes(), labels_hash),
            served: served.map(Box::new),
            ignored_gateway_labels,
            url,
            labels,
        }))
    }

    /// The labels that the target's series carry: those that do not start with `__`.
    pub fn public_labels(&self) -> &Labels {
        &self.public_labels
    }

    /// All labels after relabelling, without `__meta_…`.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The URL that is scraped.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL without its query, which may hold a token: for logs and error texts.
    pub fn url_without_query(&self) -> &str {
        without_query(&self.url)
    }

    /// How often the target is scraped.
    pub fn scrape_interval(&self) -> Duration {
        self.scrape_interval
    }

    /// How long one scrape may take.
    pub fn scrape_timeout(&self) -> Duration {
        self.scrape_timeout
    }

    /// Whether native histograms are read.
    pub fn native_histograms(&self) -> bool {
        self.native_histograms
    }

    /// Whether classic buckets are read even beside a native histogram.
    pub fn always_classic_histograms(&self) -> bool {
        self.always_classic_histograms
    }

    /// Whether classic histograms become native ones with custom buckets.
    pub fn converts_classic_histograms(&self) -> bool {
        self.converts_classic_histograms
    }

    /// Where its connection goes: host and port, in lower case. Targets of one address share what that address takes.
    pub fn connect_address(&self) -> SmolStr {
        gateway::connect_address(self.labels.get(SCHEME), self.labels.get(ADDRESS))
    }

    /// The host it is asked for where that is not the one it is connected to: `__host__`.
    pub fn host(&self) -> Option<&Authority> {
        self.served.as_ref()?.host.as_ref()
    }

    /// The headers that only it gets: `__header_…`.
    pub fn headers(&self) -> Option<&Arc<[OriginHeader]>> {
        self.served.as_ref()?.headers.as_ref()
    }

    /// The parameters of its query, as they were before they were escaped.
    pub(crate) fn query<'a>(
        &'a self,
        params: &'a BTreeMap<String, Vec<String>>,
    ) -> BTreeMap<&'a str, Vec<&'a str>> {
        query(&self.labels, params)
    }

    pub(crate) fn path(&self) -> &str {
        self.labels.get(METRICS_PATH)
    }

    /// Whether a Kubernetes API server passes its scrapes on.
    pub(crate) fn is_behind_api_server(&self) -> bool {
        gateway::is_api_server_proxy(self.path())
    }

    /// Whether discovery brought labels that only rules may set.
    pub(crate) fn ignores_gateway_labels(&self) -> bool {
        self.ignored_gateway_labels
    }

    /// A hash over all labels and the URL: targets of one identity are scraped once, and a change of it is
    /// another target. It is the same in every process.
    pub fn identity(&self) -> u64 {
        self.identity
    }
}

const JOB: &str = "job";
const INSTANCE: &str = "instance";
const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const SCRAPE_INTERVAL: &str = "__scrape_interval__";
const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";
const PARAM_PREFIX: &str = "__param_";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";
const UNIX_SOCKET: &str = "__unix_socket__";
const CONVERT_CLASSIC: &str = "__convert_classic_histograms_to_nhcb__";
const ALWAYS_CLASSIC: &str = "__always_scrape_classic_histograms__";
const NATIVE_HISTOGRAMS: &str = "__scrape_native_histograms__";

fn duration(labels: &LabelsBuilder, label: &'static str) -> Result<PromDuration, TargetError> {
    let duration: PromDuration =
        labels.get(label).parse().map_err(|error| TargetError::Duration { label, error })?;
    if duration.is_zero() { Err(TargetError::ZeroDuration { label }) } else { Ok(duration) }
}

/// Go's `strconv.ParseBool`; `None` where the label is absent.
fn go_bool(labels: &LabelsBuilder, label: &'static str) -> Result<Option<bool>, TargetError> {
    match labels.get(label) {
        "" => Ok(None),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        value => Err(TargetError::Bool { label, value: value.into() }),
    }
}

/// An address or a URL up to its query.
pub(crate) fn without_query(text: &str) -> &str {
    text.split('?').next().unwrap_or_default()
}

fn target_url(labels: &Labels, params: &BTreeMap<String, Vec<String>>) -> String {
    let (scheme, address, path) = (labels.get(SCHEME), labels.get(ADDRESS), labels.get(METRICS_PATH));
    url::join(scheme, address, path, &query(labels, params))
}

/// `__param_x` replaces the first value of the parameter `x`; what else the job says of it stays.
fn query<'a>(
    labels: &'a Labels,
    params: &'a BTreeMap<String, Vec<String>>,
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut query: BTreeMap<&str, Vec<&str>> = params
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()))
        .collect();
    for Label { name, value } in labels {
        if let Some(param) = name.strip_prefix(PARAM_PREFIX) {
            let values = query.entry(param).or_default();
            match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            }
        }
    }
    query
}
