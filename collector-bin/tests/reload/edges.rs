//! What comes back, what is only used at the start, and the other dialect.

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::process::free_address;
use promferry_bench::sink::Sink;

use crate::collector::{Collector, config, until};
use crate::outcome::assert_nothing_lost;
use crate::triggers::start;

const FLAGS: &str = "--web.enable-lifecycle --no-config.auto-reload";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_back_in_time_ends_no_series() {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(3, 20).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let whole = config(farm.addresses(), &sink, "3s");
    let (_, endpoints) = whole.split_once("remote_write:").unwrap();
    let (global, _) = whole.split_once("scrape_configs:").unwrap();
    let without = format!("{global}remote_write:{endpoints}");
    let mut collector = start(folder.path(), &whole, FLAGS);
    let scraped = |times: u64| {
        let record = farm.record();
        record.targets.iter().all(|target| target.answered.len() as u64 >= times)
    };
    until("everything is scraped", async || scraped(1)).await;
    for (text, said) in
        [(&without, "jobs −farm; endpoints unchanged"), (&whole, "jobs +farm; endpoints unchanged")]
    {
        std::fs::write(folder.path().join("prometheus.yml"), text).unwrap();
        assert_eq!(collector.post("/-/reload").await, (200, String::new()));
        assert!(collector.log().contains(&format!("configuration reloaded: {said}")), "{}", collector.log());
    }
    let before = farm.record().targets.iter().map(|target| target.answered.len() as u64).max().unwrap();
    until("it is scraped again", async || scraped(before + 2)).await;
    collector.terminate().await;
    assert_eq!(sink.stats().stale_markers, 0);
    assert_nothing_lost(&farm, &sink, collector.interruption().as_slice(), &collector);
    assert!(!collector.log().contains("ERROR"), "{}", collector.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collectors_configuration_is_reloaded_too() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let path = |name: &str| folder.path().join(name);
    let health = free_address().unwrap();
    let text = format!(
        "
receivers:
  prometheus:
    config:
      global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
      scrape_configs: ${{file:{}}}
exporters: {{prometheusremotewrite: {{endpoint: '{}'}}}}
extensions: {{health_check: {{endpoint: '{health}'}}}}
service:
  telemetry: {{logs: {{level: info}}}}
  extensions: [health_check]
  pipelines: {{metrics: {{receivers: [prometheus], exporters: [prometheusremotewrite]}}}}
",
        path("jobs.yaml").display(),
        sink.url()
    );
    let jobs = format!("- {{job_name: farm, static_configs: [{{targets: ['{}']}}]}}\n", farm.addresses()[0]);
    std::fs::write(path("jobs.yaml"), &jobs).unwrap();
    std::fs::write(path("collector.yaml"), &text).unwrap();
    let script = format!(
        "program=$1\nshift 3\nexec \"$program\" run --config={} --config.auto-reload-interval=200ms \"$@\"",
        path("collector.yaml").display()
    );
    let collector = Collector::start_by(folder.path(), "", Some(&script));
    until("the first samples", async || sink.stats().samples > 100).await;
    std::fs::write(path("jobs.yaml"), format!("{jobs}- {{job_name: more}}\n")).unwrap();
    let said = async |text: &str| until(text, async || collector.log().contains(text)).await;
    said("configuration reloaded: jobs +more, 1 unchanged; endpoints unchanged").await;

    let differences = collector.log().matches("other than from the OpenTelemetry Collector").count();
    assert!(differences > 0);
    let other =
        text.replace("level: info", "level: warn").replace("endpoint: '127", "path: /h, endpoint: '127");
    std::fs::write(path("collector.yaml"), other).unwrap();
    said("the log's level stays as it was at the start").await;
    said("health_check stays as it was at the start").await;
    let now = collector.log().matches("other than from the OpenTelemetry Collector").count();
    assert_eq!(now, differences, "what has been said is not said again");
    assert_eq!(farm.record().targets[0].connections, 1);
    assert_eq!(sink.stats().stale_markers, 0);
}
