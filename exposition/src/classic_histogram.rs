//! A classic histogram becomes a native one with custom buckets, as Prometheus 3.16 makes it (`util/convertnhcb`).

use std::collections::BTreeMap;

use promferry_model::{BucketCounts, CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint, Span};

/// So many empty buckets in a row stand in a span of an integer histogram; more of them part it in two.
const EMPTY_BUCKETS_IN_A_SPAN: u32 = 2;

/// The samples of one classic histogram as they come.
#[derive(Debug)]
pub(crate) struct ClassicHistogram {
    /// Growing bounds with cumulative counts.
    buckets: Vec<Bucket>,
    /// The buckets, by [`order`] of their bounds, once one has come out of order: putting that in its place in a
    /// list would take time with the list's length.
    unordered: BTreeMap<u64, Bucket>,
    count: Option<f64>,
    sum: f64,
    problem: Option<Unconvertible>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    upper_bound: f64,
    cumulative_count: f64,
}

/// Why a classic histogram is none that can be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unconvertible {
    NanBound,
    NegativeBucketCount,
    NegativeCount,
    Empty,
    NotCumulative,
    CountMismatch,
}

impl Unconvertible {
    pub(crate) const fn problem(self) -> &'static str {
        match self {
            Self::NanBound => "bound of a classic bucket is not a number",
            Self::NegativeBucketCount => "count of a classic bucket is negative",
            Self::NegativeCount => "count of the classic histogram is negative",
            Self::Empty => "classic histogram has neither a count nor a bucket",
            Self::NotCumulative => "counts of classic buckets do not grow with their bounds",
            Self::CountMismatch => "count of the classic histogram is another than its last bucket's",
        }
    }
}

impl ClassicHistogram {
    pub(crate) const fn new() -> Self {
        Self { buckets: Vec::new(), unordered: BTreeMap::new(), count: None, sum: 0.0, problem: None }
    }

    /// Forgets every sample.
    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
        self.unordered.clear();
        self.count = None;
        self.sum = 0.0;
        self.problem = None;
    }

    /// A bucket; of several with the same bound the first counts.
    pub(crate) fn add_bucket(&mut self, upper_bound: f64, cumulative_count: f64) {
        if self.problem.is_some() {
            return;
        }
        if upper_bound.is_nan() {
            self.problem = Some(Unconvertible::NanBound);
        } else if cumulative_count < 0.0 {
            self.problem = Some(Unconvertible::NegativeBucketCount);
        } else {
            let bucket = Bucket { upper_bound, cumulative_count };
            let placed = if self.unordered.is_empty() { self.append(bucket) } else { self.insert(bucket) };
            if !placed {
                self.problem = Some(Unconvertible::NotCumulative);
            }
        }
    }

    pub(crate) fn set_count(&mut self, count: f64) {
        if self.problem.is_some() {
            return;
        }
        if count < 0.0 {
            self.problem = Some(Unconvertible::NegativeCount);
        } else {
            self.count = Some(count);
        }
    }

    pub(crate) fn set_sum(&mut self, sum: f64) {
        if self.problem.is_none() {
            self.sum = sum;
        }
    }

    /// Puts the native histogram into `histogram`, whose lists are used again. What `histogram` is after an error
    /// is not said.
    pub(crate) fn convert(&mut self, histogram: &mut Histogram) -> Result<(), Unconvertible> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        if !self.unordered.is_empty() {
            self.buckets.clear();
            self.buckets.extend(self.unordered.values());
            self.unordered.clear();
        }
        let last = self.buckets.last().copied();
        let count =
            self.count.or_else(|| last.map(|last| last.cumulative_count)).ok_or(Unconvertible::Empty)?;
        if last.is_none_or(|last| last.upper_bound != f64::INFINITY) {
            self.buckets.push(Bucket { upper_bound: f64::INFINITY, cumulative_count: count });
        }
        let last_bucket = self.buckets.last().map_or(0.0, |last| last.cumulative_count);
        // Also where one of them is not a number.
        if count != last_bucket {
            return Err(Unconvertible::CountMismatch);
        }
        histogram.schema = CUSTOM_BUCKETS_SCHEMA;
        histogram.zero_threshold = 0.0;
        histogram.sum = self.sum;
        histogram.reset_hint = ResetHint::Unknown;
        histogram.negative_spans.clear();
        histogram.custom_values.clear();
        let bounds = self.buckets.iter().map(|bucket| bucket.upper_bound);
        histogram.custom_values.extend(bounds.filter(|bound| *bound != f64::INFINITY));
        let counts = self.buckets.iter().map(|bucket| bucket.cumulative_count);
        if counts.clone().all(is_integer) {
            let (mut before, mut delta_of, mut buckets) =
                (0, Deltas::default(), integers(&mut histogram.counts));
            let own = counts.map(|count| count as i64 - std::mem::replace(&mut before, count as i64));
            compact(own, EMPTY_BUCKETS_IN_A_SPAN, &mut histogram.positive_spans, |own| {
                buckets.push(delta_of.next(own));
            });
            histogram.counts = BucketCounts::Integer {
                count: count as u64,
                zero_count: 0,
                positive: std::mem::take(&mut buckets),
                negative: Vec::new(),
            };
        } else {
            let (mut before, mut buckets) = (0.0, floats(&mut histogram.counts));
            let own = counts.map(|count| count - std::mem::replace(&mut before, count));
            compact(own, 0, &mut histogram.positive_spans, |own| buckets.push(own));
            histogram.counts = BucketCounts::Float {
                count,
                zero_count: 0.0,
                positive: std::mem::take(&mut buckets),
                negative: Vec::new(),
            };
        }
        // What is left to go wrong: a count, which is a last bucket's, below that of the bucket before.
        histogram.validate().map_err(|_| Unconvertible::NotCumulative)
    }

    /// Appends a bucket that comes in order; whether its count fits.
    fn append(&mut self, bucket: Bucket) -> bool {
        let Some(last) = self.buckets.last() else {
            self.buckets.push(bucket);
            return true;
        };
        if last.upper_bound < bucket.upper_bound {
            // A comparison with what is not a number says no, as in Go.
            let falls = bucket.cumulative_count < last.cumulative_count;
            self.buckets.push(bucket);
            !falls
        } else if last.upper_bound == bucket.upper_bound {
            true
        } else {
            self.unordered.extend(self.buckets.drain(..).map(|bucket| (order(bucket.upper_bound), bucket)));
            self.insert(bucket)
        }
    }

    /// Puts a bucket between those that are there; whether its count fits.
    fn insert(&mut self, bucket: Bucket) -> bool {
        let key = order(bucket.upper_bound);
        if self.unordered.contains_key(&key) {
            return true;
        }
        let count = bucket.cumulative_count;
        let below = self.unordered.range(..key).next_back();
        let above = self.unordered.range(key..).next();
        let falls = below.is_some_and(|(_, below)| count < below.cumulative_count);
        let exceeds = above.is_some_and(|(_, above)| count > above.cumulative_count);
        self.unordered.insert(key, bucket);
        !falls && !exceeds
    }
}

/// Puts a copy of `from` into `into`, whose lists are used again.
pub(crate) fn copy_histogram(from: &Histogram, into: &mut Histogram) {
    let Histogram { schema, zero_threshold, sum, reset_hint, .. } = *from;
    (into.schema, into.zero_threshold, into.sum, into.reset_hint) = (schema, zero_threshold, sum, reset_hint);
    into.positive_spans.clone_from(&from.positive_spans);
    into.negative_spans.clone_from(&from.negative_spans);
    into.custom_values.clone_from(&from.custom_values);
    match (&from.counts, &mut into.counts) {
        (
            BucketCounts::Integer { count, zero_count, positive, negative },
            BucketCounts::Integer {
                count: into_count,
                zero_count: into_zero_count,
                positive: into_positive,
                negative: into_negative,
            },
        ) => {
            (*into_count, *into_zero_count) = (*count, *zero_count);
            into_positive.clone_from(positive);
            into_negative.clone_from(negative);
        }
        (
            BucketCounts::Float { count, zero_count, positive, negative },
            BucketCounts::Float {
                count: into_count,
                zero_count: into_zero_count,
                positive: into_positive,
                negative: into_negative,
            },
        ) => {
            (*into_count, *into_zero_count) = (*count, *zero_count);
            into_positive.clone_from(positive);
            into_negative.clone_from(negative);
        }
        (counts, into_counts) => *into_counts = counts.clone(),
    }
}

/// A number that grows with a bound; both zeros have the same.
fn order(bound: f64) -> u64 {
    let bits = if bound == 0.0 { 0 } else { bound.to_bits() };
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// Whether a count is a number that 64 bits hold as an integer.
fn is_integer(count: f64) -> bool {
    count.trunc() == count && count < 2_f64.powi(63)
}

/// The first is a count, each further one the difference to the one before.
#[derive(Default)]
struct Deltas {
    before: i64,
}

impl Deltas {
    fn next(&mut self, count: i64) -> i64 {
        count.wrapping_sub(std::mem::replace(&mut self.before, count))
    }
}

/// Notes in `spans` which of the buckets, which are numbered from 0, are kept, and gives those to `keep`: all but
/// the empty ones of a run that is longer than `max_empty` or at either end (Prometheus' `Compact(max_empty)`).
fn compact<T: Copy + Default + PartialEq>(
    buckets: impl Iterator<Item = T>,
    max_empty: u32,
    spans: &mut Vec<Span>,
    mut keep: impl FnMut(T),
) {
    spans.clear();
    let mut empty: u32 = 0;
    for bucket in buckets {
        if bucket == T::default() {
            empty += 1;
            continue;
        }
        match spans.last_mut() {
            Some(span) if empty <= max_empty => {
                span.length += empty + 1;
                (0..empty).for_each(|_| keep(T::default()));
            }
            // Every bucket takes bytes of the page, so there are not so many.
            _ => spans.push(Span { offset: empty as i32, length: 1 }),
        }
        keep(bucket);
        empty = 0;
    }
}

fn integers(counts: &mut BucketCounts) -> Vec<i64> {
    match counts {
        BucketCounts::Integer { positive, .. } => {
            positive.clear();
            std::mem::take(positive)
        }
        BucketCounts::Float { .. } => Vec::new(),
    }
}

fn floats(counts: &mut BucketCounts) -> Vec<f64> {
    match counts {
        BucketCounts::Float { positive, .. } => {
            positive.clear();
            std::mem::take(positive)
        }
        BucketCounts::Integer { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(buckets: &[(f64, f64)], count: Option<f64>) -> Result<Histogram, Unconvertible> {
        let mut classic = ClassicHistogram::new();
        for &(upper_bound, cumulative_count) in buckets {
            classic.add_bucket(upper_bound, cumulative_count);
        }
        if let Some(count) = count {
            classic.set_count(count);
        }
        classic.set_sum(1.5);
        let mut histogram = Histogram::stale();
        classic.convert(&mut histogram).map(|()| histogram)
    }

    #[test]
    fn short_runs_of_empty_buckets_stay_in_integer_histograms() {
        let cumulative = [0.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0, 4.0, 4.0];
        let buckets: Vec<(f64, f64)> =
            cumulative.iter().enumerate().map(|(at, &count)| (at as f64, count)).collect();
        let histogram = converted(&buckets, None).unwrap();
        assert_eq!(
            histogram.positive_spans,
            [Span { offset: 1, length: 4 }, Span { offset: 3, length: 1 }],
            "{histogram:?}"
        );
        let BucketCounts::Integer { count: 4, positive, .. } = &histogram.counts else {
            panic!("{histogram:?}")
        };
        assert_eq!(*positive, [1, -1, 0, 2, -1]);
        assert_eq!(histogram.custom_values.len(), 10);
    }

    #[test]
    fn one_fraction_makes_all_counts_floats_without_empty_buckets() {
        let histogram = converted(&[(1.0, 0.5), (2.0, 0.5), (3.0, 2.0)], Some(2.0)).unwrap();
        let BucketCounts::Float { count: 2.0, positive, .. } = &histogram.counts else {
            panic!("{histogram:?}")
        };
        assert_eq!(*positive, [0.5, 1.5]);
        assert_eq!(histogram.positive_spans, [Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }]);
    }

    #[test]
    fn buckets_out_of_order_are_put_in_order_and_judged_on_the_way() {
        let infinity = f64::INFINITY;
        let ordered =
            converted(&[(-0.5, 1.0), (0.0, 2.0), (1.0, 2.0), (5.0, 4.0), (infinity, 4.0)], Some(4.0));
        let shuffled =
            [(1.0, 2.0), (-0.5, 1.0), (infinity, 4.0), (-0.0, 2.0), (5.0, 4.0), (0.0, 77.0), (1.0, 9.0)];
        let mut shuffled = converted(&shuffled, Some(4.0)).unwrap();
        assert_eq!(
            shuffled.custom_values[1].to_bits(),
            (-0.0_f64).to_bits(),
            "the first of its bound counts"
        );
        shuffled.custom_values[1] = 0.0;
        assert_eq!(Ok(shuffled), ordered);
        for falling in [[(2.0, 1.0), (1.0, 5.0)], [(1.0, 5.0), (2.0, 1.0)]] {
            let refused = converted(&falling, None);
            assert!(matches!(refused, Err(Unconvertible::NotCumulative)), "{refused:?}");
        }
    }

    #[test]
    fn what_cannot_be_converted_is_named() {
        let none: &[(f64, f64)] = &[];
        let cases = [
            (none, None, Unconvertible::Empty),
            (&[(f64::NAN, 1.0)], Some(1.0), Unconvertible::NanBound),
            (&[(1.0, -1.0)], Some(1.0), Unconvertible::NegativeBucketCount),
            (&[(1.0, 1.0)], Some(-1.0), Unconvertible::NegativeCount),
            (&[(f64::INFINITY, 1.0)], Some(2.0), Unconvertible::CountMismatch),
            (&[(1.0, 5.0)], Some(2.0), Unconvertible::NotCumulative),
        ];
        for (buckets, count, expected) in cases {
            assert_eq!(converted(buckets, count), Err(expected));
        }
    }
}
