//! Strict mode: each case of the OpenMetrics test data, and what that data does not have.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
#[path = "support/openmetrics_cases.rs"]
mod openmetrics_cases;

use std::fs;
use std::path::Path;

use promferry_exposition::{StrictRule, validate};

fn case(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/openmetrics");
    fs::read(folder.join(name).with_extension("txt")).unwrap()
}

macro_rules! tests {
    (accepted: [$($good:ident)*] refused: [$($bad:ident: $rule:ident)*]) => {
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
