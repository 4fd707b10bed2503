//! Making native histograms coarser until they keep a job's limits.

use promferry_model::{BucketCounts, CUSTOM_BUCKETS_SCHEMA, Histogram, Span};

/// `native_histogram_bucket_limit` and `native_histogram_min_bucket_factor` of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistogramLimits {
    /// Most buckets, zero for any number.
    buckets: usize,
    /// The finest schema.
    max_schema: i32,
}

impl HistogramLimits {
    pub(crate) fn new(buckets: u64, min_bucket_factor: f64) -> Self {
        Self {
            buckets: usize::try_from(buckets).unwrap_or(usize::MAX),
            max_schema: if min_bucket_factor > 0.0 {
                schema_of_factor(min_bucket_factor)
            } else {
                MAX_SCHEMA
            },
        }
    }

    /// Whether `histogram` has to be made coarser.
    pub(crate) fn exceeded_by(&self, histogram: &Histogram) -> bool {
        let too_many = self.buckets > 0 && histogram.bucket_count() > self.buckets;
        too_many || (is_exponential(histogram.schema) && histogram.schema > self.max_schema)
    }

    /// Makes `histogram` as coarse as needed. `false` when it cannot be made to fit.
    ///
    /// The order is Prometheus': the factor first, then the number of buckets (3.16 `scrape/target.go`).
    pub(crate) fn apply(&self, histogram: &mut Histogram) -> bool {
        if is_exponential(histogram.schema) && histogram.schema > self.max_schema {
            reduce_resolution(histogram, self.max_schema);
        }
        while self.buckets > 0 && histogram.bucket_count() > self.buckets {
            if !is_exponential(histogram.schema) || histogram.schema <= MIN_SCHEMA {
                return false;
            }
            let schema = histogram.schema - 1;
            reduce_resolution(histogram, schema);
        }
        true
    }
}

const MIN_SCHEMA: i32 = -4;
const MAX_SCHEMA: i32 = 8;

fn is_exponential(schema: i32) -> bool {
    schema != CUSTOM_BUCKETS_SCHEMA
}

/// The finest schema whose buckets grow by at least `factor` (3.16 `scrape/scrape.go` `pickSchema`).
fn schema_of_factor(factor: f64) -> i32 {
    let factor = if factor <= 1.0 { 1.00271 } else { factor };
    let floor = (-factor.log2().log2()).floor();
    floor.clamp(f64::from(MIN_SCHEMA), f64::from(MAX_SCHEMA)) as i32
}

/// Merges buckets so that the schema becomes `schema`, which is smaller than the histogram's.
fn reduce_resolution(histogram: &mut Histogram, schema: i32) {
    let by = (histogram.schema - schema).unsigned_abs();
    match &mut histogram.counts {
        BucketCounts::Integer { positive, negative, .. } => {
            merge_deltas(&mut histogram.positive_spans, positive, by);
            merge_deltas(&mut histogram.negative_spans, negative, by);
        }
        BucketCounts::Float { positive, negative, .. } => {
            merge(&mut histogram.positive_spans, positive, by, std::ops::Add::add);
            merge(&mut histogram.negative_spans, negative, by, std::ops::Add::add);
        }
    }
    histogram.schema = schema;
}

fn merge_deltas(spans: &mut Vec<Span>, deltas: &mut Vec<i64>, by: u32) {
    let mut count = 0i64;
    for delta in deltas.iter_mut() {
        count = count.wrapping_add(*delta);
        *delta = count;
    }
    merge(spans, deltas, by, i64::wrapping_add);
    let mut before = 0i64;
    for count in deltas.iter_mut() {
        let delta = count.wrapping_sub(before);
        before = std::mem::replace(count, delta);
    }
}

/// Merges absolute counts: bucket `i` becomes part of bucket `ceil(i / 2^by)`.
fn merge<T: Copy>(spans: &mut Vec<Span>, counts: &mut Vec<T>, by: u32, add: fn(T, T) -> T) {
    let mut merged: Vec<(i64, T)> = Vec::with_capacity(counts.len());
    let mut index = 0i64;
    let mut next = counts.iter();
    for span in spans.iter() {
        index += i64::from(span.offset);
        for &count in next.by_ref().take(span.length as usize) {
            let target = ((index - 1) >> by.min(62)) + 1;
            match merged.last_mut() {
                Some((last, sum)) if *last == target => *sum = add(*sum, count),
                _ => merged.push((target, count)),
            }
            index += 1;
        }
    }
    spans.clear();
    let mut end = 0i64;
    for &(index, _) in &merged {
        match spans.last_mut() {
            Some(span) if index == end => span.length += 1,
            // Indices only shrink towards zero, so an offset fits where the finer ones did.
            _ => spans.push(Span { offset: i32::try_from(index - end).unwrap_or(i32::MAX), length: 1 }),
        }
        end = index + 1;
    }
    counts.clear();
    counts.extend(merged.into_iter().map(|(_, count)| count));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn integer(schema: i32, spans: &[(i32, u32)], deltas: &[i64]) -> Histogram {
        Histogram {
            schema,
            positive_spans: spans.iter().map(|&(offset, length)| Span { offset, length }).collect(),
            counts: BucketCounts::Integer {
                count: 0,
                zero_count: 0,
                positive: deltas.to_vec(),
                negative: Vec::new(),
            },
            // The marker's own sum equals nothing, not even itself.
            sum: 0.0,
            ..Histogram::stale()
        }
    }

    #[test]
    fn factors_pick_schemas() {
        for (factor, schema) in
            [(65_536.0, -4), (256.0, -3), (2.0, 0), (1.1, 2), (1.0, 8), (0.0001, 8), (1e300, -4), (4.0, -1)]
        {
            assert_eq!(schema_of_factor(factor), schema, "{factor}");
        }
    }

    #[test]
    fn buckets_are_merged_until_they_fit() {
        // Indices 0..=3 and 5 hold 1, 3, 0, 1, 4; merged by two: ceil(i/2) = 0, 1, 1, 2, 3.
        let mut histogram = integer(1, &[(0, 4), (1, 1)], &[1, 2, -3, 1, 3]);
        let limits = HistogramLimits::new(4, 0.0);
        assert!(limits.exceeded_by(&histogram));
        assert!(limits.apply(&mut histogram));
        assert_eq!(histogram, integer(0, &[(0, 4)], &[1, 2, -2, 3]));
        assert_eq!(histogram.check_spans(), Ok(()));

        let mut custom = integer(CUSTOM_BUCKETS_SCHEMA, &[(0, 2)], &[1, 1]);
        assert!(!HistogramLimits::new(1, 0.0).apply(&mut custom));
        let mut coarse = integer(1, &[(0, 5)], &[1, 2, 0, -2, 3]);
        assert!(HistogramLimits::new(0, 4.0).apply(&mut coarse));
        assert_eq!(coarse.schema, -1);
    }

    proptest! {
        #[test]
        fn merging_keeps_the_sum_and_the_spans_consistent(
            spans in prop::collection::vec((0i32..20, 1u32..8), 1..6), start in -50i32..50, by in 1u32..6,
        ) {
            let mut spans: Vec<Span> =
                spans.into_iter().map(|(offset, length)| Span { offset: offset + 1, length }).collect();
            spans[0].offset = start;
            let buckets: u32 = spans.iter().map(|span| span.length).sum();
            let mut counts: Vec<f64> = (1..=buckets).map(f64::from).collect();
            let sum: f64 = counts.iter().sum();
            merge(&mut spans, &mut counts, by, std::ops::Add::add);
            prop_assert_eq!(counts.iter().sum::<f64>(), sum);
            prop_assert_eq!(spans.iter().map(|span| span.length as usize).sum::<usize>(), counts.len());
            prop_assert!(spans.iter().skip(1).all(|span| span.offset > 0));
        }
    }
}
