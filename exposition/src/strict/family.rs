//! What the lines of one family have to have with each other.

use std::borrow::Cow;
use std::collections::HashSet;

use promferry_model::MetricType;

use super::decimal::Decimal;
use super::hasher::Hasher;
use super::line::{Exemplar, Label, Metadata, MetadataKind, Sample};
use super::{Refusal, StrictRule};
use crate::go_float;

/// What comes behind a family's name in the name of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suffix {
    None,
    Total,
    Created,
    Sum,
    Count,
    Bucket,
    GaugeSum,
    GaugeCount,
    Info,
}

impl Suffix {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Total => "_total",
            Self::Created => "_created",
            Self::Sum => "_sum",
            Self::Count => "_count",
            Self::Bucket => "_bucket",
            Self::GaugeSum => "_gsum",
            Self::GaugeCount => "_gcount",
            Self::Info => "_info",
        }
    }

    /// Those that samples of a type have.
    pub(super) const fn of(metric_type: MetricType) -> &'static [Self] {
        match metric_type {
            MetricType::Counter => &[Self::Total, Self::Created],
            MetricType::Histogram => &[Self::Bucket, Self::Sum, Self::Count, Self::Created],
            MetricType::GaugeHistogram => &[Self::Bucket, Self::GaugeSum, Self::GaugeCount],
            MetricType::Summary => &[Self::None, Self::Sum, Self::Count, Self::Created],
            MetricType::Info => &[Self::Info],
            _ => &[Self::None],
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

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
    /// The bound and count of the last bucket.
    bucket: Option<(f64, f64)>,
    first_bound_is_negative: bool,
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
        hasher: &mut Hasher,
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
        judge_value(metric_type, suffix, sample)?;
        if let Some(exemplar) = &sample.exemplar {
            judge_exemplar(suffix, own_value.as_ref(), exemplar)?;
        }
        let own_name_at = own_label.map(|label| label.name_at);
        let metric = hasher.hash_labels(labels.iter().filter(|label| Some(label.name_at) != own_name_at));
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

fn judge_value(metric_type: MetricType, suffix: Suffix, sample: &Sample<'_>) -> Result<(), Refusal> {
    let value = sample.value.value;
    let problem = match suffix {
        Suffix::Total | Suffix::Sum | Suffix::Bucket | Suffix::Count | Suffix::GaugeCount
            if value.is_nan() =>
        {
            "expected a number, not NaN"
        }
        Suffix::Total | Suffix::Sum | Suffix::Bucket | Suffix::Count | Suffix::GaugeCount if value < 0.0 => {
            "expected a value that is not negative"
        }
        // Infinity has no fraction either, and is no count.
        Suffix::Bucket | Suffix::Count | Suffix::GaugeCount
            if value.fract() != 0.0 || value.is_infinite() =>
        {
            "expected an integer"
        }
        Suffix::GaugeSum if value.is_nan() => "expected a number, not NaN",
        Suffix::Info if value != 1.0 => "the value of an info is 1",
        Suffix::None if metric_type == MetricType::StateSet && value != 0.0 && value != 1.0 => {
            "the value of a state is 0 or 1"
        }
        Suffix::None if metric_type == MetricType::Summary && value < 0.0 => {
            "expected a quantile's value that is not negative"
        }
        _ => return Ok(()),
    };
    Err(Refusal::new(StrictRule::SampleValue, sample.value.at, problem))
}

/// Code points that the names and values of an exemplar's labels may have together.
const MAX_EXEMPLAR_CHARS: usize = 128;

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
                match self.bucket {
                    None => self.first_bound_is_negative = bound < 0.0,
                    Some((before, _)) if bound <= before => {
                        let problem = "the bounds of a histogram's buckets do not rise";
                        return Err(Refusal::new(StrictRule::Histogram, sample.at, problem));
                    }
                    Some((_, before)) if value < before => {
                        let problem = "the counts of a histogram's buckets fall";
                        return Err(Refusal::new(StrictRule::Histogram, sample.value.at, problem));
                    }
                    Some(_) => {}
                }
                self.bucket = Some((bound, value));
            }
            (Suffix::Count | Suffix::Sum | Suffix::GaugeCount | Suffix::GaugeSum, _)
                if is_histogram && self.bucket.is_none() =>
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
        let refuse = |at, problem| Err(Refusal::new(StrictRule::Histogram, at, problem));
        let Some((f64::INFINITY, highest)) = self.bucket else {
            return refuse(self.at, "a histogram without the bucket +Inf at the end of its buckets");
        };
        let is_gauge = metric_type == MetricType::GaugeHistogram;
        match (self.count, self.sum) {
            (None, None) => Ok(()),
            (Some((_, at)), None) => refuse(at, "a histogram's count without a sum"),
            (None, Some((_, at))) => refuse(at, "a histogram's sum without a count"),
            (Some((count, at)), Some(_)) if count != highest => {
                refuse(at, "the count differs from that of the bucket +Inf")
            }
            (Some(_), Some((_, at))) if !is_gauge && self.first_bound_is_negative => {
                refuse(at, "a sum although a bucket has a negative bound")
            }
            (Some(_), Some((sum, at))) if is_gauge && sum < 0.0 && !self.first_bound_is_negative => {
                refuse(at, "a negative sum although no bucket has a negative bound")
            }
            _ => Ok(()),
        }
    }
}
