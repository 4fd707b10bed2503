use std::sync::OnceLock;

use promferry_model::Timestamp;
use regex::bytes::{Captures, Regex};

use super::MAX_OFFENDERS;
use super::series_text::SeriesText;

/// A text as literals with holes. Matching takes time linear in the body's length.
///
/// | hole | what it stands for |
/// |---|---|
/// | `{series}` | labels, up to where they end: what the refusal is about |
/// | `{metric}` | a metric name, quoted or not: what the refusal is about |
/// | `{time}` | the refused sample's timestamp, in milliseconds or as RFC 3339 |
/// | `{refused}` | how many values were refused |
/// | `{number}` | a number as Go prints it |
/// | `{quoted}` | a Go string in double quotes |
/// | `{word}` | letters and hyphens |
/// | `{type}` | the namespace of an AWS error type, if there is one |
/// | `{any}` | anything on the line |
///
/// `^` in front: only at the beginning of the body.
///
/// A receiver that refuses says one or two of the texts, so that each is compiled when it is met: all of them, or
/// one automaton of them, would take megabytes. For the same reason bytes are matched and not characters, which
/// is no different where literals are ASCII.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// What stands between holes: a text without one of them needs no closer look.
    literals: Vec<String>,
    source: String,
    regex: OnceLock<Option<Regex>>,
    hole: Option<NameHole>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameHole {
    Series,
    Metric,
}

const HOLES: [(&str, &str); 9] = [
    // Only where it starts counts: what is in quotes may be anything, so that the labels' own reader finds the end.
    ("series", r"(?P<series>[^\n]*?)"),
    ("metric", r"(?P<metric>[^\n]*?)"),
    ("time", r"(?P<time>[0-9][-0-9A-Z:.+]*[0-9A-Z])"),
    ("refused", "(?P<refused>[0-9]+)"),
    ("number", r"[-+0-9.,eEIinf]+"),
    ("quoted", r#""(?:[^"\\\n]|\\.)*""#),
    ("word", "[A-Za-z-]+"),
    ("type", "(?:[A-Za-z0-9_.]+#)?"),
    ("any", r"[^\n]*?"),
];

/// What a text says about one refused sample.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) series: SeriesText,
    pub(super) timestamp: Option<Timestamp>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let (anchor, mut rest) = match text.strip_prefix('^') {
            Some(rest) => (r"\A\s*", rest),
            None => ("", text),
        };
        let mut regex = format!("(?-u){anchor}");
        let mut literals = Vec::new();
        // A metric may stand beside the series: the series says more.
        let mut hole = None;
        while let Some(start) = rest.find('{') {
            let end = rest[start..].find('}').map_or(rest.len(), |end| start + end);
            let name = &rest[start + 1..end];
            regex.push_str(&regex::escape(&rest[..start]));
            literals.push(rest[..start].to_owned());
            match HOLES.iter().find(|(known, _)| *known == name) {
                Some((_, pattern)) => regex.push_str(pattern),
                // The brace is a literal one.
                None => regex.push_str(&regex::escape(&rest[start..(end + 1).min(rest.len())])),
            }
            match name {
                "series" => hole = Some(NameHole::Series),
                "metric" => hole = hole.or(Some(NameHole::Metric)),
                _ => {}
            }
            rest = &rest[(end + 1).min(rest.len())..];
        }
        regex.push_str(&regex::escape(rest));
        literals.push(rest.to_owned());
        Self { literals, source: regex, regex: OnceLock::new(), hole }
    }

    /// Whether a body has the text.
    pub(super) fn is_in(&self, body: &str) -> bool {
        self.literals.iter().all(|literal| body.contains(literal.as_str()))
            && self.regex().is_some_and(|regex| regex.is_match(body.as_bytes()))
    }

    /// `None` for a text that no expression can be made of; a test has one made of each row's.
    fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| Regex::new(&self.source).ok()).as_ref()
    }

    /// Whether the text says which series or metric it is about.
    pub(super) fn names_series(&self) -> bool {
        self.hole.is_some()
    }

    /// Everything that a body names by this text, at most [`MAX_OFFENDERS`].
    pub(super) fn named(&self, body: &str, only_first: bool) -> Vec<Named> {
        let most = if only_first { 1 } else { MAX_OFFENDERS };
        let matches = self.regex().into_iter().flat_map(|regex| regex.captures_iter(body.as_bytes()));
        matches.take(most).filter_map(|captures| self.named_by(body, &captures)).collect()
    }

    /// How many values a body says were refused, where it says it.
    pub(super) fn refused(&self, body: &str) -> Option<u64> {
        let captures = self.regex()?.captures(body.as_bytes())?;
        std::str::from_utf8(captures.name("refused")?.as_bytes()).ok()?.parse().ok()
    }

    fn named_by(&self, body: &str, captures: &Captures<'_>) -> Option<Named> {
        let start = |name| captures.name(name).map(|found| found.start());
        let line = |start: usize| body.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let series = match self.hole? {
            NameHole::Series => SeriesText::read(line(start("series")?))?,
            NameHole::Metric => SeriesText::read_metric(line(start("metric")?))?,
        };
        let time = captures.name("time").and_then(|time| std::str::from_utf8(time.as_bytes()).ok());
        let timestamp = time.and_then(timestamp);
        Some(Named { series, timestamp })
    }
}

fn timestamp(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse() {
        return Some(Timestamp::from_millis(millis));
    }
    humantime::parse_rfc3339(text).ok().map(Timestamp::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_that_are_no_hole_are_literal() {
        let pattern = Pattern::new("a {x} b{number}");
        let regex = pattern.regex().unwrap();
        assert!(regex.is_match(b"a {x} b+1.5e+06") && !regex.is_match(b"a x b1"));
    }

    #[test]
    fn times_are_milliseconds_or_rfc_3339() {
        let at = Timestamp::from_millis(1_763_812_800_123);
        assert_eq!(timestamp("1763812800123"), Some(at));
        assert_eq!(timestamp("2025-11-22T12:00:00.123Z"), Some(at));
        assert_eq!(timestamp("yesterday"), None);
    }
}
