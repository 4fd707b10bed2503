//! Reads and writes what metric targets expose: the Prometheus text format, OpenMetrics and delimited protobuf.

mod context;
mod encode;
mod error;
mod exemplars;
mod family;
mod format;
pub mod go_float;
mod label_buffer;
mod native_histogram;
mod negotiate;
mod parser;
mod protobuf;
mod protobuf_metric;
mod text;
mod text_created;
mod text_lexer;
mod text_series;
mod wire;

pub use context::SeriesKey;
pub use encode::{BucketPoint, Encoder, FamilyEncoder, HistogramPoint, Point, PointExemplar, SummaryPoint};
pub use error::ParseError;
pub use exemplars::{ExemplarSample, Exemplars};
pub use family::{belongs_to_family, family_of};
pub(crate) use format::Dialect;
pub use format::Format;
pub use label_buffer::LabelBuffer;
pub use native_histogram::HistogramEvent;
pub use negotiate::{
    ContentTypeError, ScrapeProtocol, UnknownScrapeProtocol, accept_header, accepted_format, format_for,
};
pub use parser::{Event, HelpText, ParseOptions, Parser, SeriesEvent};
