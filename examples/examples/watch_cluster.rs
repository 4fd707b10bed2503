//! Prints the targets of a Kubernetes cluster as they come (`+`), change (`~`) and go (`-`), and what cannot be watched
//! (`!`), until Ctrl-C. Each argument is `KEY=VALUE`:
//!
//! - `role`: `node`, `pod`, `service`, `endpoints`, `endpointslice` or `ingress`; `pod` if it is not said
//! - `namespace`: a namespace, as often as there are some; all if none is said
//! - `label`, `field`: selectors for the objects of the role
//! - `attach`: `node`, `namespace`, `deployment`, `job` or `cronjob`, as often as wanted
//! - `show`: how the name of a label begins that is printed too, as often as wanted
//! - `server`: the API server's URL, as of `kubectl proxy`
//! - `kubeconfig`: a kubeconfig; without it and `server` it is the cluster that the program runs in
//!
//! `cargo run -p promferry-examples --example watch_cluster -- server=http://127.0.0.1:8001 namespace=shop
//! show=__meta_kubernetes_pod_annotation_`

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use promferry_discovery::{
    Change, Discovery, DiscoveryConfigs, DiscoveryOptions, KubernetesRole, KubernetesSdConfig,
    KubernetesSelector,
};
use promferry_model::{Labels, LabelsBuilder, TargetGroup};
use smol_str::SmolStr;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (config, shown) = read_arguments(std::env::args().skip(1))?;
    let mut configs = DiscoveryConfigs::default();
    configs.kubernetes_sd_configs.push(config);
    configs.validate()?;

    // Who watches wants to see each change, not what is left of it after Prometheus' five seconds.
    let options = DiscoveryOptions { debounce: Duration::from_millis(200), ..DiscoveryOptions::default() };
    let (discovery, mut changes) = Discovery::new(options);
    discovery.apply([("cluster".into(), configs)]);
    let mut printed = Printed { shown, groups: BTreeMap::new(), failures: Vec::new() };
    loop {
        tokio::select! {
            batch = changes.next() => batch.into_iter().for_each(|change| printed.change(change)),
            // What fails changes no target, so nobody is woken for it.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        printed.failures(&discovery);
    }
}

/// The configuration, and how the names of labels begin that are to be printed.
fn read_arguments(
    arguments: impl Iterator<Item = String>,
) -> Result<(KubernetesSdConfig, Vec<String>), Box<dyn Error>> {
    let mut config = KubernetesSdConfig::new(KubernetesRole::Pod);
    let (mut selector, mut shown) = (KubernetesSelector::default(), Vec::new());
    for argument in arguments {
        let (key, value) = argument.split_once('=').ok_or_else(|| format!("{argument}: not KEY=VALUE"))?;
        let attach = &mut config.attach_metadata;
        match (key, value) {
            ("role", _) => config.role = serde_saphyr::from_str(value)?,
            ("namespace", _) => config.namespaces.names.push(value.into()),
            ("label", _) => selector.label = value.to_owned(),
            ("field", _) => selector.field = value.to_owned(),
            ("attach", "node") => attach.node = true,
            ("attach", "namespace") => attach.namespace = true,
            ("attach", "deployment") => attach.deployment = true,
            ("attach", "job") => attach.job = true,
            ("attach", "cronjob") => attach.cronjob = true,
            ("show", _) => shown.push(value.to_owned()),
            ("server", _) => config.api_server = value.into(),
            ("kubeconfig", _) => config.kubeconfig_file = value.into(),
            _ => return Err(format!("{argument}: there is no such argument").into()),
        }
    }
    if selector != KubernetesSelector::default() {
        config.selectors.push(KubernetesSelector { role: Some(config.role), ..selector });
    }
    Ok((config, shown))
}

/// What stands on the screen.
struct Printed {
    shown: Vec<String>,
    /// The lines of each group of targets.
    groups: BTreeMap<SmolStr, Vec<String>>,
    failures: Vec<String>,
}

impl Printed {
    fn change(&mut self, change: Change) {
        let after = change.group.map(|group| self.lines(&group)).unwrap_or_default();
        let before = self.groups.remove(&change.source).unwrap_or_default();
        for place in 0..before.len().max(after.len()) {
            match (before.get(place), after.get(place)) {
                (Some(before), Some(after)) if before == after => {}
                (Some(_), Some(line)) => println!("~ {line}"),
                (None, Some(line)) => println!("+ {line}"),
                (Some(line), None) => println!("- {line}"),
                (None, None) => {}
            }
        }
        if !after.is_empty() {
            self.groups.insert(change.source, after);
        }
    }

    fn lines(&self, group: &TargetGroup) -> Vec<String> {
        let line = |target: &Labels| {
            let mut all = LabelsBuilder::from(&group.labels);
            target.iter().for_each(|label| all.set(label.name.clone(), label.value.clone()));
            let mut line = format!("{} {}", group.source, all.get("__address__"));
            for label in all.as_slice() {
                if self.shown.iter().any(|start| label.name.starts_with(start.as_str())) {
                    line += &format!(" {}={:?}", label.name, label.value);
                }
            }
            line
        };
        group.targets.iter().map(line).collect()
    }

    fn failures(&mut self, discovery: &Discovery) {
        let status = discovery.status();
        let failing = status.into_iter().filter(|mechanism| mechanism.is_failing);
        let failures: Vec<String> = failing.filter_map(|mechanism| Some(mechanism.last_failure?.1)).collect();
        for failure in failures.iter().filter(|failure| !self.failures.contains(failure)) {
            println!("! {failure}");
        }
        self.failures = failures;
    }
}
