//! Protobuf messages of remote write 1.0, remote write 2.0 and remote read, written by hand as prost structs.
//!
//! Field numbers follow Prometheus' `prompb/types.proto`, `prompb/remote.proto` and
//! `prompb/io/prometheus/write/v2/types.proto` (3.16). They are kept apart from the collector's own types, so that what the
//! collector encodes is checked by a second reading of the specification.

use prost::Message;

/// Remote write 1.0: `prometheus.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// Series with their samples.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    /// Metadata of metric families, which Prometheus sends in requests of their own.
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<MetricMetadata>,
}

/// One series of remote write 1.0 or of a remote-read answer.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// All labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Float samples in timestamp order.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Exemplars of the series.
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Exemplar>,
    /// Native histogram samples.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

/// A label.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Label {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A float sample; `start_timestamp` exists in remote write 2.0 only.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// The value; the stale marker is NaN with bits `0x7ff0000000000002`.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since the epoch.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    /// Milliseconds since the epoch, 0 for unknown.
    #[prost(int64, tag = "3")]
    pub start_timestamp: i64,
}

/// An exemplar of remote write 1.0.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Milliseconds since the epoch.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// A native histogram, the same in both versions of remote write.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Count of observations.
    #[prost(oneof = "Count", tags = "1, 2")]
    pub count: Option<Count>,
    /// Sum of observations.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// −4..=8, or −53 for custom buckets.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Breadth of the zero bucket.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub zero_count: Option<ZeroCount>,
    /// Spans of the negative buckets.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    /// Negative buckets as deltas (integer histograms).
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Negative buckets as counts (float histograms).
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    /// Spans of the positive buckets.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    /// Positive buckets as deltas (integer histograms).
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Positive buckets as counts (float histograms).
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// 0 unknown, 1 yes, 2 no, 3 gauge.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    /// Milliseconds since the epoch.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// Upper bounds of custom buckets.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
    /// Milliseconds since the epoch, 0 for unknown; remote write 2.0 only.
    #[prost(int64, tag = "17")]
    pub start_timestamp: i64,
}

/// Count of observations of a [`Histogram`].
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Count {
    /// An integer histogram's.
    #[prost(uint64, tag = "1")]
    Int(u64),
    /// A float histogram's.
    #[prost(double, tag = "2")]
    Float(f64),
}

/// Observations in the zero bucket of a [`Histogram`].
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum ZeroCount {
    /// An integer histogram's.
    #[prost(uint64, tag = "6")]
    Int(u64),
    /// A float histogram's.
    #[prost(double, tag = "7")]
    Float(f64),
}

/// Consecutive buckets with the gap before them.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    /// Gap to the previous span.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Number of buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// Metadata of a metric family in remote write 1.0.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MetricMetadata {
    /// 0 unknown, 1 counter, 2 gauge, 3 histogram, 4 gaugehistogram, 5 summary, 6 info, 7 stateset.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// The family's name.
    #[prost(string, tag = "2")]
    pub metric_family_name: String,
    /// Its HELP text.
    #[prost(string, tag = "4")]
    pub help: String,
    /// Its unit.
    #[prost(string, tag = "5")]
    pub unit: String,
}

/// Remote write 2.0: `io.prometheus.write.v2.Request`.
#[derive(Clone, PartialEq, Message)]
pub struct RequestV2 {
    /// Strings referred to by index; the first is empty.
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    /// Series with their samples.
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeriesV2>,
}

/// One series of remote write 2.0.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeriesV2 {
    /// Pairs of symbols: name, value.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// Float samples.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Native histogram samples.
    #[prost(message, repeated, tag = "3")]
    pub histograms: Vec<Histogram>,
    /// Exemplars.
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<ExemplarV2>,
    /// Metadata of the series' family.
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<MetadataV2>,
}

/// An exemplar of remote write 2.0.
#[derive(Clone, PartialEq, Message)]
pub struct ExemplarV2 {
    /// Pairs of symbols: name, value.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Milliseconds since the epoch.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// Metadata of a series in remote write 2.0.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MetadataV2 {
    /// As [`MetricMetadata::type`].
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// The symbol of the HELP text.
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
    /// The symbol of the unit.
    #[prost(uint32, tag = "4")]
    pub unit_ref: u32,
}

/// Remote read: `prometheus.ReadRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    /// What to read.
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    /// 0 for samples (the default), 1 for streamed chunks.
    #[prost(int32, repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

/// One query of a [`ReadRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct Query {
    /// Milliseconds since the epoch, included.
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    /// Milliseconds since the epoch, included.
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    /// All must match.
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
}

/// A condition on one label.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LabelMatcher {
    /// 0 equal, 1 not equal, 2 matches, 3 does not match.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// The label's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The value or the regular expression.
    #[prost(string, tag = "3")]
    pub value: String,
}

/// Remote read: `prometheus.ReadResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ReadResponse {
    /// One a query, in its order.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<QueryResult>,
}

/// What one [`Query`] found.
#[derive(Clone, PartialEq, Message)]
pub struct QueryResult {
    /// Series with their samples in time order.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}
