//! The objects of the scenario, each in one of the states that a role reads.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{HOMELESS, Scenario};

impl Scenario {
    pub(super) fn node(&self, i: usize) -> Value {
        let ip = |network: u8| format!("10.{network}.{}.{}", i / 250, i % 250 + 1);
        let address = |kind: &str, address: String| json!({ "type": kind, "address": address });
        let addresses = match i % 5 {
            0 => vec![address("InternalIP", ip(0)), address("Hostname", format!("node-{i}"))],
            1 => vec![address("Hostname", format!("node-{i}")), address("ExternalIP", ip(3))],
            2 => vec![address("InternalIP", format!("fd00::{:x}", i + 1)), address("InternalIP", ip(0))],
            3 => vec![
                address("ExternalDNS", format!("node-{i}.example.com")),
                address("InternalDNS", format!("n{i}.internal")),
            ],
            _ => vec![address("Hostname", format!("node-{i}"))],
        };
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": format!("node-{i}"),
                "labels": { "pool": if i.is_multiple_of(2) { "a" } else { "b" }, "topology.kubernetes.io/zone": format!("eu-west-1{}", i % 3) },
                "annotations": { "node.alpha/ttl": "0" },
            },
            "spec": match i % 3 { 0 => json!({}), _ => json!({ "providerID": format!("aws:///eu-west-1a/i-{i}") }) },
            "status": {
                "addresses": addresses,
                "conditions": [{ "type": "Ready", "status": "True" }, { "type": "MemoryPressure", "status": "False" }],
                "daemonEndpoints": { "kubeletEndpoint": { "Port": if i % 4 == 3 { 0 } else { 10250 } } },
            },
        })
    }

    pub(super) fn replica_set(&self, i: usize) -> Value {
        let labels = json!({ "app": format!("app-{i}") });
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": { "name": format!("rs-{i}"), "namespace": self.namespace_of(i), "ownerReferences": match i % 4 {
                3 => json!([]),
                2 => owner("argoproj.io/v1alpha1", "Rollout", &format!("rollout-{i}")),
                _ => owner("apps/v1", "Deployment", &format!("deployment-{i}")),
            } },
            "spec": {
                "replicas": 0, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "main", "image": "none" }] } },
            },
        })
    }

    pub(super) fn job(&self, i: usize) -> Value {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": format!("job-{i}"), "namespace": self.namespace_of(i), "ownerReferences": match i % 3 {
                0 => json!([]),
                _ => owner("batch/v1", "CronJob", &format!("cronjob-{i}")),
            } },
            "spec": { "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "none" }] } } },
        })
    }

    pub(super) fn pod(&self, i: usize) -> Value {
        let port = |number: usize, name: &str| match name {
            "" => json!({ "containerPort": number }),
            name => json!({ "containerPort": number, "name": name, "protocol": "TCP" }),
        };
        let container = |name: &str, ports: Vec<Value>| json!({ "name": name, "image": format!("example.com/{name}:1.{}", i % 7), "ports": ports });
        let containers = match i % 7 {
            0 => vec![
                container("app", vec![port(8080, "http"), port(9102, "metrics")]),
                container("log", vec![]),
            ],
            1 => vec![container("app", vec![port(8080, "")])],
            2 => vec![container("app", vec![])],
            3 => vec![container(
                "app",
                vec![
                    port(8080, "http"),
                    json!({ "containerPort": 8125, "name": "statsd", "protocol": "UDP" }),
                ],
            )],
            4 => vec![
                container("app", vec![port(8080, "http")]),
                container("proxy", vec![port(15090, "envoy"), port(8080, "again")]),
            ],
            5 => vec![container("app", vec![port(9090, "")]), container("other", vec![port(9091, "m")])],
            _ => vec![container("app", vec![port(8080, "http"), port(8443, "https"), port(9102, "metrics")])],
        };
        let side = |name: &str, ports: Vec<Value>| {
            let mut container = container(name, ports);
            container["restartPolicy"] = json!("Always");
            container
        };
        let init = match i % 5 {
            0 => vec![container("init", vec![])],
            1 => vec![container("init", vec![]), side("sidecar", vec![port(9901, "admin")])],
            _ => vec![],
        };
        // What owns it is in its namespace: those with the same remainder are.
        let namespaces = self.counts.namespaces;
        let owned = |of: usize| (i % namespaces) + namespaces * (i / namespaces % (of / namespaces).max(1));
        let owners = match i % 6 {
            0 | 1 if owned(self.counts.owners) < self.counts.owners => {
                owner("apps/v1", "ReplicaSet", &format!("rs-{}", owned(self.counts.owners)))
            }
            2 if owned(self.counts.owners) < self.counts.owners => {
                owner("batch/v1", "Job", &format!("job-{}", owned(self.counts.owners)))
            }
            3 => owner("apps/v1", "StatefulSet", "db"),
            4 => owner("batch/v1", "Job", "gone"),
            _ => json!([]),
        };
        let mut spec =
            json!({ "containers": containers, "initContainers": init, "terminationGracePeriodSeconds": 600 });
        match i % 8 {
            0 => {}
            7 => spec["nodeName"] = json!("node-unknown"),
            _ => spec["nodeName"] = json!(format!("node-{}", i % self.counts.nodes)),
        }
        if i % 9 == 8 {
            // Each number once: the ports are the host's.
            spec["hostNetwork"] = json!(true);
            spec["containers"] = json!([container("app", vec![port(8080, "http")])]);
            spec["initContainers"] = json!([]);
        }
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("pod-{i}"), "namespace": self.namespace_of(i), "ownerReferences": owners,
                "labels": {
                    "app": format!("app-{}", i % 5), "side": if i.is_multiple_of(2) { "front" } else { "back" },
                    "app.kubernetes.io/name": format!("name-{}", i % 3), "pod-template-hash": "5d9c7", "empty": "",
                },
                "annotations": { "prometheus.io/scrape": "true", "prometheus.io/port": "9102", "multi": "line1\nline2 ünï" },
            },
            "spec": spec, "status": self.pod_status(i),
        })
    }

    pub(super) fn pod_status(&self, i: usize) -> Value {
        let ip = match i % 10 {
            8 => format!("fd00:1::{:x}", i + 1),
            _ => format!("10.1.{}.{}", i / 250, i % 250 + 1),
        };
        let ready = match i % 4 {
            0 => "False",
            1 => "Unknown",
            _ => "True",
        };
        let conditions = match i % 11 {
            10 => json!([]),
            _ => json!([{ "type": "Initialized", "status": "True" }, { "type": "Ready", "status": ready }]),
        };
        let status = |name: &str| {
            json!({
                "name": name, "image": name, "imageID": "", "containerID": format!("containerd://{i:064x}"), "ready": true, "restartCount": 0,
            })
        };
        let phase = match i % 9 {
            6 => "Pending",
            7 => "Succeeded",
            8 => "Failed",
            _ => "Running",
        };
        let mut status = json!({
            "phase": phase, "hostIP": format!("10.0.0.{}", i % 250 + 1), "conditions": conditions,
            "containerStatuses": [status("app"), status("proxy")], "initContainerStatuses": match i % 2 {
                0 => json!([]),
                _ => json!([status("sidecar")]),
            },
            "podIP": ip, "podIPs": [{ "ip": ip }],
        });
        if i % 13 == 6 {
            // It is starting: a merge patch takes what there was.
            status["podIP"] = Value::Null;
            status["podIPs"] = Value::Null;
        }
        status
    }

    pub(super) fn service(&self, i: usize) -> Value {
        let port = |number: usize, name: &str| json!({ "port": number, "name": name });
        let (spec, status) = match i % 7 {
            0 => (json!({ "ports": [port(80, "http"), port(443, "https")] }), json!({})),
            1 => (json!({ "clusterIP": "None", "ports": [{ "port": 9102 }] }), json!({})),
            2 => (
                json!({ "type": "ExternalName", "externalName": format!("db-{i}.example.com"), "ports": [port(5432, "sql")] }),
                json!({}),
            ),
            3 => (
                json!({ "type": "LoadBalancer", "ports": [port(80, "http")] }),
                json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "hostname": "lb.example.com" }, { "ip": "192.0.2.2" }] } }),
            ),
            4 => (
                json!({ "type": "NodePort", "ports": [{ "port": 53, "name": "dns", "protocol": "UDP" }] }),
                json!({}),
            ),
            5 => (
                json!({ "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"], "ports": [port(80, "http")] }),
                json!({}),
            ),
            _ => (
                json!({ "type": "LoadBalancer", "loadBalancerIP": "192.0.2.9", "ports": [port(80, "http")] }),
                json!({}),
            ),
        };
        let mut spec = spec;
        spec["selector"] = json!({ "app": format!("app-{}", i % 5) });
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": format!("svc-{i}"), "namespace": self.namespace_of(i),
                "labels": { "app": format!("app-{}", i % 5), "side": if i.is_multiple_of(2) { "front" } else { "back" } },
                "annotations": { "prometheus.io/probe": "true" },
            },
            "spec": spec, "status": status,
        })
    }

    /// A pod of the same namespace, as endpoints refer to it.
    fn reference(&self, i: usize) -> Value {
        let namespaces = self.counts.namespaces;
        let pod = i % namespaces + namespaces * (i / namespaces % (self.counts.pods / namespaces));
        json!({ "kind": "Pod", "name": format!("pod-{pod}"), "namespace": self.namespace_of(i) })
    }

    pub(super) fn slice(&self, i: usize) -> Value {
        let namespaces = self.counts.namespaces;
        let is_ipv6 = i % 6 == 5;
        let address = |n: usize| match is_ipv6 {
            true => format!("fd00:1::{:x}", n + 1),
            false => format!("10.1.{}.{}", n / 250, n % 250 + 1),
        };
        let node = format!("node-{}", i % self.counts.nodes);
        let mut endpoints = vec![
            json!({
                "addresses": [address(i)], "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": self.reference(i), "nodeName": node, "zone": "eu-west-1a", "hostname": format!("host-{i}"),
            }),
            json!({
                "addresses": [address(i + 1), address(i + 2)], "conditions": { "ready": false, "serving": true, "terminating": true },
                "targetRef": self.reference(i + namespaces),
            }),
        ];
        match i % 5 {
            0 => endpoints.push(json!({ "addresses": [address(i + 3)], "targetRef": { "kind": "Node", "name": node } })),
            1 => endpoints.push(json!({ "addresses": [address(i + 3)], "targetRef": { "kind": "Pod", "name": "gone", "namespace": self.namespace_of(i) } })),
            2 => endpoints.push(json!({ "addresses": [address(i + 3)], "nodeName": node })),
            3 => endpoints.truncate(1),
            _ => {}
        }
        let ports = match i % 4 {
            0 => json!([{ "name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http" }]),
            1 => json!([{ "name": "a", "port": 8080 }, { "name": "b", "port": 9102 }]),
            2 => json!([{ "name": "any" }]),
            _ => json!([{ "port": 15090 }]),
        };
        let mut labels = json!({ "side": if i.is_multiple_of(2) { "front" } else { "back" } });
        if i % 7 != 6 {
            labels["kubernetes.io/service-name"] = json!(format!("svc-{}", i % self.counts.services));
            if self.namespace_of(i % self.counts.services) != self.namespace_of(i) {
                labels["kubernetes.io/service-name"] = json!("not-there");
            }
        }
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("slice-{i}"), "namespace": self.namespace_of(i), "labels": labels, "annotations": { "of": "test" } },
            "addressType": if is_ipv6 { "IPv6" } else { "IPv4" }, "endpoints": endpoints, "ports": ports,
        })
    }

    pub(super) fn endpoints(&self, i: usize) -> Value {
        let namespaces = self.counts.namespaces;
        let address = |n: usize| format!("10.1.{}.{}", n / 250, n % 250 + 1);
        let node = format!("node-{}", i % self.counts.nodes);
        let subsets = match i % 5 {
            0 => json!([]),
            1 => json!([{ "addresses": [{ "ip": address(i) }], "ports": [{ "port": 80 }] }]),
            2 => json!([
                { "addresses": [{ "ip": address(i), "targetRef": self.reference(i), "nodeName": node, "hostname": format!("host-{i}") }],
                  "notReadyAddresses": [{ "ip": address(i + 1), "targetRef": self.reference(i + namespaces) }],
                  "ports": [{ "name": "http", "port": 8080 }, { "name": "statsd", "port": 8125, "protocol": "UDP" }] },
                { "addresses": [{ "ip": address(i + 2) }], "ports": [{ "name": "other", "port": 7000 }] },
            ]),
            3 => {
                json!([{ "notReadyAddresses": [{ "ip": address(i), "targetRef": self.reference(i) }], "ports": [{ "name": "http", "port": 8080 }] }])
            }
            _ => {
                json!([{ "addresses": [{ "ip": address(i), "targetRef": { "kind": "Node", "name": node } }], "ports": [{ "name": "http", "port": 10250 }] }])
            }
        };
        let mut object = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": { "name": format!("svc-{i}"), "namespace": self.namespace_of(i), "labels": { "app": format!("app-{}", i % 5) } },
        });
        if subsets != json!([]) {
            object["subsets"] = subsets;
        }
        object
    }

    pub(super) fn ingress(&self, i: usize) -> Value {
        let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
        let path = |path: &str| json!({ "path": path, "pathType": "Prefix", "backend": backend });
        let spec = match i % 5 {
            0 => {
                json!({ "ingressClassName": "alb", "tls": [{ "hosts": ["*.example.com"], "secretName": "s" }], "rules": [
                { "host": format!("web-{i}.example.com"), "http": { "paths": [path("/"), path("/api")] } },
                { "host": "a.b.example.com", "http": { "paths": [path("/")] } },
                { "host": "plain.example.org" },
            ] })
            }
            1 => json!({ "rules": [{ "http": { "paths": [path("/metrics")] } }] }),
            2 => json!({ "defaultBackend": backend }),
            3 => {
                json!({ "tls": [{ "hosts": [format!("exact-{i}.example.com")] }, { "secretName": "all" }], "rules": [
                { "host": format!("exact-{i}.example.com"), "http": { "paths": [{ "pathType": "ImplementationSpecific", "backend": backend }] } },
                { "host": "*.wild.example.com", "http": { "paths": [path("/")] } },
            ] })
            }
            _ => {
                json!({ "ingressClassName": "nginx", "rules": [{ "host": format!("h{i}.example.com"), "http": { "paths": [path("/x")] } }] })
            }
        };
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": { "name": format!("ingress-{i}"), "namespace": self.namespace_of(i), "labels": { "side": if i.is_multiple_of(2) { "front" } else { "back" } } },
            "spec": spec,
        })
    }
}

pub(super) fn namespace(i: usize) -> Value {
    let mut labels = BTreeMap::from([("team", format!("team-{}", i % 3))]);
    if i.is_multiple_of(2) {
        labels.insert("env.kind", "prod".to_owned());
    }
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": format!("ns-{i}"), "labels": labels, "annotations": { "owner/contact": "x@y" } },
    })
}

pub(super) fn homeless() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": HOMELESS },
        "status": { "addresses": [{ "type": "InternalIP", "address": "10.9.9.9" }] },
    })
}

/// The one that controls, after one that does not.
fn owner(version: &str, kind: &str, name: &str) -> Value {
    let uid = "11111111-1111-1111-1111-111111111111";
    json!([
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": uid },
        { "apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true },
    ])
}
