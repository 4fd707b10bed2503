//! The vocabulary of a metrics pipeline: labels, samples, histograms, metadata, target groups, and the
//! traits between the parts that carry them.
//!
//! What it is: plain values with Prometheus' meaning ([`Labels`], [`Sample`], [`Histogram`], stale marker
//! bits, name validation and escaping), the seams of the data path ([`Sink`], [`TargetSink`], [`Stage`]) and
//! what every part takes as an argument so that tests can decide it ([`Clock`], [`Rng`], [`MemoryBudget`]).
//!
//! What it is not: it does no I/O, knows no async runtime and parses no exposition format.
//!
//! ```
//! use promferry_model::{Labels, LabelsBuilder, STALE_NAN_BITS, is_stale_nan};
//!
//! let target = Labels::from_pairs([("job", "api"), ("instance", "10.0.0.7:8080")]);
//! let mut series = LabelsBuilder::from(&target);
//! series.set("__name__", "http_requests_total");
//! series.set("instance", "");                       // an empty value is an absent label
//! assert_eq!(series.to_labels().to_string(), r#"{__name__="http_requests_total", job="api"}"#);
//! assert!(is_stale_nan(f64::from_bits(STALE_NAN_BITS)) && !is_stale_nan(f64::NAN));
//! ```
//!
//! # Features
//!
//! - `serde` (off): `Deserialize`/`Serialize` for the types that appear in configuration and in pages read as data.

mod budget;
mod chance;
mod duration;
mod histogram;
mod labels;
mod memory_sink;
mod name;
mod sample;
#[cfg(feature = "serde")]
pub mod serde_f64;
mod sink;
mod stage;
mod symbols;
mod target;
mod time;

pub use budget::{MemoryBudget, OverBudget, Purpose, Reservation, Reserve};
pub use chance::{Rng, SeededRng};
pub use duration::{DurationError, PromDuration};
pub use histogram::{BucketCounts, CUSTOM_BUCKETS_SCHEMA, Histogram, HistogramError, ResetHint, Span};
pub use labels::{
    BUCKET_LABEL, DuplicateLabel, Label, Labels, LabelsBuilder, METRIC_NAME, QUANTILE_LABEL, hash_labels,
    label,
};
pub use memory_sink::{Appended, MemorySink, MemoryTargetSink};
pub use name::{
    EscapingScheme, NameValidation, UnknownEscapingScheme, escape_label_name, escape_name,
    is_valid_label_name, is_valid_metric_name, unescape_name,
};
pub use sample::{
    Exemplar, ExemplarView, Metadata, MetadataView, MetricType, NORMAL_NAN_BITS, STALE_NAN_BITS, Sample,
    is_stale_nan,
};
pub use sink::{Receipt, Refused, SeriesId, SeriesView, Sink, SinkError, TargetSink};
pub use stage::{SeriesContext, Stage, Verdict};
pub use symbols::{Symbol, SymbolTable};
pub use target::{TargetGroup, TargetInfo};
pub use time::{Clock, SystemClock, Timestamp};
