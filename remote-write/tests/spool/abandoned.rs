//! Endpoints that left the configuration: kept for a while, delivered by hand, or given up.

use std::time::Duration;

use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{EndpointOptions, Reason, Settled, SpoolCore, SpoolError, SpoolOptions};
use promferry_remote_write::{Counts, LaneSet};

use crate::world::{fragment, id_of, sum};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

fn options() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 1_500,
        abandoned_after: Duration::from_secs(600),
        ..SpoolOptions::default()
    }
}

fn open(disk: &SimDisk) -> SpoolCore<SimStorage> {
    SpoolCore::open(disk.storage(), options(), MemoryBudget::unlimited(), NOW).unwrap().0
}

/// Two endpoints of one log with twenty records, none of them sent; then a process that has only one of them.
fn left_behind(disk: &SimDisk, samples_at: i64) -> SpoolCore<SimStorage> {
    let mut core = open(disk);
    let log = core.open_log("x").unwrap();
    for key in ["gone", "amp"] {
        core.attach(key, log, EndpointOptions::default()).unwrap();
    }
    for id in 0..20 {
        core.append_all(NOW, &[(log, vec![fragment(id, samples_at)])]).unwrap();
    }
    drop(core);
    let mut core = open(disk);
    let log = core.open_log("x").unwrap();
    let amp = core.attach("amp", log, EndpointOptions::default()).unwrap();
    for id in 20..24 {
        core.append_all(NOW, &[(log, vec![fragment(id, NOW.as_millis())])]).unwrap();
    }
    let fetched = core.fetch(NOW, amp, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(fetched.len(), 24);
    for f in fetched {
        core.settle(amp, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
    }
    core
}

fn keys(core: &SpoolCore<SimStorage>) -> Vec<String> {
    core.stats().endpoints.into_iter().map(|endpoint| endpoint.key).collect()
}

fn segments(disk: &SimDisk) -> usize {
    disk.files().keys().filter(|path| path.ends_with(".segment")).count()
}

#[test]
fn what_left_the_configuration_is_kept_by_age_and_then_given_up_and_counted() {
    let disk = SimDisk::new();
    let mut core = left_behind(&disk, NOW.as_millis() - 590_000);
    core.maintain(NOW);
    let gone = |core: &SpoolCore<SimStorage>| core.stats().endpoints.into_iter().find(|e| e.key == "gone");
    assert_eq!(gone(&core).unwrap().ledger.pending, sum(&(0..20).collect::<Vec<_>>()));
    for second in 0..20 {
        core.maintain(NOW.saturating_add(Duration::from_secs(second)));
    }
    let ledger = gone(&core).unwrap().ledger;
    assert!(ledger.balances(), "{ledger:?}");
    // A segment that holds something younger as well is kept for it.
    assert!(ledger.dropped_for(&Reason::ABANDONED).samples > 0 && segments(&disk) <= 2, "{ledger:?}");
    for second in 20..1_300 {
        core.maintain(NOW.saturating_add(Duration::from_secs(second)));
    }
    assert_eq!(keys(&core), ["amp"], "nothing of it is left");
    assert_eq!(disk.files().keys().filter(|path| path.ends_with(".cursor")).count(), 1);
    drop(core);
    assert_eq!(keys(&open(&disk)), ["amp"]);
}

#[test]
fn one_that_is_given_up_by_hand_leaves_nothing_and_hurts_no_other() {
    let disk = SimDisk::new();
    let mut core = left_behind(&disk, NOW.as_millis());
    assert!(segments(&disk) > 3);
    assert!(matches!(core.forget("amp"), Err(SpoolError::InUse { .. })));
    assert!(matches!(core.forget("unheard of"), Err(SpoolError::Unknown { .. })));
    assert_eq!(core.forget("gone").unwrap(), sum(&(0..20).collect::<Vec<_>>()));
    assert!(matches!(core.forget("gone"), Err(SpoolError::Unknown { .. })));
    assert_eq!((keys(&core), segments(&disk)), (vec!["amp".to_owned()], 1));
    let log = core.open_log("x").unwrap();
    // It may come back; it then begins anew.
    let back = core.attach("gone", log, EndpointOptions::default()).unwrap();
    core.append_all(NOW, &[(log, vec![fragment(24, 1)])]).unwrap();
    let fetched = core.fetch(NOW, back, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(fetched.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>(), [24]);
    drop(core);
    let core = open(&disk);
    assert!(core.stats().endpoints.iter().all(|endpoint| endpoint.ledger.balances()));
    assert_eq!(keys(&core).len(), 2);
}

#[test]
fn one_that_is_adopted_gets_what_waits_for_it_in_order_and_nothing_new() {
    let disk = SimDisk::new();
    drop(left_behind(&disk, NOW.as_millis()));
    let mut core = open(&disk);
    let log = core.open_log("x").unwrap();
    assert!(matches!(core.adopt("unheard of", EndpointOptions::default()), Err(SpoolError::Unknown { .. })));
    let gone = core.adopt("gone", EndpointOptions::default()).unwrap();
    core.append_all(NOW, &[(log, vec![fragment(30, 1)])]).unwrap();
    let fetched = core.fetch(NOW, gone, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(fetched.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    for f in fetched {
        core.settle(gone, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
    }
    let ledger = core.ledger(gone).unwrap();
    assert!(ledger.balances() && ledger.pending.is_zero(), "{ledger:?}");
    assert_eq!(ledger.dropped_total(), Counts::default());
    drop(core);
    assert_eq!(open(&disk).stats().endpoints.iter().find(|e| e.key == "gone").unwrap().ledger, ledger);
}

#[test]
fn who_has_not_attached_yet_or_only_waits_while_others_are_drained_has_not_left() {
    let disk = SimDisk::new();
    drop(left_behind(&disk, NOW.as_millis() - 10_000_000));
    let later = |second| NOW.saturating_add(Duration::from_secs(second));
    // A start that takes its time, or a drain of another endpoint.
    let mut core = open(&disk);
    core.adopt("amp", EndpointOptions::default()).unwrap();
    for second in 0..1_300 {
        core.maintain(later(second));
    }
    drop(core);
    let mut core = open(&disk);
    for second in 0..5 {
        core.maintain(later(second));
    }
    let log = core.open_log("x").unwrap();
    let gone = core.attach("gone", log, EndpointOptions::default()).unwrap();
    let fetched = core.fetch(NOW, gone, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(fetched.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert_eq!(core.ledger(gone).unwrap().dropped_total(), Counts::default());
}

#[test]
fn samples_from_the_future_do_not_keep_what_was_abandoned() {
    let disk = SimDisk::new();
    let mut core = open(&disk);
    let log = core.open_log("x").unwrap();
    core.attach("gone", log, EndpointOptions::default()).unwrap();
    let microseconds = NOW.as_millis() * 1000;
    for id in 0..20 {
        let at = if id == 1 { microseconds } else { NOW.as_millis() };
        core.append_all(NOW, &[(log, vec![fragment(id, at)])]).unwrap();
    }
    drop(core);
    let mut core = open(&disk);
    let log = core.open_log("x").unwrap();
    core.attach("amp", log, EndpointOptions::default()).unwrap();
    core.append_all(NOW, &[(log, vec![fragment(20, NOW.as_millis())])]).unwrap();
    for second in 0..590 {
        core.maintain(NOW.saturating_add(Duration::from_secs(second)));
    }
    assert_eq!(keys(&core), ["gone", "amp"]);
    for second in 590..700 {
        core.maintain(NOW.saturating_add(Duration::from_secs(second)));
    }
    let ledger = core.stats().endpoints.into_iter().find(|e| e.key == "gone").map(|e| e.ledger);
    assert!(ledger.is_none_or(|ledger| ledger.pending.is_zero()));
    assert_eq!(segments(&disk), 1);
}

#[test]
fn an_endpoint_that_had_several_logs_leaves_none_of_them() {
    let disk = SimDisk::new();
    let mut core = open(&disk);
    for log in ["x", "y", "z"] {
        let log = core.open_log(log).unwrap();
        core.attach("gone", log, EndpointOptions::default()).unwrap();
        core.append_all(NOW, &[(log, vec![fragment(0, NOW.as_millis())])]).unwrap();
    }
    drop(core);
    let mut core = open(&disk);
    core.forget("gone").unwrap();
    assert_eq!(segments(&disk), 0);
    drop(core);
    let (_, report) = SpoolCore::open(disk.storage(), options(), MemoryBudget::unlimited(), NOW).unwrap();
    assert_eq!(report.unclaimed_logs, []);
}

#[test]
fn who_leaves_while_others_go_on_keeps_its_backlog_and_its_ledger() {
    let disk = SimDisk::new();
    let mut core = open(&disk);
    let log = core.open_log("x").unwrap();
    let [gone, amp] = ["gone", "amp"].map(|key| core.attach(key, log, EndpointOptions::default()).unwrap());
    let append = |core: &mut SpoolCore<_>, now: Timestamp, ids: std::ops::Range<u32>| {
        for id in ids {
            core.append_all(now, &[(log, vec![fragment(id, now.as_millis())])]).unwrap();
        }
    };
    let settle_all = |core: &mut SpoolCore<_>, now, endpoint| {
        let fetched = core.fetch(now, endpoint, LaneSet::ALL, usize::MAX).unwrap();
        for f in &fetched {
            core.settle(endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
        }
        fetched.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>()
    };
    // It has run for longer than anybody is remembered.
    let now = (0..700).fold(NOW, |_, second| {
        let now = NOW.saturating_add(Duration::from_secs(second));
        core.maintain(now);
        now
    });
    append(&mut core, now, 0..10);
    settle_all(&mut core, now, gone);
    append(&mut core, now, 10..20);
    core.detach(gone);
    append(&mut core, now, 20..30);
    settle_all(&mut core, now, amp);
    let ledger = |core: &SpoolCore<_>, endpoint| core.ledger(endpoint).unwrap();
    assert_eq!(ledger(&core, gone).pending, sum(&(10..20).collect::<Vec<_>>()));
    assert_eq!(core.append_all(now, &[]).map(|receipt| receipt.samples), Ok(0));

    // It comes back and goes on where it stopped, and leaves with nothing that waits.
    assert_eq!(core.attach("gone", log, EndpointOptions::default()).unwrap(), gone);
    append(&mut core, now, 30..33);
    assert_eq!(settle_all(&mut core, now, gone), [(10..20).collect::<Vec<_>>(), (30..33).collect()].concat());
    assert_eq!(
        ledger(&core, gone).delivered.samples,
        sum(&(0..20).chain(30..33).collect::<Vec<_>>()).samples
    );
    core.detach(gone);
    settle_all(&mut core, now, amp);
    let later = |seconds| now.saturating_add(Duration::from_secs(seconds));
    (0..599).for_each(|second| core.maintain(later(second)));
    assert_eq!(keys(&core), ["gone", "amp"], "it has left, but not long ago");
    (599..610).for_each(|second| core.maintain(later(second)));
    assert_eq!(keys(&core), ["amp"]);
    drop(core);
    assert_eq!(keys(&open(&disk)), ["amp"]);
}

#[test]
fn what_is_parked_leaves_with_its_endpoint() {
    let disk = SimDisk::new();
    let mut core = open(&disk);
    let log = core.open_log("x").unwrap();
    let gone = core.attach("gone", log, EndpointOptions::default()).unwrap();
    core.append_all(NOW, &[(log, vec![fragment(1, NOW.as_millis())])]).unwrap();
    let f = core.fetch(NOW, gone, LaneSet::ALL, usize::MAX).unwrap().remove(0);
    let settled = Settled {
        lane: f.fragment.lane,
        position: f.position,
        delivered: Counts::default(),
        dropped: vec![(Reason::PARKED, f.fragment.counts)],
    };
    core.park(NOW, gone, &[(f.fragment.lane, vec![f.fragment])], &[settled]).unwrap();
    core.detach(gone);
    core.close_log(log);
    assert_eq!(core.ledger(gone).unwrap().parked, sum(&[1]));
    let maintain = |core: &mut SpoolCore<_>, seconds: std::ops::Range<u64>| {
        seconds.for_each(|second| core.maintain(NOW.saturating_add(Duration::from_secs(second))));
    };
    maintain(&mut core, 0..590);
    assert_eq!(core.ledger(gone).unwrap().parked, sum(&[1]), "it may come back");
    maintain(&mut core, 590..610);
    assert_eq!(keys(&core), Vec::<String>::new());
    assert_eq!(segments(&disk), 0, "{:?}", disk.files().keys());
}

#[test]
fn a_log_that_was_closed_leaves_nothing_behind_once_it_is_delivered() {
    for crash in [false, true] {
        let disk = SimDisk::new();
        let mut core = open(&disk);
        let old = core.open_log("old").unwrap();
        let mut amp = core.attach("amp", old, EndpointOptions::default()).unwrap();
        let append = |core: &mut SpoolCore<_>, log, id| {
            core.append_all(NOW, &[(log, vec![fragment(id, NOW.as_millis())])]).map(|_| ())
        };
        for id in 0..5 {
            append(&mut core, old, id).unwrap();
        }
        let logs = |core: &SpoolCore<_>| core.stats().logs.into_iter().map(|log| log.key).collect::<Vec<_>>();
        // To another one, back, and there again, before anything of them is delivered.
        let new = core.open_log("new").unwrap();
        for (from, to, id) in [(old, new, 5), (new, old, 6), (old, new, 7)] {
            assert_eq!(core.open_log(if to == new { "new" } else { "old" }).unwrap(), to);
            core.attach("amp", to, EndpointOptions::default()).unwrap();
            core.close_log(from);
            append(&mut core, to, id).unwrap();
            let late = append(&mut core, from, 100 + id);
            assert!(late.is_err_and(|error| error.to_string().contains("its log was closed")));
        }
        assert_eq!(logs(&core), ["old", "new"]);
        if crash {
            drop(core);
            core = open(&disk);
            let new = core.open_log("new").unwrap();
            amp = core.attach("amp", new, EndpointOptions::default()).unwrap();
        }
        let fetched = core.fetch(NOW, amp, LaneSet::ALL, usize::MAX).unwrap();
        let mut ids: Vec<_> = fetched.iter().map(|f| id_of(&f.fragment)).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..8).collect::<Vec<_>>());
        for f in fetched {
            core.settle(amp, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
        }
        assert_eq!(logs(&core), ["new"], "nobody is sent anything of the other one any more");
        let ledger = core.ledger(amp).unwrap();
        assert!(ledger.pending.is_zero() && ledger.balances(), "{ledger:?}");
        let files = disk.files();
        assert_eq!(files.keys().filter(|path| path.ends_with("/key")).count(), 1, "{:?}", files.keys());
        // It may be wanted again.
        let old = core.open_log("old").unwrap();
        core.attach("amp", old, EndpointOptions::default()).unwrap();
        append(&mut core, old, 8).unwrap();
        let fetched = core.fetch(NOW, amp, LaneSet::ALL, usize::MAX).unwrap();
        assert_eq!(fetched.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>(), [8]);
    }
}
