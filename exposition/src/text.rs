//! The pull parser for the Prometheus text format and OpenMetrics by their whole grammar, which alone judges.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use promferry_model::{BUCKET_LABEL, METRIC_NAME, MetricType, QUANTILE_LABEL, Timestamp};

use crate::block::{LabelMarks, LineMarks};
use crate::context::{Context, TYPE_LABEL, UNIT_LABEL};
use crate::error::Problem;
use crate::go_float;
use crate::text_created::{Ahead, Created, Identity, has_created_series};
use crate::text_lexer::{Lexer, Token};
use crate::text_series::{self, Collect, Discard, ListOf};
use crate::{Dialect, LabelBuffer, ParseError, ParseOptions};

pub(crate) struct TextParser<'a> {
    pub(crate) page: &'a [u8],
    pub(crate) dialect: Dialect,
    pub(crate) options: ParseOptions,
    /// Whether lines and labels may be read the quick way. A line of OpenMetrics under start timestamps may not.
    pub(crate) quick: bool,
    /// Where the next line starts.
    pub(crate) at: usize,
    pub(crate) context: Context,
    /// The name in the last metadata line, without quotes: OpenMetrics' `_created` belongs by its length.
    pub(crate) family: Range<usize>,
    /// The unit of the last UNIT line, of whatever family.
    unit: Range<usize>,
    pub(crate) series: Range<usize>,
    /// The value and the time of the series' sample.
    pub(crate) sample: (f64, Option<Timestamp>),
    /// Whether the series is known to stand in what is marked, and to have nothing unusual in it.
    pub(crate) is_plain: bool,
    pub(crate) exemplar: Option<TextExemplar>,
    pub(crate) lines: LineMarks,
    pub(crate) label_marks: RefCell<LabelMarks>,
    /// How many series have been asked for as texts.
    pub(crate) asked_texts: Cell<u32>,
    /// The page once it has been judged, if it is UTF-8.
    pub(crate) text: Option<Option<&'a str>>,
    /// Of use under [`ParseOptions::parse_start_timestamps`] only.
    created: Created,
}

/// An entry of a text page; texts as they are written.
pub(crate) enum Entry<'a> {
    Help { family: &'a [u8], help: &'a [u8] },
    Type { family: &'a [u8], metric_type: MetricType },
    Unit { family: &'a [u8], unit: &'a [u8] },
    Comment(&'a [u8]),
    Series { value: f64, timestamp: Option<Timestamp> },
}

#[derive(Clone)]
pub(crate) struct TextExemplar {
    /// Where the label list starts, behind its brace.
    labels: usize,
    pub(crate) value: f64,
    pub(crate) timestamp: Option<Timestamp>,
}

impl<'a> TextParser<'a> {
    pub(crate) fn new(dialect: Dialect, page: &'a [u8], options: ParseOptions) -> Self {
        Self {
            page,
            dialect,
            options,
            quick: dialect == Dialect::Prometheus || !options.parse_start_timestamps,
            at: 0,
            context: Context::new(dialect.into(), &options),
            family: 0..0,
            unit: 0..0,
            series: 0..0,
            sample: (0.0, None),
            is_plain: false,
            exemplar: None,
            // A '#' may begin an exemplar in OpenMetrics.
            lines: LineMarks::new(if dialect == Dialect::OpenMetrics { b'#' } else { b'\\' }),
            label_marks: RefCell::new(LabelMarks::new()),
            asked_texts: Cell::new(0),
            text: None,
            created: Created::default(),
        }
    }

    pub(crate) const fn forgo_quick_ways(&mut self) {
        self.quick = false;
    }

    pub(crate) const fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The bytes of the current series.
    #[inline]
    pub(crate) fn series(&self) -> &[u8] {
        &self.page[self.series.clone()]
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        match self.quick_entry() {
            Some(entry) => Ok(Some(entry)),
            None => self.careful_entry(),
        }
    }

    fn careful_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            let line = self.at;
            let mut lexer = Lexer::new(self.page, self.dialect, line);
            let first = lexer.next_token();
            let entry = match first {
                Token::Eof if self.dialect == Dialect::Prometheus => return Ok(None),
                Token::Eof => {
                    return Err(
                        self.error(self.page.len(), Problem::new("page does not end with # EOF", "# EOF"))
                    );
                }
                Token::EofWord => {
                    return if lexer.next_token() == Token::Eof {
                        Ok(None)
                    } else {
                        Err(self.error(
                            lexer.start,
                            Problem::new("unexpected data after # EOF", "the end of the page"),
                        ))
                    };
                }
                Token::Linebreak if self.dialect == Dialect::Prometheus => None,
                Token::Help | Token::Type | Token::Unit => Some(self.metadata(&mut lexer, first)?),
                Token::Comment if self.dialect == Dialect::Prometheus => {
                    let comment = lexer.token();
                    self.expect_linebreak(&mut lexer, "expected the end of the line after the comment")?;
                    Some(Entry::Comment(comment))
                }
                Token::MetricName | Token::BraceOpen => self.careful_series(&mut lexer, line, first)?,
                _ => {
                    let expected = match self.dialect {
                        Dialect::Prometheus => "expected a metric name, '{', '#' or an empty line",
                        Dialect::OpenMetrics => {
                            "expected a metric name, '{' or one of # HELP, # TYPE, # UNIT and # EOF"
                        }
                    };
                    return Err(self.error(lexer.start, expected));
                }
            };
            self.at = lexer.at;
            if let Some(entry) = entry {
                return Ok(Some(entry));
            }
        }
    }

    fn metadata(&mut self, lexer: &mut Lexer<'a>, kind: Token) -> Result<Entry<'a>, ParseError> {
        if lexer.next_token() != Token::MetricName {
            return Err(self.error(lexer.start, "expected a metric name in the metadata line"));
        }
        let family_at = match lexer.token() {
            [b'"', .., b'"'] => lexer.start + 1..lexer.at - 1,
            _ => lexer.start..lexer.at,
        };
        let family = &self.page[family_at.clone()];
        if lexer.next_token() != Token::Text {
            return Err(self.error(lexer.start, "expected a text after the metric name"));
        }
        let at = lexer.start + 1;
        // The byte after the name is no part of the text, whatever it is; neither is OpenMetrics' newline.
        let text = lexer.token().get(1..).unwrap_or_default();
        let text = match self.dialect {
            Dialect::Prometheus => text,
            Dialect::OpenMetrics => &text[..text.len().saturating_sub(1)],
        };
        let entry = match kind {
            Token::Type => {
                let Some(metric_type) = metric_type(self.dialect, text) else {
                    return Err(self.error(at, expected_types(self.dialect)));
                };
                Entry::Type { family, metric_type }
            }
            Token::Help if str::from_utf8(text).is_err() => {
                return Err(self.error(at, Problem::not_utf8("help text is not valid UTF-8")));
            }
            Token::Help => Entry::Help { family, help: text },
            _ => {
                let suffixed = family.strip_suffix(text).is_some_and(|stem| stem.ends_with(b"_"));
                if !text.is_empty() && !suffixed {
                    return Err(self.error(
                        at,
                        Problem::new(
                            "unit is not a suffix of the metric name",
                            "what the metric name ends with after '_'",
                        ),
                    ));
                }
                Entry::Unit { family, unit: text }
            }
        };
        if self.dialect == Dialect::Prometheus {
            self.expect_linebreak(lexer, "expected the end of the line after the metadata")?;
        }
        if kind == Token::Unit {
            self.unit = at..at + text.len();
        }
        self.enter(family_at, &entry);
        Ok(entry)
    }

    /// Notes what a metadata line says of the family whose name stands at `family`.
    pub(crate) fn enter(&mut self, family: Range<usize>, entry: &Entry<'a>) {
        if self.page[family.clone()] != self.page[self.family.clone()] {
            self.context.enter_family(&self.page[family.clone()]);
        }
        self.family = family;
        match entry {
            Entry::Type { metric_type, .. } => self.context.set_type(*metric_type),
            Entry::Unit { unit, .. } => self.context.set_unit(unit),
            _ => {}
        }
    }

    /// Reads a sample's line; `None` if its series is not to be seen.
    fn careful_series(
        &mut self,
        lexer: &mut Lexer<'a>,
        line: usize,
        first: Token,
    ) -> Result<Option<Entry<'a>>, ParseError> {
        let searches_created = self.dialect == Dialect::OpenMetrics && self.options.parse_start_timestamps;
        let mut identity = searches_created.then(|| Identity::new(self.page, self.context.metric_type()));
        let (end, after) = match &mut identity {
            Some(identity) => text_series::series(self.page, lexer, line, first, identity)?,
            None => text_series::series(self.page, lexer, line, first, &mut Discard)?,
        };
        self.series = line..end;
        self.is_plain = false;
        let value = self.value(lexer, after, "expected a value after the series")?;
        let timestamp = match self.dialect {
            Dialect::Prometheus => self.careful_timestamp(lexer)?,
            Dialect::OpenMetrics => {
                let (timestamp, exemplar) = self.careful_openmetrics_end(lexer)?;
                self.exemplar = exemplar;
                timestamp
            }
        };
        if let Some(identity) = identity {
            let has_created_series = has_created_series(self.context.metric_type());
            if has_created_series && identity.created_of().is_some() {
                return Ok(None);
            }
            let metric = has_created_series.then(|| self.metric_of(identity, lexer.at)).flatten();
            let mut created = std::mem::take(&mut self.created);
            created.search(metric, lexer.at, || self.look_ahead(lexer.at));
            self.created = created;
        }
        self.sample = (value, timestamp);
        Ok(Some(Entry::Series { value, timestamp }))
    }

    /// The identity of the current series' metric, whose name is as long as the one of the last metadata. No metric
    /// has a name that goes on into the line at `next`: to look at all of it would take a long name's length for
    /// each of many short lines.
    fn metric_of(&self, identity: Identity<'a>, next: usize) -> Option<u64> {
        let series = self.series.start;
        let quoted_first = self.page[series..].starts_with(b"{\"");
        let name_end = series + self.family.len() + if quoted_first { 2 } else { 0 };
        let name = self.page.get(identity.name_at..name_end).filter(|_| name_end <= next)?;
        Some(identity.metric(name))
    }

    /// The first line from `at` on that is no series or is a `_created` one.
    fn look_ahead(&self, mut at: usize) -> Ahead {
        loop {
            let mut lexer = Lexer::new(self.page, self.dialect, at);
            let first = lexer.next_token();
            if !matches!(first, Token::MetricName | Token::BraceOpen) {
                return Ahead { at, created: None };
            }
            match self.created_series(&mut lexer, at, first) {
                Ok(Some(created)) => return Ahead { at, created: Some(created) },
                Ok(None) => at = lexer.at,
                Err(_) => return Ahead { at, created: None },
            }
        }
    }

    /// The metric and the value of a line that begins with `first`, if it is a `_created` series; an error if it is no
    /// series, of which a page has one at most.
    fn created_series(
        &self,
        lexer: &mut Lexer<'a>,
        line: usize,
        first: Token,
    ) -> Result<Option<(u64, i64)>, ParseError> {
        let mut identity = Identity::new(self.page, self.context.metric_type());
        let (_, after) = text_series::series(self.page, lexer, line, first, &mut identity)?;
        let value = self.value(lexer, after, "expected a value after the series")?;
        self.careful_openmetrics_end(lexer)?;
        let created = identity.created_of();
        Ok(created.map(|name| (identity.metric(name), go_float::to_int64(value * 1000.0))))
    }

    pub(crate) const fn start(&self) -> Option<Timestamp> {
        self.created.start
    }

    /// Gives the current series another start.
    pub(crate) const fn replace_start(&mut self, start: Option<Timestamp>) {
        self.created.start = start;
    }

    fn careful_timestamp(&self, lexer: &mut Lexer<'a>) -> Result<Option<Timestamp>, ParseError> {
        match lexer.next_token() {
            Token::Linebreak => Ok(None),
            Token::Timestamp => {
                let Some(millis) = milliseconds(lexer.token()) else {
                    return Err(self.error(
                        lexer.start,
                        Problem::new(
                            "timestamp out of the range of a 64-bit integer",
                            "a timestamp in milliseconds",
                        ),
                    ));
                };
                self.expect_linebreak(lexer, "expected the end of the line after the timestamp")?;
                Ok(Some(Timestamp::from_millis(millis)))
            }
            _ => Err(self.error(lexer.at, "expected a timestamp in milliseconds or the end of the line")),
        }
    }

    fn careful_openmetrics_end(
        &self,
        lexer: &mut Lexer<'a>,
    ) -> Result<(Option<Timestamp>, Option<TextExemplar>), ParseError> {
        let mut timestamp = None;
        let mut token = lexer.next_token();
        if token == Token::Timestamp {
            timestamp = Some(self.seconds(lexer)?);
            token = lexer.next_token();
        }
        match token {
            Token::Linebreak => Ok((timestamp, None)),
            Token::ExemplarOpen => Ok((timestamp, Some(self.careful_exemplar(lexer)?))),
            _ => {
                let expected = if timestamp.is_some() {
                    "expected an exemplar or the end of the line"
                } else {
                    "expected a timestamp in seconds, an exemplar or the end of the line"
                };
                Err(self.error(lexer.start, expected))
            }
        }
    }

    fn careful_exemplar(&self, lexer: &mut Lexer<'a>) -> Result<TextExemplar, ParseError> {
        let labels = lexer.at;
        text_series::labels(self.page, lexer, ListOf::Exemplar, true, &mut text_series::ValuesAreUtf8)?;
        let after = lexer.next_token();
        let value = self.value(lexer, after, "expected a value after the exemplar's labels")?;
        let timestamp = match lexer.next_token() {
            Token::Linebreak => None,
            Token::Timestamp => {
                let timestamp = self.seconds(lexer)?;
                self.expect_linebreak(lexer, "expected the end of the line after the exemplar's timestamp")?;
                Some(timestamp)
            }
            _ => {
                return Err(self.error(lexer.start, "expected a timestamp in seconds or the end of the line"));
            }
        };
        Ok(TextExemplar { labels, value, timestamp })
    }

    fn value(&self, lexer: &Lexer<'a>, token: Token, expected: &'static str) -> Result<f64, ParseError> {
        if token != Token::Value {
            return Err(self.error(lexer.start, expected));
        }
        let (start, text) = match self.dialect {
            Dialect::Prometheus => (lexer.start, lexer.token()),
            Dialect::OpenMetrics => (lexer.start + 1, lexer.slice(lexer.start + 1, lexer.at)),
        };
        go_float::parse_value(text).map_err(|error| self.error(start, Problem::of_number(error, "a value")))
    }

    fn seconds(&self, lexer: &Lexer<'a>) -> Result<Timestamp, ParseError> {
        let start = lexer.start + 1;
        let seconds = go_float::parse_value(lexer.slice(start, lexer.at))
            .map_err(|error| self.error(start, Problem::of_number(error, "a timestamp in seconds")))?;
        if !seconds.is_finite() {
            return Err(self.error(start, "expected a finite timestamp in seconds"));
        }
        Ok(Timestamp::from_millis(go_float::to_int64(seconds * 1000.0)))
    }

    fn expect_linebreak(&self, lexer: &mut Lexer<'a>, expected: &'static str) -> Result<(), ParseError> {
        if lexer.next_token() == Token::Linebreak { Ok(()) } else { Err(self.error(lexer.start, expected)) }
    }

    fn error(&self, at: usize, problem: impl Into<Problem>) -> ParseError {
        ParseError::in_text(self.page, at, problem)
    }

    /// Splits the current series, judging its bytes by the whole grammar.
    pub(crate) fn careful_labels(&self, buffer: &mut LabelBuffer) -> Result<(), ParseError> {
        buffer.clear();
        let line = self.series.start;
        let mut lexer = Lexer::new(self.page, self.dialect, line);
        let first = lexer.next_token();
        if !matches!(first, Token::MetricName | Token::BraceOpen) {
            return Err(self.error(line, "expected a metric name or '{'"));
        }
        let mut collect = Collect { labels: &mut *buffer, named: None };
        let (end, _) = text_series::series(self.page, &mut lexer, line, first, &mut collect)?;
        let named = collect.named;
        if end != self.series.end {
            return Err(self.error(end, "expected a value after the series"));
        }
        if self.options.type_and_unit_labels {
            self.add_type_and_unit(buffer, named)?;
        }
        let normalised = match self.context.metric_type() {
            MetricType::Histogram => BUCKET_LABEL,
            MetricType::Summary => QUANTILE_LABEL,
            _ => return Ok(()),
        };
        buffer.rewrite(normalised, |value| self.options.le_format.text(value));
        Ok(())
    }

    /// Adds what the page last said of a type and a unit, which in OpenMetrics may have been of another family: so
    /// Prometheus does. What the page itself gives under the names of the labels that are added is left out. `named`
    /// is the metric's name among the labels.
    fn add_type_and_unit(&self, buffer: &mut LabelBuffer, named: Option<usize>) -> Result<(), ParseError> {
        let metric_type = match self.context.metric_type() {
            MetricType::Unknown => "",
            known => known.as_str(),
        };
        let unit = str::from_utf8(&self.page[self.unit.clone()])
            .map_err(|_| self.error(self.unit.start, Problem::not_utf8("unit is not valid UTF-8")))?;
        let given = buffer.clone();
        let name = named.and_then(|at| given.label(at)).map_or("", |(_, name)| name);
        let added = [(METRIC_NAME, name), (TYPE_LABEL, metric_type), (UNIT_LABEL, unit)];
        let gives_way = |label: &str| added.iter().any(|(name, value)| *name == label && !value.is_empty());
        buffer.clear();
        for (name, value) in added.iter().filter(|(_, value)| !value.is_empty()) {
            buffer.push(name, value);
        }
        for (at, (name, value)) in given.iter().enumerate() {
            if Some(at) != named && !gives_way(name) {
                buffer.push(name, value);
            }
        }
        Ok(())
    }

    /// The current series' exemplar, which it then no longer has.
    pub(crate) const fn take_exemplar(&mut self) -> Option<TextExemplar> {
        self.exemplar.take()
    }

    pub(crate) const fn exemplar(&self) -> Option<&TextExemplar> {
        self.exemplar.as_ref()
    }

    /// Splits an exemplar's labels, which Prometheus takes as they are written, escapes included.
    pub(crate) fn exemplar_labels(&self, exemplar: &TextExemplar, buffer: &mut LabelBuffer) {
        buffer.clear();
        let mut lexer = Lexer::in_exemplar(self.page, exemplar.labels);
        // Judged when the line was read.
        let _ = text_series::labels(
            self.page,
            &mut lexer,
            ListOf::Exemplar,
            true,
            &mut text_series::CollectRaw(buffer),
        );
    }
}

/// A timestamp of the Prometheus text format: digits only.
pub(crate) fn milliseconds(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |millis, &byte| {
        let digit = Some(byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)?;
        millis.checked_mul(10)?.checked_add(i64::from(digit))
    })
}

pub(crate) fn metric_type(dialect: Dialect, word: &[u8]) -> Option<MetricType> {
    Some(match (dialect, word) {
        (_, b"counter") => MetricType::Counter,
        (_, b"gauge") => MetricType::Gauge,
        (_, b"histogram") => MetricType::Histogram,
        (_, b"summary") => MetricType::Summary,
        (Dialect::Prometheus, b"untyped") | (Dialect::OpenMetrics, b"unknown") => MetricType::Unknown,
        (Dialect::OpenMetrics, b"gaugehistogram") => MetricType::GaugeHistogram,
        (Dialect::OpenMetrics, b"info") => MetricType::Info,
        (Dialect::OpenMetrics, b"stateset") => MetricType::StateSet,
        _ => return None,
    })
}

const fn expected_types(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Prometheus => "expected one of counter, gauge, histogram, summary and untyped",
        Dialect::OpenMetrics => {
            "expected one of counter, gauge, gaugehistogram, histogram, info, stateset, summary and unknown"
        }
    }
}
