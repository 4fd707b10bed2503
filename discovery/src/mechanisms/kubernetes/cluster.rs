//! What the mechanisms that ask one API server share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use promferry_http_client::{HttpClientConfig, Secret};
use promferry_model::TargetGroup;
use smol_str::SmolStr;
use tokio::sync::Notify;

use super::KubernetesDiscovery;
use super::api_server::{self, ApiServer, KubernetesOptions};
use super::config::{KubernetesMetadata, KubernetesSdConfig};
use super::objects::Resource;
use super::source::{Collection, CollectionEvent, CollectionStatus};
use super::table::{CollectionId, Members, Table};
use super::view::{Report, View};
use super::watch::ApiServerSource;
use crate::counts::{Counts, KubernetesEvents};
use crate::discover::Groups;
use crate::discovery::AbortOnDrop;
use crate::mechanisms::mechanism::restart_pause;
use crate::{Discover, DiscoveryOptions, Error};

/// The clusters that mechanisms look at, as long as they do.
#[derive(Default)]
pub(crate) struct Clusters(Mutex<Vec<(ClusterKey, Weak<Cluster>)>>);

/// Which server is asked with which credentials. A kubeconfig counts with what is in it: it may have changed since a
/// mechanism began.
#[derive(PartialEq)]
struct ClusterKey {
    url: Secret,
    http_config: HttpClientConfig,
}

/// An API server as it is asked with one set of credentials, and the objects that it has told about.
pub(crate) struct Cluster {
    source: ApiServerSource,
    state: Mutex<State>,
    followed: Mutex<Vec<(Collection, Weak<Followed>)>>,
}

struct State {
    table: Table,
    views: Vec<Option<View>>,
    counts: Arc<Counts>,
}

/// A collection that is followed for as long as somebody wants it.
struct Followed {
    cluster: Arc<Cluster>,
    id: CollectionId,
    status: Arc<Mutex<CollectionStatus>>,
    task: OnceLock<AbortOnDrop>,
}

/// The groups of a mechanism: its [`View`] of the cluster, and what keeps that up to date.
pub(crate) struct ClusterGroups {
    cluster: Arc<Cluster>,
    view: usize,
    news: Arc<Notify>,
    followed: Vec<Arc<Followed>>,
}

impl Clusters {
    /// The cluster that a mechanism asks for.
    pub(crate) fn get(
        &self,
        config: &KubernetesSdConfig,
        options: &DiscoveryOptions,
        counts: &Arc<Counts>,
    ) -> Result<Arc<Cluster>, Error> {
        let (url, http_config) = api_server::reached(config, &options.kubernetes)?;
        let key = ClusterKey { url: url.clone().into(), http_config };
        let mut clusters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|(_, cluster)| cluster.strong_count() > 0);
        let known = clusters.iter().find(|(other, _)| *other == key);
        if let Some(cluster) = known.and_then(|(_, cluster)| cluster.upgrade()) {
            return Ok(cluster);
        }
        let server = ApiServer::new(url, &key.http_config, &options.http)?;
        let cluster = Arc::new(Cluster::new(server, options.kubernetes.clone(), counts.clone()));
        clusters.push((key, Arc::downgrade(&cluster)));
        Ok(cluster)
    }

    /// Bytes of memory that the objects of all of them take.
    pub(crate) fn memory_bytes(&self) -> usize {
        let clusters: Vec<_> = {
            let clusters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.iter().filter_map(|(_, cluster)| cluster.upgrade()).collect()
        };
        let of = |cluster: &Arc<Cluster>| {
            let state = cluster.state();
            let views = state.views.iter().flatten().map(View::memory_bytes);
            state.table.memory_bytes() + views.sum::<usize>()
        };
        clusters.iter().map(of).sum()
    }
}

impl Cluster {
    fn new(server: ApiServer, options: KubernetesOptions, counts: Arc<Counts>) -> Self {
        Self {
            source: ApiServerSource::new(server, options),
            state: Mutex::new(State { table: Table::default(), views: Vec::new(), counts }),
            followed: Mutex::default(),
        }
    }

    /// Follows these collections, those of them that nobody follows yet anew, and makes groups of their objects.
    pub(crate) fn groups(
        self: &Arc<Self>,
        targets: Resource,
        attach: KubernetesMetadata,
        collections: &[Collection],
    ) -> ClusterGroups {
        let followed: Vec<_> = collections.iter().map(|collection| self.follow(collection)).collect();
        let mut state = self.state();
        let State { table, views, .. } = &mut *state;
        let ids = followed.iter().map(|followed| followed.id).collect();
        let view = View::new(targets, attach, ids, table);
        let news = view.news.clone();
        let vacant = views.iter().position(Option::is_none);
        let number = vacant.unwrap_or(views.len());
        match vacant {
            Some(number) => views[number] = Some(view),
            None => views.push(Some(view)),
        }
        drop(state);
        ClusterGroups { cluster: self.clone(), view: number, news, followed }
    }

    fn follow(self: &Arc<Self>, collection: &Collection) -> Arc<Followed> {
        let mut all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, followed)| followed.strong_count() > 0);
        let known = all.iter().find(|(other, _)| other == collection);
        if let Some(followed) = known.and_then(|(_, followed)| followed.upgrade()) {
            return followed;
        }
        let id = self.state().table.add_collection(collection.resource, collection.namespace.clone());
        let status = Arc::new(Mutex::new(CollectionStatus::new(collection)));
        let followed =
            Arc::new(Followed { cluster: self.clone(), id, status: status.clone(), task: OnceLock::new() });
        let follower =
            keep_following(self.source.clone(), collection.clone(), status, Arc::downgrade(&followed));
        let _ = followed.task.set(AbortOnDrop(tokio::spawn(follower)));
        all.push((collection.clone(), Arc::downgrade(&followed)));
        followed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, id: CollectionId, event: CollectionEvent) {
        match event {
            CollectionEvent::ListBegins => self.table.begin_list(id),
            CollectionEvent::Applied(object) => {
                let before = self.table.count(id);
                match self.table.put(id, object) {
                    Ok(Some(slot)) if self.table.count(id) > before => {
                        self.count(id, |events| events.added_total += 1);
                        self.touch(slot);
                    }
                    Ok(Some(slot)) => {
                        self.count(id, |events| events.updated_total += 1);
                        self.touch(slot);
                    }
                    Ok(None) => {}
                    Err(full) => self.fail(id, full.to_string()),
                }
            }
            CollectionEvent::Deleted(object) => {
                if let Some(slot) = self.table.remove(id, &object) {
                    self.count(id, |events| events.deleted_total += 1);
                    self.lose(slot);
                }
            }
            CollectionEvent::ListEnds => {
                for slot in self.table.end_list(id) {
                    self.count(id, |events| events.deleted_total += 1);
                    self.lose(slot);
                }
                self.answered(id);
            }
            CollectionEvent::Recovered => {
                let recovers = |members: &mut Members| !members.is_full && members.failure.take().is_some();
                if self.table.members_mut(id).is_some_and(recovers) {
                    self.answered(id);
                }
            }
            CollectionEvent::Failed(reason) => self.fail(id, reason),
        }
    }

    fn count(&self, id: CollectionId, change: impl FnOnce(&mut KubernetesEvents)) {
        if let Some(role) = self.table.members(id).and_then(|members| members.resource.role()) {
            self.counts.change(|counts| change(counts.kubernetes_events.entry(role).or_default()));
        }
    }

    fn fail(&mut self, id: CollectionId, reason: String) {
        self.counts.change(|counts| counts.kubernetes_failures_total += 1);
        if let Some(members) = self.table.members_mut(id) {
            members.failure = Some(reason.clone());
        }
        for view in self.views.iter_mut().flatten().filter(|view| view.has(id)) {
            view.failed(reason.clone());
        }
    }

    fn answered(&mut self, id: CollectionId) {
        for view in self.views.iter_mut().flatten().filter(|view| view.has(id)) {
            view.answered();
        }
    }

    /// Tells those whom it concerns that an object is different, or that others see it now.
    fn touch(&mut self, slot: u32) {
        let Self { table, views, .. } = self;
        let mut dependents = None;
        for view in views.iter_mut().flatten() {
            view.changed(table, slot, &mut || {
                dependents.get_or_insert_with(|| table.dependents(slot)).clone()
            });
        }
    }

    /// A collection has an object less.
    fn lose(&mut self, slot: u32) {
        self.touch(slot);
        if self.table.forget_if_alone(slot) {
            self.let_go(slot);
        }
    }

    /// Frees the slot of an object that nobody knows any more.
    fn let_go(&mut self, slot: u32) {
        // Each has to be asked.
        let held = self.views.iter_mut().flatten().filter_map(|view| (!view.lets_go(slot)).then_some(()));
        if held.count() == 0 {
            self.table.free(slot);
        }
    }
}

/// Follows a collection to the end of time. A breakdown costs a pause and a list.
async fn keep_following(
    source: ApiServerSource,
    collection: Collection,
    status: Arc<Mutex<CollectionStatus>>,
    followed: Weak<Followed>,
) {
    for failures in 0.. {
        let to = followed.clone();
        let apply = move |event| {
            if let Some(to) = to.upgrade() {
                to.cluster.state().apply(to.id, event);
            }
        };
        let follower = source.follow(collection.clone(), status.clone(), apply);
        // A task of its own, so that a panic ends nothing but that task.
        let mut task = AbortOnDrop(tokio::spawn(follower));
        let Err(error) = (&mut task.0).await else { return };
        let reason = format!("following {collection} broke down and is begun anew: {error}");
        if let Some(to) = followed.upgrade() {
            to.cluster.state().apply(to.id, CollectionEvent::Failed(reason));
        }
        tokio::time::sleep(restart_pause(failures)).await;
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let mut state = self.cluster.state();
        for slot in state.table.empty_collection(self.id) {
            state.lose(slot);
        }
        state.table.forget_collection(self.id);
    }
}

/// Groups that are made while followers of the cluster wait: about a millisecond's work.
const GROUPS_AT_A_TIME: usize = 32;

impl ClusterGroups {
    fn take_some(&self, each: &mut dyn FnMut(SmolStr, Option<Arc<TargetGroup>>) -> bool) -> bool {
        let mut state = self.cluster.state();
        let State { table, views, .. } = &mut *state;
        let Some(view) = &mut views[self.view] else { return false };
        let mut gone = Vec::new();
        let has_more = view.take(table, &mut gone, each);
        for slot in gone {
            if state.table.forget_if_alone(slot) {
                state.let_go(slot);
            }
        }
        has_more
    }

    /// Waits until there is something to report.
    pub(crate) async fn report(&self) -> Report {
        self.news.notified().await;
        let mut state = self.cluster.state();
        let State { table, views, .. } = &mut *state;
        views[self.view].as_mut().map(|view| view.report(table)).unwrap_or_default()
    }

    /// Something of its view.
    fn look<T: Default>(&self, look: impl FnOnce(&mut View, &Table) -> T) -> T {
        let mut state = self.cluster.state();
        let State { table, views, .. } = &mut *state;
        views[self.view].as_mut().map(|view| look(view, table)).unwrap_or_default()
    }
}

impl Groups for ClusterGroups {
    fn take(&self, each: &mut dyn FnMut(SmolStr, Option<Arc<TargetGroup>>) -> bool) -> bool {
        loop {
            let (mut taken, mut is_enough) = (0, false);
            let has_more = self.take_some(&mut |source, group| {
                is_enough = !each(source, group);
                taken += 1;
                !is_enough && taken < GROUPS_AT_A_TIME
            });
            if is_enough || !has_more || taken < GROUPS_AT_A_TIME {
                return has_more;
            }
        }
    }

    fn has_news(&self) -> bool {
        self.look(|view, table| view.has_news(table))
    }

    fn told(&self, mark: Option<SmolStr>, each: &mut dyn FnMut(Arc<TargetGroup>) -> bool) -> Option<SmolStr> {
        self.look(|view, table| view.told(table, mark, each))
    }

    fn group(&self, source: &str) -> Option<Arc<TargetGroup>> {
        self.look(|view, table| view.group_of(table, source)).map(Arc::new)
    }

    fn settle(&self, sources: &mut Vec<SmolStr>) -> Vec<SmolStr> {
        self.look(|view, table| view.settle(table, sources))
    }

    /// Its groups were told about, so what follows them must go on with them.
    fn finder(self: Arc<Self>) -> Option<Box<dyn Discover>> {
        self.look(|view, _| view.answered());
        Some(Box::new(KubernetesDiscovery(self)))
    }

    fn sources(&self) -> Vec<SmolStr> {
        self.look(|view, table| view.sources(table))
    }

    fn counts(&self) -> (usize, usize) {
        self.look(|view, table| view.counts(table))
    }

    fn collections(&self) -> Vec<CollectionStatus> {
        let counts = self.look(|_, table| {
            self.followed.iter().map(|followed| table.count(followed.id)).collect::<Vec<_>>()
        });
        let statuses = self
            .followed
            .iter()
            .map(|followed| followed.status.lock().unwrap_or_else(PoisonError::into_inner).clone());
        statuses.zip(counts).map(|(status, objects)| CollectionStatus { objects, ..status }).collect()
    }
}

impl Drop for ClusterGroups {
    fn drop(&mut self) {
        let mut state = self.cluster.state();
        let Some(view) = state.views[self.view].take() else { return };
        for slot in view.slots_told() {
            if state.table.forget_if_alone(slot) {
                state.let_go(slot);
            }
        }
    }
}
