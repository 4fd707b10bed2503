//! Strict mode: each case of the OpenMetrics test data, and what that data does not have.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
#[path = "support/openmetrics_cases.rs"]
mod openmetrics_cases;

use std::fs;
use std::path::Path;

use promferry_exposition::{
    Event, Format, LabelBuffer, ParseError, ParseOptions, Parser, StrictRule, validate,
};
use proptest::prelude::*;
use proptest::sample::Index;

fn case(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/openmetrics");
    fs::read(folder.join(name).with_extension("txt")).unwrap()
}

macro_rules! tests {
    (accepted: [$($good:ident)*] refused: [$($bad:ident: $rule:ident)*]) => {
        const GOOD_CASES: &[&str] = &[$(stringify!($good)),*];

        mod openmetrics_test_data {
            use super::*;

            $(#[test] fn $good() { validate(&case(stringify!($good))).unwrap(); })*
            $(#[test] fn $bad() {
                let refused = validate(&case(stringify!($bad))).unwrap_err();
                assert_eq!(refused.rule, StrictRule::$rule, "{refused}");
            })*

            #[test]
            fn every_case_has_a_test() {
                let tested = [$(stringify!($good),)* $(stringify!($bad),)*];
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/openmetrics");
                let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
                let mut pages: Vec<String> = files
                    .filter(|file| file.extension().is_some_and(|extension| extension == "txt"))
                    .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
                    .collect();
                pages.sort();
                let mut sorted = tested.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, pages);
                assert_eq!(tested.len(), 211);
            }
        }
    };
}

openmetrics_cases!(tests);

/// Walks the page in lenient mode, as Prometheus does.
fn read(page: &[u8]) -> Result<usize, ParseError> {
    let mut parser = Parser::new(Format::OpenMetrics, page, ParseOptions::default());
    let (mut labels, mut exemplar_labels) = (LabelBuffer::new(), LabelBuffer::new());
    let mut samples = 0;
    while let Some(event) = parser.next()? {
        if let Event::Series(series) = event {
            series.labels(&mut labels)?;
            let mut exemplars = series.exemplars();
            while exemplars.next(&mut exemplar_labels).is_some() {}
            samples += 1;
        }
    }
    Ok(samples)
}

/// Pieces of lines without NUL, put into valid pages in place of others.
const PIECES: [&str; 47] = [
    "",
    " ",
    "\n",
    "#",
    " # {} 1",
    "{",
    "}",
    "\"",
    "\\",
    ",",
    "=",
    "a",
    "a_total",
    "_bucket",
    "_created",
    "le",
    "quantile",
    "\"+Inf\"",
    "+Inf",
    "NaN",
    "-1",
    "0",
    "1e3",
    ".5",
    "1.",
    "1e400",
    "12345678901234567890.1",
    "-9999999999999999",
    "\u{e4}",
    "\t",
    "# TYPE ",
    "# HELP ",
    "# UNIT ",
    "# EOF",
    "counter",
    "histogram",
    "a 1\n",
    "{\"a b\"}",
    "\"\"",
    "\\n",
    "\\x",
    "b=\"c\"",
    "a{b=\"c\"}",
    " 1",
    " 1.5",
    "_",
    ":",
];

fn changed_page() -> impl Strategy<Value = String> {
    let change = (any::<Index>(), 0_usize..4, prop::sample::select(&PIECES[..]));
    (any::<Index>(), prop::collection::vec(change, 1..4)).prop_map(|(page, changes)| {
        let mut page: Vec<char> =
            String::from_utf8(case(GOOD_CASES[page.index(GOOD_CASES.len())])).unwrap().chars().collect();
        for (at, removed, piece) in changes {
            let at = at.index(page.len() + 1);
            let end = (at + removed).min(page.len());
            page.splice(at..end, piece.chars());
        }
        page.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lenient_mode_accepts_what_strict_mode_accepts(page in changed_page()) {
        if let Ok(validated) = validate(page.as_bytes()) {
            prop_assert_eq!(read(page.as_bytes()), Ok(validated.samples));
        }
    }
}

/// OpenMetrics has NUL in every text. Prometheus' lexer passes over it in the values of a series' labels and in HELP,
/// and nowhere else.
#[test]
fn strict_mode_accepts_nul_where_lenient_mode_refuses_it() {
    for (page, lenient_accepts) in [
        ("# HELP a b\0c\n# EOF\n", true),
        ("a{b=\"\0\"} 1\n# EOF\n", true),
        ("# TYPE a counter\na_total 1 # {b=\"\0\"} 1\n# EOF\n", false),
        ("{\"a\0\"} 1\n# EOF\n", false),
    ] {
        assert!(validate(page.as_bytes()).is_ok(), "{page:?}");
        assert_eq!(read(page.as_bytes()).is_ok(), lenient_accepts, "{page:?}");
    }
}
