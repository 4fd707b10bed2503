//! Manifests that were written for ADOT's or Prometheus' image, of which only the image is changed.

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;

use crate::collector::config;
use crate::container::{Container, Running};
use crate::network::in_own_network;

#[test]
fn aws_and_prometheus_command_names_work() {
    in_own_network("names::aws_and_prometheus_command_names_work", async |image| {
        let farm = Farm::start(1, 20).await.unwrap();
        let sink = Sink::start(Judgement::EachSeries).await.unwrap();
        let prometheus = config(farm.addresses(), &sink, "200ms");
        let collector = format!(
            "receivers: {{prometheus: {{config: {{scrape_configs: [{{job_name: farm, scrape_interval: 200ms, \
             scrape_timeout: 200ms, static_configs: [{{targets: ['{}']}}]}}]}}}}}}\n\
             exporters: {{prometheusremotewrite: {{endpoint: '{}'}}}}\n\
             service: {{pipelines: {{metrics: {{receivers: [prometheus], exporters: [prometheusremotewrite]}}}}}}\n",
            farm.addresses()[0],
            sink.url()
        );
        let container = || Container::of(&image);

        // AWS' manifest for Fargate: no volume for data, a root that can be written to.
        let aws = ["/awscollector", "--config=/conf/adot-collector-config.yaml"];
        let aws = container()
            .command(&aws)
            .file("/conf/adot-collector-config.yaml", &collector)
            .writable("/prometheus");
        let aws = delivers("AWS'", aws.start(), &sink).await;
        assert!(aws.inside("/prometheus/data-agent/spool").is_dir());

        // The operator's PrometheusAgent: arguments only.
        let file = "/etc/prometheus/config_out/prometheus.env.yaml";
        let operator = [
            &format!("--config.file={file}"),
            "--web.enable-lifecycle",
            "--web.route-prefix=/",
            "--storage.agent.path=/prometheus",
            "--web.config.file=/etc/prometheus/web_config/web-config.yaml",
            "--agent",
        ];
        let operator = container()
            .arguments(&operator)
            .file(file, &prometheus)
            .file("/etc/prometheus/web_config/web-config.yaml", "")
            .volume("/prometheus");
        let operator = delivers("the operator's", operator.start(), &sink).await;
        assert!(operator.volume("/prometheus").join("spool").is_dir());

        // A server's, by name.
        let server =
            ["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"];
        let server =
            container().command(&server).file("/etc/prometheus/prometheus.yml", &prometheus).volume("/data");
        let server = delivers("a server's", server.start(), &sink).await;
        assert!(server.volume("/data").join("spool").is_dir());
    });
}

/// Runs until samples have arrived, and then to its end.
async fn delivers(manifest: &str, mut container: Running, sink: &Sink) -> Running {
    let before = sink.stats().samples;
    container.until_ready().await;
    container
        .until(&format!("samples by {manifest} manifest"), async || sink.stats().samples > before + 100)
        .await;
    assert_eq!(container.terminate().await, 0, "{manifest}: {}", container.log());
    container
}
