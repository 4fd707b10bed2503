use promferry_model::{Labels, LabelsBuilder, TargetGroup};

use super::pod::{Backends, set_container, set_container_port, set_pod};
use super::{
    Objects, attach_node, group_of, host_and_port, meta, set_labels_and_annotations, set_namespace,
    set_service, truth,
};
use crate::mechanisms::kubernetes::config::KubernetesMetadata;
use crate::mechanisms::kubernetes::objects::{EndpointAddress, EndpointPort, Endpoints, Resource};

pub(super) fn group(
    endpoints: &Endpoints,
    attach: KubernetesMetadata,
    objects: &impl Objects,
) -> TargetGroup {
    let metadata = &endpoints.metadata;
    let mut labels = LabelsBuilder::new();
    set_namespace(&mut labels, &metadata.namespace, attach, objects);
    if let Some(service) = objects.service(&metadata.namespace, &metadata.name) {
        set_service(&mut labels, service);
    }
    labels.set(meta!("endpoints_name"), metadata.name.clone());
    set_labels_and_annotations(&mut labels, "endpoints", metadata);

    let mut backends = Backends::default();
    let mut targets = Vec::new();
    for subset in &endpoints.subsets {
        for port in &subset.ports {
            let ready = subset.addresses.iter().map(|address| (address, true));
            let not_ready = subset.not_ready_addresses.iter().map(|address| (address, false));
            for (address, is_ready) in ready.chain(not_ready) {
                targets.push(target(address, port, is_ready, &mut backends, attach, objects));
            }
        }
    }
    targets.extend(backends.other_targets(attach, objects));
    group_of(Resource::Endpoints, metadata, &labels, targets)
}

fn target<'a>(
    address: &EndpointAddress,
    port: &EndpointPort,
    is_ready: bool,
    backends: &mut Backends<'a>,
    attach: KubernetesMetadata,
    objects: &'a impl Objects,
) -> Labels {
    let mut target = LabelsBuilder::new();
    target.set("__address__", host_and_port(&address.ip, port.port));
    target.set(meta!("endpoint_port_name"), port.name.clone());
    target.set(meta!("endpoint_port_protocol"), port.protocol.clone());
    target.set(meta!("endpoint_ready"), truth(is_ready));
    let reference = address.target_ref.as_ref();
    if let Some(reference) = reference {
        target.set(meta!("endpoint_address_target_kind"), reference.kind.clone());
        target.set(meta!("endpoint_address_target_name"), reference.name.clone());
    }
    target.set(meta!("endpoint_node_name"), address.node_name.clone().unwrap_or_default());
    target.set(meta!("endpoint_hostname"), address.hostname.clone());
    if attach.node {
        let referred = reference.filter(|reference| reference.kind == "Node");
        let node = address.node_name.as_ref().or_else(|| referred.map(|reference| &reference.name));
        attach_node(&mut target, node, objects);
    }
    let pod = reference.filter(|reference| reference.kind == "Pod");
    if let Some(pod) = pod.and_then(|reference| objects.pod(&reference.namespace, &reference.name)) {
        set_pod(&mut target, pod, attach, objects);
        for (container, is_init) in pod.containers() {
            if let Some(named) = container.ports.iter().find(|named| named.container_port == port.port) {
                set_container(&mut target, container, is_init);
                set_container_port(&mut target, named, &port.protocol);
            }
        }
        backends.add(pod, Some(port.port));
    }
    target.to_labels()
}
