//! The grammar of label lists in OpenMetrics 2.0, which is stricter than in 1.0: a name in quotes comes first, and
//! no name is empty.

use promferry_model::{BUCKET_LABEL, METRIC_NAME};

use crate::context::TypeAndUnit;
use crate::error::Problem;
use crate::text_lexer::{Lexer, Token};
use crate::text_series::{LabelSink, ListOf, Rejected, unescape_into};
use crate::{LabelBuffer, LeFormat, ParseError};

/// Reads a label list after its opening brace up to the closing one; returns whether the metric is named.
pub(super) fn labels(
    page: &[u8],
    lexer: &mut Lexer<'_>,
    list_of: ListOf,
    mut named: bool,
    sink: &mut impl LabelSink,
) -> Result<bool, ParseError> {
    let error = |at, problem: &'static str| ParseError::in_text(page, at, problem);
    let rejected = |r: Rejected| ParseError::in_text(page, r.at, r.problem);
    let mut token = lexer.next_token();
    let mut is_first = true;
    loop {
        let quoted = match token {
            Token::BraceClose => return Ok(named),
            Token::LabelName => false,
            Token::QuotedString => true,
            _ => return Err(error(lexer.start, "expected a label name or '}'")),
        };
        let (start, end) = if quoted { (lexer.start + 1, lexer.at - 1) } else { (lexer.start, lexer.at) };
        let name = lexer.slice(start, end);
        token = lexer.next_token();
        if quoted && matches!(token, Token::Comma | Token::BraceClose) && list_of == ListOf::Series {
            if !is_first {
                return Err(error(start - 1, "metric name must be the first item in the braces"));
            }
            if named {
                return Err(error(start - 1, "metric name already set"));
            }
            named = true;
            judge_name(name).map_err(|problem| error(start, problem))?;
            sink.metric_name(name, start).map_err(rejected)?;
            if token == Token::BraceClose {
                return Ok(named);
            }
            token = lexer.next_token();
            is_first = false;
            continue;
        }
        is_first = false;
        if quoted {
            judge_name(name).map_err(|problem| error(start, problem))?;
            if list_of == ListOf::Exemplar && name.contains(&b'\n') {
                return Err(error(start, "label name of an exemplar has a newline"));
            }
        }
        if token != Token::Equal {
            return Err(error(lexer.start, "expected '=' after the label name"));
        }
        if lexer.next_token() != Token::LabelValue {
            return Err(error(lexer.start, "expected a label value in double quotes"));
        }
        let at = lexer.start;
        let value = lexer.slice(at + 1, lexer.at - 1);
        if str::from_utf8(lexer.token()).is_err() {
            return Err(error(at, "label value is not valid UTF-8"));
        }
        sink.label(name, value, start).map_err(rejected)?;
        token = lexer.next_token();
        if token == Token::Comma {
            token = lexer.next_token();
        } else if token != Token::BraceClose {
            return Err(error(lexer.start, "expected ',' or '}' after the label"));
        }
    }
}

/// What is wrong with the name of a metric or label that stands in quotes.
pub(super) fn judge_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("name must not be empty");
    }
    str::from_utf8(name).map(|_| ()).map_err(|_| "name is not valid UTF-8")
}

/// What the sample's line is judged by: its metric's name, and whether a label has it too.
pub(super) struct Named<'a> {
    pub(super) page: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) has_label_of_its_name: bool,
}

impl LabelSink for Named<'_> {
    fn metric_name(&mut self, name: &[u8], at: usize) -> Result<(), Rejected> {
        self.name = &self.page[at..at + name.len()];
        Ok(())
    }

    fn label(&mut self, name: &[u8], _: &[u8], _: usize) -> Result<(), Rejected> {
        self.has_label_of_its_name |= name == self.name;
        Ok(())
    }
}

/// Puts the labels of a judged series into a buffer, unescaped.
pub(super) struct Collect<'b, 'a> {
    pub(super) labels: &'b mut LabelBuffer,
    /// The family's type and unit where they are to be labels.
    pub(super) type_and_unit: Option<TypeAndUnit<'a>>,
    /// How the bound of this label is written anew.
    pub(super) le_format: Option<LeFormat>,
}

impl LabelSink for Collect<'_, '_> {
    fn metric_name(&mut self, name: &[u8], at: usize) -> Result<(), Rejected> {
        let name = text(name, at)?;
        self.labels.push_with(|text| text.push_str(METRIC_NAME), |text| unescape_into(name, text));
        for (name, value) in self.type_and_unit.into_iter().flat_map(TypeAndUnit::labels) {
            self.labels.push(name, value);
        }
        Ok(())
    }

    fn label(&mut self, name: &[u8], value: &[u8], at: usize) -> Result<(), Rejected> {
        let (name, value) = (text(name, at)?, text(value, at)?);
        if self.type_and_unit.is_some_and(|labels| labels.replaces(name)) {
            return Ok(());
        }
        if name == BUCKET_LABEL
            && let Some(written) = self.le_format.and_then(|format| format.text(value))
        {
            self.labels.push(name, &written);
            return Ok(());
        }
        self.labels.push_with(|text| unescape_into(name, text), |text| unescape_into(value, text));
        Ok(())
    }
}

/// Puts the labels of a judged exemplar into a buffer, unescaped.
pub(super) struct CollectExemplar<'b>(pub(super) &'b mut LabelBuffer);

impl LabelSink for CollectExemplar<'_> {
    fn metric_name(&mut self, _: &[u8], _: usize) -> Result<(), Rejected> {
        Ok(())
    }

    fn label(&mut self, name: &[u8], value: &[u8], at: usize) -> Result<(), Rejected> {
        let (name, value) = (text(name, at)?, text(value, at)?);
        self.0.push_with(|text| unescape_into(name, text), |text| unescape_into(value, text));
        Ok(())
    }
}

/// Judged when the line was read, so an error does not come.
fn text(bytes: &[u8], at: usize) -> Result<&str, Rejected> {
    str::from_utf8(bytes).map_err(|_| Rejected { at, problem: Problem::not_utf8("not valid UTF-8") })
}
