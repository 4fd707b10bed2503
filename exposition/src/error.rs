use std::borrow::Cow;
use std::fmt;

use crate::go_float::NumberError;

/// How much of an offending text an error repeats.
const EXCERPT_BYTES: usize = 80;
/// How many offending bytes of a protobuf page.
const EXCERPT_BYTES_OF_PROTOBUF: usize = 16;

/// Why a page was refused, and where.
///
/// For the text formats the place is a line and a column; for protobuf, which has no lines, it is the byte
/// offset and, where known, the metric family and the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    place: Place,
    offset: usize,
    problem: String,
    expected: Option<&'static str>,
    excerpt: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Line { line: usize, column: usize, column_chars: usize },
    Field { family: String, path: String },
}

/// What is wrong at a place of a text page. One that begins with "expected" says itself what could have stood there.
pub(crate) struct Problem {
    text: Cow<'static, str>,
    expected: Option<&'static str>,
}

impl Problem {
    pub(crate) const fn new(text: &'static str, expected: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), expected: Some(expected) }
    }

    pub(crate) fn of_number(error: NumberError, expected: &'static str) -> Self {
        Self { text: Cow::Owned(format!("{error}, expected {expected}")), expected: Some(expected) }
    }

    pub(crate) const fn not_utf8(text: &'static str) -> Self {
        Self::new(text, "UTF-8")
    }
}

impl From<&'static str> for Problem {
    fn from(text: &'static str) -> Self {
        Cow::Borrowed(text).into()
    }
}

impl From<Cow<'static, str>> for Problem {
    fn from(text: Cow<'static, str>) -> Self {
        let expected = match text {
            Cow::Borrowed(text) => text.strip_prefix("expected "),
            Cow::Owned(_) => None,
        };
        Self { text, expected }
    }
}

impl ParseError {
    pub(crate) fn in_text(page: &[u8], offset: usize, problem: impl Into<Problem>) -> Self {
        let Problem { text, expected } = problem.into();
        let offset = offset.min(page.len());
        let before = &page[..offset];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line_end = memchr::memchr(b'\n', &page[offset..]).map_or(page.len(), |n| offset + n);
        let column_chars = String::from_utf8_lossy(&page[line_start..offset]).chars().count() + 1;
        Self(Box::new(Details {
            place: Place::Line {
                line: memchr::memchr_iter(b'\n', before).count() + 1,
                column: offset - line_start + 1,
                column_chars,
            },
            offset,
            problem: text.into_owned(),
            expected,
            excerpt: excerpt(&page[offset..line_end]),
        }))
    }

    /// `path` leads from the family to the field at `offset`.
    pub(crate) fn in_protobuf(
        page: &[u8],
        offset: usize,
        family: &[u8],
        path: String,
        problem: &str,
        expected: &'static str,
    ) -> Self {
        let offset = offset.min(page.len());
        let bytes = &page[offset..page.len().min(offset + EXCERPT_BYTES_OF_PROTOBUF)];
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(Box::new(Details {
            place: Place::Field { family: excerpt(family), path },
            offset,
            problem: format!("{problem}, expected {expected}"),
            expected: Some(expected),
            excerpt: bytes.join(" "),
        }))
    }

    /// The line of a text page, counted from 1.
    pub fn line(&self) -> Option<usize> {
        match self.0.place {
            Place::Line { line, .. } => Some(line),
            Place::Field { .. } => None,
        }
    }

    /// The column in bytes, counted from 1.
    pub fn column(&self) -> Option<usize> {
        match self.0.place {
            Place::Line { column, .. } => Some(column),
            Place::Field { .. } => None,
        }
    }

    /// The column in characters, counted from 1; what is not UTF-8 counts as one replacement character each.
    pub fn column_chars(&self) -> Option<usize> {
        match self.0.place {
            Place::Line { column_chars, .. } => Some(column_chars),
            Place::Field { .. } => None,
        }
    }

    /// Bytes from the start of the page.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// The metric family of a protobuf page, as far as it was read.
    pub fn family(&self) -> Option<&str> {
        match &self.0.place {
            Place::Field { family, .. } if !family.is_empty() => Some(family),
            _ => None,
        }
    }

    /// The field of the metric family that a protobuf page has at the offset, such as
    /// `metric[3].histogram.bucket[7].exemplar`, with the names of `io/prometheus/client/metrics.proto` and
    /// occurrences counted from 0.
    pub fn field(&self) -> Option<&str> {
        match &self.0.place {
            Place::Field { path, .. } if !path.is_empty() => Some(path),
            _ => None,
        }
    }

    /// What was wrong or what was expected, without the place.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// What the format has at this place, where that can be said in a few words.
    pub fn expected(&self) -> Option<&'static str> {
        self.0.expected
    }

    /// The offending text from the place to the end of its line, cut short and with replacement characters
    /// where it is not UTF-8. For protobuf the bytes from the place on, in hexadecimal.
    pub fn excerpt(&self) -> &str {
        &self.0.excerpt
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { place, offset, problem, excerpt, .. } = &*self.0;
        match place {
            Place::Line { line, column, .. } => {
                write!(f, "line {line}, column {column} (byte {offset}): {problem}")?;
                if excerpt.is_empty() {
                    write!(f, ", at the end of the line")
                } else {
                    write!(f, ", at {excerpt:?}")
                }
            }
            Place::Field { family, path } => {
                write!(f, "byte {offset}")?;
                if !family.is_empty() {
                    write!(f, ", family {family:?}")?;
                }
                if !path.is_empty() {
                    write!(f, ", {path}")?;
                }
                let at = if excerpt.is_empty() { "the end of the page" } else { excerpt };
                write!(f, ": {problem}, at {at}")
            }
        }
    }
}

impl std::error::Error for ParseError {}

fn excerpt(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_BYTES)]).into_owned();
    if bytes.len() > EXCERPT_BYTES {
        text.push('…');
    }
    text
}
