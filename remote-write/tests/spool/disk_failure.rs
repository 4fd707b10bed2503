//! A disk that is full, broken or read-only: samples are kept in memory, in order, and scraping goes on.

use std::io;
use std::time::Duration;

use promferry_model::{MemoryBudget, Purpose, SinkError, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, FsyncPolicy, LogId, Reason, SpoolCore, SpoolOptions, StorageState,
};
use promferry_remote_write::{Counts, Lane, LaneSet};

use crate::world::{fragment, id_of, sum};

struct Spooled {
    disk: SimDisk,
    core: SpoolCore<SimStorage>,
    log: LogId,
    endpoint: EndpointId,
    now: Timestamp,
    next: u32,
}

impl Spooled {
    fn new(fsync: FsyncPolicy, budget: MemoryBudget) -> Self {
        Self::on(SimDisk::new(), fsync, budget)
    }

    fn on(disk: SimDisk, fsync: FsyncPolicy, budget: MemoryBudget) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let (core, log, endpoint) = open(&disk, fsync, budget, now);
        Self { disk, core, log, endpoint, now, next: 0 }
    }

    fn append(&mut self) -> Result<(), SinkError> {
        let scrape = vec![fragment(self.next, 1), fragment(self.next + 1, 1)];
        self.next += 2;
        self.core.append_all(self.now, &[(self.log, scrape)]).map(drop)
    }

    fn fetch(&mut self) -> Vec<u32> {
        let fetched = self.core.fetch(self.now, self.endpoint, LaneSet::ALL, usize::MAX).unwrap();
        for f in &fetched {
            self.core.settle(self.endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
        }
        let ledger = self.core.ledger(self.endpoint).unwrap();
        assert!(ledger.balances() && ledger.pending.is_zero(), "{ledger:?}");
        fetched.iter().map(|f| id_of(&f.fragment)).collect()
    }

    fn degraded(&self) -> Option<String> {
        match self.core.stats().storage {
            StorageState::Healthy => None,
            StorageState::Degraded { error, .. } => Some(error),
        }
    }

    fn wait(&mut self) {
        self.now = self.now.saturating_add(Duration::from_secs(2));
        self.core.maintain(self.now);
    }

    fn memory(&self) -> u64 {
        self.core.stats().logs[0].memory_bytes
    }
}

fn open(
    disk: &SimDisk,
    fsync: FsyncPolicy,
    budget: MemoryBudget,
    now: Timestamp,
) -> (SpoolCore<SimStorage>, LogId, EndpointId) {
    let options = SpoolOptions { segment_bytes: 1_500, fsync, ..SpoolOptions::default() };
    let (mut core, _) = SpoolCore::open(disk.storage(), options, budget, now).unwrap();
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    (core, log, endpoint)
}

#[test]
fn a_failing_disk_is_replaced_by_memory_and_everything_goes_back_to_it_in_order() {
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::Other];
    for (kind, fsync) in kinds.into_iter().zip([FsyncPolicy::Never, FsyncPolicy::Always, FsyncPolicy::Always])
    {
        let budget = MemoryBudget::new(1 << 20);
        let mut s = Spooled::new(fsync, budget.clone());
        s.append().unwrap();
        s.disk.fail_writes(Some(kind));
        for _ in 0..10 {
            s.append().unwrap();
        }
        assert!(s.degraded().is_some());
        assert!(s.memory() > 0 && budget.used_by(Purpose::Fallback) > 20 * 300);
        s.wait();
        assert!(s.memory() > 0, "the disk still fails");
        s.disk.fail_writes(None);
        s.wait();
        assert_eq!((s.memory(), budget.used_by(Purpose::Fallback)), (0, 0));
        s.wait();
        assert_eq!(s.degraded(), None);
        s.append().unwrap();
        // It is on the disk: a process that ends now loses nothing.
        drop(s.core);
        (s.core, s.log, s.endpoint) = open(&s.disk, fsync, budget, s.now);
        assert_eq!(s.fetch(), (0..24).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_in_memory_can_be_sent_and_settled_while_the_disk_fails() {
    let budget = MemoryBudget::new(1 << 20);
    let mut s = Spooled::new(FsyncPolicy::Never, budget.clone());
    s.append().unwrap();
    s.disk.fail_writes(Some(io::ErrorKind::StorageFull));
    for _ in 0..3 {
        s.append().unwrap();
    }
    assert_eq!(s.fetch(), (0..8).collect::<Vec<_>>());
    s.append().unwrap();
    s.disk.fail_writes(None);
    s.wait();
    s.append().unwrap();
    drop(s.core);
    // The cursor was written as soon as that was possible.
    (s.core, s.log, s.endpoint) = open(&s.disk, FsyncPolicy::Never, budget, s.now);
    let ledger = s.core.ledger(s.endpoint).unwrap();
    assert!(ledger.balances());
    assert_eq!(ledger.accepted, sum(&(0..12).collect::<Vec<_>>()));
    assert_eq!(s.fetch(), (8..12).collect::<Vec<_>>());
}

#[test]
fn memory_that_runs_out_gives_up_the_oldest_and_counts_it() {
    // A memory segment is closed at 1 MiB.
    let budget = MemoryBudget::new(3 << 20);
    let mut s = Spooled::new(FsyncPolicy::Never, budget.clone());
    s.disk.fail_writes(Some(io::ErrorKind::StorageFull));
    let scrapes = 6000;
    for _ in 0..scrapes {
        s.append().unwrap();
    }
    assert!(budget.used() <= 3 << 20);
    let ledger = s.core.ledger(s.endpoint).unwrap();
    assert!(ledger.balances());
    assert!(!ledger.dropped_for(&Reason::SPOOL_FULL).is_zero());
    s.disk.fail_writes(None);
    s.wait();
    let left = s.fetch();
    assert_eq!(*left.last().unwrap(), scrapes * 2 - 1);
    assert!(left.is_sorted() && left.len() > 2000, "{}", left.len());
}

#[test]
fn memory_that_stands_in_for_the_disk_leaves_room_for_scraping_and_keeps_the_newest() {
    let budget = MemoryBudget::new(8 << 20);
    let mut s = Spooled::new(FsyncPolicy::Never, budget.clone());
    s.disk.fail_writes(Some(io::ErrorKind::StorageFull));
    for _ in 0..10_000 {
        s.append().unwrap();
        assert!(budget.used_by(Purpose::Fallback) <= budget.limit() / 2);
    }
    let page = budget.try_reserve(Purpose::Bodies, budget.limit() / 2);
    assert!(page.is_ok(), "no page can be read any more: {page:?}");
    // What could not stand there whatever was given up costs nothing of what does.
    let before = s.core.ledger(s.endpoint).unwrap();
    let mut large = fragment(0, 1);
    large.body = vec![0; 5 << 20].into();
    assert!(s.core.append_all(s.now, &[(s.log, vec![large])]).is_err());
    let ledger = s.core.ledger(s.endpoint).unwrap();
    assert!(ledger.balances());
    assert_eq!(ledger.dropped_for(&Reason::SPOOL_FULL), before.dropped_for(&Reason::SPOOL_FULL));
    let left = s.fetch();
    assert!(left.is_sorted() && left.len() > 4000, "{}", left.len());
    assert_eq!(left.last(), Some(&19_999));
}

#[test]
fn in_memory_the_log_that_holds_the_most_gives_way() {
    let mut s = Spooled::new(FsyncPolicy::Never, MemoryBudget::new(8 << 20));
    let other = s.core.open_log("y").unwrap();
    let quick = s.core.attach("quick", other, EndpointOptions::default()).unwrap();
    s.disk.fail_writes(Some(io::ErrorKind::StorageFull));
    for id in 0..10_000 {
        s.append().unwrap();
        s.core.append_all(s.now, &[(other, vec![fragment(id, 1)])]).unwrap();
        // Its endpoint takes what there is; that of the other log takes nothing.
        let fetched = s.core.fetch(s.now, quick, LaneSet::ALL, usize::MAX).unwrap();
        for f in &fetched {
            s.core.settle(quick, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
        }
        assert_eq!(fetched.len(), 1);
    }
    assert_eq!(s.core.ledger(quick).unwrap().dropped_total(), Counts::default());
    assert!(!s.core.ledger(s.endpoint).unwrap().dropped_for(&Reason::SPOOL_FULL).is_zero());
}

#[test]
fn memory_that_others_need_costs_nothing_that_is_stored() {
    let budget = MemoryBudget::new(1 << 20);
    let mut s = Spooled::new(FsyncPolicy::Never, budget.clone());
    let other = s.core.open_log("y").unwrap();
    s.core.attach("amp2", other, EndpointOptions::default()).unwrap();
    for id in 0..20 {
        s.append().unwrap();
        s.core.append_all(s.now, &[(other, vec![fragment(100 + id, 1)])]).unwrap();
    }
    let stored = |s: &Spooled| s.core.stats().logs.iter().map(|log| log.segments).collect::<Vec<_>>();
    let before = stored(&s);
    assert!(before.iter().all(|segments| *segments > 3), "{before:?}");
    s.disk.fail_writes(Some(io::ErrorKind::StorageFull));
    let pages = budget.try_reserve(Purpose::Bodies, budget.limit() - 100).unwrap();
    for _ in 0..10 {
        s.append().unwrap_err();
    }
    assert_eq!(stored(&s), before);
    drop(pages);
    s.append().unwrap();
    s.disk.fail_writes(None);
    s.wait();
    let ids: Vec<u32> = s.fetch();
    assert_eq!(ids.len(), 42);
}

#[test]
fn without_any_memory_scrapes_are_refused_by_name_and_counted() {
    let mut s = Spooled::new(FsyncPolicy::Never, MemoryBudget::new(100));
    s.append().unwrap();
    s.disk.fail_writes(Some(io::ErrorKind::StorageFull));
    let Err(SinkError::Storage(why)) = s.append() else { panic!("has to be refused") };
    assert!(why.contains("could not write") && why.contains("memory budget exceeded"), "{why}");
    let ledger = s.core.ledger(s.endpoint).unwrap();
    assert!(ledger.balances());
    assert_eq!(ledger.dropped_for(&Reason::STORAGE), sum(&[2, 3]));
    s.disk.fail_writes(None);
    s.wait();
    s.append().unwrap();
    s.wait();
    drop(s.core);
    (s.core, s.log, s.endpoint) = open(&s.disk, FsyncPolicy::Never, MemoryBudget::unlimited(), s.now);
    let ledger = s.core.ledger(s.endpoint).unwrap();
    assert!(ledger.balances());
    assert_eq!(ledger.dropped_for(&Reason::STORAGE), sum(&[2, 3]));
    assert_eq!(s.fetch(), [0, 1, 4, 5]);
}

#[test]
fn a_write_that_is_cut_short_leaves_no_half_scrape() {
    for capacity in 0..900 {
        let disk = SimDisk::new();
        // Otherwise the space for the segment would have been set aside.
        disk.without_allocation();
        let mut s = Spooled::on(disk, FsyncPolicy::Never, MemoryBudget::unlimited());
        s.append().unwrap();
        let used: usize = s.disk.files().values().map(Vec::len).sum();
        s.disk.set_capacity(Some(used as u64 + capacity));
        s.append().unwrap();
        s.append().unwrap();
        s.disk.set_capacity(None);
        s.wait();
        s.append().unwrap();
        drop(s.core);
        (s.core, s.log, s.endpoint) = open(&s.disk, FsyncPolicy::Never, MemoryBudget::unlimited(), s.now);
        assert_eq!(s.fetch(), (0..8).collect::<Vec<_>>(), "capacity {capacity}");
    }
}

#[test]
fn any_single_call_that_fails_loses_nothing() {
    let run = |fail: Option<u64>, kind| {
        let mut s = Spooled::new(FsyncPolicy::Always, MemoryBudget::unlimited());
        let before = s.disk.calls();
        if let Some(call) = fail {
            s.disk.fail_call(call, kind);
        }
        // Reading may fail too, for the moment.
        let read = |s: &mut Spooled, bytes, sent: &mut Vec<u32>| {
            for f in s.core.fetch(s.now, s.endpoint, LaneSet::ALL, bytes).unwrap() {
                s.core.settle(s.endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
                sent.push(id_of(&f.fragment));
            }
        };
        let mut sent = Vec::new();
        for round in 0..6 {
            s.append().unwrap();
            if round % 2 == 1 {
                read(&mut s, 700, &mut sent);
            }
            s.wait();
        }
        for _ in 0..2 {
            read(&mut s, usize::MAX, &mut sent);
            s.wait();
        }
        s.core.close(s.now);
        let calls = s.disk.calls() - before;
        for lane in Lane::all().take(5) {
            let of_lane: Vec<_> = sent.iter().filter(|&id| id % 5 == lane.index() as u32).collect();
            assert!(of_lane.is_sorted_by(|a, b| a < b), "call {fail:?}: {of_lane:?}");
        }
        sent.sort_unstable();
        assert_eq!(sent, (0..12).collect::<Vec<_>>(), "call {fail:?}");
        let ledger = s.core.ledger(s.endpoint).unwrap();
        assert_eq!(ledger.dropped_total(), Counts::default(), "call {fail:?}");
        drop(s.core);
        (s.core, s.log, s.endpoint) = open(&s.disk, FsyncPolicy::Always, MemoryBudget::unlimited(), s.now);
        assert_eq!(s.core.ledger(s.endpoint).unwrap(), ledger, "call {fail:?}");
        calls
    };
    for call in 0..run(None, io::ErrorKind::Other) {
        run(Some(call), io::ErrorKind::Other);
        run(Some(call), io::ErrorKind::StorageFull);
    }
}

#[test]
fn what_the_disk_does_not_take_before_the_process_ends_is_counted() {
    let disk = SimDisk::new();
    let now = Timestamp::from_millis(1_000_000);
    let options = || SpoolOptions { segment_bytes: 1_500, ..SpoolOptions::default() };
    let open = |disk: &SimDisk| {
        let (mut core, _) =
            SpoolCore::open(disk.storage(), options(), MemoryBudget::unlimited(), now).unwrap();
        let log = core.open_log("x").unwrap();
        let ends =
            ["keeps up", "is down"].map(|key| core.attach(key, log, EndpointOptions::default()).unwrap());
        (core, log, ends)
    };
    let (mut core, log, [up, down]) = open(&disk);
    core.append_all(now, &[(log, vec![fragment(0, 1)])]).unwrap();
    disk.set_capacity(Some(0));
    for id in 1..20 {
        core.append_all(now, &[(log, vec![fragment(id, 1)])]).unwrap();
    }
    assert!(core.stats().logs[0].memory_bytes > 0);
    for f in core.fetch(now, up, LaneSet::ALL, usize::MAX).unwrap() {
        core.settle(up, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
    }
    // Some of it is in flight, the rest not even read.
    let in_flight = core.fetch(now, down, LaneSet::ALL, 8 * 300).unwrap();
    assert_eq!(in_flight.len(), 8);
    core.close(now);
    let everything = sum(&(0..20).collect::<Vec<_>>());
    let ledgers = [up, down].map(|endpoint| core.ledger(endpoint).unwrap());
    assert!(ledgers.iter().all(|ledger| ledger.balances() && ledger.accepted == everything), "{ledgers:?}");
    assert_eq!(ledgers[0].delivered, everything);
    let lost = ledgers[1].dropped_for(&Reason::STORAGE);
    assert!(!lost.is_zero() && ledgers[1].pending == everything - lost, "{ledgers:?}");
    assert_eq!(core.stats().logs[0].memory_bytes, 0);
    drop(core);
    disk.set_capacity(None);
    let (mut core, _, ends) = open(&disk);
    assert_eq!(ends.map(|endpoint| core.ledger(endpoint).unwrap()), ledgers);
    let left = core.fetch(now, ends[1], LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(sum(&left.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>()), ledgers[1].pending);
    assert!(core.fetch(now, ends[0], LaneSet::ALL, usize::MAX).unwrap().is_empty());
}
