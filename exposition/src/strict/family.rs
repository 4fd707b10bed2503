//! What the lines of one family have to have with each other.

use std::borrow::Cow;
use std::collections::HashSet;

use promferry_model::MetricType;

use super::decimal::Decimal;
use super::line::{Exemplar, Label, Metadata, MetadataKind, Sample};
use super::{Refusal, StrictRule};
use crate::family::Suffix;
use crate::go_float;
use crate::openmetrics_rules::{HistogramFault, HistogramRules, MAX_EXEMPLAR_CHARS, judge_value};
use crate::seeded_hasher::SeededHasher;

/// The family whose lines are being read.
#[derive(Debug)]
pub(super) struct Family<'a> {
    pub(super) name: Cow<'a, str>,
    /// Where its name stands first.
    pub(super) at: usize,
    pub(super) line_number: usize,
    metric_type: Option<MetricType>,
    unit: Option<(&'a str, usize)>,
    has_help: bool,
    samples: usize,
    /// The metrics that samples were of, by the hash of their labels.
    metrics: HashSet<u128>,
    metric: Option<Metric<'a>>,
    /// Quantiles and states without a timestamp, by the hashes of their metric and of what tells them apart in it.
    values: HashSet<(u128, u128)>,
}

/// The metric that the last sample was of.
#[derive(Debug)]
struct Metric<'a> {
    labels: u128,
    timestamp: Option<Decimal<'a>>,
    point: Point,
}

/// The point that the last sample was of.
#[derive(Debug, Default)]
struct Point {
    at: usize,
    /// Suffixes of the samples so far.
    suffixes: u16,
    buckets: HistogramRules,
    count: Option<(f64, usize)>,
    sum: Option<(f64, usize)>,
}

impl<'a> Family<'a> {
    pub(super) fn new(name: Cow<'a, str>, at: usize, line_number: usize) -> Self {
        Self {
            name,
            at,
            line_number,
            metric_type: None,
            unit: None,
            has_help: false,
            samples: 0,
            metrics: HashSet::new(),
            metric: None,
            values: HashSet::new(),
        }
    }

    pub(super) fn metric_type(&self) -> MetricType {
        self.metric_type.unwrap_or_default()
    }

    /// A line of metadata that names this family.
    pub(super) fn describe(&mut self, metadata: &Metadata<'a>) -> Result<(), Refusal> {
        let refuse =
            |problem: &'static str| Err(Refusal::new(StrictRule::MetadataOrder, metadata.family_at, problem));
        if self.samples > 0 {
            return refuse("metadata of a family whose samples have begun");
        }
        match metadata.kind {
            MetadataKind::Type(_) if self.metric_type.is_some() => refuse("a second TYPE of the family"),
            MetadataKind::Unit(_) if self.unit.is_some() => refuse("a second UNIT of the family"),
            MetadataKind::Help if self.has_help => refuse("a second HELP of the family"),
            MetadataKind::Type(metric_type) => {
                self.metric_type = Some(metric_type);
                Ok(())
            }
            MetadataKind::Unit(unit) => {
                self.unit = Some((unit, metadata.text_at));
                Ok(())
            }
            MetadataKind::Help => {
                self.has_help = true;
                Ok(())
            }
        }
    }

    /// The suffix with which a sample of the name belongs to this family; `None` if it belongs to another.
    pub(super) fn suffix_of(&self, sample: &Sample<'_>) -> Result<Option<Suffix>, Refusal> {
        let Some(rest) = sample.name.strip_prefix(&*self.name) else { return Ok(None) };
        let suffix = Suffix::of(self.metric_type()).iter().copied().find(|suffix| suffix.as_str() == rest);
        if suffix.is_none() && rest.is_empty() {
            let problem = format!("a sample of type {} needs a suffix", self.metric_type().as_str());
            return Err(Refusal::new(StrictRule::SampleName, sample.at, problem));
        }
        Ok(suffix)
    }

    /// A sample of this family, with its labels sorted by name.
    pub(super) fn add(
        &mut self,
        sample: &Sample<'a>,
        suffix: Suffix,
        labels: &[Label<'a>],
        hasher: &mut SeededHasher,
    ) -> Result<(), Refusal> {
        let metric_type = self.metric_type();
        let own_label = match metric_type {
            MetricType::Histogram | MetricType::GaugeHistogram => Some("le"),
            MetricType::Summary => Some("quantile"),
            MetricType::StateSet => Some(&*self.name),
            _ => None,
        };
        let takes_it = match metric_type {
            MetricType::Summary | MetricType::StateSet => suffix == Suffix::None,
            _ => suffix == Suffix::Bucket,
        };
        let own_label =
            own_label.and_then(|own| labels.iter().position(|label| label.name == own)).map(|at| &labels[at]);
        let own_value = match (own_label, takes_it) {
            (Some(label), true) => Some(OwnValue::read(metric_type, label)?),
            (None, true) => {
                let problem = match metric_type {
                    MetricType::Summary => "a quantile without the label quantile",
                    MetricType::StateSet => "a state without the label of the family's name",
                    _ => "a bucket without the label le",
                };
                return Err(Refusal::new(StrictRule::RequiredLabel, sample.at, problem));
            }
            (Some(label), false) => {
                let problem = "only buckets have the label le, only quantiles the label quantile";
                return Err(Refusal::new(StrictRule::RequiredLabel, label.name_at, problem));
            }
            (None, false) => None,
        };
        judge_value(metric_type, suffix, sample.value.value)
            .map_err(|problem| Refusal::new(StrictRule::SampleValue, sample.value.at, problem))?;
        if let Some(exemplar) = &sample.exemplar {
            judge_exemplar(suffix, own_value.as_ref(), exemplar)?;
        }
        let own_name_at = own_label.map(|label| label.name_at);
        let others = labels.iter().filter(|label| Some(label.name_at) != own_name_at);
        let metric = hasher.hash_labels(others.map(|label| (&*label.name, &*label.value)));
        self.enter(sample, metric)?;
        self.samples += 1;
        let value_is_new = match &own_value {
            Some(OwnValue::Quantile(quantile)) if sample.timestamp.is_none() => {
                // Zero is one quantile, whatever its sign.
                let quantile = hasher.hash(&(quantile + 0.0).to_bits().to_le_bytes());
                self.values.insert((metric, quantile))
            }
            Some(OwnValue::State(state)) if sample.timestamp.is_none() => {
                self.values.insert((metric, hasher.hash(state.as_bytes())))
            }
            _ => true,
        };
        let Some(Metric { point, .. }) = &mut self.metric else { return Ok(()) };
        let is_histogram = matches!(metric_type, MetricType::Histogram | MetricType::GaugeHistogram);
        let comes_often = own_value.is_some();
        if !value_is_new || (!comes_often && sample.timestamp.is_none() && point.suffixes & suffix.bit() != 0)
        {
            return Err(Refusal::new(StrictRule::Grouping, sample.at, "the sample is there already"));
        }
        point.suffixes |= suffix.bit();
        point.add(sample, suffix, own_value, is_histogram)
    }

    /// Finds out whether a sample goes on with the metric and the point of the one before.
    fn enter(&mut self, sample: &Sample<'a>, labels: u128) -> Result<(), Refusal> {
        let refuse = |at, problem: &'static str| Err(Refusal::new(StrictRule::Grouping, at, problem));
        let timestamp = sample.timestamp.map(|(timestamp, _)| timestamp);
        let new_point = Point { at: sample.at, ..Point::default() };
        match &mut self.metric {
            Some(metric) if metric.labels == labels => {
                let timestamp_at = sample.timestamp.map_or(sample.at, |(_, at)| at);
                match (metric.timestamp, timestamp) {
                    (None, None) => return Ok(()),
                    (Some(before), Some(now)) if now == before => return Ok(()),
                    (Some(before), Some(now)) if now < before => {
                        return refuse(timestamp_at, "the metric's timestamps go back");
                    }
                    (Some(_), Some(_)) => {}
                    _ => return refuse(timestamp_at, "samples of one metric with and without timestamps"),
                }
                metric.timestamp = timestamp;
                let point = std::mem::replace(&mut metric.point, new_point);
                self.close_point(&point)
            }
            _ => {
                if let Some(metric) = self.metric.take() {
                    self.close_point(&metric.point)?;
                }
                if !self.metrics.insert(labels) {
                    return refuse(sample.at, "the samples of a metric do not stand together");
                }
                self.metric = Some(Metric { labels, timestamp, point: new_point });
                Ok(())
            }
        }
    }

    fn close_point(&self, point: &Point) -> Result<(), Refusal> {
        match self.metric_type() {
            MetricType::Histogram | MetricType::GaugeHistogram => point.close_histogram(self.metric_type()),
            MetricType::Counter if point.suffixes & Suffix::Total.bit() == 0 => {
                Err(Refusal::new(StrictRule::SampleName, point.at, "a counter without a sample _total"))
            }
            _ => Ok(()),
        }
    }

    /// The family ends: judges what can be judged only now.
    pub(super) fn close(&self) -> Result<(), Refusal> {
        if let Some(metric) = &self.metric {
            self.close_point(&metric.point)?;
        }
        let Some((unit, at)) = self.unit else { return Ok(()) };
        if unit.is_empty() {
            return Ok(());
        }
        if matches!(self.metric_type(), MetricType::Info | MetricType::StateSet) {
            return Err(Refusal::new(StrictRule::Unit, at, "info and stateset have no unit"));
        }
        if !self.name.strip_suffix(unit).is_some_and(|name| name.ends_with('_')) {
            return Err(Refusal::new(StrictRule::Unit, at, "unit is not a suffix of the family's name"));
        }
        Ok(())
    }
}

/// What the label that belongs to the type says.
#[derive(Debug)]
enum OwnValue<'l> {
    Bound(f64),
    Quantile(f64),
    State(&'l str),
}

impl<'l> OwnValue<'l> {
    fn read(metric_type: MetricType, label: &'l Label<'_>) -> Result<Self, Refusal> {
        let decimal = || {
            Decimal::parse(&label.value)?;
            go_float::parse_value(label.value.as_bytes()).ok()
        };
        let refuse = |problem| Err(Refusal::new(StrictRule::RequiredLabel, label.value_at, problem));
        match metric_type {
            MetricType::StateSet => Ok(OwnValue::State(&label.value)),
            MetricType::Summary => match decimal() {
                Some(quantile) if (0.0..=1.0).contains(&quantile) => Ok(OwnValue::Quantile(quantile)),
                _ => refuse("expected a quantile from 0 to 1"),
            },
            _ if label.value == "+Inf" => Ok(OwnValue::Bound(f64::INFINITY)),
            _ => match decimal() {
                Some(bound) => Ok(OwnValue::Bound(bound)),
                None => refuse("expected a bucket's bound, a decimal number or +Inf"),
            },
        }
    }
}

fn judge_exemplar(
    suffix: Suffix,
    own_value: Option<&OwnValue<'_>>,
    exemplar: &Exemplar,
) -> Result<(), Refusal> {
    let refuse = |at, problem| Err(Refusal::new(StrictRule::ExemplarPlace, at, problem));
    if !matches!(suffix, Suffix::Bucket | Suffix::Total) {
        return refuse(exemplar.at, "only buckets and counters' _total have exemplars");
    }
    if exemplar.label_chars > MAX_EXEMPLAR_CHARS {
        return refuse(exemplar.at, "more than 128 characters in the exemplar's labels");
    }
    match own_value {
        Some(OwnValue::Bound(bound)) if exemplar.value.value > *bound => {
            refuse(exemplar.value.at, "the exemplar's value is above the bucket's bound")
        }
        _ => Ok(()),
    }
}

impl Point {
    fn add(
        &mut self,
        sample: &Sample<'_>,
        suffix: Suffix,
        own: Option<OwnValue<'_>>,
        is_histogram: bool,
    ) -> Result<(), Refusal> {
        let value = sample.value.value;
        match (suffix, own) {
            (Suffix::Bucket, Some(OwnValue::Bound(bound))) => {
                self.buckets.add(bound, value).map_err(|fault| {
                    let at = if fault == HistogramFault::CountsFall { sample.value.at } else { sample.at };
                    Refusal::new(StrictRule::Histogram, at, fault.problem())
                })?;
            }
            (Suffix::Count | Suffix::Sum | Suffix::GaugeCount | Suffix::GaugeSum, _)
                if is_histogram && self.buckets.is_empty() =>
            {
                let problem = "a histogram's count or sum before its buckets";
                return Err(Refusal::new(StrictRule::Histogram, sample.at, problem));
            }
            (Suffix::Count | Suffix::GaugeCount, _) => self.count = Some((value, sample.value.at)),
            (Suffix::Sum | Suffix::GaugeSum, _) => self.sum = Some((value, sample.value.at)),
            _ => {}
        }
        Ok(())
    }

    fn close_histogram(&self, metric_type: MetricType) -> Result<(), Refusal> {
        let value = |part: Option<(f64, usize)>| part.map(|(value, _)| value);
        let place = |part: Option<(f64, usize)>| part.map_or(self.at, |(_, at)| at);
        self.buckets.close(metric_type, value(self.count), value(self.sum)).map_err(|fault| {
            let at = match fault {
                HistogramFault::CountWithoutSum | HistogramFault::CountDiffers => place(self.count),
                HistogramFault::SumWithoutCount
                | HistogramFault::SumForbidden
                | HistogramFault::NegativeSum => place(self.sum),
                _ => self.at,
            };
            Refusal::new(StrictRule::Histogram, at, fault.problem())
        })
    }
}
