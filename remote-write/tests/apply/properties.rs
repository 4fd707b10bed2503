//! Whatever changes follow each other, each endpoint gets what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use promferry_model::{Labels, PromDuration, SystemClock};
use promferry_remote_write::spool::{MemoryStorage, SpoolOptions};
use promferry_remote_write::{Endpoint, EndpointChange, RemoteWrite};
use proptest::prelude::*;

use crate::sender;
use crate::setup::{Taken, Target, cluster, config, drained, drop_numbers, in_memory};

/// What an endpoint may be configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    /// Drops this number's series.
    drops: Option<usize>,
    max_samples_per_send: usize,
    /// Whether it is reached in a new way.
    anew: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// Each of these targets is scraped.
    Scrape(Vec<usize>),
    /// These are the external labels and endpoints from now on, while these targets' scrapes are under way.
    Apply { labels: usize, endpoints: [Option<Setting>; ENDPOINTS], open: Vec<usize> },
}

const ENDPOINTS: usize = 3;
const TARGETS: usize = 3;
const SERIES: usize = 3;

fn setting() -> impl Strategy<Value = Setting> {
    (proptest::option::of(0..SERIES), prop_oneof![Just(4), Just(50)], any::<bool>())
        .prop_map(|(drops, max_samples_per_send, anew)| Setting { drops, max_samples_per_send, anew })
}

fn step() -> impl Strategy<Value = Step> {
    let targets = || proptest::sample::subsequence((0..TARGETS).collect::<Vec<_>>(), 0..=TARGETS);
    let endpoints = proptest::array::uniform3(proptest::option::weighted(0.75, setting()));
    prop_oneof![
        3 => targets().prop_map(Step::Scrape),
        2 => (0..3_usize, endpoints, targets())
            .prop_map(|(labels, endpoints, open)| Step::Apply { labels, endpoints, open }),
    ]
}

/// What should arrive where: by endpoint, in the order of each series.
type Expected = [Vec<(String, i64)>; ENDPOINTS];

struct World {
    remote: RemoteWrite,
    taken: [Taken; ENDPOINTS],
    targets: Vec<Target>,
    labels: usize,
    endpoints: [Option<Setting>; ENDPOINTS],
    expected: Expected,
    number: i64,
}

const CLUSTERS: [&str; 3] = ["blue", "green", ""];

impl World {
    async fn new() -> Self {
        let storage = MemoryStorage::new();
        let clock = Arc::new(SystemClock::new());
        let remote = sender::start_in(storage, SpoolOptions::default(), clock, cluster("blue"), vec![]).await;
        let targets = (0..TARGETS).map(|n| Target::open(&remote, &format!("t{n}"), SERIES)).collect();
        let (taken, expected) = Default::default();
        Self { remote, taken, targets, labels: 0, endpoints: [None; ENDPOINTS], expected, number: 0 }
    }

    /// Notes what a scrape that begins now is to bring.
    fn expect(&mut self, target: usize) {
        for (endpoint, setting) in self.endpoints.iter().enumerate() {
            let Some(setting) = setting else { continue };
            for number in (0..SERIES).filter(|number| Some(*number) != setting.drops) {
                let series = format!("{} t{target} {number}", CLUSTERS[self.labels]);
                self.expected[endpoint].push((series, self.number));
            }
        }
    }

    async fn apply(&mut self, labels: usize, endpoints: [Option<Setting>; ENDPOINTS]) {
        let changes = (0..ENDPOINTS).filter_map(|endpoint| {
            let setting = endpoints[endpoint]?;
            let mut config = config(&format!("endpoint-{endpoint}"), ([127, 0, 0, 1], 9).into());
            config.queue_config.max_samples_per_send = setting.max_samples_per_send;
            config.queue_config.min_backoff = PromDuration::from_millis(1);
            config.queue_config.max_backoff = PromDuration::from_millis(5);
            config.write_relabel_configs =
                setting.drops.map(|number| drop_numbers(&number.to_string())).unwrap_or_default();
            Some(match self.endpoints[endpoint] {
                Some(_) if !setting.anew => EndpointChange::SameTransport(config),
                _ => EndpointChange::Anew(Endpoint {
                    config,
                    transport: in_memory(&self.taken[endpoint], 3),
                    explain_denial: None,
                    describe_body: None,
                }),
            })
        });
        let labels =
            Labels::from_pairs([("cluster", CLUSTERS[labels])].into_iter().filter(|(_, v)| !v.is_empty()));
        self.remote.apply(labels, changes.collect()).await.unwrap();
    }

    async fn take(&mut self, step: &Step) {
        self.number += 1;
        match step {
            Step::Scrape(targets) => {
                for &target in targets {
                    self.expect(target);
                    self.targets[target].scrape(self.number).await;
                }
            }
            Step::Apply { labels, endpoints, open } => {
                // Who only comes or goes may get a scrape that is under way, or not.
                let open = if self.has_profiles_of(*labels, endpoints) { &[] } else { open.as_slice() };
                for &target in open {
                    self.expect(target);
                    self.targets[target].begin(self.number);
                }
                self.apply_around(*labels, *endpoints, open).await;
                (self.labels, self.endpoints) = (*labels, *endpoints);
            }
        }
    }

    /// Whether nobody would be sent anything in another way.
    fn has_profiles_of(&self, labels: usize, endpoints: &[Option<Setting>; ENDPOINTS]) -> bool {
        let drops = |endpoints: &[Option<Setting>; ENDPOINTS]| -> BTreeSet<_> {
            endpoints.iter().flatten().map(|setting| setting.drops).collect()
        };
        let is_empty = drops(endpoints).is_empty();
        drops(endpoints) == drops(&self.endpoints) && (is_empty || self.labels == labels)
    }

    /// Ends these targets' scrapes while the change is under way.
    async fn apply_around(&mut self, labels: usize, endpoints: [Option<Setting>; ENDPOINTS], open: &[usize]) {
        let mut targets = std::mem::take(&mut self.targets);
        let commit = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            for &target in open {
                targets[target].commit().await.unwrap();
            }
        };
        tokio::join!(self.apply(labels, endpoints), commit);
        self.targets = targets;
    }

    /// Lets everybody have what they were to be sent, and compares.
    async fn settle(mut self) {
        let all = [Some(Setting { drops: None, max_samples_per_send: 50, anew: true }); ENDPOINTS];
        self.apply(self.labels, all).await;
        let status = drained(&self.remote).await;
        for (endpoint, (taken, expected)) in self.taken.iter().zip(&self.expected).enumerate() {
            let by_series = |samples: &[(String, i64)]| {
                let mut series: BTreeMap<String, Vec<i64>> = BTreeMap::new();
                samples.iter().for_each(|(name, at)| series.entry(name.clone()).or_default().push(*at));
                series
            };
            assert_eq!(by_series(&taken.lock().unwrap()), by_series(expected), "endpoint {endpoint}");
            let ledger = &status[&format!("endpoint-{endpoint}")].ledger;
            assert_eq!(ledger.delivered.samples as usize, expected.len(), "{ledger:?}");
            assert_eq!(ledger.accepted, ledger.delivered);
        }
        assert_eq!(self.remote.spool().stats().await.unwrap().logs.len(), 1, "of logs none is left behind");
        self.remote.shutdown(Duration::from_secs(5)).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Whatever is changed when, every scrape reaches those that there were when it began, encoded for them as it was
    /// then, once and in order.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(steps in proptest::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.take(step).await;
            }
            world.settle().await;
        });
    }
}
