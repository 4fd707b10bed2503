//! What is discovered otherwise than by Prometheus, on purpose: docs/kubernetes.md lists it, this shows it.

use std::collections::BTreeSet;
use std::time::Duration;

use promferry_cluster::{Cluster, collection};
use serde_json::{Value, json};

use crate::beside::{Beside, Targets};
use crate::collector::until_within;
use crate::scenario::HOMELESS;

/// On a busy machine either may take its time.
const LIMIT: Duration = Duration::from_secs(120);

/// In which Prometheus would have shown what it shows at all, many times over.
const NEVER: Duration = Duration::from_secs(4);

const NAMESPACE: &str = "__meta_kubernetes_namespace";

/// What ours follows at once: a job, a label with its value in the target of a namespace (or of a node), and that value.
const FOLLOWED: &[(&str, &str, &str, &str)] = &[
    ("endpointslice", "intended", "__meta_kubernetes_pod_label_changing", "after"),
    ("endpoints", "intended", "__meta_kubernetes_pod_label_changing", "after"),
    ("slice-all", "intended", "__meta_kubernetes_pod_deployment_name", "of-later"),
    ("endpoints-all", "intended", "__meta_kubernetes_pod_deployment_name", "of-later"),
    ("pod-namespace", "unborn", "__meta_kubernetes_namespace_label_late", "yes"),
    ("node", HOMELESS, "__meta_kubernetes_node_label_changing", "after"),
];

/// Both have the same when this begins, except for a node that has lost its addresses.
pub(crate) async fn differences(cluster: &Cluster, both: &Beside) {
    for object in objects() {
        cluster.create(&collection(&object), &object).await;
    }
    // A pod that is there before its namespace: the API server would not have it so, a broken watch shows it so.
    let mut early = pod("early", json!({ "app": "early" }));
    early["metadata"]["namespace"] = json!("unborn");
    early["metadata"]["uid"] = json!("22222222-2222-2222-2222-222222222222");
    early["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster.etcd_put(&[("/registry/pods/unborn/early".to_owned(), early)]).await;
    let is_seen = |targets: &Targets| {
        let jobs = ["endpointslice", "endpoints", "slice-all", "endpoints-all", "pod"];
        let changing = "__meta_kubernetes_pod_label_changing";
        jobs.iter().all(|job| values(targets, job, "intended", changing).contains("before"))
            && !values(targets, "pod-namespace", "unborn", "__meta_kubernetes_pod_name").is_empty()
    };
    until_within(LIMIT, "both have the objects", async || {
        is_seen(&both.ours().await) && is_seen(&both.theirs().await)
    })
    .await;

    let changing = json!({ "metadata": { "labels": { "changing": "after" } } });
    cluster.patch("/api/v1/namespaces/intended/pods/changing", &changing).await;
    cluster.patch(&format!("/api/v1/nodes/{HOMELESS}"), &changing).await;
    for object in [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "unborn", "labels": { "late": "yes" } } }),
        replica_set(),
    ] {
        cluster.create(&collection(&object), &object).await;
    }
    let follows = |targets: &Targets, (job, place, label, value): &(&str, &str, &str, &str)| {
        values(targets, job, place, label).contains(*value)
    };
    until_within(LIMIT, "ours follows", async || {
        let ours = both.ours().await;
        FOLLOWED.iter().all(|followed| follows(&ours, followed))
    })
    .await;
    // That it has seen the changes is seen where it follows them.
    until_within(LIMIT, "theirs has seen it", async || {
        let theirs = both.theirs().await;
        follows(&theirs, &("pod", "intended", "__meta_kubernetes_pod_label_changing", "after"))
            && follows(
                &theirs,
                &("pod-deployment", "intended", "__meta_kubernetes_pod_deployment_name", "of-later"),
            )
    })
    .await;
    tokio::time::sleep(NEVER).await;
    let theirs = both.theirs().await;
    for followed in FOLLOWED {
        assert!(
            !follows(&theirs, followed),
            "Prometheus follows {followed:?}: that is no difference any more"
        );
    }

    // Two keys that become one label: sorted, the last one. In Prometheus it is left to chance.
    let twins = |targets: &Targets| values(targets, "pod", "intended", "__meta_kubernetes_pod_label_a_b");
    assert_eq!(twins(&both.ours().await), BTreeSet::from(["underscore".to_owned()]));
    assert!(
        twins(&theirs).is_subset(&["dot", "underscore"].map(str::to_owned).into()),
        "{:?}",
        twins(&theirs)
    );
}

/// The values that a label has in targets of a namespace or a node.
fn values(targets: &Targets, job: &str, place: &str, label: &str) -> BTreeSet<String> {
    let is_there = |labels: &&crate::beside::Labels| {
        [NAMESPACE, "__meta_kubernetes_node_name"]
            .iter()
            .any(|of| labels.get(*of).is_some_and(|of| of == place))
    };
    targets[job].iter().filter(is_there).filter_map(|labels| labels.get(label).cloned()).collect()
}

fn objects() -> [Value; 5] {
    let reference = json!({ "kind": "Pod", "name": "changing", "namespace": "intended" });
    let labels = json!({ "changing": "before" });
    [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "intended" } }),
        pod("changing", labels),
        pod("twins", json!({ "a.b": "dot", "a_b": "underscore" })),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "changing", "namespace": "intended" }, "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.7.0.1"], "targetRef": reference }], "ports": [{ "port": 8080 }],
        }),
        json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "changing", "namespace": "intended" },
            "subsets": [{ "addresses": [{ "ip": "10.7.0.1", "targetRef": reference }], "ports": [{ "port": 8080 }] }],
        }),
    ]
}

fn pod(name: &str, labels: Value) -> Value {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "later", "controller": true,
        "uid": "11111111-1111-1111-1111-111111111111",
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "intended", "labels": labels, "ownerReferences": [owner] },
        "spec": { "containers": [{ "name": "main", "image": "none", "ports": [{ "containerPort": 8080 }] }] },
        "status": { "phase": "Running", "podIP": "10.7.0.1", "podIPs": [{ "ip": "10.7.0.1" }] },
    })
}

fn replica_set() -> Value {
    let labels = json!({ "app": "later" });
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "of-later", "controller": true,
        "uid": "11111111-1111-1111-1111-111111111111",
    });
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": "later", "namespace": "intended", "ownerReferences": [owner] },
        "spec": {
            "replicas": 0, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "main", "image": "none" }] } },
        },
    })
}
