//! What the objects are, and where they are kept.

use std::collections::BTreeSet;

use promferry_model::{Rng, SeededRng};
use serde_json::{Value, json};
use smol_str::{SmolStr, format_smolstr};

/// Nodes in the cluster.
pub(super) const NODES: u64 = 60;

/// A kind of objects that discovery asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Pod,
    Service,
    EndpointSlice,
    Endpoints,
    Ingress,
    Node,
    Namespace,
    ReplicaSet,
    Job,
}

/// What tells an object from all others; the namespace is empty for those of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) kind: Kind,
    pub(super) namespace: SmolStr,
    pub(super) name: SmolStr,
}

impl Kind {
    pub(super) const ALL: &[Self] = &[
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::Endpoints,
        Self::Ingress,
        Self::Node,
        Self::Namespace,
        Self::ReplicaSet,
        Self::Job,
    ];

    /// Those that are in a namespace, and how many of each may be in one.
    pub(super) const NAMESPACED: &[(Self, u64)] = &[
        (Self::Pod, 20),
        (Self::Service, 5),
        (Self::EndpointSlice, 6),
        (Self::Endpoints, 5),
        (Self::Ingress, 3),
        (Self::ReplicaSet, 5),
        (Self::Job, 3),
    ];

    /// The kind whose objects are targets of a role.
    pub(super) fn of_role(role: &str) -> Self {
        match role {
            "pod" => Self::Pod,
            "service" => Self::Service,
            "endpointslice" => Self::EndpointSlice,
            "endpoints" => Self::Endpoints,
            "ingress" => Self::Ingress,
            "node" => Self::Node,
            other => panic!("no role is called {other}"),
        }
    }

    /// The word in its objects' names.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            // Endpoints have the name of their service.
            Self::Service | Self::Endpoints => "service",
            Self::EndpointSlice => "slice",
            Self::Ingress => "ingress",
            Self::Node => "node",
            Self::Namespace => "namespace",
            Self::ReplicaSet => "owner",
            Self::Job => "job",
        }
    }

    /// Where etcd has its objects, what begins the API's path, and its plural.
    fn places(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Pod => ("pods", "/api/v1", "pods"),
            Self::Service => ("services/specs", "/api/v1", "services"),
            Self::EndpointSlice => ("endpointslices", "/apis/discovery.k8s.io/v1", "endpointslices"),
            Self::Endpoints => ("services/endpoints", "/api/v1", "endpoints"),
            Self::Ingress => ("ingress", "/apis/networking.k8s.io/v1", "ingresses"),
            Self::Node => ("minions", "/api/v1", "nodes"),
            Self::Namespace => ("namespaces", "/api/v1", "namespaces"),
            Self::ReplicaSet => ("replicasets", "/apis/apps/v1", "replicasets"),
            Self::Job => ("jobs", "/apis/batch/v1", "jobs"),
        }
    }

    /// The path that lists all of them.
    pub(super) fn list_path(self) -> &'static str {
        match self {
            Self::Pod => "/api/v1/pods",
            Self::Service => "/api/v1/services",
            Self::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Endpoints => "/api/v1/endpoints",
            Self::Ingress => "/apis/networking.k8s.io/v1/ingresses",
            Self::Node => "/api/v1/nodes",
            Self::Namespace => "/api/v1/namespaces",
            Self::ReplicaSet => "/apis/apps/v1/replicasets",
            Self::Job => "/apis/batch/v1/jobs",
        }
    }
}

/// Its key in etcd.
pub(super) fn key(name: &Name) -> String {
    let (folder, _, _) = name.kind.places();
    match name.namespace.as_str() {
        "" => format!("/registry/{folder}/{}", name.name),
        namespace => format!("/registry/{folder}/{namespace}/{}", name.name),
    }
}

/// Its path in the API.
pub(super) fn path(name: &Name) -> String {
    let (_, prefix, plural) = name.kind.places();
    match name.namespace.as_str() {
        "" => format!("{prefix}/{plural}/{}", name.name),
        namespace => format!("{prefix}/namespaces/{namespace}/{plural}/{}", name.name),
    }
}

/// The source of the target group that it is (Prometheus 3.16, `discovery/kubernetes/*.go`).
pub(super) fn source(name: &Name) -> SmolStr {
    let Name { kind, namespace, name } = name;
    match kind {
        Kind::Pod => format_smolstr!("pod/{namespace}/{name}"),
        Kind::Service => format_smolstr!("svc/{namespace}/{name}"),
        Kind::EndpointSlice => format_smolstr!("endpointslice/{namespace}/{name}"),
        Kind::Endpoints => format_smolstr!("endpoints/{namespace}/{name}"),
        Kind::Ingress => format_smolstr!("ingress/{namespace}/{name}"),
        _ => format_smolstr!("node/{name}"),
    }
}

/// Whether a pod has targets where nodes are attached: it has an address, and its node is there.
pub(super) fn is_target(pod: &Value, nodes: &BTreeSet<&str>) -> bool {
    let has_address = pod["status"]["podIP"].as_str().is_some_and(|address| !address.is_empty());
    has_address && pod["spec"]["nodeName"].as_str().is_some_and(|node| nodes.contains(node))
}

/// The object as it is after so many changes. What it refers to may be there or not.
pub(super) fn object(name: &Name, seq: u64, chance: &mut SeededRng) -> Value {
    let mut any = |of: u64| chance.next_u64() % of;
    let mut object = match name.kind {
        Kind::Pod => pod(&mut any),
        Kind::Service => service(&mut any),
        Kind::EndpointSlice => slice(&name.namespace, &mut any),
        Kind::Endpoints => endpoints(&name.namespace, &mut any),
        Kind::Ingress => ingress(&mut any),
        Kind::Node => node(&mut any),
        Kind::Namespace => {
            json!({ "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" } })
        }
        Kind::ReplicaSet => template(json!({ "replicas": 0 }), "Always"),
        Kind::Job => template(
            json!({ "parallelism": 1, "completions": 1, "backoffLimit": 6, "manualSelector": true }),
            "Never",
        ),
    };
    let (_, prefix, _) = name.kind.places();
    object["kind"] = Value::from(format!("{:?}", name.kind));
    let version = prefix.strip_prefix("/apis/").or_else(|| prefix.strip_prefix("/api/"));
    object["apiVersion"] = Value::from(version.unwrap_or_default());
    let metadata = &mut object["metadata"];
    metadata["name"] = Value::from(name.name.as_str());
    if !name.namespace.is_empty() {
        metadata["namespace"] = Value::from(name.namespace.as_str());
    }
    metadata["uid"] = Value::from(format!("00000000-0000-4000-8000-{:012x}", any(1 << 48)));
    metadata["creationTimestamp"] = Value::from("2026-11-20T08:00:00Z");
    metadata["labels"]["seq"] = Value::from(seq.to_string());
    metadata["labels"]["tier"] = Value::from(format!("tier-{}", any(3)));
    metadata["annotations"] = json!({ "note": format!("{}", any(1000)) });
    match name.kind {
        Kind::ReplicaSet => metadata["ownerReferences"] = owner("Deployment", "deployment", any(4)),
        Kind::Job => metadata["ownerReferences"] = owner("CronJob", "cron", any(4)),
        _ => {}
    }
    object
}

fn owner(kind: &str, word: &str, index: u64) -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": kind, "name": format!("{word}-{index}"),
        "uid": format!("00000000-0000-4000-8000-{index:012x}"), "controller": true, "blockOwnerDeletion": true }])
}

fn pod(any: &mut impl FnMut(u64) -> u64) -> Value {
    let owner = if any(2) == 0 { owner("ReplicaSet", "owner", any(5)) } else { owner("Job", "job", any(3)) };
    let address = format!("10.{}.{}.{}", any(4), any(250), any(250));
    let mut status = json!({ "phase": if any(8) == 0 { "Pending" } else { "Running" },
        "conditions": [{ "type": "Ready", "status": if any(3) == 0 { "False" } else { "True" } }] });
    if any(10) > 0 {
        status["hostIP"] = Value::from("10.0.0.1");
        status["podIP"] = Value::from(address.as_str());
        status["podIPs"] = json!([{ "ip": address }]);
    }
    json!({
        "metadata": { "ownerReferences": owner },
        "spec": {
            "nodeName": format!("node-{}", any(NODES)),
            "containers": [container(80 + any(3))],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
            "schedulerName": "default-scheduler", "securityContext": {},
        },
        "status": status,
    })
}

fn container(port: u64) -> Value {
    json!({ "name": "app", "image": "app:1", "imagePullPolicy": "IfNotPresent", "resources": {},
        "ports": [{ "name": "metrics", "containerPort": port, "protocol": "TCP" }],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File" })
}

fn service(any: &mut impl FnMut(u64) -> u64) -> Value {
    json!({ "spec": { "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "None",
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
        "ports": [{ "name": "metrics", "port": 80 + any(3), "targetPort": 80, "protocol": "TCP" }] },
        "status": { "loadBalancer": {} } })
}

fn slice(namespace: &str, any: &mut impl FnMut(u64) -> u64) -> Value {
    let endpoints: Vec<Value> = (0..1 + any(3))
        .map(|_| {
            json!({ "addresses": [format!("10.9.{}.{}", any(250), any(250))],
                "conditions": { "ready": any(2) == 0, "serving": true, "terminating": false },
                "nodeName": format!("node-{}", any(NODES)),
                "targetRef": { "kind": "Pod", "namespace": namespace, "name": format!("pod-{}", any(20)) } })
        })
        .collect();
    json!({ "metadata": { "labels": { "kubernetes.io/service-name": format!("service-{}", any(5)) } },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{ "name": "metrics", "port": 80 + any(3), "protocol": "TCP" }] })
}

fn endpoints(namespace: &str, any: &mut impl FnMut(u64) -> u64) -> Value {
    let addresses: Vec<Value> = (0..1 + any(3))
        .map(|_| {
            json!({ "ip": format!("10.9.{}.{}", any(250), any(250)), "nodeName": format!("node-{}", any(NODES)),
                "targetRef": { "kind": "Pod", "namespace": namespace, "name": format!("pod-{}", any(20)) } })
        })
        .collect();
    json!({ "subsets": [{ "addresses": addresses,
        "ports": [{ "name": "metrics", "port": 80 + any(3), "protocol": "TCP" }] }] })
}

fn ingress(any: &mut impl FnMut(u64) -> u64) -> Value {
    let backend = json!({ "service": { "name": "service-0", "port": { "number": 80 } } });
    json!({ "spec": { "rules": [{ "host": format!("host-{}.example", any(50)), "http": { "paths": [
        { "path": format!("/{}", any(5)), "pathType": "Prefix", "backend": backend }] } }] },
        "status": { "loadBalancer": {} } })
}

fn node(any: &mut impl FnMut(u64) -> u64) -> Value {
    json!({ "spec": {}, "status": {
        "addresses": [{ "type": "InternalIP", "address": format!("10.1.{}.{}", any(250), any(250)) }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } } } })
}

/// An object that makes pods.
fn template(mut spec: Value, restart_policy: &str) -> Value {
    spec["selector"] = json!({ "matchLabels": { "made": "yes" } });
    spec["template"] = json!({ "metadata": { "labels": { "made": "yes" } }, "spec": {
        "containers": [container(80)], "restartPolicy": restart_policy, "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "securityContext": {} } });
    json!({ "spec": spec, "status": {} })
}
