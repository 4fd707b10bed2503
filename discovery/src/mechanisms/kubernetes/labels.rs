//! Which targets an object is, and their labels: objects in, a target group out, nothing else.
//!
//! One module a role, each following the file of Prometheus 3.16 (`discovery/kubernetes/*.go`) with its name. Labels
//! that Go takes from a map in random order (two keys that become one name, pods behind one service) are taken in the
//! order of their names here, the last one counts.

mod endpoints;
mod endpointslice;
mod ingress;
mod node;
mod pod;
mod service;

use promferry_model::{Labels, LabelsBuilder, TargetGroup};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::config::KubernetesMetadata;
use super::objects::{MetadataOnly, Node, Object, ObjectMeta, Pod, Resource, Service};

/// A label's name, as a text that costs nothing.
macro_rules! meta {
    ($name:literal) => {
        smol_str::SmolStr::new_static(concat!("__meta_kubernetes_", $name))
    };
}

pub(super) use self::node::address as node_address;
use meta;

/// The objects that others refer to.
pub(crate) trait Objects {
    /// One of them; `namespace` is empty for those of the cluster.
    fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Object>;

    fn node(&self, name: &str) -> Option<&Node> {
        match self.get(Resource::Nodes, "", name)? {
            Object::Node(node) => Some(node),
            _ => None,
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        match self.get(Resource::Pods, namespace, name)? {
            Object::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        match self.get(Resource::Services, namespace, name)? {
            Object::Service(service) => Some(service),
            _ => None,
        }
    }

    /// A job, a namespace or a replica set.
    fn metadata(&self, resource: Resource, namespace: &str, name: &str) -> Option<&ObjectMeta> {
        match self.get(resource, namespace, name)? {
            Object::Job(MetadataOnly { metadata })
            | Object::Namespace(MetadataOnly { metadata })
            | Object::ReplicaSet(MetadataOnly { metadata }) => Some(metadata),
            _ => None,
        }
    }
}

/// The group that an object is, without targets where it has none. `None` where it says nothing about its targets,
/// which then stay what they were; objects that only lend labels to others say nothing.
pub(crate) fn target_group(
    object: &Object,
    attach: KubernetesMetadata,
    objects: &impl Objects,
) -> Option<TargetGroup> {
    match object {
        Object::Endpoints(object) => Some(endpoints::group(object, attach, objects)),
        Object::EndpointSlice(object) => Some(endpointslice::group(object, attach, objects)),
        Object::Ingress(object) => Some(ingress::group(object, attach, objects)),
        Object::Node(object) => node::group(object),
        Object::Pod(object) => Some(pod::group(object, attach, objects)),
        Object::Service(object) => Some(service::group(object, attach, objects)),
        Object::Job(_) | Object::Namespace(_) | Object::ReplicaSet(_) => None,
    }
}

/// What names the group of an object: `pod/shop/web-1`.
pub(crate) fn source(resource: Resource, namespace: &str, name: &str) -> SmolStr {
    let kind = match resource {
        Resource::Endpoints => "endpoints",
        Resource::EndpointSlices => "endpointslice",
        Resource::Ingresses => "ingress",
        Resource::Jobs => "job",
        Resource::Namespaces => "namespace",
        Resource::Nodes => "node",
        Resource::Pods => "pod",
        Resource::ReplicaSets => "replicaset",
        Resource::Services => "svc",
    };
    match namespace {
        "" => format_smolstr!("{kind}/{name}"),
        namespace => format_smolstr!("{kind}/{namespace}/{name}"),
    }
}

fn group_of(
    resource: Resource,
    metadata: &ObjectMeta,
    labels: &LabelsBuilder,
    targets: Vec<Labels>,
) -> TargetGroup {
    let source = source(resource, &metadata.namespace, &metadata.name);
    TargetGroup { source, labels: labels.to_labels(), targets }
}

/// `<kind>_label_<name>`, `<kind>_labelpresent_<name>` and the same for annotations.
fn set_labels_and_annotations(labels: &mut LabelsBuilder, kind: &str, metadata: &ObjectMeta) {
    let mut set = |family: &str, name: &str, value: &SmolStr| {
        let name = sanitized(name);
        labels.set(format_smolstr!("__meta_kubernetes_{kind}_{family}_{name}"), value.clone());
        labels.set(format_smolstr!("__meta_kubernetes_{kind}_{family}present_{name}"), TRUE);
    };
    for (name, value) in &metadata.labels {
        set("label", name, value);
    }
    for (name, value) in &metadata.annotations {
        set("annotation", name, value);
    }
}

const TRUE: SmolStr = SmolStr::new_static("true");

fn set_namespace(
    labels: &mut LabelsBuilder,
    namespace: &SmolStr,
    attach: KubernetesMetadata,
    objects: &impl Objects,
) {
    labels.set(meta!("namespace"), namespace.clone());
    if attach.namespace
        && let Some(metadata) = objects.metadata(Resource::Namespaces, "", namespace)
    {
        set_labels_and_annotations(labels, "namespace", metadata);
    }
}

/// Labels of the node `name`, where they are asked for and it is known.
fn attach_node(labels: &mut LabelsBuilder, name: Option<&SmolStr>, objects: &impl Objects) {
    if let Some(node) = name.and_then(|name| objects.node(name)) {
        labels.set(meta!("node_name"), node.metadata.name.clone());
        set_labels_and_annotations(labels, "node", &node.metadata);
    }
}

/// The labels that endpoints have of the service they belong to.
fn set_service(labels: &mut LabelsBuilder, service: &Service) {
    labels.set(meta!("service_name"), service.metadata.name.clone());
    set_labels_and_annotations(labels, "service", &service.metadata);
}

/// As Go's `net.JoinHostPort`.
fn host_and_port(host: &str, port: impl std::fmt::Display) -> SmolStr {
    match host.contains(':') {
        true => format_smolstr!("[{host}]:{port}"),
        false => format_smolstr!("{host}:{port}"),
    }
}

/// What a label's name may not contain becomes `_`.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn truth(value: bool) -> SmolStr {
    value.to_smolstr()
}

fn lower(text: &str) -> SmolStr {
    SmolStr::from(text.to_lowercase())
}
