use promferry_bench::farm::Farm;
use serde_json::json;

use crate::aws::{Aws, mount, words};
use crate::cluster::{Cluster, scraped_at};

/// The Helm chart prometheus-community/prometheus: its default jobs, its arguments, and one endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn helm_chart_defaults_start_and_deliver() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, aws) = (Cluster::start().await, Aws::start(folder.path()).await);
    let (services, pods) = (Farm::start(2, 20).await.unwrap(), Farm::start(2, 20).await.unwrap());
    let annotations = json!({ "prometheus.io/scrape": "true" });
    cluster.add_service("checkout", &annotations, &services);
    for (number, target) in pods.addresses().iter().enumerate() {
        cluster.add_pod(&format!("worker-{number}"), "worker", &scraped_at(*target), *target);
    }
    cluster.add_node("fargate-ip-10-0-1-7");
    let configuration = include_str!("../data/manifests/helm-chart.yml");
    aws.mount(folder.path(), "/etc/config/prometheus.yml", configuration);
    for rules in ["recording_rules.yml", "alerting_rules.yml", "rules", "alerts"] {
        mount(folder.path(), &format!("/etc/config/{rules}"), "{}\n");
    }
    let words = words(include_str!("../data/manifests/helm-chart.args"));
    let Some(pod) = cluster.start_pod(folder.path(), &words, &aws.variables()) else { return };
    pod.until_ready().await;
    let relabelled =
        configuration.replace("  evaluation_interval: 1m\n", "  external_labels: {cluster: blue}\n");
    assert_ne!(relabelled, configuration);
    aws.mount(folder.path(), "/etc/config/prometheus.yml", &relabelled);
    pod.reload().await;
    let log = aws.delivered(&[&services, &pods], pod).await;
    assert!(cluster.was_asked_by_the_service_account(), "{log}");
    assert!(folder.path().join("data/spool").is_dir(), "{log}");
    assert!(log.contains("configuration reloaded: "), "{log}");
    for said in
        ["rule_files", "alerting", "flags of Prometheus without effect here: --storage.tsdb.retention.time"]
    {
        assert!(log.contains(said), "{said}\n{log}");
    }
}
