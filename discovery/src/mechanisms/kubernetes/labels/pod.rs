use promferry_model::{Labels, LabelsBuilder, TargetGroup};
use smol_str::{SmolStr, ToSmolStr};

use super::{
    Objects, attach_node, group_of, host_and_port, lower, meta, set_labels_and_annotations, set_namespace,
    truth,
};
use crate::mechanisms::kubernetes::config::KubernetesMetadata;
use crate::mechanisms::kubernetes::objects::{Container, ContainerPort, Pod, Resource};

pub(super) fn group(pod: &Pod, attach: KubernetesMetadata, objects: &impl Objects) -> TargetGroup {
    let mut labels = LabelsBuilder::new();
    // It has no address while it starts, or when it was evicted; and a selector of nodes selects pods too.
    let is_target =
        !pod.status.pod_ip.is_empty() && (!attach.node || objects.node(&pod.spec.node_name).is_some());
    if !is_target {
        return group_of(Resource::Pods, &pod.metadata, &labels, Vec::new());
    }
    set_pod(&mut labels, pod, attach, objects);
    set_namespace(&mut labels, &pod.metadata.namespace, attach, objects);
    if attach.node {
        attach_node(&mut labels, Some(&pod.spec.node_name), objects);
    }
    let mut targets = Vec::new();
    for (container, is_init) in pod.containers() {
        let statuses =
            if is_init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
        let status = statuses.iter().find(|status| status.name == container.name);
        let id = status.map(|status| status.container_id.clone()).unwrap_or_default();
        let mut target = LabelsBuilder::new();
        set_container(&mut target, container, is_init);
        target.set(meta!("pod_container_id"), id);
        if container.ports.is_empty() {
            // An address without a port: whoever configures it has to add one.
            target.set("__address__", pod.status.pod_ip.clone());
            targets.push(target.to_labels());
        }
        for port in &container.ports {
            target.set("__address__", host_and_port(&pod.status.pod_ip, port.container_port));
            set_container_port(&mut target, port, &port.protocol);
            targets.push(target.to_labels());
        }
    }
    group_of(Resource::Pods, &pod.metadata, &labels, targets)
}

/// What is true of a pod wherever its targets come from, except for its namespace.
pub(super) fn set_pod(
    labels: &mut LabelsBuilder,
    pod: &Pod,
    attach: KubernetesMetadata,
    objects: &impl Objects,
) {
    let ready = pod.status.conditions.iter().find(|condition| condition.kind == "Ready");
    let ready = ready.map_or(SmolStr::new_static("unknown"), |condition| lower(&condition.status));
    labels.set(meta!("pod_name"), pod.metadata.name.clone());
    labels.set(meta!("pod_ip"), pod.status.pod_ip.clone());
    labels.set(meta!("pod_ready"), ready);
    labels.set(meta!("pod_phase"), pod.status.phase.clone());
    labels.set(meta!("pod_node_name"), pod.spec.node_name.clone());
    labels.set(meta!("pod_host_ip"), pod.status.host_ip.clone());
    labels.set(meta!("pod_uid"), pod.metadata.uid.clone());
    set_labels_and_annotations(labels, "pod", &pod.metadata);
    let Some(controller) = pod.metadata.controller() else { return };
    labels.set(meta!("pod_controller_kind"), controller.kind.clone());
    labels.set(meta!("pod_controller_name"), controller.name.clone());
    let owner_of = |resource, kind: &str| {
        let metadata = objects.metadata(resource, &pod.metadata.namespace, &controller.name)?;
        metadata.controller().filter(|owner| owner.kind == kind).map(|owner| owner.name.clone())
    };
    match controller.kind.as_str() {
        "ReplicaSet" if attach.deployment => {
            if let Some(deployment) = owner_of(Resource::ReplicaSets, "Deployment") {
                labels.set(meta!("pod_deployment_name"), deployment);
            }
        }
        "Job" => {
            if attach.job {
                labels.set(meta!("pod_job_name"), controller.name.clone());
            }
            if attach.cronjob
                && let Some(cron_job) = owner_of(Resource::Jobs, "CronJob")
            {
                labels.set(meta!("pod_cronjob_name"), cron_job);
            }
        }
        _ => {}
    }
}

pub(super) fn set_container(labels: &mut LabelsBuilder, container: &Container, is_init: bool) {
    labels.set(meta!("pod_container_name"), container.name.clone());
    labels.set(meta!("pod_container_image"), container.image.clone());
    labels.set(meta!("pod_container_init"), truth(is_init));
}

pub(super) fn set_container_port(labels: &mut LabelsBuilder, port: &ContainerPort, protocol: &SmolStr) {
    labels.set(meta!("pod_container_port_name"), port.name.clone());
    labels.set(meta!("pod_container_port_number"), port.container_port.to_smolstr());
    labels.set(meta!("pod_container_port_protocol"), protocol.clone());
}

/// A pod behind endpoints, and the ports by which it is reached through them.
pub(super) struct Backend<'a> {
    pod: &'a Pod,
    ports: Vec<i32>,
}

/// The pods behind endpoints, by namespace and name.
#[derive(Default)]
pub(super) struct Backends<'a>(std::collections::BTreeMap<(&'a str, &'a str), Backend<'a>>);

impl<'a> Backends<'a> {
    pub(super) fn add(&mut self, pod: &'a Pod, port: Option<i32>) {
        let key = (pod.metadata.namespace.as_str(), pod.metadata.name.as_str());
        self.0.entry(key).or_insert(Backend { pod, ports: Vec::new() }).ports.extend(port);
    }

    /// A target for each port of their containers that the endpoints did not name.
    pub(super) fn other_targets(&self, attach: KubernetesMetadata, objects: &impl Objects) -> Vec<Labels> {
        let mut targets = Vec::new();
        for Backend { pod, ports } in self.0.values().filter(|seen| !seen.pod.status.pod_ip.is_empty()) {
            for (container, is_init) in pod.containers() {
                for port in container.ports.iter().filter(|port| !ports.contains(&port.container_port)) {
                    let mut target = LabelsBuilder::new();
                    target.set("__address__", host_and_port(&pod.status.pod_ip, port.container_port));
                    set_container(&mut target, container, is_init);
                    set_container_port(&mut target, port, &port.protocol);
                    set_pod(&mut target, pod, attach, objects);
                    targets.push(target.to_labels());
                }
            }
        }
        targets
    }
}
