//! The protobuf exposition format, `io.prometheus.client.MetricFamily`, for targets that a test writes by hand.
//!
//! Field numbers follow Prometheus' `prompb/io/prometheus/client/metrics.proto` (3.16).

use crate::messages::{BucketSpan, Label};
use prost::Message;

/// A family with its metrics.
#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its HELP text.
    #[prost(string, tag = "2")]
    pub help: String,
    /// What its metrics are.
    #[prost(enumeration = "MetricType", tag = "3")]
    pub r#type: i32,
    /// Its metrics.
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
    /// Its unit.
    #[prost(string, tag = "5")]
    pub unit: String,
}

/// Types of a [`MetricFamily`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MetricType {
    /// Metrics with a counter.
    Counter = 0,
    /// Metrics with a gauge.
    Gauge = 1,
    /// Metrics with a summary.
    Summary = 2,
    /// Metrics with an untyped value.
    Untyped = 3,
    /// Metrics with a histogram.
    Histogram = 4,
    /// Metrics with a histogram whose counts may fall.
    GaugeHistogram = 5,
}

/// One metric of a family.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<Label>,
    /// Set in a gauge family.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Value>,
    /// Set in a counter family.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Counter>,
    /// Set in a summary family.
    #[prost(message, optional, tag = "4")]
    pub summary: Option<Summary>,
    /// Set in an untyped family.
    #[prost(message, optional, tag = "5")]
    pub untyped: Option<Value>,
    /// Milliseconds since the epoch, 0 for none.
    #[prost(int64, tag = "6")]
    pub timestamp_ms: i64,
    /// Set in a histogram family.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

/// The value of a gauge or an untyped metric.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Value {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
}

/// A counter.
#[derive(Clone, PartialEq, Message)]
pub struct Counter {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Its exemplar.
    #[prost(message, optional, tag = "2")]
    pub exemplar: Option<Exemplar>,
    /// When it began to count.
    #[prost(message, optional, tag = "3")]
    pub start_timestamp: Option<Timestamp>,
}

/// A summary.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// Observations.
    #[prost(uint64, tag = "1")]
    pub sample_count: u64,
    /// Their sum.
    #[prost(double, tag = "2")]
    pub sample_sum: f64,
    /// Its quantiles.
    #[prost(message, repeated, tag = "3")]
    pub quantile: Vec<Quantile>,
    /// When it began to count.
    #[prost(message, optional, tag = "4")]
    pub start_timestamp: Option<Timestamp>,
}

/// A quantile of a [`Summary`].
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Quantile {
    /// Which one, 0 to 1.
    #[prost(double, tag = "1")]
    pub quantile: f64,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
}

/// A histogram: classic (buckets), native (spans), or both.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Observations.
    #[prost(uint64, tag = "1")]
    pub sample_count: u64,
    /// Their sum.
    #[prost(double, tag = "2")]
    pub sample_sum: f64,
    /// Classic buckets.
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    /// Observations of a float histogram.
    #[prost(double, tag = "4")]
    pub sample_count_float: f64,
    /// −4..=8.
    #[prost(sint32, tag = "5")]
    pub schema: i32,
    /// Breadth of the zero bucket.
    #[prost(double, tag = "6")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    #[prost(uint64, tag = "7")]
    pub zero_count: u64,
    /// The same of a float histogram.
    #[prost(double, tag = "8")]
    pub zero_count_float: f64,
    /// Spans of the negative buckets.
    #[prost(message, repeated, tag = "9")]
    pub negative_span: Vec<BucketSpan>,
    /// Negative buckets of an integer histogram.
    #[prost(sint64, repeated, tag = "10")]
    pub negative_delta: Vec<i64>,
    /// Negative buckets of a float histogram.
    #[prost(double, repeated, tag = "11")]
    pub negative_count: Vec<f64>,
    /// Spans of the positive buckets.
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    /// Positive buckets of an integer histogram.
    #[prost(sint64, repeated, tag = "13")]
    pub positive_delta: Vec<i64>,
    /// Positive buckets of a float histogram.
    #[prost(double, repeated, tag = "14")]
    pub positive_count: Vec<f64>,
    /// When it began to count.
    #[prost(message, optional, tag = "15")]
    pub start_timestamp: Option<Timestamp>,
    /// Exemplars of a native histogram.
    #[prost(message, repeated, tag = "16")]
    pub exemplars: Vec<Exemplar>,
}

/// A classic bucket.
#[derive(Clone, PartialEq, Message)]
pub struct Bucket {
    /// Observations up to the bound.
    #[prost(uint64, tag = "1")]
    pub cumulative_count: u64,
    /// The bound, included.
    #[prost(double, tag = "2")]
    pub upper_bound: f64,
    /// Its exemplar.
    #[prost(message, optional, tag = "3")]
    pub exemplar: Option<Exemplar>,
    /// Observations of a float histogram.
    #[prost(double, tag = "4")]
    pub cumulative_count_float: f64,
}

/// An exemplar.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<Label>,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// When it was observed.
    #[prost(message, optional, tag = "3")]
    pub timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Seconds since the epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds of the second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
