//! What OpenMetrics 2.0 has room for.

use promferry_model::{BucketCounts, Histogram, LabelsBuilder, MetricType, ResetHint, Timestamp};

use super::collect::{Collector, Part};
use super::kept::{as_read_from_seconds, bound_kept, implied_classic, native_count, number_kept_by};
use super::read::spelling;
use super::{Bucket, Exemplar, HistogramValue, MetricFamily, MetricPoint, PointValue, Quantile};
use crate::Format;

impl MetricFamily {
    pub(super) fn as_kept_by_openmetrics2(&self) -> Self {
        let mut collector = Collector::new();
        collector.families.push(self.header_kept_by_openmetrics2());
        for metric in &self.metrics {
            let labels = LabelsBuilder::from(&metric.labels);
            for point in metric.points.iter().filter(|point| !point.value.is_empty()) {
                let has_start = matches!(
                    self.metric_type,
                    MetricType::Counter | MetricType::Histogram | MetricType::Summary
                );
                let time = point.timestamp.map(as_read_from_seconds);
                let start = point.start.filter(|_| has_start).map(as_read_from_seconds);
                let start = start.filter(|start| start.as_millis() != 0);
                self.parts_kept_by_openmetrics2(point, |part, exemplars| {
                    collector.add(0, &labels, part, time, start, exemplars);
                });
            }
        }
        collector.families.pop().unwrap_or_default()
    }

    fn header_kept_by_openmetrics2(&self) -> Self {
        let Self { metric_type, ref unit, ref help, .. } = *self;
        let (name, suffixed) = match metric_type {
            MetricType::Info => (self.name.clone(), true),
            _ => {
                let mut name = self.written_name();
                let (length, suffixed) = spelling(metric_type, &name, "").unwrap_or((name.len(), false));
                name.truncate(length);
                (name, suffixed)
            }
        };
        Self { name, metric_type, suffixed, unit: unit.clone(), help: help.clone(), metrics: Vec::new() }
    }

    fn parts_kept_by_openmetrics2(&self, point: &MetricPoint, mut part: impl FnMut(Part, Vec<Exemplar>)) {
        match &point.value {
            PointValue::Number(value) => {
                let is_counter = self.metric_type == MetricType::Counter;
                let exemplars = kept_exemplars(point.exemplars.iter().filter(|_| is_counter));
                part(Part::Number(number_kept(*value)), exemplars);
            }
            PointValue::Summary(summary) => {
                part(Part::Count(number_kept(summary.count.unwrap_or_default())), Vec::new());
                part(Part::Sum(number_kept(summary.sum.unwrap_or_default())), Vec::new());
                for quantile in &summary.quantiles {
                    let value = number_kept(quantile.value);
                    let quantile = Quantile { quantile: bound_kept(quantile.quantile), value };
                    part(Part::Quantile(quantile), Vec::new());
                }
            }
            PointValue::Histogram(histogram) => {
                let of_buckets = histogram.buckets.iter().filter_map(|bucket| bucket.exemplar.as_deref());
                let exemplars = kept_exemplars(of_buckets.chain(&point.exemplars));
                match histogram.native.as_deref() {
                    Some(native) if (-4..=8).contains(&native.schema) => {
                        let native = native_kept(native, self.metric_type);
                        let classic = (!histogram.buckets.is_empty()).then(|| HistogramValue {
                            count: Some(native_count(&native)),
                            sum: Some(native.sum),
                            buckets: histogram.buckets.clone(),
                            native: None,
                        });
                        part(Part::Native(Box::new(native)), exemplars.clone());
                        if let Some(classic) = classic {
                            classic_kept(&classic, exemplars, part);
                        }
                    }
                    Some(native) if histogram.buckets.is_empty() => {
                        classic_kept(&implied_classic(histogram, native), exemplars, part);
                    }
                    _ => classic_kept(histogram, exemplars, part),
                }
            }
        }
    }
}

fn number_kept(value: f64) -> f64 {
    number_kept_by(Format::OpenMetrics2, value)
}

/// Those that have a time, which is mandatory.
fn kept_exemplars<'e>(exemplars: impl Iterator<Item = &'e Exemplar>) -> Vec<Exemplar> {
    let kept = |exemplar: &Exemplar| {
        let timestamp: Timestamp = exemplar.timestamp?;
        Some(Exemplar {
            labels: exemplar.labels.clone(),
            value: number_kept(exemplar.value),
            timestamp: Some(as_read_from_seconds(timestamp)),
        })
    };
    exemplars.filter_map(kept).collect()
}

/// A line's exemplars come back with the bucket that counts their value; more than one is the point's.
fn classic_kept(
    histogram: &HistogramValue,
    exemplars: Vec<Exemplar>,
    mut part: impl FnMut(Part, Vec<Exemplar>),
) {
    let mut exemplars: Vec<(usize, Exemplar)> = exemplars.into_iter().enumerate().collect();
    exemplars.sort_by(|(_, a), (_, b)| a.value.total_cmp(&b.value));
    let last = histogram.buckets.last();
    let count = histogram.count.or_else(|| last.map(|last| last.cumulative_count)).unwrap_or_default();
    part(Part::Count(number_kept(count)), Vec::new());
    part(Part::Sum(number_kept(histogram.sum.unwrap_or_default())), Vec::new());
    let is_missing = last.is_none_or(|last| last.upper_bound != f64::INFINITY);
    let infinity = Bucket { upper_bound: f64::INFINITY, cumulative_count: count, exemplar: None };
    for bucket in histogram.buckets.iter().chain(is_missing.then_some(&infinity)) {
        let bound = bucket.upper_bound;
        let length =
            exemplars.partition_point(|(_, exemplar)| exemplar.value <= bound || bound == f64::INFINITY);
        let mut own: Vec<(usize, Exemplar)> = exemplars.drain(..length).collect();
        own.sort_by_key(|(number, _)| *number);
        let bucket = Bucket {
            upper_bound: bound_kept(bound),
            cumulative_count: number_kept(bucket.cumulative_count),
            exemplar: None,
        };
        part(Part::Bucket(bucket), own.into_iter().map(|(_, exemplar)| exemplar).collect());
    }
}

/// Numbers are read as 64-bit floats; one of them that is no integer makes a histogram of floats.
fn native_kept(native: &Histogram, metric_type: MetricType) -> Histogram {
    let is_integer = |count: f64| count.trunc() == count && count < 2_f64.powi(64);
    let counts = match &native.counts {
        BucketCounts::Float { count, zero_count, positive, negative }
            if positive.is_empty()
                && negative.is_empty()
                && is_integer(*count)
                && is_integer(*zero_count) =>
        {
            BucketCounts::Integer {
                count: *count as u64,
                zero_count: *zero_count as u64,
                positive: Vec::new(),
                negative: Vec::new(),
            }
        }
        BucketCounts::Integer { count, zero_count, positive, negative } => BucketCounts::Integer {
            count: *count as f64 as u64,
            zero_count: *zero_count as f64 as u64,
            positive: positive.clone(),
            negative: negative.clone(),
        },
        BucketCounts::Float { count, zero_count, positive, negative } => BucketCounts::Float {
            count: number_kept(*count),
            zero_count: number_kept(*zero_count),
            positive: positive.clone(),
            negative: negative.clone(),
        },
    };
    Histogram {
        sum: number_kept(native.sum),
        counts,
        custom_values: Vec::new(),
        reset_hint: match metric_type {
            MetricType::GaugeHistogram => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        },
        ..native.clone()
    }
}
