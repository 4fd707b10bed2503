//! Each case of the OpenMetrics test data as that suite's own runner asks it: the page on standard input, the verdict
//! by the exit status.

#[macro_use]
#[path = "../../../exposition/tests/support/openmetrics_cases.rs"]
mod openmetrics_cases;

use std::path::Path;

use crate::parse;

/// The exit status for a case, and what was said.
fn judge(case: &str) -> (i32, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exposition/tests/data/openmetrics");
    let page = std::fs::read(folder.join(case).with_extension("txt")).unwrap();
    let run = parse(&["--strict", "--output", "none"], &page);
    assert_eq!(run.stdout, "");
    (run.status, run.stderr)
}

macro_rules! tests {
    (accepted: [$($good:ident)*] refused: [$($bad:ident: $rule:ident)*]) => {
        $(#[test] fn $good() { assert_eq!(judge(stringify!($good)), (0, String::new())); })*
        $(#[test] fn $bad() {
            let (status, said) = judge(stringify!($bad));
            assert_eq!(status, 1, "{said}");
            let rule = promferry_exposition::StrictRule::$rule;
            assert!(said.starts_with("standard input:"), "{said}");
            assert!(said.contains(&format!("\nrule {rule}: ")), "{said}");
        })*
    };
}

openmetrics_cases!(tests);
