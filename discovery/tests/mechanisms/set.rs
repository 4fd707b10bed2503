use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use promferry_discovery::{CustomMechanism, Discover, DiscoveryConfigs, DiscoveryOptions, Updates};
use promferry_model::{Labels, TargetGroup};

use crate::support::{Consumer, configs, options};

const A: &str = "static_configs: [{targets: [a]}]";
const B: &str = "static_configs: [{targets: [b]}]";

#[tokio::test]
async fn static_targets_have_their_index_as_source() {
    let mut consumer =
        Consumer::run("static_configs: [{targets: [a, b], labels: {x: y}}, {}, {targets: [c]}]", options());
    consumer.until(&["__address__=c", "x=y,__address__=a", "x=y,__address__=b"]).await;
    assert_eq!(consumer.sources(), ["0", "2"]);
}

#[tokio::test]
async fn jobs_that_want_the_same_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yml");
    std::fs::write(&file, "- targets: [x, y]").unwrap();
    let yaml = format!("file_sd_configs: [{{files: ['{}']}}]", file.display());
    let mut consumer = Consumer::new(options());
    let jobs = |names: &[&str]| names.iter().map(|name| ((*name).into(), configs(&yaml))).collect::<Vec<_>>();
    consumer.discovery.apply(jobs(&["one", "two"]));
    while consumer.jobs() != [("one".to_owned(), 2), ("two".to_owned(), 2)] {
        consumer.batch().await;
    }
    let status = consumer.discovery.status();
    assert_eq!(status.len(), 1);
    assert_eq!(status[0].jobs, ["one", "two"]);
    let refreshes = status[0].refreshes_total;
    // A job that comes later gets what is known already; one that leaves loses it; nobody looks again for that.
    consumer.discovery.apply(jobs(&["two", "three"]));
    let batch = consumer.batch().await;
    assert_eq!(batch.len(), 2, "{batch:?}");
    assert_eq!(consumer.jobs(), [("three".to_owned(), 2), ("two".to_owned(), 2)]);
    assert_eq!(consumer.discovery.status()[0].refreshes_total, refreshes);
    consumer.discovery.apply([]);
    consumer.batch().await;
    assert!(consumer.jobs().is_empty() && consumer.discovery.status().is_empty());
}

/// What is left comes at once, however slow the debounce; so does what a job gets that joins, or loses that leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_at_most_256_groups_and_loses_none() {
    const GROUPS: usize = 700;
    let configs = custom(|updates| {
        updates.replace((0..GROUPS).map(|number| group(&number.to_string(), &["a", "b"])).collect());
        updates.succeeded();
    });
    let mut consumer = Consumer::new(DiscoveryOptions { debounce: Duration::from_secs(3600), ..options() });
    let jobs =
        |names: &[&str]| names.iter().map(|name| ((*name).into(), configs.clone())).collect::<Vec<_>>();
    for (names, gone) in [(&["one", "two"][..], 0), (&["two", "three"], GROUPS), (&[], 2 * GROUPS)] {
        let expected: Vec<_> = names.iter().map(|name| ((*name).to_owned(), 2 * GROUPS)).collect();
        let expected = BTreeSet::from_iter(expected);
        consumer.discovery.apply(jobs(names));
        let (mut batches, mut removals) = (0, 0);
        while BTreeSet::from_iter(consumer.jobs()) != expected {
            let batch = consumer.batch().await;
            let sources: BTreeSet<_> = batch.iter().map(|change| &change.source).collect();
            assert!(sources.len() <= 256, "{}", sources.len());
            removals += batch.iter().filter(|change| change.group.is_none()).count();
            batches += 1;
        }
        assert!(batches >= 3, "{batches}");
        assert_eq!(removals, gone);
        for name in names {
            let mut groups = 0;
            consumer
                .discovery
                .for_each_group(name, &mut |_, group| groups += usize::from(group.targets.len() == 2));
            assert_eq!(groups, GROUPS);
        }
    }
    consumer.is_quiet().await;
}

/// The first look at many files is one batch, however slow the debounce.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_together_comes_together() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..50 {
        std::fs::write(dir.path().join(format!("{number}.yml")), "[{targets: [a]}, {targets: [b]}]").unwrap();
    }
    let yaml = format!("file_sd_configs: [{{files: ['{}/*.yml']}}]", dir.path().display());
    let mut consumer =
        Consumer::run(&yaml, DiscoveryOptions { debounce: Duration::from_secs(60), ..options() });
    assert_eq!(consumer.batch().await.len(), 100);
}

#[tokio::test]
async fn an_unchanged_configuration_changes_nothing() {
    let mut consumer = Consumer::run(A, options());
    consumer.until(&["__address__=a"]).await;
    consumer.discovery.apply([("job".into(), configs(A))]);
    consumer.is_quiet().await;
}

/// Between the old result and the new one there is no moment without targets.
#[tokio::test]
async fn a_changed_mechanism_takes_over_when_it_has_a_result() {
    let mut consumer = Consumer::run(A, options());
    consumer.until(&["__address__=a"]).await;
    consumer.discovery.apply([("job".into(), configs(B))]);
    consumer.batch().await;
    assert_eq!(consumer.targets(), ["__address__=b"]);

    // A mechanism that does not find anything out for now: the targets of its predecessor stay.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let http =
        |path: &str| format!("http_sd_configs: [{{url: 'http://{address}/{path}', refresh_interval: 30s}}]");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yml");
    std::fs::write(&file, "- targets: [x]").unwrap();
    let files =
        |pattern: &str| format!("file_sd_configs: [{{files: ['{}/{pattern}']}}]", dir.path().display());
    let mut consumer = Consumer::run(&files("a.yml"), options());
    consumer.batch().await;
    assert_eq!(consumer.targets().len(), 1);
    // Of the same kind and in the same place: the file's other name.
    consumer.discovery.apply([("job".into(), configs(&files("*.yml")))]);
    let batch = consumer.batch().await;
    assert!(batch[0].group.is_some() && batch[batch.len() - 1].group.is_none(), "{batch:?}");
    assert_eq!(consumer.targets().len(), 1);
    // Of another kind: nothing is handed over.
    consumer.discovery.apply([("job".into(), configs(&http("one")))]);
    consumer.until(&[]).await;

    let mut consumer = Consumer::new(options());
    let answering = answering_server();
    let first = format!("http_sd_configs: [{{url: 'http://{answering}/', refresh_interval: 30s}}]");
    consumer.discovery.apply([("job".into(), configs(&first))]);
    consumer.batch().await;
    let before = consumer.targets();
    assert_eq!(before.len(), 1);
    for silent in ["one", "two"] {
        consumer.discovery.apply([("job".into(), configs(&http(silent)))]);
        consumer.is_quiet().await;
        assert_eq!(consumer.targets(), before);
    }
    // Through two that never answered, what they inherited is still known, and given up in the end.
    consumer.discovery.apply([("job".into(), configs(B))]);
    consumer.until(&["__address__=b"]).await;
}

fn answering_server() -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let body = r#"[{"targets":["x"]}]"#;
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
    });
    address
}

#[tokio::test]
async fn first_results_come_at_once_and_later_changes_are_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("a.yml"), "- targets: [a0]").unwrap();
    let yaml = format!("file_sd_configs: [{{files: ['{}']}}]", path("a.yml").display());
    let debounce = Duration::from_millis(1500);
    let mut consumer = Consumer::new(DiscoveryOptions { debounce, ..options() });
    let begin = Instant::now();
    consumer.discovery.apply([("job".into(), configs(&yaml))]);
    consumer.batch().await;
    assert!(begin.elapsed() < debounce, "the first result waited");
    let announced = Instant::now();
    // Changes one after the other, each of which is seen.
    for number in 1..5 {
        let updates = consumer.discovery.status()[0].updates_total;
        std::fs::write(path("a.yml"), format!("- targets: [a{number}]")).unwrap();
        while consumer.discovery.status()[0].updates_total == updates {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // The first result of another job does not wait for them.
    let both = [("job".into(), configs(&yaml)), ("other".into(), configs(B))];
    consumer.discovery.apply(both);
    let batch = consumer.batch().await;
    assert!(announced.elapsed() < debounce, "a first result waited for the debounce");
    assert!(batch.iter().any(|change| change.job == "other"));
    let announced = Instant::now();
    std::fs::write(path("a.yml"), "- targets: [a5]").unwrap();
    std::fs::write(path("a.yml"), "- targets: [a6]").unwrap();
    let last = format!("__meta_filepath={},__address__=a6", path("a.yml").display());
    consumer.until(&["__address__=b", &last]).await;
    assert!(announced.elapsed() >= debounce - Duration::from_millis(50), "two batches within the debounce");
    assert_eq!(consumer.batches, 3);
}

#[tokio::test]
async fn dropping_everything_ends_the_mechanisms() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yml");
    std::fs::write(&file, "- targets: [x]").unwrap();
    let yaml = format!("file_sd_configs: [{{files: ['{}']}}]", file.display());
    let mut consumer = Consumer::run(&yaml, options());
    consumer.batch().await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(before > 0);
    drop(consumer);
    for _ in 0..1000 {
        if tokio::runtime::Handle::current().metrics().num_alive_tasks() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("tasks are left over");
}

struct Scripted(Box<dyn FnOnce(&Updates) + Send>);

impl Discover for Scripted {
    fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { (self.0)(&updates) })
    }
}

fn group(source: &str, addresses: &[&str]) -> TargetGroup {
    let targets = addresses.iter().map(|address| Labels::from_pairs([("__address__", *address)])).collect();
    TargetGroup { source: source.into(), targets, ..TargetGroup::default() }
}

fn custom(script: impl Fn(&Updates) + Send + Sync + 'static) -> DiscoveryConfigs {
    let script = Arc::new(script);
    let build = move || -> Box<dyn Discover> {
        let script = script.clone();
        Box::new(Scripted(Box::new(move |updates| script(updates))))
    };
    let mut configs = DiscoveryConfigs::default();
    configs.custom.push(CustomMechanism::new("scripted", "", build));
    configs
}

#[tokio::test]
async fn reports_are_compared_by_source() {
    let mut consumer = Consumer::new(options());
    let configs = custom(|updates| {
        updates.replace(vec![group("1", &["a"]), group("2", &["b"]), group("3", &[])]);
        updates.change(vec![group("2", &["c"]), group("4", &["d"])], vec!["never there".into()]);
        updates.change(Vec::new(), vec!["4".into()]);
        updates.replace(vec![group("2", &["c"]), group("5", &["e"])]);
        updates.change(vec![group("5", &[])], Vec::new());
        updates.succeeded();
    });
    consumer.discovery.apply([("job".into(), configs)]);
    consumer.until(&["__address__=c"]).await;
    consumer.is_quiet().await;
    let status = consumer.discovery.status().remove(0);
    assert_eq!(
        (status.mechanism, status.groups, status.targets, status.refreshes_total),
        ("scripted", 1, 1, 1)
    );
}

#[tokio::test]
async fn a_panic_costs_nothing_but_a_restart() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    let configs = custom(move |updates| {
        let run = counter.fetch_add(1, Ordering::SeqCst);
        updates.replace(vec![group("1", &[if run == 0 { "a" } else { "b" }])]);
        assert!(run > 0, "broken on purpose");
    });
    let mut consumer = Consumer::new(options());
    consumer.discovery.apply([("job".into(), configs)]);
    consumer.until(&["__address__=a"]).await;
    consumer.failure("broke down").await;
    consumer.until(&["__address__=b"]).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

/// Whoever needs a job's groups anew, since the job is another, must not miss those that are about to change.
#[tokio::test]
async fn what_waits_for_the_debounce_is_given_to_who_looks() {
    let reporter = Arc::new(Mutex::new(None));
    let first = reporter.clone();
    let configs = custom(move |updates| {
        updates.replace(vec![group("1", &["a"]), group("2", &["b"]), group("3", &["c"])]);
        *first.lock().unwrap() = Some(updates.clone());
    });
    let mut consumer = Consumer::new(DiscoveryOptions { debounce: Duration::from_secs(3600), ..options() });
    consumer.discovery.apply([("job".into(), configs.clone())]);
    consumer.until(&["__address__=a", "__address__=b", "__address__=c"]).await;
    let updates = reporter.lock().unwrap().take().unwrap();
    let looked_up = |consumer: &Consumer| {
        let mut found = Vec::new();
        consumer.discovery.for_each_group("job", &mut |_, group| {
            found.push(format!("{} {}", group.source, group.targets.len()));
        });
        found
    };

    updates.replace(vec![group("1", &["a", "d"]), group("2", &["b"]), group("4", &["e"])]);
    // What is new comes with its change.
    assert_eq!(looked_up(&consumer), ["1 2", "2 1"]);
    updates.change(Vec::new(), vec!["2".into()]);
    assert_eq!(looked_up(&consumer), ["1 2"]);
    updates.change(vec![group("2", &["b"])], Vec::new());
    assert_eq!(looked_up(&consumer), ["1 2", "2 1"]);

    // Who looked is told all the same.
    consumer.discovery.apply([("job".into(), configs), ("other".into(), self::configs(A))]);
    let mut told = BTreeMap::new();
    while !told.contains_key("0") {
        let batch = consumer.batch().await;
        told.extend(batch.iter().map(|change| (change.source.to_string(), change.group.is_some())));
    }
    let expected = [("0", true), ("1", true), ("2", true), ("3", false), ("4", true)];
    assert_eq!(told, expected.map(|(source, is_there)| (source.to_owned(), is_there)).into());
}
