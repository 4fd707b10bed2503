use promferry_bench::farm::Farm;

use crate::aws::{Aws, mount, words};
use crate::cluster::{Cluster, scraped_at};

/// An agent of Prometheus by hand: targets of a file, and pods by their annotations.
#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_agents_manifest_delivers() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, aws) = (Cluster::start().await, Aws::start(folder.path()).await);
    let (files, pods) = (Farm::start(1, 20).await.unwrap(), Farm::start(2, 20).await.unwrap());
    for (number, target) in pods.addresses().iter().enumerate() {
        cluster.add_pod(&format!("web-{number}"), "web", &scraped_at(*target), *target);
    }
    let targets = format!(r#"[{{"targets": ["{}"], "labels": {{"team": "shop"}}}}]"#, files.addresses()[0]);
    mount(folder.path(), "/etc/prometheus/targets/shop.json", &targets);
    aws.mount(folder.path(), "/etc/prometheus/prometheus.yml", include_str!("../data/manifests/agent.yml"));
    let words = words(include_str!("../data/manifests/agent.args"));
    let Some(pod) = cluster.start_pod(folder.path(), &words, &aws.variables()) else { return };
    pod.until_ready().await;
    let log = aws.delivered(&[&files, &pods], pod).await;
    assert!(cluster.was_asked_by_the_service_account(), "{log}");
    assert!(folder.path().join("prometheus/spool").is_dir(), "{log}");
}
