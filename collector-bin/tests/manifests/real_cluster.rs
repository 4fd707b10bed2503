use std::path::{Path, PathBuf};
use std::time::Duration;

use promferry_aws_stand_in::KubernetesApi;
use promferry_bench::farm::Farm;
use serde_json::json;

use crate::aws::{Aws, mount, words};
use crate::cluster::{pod, scraped_at, start_pod};

/// The Helm chart's rights: templates/clusterrole.yaml.
const RIGHTS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "nodes",
            "nodes/proxy",
            "nodes/metrics",
            "services",
            "endpoints",
            "pods",
            "ingresses",
            "configmaps",
        ],
    ),
    ("networking.k8s.io", &["ingresses"]),
    ("discovery.k8s.io", &["endpointslices"]),
];

/// The Helm chart against a real API server, by the rights that it gives its service account. Only pods can be scraped here:
/// an API server takes no endpoints on loopback.
#[tokio::test(flavor = "multi_thread")]
async fn the_helm_chart_discovers_by_a_real_api_server() {
    let programs = std::env::var_os("PROMFERRY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"), PathBuf::from);
    let issuer = "https://oidc.eks.eu-west-1.amazonaws.com/id/KUBERNETES";
    let Some(api) = KubernetesApi::start(&programs, issuer).await else {
        // Building the two takes ten minutes and more: only the full tier does.
        assert!(!crate::collector::is_full_tier(), "scripts/peers did not provide kube-apiserver and etcd");
        return eprintln!(
            "SKIPPED the Helm chart at a real API server: run scripts/peers kube-apiserver etcd"
        );
    };
    let folder = tempfile::tempdir().unwrap();
    let (aws, pods) = (Aws::start(folder.path()).await, Farm::start(4, 20).await.unwrap());
    api.add_service_account("monitoring", "prometheus-server").await;
    let rules: Vec<_> = RIGHTS
        .iter()
        .map(|(group, resources)| json!({ "apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"] }))
        .collect();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": "prometheus-server" }, "rules": rules });
    api.create(&format!("{rbac}/clusterroles"), &role).await;
    let binding = json!({
        "metadata": { "name": "prometheus-server" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "prometheus-server" },
        "subjects": [{ "kind": "ServiceAccount", "name": "prometheus-server", "namespace": "monitoring" }],
    });
    api.create(&format!("{rbac}/clusterrolebindings"), &binding).await;
    api.create("/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } })).await;
    for (number, target) in pods.addresses().iter().enumerate() {
        let pod = pod(&format!("worker-{number}"), "worker", &scraped_at(*target), *target);
        api.create("/api/v1/namespaces/shop/pods", &pod).await;
    }
    aws.mount(folder.path(), "/etc/config/prometheus.yml", include_str!("../data/manifests/helm-chart.yml"));
    mount(folder.path(), "/etc/config/recording_rules.yml", "{}\n");
    let words = words(include_str!("../data/manifests/helm-chart.args"));
    // Without an audience of its own the API server's.
    let token = api.token("monitoring", "prometheus-server", issuer, Duration::from_secs(3600)).await;
    let (variables, certificate) = (aws.variables(), api.certificate());
    let started = start_pod(folder.path(), &words, &variables, api.address(), &token, certificate.as_bytes());
    let Some(started) = started else { return };
    started.until_ready().await;
    let log = aws.delivered(&[&pods], started).await;
    assert!(!log.contains("403"), "{log}");
}
