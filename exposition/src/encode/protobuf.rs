use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, Span, Timestamp};

use super::{HistogramPoint, Point, PointExemplar, SummaryPoint};
use crate::wire::{FIXED64, LENGTH, VARINT};

/// Appends `message` with its length in front.
pub(super) fn delimited(page: &mut Vec<u8>, message: &[u8]) {
    varint(page, message.len() as u64);
    page.extend_from_slice(message);
}

pub(super) fn metadata(family: &mut Vec<u8>, metadata: MetadataView<'_>) {
    let suffix = match metadata.metric_type {
        MetricType::Counter => "_total",
        MetricType::Info => "_info",
        _ => "",
    };
    let metric_type = match metadata.metric_type {
        MetricType::Counter => 0,
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => 1,
        MetricType::Summary => 2,
        MetricType::Histogram => 4,
        MetricType::GaugeHistogram => 5,
        _ => 3,
    };
    tag(family, 1, LENGTH);
    varint(family, (metadata.family.len() + suffix.len()) as u64);
    family.extend_from_slice(metadata.family.as_bytes());
    family.extend_from_slice(suffix.as_bytes());
    text(family, 2, metadata.help);
    unsigned(family, 3, metric_type);
    text(family, 5, metadata.unit);
}

pub(super) fn number(
    family: &mut Vec<u8>,
    metric_type: MetricType,
    point: &Point<'_>,
    value: f64,
    exemplar: Option<&PointExemplar<'_>>,
) {
    let kind = match metric_type {
        MetricType::Counter => 3,
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => 2,
        _ => 5,
    };
    metric(family, point, |metric| {
        message(metric, kind, |number| {
            double(number, 1, value);
            if metric_type == MetricType::Counter {
                if let Some(exemplar) = exemplar {
                    write_exemplar(number, 2, exemplar);
                }
                time(number, 3, point.start);
            }
        });
    });
}

pub(super) fn summary(family: &mut Vec<u8>, point: &Point<'_>, summary: &SummaryPoint<'_>) {
    metric(family, point, |metric| {
        message(metric, 4, |body| {
            unsigned(body, 1, summary.count as u64);
            double(body, 2, summary.sum);
            for &(quantile, value) in summary.quantiles {
                message(body, 3, |body| {
                    double(body, 1, quantile);
                    double(body, 2, value);
                });
            }
            time(body, 4, point.start);
        });
    });
}

pub(super) fn histogram(family: &mut Vec<u8>, point: &Point<'_>, histogram: &HistogramPoint<'_>) {
    metric(family, point, |metric| {
        message(metric, 7, |body| {
            match histogram.native {
                Some(native) => write_native(body, native),
                None => {
                    count(body, 1, 4, histogram.count);
                    double(body, 2, histogram.sum);
                }
            }
            for bucket in histogram.buckets {
                message(body, 3, |body| {
                    count(body, 1, 4, bucket.cumulative_count);
                    double(body, 2, bucket.upper_bound);
                    if let Some(exemplar) = &bucket.exemplar {
                        write_exemplar(body, 3, exemplar);
                    }
                });
            }
            time(body, 15, point.start);
        });
    });
}

fn write_native(body: &mut Vec<u8>, histogram: &Histogram) {
    match &histogram.counts {
        BucketCounts::Integer { count, zero_count, positive, negative } => {
            unsigned(body, 1, *count);
            unsigned(body, 7, *zero_count);
            packed(body, 10, negative, |body, delta| varint(body, zigzag(*delta)));
            packed(body, 13, positive, |body, delta| varint(body, zigzag(*delta)));
        }
        BucketCounts::Float { count, zero_count, positive, negative } => {
            double(body, 4, *count);
            double(body, 8, *zero_count);
            packed(body, 11, negative, |body, count| body.extend_from_slice(&count.to_le_bytes()));
            packed(body, 14, positive, |body, count| body.extend_from_slice(&count.to_le_bytes()));
        }
    }
    double(body, 2, histogram.sum);
    unsigned(body, 5, zigzag(i64::from(histogram.schema)));
    double(body, 6, histogram.zero_threshold);
    spans(body, 9, &histogram.negative_spans);
    spans(body, 12, &histogram.positive_spans);
    if histogram.positive_spans.is_empty() && histogram.negative_spans.is_empty() {
        // Without a span that says nothing, a histogram without observations would pass for a classic one.
        spans(body, 12, &[Span::default()]);
    }
}

fn spans(body: &mut Vec<u8>, number: i32, spans: &[Span]) {
    for span in spans {
        message(body, number, |body| {
            unsigned(body, 1, zigzag(i64::from(span.offset)));
            unsigned(body, 2, u64::from(span.length));
        });
    }
}

fn metric(family: &mut Vec<u8>, point: &Point<'_>, value: impl FnOnce(&mut Vec<u8>)) {
    message(family, 4, |metric| {
        labels(metric, point.labels);
        value(metric);
        if let Some(timestamp) = point.timestamp {
            unsigned(metric, 6, timestamp.as_millis() as u64);
        }
    });
}

fn labels(body: &mut Vec<u8>, labels: &[(&str, &str)]) {
    for (name, value) in labels {
        message(body, 1, |pair| {
            text(pair, 1, name);
            text(pair, 2, value);
        });
    }
}

fn write_exemplar(body: &mut Vec<u8>, number: i32, exemplar: &PointExemplar<'_>) {
    message(body, number, |body| {
        labels(body, exemplar.labels);
        double(body, 2, exemplar.value);
        time(body, 3, exemplar.timestamp);
    });
}

fn time(body: &mut Vec<u8>, number: i32, time: Option<Timestamp>) {
    let Some(time) = time else { return };
    message(body, number, |body| {
        unsigned(body, 1, time.as_millis().div_euclid(1000) as u64);
        unsigned(body, 2, time.as_millis().rem_euclid(1000) as u64 * 1_000_000);
    });
}

/// A count: as an integer if it is one, else in its float field.
fn count(body: &mut Vec<u8>, integer_number: i32, float_number: i32, count: f64) {
    if count.fract() == 0.0 && (0.0..2_f64.powi(63)).contains(&count) {
        unsigned(body, integer_number, count as u64);
    } else {
        double(body, float_number, count);
    }
}

/// A submessage; its length is known when it has been written, so it is moved to make room.
fn message(body: &mut Vec<u8>, number: i32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(body, number, LENGTH);
    let start = body.len();
    write(body);
    let length = body.len() - start;
    varint(body, length as u64);
    let prefix = body.len() - start - length;
    body[start..].rotate_right(prefix);
}

fn packed<T>(body: &mut Vec<u8>, number: i32, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    if !values.is_empty() {
        message(body, number, |body| values.iter().for_each(|value| write(body, value)));
    }
}

fn text(body: &mut Vec<u8>, number: i32, text: &str) {
    if !text.is_empty() {
        tag(body, number, LENGTH);
        varint(body, text.len() as u64);
        body.extend_from_slice(text.as_bytes());
    }
}

fn double(body: &mut Vec<u8>, number: i32, value: f64) {
    if value.to_bits() != 0 {
        tag(body, number, FIXED64);
        body.extend_from_slice(&value.to_le_bytes());
    }
}

fn unsigned(body: &mut Vec<u8>, number: i32, value: u64) {
    if value != 0 {
        tag(body, number, VARINT);
        varint(body, value);
    }
}

fn tag(body: &mut Vec<u8>, number: i32, wire: u8) {
    varint(body, u64::from(number.unsigned_abs()) << 3 | u64::from(wire));
}

fn varint(body: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        body.push(value as u8 | 0x80);
        value >>= 7;
    }
    body.push(value as u8);
}

const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}
