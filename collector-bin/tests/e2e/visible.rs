//! What the collector says about itself.

use std::collections::{BTreeMap, BTreeSet};

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::{Fault, Sink};

use crate::collector::{Collector, config, until};

/// Families of a page in Prometheus' text format: name and type.
fn families(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, metric_type)| (name.to_owned(), metric_type.to_owned())).collect()
}

/// The names of a family's labels, on any of its lines.
fn label_names(page: &str, family: &str) -> BTreeSet<String> {
    let of_family = |line: &&str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        name == family
            || name.strip_prefix(family).is_some_and(|rest| matches!(rest, "_bucket" | "_sum" | "_count"))
    };
    let labels = page.lines().filter(of_family).filter_map(|line| line.split_once('{')?.1.rsplit_once('}'));
    labels
        .flat_map(|(labels, _)| labels.split("\",").filter_map(|label| label.split_once('=')))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| name != "le")
        .collect()
}

/// Of tables in Markdown the first two cells of each row that begins with a name in backquotes.
fn documented(text: &str) -> BTreeMap<String, String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| (name.to_owned(), rest.split(" |").next().unwrap_or_default().to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_named_as_in_prometheus_where_that_has_it() {
    const DOCS: &str = include_str!("../../../docs/metrics.md");
    const PROMETHEUS: [&str; 2] = [
        include_str!("../data/prometheus-3.16-remote-storage.txt"),
        include_str!("../data/prometheus-3.16-discovery.txt"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
    sink.set_fault(Some(Fault { status: Some(404), ..Fault::default() }));
    let mut config = config(farm.addresses(), &sink, "500ms");
    config.push_str("  active_series_limit: 1000\n  samples_per_second_limit: 1000\n");
    // Prometheus shows some families only of the mechanisms that there are.
    let lists =
        "- job_name: lists\n  http_sd_configs: [{url: 'http://127.0.0.1:1/', refresh_interval: 1h}]\n";
    let config = config.replace("remote_write:\n", &format!("{lists}remote_write:\n"));
    let collector = Collector::start(folder.path(), &config);
    until("samples were refused and dropped", async || {
        collector.metric("prometheus_remote_storage_samples_failed_total", "").await > 0.0
    })
    .await;
    let page = collector.text("/metrics").await;
    let shown = families(&page);
    let (metrics, lacking) = DOCS.split_once("## What of Prometheus'").unwrap();
    assert_eq!(documented(metrics), shown, "docs/metrics.md and /metrics differ");

    let lacking: BTreeSet<_> = documented(lacking).into_keys().collect();
    let mut compared = 0;
    for line in PROMETHEUS.iter().flat_map(|list| list.lines()).filter(|line| !line.starts_with('#')) {
        let [name, metric_type, labels] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if lacking.contains(name) {
            assert!(!shown.contains_key(name), "{name} is there after all");
            continue;
        }
        assert_eq!(shown.get(name).map(String::as_str), Some(metric_type), "{name}");
        let labels: BTreeSet<_> =
            labels.split(',').filter(|label| *label != "-").map(str::to_owned).collect();
        let found = label_names(&page, name);
        // A counter by reason has lines only once something was counted.
        let is_by_reason = labels.contains("reason");
        assert!(found == labels || (is_by_reason && found.is_empty()), "{name}: {found:?}");
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_near_is_said_with_the_jobs_that_are_to_blame() {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(1, 200).await.unwrap();
    let (small, sink) = (Farm::start(4, 20).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
    let mut config = config(farm.addresses(), &sink, "500ms");
    let jobs: Vec<_> = (0..4)
        .map(|job| {
            let address = small.addresses()[job];
            format!("- job_name: small{job}\n  static_configs: [{{targets: ['{address}']}}]\n")
        })
        .collect();
    config = config.replace("remote_write:\n", &format!("{}remote_write:\n", jobs.concat()));
    config.push_str("  name: amp\n  active_series_limit: 350\n  samples_per_second_limit: 1000000\n");
    let collector = Collector::start(folder.path(), &config);
    until("it is said", async || collector.log().contains("active_series_limit")).await;
    let log = collector.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("active_series_limit of 350")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    // Five report series for each target.
    let text = "amp: 305 active series, 87 % of its active_series_limit of 350";
    assert!(said[0].contains(text) && said[0].contains("WARN"), "{}", said[0]);
    assert!(
        said[0].contains(r#"are \"farm\" with 205, \"small"#)
            || said[0].contains(r#"are "farm" with 205, "small"#)
    );
    assert_eq!(
        said[0].matches("\" with 25").count() + said[0].matches("\\\" with 25").count(),
        2,
        "{}",
        said[0]
    );
    assert_eq!(collector.metric("promferry_remote_active_series", r#"job="farm""#).await, 205.0);
    let ratio = collector.metric("promferry_remote_limit_usage_ratio", "active_series").await;
    assert!((ratio - 305.0 / 350.0).abs() < 1e-9, "{ratio}");
    assert!(!log.contains("samples_per_second_limit of"), "{log}");
    let rate = collector.metric("promferry_remote_samples_per_second", r#"job="farm""#).await;
    assert!(rate > 100.0 && rate < 1000.0, "205 samples twice a second: {rate}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_has_all_of_it_and_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
    let url = sink.url().replace("http://", "http://hunter1:hunter2@");
    let config =
        config(farm.addresses(), &sink, "500ms").replace(&sink.url(), &format!("{url}?token=hunter3"));
    sink.set_fault(Some(Fault { status: Some(404), ..Fault::default() }));
    let collector = Collector::start(folder.path(), &config);
    until("samples were refused", async || {
        collector.metric("prometheus_remote_storage_samples_failed_total", "").await > 0.0
    })
    .await;
    let status = collector.text("/status").await;
    for text in [
        "<h2>Delivery</h2>",
        "1.0 (configured)",
        "1 of 1 to 50",
        "404",
        "<h2>Dropped</h2>",
        "the endpoint",
        "<h2>What jobs write</h2>",
        "<h2>Spool</h2>",
        "<h2>Scraping</h2>",
        "<h2>Targets</h2>",
        "?token=xxxxx",
    ] {
        assert!(status.contains(text), "{text}: {status}");
    }
    assert!(collector.text("/").await.contains("<h2>Delivery</h2>"));
    for page in [status, collector.text("/metrics").await, collector.log()] {
        assert!(!page.contains("hunter"), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mechanisms_that_look_alike_are_one_series_and_keys_in_urls_are_nowhere() {
    const CONFIG: &str = "scrape_configs:\n\
        - {job_name: a, static_configs: [{targets: ['127.0.0.1:1']}]}\n\
        - {job_name: b, static_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2']}]}\n\
        - {job_name: c, http_sd_configs: [{url: 'http://127.0.0.1:1/sd?key=HUNTER1'}]}\n\
        - {job_name: d, http_sd_configs: [{url: 'http://127.0.0.1:1/sd?key=HUNTER2'}]}\n";
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path(), CONFIG);
    until("targets are found, and those of URLs are not", async || {
        collector.metric("promferry_discovered_targets", "mechanism=\"static\"").await == 3.0
            && collector.metric("promferry_discovery_failures_total", "mechanism=\"http\"").await >= 2.0
    })
    .await;
    let page = collector.text("/metrics").await;
    let series: Vec<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect();
    let different: BTreeSet<_> = series.iter().collect();
    assert_eq!(different.len(), series.len(), "{page}");
    for page in [page, collector.text("/").await, collector.log()] {
        assert!(page.contains("key=xxxxx") && !page.contains("HUNTER"), "{page}");
    }
}
