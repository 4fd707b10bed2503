//! The comparison tools with a real Prometheus on both sides: what is the same is found the same, what is not is named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use http::StatusCode;
use promferry_bench::{
    clock::now_ms,
    compare::{Comparison, Difference},
    exposition_messages::{Metric, MetricFamily, MetricType, Value},
    messages::Label,
    peers::Peer,
    process::{Process, free_address},
    prometheus_server::{PrometheusServer, SeriesData, equal},
    scripted_target::{Page, Scrape, ScriptedTarget},
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(30);
const FAST: &str = "--scrape.discovery-reload-interval=100ms";

/// Everything that either scraper wrote about the target, as long as `enough` says that more is to come.
async fn read_both(
    server: &PrometheusServer,
    enough: impl Fn(&SeriesData, &SeriesData) -> bool,
) -> (SeriesData, SeriesData) {
    let start = Instant::now();
    loop {
        let ours = server.read(vec![equal("job", "scripted"), equal("via", "agent")]).await.unwrap();
        let theirs = server.read(vec![equal("job", "scripted"), equal("via", "")]).await.unwrap();
        if enough(&ours, &theirs) || start.elapsed() > LIMIT {
            return (ours, theirs);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A configuration that scrapes the target as `scraper`, which the target sees in the query.
fn scrape_config(target: &ScriptedTarget, scraper: &str) -> String {
    format!(
        "scrape_configs:\n- job_name: scripted\n  scrape_interval: 300ms\n  scrape_timeout: 300ms\n  \
         params: {{scraper: [{scraper}]}}\n  scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText0.0.4]\n  \
         static_configs:\n  - targets: ['{}']\n",
        target.address()
    )
}

/// An agent beside the server stands for the collector under test.
fn start_agent(program: &Path, jobs: &str, server: &PrometheusServer, folder: &Path) -> Process {
    let config = folder.join("agent.yml");
    let text = format!(
        "global:\n  external_labels: {{via: agent}}\n{}remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 200ms}}\n",
        jobs,
        server.write_url(),
    );
    fs::write(&config, text).unwrap();
    let arguments = [
        "--agent".to_owned(),
        format!("--config.file={}", config.display()),
        format!("--storage.agent.path={}", folder.join("agent").display()),
        format!("--web.listen-address={}", free_address().unwrap()),
        FAST.to_owned(),
    ];
    Process::start(program, arguments, &folder.join("agent.log")).unwrap()
}

/// Shows a page until both scrapers have seen it more than once.
async fn both_see(target: &ScriptedTarget, page: Page) {
    target.show(page);
    for scraper in ["agent", "server"] {
        let by = |scrape: &Scrape| scrape.path.ends_with(&format!("scraper={scraper}"));
        target.scraped(3, by, LIMIT).await.unwrap();
    }
}

fn metric(instance: &str, value: f64) -> Metric {
    let label = vec![Label { name: "part".to_owned(), value: instance.to_owned() }];
    Metric { label, gauge: Some(Value { value }), ..Metric::default() }
}

#[tokio::test]
async fn two_scrapers_of_one_script_agree_and_a_missing_label_is_named() {
    let Some(program) = Peer::Prometheus.or_skip("comparison of two Prometheus") else { return };
    let target = ScriptedTarget::start(Page::text("first 1\n")).await.unwrap();
    let server = PrometheusServer::start(&program, &scrape_config(&target, "server"), &[FAST]).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let _agent = start_agent(&program, &scrape_config(&target, "agent"), &server, folder.path());

    both_see(&target, Page::text("first 1\nleaves{a=\"1\"} NaN\n")).await;
    let seconds = now_ms() as f64 / 1000.0;
    let timed = format!("# TYPE first gauge\nfirst +Inf\ntimed 7 {seconds:.3}\n# EOF\n");
    both_see(&target, Page::open_metrics(timed)).await;
    let family = MetricFamily {
        name: "first".into(),
        r#type: MetricType::Gauge.into(),
        metric: vec![metric("x", -0.0), metric("y", 5e-324)],
        ..MetricFamily::default()
    };
    both_see(&target, Page::protobuf(&[family])).await;
    both_see(&target, Page::status(StatusCode::SERVICE_UNAVAILABLE)).await;
    both_see(&target, Page::Broken).await;
    both_see(&target, Page::text("last 1\nleaves{a=\"1\"} 2\n")).await;

    let comparison =
        Comparison { strip: "via", presence_only: &["scrape_duration_seconds"], exact: &["timed"] };
    // The script's first page may be the first that one scraper sees and the second for the other.
    let script = |data: &SeriesData| {
        let mut data = data.clone();
        data.retain(|labels, _| labels["__name__"] != "scrape_series_added");
        data
    };
    let (ours, theirs) = read_both(&server, |ours, theirs| {
        comparison.values(&script(ours), &script(theirs)).is_empty() && ours.len() >= 10
    })
    .await;
    let differences = comparison.values(&script(&ours), &script(&theirs));
    assert!(differences.is_empty(), "{differences}");
    assert!(differences.common >= 9, "{differences}");

    // The stale bits really are in what was compared.
    let stale = 0x7ff0_0000_0000_0002;
    let is_leaving = |name: &str| name == "leaves";
    let leaving = ours.iter().find(|(labels, _)| is_leaving(&labels["__name__"])).unwrap().1;
    assert!(leaving.floats.iter().any(|(_, bits)| *bits == stale));
    assert!(leaving.floats.iter().any(|(_, bits)| f64::from_bits(*bits).is_nan() && *bits != stale));

    // One label taken from one series must be found.
    let mut injected = ours.clone();
    let (labels, samples) = injected.iter().find(|(labels, _)| is_leaving(&labels["__name__"])).unwrap();
    let (mut labels, samples) = (labels.clone(), samples.clone());
    injected.remove(&labels);
    labels.remove("a");
    injected.insert(labels, samples);
    let differences = comparison.values(&script(&injected), &script(&theirs));
    assert!(
        matches!(
            &differences.list[..],
            [Difference::Missing { instead: Some(_), .. }, Difference::Unexpected { .. }]
        ),
        "{differences}"
    );

    let names = server.series("{via=\"agent\"}").await.unwrap();
    assert!(names.iter().any(|labels| labels["__name__"] == "up" && labels["via"] == "agent"));
    let targets = server.targets().await.unwrap();
    assert_eq!(targets["data"]["activeTargets"][0]["scrapePool"], "scripted");
}

#[tokio::test]
async fn two_scrapers_of_a_real_exporter_agree_on_every_series() {
    let Some(program) = Peer::Prometheus.or_skip("comparison over node_exporter") else { return };
    let Some(exporter) = Peer::NodeExporter.or_skip("comparison over node_exporter") else { return };
    let folder = tempfile::tempdir().unwrap();
    let address = free_address().unwrap();
    let flags = [format!("--web.listen-address={address}"), "--web.disable-exporter-metrics".to_owned()];
    let _exporter = Process::start(&exporter, flags, &folder.path().join("exporter.log")).unwrap();
    let jobs = format!(
        "scrape_configs:\n- job_name: node\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{address}']\n"
    );
    let server = PrometheusServer::start(&program, &jobs, &[FAST]).await.unwrap();
    let _agent = start_agent(&program, &jobs, &server, folder.path());

    let comparison = Comparison { strip: "via", presence_only: &[], exact: &[] };
    let start = Instant::now();
    let differences = loop {
        let ours = server.series("{job=\"node\",via=\"agent\"}").await.unwrap();
        let theirs = server.series("{job=\"node\",via=\"\"}").await.unwrap();
        let differences = comparison.series(&ours, &theirs);
        if (differences.is_empty() && differences.common > 0) || start.elapsed() > LIMIT {
            break differences;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(differences.is_empty(), "{differences}");
    assert!(differences.common >= 200, "{differences}");
}
