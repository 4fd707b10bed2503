//! `docs/outcomes.md` says what the code does: its tables are the code's.

use std::fmt::Write as _;
use std::path::Path;

use promferry_remote_write::refusal::RefusalClass;

/// `PROMFERRY_WRITE_PAGES=1 cargo test …` writes the page's tables anew.
#[test]
fn the_page_has_the_tables_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/outcomes.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let expected = with_table(&with_table(&page, "answers", &answers()), "texts", &texts());
    if std::env::var_os("PROMFERRY_WRITE_PAGES").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    for (line, (is, should)) in page.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "docs/outcomes.md, line {}", line + 1);
    }
    assert_eq!(page.lines().count(), expected.lines().count(), "docs/outcomes.md misses rows");
}

/// The page with what stands between two marks replaced.
fn with_table(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let from = page.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
    let to = page.find(&end).unwrap_or_else(|| panic!("no {end}"));
    format!("{}{table}{}", &page[..from], &page[to..])
}

/// The table in the documentation of `Outcome`.
fn answers() -> String {
    let source = include_str!("../../src/delivery/outcome.rs");
    let rows = source.lines().filter_map(|line| line.strip_prefix("/// |"));
    rows.fold(String::new(), |table, row| table + "|" + row + "\n")
}

fn texts() -> String {
    let mut table = String::from(
        "| class | by | status | text | means | rest of the request | names | reason | source | how sure |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for class in RefusalClass::all() {
        let statuses: Vec<_> = class.statuses.iter().map(u16::to_string).collect();
        let text = class.text.replace('|', "\\|");
        let lasting = if class.lasting { ", each time" } else { "" };
        writeln!(
            table,
            "| `{}` | {} | {} | `{text}` | {}{lasting} | {} | {} | `{}` | {} | {} |",
            class.id,
            class.by,
            statuses.join(", "),
            class.meaning,
            class.rest,
            class.names,
            class.reason,
            class.source,
            class.confidence,
        )
        .unwrap();
    }
    table
}
