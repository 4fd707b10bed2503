use promferry_model::{LabelsBuilder, TargetGroup};
use smol_str::SmolStr;

use super::{Objects, group_of, meta, set_labels_and_annotations, set_namespace};
use crate::mechanisms::kubernetes::config::KubernetesMetadata;
use crate::mechanisms::kubernetes::objects::{Ingress, IngressRule, Resource};

pub(super) fn group(ingress: &Ingress, attach: KubernetesMetadata, objects: &impl Objects) -> TargetGroup {
    let metadata = &ingress.metadata;
    let mut labels = LabelsBuilder::new();
    set_namespace(&mut labels, &metadata.namespace, attach, objects);
    labels.set(meta!("ingress_class_name"), ingress.spec.ingress_class_name.clone().unwrap_or_default());
    labels.set(meta!("ingress_name"), metadata.name.clone());
    set_labels_and_annotations(&mut labels, "ingress", metadata);

    let mut targets = Vec::new();
    for rule in &ingress.spec.rules {
        let mut encrypted = ingress.spec.tls.iter().flat_map(|tls| &tls.hosts);
        let is_encrypted = encrypted.any(|pattern| is_match(pattern, &rule.host));
        let scheme = SmolStr::new_static(if is_encrypted { "https" } else { "http" });
        for path in paths(rule) {
            let mut target = LabelsBuilder::new();
            target.set("__address__", rule.host.clone());
            target.set(meta!("ingress_scheme"), scheme.clone());
            target.set(meta!("ingress_host"), rule.host.clone());
            target.set(meta!("ingress_path"), path);
            targets.push(target.to_labels());
        }
    }
    group_of(Resource::Ingresses, metadata, &labels, targets)
}

fn paths(rule: &IngressRule) -> Vec<SmolStr> {
    const ROOT: SmolStr = SmolStr::new_static("/");
    let Some(http) = &rule.http else { return vec![ROOT] };
    let paths = http.paths.iter();
    paths.map(|path| if path.path.is_empty() { ROOT } else { path.path.clone() }).collect()
}

/// Whether a pattern is the host, or has `*` for the host's first part.
fn is_match(pattern: &str, host: &str) -> bool {
    let below = |name: &str| name.split_once('.').map(|(_, domain)| domain.to_owned());
    pattern == host
        || pattern == "*" && !host.contains('.')
        || pattern.starts_with("*.") && below(pattern) == below(host)
}
