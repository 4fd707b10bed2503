//! Target groups as one sees them who applies all changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use promferry_discovery::{
    Change, Changes, Discovery, DiscoveryConfigs, DiscoveryOptions, KubernetesOptions, MechanismStatus,
};
use promferry_model::TargetGroup;
use serde_json::Value;

pub(crate) struct Consumer {
    pub(crate) discovery: Discovery,
    changes: Changes,
    pub(crate) groups: BTreeMap<(String, String), Arc<TargetGroup>>,
}

/// Nothing waits for long in tests.
pub(crate) fn options() -> DiscoveryOptions {
    let mut kubernetes = KubernetesOptions::default();
    kubernetes.service_host = None;
    kubernetes.retry_pause = Duration::from_millis(20);
    DiscoveryOptions { debounce: Duration::from_millis(10), kubernetes, ..DiscoveryOptions::default() }
}

impl Consumer {
    /// Runs jobs, each with one of the `kubernetes_sd_configs`.
    pub(crate) fn run(jobs: &[(&str, String)], options: DiscoveryOptions) -> Self {
        let (discovery, changes) = Discovery::new(options);
        let jobs = jobs.iter().map(|(job, yaml)| {
            let yaml = format!("kubernetes_sd_configs: [{{{yaml}}}]");
            let configs: DiscoveryConfigs =
                serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"));
            configs.validate().unwrap();
            ((*job).into(), configs)
        });
        let errors = discovery.apply(jobs);
        assert!(errors.is_empty(), "{errors:?}");
        Self { discovery, changes, groups: BTreeMap::new() }
    }

    /// The next batch of changes, for who applies them itself.
    pub(crate) async fn next(&mut self) -> Vec<Change> {
        self.changes.next().await
    }

    /// Applies changes until they are as `is_met` wants them.
    pub(crate) async fn until(&mut self, what: &str, is_met: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !is_met(self) {
            // What is wanted may be the status alone, of which no change tells.
            let look = tokio::time::sleep(Duration::from_millis(20));
            let batch = tokio::select! {
                batch = self.changes.next() => batch,
                () = look => Vec::new(),
            };
            for change in batch {
                let key = (change.job.to_string(), change.source.to_string());
                match change.group {
                    Some(group) => drop(self.groups.insert(key, group)),
                    None => drop(self.groups.remove(&key)),
                }
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not within a minute: {what}\n{:#?}\n{:#?}",
                self.sources(),
                self.discovery.status()
            );
        }
    }

    pub(crate) fn sources(&self) -> Vec<&str> {
        self.groups.keys().map(|(_, source)| source.as_str()).collect()
    }

    pub(crate) fn status(&self) -> MechanismStatus {
        self.discovery.status().remove(0)
    }

    /// The failure that lasts, if one does.
    pub(crate) fn failure(&self) -> Option<String> {
        let status = self.status();
        status.last_failure.filter(|_| status.is_failing).map(|(_, reason)| reason)
    }

    /// The targets of a group, each with the group's labels, as `name=value` of those whose name begins so, sorted.
    pub(crate) fn labels(&self, source: &str, prefix: &str) -> Vec<String> {
        let group = self.groups.iter().find(|((_, of), _)| of == source).map(|(_, group)| group);
        let targets = group.into_iter().flat_map(|group| {
            group.targets.iter().map(|target| {
                let labels = group.labels.iter().chain(target.iter());
                let labels = labels.filter(|label| label.name.starts_with(prefix));
                let mut labels: Vec<_> =
                    labels.map(|label| format!("{}={}", &label.name[prefix.len()..], label.value)).collect();
                labels.sort();
                labels.join(",")
            })
        });
        targets.collect()
    }
}

/// The targets of a job as Prometheus 3.16 made them of the objects in `data`: source and labels of each, sorted.
///
/// The pods' uids are of another cluster, so they are not compared.
pub(crate) fn of_prometheus(job: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let golden: Value = serde_json::from_str(include_str!("data/prometheus-3.16.json")).unwrap();
    let mut targets = Vec::new();
    for group in golden[job].as_array().unwrap() {
        for target in group["targets"].as_array().unwrap_or(&Vec::new()) {
            let mut labels = BTreeMap::new();
            for part in [&group["labels"], target] {
                for (name, value) in part.as_object().into_iter().flatten() {
                    labels.insert(name.clone(), value.as_str().unwrap().to_owned());
                }
            }
            labels.retain(|_, value| !value.is_empty());
            hide_uid(&mut labels);
            targets.push((group["source"].as_str().unwrap().to_owned(), labels));
        }
    }
    targets.sort();
    targets
}

/// The same of what we found.
pub(crate) fn found(consumer: &Consumer, job: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut targets = Vec::new();
    for ((_, source), group) in consumer.groups.iter().filter(|((of, _), _)| of == job) {
        for target in &group.targets {
            let labels = group.labels.iter().chain(target.iter());
            let mut labels: BTreeMap<String, String> =
                labels.map(|label| (label.name.to_string(), label.value.to_string())).collect();
            hide_uid(&mut labels);
            targets.push((source.clone(), labels));
        }
    }
    targets.sort();
    targets
}

fn hide_uid(labels: &mut BTreeMap<String, String>) {
    if let Some(uid) = labels.get_mut("__meta_kubernetes_pod_uid") {
        assert!(!uid.is_empty());
        *uid = "*".to_owned();
    }
}

/// The configurations that Prometheus was given, without how its server was reached.
pub(crate) const JOBS: &[(&str, &str)] = &[
    ("pod", "role: pod"),
    (
        "pod-attach",
        "role: pod, namespaces: {names: [shop]}, \
         attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}",
    ),
    ("endpoints", "role: endpoints, attach_metadata: {node: true}"),
    ("endpointslice", "role: endpointslice, attach_metadata: {node: true, namespace: true}"),
    ("service", "role: service"),
    ("ingress", "role: ingress"),
    ("node", "role: node"),
    ("podsel", "role: pod, selectors: [{role: pod, label: 'app=web', field: 'status.phase=Running'}]"),
];
