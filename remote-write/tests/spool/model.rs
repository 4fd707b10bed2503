//! Any sequence of calls, beside a model that is nothing but lists.

use std::collections::VecDeque;
use std::time::Duration;

use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, LogId, Position, Reason, SpoolCore, SpoolOptions,
};
use promferry_remote_write::{Counts, Lane, LaneSet};
use proptest::prelude::*;

use crate::world::{BODY, counts_of, fragment, id_of, lane_of, sum};

const LOGS: usize = 2;
const ENDPOINTS: usize = 3;
const LANES: usize = 5;

#[derive(Clone, Debug)]
enum Op {
    Append { x: u32, y: u32 },
    Fetch { endpoint: usize, lanes: u8, max_bytes: usize },
    Settle { endpoint: usize, lane: usize, count: usize, deliver: bool },
    Rewind { endpoint: usize, lane: usize },
    Attach { endpoint: usize, log: usize },
    Kill,
    Reopen,
    FailWrites(bool),
    Maintain,
}

fn op() -> impl Strategy<Value = Op> {
    let endpoint = 0..ENDPOINTS;
    let lane = 0..LANES;
    prop_oneof![
        6 => (0..4u32, 0..3u32).prop_map(|(x, y)| Op::Append { x, y }),
        6 => (endpoint.clone(), any::<u8>(), 0..3000usize)
            .prop_map(|(endpoint, lanes, max_bytes)| Op::Fetch { endpoint, lanes, max_bytes }),
        6 => (endpoint.clone(), lane.clone(), 1..6usize, any::<bool>())
            .prop_map(|(endpoint, lane, count, deliver)| Op::Settle { endpoint, lane, count, deliver }),
        1 => (endpoint.clone(), lane).prop_map(|(endpoint, lane)| Op::Rewind { endpoint, lane }),
        1 => (endpoint, 0..LOGS).prop_map(|(endpoint, log)| Op::Attach { endpoint, log }),
        1 => Just(Op::Kill),
        1 => Just(Op::Reopen),
        1 => any::<bool>().prop_map(Op::FailWrites),
        1 => Just(Op::Maintain),
    ]
}

#[derive(Default)]
struct Expected {
    log: usize,
    accepted: Counts,
    delivered: Counts,
    dropped: Counts,
    in_flight: [VecDeque<(u32, Position)>; LANES],
    waiting: [VecDeque<u32>; LANES],
}

impl Expected {
    fn pending(&self) -> Counts {
        let flying = self.in_flight.iter().flatten().map(|(id, _)| id);
        sum(flying.chain(self.waiting.iter().flatten()))
    }

    /// What is in flight is fetched again.
    fn rewind(&mut self, lane: usize) {
        for (id, _) in std::mem::take(&mut self.in_flight[lane]).into_iter().rev() {
            self.waiting[lane].push_front(id);
        }
    }
}

struct Run {
    disk: SimDisk,
    core: SpoolCore<SimStorage>,
    logs: Vec<LogId>,
    ids: Vec<EndpointId>,
    expected: Vec<Expected>,
    next: u32,
    now: Timestamp,
}

fn open(
    disk: &SimDisk,
    expected: &[Expected],
    now: Timestamp,
) -> (SpoolCore<SimStorage>, Vec<LogId>, Vec<EndpointId>) {
    let options = SpoolOptions {
        segment_bytes: 2_000,
        cursor_file_bytes: 3_000,
        index_records: 8,
        ..SpoolOptions::default()
    };
    let (mut core, report) =
        SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), now).unwrap();
    assert_eq!((report.damaged, report.lost), (0, Counts::default()));
    let logs: Vec<_> = (0..LOGS).map(|log| core.open_log(&format!("log {log}")).unwrap()).collect();
    let attach = |(number, e): (usize, &Expected)| {
        core.attach(&format!("endpoint {number}"), logs[e.log], EndpointOptions::default()).unwrap()
    };
    let ids = expected.iter().enumerate().map(attach).collect();
    (core, logs, ids)
}

impl Run {
    fn new() -> Self {
        let disk = SimDisk::new();
        let now = Timestamp::from_millis(1_000_000);
        let expected: Vec<_> =
            (0..ENDPOINTS).map(|n| Expected { log: n % LOGS, ..Expected::default() }).collect();
        let (core, logs, ids) = open(&disk, &expected, now);
        Self { disk, core, logs, ids, expected, next: 0, now }
    }

    fn heal(&mut self) {
        self.disk.fail_writes(None);
        for _ in 0..2 {
            self.now = self.now.saturating_add(Duration::from_secs(2));
            self.core.maintain(self.now);
        }
    }

    fn restart(mut self) -> Self {
        drop(self.core);
        self.disk.restart();
        (self.core, self.logs, self.ids) = open(&self.disk, &self.expected, self.now);
        for expected in &mut self.expected {
            (0..LANES).for_each(|lane| expected.rewind(lane));
        }
        self
    }

    fn step(mut self, op: Op) -> Self {
        self.now = self.now.saturating_add(Duration::from_millis(300));
        match op {
            Op::Append { x, y } => {
                let mut scrape = Vec::new();
                for (log, count) in [x, y].into_iter().enumerate() {
                    let ids = self.next..self.next + count;
                    self.next += count;
                    scrape.push((self.logs[log], ids.clone().map(|id| fragment(id, 7)).collect()));
                    for expected in self.expected.iter_mut().filter(|e| e.log == log) {
                        for id in ids.clone() {
                            expected.accepted += counts_of(id);
                            expected.waiting[lane_of(id).index()].push_back(id);
                        }
                    }
                }
                self.core.append_all(self.now, &scrape).unwrap();
            }
            Op::Fetch { endpoint, lanes, max_bytes } => self.fetch(endpoint, lanes, max_bytes),
            Op::Settle { endpoint, lane, count, deliver } => {
                let expected = &mut self.expected[endpoint];
                let count = count.min(expected.in_flight[lane].len());
                let settled: Vec<_> = expected.in_flight[lane].drain(..count).collect();
                if let Some(&(_, position)) = settled.last() {
                    let counts = sum(settled.iter().map(|(id, _)| id));
                    let (delivered, dropped) = if deliver {
                        (counts, vec![])
                    } else {
                        (Counts::default(), vec![(Reason::REFUSED, counts)])
                    };
                    expected.delivered += delivered;
                    expected.dropped += counts - delivered;
                    let lane = Lane::new(lane as u8).unwrap();
                    self.core.settle(self.ids[endpoint], lane, position, delivered, &dropped).unwrap();
                }
            }
            Op::Rewind { endpoint, lane } => {
                self.expected[endpoint].rewind(lane);
                self.core.rewind(self.ids[endpoint], Lane::new(lane as u8).unwrap()).unwrap();
            }
            Op::Attach { endpoint, log } => {
                self.expected[endpoint].log = log;
                let key = format!("endpoint {endpoint}");
                self.core.attach(&key, self.logs[log], EndpointOptions::default()).unwrap();
            }
            Op::Kill => {
                self.heal();
                self = self.restart();
            }
            Op::Reopen => {
                self.heal();
                self.core.close(self.now);
                self = self.restart();
            }
            Op::FailWrites(fail) => {
                self.disk.fail_writes(fail.then_some(std::io::ErrorKind::StorageFull));
            }
            Op::Maintain => self.core.maintain(self.now),
        }
        self.check();
        self
    }

    fn fetch(&mut self, endpoint: usize, lanes: u8, max_bytes: usize) {
        let wanted: LaneSet =
            Lane::all().take(LANES).filter(|lane| lanes & (1 << lane.index()) != 0).collect();
        let fetched = self.core.fetch(self.now, self.ids[endpoint], wanted, max_bytes).unwrap();
        let expected = &mut self.expected[endpoint];
        for f in &fetched {
            let (id, lane) = (id_of(&f.fragment), f.fragment.lane);
            assert!(wanted.contains(lane));
            assert_eq!(expected.waiting[lane.index()].pop_front(), Some(id));
            assert_eq!(f.fragment, fragment(id, 7));
            expected.in_flight[lane.index()].push_back((id, f.position));
        }
        let left = wanted.iter().any(|lane| !expected.waiting[lane.index()].is_empty());
        let enough = fetched.len() * BODY >= max_bytes && !fetched.is_empty();
        assert!(enough || !left, "{} fetched, more are waiting", fetched.len());
        assert!(fetched.len() <= 1 || (fetched.len() - 1) * BODY < max_bytes);
    }

    fn check(&self) {
        for (id, expected) in self.ids.iter().zip(&self.expected) {
            let ledger = self.core.ledger(*id).unwrap();
            assert!(ledger.balances(), "{ledger:?}");
            assert_eq!(
                (ledger.accepted, ledger.delivered, ledger.dropped_total(), ledger.pending),
                (expected.accepted, expected.delivered, expected.dropped, expected.pending())
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_spool_does_what_lists_would_do(ops in proptest::collection::vec(op(), 1..120)) {
        let mut run = Run::new();
        for op in ops {
            run = run.step(op);
        }
        run.heal();
        let mut run = run.restart();
        for endpoint in 0..ENDPOINTS {
            run.fetch(endpoint, u8::MAX, usize::MAX);
        }
        run.check();
    }
}
