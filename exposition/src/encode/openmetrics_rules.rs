//! The rules of OpenMetrics 1.0 for a metric's samples, as [`crate::validate`] judges them on a page, on the data
//! before it is written.

use std::collections::HashSet;

use promferry_model::{MetricType, Timestamp};

use super::error::{Fault, fault};
use super::judge::as_classic;
use super::names::OpenFamily;
use crate::model::kept::openmetrics_seconds;
use crate::{Exemplar, HistogramValue, MetricPoint, PointValue, StrictRule, SummaryValue};

/// Code points that the names and values of an exemplar's labels may have together.
const MAX_EXEMPLAR_CHARS: usize = 128;

/// The group of samples that was written last, with which states can go on.
#[derive(Debug, Default)]
pub(super) struct LastGroup(Option<Group>);

impl LastGroup {
    pub(super) fn group_of(&self, labels: u128) -> Option<&Group> {
        self.0.as_ref().filter(|group| group.labels == labels)
    }
}

impl From<Group> for LastGroup {
    fn from(group: Group) -> Self {
        Self(Some(group))
    }
}

/// The samples that have the same labels but for those that belong to the type: one metric, or all states of one
/// set.
#[derive(Clone, Debug)]
pub(super) struct Group {
    labels: u128,
    /// The seconds of the samples so far; `None` before the first of them.
    time: Option<Option<f64>>,
    /// Quantiles and states without a time.
    untimed: HashSet<Untimed>,
    point: Point,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Untimed {
    Number,
    Created,
    Count,
    Sum,
    Quantile(u64),
    State(String),
}

/// The samples of one time.
#[derive(Clone, Debug, Default)]
struct Point {
    /// The bound and count of the last bucket.
    bucket: Option<(f64, f64)>,
    first_bound_is_negative: bool,
    count: Option<f64>,
    sum: Option<f64>,
}

impl Group {
    pub(super) fn new(labels: u128) -> Self {
        Self { labels, time: None, untimed: HashSet::new(), point: Point::default() }
    }

    /// A point with what belongs to it; `state` is the value of a state's own label.
    pub(super) fn add(
        &mut self,
        point: &MetricPoint,
        state: Option<&str>,
        open: &OpenFamily,
    ) -> Result<(), Fault> {
        let metric_type = open.metric_type;
        let has_start = point.start.is_some()
            && matches!(metric_type, MetricType::Counter | MetricType::Histogram | MetricType::Summary);
        if point.value.is_empty() {
            return Ok(());
        }
        self.enter(point.timestamp, metric_type)?;
        match &point.value {
            PointValue::Number(value) => {
                judge_number(metric_type, *value)?;
                self.once(match state {
                    Some(state) => Untimed::State(state.to_owned()),
                    None => Untimed::Number,
                })?;
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
    pub(super) fn close(&self, metric_type: MetricType) -> Result<(), Fault> {
        let is_histogram = matches!(metric_type, MetricType::Histogram | MetricType::GaugeHistogram);
        if is_histogram && self.time.is_some() {
            self.point.close(metric_type)?;
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
        if self.time == Some(None) && !self.untimed.insert(sample) {
            return fault(StrictRule::Grouping, "a second point without a time");
        }
        Ok(())
    }

    fn add_summary(&mut self, summary: &SummaryValue) -> Result<(), Fault> {
        for quantile in &summary.quantiles {
            if !(0.0..=1.0).contains(&quantile.quantile) {
                return fault(StrictRule::RequiredLabel, "expected a quantile from 0 to 1");
            }
            if quantile.value < 0.0 {
                return fault(StrictRule::SampleValue, "a quantile's value that is negative");
            }
            // Zero is one quantile, whatever its sign.
            self.once(Untimed::Quantile((quantile.quantile + 0.0).to_bits()))?;
        }
        if let Some(sum) = summary.sum {
            judge_sum(sum)?;
            self.once(Untimed::Sum)?;
        }
        if let Some(count) = summary.count {
            judge_count(count)?;
            self.once(Untimed::Count)?;
        }
        Ok(())
    }

    fn add_histogram(&mut self, histogram: &HistogramValue, open: &OpenFamily) -> Result<(), Fault> {
        let is_gauge = open.metric_type == MetricType::GaugeHistogram;
        for bucket in &histogram.buckets {
            judge_count(bucket.cumulative_count)?;
            let (bound, count) = (bucket.upper_bound, bucket.cumulative_count);
            if bound.is_nan() || bound == f64::NEG_INFINITY {
                return fault(StrictRule::RequiredLabel, "a bucket's bound is a number or +Inf");
            }
            match self.point.bucket {
                None => self.point.first_bound_is_negative = bound < 0.0,
                Some((before, _)) if bound <= before => {
                    return fault(StrictRule::Histogram, "the bounds of a histogram's buckets do not rise");
                }
                Some((_, before)) if count < before => {
                    return fault(StrictRule::Histogram, "the counts of a histogram's buckets fall");
                }
                Some(_) => {}
            }
            self.point.bucket = Some((bound, count));
            if let Some(exemplar) = &bucket.exemplar {
                judge_exemplar(exemplar, Some(bound), open)?;
            }
        }
        if let Some(sum) = histogram.sum {
            if is_gauge && sum.is_nan() {
                return fault(StrictRule::SampleValue, "a sum that is not a number");
            }
            if !is_gauge {
                judge_sum(sum)?;
            }
            self.point.sum = Some(sum);
            self.once(Untimed::Sum)?;
        }
        if let Some(count) = histogram.count {
            judge_count(count)?;
            self.point.count = Some(count);
            self.once(Untimed::Count)?;
        }
        Ok(())
    }
}

impl Point {
    fn close(&self, metric_type: MetricType) -> Result<(), Fault> {
        let refuse = |problem: &'static str| fault(StrictRule::Histogram, problem);
        let Some((f64::INFINITY, highest)) = self.bucket else {
            return refuse("a histogram without the bucket +Inf at the end of its buckets");
        };
        let is_gauge = metric_type == MetricType::GaugeHistogram;
        match (self.count, self.sum) {
            (None, None) => Ok(()),
            (Some(_), None) => refuse("a histogram's count without a sum"),
            (None, Some(_)) => refuse("a histogram's sum without a count"),
            (Some(count), Some(_)) if count != highest => {
                refuse("the count differs from that of the bucket +Inf")
            }
            (Some(_), Some(_)) if !is_gauge && self.first_bound_is_negative => {
                refuse("a sum although a bucket has a negative bound")
            }
            (Some(_), Some(sum)) if is_gauge && sum < 0.0 && !self.first_bound_is_negative => {
                refuse("a negative sum although no bucket has a negative bound")
            }
            _ => Ok(()),
        }
    }
}

fn judge_number(metric_type: MetricType, value: f64) -> Result<(), Fault> {
    let problem = match metric_type {
        MetricType::Counter if value.is_nan() || value < 0.0 => "a counter is a number that is not negative",
        MetricType::Info if value != 1.0 => "the value of an info is 1",
        MetricType::StateSet if value != 0.0 && value != 1.0 => "the value of a state is 0 or 1",
        _ => return Ok(()),
    };
    fault(StrictRule::SampleValue, problem)
}

fn judge_count(count: f64) -> Result<(), Fault> {
    // Infinity has no fraction either, and is no count.
    if count.is_finite() && count >= 0.0 && count.fract() == 0.0 {
        return Ok(());
    }
    fault(StrictRule::SampleValue, "a count is an integer that is not negative")
}

fn judge_sum(sum: f64) -> Result<(), Fault> {
    if sum >= 0.0 { Ok(()) } else { fault(StrictRule::SampleValue, "a sum is a number that is not negative") }
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
