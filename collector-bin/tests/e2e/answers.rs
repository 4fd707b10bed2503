//! What it says: to an operator, to Kubernetes, to Prometheus' tools.

use promferry_aws_stand_in::{Cloud, Keys, Policy, Workspaces};
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::scripted_target::{Page, ScriptedTarget};
use promferry_bench::sink::Sink;

use crate::collector::{Collector, config, output, until};

const ACCOUNT: &str = "111122223333";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_explained_and_keeps_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::memory();
    let workspaces = Workspaces::start(&cloud, "eu-west-1").await;
    workspaces.add(ACCOUNT, "ws-1", None).await;
    let user = format!("arn:aws:iam::{ACCOUNT}:user/writer");
    let may_write = Policy::allowing("aps:RemoteWrite", "*");
    let Keys { access_key_id, secret_access_key } = cloud.add_user(&user, may_write).await;
    let farm = Farm::start(1, 20).await.unwrap();
    let config = |secret: &str| {
        format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs: [{{job_name: farm, static_configs: [{{targets: ['{}']}}]}}]\n\
             remote_write:\n- url: {}\n  \
             sigv4: {{region: eu-west-1, access_key: {access_key_id}, secret_key: '{secret}'}}\n  \
             queue_config: {{batch_send_deadline: 200ms}}\n",
            farm.addresses()[0],
            workspaces.url("ws-1")
        )
    };
    let mut collector = Collector::start(folder.path(), &config("not-the-secret"));
    until("a denial is explained", async || {
        collector.log().contains("secret key does not belong to the access key")
    })
    .await;
    assert!(collector.log().contains("403"));
    assert!(collector.metric("prometheus_remote_storage_samples_pending", "").await > 0.0);
    assert_eq!(collector.metric("prometheus_remote_storage_samples_dropped_total", "").await, 0.0);
    collector.assert_balanced().await;
    collector.terminate().await;
    let answered: usize = farm.record().targets.iter().map(|target| target.answered.len()).sum();
    let mut collector = Collector::start(folder.path(), &config(&secret_access_key));
    collector.until_ready().await;
    until("the kept data arrives", async || workspaces.stats("ws-1").samples >= 20 * answered as u64).await;
    collector.terminate().await;
    let log = collector.log();
    assert!(log.contains("signs with static keys, which do not expire"), "{log}");
    assert!(!log.contains("not-the-secret") && !log.contains(&secret_access_key));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(2, 20).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
    let mut config = config(farm.addresses(), &sink, "1s");
    config.push_str("scrape_config_files: []\n");
    let config = config.replace(
        "  static_configs",
        "  relabel_configs: [{source_labels: [drop], regex: me, action: drop}]\n  static_configs",
    );
    let config = config.replace("targets: [", "targets: ['127.0.0.1:1'], labels: {drop: me}}, {targets: [");
    let collector = Collector::start(folder.path(), &config);
    until("both targets are up", async || {
        collector.text("/api/v1/targets").await.matches(r#""health":"up""#).count() == 2
    })
    .await;
    for (path, status, text) in [
        ("/-/healthy", 200, "Healthy"),
        ("/-/ready", 200, "Ready"),
        ("/", 200, "<h1>Promferry</h1>"),
        ("/nothing", 404, "not found"),
    ] {
        let (answered, _, body) = collector.page(path, "*/*").await.unwrap();
        assert_eq!(answered, status, "{path}");
        assert!(String::from_utf8(body).unwrap().contains(text), "{path}");
    }
    let targets: serde_json::Value = serde_json::from_str(&collector.text("/api/v1/targets").await).unwrap();
    let first = &targets["data"]["activeTargets"][0];
    assert_eq!(first["scrapePool"], "farm");
    assert_eq!(first["labels"]["job"], "farm");
    assert_eq!(first["discoveredLabels"]["__metrics_path__"], "/metrics");
    assert_eq!(first["scrapeInterval"], "1s");
    assert_eq!(targets["data"]["droppedTargetCounts"]["farm"], 1);
    for (accept, content_type) in [
        ("*/*", "text/plain"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text"),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "application/vnd.google.protobuf",
        ),
    ] {
        let (_, answered, page) = collector.page("/metrics", accept).await.unwrap();
        assert!(answered.starts_with(content_type), "{answered}");
        // It reads its own page, in each format.
        let format = promferry_exposition::format_for(Some(&answered), None).unwrap();
        let mut parser = promferry_exposition::Parser::new(format, &page, Default::default());
        let mut labels = promferry_exposition::LabelBuffer::default();
        let mut series = 0;
        while let Some(event) = parser.next().unwrap() {
            if let promferry_exposition::Event::Series(event) = event {
                event.labels(&mut labels).unwrap();
                series += 1;
            }
        }
        assert!(series > 50, "{series}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_target_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    let target = ScriptedTarget::start(Page::text("fine 1\nbroken{\n")).await.unwrap();
    let collector = Collector::start(folder.path(), &config(&[target.address()], &sink, "500ms"));
    until("the page is refused", async || {
        let targets = collector.text("/api/v1/targets").await;
        targets.contains(r#""health":"down""#) && targets.contains("line 2")
    })
    .await;
}

#[test]
fn check_config_judges_and_its_status_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prometheus.yml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "scrape_configs: [{job_name: a, static_configs: [{targets: ['a:1']}]}]\n").unwrap();
    let (code, out, _) = output(&["check", "config", path]);
    assert_eq!((code, out.contains("valid, 1 jobs")), (0, true), "{out}");
    std::fs::write(&file, "scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n").unwrap();
    let (code, _, err) = output(&["check", "config", path]);
    assert_eq!(code, 1);
    assert!(err.contains("prometheus.yml:3:3") && err.contains("did you mean \"scrape_interval\"?"), "{err}");
    let (code, _, err) = output(&["run", &format!("--config.file={path}")]);
    assert_eq!((code, err.contains("scrape_intervall")), (2, true), "{err}");
    assert_eq!(output(&["version"]).0, 0);
}
