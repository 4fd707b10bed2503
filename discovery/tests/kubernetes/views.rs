//! Several mechanisms at one API server: what they share, and that it shows nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use promferry_discovery::{
    Change, Changes, Discovery, DiscoveryConfigs, DiscoveryOptions, MechanismId, MechanismStatus,
};
use promferry_model::{Rng, SeededRng, TargetGroup};
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::support::options;

/// One who applies changes of jobs that come and go.
struct Jobs {
    discovery: Discovery,
    changes: Changes,
    groups: BTreeMap<(String, MechanismId, String), Arc<TargetGroup>>,
}

impl Jobs {
    fn new(options: DiscoveryOptions) -> Self {
        let (discovery, changes) = Discovery::new(options);
        Self { discovery, changes, groups: BTreeMap::new() }
    }

    /// Jobs by name, each with what its YAML says.
    fn apply(&self, jobs: &[(String, String)]) {
        let jobs = jobs.iter().map(|(job, yaml)| {
            let configs: DiscoveryConfigs =
                serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"));
            configs.validate().unwrap();
            (job.as_str().into(), configs)
        });
        let errors = self.discovery.apply(jobs);
        assert!(errors.is_empty(), "{errors:?}");
    }

    async fn batch(&mut self) -> Vec<Change> {
        let batch = tokio::time::timeout(Duration::from_secs(60), self.changes.next()).await;
        let batch =
            batch.unwrap_or_else(|_| panic!("no change within a minute: {:#?}", self.discovery.status()));
        self.take(&batch);
        batch
    }

    fn take(&mut self, batch: &[Change]) {
        let sources: BTreeSet<_> = batch.iter().map(|change| (change.mechanism, &change.source)).collect();
        assert!(sources.len() <= 256, "{} groups in a batch", sources.len());
        for change in batch {
            let key = (change.job.to_string(), change.mechanism, change.source.to_string());
            match &change.group {
                Some(group) => drop(self.groups.insert(key, group.clone())),
                None => drop(self.groups.remove(&key)),
            }
        }
    }

    async fn until(&mut self, what: &str, is_met: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !is_met(self) {
            let batch = tokio::time::timeout(Duration::from_millis(20), self.changes.next()).await;
            self.take(&batch.unwrap_or_default());
            assert!(
                tokio::time::Instant::now() < deadline,
                "not within a minute: {what}\n{:#?}\n{:#?}",
                self.groups.keys().collect::<Vec<_>>(),
                self.discovery.status()
            );
        }
    }

    /// What the jobs have, whoever found it.
    fn found(&self) -> BTreeMap<(String, String), TargetGroup> {
        let groups = self.groups.iter();
        groups.map(|((job, _, source), group)| ((job.clone(), source.clone()), (**group).clone())).collect()
    }

    /// The same, looked up and not told.
    fn looked_up(&self, jobs: &[(String, String)]) -> BTreeMap<(String, String), TargetGroup> {
        let mut found = BTreeMap::new();
        for (job, _) in jobs {
            self.discovery.for_each_group(job, &mut |_, group| {
                let source = group.source.to_string();
                let before = found.insert((job.clone(), source), group.clone());
                assert!(before.is_none(), "a group twice: {before:?}");
            });
        }
        found
    }

    fn sources(&self, job: &str) -> Vec<&str> {
        let of_job = self.groups.keys().filter(|(of, ..)| of == job);
        of_job.map(|(.., source)| source.as_str()).collect()
    }
}

fn pods(server: &ApiServer, selector: &str) -> String {
    let selectors = format!("selectors: [{{role: pod, label: '{selector}'}}]");
    format!("kubernetes_sd_configs: [{{role: pod, api_server: '{}', {selectors}}}]", server.url)
}

fn pod(name: &str, labels: &[&str], ip: &str) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().map(|label| (*label, "1")).collect();
    json!({
        "metadata": { "name": name, "namespace": "shop", "labels": labels },
        "spec": { "nodeName": "n1", "containers": [{ "name": "app", "image": "web" }] },
        "status": { "phase": "Running", "podIP": ip },
    })
}

fn job(name: &str, yaml: &str) -> (String, String) {
    (name.to_owned(), yaml.to_owned())
}

#[tokio::test]
async fn views_share_objects_and_nothing_else() {
    let server = ApiServer::start().await;
    server.put("pods", pod("both", &["a", "b"], "10.0.0.1"));
    server.put("pods", pod("first", &["a"], "10.0.0.2"));
    let (a, b) = (pods(&server, "a=1"), pods(&server, "b=1"));
    // Slices whose pods are selected by another job lend no labels.
    let slices = format!(
        "kubernetes_sd_configs: [{{role: endpointslice, api_server: '{}', selectors: [{{role: pod, label: 'b=1'}}]}}]",
        server.url
    );
    let endpoint = |pod: &str| {
        json!({ "addresses": ["10.0.0.9"], "conditions": {},
                "targetRef": { "kind": "Pod", "namespace": "shop", "name": pod } })
    };
    server.put(
        "endpointslices",
        json!({
            "metadata": { "name": "web", "namespace": "shop" }, "addressType": "IPv4",
            "endpoints": [endpoint("first"), endpoint("both")], "ports": [{ "port": 80 }],
        }),
    );
    let mut jobs = Jobs::new(options());
    jobs.apply(&[job("a", &a), job("b", &b), job("a too", &a), job("slices", &slices)]);
    jobs.until("the pods", |jobs| jobs.groups.len() == 6).await;
    assert_eq!(jobs.sources("a"), ["pod/shop/both", "pod/shop/first"]);
    assert_eq!(jobs.sources("a too"), jobs.sources("a"));
    assert_eq!(jobs.sources("b"), ["pod/shop/both"]);
    let pods_of_slice = |jobs: &Jobs| {
        let (_, slice) = jobs.groups.iter().find(|((job, ..), _)| job == "slices").unwrap();
        let names = slice.targets.iter().map(|target| target.get("__meta_kubernetes_pod_name").to_owned());
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(pods_of_slice(&jobs), ["".to_owned(), "both".to_owned()].into());
    // What several ask for alike is asked for once.
    assert_eq!(server.lists(&["/pods?"]), 2);
    assert_eq!(jobs.discovery.status().len(), 3);

    // A pod that leaves one selector stays where the other has it. The watch says so by a deletion.
    server.put("pods", pod("both", &["a"], "10.0.0.1"));
    jobs.until("the pod has left", |jobs| jobs.sources("b").is_empty()).await;
    jobs.until("the slice knows", |jobs| pods_of_slice(jobs) == ["".to_owned()].into()).await;
    assert_eq!(jobs.sources("a"), ["pod/shop/both", "pod/shop/first"]);
    server.delete("pods", "shop/both");
    jobs.until("the pod is gone", |jobs| jobs.sources("a") == ["pod/shop/first"]).await;
    assert_eq!(jobs.sources("a too"), ["pod/shop/first"]);
}

/// What a new configuration wants as well goes on being followed, and while it has not found its own, what the old one
/// found stays.
#[tokio::test]
async fn a_changed_role_takes_over_what_is_followed() {
    let server = ApiServer::start().await;
    server.put("pods", pod("web", &["a"], "10.0.0.1"));
    let role =
        |role: &str| format!("kubernetes_sd_configs: [{{role: {role}, api_server: '{}'}}]", server.url);
    let mut jobs = Jobs::new(options());
    jobs.apply(&[job("job", &role("pod"))]);
    jobs.until("the pod", |jobs| jobs.sources("job") == ["pod/shop/web"]).await;

    server.refuse("/services", "503 Service Unavailable", "");
    let next = [job("job", &role("endpointslice"))];
    jobs.apply(&next);
    jobs.until("a failure", |jobs| jobs.discovery.status()[0].is_failing).await;
    assert_eq!(jobs.sources("job"), ["pod/shop/web"], "it stays");
    assert_eq!(jobs.looked_up(&next), jobs.found());
    server.put(
        "endpointslices",
        json!({
            "metadata": { "name": "web", "namespace": "shop" }, "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": {} }], "ports": [{ "port": 80 }],
        }),
    );
    server.refuse("/services", "", "");
    jobs.until("the slice", |jobs| jobs.sources("job") == ["endpointslice/shop/web"]).await;
    assert_eq!(server.lists(&["/pods?"]), 1, "pods were followed already");
    let status = jobs.discovery.status().remove(0);
    let objects: Vec<_> = status.collections.iter().map(|of| (of.resource, of.objects)).collect();
    assert_eq!(objects, [("endpointslices", 1), ("services", 0), ("pods", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_at_most_256_groups_and_loses_none() {
    const PODS: usize = 700;
    let server = ApiServer::start().await;
    for number in 0..PODS {
        server.put("pods", pod(&format!("p{number}"), &["a"], "10.0.0.1"));
    }
    let yaml = pods(&server, "a=1");
    // All of the first result comes at once, however slow the debounce.
    let mut jobs = Jobs::new(DiscoveryOptions { debounce: Duration::from_secs(3600), ..options() });
    jobs.apply(&[job("one", &yaml), job("two", &yaml)]);
    while jobs.groups.len() < 2 * PODS {
        jobs.batch().await;
    }
    // So do those that a job gets or loses that comes later or leaves.
    jobs.apply(&[job("two", &yaml), job("three", &yaml)]);
    while jobs.sources("three").len() < PODS || !jobs.sources("one").is_empty() {
        jobs.batch().await;
    }
    assert_eq!(jobs.sources("two").len(), PODS);
    assert_eq!(server.lists(&["/pods?"]), 1);
}

/// Whatever jobs come, go and change while whatever happens: in the end they have what a fresh start finds, and what
/// can be looked up is what was told. Mechanisms that keep their groups themselves are among others that do not.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_of_configurations_groups_are_those_of_a_fresh_start() {
    for seed in 0..8 {
        let mut chance = SeededRng::new(seed);
        let server = ApiServer::start().await;
        let choices = [
            pods(&server, "a=1"),
            pods(&server, "b=1"),
            pods(&server, "a=1,b=1"),
            format!("kubernetes_sd_configs: [{{role: pod, api_server: '{}'}}]", server.url),
            format!(
                "kubernetes_sd_configs: [{{role: pod, api_server: '{}', attach_metadata: {{node: true}}}}]",
                server.url
            ),
            format!("kubernetes_sd_configs: [{{role: node, api_server: '{}'}}]", server.url),
            "static_configs: [{targets: [x, y]}, {targets: [z]}]".to_owned(),
            "static_configs: [{targets: [w]}]".to_owned(),
            "{}".to_owned(),
        ];
        let mut running = Jobs::new(options());
        let mut jobs = Vec::new();
        for _ in 0..60 {
            let mut any = |of: u64| (chance.next_u64() % of) as usize;
            match any(6) {
                0 => {
                    let names = ["j1", "j2", "j3", "j4"].into_iter().filter(|_| any(4) > 0);
                    let names: Vec<_> = names.collect();
                    jobs = names.iter().map(|name| job(name, &choices[any(choices.len() as u64)])).collect();
                    running.apply(&jobs);
                }
                1 => {
                    let batch = tokio::time::timeout(Duration::from_millis(5), running.changes.next()).await;
                    running.take(&batch.unwrap_or_default());
                }
                2 => {
                    let name = format!("n{}", any(3));
                    let address = json!([{ "type": "InternalIP", "address": format!("10.0.1.{}", any(3)) }]);
                    let node = json!({ "metadata": { "name": name }, "status": { "addresses": address } });
                    server.put("nodes", node);
                }
                3 => {
                    let name = format!("p{}", any(9));
                    if server.has("pods", &format!("shop/{name}")) {
                        server.delete("pods", &format!("shop/{name}"));
                    }
                }
                _ => {
                    let labels: &[&str] = [&["a", "b"][..], &["a"], &["b"], &[]][any(4)];
                    let ip = ["10.0.0.1", "10.0.0.2", ""][any(3)];
                    let mut pod = pod(&format!("p{}", any(9)), labels, ip);
                    pod["spec"]["nodeName"] = json!(format!("n{}", any(3)));
                    server.put("pods", pod);
                }
            }
        }
        running.apply(&jobs);
        let mut fresh = Jobs::new(options());
        fresh.apply(&jobs);
        let is_settled = |jobs: &Jobs| {
            jobs.discovery.status().iter().all(|status| {
                let told: BTreeSet<_> =
                    jobs.groups.keys().filter(|(_, id, _)| *id == status.id).map(|key| &key.2).collect();
                status.last_success.is_some() && status.groups == told.len()
            })
        };
        fresh.until("first results", is_settled).await;
        let expected = fresh.found();
        running.until("the same groups", |running| running.found() == expected).await;
        assert_eq!(running.looked_up(&jobs), expected, "seed {seed}");
    }
}

/// Whoever looked while something else was the case is told what is the case again.
#[tokio::test]
async fn what_was_seen_in_between_is_told_again() {
    let server = ApiServer::start().await;
    server.put("pods", pod("changes", &["a"], "10.0.0.1"));
    server.put("pods", pod("goes", &["a"], "10.0.0.1"));
    let mut wanted = vec![job("job", &pods(&server, "a=1"))];
    let mut jobs = Jobs::new(DiscoveryOptions { debounce: Duration::from_secs(3600), ..options() });
    jobs.apply(&wanted);
    jobs.until("the pods", |jobs| jobs.groups.len() == 2).await;
    let first = jobs.found();

    server.put("pods", pod("changes", &["a"], "10.0.0.2"));
    server.delete("pods", "shop/goes");
    let is_between = |jobs: &Jobs| {
        let found = jobs.looked_up(&wanted);
        found.len() == 1
            && found.values().all(|group| group.targets != first.values().next().unwrap().targets)
    };
    jobs.until("what is between", is_between).await;
    // As one does whose job is another: what is there is taken, whatever was told.
    jobs.groups.clear();
    jobs.discovery.for_each_group("job", &mut |mechanism, group| {
        let key = ("job".to_owned(), mechanism, group.source.to_string());
        jobs.groups.insert(key, Arc::new(group.clone()));
    });

    server.put("pods", pod("changes", &["a"], "10.0.0.1"));
    server.put("pods", pod("goes", &["a"], "10.0.0.1"));
    jobs.until("what was", |jobs| jobs.looked_up(&wanted) == first).await;
    // What has to be told at once takes along what waits.
    wanted.push(job("other", "static_configs: [{targets: [x]}]"));
    jobs.apply(&wanted);
    jobs.until("the other job", |jobs| !jobs.sources("other").is_empty()).await;
    assert_eq!(jobs.found(), jobs.looked_up(&wanted));
    assert_eq!(jobs.sources("job"), ["pod/shop/changes", "pod/shop/goes"]);
}

/// Who asks with other credentials may be refused a part: that part stays as it was found.
#[tokio::test]
async fn what_cannot_be_listed_after_a_change_stays_where_it_fails() {
    let server = ApiServer::start().await;
    let namespaces = ["shop", "refused", "emptied"];
    for namespace in namespaces {
        let mut pod = pod("web", &["a"], "10.0.0.1");
        pod["metadata"]["namespace"] = json!(namespace);
        server.put("pods", pod);
    }
    let with = |token: &str| {
        let names = namespaces.join(", ");
        format!(
            "kubernetes_sd_configs: [{{role: pod, api_server: '{}', namespaces: {{names: [{names}]}}, \
             authorization: {{credentials: {token}}}}}]",
            server.url
        )
    };
    let mut jobs = Jobs::new(options());
    jobs.apply(&[job("job", &with("first"))]);
    jobs.until("the pods", |jobs| jobs.groups.len() == 3).await;
    let before = jobs.discovery.status()[0].id;
    let of_before = |jobs: &Jobs| {
        let old = jobs.groups.keys().filter(|(_, mechanism, _)| *mechanism == before);
        old.map(|(.., source)| source.clone()).collect::<Vec<_>>()
    };
    for namespace in &namespaces[1..] {
        server.refuse(&format!("/namespaces/{namespace}/pods"), "403 Forbidden", "");
    }
    let next = [job("job", &with("second"))];
    jobs.apply(&next);
    jobs.until("the change", |jobs| !of_before(jobs).contains(&"pod/shop/web".to_owned())).await;
    let all = ["pod/emptied/web", "pod/refused/web", "pod/shop/web"];
    assert_eq!(jobs.sources("job").into_iter().collect::<BTreeSet<_>>(), all.into());
    assert_eq!(jobs.looked_up(&next), jobs.found());
    assert!(jobs.discovery.status()[0].is_failing);

    // What turns out to be gone goes, also where nothing takes its place and others still fail.
    server.delete("pods", "emptied/web");
    server.refuse("/namespaces/emptied/pods", "", "");
    jobs.until("what is gone", |jobs| of_before(jobs) == ["pod/refused/web"]).await;
    server.refuse("/namespaces/refused/pods", "", "");
    jobs.until("the rest", |jobs| of_before(jobs).is_empty()).await;
    assert_eq!(jobs.sources("job"), ["pod/refused/web", "pod/shop/web"]);
    assert_eq!(jobs.looked_up(&next), jobs.found());
}

/// A mechanism that breaks down has told about groups, and goes on with them.
#[tokio::test]
async fn what_goes_while_a_mechanism_is_broken_down_is_taken_back() {
    let breakdown = Breakdown::default();
    let _guard = tracing::subscriber::set_default(breakdown.clone());
    let server = ApiServer::start().await;
    for name in ["goes", "stays"] {
        server.put("pods", pod(name, &["a"], "10.0.0.1"));
    }
    let mut jobs = Jobs::new(options());
    jobs.apply(&[job("job", &pods(&server, "a=1"))]);
    jobs.until("the pods", |jobs| jobs.groups.len() == 2).await;

    breakdown.0.store(true, Ordering::SeqCst);
    server.refuse("/pods", "503 Service Unavailable", "");
    server.disconnect();
    let status = async |what: &str, is_met: fn(&MechanismStatus) -> bool| {
        for _ in 0..6000 {
            if is_met(&jobs.discovery.status()[0]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within a minute: {what}: {:#?}", jobs.discovery.status());
    };
    status("the breakdown", |status| {
        status.last_failure.as_ref().is_some_and(|(_, reason)| reason.contains("broke down"))
    })
    .await;
    server.delete("pods", "shop/goes");
    server.refuse("/pods", "", "");
    // Nobody asks for changes until then.
    status("the end of it", |status| !status.is_failing && status.collections[0].objects == 1).await;
    jobs.until("what is gone", |jobs| jobs.sources("job") == ["pod/shop/stays"]).await;
}

/// Breaks down whoever next says how discovery fares.
#[derive(Clone, Default)]
struct Breakdown(Arc<AtomicBool>);

impl tracing::Subscriber for Breakdown {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "promferry_discovery::discover"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "broken on purpose");
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
