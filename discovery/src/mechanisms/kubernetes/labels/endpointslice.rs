use promferry_model::{Labels, LabelsBuilder, TargetGroup};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::pod::{Backends, set_container, set_container_port, set_pod};
use super::{
    Objects, TRUE, attach_node, group_of, host_and_port, meta, sanitized, set_labels_and_annotations,
    set_namespace, set_service, truth,
};
use crate::mechanisms::kubernetes::config::KubernetesMetadata;
use crate::mechanisms::kubernetes::objects::{EndpointSlice, Resource, Service, SliceEndpoint, SlicePort};
use crate::mechanisms::kubernetes::references::SERVICE_NAME;

pub(super) fn group(
    slice: &EndpointSlice,
    attach: KubernetesMetadata,
    objects: &impl Objects,
) -> TargetGroup {
    let metadata = &slice.metadata;
    let mut labels = LabelsBuilder::new();
    set_namespace(&mut labels, &metadata.namespace, attach, objects);
    labels.set(meta!("endpointslice_address_type"), slice.address_type.clone());
    labels.set(meta!("endpointslice_name"), metadata.name.clone());
    set_labels_and_annotations(&mut labels, "endpointslice", metadata);
    let service = metadata.labels.get(SERVICE_NAME);
    let service = service.and_then(|name| objects.service(&metadata.namespace, name));
    if let Some(service) = service {
        set_service(&mut labels, service);
    }

    let mut targets = Vec::new();
    if !service.is_some_and(|service| is_other_family(slice, service)) {
        let mut backends = Backends::default();
        for endpoint in &slice.endpoints {
            for port in &slice.ports {
                for address in &endpoint.addresses {
                    targets.push(target(address, endpoint, port, &mut backends, attach, objects));
                }
            }
        }
        targets.extend(backends.other_targets(attach, objects));
    }
    group_of(Resource::EndpointSlices, metadata, &labels, targets)
}

/// A service of two address families has slices of both, with the same pods: those of its first family count.
fn is_other_family(slice: &EndpointSlice, service: &Service) -> bool {
    let policy = service.spec.ip_family_policy.as_deref();
    matches!(policy, Some("PreferDualStack" | "RequireDualStack"))
        && service.spec.ip_families.first().is_some_and(|family| *family != slice.address_type)
}

fn target<'a>(
    address: &SmolStr,
    endpoint: &SliceEndpoint,
    port: &SlicePort,
    backends: &mut Backends<'a>,
    attach: KubernetesMetadata,
    objects: &'a impl Objects,
) -> Labels {
    let mut target = LabelsBuilder::new();
    let with_port = port.port.map(|port| host_and_port(address, port));
    target.set("__address__", with_port.unwrap_or_else(|| address.clone()));
    let mut set = |name: SmolStr, value: Option<SmolStr>| target.set(name, value.unwrap_or_default());
    set(meta!("endpointslice_port_name"), port.name.clone());
    set(meta!("endpointslice_port_protocol"), port.protocol.clone());
    set(meta!("endpointslice_port"), port.port.map(|port| port.to_smolstr()));
    set(meta!("endpointslice_port_app_protocol"), port.app_protocol.clone());
    let conditions = &endpoint.conditions;
    set(meta!("endpointslice_endpoint_conditions_ready"), conditions.ready.map(truth));
    set(meta!("endpointslice_endpoint_conditions_serving"), conditions.serving.map(truth));
    set(meta!("endpointslice_endpoint_conditions_terminating"), conditions.terminating.map(truth));
    set(meta!("endpointslice_endpoint_hostname"), endpoint.hostname.clone());
    let reference = endpoint.target_ref.as_ref();
    set(meta!("endpointslice_address_target_kind"), reference.map(|reference| reference.kind.clone()));
    set(meta!("endpointslice_address_target_name"), reference.map(|reference| reference.name.clone()));
    set(meta!("endpointslice_endpoint_node_name"), endpoint.node_name.clone());
    set(meta!("endpointslice_endpoint_zone"), endpoint.zone.clone());
    for (name, value) in &endpoint.deprecated_topology {
        let name = sanitized(name);
        let prefix = "__meta_kubernetes_endpointslice_endpoint_topology";
        set(format_smolstr!("{prefix}_{name}"), Some(value.clone()));
        set(format_smolstr!("{prefix}_present_{name}"), Some(TRUE));
    }
    if attach.node {
        let referred = reference.filter(|reference| reference.kind == "Node");
        let node = referred.map(|reference| &reference.name).or(endpoint.node_name.as_ref());
        attach_node(&mut target, node, objects);
    }
    let pod = reference.filter(|reference| reference.kind == "Pod");
    if let Some(pod) = pod.and_then(|reference| objects.pod(&reference.namespace, &reference.name)) {
        set_pod(&mut target, pod, attach, objects);
        for (container, is_init) in pod.containers() {
            let named = container.ports.iter().find(|named| Some(named.container_port) == port.port);
            if let Some(named) = named {
                set_container(&mut target, container, is_init);
                set_container_port(&mut target, named, &named.protocol);
            }
        }
        backends.add(pod, port.port);
    }
    target.to_labels()
}
