//! One real API server, the collector and Prometheus side by side, hundreds of objects in every state that a role reads:
//! what was discovered is the same, label for label, after each step of the cluster's life.
//!
//! Where kube-apiserver, etcd or this Prometheus are not there (building them takes ten minutes of Go), what is left is
//! what was recorded of them: `discovery/tests/kubernetes` compares sixty recorded targets and replays recorded watches.

use std::path::Path;

use promferry_bench::peers::Peer;
use promferry_cluster::Cluster;

use crate::beside::{Beside, Labels, Targets};
use crate::collector::is_full_tier;
use crate::intended;
use crate::sandbox::bubblewrap;
use crate::scenario::{BESIDE_REVOKED, HOMELESS, REVOKED, Scenario};

/// Every role and every option.
fn jobs(cluster: &Cluster, in_cluster: bool) -> Vec<(&'static str, String)> {
    let sd = |of: &str| format!("  kubernetes_sd_configs: [{{{of}}}]");
    let (scraper, some) = (cluster.sd_config("scraper"), cluster.sd_config("user-1"));
    let mut jobs: Vec<_> = JOBS.iter().map(|(name, of)| (*name, sd(&format!("{of}, {scraper}")))).collect();
    let kubeconfig = cluster.kubeconfig("scraper");
    let kubeconfig = format!("attach_metadata: {{node: true}}, kubeconfig_file: '{}'", kubeconfig.display());
    jobs.push(("by-kubeconfig", sd(&format!("role: pod, {kubeconfig}"))));
    let namespaces = format!("namespaces: {{names: [{BESIDE_REVOKED}, {REVOKED}]}}");
    jobs.push(("two-namespaces", sd(&format!("role: pod, {namespaces}, {some}"))));
    if in_cluster {
        jobs.push(("own-namespace", sd("role: pod, namespaces: {own_namespace: true, names: [ns-4]}")));
        jobs.push(("in-cluster", sd("role: endpointslice")));
    }
    jobs
}

const JOBS: &[(&str, &str)] = &[
    ("node", "role: node"),
    ("pod", "role: pod"),
    ("service", "role: service"),
    ("endpoints", "role: endpoints"),
    ("endpointslice", "role: endpointslice"),
    ("ingress", "role: ingress"),
    ("pod-node", "role: pod, attach_metadata: {node: true}"),
    ("pod-namespace", "role: pod, attach_metadata: {namespace: true}"),
    ("pod-deployment", "role: pod, attach_metadata: {deployment: true}"),
    ("pod-job", "role: pod, attach_metadata: {job: true}"),
    ("pod-cronjob", "role: pod, attach_metadata: {cronjob: true}"),
    (
        "pod-all",
        "role: pod, attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}",
    ),
    ("endpoints-node", "role: endpoints, attach_metadata: {node: true}"),
    ("endpoints-namespace", "role: endpoints, attach_metadata: {namespace: true}"),
    (
        "endpoints-all",
        "role: endpoints, attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}",
    ),
    ("slice-node", "role: endpointslice, attach_metadata: {node: true}"),
    ("slice-namespace", "role: endpointslice, attach_metadata: {namespace: true}"),
    (
        "slice-all",
        "role: endpointslice, attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}",
    ),
    ("service-namespace", "role: service, attach_metadata: {namespace: true}"),
    ("ingress-namespace", "role: ingress, attach_metadata: {namespace: true}"),
    ("names", "role: service, namespaces: {names: [ns-0, ns-3, ns-not-there]}"),
    (
        "pods-by-label",
        "role: pod, selectors: [{role: pod, label: 'side=front,app in (app-1, app-2, app-3)'}]",
    ),
    (
        "pods-by-field",
        "role: pod, selectors: [{role: pod, field: 'status.phase=Running,spec.nodeName!=node-3'}]",
    ),
    ("pods-of-nodes", "role: pod, attach_metadata: {node: true}, selectors: [{role: node, label: pool=a}]"),
    ("nodes-by-label", "role: node, selectors: [{role: node, label: 'pool!=b'}]"),
    (
        "endpoints-selected",
        "role: endpoints, selectors: [{role: pod, label: side=front}, {role: service, label: app=app-2}]",
    ),
    (
        "slices-selected",
        "role: endpointslice, selectors: [{role: endpointslice, label: side=back}, {role: pod, field: status.phase=Running}]",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discovered_is_what_prometheus_discovers() {
    let test = "what_is_discovered_is_what_prometheus_discovers";
    // Both are built in the full tier only, so that nobody has to have them who only requires the default ones.
    let Some(prometheus) = Peer::PrometheusDiscovery.path() else {
        assert!(!is_full_tier(), "{test}: scripts/peers did not provide prometheus-discovery");
        return eprintln!(
            "SKIPPED {test}: no Prometheus with discovery, run scripts/peers prometheus-discovery"
        );
    };
    let Some(cluster) = Cluster::start(test).await else { return };
    let full = is_full_tier();
    let seed = std::env::var("PROMFERRY_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut scenario = Scenario::new(cluster, if full { 5 } else { 1 }, seed);
    let created = scenario.create_all().await;
    scenario.grant().await;
    eprintln!("{created} objects with seed {seed}");

    let (wrapped, in_cluster) = match as_in_a_pod(&scenario.cluster) {
        Ok(wrapped) => (wrapped, true),
        Err(reason) => {
            assert!(!full, "{test}: {reason}");
            eprintln!("SKIPPED the jobs of {test} that run in the cluster: {reason}");
            (String::new(), false)
        }
    };
    let jobs = jobs(&scenario.cluster, in_cluster);
    let both = Beside::start(&prometheus, &jobs, &wrapped).await;
    let none = |_: &str, _: &Labels| false;
    settled(&both, &mut scenario, "created", none).await;

    // In the short form these are one step: what is settled is the same, how it came to be is not watched as closely.
    scenario.change().await;
    if full {
        settled(&both, &mut scenario, "changed", none).await;
    }
    scenario.move_between_selectors().await;
    if full {
        settled(&both, &mut scenario, "moved between selectors", none).await;
    }
    scenario.replace().await;
    if full {
        settled(&both, &mut scenario, "deleted and made again", none).await;
    }
    scenario.change_namespaces().await;
    settled(&both, &mut scenario, "changed", none).await;

    if full {
        scenario.cluster.restart().await;
        scenario.change().await;
        settled(&both, &mut scenario, "the API server restarted", none).await;
        scenario.change_while_the_server_is_away().await;
        settled(&both, &mut scenario, "changed and compacted while the API server was away", none).await;
    }
    // A watch that is open goes on without the right to it: the restart ends those.
    scenario.revoke().await;
    scenario.change_while_the_server_is_away().await;
    scenario.change().await;
    let refused = |job: &str, labels: &Labels| {
        job == "two-namespaces" && labels.get("__meta_kubernetes_namespace").is_some_and(|of| of == REVOKED)
    };
    settled(&both, &mut scenario, "the right to a namespace was taken away", refused).await;
    scenario.grant_namespace(REVOKED).await;
    scenario.terminate_pods().await;
    settled(&both, &mut scenario, "it was granted again, and pods terminate", none).await;

    intended::differences(&scenario.cluster, &both).await;

    scenario.delete_all().await;
    // A node that had lost its address has kept its target, and goes with it.
    both.until_same("everything was deleted", |targets| {
        // The API server's own service stays where it is, and has come back if it was gone.
        let left = |labels: &&Labels| {
            labels.get("__meta_kubernetes_service_name").is_none_or(|name| name != "kubernetes")
        };
        let left: Vec<_> = targets.values().flatten().filter(left).take(3).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("still there: {left:#?}")) }
    })
    .await;
}

/// What was before has been seen by both when all targets tell the new step, except those that `is_left_behind` names with
/// their job: of these it must be an old one, for the test to have shown something.
async fn settled(
    both: &Beside,
    scenario: &mut Scenario,
    what: &str,
    is_left_behind: impl Fn(&str, &Labels) -> bool,
) {
    scenario.settle().await;
    let step = scenario.step();
    let scenario = &*scenario;
    let is_settled = |targets: &Targets| {
        for (job, targets) in targets {
            if targets.is_empty() {
                return Err(format!("{job} has no target"));
            }
            for labels in targets {
                let is_homeless = job.starts_with("node")
                    && labels.get("__meta_kubernetes_node_name").is_some_and(|name| name == HOMELESS);
                let old = is_homeless || is_left_behind(job, labels);
                let mut steps = labels.iter().filter(|(name, _)| name.ends_with("_annotation_step"));
                if !is_homeless && steps.any(|(_, of)| (*of == step) == old) {
                    return Err(format!("{job} has a target that is not of step {step}: {labels:#?}"));
                }
            }
        }
        Ok(())
    };
    both.until_same_after(what, is_settled, async || scenario.prompt().await).await;
}

/// The start of a command line that runs the rest with what the kubelet gives to a pod. Why it can't be, if it can't.
fn as_in_a_pod(cluster: &Cluster) -> Result<String, String> {
    let account = cluster.service_account("scraper", "ns-0");
    // In most systems /var/run is a link to /run, and mounts are not made on links.
    let run = std::fs::canonicalize("/var/run").map_err(|error| error.to_string())?;
    let secrets = run.join("secrets/kubernetes.io/serviceaccount");
    let shown = |path: &Path| path.display().to_string();
    let more = [
        "--tmpfs".to_owned(),
        shown(&run),
        "--bind".to_owned(),
        shown(&account),
        shown(&secrets),
        "--setenv".to_owned(),
        "KUBERNETES_SERVICE_HOST".to_owned(),
        cluster.address().ip().to_string(),
        "--setenv".to_owned(),
        "KUBERNETES_SERVICE_PORT".to_owned(),
        cluster.address().port().to_string(),
    ];
    bubblewrap(&more).map(|command| command.join(" "))
}
