//! What is read, in which order, and what is dropped instead.

use std::time::Duration;

use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, LogId, Reason, SpoolCore, SpoolOptions, StoredFragment,
};
use promferry_remote_write::{Counts, Lane, LaneSet};

use crate::world::{fragment, id_of, lane_of, sum};

const NOW: Timestamp = Timestamp::from_millis(10_000_000);

fn open(disk: &SimDisk, options: SpoolOptions) -> SpoolCore<SimStorage> {
    SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW).unwrap().0
}

fn small() -> SpoolOptions {
    SpoolOptions { segment_bytes: 1_500, index_records: 4, ..SpoolOptions::default() }
}

fn append(core: &mut SpoolCore<SimStorage>, log: LogId, ids: impl IntoIterator<Item = u32>, at: i64) {
    for id in ids {
        core.append_all(NOW, &[(log, vec![fragment(id, at)])]).unwrap();
    }
}

fn ids(fetched: &[StoredFragment]) -> Vec<u32> {
    fetched.iter().map(|f| id_of(&f.fragment)).collect()
}

fn lanes(numbers: &[u8]) -> LaneSet {
    numbers.iter().map(|&n| Lane::new(n).unwrap()).collect()
}

fn settle(core: &mut SpoolCore<SimStorage>, endpoint: EndpointId, fetched: &[StoredFragment]) {
    for f in fetched {
        core.settle(endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
    }
}

#[test]
fn lanes_that_are_not_asked_for_are_passed_over_and_not_forgotten() {
    let disk = SimDisk::new();
    let mut core = open(&disk, small());
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    append(&mut core, log, 0..20, 1);
    let mut fetch = |set, bytes| ids(&core.fetch(NOW, endpoint, set, bytes).unwrap());
    assert_eq!(fetch(lanes(&[3]), usize::MAX), [3, 8, 13, 18]);
    assert_eq!(fetch(lanes(&[0, 3]), 700), [0, 5, 10], "until there are at least 700 bytes");
    assert_eq!(fetch(lanes(&[1, 3]), 1), [1], "at least one");
    assert!(fetch(LaneSet::EMPTY, usize::MAX).is_empty());
    assert_eq!(fetch(LaneSet::ALL, usize::MAX), [2, 4, 6, 7, 9, 11, 12, 14, 15, 16, 17, 19]);
    assert!(fetch(LaneSet::ALL, usize::MAX).is_empty());
    core.rewind(endpoint, lane_of(2)).unwrap();
    assert_eq!(ids(&core.fetch(NOW, endpoint, LaneSet::ALL, usize::MAX).unwrap()), [2, 7, 12, 17]);
}

#[test]
fn an_endpoint_with_a_new_log_first_gets_the_rest_of_its_old_one_lane_by_lane() {
    let disk = SimDisk::new();
    let mut core = open(&disk, small());
    let old = core.open_log("old").unwrap();
    let endpoint = core.attach("amp", old, EndpointOptions::default()).unwrap();
    append(&mut core, old, 0..10, 1);
    core.close(NOW);
    drop(core);

    let mut core = open(&disk, small());
    let new = core.open_log("new").unwrap();
    let endpoint_again = core.attach("amp", new, EndpointOptions::default()).unwrap();
    assert_eq!(endpoint, endpoint_again);
    append(&mut core, new, 10..20, 2);
    // Lane 0 has come to the new log while lane 1 has not.
    let zero = core.fetch(NOW, endpoint, lanes(&[0]), usize::MAX).unwrap();
    assert_eq!(ids(&zero), [0, 5, 10, 15]);
    let one = core.fetch(NOW, endpoint, lanes(&[1]), 1).unwrap();
    assert_eq!(ids(&one), [1]);
    let rest = core.fetch(NOW, endpoint, lanes(&[1]), usize::MAX).unwrap();
    assert_eq!(ids(&rest), [6, 11, 16]);
    settle(&mut core, endpoint, &zero);
    settle(&mut core, endpoint, &one);
    settle(&mut core, endpoint, &rest);
    let rest = core.fetch(NOW, endpoint, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(ids(&rest), [2, 3, 4, 7, 8, 9, 12, 13, 14, 17, 18, 19]);
    settle(&mut core, endpoint, &rest);
    let ledger = core.ledger(endpoint).unwrap();
    assert!(ledger.balances() && ledger.pending.is_zero(), "{ledger:?}");
    assert_eq!(ledger.delivered, sum(&(0..20).collect::<Vec<_>>()));
    // Nothing refers to the old log any more.
    let logs = core.stats().logs.iter().filter(|log| log.bytes > 0).count();
    assert_eq!(logs, 1, "{:?}", core.stats().logs);
    drop(core);
    let mut core = open(&disk, small());
    let new = core.open_log("new").unwrap();
    let endpoint = core.attach("amp", new, EndpointOptions::default()).unwrap();
    assert_eq!(core.ledger(endpoint).unwrap(), ledger);
    assert_eq!(core.stats().logs.len(), 1);
}

#[test]
fn an_endpoint_that_takes_no_part_keeps_its_backlog_and_gets_nothing_new() {
    let disk = SimDisk::new();
    let mut core = open(&disk, small());
    let log = core.open_log("x").unwrap();
    core.attach("gone", log, EndpointOptions::default()).unwrap();
    core.attach("amp", log, EndpointOptions::default()).unwrap();
    append(&mut core, log, 0..5, 1);
    drop(core);
    let mut core = open(&disk, small());
    let log = core.open_log("x").unwrap();
    let amp = core.attach("amp", log, EndpointOptions::default()).unwrap();
    append(&mut core, log, 5..10, 1);
    let fetched = core.fetch(NOW, amp, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(ids(&fetched), (0..10).collect::<Vec<_>>());
    drop(core);
    let mut core = open(&disk, small());
    let log = core.open_log("x").unwrap();
    let back = core.attach("gone", log, EndpointOptions::default()).unwrap();
    append(&mut core, log, 10..12, 1);
    let fetched = core.fetch(NOW, back, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(ids(&fetched), [0, 1, 2, 3, 4, 10, 11]);
    assert!(core.ledger(back).unwrap().balances());
}

#[test]
fn what_is_too_old_is_dropped_by_segment_and_by_record() {
    let disk = SimDisk::new();
    let mut core = open(&disk, small());
    let log = core.open_log("x").unwrap();
    let limit = EndpointOptions { sample_age_limit: Some(Duration::from_secs(60)) };
    let young = core.attach("young", log, limit).unwrap();
    let patient = core.attach("patient", log, EndpointOptions::default()).unwrap();
    let now = NOW.as_millis();
    append(&mut core, log, 0..6, now - 61_000);
    append(&mut core, log, 6..7, now - 59_000);
    append(&mut core, log, 7..8, now - 61_000);
    core.maintain(NOW);
    let ledger = core.ledger(young).unwrap();
    assert!(ledger.balances());
    assert!(ledger.dropped_for(&Reason::TOO_OLD).samples > 0, "whole segments go unread: {ledger:?}");
    let fetched = core.fetch(NOW, young, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(ids(&fetched), [6]);
    settle(&mut core, young, &fetched);
    let ledger = core.ledger(young).unwrap();
    assert!(ledger.balances() && ledger.pending.is_zero(), "{ledger:?}");
    assert_eq!(ledger.dropped_for(&Reason::TOO_OLD), sum(&[0, 1, 2, 3, 4, 5, 7]));
    let fetched = core.fetch(NOW, patient, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(ids(&fetched), (0..8).collect::<Vec<_>>());
}

#[test]
fn a_full_log_drops_its_oldest_and_nothing_of_another() {
    let disk = SimDisk::new();
    let options = SpoolOptions { max_bytes: Some(16_000), ..small() };
    let mut core = open(&disk, options.clone());
    let (x, y) = (core.open_log("x").unwrap(), core.open_log("y").unwrap());
    let down = core.attach("down", x, EndpointOptions::default()).unwrap();
    let up = core.attach("up", y, EndpointOptions::default()).unwrap();
    append(&mut core, y, 0..10, 1);
    append(&mut core, x, 0..100, 1);
    assert!(core.stats().logs.iter().all(|log| log.bytes <= 8_000), "{:?}", core.stats().logs);
    let ledger = core.ledger(down).unwrap();
    assert!(ledger.balances());
    drop(core);
    let mut core = open(&disk, options);
    assert_eq!(core.ledger(down).unwrap(), ledger);
    let fetched = ids(&core.fetch(NOW, down, LaneSet::ALL, usize::MAX).unwrap());
    assert!(fetched.len() >= 15, "{fetched:?}");
    assert_eq!(fetched, (100 - fetched.len() as u32..100).collect::<Vec<_>>());
    assert_eq!(ids(&core.fetch(NOW, up, LaneSet::ALL, usize::MAX).unwrap()), (0..10).collect::<Vec<_>>());
}

#[test]
fn segments_go_when_every_endpoint_has_settled_them() {
    let disk = SimDisk::new();
    let mut core = open(&disk, small());
    let log = core.open_log("x").unwrap();
    let a = core.attach("a", log, EndpointOptions::default()).unwrap();
    let b = core.attach("b", log, EndpointOptions::default()).unwrap();
    append(&mut core, log, 0..40, 1);
    let segments = |core: &SpoolCore<SimStorage>| core.stats().logs[0].segments;
    let before = segments(&core);
    assert_eq!(before, 10);
    let fetched = core.fetch(NOW, a, LaneSet::ALL, usize::MAX).unwrap();
    settle(&mut core, a, &fetched);
    assert_eq!(segments(&core), before, "b has not settled anything");
    let fetched = core.fetch(NOW, b, LaneSet::ALL, usize::MAX).unwrap();
    settle(&mut core, b, &fetched[..20]);
    assert_eq!(segments(&core), before - 5);
    settle(&mut core, b, &fetched[20..]);
    assert_eq!(segments(&core), 1);
    assert_eq!(disk.files().keys().filter(|f| f.ends_with(".segment")).count(), 1);
}

#[test]
fn a_settlement_that_does_not_add_up_is_noticed_and_the_ledger_balances() {
    let disk = SimDisk::new();
    let mut core = open(&disk, small());
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    append(&mut core, log, [0, 5, 10], 1);
    let fetched = core.fetch(NOW, endpoint, LaneSet::ALL, usize::MAX).unwrap();
    let lane = lane_of(0);
    let samples = |n| Counts { samples: n, ..Counts::default() };
    let too_many = [(Reason::REFUSED, samples(100))];
    core.settle(endpoint, lane, fetched[0].position, samples(1), &too_many).unwrap();
    core.settle(endpoint, lane, fetched[1].position, samples(2), &[]).unwrap();
    core.settle(endpoint, lane, fetched[1].position, samples(2), &[]).unwrap();
    let ledger = core.ledger(endpoint).unwrap();
    assert!(ledger.balances(), "{ledger:?}");
    assert_eq!(ledger.delivered, samples(3));
    assert_eq!(ledger.dropped_for(&Reason::UNACCOUNTED).samples, 4);
    assert_eq!(ledger.pending, fetched[2].fragment.counts);
    assert_eq!(core.stats().settle_mismatches, 3);
}

#[test]
fn a_log_that_is_not_added_to_any_more_makes_room_when_it_is_needed_and_not_before() {
    const MAX: u64 = 16_000;
    let disk = SimDisk::new();
    let options = SpoolOptions { max_bytes: Some(MAX), ..small() };
    let mut core = open(&disk, options.clone());
    let old = core.open_log("old").unwrap();
    core.attach("down", old, EndpointOptions::default()).unwrap();
    append(&mut core, old, 0..100, 1);
    core.close(NOW);
    drop(core);
    // The configuration changes again and again during one outage.
    for change in 1..5u32 {
        let mut core = open(&disk, options.clone());
        let log = core.open_log(&format!("changed {change}")).unwrap();
        let down = core.attach("down", log, EndpointOptions::default()).unwrap();
        let before = core.ledger(down).unwrap();
        core.maintain(NOW);
        assert_eq!(core.ledger(down).unwrap(), before, "there is room");
        for id in change * 100..change * 100 + 100 {
            append(&mut core, log, [id], 1);
            let bytes: u64 = core.stats().logs.iter().map(|log| log.bytes).sum();
            assert!(bytes <= MAX, "{bytes}: {:?}", core.stats().logs);
        }
        let last = core.stats().logs.into_iter().find(|log| log.key.ends_with(&change.to_string())).unwrap();
        assert!(last.bytes >= MAX / 2 / (u64::from(change) + 1), "{last:?}");
        assert!(core.ledger(down).unwrap().balances());
        core.close(NOW);
    }
    // Once the old ones are delivered the new one has all of it, in the same process.
    let mut core = open(&disk, options);
    let log = core.open_log("changed 4").unwrap();
    let down = core.attach("down", log, EndpointOptions::default()).unwrap();
    let fetched = core.fetch(NOW, down, LaneSet::ALL, usize::MAX).unwrap();
    settle(&mut core, down, &fetched);
    assert!(core.ledger(down).unwrap().pending.is_zero());
    let quota = core.stats().logs.into_iter().find(|log| log.key == "changed 4").unwrap().max_bytes;
    assert_eq!(quota, MAX);
}
