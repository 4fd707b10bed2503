//! A page's families as a table.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use promferry_exposition::MetricFamily;

use super::refusal::visible;

/// The columns of the terminal that standard output is; `None` if it is none, and nothing need be cut.
pub(super) fn columns() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// One line a family, in the order of the page, and their sums. Lines are cut to so many columns.
pub(super) fn of(families: &[MetricFamily], columns: Option<usize>) -> String {
    let rows: Vec<[String; 6]> = families.iter().map(row).collect();
    let head = ["family", "type", "unit", "metrics", "points", "help"].map(str::to_owned);
    let mut widths = [0; 6];
    for row in rows.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for row in [&head].into_iter().chain(&rows) {
        let [family, metric_type, unit, metrics, points, help] = row;
        let [w0, w1, w2, w3, w4, _] = widths;
        let line =
            format!("{family:w0$}  {metric_type:w1$}  {unit:w2$}  {metrics:>w3$}  {points:>w4$}  {help}");
        push_cut(&mut table, line.trim_end(), columns);
    }
    let metrics = families.iter().map(|family| family.metrics.len()).sum();
    let points = families.iter().map(points_of).sum();
    let families = families.len();
    let _ = writeln!(
        table,
        "{}, {}, {}",
        counted(families, "family", "families"),
        counted(metrics, "metric", "metrics"),
        counted(points, "point", "points")
    );
    table
}

fn row(family: &MetricFamily) -> [String; 6] {
    let text = |text: &str| text.chars().map(visible).collect::<String>();
    [
        text(&family.name),
        family.metric_type.as_str().to_owned(),
        text(&family.unit),
        family.metrics.len().to_string(),
        points_of(family).to_string(),
        text(&family.help.replace('\n', " ")),
    ]
}

fn points_of(family: &MetricFamily) -> usize {
    family.metrics.iter().map(|metric| metric.points.len()).sum()
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn push_cut(table: &mut String, line: &str, columns: Option<usize>) {
    match columns {
        Some(columns) if line.chars().count() > columns => {
            table.extend(line.chars().take(columns.saturating_sub(1)));
            table.push('…');
        }
        _ => table.push_str(line),
    }
    table.push('\n');
}

#[cfg(test)]
mod tests {
    use promferry_exposition::{Format, ParseOptions, read_families};

    use super::*;

    #[test]
    fn lines_are_cut_to_the_terminal() {
        let page = b"# HELP a One.\\nTwo three four five\n# TYPE a gauge\na 1\n";
        let families = read_families(Format::Text, page, ParseOptions::default()).unwrap();
        assert_eq!(
            of(&families, Some(44)),
            "family  type   unit  metrics  points  help\n\
             a       gauge              1       1  One.…\n\
             1 family, 1 metric, 1 point\n"
        );
    }
}
