use promferry_model::{LabelsBuilder, TargetGroup};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::{Objects, group_of, host_and_port, meta, set_namespace, set_service};
use crate::mechanisms::kubernetes::config::KubernetesMetadata;
use crate::mechanisms::kubernetes::objects::{Resource, Service};

pub(super) fn group(service: &Service, attach: KubernetesMetadata, objects: &impl Objects) -> TargetGroup {
    let (metadata, spec) = (&service.metadata, &service.spec);
    let mut labels = LabelsBuilder::new();
    set_service(&mut labels, service);
    set_namespace(&mut labels, &metadata.namespace, attach, objects);
    let host = format_smolstr!("{}.{}.svc", metadata.name, metadata.namespace);
    let targets = spec.ports.iter().map(|port| {
        let mut target = LabelsBuilder::new();
        target.set("__address__", host_and_port(&host, port.port));
        target.set(meta!("service_port_name"), port.name.clone());
        target.set(meta!("service_port_number"), port.port.to_smolstr());
        target.set(meta!("service_port_protocol"), port.protocol.clone());
        target.set(meta!("service_type"), spec.kind.clone());
        if spec.kind == "ExternalName" {
            target.set(meta!("service_external_name"), spec.external_name.clone());
        } else {
            target.set(meta!("service_cluster_ip"), spec.cluster_ip.clone());
        }
        if spec.kind == "LoadBalancer" {
            target.set(meta!("service_loadbalancer_ip"), load_balancer_ips(service));
        }
        target.to_labels()
    });
    group_of(Resource::Services, metadata, &labels, targets.collect())
}

/// Those that the balancer has, or the one that was asked for.
fn load_balancer_ips(service: &Service) -> SmolStr {
    let ips = service.status.load_balancer.ingress.iter().map(|ingress| ingress.ip.as_str());
    let ips: Vec<_> = ips.filter(|ip| !ip.is_empty()).collect();
    match ips.is_empty() {
        true => service.spec.load_balancer_ip.clone(),
        false => ips.join(",").into(),
    }
}
