//! A page in HTML as it grows. Whatever comes from outside is escaped where it is written.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use promferry_model::Timestamp;
use promferry_remote_write::Counts;

/// A page that is being written.
pub(super) struct Html(String);

/// A cell of a table.
pub(super) enum Cell {
    Text(String),
    /// What is wrong.
    Bad(String),
    /// A text that leads to another view of this page, by its query.
    Link {
        text: String,
        query: String,
    },
}

/// A table shows no more rows than this, and says how many there are more.
pub(super) const SHOWN_ROWS: usize = 200;

const STYLE: &str = include_str!("style.css");

impl Html {
    pub(super) fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head><body><header><h1>{title}</h1>\
             <a href=\"metrics\">metrics</a><a href=\"api/v1/targets\">targets as JSON</a></header>"
        ))
    }

    pub(super) fn end(mut self) -> String {
        self.0.push_str("</body></html>\n");
        self.0
    }

    /// A paragraph of this class.
    pub(super) fn paragraph(&mut self, class: &str, text: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "<p class=\"{class}\">{}</p>", escape(text));
    }

    /// A box of the flow: what, how much, and what is to be known of it.
    pub(super) fn flow<'a>(&mut self, boxes: impl IntoIterator<Item = (&'a str, String, String, bool)>) {
        self.0.push_str("<ol class=\"flow\">");
        for (name, number, note, is_bad) in boxes {
            let class = if is_bad { " class=\"bad\"" } else { "" };
            let (number, note) = (escape(&number), escape(&note));
            let _ = write!(self.0, "<li{class}>{name}<b>{number}</b><small>{note}</small></li>");
        }
        self.0.push_str("</ol>");
    }

    pub(super) fn title(&mut self, title: &str) {
        let _ = write!(self.0, "<h2>{title}</h2>");
    }

    /// Views of this page, by their queries.
    pub(super) fn links(&mut self, links: impl IntoIterator<Item = (String, String)>) {
        self.0.push_str("<p>");
        for (at, (text, query)) in links.into_iter().enumerate() {
            if at > 0 {
                self.0.push_str(" · ");
            }
            self.link(&text, &query);
        }
        self.0.push_str("</p>");
    }

    /// A table under its title; nothing when it has no rows.
    pub(super) fn table<R: IntoIterator<Item = Cell>>(
        &mut self,
        title: &str,
        heads: &[&str],
        rows: impl IntoIterator<Item = R>,
    ) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        self.title(title);
        self.rows(heads, rows);
    }

    /// The table itself. Of what has many rows those that matter come first.
    pub(super) fn rows<R: IntoIterator<Item = Cell>>(
        &mut self,
        heads: &[&str],
        rows: impl IntoIterator<Item = R>,
    ) {
        self.0.push_str("<div class=\"scroll\"><table><tr>");
        for head in heads {
            let _ = write!(self.0, "<th>{head}</th>");
        }
        self.0.push_str("</tr>");
        let mut rows = rows.into_iter();
        for row in rows.by_ref().take(SHOWN_ROWS) {
            self.0.push_str("<tr>");
            for (head, cell) in heads.iter().zip(row) {
                self.cell(head, &cell);
            }
            self.0.push_str("</tr>");
        }
        self.0.push_str("</table></div>");
        let more = rows.count();
        if more > 0 {
            self.paragraph("more", &format!("and {} more", grouped(more as u64)));
        }
    }

    fn cell(&mut self, head: &str, cell: &Cell) {
        match cell {
            Cell::Text(text) => {
                let _ = write!(self.0, "<td data-of=\"{head}\">{}</td>", escape(text));
            }
            Cell::Bad(text) => {
                let _ = write!(self.0, "<td class=\"bad\" data-of=\"{head}\">{}</td>", escape(text));
            }
            Cell::Link { text, query } => {
                let _ = write!(self.0, "<td data-of=\"{head}\">");
                self.link(text, query);
                self.0.push_str("</td>");
            }
        }
    }

    fn link(&mut self, text: &str, query: &str) {
        let _ = write!(self.0, "<a href=\"?{}#targets\">{}</a>", escape(query), escape(text));
    }

    /// A place that links lead to.
    pub(super) fn anchor(&mut self, name: &str) {
        let _ = write!(self.0, "<a id=\"{name}\"></a>");
    }
}

pub(super) fn text(value: impl Display) -> Cell {
    Cell::Text(value.to_string())
}

/// What is wrong, if something is.
pub(super) fn trouble(value: impl Display) -> Cell {
    match value.to_string() {
        text if text.is_empty() => Cell::Text(text),
        text => Cell::Bad(text),
    }
}

/// Samples, and the other kinds where there are any.
pub(super) fn counts(counts: Counts) -> Cell {
    let mut shown = counts.samples.to_string();
    for (count, kind) in [(counts.histograms, "histograms"), (counts.exemplars, "exemplars")] {
        if count > 0 {
            let _ = write!(shown, ", {count} {kind}");
        }
    }
    Cell::Text(shown)
}

/// `1,234,567`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `12 B`, `3.4 KiB`, `1.2 GiB`
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut shown = number as f64 / 1024.0;
    let mut unit = 0;
    while shown >= 1024.0 && unit + 1 < UNITS.len() {
        shown /= 1024.0;
        unit += 1;
    }
    format!("{shown:.1} {}", UNITS[unit])
}

/// `12 s`, `5 min`, `3 h`, `4 d`
pub(super) fn time(passed: Duration) -> String {
    match passed.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    if at == Timestamp::default() {
        return "never".to_owned();
    }
    format!("{} ago", time(now.since(at)))
}

/// Text from outside, fit to stand in a page.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
        for (number, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3_250_586, "3.1 MiB"), (5 << 50, "5120.0 TiB")]
        {
            assert_eq!(bytes(number), expected);
        }
        for (seconds, expected) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (864_000, "10 d")]
        {
            assert_eq!(time(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn nothing_from_outside_is_markup() {
        const EVIL: &str = "</td><script>alert(\"1\")</script>&amp;";
        let mut page = Html::new(EVIL);
        page.paragraph("standing", EVIL);
        page.flow([("up", EVIL.to_owned(), EVIL.to_owned(), true)]);
        let link = || Cell::Link { text: EVIL.to_owned(), query: format!("job={EVIL}") };
        page.table("Targets", &["job", "target", "last error"], [[link(), text(EVIL), trouble(EVIL)]]);
        page.links([(EVIL.to_owned(), EVIL.to_owned())]);
        let page = page.end();
        assert!(!page.contains("<script") && !page.contains("alert(\""), "{page}");
        assert_eq!(
            page.matches("&lt;/td&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;amp;").count(),
            11
        );
    }

    #[test]
    fn a_table_is_bounded_and_says_so() {
        let mut page = Html::new("title");
        page.table("Rows", &["number"], (0..1234).map(|number| [text(number)]));
        let page = page.end();
        assert!(page.contains(">199</td>") && !page.contains(">200</td>"));
        assert!(page.contains("and 1,034 more"), "{page}");
        let mut page = Html::new("title");
        page.table("Rows", &["number"], [] as [[Cell; 1]; 0]);
        assert!(!page.end().contains("Rows"));
    }
}
