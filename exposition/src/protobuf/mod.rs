//! The pull parser for delimited `io.prometheus.client.MetricFamily` messages.
//!
//! A metric is judged when it is reached: by [`quick`] if it is written as clients write it, else by [`metric`], which
//! knows everything. Of its lists (buckets, quantiles, labels, exemplars) only the places are noted; they are walked in
//! place as they are asked for, so that nothing has to be kept but the labels that the careful way judged.

mod bound_texts;
pub(crate) mod exemplars;
mod fields;
mod histogram;
mod labels;
mod metric;
mod quick;

use std::cell::Cell;

use promferry_model::{Histogram, MetricType, ResetHint, Timestamp};

use bound_texts::BoundTexts;
use exemplars::ProtobufExemplars;
use fields::{field_at, last_of};
use labels::JudgedLabels;
use metric::{Metric, NEGATIVE, POSITIVE, Run, Side, Within};
use quick::Rest;

use crate::classic_histogram::ClassicHistogram;
use crate::context::Context;
use crate::wire::{Message, WireError, WireProblem};
use crate::{Format, ParseError, ParseOptions, SeriesKey};

/// The number of a family's metrics.
const METRIC: i32 = 4;
/// More bytes than this does not prefix a family: ten would be a length beyond 4 GiB.
const MAX_FAMILY_LENGTH_BYTES: usize = 5;

pub(crate) struct ProtobufParser<'a> {
    page: &'a [u8],
    options: ParseOptions,
    /// Where the next family starts.
    at: usize,
    state: State,
    /// The value and the time of the current series' sample.
    pub(crate) sample: (f64, Option<Timestamp>),
    context: Context,
    family: Family<'a>,
    /// Where the family's fields behind the current metric start.
    next_metric_at: usize,
    metric: Metric,
    part: Part,
    /// The labels' fields where several samples have them and all of it is UTF-8.
    labels_text: Option<&'a str>,
    judged_labels: JudgedLabels,
    /// What is left of the current metric's buckets or quantiles.
    items: Within<'a>,
    metric_key: Cell<Option<(u64, SeriesKey)>>,
    bounds: BoundTexts,
    /// Under [`ParseOptions::convert_classic_to_custom_buckets`] only.
    converted: Option<Box<Converted>>,
    /// Whether what the quick ways know goes by them.
    is_quick: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    NextFamily,
    Help,
    Unit,
    Type,
    Metric,
}

#[derive(Clone, Copy, Default)]
struct Family<'a> {
    /// Where its fields start and end.
    start: usize,
    end: usize,
    name_bytes: &'a [u8],
    help_bytes: &'a [u8],
    unit: &'a [u8],
    metric_type: i32,
    /// The name and the help text, once they have been judged.
    name: &'a str,
    help: &'a str,
}

/// Which sample of a metric is the current one.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// The only one.
    Value,
    Native,
    /// The classic histogram as a native one.
    CustomBuckets,
    Count,
    Sum,
    Quantile {
        quantile: f64,
        value: f64,
    },
    Bucket {
        upper_bound: f64,
        value: f64,
        /// Where the bucket's fields start and end.
        start: usize,
        end: usize,
    },
    /// The bucket that a target left out because the count says it.
    InfinityBucket,
}

/// A classic histogram and what has been made of it.
struct Converted {
    classic: ClassicHistogram,
    histogram: Histogram,
}

impl Converted {
    fn new() -> Self {
        Self { classic: ClassicHistogram::new(), histogram: Histogram::stale() }
    }
}

pub(crate) enum Entry {
    Help,
    Type,
    Unit,
    Series,
    Histogram { timestamp: Option<Timestamp> },
}

impl<'a> ProtobufParser<'a> {
    pub(crate) fn new(page: &'a [u8], options: ParseOptions) -> Self {
        let nothing = Message::new(page, 0, 0);
        Self {
            page,
            options,
            at: 0,
            state: State::NextFamily,
            sample: (0.0, None),
            context: Context::new(Format::Protobuf, &options),
            family: Family::default(),
            next_metric_at: 0,
            metric: Metric::default(),
            part: Part::Value,
            labels_text: None,
            judged_labels: JudgedLabels::default(),
            items: Within::new(nothing, 0, 0),
            metric_key: Cell::new(None),
            bounds: BoundTexts::new(),
            converted: options.convert_classic_to_custom_buckets.then(|| Box::new(Converted::new())),
            is_quick: true,
        }
    }

    /// Reads everything by the careful ways from now on.
    pub(crate) const fn forgo_quick_ways(&mut self) {
        self.is_quick = false;
    }

    pub(crate) const fn family(&self) -> &str {
        self.family.name
    }

    pub(crate) const fn help(&self) -> &str {
        self.family.help
    }

    pub(crate) const fn unit(&self) -> &[u8] {
        self.family.unit
    }

    pub(crate) const fn metric_type(&self) -> MetricType {
        self.context.metric_type()
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ParseError> {
        self.step().map_err(|error| self.refused(error))
    }

    #[cold]
    fn refused(&self, WireError { at, problem }: WireError) -> ParseError {
        let path = field_at(self.family_message(), at);
        let (said, expected) = (problem.to_string(), problem.expected());
        ParseError::in_protobuf(self.page, at, self.family.name_bytes, path, &said, expected)
    }

    fn step(&mut self) -> Result<Option<Entry>, WireError> {
        match self.state {
            State::NextFamily => return self.next_family(),
            State::Help if !self.family.unit.is_empty() => {
                self.state = State::Unit;
                return Ok(Some(Entry::Unit));
            }
            State::Help | State::Unit => {
                self.state = State::Type;
                return Ok(Some(Entry::Type));
            }
            State::Type => {
                self.state = State::Metric;
                self.first_part()?;
            }
            State::Metric => {
                if !self.next_part() && !self.convert()? {
                    if !self.next_metric()? {
                        return self.next_family();
                    }
                    self.first_part()?;
                }
            }
        }
        let timestamp =
            (self.metric.timestamp_ms != 0).then(|| Timestamp::from_millis(self.metric.timestamp_ms));
        Ok(Some(match self.part {
            Part::Native | Part::CustomBuckets => Entry::Histogram { timestamp },
            part => {
                self.sample = (self.value(part), timestamp);
                Entry::Series
            }
        }))
    }

    fn next_family(&mut self) -> Result<Option<Entry>, WireError> {
        loop {
            let mut rest = Message::new(self.page, self.at, self.page.len());
            if rest.bytes().is_empty() {
                self.state = State::NextFamily;
                return Ok(None);
            }
            self.family = Family::default();
            let length = rest.varint()?;
            let start = rest.at();
            if start - self.at > MAX_FAMILY_LENGTH_BYTES {
                return Err(WireError { at: self.at, problem: WireProblem::FamilyLength });
            }
            let left = self.page.len() - start;
            let Some(length) = usize::try_from(length).ok().filter(|length| *length <= left) else {
                return Err(WireError { at: self.at, problem: WireProblem::CutFamily });
            };
            self.at = start + length;
            (self.family.start, self.family.end) = (start, self.at);
            self.next_metric_at = start;
            self.read_family()?;
            if !self.next_metric()? {
                continue;
            }
            self.judge_family()?;
            self.state = State::Help;
            return Ok(Some(Entry::Help));
        }
    }

    const fn family_message(&self) -> Message<'a> {
        Message::new(self.page, self.family.start, self.family.end)
    }

    /// Reads all of the family but its metrics, and sets the cursor before the first of those.
    fn read_family(&mut self) -> Result<(), WireError> {
        let mut message = self.family_message();
        if self.is_quick
            && let Some(first_metric) = quick::family(Rest::of(message), &mut self.family)
        {
            self.next_metric_at = first_metric;
            return Ok(());
        }
        while let Some(field) = message.field()? {
            match field.number {
                1 => self.family.name_bytes = message.message(field)?.bytes(),
                2 => self.family.help_bytes = message.message(field)?.bytes(),
                3 => self.family.metric_type = message.integer(field)? as i32,
                METRIC => {
                    message.message(field)?;
                }
                5 => self.family.unit = message.message(field)?.bytes(),
                _ => message.skip(field)?,
            }
        }
        Ok(())
    }

    fn judge_family(&mut self) -> Result<(), WireError> {
        let family = self.family_message();
        let wrong = |number, problem| WireError { at: last_of(family, number), problem };
        self.family.name = match str::from_utf8(self.family.name_bytes) {
            Ok(name) if !name.is_empty() => name,
            _ => return Err(wrong(1, WireProblem::FamilyName)),
        };
        self.family.help = str::from_utf8(self.family.help_bytes).map_err(|_| wrong(2, WireProblem::Help))?;
        let metric_type = self.declared_type().ok_or_else(|| wrong(3, WireProblem::MetricType))?;
        self.context.set_type_and_unit(metric_type, self.family.unit);
        Ok(())
    }

    const fn declared_type(&self) -> Option<MetricType> {
        Some(match self.family.metric_type {
            0 => MetricType::Counter,
            1 => MetricType::Gauge,
            2 => MetricType::Summary,
            3 => MetricType::Unknown,
            4 => MetricType::Histogram,
            5 => MetricType::GaugeHistogram,
            _ => return None,
        })
    }

    /// Reads the family's next metric; false if there is none.
    fn next_metric(&mut self) -> Result<bool, WireError> {
        self.metric_key.set(None);
        if self.is_quick
            && let Some((start, end)) = quick::metric(self.page, self.next_metric_at, self.family.end)
            && let Some(metric_type) = self.declared_type()
            && self.metric.read_quickly(self.page, start, end, metric_type).is_some()
        {
            self.next_metric_at = end;
            return Ok(true);
        }
        let mut fields = Message::new(self.page, self.next_metric_at, self.family.end);
        let Some(message) = metric::next_of(&mut fields, METRIC, Message::skip) else { return Ok(false) };
        self.next_metric_at = fields.at();
        self.metric.read(message)?;
        Ok(true)
    }

    /// Turns to the first sample of the current metric.
    fn first_part(&mut self) -> Result<(), WireError> {
        self.labels_text = None;
        self.part = Part::Value;
        self.part = match self.metric_type() {
            MetricType::Histogram | MetricType::GaugeHistogram => {
                if self.is_native() {
                    self.check_spans()?;
                    Part::Native
                } else if !self.options.always_classic_histograms && self.convert()? {
                    Part::CustomBuckets
                } else {
                    self.items = self.buckets();
                    Part::Count
                }
            }
            MetricType::Summary => {
                self.items = self.list(self.metric.summary.quantile_run, metric::SUMMARY, metric::QUANTILE);
                Part::Count
            }
            _ => Part::Value,
        };
        if self.part == Part::Count {
            self.labels_text = self.read_labels_text();
        }
        Ok(())
    }

    fn is_native(&self) -> bool {
        self.options.native_histograms && self.metric.histogram.is_native()
    }

    /// Turns to what is made of the current metric's classic histogram, if that is wanted; what cannot be converted
    /// refuses the page.
    fn convert(&mut self) -> Result<bool, WireError> {
        let reset_hint = match self.metric_type() {
            MetricType::Histogram => ResetHint::Unknown,
            MetricType::GaugeHistogram => ResetHint::Gauge,
            _ => return Ok(false),
        };
        if self.converted.is_none() || self.is_native() || self.part == Part::CustomBuckets {
            return Ok(false);
        }
        let buckets = self.buckets();
        let Some(Converted { classic, histogram }) = self.converted.as_deref_mut() else { return Ok(false) };
        classic.clear();
        classic.set_count(self.metric.histogram.count());
        classic.set_sum(self.metric.histogram.sum);
        for bucket in buckets.filter_map(read_bucket) {
            classic.add_bucket(bucket.upper_bound, bucket.value());
        }
        classic.convert(histogram).map_err(|error| WireError {
            at: last_of(Message::new(self.page, self.metric.start, self.metric.end), metric::HISTOGRAM),
            problem: WireProblem::ClassicHistogram(error),
        })?;
        histogram.reset_hint = reset_hint;
        self.part = Part::CustomBuckets;
        Ok(true)
    }

    /// Turns to the next sample of the current metric; false if there is none.
    fn next_part(&mut self) -> bool {
        let is_summary = self.metric_type() == MetricType::Summary;
        self.part = match self.part {
            Part::Value | Part::InfinityBucket | Part::CustomBuckets => return false,
            Part::Native => {
                if !self.options.always_classic_histograms || self.metric.histogram.buckets == 0 {
                    return false;
                }
                self.items = self.buckets();
                Part::Count
            }
            Part::Count => Part::Sum,
            Part::Sum | Part::Quantile { .. } if is_summary => match self.next_quantile() {
                Some(quantile) => quantile,
                None => return false,
            },
            Part::Bucket { upper_bound, .. } if upper_bound == f64::INFINITY => return false,
            Part::Sum | Part::Quantile { .. } | Part::Bucket { .. } => self.next_bucket(),
        };
        true
    }

    /// A list of the current metric: a run where the metric was read quickly.
    const fn list(&self, run: Run, outer: i32, inner: i32) -> Within<'a> {
        if self.metric.has_runs {
            Within::of_run(self.metric_message(), run, inner)
        } else {
            Within::new(self.metric_message(), outer, inner)
        }
    }

    pub(crate) const fn buckets(&self) -> Within<'a> {
        self.list(self.metric.histogram.bucket_run, metric::HISTOGRAM, metric::BUCKET)
    }

    fn next_quantile(&mut self) -> Option<Part> {
        let message = self.items.next()?;
        let quantile = quick::quantile(Rest::of(message)).or_else(|| metric::Quantile::read(message).ok())?;
        Some(Part::Quantile { quantile: quantile.quantile, value: quantile.value })
    }

    fn next_bucket(&mut self) -> Part {
        let Some(message) = self.items.next() else { return Part::InfinityBucket };
        match read_bucket(message) {
            Some(bucket) => Part::Bucket {
                upper_bound: bucket.upper_bound,
                value: bucket.value(),
                start: message.at(),
                end: message.end(),
            },
            None => Part::InfinityBucket,
        }
    }

    fn value(&self, part: Part) -> f64 {
        let is_summary = self.metric_type() == MetricType::Summary;
        match part {
            Part::Value => match self.metric_type() {
                MetricType::Counter => self.metric.counter,
                MetricType::Gauge => self.metric.gauge,
                _ => self.metric.untyped,
            },
            Part::Count if is_summary => self.metric.summary.count as f64,
            Part::Sum if is_summary => self.metric.summary.sum,
            Part::Sum => self.metric.histogram.sum,
            Part::Quantile { value, .. } | Part::Bucket { value, .. } => value,
            Part::Count | Part::InfinityBucket | Part::Native | Part::CustomBuckets => {
                self.metric.histogram.count()
            }
        }
    }

    fn check_spans(&self) -> Result<(), WireError> {
        let histogram = &self.metric.histogram;
        let is_float = histogram.is_float();
        let differs =
            |side: &Side| side.promised != (if is_float { side.counts } else { side.deltas }) as u64;
        for (side, fields) in [(&histogram.positive, POSITIVE), (&histogram.negative, NEGATIVE)] {
            if differs(side) {
                let mut spans = Within::new(self.metric_message(), metric::HISTOGRAM, fields.span);
                let at = spans.next().map_or(self.metric.start, |span| span.at());
                return Err(WireError { at, problem: WireProblem::Spans });
            }
        }
        Ok(())
    }

    pub(crate) const fn metric_message(&self) -> Message<'a> {
        Message::new(self.page, self.metric.start, self.metric.end)
    }

    pub(crate) fn start(&self) -> Option<Timestamp> {
        if !self.options.parse_start_timestamps {
            return None;
        }
        let time = match self.metric_type() {
            MetricType::Counter => self.metric.counter_start,
            MetricType::Summary => self.metric.summary.start,
            MetricType::Histogram | MetricType::GaugeHistogram => self.metric.histogram.start,
            _ => None,
        };
        // Zero is how Prometheus says that there is none.
        time.map(|time| time.as_millis()).filter(|&millis| millis != 0).map(Timestamp::from_millis)
    }

    pub(crate) fn key(&self, seed: u64) -> SeriesKey {
        let (kind, bound) = match self.part {
            Part::Value => (0, 0.0),
            Part::Native => (1, 0.0),
            Part::Count => (2, 0.0),
            Part::Sum => (3, 0.0),
            Part::Quantile { quantile, .. } => (4, quantile),
            Part::Bucket { upper_bound, .. } => (5, upper_bound),
            Part::InfinityBucket => (5, f64::INFINITY),
            Part::CustomBuckets => (6, 0.0),
        };
        self.metric_key(seed).of_part(kind, bound, seed)
    }

    /// The key of what the metric's samples have in common: context, family and labels.
    fn metric_key(&self, seed: u64) -> SeriesKey {
        if let Some((of, key)) = self.metric_key.get()
            && of == seed
        {
            return key;
        }
        let mut key = self.context.key(self.family.name_bytes, seed);
        if self.metric.labels_scattered {
            let mut fields = self.metric_message();
            while let Some(label) = metric::next_of(&mut fields, 1, Message::skip) {
                key = key.with(label.bytes());
            }
        } else if let Some((start, end)) = self.metric.labels {
            key = key.with(&self.page[start..end]);
        }
        self.metric_key.set(Some((seed, key)));
        key
    }

    /// The exemplars of the current sample.
    pub(crate) fn exemplars(&self) -> ProtobufExemplars<'a> {
        let histogram = &self.metric.histogram;
        match self.part {
            Part::Native | Part::CustomBuckets if histogram.exemplars > 0 => ProtobufExemplars::Native(
                self.list(histogram.exemplar_run, metric::HISTOGRAM, metric::HISTOGRAM_EXEMPLAR),
            ),
            Part::Native | Part::CustomBuckets => ProtobufExemplars::Buckets(self.buckets()),
            Part::Bucket { start, end, .. } => ProtobufExemplars::Bucket(Message::new(self.page, start, end)),
            Part::Value if self.metric_type() == MetricType::Counter => {
                let counter = Within::new(self.metric_message(), metric::COUNTER, metric::COUNTER_EXEMPLAR);
                ProtobufExemplars::Counter(counter)
            }
            _ => ProtobufExemplars::None,
        }
    }
}

fn read_bucket(message: Message<'_>) -> Option<metric::Bucket> {
    quick::bucket(Rest::of(message), |_| Some(())).or_else(|| metric::Bucket::read(message).ok())
}
