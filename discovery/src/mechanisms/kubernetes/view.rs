//! The groups of one mechanism, made of a cluster's objects when they are asked for.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use promferry_model::{TargetGroup, hash_labels};
use smol_str::{SmolStr, ToSmolStr};
use tokio::sync::Notify;

use super::config::KubernetesMetadata;
use super::labels::{Objects, source, target_group};
use super::objects::{Object, Resource};
use super::references::references;
use super::slot_set::SlotSet;
use super::table::{CollectionId, Table};
use crate::Updates;

/// What a mechanism sees of a [`Table`]: the objects of its own collections.
///
/// Of its groups it keeps only whether they are still those that the consumer was told about.
pub(crate) struct View {
    /// What becomes targets; the other collections lend labels.
    targets: Resource,
    attach: KubernetesMetadata,
    collections: Vec<CollectionId>,
    /// Objects whose groups may be different from what was told.
    dirty: SlotSet,
    /// Those of them that the consumer has seen since then, as something else than it was told.
    seen: SlotSet,
    told: BTreeMap<u32, Told>,
    targets_told: usize,
    /// Groups that became dirty since that was last reported.
    received: u64,
    /// Failures that were not reported yet.
    failures: Vec<String>,
    /// Something was reported, were it only about some namespaces.
    has_reported: bool,
    /// Something was answered since that was last reported.
    is_answered: bool,
    /// Woken when there is something to report.
    pub(super) news: Arc<Notify>,
}

/// A group that the consumer was told about.
#[derive(PartialEq, Eq)]
struct Told {
    /// The two halves of a hash of all labels, in order. That a change is missed happens in one of 10^19 changes.
    hash: [u32; 2],
    targets: u32,
}

/// Groups that are made at a time without one of them being different.
const MAX_UNCHANGED: usize = 64;

impl View {
    /// A view of collections that may have been followed for long.
    pub(crate) fn new(
        targets: Resource,
        attach: KubernetesMetadata,
        collections: Vec<CollectionId>,
        table: &Table,
    ) -> Self {
        let mut view = Self {
            targets,
            attach,
            collections,
            dirty: SlotSet::default(),
            seen: SlotSet::default(),
            told: BTreeMap::new(),
            targets_told: 0,
            received: 0,
            failures: Vec::new(),
            has_reported: false,
            is_answered: false,
            news: Arc::new(Notify::new()),
        };
        for id in view.collections.clone() {
            let Some(members) = table.members(id) else { continue };
            view.is_answered |= members.is_listed;
            view.failures.extend(members.failure.clone());
            if members.resource == targets {
                for slot in table.slots_of(id) {
                    view.dirty(slot);
                }
            }
        }
        view.news.notify_one();
        view
    }

    pub(crate) fn has(&self, id: CollectionId) -> bool {
        self.collections.contains(&id)
    }

    /// A collection was listed, or can be followed again.
    pub(crate) fn answered(&mut self) {
        self.is_answered = true;
        self.news.notify_one();
    }

    pub(crate) fn failed(&mut self, reason: String) {
        self.failures.push(reason);
        self.news.notify_one();
    }

    /// An object is new or different, or is in one of the collections more, or less: `dependents` are those whose labels
    /// are made of it.
    pub(crate) fn changed(&mut self, table: &Table, slot: u32, dependents: &mut dyn FnMut() -> Vec<u32>) {
        if table.resource(slot) == self.targets {
            // What was never told is not taken back.
            match self.sees(table, slot) || self.told.contains_key(&slot) {
                true => self.dirty(slot),
                false => drop(self.dirty.remove(slot)),
            }
        } else if self.has_reported && self.collects(table, table.resource(slot)) {
            // Before it has reported, everything is dirty.
            for dependent in dependents() {
                if table.resource(dependent) == self.targets && self.sees(table, dependent) {
                    self.dirty(dependent);
                }
            }
        } else {
            return;
        }
        self.news.notify_one();
    }

    fn collects(&self, table: &Table, resource: Resource) -> bool {
        let mut members = self.collections.iter().filter_map(|id| table.members(*id));
        members.any(|members| members.resource == resource)
    }

    /// Whether one of its collections has the object.
    pub(crate) fn sees(&self, table: &Table, slot: u32) -> bool {
        self.collections.iter().any(|id| table.is_in(*id, slot))
    }

    /// Lets go of a slot that has no object any more, unless the consumer has still to be told so.
    pub(crate) fn lets_go(&mut self, slot: u32) -> bool {
        let is_told = self.told.contains_key(&slot);
        if !is_told {
            self.dirty.remove(slot);
        }
        !is_told
    }

    /// The slots of groups that the consumer has.
    pub(crate) fn slots_told(&self) -> impl Iterator<Item = u32> {
        self.told.keys().copied()
    }

    /// What has to be reported.
    ///
    /// The first time it waits for all collections, except for those that fail. After that, as in Prometheus, a
    /// namespace has its groups as soon as everything has been listed that they are made of.
    pub(crate) fn report(&mut self, table: &Table) -> Report {
        let mut report = Report { failures: std::mem::take(&mut self.failures), ..Report::default() };
        let members = || self.collections.iter().filter_map(|id| table.members(*id));
        if !self.has_reported && !members().all(|members| members.is_listed || members.failure.is_some()) {
            return report;
        }
        self.has_reported = true;
        let is_well = members().all(|members| members.is_listed && members.failure.is_none());
        let has_news = self.has_news(table) || self.is_answered && self.has_complete_namespace(table);
        report.received = has_news.then(|| std::mem::take(&mut self.received));
        report.is_well = is_well && std::mem::take(&mut self.is_answered);
        report
    }

    pub(crate) fn has_news(&self, table: &Table) -> bool {
        if !self.has_reported || self.dirty.is_empty() {
            return false;
        }
        let Some(unlisted) = self.unlisted(table) else { return false };
        unlisted.is_empty() || self.dirty.iter().any(|slot| !unlisted.contains(table.name(slot).1))
    }

    /// As [`Groups::take`](crate::discover::Groups::take); `each` is given what is different. Slots of which the consumer
    /// knows now that their object is gone are added to `gone`.
    pub(crate) fn take(
        &mut self,
        table: &Table,
        gone: &mut Vec<u32>,
        each: &mut dyn FnMut(SmolStr, Option<Arc<TargetGroup>>) -> bool,
    ) -> bool {
        if !self.has_reported {
            return false;
        }
        let Some(unlisted) = self.unlisted(table) else { return false };
        let mut unchanged = 0;
        let mut from = 0;
        while let Some(slot) = self.dirty.next(from) {
            from = slot + 1;
            let (resource, namespace, name) = table.name(slot);
            if unlisted.contains(namespace) {
                continue;
            }
            self.dirty.remove(slot);
            let is_there = self.sees(table, slot);
            let group = self.group(table, slot);
            let told = match &group {
                Ok(Some(group)) => self.tell(slot, group),
                Ok(None) => self.take_back(slot),
                Err(panic) => {
                    let source = source(resource, namespace, name);
                    self.failed(format!(
                        "the targets of {source} stay as they are: making them broke down: {panic}"
                    ));
                    false
                }
            };
            if !is_there {
                gone.push(slot);
            }
            if told {
                let group = group.ok().flatten().map(Arc::new);
                if !each(source(resource, namespace, name), group) {
                    return self.has_news(table);
                }
            } else {
                unchanged += 1;
                if unchanged == MAX_UNCHANGED {
                    return self.has_news(table);
                }
            }
        }
        false
    }

    /// Groups that the consumer has, from the slot after `mark` on, as they are now.
    pub(crate) fn told(
        &mut self,
        table: &Table,
        mark: Option<SmolStr>,
        each: &mut dyn FnMut(Arc<TargetGroup>) -> bool,
    ) -> Option<SmolStr> {
        let mark = mark.and_then(|mark| mark.parse::<u32>().ok());
        let mut after = mark.map_or(Bound::Unbounded, Bound::Excluded);
        while let Some((&slot, _)) = self.told.range((after, Bound::Unbounded)).next() {
            after = Bound::Excluded(slot);
            self.shows(slot);
            let group = self.group(table, slot).ok().flatten();
            if group.is_some_and(|group| !each(Arc::new(group))) {
                return Some(slot.to_smolstr());
            }
        }
        None
    }

    /// The group of a source, if the consumer has it.
    pub(crate) fn group_of(&mut self, table: &Table, source: &str) -> Option<TargetGroup> {
        let (namespace, name) = split(source)?;
        let slot = table.find(self.targets, namespace, name)?;
        self.told.get(&slot)?;
        self.shows(slot);
        self.group(table, slot).ok().flatten()
    }

    /// As [`Groups::settle`](crate::discover::Groups::settle): as long as a namespace cannot be listed, nobody knows what
    /// became of what was found there.
    pub(crate) fn settle(&self, table: &Table, sources: &mut Vec<SmolStr>) -> Vec<SmolStr> {
        // What takes the place of what is lost is told first.
        if !self.has_reported || self.has_news(table) {
            return Vec::new();
        }
        let Some(unlisted) = self.unlisted(table) else { return Vec::new() };
        let is_listed =
            |source: &mut SmolStr| split(source).is_none_or(|(namespace, _)| !unlisted.contains(namespace));
        sources.extract_if(.., is_listed).collect()
    }

    pub(crate) fn sources(&self, table: &Table) -> Vec<SmolStr> {
        let source = |slot: &u32| {
            let (resource, namespace, name) = table.name(*slot);
            source(resource, namespace, name)
        };
        self.told.keys().map(source).collect()
    }

    /// Groups that the consumer has or may get, and the targets that it has.
    pub(crate) fn counts(&self, table: &Table) -> (usize, usize) {
        let new = self.dirty.iter().filter(|slot| !self.told.contains_key(slot) && self.sees(table, *slot));
        (self.told.len() + new.count(), self.targets_told)
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        // Leaves of a map are between half full and full.
        self.told.len() * 3 / 2 * size_of::<(u32, Told)>()
            + self.dirty.memory_bytes()
            + self.seen.memory_bytes()
    }

    fn dirty(&mut self, slot: u32) {
        self.received += 1;
        self.dirty.insert(slot);
    }

    /// Somebody is about to look at a group, which is told again should it go back to what was told.
    fn shows(&mut self, slot: u32) {
        if self.dirty.contains(slot) {
            self.seen.insert(slot);
        }
    }

    /// The namespaces of which not everything has been listed that groups are made of; `None` if that is all of them.
    fn unlisted<'t>(&self, table: &'t Table) -> Option<HashSet<&'t str>> {
        let members = self.collections.iter().filter_map(|id| table.members(*id));
        members.filter(|members| !members.is_listed).map(|members| members.namespace.as_deref()).collect()
    }

    fn has_complete_namespace(&self, table: &Table) -> bool {
        let Some(unlisted) = self.unlisted(table) else { return false };
        let mut members = self.collections.iter().filter_map(|id| table.members(*id));
        unlisted.is_empty()
            || members
                .any(|members| members.namespace.as_ref().is_some_and(|of| !unlisted.contains(of.as_str())))
    }

    /// The group of an object as it is now, if it is one with targets. An error is what making it panicked with: that
    /// one object is not as expected must not end all discovery.
    fn group(&self, table: &Table, slot: u32) -> Result<Option<TargetGroup>, String> {
        // Nothing is changed, so nothing can be left half changed.
        let made = catch_unwind(AssertUnwindSafe(|| self.make_group(table, slot)));
        let group = made.map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default()
        })?;
        Ok(group.filter(|group| !group.targets.is_empty()))
    }

    fn make_group(&self, table: &Table, slot: u32) -> Option<TargetGroup> {
        let object = self.sees(table, slot).then(|| table.object(slot))??;
        let mut known = Known { table, objects: HashMap::new() };
        let mut load = |resource, namespace: &str, name: &str| {
            let slot = table.find(resource, namespace, name).filter(|slot| self.sees(table, *slot))?;
            if let Entry::Vacant(vacant) = known.objects.entry(slot) {
                vacant.insert(table.object(slot)?);
            }
            (resource == Resource::Pods).then_some(slot)
        };
        let mut pods = Vec::new();
        references(&object, &mut |resource, namespace, name| pods.extend(load(resource, namespace, name)));
        load(Resource::Namespaces, "", &object.metadata().namespace);
        // What the pods behind endpoints belong to.
        if self.attach.deployment || self.attach.cronjob {
            for pod in pods {
                if let Some(pod) = table.object(pod) {
                    references(&pod, &mut |resource, namespace, name| {
                        if resource != Resource::Nodes {
                            load(resource, namespace, name);
                        }
                    });
                }
            }
        }
        target_group(&object, self.attach, &known)
    }

    /// Whether that is news.
    fn tell(&mut self, slot: u32, group: &TargetGroup) -> bool {
        let hash = group
            .targets
            .iter()
            .fold(hash_labels(&group.labels, 0), |hash, target| hash_labels(target, hash));
        let told = || Told { hash: [(hash >> 32) as u32, hash as u32], targets: group.targets.len() as u32 };
        let before = self.told.insert(slot, told());
        self.targets_told += group.targets.len();
        self.targets_told -= before.as_ref().map_or(0, |before| before.targets as usize);
        self.seen.remove(slot) || before != Some(told())
    }

    fn take_back(&mut self, slot: u32) -> bool {
        self.seen.remove(slot);
        let before = self.told.remove(&slot);
        self.targets_told -= before.as_ref().map_or(0, |before| before.targets as usize);
        before.is_some()
    }
}

/// Namespace and name that a source is made of.
fn split(source: &str) -> Option<(&str, &str)> {
    let (_, rest) = source.split_once('/')?;
    Some(rest.split_once('/').unwrap_or(("", rest)))
}

/// What a view has to say about itself.
#[derive(Default)]
pub(crate) struct Report {
    failures: Vec<String>,
    /// Groups that may be different.
    received: Option<u64>,
    is_well: bool,
}

impl Report {
    pub(crate) fn send(self, updates: &Updates) {
        for reason in &self.failures {
            updates.failed(reason);
        }
        if let Some(groups) = self.received {
            updates.news(groups);
        }
        if self.is_well {
            updates.succeeded();
        }
    }
}

/// The objects that a group may be made of.
struct Known<'a> {
    table: &'a Table,
    objects: HashMap<u32, Object>,
}

impl Objects for Known<'_> {
    fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Object> {
        self.objects.get(&self.table.find(resource, namespace, name)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, containers: usize) -> Object {
        let containers = vec![json!({ "name": "app" }); containers];
        let pod = json!({
            "metadata": { "name": name, "namespace": "shop" },
            "spec": { "containers": containers }, "status": { "podIP": "10.0.0.1" },
        });
        Object::Pod(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn an_object_of_which_no_targets_can_be_made_costs_itself_alone() {
        let mut table = Table::default();
        let id = table.add_collection(Resource::Pods, None);
        table.begin_list(id);
        let slots = [("a", 0), ("b", 1), ("c", 1), ("d", 1)]
            .map(|(name, containers)| table.put(id, pod(name, containers)).unwrap().unwrap());
        table.end_list(id);
        // As many containers as there are in no memory.
        let [empty, full] = [slots[0], slots[1]].map(|slot| table.record_mut(slot).unwrap().to_vec());
        let length = empty.iter().zip(&full).position(|(empty, full)| empty != full).unwrap();
        let record = [&full[..length], &[0xff; 9], &[1]].concat();
        *table.record_mut(slots[1]).unwrap() = record.into();

        let mut view = View::new(Resource::Pods, KubernetesMetadata::default(), vec![id], &table);
        view.report(&table);
        let take = |view: &mut View, table: &Table| {
            let mut told = Vec::new();
            view.take(table, &mut Vec::new(), &mut |source, group| {
                told.push((source.to_string(), group.is_some()));
                true
            });
            told
        };
        let expected = ["pod/shop/c", "pod/shop/d"].map(|source| (source.to_owned(), true));
        assert_eq!(take(&mut view, &table), expected);
        let failures = view.report(&table).failures;
        assert!(failures.len() == 1 && failures[0].contains("pod/shop/b"), "{failures:?}");
        assert!(view.group_of(&table, "pod/shop/b").is_none());

        let slot = table.put(id, pod("b", 2)).unwrap().unwrap();
        view.changed(&table, slot, &mut Vec::new);
        assert_eq!(take(&mut view, &table), [("pod/shop/b".to_owned(), true)]);
    }
}
