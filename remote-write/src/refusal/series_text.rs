use std::borrow::Cow;
use std::fmt;

const METRIC_NAME: &str = "__name__";
/// What Cortex, and so AMP, takes off a series before it judges it: the replica of a deduplicated pair.
const REPLICA: &str = "__replica__";
/// What Prometheus' `type-and-unit-labels` feature adds to a series before it judges it.
const ADDED: [&str; 2] = ["__type__", "__unit__"];
/// Cortex and Mimir print at most this many characters of a series (`%.200q`, `%.200s`).
const CUT_CHARS: usize = 200;

/// A series as a receiver prints it: Go's `Labels.String` (`{__name__="up", job="node"}`), Cortex' label sets
/// (`up{job="node"}`, quoted once more and cut after 200 characters), Mimir's (in single quotes, cut, perhaps
/// with `…` at the end), or nothing but a metric name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeriesText {
    /// Names and values, sorted by name; the metric name as `__name__`.
    labels: Vec<(String, String)>,
    extent: Extent,
}

/// How much of a series a text shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Extent {
    Whole,
    /// The labels that are there, and the beginning of one more.
    Cut {
        name: String,
        value: Option<String>,
    },
    /// The metric name of any series.
    MetricName,
}

impl SeriesText {
    /// Reads a series that stands at the beginning of `text`; `None` when there is none.
    pub fn read(text: &str) -> Option<Self> {
        let (inner, cut) = unwrap(text)?;
        let series = read_labels(&inner, cut)?;
        (!series.labels.is_empty() || series.extent != Extent::Whole).then_some(series)
    }

    /// Reads a metric name, quoted or up to the next space or punctuation.
    pub fn read_metric(text: &str) -> Option<Self> {
        let (inner, cut) = unwrap(text)?;
        let name = if text.starts_with(['"', '\'']) { &inner[..] } else { bare_name(&inner) };
        if name.is_empty() {
            return None;
        }
        if cut {
            let extent = Extent::Cut { name: METRIC_NAME.to_owned(), value: Some(name.to_owned()) };
            return Some(Self { labels: Vec::new(), extent });
        }
        let labels = vec![(METRIC_NAME.to_owned(), name.to_owned())];
        Some(Self { labels, extent: Extent::MetricName })
    }

    /// Names and values that are shown as a whole, sorted by name; the metric name is `__name__`.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether the text shows all of the series' labels.
    pub fn is_whole(&self) -> bool {
        self.extent == Extent::Whole
    }

    /// The metric name, if the text shows it as a whole.
    pub fn metric(&self) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name == METRIC_NAME).map(|(_, value)| value.as_str())
    }

    /// Whether this may be the series with these labels, sorted by name.
    ///
    /// A whole text is equal, but for labels that receivers take off or add before they judge
    /// (`__replica__`, `__type__`, `__unit__`). Of a cut one the part that is there fits.
    pub fn is_of(&self, labels: &[(&str, &str)]) -> bool {
        match &self.extent {
            Extent::Whole => self.equals(labels),
            Extent::MetricName => self.shown_in(labels),
            Extent::Cut { name, value } => {
                self.shown_in(labels)
                    && labels.iter().any(|(known, known_value)| match value {
                        Some(value) => known == name && known_value.starts_with(value.as_str()),
                        None => known.starts_with(name.as_str()),
                    })
            }
        }
    }

    /// The fingerprint of a series that is shown as a whole; `None` of any other. As printed: what a receiver
    /// takes off or adds before it judges is missing or in it, so that labels as sent are the better source.
    pub fn fingerprint(&self) -> Option<u64> {
        let labels: Vec<_> =
            self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.is_whole().then(|| super::fingerprint(&labels))
    }

    fn equals(&self, labels: &[(&str, &str)]) -> bool {
        let shown = |name: &str| self.labels.iter().any(|(known, _)| known == name);
        let sent = |name: &str| labels.iter().any(|(known, _)| *known == name);
        let without_replica = !shown(REPLICA);
        let theirs = self.labels.iter().filter(|(name, _)| !ADDED.contains(&name.as_str()) || sent(name));
        let ours = labels.iter().filter(|(name, _)| !(without_replica && *name == REPLICA));
        theirs.map(|(name, value)| (name.as_str(), value.as_str())).eq(ours.copied())
    }

    fn shown_in(&self, labels: &[(&str, &str)]) -> bool {
        self.labels.iter().all(|(name, value)| labels.contains(&(name.as_str(), value.as_str())))
    }
}

/// As Prometheus prints series: the metric name, then the other labels.
impl fmt::Display for SeriesText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<_> =
            self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut text = display(&labels);
        match &self.extent {
            Extent::Whole => {}
            Extent::MetricName => text.push_str(" (any series of it)"),
            Extent::Cut { .. } => text.push('…'),
        }
        f.write_str(&text)
    }
}

/// Labels as Prometheus prints a series: `up{job="node"}`.
pub(crate) fn display(labels: &[(&str, &str)]) -> String {
    let metric = labels.iter().find(|(name, _)| *name == METRIC_NAME).map_or("", |(_, value)| value);
    let others: Vec<_> = labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    if others.is_empty() { metric.to_owned() } else { format!("{metric}{{{}}}", others.join(", ")) }
}

/// What is inside the quotes, if there are any, and whether it was cut at 200 characters.
fn unwrap(text: &str) -> Option<(Cow<'_, str>, bool)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (inner, _) = unquote(quoted)?;
        let cut = inner.chars().count() >= CUT_CHARS;
        return Some((Cow::Owned(inner), cut));
    }
    if let Some(quoted) = text.strip_prefix('\'') {
        let end = quoted.find("' (err-mimir").or_else(|| quoted.rfind('\''))?;
        let inner = &quoted[..end];
        let cut = inner.chars().count() >= CUT_CHARS || inner.ends_with('…');
        return Some((Cow::Borrowed(inner.strip_suffix('…').unwrap_or(inner)), cut));
    }
    Some((Cow::Borrowed(text), false))
}

/// `{a="b", …}` or `name{a="b", …}` or `name`. One that does not end is taken for a cut one.
fn read_labels(text: &str, cut: bool) -> Option<SeriesText> {
    let metric = match text.find('{') {
        Some(0) => "",
        Some(brace) if is_name(&text[..brace]) => &text[..brace],
        _ => {
            let name = bare_name(text);
            let extent = if cut {
                Extent::Cut { name: METRIC_NAME.to_owned(), value: Some(name.to_owned()) }
            } else {
                Extent::Whole
            };
            let labels = if cut { Vec::new() } else { vec![(METRIC_NAME.to_owned(), name.to_owned())] };
            return (!name.is_empty()).then_some(SeriesText { labels, extent });
        }
    };
    let mut labels = Vec::new();
    if !metric.is_empty() {
        labels.push((METRIC_NAME.to_owned(), metric.to_owned()));
    }
    let mut rest = &text[metric.len() + 1..];
    let extent = loop {
        rest = rest.trim_start_matches([',', ' ']);
        if rest.starts_with('}') {
            break Extent::Whole;
        }
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => match unquote(quoted) {
                Some((name, after)) => (name, after),
                None => break Extent::Cut { name: String::new(), value: None },
            },
            None => {
                let end = rest.find(['=', ',', '}', '"', ' ']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if after.is_empty() {
            break Extent::Cut { name, value: None };
        }
        let Some(after) = after.strip_prefix('=') else {
            // `{"a name", …}`: a metric name that needs quotes.
            if rest.starts_with('"') && after.starts_with([',', '}']) {
                labels.push((METRIC_NAME.to_owned(), name));
                rest = after;
                continue;
            }
            return None;
        };
        let Some(quoted) = after.strip_prefix('"') else {
            if after.is_empty() {
                break Extent::Cut { name, value: Some(String::new()) };
            }
            return None;
        };
        match unquote(quoted) {
            Some((value, after)) => {
                labels.push((name, value));
                rest = after;
            }
            None => break Extent::Cut { name, value: Some(unquote_cut(quoted)) },
        }
    };
    labels.sort();
    Some(SeriesText { labels, extent })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '"', '\'', '=', ','])
}

fn bare_name(text: &str) -> &str {
    let end = text.find([' ', ',', ';', '(', ')', '{', '}', '"', '\'']).unwrap_or(text.len());
    text[..end].trim_end_matches(['.', ':'])
}

/// The Go string behind an opening quote, and what follows its closing one; `None` when it does not close.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut inner = Vec::new();
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\'])?;
        inner.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('"') {
            return Some((String::from_utf8_lossy(&inner).into_owned(), after));
        }
        rest = unescape(rest, &mut inner)?;
    }
}

/// As much of a Go string as there is.
fn unquote_cut(text: &str) -> String {
    let mut inner = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        inner.extend_from_slice(&rest.as_bytes()[..at]);
        match unescape(&rest[at..], &mut inner) {
            Some(after) => rest = after,
            None => return String::from_utf8_lossy(&inner).into_owned(),
        }
    }
    inner.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&inner).into_owned()
}

/// One escape of Go's `strconv.Quote`; `None` when it is none.
fn unescape<'a>(text: &'a str, into: &mut Vec<u8>) -> Option<&'a str> {
    let kind = *text.as_bytes().get(1)?;
    let digits = match kind {
        b'x' => 2,
        b'u' => 4,
        b'U' => 8,
        _ => 0,
    };
    if digits > 0 {
        let number = u32::from_str_radix(text.get(2..2 + digits)?, 16).ok()?;
        if kind == b'x' {
            into.push(u8::try_from(number).ok()?);
        } else {
            into.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut [0; 4]).as_bytes());
        }
        return text.get(2 + digits..);
    }
    into.push(match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' | b'\'' => kind,
        _ => return None,
    });
    text.get(2..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: &[(&str, &str)] = &[("__name__", "up"), ("instance", "a:1"), ("job", "node")];

    #[test]
    fn every_spelling_of_a_series_is_read() {
        for text in [
            r#"{__name__="up", instance="a:1", job="node"}"#,
            r#"{__name__="up",instance="a:1",job="node"} and more"#,
            r#"{"up", instance="a:1", job="node"}"#,
            r#"up{instance="a:1", job="node"}, exemplar={a="b"}"#,
            r#"up{job="node", instance="a:1"}"#,
            r#""up{instance=\"a:1\", job=\"node\"}" label name: "x""#,
            r#"'up{instance="a:1", job="node"}' (err-mimir-x). To adjust, don't"#,
        ] {
            let series = SeriesText::read(text).unwrap_or_else(|| panic!("{text}"));
            assert!(series.is_whole() && series.is_of(UP), "{text}: {series:?}");
            assert_eq!(series.fingerprint(), Some(crate::refusal::fingerprint(UP)), "{text}");
            assert_eq!(series.to_string(), r#"up{instance="a:1", job="node"}"#);
        }
    }

    #[test]
    fn another_series_is_not_it() {
        for text in [
            r#"{__name__="up", instance="a:1"}"#,
            r#"{__name__="up", instance="a:1", job="node", x="y"}"#,
            r#"{__name__="up", instance="a:2", job="node"}"#,
            "up",
        ] {
            assert!(!SeriesText::read(text).unwrap().is_of(UP), "{text}");
        }
        for text in ["", "{", "}", "{}", "\"", "'", "{=}", "{a}", "{a=b}", "{a=\"b\"x", " "] {
            let series = SeriesText::read(text);
            assert!(series.is_none_or(|series| !series.is_whole() || !series.is_of(UP)), "{text}");
        }
    }

    #[test]
    fn go_escapes_are_undone() {
        let text = r#"{__name__="q", v="a\"b\\c\nd\u00e9\U0001f600\x7f, {e=\"f\"}"}"#;
        let series = SeriesText::read(text).unwrap();
        assert!(series.is_of(&[("__name__", "q"), ("v", "a\"b\\c\ndé😀\u{7f}, {e=\"f\"}")]), "{series:?}");
    }

    #[test]
    fn of_a_cut_text_the_beginning_fits() {
        let long = "x".repeat(400);
        let labels = [("__name__", "q"), ("job", "db"), ("query", long.as_str())];
        let shown: String = format!("q{{job=\"db\", query=\"{long}").chars().take(200).collect();
        for text in [format!("{shown:?} label name"), format!("'{shown}…' (err-mimir-x)")] {
            let series = SeriesText::read(&text).unwrap_or_else(|| panic!("{text}"));
            assert!(!series.is_whole() && series.is_of(&labels), "{text}: {series:?}");
            assert!(!series.is_of(&[("__name__", "q"), ("job", "db"), ("query", "y")]));
            assert!(!series.is_of(&[("__name__", "q"), ("job", "web"), ("query", long.as_str())]));
            assert_eq!(series.fingerprint(), None);
        }
    }

    #[test]
    fn a_metric_name_is_any_series_of_it() {
        for text in ["\"up\"", "'up' (err-mimir-x)", "up, please", "up"] {
            let series = SeriesText::read_metric(text).unwrap();
            assert!(series.is_of(UP) && !series.is_whole(), "{text}");
            assert!(!series.is_of(&[("__name__", "up_total")]), "{text}");
        }
    }

    #[test]
    fn what_receivers_take_off_or_add_does_not_matter() {
        let replica = [("__name__", "up"), ("__replica__", "r1"), ("cluster", "c")];
        assert!(SeriesText::read(r#"{__name__="up", cluster="c"}"#).unwrap().is_of(&replica));
        assert!(
            !SeriesText::read(r#"{__name__="up", __replica__="r2", cluster="c"}"#).unwrap().is_of(&replica)
        );
        let typed = SeriesText::read(r#"{__name__="up", __type__="gauge"}"#).unwrap();
        assert!(typed.is_of(&[("__name__", "up")]));
    }
}
