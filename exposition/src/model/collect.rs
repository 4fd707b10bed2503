//! Puts samples together into metrics and points.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use promferry_model::{Histogram, LabelsBuilder, MetricType, Timestamp, hash_labels};

use super::{
    Bucket, Exemplar, HistogramValue, Metric, MetricFamily, MetricPoint, PointValue, Quantile, SummaryValue,
};

/// What one sample is of its metric's point.
pub(super) enum Part {
    Number(f64),
    Quantile(Quantile),
    Bucket(Bucket),
    Count(f64),
    Sum(f64),
    Native(Box<Histogram>),
}

/// Families that are being filled.
pub(super) struct Collector {
    pub(super) families: Vec<MetricFamily>,
    /// Where a metric is, by a seeded hash of family and labels; a place that is taken passes on to the next.
    metrics: HashMap<u64, (usize, usize)>,
    seed: u64,
    /// The metric that was last added to: it is nearly always the next one's too.
    last: Option<(usize, usize)>,
    /// Bounds of the points whose bounds do not increase.
    unordered: HashSet<(PointAt, u64)>,
}

/// Family, metric and point.
type PointAt = (usize, usize, usize);

impl Collector {
    pub(super) fn new() -> Self {
        Self {
            families: Vec::new(),
            metrics: HashMap::new(),
            seed: RandomState::new().hash_one(0),
            last: None,
            unordered: HashSet::new(),
        }
    }

    /// Adds a part to the last point of its metric if that is of the same time and has no such part yet, else to a
    /// new point.
    pub(super) fn add(
        &mut self,
        family: usize,
        labels: &LabelsBuilder,
        part: Part,
        timestamp: Option<Timestamp>,
        start: Option<Timestamp>,
        exemplars: Vec<Exemplar>,
    ) {
        let metric = self.metric(family, labels);
        let metric_type = self.families[family].metric_type;
        let points = &mut self.families[family].metrics[metric].points;
        let is_open = points.last().is_some_and(|last| {
            let at = (family, metric, points.len() - 1);
            last.timestamp == timestamp && has_room(&mut self.unordered, at, &last.value, &part)
        });
        if !is_open {
            let value = match &part {
                Part::Number(value) => PointValue::Number(*value),
                _ if metric_type == MetricType::Summary => SummaryValue::default().into(),
                _ => HistogramValue::default().into(),
            };
            points.reserve_exact(usize::from(points.is_empty()));
            points.push(MetricPoint { timestamp, ..value.into() });
        }
        let Some(point) = points.last_mut() else { return };
        point.start = point.start.or(start);
        let exemplars = put(&mut point.value, part, exemplars);
        if !exemplars.is_empty() {
            point.exemplars.extend(exemplars);
        }
    }

    fn metric(&mut self, family: usize, labels: &LabelsBuilder) -> usize {
        let is_of = |families: &[MetricFamily], metric: usize| {
            *families[family].metrics[metric].labels == *labels.as_slice()
        };
        if let Some((last_family, metric)) = self.last
            && last_family == family
            && is_of(&self.families, metric)
        {
            return metric;
        }
        let mut hash = hash_labels(labels.as_slice(), self.seed.wrapping_add(family as u64));
        while let Some(&(at, metric)) = self.metrics.get(&hash) {
            if at == family && is_of(&self.families, metric) {
                self.last = Some((family, metric));
                return metric;
            }
            hash = hash.wrapping_add(1);
        }
        let metrics = &mut self.families[family].metrics;
        let metric = metrics.len();
        metrics.reserve_exact(usize::from(metrics.is_empty()));
        metrics.push(Metric { labels: labels.to_labels(), points: Vec::new() });
        self.metrics.insert(hash, (family, metric));
        self.last = Some((family, metric));
        metric
    }
}

fn has_room(unordered: &mut HashSet<(PointAt, u64)>, at: PointAt, value: &PointValue, part: &Part) -> bool {
    match (value, part) {
        (PointValue::Summary(summary), Part::Count(_)) => summary.count.is_none(),
        (PointValue::Summary(summary), Part::Sum(_)) => summary.sum.is_none(),
        (PointValue::Summary(summary), Part::Quantile(new)) => {
            let known = summary.quantiles.iter().map(|known| known.quantile);
            !is_known(unordered, at, known, new.quantile)
        }
        (PointValue::Histogram(histogram), Part::Count(_)) => histogram.count.is_none(),
        (PointValue::Histogram(histogram), Part::Sum(_)) => histogram.sum.is_none(),
        (PointValue::Histogram(histogram), Part::Native(_)) => histogram.native.is_none(),
        (PointValue::Histogram(histogram), Part::Bucket(new)) => {
            let known = histogram.buckets.iter().map(|known| known.upper_bound);
            !is_known(unordered, at, known, new.upper_bound)
        }
        _ => false,
    }
}

/// Whether `new` is among the `known` bounds of a point; if not, it becomes one. As bounds nearly always increase,
/// comparing with the last one mostly tells; a set of them is kept for points where it does not.
fn is_known(
    unordered: &mut HashSet<(PointAt, u64)>,
    at: PointAt,
    known: impl DoubleEndedIterator<Item = f64> + Clone,
    new: f64,
) -> bool {
    let (Some(first), Some(last)) = (known.clone().next(), known.clone().next_back()) else { return false };
    let key = |bound: f64| (at, bound.to_bits());
    if !unordered.contains(&key(first)) {
        if new > last {
            return false;
        }
        unordered.extend(known.map(key));
    }
    !unordered.insert(key(new))
}

/// Puts `part` into the value that has room for it; gives back the exemplars that are the point's.
fn put(value: &mut PointValue, part: Part, exemplars: Vec<Exemplar>) -> Vec<Exemplar> {
    match (value, part) {
        (PointValue::Number(value), Part::Number(new)) => *value = new,
        (PointValue::Summary(summary), Part::Count(count)) => summary.count = Some(count),
        (PointValue::Summary(summary), Part::Sum(sum)) => summary.sum = Some(sum),
        (PointValue::Summary(summary), Part::Quantile(quantile)) => summary.quantiles.push(quantile),
        (PointValue::Histogram(histogram), Part::Count(count)) => histogram.count = Some(count),
        (PointValue::Histogram(histogram), Part::Sum(sum)) => histogram.sum = Some(sum),
        (PointValue::Histogram(histogram), Part::Native(native)) => histogram.native = Some(native),
        (PointValue::Histogram(histogram), Part::Bucket(mut bucket)) => {
            let mut exemplars = exemplars.into_iter();
            bucket.exemplar = bucket.exemplar.or_else(|| exemplars.next().map(Box::new));
            histogram.buckets.push(bucket);
            return exemplars.collect();
        }
        _ => {}
    }
    exemplars
}
