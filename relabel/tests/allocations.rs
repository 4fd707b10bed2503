//! Counts what applying rules allocates.

#![expect(unsafe_code, reason = "a counting allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use promferry_model::{Labels, LabelsBuilder, NameValidation};
use promferry_relabel::{Action, RelabelConfig, RelabelRules};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those of System.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those of System.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_rule_that_matches_nothing_allocates_nothing() {
    let rule = |action, sources: &[&str], regex: &str, target: &str| RelabelConfig {
        source_labels: sources.iter().map(|name| (*name).into()).collect(),
        regex: Some(regex.into()),
        target_label: target.into(),
        action,
        ..RelabelConfig::default()
    };
    let rules = RelabelRules::compile(
        &[
            rule(Action::Drop, &["__name__"], "go_.*|process_.*", ""),
            rule(Action::Drop, &["__name__", "job"], "debug;.*", ""),
            rule(Action::Drop, &["__name__"], "[a-f]+_total", ""),
            rule(Action::Replace, &["job", "__name__"], r"(\d+);(\w+)", "n"),
            rule(Action::LabelMap, &[], "__meta_(.+)", ""),
            rule(Action::LabelDrop, &[], "pod_[0-9]+", ""),
            rule(Action::Keep, &["job"], "api|web|a job with a name that is longer than any inline text", ""),
        ],
        NameValidation::Utf8,
    )
    .unwrap();
    let series = Labels::from_pairs([
        ("__name__", "http_request_duration_seconds_bucket"),
        ("job", "a job with a name that is longer than any inline text"),
        ("le", "0.5"),
    ]);
    let mut labels = LabelsBuilder::from(&series);
    // The first time fills the scratch memory and the regular expressions' caches.
    assert!(rules.apply(&mut labels));
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        assert!(rules.apply(&mut labels));
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(labels.to_labels(), series);
}
