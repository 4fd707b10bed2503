//! The tokens of the text formats, read as Prometheus' generated lexers read them, NUL bytes included
//! (Prometheus 3.16 `model/textparse/promlex.l`, `openmetricslex.l`).
//!
//! Those lexers fetch the byte after a token while they are still in the token's state, and skip NUL bytes
//! when that state is one where text is free. What looks odd below follows from that.

use crate::Dialect;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Invalid,
    Eof,
    Linebreak,
    Whitespace,
    Help,
    Type,
    Unit,
    EofWord,
    Text,
    Comment,
    MetricName,
    QuotedString,
    BraceOpen,
    BraceClose,
    LabelName,
    LabelValue,
    Comma,
    Equal,
    Timestamp,
    Value,
    ExemplarOpen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Init,
    Comment,
    MetaName,
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    Exemplar,
    ExemplarValue,
    ExemplarTimestamp,
}

#[derive(Clone)]
pub(crate) struct Lexer<'a> {
    page: &'a [u8],
    /// Length of the page, with the newline that Prometheus adds to a text page that lacks it.
    limit: usize,
    dialect: Dialect,
    state: State,
    /// The current token's first byte.
    pub(crate) start: usize,
    /// The byte after the current token.
    pub(crate) at: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of a line.
    pub(crate) fn new(page: &'a [u8], dialect: Dialect, at: usize) -> Self {
        let lacks_newline = dialect == Dialect::Prometheus && page.last() != Some(&b'\n');
        let limit = page.len() + usize::from(lacks_newline);
        Self { page, limit, dialect, state: State::Init, start: at, at }
    }

    /// A lexer behind the opening brace of an exemplar's labels.
    pub(crate) fn in_exemplar(page: &'a [u8], at: usize) -> Self {
        Self { state: State::Exemplar, ..Self::new(page, Dialect::OpenMetrics, at) }
    }

    /// A lexer behind the opening brace of a label list.
    #[cfg(feature = "openmetrics2")]
    pub(crate) fn in_labels(page: &'a [u8], at: usize) -> Self {
        Self { state: State::Labels, ..Self::new(page, Dialect::OpenMetrics, at) }
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The current token.
    pub(crate) fn token(&self) -> &'a [u8] {
        self.slice(self.start, self.at)
    }

    /// The bytes from `start` to `end`; the added newline is no part of any of them.
    pub(crate) fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        let end = end.min(self.page.len());
        &self.page[start.min(end)..end]
    }

    /// The next token; in the Prometheus dialect the next one that is not whitespace.
    pub(crate) fn next_token(&mut self) -> Token {
        match self.dialect {
            Dialect::Prometheus => loop {
                let token = self.prometheus_token();
                if token != Token::Whitespace {
                    return token;
                }
            },
            Dialect::OpenMetrics => self.openmetrics_token(),
        }
    }

    fn prometheus_token(&mut self) -> Token {
        if self.at >= self.limit {
            return Token::Eof;
        }
        self.start = self.at;
        let c = self.current();
        if is_blank(c) {
            return self.whitespace();
        }
        match (self.state, c) {
            (State::Init, 0) => self.single(State::Init, Token::Eof),
            (State::Init | State::Timestamp, b'\n') => self.single(State::Init, Token::Linebreak),
            (State::Init, b'#') => {
                if !is_blank(self.advance()) {
                    return self.rest_of_comment();
                }
                self.take_while(is_blank);
                self.state = State::Comment;
                self.prometheus_keyword()
            }
            (State::Init, _) if is_metric_name_start(c) => {
                self.run(is_metric_name, State::Value, Token::MetricName)
            }
            (State::Init | State::Value, b'{') => self.single(State::Labels, Token::BraceOpen),
            (State::MetaName, b'"') => self.string(b"", State::MetaText, Token::MetricName),
            (State::MetaName, _) if is_metric_name_start(c) => {
                self.run(is_metric_name, State::MetaText, Token::MetricName)
            }
            (State::MetaText, _) => self.run(is_in_line, State::Init, Token::Text),
            (State::Labels, b'}') => self.single(State::Value, Token::BraceClose),
            (State::Labels, _) => self.label_token(c, State::LabelValue, b""),
            (State::LabelValue, b'"') => self.string(b"", State::Labels, Token::LabelValue),
            (State::Value, _) if is_value(c) => self.run(is_value, State::Timestamp, Token::Value),
            (State::Timestamp, b'0'..=b'9') => {
                self.run(|c| c.is_ascii_digit(), State::Timestamp, Token::Timestamp)
            }
            _ => Token::Invalid,
        }
    }

    /// Blanks, unless they begin a metadata text, of which they are then a part.
    fn whitespace(&mut self) -> Token {
        self.take_while(is_blank);
        if self.state == State::MetaText && is_in_line(self.current()) {
            self.take_while(is_in_line);
            self.state = State::Init;
            return Token::Text;
        }
        Token::Whitespace
    }

    fn prometheus_keyword(&mut self) -> Token {
        let token = match self.current() {
            b'H' if self.takes(b"HELP") => Token::Help,
            b'T' if self.takes(b"TYPE") => Token::Type,
            _ => return self.rest_of_comment(),
        };
        if !is_blank(self.current()) {
            return self.rest_of_comment();
        }
        self.take_while(is_blank);
        self.state = State::MetaName;
        token
    }

    /// A comment to the end of its line; a NUL byte in it ends the page.
    fn rest_of_comment(&mut self) -> Token {
        let mut c = self.current();
        loop {
            match c {
                0 => return Token::Eof,
                b'\n' => {
                    self.state = State::Init;
                    return Token::Comment;
                }
                _ => c = self.advance(),
            }
        }
    }

    fn openmetrics_token(&mut self) -> Token {
        if self.at >= self.limit {
            return Token::Eof;
        }
        self.start = self.at;
        let c = self.current();
        match (self.state, c) {
            (State::Init, b'#') => {
                if self.advance() != b' ' {
                    return Token::Invalid;
                }
                self.advance();
                self.state = State::Comment;
                self.openmetrics_keyword()
            }
            (State::Init, _) if is_metric_name_start(c) => {
                self.run(is_metric_name, State::Value, Token::MetricName)
            }
            (State::Init | State::Value, b'{') => self.single(State::Labels, Token::BraceOpen),
            (State::MetaName, b'"') => self.string(b"", State::MetaText, Token::MetricName),
            (State::MetaName, _) if is_metric_name_start(c) => {
                self.run(is_metric_name, State::MetaText, Token::MetricName)
            }
            (State::MetaText, b' ') => {
                self.advance();
                self.take_while(is_in_line);
                if self.current() == b'\n' { self.single(State::Init, Token::Text) } else { Token::Invalid }
            }
            (State::Labels, b'}') => self.single(State::Value, Token::BraceClose),
            (State::Labels, _) => self.label_token(c, State::LabelValue, b""),
            (State::LabelValue, b'"') => self.string(b"\n", State::Labels, Token::LabelValue),
            (State::Value, b' ') => self.spaced(State::Timestamp, Token::Value),
            (State::Timestamp, b'\n') | (State::ExemplarTimestamp, b'\n') => {
                self.single(State::Init, Token::Linebreak)
            }
            (State::Timestamp, b' ') => self.timestamp_or_exemplar(),
            (State::Exemplar, b'}') => self.single(State::ExemplarValue, Token::BraceClose),
            (State::Exemplar, _) => self.label_token(c, State::ExemplarValue, b"\n"),
            (State::ExemplarValue, b'"') => self.string(b"\n", State::Exemplar, Token::LabelValue),
            (State::ExemplarValue, b' ') => self.spaced(State::ExemplarTimestamp, Token::Value),
            (State::ExemplarTimestamp, b' ') => self.spaced(State::ExemplarTimestamp, Token::Timestamp),
            _ => Token::Invalid,
        }
    }

    fn openmetrics_keyword(&mut self) -> Token {
        let token = match self.current() {
            b'H' if self.takes(b"HELP ") => Token::Help,
            b'T' if self.takes(b"TYPE ") => Token::Type,
            b'U' if self.takes(b"UNIT ") => Token::Unit,
            b'E' if self.takes(b"EOF") => {
                if self.current() == b'\n' {
                    self.advance();
                }
                self.state = State::Init;
                return Token::EofWord;
            }
            _ => return Token::Invalid,
        };
        self.state = State::MetaName;
        token
    }

    fn timestamp_or_exemplar(&mut self) -> Token {
        if self.advance() != b'#' {
            return self.not_blank(State::Timestamp, Token::Timestamp);
        }
        if self.advance() != b' ' {
            // Whatever follows the '#', it is no number and will be refused as a timestamp.
            self.take_while(is_not_space);
            return Token::Timestamp;
        }
        if self.advance() == b'{' {
            self.single(State::Exemplar, Token::ExemplarOpen)
        } else {
            Token::Invalid
        }
    }

    /// A space and what follows it up to the next one.
    fn spaced(&mut self, state: State, token: Token) -> Token {
        self.advance();
        self.not_blank(state, token)
    }

    fn not_blank(&mut self, state: State, token: Token) -> Token {
        if is_not_space(self.current()) { self.run(is_not_space, state, token) } else { Token::Invalid }
    }

    fn label_token(&mut self, c: u8, value_state: State, not_in_strings: &[u8]) -> Token {
        match c {
            b'"' => self.string(not_in_strings, self.state, Token::QuotedString),
            b'=' => self.single(value_state, Token::Equal),
            b',' => self.single(self.state, Token::Comma),
            _ if is_label_name_start(c) => self.run(is_label_name, self.state, Token::LabelName),
            _ => Token::Invalid,
        }
    }

    fn string(&mut self, not_inside: &[u8], state: State, token: Token) -> Token {
        loop {
            match self.advance() {
                0 => return Token::Invalid,
                b'"' => return self.single(state, token),
                b'\\' => {
                    if matches!(self.advance(), 0 | b'\n') {
                        return Token::Invalid;
                    }
                }
                c if not_inside.contains(&c) => return Token::Invalid,
                _ => {}
            }
        }
    }

    fn single(&mut self, state: State, token: Token) -> Token {
        self.advance();
        self.state = state;
        token
    }

    fn run(&mut self, member: impl Fn(u8) -> bool, state: State, token: Token) -> Token {
        self.take_while(member);
        self.state = state;
        token
    }

    fn take_while(&mut self, member: impl Fn(u8) -> bool) {
        while member(self.current()) {
            self.advance();
        }
    }

    fn takes(&mut self, keyword: &[u8]) -> bool {
        keyword.iter().all(|&k| {
            let matches = self.current() == k;
            if matches {
                self.advance();
            }
            matches
        })
    }

    fn current(&self) -> u8 {
        match self.page.get(self.at) {
            Some(&c) => c,
            None if self.at < self.limit => b'\n',
            None => 0,
        }
    }

    fn advance(&mut self) -> u8 {
        self.at += 1;
        if matches!(self.state, State::LabelValue | State::MetaText | State::Comment) {
            while self.at < self.limit && self.current() == 0 {
                self.at += 1;
            }
        }
        self.current()
    }
}

pub(crate) const fn is_blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t')
}

pub(crate) const fn is_metric_name_start(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b':')
}

pub(crate) const fn is_metric_name(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b':')
}

pub(crate) const fn is_label_name_start(c: u8) -> bool {
    c.is_ascii_alphabetic() || c == b'_'
}

pub(crate) const fn is_label_name(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

const fn is_value(c: u8) -> bool {
    !matches!(c, 0 | b' ' | b'\t' | b'\n' | b'{')
}

const fn is_not_space(c: u8) -> bool {
    !matches!(c, 0 | b' ' | b'\n')
}

const fn is_in_line(c: u8) -> bool {
    !matches!(c, 0 | b'\n')
}
