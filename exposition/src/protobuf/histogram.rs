//! The value of a native histogram, read from the lists that were judged when its metric was reached.

use promferry_model::{BucketCounts, Histogram, MetricType, ResetHint, Span};

use super::metric::{NEGATIVE, POSITIVE, Run, Side, SideFields, read_side};
use super::quick::{Rest, next_span};
use super::{Part, ProtobufParser};
use crate::classic_histogram::copy_histogram;
use crate::wire::{LENGTH, zigzag};

impl ProtobufParser<'_> {
    /// Puts the current native histogram into `histogram`, whose lists are used again.
    pub(crate) fn read_into(&self, histogram: &mut Histogram) {
        if let (Part::CustomBuckets, Some(converted)) = (self.part, &self.converted) {
            copy_histogram(&converted.histogram, histogram);
            return;
        }
        let read = &self.metric.histogram;
        histogram.schema = read.schema;
        histogram.zero_threshold = read.zero_threshold;
        histogram.sum = read.sum;
        histogram.custom_values.clear();
        histogram.reset_hint = match self.metric_type() {
            MetricType::GaugeHistogram => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        };
        let Histogram { counts, positive_spans, negative_spans, .. } = histogram;
        if read.is_float() {
            if !matches!(counts, BucketCounts::Float { .. }) {
                let (positive, negative) = (Vec::new(), Vec::new());
                *counts = BucketCounts::Float { count: 0.0, zero_count: 0.0, positive, negative };
            }
            if let BucketCounts::Float { count, zero_count, positive, negative } = counts {
                (*count, *zero_count) = (read.count_float, read.zero_count_float);
                self.read_floats(&read.positive, POSITIVE, positive_spans, positive);
                self.read_floats(&read.negative, NEGATIVE, negative_spans, negative);
            }
        } else {
            if !matches!(counts, BucketCounts::Integer { .. }) {
                let (positive, negative) = (Vec::new(), Vec::new());
                *counts = BucketCounts::Integer { count: 0, zero_count: 0, positive, negative };
            }
            if let BucketCounts::Integer { count, zero_count, positive, negative } = counts {
                (*count, *zero_count) = (read.count, read.zero_count);
                self.read_integers(&read.positive, POSITIVE, positive_spans, positive);
                self.read_integers(&read.negative, NEGATIVE, negative_spans, negative);
            }
        }
    }

    fn read_integers(&self, side: &Side, fields: SideFields, spans: &mut Vec<Span>, deltas: &mut Vec<i64>) {
        spans.clear();
        deltas.clear();
        if side.spans == 0 && side.deltas == 0 {
            return;
        }
        deltas.reserve(side.deltas);
        if self.metric.has_runs {
            read_spans(self.run(side.span_run), spans);
            read_deltas(self.run(side.delta_run), deltas);
        } else {
            self.read_side(fields, spans, |delta| deltas.push(delta), |_| {});
        }
        let (mut count, mut has_empty) = (0_i64, false);
        for delta in &*deltas {
            count = count.wrapping_add(*delta);
            has_empty |= count == 0;
        }
        if has_empty || has_joined(spans) {
            let mut count = 0_i64;
            for delta in &mut *deltas {
                count = count.wrapping_add(*delta);
                *delta = count;
            }
            leave_out_empty(spans, deltas);
            let mut before = 0_i64;
            for count in deltas {
                (before, *count) = (*count, count.wrapping_sub(before));
            }
        }
    }

    fn read_floats(&self, side: &Side, fields: SideFields, spans: &mut Vec<Span>, counts: &mut Vec<f64>) {
        spans.clear();
        counts.clear();
        if side.spans == 0 && side.counts == 0 {
            return;
        }
        counts.reserve(side.counts);
        if self.metric.has_runs {
            read_spans(self.run(side.span_run), spans);
            read_counts(self.run(side.count_run), counts);
        } else {
            self.read_side(fields, spans, |_| {}, |count| counts.push(count));
        }
        if counts.contains(&0.0) || has_joined(spans) {
            leave_out_empty(spans, counts);
        }
    }

    fn read_side(
        &self,
        fields: SideFields,
        spans: &mut Vec<Span>,
        delta: impl FnMut(i64),
        count: impl FnMut(f64),
    ) {
        let span = |offset, length| spans.push(Span { offset, length });
        // Judged when the metric was read, so an error cannot come.
        let _ = read_side(self.metric_message(), fields, span, delta, count);
    }

    fn run(&self, run: Run) -> Rest<'_> {
        Rest::of(self.metric_message().part(run.start, run.end))
    }
}

fn read_spans(mut run: Rest<'_>, spans: &mut Vec<Span>) {
    while run.next().is_some() {
        let Some((offset, length)) = next_span(&mut run) else { return };
        spans.push(Span { offset, length });
    }
}

/// Reads a run of packed or of single numbers.
fn read_deltas(mut run: Rest<'_>, deltas: &mut Vec<i64>) {
    let Some(tag) = run.next() else { return };
    if tag & 7 == LENGTH {
        let Some(mut packed) = run.message() else { return };
        while !packed.is_empty() {
            if let Some(numbers) = packed.short_varints() {
                deltas.extend_from_slice(&numbers.map(|number| zigzag(u64::from(number))));
            } else if let Some(number) = packed.varint() {
                deltas.push(zigzag(number));
            }
        }
        return;
    }
    while let Some(number) = run.varint() {
        deltas.push(zigzag(number));
        while let Some(numbers) = run.short_fields(tag) {
            deltas.extend_from_slice(&numbers.map(|number| zigzag(u64::from(number))));
        }
        if run.next().is_none() {
            return;
        }
    }
}

/// Reads a run of packed or of single numbers.
fn read_counts(mut run: Rest<'_>, counts: &mut Vec<f64>) {
    let Some(tag) = run.next() else { return };
    if tag & 7 == LENGTH {
        let Some(mut packed) = run.message() else { return };
        while let Some(count) = packed.double() {
            counts.push(count);
        }
        return;
    }
    while let Some(count) = run.double() {
        counts.push(count);
        if run.next().is_none() {
            return;
        }
    }
}

/// Whether a span is empty or touches the one before.
fn has_joined(spans: &[Span]) -> bool {
    spans.iter().any(|span| span.length == 0) || spans.iter().skip(1).any(|span| span.offset == 0)
}

/// Leaves out empty buckets and joins spans that have no gap between them (Prometheus' `Compact(0)`), in place.
/// `buckets` are absolute counts, as many as `spans` promise.
fn leave_out_empty<T: Copy + Default + PartialEq>(spans: &mut Vec<Span>, buckets: &mut Vec<T>) {
    let given = spans.len();
    let (mut at, mut kept) = (0, 0);
    let mut index: i64 = 0;
    // The index behind the last kept bucket.
    let mut end: i64 = 0;
    // Spans that touch after a gap and a step back, which no storage takes, stay apart.
    let mut apart = false;
    for number in 0..given {
        let span = spans[number];
        index += i64::from(span.offset);
        apart |= span.offset != 0;
        let next = at + span.length as usize;
        while at < next.min(buckets.len()) {
            let bucket = buckets[at];
            if bucket != T::default() {
                buckets[kept] = bucket;
                kept += 1;
                // What is kept is collected behind the given spans.
                match spans.last_mut() {
                    Some(last) if kept > 1 && end == index && !apart => last.length += 1,
                    // Offsets that 32 bits cannot hold come from spans that no storage takes either.
                    _ => spans.push(Span { offset: (index - end) as i32, length: 1 }),
                }
                end = index + 1;
                apart = false;
            }
            index += 1;
            at += 1;
        }
    }
    buckets.truncate(kept);
    spans.drain(..given);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_buckets_are_left_out() {
        let span = |&(offset, length)| Span { offset, length };
        type Case<'a> = (&'a [(i32, u32)], &'a [i64], &'a [(i32, u32)], &'a [i64]);
        let cases: &[Case<'_>] = &[
            (&[(3, 2)], &[1, 2], &[(3, 2)], &[1, 2]),
            (&[(3, 2)], &[0, 2], &[(4, 1)], &[2]),
            (&[(3, 3)], &[1, 0, 2], &[(3, 1), (1, 1)], &[1, 2]),
            (&[(3, 1), (0, 1), (2, 1)], &[1, 2, 3], &[(3, 2), (2, 1)], &[1, 2, 3]),
            (&[(3, 1), (1, 0), (2, 1)], &[1, 3], &[(3, 1), (3, 1)], &[1, 3]),
            (&[(0, 1), (-1, 1)], &[1, 2], &[(0, 1), (-1, 1)], &[1, 2]),
            (&[(-5, 2), (7, 1)], &[0, 0, 0], &[], &[]),
            (&[(-4, 7), (-1, 1)], &[1, 1, 1, 1, 1, 1, 0, 2], &[(-4, 6), (0, 1)], &[1, 1, 1, 1, 1, 1, 2]),
            (&[(1, 1), (3, 0), (-3, 1), (0, 2)], &[1, 2, 0, 3], &[(1, 1), (0, 1), (1, 1)], &[1, 2, 3]),
        ];
        for (spans, buckets, kept_spans, kept) in cases {
            let mut spans: Vec<_> = spans.iter().map(span).collect();
            let mut buckets = buckets.to_vec();
            leave_out_empty(&mut spans, &mut buckets);
            assert_eq!((spans, buckets), (kept_spans.iter().map(span).collect(), kept.to_vec()));
        }
    }
}
