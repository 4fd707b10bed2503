mod changes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use promferry_model::TargetGroup;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::changes::Pending;
pub use self::changes::{Change, Changes};
use crate::discover::Groups;
use crate::mechanisms::mechanism::{Mechanism, Shared, restart_pause};
use crate::{Discover, DiscoveryConfigs, DiscoveryCounts, Updates};

/// What the embedding program, not the configuration, decides about discovery.
#[derive(Debug, Clone)]
pub struct DiscoveryOptions {
    /// The least time between two batches of changes. A first result is passed on at once. 5 s by default, as in
    /// Prometheus.
    pub debounce: Duration,
    /// How often files are looked at, unless their `refresh_interval` is shorter. 2 s by default.
    #[cfg(feature = "file")]
    pub file_poll_interval: Duration,
    /// How HTTP servers, that of the Kubernetes API among them, are asked.
    #[cfg(any(feature = "http", feature = "kubernetes"))]
    pub http: promferry_http_client::HttpOptions,
    /// Where this process runs, and how the Kubernetes API is asked.
    #[cfg(feature = "kubernetes")]
    pub kubernetes: crate::KubernetesOptions,
    /// Where names are looked up.
    #[cfg(feature = "dns")]
    pub dns: crate::DnsServers,
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self {
            debounce: Duration::from_secs(5),
            #[cfg(feature = "file")]
            file_poll_interval: Duration::from_secs(2),
            #[cfg(any(feature = "http", feature = "kubernetes"))]
            http: promferry_http_client::HttpOptions::default(),
            #[cfg(feature = "kubernetes")]
            kubernetes: crate::KubernetesOptions::default(),
            #[cfg(feature = "dns")]
            dns: crate::DnsServers::default(),
        }
    }
}

/// The running mechanisms of many jobs.
///
/// Mechanisms that several jobs configure alike run once. Clones are handles to the same set; the mechanisms end when
/// the last handle and the [`Changes`] are dropped. Everything needs a tokio runtime.
#[derive(Clone)]
pub struct Discovery(Arc<Set>);

/// Groups that are made at a time for one who looks at all of them.
const PAGE_GROUPS: usize = 32;

/// Targets with which such a page is full, however few groups they are in.
const PAGE_TARGETS: usize = 256;

/// Tells the mechanisms of a process apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MechanismId(u64);

impl MechanismId {
    /// The number itself: each mechanism that is started has one of its own.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// How a mechanism fares, for a status page and for metrics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MechanismStatus {
    /// Which one it is.
    pub id: MechanismId,
    /// Prometheus' name of its kind: `static`, `file`, `http`, `dns`, `kubernetes`.
    pub mechanism: &'static str,
    /// What it looks at: files, a URL without its password and the values of its query, names. Two mechanisms may look
    /// the same.
    pub subject: String,
    /// The jobs that it finds targets for.
    pub jobs: Vec<SmolStr>,
    /// Groups in force.
    pub groups: usize,
    /// Targets in force, before relabelling.
    pub targets: usize,
    /// Groups that were received, changed or not.
    pub updates_total: u64,
    /// Attempts to find out, successful or not.
    pub refreshes_total: u64,
    /// Failed attempts.
    pub failures_total: u64,
    /// Whether the last attempt failed; what was found before is still in force.
    pub is_failing: bool,
    /// Whether what runs is what is configured: it is not while that cannot be started, also if the mechanism before
    /// goes on in its place.
    pub is_as_configured: bool,
    /// When and why an attempt failed last.
    pub last_failure: Option<(SystemTime, String)>,
    /// When an attempt succeeded last.
    pub last_success: Option<SystemTime>,
    /// Why there may be fewer targets than were meant although nothing failed: no file of a name, say.
    pub remark: Option<String>,
    /// What it follows of the Kubernetes API, with the objects that are known of it. Mechanisms share what they ask the
    /// same server for.
    #[cfg(feature = "kubernetes")]
    pub collections: Vec<crate::CollectionStatus>,
}

struct Set {
    options: DiscoveryOptions,
    shared: Arc<Shared>,
    changed: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    running: BTreeMap<MechanismId, Running>,
    /// Changes that come from a new configuration, not from a mechanism. They are passed on before all others.
    backlog: VecDeque<Pending>,
}

struct Running {
    mechanism: Mechanism,
    updates: Updates,
    task: JoinHandle<()>,
    /// In which places of which jobs it stands.
    slots: BTreeSet<Slot>,
    /// Groups of predecessors that stay in force until this one has told what became of them.
    inherited: Vec<Inherited>,
}

/// The place of a mechanism in a job: its kind and which one of that kind it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    job: SmolStr,
    kind: &'static str,
    index: usize,
}

struct Inherited {
    job: SmolStr,
    mechanism: MechanismId,
    sources: Vec<SmolStr>,
    groups: Arc<dyn Groups>,
}

impl Discovery {
    /// An empty set and the stream of its changes. [`apply`](Self::apply) gives it something to do.
    pub fn new(options: DiscoveryOptions) -> (Self, Changes) {
        let set = Arc::new(Set {
            options,
            shared: Arc::default(),
            changed: Arc::new(Notify::new()),
            state: Mutex::default(),
        });
        (Self(set.clone()), Changes::new(set))
    }

    /// Makes these jobs the ones that targets are found for.
    ///
    /// Mechanisms that are wanted already go on undisturbed. One that takes the place of another (same job, same kind,
    /// same position) takes over its groups too: they stay in force until it has a result of its own, at Kubernetes one
    /// about their namespace. One that cannot be started leaves the old one running; without an old one it is tried again and again. The error is in the
    /// [`status`](Self::status) either way and in the returned list.
    pub fn apply(&self, jobs: impl IntoIterator<Item = (SmolStr, DiscoveryConfigs)>) -> Vec<ApplyError> {
        let mut errors = Vec::new();
        let mut state = self.0.state();
        let mut wanted: BTreeMap<Slot, Mechanism> = BTreeMap::new();
        for (job, configs) in jobs {
            let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
            for mechanism in Mechanism::of(configs) {
                let kind = mechanism.name();
                let index = counts.entry(kind).or_default();
                wanted.insert(Slot { job: job.clone(), kind, index: *index }, mechanism);
                *index += 1;
            }
        }
        let before: BTreeMap<Slot, MechanismId> = (state.running.iter())
            .flat_map(|(id, running)| running.slots.iter().map(|slot| (slot.clone(), *id)))
            .collect();
        for running in state.running.values() {
            running.updates.found().stands_in = false;
        }
        let mut after: BTreeMap<Slot, MechanismId> = BTreeMap::new();
        for (slot, mechanism) in wanted {
            let same = state.running.iter().find(|(_, running)| running.mechanism == mechanism);
            if let Some((id, _)) = same {
                after.insert(slot, *id);
                continue;
            }
            let built = mechanism.build(&self.0.options, &self.0.shared);
            if let Err(error) = &built {
                let error = ApplyError { job: slot.job.clone(), mechanism: slot.kind, error: error.clone() };
                errors.push(error);
                if let Some(old) =
                    before.get(&slot).and_then(|id| state.running.get(id).map(|old| (*id, old)))
                {
                    old.1.updates.failed(&errors[errors.len() - 1]);
                    old.1.updates.found().stands_in = true;
                    after.insert(slot, old.0);
                    continue;
                }
            }
            let id = state.start(mechanism, built.ok(), &slot.job, &self.0);
            after.insert(slot, id);
        }
        state.rearrange(&before, after);
        drop(state);
        self.0.changed.notify_one();
        errors
    }

    /// How all mechanisms fare.
    pub fn status(&self) -> Vec<MechanismStatus> {
        let state = self.0.state();
        state.running.iter().map(|(id, running)| running.status(*id)).collect()
    }

    /// Bytes of memory that the objects of Kubernetes clusters take, which is most of what discovery takes: targets are
    /// made of them when they are asked for.
    #[cfg(feature = "kubernetes")]
    pub fn objects_bytes(&self) -> usize {
        self.0.shared.clusters.memory_bytes()
    }

    /// What all mechanisms have done, those included that are not configured any more.
    pub fn counts(&self) -> DiscoveryCounts {
        self.0.shared.counts.get()
    }

    /// Gives a job's groups to `each`, with the mechanism that found them: those that [`Changes`] told about, as they
    /// are now. Few of them are in memory at a time, and nothing is locked while `each` runs.
    ///
    /// ```
    /// # use promferry_discovery::{Discovery, DiscoveryOptions};
    /// # let (discovery, _changes) = Discovery::new(DiscoveryOptions::default());
    /// let mut targets = 0;
    /// discovery.for_each_group("node", &mut |_mechanism, group| targets += group.targets.len());
    /// ```
    pub fn for_each_group(&self, job: &str, each: &mut dyn FnMut(MechanismId, &TargetGroup)) {
        let state = self.0.state();
        let mut kept = Vec::new();
        let mut inherited = Vec::new();
        for (id, running) in &state.running {
            if running.slots.iter().any(|slot| slot.job == job) {
                kept.push((*id, running.updates.groups()));
            }
            for legacy in running.inherited.iter().filter(|legacy| legacy.job == job) {
                inherited.push((legacy.mechanism, legacy.groups.clone(), legacy.sources.clone()));
            }
        }
        drop(state);
        for (mechanism, groups) in kept {
            let mut mark = None;
            loop {
                let (mut page, mut targets) = (Vec::with_capacity(PAGE_GROUPS), 0);
                mark = groups.told(mark, &mut |group| {
                    targets += group.targets.len();
                    page.push(group);
                    page.len() < PAGE_GROUPS && targets < PAGE_TARGETS
                });
                page.iter().for_each(|group| each(mechanism, group));
                if mark.is_none() {
                    break;
                }
            }
        }
        for (mechanism, groups, sources) in inherited {
            for group in sources.iter().filter_map(|source| groups.group(source)) {
                each(mechanism, &group);
            }
        }
    }
}

/// A mechanism of a new configuration that could not be started.
#[derive(Debug, Clone, thiserror::Error)]
#[error("job {job}: {error}")]
pub struct ApplyError {
    /// Whose it is.
    pub job: SmolStr,
    /// Prometheus' name of its kind.
    pub mechanism: &'static str,
    /// What prevents it.
    #[source]
    pub error: crate::Error,
}

impl Set {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn start(
        &mut self,
        mechanism: Mechanism,
        built: Option<Box<dyn Discover>>,
        job: &SmolStr,
        set: &Set,
    ) -> MechanismId {
        let id = MechanismId(self.next_id);
        self.next_id += 1;
        let counts = set.shared.counts.clone();
        let updates = Updates::new(mechanism.name(), mechanism.subject(), counts, set.changed.clone());
        // It may fail before it is known who else asks for it.
        updates.found().jobs.insert(job.clone());
        let task = tokio::spawn(keep_running(
            mechanism.clone(),
            built,
            updates.clone(),
            set.options.clone(),
            set.shared.clone(),
        ));
        let running = Running { mechanism, updates, task, slots: BTreeSet::new(), inherited: Vec::new() };
        self.running.insert(id, running);
        id
    }

    /// Puts the mechanisms into their new places: announces what a job gets, takes back what it loses, ends what nobody
    /// wants.
    fn rearrange(&mut self, before: &BTreeMap<Slot, MechanismId>, after: BTreeMap<Slot, MechanismId>) {
        let pairs = |slots: &BTreeMap<Slot, MechanismId>| -> BTreeSet<(SmolStr, MechanismId)> {
            slots.iter().map(|(slot, id)| (slot.job.clone(), *id)).collect()
        };
        let (old_pairs, new_pairs) = (pairs(before), pairs(&after));
        let is_lost = |job: &SmolStr, id: MechanismId| {
            let pair = (job.clone(), id);
            old_pairs.contains(&pair) && !new_pairs.contains(&pair)
        };
        // What was not told is not taken back.
        self.backlog.retain(|pending| match pending {
            Pending::Joined { job, mechanism, .. } => !is_lost(job, *mechanism),
            Pending::Left { .. } => true,
        });
        for (job, id) in new_pairs.difference(&old_pairs) {
            let Some(running) = self.running.get(id) else { continue };
            let mut is_known = false;
            running.updates.groups().told(None, &mut |_| {
                is_known = true;
                false
            });
            // What is new is told by `take`, once for all its jobs.
            if is_known {
                self.backlog.push_back(Pending::Joined { job: job.clone(), mechanism: *id, mark: None });
            }
        }
        for (job, id) in old_pairs.difference(&new_pairs) {
            let Some(running) = self.running.get_mut(id) else { continue };
            let (mut legacies, own): (Vec<_>, Vec<_>) =
                std::mem::take(&mut running.inherited).into_iter().partition(|legacy| legacy.job == *job);
            running.inherited = own;
            let groups = running.updates.groups();
            legacies.push(Inherited { job: job.clone(), mechanism: *id, sources: groups.sources(), groups });
            // A job that is back with a mechanism loses what that one no longer has, and nothing else.
            for legacy in &mut legacies {
                if new_pairs.contains(&(legacy.job.clone(), legacy.mechanism)) {
                    let Inherited { sources, groups, .. } = legacy;
                    sources.retain(|source| groups.group(source).is_none());
                }
            }
            let slot = before.iter().find(|(slot, old)| slot.job == *job && *old == id).map(|(slot, _)| slot);
            let successor = slot.and_then(|slot| after.get(slot)).and_then(|id| self.running.get_mut(id));
            legacies.retain(|legacy| !legacy.sources.is_empty());
            match successor {
                Some(successor) => {
                    successor.inherited.extend(legacies);
                    if successor.updates.found().is_announced {
                        self.backlog.extend(successor.settle());
                    }
                }
                None => self.backlog.extend(legacies.into_iter().map(Pending::from)),
            }
        }
        for running in self.running.values_mut() {
            running.slots.clear();
        }
        for (slot, id) in after {
            if let Some(running) = self.running.get_mut(&id) {
                running.slots.insert(slot);
            }
        }
        self.running.retain(|_, running| !running.slots.is_empty());
        for running in self.running.values() {
            let mut found = running.updates.found();
            found.jobs = running.slots.iter().map(|slot| slot.job.clone()).collect();
            found.has_inherited = !running.inherited.is_empty();
        }
    }
}

impl Running {
    /// What jobs lose of what its predecessors found.
    fn settle(&mut self) -> Vec<Pending> {
        let groups = self.updates.groups();
        let mut lost = Vec::new();
        for legacy in &mut self.inherited {
            let sources = groups.settle(&mut legacy.sources);
            if !sources.is_empty() {
                lost.push(Pending::Left { job: legacy.job.clone(), mechanism: legacy.mechanism, sources });
            }
        }
        self.inherited.retain(|legacy| !legacy.sources.is_empty());
        self.updates.found().has_inherited = !self.inherited.is_empty();
        lost
    }

    fn status(&self, id: MechanismId) -> MechanismStatus {
        let kept = self.updates.groups();
        let (groups, targets) = kept.counts();
        let found = self.updates.found();
        MechanismStatus {
            id,
            mechanism: self.mechanism.name(),
            subject: self.mechanism.subject(),
            jobs: found.jobs.iter().cloned().collect(),
            groups,
            targets,
            updates_total: found.updates_total,
            refreshes_total: found.refreshes_total,
            failures_total: found.failures_total,
            is_failing: found.is_failing,
            is_as_configured: found.is_started && !found.stands_in,
            last_failure: found.last_failure.clone(),
            last_success: found.last_success,
            remark: found.remark.clone(),
            #[cfg(feature = "kubernetes")]
            collections: kept.collections(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("mechanisms", &self.0.state().running.len()).finish_non_exhaustive()
    }
}

/// Runs a mechanism to its end. One that cannot be built, or panics, is built again after a pause, unless who keeps its
/// groups lets it go on with them.
async fn keep_running(
    mechanism: Mechanism,
    mut built: Option<Box<dyn Discover>>,
    updates: Updates,
    options: DiscoveryOptions,
    shared: Arc<Shared>,
) {
    let mut failures = 0;
    loop {
        let discover = match built.take() {
            Some(discover) => Ok(discover),
            None => match updates.groups().finder() {
                Some(finder) => Ok(finder),
                None => mechanism.build(&options, &shared),
            },
        };
        match discover {
            Ok(discover) => {
                updates.found().is_started = true;
                // A task of its own, so that a panic ends nothing but that task.
                let mut running = AbortOnDrop(tokio::spawn(discover.run(updates.clone())));
                match (&mut running.0).await {
                    Ok(()) => return,
                    Err(error) => {
                        updates.failed(&format_args!("it broke down and is started again: {error}"));
                    }
                }
            }
            Err(error) => updates.failed(&error),
        }
        tokio::time::sleep(restart_pause(failures)).await;
        failures += 1;
    }
}

/// Ends a task together with the one that waits for it.
pub(crate) struct AbortOnDrop(pub(crate) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
