//! Why a page was refused, for people: the place in the form that editors and terminals follow, and the line.

use std::fmt::{self, Display};

use promferry_exposition::{ParseError, ReadError, StrictError};

use super::source::Page;

/// A refused page. Its text has several lines.
#[derive(Debug)]
pub(super) struct Refusal(String);

impl Refusal {
    /// `is_valid` says that the specification accepts the page.
    pub(super) fn lenient(page: &Page, error: &ReadError, is_valid: bool) -> Self {
        let mut text = match error {
            ReadError::Parse(error) => placed(page, error),
            error => format!("{}: {error}", page.name),
        };
        if is_valid {
            text.push_str(
                "\nthe specification accepts the page, but no scrape reads it: --output none says no more",
            );
        }
        Self(text)
    }

    pub(super) fn strict(page: &Page, refused: &StrictError) -> Self {
        let StrictError { error, rule, .. } = refused;
        let place = placed(page, error);
        Self(format!("{place}\nrule {rule}: {}\nOpenMetrics 1.0, {}", rule.text(), rule.section()))
    }

    /// A page that was accepted and cannot be written in another format.
    pub(super) fn unwritable(page: &Page, format: &str, error: &dyn Display) -> Self {
        Self(format!("{}: cannot be written as {format}: {error}", page.name))
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn placed(page: &Page, error: &ParseError) -> String {
    let (Some(line), Some(column)) = (error.line(), error.column_chars()) else {
        return format!("{}: {error}", page.name);
    };
    let problem = error.problem();
    let excerpt = excerpt(&page.bytes, error.offset());
    format!("{}:{line}:{column}: {problem}\n{excerpt}", page.name)
}

/// How much of a line is shown before and behind the place.
const SHOWN_CHARS: usize = 60;

/// The part of the line around a place in the page, and a caret below the place.
fn excerpt(page: &[u8], at: usize) -> String {
    let at = at.min(page.len());
    let start = page[..at].iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    let end = page[at..].iter().position(|&b| b == b'\n').map_or(page.len(), |length| at + length);
    // A character has at most four bytes: no more are looked at than are shown.
    let from = start.max(at.saturating_sub(4 * SHOWN_CHARS));
    let before: Vec<char> = String::from_utf8_lossy(&page[from..at]).chars().map(visible).collect();
    let skipped = before.len().saturating_sub(SHOWN_CHARS);
    let is_cut = skipped > 0 || from > start;
    let mut line = String::from(if is_cut { "…" } else { "" });
    line.extend(&before[skipped..]);
    let indent = " ".repeat(line.chars().count());
    let until = end.min(at + 4 * SHOWN_CHARS);
    let behind = String::from_utf8_lossy(&page[at..until]);
    line.extend(behind.chars().take(SHOWN_CHARS).map(visible));
    if until < end || behind.chars().count() > SHOWN_CHARS {
        line.push('…');
    }
    format!("{line}\n{indent}^")
}

/// What a terminal shows in one column: nothing on a page may move its cursor.
pub(super) fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        assert_eq!(excerpt(b"a 1\nbc d\ne 1\n", 7), "bc d\n   ^");
        assert_eq!(excerpt("ä\tö{\n".as_bytes(), 5), "ä ö{\n   ^");
        assert_eq!(excerpt(b"a\x1b[31m 1\n", 1), "a\u{fffd}[31m 1\n ^");
        assert_eq!(excerpt(b"a", 1), "a\n ^");
        assert_eq!(excerpt(b"", 0), "\n^");
        assert_eq!(excerpt(b"a\xff\xfeb", 3), "a\u{fffd}\u{fffd}b\n   ^");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let line = "ä".repeat(1000);
        let shown = excerpt(line.as_bytes(), 1000);
        let half = "ä".repeat(SHOWN_CHARS);
        assert_eq!(shown, format!("…{half}{half}…\n{}^", " ".repeat(SHOWN_CHARS + 1)));
    }
}
