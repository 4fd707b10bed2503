//! The grammar of one line.

use std::borrow::Cow;

use promferry_model::MetricType;

use super::decimal::Decimal;
use super::{Refusal, StrictRule};
use crate::go_float;

/// A line of metadata.
#[derive(Debug)]
pub(super) struct Metadata<'a> {
    pub(super) family: Cow<'a, str>,
    pub(super) family_at: usize,
    pub(super) kind: MetadataKind<'a>,
    pub(super) text_at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetadataKind<'a> {
    Type(MetricType),
    Unit(&'a str),
    Help,
}

/// A line with a value. Its labels are beside it, in a buffer that serves every line.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) at: usize,
    pub(super) name: Cow<'a, str>,
    pub(super) value: Number,
    pub(super) timestamp: Option<(Decimal<'a>, usize)>,
    pub(super) exemplar: Option<Exemplar>,
}

#[derive(Debug)]
pub(super) struct Label<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) name_at: usize,
    pub(super) value: Cow<'a, str>,
    pub(super) value_at: usize,
}

/// What of an exemplar is judged further.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemplar {
    pub(super) at: usize,
    /// Code points in the names and values of its labels.
    pub(super) label_chars: usize,
    pub(super) value: Number,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    pub(super) value: f64,
    pub(super) at: usize,
}

/// Reads a line that starts with `#`; `at` is its place in the page.
pub(super) fn metadata(line: &str, at: usize) -> Result<Metadata<'_>, Refusal> {
    let mut cursor = Cursor { line, line_at: at, at: 0 };
    let word = ["# TYPE ", "# HELP ", "# UNIT "].into_iter().find(|word| cursor.skip(word));
    let Some(word) = word else {
        let problem =
            if line == "# EOF" { "text after # EOF" } else { "expected # TYPE, # HELP, # UNIT or # EOF" };
        return Err(cursor.refuse(StrictRule::Metadata, problem));
    };
    let family_at = cursor.place();
    let family = cursor.metric_name()?;
    if !cursor.skip(" ") {
        return Err(cursor.refuse(StrictRule::Metadata, "expected one blank after the name"));
    }
    let text = cursor.rest();
    let kind = match word {
        "# TYPE " => match TYPES.into_iter().find(|metric_type| metric_type.as_str() == text) {
            Some(metric_type) => MetadataKind::Type(metric_type),
            None => return Err(cursor.refuse(StrictRule::Metadata, "expected one of the eight types")),
        },
        "# UNIT " => MetadataKind::Unit(text),
        _ if ends_in_an_escape(text) => {
            return Err(cursor.refuse_at(
                line.len(),
                StrictRule::Metadata,
                "a backslash escapes the end of the line",
            ));
        }
        _ => MetadataKind::Help,
    };
    Ok(Metadata { family, family_at, kind, text_at: cursor.place() })
}

/// Reads a line that does not; its labels go to `labels`, sorted by name, and `exemplar_labels` is working memory.
pub(super) fn sample<'a>(
    line: &'a str,
    at: usize,
    labels: &mut Vec<Label<'a>>,
    exemplar_labels: &mut Vec<Label<'a>>,
) -> Result<Sample<'a>, Refusal> {
    labels.clear();
    let mut cursor = Cursor { line, line_at: at, at: 0 };
    let mut name = if line.starts_with('{') { None } else { Some(cursor.plain_name(is_metric_name_byte)?) };
    if cursor.skip("{") {
        cursor.labels(&mut name, labels)?;
    }
    let Some(name) = name else {
        return Err(cursor.refuse_at(0, StrictRule::Name, "expected a metric's name"));
    };
    if !cursor.skip(" ") {
        return Err(cursor.refuse(StrictRule::Value, "expected one blank and a value after the series"));
    }
    let value = cursor.number()?;
    let mut timestamp = None;
    let mut exemplar = None;
    if !cursor.at_exemplar() && !cursor.is_at_end() {
        timestamp = Some(cursor.timestamp()?);
    }
    if cursor.at_exemplar() {
        exemplar = Some(cursor.exemplar(exemplar_labels)?);
    }
    if !cursor.is_at_end() {
        let is_of_exemplar = exemplar.is_some() || cursor.rest().starts_with(" #");
        let rule = if is_of_exemplar { StrictRule::Exemplar } else { StrictRule::Timestamp };
        return Err(cursor.refuse(rule, "expected the end of the line"));
    }
    Ok(Sample { at, name, value, timestamp, exemplar })
}

/// A place in a line.
struct Cursor<'a> {
    line: &'a str,
    /// Where the line starts in the page.
    line_at: usize,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn is_at_end(&self) -> bool {
        self.at == self.line.len()
    }

    /// The place in the page.
    fn place(&self) -> usize {
        self.line_at + self.at
    }

    fn refuse(&self, rule: StrictRule, problem: &'static str) -> Refusal {
        self.refuse_at(self.at, rule, problem)
    }

    fn refuse_at(&self, at: usize, rule: StrictRule, problem: &'static str) -> Refusal {
        Refusal { rule, at: self.line_at + at, problem: problem.into() }
    }

    fn skip(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// A family's name, plain or in quotes.
    fn metric_name(&mut self) -> Result<Cow<'a, str>, Refusal> {
        if self.rest().starts_with('"') { self.quoted_name() } else { self.plain_name(is_metric_name_byte) }
    }

    fn plain_name(&mut self, is_name_byte: fn(u8) -> bool) -> Result<Cow<'a, str>, Refusal> {
        let rest = self.rest();
        let length = rest.bytes().position(|b| !is_name_byte(b)).unwrap_or(rest.len());
        if length == 0 || rest.as_bytes()[0].is_ascii_digit() {
            return Err(self.refuse(StrictRule::Name, "expected a name"));
        }
        self.at += length;
        Ok(Cow::Borrowed(&rest[..length]))
    }

    fn quoted_name(&mut self) -> Result<Cow<'a, str>, Refusal> {
        let start = self.at;
        let name = self.quoted()?;
        if name.is_empty() {
            return Err(self.refuse_at(start, StrictRule::Name, "a name is not empty"));
        }
        Ok(name)
    }

    /// A text in quotes, of which other backslashes than those of the three escapes are kept.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Refusal> {
        if !self.skip("\"") {
            return Err(self.refuse(StrictRule::Labels, "expected a text in double quotes"));
        }
        let start = self.at;
        let rest = self.rest();
        let mut unescaped: Option<String> = None;
        // Up to here `unescaped` has the text.
        let mut copied = 0;
        let mut from = 0;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &rest.as_bytes()[from..]) {
            let at = from + found;
            if rest.as_bytes()[at] == b'"' {
                self.at = start + at + 1;
                return Ok(match unescaped {
                    None => Cow::Borrowed(&rest[..at]),
                    Some(mut text) => {
                        text.push_str(&rest[copied..at]);
                        Cow::Owned(text)
                    }
                });
            }
            let escaped = match rest.as_bytes().get(at + 1) {
                Some(b'n') => Some('\n'),
                Some(b'"') => Some('"'),
                Some(b'\\') => Some('\\'),
                _ => None,
            };
            from = at + 1;
            if let Some(escaped) = escaped {
                let text = unescaped.get_or_insert_default();
                text.push_str(&rest[copied..at]);
                text.push(escaped);
                from = at + 2;
                copied = from;
            }
        }
        Err(self.refuse_at(self.line.len(), StrictRule::Labels, "expected a double quote to end the text"))
    }

    /// The labels behind an opening brace, with the closing one. A metric's name may be the first of them, in quotes.
    fn labels(
        &mut self,
        name: &mut Option<Cow<'a, str>>,
        labels: &mut Vec<Label<'a>>,
    ) -> Result<(), Refusal> {
        if self.skip("}") {
            return Ok(());
        }
        let first = self.at;
        loop {
            let label_at = self.at;
            let label_name = if self.rest().starts_with('"') {
                let text = self.quoted_name()?;
                if !self.rest().starts_with('=') && name.is_none() && label_at == first {
                    *name = Some(text);
                    None
                } else {
                    Some(text)
                }
            } else {
                Some(self.plain_name(is_label_name_byte).map_err(|refusal| Refusal {
                    rule: StrictRule::Labels,
                    problem: "expected a label's name".into(),
                    ..refusal
                })?)
            };
            if let Some(label_name) = label_name {
                if !self.skip("=") {
                    return Err(self.refuse(StrictRule::Labels, "expected = after the label's name"));
                }
                let value_at = self.place();
                let value = self.quoted()?;
                labels.push(Label { name: label_name, name_at: self.line_at + label_at, value, value_at });
            }
            if self.skip("}") {
                break;
            }
            if !self.skip(",") {
                return Err(self.refuse(StrictRule::Labels, "expected a comma or a closing brace"));
            }
        }
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let repeated = labels.windows(2).filter(|pair| pair[0].name == pair[1].name);
        match repeated.map(|pair| pair[1].name_at).min() {
            None => Ok(()),
            Some(at) => {
                Err(Refusal { rule: StrictRule::Labels, at, problem: "the label is there already".into() })
            }
        }
    }

    /// What stands before the next blank or the end of the line.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let length = memchr::memchr(b' ', rest.as_bytes()).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn number(&mut self) -> Result<Number, Refusal> {
        let start = self.at;
        let word = self.word();
        let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
        let is_word = |text: &str| unsigned.eq_ignore_ascii_case(text);
        let has_form = Decimal::parse(word).is_some()
            || is_word("inf")
            || is_word("infinity")
            || word.eq_ignore_ascii_case("nan");
        if !has_form {
            return Err(self.refuse_at(start, StrictRule::Value, "expected a decimal number, NaN or Inf"));
        }
        match go_float::parse_value(word.as_bytes()) {
            Ok(value) => Ok(Number { value, at: self.line_at + start }),
            Err(_) => Err(self.refuse_at(start, StrictRule::Value, OUT_OF_RANGE)),
        }
    }

    /// A blank and a timestamp.
    fn timestamp(&mut self) -> Result<(Decimal<'a>, usize), Refusal> {
        if !self.skip(" ") {
            return Err(self.refuse(StrictRule::Timestamp, "expected one blank"));
        }
        let start = self.at;
        let word = self.word();
        if word.starts_with('#') {
            return Err(self.refuse_at(
                start,
                StrictRule::Exemplar,
                "expected an exemplar, which starts with # {",
            ));
        }
        let Some(timestamp) = Decimal::parse(word) else {
            return Err(self.refuse_at(
                start,
                StrictRule::Timestamp,
                "expected a timestamp in decimal seconds or the end of the line",
            ));
        };
        if go_float::parse_value(word.as_bytes()).is_err() {
            return Err(self.refuse_at(start, StrictRule::Timestamp, OUT_OF_RANGE));
        }
        Ok((timestamp, self.line_at + start))
    }

    fn at_exemplar(&self) -> bool {
        self.rest().starts_with(" # ")
    }

    fn exemplar(&mut self, labels: &mut Vec<Label<'a>>) -> Result<Exemplar, Refusal> {
        let at = self.place() + 1;
        self.at += " # ".len();
        if !self.skip("{") {
            return Err(self.refuse(StrictRule::Exemplar, "expected the exemplar's labels in braces"));
        }
        labels.clear();
        let first = self.at;
        let mut name = None;
        self.labels(&mut name, labels)?;
        if name.is_some() {
            return Err(self.refuse_at(first, StrictRule::Exemplar, "an exemplar has no name"));
        }
        if !self.skip(" ") {
            return Err(self.refuse(StrictRule::Exemplar, "expected one blank and the exemplar's value"));
        }
        let value = self.number()?;
        if !self.is_at_end() {
            self.timestamp()?;
        }
        let label_chars =
            labels.iter().map(|label| label.name.chars().count() + label.value.chars().count()).sum();
        Ok(Exemplar { at, label_chars, value })
    }
}

const TYPES: [MetricType; 8] = [
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::GaugeHistogram,
    MetricType::Histogram,
    MetricType::Info,
    MetricType::StateSet,
    MetricType::Summary,
    MetricType::Unknown,
];

const OUT_OF_RANGE: &str = "number out of the range of a 64-bit float";

fn is_metric_name_byte(b: u8) -> bool {
    is_label_name_byte(b) || b == b':'
}

fn is_label_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn ends_in_an_escape(text: &str) -> bool {
    text.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}
