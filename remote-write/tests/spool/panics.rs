//! A fault in the spool's thread: nothing acknowledged is lost, and scraping goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use promferry_model::{Clock, MemoryBudget, Purpose, SystemClock, Timestamp};
use promferry_remote_write::spool::sim::SimDisk;
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, FsyncPolicy, LogId, ProtocolChoice, Reason, Spool, SpoolOptions,
    StoredFragment,
};
use promferry_remote_write::{Lane, LaneSet, Protocol};

use crate::world::{fragment, id_of, sum};

async fn open(disk: &SimDisk, budget: MemoryBudget) -> (Spool, LogId, EndpointId) {
    let options =
        SpoolOptions { segment_bytes: 1_500, fsync: FsyncPolicy::Always, ..SpoolOptions::default() };
    let clock = Arc::new(SystemClock::new());
    let (spool, _) = Spool::open(disk.storage(), options, budget, clock).unwrap();
    // Another log before it: numbers must not get mixed up.
    let other = spool.open_log("a").await.unwrap();
    spool.attach("other", other, EndpointOptions::default()).await.unwrap();
    let log = spool.open_log("x").await.unwrap();
    let endpoint = spool.attach("amp", log, EndpointOptions::default()).await.unwrap();
    (spool, log, endpoint)
}

/// What a sender sees: scrapes that were acknowledged and what it then got to send.
#[derive(Default)]
struct Seen {
    acknowledged: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    sent: Vec<u32>,
    in_hand: Vec<StoredFragment>,
}

impl Seen {
    async fn append(&mut self, spool: &Spool, log: LogId, ids: std::ops::Range<u32>) {
        for id in ids {
            let stored = spool.append(vec![(log, vec![fragment(id, 1)])]).await;
            if stored.is_ok() { &mut self.acknowledged } else { &mut self.refused }.insert(id);
        }
    }

    async fn fetch(&mut self, spool: &Spool, endpoint: EndpointId, bytes: usize) {
        self.in_hand.extend(spool.fetch(endpoint, LaneSet::ALL, bytes).await.unwrap_or_default());
    }

    async fn send(&mut self, spool: &Spool, endpoint: EndpointId, count: usize) {
        let count = count.min(self.in_hand.len());
        for stored in self.in_hand.drain(..count) {
            self.sent.push(id_of(&stored.fragment));
            let counts = stored.fragment.counts;
            spool.settle(endpoint, stored.fragment.lane, stored.position, counts, vec![]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_panic_at_any_call_loses_nothing_acknowledged_and_repeats_nothing() {
    for call in 0.. {
        let disk = SimDisk::new();
        let (spool, log, endpoint) = open(&disk, MemoryBudget::unlimited()).await;
        let before = disk.calls();
        disk.panic_at(call);
        let mut seen = Seen::default();
        seen.append(&spool, log, 0..9).await;
        seen.fetch(&spool, endpoint, 1_200).await;
        seen.send(&spool, endpoint, 2).await;
        seen.append(&spool, log, 9..14).await;
        seen.fetch(&spool, endpoint, 1_500).await;
        seen.send(&spool, endpoint, 4).await;
        seen.append(&spool, log, 14..16).await;
        for _ in 0..3 {
            seen.fetch(&spool, endpoint, usize::MAX).await;
        }
        let in_order = |seen: &Seen| {
            Lane::all().all(|lane| {
                let of_lane = seen.sent.iter().filter(|id| **id % 5 == lane.index() as u32);
                of_lane.is_sorted_by(|a, b| a < b)
            })
        };
        seen.send(&spool, endpoint, usize::MAX).await;
        assert!(in_order(&seen), "call {call}: {:?}", seen.sent);
        let sent: BTreeSet<u32> = seen.sent.iter().copied().collect();
        assert_eq!(sent.len(), seen.sent.len(), "call {call}: {:?}", seen.sent);
        assert!(seen.acknowledged.is_subset(&sent), "call {call}: {sent:?} {:?}", seen.refused);
        assert!(seen.refused.len() <= 1, "call {call}: {:?}", seen.refused);
        let ledger = spool.ledger(endpoint).await.unwrap();
        assert!(ledger.balances() && ledger.pending.is_zero(), "call {call}: {ledger:?}");
        assert_eq!(ledger.dropped, [], "call {call}");
        let calls = disk.calls() - before;
        spool.close().await;
        let (spool, _, endpoint) = open(&disk, MemoryBudget::unlimited()).await;
        assert_eq!(spool.ledger(endpoint).await.unwrap(), ledger, "call {call}");
        spool.close().await;
        if calls <= call {
            return;
        }
    }
}

#[tokio::test]
async fn a_spool_that_panics_again_and_again_goes_on_in_memory_and_leaves_the_disk_as_it_is() {
    let disk = SimDisk::new();
    let budget = MemoryBudget::new(1 << 20);
    let (spool, log, endpoint) = open(&disk, budget.clone()).await;
    let mut seen = Seen::default();
    seen.append(&spool, log, 0..5).await;
    for call in 0..2_000 {
        disk.panic_at(call);
    }
    let mut lost = Seen::default();
    lost.append(&spool, log, 5..6).await;
    assert!(lost.acknowledged.is_empty());
    seen.append(&spool, log, 6..10).await;
    assert_eq!(seen.acknowledged.len(), 9, "scraping goes on: {:?}", seen.refused);
    assert!(budget.used_by(Purpose::Fallback) > 0);
    seen.fetch(&spool, endpoint, usize::MAX).await;
    seen.send(&spool, endpoint, usize::MAX).await;
    assert_eq!(seen.sent, [6, 7, 8, 9]);
    spool.close().await;
    disk.restart();
    let (spool, _, endpoint) = open(&disk, MemoryBudget::unlimited()).await;
    let left = spool.fetch(endpoint, LaneSet::ALL, usize::MAX).await.unwrap();
    let left: Vec<u32> = left.iter().map(|stored| id_of(&stored.fragment)).collect();
    assert!(left.starts_with(&[0, 1, 2, 3, 4]), "{left:?}");
    spool.close().await;
}

#[tokio::test]
async fn what_was_only_in_memory_when_it_panicked_is_counted_less_what_was_delivered() {
    let disk = SimDisk::new();
    let (spool, log, endpoint) = open(&disk, MemoryBudget::unlimited()).await;
    let mut seen = Seen::default();
    seen.append(&spool, log, 0..1).await;
    disk.set_capacity(Some(0));
    seen.append(&spool, log, 1..20).await;
    seen.fetch(&spool, endpoint, 12 * 300).await;
    seen.send(&spool, endpoint, 10).await;
    assert_eq!(seen.sent.len(), 10);
    disk.panic_at(0);
    // The next call that comes to the disk.
    let chosen_at = Timestamp::from_millis(0);
    spool.choose_protocol(endpoint, ProtocolChoice { protocol: Protocol::V1, chosen_at, url_hash: 0 });
    let ledger = spool.ledger(endpoint).await.unwrap();
    assert!(ledger.balances(), "{ledger:?}");
    let lost = ledger.dropped_for(&Reason::STORAGE);
    let stored = ledger.pending;
    assert!(!lost.is_zero(), "{ledger:?}");
    assert_eq!(ledger.delivered, sum(&seen.sent), "{ledger:?}");
    let everything = sum(&(0..20).collect::<Vec<_>>());
    assert!(ledger.delivered + lost + stored == everything, "{ledger:?}, not {everything:?}");
    spool.close().await;
}

/// A clock that is told how much time has passed.
struct ToldClock(std::sync::Mutex<Duration>);

impl Clock for ToldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000).saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

#[tokio::test]
async fn panics_that_lie_far_apart_do_not_add_up() {
    let disk = SimDisk::new();
    let budget = MemoryBudget::new(1 << 20);
    let clock = Arc::new(ToldClock(std::sync::Mutex::default()));
    let (spool, _) =
        Spool::open(disk.storage(), SpoolOptions::default(), budget.clone(), clock.clone()).unwrap();
    let log = spool.open_log("x").await.unwrap();
    let endpoint = spool.attach("amp", log, EndpointOptions::default()).await.unwrap();
    let mut seen = Seen::default();
    for id in 0..8 {
        *clock.0.lock().unwrap() += Duration::from_secs(2 * 60 * 60);
        disk.panic_at(0);
        let _ = spool.append(vec![(log, vec![fragment(100 + id, 1)])]).await;
        seen.append(&spool, log, id..id + 1).await;
        assert!(spool.is_working());
    }
    assert_eq!((seen.acknowledged.len(), budget.used_by(Purpose::Fallback)), (8, 0));
    assert!(spool.ledger(endpoint).await.unwrap().balances());
    spool.close().await;
    assert!(!spool.is_working());
}
