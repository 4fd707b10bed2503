//! Reads and writes what metric targets expose: the Prometheus text format (0.0.4 and 1.0.0), OpenMetrics
//! (0.0.1 and 1.0.0) and delimited protobuf with native histograms.
//!
//! What it is: a pull [`Parser`] over a page in memory that lends out [`Event`]s and allocates nothing for a
//! valid page, with the judgement of Prometheus 3.16: what that accepts is accepted with the same series,
//! values (bit for bit), timestamps, exemplars, types and start timestamps, and what it refuses is refused.
//! An [`Encoder`] writes the same formats. Content negotiation comes as values: [`accept_header`],
//! [`format_for`], [`negotiate`].
//!
//! What it is not: it fetches nothing, runs nothing and holds no metrics. It is no validator of the
//! OpenMetrics specification, of which Prometheus lets pass much that is forbidden.
//!
//! ```
//! use promferry_exposition::{Event, Format, LabelBuffer, ParseOptions, Parser};
//!
//! let page = b"# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} 1027 1395066363000\n";
//! let mut parser = Parser::new(Format::Text, page, ParseOptions::default());
//! let mut labels = LabelBuffer::new();
//! while let Some(event) = parser.next()? {
//!     if let Event::Series(series) = event {
//!         series.labels(&mut labels)?;
//!         assert_eq!(labels.metric_name(), "http_requests_total");
//!         assert_eq!(labels.get("code"), Some("200"));
//!         assert_eq!(series.value(), 1027.0);
//!     }
//! }
//! # Ok::<(), promferry_exposition::ParseError>(())
//! ```
//!
//! # Two speeds
//!
//! A scraper reads the same series again and again. [`SeriesEvent::key`] names a series by a hash of its bytes
//! and of all else that decides what they mean, without splitting labels; [`SeriesEvent::labels`] splits and
//! judges them and is needed once a key. [`Parser`] says what follows from that for the judgement of a page.
//!
//! # Where it differs from Prometheus, on purpose
//!
//! - The exemplars of all native histograms of a family are given; Prometheus 3.16 forgets those from the
//!   second metric on.
//! - Names that are not UTF-8 are refused here, as a scrape refuses them after parsing.
//! - A native histogram whose spans and buckets disagree is refused wherever it stands in its family.
//! - Pages over which Prometheus never comes to an end, looking for start timestamps beyond an exemplar that
//!   it cannot read, are refused.
//!
//! # Features
//!
//! - `serde` (off): `Deserialize` and `Serialize` for [`ScrapeProtocol`] and [`LeFormat`].
//! - `prometheus-parse` (off): `ConvertedScrape`, a page in the types of the crate `prometheus-parse`. Brings that
//!   crate with its dependencies, and allocates.
//! - `openmetrics2` (off): `Format::OpenMetrics2`, whose specification is a release candidate.

mod classic_histogram;
mod context;
#[cfg(feature = "prometheus-parse")]
mod converted_scrape;
mod custom_buckets;
mod encode;
mod error;
mod exemplars;
mod family;
mod format;
pub mod go_float;
mod label_buffer;
mod le_format;
mod model;
mod native_histogram;
mod negotiate;
#[cfg(feature = "openmetrics2")]
mod openmetrics2;
mod parser;
mod protobuf;
mod spans;
mod strict;
mod text;
mod text_created;
mod text_lexer;
mod text_series;
mod wire;

pub use context::SeriesKey;
#[cfg(feature = "prometheus-parse")]
pub use converted_scrape::{ConvertedScrape, Unconvertible, UnconvertibleReason};
pub use encode::{BucketPoint, Encoder, FamilyEncoder, HistogramPoint, Point, PointExemplar, SummaryPoint};
pub use error::ParseError;
pub use exemplars::{ExemplarSample, Exemplars};
pub use family::{belongs_to_family, family_of};
pub(crate) use format::Dialect;
pub use format::Format;
pub use label_buffer::LabelBuffer;
pub use le_format::LeFormat;
pub use model::{
    Bucket, Exemplar, HistogramValue, Metric, MetricFamily, MetricPoint, PointValue, Quantile, ReadError,
    SummaryValue, read_families,
};
pub use native_histogram::HistogramEvent;
pub use negotiate::{
    ContentTypeError, Negotiated, ScrapeProtocol, UnknownScrapeProtocol, accept_header, format_for,
    negotiate, negotiate_among, protocol_for,
};
pub use parser::{Event, HelpText, ParseOptions, Parser, SeriesEvent};
pub use spans::{LabelSpans, SplitLabels};
pub use strict::{StrictError, StrictRule, Validated, validate};
