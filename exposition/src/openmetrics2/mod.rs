//! OpenMetrics 2.0 as Prometheus 3.16 reads its release candidate (`model/textparse/openmetrics2parse.go`).
//!
//! A line is judged in full when it is reached. A composite value's samples are read from the line as they are
//! asked for; nothing is kept of it but where its fields stand.

mod composite;
mod labels;
mod tail;

use std::cell::{Cell, RefCell};

use promferry_model::{BUCKET_LABEL, Histogram, MetricType, QUANTILE_LABEL, Timestamp};

use self::composite::{Composite, Field, Native, Pair, Pairs};
use self::labels::{Collect, CollectExemplar, Named};
use self::tail::{Details, Exemplar, Tail};
use crate::classic_histogram::{ClassicHistogram, copy_histogram};
use crate::context::{Context, TypeAndUnit};
use crate::error::Problem;
use crate::text::metric_type;
use crate::text_lexer::{Lexer, Token};
use crate::text_series::{LabelSink, ListOf};
use crate::{
    Dialect, Event, ExemplarSample, Format, HelpText, HistogramEvent, LabelBuffer, ParseError, ParseOptions,
    SeriesEvent, SeriesKey, go_float, parser,
};

pub(crate) struct OpenMetrics2Parser<'a> {
    page: &'a [u8],
    options: ParseOptions,
    /// Where the next line starts.
    at: usize,
    context: Context,
    /// What the last line named, as written: the type and the unit are of this name alone.
    family: &'a [u8],
    unit: &'a [u8],
    /// Where the current series starts and ends.
    series: (usize, usize),
    /// The value and the time of the current series' sample.
    pub(crate) sample: (f64, Option<Timestamp>),
    line_key: Cell<Option<(u64, SeriesKey)>>,
    /// What the labels of a composite value's samples have in common, once they have been asked for.
    common_labels: RefCell<LabelBuffer>,
    details: Details,
    /// The current line's exemplars, once those of a bucket have been asked for, in the order of the buckets.
    exemplars: RefCell<Vec<Exemplar>>,
    composite: Composite<'a>,
    part: Part,
    /// What is left of the current value's buckets or quantiles.
    pairs: Pairs<'a>,
    /// Whether the classic series come behind the current histogram.
    classic_follows: bool,
    /// The current native histogram; the current converted one otherwise.
    native: Option<Native>,
    converted: Histogram,
    classic: ClassicHistogram,
}

/// Which sample of a line is the current one.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// The only one.
    Value,
    /// Native or converted.
    Histogram,
    Count,
    Sum,
    /// A classic bucket, with the bound of the one below it.
    Bucket {
        lower_bound: Option<f64>,
        upper_bound: f64,
    },
    Quantile(f64),
}

/// An entry of a page; texts as they are written.
enum Entry<'a> {
    Help(&'a [u8]),
    Type,
    Unit,
    Series(f64),
    Histogram,
}

impl<'a> OpenMetrics2Parser<'a> {
    pub(crate) fn new(page: &'a [u8], options: ParseOptions) -> Self {
        Self {
            page,
            options,
            at: 0,
            context: Context::new(Format::OpenMetrics2, &options),
            family: b"",
            unit: b"",
            series: (0, 0),
            sample: (0.0, None),
            line_key: Cell::new(None),
            common_labels: RefCell::new(LabelBuffer::new()),
            details: Details::default(),
            exemplars: RefCell::new(Vec::new()),
            composite: Composite::none(page),
            part: Part::Value,
            pairs: Pairs::none(),
            classic_follows: false,
            native: None,
            converted: Histogram::stale(),
            classic: ClassicHistogram::new(),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Event<'_>>, ParseError> {
        let entry = match self.next_part()? {
            Some(entry) => entry,
            None => match self.next_line()? {
                Some(entry) => entry,
                None => return Ok(None),
            },
        };
        let timestamp = self.details.timestamp;
        let family = || String::from_utf8_lossy(self.family);
        Ok(Some(match entry {
            Entry::Help(text) => {
                Event::Help { family: family(), help: HelpText::of_text(text, Dialect::OpenMetrics) }
            }
            Entry::Type => Event::Type { family: family(), metric_type: self.metric_type() },
            Entry::Unit => Event::Unit { family: family(), unit: String::from_utf8_lossy(self.unit) },
            Entry::Series(value) => {
                self.sample = (value, timestamp);
                Event::Series(SeriesEvent(parser::Source::OpenMetrics2(self)))
            }
            Entry::Histogram => Event::Histogram(HistogramEvent::of_openmetrics2(self, timestamp)),
        }))
    }

    fn next_line(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        self.part = Part::Value;
        self.classic_follows = false;
        self.details = Details::default();
        self.exemplars.get_mut().clear();
        self.line_key.set(None);
        self.common_labels.get_mut().clear();
        let line = self.at;
        let mut lexer = Lexer::new(self.page, Dialect::OpenMetrics, line);
        let entry = match lexer.next_token() {
            Token::Eof => return Err(self.error(self.page.len(), "page does not end with # EOF")),
            Token::EofWord => {
                return if lexer.next_token() == Token::Eof {
                    Ok(None)
                } else {
                    Err(self.error(lexer.start, "unexpected data after # EOF"))
                };
            }
            kind @ (Token::Help | Token::Type | Token::Unit) => {
                let entry = self.metadata(&mut lexer, kind)?;
                self.at = lexer.at;
                entry
            }
            first @ (Token::MetricName | Token::BraceOpen) => self.sample(&mut lexer, line, first)?,
            _ => {
                let expected = "expected a metric name, '{' or one of # HELP, # TYPE, # UNIT and # EOF";
                return Err(self.error(lexer.start, expected));
            }
        };
        Ok(Some(entry))
    }

    fn metadata(&mut self, lexer: &mut Lexer<'a>, kind: Token) -> Result<Entry<'a>, ParseError> {
        if lexer.next_token() != Token::MetricName {
            return Err(self.error(lexer.start, "expected a metric name in the metadata line"));
        }
        let family = match lexer.token() {
            [b'"', name @ .., b'"'] => {
                labels::judge_name(name).map_err(|problem| self.error(lexer.start, problem))?;
                name
            }
            name => name,
        };
        self.enter_family(family);
        if lexer.next_token() != Token::Text {
            return Err(self.error(lexer.start, "expected a text after the metric name"));
        }
        let at = lexer.start + 1;
        let text = lexer.token().get(1..).unwrap_or_default();
        let text = &text[..text.len().saturating_sub(1)];
        if text.last() == Some(&b'\r') {
            return Err(self.error(at + text.len() - 1, "unexpected carriage return"));
        }
        let entry = match kind {
            Token::Type => {
                let Some(metric_type) = metric_type(Dialect::OpenMetrics, text) else {
                    return Err(self.error(
                        at,
                        "expected one of counter, gauge, gaugehistogram, histogram, info, stateset, summary and unknown",
                    ));
                };
                if metric_type == MetricType::Info && !family.ends_with(b"_info") {
                    return Err(self.error(at, "name of an info must end with _info"));
                }
                self.context.set_type(metric_type);
                Entry::Type
            }
            Token::Help if str::from_utf8(text).is_err() => {
                return Err(self.error(at, "help text is not valid UTF-8"));
            }
            Token::Help => Entry::Help(text),
            _ => {
                self.unit = text;
                self.context.set_unit(text);
                Entry::Unit
            }
        };
        let is_unitless = matches!(self.metric_type(), MetricType::Info | MetricType::StateSet);
        if is_unitless && !self.unit.is_empty() && kind != Token::Help {
            return Err(self.error(at, "an info or stateset has no unit"));
        }
        Ok(entry)
    }

    /// The type and the unit of another name are no longer meant.
    fn enter_family(&mut self, name: &'a [u8]) {
        if name != self.family {
            self.family = name;
            if self.metric_type() != MetricType::Unknown || !self.unit.is_empty() {
                self.unit = b"";
                self.context.set_type_and_unit(MetricType::Unknown, b"");
            }
        }
    }

    fn sample(&mut self, lexer: &mut Lexer<'a>, line: usize, first: Token) -> Result<Entry<'a>, ParseError> {
        let mut named = Named { page: self.page, name: b"", has_label_of_its_name: false };
        if first == Token::MetricName {
            named.name = lexer.token();
            if self.page.get(lexer.at) == Some(&b'{') {
                lexer.next_token();
                labels::labels(self.page, lexer, ListOf::Series, true, &mut named)?;
            }
        } else if !labels::labels(self.page, lexer, ListOf::Series, false, &mut named)? {
            return Err(self.error(line, "expected a metric name, as in {\"name\"} or name{}"));
        }
        self.enter_family(named.name);
        self.series = (line, lexer.at);
        match self.page.get(lexer.at..).unwrap_or_default() {
            [b' ', b'{', ..] => self.composite_value(lexer.at + 2),
            [b' ', rest @ ..] if !matches!(rest.first(), None | Some(b' ' | b'\n' | 0)) => {
                let length = rest.iter().position(|c| matches!(c, b' ' | b'\n' | 0)).unwrap_or(rest.len());
                let value = self.value(lexer.at + 1, &rest[..length], &named)?;
                self.tail(lexer.at + 1 + length)?;
                Ok(Entry::Series(value))
            }
            _ => Err(self.error(lexer.at, "expected a value after the series")),
        }
    }

    /// Reads what follows the value.
    fn tail(&mut self, at: usize) -> Result<(), ParseError> {
        let mut tail = Tail::new(self.page, at);
        self.details = tail.read()?;
        self.at = tail.at;
        Ok(())
    }

    /// Reads and judges a value that is a number.
    fn value(&self, at: usize, text: &[u8], named: &Named<'_>) -> Result<f64, ParseError> {
        let value = go_float::parse_value(text)
            .map_err(|error| self.error(at, Problem::of_number(error, "a value")))?;
        let problem = match self.metric_type() {
            MetricType::Counter if value.is_nan() => "value of a counter is not a number",
            MetricType::Histogram | MetricType::GaugeHistogram | MetricType::Summary => {
                "expected a composite value, which histograms and summaries have"
            }
            MetricType::Info if value != 1.0 => "value of an info is not 1",
            MetricType::StateSet if value != 0.0 && value != 1.0 => "value of a stateset is neither 0 nor 1",
            MetricType::StateSet if !named.has_label_of_its_name => "stateset lacks the label of its name",
            _ => return Ok(value),
        };
        Err(self.error(at, problem))
    }

    /// Reads and judges a composite value, behind its opening brace, and its line's rest.
    fn composite_value(&mut self, at: usize) -> Result<Entry<'a>, ParseError> {
        let metric_type = self.metric_type();
        if !matches!(metric_type, MetricType::Histogram | MetricType::GaugeHistogram | MetricType::Summary) {
            return Err(self.error(at - 1, "only histograms and summaries have composite values"));
        }
        let (composite, end) = Composite::read(self.page, at, metric_type)?;
        self.tail(end)?;
        self.composite = composite;
        self.native = None;
        if metric_type != MetricType::Summary {
            let keeps_classic = self.options.always_classic_histograms;
            if composite.is_native() && self.options.native_histograms {
                self.native = Some(composite.judge_native()?);
                self.part = Part::Histogram;
                self.classic_follows = keeps_classic && composite.has(Field::Bucket);
            } else if self.options.convert_classic_to_custom_buckets {
                composite.convert(&mut self.classic, &mut self.converted)?;
                self.part = Part::Histogram;
                self.classic_follows = keeps_classic;
            }
        }
        if self.part != Part::Histogram || self.classic_follows {
            composite.judge_pairs()?;
        }
        if self.part == Part::Histogram {
            return Ok(Entry::Histogram);
        }
        self.part = Part::Count;
        Ok(Entry::Series(composite.count()?))
    }

    /// Turns to the next sample of the current line; `None` if there is none.
    fn next_part(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        match self.part {
            Part::Value => Ok(None),
            Part::Histogram if !self.classic_follows => Ok(None),
            Part::Histogram => {
                self.part = Part::Count;
                Ok(Some(Entry::Series(self.composite.count()?)))
            }
            Part::Count => {
                self.part = Part::Sum;
                Ok(Some(Entry::Series(self.composite.sum()?)))
            }
            Part::Sum if self.metric_type() != MetricType::Summary && !self.composite.has(Field::Bucket) => {
                // Of a native histogram that is not wanted; the count says all that is known.
                self.part = Part::Bucket { lower_bound: None, upper_bound: f64::INFINITY };
                Ok(Some(Entry::Series(self.composite.count()?)))
            }
            Part::Sum => {
                self.pairs = self.composite.pairs()?;
                Ok(self.next_pair(None))
            }
            Part::Bucket { upper_bound, .. } => Ok(self.next_pair(Some(upper_bound))),
            Part::Quantile(_) => Ok(self.next_pair(None)),
        }
    }

    /// Turns to the next bucket, below which is `lower_bound`, or quantile.
    fn next_pair(&mut self, lower_bound: Option<f64>) -> Option<Entry<'a>> {
        // Judged when the line was read, so an error does not come.
        let Pair { bound, value, .. } = self.pairs.next()?.ok()?;
        self.part = if self.metric_type() == MetricType::Summary {
            Part::Quantile(bound)
        } else {
            Part::Bucket { lower_bound, upper_bound: bound }
        };
        Some(Entry::Series(value))
    }

    pub(crate) fn start(&self) -> Option<Timestamp> {
        // Zero is how Prometheus says that there is none.
        let wanted = self.options.parse_start_timestamps;
        self.details.start.filter(|start| wanted && start.as_millis() != 0)
    }

    pub(crate) fn key(&self, seed: u64) -> SeriesKey {
        let key = self.line_key(seed);
        let (kind, bound) = match self.part {
            Part::Value => return key,
            Part::Histogram => (1, 0.0),
            Part::Count => (2, 0.0),
            Part::Sum => (3, 0.0),
            Part::Quantile(quantile) => (4, quantile),
            Part::Bucket { upper_bound, .. } => (5, upper_bound),
        };
        key.of_part(kind, bound, seed)
    }

    /// The key of what the line's samples have in common.
    fn line_key(&self, seed: u64) -> SeriesKey {
        if let Some((of, key)) = self.line_key.get()
            && of == seed
        {
            return key;
        }
        let (start, end) = self.series;
        let key = self.context.key(&self.page[start..end], seed);
        self.line_key.set(Some((seed, key)));
        key
    }

    /// The current series as it is written, unless it is a part of a composite value.
    pub(crate) fn series(&self) -> Option<&[u8]> {
        let (start, end) = self.series;
        (self.part == Part::Value).then(|| &self.page[start..end])
    }

    pub(crate) const fn metric_type(&self) -> MetricType {
        self.context.metric_type()
    }

    pub(crate) fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        let is_gauge = self.metric_type() == MetricType::GaugeHistogram;
        let suffix = match self.part {
            Part::Value | Part::Histogram => return self.line_labels(labels),
            Part::Quantile(_) => "",
            Part::Count if is_gauge => "_gcount",
            Part::Count => "_count",
            Part::Sum if is_gauge => "_gsum",
            Part::Sum => "_sum",
            Part::Bucket { .. } => "_bucket",
        };
        let mut common = self.common_labels.borrow_mut();
        if common.is_empty()
            && let Err(error) = self.line_labels(&mut common)
        {
            common.clear();
            return Err(error);
        }
        labels.clear();
        let mut common = common.iter();
        if let Some((name, metric_name)) = common.next() {
            labels.push_with(
                |text| text.push_str(name),
                |text| {
                    text.push_str(metric_name);
                    text.push_str(suffix);
                },
            );
        }
        common.for_each(|(name, value)| labels.push(name, value));
        match self.part {
            Part::Quantile(quantile) => {
                labels.push(QUANTILE_LABEL, &self.options.le_format.number(quantile));
            }
            Part::Bucket { upper_bound, .. } => {
                labels.push(BUCKET_LABEL, &self.options.le_format.number(upper_bound));
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts the labels as the line has them into `labels`, the metric's name first.
    fn line_labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        labels.clear();
        let is_native_histogram = self.part == Part::Histogram && self.metric_type() == MetricType::Histogram;
        let type_and_unit = if self.options.type_and_unit_labels {
            let unit = str::from_utf8(self.unit)
                .map_err(|_| self.error(self.series.0, "the family's unit is not valid UTF-8"))?;
            Some(TypeAndUnit { metric_type: self.metric_type(), unit })
        } else {
            None
        };
        let le_format = is_native_histogram.then_some(self.options.le_format);
        let mut collect = Collect { type_and_unit, le_format, labels };
        let (line, end) = self.series;
        let mut lexer = Lexer::new(self.page, Dialect::OpenMetrics, line);
        let is_named = lexer.next_token() == Token::MetricName;
        if is_named {
            let rejected = collect.metric_name(lexer.token(), line);
            rejected.map_err(|rejected| self.error(rejected.at, rejected.problem))?;
        }
        if !is_named || lexer.at < end {
            if is_named {
                lexer.next_token();
            }
            labels::labels(self.page, &mut lexer, ListOf::Series, is_named, &mut collect)?;
        }
        Ok(())
    }

    /// The exemplar that `next`, which starts at 0, has come to.
    pub(crate) fn exemplar(&self, next: &mut usize, labels: &mut LabelBuffer) -> Option<ExemplarSample> {
        let exemplar = match self.part {
            Part::Value | Part::Histogram => {
                let first = self.details.exemplars_at?;
                let mut tail = Tail::new(self.page, if *next == 0 { first } else { *next });
                if *next == NO_MORE_EXEMPLARS {
                    return None;
                }
                let (exemplar, another_follows) = tail.exemplar().ok()?;
                *next = if another_follows { tail.at } else { NO_MORE_EXEMPLARS };
                exemplar
            }
            Part::Bucket { lower_bound, upper_bound } => {
                let exemplar = self.bucket_exemplar(lower_bound, upper_bound, *next)?;
                *next += 1;
                exemplar
            }
            Part::Count | Part::Sum | Part::Quantile(_) => return None,
        };
        labels.clear();
        let mut lexer = Lexer::in_labels(self.page, exemplar.labels_at);
        let mut collect = CollectExemplar(labels);
        labels::labels(self.page, &mut lexer, ListOf::Exemplar, true, &mut collect).ok()?;
        Some(ExemplarSample { value: exemplar.value, timestamp: Some(exemplar.timestamp) })
    }

    /// Of the exemplars in a bucket that of this number.
    fn bucket_exemplar(&self, lower_bound: Option<f64>, upper_bound: f64, number: usize) -> Option<Exemplar> {
        let at = self.details.exemplars_at?;
        let mut exemplars = self.exemplars.borrow_mut();
        if exemplars.is_empty() {
            exemplars.extend(tail::exemplars(self.page, Some(at)));
            exemplars.sort_by(|a, b| a.value.total_cmp(&b.value));
        }
        let start = lower_bound.map_or(0, |bound| exemplars.partition_point(|e| e.value <= bound));
        // What is not a number comes last and belongs to the last bucket.
        let of_bucket = exemplars.get_mut(start..)?;
        let length = of_bucket.partition_point(|e| e.value <= upper_bound || upper_bound == f64::INFINITY);
        let of_bucket = &mut of_bucket[..length];
        if number == 0 {
            // In the order of the page; other buckets' places do not change by it.
            of_bucket.sort_by_key(|exemplar| exemplar.labels_at);
        }
        of_bucket.get(number).copied()
    }

    pub(crate) fn read_into(&self, histogram: &mut Histogram) {
        match self.native {
            Some(native) => self.composite.read_native(native, histogram),
            None => copy_histogram(&self.converted, histogram),
        }
    }

    fn error(&self, at: usize, problem: impl Into<Problem>) -> ParseError {
        ParseError::in_text(self.page, at, problem)
    }
}

/// Where [`OpenMetrics2Parser::exemplar`] has come to when all have been given: no page is so long.
const NO_MORE_EXEMPLARS: usize = usize::MAX;
