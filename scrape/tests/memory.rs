//! What a known page allocates and what a series costs, with every allocation counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(unsafe_code, reason = "a global allocator cannot be written without it")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use promferry_model::{Labels, MemoryBudget, MemorySink, Purpose, TargetGroup, Timestamp};
use promferry_scrape::{GroupChange, GroupSource, PageReader, Scraper, TargetState};
use serde_json::json;
use support::null_sink::NullSink;
use support::{gzip, job, large_page, options, options_at_start, target};

struct Counting;

thread_local! {
    /// Allocations and bytes held, of this thread: tests run beside each other.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    // A thread that is ending has no counters any more.
    let _ = ALLOCATIONS.try_with(|counter| counter.set(counter.get() + allocations));
    let _ = HELD.try_with(|counter| counter.set(counter.get() + bytes));
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn reader() -> PageReader<NullSink> {
    let job = job(json!({}));
    let target = target(&job, &[]);
    PageReader::new(&NullSink, job, target, options_at_start())
}

/// Allocations of reading a page once it is known.
fn allocations_of_known_page(page: &[u8]) -> u64 {
    let mut reader = reader();
    let mut allocations = 0;
    for scrape in 0..3 {
        let body = page.to_vec();
        let before = ALLOCATIONS.get();
        let outcome = reader.read(body, Some("text/plain"), Timestamp::from_millis(scrape * 15_000));
        allocations = ALLOCATIONS.get() - before;
        outcome.result.unwrap();
    }
    allocations
}

#[test]
fn a_known_page_allocates_nothing_for_a_sample() {
    for encode in [|page: String| page.into_bytes(), |page: String| gzip(page.as_bytes())] {
        let thousand = allocations_of_known_page(&encode(large_page(1000)));
        let two_thousand = allocations_of_known_page(&encode(large_page(2000)));
        println!("a known page of 1,000 series: {thousand} allocations, of 2,000 series: {two_thousand}");
        assert_eq!(thousand, two_thousand);
        assert!(thousand < 20, "{thousand}");
    }
}

#[test]
fn a_series_costs_little() {
    const SERIES: usize = 100_000;
    let mut reader = reader();
    let before = HELD.get();
    for scrape in 0..2 {
        let page = large_page(SERIES).into_bytes();
        let outcome = reader.read(page, Some("text/plain"), Timestamp::from_millis(scrape * 15_000));
        outcome.result.unwrap();
        assert_eq!(outcome.stats.samples_scraped, SERIES as u64);
    }
    assert_eq!(reader.series(), SERIES);
    let bytes = reader.memory_bytes() as f64 / SERIES as f64;
    println!(
        "{SERIES} series: {bytes:.1} bytes each between scrapes (the design's share: 24 and a little); with \
         the test's own sink and buffers {:.1}",
        (HELD.get() - before) as f64 / SERIES as f64
    );
    assert!(bytes < 26.0, "{bytes}");
}

#[test]
fn what_is_held_is_reserved() {
    let budget = MemoryBudget::new(1 << 30);
    let mut options = options_at_start();
    options.budget = budget.clone();
    let job = job(json!({}));
    let target = target(&job, &[]);
    let mut reader = PageReader::new(&NullSink, job, target, options);
    for (scrape, series) in [5000, 20_000, 20_000, 100].into_iter().enumerate() {
        let page = gzip(large_page(series).as_bytes());
        reader.read(page, Some("text/plain"), Timestamp::from_millis(scrape as i64)).result.unwrap();
        assert_eq!(budget.used_by(Purpose::Series), reader.memory_bytes());
    }
    assert!(reader.memory_bytes() < 20_000, "{} bytes for 100 series", reader.memory_bytes());
    drop(reader);
    assert_eq!(budget.used(), 0);
}

/// Groups that are made when they are asked for.
struct Pods;

const PODS: u64 = 10_000;

fn pod(number: u64) -> TargetGroup {
    let labels =
        (0..30).map(|label| (format!("__meta_kubernetes_pod_label_{label}"), format!("{number}-{label}")));
    TargetGroup {
        source: format!("pod/shop/api-{number}").into(),
        labels: Labels::from_pairs(labels),
        targets: vec![Labels::from_pairs([("__address__", format!("10.0.0.1:{number}"))])],
    }
}

impl GroupSource for Pods {
    fn for_each(&self, _job: &str, each: &mut dyn FnMut(u64, &TargetGroup)) {
        (0..PODS).for_each(|number| each(0, &pod(number)));
    }
}

#[tokio::test]
async fn a_dropped_target_costs_eighty_bytes_at_most() {
    let mut options = options();
    options.groups = Some(Arc::new(Pods));
    let scraper = Scraper::new(MemorySink::new(), options);
    scraper.apply(vec![job(json!({
        "relabel_configs": [{"source_labels": ["__address__"], "action": "drop"}],
    }))]);
    let before = HELD.get();
    for number in 0..PODS {
        let group = pod(number);
        let source = group.source.clone();
        let group = Some(Arc::new(group));
        scraper.change("test", [GroupChange { mechanism: 0, source, group }]).unwrap();
    }
    let bytes = (HELD.get() - before) as f64 / PODS as f64;
    println!("{PODS} dropped targets in as many groups: {bytes:.1} bytes each");
    assert_eq!(scraper.summary()[0].dropped_count, PODS);
    assert!(bytes <= 80.0, "{bytes}");

    let mut shown = 0;
    let (before, mut most) = (HELD.get(), 0);
    scraper.for_each_target(None, TargetState::Dropped, &mut |_| {
        shown += 1;
        most = most.max(HELD.get() - before);
    });
    assert_eq!(shown, PODS);
    assert!(most < 100_000, "{most} bytes while targets are shown one by one");
}
