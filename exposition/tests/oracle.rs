//! Every page of the corpus means what Prometheus 3.16's own parsers say it means, or is refused as they refuse it; of
//! headers, names and numbers the same holds. Their verdicts lie in `golden/`; where Go is at hand,
//! `scripts/expositions judge` has everything judged anew.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/corpus.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod corpus;
#[path = "support/differences.rs"]
#[allow(dead_code, reason = "what is read here is for another test")]
mod differences;
#[path = "support/golden.rs"]
mod golden;
#[path = "support/protobuf_bytes.rs"]
mod protobuf_bytes;
#[path = "support/question_texts.rs"]
mod question_texts;
#[path = "support/questions.rs"]
mod questions;
#[path = "support/verdict.rs"]
mod verdict;

use corpus::Area;

#[test]
fn agrees_with_prometheus() {
    golden::compare(Area::Formats);
}

#[test]
fn agrees_on_custom_buckets() {
    golden::compare(Area::CustomBuckets);
}

#[test]
fn agrees_on_type_and_unit_labels() {
    golden::compare(Area::TypeAndUnit);
}

#[cfg(feature = "openmetrics2")]
#[test]
fn agrees_on_openmetrics_2() {
    golden::compare(Area::OpenMetrics2);
}

#[test]
fn agrees_on_content_types() {
    questions::compare("content-type");
}

#[test]
fn agrees_on_escaped_names() {
    questions::compare("escape");
}

#[test]
fn agrees_on_unescaped_names() {
    questions::compare("unescape");
}

#[test]
fn agrees_on_negotiation() {
    questions::compare("negotiate");
}

#[test]
fn agrees_on_numbers() {
    questions::compare("float");
}

/// What fuzzing has found worth keeping, in the folder `PROMFERRY_PAGES` with one for each target.
#[test]
#[ignore = "needs Go and pages"]
fn agrees_on_found_pages() {
    let folder = std::env::var_os("PROMFERRY_PAGES").expect("PROMFERRY_PAGES is a folder");
    golden::compare_now(corpus::found(folder.as_ref()));
}

/// `PROMFERRY_AREA` names the one to judge, if not all: `formats`, `custom_buckets`, `type_and_unit`, `openmetrics2`, `others`.
#[test]
#[ignore = "needs Go; writes the verdicts"]
fn judge_anew() {
    if !cfg!(feature = "openmetrics2") {
        panic!("needs the feature openmetrics2, so that all are judged");
    }
    let wanted = std::env::var("PROMFERRY_AREA").ok();
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    if is_wanted("others") {
        golden::judge_differences();
        questions::judge_anew();
    }
    for &area in Area::ALL {
        if is_wanted(area.name()) {
            golden::judge_anew(area);
        }
    }
}
