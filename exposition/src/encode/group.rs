//! The samples of one metric as OpenMetrics 1.0 has them stand together, judged before they are written.

use std::collections::HashSet;

use promferry_model::{MetricType, Timestamp};

use super::error::{Fault, fault};
use super::judge::as_classic;
use super::names::OpenFamily;
use crate::family::Suffix;
use crate::model::kept::openmetrics_seconds;
use crate::openmetrics_rules::{HistogramRules, MAX_EXEMPLAR_CHARS, judge_value};
use crate::{Exemplar, HistogramValue, MetricPoint, PointValue, StrictRule, SummaryValue};

/// The samples that have the same labels but for those that belong to the type: one metric, or all states of one
/// set.
#[derive(Debug)]
pub(super) struct Group {
    labels: u128,
    /// The seconds of the samples so far; `None` before the first of them.
    time: Option<Option<f64>>,
    /// Those without a time.
    untimed: HashSet<Untimed>,
    /// What the metric that is being judged has added to them.
    added: Vec<Untimed>,
    point: Point,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Untimed {
    Number,
    Created,
    Count,
    Sum,
    Quantile(u64),
    /// By the hash of its name.
    State(u128),
}

/// The samples of one time.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    buckets: HistogramRules,
    count: Option<f64>,
    sum: Option<f64>,
}

impl Group {
    pub(super) fn new(labels: u128) -> Self {
        let (untimed, added) = (HashSet::new(), Vec::new());
        Self { labels, time: None, untimed, added, point: Point::default() }
    }

    /// Whether a state with these other labels belongs to it.
    pub(super) const fn is_of(&self, labels: u128) -> bool {
        self.labels == labels
    }

    /// The points of a metric; `state` is the hash of the value of a state's own label. A metric that is refused leaves
    /// no trace.
    pub(super) fn add_metric(
        &mut self,
        points: &[MetricPoint],
        state: Option<u128>,
        open: &OpenFamily,
    ) -> Result<(), Fault> {
        let (time, point) = (self.time, self.point);
        self.added.clear();
        let mut points = points.iter();
        let judged = points.try_for_each(|point| self.add(point, state, open));
        let judged = judged.and_then(|()| self.close(open.metric_type));
        if judged.is_err() {
            for sample in &self.added {
                self.untimed.remove(sample);
            }
            (self.time, self.point) = (time, point);
        }
        judged
    }

    /// A point with what belongs to it.
    fn add(&mut self, point: &MetricPoint, state: Option<u128>, open: &OpenFamily) -> Result<(), Fault> {
        let metric_type = open.metric_type;
        let has_start = point.start.is_some()
            && matches!(metric_type, MetricType::Counter | MetricType::Histogram | MetricType::Summary);
        if point.value.is_empty() {
            return Ok(());
        }
        self.enter(point.timestamp, metric_type)?;
        match &point.value {
            PointValue::Number(value) => {
                let suffix = match metric_type {
                    MetricType::Counter => Suffix::Total,
                    MetricType::Info => Suffix::Info,
                    _ => Suffix::None,
                };
                can_be(metric_type, suffix, *value)?;
                self.once(state.map_or(Untimed::Number, Untimed::State))?;
                if let Some(exemplar) = point.exemplars.first().filter(|_| metric_type == MetricType::Counter)
                {
                    judge_exemplar(exemplar, None, open)?;
                }
            }
            PointValue::Summary(summary) => self.add_summary(summary)?,
            PointValue::Histogram(histogram) => self.add_histogram(&as_classic(histogram), open)?,
        }
        if has_start { self.once(Untimed::Created) } else { Ok(()) }
    }

    /// Whether nothing of it has been written.
    pub(super) const fn is_empty(&self) -> bool {
        self.time.is_none()
    }

    /// The group has no more samples.
    fn close(&self, metric_type: MetricType) -> Result<(), Fault> {
        let is_histogram = matches!(metric_type, MetricType::Histogram | MetricType::GaugeHistogram);
        if is_histogram && self.time.is_some() {
            let Point { buckets, count, sum } = self.point;
            let judged = buckets.close(metric_type, count, sum);
            return judged.or_else(|broken| fault(StrictRule::Histogram, broken.problem()));
        }
        Ok(())
    }

    fn enter(&mut self, time: Option<Timestamp>, metric_type: MetricType) -> Result<(), Fault> {
        let time = time.map(openmetrics_seconds);
        match (self.time, time) {
            (None, _) => {}
            (Some(Some(before)), Some(now)) if now < before => {
                return fault(StrictRule::Grouping, "the metric's times go back");
            }
            (Some(Some(before)), Some(now)) => {
                if now > before {
                    self.close(metric_type)?;
                    self.point = Point::default();
                }
            }
            (Some(None), None) => {}
            _ => return fault(StrictRule::Grouping, "points of one metric with and without a time"),
        }
        self.time = Some(time);
        Ok(())
    }

    /// Samples without a time come once.
    fn once(&mut self, sample: Untimed) -> Result<(), Fault> {
        if self.time == Some(None) {
            if !self.untimed.insert(sample) {
                return fault(StrictRule::Grouping, "a second point without a time");
            }
            self.added.push(sample);
        }
        Ok(())
    }

    fn add_summary(&mut self, summary: &SummaryValue) -> Result<(), Fault> {
        for quantile in &summary.quantiles {
            if !(0.0..=1.0).contains(&quantile.quantile) {
                return fault(StrictRule::RequiredLabel, "expected a quantile from 0 to 1");
            }
            can_be(MetricType::Summary, Suffix::None, quantile.value)?;
            // Zero is one quantile, whatever its sign.
            self.once(Untimed::Quantile((quantile.quantile + 0.0).to_bits()))?;
        }
        if let Some(sum) = summary.sum {
            can_be(MetricType::Summary, Suffix::Sum, sum)?;
            self.once(Untimed::Sum)?;
        }
        if let Some(count) = summary.count {
            can_be(MetricType::Summary, Suffix::Count, count)?;
            self.once(Untimed::Count)?;
        }
        Ok(())
    }

    fn add_histogram(&mut self, histogram: &HistogramValue, open: &OpenFamily) -> Result<(), Fault> {
        let metric_type = open.metric_type;
        let (sum_suffix, count_suffix) = match metric_type {
            MetricType::GaugeHistogram => (Suffix::GaugeSum, Suffix::GaugeCount),
            _ => (Suffix::Sum, Suffix::Count),
        };
        for bucket in &histogram.buckets {
            let (bound, count) = (bucket.upper_bound, bucket.cumulative_count);
            can_be(metric_type, Suffix::Bucket, count)?;
            if bound.is_nan() || bound == f64::NEG_INFINITY {
                return fault(StrictRule::RequiredLabel, "a bucket's bound is a number or +Inf");
            }
            let judged = self.point.buckets.add(bound, count);
            judged.or_else(|broken| fault(StrictRule::Histogram, broken.problem()))?;
            if let Some(exemplar) = &bucket.exemplar {
                judge_exemplar(exemplar, Some(bound), open)?;
            }
        }
        if let Some(sum) = histogram.sum {
            can_be(metric_type, sum_suffix, sum)?;
            self.point.sum = Some(sum);
            self.once(Untimed::Sum)?;
        }
        if let Some(count) = histogram.count {
            can_be(metric_type, count_suffix, count)?;
            self.point.count = Some(count);
            self.once(Untimed::Count)?;
        }
        Ok(())
    }
}

fn can_be(metric_type: MetricType, suffix: Suffix, value: f64) -> Result<(), Fault> {
    judge_value(metric_type, suffix, value).or_else(|problem| fault(StrictRule::SampleValue, problem))
}

fn judge_exemplar(exemplar: &Exemplar, bound: Option<f64>, open: &OpenFamily) -> Result<(), Fault> {
    let mut names: Vec<_> = exemplar.labels.iter().map(|label| open.label(&label.name)).collect();
    let values = exemplar.labels.iter().map(|label| label.value.chars().count());
    let chars: usize = names.iter().map(|name| name.chars().count()).chain(values).sum();
    if chars > MAX_EXEMPLAR_CHARS {
        return fault(StrictRule::ExemplarPlace, "more than 128 characters in the exemplar's labels");
    }
    if bound.is_some_and(|bound| exemplar.value > bound) {
        return fault(StrictRule::ExemplarPlace, "the exemplar's value is above the bucket's bound");
    }
    if exemplar.labels.iter().any(|label| label.name.contains('\0') || label.value.contains('\0')) {
        return fault(StrictRule::Exemplar, "a NUL in an exemplar's label, which no reader takes");
    }
    names.sort_unstable();
    if names.first().is_some_and(|name| name.is_empty()) {
        return fault(StrictRule::Exemplar, "an exemplar's label without a name");
    }
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return fault(StrictRule::Exemplar, "two labels whose names are the same when they are escaped");
    }
    Ok(())
}
