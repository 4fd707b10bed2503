use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, Span, Timestamp};

use super::names::OpenFamily;
use super::page::{HistogramValues, SummaryValues};
use super::{Point, PointExemplar};
use crate::wire::{FIXED64, LENGTH, VARINT};

/// Appends `message` with its length in front.
pub(super) fn delimited(page: &mut Vec<u8>, message: &[u8]) {
    varint(page, message.len() as u64);
    page.extend_from_slice(message);
}

pub(super) fn metadata(message: &mut Vec<u8>, family: &OpenFamily, metadata: MetadataView<'_>) {
    let metric_type = match metadata.metric_type {
        MetricType::Counter => 0,
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => 1,
        MetricType::Summary => 2,
        MetricType::Histogram => 4,
        MetricType::GaugeHistogram => 5,
        _ => 3,
    };
    tag(message, 1, LENGTH);
    varint(message, (family.name.len() + family.suffix.len()) as u64);
    message.extend_from_slice(family.name.as_bytes());
    message.extend_from_slice(family.suffix.as_bytes());
    text(message, 2, metadata.help);
    unsigned(message, 3, metric_type);
    text(message, 5, metadata.unit);
}

pub(super) fn number(
    message: &mut Vec<u8>,
    family: &OpenFamily,
    point: &Point<'_>,
    value: f64,
    exemplars: &[PointExemplar<'_>],
) {
    let kind = match family.metric_type {
        MetricType::Counter => 3,
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => 2,
        _ => 5,
    };
    metric(message, family, point, |metric| {
        submessage(metric, kind, |number| {
            double(number, 1, value);
            if family.metric_type == MetricType::Counter {
                if let Some(exemplar) = exemplars.first() {
                    write_exemplar(number, family, 2, exemplar);
                }
                time(number, 3, point.start);
            }
        });
    });
}

pub(super) fn summary(
    message: &mut Vec<u8>,
    family: &OpenFamily,
    point: &Point<'_>,
    summary: &SummaryValues<'_>,
) {
    metric(message, family, point, |metric| {
        submessage(metric, 4, |body| {
            unsigned(body, 1, summary.count.unwrap_or(0.0) as u64);
            double(body, 2, summary.sum.unwrap_or(0.0));
            for &(quantile, value) in summary.quantiles {
                submessage(body, 3, |body| {
                    double(body, 1, quantile);
                    double(body, 2, value);
                });
            }
            time(body, 4, point.start);
        });
    });
}

pub(super) fn histogram(
    message: &mut Vec<u8>,
    family: &OpenFamily,
    point: &Point<'_>,
    histogram: &HistogramValues<'_>,
) {
    metric(message, family, point, |metric| {
        submessage(metric, 7, |body| {
            match histogram.native {
                Some(native) => write_native(body, native),
                None => {
                    count(body, 1, 4, histogram.count.unwrap_or(0.0));
                    double(body, 2, histogram.sum.unwrap_or(0.0));
                }
            }
            for bucket in histogram.buckets {
                submessage(body, 3, |body| {
                    count(body, 1, 4, bucket.cumulative_count);
                    double(body, 2, bucket.upper_bound);
                    if let Some(exemplar) = &bucket.exemplar {
                        write_exemplar(body, family, 3, exemplar);
                    }
                });
            }
            time(body, 15, point.start);
            for exemplar in histogram.exemplars {
                write_exemplar(body, family, 16, exemplar);
            }
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
        submessage(body, number, |body| {
            unsigned(body, 1, zigzag(i64::from(span.offset)));
            unsigned(body, 2, u64::from(span.length));
        });
    }
}

fn metric(message: &mut Vec<u8>, family: &OpenFamily, point: &Point<'_>, value: impl FnOnce(&mut Vec<u8>)) {
    submessage(message, 4, |metric| {
        labels(metric, family, point.labels);
        value(metric);
        if let Some(timestamp) = point.timestamp {
            unsigned(metric, 6, timestamp.as_millis() as u64);
        }
    });
}

fn labels(body: &mut Vec<u8>, family: &OpenFamily, labels: &[(&str, &str)]) {
    for (name, value) in labels {
        submessage(body, 1, |pair| {
            text(pair, 1, &family.label(name));
            text(pair, 2, value);
        });
    }
}

fn write_exemplar(body: &mut Vec<u8>, family: &OpenFamily, number: i32, exemplar: &PointExemplar<'_>) {
    submessage(body, number, |body| {
        labels(body, family, exemplar.labels);
        double(body, 2, exemplar.value);
        time(body, 3, exemplar.timestamp);
    });
}

fn time(body: &mut Vec<u8>, number: i32, time: Option<Timestamp>) {
    let Some(time) = time else { return };
    submessage(body, number, |body| {
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
fn submessage(body: &mut Vec<u8>, number: i32, write: impl FnOnce(&mut Vec<u8>)) {
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
        submessage(body, number, |body| values.iter().for_each(|value| write(body, value)));
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
