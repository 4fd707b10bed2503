//! The grammar of one series in the text formats: name and labels, with every rule that Prometheus has for
//! them.

use promferry_model::METRIC_NAME;

use crate::error::Problem;
use crate::text_lexer::{Lexer, Token};
use crate::{Dialect, LabelBuffer, ParseError};

/// What a label list belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListOf {
    Series,
    Exemplar,
}

/// Reads labels as they come: nothing is kept unless the receiver keeps it.
pub(crate) trait LabelSink {
    /// A metric's name as written, without quotes, and where it starts.
    fn metric_name(&mut self, name: &[u8], at: usize) -> Result<(), Rejected>;
    /// A label's name and value as written, without quotes, and where the name starts.
    fn label(&mut self, name: &[u8], value: &[u8], at: usize) -> Result<(), Rejected>;
}

/// What a [`LabelSink`] could not take, and where.
pub(crate) struct Rejected {
    pub(crate) at: usize,
    pub(crate) problem: Problem,
}

/// Takes every label and keeps none.
pub(crate) struct Discard;

impl LabelSink for Discard {
    fn metric_name(&mut self, _: &[u8], _: usize) -> Result<(), Rejected> {
        Ok(())
    }

    fn label(&mut self, _: &[u8], _: &[u8], _: usize) -> Result<(), Rejected> {
        Ok(())
    }
}

/// Reads name and labels from `lexer`, which stands at the start of `line` and has read `first` of it, and
/// returns where the series ends and the token after it.
pub(crate) fn series(
    page: &[u8],
    lexer: &mut Lexer<'_>,
    line: usize,
    first: Token,
    sink: &mut impl LabelSink,
) -> Result<(usize, Token), ParseError> {
    let rejected = |r: Rejected| ParseError::in_text(page, r.at, r.problem);
    if first == Token::BraceOpen {
        let named = labels(page, lexer, ListOf::Series, false, sink)?;
        let end = lexer.at;
        if !named {
            return Err(ParseError::in_text(
                page,
                line,
                "expected a metric name, as in {\"name\"} or name{}",
            ));
        }
        return Ok((end, lexer.next_token()));
    }
    // As Prometheus has it, blanks in front of a name belong to the name.
    sink.metric_name(lexer.slice(line, lexer.at), line).map_err(rejected)?;
    let end = lexer.at;
    let token = lexer.next_token();
    if token != Token::BraceOpen {
        return Ok((end, token));
    }
    labels(page, lexer, ListOf::Series, true, sink)?;
    let end = lexer.at;
    Ok((end, lexer.next_token()))
}

/// Reads a label list after its opening brace up to the closing one; returns whether the metric is named.
pub(crate) fn labels(
    page: &[u8],
    lexer: &mut Lexer<'_>,
    list_of: ListOf,
    mut named: bool,
    sink: &mut impl LabelSink,
) -> Result<bool, ParseError> {
    let rejected = |r: Rejected| ParseError::in_text(page, r.at, r.problem);
    let dialect = lexer.dialect();
    let mut token = lexer.next_token();
    loop {
        let quoted = match token {
            Token::BraceClose => return Ok(named),
            Token::LabelName => false,
            Token::QuotedString => true,
            _ => return Err(ParseError::in_text(page, lexer.start, "expected a label name or '}'")),
        };
        let (start, end) = if quoted { (lexer.start + 1, lexer.at - 1) } else { (lexer.start, lexer.at) };
        token = lexer.next_token();
        if quoted && matches!(token, Token::Comma | Token::BraceClose) {
            if list_of == ListOf::Exemplar {
                return Err(ParseError::in_text(
                    page,
                    lexer.start,
                    "expected '=' after the exemplar's label name",
                ));
            }
            if named {
                return Err(ParseError::in_text(
                    page,
                    start - 1,
                    Problem::new("metric name already set", "a label name with '=' and a value"),
                ));
            }
            named = true;
            sink.metric_name(lexer.slice(start, end), start).map_err(rejected)?;
            if token == Token::BraceClose {
                return Ok(named);
            }
            token = lexer.next_token();
            continue;
        }
        if token != Token::Equal {
            return Err(ParseError::in_text(page, lexer.start, "expected '=' after the label name"));
        }
        if lexer.next_token() != Token::LabelValue {
            return Err(ParseError::in_text(page, lexer.start, "expected a label value in double quotes"));
        }
        sink.label(lexer.slice(start, end), lexer.slice(lexer.start + 1, lexer.at - 1), start)
            .map_err(rejected)?;
        token = lexer.next_token();
        if token == Token::Comma {
            token = lexer.next_token();
        } else if dialect == Dialect::OpenMetrics && token != Token::BraceClose {
            return Err(ParseError::in_text(page, lexer.start, "expected ',' or '}' after the label"));
        }
    }
}

/// Puts labels into a [`LabelBuffer`], unescaped; refuses what is not UTF-8.
pub(crate) struct Collect<'b> {
    pub(crate) labels: &'b mut LabelBuffer,
    /// Which of them is the metric's name.
    pub(crate) named: Option<usize>,
}

impl LabelSink for Collect<'_> {
    fn metric_name(&mut self, name: &[u8], at: usize) -> Result<(), Rejected> {
        let name = utf8(name, at, "metric name is not valid UTF-8")?;
        self.named = Some(self.labels.len());
        self.labels.push_with(|text| text.push_str(METRIC_NAME), |text| unescape_into(name, text));
        Ok(())
    }

    fn label(&mut self, name: &[u8], value: &[u8], at: usize) -> Result<(), Rejected> {
        let name = utf8(name, at, "label name is not valid UTF-8")?;
        let value = utf8(value, at, "label value is not valid UTF-8")?;
        self.labels.push_with(|text| unescape_into(name, text), |text| unescape_into(value, text));
        Ok(())
    }
}

pub(crate) fn utf8<'a>(bytes: &'a [u8], at: usize, problem: &'static str) -> Result<&'a str, Rejected> {
    str::from_utf8(bytes).map_err(|_| Rejected { at, problem: Problem::not_utf8(problem) })
}

/// Writes a quoted text without its escapes: `\\`, `\"` and `\n`; an unknown one stays as it is.
pub(crate) fn unescape_into(escaped: &str, text: &mut String) {
    unescape(escaped, true, text);
}

/// Writes a help text without its escapes; `\"` is one in OpenMetrics only.
pub(crate) fn unescape(escaped: &str, quotes: bool, text: &mut String) {
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let (written, length) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        text.push(written);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
}

/// Judges an exemplar's labels, of which Prometheus wants the values to be UTF-8.
pub(crate) struct ValuesAreUtf8;

impl LabelSink for ValuesAreUtf8 {
    fn metric_name(&mut self, _: &[u8], _: usize) -> Result<(), Rejected> {
        Ok(())
    }

    fn label(&mut self, _: &[u8], value: &[u8], at: usize) -> Result<(), Rejected> {
        utf8(value, at, "label value is not valid UTF-8").map(|_| ())
    }
}

/// Puts labels into a [`LabelBuffer`] as they are written.
pub(crate) struct CollectRaw<'b>(pub(crate) &'b mut LabelBuffer);

impl LabelSink for CollectRaw<'_> {
    fn metric_name(&mut self, _: &[u8], _: usize) -> Result<(), Rejected> {
        Ok(())
    }

    fn label(&mut self, name: &[u8], value: &[u8], _: usize) -> Result<(), Rejected> {
        self.0.push(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
        Ok(())
    }
}
