use std::fmt;

use promferry_model::{BucketCounts, Histogram, MetricType, ResetHint, Span, Timestamp};

use crate::custom_buckets::CustomBuckets;
#[cfg(feature = "openmetrics2")]
use crate::openmetrics2::OpenMetrics2Parser;
use crate::protobuf::ProtobufParser;
use crate::protobuf_metric::{self as metric, NEGATIVE, POSITIVE, SideFields};
use crate::{Exemplars, LabelBuffer, LabelSpans, ParseError, SeriesKey, SplitLabels};

/// One native histogram, valid until the parser goes on.
#[derive(Clone, Copy)]
pub struct HistogramEvent<'p> {
    source: Source<'p>,
    timestamp: Option<Timestamp>,
}

#[derive(Clone, Copy)]
enum Source<'p> {
    Protobuf(&'p ProtobufParser<'p>),
    CustomBuckets(&'p CustomBuckets<'p>),
    #[cfg(feature = "openmetrics2")]
    #[expect(dead_code, reason = "OpenMetrics 2.0 is not read yet")]
    OpenMetrics2(&'p OpenMetrics2Parser<'p>),
}

impl<'p> HistogramEvent<'p> {
    pub(crate) const fn of_protobuf(parser: &'p ProtobufParser<'p>, timestamp: Option<Timestamp>) -> Self {
        Self { source: Source::Protobuf(parser), timestamp }
    }

    pub(crate) const fn of_custom_buckets(
        parser: &'p CustomBuckets<'p>,
        timestamp: Option<Timestamp>,
    ) -> Self {
        Self { source: Source::CustomBuckets(parser), timestamp }
    }

    /// The time that the page itself gives the histogram.
    pub const fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// Since when it has been counted, under [`crate::ParseOptions::parse_start_timestamps`].
    pub fn start(&self) -> Option<Timestamp> {
        match self.source {
            Source::Protobuf(parser) => parser.start(),
            Source::CustomBuckets(parser) => parser.start(),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.start(),
        }
    }

    /// As [`crate::SeriesEvent::key`].
    pub fn key(&self, seed: u64) -> SeriesKey {
        match self.source {
            Source::Protobuf(parser) => parser.key(seed),
            Source::CustomBuckets(parser) => parser.key(seed),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.key(seed),
        }
    }

    /// As [`crate::SeriesEvent::labels`].
    ///
    /// # Errors
    /// Says what is wrong with the labels, for which Prometheus would refuse the page.
    pub fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        match self.source {
            Source::Protobuf(parser) => parser.labels(labels),
            Source::CustomBuckets(parser) => {
                parser.labels(labels);
                Ok(())
            }
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.labels(labels),
        }
    }

    /// As [`crate::SeriesEvent::split`].
    ///
    /// # Errors
    /// As [`HistogramEvent::labels`].
    pub fn split<'s>(&self, spans: &'s mut LabelSpans) -> Result<SplitLabels<'s>, ParseError>
    where
        'p: 's,
    {
        spans.fill(|labels| self.labels(labels))
    }

    /// The exemplars that have a timestamp: the histogram's own or, if it has none, those of its classic
    /// buckets. (Prometheus 3.16 forgets them from a family's second metric on; here all are given.)
    pub fn exemplars(&self) -> Exemplars<'p> {
        match self.source {
            Source::Protobuf(parser) => Exemplars::of_protobuf(parser),
            Source::CustomBuckets(parser) => parser.exemplars(),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => Exemplars::of_openmetrics2(parser),
        }
    }

    /// The histogram in a form of its own; [`HistogramEvent::read_into`] says which.
    pub fn histogram(&self) -> Histogram {
        let mut histogram = Histogram {
            schema: 0,
            zero_threshold: 0.0,
            sum: 0.0,
            counts: BucketCounts::Integer {
                count: 0,
                zero_count: 0,
                positive: Vec::new(),
                negative: Vec::new(),
            },
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            custom_values: Vec::new(),
            reset_hint: ResetHint::Unknown,
        };
        self.read_into(&mut histogram);
        histogram
    }

    /// Puts the histogram into `histogram`, whose lists are used again, with empty buckets taken out, as Prometheus
    /// keeps it. Spans and buckets agree in number; whether counts make sense is not judged.
    pub fn read_into(&self, histogram: &mut Histogram) {
        match self.source {
            Source::Protobuf(parser) => *histogram = of_protobuf(parser),
            Source::CustomBuckets(parser) => parser.read_into(histogram),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.read_into(histogram),
        }
    }
}

fn of_protobuf(parser: &ProtobufParser<'_>) -> Histogram {
    let histogram = &parser.metric().histogram;
    let (positive_spans, positive_deltas, positive_counts) = side(parser, POSITIVE);
    let (negative_spans, negative_deltas, negative_counts) = side(parser, NEGATIVE);
    let (counts, positive_spans, negative_spans) = if histogram.is_float() {
        let (positive_spans, positive) = without_empty(&positive_spans, positive_counts);
        let (negative_spans, negative) = without_empty(&negative_spans, negative_counts);
        let zero_count = histogram.zero_count_float;
        (
            BucketCounts::Float { count: histogram.count_float, zero_count, positive, negative },
            positive_spans,
            negative_spans,
        )
    } else {
        let (positive_spans, positive) = without_empty(&positive_spans, absolute(positive_deltas));
        let (negative_spans, negative) = without_empty(&negative_spans, absolute(negative_deltas));
        let (positive, negative) = (deltas(positive), deltas(negative));
        let zero_count = histogram.zero_count;
        (
            BucketCounts::Integer { count: histogram.count, zero_count, positive, negative },
            positive_spans,
            negative_spans,
        )
    };
    Histogram {
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        sum: histogram.sum,
        counts,
        positive_spans,
        negative_spans,
        custom_values: Vec::new(),
        reset_hint: match parser.metric_type() {
            MetricType::GaugeHistogram => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        },
    }
}

fn side(parser: &ProtobufParser<'_>, fields: SideFields) -> (Vec<Span>, Vec<i64>, Vec<f64>) {
    let (mut spans, mut deltas, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    // Judged when the metric was read, so an error cannot come.
    let _ = metric::read_side(
        parser.metric_message(),
        fields,
        |offset, length| spans.push(Span { offset, length }),
        |delta| deltas.push(delta),
        |count| counts.push(count),
    );
    (spans, deltas, counts)
}

impl fmt::Debug for HistogramEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut labels = LabelBuffer::new();
        let judged = self.labels(&mut labels);
        f.debug_struct("HistogramEvent")
            .field("labels", &judged.map(|()| labels))
            .field("histogram", &self.histogram())
            .field("timestamp", &self.timestamp)
            .finish()
    }
}

/// Leaves out empty buckets and joins what touches (Prometheus' `Compact(0)`).
fn without_empty<T: Copy + Default + PartialEq>(spans: &[Span], buckets: Vec<T>) -> (Vec<Span>, Vec<T>) {
    let mut kept_spans: Vec<Span> = Vec::new();
    let mut kept = Vec::with_capacity(buckets.len());
    let mut buckets = buckets.into_iter();
    let mut index: i64 = 0;
    // The index behind the last kept bucket.
    let mut end: i64 = 0;
    for span in spans {
        index += i64::from(span.offset);
        for _ in 0..span.length {
            let Some(bucket) = buckets.next() else { return (kept_spans, kept) };
            if bucket != T::default() {
                kept.push(bucket);
                match kept_spans.last_mut() {
                    Some(last) if end == index => last.length += 1,
                    // Offsets that 32 bits cannot hold come from spans that no storage takes either.
                    _ => kept_spans.push(Span { offset: (index - end) as i32, length: 1 }),
                }
                end = index + 1;
            }
            index += 1;
        }
    }
    (kept_spans, kept)
}

fn absolute(mut deltas: Vec<i64>) -> Vec<i64> {
    let mut count: i64 = 0;
    for delta in &mut deltas {
        count = count.wrapping_add(*delta);
        *delta = count;
    }
    deltas
}

fn deltas(mut counts: Vec<i64>) -> Vec<i64> {
    let mut before: i64 = 0;
    for count in &mut counts {
        (before, *count) = (*count, count.wrapping_sub(before));
    }
    counts
}
