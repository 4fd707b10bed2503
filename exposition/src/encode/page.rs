use promferry_model::{CUSTOM_BUCKETS_SCHEMA, Histogram, MetadataView};

use super::names::OpenFamily;
#[cfg(feature = "openmetrics2")]
use super::openmetrics2;
use super::{BucketPoint, Point, PointExemplar, protobuf, text};
use crate::model::kept::implied_classic;
use crate::{Bucket, Format, HistogramValue, Negotiated};

/// A page in whatever format: sends each value to the writer of the format.
#[derive(Clone, Debug)]
pub(super) struct PageWriter {
    answer: Negotiated,
    pub(super) page: Vec<u8>,
    family: OpenFamily,
    /// Protobuf only: the open family's message, whose length goes in front of it.
    message: Vec<u8>,
}

/// What a histogram holds, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HistogramValues<'a> {
    pub(super) count: Option<f64>,
    pub(super) sum: Option<f64>,
    /// Cumulative, written as they are.
    pub(super) buckets: &'a [BucketPoint<'a>],
    pub(super) native: Option<&'a Histogram>,
    /// Those that are no bucket's.
    pub(super) exemplars: &'a [PointExemplar<'a>],
}

/// What a summary holds, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SummaryValues<'a> {
    pub(super) count: Option<f64>,
    pub(super) sum: Option<f64>,
    pub(super) quantiles: &'a [(f64, f64)],
}

impl PageWriter {
    pub(super) const fn new(answer: Negotiated) -> Self {
        Self { answer, page: Vec::new(), family: OpenFamily::none(answer.escaping()), message: Vec::new() }
    }

    pub(super) const fn answer(&self) -> Negotiated {
        self.answer
    }

    pub(super) const fn open_family(&self) -> &OpenFamily {
        &self.family
    }

    /// Ends the family before and opens one. `suffixed`: see [`OpenFamily::set`].
    pub(super) fn family(&mut self, metadata: MetadataView<'_>, suffixed: bool) {
        self.name_family(metadata, suffixed);
        self.begin_family(metadata);
    }

    /// Ends the family before and finds out how one is named, without writing anything of it.
    pub(super) fn name_family(&mut self, metadata: MetadataView<'_>, suffixed: bool) {
        self.close_family();
        self.family.set(self.answer.format(), metadata, suffixed);
    }

    /// Writes what is said of the family that was named last.
    pub(super) fn begin_family(&mut self, metadata: MetadataView<'_>) {
        match self.answer.format() {
            Format::Protobuf => protobuf::metadata(&mut self.message, &self.family, metadata),
            Format::Text => text::prometheus_metadata(&mut self.page, &self.family, metadata),
            Format::OpenMetrics => text::openmetrics_metadata(&mut self.page, &self.family, metadata),
            #[cfg(feature = "openmetrics2")]
            Format::OpenMetrics2 => openmetrics2::metadata(&mut self.page, &self.family, metadata),
        }
    }

    pub(super) fn number(&mut self, point: &Point<'_>, value: f64, exemplars: &[PointExemplar<'_>]) {
        match self.answer.format() {
            Format::Protobuf => protobuf::number(&mut self.message, &self.family, point, value, exemplars),
            #[cfg(feature = "openmetrics2")]
            Format::OpenMetrics2 => {
                openmetrics2::number(&mut self.page, &self.family, point, value, exemplars);
            }
            format => text::number(&mut self.page, format, &self.family, point, value, exemplars),
        }
    }

    pub(super) fn histogram(&mut self, point: &Point<'_>, histogram: &HistogramValues<'_>) {
        let format = self.answer.format();
        let mut histogram = *histogram;
        let implied: Vec<BucketPoint<'_>>;
        if let Some(native) = histogram.native.filter(|native| !carries(format, native)) {
            histogram.native = None;
            if histogram.buckets.is_empty() {
                let said =
                    HistogramValue { count: histogram.count, sum: histogram.sum, ..Default::default() };
                let classic = implied_classic(&said, native);
                (histogram.count, histogram.sum) = (classic.count, classic.sum);
                implied = classic.buckets.iter().map(BucketPoint::of_implied).collect();
                histogram.buckets = &implied;
            }
        }
        match format {
            Format::Protobuf => protobuf::histogram(&mut self.message, &self.family, point, &histogram),
            #[cfg(feature = "openmetrics2")]
            Format::OpenMetrics2 => openmetrics2::histogram(&mut self.page, &self.family, point, &histogram),
            format => text::histogram(&mut self.page, format, &self.family, point, &histogram),
        }
    }

    pub(super) fn summary(&mut self, point: &Point<'_>, summary: &SummaryValues<'_>) {
        match self.answer.format() {
            Format::Protobuf => protobuf::summary(&mut self.message, &self.family, point, summary),
            #[cfg(feature = "openmetrics2")]
            Format::OpenMetrics2 => openmetrics2::summary(&mut self.page, &self.family, point, summary),
            format => text::summary(&mut self.page, format, &self.family, point, summary),
        }
    }

    /// Ends the open family and the page.
    pub(super) fn end(&mut self) {
        self.close_family();
        match self.answer.format() {
            Format::Protobuf | Format::Text => {}
            _ => self.page.extend_from_slice(b"# EOF\n"),
        }
    }

    /// Ends the open family, after which the page is whole but for its end.
    pub(super) fn close_family(&mut self) {
        if !self.message.is_empty() {
            protobuf::delimited(&mut self.page, &self.message);
            self.message.clear();
        }
    }
}

impl BucketPoint<'static> {
    /// One that a native histogram implies, which has no exemplar.
    const fn of_implied(bucket: &Bucket) -> Self {
        let Bucket { upper_bound, cumulative_count, .. } = *bucket;
        Self { upper_bound, cumulative_count, exemplar: None }
    }
}

/// Whether a format has a form for the native histogram. None has one for custom buckets.
const fn carries(format: Format, native: &Histogram) -> bool {
    match format {
        Format::Protobuf => native.schema != CUSTOM_BUCKETS_SCHEMA,
        #[cfg(feature = "openmetrics2")]
        Format::OpenMetrics2 => matches!(native.schema, -4..=8),
        _ => false,
    }
}
