use promferry_model::{LabelsBuilder, TargetGroup};
use smol_str::format_smolstr;

use super::{group_of, host_and_port, lower, meta, sanitized, set_labels_and_annotations};
use crate::mechanisms::kubernetes::objects::{Node, NodeAddress, Resource};

/// The kinds of addresses, the preferred one first.
const ADDRESSES: &[&str] =
    &["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

/// `None` for a node without an address: what was known of it stays.
pub(super) fn group(node: &Node) -> Option<TargetGroup> {
    let address = address(node)?;
    let mut labels = LabelsBuilder::new();
    labels.set(meta!("node_provider_id"), node.spec.provider_id.clone());
    for condition in &node.status.conditions {
        let name = sanitized(&condition.kind.to_lowercase());
        let name = format_smolstr!("__meta_kubernetes_node_condition_{name}");
        labels.set(name, lower(&condition.status));
    }
    labels.set(meta!("node_name"), node.metadata.name.clone());
    set_labels_and_annotations(&mut labels, "node", &node.metadata);

    let mut target = LabelsBuilder::new();
    let port = node.status.daemon_endpoints.kubelet_endpoint.port;
    target.set("__address__", host_and_port(&address.address, port));
    target.set("instance", node.metadata.name.clone());
    // Of several addresses of a kind it is the first one.
    for address in node.status.addresses.iter().rev() {
        let kind = sanitized(&address.kind);
        target.set(format_smolstr!("__meta_kubernetes_node_address_{kind}"), address.address.clone());
    }
    Some(group_of(Resource::Nodes, &node.metadata, &labels, vec![target.to_labels()]))
}

/// The address that its kubelet is reached by.
pub(in crate::mechanisms::kubernetes) fn address(node: &Node) -> Option<&NodeAddress> {
    let addresses = &node.status.addresses;
    ADDRESSES.iter().find_map(|kind| addresses.iter().find(|address| address.kind == *kind))
}
