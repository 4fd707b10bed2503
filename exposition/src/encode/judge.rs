//! Whether what is to be written could be read back, judged before it is written.

use std::borrow::Cow;
use std::collections::HashSet;

use promferry_model::{BUCKET_LABEL, METRIC_NAME, MetricType, QUANTILE_LABEL, Timestamp};

use super::error::{Fault, fault};
use super::group::Group;
use super::names::OpenFamily;
use crate::family::Suffix;
use crate::model::kept::implied_classic;
use crate::seeded_hasher::SeededHasher;
use crate::{Format, HistogramValue, Metric, MetricFamily, MetricPoint, PointValue, StrictRule};

/// Judges families and metrics in the order in which they are to be written. What is refused leaves no trace.
#[derive(Debug)]
pub(super) struct Judge {
    format: Format,
    hasher: SeededHasher,
    /// OpenMetrics only: names that samples of the families so far may have, as hashes.
    sample_names: HashSet<u128>,
    /// Of the open family, by the hash of their labels as they are written.
    metrics: HashSet<u128>,
    /// OpenMetrics only: the state set that was written last, with which other states can go on.
    states: Option<Group>,
}

/// A metric that was judged and is to be written.
#[derive(Debug)]
pub(super) struct JudgedMetric {
    labels: u128,
}

impl Judge {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            hasher: SeededHasher::new(),
            sample_names: HashSet::new(),
            metrics: HashSet::new(),
            states: None,
        }
    }

    /// The family, without its metrics; `open` is how it is to be written.
    pub(super) fn family(&mut self, family: &MetricFamily, open: &OpenFamily) -> Result<(), Fault> {
        if family.name.is_empty() {
            return fault(StrictRule::Name, "a family without a name");
        }
        if family.name.contains('\0') && self.format != Format::Protobuf {
            return fault(StrictRule::Name, "a NUL in the family's name, which no text format can write");
        }
        if self.is_openmetrics() {
            self.openmetrics_family(family, open)?;
        } else if !matches!(self.format, Format::Text | Format::Protobuf) {
            unit_can_be_written(&family.unit)?;
        }
        self.metrics.clear();
        self.states = None;
        Ok(())
    }

    fn openmetrics_family(&mut self, family: &MetricFamily, open: &OpenFamily) -> Result<(), Fault> {
        if family.metric_type == MetricType::Summary && open.name.ends_with("_created") {
            let problem = "a summary whose quantiles would be read as the start of another";
            return fault(StrictRule::Name, problem);
        }
        if family.help.ends_with('\r') {
            return fault(StrictRule::Page, "a carriage return at the end of the help text");
        }
        if !family.unit.is_empty() {
            if matches!(family.metric_type, MetricType::Info | MetricType::StateSet) {
                return fault(StrictRule::Unit, "info and stateset have no unit");
            }
            unit_can_be_written(&family.unit)?;
            if !open.name.strip_suffix(&*family.unit).is_some_and(|name| name.ends_with('_')) {
                return fault(StrictRule::Unit, "unit is not a suffix of the family's name as it is written");
            }
        }
        let suffixes = Suffix::of(family.metric_type);
        // No family is named as another's sample either.
        let own_name = (!suffixes.contains(&Suffix::None)).then_some(&Suffix::None);
        let mut names = Vec::new();
        for suffix in own_name.into_iter().chain(suffixes) {
            let suffix = suffix.as_str();
            let name = self.hasher.hash_name(&open.name, suffix);
            if self.sample_names.contains(&name) {
                let name = format!("{}{suffix}", open.name);
                let problem = format!("an earlier family could have the sample name {name:?} too");
                return fault(StrictRule::NameClash, problem);
            }
            names.push(name);
        }
        self.sample_names.extend(names);
        Ok(())
    }

    /// A metric of the family that was judged last.
    pub(super) fn metric(&mut self, metric: &Metric, open: &OpenFamily) -> Result<JudgedMetric, Fault> {
        let own_label = self.own_label(open.metric_type);
        for label in &metric.labels {
            if label.name.is_empty() {
                return fault(StrictRule::Labels, "a label without a name");
            }
            if label.name == METRIC_NAME {
                return fault(StrictRule::Labels, "the label __name__ beside the family's name");
            }
            if label.name.contains('\0') && self.format != Format::Protobuf {
                return fault(StrictRule::Labels, "a NUL in a label's name, which no text format can write");
            }
            if own_label.is_some_and(|own| label.name == own) {
                let problem = "a label le or quantile, which the buckets or quantiles themselves have";
                return fault(StrictRule::RequiredLabel, problem);
            }
        }
        for point in &metric.points {
            self.point(point, open)?;
        }
        let is_state = open.metric_type == MetricType::StateSet && self.is_openmetrics();
        let written = metric.labels.iter().map(|label| (open.label(&label.name), &*label.value));
        let mut labels: Vec<(Cow<'_, str>, &str)> = written.collect();
        // They are sorted already unless names have been escaped.
        labels.sort_unstable();
        if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return fault(StrictRule::Labels, "two labels whose names are the same when they are escaped");
        }
        let state = if is_state {
            let Some(at) = labels.iter().position(|(name, _)| **name == *open.name) else {
                return fault(StrictRule::RequiredLabel, "a state without the label of the family's name");
            };
            Some(labels.remove(at).1)
        } else {
            None
        };
        let written = labels.iter().map(|(name, value)| (&**name, *value));
        let key = self.hasher.hash_labels(written);
        let judged = JudgedMetric { labels: key };
        if self.is_openmetrics() {
            let state = state.map(|state| self.hasher.hash(state.as_bytes()));
            let goes_on = self.states.as_mut().filter(|states| is_state && states.is_of(key));
            if let Some(states) = goes_on {
                states.add_metric(&metric.points, state, open)?;
                return Ok(judged);
            }
            if self.metrics.contains(&key) {
                return fault(StrictRule::Grouping, "the samples of a metric do not stand together");
            }
            let mut group = Group::new(key);
            group.add_metric(&metric.points, state, open)?;
            if group.is_empty() {
                return Ok(judged);
            }
            self.states = is_state.then_some(group);
        } else if self.metrics.contains(&key) {
            return fault(StrictRule::Grouping, "a second metric of these labels");
        }
        self.metrics.insert(key);
        Ok(judged)
    }

    /// Forgets the metric that was judged last, which is not written after all: in formats other than OpenMetrics 1.0,
    /// whose judgement is the last word.
    pub(super) fn take_back(&mut self, metric: &JudgedMetric) {
        self.metrics.remove(&metric.labels);
    }

    /// What every format asks of a point.
    fn point(&self, point: &MetricPoint, open: &OpenFamily) -> Result<(), Fault> {
        let is_of_type = match (open.metric_type, &point.value) {
            (MetricType::Histogram | MetricType::GaugeHistogram, PointValue::Histogram(_))
            | (MetricType::Summary, PointValue::Summary(_)) => true,
            (MetricType::Histogram | MetricType::GaugeHistogram | MetricType::Summary, _) => false,
            (_, value) => matches!(value, PointValue::Number(_)),
        };
        if !is_of_type {
            let problem = format!("a point of another type than {}", open.metric_type.as_str());
            return fault(StrictRule::SampleName, problem);
        }
        let before_epoch = |time: Timestamp| time.as_millis() < 0;
        if self.format == Format::Text && point.timestamp.is_some_and(before_epoch) {
            return fault(StrictRule::Timestamp, "a time before 1970, which the text format cannot write");
        }
        if let PointValue::Histogram(histogram) = &point.value
            && let Some(native) = &histogram.native
        {
            native.check().or_else(|error| fault(StrictRule::Histogram, error.to_string()))?;
        }
        Ok(())
    }

    const fn own_label(&self, metric_type: MetricType) -> Option<&'static str> {
        match metric_type {
            MetricType::Histogram | MetricType::GaugeHistogram => Some(BUCKET_LABEL),
            MetricType::Summary => Some(QUANTILE_LABEL),
            _ => None,
        }
    }

    const fn is_openmetrics(&self) -> bool {
        matches!(self.format, Format::OpenMetrics)
    }
}

fn unit_can_be_written(unit: &str) -> Result<(), Fault> {
    if unit.contains(['\\', '"', '\n', '\r', '\0']) {
        return fault(StrictRule::Unit, "a unit with a character that UNIT cannot write");
    }
    Ok(())
}

/// The histogram as a format without native ones writes it.
pub(super) fn as_classic(histogram: &HistogramValue) -> Cow<'_, HistogramValue> {
    match &histogram.native {
        Some(native) if histogram.buckets.is_empty() => Cow::Owned(implied_classic(histogram, native)),
        _ => Cow::Borrowed(histogram),
    }
}
