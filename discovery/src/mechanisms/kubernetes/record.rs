//! Objects as bytes: what a cluster's objects take in memory.
//!
//! Texts are numbers of a [`SymbolTable`], since most of them are of many objects; those that no other object has are
//! part of the record. What no label is made of is left out, and so are namespace and name, which whoever keeps the
//! record knows. Equal objects have equal records for as long as the table keeps their texts.

use std::collections::BTreeMap;

use promferry_model::{Symbol, SymbolTable};
use smol_str::SmolStr;

use super::objects::{
    Condition, Container, ContainerPort, ContainerStatus, DaemonEndpoint, EndpointAddress, EndpointPort,
    EndpointSlice, EndpointSubset, Endpoints, HttpIngress, Ingress, IngressPath, IngressRule, IngressSpec,
    IngressTls, LoadBalancerIngress, LoadBalancerStatus, MetadataOnly, Node, NodeAddress,
    NodeDaemonEndpoints, NodeSpec, NodeStatus, Object, ObjectMeta, ObjectReference, OwnerReference, Pod,
    PodSpec, PodStatus, Resource, Service, ServicePort, ServiceSpec, ServiceStatus, SliceConditions,
    SliceEndpoint, SlicePort,
};
use super::slot_set::SlotSet;

/// The record of an object; `None` if there is no room for its texts.
pub(crate) fn pack(resource: Resource, object: &Object, symbols: &mut SymbolTable) -> Option<Box<[u8]>> {
    let mut to = Packer { resource, bytes: Vec::with_capacity(256), symbols, is_full: false };
    match object {
        Object::Endpoints(object) => object.pack(&mut to),
        Object::EndpointSlice(object) => object.pack(&mut to),
        Object::Ingress(object) => object.pack(&mut to),
        Object::Job(object) | Object::Namespace(object) | Object::ReplicaSet(object) => object.pack(&mut to),
        Object::Node(object) => object.pack(&mut to),
        Object::Pod(object) => object.pack(&mut to),
        Object::Service(object) => object.pack(&mut to),
    }
    (!to.is_full).then(|| to.bytes.into_boxed_slice())
}

/// The object of a record, without what was left out.
pub(crate) fn unpack(
    resource: Resource,
    namespace: &str,
    name: &str,
    record: &[u8],
    symbols: &SymbolTable,
) -> Object {
    read(Unpacker { resource, namespace, name, bytes: record, symbols, used: None })
}

/// Notes the symbols that a record needs.
pub(crate) fn mark(resource: Resource, record: &[u8], symbols: &SymbolTable, used: &mut SlotSet) {
    read(Unpacker { resource, namespace: "", name: "", bytes: record, symbols, used: Some(used) });
}

fn read(mut from: Unpacker<'_>) -> Object {
    let from = &mut from;
    match from.resource {
        Resource::Endpoints => Object::Endpoints(Pack::unpack(from)),
        Resource::EndpointSlices => Object::EndpointSlice(Pack::unpack(from)),
        Resource::Ingresses => Object::Ingress(Pack::unpack(from)),
        Resource::Jobs => Object::Job(Pack::unpack(from)),
        Resource::Namespaces => Object::Namespace(Pack::unpack(from)),
        Resource::Nodes => Object::Node(Pack::unpack(from)),
        Resource::Pods => Object::Pod(Pack::unpack(from)),
        Resource::ReplicaSets => Object::ReplicaSet(Pack::unpack(from)),
        Resource::Services => Object::Service(Pack::unpack(from)),
    }
}

/// Where a record is written.
struct Packer<'a> {
    resource: Resource,
    bytes: Vec<u8>,
    symbols: &'a mut SymbolTable,
    is_full: bool,
}

/// Where a record is read from. Records are our own, so what is cut short reads as empty.
struct Unpacker<'a> {
    resource: Resource,
    namespace: &'a str,
    name: &'a str,
    bytes: &'a [u8],
    symbols: &'a SymbolTable,
    /// If present, symbols are noted here, and no text is made of them.
    used: Option<&'a mut SlotSet>,
}

impl Packer<'_> {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn shared_text(&mut self, text: &str) {
        match self.symbols.intern(text) {
            Some(symbol) => self.number(symbol.index() as u64),
            None => self.is_full = true,
        }
    }

    /// A text that no other object has: a uid or the id of a container, of which only the digits are kept.
    fn own_text(&mut self, text: &str) {
        let (scheme, digits) = text.split_once("://").unwrap_or(("", text));
        let has_scheme = scheme.len() < text.len() - digits.len();
        let form = match digits.len() {
            36 if !has_scheme => OwnText::Uid,
            64 if has_scheme => OwnText::ContainerId,
            _ => OwnText::Other,
        };
        let plain: String = match form {
            OwnText::Uid => digits.replace('-', ""),
            _ => digits.to_owned(),
        };
        let is_uid = |text: &str| text.split('-').map(str::len).eq(UID_PARTS);
        match (form, from_hex(&plain)) {
            (OwnText::Uid, Some(bytes)) if is_uid(digits) => {
                self.bytes.push(OwnText::Uid as u8);
                self.bytes.extend(bytes);
            }
            (OwnText::ContainerId, Some(bytes)) => {
                self.bytes.push(OwnText::ContainerId as u8);
                self.shared_text(scheme);
                self.bytes.extend(bytes);
            }
            _ => {
                self.bytes.push(OwnText::Other as u8);
                self.number(text.len() as u64);
                self.bytes.extend(text.as_bytes());
            }
        }
    }
}

/// How a text that no other object has is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OwnText {
    /// As it is.
    Other = 0,
    /// `01234567-89ab-cdef-0123-456789abcdef` as 16 bytes.
    Uid = 1,
    /// `containerd://` and 64 digits as a symbol and 32 bytes.
    ContainerId = 2,
}

const UID_PARTS: [usize; 5] = [8, 4, 4, 4, 12];

impl<'a> Unpacker<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }

    fn shared_text(&mut self) -> &'a str {
        let number = self.number();
        match &mut self.used {
            Some(used) => {
                used.insert(number as u32);
                ""
            }
            None => self.symbols.get(Symbol::from_index(number as usize)),
        }
    }

    fn own_text(&mut self) -> SmolStr {
        let form = self.byte();
        if form == OwnText::Uid as u8 {
            let digits = to_hex(self.take(16));
            let mut rest = digits.as_str();
            let parts = UID_PARTS.map(|length| {
                let (part, others) = rest.split_at(length.min(rest.len()));
                rest = others;
                part
            });
            return parts.join("-").into();
        }
        if form == OwnText::ContainerId as u8 {
            let scheme = self.shared_text();
            let digits = to_hex(self.take(32));
            return format!("{scheme}://{digits}").into();
        }
        let length = self.number() as usize;
        SmolStr::new(std::str::from_utf8(self.take(length)).unwrap_or_default())
    }
}

/// Two digits in lower case each byte.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// What can be part of a record.
trait Pack: Sized {
    fn pack(&self, to: &mut Packer<'_>);

    fn unpack(from: &mut Unpacker<'_>) -> Self;
}

impl Pack for SmolStr {
    fn pack(&self, to: &mut Packer<'_>) {
        to.shared_text(self);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self::new(from.shared_text())
    }
}

impl Pack for bool {
    fn pack(&self, to: &mut Packer<'_>) {
        to.bytes.push(u8::from(*self));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        from.byte() != 0
    }
}

impl Pack for i32 {
    fn pack(&self, to: &mut Packer<'_>) {
        to.number(u64::from(self.cast_unsigned()));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        (from.number() as u32).cast_signed()
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        self.is_some().pack(to);
        if let Some(value) = self {
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        bool::unpack(from).then(|| T::unpack(from))
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.number(self.len() as u64);
        self.iter().for_each(|value| value.pack(to));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let length = from.number();
        (0..length).map(|_| T::unpack(from)).collect()
    }
}

impl Pack for BTreeMap<SmolStr, SmolStr> {
    fn pack(&self, to: &mut Packer<'_>) {
        to.number(self.len() as u64);
        for (name, value) in self {
            name.pack(to);
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let length = from.number();
        (0..length).map(|_| (SmolStr::unpack(from), SmolStr::unpack(from))).collect()
    }
}

/// Objects are kept without their version: one that is the same but for it is the same.
impl Pack for ObjectMeta {
    fn pack(&self, to: &mut Packer<'_>) {
        if to.resource.lends_labels() {
            self.labels.pack(to);
            self.annotations.pack(to);
        }
        if to.resource == Resource::Pods {
            to.own_text(&self.uid);
        }
        if to.resource.has_controllers() {
            self.controller().cloned().pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let mut metadata =
            Self { name: from.name.into(), namespace: from.namespace.into(), ..Self::default() };
        if from.resource.lends_labels() {
            metadata.labels = Pack::unpack(from);
            metadata.annotations = Pack::unpack(from);
        }
        if from.resource == Resource::Pods {
            metadata.uid = from.own_text();
        }
        if from.resource.has_controllers() {
            metadata.owner_references = Option::unpack(from).into_iter().collect();
        }
        metadata
    }
}

impl Resource {
    /// Whether its labels and annotations become labels of targets.
    fn lends_labels(self) -> bool {
        !matches!(self, Self::Jobs | Self::ReplicaSets)
    }

    /// Whether it is of interest what such an object belongs to.
    fn has_controllers(self) -> bool {
        matches!(self, Self::Jobs | Self::Pods | Self::ReplicaSets)
    }
}

impl Pack for ContainerStatus {
    fn pack(&self, to: &mut Packer<'_>) {
        let Self { name, container_id } = self;
        name.pack(to);
        to.own_text(container_id);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Self { name: Pack::unpack(from), container_id: from.own_text() }
    }
}

/// A record has the fields one behind the other.
macro_rules! packed {
    ($($kind:ident { $($field:ident),* })*) => {$(
        impl Pack for $kind {
            fn pack(&self, to: &mut Packer<'_>) {
                let Self { $($field),* } = self;
                $($field.pack(to);)*
            }

            fn unpack(from: &mut Unpacker<'_>) -> Self {
                Self { $($field: Pack::unpack(from)),* }
            }
        }
    )*};
}

packed! {
    OwnerReference { kind, name, controller }
    ObjectReference { kind, namespace, name }
    MetadataOnly { metadata }
    Condition { kind, status }
    Pod { metadata, spec, status }
    PodSpec { node_name, containers, init_containers }
    Container { name, image, ports }
    ContainerPort { name, container_port, protocol }
    PodStatus { phase, pod_ip, host_ip, conditions, container_statuses, init_container_statuses }
    Node { metadata, spec, status }
    NodeSpec { provider_id }
    NodeStatus { addresses, conditions, daemon_endpoints }
    NodeAddress { kind, address }
    NodeDaemonEndpoints { kubelet_endpoint }
    DaemonEndpoint { port }
    Service { metadata, spec, status }
    ServiceSpec { kind, cluster_ip, external_name, load_balancer_ip, ip_family_policy, ip_families, ports }
    ServicePort { name, port, protocol }
    ServiceStatus { load_balancer }
    LoadBalancerStatus { ingress }
    LoadBalancerIngress { ip }
    Endpoints { metadata, subsets }
    EndpointSubset { addresses, not_ready_addresses, ports }
    EndpointAddress { ip, hostname, node_name, target_ref }
    EndpointPort { name, port, protocol }
    EndpointSlice { metadata, address_type, endpoints, ports }
    SliceEndpoint { addresses, conditions, hostname, node_name, zone, target_ref, deprecated_topology }
    SliceConditions { ready, serving, terminating }
    SlicePort { name, port, protocol, app_protocol }
    Ingress { metadata, spec }
    IngressSpec { ingress_class_name, tls, rules }
    IngressTls { hosts }
    IngressRule { host, http }
    HttpIngress { paths }
    IngressPath { path }
}

#[cfg(test)]
mod tests {
    use promferry_model::{Rng, SeededRng};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    /// An object without what no label is made of.
    fn trimmed(resource: Resource, mut object: Object) -> Object {
        let metadata = match &mut object {
            Object::Endpoints(object) => &mut object.metadata,
            Object::EndpointSlice(object) => &mut object.metadata,
            Object::Ingress(object) => &mut object.metadata,
            Object::Job(object) | Object::Namespace(object) | Object::ReplicaSet(object) => {
                &mut object.metadata
            }
            Object::Node(object) => &mut object.metadata,
            Object::Pod(object) => &mut object.metadata,
            Object::Service(object) => &mut object.metadata,
        };
        metadata.resource_version = SmolStr::default();
        metadata.owner_references.retain(|owner| owner.controller == Some(true));
        if resource != Resource::Pods {
            metadata.uid = SmolStr::default();
        }
        if !matches!(resource, Resource::Pods | Resource::Jobs | Resource::ReplicaSets) {
            metadata.owner_references.clear();
        }
        if matches!(resource, Resource::Jobs | Resource::ReplicaSets) {
            metadata.labels.clear();
            metadata.annotations.clear();
        }
        object
    }

    fn read<T: DeserializeOwned>(value: &Value, object: fn(T) -> Object) -> Object {
        object(serde_json::from_value(value.clone()).unwrap())
    }

    fn comes_back(resource: Resource, object: &Object, symbols: &mut SymbolTable) {
        let record = pack(resource, object, symbols).unwrap();
        let metadata = object.metadata();
        let back = unpack(resource, &metadata.namespace, &metadata.name, &record, symbols);
        assert_eq!(back, trimmed(resource, object.clone()));
        assert_eq!(pack(resource, object, symbols).unwrap(), record);
        // The texts that it needs are those that there are of it alone.
        let (mut used, mut alone) = (SlotSet::default(), SymbolTable::new());
        mark(resource, &record, symbols, &mut used);
        pack(resource, object, &mut alone).unwrap();
        assert_eq!(used.len(), alone.len(), "{object:?}");
    }

    #[test]
    fn recorded_objects_come_back() {
        let mut symbols = SymbolTable::new();
        let mut objects = 0;
        let mut all = |resource, list: &str, read: &dyn Fn(&Value) -> Object| {
            let list: Value = serde_json::from_str(list).unwrap();
            for item in list["items"].as_array().unwrap() {
                comes_back(resource, &read(item), &mut symbols);
                objects += 1;
            }
        };
        macro_rules! recorded {
            ($file:literal) => {
                include_str!(concat!("../../../tests/kubernetes/data/", $file, ".json"))
            };
        }
        all(Resource::Endpoints, recorded!("endpoints"), &|item| read(item, Object::Endpoints));
        all(Resource::EndpointSlices, recorded!("endpointslices"), &|item| read(item, Object::EndpointSlice));
        all(Resource::Ingresses, recorded!("ingresses"), &|item| read(item, Object::Ingress));
        all(Resource::Namespaces, recorded!("namespaces"), &|item| read(item, Object::Namespace));
        all(Resource::Nodes, recorded!("nodes"), &|item| read(item, Object::Node));
        all(Resource::Pods, recorded!("pods"), &|item| read(item, Object::Pod));
        all(Resource::ReplicaSets, recorded!("replicasets"), &|item| read(item, Object::ReplicaSet));
        all(Resource::Services, recorded!("services"), &|item| read(item, Object::Service));
        assert_eq!(objects, 20);
    }

    #[test]
    fn whatever_is_in_a_pod_comes_back() {
        let mut chance = SeededRng::new(7);
        let mut symbols = SymbolTable::new();
        for _ in 0..500 {
            let mut text = || match chance.next_u64() % 9 {
                0 => String::new(),
                1 => "6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned(),
                2 => "6BA7B810-9dad-11d1-80b4-00c04fd430c8".to_owned(),
                3 => "6ba7b8109-dad-11d1-80b4-00c04fd430c8".to_owned(),
                4 => format!("containerd://{:064x}", chance.next_u64()),
                5 => format!("://{:064x}", chance.next_u64()),
                6 => format!("docker://{:064X}", 0xabcd_u64 + chance.next_u64()),
                7 => "ä".repeat((chance.next_u64() % 200) as usize),
                _ => format!("{}", chance.next_u64() % 20),
            };
            let port = json!({ "containerPort": -7, "name": text(), "protocol": text() });
            let container = json!({ "name": text(), "image": text(), "ports": [port, {}] });
            let pod = json!({
                "metadata": {
                    "name": text(), "namespace": text(), "uid": text(), "resourceVersion": text(),
                    "labels": { text(): text(), text(): text() }, "annotations": { text(): text() },
                    "ownerReferences": [{ "kind": text(), "name": text() },
                        { "kind": text(), "name": text(), "controller": true }],
                },
                "spec": { "nodeName": text(), "containers": [container, {}], "initContainers": [container] },
                "status": {
                    "phase": text(), "podIP": text(), "hostIP": text(),
                    "conditions": [{ "type": text(), "status": text() }],
                    "containerStatuses": [{ "name": text(), "containerID": text() }, {}],
                },
            });
            comes_back(Resource::Pods, &read(&pod, Object::Pod), &mut symbols);
        }
    }

    #[test]
    fn what_is_cut_short_reads_as_empty() {
        let mut symbols = SymbolTable::new();
        let pod = json!({ "metadata": { "uid": "u", "labels": { "a": "b" } },
            "spec": { "containers": [{ "name": "c", "image": "i" }] } });
        let record = pack(Resource::Pods, &read(&pod, Object::Pod), &mut symbols).unwrap();
        for length in 0..record.len() {
            unpack(Resource::Pods, "", "", &record[..length], &symbols);
        }
    }
}
