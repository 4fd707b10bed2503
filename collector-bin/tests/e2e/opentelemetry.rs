//! A configuration in the OpenTelemetry Collector's words.

use std::time::Duration;

use promferry_bench::account::Account;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::process::free_address;
use promferry_bench::sink::Sink;

use crate::collector::{Collector, output, until};

/// As ADOT's users write it: placeholders, an escaped group, pipelines, a health check, what only ADOT needs.
const CONFIG: &str = r#"
receivers:
  prometheus:
    config:
      global: {scrape_interval: 500ms, scrape_timeout: 500ms, external_labels: {cluster: "${env:CLUSTER}"}}
      scrape_configs:
        - job_name: farm
          static_configs: [{targets: ["${env:TARGETS}"]}]
          relabel_configs:
            - {source_labels: [__address__], regex: '(.+):(\d+)', target_label: port, replacement: $$2}
processors:
  batch/metrics: {timeout: 60s}
exporters:
  prometheusremotewrite:
    endpoint: <ENDPOINT>
    auth: {authenticator: sigv4auth}
  debug: {verbosity: detailed}
extensions:
  health_check: {endpoint: "${env:HEALTH}"}
  pprof: {endpoint: ":1888"}
  sigv4auth: {region: eu-west-1, service: aps}
service:
  extensions: [pprof, health_check, sigv4auth]
  pipelines:
    metrics: {receivers: [prometheus], processors: [batch/metrics], exporters: [debug, prometheusremotewrite]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_adot_configuration_delivers() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 50).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let file = folder.path().join("collector.yaml");
    std::fs::write(&file, CONFIG).unwrap();
    let health = free_address().unwrap();
    let script = format!(
        "export CLUSTER=blue TARGETS={} HEALTH={health} AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=secret\n\
         program=$1\nshift 3\nexec \"$program\" run --config={} --set=exporters.prometheusremotewrite.endpoint={} \"$@\"",
        farm.addresses()[0],
        file.display(),
        sink.url()
    );
    let mut collector = Collector::start_by(folder.path(), "", Some(&script));
    until("the first samples", async || sink.stats().samples > 500).await;
    let page = health_page(&format!("http://{health}/")).await;
    assert!(page.starts_with("200 {\"status\":\"Server available\",\"upSince\":\""), "{page}");
    assert!(health_page(&format!("http://{health}/other")).await.starts_with("404 "));
    let stopped = collector.terminate().await;
    let log = collector.log();
    assert_eq!(stopped.status.unwrap().code(), Some(0), "{log}");
    let account = Account::new(&farm.record(), &sink.received(), collector.interruption().as_slice());
    assert_eq!((account.lost, account.silent_targets), (0, 0), "{account:?}");
    assert_eq!(sink.stats().out_of_order, 0);
    for said in [
        "signed with SigV4",
        "pprof has no effect",
        "other than from the OpenTelemetry Collector: there is no target_info",
    ] {
        assert!(log.contains(said), "{said}\n{log}");
    }
}

async fn health_page(url: &str) -> String {
    let http = promferry_http_client::Http::new(&Default::default(), Default::default()).unwrap();
    let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
    let mut connection = promferry_http_client::Connection::new(http);
    let response = tokio::time::timeout(Duration::from_secs(10), connection.send(request)).await;
    let response = response.unwrap().unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().read_to_end(1 << 20).await.unwrap();
    format!("{status} {}", String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn check_takes_the_same_flags() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.yaml");
    std::fs::write(&file, CONFIG).unwrap();
    let flag = format!("--config={}", file.display());
    let (code, _, said) = output(&["check", &flag]);
    assert_eq!(code, 1);
    let expected = "collector.yaml:15:15: the endpoint is still a placeholder";
    assert!(said.contains(expected) && said.contains("15 |     endpoint: <ENDPOINT>"), "{said}");
    let endpoint = "--set=exporters.prometheusremotewrite.endpoint=http://127.0.0.1:9/write";
    let (code, answer, said) = output(&["check", &flag, endpoint]);
    assert_eq!(code, 0, "{said}");
    assert!(answer.ends_with("collector.yaml: valid, 1 jobs, 1 remote_write endpoints\n"), "{answer}");
    assert!(
        said.contains("warning: ") && said.contains("the environment variable CLUSTER is not set"),
        "{said}"
    );
    // The collector's file is known by its keys.
    let (code, _, said) = output(&["check", "config", &file.display().to_string()]);
    assert_eq!(code, 1);
    assert!(said.contains("collector.yaml:15:15:"), "{said}");
}
