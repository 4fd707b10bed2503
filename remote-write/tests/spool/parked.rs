//! What is parked is in the parked queue or still in the endpoint's own, never in both, never in neither.

use std::collections::BTreeSet;

use promferry_model::{MemoryBudget, SeededRng, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, FsyncPolicy, LedgerSnapshot, LogId, Reason, Settled, SpoolCore,
    SpoolOptions, StoredFragment,
};
use promferry_remote_write::{Counts, Fragment, Lane, LaneSet};

use crate::world::{Promise, counts_of, fragment, id_of, sum};

const LANES: usize = 5;

/// One endpoint that parks what it is told to, and the account of what was done.
struct Parking {
    disk: SimDisk,
    fsync: FsyncPolicy,
    core: Option<SpoolCore<SimStorage>>,
    log: Option<LogId>,
    endpoint: Option<EndpointId>,
    next: u32,
    now: i64,
    stored: BTreeSet<u32>,
    settled: BTreeSet<u32>,
    /// Stored or settled while the crash came.
    uncertain: BTreeSet<u32>,
    note: String,
}

impl Parking {
    fn new(disk: SimDisk, fsync: FsyncPolicy, note: String) -> Self {
        Self {
            disk,
            fsync,
            core: None,
            log: None,
            endpoint: None,
            next: 0,
            now: 1_000_000,
            stored: BTreeSet::new(),
            settled: BTreeSet::new(),
            uncertain: BTreeSet::new(),
            note,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn open(&mut self) {
        let options = SpoolOptions {
            max_bytes: Some(200_000),
            segment_bytes: 1_200,
            fsync: self.fsync,
            cursor_file_bytes: 3_000,
            index_records: 6,
            ..SpoolOptions::default()
        };
        let budget = MemoryBudget::unlimited();
        self.core = match SpoolCore::open(self.disk.storage(), options, budget, self.now()) {
            Ok((core, _)) => Some(core),
            Err(error) => {
                assert!(self.disk.crashed(), "{error}; {}", self.note);
                return;
            }
        };
        let Some(core) = &mut self.core else { return };
        let Ok(log) = core.open_log("x") else {
            assert!(self.disk.crashed());
            return;
        };
        self.endpoint = Some(core.attach("a", log, EndpointOptions::default()).unwrap());
        self.log = Some(log);
    }

    fn working(&mut self) -> Option<(&mut SpoolCore<SimStorage>, EndpointId)> {
        if self.disk.crashed() {
            return None;
        }
        Some((self.core.as_mut()?, self.endpoint?))
    }

    fn reopen(&mut self) {
        let now = self.now();
        if let Some(mut core) = self.core.take() {
            core.close(now);
        }
        if !self.disk.crashed() {
            self.open();
        }
    }

    fn append(&mut self, fragments: u32) {
        self.now += 1000;
        let (now, log) = (self.now(), self.log);
        let ids: Vec<u32> = (self.next..self.next + fragments).collect();
        self.next += fragments;
        let Some((core, _)) = self.working() else { return };
        let scrape = ids.iter().map(|&id| fragment(id, now.as_millis())).collect();
        let _ = core.append_all(now, &[(log.unwrap(), scrape)]);
        if self.disk.crashed() { &mut self.uncertain } else { &mut self.stored }.extend(ids);
    }

    /// Fetches from the endpoint or its parked queue, parks what `parks` says in the lane it says, and settles
    /// the rest as delivered.
    fn deliver(&mut self, from_parked: bool, max_bytes: usize, parks: impl Fn(u32) -> Option<u8>) {
        let now = self.now();
        let Some((core, endpoint)) = self.working() else { return };
        let from = if from_parked { core.parked(endpoint) } else { Some(endpoint) };
        let Some(from) = from else { return };
        let fetched = core.fetch(now, from, LaneSet::ALL, max_bytes).unwrap();
        let (mut parked, mut settled) = (Vec::new(), Vec::new());
        let mut delivered_ids = BTreeSet::new();
        for lane in Lane::all() {
            let of_lane: Vec<_> = fetched.iter().filter(|f| f.fragment.lane == lane).collect();
            let Some(last) = of_lane.last() else { continue };
            let mut moved = Counts::default();
            let mut delivered = Counts::default();
            let mut fragments = Vec::new();
            for stored in &of_lane {
                let id = id_of(&stored.fragment);
                match parks(id) {
                    Some(to) => {
                        moved += counts_of(id);
                        fragments.push(Fragment { lane: Lane::new(to).unwrap(), ..stored.fragment.clone() });
                    }
                    None => {
                        delivered += counts_of(id);
                        delivered_ids.insert(id);
                    }
                }
            }
            parked.push((lane, fragments));
            let dropped = vec![(Reason::PARKED, moved)];
            settled.push(Settled { lane, position: last.position, delivered, dropped });
        }
        let queue = core.park(now, from, &parked, &settled);
        if self.disk.crashed() {
            self.uncertain.extend(delivered_ids);
        } else {
            queue.unwrap();
            self.settled.extend(delivered_ids);
        }
    }

    fn ledger(&self) -> LedgerSnapshot {
        self.core.as_ref().unwrap().ledger(self.endpoint.unwrap()).unwrap()
    }

    fn fetch_all(&mut self, parked: bool) -> Vec<StoredFragment> {
        let now = self.now();
        let endpoint = self.endpoint.unwrap();
        let core = self.core.as_mut().unwrap();
        let from = if parked { core.parked(endpoint) } else { Some(endpoint) };
        let mut fetched = Vec::new();
        let Some(from) = from else { return fetched };
        loop {
            let more = core.fetch(now, from, LaneSet::ALL, 1_000).unwrap();
            if more.is_empty() {
                break;
            }
            fetched.extend(more);
        }
        for lane in Lane::all() {
            let of_lane: Vec<_> = fetched.iter().filter(|f| f.fragment.lane == lane).collect();
            let Some(last) = of_lane.last() else { continue };
            let delivered = of_lane.iter().fold(Counts::default(), |sum, f| sum + f.fragment.counts);
            core.settle(from, lane, last.position, delivered, &[]).unwrap();
        }
        fetched
    }

    /// Starts again, reads everything, and compares it with the account.
    fn check(&mut self, promise: Promise) {
        self.open();
        let before = self.ledger();
        assert!(before.balances(), "{}: {before:?}", self.note);
        let ids = |fetched: &[StoredFragment]| fetched.iter().map(|f| id_of(&f.fragment)).collect::<Vec<_>>();
        let (own, parked) = (self.fetch_all(false), self.fetch_all(true));
        // Without syncs the cursors may be older than what is parked, which is then parked again.
        let ordered = if promise == Promise::Everything { vec![&own, &parked] } else { vec![&own] };
        for (fetched, lane) in ordered.iter().flat_map(|fetched| Lane::all().map(move |lane| (fetched, lane)))
        {
            for taken_from in 0..LANES as u32 {
                let of_lane = fetched.iter().filter(|f| f.fragment.lane == lane).map(|f| id_of(&f.fragment));
                let of_lane: Vec<_> = of_lane.filter(|id| id % LANES as u32 == taken_from).collect();
                assert!(of_lane.is_sorted_by(|a, b| a < b), "{}: {lane:?}, {of_lane:?}", self.note);
            }
        }
        let all: Vec<u32> = ids(&own).into_iter().chain(ids(&parked)).collect();
        let unique: BTreeSet<u32> = all.iter().copied().collect();
        if promise == Promise::Everything {
            assert_eq!(before.pending, sum(&all), "{}: {before:?}", self.note);
            assert_eq!(before.parked, sum(&ids(&parked)), "{}: {before:?}", self.note);
            assert_eq!(unique.len(), all.len(), "{}: twice {all:?}", self.note);
            assert!(unique.is_disjoint(&self.settled), "{}: again {unique:?}", self.note);
            let missing: Vec<_> =
                self.stored.difference(&self.settled).filter(|id| !unique.contains(id)).collect();
            assert!(missing.iter().all(|id| self.uncertain.contains(id)), "{}: {missing:?}", self.note);
            let (certain, perhaps) = (sum(&self.stored), sum(self.uncertain.difference(&self.stored)));
            assert!(
                before.accepted == certain || before.accepted == certain + perhaps,
                "{}: {certain:?} {perhaps:?} {before:?}",
                self.note
            );
            assert!(before.dropped.is_empty(), "{}: {before:?}", self.note);
        }
        let after = self.ledger();
        assert!(after.balances() && after.pending.is_zero(), "{}: {after:?}", self.note);
        assert_eq!(after.accepted, before.accepted, "{}", self.note);
        self.reopen();
        assert_eq!(self.ledger(), after, "{}", self.note);
        assert!(self.fetch_all(false).is_empty() && self.fetch_all(true).is_empty(), "{}", self.note);
    }
}

/// Parks from several lanes at once, into other lanes, again from the parked queue, over restarts.
fn script(world: &mut Parking) {
    world.open();
    world.append(7);
    world.deliver(false, 10_000, |id| (id % 2 == 1).then_some(0));
    for round in 0..4 {
        world.append(3 + round % 3);
        world.deliver(false, 1_500, |id| (id % 3 == 1).then_some((id % 2) as u8));
    }
    world.reopen();
    world.deliver(true, 900, |id| (id % 4 == 1).then_some(16));
    world.append(4);
    world.deliver(false, 10_000, |id| (id % 3 != 0).then_some(1));
    world.deliver(true, 900, |id| (id % 5 == 1).then_some(32));
    world.reopen();
    world.deliver(true, 100_000, |_| None);
    world.append(LANES as u32);
    world.deliver(false, 10_000, |_| Some(0));
    world.append(2);
}

fn calls(fsync: FsyncPolicy) -> u64 {
    let disk = SimDisk::new();
    script(&mut Parking::new(disk.clone(), fsync, String::new()));
    disk.calls()
}

#[test]
fn the_script_itself_loses_and_repeats_nothing() {
    for fsync in [FsyncPolicy::Never, FsyncPolicy::Always] {
        let mut world = Parking::new(SimDisk::new(), fsync, format!("{fsync:?}"));
        script(&mut world);
        assert!(!world.ledger().parked.is_zero());
        world.core = None;
        world.check(Promise::Everything);
    }
}

#[test]
fn a_process_that_ends_after_any_call_parks_once_or_not_at_all() {
    for fsync in [FsyncPolicy::Never, FsyncPolicy::Always] {
        for call in 0..calls(fsync) {
            for torn in [false, true] {
                let disk = SimDisk::new();
                if torn {
                    disk.crash_within(call);
                } else {
                    disk.crash_after(call);
                }
                let note = format!("crash at call {call}, torn: {torn}, {fsync:?}");
                let mut world = Parking::new(disk, fsync, note);
                script(&mut world);
                world.core = None;
                world.disk.restart();
                world.check(Promise::Everything);
            }
        }
    }
}

#[test]
fn a_machine_that_is_lost_after_any_call_keeps_what_was_synced_and_a_ledger_that_balances() {
    for (fsync, promise) in
        [(FsyncPolicy::Always, Promise::Everything), (FsyncPolicy::Never, Promise::OrderAndBalance)]
    {
        for call in 0..calls(fsync) {
            for seed in 0..3 {
                let disk = SimDisk::new();
                disk.crash_within(call);
                let note = format!("crash at call {call}, seed {seed}, {fsync:?}");
                let mut world = Parking::new(disk, fsync, note);
                script(&mut world);
                world.core = None;
                world.disk.lose_machine(&mut SeededRng::new(call * 16 + seed));
                world.check(promise);
            }
        }
    }
}

#[test]
fn parked_queues_take_a_bounded_part_of_the_spool() {
    let disk = SimDisk::new();
    let mut world = Parking::new(disk, FsyncPolicy::Never, String::new());
    world.open();
    for _ in 0..200 {
        world.append(LANES as u32);
        world.deliver(false, 100_000, |_| Some(0));
    }
    let stats = world.core.as_ref().unwrap().stats();
    let parked = stats.logs.iter().find(|log| log.key == "a (parked)").unwrap();
    assert!(parked.bytes <= 200_000 / 4 && parked.max_bytes == 200_000 / 4, "{parked:?}");
    assert_eq!(stats.endpoints.len(), 1, "the parked queue is part of its endpoint");
    assert!(stats.endpoints[0].parked_bytes > 0 && stats.endpoints[0].pending_bytes == 0);
    let ledger = world.ledger();
    assert!(ledger.balances() && !ledger.dropped_for(&Reason::SPOOL_FULL).is_zero(), "{ledger:?}");
    assert_eq!(ledger.dropped.len(), 1, "{ledger:?}");
}
