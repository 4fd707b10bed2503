//! Go's regular-expression syntax (Go 1.26 regexp/syntax/parse.go with the flags of `regexp.Compile`), read and
//! written again for the `regex` crate.
//!
//! Every piece is written with its flags resolved, so that nothing depends on how the other side scopes them.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use crate::go_unicode::unicode_class;

/// A Go expression, anchored as Prometheus anchors it, in the `regex` crate's syntax.
pub(crate) struct Translation {
    pub(crate) expression: String,
    /// The name of each capture group, the whole match included; a name may occur twice, as in Go.
    pub(crate) group_names: Vec<Option<Box<str>>>,
}

/// Why Go (or the size of what comes out) refuses an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GoRegexError {
    #[error("invalid character class range: {0}")]
    CharRange(String),
    #[error("invalid escape sequence: {0}")]
    Escape(String),
    #[error("missing closing ]: {0}")]
    MissingBracket(String),
    #[error("missing closing )")]
    MissingParen,
    #[error("missing argument to repetition operator: {0}")]
    MissingRepeatArgument(String),
    #[error("invalid named capture: {0}")]
    NamedCapture(String),
    #[error("expression nests more than {MAX_NESTING} groups")]
    NestingDepth,
    #[error("invalid or unsupported group syntax: {0}")]
    PerlOperator(String),
    #[error("invalid nested repetition operator: {0}")]
    RepeatOperator(String),
    #[error("invalid repeat count: {0}")]
    RepeatSize(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("unexpected )")]
    UnexpectedParen,
}

/// How deep groups may nest: what the `regex` crate allows by default.
pub(crate) const MAX_NESTING: usize = 250;

/// `^(?s:` + `expression` + `)$`, read as one Go expression: an unbalanced `a)|(b` is what it is in Prometheus.
pub(crate) fn translate_anchored(expression: &str) -> Result<Translation, GoRegexError> {
    let anchored = format!("^(?s:{expression})$");
    let mut parser = Parser {
        rest: anchored.chars().peekable(),
        flags: Flags { fold_case: false, multi_line: false, dot_newline: false, ungreedy: false },
        frames: vec![Frame::default()],
        group_names: vec![None],
    };
    parser.parse()
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    fold_case: bool,
    multi_line: bool,
    dot_newline: bool,
    ungreedy: bool,
}

/// An open group: the alternatives that are complete, and the pieces of the one being read.
#[derive(Debug, Default)]
struct Frame {
    opening: &'static str,
    flags_before: Flags,
    alternatives: String,
    heaviest: u32,
    pieces: Vec<Piece>,
}

impl Frame {
    fn end_alternative(&mut self) {
        for piece in self.pieces.drain(..) {
            self.heaviest = self.heaviest.max(piece.copies);
            self.alternatives.push_str(&piece.text);
        }
    }
}

/// Something a repetition operator can follow.
#[derive(Debug)]
struct Piece {
    text: String,
    /// Whether the operator can be written right behind the text.
    atom: bool,
    /// The largest product of counted repetitions inside; Go allows 1,000.
    copies: u32,
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    flags: Flags,
    frames: Vec<Frame>,
    group_names: Vec<Option<Box<str>>>,
}

impl Parser<'_> {
    fn parse(&mut self) -> Result<Translation, GoRegexError> {
        let mut after_repeat: Option<String> = None;
        while let Some(c) = self.rest.next() {
            let mut repeat = None;
            match c {
                '(' => self.open_group()?,
                '|' => {
                    let frame = self.frame();
                    frame.end_alternative();
                    frame.alternatives.push('|');
                }
                ')' => self.close_group()?,
                '^' if self.flags.multi_line => self.push("(?m:^)", true),
                '^' => self.push(r"\A", false),
                '$' if self.flags.multi_line => self.push("(?m:$)", true),
                '$' => self.push(r"\z", false),
                '.' if self.flags.dot_newline => self.push("(?s:.)", true),
                '.' => self.push("[^\\n]", true),
                '[' => self.class()?,
                '*' => repeat = Some(self.repeat("*", "*", None, after_repeat.as_deref())?),
                '+' => repeat = Some(self.repeat("+", "+", None, after_repeat.as_deref())?),
                '?' => repeat = Some(self.repeat("?", "?", None, after_repeat.as_deref())?),
                '{' => match self.counts() {
                    None => self.literal('{'),
                    Some(counts) => {
                        let written = counts.written.clone();
                        let (min, max) = counts.in_range()?;
                        let operator = match max {
                            Some(max) => format!("{{{min},{max}}}"),
                            None => format!("{{{min},}}"),
                        };
                        let copies = if max == Some(0) { 1 } else { max.unwrap_or(min).max(1) };
                        repeat =
                            Some(self.repeat(&operator, &written, Some(copies), after_repeat.as_deref())?);
                    }
                },
                '\\' => self.escape()?,
                c => self.literal(c),
            }
            after_repeat = repeat;
        }
        if self.frames.len() > 1 {
            return Err(GoRegexError::MissingParen);
        }
        let frame = self.frame();
        frame.end_alternative();
        Ok(Translation {
            expression: std::mem::take(&mut frame.alternatives),
            group_names: std::mem::take(&mut self.group_names),
        })
    }

    fn frame(&mut self) -> &mut Frame {
        // The bottom frame is never popped: close_group refuses to.
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn push(&mut self, text: impl Into<String>, atom: bool) {
        self.frame().pieces.push(Piece { text: text.into(), atom, copies: 1 });
    }

    fn literal(&mut self, c: char) {
        let mut text = String::new();
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            text.push('\\');
        }
        text.push(c);
        if self.flags.fold_case {
            text = format!("(?i:{text})");
        }
        self.push(text, true);
    }

    fn repeat(
        &mut self,
        operator: &str,
        written: &str,
        copies: Option<u32>,
        after_repeat: Option<&str>,
    ) -> Result<String, GoRegexError> {
        let mut lazy = self.flags.ungreedy;
        let mut written = written.to_owned();
        if self.rest.next_if_eq(&'?').is_some() {
            lazy = !lazy;
            written.push('?');
        }
        if let Some(before) = after_repeat {
            return Err(GoRegexError::RepeatOperator(format!("{before}{written}")));
        }
        let Some(piece) = self.frame().pieces.last_mut() else {
            return Err(GoRegexError::MissingRepeatArgument(written));
        };
        if let Some(copies) = copies {
            piece.copies = piece.copies.saturating_mul(copies);
            if piece.copies > MAX_COPIES {
                return Err(GoRegexError::RepeatSize(written));
            }
        }
        if !piece.atom {
            piece.text = format!("(?:{})", piece.text);
        }
        piece.text.push_str(operator);
        if lazy {
            piece.text.push('?');
        }
        piece.atom = false;
        Ok(written)
    }

    /// What stands behind a `{`, if it is a repetition; otherwise nothing is consumed.
    fn counts(&mut self) -> Option<Counts> {
        let mut ahead = self.rest.clone();
        let mut written = String::from("{");
        let number = |ahead: &mut Peekable<Chars<'_>>, written: &mut String| {
            let mut digits = String::new();
            while let Some(digit) = ahead.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            written.push_str(&digits);
            // Go reads no leading zeros.
            let well_formed = !digits.is_empty() && (digits == "0" || !digits.starts_with('0'));
            well_formed.then(|| digits.parse::<u32>().unwrap_or(u32::MAX))
        };
        let min = number(&mut ahead, &mut written)?;
        let max = if ahead.next_if_eq(&',').is_none() {
            Some(min)
        } else {
            written.push(',');
            if ahead.peek() == Some(&'}') { None } else { Some(number(&mut ahead, &mut written)?) }
        };
        ahead.next_if_eq(&'}')?;
        written.push('}');
        self.rest = ahead;
        Some(Counts { min, max, written })
    }

    fn open_group(&mut self) -> Result<(), GoRegexError> {
        if self.rest.next_if_eq(&'?').is_none() {
            self.group_names.push(None);
            return self.push_frame("(");
        }
        let text: String = self.rest.clone().collect();
        let name_at = if text.starts_with("P<") {
            2
        } else if text.starts_with('<') {
            1
        } else {
            return self.flags_or_group(&text);
        };
        let name = text.find('>').map(|end| &text[name_at..end]);
        let Some(name) = name.filter(|name| is_capture_name(name)) else {
            return Err(GoRegexError::NamedCapture(format!("(?{text}")));
        };
        self.group_names.push(Some(name.into()));
        for _ in 0..name_at + name.len() + 1 {
            self.rest.next();
        }
        self.push_frame("(")
    }

    fn flags_or_group(&mut self, text: &str) -> Result<(), GoRegexError> {
        let mut flags = self.flags;
        let mut value = true;
        let mut flag_since_sign = true;
        let invalid = || GoRegexError::PerlOperator(format!("(?{}", text.split(')').next().unwrap_or(text)));
        loop {
            match self.rest.next() {
                Some('i') => flags.fold_case = value,
                Some('m') => flags.multi_line = value,
                Some('s') => flags.dot_newline = value,
                Some('U') => flags.ungreedy = value,
                Some('-') if value => {
                    value = false;
                    flag_since_sign = false;
                    continue;
                }
                Some(end @ (':' | ')')) if flag_since_sign => {
                    if end == ':' {
                        self.push_frame("(?:")?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => return Err(invalid()),
            }
            flag_since_sign = true;
        }
    }

    fn push_frame(&mut self, opening: &'static str) -> Result<(), GoRegexError> {
        if self.frames.len() > MAX_NESTING {
            return Err(GoRegexError::NestingDepth);
        }
        self.frames.push(Frame { opening, flags_before: self.flags, ..Frame::default() });
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), GoRegexError> {
        if self.frames.len() < 2 {
            return Err(GoRegexError::UnexpectedParen);
        }
        let Some(mut group) = self.frames.pop() else { return Err(GoRegexError::UnexpectedParen) };
        group.end_alternative();
        self.flags = group.flags_before;
        let text = format!("{}{})", group.opening, group.alternatives);
        self.frame().pieces.push(Piece { text, atom: true, copies: group.heaviest.max(1) });
        Ok(())
    }

    fn escape(&mut self) -> Result<(), GoRegexError> {
        let Some(&c) = self.rest.peek() else { return Err(GoRegexError::Escape("\\".into())) };
        match c {
            'A' => self.push(r"\A", false),
            'z' => self.push(r"\z", false),
            'b' => self.push(r"(?-u:\b)", true),
            'B' => self.push(r"(?-u:\B)", true),
            'Q' => {
                self.rest.next();
                while let Some(quoted) = self.rest.next() {
                    if quoted == '\\' && self.rest.next_if_eq(&'E').is_some() {
                        break;
                    }
                    self.literal(quoted);
                }
                return Ok(());
            }
            _ => {
                let mut item = String::new();
                if self.class_escape(&mut item)? {
                    self.push_class(&format!("[{item}]"));
                    return Ok(());
                }
                match char::from_u32(self.char_escape()?) {
                    Some(c) => self.literal(c),
                    None => self.push(NOTHING, true),
                }
                return Ok(());
            }
        }
        self.rest.next();
        Ok(())
    }

    /// Reads `d`, `W`, `pN`, `P{Greek}` … behind a backslash and writes what they stand for inside brackets;
    /// `false` when it is another escape.
    fn class_escape(&mut self, class: &mut String) -> Result<bool, GoRegexError> {
        let Some(&c) = self.rest.peek() else { return Ok(false) };
        class.push_str(match c {
            'd' => "0-9",
            'D' => "[^0-9]",
            's' => r"\t\n\x0C\r\x20",
            'S' => r"[^\t\n\x0C\r\x20]",
            'w' => "0-9A-Za-z_",
            'W' => "[^0-9A-Za-z_]",
            'p' | 'P' => {
                self.rest.next();
                self.unicode_class(c == 'P', class)?;
                return Ok(true);
            }
            _ => return Ok(false),
        });
        self.rest.next();
        Ok(true)
    }

    fn unicode_class(&mut self, upper: bool, class: &mut String) -> Result<(), GoRegexError> {
        let written_for_error =
            |name: &str| GoRegexError::CharRange(format!("\\{}{{{name}}}", if upper { 'P' } else { 'p' }));
        let name = match self.rest.next() {
            None => return Err(GoRegexError::Escape(r"\p".into())),
            Some('{') => {
                let mut name = String::new();
                loop {
                    match self.rest.next() {
                        None => return Err(written_for_error(&name)),
                        Some('}') => break name,
                        Some(c) => name.push(c),
                    }
                }
            }
            Some(c) => c.to_string(),
        };
        let (negated, bare) = match name.strip_prefix('^') {
            Some(bare) => (!upper, bare),
            None => (upper, name.as_str()),
        };
        let property = unicode_class(bare).ok_or_else(|| written_for_error(&name))?;
        // Writing to a String cannot fail.
        let _ = write!(class, "\\{}{{{property}}}", if negated { 'P' } else { 'p' });
        Ok(())
    }

    /// The code point that an escape behind a backslash stands for; it may be a surrogate.
    fn char_escape(&mut self) -> Result<u32, GoRegexError> {
        let Some(c) = self.rest.next() else { return Err(GoRegexError::Escape("\\".into())) };
        let invalid = || GoRegexError::Escape(format!("\\{c}"));
        Ok(match c {
            '1'..='7' if !matches!(self.rest.peek(), Some('0'..='7')) => return Err(invalid()),
            '0'..='7' => {
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 1..3 {
                    let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(8)) else { break };
                    self.rest.next();
                    value = value * 8 + digit;
                }
                value
            }
            'x' => self.hex_escape().ok_or_else(invalid)?,
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            _ => return Err(invalid()),
        })
    }

    fn hex_escape(&mut self) -> Option<u32> {
        if self.rest.next_if_eq(&'{').is_none() {
            let high = self.rest.next()?.to_digit(16)?;
            let low = self.rest.next()?.to_digit(16)?;
            return Some(high * 16 + low);
        }
        let mut value = None;
        loop {
            match self.rest.next()? {
                '}' => return value,
                c => {
                    let grown = value.unwrap_or(0) * 16 + c.to_digit(16)?;
                    value = Some(grown).filter(|value| *value <= u32::from(char::MAX));
                    value?;
                }
            }
        }
    }

    fn class(&mut self) -> Result<(), GoRegexError> {
        let written: String = self.rest.clone().take(24).collect();
        let missing = || GoRegexError::MissingBracket(format!("[{written}"));
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut items = String::new();
        let mut first = true;
        loop {
            match self.rest.peek() {
                None => return Err(missing()),
                Some(']') if !first => break,
                _ => first = false,
            }
            if self.posix_class(&mut items)? {
                continue;
            }
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('\\') {
                let before = std::mem::replace(&mut self.rest, ahead);
                if self.class_escape(&mut items)? {
                    continue;
                }
                self.rest = before;
            }
            let low = self.class_char().ok_or_else(missing)??;
            let mut high = low;
            let mut ahead = self.rest.clone();
            // `[a-]` means a or -.
            if ahead.next() == Some('-') && ahead.peek().is_some_and(|c| *c != ']') {
                self.rest = ahead;
                high = self.class_char().ok_or_else(missing)??;
                if high < low {
                    return Err(GoRegexError::CharRange(format!("[{written}")));
                }
            }
            push_range(&mut items, low, high);
        }
        self.rest.next();
        let class = match (items.is_empty(), negated) {
            (true, false) => NOTHING.to_owned(),
            (true, true) => "(?s:.)".to_owned(),
            (false, true) => format!("[^{items}]"),
            (false, false) => format!("[{items}]"),
        };
        self.push_class(&class);
        Ok(())
    }

    fn class_char(&mut self) -> Option<Result<u32, GoRegexError>> {
        match self.rest.next()? {
            '\\' => Some(self.char_escape()),
            c => Some(Ok(u32::from(c))),
        }
    }

    /// Reads `[:alpha:]` at the place of a class' item. A `[:` that nothing closes is two literals.
    fn posix_class(&mut self, items: &mut String) -> Result<bool, GoRegexError> {
        let text: String = self.rest.clone().collect();
        let Some(inner) = text.strip_prefix("[:") else { return Ok(false) };
        let Some(end) = inner.find(":]") else { return Ok(false) };
        let name = &inner[..end];
        if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(GoRegexError::CharRange(format!("[:{name}:]")));
        }
        let _ = write!(items, "[:{name}:]");
        for _ in 0..name.len() + 4 {
            self.rest.next();
        }
        Ok(true)
    }

    fn push_class(&mut self, class: &str) {
        let text = if self.flags.fold_case { format!("(?i:{class})") } else { class.to_owned() };
        self.push(text, true);
    }
}

struct Counts {
    min: u32,
    max: Option<u32>,
    written: String,
}

impl Counts {
    fn in_range(self) -> Result<(u32, Option<u32>), GoRegexError> {
        if self.min > MAX_COPIES || self.max.is_some_and(|max| max > MAX_COPIES || max < self.min) {
            return Err(GoRegexError::RepeatSize(self.written));
        }
        Ok((self.min, self.max))
    }
}

/// Go's limit on counted repetitions, nested ones multiplied.
const MAX_COPIES: u32 = 1000;

/// A class without members.
const NOTHING: &str = "[a&&b]";

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// Appends a range to a bracketed class. Surrogates, which Go allows here, match no text and are left out.
fn push_range(items: &mut String, low: u32, high: u32) {
    let low = if (0xd800..0xe000).contains(&low) { 0xe000 } else { low };
    let high = if (0xd800..0xe000).contains(&high) { 0xd7ff } else { high };
    if low <= high {
        let _ = write!(items, "\\x{{{low:x}}}-\\x{{{high:x}}}");
    }
}

fn is_capture_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
