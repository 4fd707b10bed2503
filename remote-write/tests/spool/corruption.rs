//! Any one byte of the spool goes bad: it costs one record at most, and that is counted.

use std::collections::BTreeSet;

use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, LedgerSnapshot, Reason, RecoveryReport, SpoolCore, SpoolOptions,
    StoredFragment,
};
use promferry_remote_write::{Counts, Lane, LaneSet};

use crate::world::{fragment, id_of, sum};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const RECORDS: u32 = 10;

fn open(disk: &SimDisk) -> (SpoolCore<SimStorage>, EndpointId, RecoveryReport) {
    let options = SpoolOptions { segment_bytes: 1_500, ..SpoolOptions::default() };
    let (mut core, report) =
        SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW).unwrap();
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    (core, endpoint, report)
}

fn fetch_all(core: &mut SpoolCore<SimStorage>, endpoint: EndpointId) -> Vec<StoredFragment> {
    core.fetch(NOW, endpoint, LaneSet::ALL, usize::MAX).unwrap()
}

/// Ten records in three segments, of which lane 0's first is settled.
fn disk() -> (SimDisk, LedgerSnapshot, BTreeSet<u32>) {
    let disk = SimDisk::new();
    let (mut core, endpoint, _) = open(&disk);
    let log = core.open_log("x").unwrap();
    for id in 0..RECORDS {
        core.append_all(NOW, &[(log, vec![fragment(id, 500)])]).unwrap();
    }
    let fetched = fetch_all(&mut core, endpoint);
    let first = Lane::new(0).unwrap();
    core.settle(endpoint, first, fetched[0].position, fetched[0].fragment.counts, &[]).unwrap();
    let ledger = core.ledger(endpoint).unwrap();
    core.close(NOW);
    drop(core);
    let (mut core, endpoint, _) = open(&disk);
    let left: BTreeSet<u32> = fetch_all(&mut core, endpoint).iter().map(|f| id_of(&f.fragment)).collect();
    assert_eq!(left, (1..RECORDS).collect());
    (disk, ledger, left)
}

#[test]
fn a_damaged_byte_in_a_segment_costs_the_record_it_is_in_and_is_counted() {
    let (disk, whole, left) = disk();
    let mut segments: Vec<String> = disk.files().into_keys().filter(|f| f.ends_with(".segment")).collect();
    segments.sort();
    assert_eq!(segments.len(), 3);
    for (number, path) in segments.iter().enumerate() {
        let content = disk.files()[path].clone();
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 0x55;
            let copy = copy_of(&disk);
            copy.put(path, &damaged);
            let (mut core, endpoint, report) = open(&copy);
            let fetched: BTreeSet<u32> =
                fetch_all(&mut core, endpoint).iter().map(|f| id_of(&f.fragment)).collect();
            let lost: BTreeSet<u32> = left.difference(&fetched).copied().collect();
            let what = format!("{path} byte {at}: lost {lost:?}, {report:?}");
            assert!(fetched.is_subset(&left) && lost.len() <= 1, "{what}");
            assert!(report.set_aside.is_empty(), "{what}");
            settle_everything(&mut core, endpoint, &fetched);
            let ledger = core.ledger(endpoint).unwrap();
            assert!(ledger.balances() && ledger.pending.is_zero(), "{what}, {ledger:?}");
            // The last record's header can't be told from one that was never finished: it is cut off.
            let cut_off = number == 2 && report.torn_bytes > 0;
            let counted = if cut_off { Counts::default() } else { sum(&lost) };
            assert_eq!(ledger.dropped_for(&Reason::CORRUPT), counted, "{what}, {ledger:?}");
            let accepted = if cut_off { whole.accepted - sum(&lost) } else { whole.accepted };
            assert_eq!(ledger.accepted, accepted, "{what}");
            drop(core);
            let (mut core, endpoint, _) = open(&copy);
            assert_eq!(core.ledger(endpoint).unwrap(), ledger, "{what}");
            assert!(fetch_all(&mut core, endpoint).is_empty(), "{what}");
        }
    }
}

#[test]
fn a_damaged_byte_in_a_cursor_or_key_file_repeats_one_settlement_at_most() {
    let (disk, whole, left) = disk();
    for (path, content) in disk.files() {
        if path.ends_with(".segment") {
            continue;
        }
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 0x55;
            let copy = copy_of(&disk);
            copy.put(&path, &damaged);
            let (mut core, endpoint, report) = open(&copy);
            let fetched: BTreeSet<u32> =
                fetch_all(&mut core, endpoint).iter().map(|f| id_of(&f.fragment)).collect();
            let what = format!("{path} byte {at}: {fetched:?}, {report:?}");
            assert!(left.is_subset(&fetched) && fetched.len() <= left.len() + 1, "{what}");
            let ledger = core.ledger(endpoint).unwrap();
            assert!(ledger.balances(), "{what}, {ledger:?}");
            assert_eq!(ledger.accepted, whole.accepted, "{what}");
            assert_eq!(ledger.dropped_total(), Counts::default(), "{what}");
        }
    }
}

#[test]
fn damage_that_comes_while_the_spool_is_open_is_counted_when_it_is_reached() {
    let (disk, whole, _) = disk();
    let options = SpoolOptions { segment_bytes: 1_500, index_records: 0, ..SpoolOptions::default() };
    let (mut core, _) = SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW).unwrap();
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    let path = disk.files().into_keys().find(|f| f.ends_with(".segment")).unwrap();
    let mut content = disk.files()[&path].clone();
    // The header of the third record.
    content[64 + 2 * (68 + crate::world::BODY) + 12] ^= 1;
    disk.put(&path, &content);
    let fetched: BTreeSet<u32> = fetch_all(&mut core, endpoint).iter().map(|f| id_of(&f.fragment)).collect();
    assert!(!fetched.contains(&2) && fetched.len() == RECORDS as usize - 2, "{fetched:?}");
    settle_everything(&mut core, endpoint, &fetched);
    let ledger = core.ledger(endpoint).unwrap();
    assert!(ledger.balances() && ledger.pending.is_zero(), "{ledger:?}");
    assert_eq!(ledger.accepted, whole.accepted);
    assert_eq!(ledger.dropped_for(&Reason::CORRUPT), sum(&[2]));
    // What is decided everywhere is gone, the damaged segment too.
    let segments = disk.files().into_keys().filter(|f| f.ends_with(".segment")).count();
    assert_eq!(segments, 1);
}

#[test]
fn what_is_of_another_version_is_set_aside_and_never_deleted() {
    let (disk, _, _) = disk();
    let path = disk.files().into_keys().find(|f| f.ends_with(".segment")).unwrap();
    let mut newer = disk.files()[&path].clone();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..60]);
    newer[60..64].copy_from_slice(&crc.to_le_bytes());
    disk.put(&path, &newer);
    let foreign = "cursors/00000000000000aa.cursor";
    disk.put(foreign, b"something else entirely");
    let (mut core, endpoint, report) = open(&disk);
    let aside = [format!("{foreign}.set-aside"), format!("{path}.set-aside")];
    assert_eq!(report.set_aside, aside);
    assert_eq!(disk.files()[&aside[1]], newer);
    let fetched = fetch_all(&mut core, endpoint);
    assert_eq!(fetched.len(), 6);
    let ledger = core.ledger(endpoint).unwrap();
    assert!(ledger.balances());
    assert_eq!(ledger.dropped_for(&Reason::CORRUPT), sum(&[1, 2, 3]));
}

fn copy_of(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new();
    for (path, content) in disk.files() {
        copy.put(&path, &content);
    }
    copy
}

fn settle_everything(core: &mut SpoolCore<SimStorage>, endpoint: EndpointId, fetched: &BTreeSet<u32>) {
    for lane in Lane::all().take(5) {
        core.rewind(endpoint, lane).unwrap();
    }
    let again = fetch_all(core, endpoint);
    assert_eq!(&again.iter().map(|f| id_of(&f.fragment)).collect::<BTreeSet<_>>(), fetched);
    for lane in Lane::all() {
        let of_lane: Vec<_> = again.iter().filter(|f| f.fragment.lane == lane).collect();
        if let Some(last) = of_lane.last() {
            let delivered = of_lane.iter().fold(Counts::default(), |sum, f| sum + f.fragment.counts);
            core.settle(endpoint, lane, last.position, delivered, &[]).unwrap();
        }
    }
}
