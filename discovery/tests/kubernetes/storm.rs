use std::time::Duration;

use promferry_model::{Rng, SeededRng};
use serde_json::{Value, json};

use crate::api_server::{ApiServer, Streams};
use crate::support::{Consumer, found, options};

const ROLES: &[&str] = &["pod", "service", "endpoints", "endpointslice", "node", "ingress"];

/// Whatever happens in whatever order, with watches that break and versions that are forgotten in between: in the end
/// targets are those that one finds who has just begun.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_targets_are_those_of_a_fresh_start() {
    for seed in 0..6 {
        let mut chance = SeededRng::new(seed);
        let server = ApiServer::start().await;
        // Where lists are streamed and where they come in pages.
        server.stream(if seed % 2 == 0 { Streams::Whole } else { Streams::Refused });
        let attach =
            "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}";
        let jobs: Vec<_> = ROLES
            .iter()
            .map(|role| (*role, format!("role: {role}, {attach}, api_server: '{}'", server.url)))
            .collect();
        let mut options = options();
        options.kubernetes.page_items = 3;
        let mut consumer = Consumer::run(&jobs, options.clone());
        for step in 0..300 {
            happen(&server, &mut chance);
            if step % 20 == 0 {
                consumer.until("something", |_| true).await;
                tokio::time::sleep(Duration::from_millis(chance.next_u64() % 5)).await;
            }
        }
        let mut fresh = Consumer::run(&jobs, options);
        let has_all = |consumer: &Consumer| {
            let of = |job: &str| consumer.groups.keys().filter(|(of, _)| of == job).count();
            let status = consumer.discovery.status();
            status.iter().all(|status| status.last_success.is_some() && status.groups == of(&status.jobs[0]))
        };
        fresh.until("first results", has_all).await;
        assert!(fresh.groups.len() > 10, "seed {seed}: {:?}", fresh.sources());
        let all = |consumer: &Consumer| ROLES.iter().map(|role| found(consumer, role)).collect::<Vec<_>>();
        let expected = all(&fresh);
        consumer.until("the same targets", |consumer| all(consumer) == expected).await;
    }
}

/// One thing that happens: mostly an object that is written, made of few names so that objects refer to each other.
fn happen(server: &ApiServer, chance: &mut SeededRng) {
    let mut any = |of: u64| chance.next_u64() % of;
    match any(60) {
        0 => return server.disconnect(),
        1 => return server.forget(),
        2 => {
            server.forget();
            return server.disconnect();
        }
        _ => {}
    }
    let mut name = |kind: &str| format!("{kind}{}", any(4));
    let (namespace, pod, node, owner) = (name("ns"), name("pod"), name("node"), name("owner"));
    let (service, slice, label) = (name("svc"), name("slice"), name("label"));
    let is_deletion = any(4) == 0;
    let (plural, mut object) = match any(9) {
        0 | 1 => (
            "pods",
            json!({
                "metadata": { "name": pod, "namespace": namespace, "uid": "u", "ownerReferences": [
                    { "kind": if any(2) == 0 { "ReplicaSet" } else { "Job" }, "name": owner, "controller": true },
                ] },
                "spec": { "nodeName": node, "containers": [
                    { "name": "c", "image": label, "ports": [{ "containerPort": 80 + any(3) }] },
                ] },
                "status": { "podIP": if any(5) == 0 { "" } else { "10.0.0.1" } },
            }),
        ),
        2 => (
            "nodes",
            json!({
                "metadata": { "name": node },
                "status": { "addresses": [{ "type": "InternalIP", "address": format!("10.0.0.{}", any(4)) }] },
            }),
        ),
        3 => ("namespaces", json!({ "metadata": { "name": namespace } })),
        4 => (
            "services",
            json!({
                "metadata": { "name": service, "namespace": namespace },
                "spec": { "ports": [{ "port": 80 }], "ipFamilies": ["IPv4"],
                    "ipFamilyPolicy": if any(2) == 0 { "SingleStack" } else { "PreferDualStack" } },
            }),
        ),
        5 => (
            "endpointslices",
            json!({
                "metadata": { "name": slice, "namespace": namespace,
                    "labels": { "kubernetes.io/service-name": service } },
                "addressType": if any(2) == 0 { "IPv4" } else { "IPv6" },
                "ports": [{ "port": 80 + any(3) }],
                "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": {}, "nodeName": node,
                    "targetRef": { "kind": "Pod", "namespace": namespace, "name": pod } }],
            }),
        ),
        6 => (
            "endpoints",
            json!({
                "metadata": { "name": service, "namespace": namespace },
                "subsets": [{
                    "addresses": [{ "ip": "10.0.0.1", "nodeName": node,
                        "targetRef": { "kind": "Pod", "namespace": namespace, "name": pod } }],
                    "ports": [{ "port": 80 + any(3) }],
                }],
            }),
        ),
        7 => {
            let (plural, kind) =
                if any(2) == 0 { ("replicasets", "Deployment") } else { ("jobs", "CronJob") };
            let owners = json!([{ "kind": kind, "name": label, "controller": true }]);
            (
                plural,
                json!({ "metadata": { "name": owner, "namespace": namespace, "ownerReferences": owners } }),
            )
        }
        _ => (
            "ingresses",
            json!({
                "metadata": { "name": service, "namespace": namespace },
                "spec": { "rules": [{ "host": label }] },
            }),
        ),
    };
    let is_of_cluster = matches!(plural, "nodes" | "namespaces");
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let key = if is_of_cluster { name } else { format!("{namespace}/{name}") };
    if is_deletion {
        if server.has(plural, &key) {
            server.delete(plural, &key);
        }
        return;
    }
    let mut labels = object["metadata"]["labels"].take();
    if labels.is_null() {
        labels = Value::Object(serde_json::Map::new());
    }
    labels["said"] = json!(label);
    object["metadata"]["labels"] = labels;
    server.put(plural, object);
}
