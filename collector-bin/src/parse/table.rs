//! A page's families as a table.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use promferry_exposition::MetricFamily;

use super::refusal::visible;
use crate::counts::plural;

/// The columns of the terminal that standard output is; `None` if it is none, and nothing need be cut.
pub(super) fn columns() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Characters that the name of a family and its unit are cut to: every line is as wide as the longest.
const WIDEST_CELL: usize = 80;

/// One line a family, in the order of the page, and their sums. Lines are cut to so many columns.
pub(super) fn write(
    to: &mut impl Write,
    families: &[MetricFamily],
    columns: Option<usize>,
) -> io::Result<()> {
    let head = ["family", "type", "unit", "metrics", "points", "help"].map(str::to_owned);
    let mut widths = [0; 6];
    for row in families.iter().map(row).chain([head.clone()]) {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let [w0, w1, w2, w3, w4, _] = widths;
    for row in [head].into_iter().chain(families.iter().map(row)) {
        let [family, metric_type, unit, metrics, points, help] = row;
        let line =
            format!("{family:w0$}  {metric_type:w1$}  {unit:w2$}  {metrics:>w3$}  {points:>w4$}  {help}");
        writeln!(to, "{}", cut(line.trim_end(), columns.unwrap_or(usize::MAX)))?;
    }
    let metrics: usize = families.iter().map(|family| family.metrics.len()).sum();
    let points: usize = families.iter().map(points_of).sum();
    writeln!(
        to,
        "{}, {}, {}",
        plural(families.len() as u64, "family", "families"),
        plural(metrics as u64, "metric", "metrics"),
        plural(points as u64, "point", "points")
    )
}

fn row(family: &MetricFamily) -> [String; 6] {
    let text = |text: &str| text.chars().map(visible).collect::<String>();
    [
        cut(&text(&family.name), WIDEST_CELL).into_owned(),
        family.metric_type.as_str().to_owned(),
        cut(&text(&family.unit), WIDEST_CELL).into_owned(),
        family.metrics.len().to_string(),
        points_of(family).to_string(),
        text(&family.help.replace('\n', " ")),
    ]
}

fn points_of(family: &MetricFamily) -> usize {
    family.metrics.iter().map(|metric| metric.points.len()).sum()
}

/// As much of a text as so many columns show.
fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if text.chars().nth(columns).is_none() {
        return Cow::Borrowed(text);
    }
    let mut shown: String = text.chars().take(columns.saturating_sub(1)).collect();
    shown.push('…');
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use promferry_exposition::{Format, ParseOptions, read_families};

    use super::*;

    fn of(families: &[MetricFamily], columns: Option<usize>) -> String {
        let mut table = Vec::new();
        write(&mut table, families, columns).unwrap();
        String::from_utf8(table).unwrap()
    }

    #[test]
    fn lines_are_cut_to_the_terminal() {
        let page = b"# HELP a One.\\nTwo three four five\n# TYPE a gauge\na 1\n";
        let families = read_families(Format::Text, page, ParseOptions::default()).unwrap();
        assert_eq!(
            of(&families, Some(43)),
            "family  type   unit  metrics  points  help\n\
             a       gauge              1       1  One.…\n\
             1 family, 1 metric, 1 point\n"
        );
    }
    #[test]
    fn a_long_name_makes_no_wide_table() {
        let long = "a".repeat(70_000);
        let mut families = vec![MetricFamily { name: long.clone(), unit: long, ..MetricFamily::default() }];
        families.extend((0..100).map(|n| MetricFamily { name: format!("b{n}"), ..MetricFamily::default() }));
        let table = of(&families, None);
        let shown = format!("{}…", "a".repeat(WIDEST_CELL - 1));
        assert!(
            table.lines().nth(1).unwrap().starts_with(&format!("{shown}  unknown  {shown}  ")),
            "{table}"
        );
        let widest = table.lines().map(|line| line.chars().count()).max();
        assert!(widest < Some(3 * WIDEST_CELL), "{widest:?}");
    }
}
