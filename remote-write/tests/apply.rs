//! Endpoints and external labels change while scrapes and requests go on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod receiver;
mod sender;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use promferry_model::{
    Clock as _, Labels, MemoryBudget, PromDuration, Sample, SeriesId, SinkError, SystemClock, TargetSink,
    Timestamp,
};
use promferry_relabel::{Action, RelabelConfig};
use promferry_remote_write::delivery::Transport;
use promferry_remote_write::spool::sim::SimDisk;
use promferry_remote_write::spool::{
    DiskStorage, FsyncPolicy, MemoryStorage, Spool, SpoolError, SpoolOptions,
};
use promferry_remote_write::{
    Applied, Commit, Counts, Endpoint, EndpointChange, EndpointStatus, RemoteWrite, RemoteWriteConfig,
    RemoteWriteTarget, StartError, wire,
};
use proptest::prelude::*;
use receiver::{Receiver, Verdict};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, service_fn};

/// The time of the first scrape: lately, for what is old is not kept for who has left.
static START: LazyLock<i64> = LazyLock::new(|| SystemClock::new().now().as_millis() - 60_000);

fn config(name: &str, address: SocketAddr) -> RemoteWriteConfig {
    let mut config = RemoteWriteConfig {
        url: format!("http://{address}/api/v1/write"),
        name: name.to_owned(),
        ..RemoteWriteConfig::default()
    };
    config.queue_config.batch_send_deadline = PromDuration::from_millis(10);
    config.queue_config.max_backoff = PromDuration::from_millis(50);
    config.metadata_config.send = false;
    config
}

fn cluster(name: &str) -> Labels {
    Labels::from_pairs([("cluster", name)])
}

async fn start(dir: &Path, labels: Labels, configs: Vec<RemoteWriteConfig>) -> RemoteWrite {
    let endpoints = configs.into_iter().map(sender::endpoint).collect();
    sender::start(&dir.join("spool"), Arc::new(SystemClock::new()), labels, endpoints).await
}

fn anew(config: RemoteWriteConfig) -> EndpointChange {
    sender::endpoint(config).into()
}

fn same(config: &RemoteWriteConfig) -> EndpointChange {
    EndpointChange::SameTransport(config.clone())
}

fn names(applied: &Applied) -> [Vec<&str>; 3] {
    [&applied.added, &applied.changed, &applied.removed]
        .map(|names| names.iter().map(String::as_str).collect())
}

struct Target {
    sink: RemoteWriteTarget,
    series: Vec<SeriesId>,
}

impl Target {
    fn open(remote: &RemoteWrite, instance: &str, series: usize) -> Self {
        let (sink, series) = sender::gauges(remote, instance, (0..series).map(|number| number.to_string()));
        Self { sink, series }
    }

    fn begin(&mut self, number: i64) {
        let at = Timestamp::from_millis(*START + number);
        self.sink.begin(at);
        for &id in &self.series {
            self.sink.sample(id, Sample::new(at, number as f64));
        }
    }

    fn commit(&mut self) -> Commit {
        self.sink.commit()
    }

    async fn scrape(&mut self, number: i64) {
        self.begin(number);
        self.commit().await.unwrap();
    }
}

/// Every endpoint by name; every ledger balances.
async fn status(remote: &RemoteWrite) -> BTreeMap<String, EndpointStatus> {
    let status = remote.status().await.unwrap();
    for endpoint in &status {
        assert!(endpoint.ledger.balances(), "{endpoint:?}");
    }
    status.into_iter().map(|endpoint| (endpoint.key.clone(), endpoint)).collect()
}

/// Waits until nothing waits any more; 30 s at most.
async fn drained(remote: &RemoteWrite) -> BTreeMap<String, EndpointStatus> {
    remote.flush(Duration::from_secs(30)).await.unwrap();
    let status = status(remote).await;
    assert!(status.values().all(|endpoint| endpoint.ledger.pending.is_zero()), "{status:?}");
    status
}

/// The numbers of the scrapes of which a series came, in the order of arrival.
fn numbers(receiver: &Receiver) -> BTreeMap<String, Vec<i64>> {
    let samples = receiver.samples().into_iter();
    samples.map(|(series, samples)| (series, samples.iter().map(|(at, _)| at - *START).collect())).collect()
}

/// Targets that are scraped one after the other for as long as it takes.
struct Load {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicI64>,
    scraping: Vec<JoinHandle<i64>>,
}

impl Load {
    fn start(remote: &RemoteWrite, targets: usize, series: usize) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let scraping = (0..targets).map(|target| {
            let mut target = Target::open(remote, &format!("host-{target}:80"), series);
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            tokio::spawn(async move {
                let mut scrapes = 0;
                while !stop.load(Ordering::Relaxed) {
                    target.scrape(scrapes).await;
                    scrapes += 1;
                    rounds.fetch_max(scrapes, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
                scrapes
            })
        });
        let scraping = scraping.collect();
        Self { stop, rounds, scraping }
    }

    /// Waits until a target was scraped so many times more.
    async fn go_on_for(&self, scrapes: i64) {
        let end = self.rounds.load(Ordering::Relaxed) + scrapes;
        while self.rounds.load(Ordering::Relaxed) < end {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How many scrapes there were, of each target.
    async fn stop(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut scrapes = Vec::new();
        for target in self.scraping {
            scrapes.push(target.await.unwrap());
        }
        scrapes
    }
}

/// A receiver that takes its time, so that requests are in flight at any moment, and refuses some for now. What it has
/// it takes, whoever waits for the answer.
async fn slow_receiver() -> Receiver {
    let receiver = Receiver::start().await;
    receiver.state.lock().unwrap().is_thorough = true;
    let mut requests = 0;
    receiver.answer_by(move |_| {
        requests += 1;
        let status = if requests % 7 == 3 { 503 } else { 200 };
        Verdict { after: Duration::from_millis(15), ..(status, String::new()).into() }
    });
    receiver
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_added_changed_removed_under_load() {
    const TARGETS: usize = 6;
    const SERIES: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let [stays, old, new, leaves, added] = [
        slow_receiver().await,
        slow_receiver().await,
        slow_receiver().await,
        slow_receiver().await,
        slow_receiver().await,
    ];
    let config_of = |name: &str, receiver: &Receiver| config(name, receiver.address);
    let first =
        [config_of("stays", &stays), config_of("changes", &old), config_of("leaves", &leaves)].to_vec();
    let remote = start(dir.path(), cluster("blue"), first.clone()).await;
    let load = Load::start(&remote, TARGETS, SERIES);
    load.go_on_for(30).await;

    // One stays, one moves, one leaves, one comes.
    let moved = config_of("changes", &new);
    let second = vec![anew(config_of("comes", &added)), same(&first[0]), anew(moved.clone())];
    let applied = remote.apply(cluster("blue"), second).await.unwrap();
    assert_eq!(names(&applied), [vec!["comes"], vec!["changes"], vec!["leaves"]]);
    assert!(!applied.external_labels);
    let keys: Vec<_> = remote.status().await.unwrap().into_iter().map(|endpoint| endpoint.key).collect();
    assert_eq!(keys, ["comes", "stays", "changes"], "in the order of the configuration");
    let left_behind = leaves.count();
    load.go_on_for(30).await;
    assert_eq!(leaves.count(), left_behind, "nothing goes to who has left");

    // The one that left comes back; the one that moved is sent something else by the same way.
    let mut faster = moved.clone();
    faster.queue_config.max_samples_per_send = 50;
    faster.send_exemplars = true;
    let third =
        vec![same(&first[0]), same(&config_of("comes", &added)), same(&faster), anew(first[2].clone())];
    let applied = remote.apply(cluster("blue"), third).await.unwrap();
    assert_eq!(names(&applied), [vec!["leaves"], vec!["changes"], vec![]]);
    load.go_on_for(30).await;
    let scrapes = load.stop().await;
    let status = drained(&remote).await;

    let all = scrapes.iter().sum::<i64>() as u64 * SERIES as u64;
    for (name, is_there_all_along) in
        [("stays", true), ("changes", true), ("leaves", false), ("comes", false)]
    {
        let ledger = &status[name].ledger;
        assert_eq!(ledger.delivered, ledger.accepted, "{name}: {ledger:?}");
        assert_eq!(ledger.accepted.samples == all, is_there_all_along, "{name}: {ledger:?} of {all}");
    }
    let delivered = |name: &str| status[name].ledger.delivered.samples as usize;
    assert_eq!(delivered("stays"), stays.count());
    assert_eq!(delivered("changes"), old.count() + new.count());
    assert_eq!(delivered("leaves"), leaves.count());
    assert_eq!(delivered("comes"), added.count());

    let of = |receivers: &[&Receiver], series: &str| -> Vec<i64> {
        let all = receivers.iter().flat_map(|receiver| numbers(receiver).remove(series).unwrap_or_default());
        all.collect()
    };
    assert_eq!(numbers(&stays).len(), TARGETS * SERIES);
    for (series, came) in numbers(&stays) {
        let target: usize = series.split("host-").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
        let end = scrapes[target];
        let every: Vec<i64> = (0..end).collect();
        assert_eq!(came, every, "{series}");
        assert_eq!(of(&[&old, &new], &series), every, "{series}: in order, first here and then there");
        let late = of(&[&added], &series);
        assert!(!late.is_empty() && late == (end - late.len() as i64..end).collect::<Vec<_>>(), "{series}");
        let twice = of(&[&leaves], &series);
        let gap = twice.windows(2).position(|pair| pair[1] != pair[0] + 1).unwrap();
        assert_eq!((twice[0], *twice.last().unwrap()), (0, end - 1), "{series}");
        assert!(twice[..=gap].is_sorted() && twice[gap + 1] > twice[gap], "{series}: {twice:?}");
        assert_eq!(twice.windows(2).filter(|pair| pair[1] != pair[0] + 1).count(), 1, "{series}: {twice:?}");
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn external_labels_change_from_one_scrape_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let config = config("amp", receiver.address);
    let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
    let mut early = Target::open(&remote, "early:80", 3);
    let mut late = Target::open(&remote, "late:80", 3);
    let mut other = Target::open(&remote, "other:80", 3);
    let generation = early.sink.generation();
    for number in 0..3 {
        for target in [&mut early, &mut late, &mut other] {
            target.scrape(number).await;
        }
    }
    // One scrape began before and ends after; one was taken back.
    late.begin(3);
    other.begin(3);
    other.sink.abort();
    let applying = tokio::spawn({
        let (remote, changes) = (remote.clone(), vec![same(&config)]);
        async move { remote.apply(cluster("green"), changes).await.unwrap() }
    });
    // Until it is green: what begins then is not stored before what began earlier is.
    let mut number = 3;
    let mut waiting = loop {
        assert!(number < 10_000, "it never waits");
        early.begin(number);
        let mut commit = early.commit();
        number += 1;
        if tokio::time::timeout(Duration::from_millis(500), &mut commit).await.is_err() {
            break commit;
        }
    };
    assert!(!applying.is_finished());
    late.commit().await.unwrap();
    (&mut waiting).await.unwrap();
    assert!(applying.await.unwrap().external_labels);
    let switched = number - 1;
    for target in [&mut early, &mut late, &mut other] {
        target.scrape(number).await;
        assert_eq!(target.sink.generation(), generation, "nobody has to admit anything anew");
    }
    let status = drained(&remote).await;
    let expected = |labels: &str, instance: &str| -> Vec<i64> {
        let series = format!("__name__=m,cluster={labels},instance={instance}:80,job=test,number=1");
        numbers(&receiver).remove(&series).unwrap_or_default()
    };
    // A machine that is held up may have made it wait before.
    let first = expected("green", "early")[0];
    assert!(first == switched || first == number, "{first}");
    assert_eq!(expected("blue", "early"), (0..first).collect::<Vec<_>>());
    assert_eq!(expected("green", "early"), (first..=number).collect::<Vec<_>>());
    assert_eq!((expected("blue", "late"), expected("green", "late")), (vec![0, 1, 2, 3], vec![number]));
    assert_eq!((expected("blue", "other"), expected("green", "other")), (vec![0, 1, 2], vec![number]));
    let bits = receiver.samples().into_values().flatten().map(|(_, bits)| f64::from_bits(bits));
    assert_eq!(bits.filter(|value| value.is_nan()).count(), 0, "no series ended");
    assert_eq!(status["amp"].ledger.delivered.samples as usize, receiver.count());
    assert_eq!(status["amp"].jobs[0].active_series, 9);
    assert_eq!(remote.spool().stats().await.unwrap().logs.len(), 1, "the log of the old labels is gone");
    assert_eq!(remote.active_series(), 9);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_endpoint_keeps_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let [stays, other] = [Receiver::start().await, Receiver::start().await];
    let mut config_of_stays = config("stays", stays.address);
    let config_of_other = config("other", other.address);
    let configs = vec![config_of_stays.clone(), config_of_other.clone()];
    let remote = start(dir.path(), cluster("blue"), configs).await;
    let mut target = Target::open(&remote, "a:80", 5);
    let mut number = 0;
    let mut scrape = async |receivers: &[&Receiver]| {
        target.scrape(number).await;
        number += 1;
        drained(&remote).await;
        for receiver in receivers {
            assert_eq!(numbers(receiver).into_values().flatten().max(), Some(number - 1));
        }
    };
    scrape(&[&stays, &other]).await;
    let attempts = status(&remote).await["stays"].delivery.attempts;
    assert!(attempts > 0);
    // The other one is reached in another way, goes and comes back.
    for others in [vec![anew(config_of_other.clone())], vec![], vec![anew(config_of_other.clone())]] {
        let mut changes = vec![same(&config_of_stays)];
        changes.extend(others);
        remote.apply(cluster("blue"), changes).await.unwrap();
        scrape(&[&stays]).await;
    }
    // What is encoded for it changes, and what is warned of, but not how it is reached.
    remote.apply(cluster("green"), vec![same(&config_of_stays)]).await.unwrap();
    scrape(&[&stays]).await;
    config_of_stays.active_series_limit = 10;
    config_of_stays.send_exemplars = true;
    let applied = remote.apply(cluster("green"), vec![same(&config_of_stays)]).await.unwrap();
    assert_eq!(names(&applied), [vec![], vec!["stays"], vec![]]);
    scrape(&[&stays]).await;
    let kept = &status(&remote).await["stays"];
    assert_eq!(kept.delivery.attempts, attempts + 5, "its statistics go on");
    assert_eq!(kept.limits[0].used, 5.0);
    assert!(remote.apply(cluster("green"), vec![same(&config_of_stays)]).await.unwrap().is_nothing());
    assert_eq!(stays.connections(), 1);
    // Delivery begins anew, by the same way.
    config_of_stays.queue_config.max_shards = 7;
    remote.apply(cluster("green"), vec![same(&config_of_stays)]).await.unwrap();
    scrape(&[&stays]).await;
    assert_eq!(status(&remote).await["stays"].delivery.attempts, 1);
    assert_eq!(stays.connections(), 1);
    stays.assert_once_in_order();
    remote.shutdown(Duration::from_secs(20)).await;
}

/// Drops the series whose number matches.
fn drop_numbers(regex: &str) -> Vec<RelabelConfig> {
    let rule = RelabelConfig {
        source_labels: vec!["number".into()],
        regex: Some(regex.into()),
        action: Action::Drop,
        ..RelabelConfig::default()
    };
    vec![rule]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_apply_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = [Receiver::start().await, Receiver::start().await];
    let configs = [config("first", first.address), config("second", second.address)];
    let remote = start(dir.path(), cluster("blue"), configs.to_vec()).await;
    let mut target = Target::open(&remote, "a:80", 5);
    target.scrape(0).await;
    let before = drained(&remote).await;

    let moved = || anew(config("first", second.address));
    let bad = |change: &dyn Fn(&mut RemoteWriteConfig)| {
        let mut config = configs[1].clone();
        change(&mut config);
        config
    };
    let cases: [(&str, Vec<EndpointChange>, &str); 5] = [
        (
            "an option that can't be",
            vec![moved(), anew(bad(&|config| config.queue_config.max_shards = 0))],
            "remote_write endpoint second: queue_config.max_shards: max_shards has to be at least 1",
        ),
        (
            "a rule that can't be compiled",
            vec![moved(), same(&bad(&|config| config.write_relabel_configs = drop_numbers("(")))],
            "remote_write endpoint second: write_relabel_configs.0",
        ),
        ("two of one name", vec![moved(), moved()], "two remote_write endpoints are called first"),
        (
            "the transport of nobody",
            vec![moved(), same(&config("third", second.address))],
            "there is no remote_write endpoint third whose transport could stay",
        ),
        (
            "two without a name at one address",
            vec![anew(config("", first.address)), anew(config("", first.address))],
            "two remote_write endpoints are called http://",
        ),
    ];
    for (what, changes, expected) in cases {
        let error = remote.apply(cluster("green"), changes).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{what}: {error}");
    }
    let after = drained(&remote).await;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, before) in before {
        assert_eq!(
            (&before.url, &before.delivery.attempts),
            (&after[&name].url, &after[&name].delivery.attempts)
        );
    }
    assert_eq!(remote.spool().stats().await.unwrap().logs.len(), 1);
    target.scrape(1).await;
    drained(&remote).await;
    for receiver in [first, second] {
        assert_eq!(receiver.connections(), 1);
        let came = numbers(&receiver);
        assert!(
            came.iter().all(|(series, came)| series.contains("cluster=blue") && came == &[0, 1]),
            "{came:?}"
        );
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

/// The samples of an endpoint in the order in which they came: series, and number of the scrape.
type Taken = Arc<Mutex<Vec<(String, i64)>>>;

/// An endpoint in memory, which refuses one request in so many for now.
fn in_memory(taken: &Taken, one_in: usize) -> Transport {
    let (taken, requests) = (Arc::clone(taken), Arc::new(Mutex::new(0)));
    BoxCloneSyncService::new(service_fn(move |request: Request<Bytes>| {
        let (taken, requests) = (Arc::clone(&taken), Arc::clone(&requests));
        async move {
            let mut answer = Response::new(Bytes::new());
            let number = {
                let mut requests = requests.lock().unwrap();
                *requests += 1;
                *requests
            };
            let message = wire::decode_v1(request.body(), 1 << 20).unwrap();
            if number % one_in == 0 {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            for series in message.timeseries.into_iter().filter(|_| number % one_in != 0) {
                let value =
                    |name| series.labels.iter().find(|label| label.name == name).map(|label| &label.value);
                let text =
                    ["cluster", "instance", "number"].map(|name| value(name).cloned().unwrap_or_default());
                taken
                    .lock()
                    .unwrap()
                    .extend(series.samples.iter().map(|sample| (text.join(" "), sample.timestamp - *START)));
            }
            // It has them, whether the answer arrives or not.
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<_, BoxError>(answer)
        }
    }))
}

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

/// Copies a directory as a crash would leave it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_change_finds_the_same_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let [amp, gone] = [Receiver::start().await, Receiver::start().await];
    let configs = [config("amp", amp.address), config("gone", gone.address)];
    let remote = start(dir.path(), cluster("blue"), configs.to_vec()).await;
    let mut target = Target::open(&remote, "a:80", 10);
    for number in 0..3 {
        target.scrape(number).await;
    }
    drained(&remote).await;
    amp.answer(503, "away");
    gone.answer(503, "away");
    for number in 3..6 {
        target.scrape(number).await;
    }
    let mut changed = configs[0].clone();
    changed.write_relabel_configs = drop_numbers("7");
    remote.apply(cluster("green"), vec![anew(changed.clone())]).await.unwrap();
    for number in 6..9 {
        target.scrape(number).await;
    }
    let before = status(&remote).await.remove("amp").unwrap().ledger;
    assert_eq!((before.delivered.samples, before.pending.samples), (30, 30 + 27));

    // As it is now, and as an orderly end leaves it.
    let crashed = dir.path().join("crashed/spool");
    copy(&dir.path().join("spool"), &crashed);
    remote.shutdown(Duration::ZERO).await;
    drop((target, remote));
    for (spool, orderly) in [(crashed, false), (dir.path().join("spool"), true)] {
        let left = |receiver: &Receiver| {
            receiver.state.lock().unwrap().judge = None;
            receiver.state.lock().unwrap().samples.clear();
        };
        let budget = MemoryBudget::new(64 << 20);
        let clock = Arc::new(SystemClock::new());
        let storage = DiskStorage::new(&spool).unwrap();
        let (opened, report) = Spool::open(storage, SpoolOptions::default(), budget, clock.clone()).unwrap();
        assert_eq!((report.damaged, report.lost_cursors.len(), report.unclaimed_logs.len()), (0, 0, 0));
        let stats = opened.stats().await.unwrap();
        let ledger_of =
            |key: &str| &stats.endpoints.iter().find(|endpoint| endpoint.key == key).unwrap().ledger;
        assert_eq!(*ledger_of("amp"), before);
        assert_eq!(ledger_of("gone").pending.samples, 30, "what it has left behind");
        opened.close().await;
        drop(opened);

        left(&amp);
        left(&gone);
        let both = vec![changed.clone(), configs[1].clone()];
        let endpoints = both.into_iter().map(sender::endpoint).collect();
        let remote = sender::start(&spool, clock, cluster("green"), endpoints).await;
        let status = drained(&remote).await;
        assert_eq!(status["amp"].ledger.delivered.samples, 30 + 57);
        assert_eq!(status["gone"].ledger.delivered.samples, 60);
        let mut came = numbers(&amp);
        for number in 0..10 {
            let series =
                |cluster| format!("__name__=m,cluster={cluster},instance=a:80,job=test,number={number}");
            assert_eq!(came.remove(&series("blue")).unwrap(), [3, 4, 5], "orderly: {orderly}");
            let late = came.remove(&series("green")).unwrap_or_default();
            assert_eq!(late, if number == 7 { vec![] } else { vec![6, 7, 8] }, "orderly: {orderly}");
        }
        assert_eq!(numbers(&gone).into_values().collect::<BTreeSet<_>>(), [vec![3, 4, 5]].into());
        remote.shutdown(Duration::from_secs(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_a_change_that_waits_for_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = Receiver::start().await;
    let configs = [config("silent", silent.local_addr().unwrap()), config("well", receiver.address)];
    let remote = start(dir.path(), cluster("blue"), configs.to_vec()).await;
    let mut target = Target::open(&remote, "a:80", 10);
    target.scrape(0).await;
    let connection = silent.accept().await.unwrap();
    receiver.until("the other one has it", |receiver| receiver.count() == 10).await;

    // It waits for the answer to the request that is on its way.
    let changes = || vec![anew(config("silent", receiver.address)), same(&configs[1])];
    let applying = tokio::spawn({
        let remote = remote.clone();
        let changes = changes();
        async move { remote.apply(cluster("green"), changes).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!applying.is_finished());
    target.scrape(1).await;
    let started = Instant::now();
    let status = remote.shutdown(Duration::from_secs(2)).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let applied = applying.await.unwrap();
    assert!(matches!(applied, Ok(_) | Err(StartError::Spool(SpoolError::Closed))), "{applied:?}");
    for endpoint in &status {
        assert!(endpoint.ledger.balances(), "{endpoint:?}");
        assert_eq!(endpoint.ledger.accepted.samples, 20, "{endpoint:?}");
    }
    assert_eq!(status[1].ledger.delivered.samples, 20, "what nobody holds up is sent");
    let late = remote.apply(cluster("green"), changes()).await;
    assert!(matches!(late, Err(StartError::Spool(SpoolError::Closed))), "{late:?}");
    target.begin(2);
    assert_eq!(target.commit().await, Err(SinkError::Closed));
    drop((connection, target, remote));

    // What was not answered waits still, and goes on in the new way.
    let remote = start(dir.path(), cluster("green"), vec![config("silent", receiver.address)]).await;
    assert_eq!(drained(&remote).await["silent"].ledger.delivered.samples, 20);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_begins_while_delivery_is_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = Receiver::start().await;
    let mut config = config("amp", silent.local_addr().unwrap());
    config.remote_timeout = PromDuration::from_millis(1500);
    config.queue_config.min_shards = 8;
    let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
    Target::open(&remote, "a:80", 10).scrape(0).await;
    let connection = silent.accept().await.unwrap();
    let mut there = config.clone();
    there.url = receiver.url();
    let applying = tokio::spawn({
        let (remote, changes) = (remote.clone(), vec![anew(there)]);
        async move { remote.apply(cluster("blue"), changes).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    // These wait for whoever comes next.
    for target in 0..20 {
        Target::open(&remote, &format!("b-{target}:80"), 10).scrape(1).await;
    }
    // Nor does the one that had no answer begin again.
    let another = tokio::time::timeout(Duration::from_millis(2500), silent.accept()).await;
    assert!(another.is_err(), "{another:?}");
    let applied = tokio::time::timeout(Duration::from_secs(10), applying).await;
    applied.expect("the request had its time").unwrap().unwrap();
    let status = drained(&remote).await;
    assert_eq!(status["amp"].ledger.delivered.samples, 210);
    assert_eq!(receiver.count(), 210);
    receiver.assert_once_in_order();
    drop(connection);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_made_one_after_the_other_whoever_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = slow_receiver().await;
    let remote = start(dir.path(), cluster("none"), vec![config("amp", receiver.address)]).await;
    let load = Load::start(&remote, 3, 5);
    load.go_on_for(3).await;
    let mut changes = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (remote, change) = (remote.clone(), vec![anew(config("amp", receiver.address))]);
        changes.spawn(async move {
            let applying = remote.apply(cluster(&number.to_string()), change);
            if number % 3 == 0 {
                // Who waited for it has gone.
                drop(tokio::time::timeout(Duration::from_millis(2), applying).await);
            } else {
                applying.await.unwrap();
            }
        });
    }
    while let Some(changed) = changes.join_next().await {
        changed.unwrap();
    }
    remote.apply(cluster("last"), vec![anew(config("amp", receiver.address))]).await.unwrap();
    load.go_on_for(3).await;
    let scrapes = load.stop().await;
    let status = drained(&remote).await;
    assert_eq!(status["amp"].ledger.delivered.samples as i64, 5 * scrapes.iter().sum::<i64>());
    assert_eq!(receiver.count() as u64, status["amp"].ledger.delivered.samples);
    receiver.assert_once_in_order();
    let came = numbers(&receiver);
    for (target, scrapes) in scrapes.iter().enumerate() {
        let instance = format!("instance=host-{target}:80,job=test,number=0");
        let mut all: Vec<i64> = came
            .iter()
            .filter(|(series, _)| series.contains(&instance))
            .flat_map(|(_, came)| came.clone())
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..*scrapes).collect::<Vec<_>>(), "each scrape under one label");
        let last =
            came.iter().find(|(series, _)| series.contains(&instance) && series.contains("cluster=last"));
        assert_eq!(last.and_then(|(_, came)| came.last()), Some(&(scrapes - 1)));
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

/// A scrape that begins and does not end holds nobody up for long.
#[tokio::test(start_paused = true)]
async fn a_scrape_that_does_not_end_is_not_waited_for_for_ever() {
    let taken = Taken::default();
    let endpoint = |name: &str| Endpoint {
        config: config(name, ([127, 0, 0, 1], 9).into()),
        transport: in_memory(&taken, usize::MAX),
        explain_denial: None,
        describe_body: None,
    };
    let storage = MemoryStorage::new();
    let clock = Arc::new(SystemClock::new());
    let remote =
        sender::start_in(storage, SpoolOptions::default(), clock, cluster("blue"), vec![endpoint("amp")])
            .await;
    let mut stuck = Target::open(&remote, "stuck", 2);
    let mut well = Target::open(&remote, "well", 2);
    stuck.begin(0);
    let change = vec![EndpointChange::SameTransport(endpoint("amp").config)];
    remote.apply(cluster("green"), change).await.unwrap();
    tokio::time::resume();
    well.scrape(1).await;
    let late = stuck.commit().await;
    assert_eq!(late, Err(SinkError::Storage("its log was closed".to_owned())));
    stuck.scrape(2).await;
    assert_eq!(drained(&remote).await["amp"].ledger.delivered.samples, 4);
    let mut came = taken.lock().unwrap().clone();
    came.sort();
    let expected = ["green stuck 0", "green stuck 1", "green well 0", "green well 1"];
    assert_eq!(
        came,
        expected.map(|series| (series.to_owned(), if series.contains("stuck") { 2 } else { 1 }))
    );
    remote.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_that_new_rules_make_alike_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut config = config("amp", receiver.address);
    let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
    let mut target = Target::open(&remote, "a:80", 3);
    target.scrape(0).await;
    config.write_relabel_configs = vec![RelabelConfig {
        regex: Some("number".into()),
        action: Action::LabelDrop,
        ..RelabelConfig::default()
    }];
    remote.apply(cluster("blue"), vec![same(&config)]).await.unwrap();
    assert_eq!(remote.duplicates(), []);
    target.scrape(1).await;
    let told = remote.duplicates();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].labels.get("number"), told[0].owner.as_str()), ("1", "http://a:80/metrics"));
    let ledger = drained(&remote).await.remove("amp").unwrap().ledger;
    assert_eq!((ledger.delivered.samples, ledger.dropped_total().samples), (3 + 1, 2));
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_write_that_is_accepted_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut requests = 0;
    receiver.answer_by(move |_| {
        requests += 1;
        let headers = match requests {
            1 => vec![("x-amzn-requestid", "denied".to_owned())],
            2 => vec![("x-request-id", "proxy".to_owned()), ("x-amzn-requestid", "5c7a".to_owned())],
            3 => vec![("x-request-id", "proxy".to_owned())],
            _ => Vec::new(),
        };
        Verdict { headers, ..(if requests == 1 { 503 } else { 200 }, String::new()).into() }
    });
    let mut config = config("amp", receiver.address);
    config.url = format!("http://user:hunter2@{}/api/v1/write?token=hunter2", receiver.address);
    let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
    let mut target = Target::open(&remote, "a:80", 4);
    assert_eq!(status(&remote).await["amp"].delivery.first_success, None);
    for (number, request_id) in [Some("5c7a"), Some("proxy"), None].into_iter().enumerate() {
        if number > 0 {
            remote.apply(cluster("blue"), vec![anew(config.clone())]).await.unwrap();
        }
        for again in 0..2 {
            target.scrape(2 * number as i64 + again).await;
            let first = drained(&remote).await["amp"].delivery.first_success.clone().unwrap();
            assert_eq!(first.host, receiver.address.to_string());
            assert_eq!(first.request_id.as_deref(), request_id, "of the first of this delivery");
            assert_eq!(first.accepted, Counts { samples: 4, ..Counts::default() });
            assert!(first.at > Timestamp::from_millis(*START) && !format!("{first:?}").contains("hunter2"));
            if number < 2 {
                break;
            }
        }
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_nothing_is_handed_over_at_once() {
    for status in [503, 403] {
        let dir = tempfile::tempdir().unwrap();
        let [away, here] = [Receiver::start().await, Receiver::start().await];
        away.answer(status, "");
        let mut config = config("amp", away.address);
        config.queue_config.min_backoff = PromDuration::from_secs(20);
        config.queue_config.max_backoff = PromDuration::from_secs(20);
        let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
        Target::open(&remote, "a:80", 10).scrape(0).await;
        away.until("it was tried", |away| !away.requests().is_empty()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        config.url = here.url();
        let started = Instant::now();
        remote.apply(cluster("blue"), vec![anew(config)]).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        drained(&remote).await;
        assert_eq!((away.requests().len(), here.count()), (1, 10));
        remote.shutdown(Duration::from_secs(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_spool_during_a_change_costs_nothing() {
    for call in 0..30 {
        let disk = SimDisk::new();
        let taken = Taken::default();
        let endpoint = |name: &str| Endpoint {
            config: config(name, ([127, 0, 0, 1], 9).into()),
            transport: in_memory(&taken, 5),
            explain_denial: None,
            describe_body: None,
        };
        let options = SpoolOptions { fsync: FsyncPolicy::Always, ..SpoolOptions::default() };
        let remote = sender::start_in(
            disk.storage(),
            options,
            Arc::new(SystemClock::new()),
            cluster("blue"),
            vec![endpoint("a")],
        )
        .await;
        let mut target = Target::open(&remote, "t", 3);
        target.scrape(0).await;
        disk.panic_at(call);
        let changes = vec![endpoint("a").into(), endpoint("b").into()];
        remote.apply(cluster("green"), changes).await.unwrap();
        // The fault may come as late as this: then the scrape is told that it is not stored.
        let mut number = 1;
        loop {
            target.begin(number);
            match target.commit().await {
                Ok(_) => break,
                Err(_) => number += 1,
            }
        }
        let status = drained(&remote).await;
        let came = |cluster: &str, at: i64| {
            let taken = taken.lock().unwrap();
            taken.iter().filter(|(series, number)| series.starts_with(cluster) && *number == at).count()
        };
        assert_eq!((came("blue", 0), came("green", number)), (3, 2 * 3), "{call}: {status:?}");
        remote.shutdown(Duration::from_secs(5)).await;
    }
}
