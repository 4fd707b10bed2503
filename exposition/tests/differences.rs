//! Where pages are read otherwise than by Prometheus on purpose: these and no others. Beside this list there are names that are
//! not UTF-8, which Prometheus' parser lets pass and its scrape refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/corpus.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod corpus;
#[path = "support/differences.rs"]
mod listed;
#[path = "support/protobuf_bytes.rs"]
mod protobuf_bytes;
#[path = "support/verdict.rs"]
mod verdict;

use std::fs;

use serde_json::{Value, json};

#[test]
fn are_these() {
    let golden = fs::read_to_string(corpus::data("golden/differences.jsonl")).unwrap();
    let verdicts: Vec<Value> = golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let differences = listed::differences();
    assert_eq!(verdicts.len(), differences.len(), "the list has changed: run scripts/expositions judge");
    for (difference, theirs) in differences.iter().zip(&verdicts) {
        let name = &difference.case.name;
        assert!(theirs["name"].as_str().unwrap().starts_with(name), "{name}: run scripts/expositions judge");
        let here = verdict::judge(&difference.case);
        assert_eq!(here, difference.here, "{name}");
        assert_ne!(json!(here), theirs["lines"], "{name} is read as Prometheus reads it");
    }
}
