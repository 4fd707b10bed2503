//! The objects that targets are made of, with the fields that become labels or decide about targets. All others are
//! passed over while reading.
//!
//! Names and places are those of `k8s.io/api` 0.37. Lists may be `null`, as Go writes those that are nil.

use std::collections::BTreeMap;

use serde::Deserialize;
use smol_str::SmolStr;

use crate::config::null_is_default;

/// What a collection of the API is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resource {
    Endpoints,
    EndpointSlices,
    Ingresses,
    Jobs,
    Namespaces,
    Nodes,
    Pods,
    ReplicaSets,
    Services,
}

impl Resource {
    /// The API group; empty for the core one.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::Endpoints | Self::Namespaces | Self::Nodes | Self::Pods | Self::Services => "",
            Self::EndpointSlices => "discovery.k8s.io",
            Self::Ingresses => "networking.k8s.io",
            Self::Jobs => "batch",
            Self::ReplicaSets => "apps",
        }
    }

    /// Its name in paths and in rules of RBAC.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::EndpointSlices => "endpointslices",
            Self::Ingresses => "ingresses",
            Self::Jobs => "jobs",
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::ReplicaSets => "replicasets",
            Self::Services => "services",
        }
    }

    /// Objects of which nothing but the metadata is read here, so nothing else has to be sent.
    pub(crate) fn is_metadata_only(self) -> bool {
        matches!(self, Self::Jobs | Self::Namespaces | Self::ReplicaSets)
    }
}

/// An object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    Endpoints(Endpoints),
    EndpointSlice(EndpointSlice),
    Ingress(Ingress),
    Job(MetadataOnly),
    Namespace(MetadataOnly),
    Node(Node),
    Pod(Pod),
    ReplicaSet(MetadataOnly),
    Service(Service),
}

impl Object {
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Endpoints(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Ingress(object) => &object.metadata,
            Self::Job(object) | Self::Namespace(object) | Self::ReplicaSet(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
        }
    }

    /// How many targets its group has at most by what it multiplies: addresses and ports. The others have fewer than
    /// they have bytes.
    pub(crate) fn multiplied_targets(&self) -> usize {
        match self {
            Self::Endpoints(object) => {
                let of = |subset: &EndpointSubset| {
                    (subset.addresses.len() + subset.not_ready_addresses.len()) * subset.ports.len()
                };
                object.subsets.iter().map(of).sum()
            }
            Self::EndpointSlice(object) => {
                let addresses = object.endpoints.iter().map(|endpoint| endpoint.addresses.len());
                addresses.sum::<usize>() * object.ports.len()
            }
            _ => 0,
        }
    }
}

/// What the API says when it refuses something, as far as it is passed on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) message: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ObjectMeta {
    pub(crate) name: SmolStr,
    /// Empty for what belongs to the cluster.
    pub(crate) namespace: SmolStr,
    pub(crate) uid: SmolStr,
    pub(crate) resource_version: SmolStr,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) labels: BTreeMap<SmolStr, SmolStr>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) annotations: BTreeMap<SmolStr, SmolStr>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) owner_references: Vec<OwnerReference>,
}

impl ObjectMeta {
    /// The owner that keeps the object as it is, such as a pod's replica set.
    pub(crate) fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct OwnerReference {
    pub(crate) kind: SmolStr,
    pub(crate) name: SmolStr,
    pub(crate) controller: Option<bool>,
}

/// What an address belongs to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ObjectReference {
    pub(crate) kind: SmolStr,
    pub(crate) namespace: SmolStr,
    pub(crate) name: SmolStr,
}

/// A job, a namespace or a replica set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct MetadataOnly {
    pub(crate) metadata: ObjectMeta,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: SmolStr,
    pub(crate) status: SmolStr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) node_name: SmolStr,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) containers: Vec<Container>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) init_containers: Vec<Container>,
}

impl Pod {
    /// All containers, those that initialise last, and whether they do.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (&Container, bool)> {
        let others = self.spec.containers.iter().map(|container| (container, false));
        others.chain(self.spec.init_containers.iter().map(|container| (container, true)))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    pub(crate) name: SmolStr,
    pub(crate) image: SmolStr,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<ContainerPort>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    pub(crate) name: SmolStr,
    pub(crate) container_port: i32,
    pub(crate) protocol: SmolStr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) phase: SmolStr,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: SmolStr,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: SmolStr,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) conditions: Vec<Condition>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStatus {
    pub(crate) name: SmolStr,
    #[serde(rename = "containerID")]
    pub(crate) container_id: SmolStr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSpec {
    #[serde(rename = "providerID")]
    pub(crate) provider_id: SmolStr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) addresses: Vec<NodeAddress>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) conditions: Vec<Condition>,
    pub(crate) daemon_endpoints: NodeDaemonEndpoints,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAddress {
    #[serde(rename = "type")]
    pub(crate) kind: SmolStr,
    pub(crate) address: SmolStr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeDaemonEndpoints {
    pub(crate) kubelet_endpoint: DaemonEndpoint,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct DaemonEndpoint {
    /// Written with a capital letter, unlike everything else.
    #[serde(rename = "Port")]
    pub(crate) port: i32,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: ServiceSpec,
    pub(crate) status: ServiceStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: SmolStr,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: SmolStr,
    pub(crate) external_name: SmolStr,
    #[serde(rename = "loadBalancerIP")]
    pub(crate) load_balancer_ip: SmolStr,
    pub(crate) ip_family_policy: Option<SmolStr>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ip_families: Vec<SmolStr>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ServicePort {
    pub(crate) name: SmolStr,
    pub(crate) port: i32,
    pub(crate) protocol: SmolStr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    pub(crate) load_balancer: LoadBalancerStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct LoadBalancerStatus {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ingress: Vec<LoadBalancerIngress>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct LoadBalancerIngress {
    pub(crate) ip: SmolStr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    pub(crate) metadata: ObjectMeta,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) subsets: Vec<EndpointSubset>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointSubset {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) addresses: Vec<EndpointAddress>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) not_ready_addresses: Vec<EndpointAddress>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<EndpointPort>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointAddress {
    pub(crate) ip: SmolStr,
    pub(crate) hostname: SmolStr,
    pub(crate) node_name: Option<SmolStr>,
    pub(crate) target_ref: Option<ObjectReference>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointPort {
    pub(crate) name: SmolStr,
    pub(crate) port: i32,
    pub(crate) protocol: SmolStr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    pub(crate) metadata: ObjectMeta,
    pub(crate) address_type: SmolStr,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) endpoints: Vec<SliceEndpoint>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<SlicePort>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SliceEndpoint {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) addresses: Vec<SmolStr>,
    pub(crate) conditions: SliceConditions,
    pub(crate) hostname: Option<SmolStr>,
    pub(crate) node_name: Option<SmolStr>,
    pub(crate) zone: Option<SmolStr>,
    pub(crate) target_ref: Option<ObjectReference>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) deprecated_topology: BTreeMap<SmolStr, SmolStr>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct SliceConditions {
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SlicePort {
    pub(crate) name: Option<SmolStr>,
    pub(crate) port: Option<i32>,
    pub(crate) protocol: Option<SmolStr>,
    pub(crate) app_protocol: Option<SmolStr>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Ingress {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: IngressSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct IngressSpec {
    pub(crate) ingress_class_name: Option<SmolStr>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) tls: Vec<IngressTls>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) rules: Vec<IngressRule>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct IngressTls {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) hosts: Vec<SmolStr>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct IngressRule {
    pub(crate) host: SmolStr,
    pub(crate) http: Option<HttpIngress>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct HttpIngress {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) paths: Vec<IngressPath>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct IngressPath {
    pub(crate) path: SmolStr,
}
