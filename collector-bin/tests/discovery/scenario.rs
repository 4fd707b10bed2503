//! A cluster's life in steps: hundreds of objects of every kind that a role reads, and what happens to them.

mod objects;

use http::{Method, StatusCode};
use promferry_cluster::{Cluster, collection};
use serde_json::{Value, json};

use self::objects::{homeless, namespace};

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
