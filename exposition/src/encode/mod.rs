//! Writing pages: one interface, three formats.

mod protobuf;
mod text;

use promferry_model::{Histogram, MetadataView, MetricType, Timestamp};

use crate::Format;

/// A page being written, family by family.
///
/// Families and their points are written in the order of the calls; a family's name stands without the
/// suffixes of its type (`_total`, `_info`). Names and labels are taken as they are: that a family comes once,
/// has points of its type and no two of the same labels is the caller's to see to. Names outside of the
/// legacy alphabet are quoted.
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
pub struct Encoder {
    format: Format,
    page: Vec<u8>,
    family: String,
    metric_type: MetricType,
    /// Protobuf only: the open family's message, whose length goes in front of it.
    message: Vec<u8>,
}

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
    /// missing and the histogram is not only native.
    pub buckets: &'a [BucketPoint<'a>],
    /// All observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The native histogram, which protobuf alone can carry; its own count and sum are what counts there.
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
    /// An empty page.
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            page: Vec::new(),
            family: String::new(),
            metric_type: MetricType::Unknown,
            message: Vec::new(),
        }
    }

    /// The `Content-Type` to send the page with.
    pub const fn content_type(&self) -> &'static str {
        match self.format {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            #[cfg(feature = "openmetrics2")]
            Format::OpenMetrics2 => "application/openmetrics-text; version=2.0.0; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Opens a family. Its unit, if not empty, is to end its name.
    pub fn family(&mut self, metadata: MetadataView<'_>) -> FamilyEncoder<'_> {
        self.close_family();
        self.family.clear();
        self.family.push_str(metadata.family);
        self.metric_type = metadata.metric_type;
        match self.format {
            Format::Protobuf => protobuf::metadata(&mut self.message, metadata),
            Format::Text => text::prometheus_metadata(&mut self.page, metadata),
            Format::OpenMetrics => text::openmetrics_metadata(&mut self.page, metadata),
            #[cfg(feature = "openmetrics2")]
            Format::OpenMetrics2 => text::openmetrics_metadata(&mut self.page, metadata),
        }
        FamilyEncoder(self)
    }

    /// The page, ended as its format wants it.
    pub fn finish(mut self) -> Vec<u8> {
        self.close_family();
        if self.format == Format::OpenMetrics {
            self.page.extend_from_slice(b"# EOF\n");
        }
        self.page
    }

    fn close_family(&mut self) {
        if !self.message.is_empty() {
            protobuf::delimited(&mut self.page, &self.message);
            self.message.clear();
        }
    }
}

/// The family that an [`Encoder`] is writing.
#[derive(Debug)]
pub struct FamilyEncoder<'e>(&'e mut Encoder);

impl FamilyEncoder<'_> {
    /// Writes a metric of one value: a counter, gauge, info, state or one of unknown type.
    pub fn number<'a>(&mut self, point: impl Into<Point<'a>>, value: f64) -> &mut Self {
        self.write_number(&point.into(), value, None)
    }

    /// Writes a counter with an exemplar.
    pub fn number_with_exemplar<'a>(
        &mut self,
        point: impl Into<Point<'a>>,
        value: f64,
        exemplar: PointExemplar<'_>,
    ) -> &mut Self {
        self.write_number(&point.into(), value, Some(&exemplar))
    }

    /// Writes a histogram.
    pub fn histogram<'a>(
        &mut self,
        point: impl Into<Point<'a>>,
        histogram: &HistogramPoint<'_>,
    ) -> &mut Self {
        let (encoder, point) = (&mut *self.0, point.into());
        match encoder.format {
            Format::Protobuf => protobuf::histogram(&mut encoder.message, &point, histogram),
            format => text::histogram(
                &mut encoder.page,
                format,
                &encoder.family,
                encoder.metric_type,
                &point,
                histogram,
            ),
        }
        self
    }

    /// Writes a summary.
    pub fn summary<'a>(&mut self, point: impl Into<Point<'a>>, summary: &SummaryPoint<'_>) -> &mut Self {
        let (encoder, point) = (&mut *self.0, point.into());
        match encoder.format {
            Format::Protobuf => protobuf::summary(&mut encoder.message, &point, summary),
            format => text::summary(&mut encoder.page, format, &encoder.family, &point, summary),
        }
        self
    }

    fn write_number(
        &mut self,
        point: &Point<'_>,
        value: f64,
        exemplar: Option<&PointExemplar<'_>>,
    ) -> &mut Self {
        let encoder = &mut *self.0;
        match encoder.format {
            Format::Protobuf => {
                protobuf::number(&mut encoder.message, encoder.metric_type, point, value, exemplar);
            }
            format => text::number(
                &mut encoder.page,
                format,
                &encoder.family,
                encoder.metric_type,
                point,
                value,
                exemplar,
            ),
        }
        self
    }
}
