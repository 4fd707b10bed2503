use promferry_bench::farm::Farm;
use promferry_bench::http_call;
use promferry_bench::process::free_address;
use serde_json::json;

use crate::aws::{Aws, words};
use crate::cluster::Cluster;

/// AWS' recipe for EKS on Fargate and Amazon Managed Service for Prometheus: the pod's service account discovers services by
/// an annotation, and its role signs.
#[tokio::test(flavor = "multi_thread")]
async fn aws_fargate_example_delivers() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, aws) = (Cluster::start().await, Aws::start(folder.path()).await);
    let (scraped, other) = (Farm::start(6, 20).await.unwrap(), Farm::start(1, 20).await.unwrap());
    cluster.add_service("checkout", &json!({ "scrape": "true" }), &scraped);
    cluster.add_service("other", &json!({}), &other);
    let mut words = words(include_str!("../data/manifests/awscollector.args"));
    // By default the probe's port is one of the whole machine.
    let health = free_address().unwrap();
    words.push(format!("--set=extensions.health_check.endpoint={health}"));
    let configuration = include_str!("../data/manifests/awscollector.yml");
    aws.mount(folder.path(), "/conf/adot-collector-config.yaml", configuration);
    let Some(pod) = cluster.start_pod(folder.path(), &words, &aws.variables()) else { return };
    pod.until_ready().await;
    // The manifest's probes.
    assert!(http_call::get(health, "/").await.is_ok());
    let log = aws.delivered(&[&scraped], pod).await;
    assert!(cluster.was_asked_by_the_service_account(), "{log}");
    assert_eq!(other.record().targets[0].answered, [], "{log}");
    for said in ["signed with SigV4", "other than from the OpenTelemetry Collector: there is no target_info"]
    {
        assert!(log.contains(said), "{said}\n{log}");
    }
}
