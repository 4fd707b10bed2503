//! What storing, reading and settling fragments costs on a real disk.

#![allow(clippy::unwrap_used, reason = "a bench that can't go on is no bench")]

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use promferry_model::{MemoryBudget, SystemClock, Timestamp};
use promferry_remote_write::spool::{DiskStorage, EndpointOptions, LogId, Spool, SpoolCore, SpoolOptions};
use promferry_remote_write::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn main() {
    divan::main();
}

fn fragment(lane: u64, bytes: usize) -> Fragment {
    Fragment {
        lane: Lane::of_hash(lane),
        protocol: Protocol::V1,
        compression: Compression::Snappy,
        counts: Counts { samples: 500, ..Counts::default() },
        raw_len: 64 << 10,
        min_timestamp: NOW,
        max_timestamp: NOW,
        body: Bytes::from(vec![lane as u8; bytes]),
    }
}

fn options() -> SpoolOptions {
    SpoolOptions { max_bytes: Some(256 << 20), ..SpoolOptions::default() }
}

/// One scrape of one fragment, one write.
#[divan::bench(args = [1_000, 23_000, 64_000], sample_count = 50, sample_size = 100)]
fn append(bencher: divan::Bencher<'_, '_>, bytes: usize) {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::new(directory.path()).unwrap();
    let (mut core, _) = SpoolCore::open(storage, options(), MemoryBudget::unlimited(), NOW).unwrap();
    let log = core.open_log("v1").unwrap();
    core.attach("amp", log, EndpointOptions::default()).unwrap();
    let scrape = [(log, vec![fragment(1, bytes)])];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| core.append_all(NOW, &scrape).unwrap());
}

/// Sixteen scrapes of one fragment in one write, as when they queue up.
#[divan::bench(args = [1_000, 23_000], sample_count = 50, sample_size = 10)]
fn append_batch_of_16(bencher: divan::Bencher<'_, '_>, bytes: usize) {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::new(directory.path()).unwrap();
    let (mut core, _) = SpoolCore::open(storage, options(), MemoryBudget::unlimited(), NOW).unwrap();
    let log = core.open_log("v1").unwrap();
    core.attach("amp", log, EndpointOptions::default()).unwrap();
    let scrapes: Vec<[(LogId, Vec<Fragment>); 1]> =
        (0..16).map(|lane| [(log, vec![fragment(lane, bytes)])]).collect();
    let scrapes: Vec<&[(LogId, Vec<Fragment>)]> = scrapes.iter().map(|scrape| scrape.as_slice()).collect();
    bencher.counter(ItemsCount::new(16usize)).bench_local(|| core.append_batch(NOW, &scrapes));
}

/// One fragment stored, read back and settled.
#[divan::bench(args = [1_000, 23_000, 64_000], sample_count = 50, sample_size = 100)]
fn append_fetch_settle(bencher: divan::Bencher<'_, '_>, bytes: usize) {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::new(directory.path()).unwrap();
    let (mut core, _) = SpoolCore::open(storage, options(), MemoryBudget::unlimited(), NOW).unwrap();
    let log = core.open_log("v1").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    let scrape = [(log, vec![fragment(1, bytes)])];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        core.append_all(NOW, &scrape).unwrap();
        for f in core.fetch(NOW, endpoint, LaneSet::ALL, 1 << 20).unwrap() {
            core.settle(endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
        }
    });
}

/// A backlog of 2,000 fragments read in windows of 1 MiB.
#[divan::bench(args = [1_000, 23_000], sample_count = 10, sample_size = 1)]
fn fetch_a_backlog(bencher: divan::Bencher<'_, '_>, bytes: usize) {
    bencher
        .counter(ItemsCount::new(2_000usize))
        .with_inputs(|| {
            let directory = tempfile::tempdir().unwrap();
            let storage = DiskStorage::new(directory.path()).unwrap();
            let (mut core, _) = SpoolCore::open(storage, options(), MemoryBudget::unlimited(), NOW).unwrap();
            let log = core.open_log("v1").unwrap();
            let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
            for lane in 0..2_000 {
                core.append_all(NOW, &[(log, vec![fragment(lane, bytes)])]).unwrap();
            }
            (directory, core, endpoint)
        })
        .bench_local_values(
            |(_directory, mut core, endpoint)| {
                while !core.fetch(NOW, endpoint, LaneSet::ALL, 1 << 20).unwrap().is_empty() {}
            },
        );
}

/// A backlog of 50,000 fragments of 5 KB is found again: headers only.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn open_with_a_backlog(bencher: divan::Bencher<'_, '_>) {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let storage = DiskStorage::new(directory.path()).unwrap();
        SpoolCore::open(
            storage,
            SpoolOptions { max_bytes: Some(4 << 30), ..SpoolOptions::default() },
            MemoryBudget::unlimited(),
            NOW,
        )
        .unwrap()
        .0
    };
    {
        let mut core = open();
        let log = core.open_log("v1").unwrap();
        core.attach("amp", log, EndpointOptions::default()).unwrap();
        for lane in 0..50_000 {
            core.append_all(NOW, &[(log, vec![fragment(lane, 5_000)])]).unwrap();
        }
    }
    bencher.counter(ItemsCount::new(50_000usize)).bench_local(open);
}

/// The same through the spool's thread, each ticket awaited.
#[divan::bench(args = [23_000], sample_count = 50, sample_size = 100)]
fn append_through_the_thread(bencher: divan::Bencher<'_, '_>, bytes: usize) {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::new(directory.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = std::sync::Arc::new(SystemClock::new());
    let (spool, _) = Spool::open(storage, options(), MemoryBudget::unlimited(), clock).unwrap();
    let log = runtime.block_on(spool.open_log("v1")).unwrap();
    let one = fragment(1, bytes);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        runtime.block_on(spool.append(vec![(log, vec![one.clone()])])).unwrap();
    });
    runtime.block_on(spool.close());
}
