//! The server is a real one: it refuses, forgets and comes back.

use http::{Method, StatusCode};
use promferry_cluster::Cluster;
use serde_json::{Value, json};

const RIGHTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: pods}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: pods}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: pods}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: user-1}]
"#;

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_rights_restart_and_compaction() {
    let Some(mut cluster) = Cluster::start("objects_rights_restart_and_compaction").await else { return };
    let pods = "/api/v1/namespaces/shop/pods";
    cluster.create("/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } })).await;
    let pod = json!({
        "metadata": { "name": "web-1" },
        "spec": { "containers": [{ "name": "main", "image": "none" }] },
        "status": { "phase": "Running", "podIP": "10.1.0.1", "podIPs": [{ "ip": "10.1.0.1" }] },
    });
    cluster.create(pods, &pod).await;
    let (_, list) = cluster.call(Method::GET, pods, None).await;
    assert_eq!(list["items"][0]["status"]["podIP"], "10.1.0.1");

    assert_eq!(cluster.call_as("user-1", Method::GET, pods, None).await.0, StatusCode::FORBIDDEN);
    cluster.apply_yaml(RIGHTS).await;
    // The server hears of rights as others do, by a watch.
    while cluster.call_as("user-1", Method::GET, pods, None).await.0 != StatusCode::OK {}
    assert_eq!(cluster.call_as("nobody", Method::GET, pods, None).await.0, StatusCode::FORBIDDEN);

    let before = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    cluster.stop().await;
    let mut written = list["items"][0].clone();
    written["apiVersion"] = json!("v1");
    written["kind"] = json!("Pod");
    for number in 2..200 {
        written["metadata"]["name"] = json!(format!("web-{number}"));
        cluster.etcd_put(&[(format!("/registry/pods/shop/web-{number}"), written.clone())]).await;
    }
    cluster.etcd_delete(&["/registry/pods/shop/web-1".to_owned()]).await;
    cluster.compact().await;
    cluster.restart().await;
    let (_, list) = cluster.call(Method::GET, pods, None).await;
    assert_eq!(names(&list).len(), 198);
    assert!(!names(&list).contains(&"web-1"));
    let watch = format!("{pods}?watch=1&timeoutSeconds=1&resourceVersion={before}");
    let (status, expired) = cluster.call(Method::GET, &watch, None).await;
    assert!(status == StatusCode::GONE || expired["object"]["code"] == 410, "{status}: {expired}");
}
