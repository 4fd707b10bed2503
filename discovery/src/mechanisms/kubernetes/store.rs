//! The objects that are known, and which target groups change when one of them does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use promferry_model::TargetGroup;
use smol_str::SmolStr;

use super::config::KubernetesMetadata;
use super::labels::{Objects, source, target_group};
use super::objects::{Object, Resource};
use super::source::{Collection, CollectionEvent};
use crate::Updates;

/// All collections that a role needs.
///
/// Building a group notes which objects it asked for, whether they were there or not: when one of them comes, changes
/// or goes, exactly those groups are built again.
pub(crate) struct Store {
    /// What becomes targets; the other collections lend labels.
    targets: Resource,
    attach: KubernetesMetadata,
    collections: Vec<Collected>,
    objects: BTreeMap<Key, Object>,
    /// What the group of an object asked for.
    dependencies: HashMap<Key, BTreeSet<Key>>,
    /// The other way round.
    dependents: HashMap<Key, BTreeSet<Key>>,
    /// Objects whose groups have to be built.
    dirty: BTreeSet<Key>,
    /// Something was reported, were it only about some namespaces.
    has_reported: bool,
    /// Something was answered since that was last reported.
    is_answered: bool,
}

struct Collected {
    collection: Collection,
    is_listed: bool,
    is_failing: bool,
    /// What a list has mentioned so far, while there is one.
    mentioned: Option<BTreeSet<Key>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    resource: Resource,
    namespace: SmolStr,
    name: SmolStr,
}

impl Store {
    pub(crate) fn new(targets: Resource, attach: KubernetesMetadata, collections: &[Collection]) -> Self {
        let collected = |collection: &Collection| Collected {
            collection: collection.clone(),
            is_listed: false,
            is_failing: false,
            mentioned: None,
        };
        Self {
            targets,
            attach,
            collections: collections.iter().map(collected).collect(),
            objects: BTreeMap::new(),
            dependencies: HashMap::new(),
            dependents: HashMap::new(),
            dirty: BTreeSet::new(),
            has_reported: false,
            is_answered: false,
        }
    }

    /// Takes in what happened to the collection with this index.
    pub(crate) fn apply(&mut self, index: usize, event: CollectionEvent, updates: &Updates) {
        let Some(collected) = self.collections.get_mut(index) else { return };
        let collection = &collected.collection;
        let resource = collection.resource;
        if let CollectionEvent::Failed(reason) = event {
            collected.is_failing = true;
            updates.failed(&reason);
            return;
        }
        if collected.is_failing && matches!(event, CollectionEvent::ListEnds | CollectionEvent::Recovered) {
            collected.is_failing = false;
            self.is_answered = true;
        }
        match event {
            CollectionEvent::ListBegins => collected.mentioned = Some(BTreeSet::new()),
            CollectionEvent::ListEnds => {
                collected.is_listed = true;
                self.is_answered = true;
                let mentioned = collected.mentioned.take().unwrap_or_default();
                let namespace = collection.namespace.clone();
                let is_of = |key: &Key| {
                    key.resource == resource && namespace.as_ref().is_none_or(|of| *of == key.namespace)
                };
                let is_gone = |key: &&Key| is_of(key) && !mentioned.contains(*key);
                let gone: Vec<Key> = self.objects.keys().filter(is_gone).cloned().collect();
                for key in gone {
                    self.remove(&key);
                }
            }
            CollectionEvent::Applied(object) => {
                if let Some(mentioned) = &mut collected.mentioned {
                    mentioned.insert(Key::of(resource, &object));
                }
                self.put(resource, object);
            }
            CollectionEvent::Deleted(object) => self.remove(&Key::of(resource, &object)),
            CollectionEvent::Recovered | CollectionEvent::Failed(_) => {}
        }
    }

    /// Reports the groups that are different now.
    ///
    /// The first time it waits for all collections, except for those that fail. After that, as in Prometheus, a
    /// namespace has its groups as soon as everything has been listed that they are made of.
    pub(crate) fn publish(&mut self, updates: &Updates) {
        let is_settled = |collected: &Collected| collected.is_listed || collected.is_failing;
        if !self.has_reported && !self.collections.iter().all(is_settled) {
            return;
        }
        let (mut groups, mut gone) = (Vec::new(), Vec::new());
        for key in std::mem::take(&mut self.dirty) {
            if !self.is_complete(&key.namespace) {
                self.dirty.insert(key);
                continue;
            }
            match self.build(&key) {
                Some(group) => groups.extend(group),
                None => gone.push(source(key.resource, &key.namespace, &key.name)),
            }
        }
        let is_all = self.collections.iter().all(|collected| collected.is_listed);
        if is_all && !self.has_reported {
            updates.replace(groups);
        } else if !(groups.is_empty() && gone.is_empty()) {
            updates.change(groups, gone);
        }
        self.has_reported = true;
        let is_well = is_all && !self.collections.iter().any(|collected| collected.is_failing);
        if is_well && std::mem::take(&mut self.is_answered) {
            updates.succeeded();
        }
    }

    /// Whether all has been listed that the groups of a namespace are made of.
    fn is_complete(&self, namespace: &str) -> bool {
        let mut concerned = self
            .collections
            .iter()
            .filter(|collected| collected.collection.namespace.as_ref().is_none_or(|of| of == namespace));
        concerned.all(|collected| collected.is_listed)
    }

    fn put(&mut self, resource: Resource, mut object: Object) {
        object.take_version();
        let key = Key::of(resource, &object);
        if self.objects.get(&key) != Some(&object) {
            self.touch(&key);
            self.objects.insert(key, object);
        }
    }

    fn remove(&mut self, key: &Key) {
        if self.objects.remove(key).is_some() {
            self.touch(key);
        }
    }

    fn touch(&mut self, key: &Key) {
        if key.resource == self.targets {
            self.dirty.insert(key.clone());
        }
        self.dirty.extend(self.dependents.get(key).into_iter().flatten().cloned());
    }

    /// The group of an object; `None` if it is gone.
    fn build(&mut self, key: &Key) -> Option<Option<TargetGroup>> {
        let lookups = Lookups { objects: &self.objects, asked_for: RefCell::default() };
        let group = self.objects.get(key).map(|object| target_group(object, self.attach, &lookups));
        let asked_for = lookups.asked_for.into_inner();
        let before = match group.is_some() && !asked_for.is_empty() {
            true => self.dependencies.insert(key.clone(), asked_for.clone()),
            false => self.dependencies.remove(key),
        };
        let before = before.unwrap_or_default();
        for dependency in before.difference(&asked_for) {
            if let Some(dependents) = self.dependents.get_mut(dependency) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(dependency);
                }
            }
        }
        for dependency in asked_for.difference(&before) {
            self.dependents.entry(dependency.clone()).or_default().insert(key.clone());
        }
        group
    }
}

impl Key {
    fn of(resource: Resource, object: &Object) -> Self {
        let metadata = object.metadata();
        Self { resource, namespace: metadata.namespace.clone(), name: metadata.name.clone() }
    }
}

/// The objects, and which of them somebody asked for.
struct Lookups<'a> {
    objects: &'a BTreeMap<Key, Object>,
    asked_for: RefCell<BTreeSet<Key>>,
}

impl Objects for Lookups<'_> {
    fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Object> {
        let key = Key { resource, namespace: namespace.into(), name: name.into() };
        let object = self.objects.get(&key);
        self.asked_for.borrow_mut().insert(key);
        object
    }
}
