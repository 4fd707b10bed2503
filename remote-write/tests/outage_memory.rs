//! What the spool keeps in memory does not grow with the length of an outage. Alone in its file, since it counts
//! what the whole process allocates.
#![expect(unsafe_code, reason = "counting bytes takes an allocator of our own")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::spool::{DiskStorage, EndpointOptions, Reason, SpoolCore, SpoolOptions};
use promferry_remote_write::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};

struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LANES: u8 = 8;

fn scrape(at: Timestamp) -> Vec<Fragment> {
    let fragment = |lane| Fragment {
        lane: Lane::new(lane).unwrap(),
        protocol: Protocol::V1,
        compression: Compression::None,
        counts: Counts { samples: 10, ..Counts::default() },
        raw_len: 200,
        min_timestamp: at,
        max_timestamp: at,
        body: vec![lane; 200].into(),
    };
    (0..LANES).map(fragment).collect()
}

#[test]
fn memory_does_not_grow_with_the_length_of_an_outage() {
    let directory = tempfile::tempdir().unwrap();
    let mut now = Timestamp::from_millis(1_700_000_000_000);
    // 512 KiB in segments of 64 KiB: full after 240 scrapes.
    let options = SpoolOptions { max_bytes: Some(512 << 10), ..SpoolOptions::default() };
    let storage = DiskStorage::new(directory.path()).unwrap();
    let (mut core, _) = SpoolCore::open(storage, options, MemoryBudget::unlimited(), now).unwrap();
    let log = core.open_log("x").unwrap();
    let away = core.attach("away", log, EndpointOptions::default()).unwrap();
    let limit = EndpointOptions { sample_age_limit: Some(Duration::from_secs(60)) };
    let silent = core.attach("silent", log, limit).unwrap();
    let mut append = |core: &mut SpoolCore<_>, scrapes| {
        for _ in 0..scrapes {
            now = now.saturating_add(Duration::from_secs(1));
            core.append_all(now, &[(log, scrape(now))]).unwrap();
            core.maintain(now);
        }
        now
    };
    let after_ten = append(&mut core, 10);
    // A request whose answer does not come.
    assert_eq!(core.fetch(after_ten, away, LaneSet::ALL, usize::MAX).unwrap().len(), 10 * usize::from(LANES));
    append(&mut core, 2_000);
    let early = LIVE_BYTES.load(Ordering::Relaxed);
    append(&mut core, 20_000);
    let late = LIVE_BYTES.load(Ordering::Relaxed);
    assert!(late < early + 64 * 1024, "{early} bytes early, {late} bytes late");
    let (away, silent) = (core.ledger(away).unwrap(), core.ledger(silent).unwrap());
    assert!(away.balances() && silent.balances());
    assert!(!away.dropped_for(&Reason::SPOOL_FULL).is_zero(), "the spool was never full");
    assert!(!silent.dropped_for(&Reason::TOO_OLD).is_zero());
}
