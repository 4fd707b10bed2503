//! OpenMetrics 2.0: a line a point, with composite values.

use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, Span};

use super::names::OpenFamily;
use super::page::{HistogramValues, SummaryValues};
use super::text::{Lines, metadata_line};
use super::{BucketPoint, Point, PointExemplar};
use crate::{Format, go_float};

/// A type and a unit are of samples of exactly their name, so metadata have the suffix too.
pub(super) fn metadata(page: &mut Vec<u8>, family: &OpenFamily, metadata: MetadataView<'_>) {
    metadata_line(page, family, family.suffix, b"# TYPE ", metadata.metric_type.as_str());
    if !metadata.unit.is_empty() {
        metadata_line(page, family, family.suffix, b"# UNIT ", metadata.unit);
    }
    if !metadata.help.is_empty() {
        metadata_line(page, family, family.suffix, b"# HELP ", metadata.help);
    }
}

pub(super) fn number(
    page: &mut Vec<u8>,
    family: &OpenFamily,
    point: &Point<'_>,
    value: f64,
    exemplars: &[PointExemplar<'_>],
) {
    let mut line = Line::begin(page, family, point, family.suffix);
    line.lines.float(value);
    line.end(exemplars.iter());
}

/// A count or sum that is missing is zero, as it would be in protobuf: the format needs both.
pub(super) fn summary(
    page: &mut Vec<u8>,
    family: &OpenFamily,
    point: &Point<'_>,
    summary: &SummaryValues<'_>,
) {
    let mut line = Line::begin(page, family, point, "");
    line.open();
    line.number("count", summary.count.unwrap_or_default());
    line.number("sum", summary.sum.unwrap_or_default());
    line.list("quantile", summary.quantiles, |line, (quantile, value)| line.pair(*quantile, *value));
    line.close();
    line.end([].iter());
}

/// As [`summary`]; a bucket without a bound is added if it is missing.
pub(super) fn histogram(
    page: &mut Vec<u8>,
    family: &OpenFamily,
    point: &Point<'_>,
    histogram: &HistogramValues<'_>,
) {
    let (count_key, sum_key) = match family.metric_type {
        MetricType::GaugeHistogram => ("gcount", "gsum"),
        _ => ("count", "sum"),
    };
    let mut line = Line::begin(page, family, point, "");
    line.open();
    let count = match histogram.native {
        Some(native) => {
            line.native(native, count_key, sum_key);
            native_count(native)
        }
        None => {
            let last_bucket = histogram.buckets.last().map(|bucket| bucket.cumulative_count);
            let count = histogram.count.or(last_bucket).unwrap_or_default();
            line.number(count_key, count);
            line.number(sum_key, histogram.sum.unwrap_or_default());
            count
        }
    };
    if histogram.native.is_none() || !histogram.buckets.is_empty() {
        let is_missing = histogram.buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY);
        let infinity = BucketPoint { upper_bound: f64::INFINITY, cumulative_count: count, exemplar: None };
        let missing: &[BucketPoint<'_>] = if is_missing { &[infinity] } else { &[] };
        line.list_of("bucket", histogram.buckets.iter().chain(missing), |line, bucket| {
            line.pair(bucket.upper_bound, bucket.cumulative_count);
        });
    }
    line.close();
    let of_buckets = histogram.buckets.iter().filter_map(|bucket| bucket.exemplar.as_ref());
    line.end(of_buckets.chain(histogram.exemplars));
}

/// A point's line.
struct Line<'a> {
    lines: Lines<'a>,
    /// Whether a field has been written.
    follows: bool,
}

impl<'a> Line<'a> {
    fn begin(page: &'a mut Vec<u8>, family: &'a OpenFamily, point: &'a Point<'a>, suffix: &str) -> Self {
        let mut lines = Lines { page, format: Format::OpenMetrics2, family, point };
        lines.series(suffix, None);
        lines.page.push(b' ');
        Self { lines, follows: false }
    }

    fn open(&mut self) {
        self.lines.page.push(b'{');
    }

    fn close(&mut self) {
        self.lines.page.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if std::mem::replace(&mut self.follows, true) {
            self.lines.page.push(b',');
        }
        self.lines.page.extend_from_slice(key.as_bytes());
        self.lines.page.push(b':');
    }

    /// A number, an integer without a point: that tells integer histograms from others.
    fn number(&mut self, key: &str, value: f64) {
        self.key(key);
        self.plain(value);
    }

    fn plain(&mut self, value: f64) {
        let text = go_float::shortest(value);
        self.lines.page.extend_from_slice(text.as_bytes());
    }

    fn integer(&mut self, value: impl std::fmt::Display) {
        self.lines.page.extend_from_slice(value.to_string().as_bytes());
    }

    fn pair(&mut self, bound: f64, value: f64) {
        let bound = go_float::openmetrics(bound);
        self.lines.page.extend_from_slice(bound.as_bytes());
        self.lines.page.push(b':');
        self.plain(value);
    }

    fn list<T>(&mut self, key: &str, items: &[T], write: impl FnMut(&mut Self, &T)) {
        self.list_of(key, items.iter(), write);
    }

    fn list_of<T>(&mut self, key: &str, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.key(key);
        self.lines.page.push(b'[');
        for (at, item) in items.enumerate() {
            if at > 0 {
                self.lines.page.push(b',');
            }
            write(self, item);
        }
        self.lines.page.push(b']');
    }

    fn native(&mut self, native: &Histogram, count_key: &str, sum_key: &str) {
        let zero_threshold = native.zero_threshold;
        match &native.counts {
            BucketCounts::Integer { count, zero_count, positive, negative } => {
                self.key(count_key);
                self.integer(count);
                self.number(sum_key, native.sum);
                self.key("schema");
                self.integer(native.schema);
                self.number("zero_threshold", zero_threshold);
                self.key("zero_count");
                self.integer(zero_count);
                for (side, spans, deltas) in [
                    ("positive", &native.positive_spans, positive),
                    ("negative", &native.negative_spans, negative),
                ] {
                    let mut before: i64 = 0;
                    self.side(side, spans, deltas, |line, delta| {
                        before = before.wrapping_add(*delta);
                        line.integer(before);
                    });
                }
            }
            BucketCounts::Float { count, zero_count, positive, negative } => {
                self.number(count_key, *count);
                self.number(sum_key, native.sum);
                self.key("schema");
                self.integer(native.schema);
                self.number("zero_threshold", zero_threshold);
                self.number("zero_count", *zero_count);
                for (side, spans, counts) in [
                    ("positive", &native.positive_spans, positive),
                    ("negative", &native.negative_spans, negative),
                ] {
                    // With a point or an exponent, which says that they are floats.
                    self.side(side, spans, counts, |line, count| line.lines.float(*count));
                }
            }
        }
    }

    fn side<T>(&mut self, side: &str, spans: &[Span], buckets: &[T], write: impl FnMut(&mut Self, &T)) {
        if spans.is_empty() {
            return;
        }
        self.list(&format!("{side}_spans"), spans, |line, span| {
            line.integer(span.offset);
            line.lines.page.push(b':');
            line.integer(span.length);
        });
        self.list(&format!("{side}_buckets"), buckets, write);
    }

    /// Writes times, exemplars and the line's end. Exemplars without a time cannot be written.
    fn end<'e>(mut self, exemplars: impl Iterator<Item = &'e PointExemplar<'e>>) {
        let Point { timestamp, start, .. } = *self.lines.point;
        if let Some(timestamp) = timestamp {
            self.lines.page.push(b' ');
            self.lines.timestamp(timestamp);
        }
        let family = self.lines.family;
        if let Some(start) = start.filter(|_| has_start(family.metric_type)) {
            self.lines.page.extend_from_slice(b" st@");
            self.lines.timestamp(start);
        }
        for exemplar in exemplars.filter(|exemplar| exemplar.timestamp.is_some()) {
            self.lines.exemplar(exemplar);
        }
        self.lines.page.push(b'\n');
    }
}

/// Whether points of this type have a start, as they have in OpenMetrics 1.0.
const fn has_start(metric_type: MetricType) -> bool {
    matches!(metric_type, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
}

const fn native_count(native: &Histogram) -> f64 {
    match &native.counts {
        BucketCounts::Integer { count, .. } => *count as f64,
        BucketCounts::Float { count, .. } => *count,
    }
}
