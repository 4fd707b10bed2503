//! A spool on a simulated disk beside a plain account of what was done to it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use promferry_model::{MemoryBudget, SeededRng, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, FsyncPolicy, LogId, Reason, SpoolCore, SpoolOptions, StoredFragment,
};
use promferry_remote_write::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};

/// Bytes of each body.
pub(crate) const BODY: usize = 300;

/// What has to hold after a crash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing acknowledged is lost or repeated.
    Everything,
    /// What is there is in order and accounted for.
    OrderAndBalance,
}

#[derive(Default)]
struct Account {
    log: String,
    /// What it was to be sent: acknowledged appends.
    stored: BTreeSet<u32>,
    /// Appends during which the machine crashed.
    maybe_stored: BTreeSet<u32>,
    delivered: BTreeSet<u32>,
    maybe_settled: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    in_flight: Vec<StoredFragment>,
}

/// The spool and the account.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    fsync: FsyncPolicy,
    core: Option<SpoolCore<SimStorage>>,
    logs: BTreeMap<String, LogId>,
    ids: BTreeMap<String, EndpointId>,
    accounts: BTreeMap<String, Account>,
    next: u32,
    now: i64,
    notes: Vec<String>,
}

pub(crate) fn fragment(id: u32, at: i64) -> Fragment {
    let mut body = vec![id as u8; BODY];
    body[..4].copy_from_slice(&id.to_le_bytes());
    Fragment {
        lane: lane_of(id),
        protocol: if id.is_multiple_of(2) { Protocol::V1 } else { Protocol::V2 },
        compression: if id.is_multiple_of(3) { Compression::Snappy } else { Compression::None },
        counts: counts_of(id),
        raw_len: BODY as u32 * 2,
        min_timestamp: Timestamp::from_millis(at - 1),
        max_timestamp: Timestamp::from_millis(at),
        body: Bytes::from(body),
    }
}

pub(crate) fn id_of(fragment: &Fragment) -> u32 {
    u32::from_le_bytes(fragment.body[..4].try_into().unwrap())
}

pub(crate) fn lane_of(id: u32) -> Lane {
    Lane::new((id % 5) as u8).unwrap()
}

/// Different for each fragment, so that sums tell which ones they are of.
pub(crate) fn counts_of(id: u32) -> Counts {
    Counts { samples: u64::from(id) + 1, histograms: u64::from(id % 3), exemplars: u64::from(id % 2) }
}

pub(crate) fn sum<'a>(ids: impl IntoIterator<Item = &'a u32>) -> Counts {
    ids.into_iter().fold(Counts::default(), |sum, id| sum + counts_of(*id))
}

impl World {
    pub(crate) fn new(disk: SimDisk, fsync: FsyncPolicy) -> Self {
        Self {
            disk,
            fsync,
            core: None,
            logs: BTreeMap::new(),
            ids: BTreeMap::new(),
            accounts: BTreeMap::new(),
            next: 0,
            now: 1_000_000,
            notes: Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn options(&self) -> SpoolOptions {
        SpoolOptions {
            max_bytes: Some(12_000),
            segment_bytes: 1_200,
            fsync: self.fsync,
            cursor_file_bytes: 1_000,
            index_records: 6,
            ..SpoolOptions::default()
        }
    }

    pub(crate) fn open(&mut self) {
        let now = Timestamp::from_millis(self.now);
        let opened = SpoolCore::open(self.disk.storage(), self.options(), MemoryBudget::unlimited(), now);
        match opened {
            Ok((core, _)) => self.core = Some(core),
            Err(error) => assert!(self.disk.crashed(), "{error}; {:?}", self.notes),
        }
        self.logs.clear();
        self.ids.clear();
        for account in self.accounts.values_mut() {
            account.in_flight.clear();
        }
        let known: Vec<_> = self.accounts.iter().map(|(k, a)| (k.clone(), a.log.clone())).collect();
        for (endpoint, log) in known {
            self.attach(&endpoint, &log);
        }
    }

    /// Ends in the normal way and starts again.
    pub(crate) fn reopen(&mut self) {
        self.close();
        if !self.disk.crashed() {
            self.open();
        }
    }

    pub(crate) fn close(&mut self) {
        let now = Timestamp::from_millis(self.now);
        if let Some(mut core) = self.core.take() {
            core.close(now);
        }
    }

    /// From the next start on the endpoint takes no part.
    pub(crate) fn leave(&mut self, endpoint: &str) {
        self.accounts.remove(endpoint);
    }

    pub(crate) fn forget(&mut self, endpoint: &str) {
        let Some(core) = self.working() else { return };
        let forgotten = core.forget(endpoint);
        assert!(forgotten.is_ok() || self.disk.crashed(), "{forgotten:?}; {:?}", self.notes);
    }

    fn working(&mut self) -> Option<&mut SpoolCore<SimStorage>> {
        if self.disk.crashed() { None } else { self.core.as_mut() }
    }

    pub(crate) fn attach(&mut self, endpoint: &str, log: &str) {
        let Some(core) = self.working() else { return };
        let Ok(id) = core.open_log(log) else {
            assert!(self.disk.crashed());
            return;
        };
        let attached = core.attach(endpoint, id, EndpointOptions::default()).unwrap();
        self.logs.insert(log.to_owned(), id);
        self.ids.insert(endpoint.to_owned(), attached);
        self.accounts.entry(endpoint.to_owned()).or_default().log = log.to_owned();
    }

    /// A scrape while the disk takes nothing, and then the disk takes it.
    pub(crate) fn append_while_the_disk_fails(&mut self, logs: &[&str], fragments: u32) {
        let before = self.next;
        self.disk.fail_writes(Some(std::io::ErrorKind::StorageFull));
        self.append(logs, fragments);
        self.disk.fail_writes(None);
        let in_memory = before..self.next;
        // As long as it is in memory it may be lost.
        for account in self.accounts.values_mut() {
            let (lasting, passing) = account.stored.iter().partition(|id| !in_memory.contains(id));
            account.stored = lasting;
            account.maybe_stored.extend::<BTreeSet<u32>>(passing);
        }
        self.now += 2_000;
        self.maintain();
        if !self.disk.crashed() {
            for account in self.accounts.values_mut() {
                account.stored.append(&mut account.maybe_stored);
            }
        }
    }

    /// One scrape with as many fragments for each of these logs.
    pub(crate) fn append(&mut self, logs: &[&str], fragments: u32) {
        self.now += 1000;
        let now = Timestamp::from_millis(self.now);
        let mut scrape = Vec::new();
        let mut added = BTreeMap::new();
        for &log in logs {
            let ids: Vec<u32> = (0..fragments).map(|i| self.next + i).collect();
            self.next += fragments;
            let Some(&id) = self.logs.get(log) else { return };
            scrape.push((id, ids.iter().map(|&id| fragment(id, now.as_millis())).collect()));
            added.insert(log.to_owned(), ids);
        }
        let Some(core) = self.working() else { return };
        let stored = core.append_all(now, &scrape).is_ok();
        let crashed = self.disk.crashed();
        assert!(stored || crashed, "{:?}", self.notes);
        for account in self.accounts.values_mut() {
            if let Some(ids) = added.get(&account.log) {
                if crashed { &mut account.maybe_stored } else { &mut account.stored }.extend(ids);
            }
        }
    }

    pub(crate) fn fetch(&mut self, endpoint: &str, max_bytes: usize) {
        let now = Timestamp::from_millis(self.now);
        let Some(&id) = self.ids.get(endpoint) else { return };
        let Some(core) = self.working() else { return };
        let fetched = core.fetch(now, id, LaneSet::ALL, max_bytes).unwrap();
        self.accounts.get_mut(endpoint).unwrap().in_flight.extend(fetched);
    }

    pub(crate) fn settle_all(&mut self, endpoint: &str) {
        for lane in 0..5 {
            self.settle_lane(endpoint, lane);
        }
    }

    pub(crate) fn settle_lane(&mut self, endpoint: &str, lane: u32) {
        self.settle(endpoint, lane, None);
    }

    /// Fetches, and settles all of it as refused.
    pub(crate) fn drop_fetched(&mut self, endpoint: &str, max_bytes: usize) {
        self.fetch(endpoint, max_bytes);
        for lane in 0..5 {
            self.settle(endpoint, lane, Some(Reason::REFUSED));
        }
    }

    fn settle(&mut self, endpoint: &str, lane: u32, dropped: Option<Reason>) {
        let Some(&id) = self.ids.get(endpoint) else { return };
        let lane = Lane::new(lane as u8).unwrap();
        let account = self.accounts.get_mut(endpoint).unwrap();
        let of_lane: Vec<_> = account.in_flight.iter().filter(|f| f.fragment.lane == lane).cloned().collect();
        let Some(last) = of_lane.last() else { return };
        let ids: BTreeSet<u32> = of_lane.iter().map(|f| id_of(&f.fragment)).collect();
        let Some(core) = self.working() else { return };
        let (delivered, refused) = match dropped.clone() {
            None => (sum(&ids), vec![]),
            Some(reason) => (Counts::default(), vec![(reason, sum(&ids))]),
        };
        core.settle(id, lane, last.position, delivered, &refused).unwrap();
        let crashed = self.disk.crashed();
        let account = self.accounts.get_mut(endpoint).unwrap();
        account.in_flight.retain(|f| f.fragment.lane != lane);
        match (crashed, dropped) {
            (true, _) => account.maybe_settled.extend(ids),
            (false, None) => account.delivered.extend(ids),
            (false, Some(_)) => account.refused.extend(ids),
        }
    }

    pub(crate) fn maintain(&mut self) {
        let now = Timestamp::from_millis(self.now);
        if let Some(core) = self.working() {
            core.maintain(now);
        }
    }

    pub(crate) fn dropped_anything(&mut self) -> bool {
        self.open();
        let (core, ids) = (self.core.as_ref().unwrap(), self.ids.values());
        let dropped =
            ids.map(|&id| core.ledger(id).unwrap().dropped_for(&Reason::SPOOL_FULL)).any(|d| !d.is_zero());
        self.core = None;
        dropped
    }

    pub(crate) fn end_process(&mut self) {
        self.core = None;
        self.disk.restart();
        self.disk.fail_writes(None);
    }

    pub(crate) fn lose_machine(&mut self, rng: &mut SeededRng) {
        self.core = None;
        self.disk.lose_machine(rng);
        self.disk.fail_writes(None);
    }

    /// Starts again, reads everything, and compares it with the account.
    pub(crate) fn check(&mut self, promise: Promise) {
        self.open();
        let now = Timestamp::from_millis(self.now);
        let notes = self.notes.clone();
        for endpoint in self.core.as_ref().unwrap().stats().endpoints {
            assert!(endpoint.ledger.balances(), "{notes:?}: {endpoint:?}");
        }
        let mut ledgers = BTreeMap::new();
        for (key, account) in &self.accounts {
            let notes = format!("{notes:?}, endpoint {key}");
            let Some(&id) = self.ids.get(key) else { continue };
            let core = self.core.as_mut().unwrap();
            let before = core.ledger(id).unwrap();
            assert!(before.balances(), "{notes}: {before:?}");
            let mut fetched = Vec::new();
            loop {
                let more = core.fetch(now, id, LaneSet::ALL, 1_000).unwrap();
                if more.is_empty() {
                    break;
                }
                fetched.extend(more);
            }
            let ledger = core.ledger(id).unwrap();
            assert!(ledger.balances(), "{notes}: {ledger:?}");
            let ids: Vec<u32> = fetched.iter().map(|f| id_of(&f.fragment)).collect();
            if promise == Promise::Everything {
                assert_eq!(ledger.pending, sum(&ids), "{notes}: {ledger:?}");
            } else {
                // What is damaged waits behind what is in flight.
                assert!(ledger.pending.samples >= sum(&ids).samples, "{notes}: {ledger:?}");
            }
            for lane in 0..5 {
                let lane: Vec<_> = ids.iter().filter(|&&id| id % 5 == lane).collect();
                assert!(lane.is_sorted_by(|a, b| a < b), "{notes}: {lane:?}");
            }
            for f in &fetched {
                assert_eq!(f.fragment, fragment(id_of(&f.fragment), f.fragment.max_timestamp.as_millis()));
            }
            let unique: BTreeSet<u32> = ids.iter().copied().collect();
            assert_eq!(unique.len(), ids.len(), "{notes}: {ids:?}");
            if promise == Promise::Everything {
                account.check(&unique, &ledger, &notes);
            }

            for lane in 0..5 {
                let of_lane: Vec<_> = fetched.iter().filter(|f| f.fragment.lane.index() == lane).collect();
                let Some(last) = of_lane.last() else { continue };
                let ids: Vec<u32> = of_lane.iter().map(|f| id_of(&f.fragment)).collect();
                core.settle(id, last.fragment.lane, last.position, sum(&ids), &[]).unwrap();
            }
            let ledger = core.ledger(id).unwrap();
            assert!(ledger.balances() && ledger.pending.is_zero(), "{notes}: {ledger:?}");
            ledgers.insert(key.clone(), ledger);
        }
        self.reopen();
        for (key, ledger) in ledgers {
            let core = self.core.as_mut().unwrap();
            assert_eq!(core.ledger(self.ids[&key]).unwrap(), ledger, "{notes:?}, endpoint {key}");
            assert!(core.fetch(now, self.ids[&key], LaneSet::ALL, 1).unwrap().is_empty());
            assert_eq!(core.stats().settle_mismatches, 0);
        }
        self.close();
    }
}

impl Account {
    fn check(
        &self,
        fetched: &BTreeSet<u32>,
        ledger: &promferry_remote_write::spool::LedgerSnapshot,
        notes: &str,
    ) {
        let known: BTreeSet<u32> = self.stored.union(&self.maybe_stored).copied().collect();
        assert!(fetched.is_subset(&known), "{notes}: {fetched:?} {known:?}");
        let settled: BTreeSet<u32> = self.delivered.union(&self.refused).copied().collect();
        assert!(fetched.is_disjoint(&settled), "{notes}: repeated {fetched:?}");
        // A scrape is there as a whole or not at all.
        let (certain, perhaps) = (sum(&self.stored), sum(&self.maybe_stored));
        assert!(
            ledger.accepted == certain || ledger.accepted == certain + perhaps,
            "{notes}: {certain:?} {perhaps:?} {ledger:?}"
        );
        assert!(ledger.delivered.samples >= sum(&self.delivered).samples, "{notes}: {ledger:?}");
        assert!(
            ledger.delivered.samples <= sum(&self.delivered).samples + sum(&self.maybe_settled).samples,
            "{notes}: {ledger:?}"
        );
        // What is missing was dropped because the log was full, the oldest first in each lane.
        let gone: BTreeSet<u32> = self
            .stored
            .iter()
            .filter(|id| !fetched.contains(id) && !settled.contains(id) && !self.maybe_settled.contains(id))
            .copied()
            .collect();
        let full = ledger.dropped_for(&Reason::SPOOL_FULL).samples;
        assert!(sum(&gone).samples <= full, "{notes}: gone {gone:?}, {ledger:?}");
        assert!(
            full <= sum(&gone).samples + sum(&self.maybe_settled).samples + sum(&self.maybe_stored).samples,
            "{notes}: gone {gone:?}, {ledger:?}"
        );
        for id in &gone {
            let older = fetched.iter().find(|f| *f % 5 == id % 5 && *f < id);
            assert!(older.is_none(), "{notes}: {id} is gone and {older:?} is not");
        }
        for (reason, counts) in &ledger.dropped {
            assert!(
                [Reason::SPOOL_FULL, Reason::REFUSED].contains(reason),
                "{notes}: {reason} {counts:?} {ledger:?}"
            );
        }
    }
}
