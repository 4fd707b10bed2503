//! The rights in `examples/rbac` suffice for what their comments say, and nothing of them is too much: at a real API
//! server each job asks with a service account of its own, which has what the files give for it, or that less one verb.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use promferry_cluster::Cluster;
use promferry_discovery::{Changes, Discovery, DiscoveryConfigs, DiscoveryOptions};
use promferry_model::TargetGroup;
use serde_json::{Value, json};

const CLUSTER: &str = include_str!("../../../examples/rbac/cluster.yaml");
const NAMESPACE: &str = include_str!("../../../examples/rbac/namespace.yaml");

/// Roles, and the options that each is proved with.
const ROLES: &[(&str, &[&str])] = &[
    ("node", &[]),
    ("pod", &["node", "namespace", "deployment", "job", "cronjob"]),
    ("service", &["namespace"]),
    ("endpoints", &["node", "namespace", "deployment", "job", "cronjob"]),
    ("endpointslice", &["node", "namespace", "deployment", "job", "cronjob"]),
    ("ingress", &["namespace"]),
];

/// Much more than it takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A line of the file.
struct Rule {
    rule: Value,
    /// The roles and options that it is for.
    needed_by: Vec<String>,
}

/// A job, and the rights of its service account.
struct Case {
    job: String,
    /// Of its `kubernetes_sd_configs`, without how the server is reached.
    config: String,
    rules: Vec<Value>,
    /// Where a `Role` gives them; a `ClusterRole` does without it.
    namespace: Option<&'static str>,
    /// In one of its namespaces it may neither list nor watch.
    is_refused_all: bool,
    /// What the only warning about it says; none is logged without it.
    warning: Option<Vec<String>>,
}

/// Also without the lines that are there for an option.
fn rules(file: &str) -> Vec<Rule> {
    let line = |line: &str| {
        let (rule, needed_by) =
            line.trim_start().trim_start_matches("# ").strip_prefix("- ")?.split_once(" # ")?;
        let rule = serde_saphyr::from_str(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
        Some(Rule { rule, needed_by: needed_by.split(", ").map(str::to_owned).collect() })
    };
    let rules: Vec<Rule> = file.lines().filter_map(line).collect();
    // Each of them is in the file as the server reads it, or a comment.
    let documents: Vec<Value> = serde_saphyr::from_multiple(file).unwrap();
    let in_force = documents[0]["rules"].as_array().unwrap();
    assert!(in_force.iter().all(|rule| rules.iter().any(|other| other.rule == *rule)));
    rules
}

fn needed<'a>(rules: &'a [Rule], role: &str, option: &str) -> impl Iterator<Item = &'a Rule> {
    let (role, option) = (role.to_owned(), format!("attach_metadata.{option}"));
    rules.iter().filter(move |rule| rule.needed_by.contains(&role) || rule.needed_by.contains(&option))
}

fn config(role: &str, option: &str, namespaces: &str) -> String {
    let attach = if option.is_empty() { String::new() } else { format!("{option}: true") };
    format!("role: {role}, attach_metadata: {{{attach}}}, namespaces: {{names: [{namespaces}]}}")
}

/// What the jobs of a file are. `has_streams`: lists come as the beginning of a watch.
fn cases(file: &str, namespace: Option<&'static str>, has_streams: bool) -> Vec<Case> {
    let rules = rules(file);
    let (kind, names) =
        (if namespace.is_some() { "Role" } else { "ClusterRole" }, namespace.unwrap_or_default());
    let is_possible = |role: &str, option: &str| {
        namespace.is_none() || !(role == "node" || option == "node" || option == "namespace")
    };
    let mut cases = Vec::new();
    let mut is_taken_away = vec![false; rules.len()];
    for (role, options) in ROLES {
        for option in [""].iter().chain(*options).filter(|option| is_possible(role, option)) {
            let given: Vec<Value> = needed(&rules, role, option).map(|rule| rule.rule.clone()).collect();
            let name = format!("{}-{role}-{option}", kind.to_lowercase());
            let config = config(role, option, names);
            let case = |job: String, rules: Vec<Value>, warning: Option<Vec<String>>| Case {
                job,
                config: config.clone(),
                rules,
                namespace,
                is_refused_all: false,
                warning,
            };
            cases.push(case(format!("{name}all").replace('_', "-"), given.clone(), None));
            for (index, taken) in given.iter().enumerate() {
                let rule = rules.iter().position(|rule| rule.rule == *taken).unwrap();
                if std::mem::replace(&mut is_taken_away[rule], true) {
                    continue;
                }
                let resource = taken["resources"][0].as_str().unwrap();
                for verb in ["list", "watch"] {
                    let mut less = given.clone();
                    less[index]["verbs"].as_array_mut().unwrap().retain(|given| given != verb);
                    let mut warning = vec![
                        format!("{verb} {resource}"),
                        "403".to_owned(),
                        format!("a {kind} needs list, watch on {resource}"),
                    ];
                    if let Some(group) = taken["apiGroups"][0].as_str().filter(|group| !group.is_empty()) {
                        warning.push(format!("of apiGroup {group}"));
                    }
                    warning.extend(namespace.map(|namespace| format!("in namespace {namespace}")));
                    let is_needed = verb == "watch" || !has_streams;
                    cases.push(case(
                        format!("{name}no-{verb}-{resource}"),
                        less,
                        is_needed.then_some(warning),
                    ));
                }
            }
        }
    }
    assert!(is_taken_away.into_iter().all(|taken| taken), "a rule that nothing needs");
    cases
}

/// Gives a service account of the job's name its rights, and returns its token.
async fn grant(cluster: &Cluster, case: &Case) -> String {
    let name = &case.job;
    let accounts = "/api/v1/namespaces/promferry/serviceaccounts";
    cluster.create(accounts, &json!({ "metadata": { "name": name } })).await;
    let api = "rbac.authorization.k8s.io";
    let (kind, place) = match case.namespace {
        None => ("ClusterRole", format!("/apis/{api}/v1/clusterrole")),
        Some(namespace) => ("Role", format!("/apis/{api}/v1/namespaces/{namespace}/role")),
    };
    let role = json!({ "metadata": { "name": name }, "rules": case.rules });
    cluster.create(&format!("{place}s"), &role).await;
    let binding = json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": api, "kind": kind, "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "promferry" }],
    });
    cluster.create(&format!("{place}bindings"), &binding).await;
    let request = json!({ "spec": { "expirationSeconds": 3600 } });
    let (status, answer) =
        cluster.call(Method::POST, &format!("{accounts}/{name}/token"), Some(&request)).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// The API server takes a moment until it goes by a new binding.
async fn until_granted(cluster: &Cluster, case: &Case) {
    for rule in &case.rules {
        for verb in rule["verbs"].as_array().unwrap() {
            let attributes = json!({
                "verb": verb, "group": rule["apiGroups"][0], "resource": rule["resources"][0],
                "namespace": case.namespace,
            });
            let user = format!("system:serviceaccount:promferry:{}", case.job);
            let review = json!({ "spec": { "user": user, "resourceAttributes": attributes } });
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            while cluster.call(Method::POST, path, Some(&review)).await.1["status"]["allowed"] != true {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// An object of each kind that targets or their labels are made of.
async fn load(cluster: &Cluster) {
    cluster
        .apply_yaml(
            r#"
{apiVersion: v1, kind: Namespace, metadata: {name: promferry}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: sales}}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1, labels: {zone: a}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: shop}
subsets: [{addresses: [{ip: 10.0.0.1, targetRef: {kind: Pod, name: web-1, namespace: shop}}], ports: [{port: 8080}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], nodeName: node-1, targetRef: {kind: Pod, name: web-1, namespace: shop}}]
ports: [{port: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}, rules: [{host: shop.example}]}
"#,
        )
        .await;
    let node = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.1.1" }] } });
    cluster.patch("/api/v1/nodes/node-1/status", &node).await;
    let template = json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "i" }], "restartPolicy": "Never" },
    });
    let mut set_template = template.clone();
    set_template["spec"]["restartPolicy"] = "Always".into();
    let set = json!({
        "metadata": { "name": "web-5d", "ownerReferences": [owner("apps/v1", "Deployment", "web", "d-1")] },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": set_template },
    });
    let set = cluster.create("/apis/apps/v1/namespaces/shop/replicasets", &set).await;
    let job = json!({
        "metadata": { "name": "nightly-1", "ownerReferences": [owner("batch/v1", "CronJob", "nightly", "c-1")] },
        "spec": { "template": template },
    });
    let job = cluster.create("/apis/batch/v1/namespaces/shop/jobs", &job).await;
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    pod(cluster, "web-1", "10.0.0.1", Some(owner("apps/v1", "ReplicaSet", "web-5d", &uid(&set)))).await;
    pod(cluster, "nightly-1-x", "10.0.0.2", Some(owner("batch/v1", "Job", "nightly-1", &uid(&job)))).await;
}

fn owner(version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({ "apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true })
}

async fn pod(cluster: &Cluster, name: &str, ip: &str, owner: Option<Value>) {
    let pod = json!({
        "metadata": { "name": name, "ownerReferences": owner.into_iter().collect::<Vec<_>>() },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "c", "image": "i", "ports": [{ "containerPort": 8080 }] }] },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] },
    });
    cluster.create("/api/v1/namespaces/shop/pods", &pod).await;
}

type Groups = BTreeMap<String, BTreeMap<String, Arc<TargetGroup>>>;

/// Takes changes in until `is_reached`.
async fn follow(
    changes: &mut Changes,
    groups: &mut Groups,
    what: &str,
    is_reached: impl Fn(&Groups) -> Result<(), String>,
) {
    let reached = tokio::time::timeout(LIMIT, async {
        while is_reached(groups).is_err() {
            // Warnings come without a change.
            let Ok(batch) = tokio::time::timeout(Duration::from_millis(200), changes.next()).await else {
                continue;
            };
            for change in batch {
                let job = groups.entry(change.job.to_string()).or_default();
                match change.group {
                    Some(group) => drop(job.insert(change.source.to_string(), group)),
                    None => drop(job.remove(change.source.as_str())),
                }
            }
        }
    });
    if reached.await.is_err() {
        panic!("{what}: {}", is_reached(groups).unwrap_err());
    }
}

/// Every case at one server, in one set of mechanisms.
async fn prove(cluster: &Cluster, has_streams: bool) {
    let mut cases = cases(CLUSTER, None, has_streams);
    cases.extend(self::cases(NAMESPACE, Some("shop"), has_streams));
    // The rights are for one of two namespaces.
    let pods = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] });
    cases.push(Case {
        job: "another-namespace".to_owned(),
        config: config("pod", "", "shop, closed"),
        rules: vec![pods],
        namespace: Some("shop"),
        is_refused_all: true,
        warning: Some(
            ["pods in namespace closed", "403", "a Role needs list, watch on pods"]
                .map(str::to_owned)
                .to_vec(),
        ),
    });
    let mut jobs = BTreeMap::new();
    for case in &cases {
        let token = grant(cluster, case).await;
        jobs.insert(case.job.clone(), (case.config.clone(), token));
        jobs.insert(admin(&case.config), (case.config.clone(), cluster.token("admin")));
    }
    for case in &cases {
        until_granted(cluster, case).await;
    }
    let jobs = jobs.into_iter().map(|(job, (config, token))| {
        let configs: DiscoveryConfigs = serde_saphyr::from_str(&format!(
            "kubernetes_sd_configs: [{{{config}, api_server: '{}', tls_config: {{ca_file: '{}'}}, \
             authorization: {{credentials: '{token}'}}}}]",
            cluster.url(),
            cluster.certificate().display(),
        ))
        .unwrap();
        configs.validate().unwrap();
        (job.into(), configs)
    });
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let mut options =
        DiscoveryOptions { debounce: Duration::from_millis(100), ..DiscoveryOptions::default() };
    // Many tries, and still one warning.
    options.kubernetes.retry_pause = Duration::from_millis(100);
    let (discovery, mut changes) = Discovery::new(options);
    assert!(discovery.apply(jobs).is_empty());

    // One who may do nothing is refused the watch, and the list where it is found out that none is streamed.
    let is_one =
        |case: &Case, reasons: usize| reasons == 1 || reasons == 2 && case.is_refused_all && !has_streams;
    let is_settled = |groups: &Groups| {
        for case in &cases {
            let (warnings, reasons) = (log.warnings(&case.job), log.reasons(&case.job));
            let said: BTreeSet<&str> = warnings.iter().filter_map(|line| reason(line)).collect();
            match &case.warning {
                Some(words) if warnings.len() != said.len() || !is_one(case, reasons.len()) => {
                    return Err(format!(
                        "{}: not one warning that says {words:?}: {warnings:#?} {reasons:#?}",
                        case.job
                    ));
                }
                Some(words) => {
                    if let Some(word) =
                        words.iter().find(|word| !warnings.iter().any(|line| line.contains(word.as_str())))
                    {
                        return Err(format!("{}: no {word:?} in {warnings:#?}", case.job));
                    }
                }
                None => {
                    let (found, all) = (groups.get(&case.job), groups.get(&admin(&case.config)));
                    if found != all || found.is_none_or(BTreeMap::is_empty) {
                        return Err(format!("{}: {found:#?}, and with all rights {all:#?}", case.job));
                    }
                }
            }
        }
        Ok(())
    };
    let mut groups = Groups::new();
    follow(&mut changes, &mut groups, "at first", is_settled).await;
    // One namespace of two has its targets.
    assert!(groups["another-namespace"].contains_key("pod/shop/web-1"), "{:#?}", groups["another-namespace"]);

    // What misses nothing goes on, whatever fails beside it.
    pod(cluster, "late", "10.0.0.9", None).await;
    follow(&mut changes, &mut groups, "later", |groups| {
        let follow_pods = groups
            .iter()
            .filter(|(job, _)| job.starts_with("admin role: pod") || *job == "another-namespace");
        for (job, groups) in follow_pods {
            if !groups.contains_key("pod/shop/late") {
                return Err(format!("{job} misses a pod: {groups:#?}"));
            }
        }
        is_settled(groups)
    })
    .await;
    for case in cases.iter().filter(|case| case.warning.is_none()) {
        assert_eq!(log.reasons(&case.job), BTreeSet::new());
    }
    // What is failing is said of the collection, and counted.
    let status = discovery.status();
    for case in &cases {
        let mechanism =
            status.iter().find(|mechanism| mechanism.jobs.iter().any(|job| *job == case.job)).unwrap();
        let failing = mechanism.collections.iter().filter(|collection| collection.failure.is_some()).count();
        assert_eq!(failing, usize::from(case.warning.is_some()), "{}: {mechanism:#?}", case.job);
        assert_eq!(mechanism.is_failing, case.warning.is_some(), "{}: {mechanism:#?}", case.job);
    }
    let counts = discovery.counts();
    assert!(counts.kubernetes_failures_total > 0, "{counts:#?}");
    for (role, objects) in
        [("pod", 3), ("service", 1), ("endpoints", 1), ("endpointslice", 1), ("ingress", 1), ("node", 1)]
    {
        assert!(counts.kubernetes_events[role].added_total >= objects, "{role}: {counts:#?}");
    }
    assert_eq!(log.reasons("admin"), BTreeSet::new());
}

/// The job that asks for the same with all rights.
fn admin(config: &str) -> String {
    format!("admin {config}")
}

/// What is logged of mechanisms that fail: a warning the first time, and for those who debug each time.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn subscriber(&self) -> impl tracing::Subscriber + use<> {
        let log = self.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish()
    }

    fn warnings(&self, job: &str) -> Vec<String> {
        self.about(job).into_iter().filter(|line| line.contains(" WARN ")).collect()
    }

    /// Why a job fails: each reason once, however often it was met.
    fn reasons(&self, job: &str) -> BTreeSet<String> {
        self.about(job).iter().filter_map(|line| reason(line)).map(str::to_owned).collect()
    }

    fn about(&self, job: &str) -> Vec<String> {
        let named = format!("discovery of job {job} ");
        self.0.lock().unwrap().iter().filter(|line| line.contains(&named)).cloned().collect()
    }
}

fn reason(line: &str) -> Option<&str> {
    Some(line.split_once(" fails")?.1.split_once(": ")?.1)
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        if line.contains("discovery of job ") {
            self.0.lock().unwrap().push(line.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_roles_of_the_examples_suffice_and_are_minimal() {
    let Some(cluster) = Cluster::start("the_roles_of_the_examples_suffice_and_are_minimal").await else {
        return;
    };
    // The files are as the server takes them.
    load(&cluster).await;
    cluster.apply_yaml(CLUSTER).await;
    cluster.apply_yaml(NAMESPACE).await;
    prove(&cluster, true).await;
}

/// A server that is older than streamed lists, or was told not to have them.
#[tokio::test]
async fn without_streamed_lists_the_right_to_list_is_needed_too() {
    let test = "without_streamed_lists_the_right_to_list_is_needed_too";
    let builder = Cluster::builder().apiserver_argument("--feature-gates=WatchList=false");
    let Some(cluster) = builder.start(test).await else { return };
    load(&cluster).await;
    prove(&cluster, false).await;
}
