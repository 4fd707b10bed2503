//! What follows a sample's value: a timestamp, a start timestamp, exemplars, the line's end.

use promferry_model::Timestamp;

use super::labels::labels;
use crate::error::Problem;
use crate::text_lexer::Lexer;
use crate::text_series::{Discard, ListOf};
use crate::{ParseError, go_float};

/// What a line says of a sample beside its value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Details {
    pub(super) timestamp: Option<Timestamp>,
    pub(super) start: Option<Timestamp>,
    /// Where the first exemplar's label list starts, if there is an exemplar.
    pub(super) exemplars_at: Option<usize>,
}

/// An exemplar but for its labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemplar {
    /// Where its label list starts, behind the brace.
    pub(super) labels_at: usize,
    pub(super) value: f64,
    pub(super) timestamp: Timestamp,
}

/// A token behind a value; numbers with where they start and end.
enum Token {
    Linebreak,
    Number(usize, usize),
    Start(usize, usize),
    ExemplarOpen,
    /// Anything else, the page's end among it.
    Invalid,
}

/// Reads a line's rest.
pub(super) struct Tail<'a> {
    page: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Tail<'a> {
    pub(super) const fn new(page: &'a [u8], at: usize) -> Self {
        Self { page, at }
    }

    /// Reads up to the next line.
    pub(super) fn read(&mut self) -> Result<Details, ParseError> {
        let mut details = Details::default();
        loop {
            let at = self.at;
            match self.token(true) {
                Token::Linebreak => return Ok(details),
                Token::Number(..) if details.timestamp.is_some() => {
                    return Err(self.error(at + 1, "timestamp is there already"));
                }
                Token::Number(..) if details.start.is_some() => {
                    return Err(self.error(at + 1, "timestamp must precede the start timestamp"));
                }
                Token::Number(start, end) => details.timestamp = Some(self.seconds(start, end)?),
                Token::Start(..) if details.start.is_some() => {
                    return Err(self.error(at + 1, "start timestamp is there already"));
                }
                Token::Start(start, end) => details.start = Some(self.seconds(start, end)?),
                Token::ExemplarOpen => {
                    details.exemplars_at = Some(self.at);
                    while self.exemplar()?.1 {}
                    return Ok(details);
                }
                Token::Invalid => {
                    return Err(self.error(
                        at,
                        "expected a timestamp in seconds, st@ with a start timestamp, an exemplar or the end of the line",
                    ));
                }
            }
        }
    }

    /// Reads an exemplar behind its opening brace and what ends it; whether another one follows.
    pub(super) fn exemplar(&mut self) -> Result<(Exemplar, bool), ParseError> {
        let labels_at = self.at;
        let mut lexer = Lexer::in_labels(self.page, labels_at);
        labels(self.page, &mut lexer, ListOf::Exemplar, true, &mut Discard)?;
        self.at = lexer.at;
        let Token::Number(start, end) = self.token(false) else {
            return Err(self.error(lexer.at, "expected a value after the exemplar's labels"));
        };
        let value = self.number(start, end)?;
        let at = self.at;
        let Token::Number(start, end) = self.token(false) else {
            return Err(self.error(at, "expected the exemplar's timestamp in seconds"));
        };
        let exemplar = Exemplar { labels_at, value, timestamp: self.seconds(start, end)? };
        let at = self.at;
        match self.token(false) {
            Token::Linebreak => Ok((exemplar, false)),
            Token::ExemplarOpen => Ok((exemplar, true)),
            _ => Err(self.error(at, "expected another exemplar or the end of the line")),
        }
    }

    /// The next token, as Prometheus' lexer has them (3.16 `openmetrics2lex.l`).
    fn token(&mut self, start_timestamps: bool) -> Token {
        let rest = self.page.get(self.at..).unwrap_or_default();
        let [b' ', text @ ..] = rest else {
            if rest.first() == Some(&b'\n') {
                self.at += 1;
                return Token::Linebreak;
            }
            return Token::Invalid;
        };
        if text.starts_with(b"# ") {
            if text.get(2) != Some(&b'{') {
                return Token::Invalid;
            }
            self.at += 4;
            return Token::ExemplarOpen;
        }
        let length = text.iter().position(|c| matches!(c, b' ' | b'\n' | 0)).unwrap_or(text.len());
        let start = self.at + 1;
        let end = start + length;
        if length == 0 {
            return Token::Invalid;
        }
        self.at = end;
        if start_timestamps && length > 3 && text.starts_with(b"st@") {
            return Token::Start(start + 3, end);
        }
        Token::Number(start, end)
    }

    fn number(&self, start: usize, end: usize) -> Result<f64, ParseError> {
        go_float::parse_value(&self.page[start..end])
            .map_err(|error| self.error(start, Problem::of_number(error, "a value")))
    }

    fn seconds(&self, start: usize, end: usize) -> Result<Timestamp, ParseError> {
        let seconds = go_float::parse_value(&self.page[start..end])
            .map_err(|error| self.error(start, Problem::of_number(error, "a timestamp in seconds")))?;
        if !seconds.is_finite() {
            return Err(self.error(start, "expected a finite timestamp in seconds"));
        }
        Ok(Timestamp::from_millis(go_float::to_int64(seconds * 1000.0)))
    }

    fn error(&self, at: usize, problem: impl Into<Problem>) -> ParseError {
        ParseError::in_text(self.page, at, problem)
    }
}

/// The exemplars of a line that has been judged, from the one on whose label list starts at `at`.
pub(super) fn exemplars(page: &[u8], at: Option<usize>) -> impl Iterator<Item = Exemplar> + '_ {
    let mut next = at;
    std::iter::from_fn(move || {
        let mut tail = Tail::new(page, next?);
        let (exemplar, another_follows) = tail.exemplar().ok()?;
        next = another_follows.then_some(tail.at);
        Some(exemplar)
    })
}
