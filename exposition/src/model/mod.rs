//! Pages as owned data: families, their metrics, and these at each point of time (the data model of OpenMetrics
//! 1.0). For those who want data rather than speed.

mod collect;
mod equality;
pub(crate) mod kept;
#[cfg(feature = "openmetrics2")]
mod kept_by_openmetrics2;
#[cfg(feature = "serde")]
mod labels_map;
mod read;

#[cfg(feature = "serde")]
use promferry_model::serde_f64;
use promferry_model::{Histogram, Labels, MetricType, Timestamp};

pub use read::{ReadError, read_families};

/// A metric family with all that a page says of it. Owned; equal by the bits of its numbers, not-a-number included.
///
/// What [`read_families`] gives has points of the family's type: [`PointValue::Histogram`] for histograms and gauge
/// histograms, [`PointValue::Summary`] for summaries, [`PointValue::Number`] for all others. The writers refuse any
/// other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct MetricFamily {
    /// The name without the suffix of the type: for the series `http_requests_total` of a counter and
    /// `target_info` of an info it is `http_requests` and `target`.
    pub name: String,
    /// The type.
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub metric_type: MetricType,
    /// Whether the series of a counter or info carry the suffix of their type, `_total` or `_info`; false for all
    /// other types. The text format and protobuf allow counters without; OpenMetrics does not.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub suffixed: bool,
    /// The unit, empty if not said.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "String::is_empty"))]
    pub unit: String,
    /// The help text without escapes, empty if not said.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "String::is_empty"))]
    pub help: String,
    /// The metrics, told apart by their labels.
    pub metrics: Vec<Metric>,
}

/// One metric of a family: its labels and its points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Metric {
    /// The labels without the metric's name and, in histograms and summaries, without `le` and `quantile`.
    #[cfg_attr(feature = "serde", serde(default, with = "labels_map"))]
    pub labels: Labels,
    /// The points in the order of the page; one on most pages.
    pub points: Vec<MetricPoint>,
}

/// A metric at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct MetricPoint {
    /// The value or values.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub value: PointValue,
    /// The time that the page itself gives them.
    #[cfg_attr(
        feature = "serde",
        serde(default, rename = "timestamp_ms", skip_serializing_if = "Option::is_none")
    )]
    pub timestamp: Option<Timestamp>,
    /// Since when a cumulative value has been counted, if the page says so and
    /// [`ParseOptions::parse_start_timestamps`](crate::ParseOptions::parse_start_timestamps) was set.
    #[cfg_attr(
        feature = "serde",
        serde(default, rename = "start_ms", skip_serializing_if = "Option::is_none")
    )]
    pub start: Option<Timestamp>,
    /// The exemplars but for those of a classic histogram's buckets, which the buckets hold.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub exemplars: Vec<Exemplar>,
}

/// The value of a [`MetricPoint`]. Equal by bits.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum PointValue {
    /// Of a counter, gauge, info, state or a metric of unknown type.
    Number(#[cfg_attr(feature = "serde", serde(with = "serde_f64"))] f64),
    /// Of a summary.
    Summary(Box<SummaryValue>),
    /// Of a histogram or gauge histogram.
    Histogram(Box<HistogramValue>),
}

/// The values of a summary. Equal by bits.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct SummaryValue {
    /// All observations (`_count`), if the page says so.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "serde_f64::option", skip_serializing_if = "Option::is_none")
    )]
    pub count: Option<f64>,
    /// Their sum (`_sum`), if the page says so.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "serde_f64::option", skip_serializing_if = "Option::is_none")
    )]
    pub sum: Option<f64>,
    /// The quantiles in the order of the page.
    #[cfg_attr(feature = "serde", serde(default))]
    pub quantiles: Vec<Quantile>,
}

/// A quantile of a [`SummaryValue`]. Equal by bits.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Quantile {
    /// Which one, 0 to 1.
    #[cfg_attr(feature = "serde", serde(with = "serde_f64"))]
    pub quantile: f64,
    /// Its value.
    #[cfg_attr(feature = "serde", serde(with = "serde_f64"))]
    pub value: f64,
}

/// The values of a histogram: of a classic one, of a native one or of both in one. Equal by bits.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct HistogramValue {
    /// All observations (`_count` or, of gauge histograms, `_gcount`), if the classic part says so.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "serde_f64::option", skip_serializing_if = "Option::is_none")
    )]
    pub count: Option<f64>,
    /// Their sum (`_sum` or `_gsum`), if the classic part says so.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "serde_f64::option", skip_serializing_if = "Option::is_none")
    )]
    pub sum: Option<f64>,
    /// The classic buckets in the order of the page, counts cumulative.
    #[cfg_attr(feature = "serde", serde(default))]
    pub buckets: Vec<Bucket>,
    /// The native histogram, with a count and sum of its own.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub native: Option<Box<Histogram>>,
}

/// A classic bucket. Equal by bits.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Bucket {
    /// The greatest value that is counted (`le`).
    #[cfg_attr(feature = "serde", serde(with = "serde_f64"))]
    pub upper_bound: f64,
    /// Observations up to the bound, those of lower buckets included.
    #[cfg_attr(feature = "serde", serde(with = "serde_f64"))]
    pub cumulative_count: f64,
    /// An example of the observations.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub exemplar: Option<Box<Exemplar>>,
}

/// An example of what a value counted, with labels that say where to find it. Equal by bits.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Exemplar {
    /// Its labels, without escapes.
    #[cfg_attr(feature = "serde", serde(default, with = "labels_map"))]
    pub labels: Labels,
    /// The observed value.
    #[cfg_attr(feature = "serde", serde(with = "serde_f64"))]
    pub value: f64,
    /// When it was observed, if the page says so.
    #[cfg_attr(
        feature = "serde",
        serde(default, rename = "timestamp_ms", skip_serializing_if = "Option::is_none")
    )]
    pub timestamp: Option<Timestamp>,
}

impl From<PointValue> for MetricPoint {
    fn from(value: PointValue) -> Self {
        Self { value, timestamp: None, start: None, exemplars: Vec::new() }
    }
}

impl PointValue {
    /// Whether no format has anything to write of it.
    pub(crate) const fn is_empty(&self) -> bool {
        match self {
            Self::Number(_) => false,
            Self::Summary(summary) => {
                summary.quantiles.is_empty() && summary.sum.is_none() && summary.count.is_none()
            }
            Self::Histogram(histogram) => {
                histogram.buckets.is_empty()
                    && histogram.sum.is_none()
                    && histogram.count.is_none()
                    && histogram.native.is_none()
            }
        }
    }
}

impl From<f64> for PointValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<SummaryValue> for PointValue {
    fn from(value: SummaryValue) -> Self {
        Self::Summary(Box::new(value))
    }
}

impl From<HistogramValue> for PointValue {
    fn from(value: HistogramValue) -> Self {
        Self::Histogram(Box::new(value))
    }
}

/// The ending of the names of a type's series where OpenMetrics wants one.
pub(crate) const fn type_suffix(metric_type: MetricType) -> Option<&'static str> {
    match metric_type {
        MetricType::Counter => Some("_total"),
        MetricType::Info => Some("_info"),
        _ => None,
    }
}
