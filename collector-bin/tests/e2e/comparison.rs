//! The same targets scraped by a real Prometheus 3.16 and by Promferry, which writes to that Prometheus: the
//! same series, the same values, the same stale markers.
//!
//! Intended differences, each with the test that pins it:
//! - `scrape_duration_seconds` and the collector's phase differ by nature: compared by presence.
//! - A page that is refused adds nothing: Prometheus ends series that only stood on the refused part of a
//!   page with a stale marker although they never had a value (`good` in the script below).

use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use promferry_bench::clock::now_ms;
use promferry_bench::compare::{Comparison, Difference, Differences};
use promferry_bench::exposition_messages::{Metric, MetricFamily, MetricType, Value};
use promferry_bench::messages::Label;
use promferry_bench::peers::Peer;
use promferry_bench::process::{Process, free_address};
use promferry_bench::prometheus_server::{PrometheusServer, SeriesData, equal};
use promferry_bench::scripted_target::{Page, Scrape, ScriptedTarget};

use crate::collector::{Collector, LIMIT};

const FAST: &str = "--scrape.discovery-reload-interval=100ms";

/// Promferry's configuration: these jobs, written to `server` under one external label.
fn config(jobs: &str, server: &PrometheusServer, message: &str) -> String {
    format!(
        "global:\n  external_labels: {{via: promferry}}\n{jobs}remote_write:\n- url: {}\n  protobuf_message: {message}\n  \
         queue_config: {{batch_send_deadline: 200ms}}\n",
        server.write_url()
    )
}

const V1: &str = "prometheus.WriteRequest";
const V2: &str = "io.prometheus.write.v2.Request";

/// Both sides of what the server has of a job.
async fn read_both(server: &PrometheusServer, job: &str) -> (SeriesData, SeriesData) {
    let ours = server.read(vec![equal("job", job), equal("via", "promferry")]).await.unwrap();
    let theirs = server.read(vec![equal("job", job), equal("via", "")]).await.unwrap();
    (ours, theirs)
}

/// Real pages: every series that one has, the other has.
async fn same_series_of_real_pages(message: &str) {
    let (Some(program), Some(exporter)) = (
        Peer::Prometheus.or_skip("comparison of real pages"),
        Peer::NodeExporter.or_skip("comparison of real pages"),
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (node, seen) = (free_address().unwrap(), free_address().unwrap());
    let listen = format!("--web.listen-address={node}");
    // Its view of this machine's hardware moves; what it says of itself and of the kernel's constants stays.
    let quiet = [
        "--collector.disable-defaults",
        "--collector.cpu",
        "--collector.meminfo",
        "--collector.netstat",
        "--collector.sockstat",
        "--collector.stat",
        "--collector.uname",
        "--collector.vmstat",
        "--collector.loadavg",
    ];
    let _exporter =
        Process::start(&exporter, [listen.as_str()].into_iter().chain(quiet), &folder.path().join("node"))
            .unwrap();
    // A second Prometheus is a target that nothing else touches: its page does not change with the comparison.
    let idle = folder.path().join("idle.yml");
    std::fs::write(&idle, "global: {}\n").unwrap();
    let arguments = [
        format!("--config.file={}", idle.display()),
        format!("--storage.tsdb.path={}", folder.path().join("idle").display()),
        format!("--web.listen-address={seen}"),
    ];
    let _idle = Process::start(&program, arguments, &folder.path().join("idle.log")).unwrap();
    let jobs = format!(
        "scrape_configs:\n- job_name: real\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  \
         static_configs: [{{targets: ['{node}', '{seen}'], labels: {{env: test}}}}]\n"
    );
    let server = PrometheusServer::start(&program, &jobs, &[FAST]).await.unwrap();
    let _collector = Collector::start(folder.path(), &config(&jobs, &server, message));
    let comparison = Comparison { strip: "via", presence_only: &[], exact: &[] };
    let start = Instant::now();
    let differences = loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let ours = server.series(r#"{job="real",via="promferry"}"#).await.unwrap();
        let theirs = server.series(r#"{job="real",via=""}"#).await.unwrap();
        let differences = comparison.series(&ours, &theirs);
        let settled = differences.is_empty() && differences.common >= 500;
        if settled || start.elapsed() > LIMIT {
            // The comparison is able to fail: one label taken from one series is found.
            let mut injected = ours.clone();
            let mut series = injected.pop_first().unwrap();
            series.remove("instance");
            injected.insert(series);
            assert!(!comparison.series(&injected, &theirs).is_empty());
            break differences;
        }
    };
    assert!(differences.is_empty() && differences.common >= 500, "{differences}");
    eprintln!("{} series are the same over {message}", differences.common);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_pages_give_the_same_series_over_1_0() {
    same_series_of_real_pages(V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_pages_give_the_same_series_over_2_0() {
    same_series_of_real_pages(V2).await;
}

/// A page of every type, in the text format.
const ALL_TYPES: &str = r#"# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{code="200",path="/a b"} 1027
requests_total{code="500",path="with \"quotes\" and \\"} 3
# TYPE temperature gauge
temperature{place="çà et là"} -12.5
temperature{place="nowhere"} NaN
temperature{place="everywhere"} +Inf
temperature{place="below"} -Inf
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.1"} 5
latency_seconds_bucket{le="1"} 7
latency_seconds_bucket{le="1000000"} 7
latency_seconds_bucket{le="+Inf"} 8
latency_seconds_sum 9.75
latency_seconds_count 8
# TYPE size_bytes summary
size_bytes{quantile="0"} 1
size_bytes{quantile="0.5"} 20
size_bytes{quantile="1"} 1e+06
size_bytes_sum 123
size_bytes_count 4
untyped_thing 1.7976931348623157e308
empty_label{gone=""} 4
leaves{which="first"} 1
"#;

fn metric(part: &str, value: f64) -> Metric {
    let label = vec![Label { name: "part".to_owned(), value: part.to_owned() }];
    Metric { label, gauge: Some(Value { value }), ..Metric::default() }
}

/// Shows a page until both scrapers have seen it more than once.
async fn both_see(target: &ScriptedTarget, page: Page) {
    target.show(page);
    for scraper in ["promferry", "server"] {
        let by = |scrape: &Scrape| scrape.path.ends_with(&format!("scraper={scraper}"));
        target.scraped(3, by, LIMIT).await.unwrap();
    }
}

async fn same_values_of_a_script(message: &str) {
    let Some(program) = Peer::Prometheus.or_skip("comparison of a script") else { return };
    let target = ScriptedTarget::start(Page::text("first 1\n")).await.unwrap();
    let jobs = |scraper: &str| {
        format!(
            "scrape_configs:\n- job_name: scripted\n  scrape_interval: 300ms\n  scrape_timeout: 300ms\n  \
             params: {{scraper: [{scraper}]}}\n  scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText0.0.4]\n  \
             static_configs: [{{targets: ['{}']}}]\n",
            target.address()
        )
    };
    let server = PrometheusServer::start(&program, &jobs("server"), &[FAST]).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path(), &config(&jobs("promferry"), &server, message));

    both_see(&target, Page::text(ALL_TYPES)).await;
    both_see(&target, Page::text(ALL_TYPES.replace("leaves{which=\"first\"} 1\n", ""))).await;
    both_see(&target, Page::text(ALL_TYPES)).await;
    let seconds = now_ms() as f64 / 1000.0;
    let open_metrics = format!(
        "# TYPE orders counter\norders_total{{shop=\"a\"}} 5 # {{trace_id=\"abc\"}} 1\n# TYPE state stateset\nstate{{state=\"on\"}} 1\n\
         # TYPE facts info\nfacts_info{{version=\"1\"}} 1\n# TYPE first gauge\nfirst +Inf\ntimed 7 {seconds:.3}\n# EOF\n"
    );
    both_see(&target, Page::open_metrics(open_metrics)).await;
    let family = MetricFamily {
        name: "first".into(),
        r#type: MetricType::Gauge.into(),
        metric: vec![metric("x", -0.0), metric("y", 5e-324)],
        ..MetricFamily::default()
    };
    both_see(&target, Page::protobuf(&[family])).await;
    both_see(&target, Page::status(StatusCode::SERVICE_UNAVAILABLE)).await;
    both_see(&target, Page::text(ALL_TYPES)).await;
    both_see(&target, Page::text("good 1\nbroken{ 2\n")).await;
    both_see(&target, Page::text("last 1\nleaves{which=\"first\"} 2\n")).await;

    let comparison =
        Comparison { strip: "via", presence_only: &["scrape_duration_seconds"], exact: &["timed"] };
    // The first page that each sees may be another: how many series it added then differs.
    let script = |data: &SeriesData| {
        let mut data = data.clone();
        data.retain(|labels, _| labels["__name__"] != "scrape_series_added");
        data
    };
    let intended = |difference: &Difference| matches!(difference, Difference::Missing { series, .. } if series["__name__"] == "good");
    let start = Instant::now();
    let (ours, theirs, differences) = loop {
        let (ours, theirs) = read_both(&server, "scripted").await;
        let mut differences: Differences = comparison.values(&script(&ours), &script(&theirs));
        assert!(differences.forgive(intended) <= 1);
        if (differences.is_empty() && ours.len() >= 30) || start.elapsed() > LIMIT {
            break (ours, theirs, differences);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(differences.is_empty(), "{differences}\n{}", collector.log());
    assert!(differences.common >= 30, "{differences}");
    // Its targets are told in Prometheus' form.
    let ours_told: serde_json::Value =
        serde_json::from_str(&collector.text("/api/v1/targets").await).unwrap();
    let theirs_told = server.targets().await.unwrap();
    let told = |answer: &serde_json::Value| {
        let target = answer["data"]["activeTargets"][0].as_object().unwrap().clone();
        let form: Vec<_> =
            target.iter().map(|(key, value)| (key.clone(), std::mem::discriminant(value))).collect();
        let same = ["labels", "scrapePool", "scrapeInterval", "scrapeTimeout", "health"]
            .map(|key| target[key].clone());
        (form, same)
    };
    assert_eq!(told(&ours_told), told(&theirs_told), "{ours_told}\n{theirs_told}");

    // Stale markers really are among what was compared.
    let leaving = ours.iter().find(|(labels, _)| labels["__name__"] == "leaves").unwrap().1;
    assert!(leaving.floats.iter().any(|(_, bits)| *bits == 0x7ff0_0000_0000_0002));
    // And a value that is off by one bit is found.
    let mut injected = ours.clone();
    let series = injected.iter_mut().find(|(labels, _)| labels["__name__"] == "temperature").unwrap().1;
    series.floats[0].1 ^= 1;
    let mut found = comparison.values(&script(&injected), &script(&theirs));
    found.forgive(intended);
    assert!(matches!(found.list[..], [Difference::Values { .. }]), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_gives_the_same_values_over_1_0() {
    same_values_of_a_script(V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_gives_the_same_values_over_2_0() {
    same_values_of_a_script(V2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_prometheus_takes_1_0() {
    let Some(program) = Peer::DebianPrometheus.or_skip("writing to Debian's Prometheus") else { return };
    let target = ScriptedTarget::start(Page::text(ALL_TYPES)).await.unwrap();
    let server = PrometheusServer::start(Path::new(&program), "global: {}\n", &[]).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let jobs = format!(
        "scrape_configs:\n- job_name: scripted\n  scrape_interval: 300ms\n  scrape_timeout: 300ms\n  \
         static_configs: [{{targets: ['{}']}}]\n",
        target.address()
    );
    let collector = Collector::start(folder.path(), &config(&jobs, &server, V1));
    let start = Instant::now();
    loop {
        let series = server.series(r#"{job="scripted",via="promferry"}"#).await.unwrap();
        if series.len() >= 20 + 5 {
            break;
        }
        assert!(start.elapsed() < LIMIT, "{series:?}\n{}", collector.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(collector.metric("prometheus_remote_storage_samples_dropped_total", "").await, 0.0);
}
