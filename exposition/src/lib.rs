//! Reads and writes what metric targets expose: the Prometheus text format (0.0.4 and 1.0.0), OpenMetrics
//! (0.0.1, 1.0.0 and, behind a feature, 2.0) and delimited protobuf with native histograms.
//!
//! What it is: a pull [`Parser`] over a page in memory that lends out [`Event`]s and allocates nothing for a
//! valid page, with the judgement of Prometheus 3.16: what that accepts is accepted with the same series,
//! values (bit for bit), timestamps, exemplars, types and start timestamps, and what it refuses is refused.
//! [`validate`] judges by the OpenMetrics 1.0 specification instead, of which Prometheus lets pass much that is
//! forbidden. [`read_families`] gives a page as owned data and [`write_families`] takes them, in every format. Content
//! negotiation comes as values: [`accept_header`], [`format_for`], [`negotiate`].
//!
//! What it is not: it fetches nothing, runs nothing and holds no metrics.
//!
//! # Reading
//!
//! A scraper reads the same series again and again. [`SeriesEvent::key`] names a series by a hash of its bytes
//! and of all else that decides what they mean, without splitting labels; [`SeriesEvent::split`] splits and
//! judges them and is needed once a key. [`Parser`] says what follows from that for the judgement of a page.
//!
//! ```
//! use promferry_exposition::{Event, Format, LabelSpans, ParseOptions, Parser};
//!
//! let page = b"# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} 1027 1395066363000\n";
//! let mut parser = Parser::new(Format::Text, page, ParseOptions::default());
//! let mut spans = LabelSpans::new();
//! while let Some(event) = parser.next()? {
//!     if let Event::Series(series) = event {
//!         assert_eq!(series.series_bytes(), Some(&b"http_requests_total{code=\"200\"}"[..]));
//!         let labels = series.split(&mut spans)?;
//!         assert_eq!(labels.metric_name(), "http_requests_total");
//!         assert_eq!(labels.get("code"), Some("200"));
//!         assert_eq!(series.value(), 1027.0);
//!     }
//! }
//! # Ok::<(), promferry_exposition::ParseError>(())
//! ```
//!
//! Who wants data rather than speed reads families: [`MetricFamily`], [`Metric`], [`MetricPoint`].
//!
//! ```
//! use promferry_exposition::{Format, ParseOptions, PointValue, read_families};
//!
//! let page = b"# TYPE size histogram\nsize_bucket{le=\"+Inf\"} 3\nsize_sum 450.5\nsize_count 3\n";
//! let families = read_families(Format::Text, page, ParseOptions::default())?;
//! let PointValue::Histogram(size) = &families[0].metrics[0].points[0].value else { panic!("a histogram") };
//! assert_eq!((size.count, size.sum, size.buckets.len()), (Some(3.0), Some(450.5), 1));
//! # Ok::<(), promferry_exposition::ReadError>(())
//! ```
//!
//! # Two judgements
//!
//! The parser's is lenient, as Prometheus' is; [`validate`] is strict. An error of either names the line and the
//! column.
//!
//! ```
//! use promferry_exposition::{Format, ParseOptions, StrictRule, read_families, validate};
//!
//! let page = b"# TYPE requests counter\nrequests 7\n# EOF\n";
//! assert!(read_families(Format::OpenMetrics, page, ParseOptions::default()).is_ok());
//! let refused = validate(page).unwrap_err();
//! assert_eq!((refused.rule, refused.error.line()), (StrictRule::SampleName, Some(2)));
//! ```
//!
//! # Writing and negotiating
//!
//! [`write_families`] and [`StreamingEncoder`] write [`MetricFamily`]s and judge them meanwhile; what is written reads
//! back as [`MetricFamily::as_kept_by`] says. An [`Encoder`] takes names and numbers as they lie and leaves judging
//! to its caller.
//!
//! ```
//! use promferry_exposition::{Encoder, negotiate};
//! use promferry_model::{EscapingScheme, MetadataView, MetricType};
//!
//! let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.5";
//! let mut page = Encoder::for_protocol(negotiate(accept, EscapingScheme::Underscores));
//! let family = MetadataView { family: "scrapes", metric_type: MetricType::Counter, ..MetadataView::default() };
//! page.family(family).number(&[("job", "api")], 3.0);
//! assert!(page.content_type().starts_with("application/openmetrics-text; version=1.0.0;"));
//! assert_eq!(page.finish(), b"# TYPE scrapes counter\nscrapes_total{job=\"api\"} 3.0\n# EOF\n");
//! ```
//!
//! # Where it differs from Prometheus, on purpose
//!
//! - The exemplars of all native histograms of a family are given; Prometheus 3.16 forgets those from the
//!   second metric on.
//! - Names that are not UTF-8 are refused here, as a scrape refuses them after parsing.
//! - A native histogram whose spans and buckets disagree is refused wherever it stands in its family.
//! - A protobuf metric of unknown type that has no value is 0; Prometheus 3.16 gives it the value of the one before.
//! - Pages over which Prometheus never comes to an end, looking for start timestamps beyond an exemplar that
//!   it cannot read, are refused.
//! - Pages over which Prometheus panics, looking for start timestamps where fewer bytes are left than the family's
//!   name has, are read.
//!
//! # Features
//!
//! - `serde` (off): `Deserialize` and `Serialize` for [`MetricFamily`] and what it holds, [`ScrapeProtocol`] and
//!   [`LeFormat`].
//! - `prometheus-parse` (off): `ConvertedScrape`, a page in the types of the crate `prometheus-parse`. Brings that
//!   crate with its dependencies, and allocates.
//! - `openmetrics2` (off): `Format::OpenMetrics2`, whose specification is a release candidate.

mod block;
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
mod number;
#[cfg(feature = "openmetrics2")]
mod openmetrics2;
mod openmetrics_rules;
mod parser;
mod protobuf;
mod seeded_hasher;
mod spans;
mod strict;
mod text;
mod text_created;
mod text_lexer;
mod text_quick;
mod text_series;
mod text_split;
mod wire;

pub use context::SeriesKey;
#[cfg(feature = "prometheus-parse")]
pub use converted_scrape::{ConvertedScrape, Unconvertible, UnconvertibleReason};
pub use encode::{
    BucketPoint, EncodeError, Encoder, FamilyEncoder, HistogramPoint, Point, PointExemplar, StreamError,
    StreamingEncoder, SummaryPoint, write_families,
};
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
