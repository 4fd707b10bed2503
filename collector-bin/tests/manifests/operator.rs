use promferry_bench::farm::Farm;
use serde_json::json;

use crate::aws::{Aws, mount, words};
use crate::cluster::Cluster;

/// What the Prometheus operator makes of a PrometheusAgent with a ServiceMonitor and a PodMonitor.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_agent_starts_and_delivers() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, aws) = (Cluster::start().await, Aws::start(folder.path()).await);
    let (services, pods) = (Farm::start(2, 20).await.unwrap(), Farm::start(1, 20).await.unwrap());
    cluster.add_service("checkout", &json!({}), &services);
    cluster.add_pod("worker-0", "worker", &json!({}), pods.addresses()[0]);
    let path = "/etc/prometheus/config_out/prometheus.env.yaml";
    aws.mount(folder.path(), path, include_str!("../data/manifests/operator.yml"));
    // The operator mounts one that is empty where neither TLS nor passwords are asked for.
    mount(folder.path(), "/etc/prometheus/web_config/web-config.yaml", "");
    let words = words(include_str!("../data/manifests/operator.args"));
    let Some(pod) = cluster.start_pod(folder.path(), &words, &aws.variables()) else { return };
    pod.until_ready().await;
    // The probes of the operator.
    assert!(pod.page("/-/healthy").await.is_some());
    pod.reload().await;
    let log = aws.delivered(&[&services, &pods], pod).await;
    assert!(cluster.was_asked_by_the_service_account(), "{log}");
    assert!(!log.contains("without effect"), "{log}");
}
