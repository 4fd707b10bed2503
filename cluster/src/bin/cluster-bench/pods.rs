//! Pods as a cluster on Fargate has them: about nine kilobytes of JSON each, of which discovery needs a few hundred bytes.

use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;

/// Namespaces that pods are spread over.
pub(crate) const NAMESPACES: u32 = 40;
/// Applications; each has a replica set in each namespace.
const APPLICATIONS: u32 = 50;
const MADE: &str = "2026-11-20T08:00:00Z";

/// Where the API server looks for an object in etcd.
pub(crate) fn pod_key(namespace: &str, name: &str) -> String {
    format!("/registry/pods/{namespace}/{name}")
}

/// The namespace of the pod with this number.
pub(crate) fn namespace(number: u32) -> String {
    format!("team-{:02}", number % NAMESPACES)
}

/// The name of the pod with this number.
pub(crate) fn name(number: u32) -> String {
    // As replica sets name them: a hash for the template, five characters for the pod.
    format!("{}-7d9c5b6f4-{}", application(number), suffix(number))
}

/// A namespace.
pub(crate) fn namespace_object(index: u32) -> (String, Value) {
    let name = namespace(index);
    let object = json!({
        "kind": "Namespace", "apiVersion": "v1",
        "metadata": { "name": name, "uid": uid(0x4e53_0000 + u64::from(index)), "creationTimestamp": MADE,
            "labels": { "kubernetes.io/metadata.name": name } },
        "spec": { "finalizers": ["kubernetes"] },
        "status": { "phase": "Active" },
    });
    (format!("/registry/namespaces/{name}"), object)
}

/// A pod as the kubelet has left it, running, with its key in etcd.
pub(crate) fn pod(number: u32) -> (String, Value) {
    let (namespace, name, application) = (namespace(number), name(number), application(number));
    let address = Ipv4Addr::from(0x0a02_0000 + number).to_string();
    let node = format!("fargate-ip-{}.eu-west-1.compute.internal", address.replace('.', "-"));
    let mut annotations = json!({
        "CapacityProvisioned": "0.25vCPU 0.5GB",
        "Logging": "LoggingDisabled: LOGGING_CONFIGMAP_NOT_FOUND",
        "prometheus.io/port": "9102",
    });
    if number.is_multiple_of(10) {
        annotations["kubectl.kubernetes.io/last-applied-configuration"] = Value::from("x".repeat(2000));
    }
    let labels = json!({
        "app": application, "app.kubernetes.io/name": application,
        "app.kubernetes.io/instance": format!("{application}-{namespace}"),
        "pod-template-hash": "7d9c5b6f4", "eks.amazonaws.com/fargate-profile": "fp-default",
    });
    let object = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "generateName": format!("{application}-7d9c5b6f4-"), "namespace": namespace,
            "uid": uid(u64::from(number)), "creationTimestamp": MADE, "labels": labels, "annotations": annotations,
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": format!("{application}-7d9c5b6f4"), "uid": uid(0x5253_0000 + u64::from(number % APPLICATIONS)),
                "controller": true, "blockOwnerDeletion": true }],
            "managedFields": managed_fields(),
        },
        "spec": spec(&application, &node, number),
        "status": status(&address, number, &application),
    });
    (pod_key(&namespace, &name), object)
}

fn application(number: u32) -> String {
    format!("service-{:02}", number / NAMESPACES % APPLICATIONS)
}

fn suffix(number: u32) -> String {
    let alphabet = b"bcdfghjklmnpqrstvwxz2456789";
    let mut left = u64::from(number).wrapping_mul(0x9e37_79b9) & 0xff_ffff;
    // The number itself would do; letters that look like chance compress as chance does.
    let mut text = String::new();
    for _ in 0..5 {
        text.push(char::from(alphabet[(left % alphabet.len() as u64) as usize]));
        left /= alphabet.len() as u64;
    }
    format!("{text}{number:x}")
}

/// A uid that a number has.
pub(crate) fn uid(number: u64) -> String {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let other = mixed.rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        mixed >> 32,
        mixed >> 16 & 0xffff,
        mixed & 0xfff,
        other >> 52,
        other & 0xffff_ffff_ffff
    )
}

fn spec(application: &str, node: &str, number: u32) -> Value {
    let environment: Vec<Value> = (0..10 + number % 11)
        .map(|index| json!({ "name": format!("SETTING_{index}"), "value": "v".repeat(40) }))
        .collect();
    let probe = |path: &str| {
        json!({ "httpGet": { "path": path, "port": 8080, "scheme": "HTTP" }, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3 })
    };
    json!({
        "volumes": [
            { "name": "tmp", "emptyDir": {} },
            { "name": "configuration", "configMap": { "name": format!("{application}-configuration"), "defaultMode": 420 } },
            { "name": "kube-api-access-x7k2p", "projected": { "defaultMode": 420, "sources": [
                { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [{ "path": "namespace",
                    "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
            ] } },
        ],
        "containers": [{
            "name": "app",
            "image": format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/{application}:1.{}.0", number % 7),
            "ports": [
                { "name": "http", "containerPort": 8080, "protocol": "TCP" },
                { "name": "metrics", "containerPort": 9102, "protocol": "TCP" },
            ],
            "env": environment,
            "resources": { "limits": { "cpu": "250m", "memory": "512Mi" }, "requests": { "cpu": "250m", "memory": "512Mi" } },
            "volumeMounts": [
                { "name": "tmp", "mountPath": "/tmp" },
                { "name": "configuration", "readOnly": true, "mountPath": "/etc/app" },
                { "name": "kube-api-access-x7k2p", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" },
            ],
            "livenessProbe": probe("/live"), "readinessProbe": probe("/ready"),
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }],
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "serviceAccountName": application, "serviceAccount": application, "nodeName": node,
        "securityContext": {}, "schedulerName": "fargate-scheduler",
        "tolerations": [
            { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
        ],
        "priorityClassName": "system-node-critical", "priority": 2_000_001_000,
        "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
    })
}

fn status(address: &str, number: u32, application: &str) -> Value {
    let conditions: Vec<Value> = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    .iter()
    .map(|kind| json!({ "type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": MADE }))
    .collect();
    let id = format!("{}{}", uid(u64::from(number)), uid(u64::from(number) + 7)).replace('-', "");
    json!({
        "phase": "Running", "conditions": conditions, "hostIP": address, "hostIPs": [{ "ip": address }],
        "podIP": address, "podIPs": [{ "ip": address }], "startTime": MADE, "qosClass": "Guaranteed",
        "containerStatuses": [{
            "name": "app", "state": { "running": { "startedAt": MADE } }, "lastState": {}, "ready": true,
            "restartCount": 0, "started": true,
            "image": format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/{application}:1.{}.0", number % 7),
            "imageID": format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/{application}@sha256:{id}"),
            "containerID": format!("containerd://{id}"),
        }],
    })
}

/// What the API server notes about who wrote which field: as large as the rest.
fn managed_fields() -> Value {
    let mut of_pod = Map::new();
    for field in ["app", "app.kubernetes.io/name", "app.kubernetes.io/instance", "pod-template-hash"] {
        of_pod.insert(format!("f:{field}"), json!({}));
    }
    let mut of_container = Map::new();
    for field in [
        ".",
        "f:env",
        "f:image",
        "f:imagePullPolicy",
        "f:livenessProbe",
        "f:name",
        "f:ports",
        "f:readinessProbe",
        "f:resources",
        "f:terminationMessagePath",
        "f:terminationMessagePolicy",
        "f:volumeMounts",
    ] {
        of_container.insert(field.to_owned(), json!({}));
    }
    let environment: Map<String, Value> = (0..10)
        .map(|index| {
            (format!("k:{{\"name\":\"SETTING_{index}\"}}"), json!({ ".": {}, "f:name": {}, "f:value": {} }))
        })
        .collect();
    of_container.insert("f:env".to_owned(), Value::Object(environment));
    let conditions: Map<String, Value> = ["Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers"]
        .iter()
        .map(|kind| {
            let fields = json!({ ".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {} });
            (format!("k:{{\"type\":\"{kind}\"}}"), fields)
        })
        .collect();
    let by = |manager: &str, subresource: &str, fields: Value| {
        let mut entry = json!({ "manager": manager, "operation": "Update", "apiVersion": "v1", "time": MADE,
            "fieldsType": "FieldsV1", "fieldsV1": fields });
        if !subresource.is_empty() {
            entry["subresource"] = Value::from(subresource);
        }
        entry
    };
    json!([
        by(
            "kube-controller-manager",
            "",
            json!({
                "f:metadata": { "f:generateName": {}, "f:labels": of_pod, "f:ownerReferences": { ".": {} } },
                "f:spec": { "f:containers": { "k:{\"name\":\"app\"}": of_container }, "f:dnsPolicy": {},
                    "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                    "f:serviceAccount": {}, "f:serviceAccountName": {}, "f:terminationGracePeriodSeconds": {},
                    "f:volumes": { ".": {}, "k:{\"name\":\"tmp\"}": { ".": {}, "f:emptyDir": {}, "f:name": {} } } },
            }),
        ),
        by(
            "kubelet",
            "status",
            json!({ "f:status": { "f:conditions": conditions, "f:containerStatuses": {}, "f:hostIP": {}, "f:hostIPs": {},
                "f:phase": {}, "f:podIP": {}, "f:podIPs": { ".": {}, "k:{\"ip\":\"10.0.0.1\"}": { ".": {}, "f:ip": {} } },
                "f:startTime": {} } }),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pods_are_as_large_as_real_ones_and_each_has_its_own_name() {
        let pods: Vec<_> = (0..2000).map(pod).collect();
        let bytes: usize = pods.iter().map(|(_, pod)| pod.to_string().len()).sum();
        let mean = bytes / pods.len();
        assert!((7000..11_000).contains(&mean), "{mean} bytes");
        let keys: BTreeSet<_> = pods.iter().map(|(key, _)| key).collect();
        let uids: BTreeSet<_> = pods.iter().map(|(_, pod)| pod["metadata"]["uid"].as_str()).collect();
        assert_eq!((keys.len(), uids.len()), (pods.len(), pods.len()));
    }
}
