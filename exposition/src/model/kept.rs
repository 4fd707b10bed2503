//! What a format has room for.

use promferry_model::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Histogram, LabelsBuilder, MetricType, NORMAL_NAN_BITS, ResetHint,
    Span, Timestamp,
};

use super::collect::{Collector, Part};
use super::read::spelling;
use super::{
    Bucket, Exemplar, HistogramValue, MetricFamily, MetricPoint, PointValue, Quantile, SummaryValue,
    type_suffix,
};
use crate::{Format, LeFormat, go_float};

impl MetricFamily {
    /// The family as it comes back from a page of this format: what [`read_families`](super::read_families), reading
    /// native histograms, classic ones beside them and start timestamps, gives of what the format's writer wrote of it.
    /// `None` if there is no room for it at all: protobuf has none for a family without metrics.
    ///
    /// | | text | OpenMetrics | protobuf |
    /// |---|---|---|---|
    /// | counter without `_total` | as it is | gets it | as it is |
    /// | info, state set | gauge, named as the series | info (gets `_info`), state set | as text |
    /// | gauge histogram | histogram | as it is | as it is |
    /// | unit | no | yes | yes |
    /// | help | unless all of it is blank | yes | yes |
    /// | times of points | exact | exact to ±2⁵³ ms, beyond that rounded to 64-bit float seconds | exact; 0 is none |
    /// | start (0 is none) | no | counter, histogram, summary; a metric's first one after 1970 for all its points | those and gauge histogram |
    /// | exemplars | no | one of a counter's point, one a bucket | the same; those of native histograms that have a time, and if none has, the buckets' |
    /// | native histogram | the classic one it implies, unless there is one | as text | yes; empty buckets are taken out, a reset hint but for gauges is not |
    /// | native histogram of custom buckets | as classic buckets, unless there are some | as text | as text |
    /// | missing count, sum, +Inf bucket | stay missing | stay missing | become 0, 0 and the count |
    /// | count of a summary | any number | any number | an integer |
    /// | not-a-number | one | one | all |
    ///
    /// Points without a value are in no format, and so are metrics without points.
    ///
    /// OpenMetrics 2.0 keeps what OpenMetrics does, and native histograms of the schemas −4 to 8, all exemplars that
    /// have a time (those of a histogram with the bucket that counts their value, from the second one on with the
    /// point) and a start for each point; a missing count or sum becomes 0, a missing bucket +Inf the count.
    #[must_use]
    pub fn as_kept_by(&self, format: Format) -> Option<Self> {
        #[cfg(feature = "openmetrics2")]
        if format == Format::OpenMetrics2 {
            return Some(self.as_kept_by_openmetrics2());
        }
        let mut collector = Collector::new();
        collector.families.push(self.header_kept_by(format));
        for metric in &self.metrics {
            let labels = LabelsBuilder::from(&metric.labels);
            for (point, start) in metric.points.iter().zip(self.starts_kept_by(format, &metric.points)) {
                let times = (self.time_kept_by(format, point), start);
                self.parts_kept_by(format, point, |part, exemplars| {
                    collector.add(0, &labels, part, times.0, times.1, exemplars);
                });
            }
        }
        let family = collector.families.pop()?;
        (format != Format::Protobuf || !family.metrics.is_empty()).then_some(family)
    }

    /// The metrics' name as the text format and protobuf write it.
    pub(crate) fn written_name(&self) -> String {
        let suffix = type_suffix(self.metric_type).filter(|_| self.suffixed).unwrap_or_default();
        format!("{}{suffix}", self.name)
    }

    fn header_kept_by(&self, format: Format) -> Self {
        let metric_type = match (format, self.metric_type) {
            (Format::Text | Format::Protobuf, MetricType::Info | MetricType::StateSet) => MetricType::Gauge,
            (Format::Text, MetricType::GaugeHistogram) => MetricType::Histogram,
            (_, metric_type) => metric_type,
        };
        let mut name = match format {
            Format::OpenMetrics if self.suffixed => self.name.clone(),
            _ => self.written_name(),
        };
        let is_named = format == Format::OpenMetrics && self.suffixed;
        let spelling = spelling(metric_type, &name, "").filter(|_| !is_named);
        let suffixed = match spelling {
            Some((length, suffixed)) => {
                name.truncate(length);
                suffixed || format == Format::OpenMetrics
            }
            None => is_named && type_suffix(metric_type).is_some(),
        };
        let unit = if format == Format::Text { String::new() } else { self.unit.clone() };
        let is_blank = self.help.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\0'));
        let help = if format == Format::Text && is_blank { String::new() } else { self.help.clone() };
        Self { name, metric_type, suffixed, unit, help, metrics: Vec::new() }
    }

    fn time_kept_by(&self, format: Format, point: &MetricPoint) -> Option<Timestamp> {
        match format {
            Format::OpenMetrics => point.timestamp.map(as_read_from_seconds),
            Format::Protobuf => point.timestamp.filter(|time| time.as_millis() != 0),
            _ => point.timestamp,
        }
    }

    /// The start of each point.
    fn starts_kept_by(&self, format: Format, points: &[MetricPoint]) -> Vec<Option<Timestamp>> {
        let is_kept = match (format, self.metric_type) {
            (_, MetricType::Counter | MetricType::Histogram | MetricType::Summary) => format != Format::Text,
            (_, MetricType::GaugeHistogram) => format == Format::Protobuf,
            _ => false,
        };
        if !is_kept {
            return vec![None; points.len()];
        }
        let mut starts: Vec<Option<Timestamp>> = points
            .iter()
            .map(|point| point.start.filter(|_| format != Format::OpenMetrics || !point.value.is_empty()))
            .collect();
        if format == Format::OpenMetrics {
            as_read_from_created_series(&mut starts);
        }
        starts.into_iter().map(|start| start.filter(|start| start.as_millis() != 0)).collect()
    }

    fn parts_kept_by(&self, format: Format, point: &MetricPoint, mut part: impl FnMut(Part, Vec<Exemplar>)) {
        match &point.value {
            PointValue::Number(value) => {
                let is_counter = self.metric_type == MetricType::Counter;
                let first = point.exemplars.iter().take(usize::from(is_counter));
                part(
                    Part::Number(number_kept_by(format, *value)),
                    first.filter_map(|exemplar| exemplar_kept_by(format, exemplar)).collect(),
                );
            }
            PointValue::Summary(summary) => summary_kept_by(format, summary, |kept| part(kept, Vec::new())),
            PointValue::Histogram(histogram) => match (format, &histogram.native) {
                (Format::Protobuf, Some(native)) if native.schema != CUSTOM_BUCKETS_SCHEMA => {
                    self.native_in_protobuf(point, histogram, native, part);
                }
                (_, Some(native)) if histogram.buckets.is_empty() => {
                    classic_kept_by(format, &implied_classic(histogram, native), part);
                }
                _ => classic_kept_by(format, histogram, part),
            },
        }
    }

    fn native_in_protobuf(
        &self,
        point: &MetricPoint,
        histogram: &HistogramValue,
        native: &Histogram,
        mut part: impl FnMut(Part, Vec<Exemplar>),
    ) {
        let timed = |exemplar: &&Exemplar| exemplar.timestamp.is_some();
        let mut exemplars: Vec<Exemplar> = point.exemplars.iter().filter(timed).cloned().collect();
        if exemplars.is_empty() {
            let of_buckets = histogram.buckets.iter().filter_map(|bucket| bucket.exemplar.as_deref());
            exemplars = of_buckets.filter(timed).cloned().collect();
        }
        let kept = native_kept_by_protobuf(native, self.metric_type);
        let (count, sum) = (native_count(&kept), kept.sum);
        part(Part::Native(Box::new(kept)), exemplars);
        if !histogram.buckets.is_empty() {
            let classic =
                HistogramValue { count: Some(count), sum: Some(sum), native: None, ..histogram.clone() };
            classic_kept_by(Format::Protobuf, &classic, part);
        }
    }
}

/// The seconds that OpenMetrics is to write for `time`: those that read back as the same milliseconds, which are
/// what is left of their thousandfold without its fraction, if there are such.
pub(crate) fn openmetrics_seconds(time: Timestamp) -> f64 {
    let nearest = time.as_millis() as f64 / 1000.0;
    [nearest, nearest.next_up(), nearest.next_down()]
        .into_iter()
        .find(|seconds| go_float::to_int64(seconds * 1000.0) == time.as_millis())
        .unwrap_or(nearest)
}

pub(super) fn as_read_from_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(go_float::to_int64(openmetrics_seconds(time) * 1000.0))
}

/// A reader looks for the next `_created` series of the metric and holds to the first one after 1970.
fn as_read_from_created_series(starts: &mut [Option<Timestamp>]) {
    let mut next = None;
    for start in starts.iter_mut().rev() {
        next = start.map(as_read_from_seconds).or(next);
        *start = next;
    }
    let mut known: Option<Timestamp> = None;
    for start in starts {
        known = known.filter(|known| known.as_millis() > 0).or(*start);
        *start = known;
    }
}

pub(super) fn number_kept_by(format: Format, value: f64) -> f64 {
    if value.is_nan() && format != Format::Protobuf { f64::from_bits(NORMAL_NAN_BITS) } else { value }
}

/// A bound or quantile, which is a label's text before it is a number again.
pub(super) fn bound_kept(bound: f64) -> f64 {
    go_float::parse(LeFormat::Prometheus3.number(bound).as_bytes()).unwrap_or(bound)
}

fn exemplar_kept_by(format: Format, exemplar: &Exemplar) -> Option<Exemplar> {
    match format {
        Format::Text => None,
        Format::OpenMetrics => Some(Exemplar {
            labels: exemplar.labels.clone(),
            value: number_kept_by(format, exemplar.value),
            timestamp: exemplar.timestamp.map(as_read_from_seconds),
        }),
        _ => Some(exemplar.clone()),
    }
}

fn summary_kept_by(format: Format, summary: &SummaryValue, mut part: impl FnMut(Part)) {
    let is_protobuf = format == Format::Protobuf;
    let quantiles = summary.quantiles.iter().map(|quantile| Quantile {
        quantile: bound_kept(quantile.quantile),
        value: number_kept_by(format, quantile.value),
    });
    if is_protobuf {
        part(Part::Count(summary.count.unwrap_or_default() as u64 as f64));
        part(Part::Sum(summary.sum.unwrap_or_default()));
        quantiles.for_each(|quantile| part(Part::Quantile(quantile)));
        return;
    }
    quantiles.for_each(|quantile| part(Part::Quantile(quantile)));
    for kept in [summary.sum.map(Part::Sum), summary.count.map(Part::Count)].into_iter().flatten() {
        part(match kept {
            Part::Sum(sum) => Part::Sum(number_kept_by(format, sum)),
            Part::Count(count) => Part::Count(number_kept_by(format, count)),
            other => other,
        });
    }
}

fn classic_kept_by(format: Format, histogram: &HistogramValue, mut part: impl FnMut(Part, Vec<Exemplar>)) {
    let bucket = |bucket: &Bucket| {
        let cumulative_count = match format {
            Format::Protobuf => count_in_protobuf(bucket.cumulative_count),
            _ => number_kept_by(format, bucket.cumulative_count),
        };
        let exemplar = bucket.exemplar.as_ref().and_then(|exemplar| exemplar_kept_by(format, exemplar));
        let upper_bound = bound_kept(bucket.upper_bound);
        Part::Bucket(Bucket { upper_bound, cumulative_count, exemplar: exemplar.map(Box::new) })
    };
    if format == Format::Protobuf {
        let count = count_in_protobuf(histogram.count.unwrap_or_default());
        part(Part::Count(count), Vec::new());
        part(Part::Sum(histogram.sum.unwrap_or_default()), Vec::new());
        let infinity = histogram.buckets.iter().position(|bucket| bucket.upper_bound == f64::INFINITY);
        let read = infinity.map_or(histogram.buckets.len(), |at| at + 1);
        histogram.buckets[..read].iter().for_each(|read| part(bucket(read), Vec::new()));
        if infinity.is_none() {
            let infinity = Bucket { upper_bound: f64::INFINITY, cumulative_count: count, exemplar: None };
            part(Part::Bucket(infinity), Vec::new());
        }
        return;
    }
    histogram.buckets.iter().for_each(|written| part(bucket(written), Vec::new()));
    if let Some(sum) = histogram.sum {
        part(Part::Sum(number_kept_by(format, sum)), Vec::new());
    }
    if let Some(count) = histogram.count {
        part(Part::Count(number_kept_by(format, count)), Vec::new());
    }
}

/// Integers are written as such, which have no negative zero.
fn count_in_protobuf(count: f64) -> f64 {
    if count == 0.0 { 0.0 } else { count }
}

/// The classic histogram that says of a native one what such a histogram can: custom buckets are its buckets, of
/// exponential ones there is the count.
pub(crate) fn implied_classic(histogram: &HistogramValue, native: &Histogram) -> HistogramValue {
    let count = native_count(native);
    let mut buckets = Vec::new();
    if native.schema == CUSTOM_BUCKETS_SCHEMA {
        let mut counts = vec![0.0; native.custom_values.len()];
        for (index, count) in absolute_counts(native) {
            if let Some(place) = usize::try_from(index).ok().and_then(|index| counts.get_mut(index)) {
                *place = count;
            }
        }
        let mut cumulative_count = 0.0;
        for (&upper_bound, count) in native.custom_values.iter().zip(counts) {
            cumulative_count += count;
            buckets.push(Bucket { upper_bound, cumulative_count, exemplar: None });
        }
    }
    buckets.push(Bucket { upper_bound: f64::INFINITY, cumulative_count: count, exemplar: None });
    HistogramValue {
        count: histogram.count.or(Some(count)),
        sum: histogram.sum.or(Some(native.sum)),
        buckets,
        native: None,
    }
}

pub(super) fn native_count(native: &Histogram) -> f64 {
    match native.counts {
        BucketCounts::Integer { count, .. } => count as f64,
        BucketCounts::Float { count, .. } => count,
    }
}

/// Index and count of each positive bucket.
fn absolute_counts(native: &Histogram) -> Vec<(i64, f64)> {
    let counts: Vec<f64> = match &native.counts {
        BucketCounts::Integer { positive, .. } => {
            let absolute = positive.iter().scan(0_i64, |count, delta| {
                *count = count.wrapping_add(*delta);
                Some(*count as f64)
            });
            absolute.collect()
        }
        BucketCounts::Float { positive, .. } => positive.clone(),
    };
    indices(&native.positive_spans).zip(counts).collect()
}

fn indices(spans: &[Span]) -> impl Iterator<Item = i64> {
    let mut next: i64 = 0;
    spans.iter().flat_map(move |span| {
        let start = next + i64::from(span.offset);
        next = start + i64::from(span.length);
        start..next
    })
}

fn native_kept_by_protobuf(native: &Histogram, metric_type: MetricType) -> Histogram {
    let mut kept = Histogram {
        schema: native.schema,
        zero_threshold: native.zero_threshold,
        sum: native.sum,
        reset_hint: match metric_type {
            MetricType::GaugeHistogram => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        },
        ..Histogram::stale()
    };
    match &native.counts {
        BucketCounts::Integer { count, zero_count, positive, negative } => {
            let absolute = |deltas: &[i64]| {
                let counts = deltas.iter().scan(0_i64, |count, delta| {
                    *count = count.wrapping_add(*delta);
                    Some(*count)
                });
                counts.collect::<Vec<_>>()
            };
            let deltas = |counts: Vec<i64>| {
                let deltas = counts
                    .into_iter()
                    .scan(0_i64, |before, count| Some(count.wrapping_sub(std::mem::replace(before, count))));
                deltas.collect::<Vec<_>>()
            };
            let (positive_spans, positive) = without_empty(&native.positive_spans, absolute(positive));
            let (negative_spans, negative) = without_empty(&native.negative_spans, absolute(negative));
            kept.counts = BucketCounts::Integer {
                count: *count,
                zero_count: *zero_count,
                positive: deltas(positive),
                negative: deltas(negative),
            };
            (kept.positive_spans, kept.negative_spans) = (positive_spans, negative_spans);
        }
        BucketCounts::Float { count, zero_count, positive, negative } => {
            // What has no count tells no reader that it is of floats, and passes for integers, all of them 0.
            if *count > 0.0 || *zero_count > 0.0 || !positive.is_empty() || !negative.is_empty() {
                let (positive_spans, positive) = without_empty(&native.positive_spans, positive.clone());
                let (negative_spans, negative) = without_empty(&native.negative_spans, negative.clone());
                kept.counts =
                    BucketCounts::Float { count: *count, zero_count: *zero_count, positive, negative };
                (kept.positive_spans, kept.negative_spans) = (positive_spans, negative_spans);
            }
        }
    }
    kept
}

/// Leaves out empty buckets and joins what touches.
fn without_empty<T: Copy + Default + PartialEq>(spans: &[Span], counts: Vec<T>) -> (Vec<Span>, Vec<T>) {
    let mut kept_spans: Vec<Span> = Vec::new();
    let mut kept = Vec::new();
    let mut end = 0;
    for (index, count) in indices(spans).zip(counts).filter(|(_, count)| *count != T::default()) {
        kept.push(count);
        match kept_spans.last_mut() {
            Some(last) if end == index => last.length += 1,
            _ => kept_spans.push(Span { offset: (index - end) as i32, length: 1 }),
        }
        end = index + 1;
    }
    (kept_spans, kept)
}
