//! The objects of a cluster that are known, each once, however many collections it is in.

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use promferry_model::{Symbol, SymbolTable};
use smol_str::SmolStr;

use super::labels::node_address;
use super::objects::{Object, Resource};
use super::record::{mark, pack, unpack};
use super::references::references;
use super::slot_set::SlotSet;

/// Objects by resource, namespace and name, packed; and which of them each collection has.
#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    /// Slots without an object.
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Namespaces, names and the texts of records.
    symbols: SymbolTable,
    /// The bytes of all records.
    record_bytes: usize,
    /// Records that were replaced or removed since texts that nobody needs were removed from `symbols`.
    outdated: usize,
    collections: Vec<Option<Members>>,
    /// What a collection said of objects of which another one had said something newer.
    passed_over: HashMap<u32, PassedOver>,
    /// What is referred to (namespaces are not), and the slot of what refers to it; of resources that are collected.
    references: BTreeSet<(Resource, Symbol, Symbol, u32)>,
}

/// Which collection it is, as long as there is it.
pub(crate) type CollectionId = u32;

struct Slot {
    /// `None` if there is no such object (any more).
    record: Option<Box<[u8]>>,
    /// The object's version, 0 if it has none that is a number.
    version: u64,
    namespace: Symbol,
    name: Symbol,
    resource: Resource,
    /// The collection that the record comes from.
    written_by: CollectionId,
}

struct PassedOver {
    by: CollectionId,
    version: u64,
    record: Box<[u8]>,
}

/// What a collection has.
pub(crate) struct Members {
    pub(crate) resource: Resource,
    /// All of them if absent.
    pub(crate) namespace: Option<SmolStr>,
    slots: SlotSet,
    /// What a list has mentioned so far, while there is one.
    mentioned: Option<SlotSet>,
    pub(crate) is_listed: bool,
    /// Since it was last begun to be listed, there was no room for all of it.
    pub(crate) is_full: bool,
    /// Why it cannot be kept up to date.
    pub(crate) failure: Option<String>,
}

/// The texts of a cluster's objects have more than 4 GiB.
#[derive(Debug, thiserror::Error)]
#[error("the texts of the cluster's objects have more than 4 GiB: select fewer of them")]
pub(crate) struct TableFull;

/// So many records are replaced before it is worth to look for texts that nobody needs, and a quarter of all.
const MIN_OUTDATED: usize = 1024;

impl Table {
    /// A collection that has nothing yet.
    pub(crate) fn add_collection(&mut self, resource: Resource, namespace: Option<SmolStr>) -> CollectionId {
        let is_first = !self.is_collected(resource);
        let members = Members {
            resource,
            namespace,
            slots: SlotSet::default(),
            mentioned: None,
            is_listed: false,
            is_full: false,
            failure: None,
        };
        let vacant = self.collections.iter().position(Option::is_none);
        let id = vacant.unwrap_or_else(|| {
            self.collections.push(None);
            self.collections.len() - 1
        });
        self.collections[id] = Some(members);
        // The namespace of what has none, which is looked for before there is such an object.
        self.symbols.intern("");
        if is_first {
            for slot in 0..self.slots.len() as u32 {
                self.note_references(slot, |of| of == resource);
            }
        }
        id as CollectionId
    }

    /// Takes everything from a collection, which has to be [forgotten](Self::forget_collection) when that was looked
    /// at.
    pub(crate) fn empty_collection(&mut self, id: CollectionId) -> Vec<u32> {
        let Some(members) = self.members_mut(id) else { return Vec::new() };
        let slots: Vec<u32> = std::mem::take(&mut members.slots).iter().collect();
        for slot in &slots {
            self.fall_back(id, *slot);
        }
        slots
    }

    pub(crate) fn forget_collection(&mut self, id: CollectionId) {
        let Some(members) = self.collections.get_mut(id as usize).and_then(Option::take) else { return };
        if !self.is_collected(members.resource) {
            self.references.retain(|(resource, ..)| *resource != members.resource);
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.written_by == id) {
            slot.written_by = CollectionId::MAX;
        }
    }

    pub(crate) fn members(&self, id: CollectionId) -> Option<&Members> {
        self.collections.get(id as usize).and_then(Option::as_ref)
    }

    pub(crate) fn members_mut(&mut self, id: CollectionId) -> Option<&mut Members> {
        self.collections.get_mut(id as usize).and_then(Option::as_mut)
    }

    fn is_collected(&self, resource: Resource) -> bool {
        self.collections.iter().flatten().any(|members| members.resource == resource)
    }

    /// All objects of a collection follow.
    pub(crate) fn begin_list(&mut self, id: CollectionId) {
        if let Some(members) = self.members_mut(id) {
            members.mentioned = Some(SlotSet::default());
            members.is_full = false;
        }
    }

    /// They were all: the slots of those that are gone.
    pub(crate) fn end_list(&mut self, id: CollectionId) -> Vec<u32> {
        let Some(members) = self.members_mut(id) else { return Vec::new() };
        members.is_listed = true;
        let mentioned = members.mentioned.take().unwrap_or_default();
        let gone: Vec<u32> = members.slots.iter().filter(|slot| !mentioned.contains(*slot)).collect();
        for slot in &gone {
            members.slots.remove(*slot);
        }
        for slot in &gone {
            self.fall_back(id, *slot);
        }
        gone
    }

    /// Takes in an object of a collection. The slot, if that changes what the collection has.
    pub(crate) fn put(&mut self, id: CollectionId, mut object: Object) -> Result<Option<u32>, TableFull> {
        let Some(resource) = self.members(id).map(|members| members.resource) else { return Ok(None) };
        let metadata = object.metadata();
        let version = metadata.resource_version.parse().unwrap_or(0);
        let namespace = self.symbols.intern(&metadata.namespace).ok_or(TableFull)?;
        let name = self.symbols.intern(&metadata.name).ok_or(TableFull)?;
        let key = (resource, namespace, name);
        let known = self.slot_of(key);
        let before = known.filter(|slot| self.slots[*slot as usize].record.is_some());
        // Also if what is new of it finds no room.
        if let (Some(slot), Some(Members { mentioned: Some(mentioned), .. })) = (before, self.members_mut(id))
        {
            mentioned.insert(slot);
        }
        if let Object::Node(node) = &mut object
            && node_address(node).is_none()
            && let Some(Object::Node(before)) = before.and_then(|slot| self.object(slot))
        {
            // As in Prometheus, its target stays what it was.
            node.status.addresses = before.status.addresses;
            node.status.daemon_endpoints = before.status.daemon_endpoints;
        }
        let Some(record) = pack(resource, &object, &mut self.symbols) else {
            if let Some(members) = self.members_mut(id) {
                members.is_full = true;
            }
            return Err(TableFull);
        };
        let is_outdated = before.is_some_and(|slot| self.is_outdated(slot, id, version));
        let slot = known.unwrap_or_else(|| self.new_slot(key));
        let mut is_different = false;
        if is_outdated {
            self.passed_over.insert(slot, PassedOver { by: id, version, record });
        } else {
            self.passed_over.remove(&slot);
            is_different = self.write(id, slot, version, record);
        }
        let Some(members) = self.members_mut(id) else { return Ok(None) };
        if let Some(mentioned) = &mut members.mentioned {
            mentioned.insert(slot);
        }
        let is_new = members.slots.insert(slot);
        Ok((is_different || is_new).then_some(slot))
    }

    /// Whether another collection, which still has the object, has said something newer of it.
    ///
    /// Versions of Kubernetes' objects are numbers that grow (API conventions of 1.35). What a collection says itself
    /// counts nevertheless: a cluster that was restored goes on from a lower one. Until the collection that said it last
    /// has been listed after that, others are not believed.
    fn is_outdated(&self, slot: u32, id: CollectionId, version: u64) -> bool {
        let known = &self.slots[slot as usize];
        (1..known.version).contains(&version) && known.written_by != id && self.is_in(known.written_by, slot)
    }

    /// Makes this the record of an object, as a collection says it. Whether it is another one.
    fn write(&mut self, id: CollectionId, slot: u32, version: u64, record: Box<[u8]>) -> bool {
        let is_different = self.slots[slot as usize].record.as_ref() != Some(&record);
        if is_different {
            self.replace(slot, Some(record));
        }
        let known = &mut self.slots[slot as usize];
        known.version = version;
        known.written_by = id;
        is_different
    }

    /// A collection has lost an object. Where what is known of that comes from it, and another one that still has the
    /// object was passed over, that one was right: the cluster was restored.
    fn fall_back(&mut self, id: CollectionId, slot: u32) {
        if self.slots[slot as usize].written_by != id {
            return;
        }
        if let Some(PassedOver { by, version, record }) = self.passed_over.remove(&slot)
            && self.is_in(by, slot)
        {
            self.write(by, slot, version, record);
        }
    }

    /// An object is no longer in a collection: its slot, if it was.
    pub(crate) fn remove(&mut self, id: CollectionId, object: &Object) -> Option<u32> {
        let resource = self.members(id)?.resource;
        let metadata = object.metadata();
        let slot = self.find(resource, &metadata.namespace, &metadata.name)?;
        let members = self.members_mut(id)?;
        if let Some(mentioned) = &mut members.mentioned {
            mentioned.remove(slot);
        }
        let was_there = members.slots.remove(slot);
        let version = metadata.resource_version.parse().unwrap_or(0);
        // As it is when it leaves it has a newer version, unless the cluster was restored.
        if was_there && (1..self.slots[slot as usize].version).contains(&version) {
            self.fall_back(id, slot);
        }
        was_there.then_some(slot)
    }

    /// Forgets an object that no collection has any more; its slot stays until it is [freed](Self::free). Whether it is
    /// such an object.
    pub(crate) fn forget_if_alone(&mut self, slot: u32) -> bool {
        let is_alone = !self.collections.iter().flatten().any(|members| members.slots.contains(slot));
        if is_alone {
            self.passed_over.remove(&slot);
            self.replace(slot, None);
        }
        is_alone
    }

    /// Gives a slot without an object to others.
    pub(crate) fn free(&mut self, slot: u32) {
        let key = |slot: &Slot| (slot.resource, slot.namespace, slot.name);
        let hash = self.hasher.hash_one(key(&self.slots[slot as usize]));
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
            self.free.push(slot);
        }
    }

    /// The object of a slot.
    pub(crate) fn object(&self, slot: u32) -> Option<Object> {
        let known = self.slots.get(slot as usize)?;
        let record = known.record.as_ref()?;
        let (namespace, name) = (self.symbols.get(known.namespace), self.symbols.get(known.name));
        Some(unpack(known.resource, namespace, name, record, &self.symbols))
    }

    #[cfg(test)]
    pub(crate) fn record_mut(&mut self, slot: u32) -> Option<&mut Box<[u8]>> {
        self.slots[slot as usize].record.as_mut()
    }

    /// The slot of an object, of which it may have known once only.
    pub(crate) fn find(&self, resource: Resource, namespace: &str, name: &str) -> Option<u32> {
        self.slot_of((resource, self.symbols.find(namespace)?, self.symbols.find(name)?))
    }

    /// Resource, namespace and name of a slot.
    pub(crate) fn name(&self, slot: u32) -> (Resource, &str, &str) {
        let (resource, namespace, name) = self.slots[slot as usize].key();
        (resource, self.symbols.get(namespace), self.symbols.get(name))
    }

    pub(crate) fn resource(&self, slot: u32) -> Resource {
        self.slots[slot as usize].resource
    }

    pub(crate) fn is_in(&self, id: CollectionId, slot: u32) -> bool {
        self.members(id).is_some_and(|members| members.slots.contains(slot))
    }

    /// What a collection has.
    pub(crate) fn slots_of(&self, id: CollectionId) -> impl Iterator<Item = u32> {
        self.members(id).into_iter().flat_map(|members| members.slots.iter())
    }

    /// How many objects a collection has.
    pub(crate) fn count(&self, id: CollectionId) -> usize {
        self.members(id).map_or(0, |members| members.slots.len())
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        let sets = self.collections.iter().flatten().map(|members| members.slots.memory_bytes());
        let slots = self.slots.capacity() * size_of::<Slot>() + self.index.capacity() * 5;
        // Leaves of a set are between half full and full.
        let references = self.references.len() * 3 / 2 * size_of::<(Resource, Symbol, Symbol, u32)>();
        let passed_over = self.passed_over.values().map(|passed| passed.record.len()).sum::<usize>()
            + self.passed_over.capacity() * size_of::<(u32, PassedOver)>();
        self.record_bytes
            + passed_over
            + slots
            + self.symbols.memory_bytes()
            + references
            + sets.sum::<usize>()
    }

    /// The slots whose objects' labels are made of this one, too.
    pub(crate) fn dependents(&self, slot: u32) -> Vec<u32> {
        let key = self.slots[slot as usize].key();
        let (resource, namespace, name) = key;
        match resource {
            Resource::Namespaces => {
                let is_in_it = |(_, other): &(usize, &Slot)| {
                    other.record.is_some() && other.namespace == name && other.resource != resource
                };
                let all = self.slots.iter().enumerate().filter(is_in_it);
                all.map(|(other, _)| other as u32).collect()
            }
            // They are of interest for pods, and with these for the endpoints that refer to them.
            Resource::ReplicaSets | Resource::Jobs => {
                let pods: Vec<u32> = self.referring(resource, namespace, name).collect();
                let endpoints = pods.iter().flat_map(|pod| {
                    let (resource, namespace, name) = self.slots[*pod as usize].key();
                    self.referring(resource, namespace, name)
                });
                pods.iter().copied().chain(endpoints).collect()
            }
            _ => self.referring(resource, namespace, name).collect(),
        }
    }

    fn referring(&self, resource: Resource, namespace: Symbol, name: Symbol) -> impl Iterator<Item = u32> {
        let all = (resource, namespace, name, 0)..=(resource, namespace, name, u32::MAX);
        self.references.range(all).map(|(.., slot)| *slot)
    }

    fn slot_of(&self, key: (Resource, Symbol, Symbol)) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |slot| self.slots[*slot as usize].key() == key).copied()
    }

    fn new_slot(&mut self, key: (Resource, Symbol, Symbol)) -> u32 {
        let hash = self.hasher.hash_one(key);
        let (resource, namespace, name) = key;
        let new = Slot { record: None, version: 0, namespace, name, resource, written_by: CollectionId::MAX };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new;
                slot
            }
            None => {
                self.slots.push(new);
                (self.slots.len() - 1) as u32
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| hasher.hash_one(slots[*slot as usize].key()));
        slot
    }

    fn replace(&mut self, slot: u32, record: Option<Box<[u8]>>) {
        if self.slots[slot as usize].record.is_some() {
            self.each_reference(
                slot,
                |_| true,
                |references, reference| {
                    references.remove(&reference);
                },
            );
            self.outdated += 1;
        }
        self.record_bytes += record.as_ref().map_or(0, |record| record.len());
        let before = std::mem::replace(&mut self.slots[slot as usize].record, record);
        self.record_bytes -= before.map_or(0, |record| record.len());
        self.note_references(slot, |_| true);
        let live = self.slots.len() - self.free.len();
        if self.outdated >= MIN_OUTDATED.max(live / 4) {
            self.outdated = 0;
            self.sweep();
        }
    }

    fn note_references(&mut self, slot: u32, is_of_interest: impl Fn(Resource) -> bool) {
        self.each_reference(slot, is_of_interest, |references, reference| {
            references.insert(reference);
        });
    }

    /// What the object of a slot refers to, of the resources that are of interest and collected.
    fn each_reference(
        &mut self,
        slot: u32,
        is_of_interest: impl Fn(Resource) -> bool,
        mut each: impl FnMut(&mut BTreeSet<(Resource, Symbol, Symbol, u32)>, (Resource, Symbol, Symbol, u32)),
    ) {
        // Most objects refer to nothing, or nothing of it is collected.
        let refers_to: &[Resource] = match self.slots[slot as usize].resource {
            Resource::Endpoints | Resource::EndpointSlices => {
                &[Resource::Pods, Resource::Nodes, Resource::Services]
            }
            Resource::Pods => &[Resource::Nodes, Resource::ReplicaSets, Resource::Jobs],
            _ => &[],
        };
        if !refers_to.iter().any(|resource| is_of_interest(*resource) && self.is_collected(*resource)) {
            return;
        }
        let Some(object) = self.object(slot) else { return };
        let Self { symbols, references: known, collections, .. } = self;
        references(&object, &mut |resource, namespace, name| {
            let is_collected = collections.iter().flatten().any(|members| members.resource == resource);
            if is_collected
                && is_of_interest(resource)
                && let (Some(namespace), Some(name)) = (symbols.find(namespace), symbols.find(name))
            {
                each(known, (resource, namespace, name, slot));
            }
        });
    }

    /// Removes the texts that nobody needs.
    fn sweep(&mut self) {
        let mut used = SlotSet::default();
        for slot in &self.index {
            let Slot { record, namespace, name, resource, .. } = &self.slots[*slot as usize];
            used.insert(namespace.index() as u32);
            used.insert(name.index() as u32);
            if let Some(record) = record {
                mark(*resource, record, &self.symbols, &mut used);
            }
        }
        for (slot, passed) in &self.passed_over {
            mark(self.slots[*slot as usize].resource, &passed.record, &self.symbols, &mut used);
        }
        // What has no namespace is looked up by the empty one.
        if let Some(empty) = self.symbols.find("") {
            used.insert(empty.index() as u32);
        }
        self.symbols.retain(|symbol| used.contains(symbol.index() as u32));
    }
}

impl Slot {
    fn key(&self) -> (Resource, Symbol, Symbol) {
        (self.resource, self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
