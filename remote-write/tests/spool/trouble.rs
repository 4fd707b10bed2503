//! Disks that fail in one place, from the start, for a while, or slowly; clocks that are set.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use promferry_model::{MemoryBudget, SystemClock, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, FsyncPolicy, LogId, Reason, RecoveryReport, Spool, SpoolCore, SpoolOptions,
    StorageState,
};
use promferry_remote_write::{Counts, LaneSet};

use crate::world::{fragment, id_of, sum};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const NONE: [u32; 0] = [];

fn options() -> SpoolOptions {
    SpoolOptions { segment_bytes: 1_500, cursor_file_bytes: 8_000, ..SpoolOptions::default() }
}

fn open_with(
    disk: &SimDisk,
    options: SpoolOptions,
) -> (SpoolCore<SimStorage>, LogId, EndpointId, RecoveryReport) {
    let (mut core, report) =
        SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW).unwrap();
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    (core, log, endpoint, report)
}

fn append(core: &mut SpoolCore<SimStorage>, log: LogId, ids: std::ops::Range<u32>) {
    for id in ids {
        core.append_all(NOW, &[(log, vec![fragment(id, NOW.as_millis())])]).unwrap();
    }
}

/// Fetches and settles everything that can be had now.
fn take(core: &mut SpoolCore<SimStorage>, endpoint: EndpointId, now: Timestamp) -> Vec<u32> {
    let fetched = core.fetch(now, endpoint, LaneSet::ALL, usize::MAX).unwrap();
    for f in &fetched {
        core.settle(endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
    }
    assert!(core.ledger(endpoint).unwrap().balances());
    fetched.iter().map(|f| id_of(&f.fragment)).collect()
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.files().into_keys().filter(|path| path.ends_with(".segment")).collect()
}

fn is_degraded(core: &SpoolCore<SimStorage>) -> bool {
    core.stats().storage != StorageState::Healthy
}

fn after(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

#[test]
fn a_disk_that_takes_nothing_at_the_start_is_used_as_soon_as_it_does() {
    for kind in [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::StorageFull] {
        for older in [false, true] {
            let disk = SimDisk::new();
            if older {
                let (mut core, log, ..) = open_with(&disk, options());
                append(&mut core, log, 0..9);
            }
            disk.fail_writes(Some(kind));
            let (mut core, log, endpoint, _) = open_with(&disk, options());
            assert!(is_degraded(&core));
            append(&mut core, log, 9..12);
            if older {
                assert_eq!(
                    take(&mut core, endpoint, NOW),
                    (0..12).collect::<Vec<_>>(),
                    "what is there can be sent"
                );
            }
            append(&mut core, log, 12..15);
            disk.fail_writes(None);
            for second in 1..5 {
                core.maintain(after(second));
            }
            assert!(!is_degraded(&core));
            let ledger = core.ledger(endpoint).unwrap();
            drop(core);
            let (mut core, _, endpoint, report) = open_with(&disk, options());
            assert_eq!(report.damaged, 0);
            assert_eq!(core.ledger(endpoint).unwrap(), ledger);
            let left = if older { 12..15 } else { 9..15 };
            assert_eq!(take(&mut core, endpoint, NOW), left.collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_segment_that_cannot_be_read_holds_nothing_up_and_costs_only_itself() {
    // With the places of its records in memory and without: then not even its lanes are known.
    for index_records in [usize::MAX, 0] {
        let disk = SimDisk::new();
        let options = SpoolOptions { index_records, ..options() };
        let (mut core, log, endpoint, _) = open_with(&disk, options.clone());
        append(&mut core, log, 0..20);
        let path = segments(&disk)[1].clone();
        let lost = sum(&[4, 5, 6, 7]);
        disk.fail_reads(&path);
        let mut sent = take(&mut core, endpoint, NOW);
        assert_eq!(sent, [0, 1, 2, 3], "the disk gets a chance to recover");
        assert!(core.reads_are_retried());
        for second in 1..8 {
            sent.extend(take(&mut core, endpoint, after(second)));
        }
        assert_eq!(sent, (0..4).chain(8..20).collect::<Vec<_>>());
        assert!(!core.reads_are_retried());
        let ledger = core.ledger(endpoint).unwrap();
        assert!(ledger.pending.is_zero(), "{ledger:?}");
        assert_eq!(ledger.dropped_for(&Reason::CORRUPT), lost);
        assert!(!segments(&disk).contains(&path), "it is needed by nobody any more");
        append(&mut core, log, 20..22);
        drop(core);
        let (mut core, _, endpoint, _) = open_with(&disk, options);
        assert_eq!(take(&mut core, endpoint, NOW), [20, 21]);
    }
}

#[test]
fn a_segment_that_cannot_be_read_at_the_start_is_set_aside_and_counted() {
    for unreadable in [1, 4] {
        let disk = SimDisk::new();
        let (mut core, log, ..) = open_with(&disk, options());
        append(&mut core, log, 0..20);
        drop(core);
        let path = segments(&disk)[unreadable].clone();
        let content = disk.files()[&path].clone();
        disk.fail_reads(&path);
        let (mut core, log, endpoint, report) = open_with(&disk, options());
        let aside = format!("{path}.set-aside");
        assert_eq!(report.set_aside, std::slice::from_ref(&aside));
        assert_eq!(disk.files()[&aside], content);
        append(&mut core, log, 20..22);
        let gone = unreadable as u32 * 4..unreadable as u32 * 4 + 4;
        let left: Vec<u32> = (0..22).filter(|id| !gone.contains(id)).collect();
        assert_eq!(take(&mut core, endpoint, NOW), left);
        let ledger = core.ledger(endpoint).unwrap();
        assert!(ledger.balances() && ledger.pending.is_zero(), "{ledger:?}");
        if unreadable == 1 {
            assert_eq!(ledger.dropped_for(&Reason::CORRUPT), sum(&gone.collect::<Vec<_>>()));
        }
    }
}

#[test]
fn a_disk_without_room_for_a_segment_is_found_when_it_is_set_aside() {
    let disk = SimDisk::new();
    let (mut core, log, endpoint, _) = open_with(&disk, options());
    append(&mut core, log, 0..1);
    // The segment and the cursor have their space; anything else has none.
    disk.set_capacity(Some(0));
    append(&mut core, log, 1..4);
    assert!(!is_degraded(&core), "the segment's space was set aside");
    append(&mut core, log, 4..9);
    let StorageState::Degraded { error, .. } = core.stats().storage else { panic!("the disk is full") };
    assert!(error.contains("could not set space aside"), "{error}");
    // Settlements are still written: what was sent is not sent again.
    assert_eq!(take(&mut core, endpoint, NOW), (0..9).collect::<Vec<_>>());
    append(&mut core, log, 9..12);
    drop(core);
    disk.set_capacity(None);
    let (mut core, _, endpoint, _) = open_with(&disk, options());
    // What was in memory went with the process.
    assert_eq!(take(&mut core, endpoint, NOW), NONE);
    assert!(core.ledger(endpoint).unwrap().delivered.samples >= sum(&[0, 1, 2, 3]).samples);
}

#[test]
fn a_cursor_that_cannot_be_replaced_is_added_to() {
    let disk = SimDisk::new();
    let options = SpoolOptions { cursor_file_bytes: 1_000, segment_bytes: 1 << 20, ..options() };
    let (mut core, log, endpoint, _) = open_with(&disk, options.clone());
    append(&mut core, log, 0..1);
    disk.set_capacity(Some(0));
    for id in 1..20 {
        append(&mut core, log, id..id + 1);
        take(&mut core, endpoint, NOW);
    }
    let delivered = core.ledger(endpoint).unwrap().delivered;
    drop(core);
    disk.set_capacity(None);
    let (mut core, _, endpoint, _) = open_with(&disk, options);
    let written = core.ledger(endpoint).unwrap().delivered;
    // Twice the length is set aside: that much longer than it should be it may get.
    assert!(written.samples > sum(&(0..12).collect::<Vec<_>>()).samples, "{written:?} of {delivered:?}");
    let first = take(&mut core, endpoint, NOW).first().copied().unwrap_or(20);
    assert!(first >= 12, "{first}");
}

#[test]
fn a_clock_that_is_set_forward_drops_nothing_that_was_young() {
    let limit = EndpointOptions { sample_age_limit: Some(Duration::from_secs(300)) };
    let disk = SimDisk::new();
    let (mut core, log, ..) = open_with(&disk, options());
    let endpoint = core.attach("amp", log, limit).unwrap();
    append(&mut core, log, 0..12);
    let hour = 3_600;
    core.maintain(after(hour));
    for second in 1..290 {
        core.maintain(after(hour + second));
    }
    let ledger = core.ledger(endpoint).unwrap();
    assert_eq!(ledger.dropped_total(), Counts::default(), "{ledger:?}");
    assert_eq!(take(&mut core, endpoint, after(hour + 290)), (0..12).collect::<Vec<_>>());
    // What waits longer than the limit by any clock is too old.
    core.append_all(after(hour + 290), &[(log, vec![fragment(12, after(hour + 290).as_millis())])]).unwrap();
    for second in 290..900 {
        core.maintain(after(hour + second));
    }
    assert_eq!(take(&mut core, endpoint, after(hour + 900)), NONE);
    assert_eq!(core.ledger(endpoint).unwrap().dropped_for(&Reason::TOO_OLD), sum(&[12]));
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_the_disk_from_being_tried_again() {
    let disk = SimDisk::new();
    let (mut core, log, ..) = open_with(&disk, options());
    disk.fail_writes(Some(io::ErrorKind::StorageFull));
    append(&mut core, log, 0..4);
    disk.fail_writes(None);
    let back = Timestamp::from_millis(NOW.as_millis() - 86_400_000);
    for second in 0..4 {
        core.maintain(back.saturating_add(Duration::from_secs(second)));
    }
    assert!(!is_degraded(&core));
    assert_eq!(core.stats().logs[0].memory_bytes, 0);
}

#[tokio::test]
async fn a_disk_that_stalls_costs_no_scrape_and_keeps_their_order() {
    for fsync in [FsyncPolicy::Never, FsyncPolicy::Interval(Duration::from_millis(1)), FsyncPolicy::Always] {
        let disk = SimDisk::new();
        let options = SpoolOptions { fsync, segment_bytes: 64 << 10, ..options() };
        let clock = Arc::new(SystemClock::new());
        let (spool, _) = Spool::open(disk.storage(), options, MemoryBudget::unlimited(), clock).unwrap();
        let log = spool.open_log("x").await.unwrap();
        let endpoint = spool.attach("amp", log, EndpointOptions::default()).await.unwrap();
        spool.append(vec![(log, vec![fragment(0, 1)])]).await.unwrap();
        disk.stall(Duration::from_millis(1500));
        let mut first = spool.append(vec![(log, vec![fragment(1, 1)])]);
        let rest: Vec<_> = (2..400).map(|id| spool.append(vec![(log, vec![fragment(id, 1)])])).collect();
        // All of them were handed over, and not even the first has been stored.
        let stalled = tokio::time::timeout(Duration::from_millis(1), &mut first).await;
        assert!(stalled.is_err(), "the disk did not stall: {stalled:?}");
        first.await.unwrap();
        for ticket in rest {
            ticket.await.unwrap();
        }
        let fetched = spool.fetch(endpoint, LaneSet::ALL, usize::MAX).await.unwrap();
        assert_eq!(
            fetched.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>(),
            (0..400).collect::<Vec<_>>()
        );
        let ledger = spool.ledger(endpoint).await.unwrap();
        assert!(ledger.balances());
        assert_eq!(ledger.pending, sum(&(0..400).collect::<Vec<_>>()));
        spool.close().await;
    }
}

#[test]
fn a_target_that_was_spread_while_the_disk_took_nothing_is_known_after_a_restart() {
    let disk = SimDisk::new();
    let (mut core, log, ..) = open_with(&disk, options());
    append(&mut core, log, 0..4);
    core.note_spread(7);
    disk.fail_writes(Some(io::ErrorKind::StorageFull));
    core.note_spread(8);
    append(&mut core, log, 4..8);
    disk.fail_writes(None);
    core.maintain(after(5));
    assert!(!is_degraded(&core));
    // The process is killed.
    drop(core);
    let (core, ..) = open_with(&disk, options());
    assert_eq!(core.spread_targets().0, [7, 8]);
}

#[test]
fn reads_that_failed_once_and_then_went_well_do_not_add_up() {
    let disk = SimDisk::new();
    let options = SpoolOptions { segment_bytes: 1 << 20, ..options() };
    let (mut core, log, endpoint, _) = open_with(&disk, options);
    append(&mut core, log, 0..12);
    for id in 0..12u32 {
        let now = after(u64::from(id) * 10);
        disk.fail_call(0, io::ErrorKind::Other);
        assert!(core.fetch(now, endpoint, LaneSet::ALL, 1).unwrap().is_empty(), "{id}");
        let fetched =
            core.fetch(now.saturating_add(Duration::from_secs(2)), endpoint, LaneSet::ALL, 1).unwrap();
        assert_eq!(fetched.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>(), [id]);
        assert!(!core.reads_are_retried());
    }
    assert_eq!(core.ledger(endpoint).unwrap().dropped_total(), Counts::default());
}

#[test]
fn the_end_of_a_log_that_cannot_be_read_is_left_alone() {
    let disk = SimDisk::new();
    let options = SpoolOptions { segment_bytes: 1 << 20, ..options() };
    let (mut core, log, ..) = open_with(&disk, options.clone());
    append(&mut core, log, 0..20);
    drop(core);
    let path = segments(&disk)[0].clone();
    let content = disk.files()[&path].clone();
    for from in [64, 5_000] {
        let copy = SimDisk::new();
        disk.files().iter().for_each(|(path, content)| copy.put(path, content));
        copy.fail_reads_from(&path, from);
        let (mut core, log, endpoint, report) = open_with(&copy, options.clone());
        assert!(report.damaged > 0 && report.torn_bytes == 0, "{report:?}");
        append(&mut core, log, 20..25);
        let ledger = core.ledger(endpoint).unwrap();
        assert!(ledger.balances(), "{ledger:?}");
        drop(core);
        assert_eq!(copy.files()[&path], content);
        copy.heal_reads(&path);
        let (mut core, _, endpoint, _) = open_with(&copy, options.clone());
        assert_eq!(take(&mut core, endpoint, NOW), (0..25).collect::<Vec<_>>(), "from {from}");
        assert!(core.ledger(endpoint).unwrap().pending.is_zero());
    }
}

#[tokio::test]
async fn an_endpoint_that_gets_nothing_new_is_told_when_a_read_is_worth_repeating() {
    let disk = SimDisk::new();
    let (mut core, log, ..) = open_with(&disk, options());
    append(&mut core, log, 0..20);
    drop(core);
    let clock = Arc::new(SystemClock::new());
    let options = SpoolOptions { retry_interval: Duration::from_millis(10), ..options() };
    let (spool, _) = Spool::open(disk.storage(), options, MemoryBudget::unlimited(), clock).unwrap();
    let endpoint = spool.adopt("amp", EndpointOptions::default()).await.unwrap();
    let mut arrivals = spool.arrivals(endpoint);
    let path = segments(&disk)[0].clone();
    disk.fail_reads(&path);
    assert!(spool.fetch(endpoint, LaneSet::ALL, usize::MAX).await.unwrap().is_empty());
    disk.heal_reads(&path);
    tokio::time::timeout(Duration::from_secs(10), arrivals.changed()).await.unwrap().unwrap();
    let fetched = spool.fetch(endpoint, LaneSet::ALL, usize::MAX).await.unwrap();
    assert_eq!(fetched.len(), 20);
    spool.close().await;
}

#[test]
fn the_backlog_is_gone_lane_by_lane_as_what_was_found_at_the_start_is_settled() {
    let disk = SimDisk::new();
    let (mut core, log, ..) = open_with(&disk, options());
    append(&mut core, log, 0..12);
    drop(core);
    let (mut core, log, endpoint, _) = open_with(&disk, options());
    let backlog = |core: &SpoolCore<SimStorage>| {
        core.stats().backlog.iter().map(|lane| lane.index()).collect::<Vec<_>>()
    };
    assert_eq!(backlog(&core), [0, 1, 2, 3, 4]);
    append(&mut core, log, 12..24);
    let fetched = core.fetch(NOW, endpoint, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(fetched.len(), 24);
    for f in fetched.iter().filter(|f| id_of(&f.fragment) < 9) {
        core.settle(endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
    }
    assert_eq!(backlog(&core), [0, 1, 4], "of 9, 10 and 11");
    for f in fetched.iter().filter(|f| (9..12).contains(&id_of(&f.fragment))) {
        core.settle(endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
    }
    assert!(backlog(&core).is_empty(), "what came since is none");
    drop(core);
    // Whose cursor is lost may wait for anything.
    let cursor = disk.files().into_keys().find(|path| path.ends_with(".cursor")).unwrap();
    disk.put(&cursor, b"");
    let (mut core, _) = SpoolCore::open(disk.storage(), options(), MemoryBudget::unlimited(), NOW).unwrap();
    assert_eq!(core.spread_targets().1, LaneSet::ALL);
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    // By the first scrape everybody has attached.
    append(&mut core, log, 24..25);
    assert_eq!(backlog(&core), [0, 1, 2, 3, 4]);
    assert!(!take(&mut core, endpoint, NOW).is_empty());
    assert!(backlog(&core).is_empty());
}
