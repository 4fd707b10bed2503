use smol_str::SmolStr;

use crate::{Label, Labels, Timestamp};

/// The bits of the value that ends a series (Prometheus `model/value` `StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
/// The bits of every other not-a-number that Prometheus writes (`NormalNaN`).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Whether `value` is the marker that ends a series. Other not-a-numbers are ordinary values.
pub const fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One value of a series at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When the value was observed.
    pub timestamp: Timestamp,
    /// The value; compare by bits, since NaNs differ in meaning.
    pub value: f64,
    /// Since when a cumulative value has been counted, if the target says so.
    pub start: Option<Timestamp>,
}

impl Sample {
    /// A value without a start time.
    pub const fn new(timestamp: Timestamp, value: f64) -> Self {
        Self { timestamp, value, start: None }
    }

    /// The marker that ends a series at `timestamp`.
    pub const fn stale(timestamp: Timestamp) -> Self {
        Self::new(timestamp, f64::from_bits(STALE_NAN_BITS))
    }
}

/// An example of what a sample counted, with labels that say where to find it (a trace id, say). Owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its labels.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub timestamp: Timestamp,
}

/// An [`Exemplar`] that borrows its labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExemplarView<'a> {
    /// Its labels, sorted by unique names.
    pub labels: &'a [Label],
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub timestamp: Timestamp,
}

/// What kind of metric a family is (OpenMetrics 1.0, "Metric Types"; Prometheus' words).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum MetricType {
    /// Not said (text's `untyped`).
    #[default]
    Unknown,
    /// Only grows, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
    /// Buckets whose counts go up and down.
    GaugeHistogram,
    /// Quantiles, count and sum.
    Summary,
    /// Facts about the target as labels.
    Info,
    /// Which of several states hold.
    StateSet,
}

impl MetricType {
    /// The word of OpenMetrics and of Prometheus' metadata API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// What a target says about a metric family. Owned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// The family's name as its metadata lines write it (OpenMetrics counters without `_total`).
    pub family: SmolStr,
    /// The family's type.
    pub metric_type: MetricType,
    /// The unit, empty if not said.
    pub unit: SmolStr,
    /// The help text, empty if not said.
    pub help: SmolStr,
}

/// A [`Metadata`] that borrows its texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MetadataView<'a> {
    /// The family's name as its metadata lines write it.
    pub family: &'a str,
    /// The family's type.
    pub metric_type: MetricType,
    /// The unit, empty if not said.
    pub unit: &'a str,
    /// The help text, empty if not said.
    pub help: &'a str,
}

impl From<MetadataView<'_>> for Metadata {
    fn from(view: MetadataView<'_>) -> Self {
        Self {
            family: view.family.into(),
            metric_type: view.metric_type,
            unit: view.unit.into(),
            help: view.help.into(),
        }
    }
}
