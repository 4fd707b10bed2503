//! A cluster's life in steps: hundreds of objects of every kind that a role reads, and what happens to them.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use promferry_cluster::{Cluster, collection};
use serde_json::{Value, json};

/// The annotation by which every object that lends labels tells the step in which it was looked at last.
const STEP: &str = "step";

/// The namespace in which the rights are taken away, and the one beside it.
pub(crate) const REVOKED: &str = "ns-2";
pub(crate) const BESIDE_REVOKED: &str = "ns-1";

/// A node that loses its addresses. Its target stays as it was: the step that it tells is an old one.
pub(crate) const HOMELESS: &str = "node-homeless";

/// How many of each kind; `times` is 1 for 300 objects in all.
#[derive(Clone, Copy)]
struct Counts {
    namespaces: usize,
    nodes: usize,
    owners: usize,
    pods: usize,
    services: usize,
    slices: usize,
    endpoints: usize,
    ingresses: usize,
}

pub(crate) struct Scenario {
    pub(crate) cluster: Cluster,
    counts: Counts,
    seed: usize,
    step: usize,
    /// Something else each time that targets are to be made again.
    prompts: std::cell::Cell<usize>,
}

/// The kinds whose labels and annotations become labels, those first that others take theirs from.
const KINDS: &[&str] = &[
    "/api/v1/namespaces",
    "/api/v1/nodes",
    "/api/v1/services",
    "/apis/networking.k8s.io/v1/ingresses",
    "/api/v1/pods",
    "/api/v1/endpoints",
    "/apis/discovery.k8s.io/v1/endpointslices",
];

/// The kinds that Prometheus does not make again by itself when what they refer to is another.
const REFERRING: &[&str] = &["/api/v1/endpoints", "/apis/discovery.k8s.io/v1/endpointslices"];

impl Scenario {
    pub(crate) fn new(cluster: Cluster, times: usize, seed: usize) -> Self {
        let counts = Counts {
            namespaces: 6 + 2 * times,
            nodes: 12 * times,
            owners: 10 * times,
            pods: 110 * times,
            services: 40 * times,
            slices: 50 * times,
            endpoints: 38 * times,
            ingresses: 20 * times,
        };
        Self { cluster, counts, seed, step: 0, prompts: std::cell::Cell::new(0) }
    }

    /// What targets' `…_annotation_step` is since the last [`settle`](Self::settle).
    pub(crate) fn step(&self) -> String {
        self.step.to_string()
    }

    /// The rights of `scraper`, to everything, and of `user-1`, to two namespaces.
    pub(crate) async fn grant(&self) {
        self.cluster.apply_yaml(RIGHTS).await;
        for namespace in [BESIDE_REVOKED, REVOKED] {
            self.grant_namespace(namespace).await;
        }
    }

    pub(crate) async fn grant_namespace(&self, namespace: &str) {
        self.cluster.apply_yaml(&RIGHTS_OF_NAMESPACE.replace("NAMESPACE", namespace)).await;
    }

    pub(crate) async fn revoke(&self) {
        let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces";
        self.cluster.delete(&format!("{bindings}/{REVOKED}/rolebindings/pods")).await;
    }

    pub(crate) async fn create_all(&self) -> usize {
        let counts = self.counts;
        let mut created = 0;
        let some = |count: usize, make: &dyn Fn(usize) -> Value| (0..count).map(make).collect::<Vec<_>>();
        for objects in [
            some(counts.namespaces, &|i| namespace(i)),
            some(counts.nodes, &|i| self.node(i)),
            vec![homeless()],
            some(counts.owners, &|i| self.replica_set(i)),
            some(counts.owners, &|i| self.job(i)),
            some(counts.services, &|i| self.service(i)),
            some(counts.pods, &|i| self.pod(i)),
            some(counts.slices, &|i| self.slice(i)),
            some(counts.endpoints, &|i| self.endpoints(i)),
            some(counts.ingresses, &|i| self.ingress(i)),
        ] {
            self.create(&objects).await;
            created += objects.len();
        }
        created
    }

    async fn create(&self, objects: &[Value]) {
        each(objects, async |object| drop(self.cluster.create(&collection(object), object).await)).await;
    }

    /// Everything has its chance to lend other labels than before.
    pub(crate) async fn change(&self) {
        let some = |count: usize, kind: usize| (0..count).filter(move |i| self.pick(*i, kind, 4) == 0);
        each(&some(self.counts.pods, 1).collect::<Vec<_>>(), async |i| {
            let path = self.path("pods", *i, &format!("pod-{i}"));
            let patch = json!({ "metadata": {
                "labels": { "version": format!("v{}", self.step), "pod-template-hash": null },
                "annotations": { "prometheus.io/port": (9000 + self.step).to_string(), "changed": "line\nünï \"x\"" },
            } });
            self.alter(&path, &patch).await;
        })
        .await;
        each(&some(self.counts.pods, 2).collect::<Vec<_>>(), async |i| {
            let path = format!("{}/status", self.path("pods", *i, &format!("pod-{i}")));
            self.alter(&path, &json!({ "status": self.pod_status(i + self.step) })).await;
        })
        .await;
        for i in some(self.counts.services, 3) {
            let path = self.path("services", i, &format!("svc-{i}"));
            let patch = json!({ "metadata": { "labels": { "tier": format!("t{}", self.step) } } });
            self.alter(&path, &patch).await;
        }
        for i in some(self.counts.slices, 4) {
            let path = self.path("endpointslices", i, &format!("slice-{i}"));
            let endpoints = &self.slice(i + 1)["endpoints"];
            // Addresses are of the type that the slice has.
            if self.slice(i)["addressType"] == self.slice(i + 1)["addressType"] {
                self.alter(&path, &json!({ "endpoints": endpoints })).await;
            }
        }
        for i in some(self.counts.endpoints, 5) {
            let path = self.path("endpoints", i, &format!("svc-{i}"));
            self.alter(&path, &json!({ "subsets": self.endpoints(i + 1)["subsets"] })).await;
        }
        for i in some(self.counts.ingresses, 6) {
            let path = self.path("ingresses", i, &format!("ingress-{i}"));
            self.alter(&path, &json!({ "spec": self.ingress(i + 1)["spec"] })).await;
        }
        for i in some(self.counts.nodes, 7) {
            let conditions = json!([{ "type": "Ready", "status": "Unknown" }, { "type": "DiskPressure", "status": "True" }]);
            let status = json!({ "status": { "conditions": conditions } });
            self.alter(&format!("/api/v1/nodes/node-{i}/status"), &status).await;
        }
        let addresses = json!({ "status": { "addresses": null } });
        self.alter(&format!("/api/v1/nodes/{HOMELESS}/status"), &addresses).await;
    }

    /// A third of what selectors select is selected by the other one.
    pub(crate) async fn move_between_selectors(&self) {
        let some = |count: usize, kind: usize| (0..count).filter(move |i| self.pick(*i, kind, 3) == 0);
        for (kind, prefix, count) in
            [("pods", "pod", self.counts.pods), ("endpointslices", "slice", self.counts.slices)]
        {
            each(&some(count, 8).collect::<Vec<_>>(), async |i| {
                let side = if (i + self.step).is_multiple_of(2) { "front" } else { "back" };
                let patch = json!({ "metadata": { "labels": { "side": side } } });
                self.alter(&self.path(kind, *i, &format!("{prefix}-{i}")), &patch).await;
            })
            .await;
        }
        for i in some(self.counts.nodes, 9) {
            let patch = json!({ "metadata": { "labels": { "pool": "moved" } } });
            self.alter(&format!("/api/v1/nodes/node-{i}"), &patch).await;
        }
    }

    /// Some objects are others of the same name, at once.
    pub(crate) async fn replace(&self) {
        for i in 0..self.counts.pods / 10 {
            let (of, like) = (i * 10 + 1, i * 10 + 4);
            self.make_again("pods", of, &format!("pod-{of}"), self.pod(like)).await;
        }
        for i in 0..self.counts.slices / 10 {
            let (of, like) = (i * 10 + 2, i * 10 + 3);
            self.make_again("endpointslices", of, &format!("slice-{of}"), self.slice(like)).await;
        }
        for i in 0..self.counts.services / 10 {
            let (of, like) = (i * 10 + 3, i * 10 + 1);
            self.make_again("services", of, &format!("svc-{of}"), self.service(like)).await;
        }
        self.cluster.delete("/api/v1/nodes/node-1").await;
        let mut node = self.node(2);
        node["metadata"]["name"] = json!("node-1");
        self.create(&[node]).await;
    }

    async fn make_again(&self, kind: &str, index: usize, name: &str, mut object: Value) {
        self.cluster.delete(&self.path(kind, index, name)).await;
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!(self.namespace_of(index));
        self.create(&[object]).await;
    }

    /// Namespaces have other labels, and there is a new one.
    pub(crate) async fn change_namespaces(&self) {
        for i in 0..self.counts.namespaces / 2 {
            let patch = json!({ "metadata": { "labels": { "team": format!("team-{}", self.step), "env.kind": null } } });
            self.cluster.patch(&format!("/api/v1/namespaces/ns-{i}"), &patch).await;
        }
        let mut late = namespace(0);
        late["metadata"]["name"] = json!("late");
        self.create(&[late]).await;
        let mut pod = self.pod(0);
        pod["metadata"]["namespace"] = json!("late");
        self.create(&[pod]).await;
    }

    /// What the API server does not see happen: it is down, and forgets what it knew.
    pub(crate) async fn change_while_the_server_is_away(&mut self) {
        let mut puts = Vec::new();
        let mut deletes = Vec::new();
        let lists = [
            ("/api/v1/pods", "pods"),
            ("/api/v1/services", "services/specs"),
            (REFERRING[1], "endpointslices"),
        ];
        for (path, folder) in lists {
            for (number, mut object) in self.list(path).await.into_iter().enumerate() {
                let metadata = &object["metadata"];
                let key = format!(
                    "/registry/{folder}/{}/{}",
                    metadata["namespace"].as_str().unwrap(),
                    metadata["name"].as_str().unwrap()
                );
                if metadata["name"] == "kubernetes" {
                    continue;
                }
                match self.pick(number, 10, 6) {
                    0 | 1 => {
                        object["metadata"]["labels"]["unseen"] = json!(format!("u{}", self.step));
                        if folder == "endpointslices" {
                            // The API takes none any more, and gives those that are stored.
                            for endpoint in object["endpoints"].as_array_mut().into_iter().flatten() {
                                endpoint["deprecatedTopology"] = json!({ "example.com/rack": "r1" });
                            }
                        }
                        if let Some(metadata) = object["metadata"].as_object_mut() {
                            metadata.remove("resourceVersion");
                        }
                        puts.push((key, object));
                    }
                    2 => deletes.push(key),
                    _ => {}
                }
            }
        }
        self.cluster.stop().await;
        self.cluster.etcd_put(&puts).await;
        self.cluster.etcd_delete(&deletes).await;
        self.cluster.compact().await;
        self.cluster.restart().await;
    }

    /// Some pods are asked to end and have not yet; what was asked to before has.
    pub(crate) async fn terminate_pods(&self) {
        for pod in
            self.list("/api/v1/pods").await.iter().filter(|pod| pod["spec"]["nodeName"].is_string()).take(12)
        {
            let (status, answer) = self.cluster.call(Method::DELETE, &path_of(pod), None).await;
            assert!(status.is_success(), "{answer}");
        }
    }

    /// Nothing is left that could be a target.
    pub(crate) async fn delete_all(&self) {
        let now = json!({ "gracePeriodSeconds": 0, "propagationPolicy": "Background" });
        let namespaces = self.list("/api/v1/namespaces").await;
        let kinds = KINDS.iter().filter(|kind| !kind.ends_with("/namespaces") && !kind.ends_with("/nodes"));
        for kind in kinds {
            let (group, plural) = kind.rsplit_once('/').unwrap();
            each(&namespaces, async |namespace| {
                let name = namespace["metadata"]["name"].as_str().unwrap();
                let path = format!("{group}/namespaces/{name}/{plural}");
                let (status, answer) = self.cluster.call(Method::DELETE, &path, Some(&now)).await;
                assert!(status.is_success(), "{path}: {answer}");
            })
            .await;
        }
        self.cluster.call(Method::DELETE, "/api/v1/nodes", Some(&now)).await;
    }

    /// Every object that lends labels is annotated with a new step, in an order in which nobody's labels are taken from
    /// one that comes later. Who shows the new step everywhere has seen all that was before.
    pub(crate) async fn settle(&mut self) {
        self.step += 1;
        let patch = json!({ "metadata": { "annotations": { STEP: self.step() } } });
        for kind in KINDS {
            self.annotate(kind, &patch).await;
        }
    }

    /// Endpoints and slices are touched, so that Prometheus makes their targets again: it does not follow everything that
    /// it takes their labels from (docs/kubernetes.md).
    pub(crate) async fn prompt(&self) {
        self.prompts.set(self.prompts.get() + 1);
        // Most of the time all is well in a moment.
        if !self.prompts.get().is_multiple_of(4) {
            return;
        }
        let patch = json!({ "metadata": { "annotations": { "prompt": self.prompts.get().to_string() } } });
        for kind in REFERRING {
            self.annotate(kind, &patch).await;
        }
    }

    /// Patches an object, unless an earlier step has deleted it.
    async fn alter(&self, path: &str, patch: &Value) {
        let (status, answer) = self.cluster.call(Method::PATCH, path, Some(patch)).await;
        assert!(status == StatusCode::OK || status == StatusCode::NOT_FOUND, "{path}: {answer}");
    }

    async fn annotate(&self, kind: &str, patch: &Value) {
        let objects = self.list(kind).await;
        each(&objects, async |object| {
            // What the API server made itself is its own to write. Of a node that has lost its addresses ours still follows
            // the labels, which is another comparison's.
            let name = &object["metadata"]["name"];
            if name != "kubernetes" && (name != HOMELESS || object["status"]["addresses"].is_array()) {
                self.cluster.patch(&path_of(object), patch).await;
            }
        })
        .await;
    }

    /// All objects of a kind, each with its `apiVersion` and `kind`.
    async fn list(&self, path: &str) -> Vec<Value> {
        let (status, mut list) = self.cluster.call(Method::GET, path, None).await;
        assert!(status.is_success(), "{list}");
        let kind = list["kind"].as_str().unwrap().trim_end_matches("List").to_owned();
        let version = list["apiVersion"].clone();
        let mut items: Vec<Value> = serde_json::from_value(list["items"].take()).unwrap();
        for item in &mut items {
            item["kind"] = json!(kind);
            item["apiVersion"] = version.clone();
        }
        items
    }

    /// A number below `of` that is the same in each run with one seed.
    fn pick(&self, index: usize, kind: usize, of: usize) -> usize {
        let mut x = (index as u64) << 32 ^ (kind as u64) << 16 ^ (self.step as u64) << 8 ^ self.seed as u64;
        // SplitMix64.
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % of as u64) as usize
    }

    fn namespace_of(&self, index: usize) -> String {
        format!("ns-{}", index % self.counts.namespaces)
    }

    fn path(&self, kind: &str, index: usize, name: &str) -> String {
        let group = match kind {
            "endpointslices" => "/apis/discovery.k8s.io/v1",
            "ingresses" => "/apis/networking.k8s.io/v1",
            _ => "/api/v1",
        };
        format!("{group}/namespaces/{}/{kind}/{name}", self.namespace_of(index))
    }

    fn node(&self, i: usize) -> Value {
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

    fn replica_set(&self, i: usize) -> Value {
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

    fn job(&self, i: usize) -> Value {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": format!("job-{i}"), "namespace": self.namespace_of(i), "ownerReferences": match i % 3 {
                0 => json!([]),
                _ => owner("batch/v1", "CronJob", &format!("cronjob-{i}")),
            } },
            "spec": { "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "none" }] } } },
        })
    }

    fn pod(&self, i: usize) -> Value {
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

    fn pod_status(&self, i: usize) -> Value {
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

    fn service(&self, i: usize) -> Value {
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

    fn slice(&self, i: usize) -> Value {
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

    fn endpoints(&self, i: usize) -> Value {
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

    fn ingress(&self, i: usize) -> Value {
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

fn namespace(i: usize) -> Value {
    let mut labels = BTreeMap::from([("team", format!("team-{}", i % 3))]);
    if i.is_multiple_of(2) {
        labels.insert("env.kind", "prod".to_owned());
    }
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": format!("ns-{i}"), "labels": labels, "annotations": { "owner/contact": "x@y" } },
    })
}

fn homeless() -> Value {
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

fn path_of(object: &Value) -> String {
    format!("{}/{}", collection(object), object["metadata"]["name"].as_str().unwrap())
}

/// Four at a time.
async fn each<T>(items: &[T], act: impl AsyncFn(&T)) {
    let quarter = items.len().div_ceil(4).max(1);
    let mut parts = items.chunks(quarter);
    let mut run = || {
        let part = parts.next().unwrap_or_default();
        let act = &act;
        async move {
            for item in part {
                act(item).await;
            }
        }
    };
    tokio::join!(run(), run(), run(), run());
}

const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: scraper}
rules:
- {apiGroups: [''], resources: [nodes, namespaces, pods, services, endpoints], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [list, watch]}
- {apiGroups: [apps], resources: [replicasets], verbs: [list, watch]}
- {apiGroups: [batch], resources: [jobs], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: scraper}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: scraper}
subjects: [{kind: ServiceAccount, name: scraper, namespace: monitoring}]
";

const RIGHTS_OF_NAMESPACE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: pods, namespace: NAMESPACE}
rules: [{apiGroups: [''], resources: [pods], verbs: [list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: pods, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: pods}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: user-1}]
";
