//! Pages as owned data: families, their metrics, and these at each point of time (the data model of OpenMetrics
//! 1.0). For those who want data rather than speed.

mod collect;
mod equality;
pub(crate) mod kept;
mod read;

use promferry_model::{Histogram, Labels, MetricType, Timestamp};

pub use read::{ReadError, read_families};

/// A metric family with all that a page says of it. Owned; equal by the bits of its numbers, not-a-number included.
///
/// What [`read_families`] gives has points of the family's type: [`PointValue::Histogram`] for histograms and gauge
/// histograms, [`PointValue::Summary`] for summaries, [`PointValue::Number`] for all others. The writers refuse any
/// other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricFamily {
    /// The name without the suffix of the type: for the series `http_requests_total` of a counter and
    /// `target_info` of an info it is `http_requests` and `target`.
    pub name: String,
    /// The type.
    pub metric_type: MetricType,
    /// Whether the series of a counter or info carry the suffix of their type, `_total` or `_info`; false for all
    /// other types. The text format and protobuf allow counters without; OpenMetrics does not.
    pub suffixed: bool,
    /// The unit, empty if not said.
    pub unit: String,
    /// The help text without escapes, empty if not said.
    pub help: String,
    /// The metrics, told apart by their labels.
    pub metrics: Vec<Metric>,
}

/// One metric of a family: its labels and its points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    /// The labels without the metric's name and, in histograms and summaries, without `le` and `quantile`.
    pub labels: Labels,
    /// The points in the order of the page; one on most pages.
    pub points: Vec<MetricPoint>,
}

/// A metric at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricPoint {
    /// The value or values.
    pub value: PointValue,
    /// The time that the page itself gives them.
    pub timestamp: Option<Timestamp>,
    /// Since when a cumulative value has been counted, if the page says so and
    /// [`ParseOptions::parse_start_timestamps`](crate::ParseOptions::parse_start_timestamps) was set.
    pub start: Option<Timestamp>,
    /// The exemplars but for those of a classic histogram's buckets, which the buckets hold.
    pub exemplars: Vec<Exemplar>,
}

/// The value of a [`MetricPoint`]. Equal by bits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PointValue {
    /// Of a counter, gauge, info, state or a metric of unknown type.
    Number(f64),
    /// Of a summary.
    Summary(Box<SummaryValue>),
    /// Of a histogram or gauge histogram.
    Histogram(Box<HistogramValue>),
}

/// The values of a summary. Equal by bits.
#[derive(Clone, Debug, Default)]
pub struct SummaryValue {
    /// All observations (`_count`), if the page says so.
    pub count: Option<f64>,
    /// Their sum (`_sum`), if the page says so.
    pub sum: Option<f64>,
    /// The quantiles in the order of the page.
    pub quantiles: Vec<Quantile>,
}

/// A quantile of a [`SummaryValue`]. Equal by bits.
#[derive(Clone, Copy, Debug)]
pub struct Quantile {
    /// Which one, 0 to 1.
    pub quantile: f64,
    /// Its value.
    pub value: f64,
}

/// The values of a histogram: of a classic one, of a native one or of both in one. Equal by bits.
#[derive(Clone, Debug, Default)]
pub struct HistogramValue {
    /// All observations (`_count` or, of gauge histograms, `_gcount`), if the classic part says so.
    pub count: Option<f64>,
    /// Their sum (`_sum` or `_gsum`), if the classic part says so.
    pub sum: Option<f64>,
    /// The classic buckets in the order of the page, counts cumulative.
    pub buckets: Vec<Bucket>,
    /// The native histogram, with a count and sum of its own.
    pub native: Option<Box<Histogram>>,
}

/// A classic bucket. Equal by bits.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The greatest value that is counted (`le`).
    pub upper_bound: f64,
    /// Observations up to the bound, those of lower buckets included.
    pub cumulative_count: f64,
    /// An example of the observations.
    pub exemplar: Option<Box<Exemplar>>,
}

/// An example of what a value counted, with labels that say where to find it. Equal by bits.
#[derive(Clone, Debug)]
pub struct Exemplar {
    /// Its labels, without escapes.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed, if the page says so.
    pub timestamp: Option<Timestamp>,
}

impl From<PointValue> for MetricPoint {
    fn from(value: PointValue) -> Self {
        Self { value, timestamp: None, start: None, exemplars: Vec::new() }
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
