//! A sample of a known series allocates nothing. Alone in its file, since it counts what the whole process
//! allocates.
#![expect(unsafe_code, reason = "counting allocations takes an allocator of our own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use promferry_model::{
    ExemplarView, Histogram, Labels, MemoryBudget, MetadataView, MetricType, Sample, SeriesId, SeriesView,
    TargetInfo, Timestamp,
};
use promferry_remote_write::Protocol;
use promferry_remote_write::encode::{EncodingContext, Profile, Profiles, TargetEncoder};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn samples(
    encoder: &mut TargetEncoder,
    ids: &[SeriesId],
    exemplar: &ExemplarView<'_>,
    histogram: &Histogram,
) {
    let at = Timestamp::from_millis(1_700_000_000_000);
    for (n, &id) in ids.iter().enumerate() {
        if n % 40 == 3 {
            encoder.histogram(id, at, Some(at), histogram);
        } else {
            encoder.sample(id, Sample { timestamp: at, value: n as f64, start: Some(at) });
        }
        if n % 10 == 0 {
            encoder.exemplar(exemplar);
        }
    }
}

#[test]
fn a_sample_of_a_known_series_allocates_nothing() {
    let profile = |protocol| {
        Arc::new(Profile {
            external_labels: Labels::from_pairs([("cluster", "eu-1")]),
            protocol,
            send_exemplars: true,
            send_native_histograms: true,
            ..Profile::default()
        })
    };
    let profiles = Arc::new(Profiles::new(1, vec![profile(Protocol::V1), profile(Protocol::V2)]));
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let target = TargetInfo {
        job: "api".into(),
        labels: Labels::from_pairs([("instance", "a:1"), ("job", "api")]),
        url: "http://a:1/metrics".into(),
        scrape_interval: std::time::Duration::from_secs(15),
    };
    let mut encoder = TargetEncoder::new(&target, profiles, context);
    let ids: Vec<_> = (0..10_000)
        .map(|n| {
            let labels = Labels::from_pairs([
                ("__name__", format!("metric_{}", n % 50)),
                ("job", "api".into()),
                ("path", format!("/path/{n}")),
            ]);
            let metadata =
                MetadataView { family: "f", metric_type: MetricType::Counter, unit: "s", help: "a text" };
            encoder.admit(&SeriesView { labels: &labels, metadata }).unwrap()
        })
        .collect();
    let trace = Labels::from_pairs([("trace_id", "0123456789abcdef0123456789abcdef")]);
    let exemplar =
        ExemplarView { labels: &trace, value: 1.0, timestamp: Timestamp::from_millis(1_700_000_000_000) };
    let histogram = Histogram { sum: 4.5, ..Histogram::stale() };
    for _ in 0..2 {
        encoder.begin();
        samples(&mut encoder, &ids, &exemplar, &histogram);
        encoder.finish().unwrap();
    }

    // Few enough for one fragment: nothing at all while samples come.
    encoder.begin();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    samples(&mut encoder, &ids[..200], &exemplar, &histogram);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    encoder.abort();

    // A whole page: what is allocated is each fragment's body, and the list of them.
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    encoder.begin();
    samples(&mut encoder, &ids, &exemplar, &histogram);
    let scrape = encoder.finish().unwrap();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let fragments: usize = scrape.profiles.iter().map(|profile| profile.fragments.len()).sum();
    println!("{allocations} allocations for {} values in {fragments} fragments", 2 * ids.len());
    assert!(allocations <= fragments + 20, "{allocations} allocations for {fragments} fragments");
}
