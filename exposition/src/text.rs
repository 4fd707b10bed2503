//! The pull parser for the Prometheus text format and OpenMetrics: a quick way for the lines that nearly all
//! lines are, and the careful way, which alone judges.

use std::ops::Range;

use promferry_model::{BUCKET_LABEL, MetricType, NORMAL_NAN_BITS, QUANTILE_LABEL, Timestamp};

use crate::context::Context;
use crate::go_float;
use crate::text_created::{Ahead, Created, Identity, has_created_series};
use crate::text_lexer::{Lexer, Token, is_blank, is_metric_name, is_metric_name_start};
use crate::text_series::{self, Collect, Discard, ListOf};
use crate::{Dialect, LabelBuffer, LabelSpans, ParseError, ParseOptions, SplitLabels};

pub(crate) struct TextParser<'a> {
    page: &'a [u8],
    dialect: Dialect,
    options: ParseOptions,
    /// Whether lines and labels may be read the quick way.
    quick: bool,
    /// Where the next line starts.
    at: usize,
    /// The next byte at or after `at` that the quick way leaves to the careful one: a backslash and, in
    /// OpenMetrics, a '#'.
    careful_from: usize,
    context: Context,
    /// Length of the name in the last metadata line, as written: OpenMetrics' `_created` belongs by it.
    family_length: usize,
    series: Range<usize>,
    exemplar: Option<TextExemplar>,
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
            quick: true,
            at: 0,
            careful_from: next_careful(dialect == Dialect::OpenMetrics, page, 0),
            context: Context::new(dialect.into(), &options),
            family_length: 0,
            series: 0..0,
            exemplar: None,
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
        let quick = match self.dialect {
            _ if !self.quick => None,
            Dialect::Prometheus => self.quick_line::<false>(),
            Dialect::OpenMetrics if self.options.parse_start_timestamps => None,
            Dialect::OpenMetrics => self.quick_line::<true>(),
        };
        match quick {
            Some(entry) => Ok(Some(entry)),
            None => self.careful_entry(),
        }
    }

    /// Reads a line if its series ends without doubt where it seems to end; `None` reads nothing.
    ///
    /// The claim: if the page is accepted at all, then this line is a series and it ends here. A label list
    /// ends with the line's last '}' when that stands outside of strings, which it does if it follows a '"'
    /// that closes one. An opening '"' follows '{', ',', '=', a blank or another '"'; so a '"' behind any
    /// other byte closes, there being no backslash in the line. Whether the series' bytes obey the grammar
    /// is judged when labels are first asked for.
    #[inline]
    fn quick_line<const OPEN_METRICS: bool>(&mut self) -> Option<Entry<'a>> {
        let start = self.at;
        let rest = self.page.get(start..)?;
        let &first = rest.first()?;
        if !is_metric_name_start(first) && first != b'{' {
            return None;
        }
        let (line, next) = match memchr::memchr(b'\n', rest) {
            Some(newline) => (&rest[..newline], start + newline + 1),
            None if OPEN_METRICS => return None,
            None => (rest, self.page.len()),
        };
        if self.careful_from < start {
            self.careful_from = next_careful(OPEN_METRICS, self.page, start);
        }
        if self.careful_from < next {
            return None;
        }
        let series_length = match memchr::memrchr(b'}', line) {
            Some(brace) => {
                let &[.., before, b'"'] = &line[..brace] else { return None };
                if matches!(before, b'{' | b',' | b'=' | b'"') || is_blank(before) {
                    return None;
                }
                brace + 1
            }
            None if first == b'{' => return None,
            None => line.iter().position(|&c| !is_metric_name(c)).unwrap_or(line.len()),
        };
        let (value, timestamp) = if OPEN_METRICS {
            quick_openmetrics_value(&line[series_length..])?
        } else {
            quick_prometheus_value(&line[series_length..])?
        };
        self.series = start..start + series_length;
        self.exemplar = None;
        self.at = next;
        Some(Entry::Series { value, timestamp })
    }

    fn careful_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            let line = self.at;
            let mut lexer = Lexer::new(self.page, self.dialect, line);
            let first = lexer.next_token();
            let entry = match first {
                Token::Eof if self.dialect == Dialect::Prometheus => return Ok(None),
                Token::Eof => return Err(self.error(self.page.len(), "page does not end with # EOF")),
                Token::EofWord => {
                    return if lexer.next_token() == Token::Eof {
                        Ok(None)
                    } else {
                        Err(self.error(lexer.start, "unexpected data after # EOF"))
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
        let name = lexer.token();
        let family = match name {
            [b'"', inner @ .., b'"'] => inner,
            name => name,
        };
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
                return Err(self.error(at, "help text is not valid UTF-8"));
            }
            Token::Help => Entry::Help { family, help: text },
            _ => {
                let suffixed = family.strip_suffix(text).is_some_and(|stem| stem.ends_with(b"_"));
                if !text.is_empty() && !suffixed {
                    return Err(self.error(at, "unit is not a suffix of the metric name"));
                }
                Entry::Unit { family, unit: text }
            }
        };
        if self.dialect == Dialect::Prometheus {
            self.expect_linebreak(lexer, "expected the end of the line after the metadata")?;
        }
        self.family_length = family.len();
        self.context.enter_family(family);
        match entry {
            Entry::Type { metric_type, .. } => self.context.set_type(metric_type),
            Entry::Unit { unit, .. } => self.context.set_unit(unit),
            _ => {}
        }
        Ok(entry)
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
        Ok(Some(Entry::Series { value, timestamp }))
    }

    /// The identity of the current series' metric, whose name is as long as the one of the last metadata. No metric
    /// has a name that goes on into the line at `next`: to look at all of it would take a long name's length for
    /// each of many short lines.
    fn metric_of(&self, identity: Identity<'a>, next: usize) -> Option<u64> {
        let series = self.series.start;
        let quoted_first = self.page[series..].starts_with(b"{\"");
        let name_end = series + self.family_length + if quoted_first { 2 } else { 0 };
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
                    return Err(self.error(lexer.start, "timestamp out of the range of a 64-bit integer"));
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

    fn value(&self, lexer: &Lexer<'a>, token: Token, expected: &str) -> Result<f64, ParseError> {
        if token != Token::Value {
            return Err(self.error(lexer.start, expected));
        }
        let (start, text) = match self.dialect {
            Dialect::Prometheus => (lexer.start, lexer.token()),
            Dialect::OpenMetrics => (lexer.start + 1, lexer.slice(lexer.start + 1, lexer.at)),
        };
        go_float::parse_value(text).map_err(|error| self.error(start, &format!("{error}, expected a value")))
    }

    fn seconds(&self, lexer: &Lexer<'a>) -> Result<Timestamp, ParseError> {
        let start = lexer.start + 1;
        let seconds = go_float::parse_value(lexer.slice(start, lexer.at))
            .map_err(|error| self.error(start, &format!("{error}, expected a timestamp in seconds")))?;
        if !seconds.is_finite() {
            return Err(self.error(start, "expected a finite timestamp in seconds"));
        }
        Ok(Timestamp::from_millis(go_float::to_int64(seconds * 1000.0)))
    }

    fn expect_linebreak(&self, lexer: &mut Lexer<'a>, expected: &str) -> Result<(), ParseError> {
        if lexer.next_token() == Token::Linebreak { Ok(()) } else { Err(self.error(lexer.start, expected)) }
    }

    fn error(&self, at: usize, problem: &str) -> ParseError {
        ParseError::in_text(self.page, at, problem)
    }

    /// Splits the current series, judging its bytes by the whole grammar.
    pub(crate) fn labels(&self, buffer: &mut LabelBuffer) -> Result<(), ParseError> {
        buffer.clear();
        if !self.quick || text_series::quick_labels(self.series(), buffer).is_none() {
            buffer.clear();
            self.careful_labels(buffer)?;
        }
        let normalised = match self.context.metric_type() {
            MetricType::Histogram => BUCKET_LABEL,
            MetricType::Summary => QUANTILE_LABEL,
            _ => return Ok(()),
        };
        buffer.rewrite(normalised, |value| self.options.le_format.text(value));
        Ok(())
    }

    /// As [`TextParser::labels`], without copying what is meant as it is written.
    pub(crate) fn split<'s>(&self, spans: &'s mut LabelSpans) -> Result<SplitLabels<'s>, ParseError>
    where
        'a: 's,
    {
        spans.fill(|labels| self.labels(labels))
    }

    fn careful_labels(&self, buffer: &mut LabelBuffer) -> Result<(), ParseError> {
        let line = self.series.start;
        let mut lexer = Lexer::new(self.page, self.dialect, line);
        let first = lexer.next_token();
        if !matches!(first, Token::MetricName | Token::BraceOpen) {
            return Err(self.error(line, "expected a metric name or '{'"));
        }
        let (end, _) = text_series::series(self.page, &mut lexer, line, first, &mut Collect(buffer))?;
        if end != self.series.end {
            return Err(self.error(end, "expected a value after the series"));
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

/// Where, from `start` on, the next byte is that the quick way leaves alone.
fn next_careful(open_metrics: bool, page: &[u8], start: usize) -> usize {
    let rest = &page[start..];
    let at = if open_metrics { memchr::memchr2(b'\\', b'#', rest) } else { memchr::memchr(b'\\', rest) };
    at.map_or(usize::MAX, |at| start + at)
}

/// Blanks, a number, and perhaps blanks and a timestamp.
#[inline]
fn quick_prometheus_value(text: &[u8]) -> Option<(f64, Option<Timestamp>)> {
    let text = without_blanks(text);
    let (value, length) = quick_number(text, is_blank)?;
    let text = without_blanks(&text[length..]);
    if text.is_empty() {
        return Some((value, None));
    }
    let digits = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let millis = milliseconds(&text[..digits])?;
    without_blanks(&text[digits..]).is_empty().then_some((value, Some(Timestamp::from_millis(millis))))
}

/// A space, a number, and perhaps a space and a timestamp.
#[inline]
fn quick_openmetrics_value(text: &[u8]) -> Option<(f64, Option<Timestamp>)> {
    let text = text.strip_prefix(b" ")?;
    let (value, length) = quick_number(text, |c| c == b' ')?;
    let text = &text[length..];
    if text.is_empty() {
        return Some((value, None));
    }
    let seconds =
        go_float::parse_value(text.strip_prefix(b" ")?).ok().filter(|seconds| seconds.is_finite())?;
    Some((value, Some(Timestamp::from_millis(go_float::to_int64(seconds * 1000.0)))))
}

/// The number that `text` starts with, up to a separator or the end.
#[inline]
fn quick_number(text: &[u8], is_separator: impl Fn(u8) -> bool) -> Option<(f64, usize)> {
    if let Some((value, length)) = go_float::simple_decimal(text)
        && text.get(length).is_none_or(|&c| is_separator(c))
    {
        return Some((value, length));
    }
    let length = text.iter().position(|&c| is_separator(c)).unwrap_or(text.len());
    let value = match &text[..length] {
        b"NaN" => f64::from_bits(NORMAL_NAN_BITS),
        b"+Inf" => f64::INFINITY,
        number => go_float::parse_value(number).ok()?,
    };
    Some((value, length))
}

fn without_blanks(text: &[u8]) -> &[u8] {
    match text {
        [b' ', rest @ ..] if !rest.first().copied().is_some_and(is_blank) => rest,
        _ => &text[text.iter().position(|&c| !is_blank(c)).unwrap_or(text.len())..],
    }
}

/// A timestamp of the Prometheus text format: digits only.
fn milliseconds(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |millis, &digit| {
        millis.checked_mul(10)?.checked_add(i64::from(digit.wrapping_sub(b'0')))
    })
}

fn metric_type(dialect: Dialect, word: &[u8]) -> Option<MetricType> {
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
