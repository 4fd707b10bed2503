//! Which other objects the labels of an object's targets are made of.

use super::objects::{Object, ObjectReference, Resource};

/// The label by which a slice names its service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Names the objects that `object` refers to, some more than once; those of the cluster have no namespace. That an
/// object is in a namespace is not said.
pub(crate) fn references<'a>(object: &'a Object, each: &mut dyn FnMut(Resource, &'a str, &'a str)) {
    let metadata = object.metadata();
    let namespace = metadata.namespace.as_str();
    let mut of_target = |node: Option<&'a str>, reference: Option<&'a ObjectReference>| {
        if let Some(node) = node {
            each(Resource::Nodes, "", node);
        }
        match reference {
            Some(reference) if reference.kind == "Node" => each(Resource::Nodes, "", &reference.name),
            Some(reference) if reference.kind == "Pod" => {
                each(Resource::Pods, &reference.namespace, &reference.name);
            }
            _ => {}
        }
    };
    match object {
        Object::Endpoints(endpoints) => {
            for subset in &endpoints.subsets {
                for address in subset.addresses.iter().chain(&subset.not_ready_addresses) {
                    of_target(address.node_name.as_deref(), address.target_ref.as_ref());
                }
            }
            each(Resource::Services, namespace, &metadata.name);
        }
        Object::EndpointSlice(slice) => {
            for endpoint in &slice.endpoints {
                of_target(endpoint.node_name.as_deref(), endpoint.target_ref.as_ref());
            }
            if let Some(service) = metadata.labels.get(SERVICE_NAME) {
                each(Resource::Services, namespace, service);
            }
        }
        Object::Pod(pod) => {
            of_target(Some(&pod.spec.node_name), None);
            if let Some(controller) = metadata.controller() {
                match controller.kind.as_str() {
                    "ReplicaSet" => each(Resource::ReplicaSets, namespace, &controller.name),
                    "Job" => each(Resource::Jobs, namespace, &controller.name),
                    _ => {}
                }
            }
        }
        Object::Ingress(_)
        | Object::Job(_)
        | Object::Namespace(_)
        | Object::Node(_)
        | Object::ReplicaSet(_)
        | Object::Service(_) => {}
    }
}
