//! Equality by bits: a not-a-number equals itself, and the two zeros differ, as they do for who stores them.

use promferry_model::{BucketCounts, Histogram};

use super::{Bucket, Exemplar, HistogramValue, PointValue, Quantile, SummaryValue};

impl PartialEq for PointValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => same(*a, *b),
            (Self::Summary(a), Self::Summary(b)) => a == b,
            (Self::Histogram(a), Self::Histogram(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for PointValue {}

impl PartialEq for SummaryValue {
    fn eq(&self, other: &Self) -> bool {
        let Self { count, sum, quantiles } = self;
        same_option(*count, other.count) && same_option(*sum, other.sum) && *quantiles == other.quantiles
    }
}

impl Eq for SummaryValue {}

impl PartialEq for Quantile {
    fn eq(&self, other: &Self) -> bool {
        same(self.quantile, other.quantile) && same(self.value, other.value)
    }
}

impl Eq for Quantile {}

impl PartialEq for HistogramValue {
    fn eq(&self, other: &Self) -> bool {
        let Self { count, sum, buckets, native } = self;
        same_option(*count, other.count)
            && same_option(*sum, other.sum)
            && *buckets == other.buckets
            && match (native, &other.native) {
                (Some(a), Some(b)) => same_histogram(a, b),
                (None, None) => true,
                _ => false,
            }
    }
}

impl Eq for HistogramValue {}

impl PartialEq for Bucket {
    fn eq(&self, other: &Self) -> bool {
        let Self { upper_bound, cumulative_count, exemplar } = self;
        same(*upper_bound, other.upper_bound)
            && same(*cumulative_count, other.cumulative_count)
            && *exemplar == other.exemplar
    }
}

impl Eq for Bucket {}

impl PartialEq for Exemplar {
    fn eq(&self, other: &Self) -> bool {
        let Self { labels, value, timestamp } = self;
        *labels == other.labels && same(*value, other.value) && *timestamp == other.timestamp
    }
}

impl Eq for Exemplar {}

const fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

fn same_option(a: Option<f64>, b: Option<f64>) -> bool {
    a.map(f64::to_bits) == b.map(f64::to_bits)
}

fn same_all(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(*a, *b))
}

fn same_histogram(a: &Histogram, b: &Histogram) -> bool {
    a.schema == b.schema
        && same(a.zero_threshold, b.zero_threshold)
        && same(a.sum, b.sum)
        && same_counts(&a.counts, &b.counts)
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && same_all(&a.custom_values, &b.custom_values)
        && a.reset_hint == b.reset_hint
}

fn same_counts(a: &BucketCounts, b: &BucketCounts) -> bool {
    match (a, b) {
        (
            BucketCounts::Float { count, zero_count, positive, negative },
            BucketCounts::Float {
                count: b_count,
                zero_count: b_zero,
                positive: b_positive,
                negative: b_negative,
            },
        ) => {
            same(*count, *b_count)
                && same(*zero_count, *b_zero)
                && same_all(positive, b_positive)
                && same_all(negative, b_negative)
        }
        _ => a == b,
    }
}
