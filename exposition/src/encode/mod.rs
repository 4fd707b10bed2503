//! Writing pages: one interface, every format.

mod error;
mod group;
mod judge;
mod names;
#[cfg(feature = "openmetrics2")]
mod openmetrics2;
mod page;
mod protobuf;
mod stream;
mod text;

use promferry_model::{Histogram, MetadataView, Timestamp};

pub use self::error::{EncodeError, StreamError};
use self::page::{HistogramValues, PageWriter, SummaryValues};
pub use self::stream::{StreamingEncoder, write_families};
use crate::{Format, Negotiated};

/// A page being written, family by family.
///
/// Families and their points are written in the order of the calls; a family's name stands without the
/// suffixes of its type (`_total`, `_info`). That a family comes once, has points of its type and no two of the
/// same labels is the caller's to see to. Names outside of the legacy alphabet are quoted or, where the protocol
/// cannot or the reader does not want that, escaped.
///
/// ```
/// use promferry_exposition::{Encoder, Format};
/// use promferry_model::{MetadataView, MetricType};
///
/// let mut page = Encoder::new(Format::OpenMetrics);
/// page.family(MetadataView {
///     family: "scrapes",
///     metric_type: MetricType::Counter,
///     help: "Scrapes begun.",
///     ..MetadataView::default()
/// })
/// .number(&[("job", "api")], 3.0);
/// assert_eq!(
///     String::from_utf8(page.finish()).unwrap(),
///     "# TYPE scrapes counter\n# HELP scrapes Scrapes begun.\nscrapes_total{job=\"api\"} 3.0\n# EOF\n"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Encoder(PageWriter);

/// One metric of a family at one time: its labels and times. `&[("name", "value")]` converts into one without
/// times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point<'a> {
    /// Labels beside the metric's name, `le` and `quantile`.
    pub labels: &'a [(&'a str, &'a str)],
    /// The time of the values; usually left to the scraper.
    pub timestamp: Option<Timestamp>,
    /// Since when a cumulative value has been counted; the Prometheus text format cannot say it.
    pub start: Option<Timestamp>,
}

impl<'a> From<&'a [(&'a str, &'a str)]> for Point<'a> {
    fn from(labels: &'a [(&'a str, &'a str)]) -> Self {
        Self { labels, ..Self::default() }
    }
}

impl<'a, const N: usize> From<&'a [(&'a str, &'a str); N]> for Point<'a> {
    fn from(labels: &'a [(&'a str, &'a str); N]) -> Self {
        Self::from(labels.as_slice())
    }
}

/// An exemplar to write; the Prometheus text format has none and leaves it out.
#[derive(Clone, Copy, Debug, Default)]
pub struct PointExemplar<'a> {
    /// Its labels.
    pub labels: &'a [(&'a str, &'a str)],
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub timestamp: Option<Timestamp>,
}

/// A histogram's values.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistogramPoint<'a> {
    /// Classic buckets in increasing order of their bounds, counts cumulative; one of +Inf is added if it is
    /// missing and readers would not add it themselves.
    pub buckets: &'a [BucketPoint<'a>],
    /// All observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The native histogram, with a count and sum of its own. What a format cannot carry of it is written as a
    /// classic one if there are no classic buckets: one of custom buckets bucket by bucket, another by its
    /// count and sum.
    pub native: Option<&'a Histogram>,
}

/// A classic bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketPoint<'a> {
    /// The greatest value that is counted.
    pub upper_bound: f64,
    /// Observations up to the bound, those of lower buckets included.
    pub cumulative_count: f64,
    /// An example of the observations.
    pub exemplar: Option<PointExemplar<'a>>,
}

/// A summary's values.
#[derive(Clone, Copy, Debug, Default)]
pub struct SummaryPoint<'a> {
    /// Quantiles (0 to 1) and their values.
    pub quantiles: &'a [(f64, f64)],
    /// All observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
}

impl Encoder {
    /// An empty page in the newest protocol of `format`, with names as they are.
    pub const fn new(format: Format) -> Self {
        Self::for_protocol(Negotiated::newest(format))
    }

    /// An empty page in the protocol that was agreed upon, with names escaped as was agreed.
    ///
    /// ```
    /// use promferry_exposition::{Encoder, negotiate};
    /// use promferry_model::{EscapingScheme, MetadataView};
    ///
    /// let mut page = Encoder::for_protocol(negotiate("text/plain", EscapingScheme::Underscores));
    /// let family = MetadataView { family: "queue.length", ..MetadataView::default() };
    /// page.family(family).number(&[("queue.name", "a.b")], 3.0);
    /// assert_eq!(page.content_type(), "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    /// assert_eq!(page.finish(), b"# TYPE queue_length untyped\nqueue_length{queue_name=\"a.b\"} 3\n");
    /// ```
    pub const fn for_protocol(answer: Negotiated) -> Self {
        Self(PageWriter::new(answer))
    }

    /// The `Content-Type` to send the page with.
    pub fn content_type(&self) -> String {
        self.0.answer().to_string()
    }

    /// Opens a family. Its unit, if not empty, is to end its name.
    pub fn family(&mut self, metadata: MetadataView<'_>) -> FamilyEncoder<'_> {
        self.0.family(metadata, true);
        FamilyEncoder(self)
    }

    /// The page, ended as its format wants it.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.end();
        self.0.page
    }
}

/// The family that an [`Encoder`] is writing.
#[derive(Debug)]
pub struct FamilyEncoder<'e>(&'e mut Encoder);

impl FamilyEncoder<'_> {
    /// Writes a metric of one value: a counter, gauge, info, state or one of unknown type.
    pub fn number<'a>(&mut self, point: impl Into<Point<'a>>, value: f64) -> &mut Self {
        self.0.0.number(&point.into(), value, &[]);
        self
    }

    /// Writes a counter with an exemplar.
    pub fn number_with_exemplar<'a>(
        &mut self,
        point: impl Into<Point<'a>>,
        value: f64,
        exemplar: PointExemplar<'_>,
    ) -> &mut Self {
        self.0.0.number(&point.into(), value, &[exemplar]);
        self
    }

    /// Writes a histogram.
    pub fn histogram<'a>(
        &mut self,
        point: impl Into<Point<'a>>,
        histogram: &HistogramPoint<'_>,
    ) -> &mut Self {
        self.histogram_with_exemplars(point, histogram, &[])
    }

    /// Writes a histogram with exemplars that are no bucket's, of which protobuf alone has some, of native
    /// histograms. Readers pass over those without a time.
    pub fn histogram_with_exemplars<'a>(
        &mut self,
        point: impl Into<Point<'a>>,
        histogram: &HistogramPoint<'_>,
        exemplars: &[PointExemplar<'_>],
    ) -> &mut Self {
        let HistogramPoint { buckets, count, sum, native } = *histogram;
        let ends_with_infinity = buckets.last().is_some_and(|last| last.upper_bound == f64::INFINITY);
        // Readers of protobuf add it themselves, and a native histogram without classic buckets implies it.
        let is_implied =
            self.0.0.answer().format() == Format::Protobuf || (native.is_some() && buckets.is_empty());
        let infinity = BucketPoint { upper_bound: f64::INFINITY, cumulative_count: count, exemplar: None };
        let completed: Vec<BucketPoint<'_>>;
        let buckets = if !ends_with_infinity && !is_implied {
            completed = buckets.iter().copied().chain([infinity]).collect();
            &completed
        } else {
            buckets
        };
        let (count, sum) = (Some(count), Some(sum));
        self.0.0.histogram(&point.into(), &HistogramValues { count, sum, buckets, native, exemplars });
        self
    }

    /// Writes a summary.
    pub fn summary<'a>(&mut self, point: impl Into<Point<'a>>, summary: &SummaryPoint<'_>) -> &mut Self {
        let SummaryPoint { quantiles, count, sum } = *summary;
        let values = SummaryValues { count: Some(count), sum: Some(sum), quantiles };
        self.0.0.summary(&point.into(), &values);
        self
    }
}
