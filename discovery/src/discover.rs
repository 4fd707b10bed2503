use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use promferry_model::TargetGroup;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::counts::Counts;

/// A way of finding targets.
///
/// An implementation runs until it is dropped, or returns when what it found cannot change any more. It reports the
/// groups it finds and how it fares to [`Updates`]; what it has reported stays in force until it reports something
/// else, so failing means only to say so.
pub trait Discover: Send + 'static {
    /// Finds targets for as long as the future is polled.
    fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Where a mechanism reports what it finds.
///
/// Reports are compared with what is known, by source: only differences reach the consumer.
#[derive(Clone)]
pub struct Updates {
    mechanism: Arc<Name>,
    found: Arc<Mutex<Found>>,
    reported: Arc<Reported>,
    counts: Arc<Counts>,
    changed: Arc<Notify>,
}

/// The groups of one mechanism, as the consumer is told about them.
///
/// Who keeps them decides how: as they were reported ([`Reported`]), or as something smaller, of which they are made
/// when they are asked for. None of this is called while a mechanism's [`Found`] is locked.
pub(crate) trait Groups: Send + Sync {
    /// Tells what differs from what was told before, until `each` says that it has enough: a group, or that the one of
    /// this source is gone. Returns whether there is more to tell.
    fn take(&self, each: &mut dyn FnMut(SmolStr, Option<Arc<TargetGroup>>) -> bool) -> bool;

    /// Whether [`take`](Self::take) has something to look at.
    fn has_news(&self) -> bool;

    /// Gives the groups that were told about, as they are now, in an order that stays, from the one after `mark` on,
    /// until `each` says that it has enough. Returns the mark to go on from, `None` when there are no others. What was
    /// given otherwise than it was told is told again, even if it has become what was told.
    fn told(&self, mark: Option<SmolStr>, each: &mut dyn FnMut(Arc<TargetGroup>) -> bool) -> Option<SmolStr>;

    /// The group of a source, if the consumer was told about one.
    fn group(&self, source: &str) -> Option<Arc<TargetGroup>>;

    /// Every source of which the consumer may have a group.
    fn sources(&self) -> Vec<SmolStr>;

    /// Takes those of a predecessor's sources of which the consumer has been told by now what became of them: all that it
    /// is going to be told of what they stood for, if there is a first result.
    fn settle(&self, sources: &mut Vec<SmolStr>) -> Vec<SmolStr> {
        std::mem::take(sources)
    }

    /// What finds these groups, to be begun anew after it broke down; absent if it has to be built anew.
    fn finder(self: Arc<Self>) -> Option<Box<dyn Discover>> {
        None
    }

    /// How many groups and targets are known.
    fn counts(&self) -> (usize, usize);

    /// What they are made of, if that is followed at a Kubernetes API.
    #[cfg(feature = "kubernetes")]
    fn collections(&self) -> Vec<crate::CollectionStatus> {
        Vec::new()
    }
}

/// The least time between two warnings about a mechanism.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);
/// Reasons that are said while a mechanism fails.
const REASONS_SAID: usize = 10;
/// Jobs that are named where one mechanism is for several.
const JOBS_NAMED: usize = 3;

/// The mechanism as it is logged.
struct Name {
    kind: &'static str,
    subject: String,
}

/// How one mechanism fares, and who keeps what it found.
pub(crate) struct Found {
    pub(crate) groups: Arc<dyn Groups>,
    /// Something has been found, were it that there is nothing.
    pub(crate) has_result: bool,
    /// The first result has been passed on.
    pub(crate) is_announced: bool,
    /// Groups of predecessors wait for what it finds.
    pub(crate) has_inherited: bool,
    pub(crate) updates_total: u64,
    pub(crate) refreshes_total: u64,
    pub(crate) failures_total: u64,
    pub(crate) last_failure: Option<(SystemTime, String)>,
    pub(crate) last_success: Option<SystemTime>,
    pub(crate) is_failing: bool,
    /// It could be constructed.
    pub(crate) is_started: bool,
    /// It goes on in the place of one that could not.
    pub(crate) stands_in: bool,
    /// Why there may be less than was asked for, although nothing failed.
    pub(crate) remark: Option<String>,
    /// The jobs that it is for, as it is logged.
    pub(crate) jobs: BTreeSet<SmolStr>,
    said: Said,
}

/// What of the failures was logged.
#[derive(Default)]
struct Said {
    /// Since it last was well.
    reasons: BTreeSet<String>,
    at: Option<Instant>,
    #[cfg(feature = "file")]
    remarked: Option<Instant>,
}

impl Updates {
    pub(crate) fn new(
        kind: &'static str,
        subject: String,
        counts: Arc<Counts>,
        changed: Arc<Notify>,
    ) -> Self {
        let reported = Arc::new(Reported::default());
        let found = Arc::new(Mutex::new(Found::new(reported.clone())));
        Self { mechanism: Arc::new(Name { kind, subject }), found, reported, counts, changed }
    }

    /// These groups are all there is: sources that are not among them are gone.
    pub fn replace(&self, groups: Vec<TargetGroup>) {
        let mut sources = self.reported.lock();
        let given: BTreeSet<SmolStr> = groups.iter().map(|group| group.source.clone()).collect();
        let gone = sources.groups.keys().filter(|source| !given.contains(*source)).cloned().collect();
        let received = sources.change(groups, gone);
        drop(sources);
        self.received(received);
    }

    /// These groups are those of their sources now (one without targets is none), and the sources in `removed` have
    /// none any more. What is reported together reaches the consumer together.
    pub fn change(&self, groups: Vec<TargetGroup>, removed: Vec<SmolStr>) {
        let received = self.reported.lock().change(groups, removed);
        self.received(received);
    }

    /// From now on these are the mechanism's groups, in the place of those that it reports; to be said before anything
    /// else.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn keeps(&self, groups: Arc<dyn Groups>) {
        self.found().groups = groups;
    }

    /// So many of the groups that the mechanism keeps itself may be different.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn news(&self, groups: u64) {
        self.received(Some(groups));
    }

    /// What was asked for has been answered, whatever the answer was. After a failure that is logged.
    pub fn succeeded(&self) {
        let mut found = self.found();
        found.refreshes_total += 1;
        found.is_failing = false;
        if !std::mem::take(&mut found.said.reasons).is_empty() {
            tracing::info!("{} works again", self.mechanism.of(&found.jobs, ""));
        }
        found.last_success = Some(SystemTime::now());
        drop(found);
        self.received(Some(0));
    }

    /// It has not, or not all of it; `reason` goes to the status page and into the log, and must not contain secrets.
    /// It is logged as a warning when it begins and when it is another one, though no more than once a minute.
    pub fn failed(&self, reason: &dyn fmt::Display) {
        let reason = reason.to_string();
        let has_groups = self.groups().counts().0 > 0;
        let mut found = self.found();
        found.refreshes_total += 1;
        found.failures_total += 1;
        found.is_failing = true;
        // What the reason names need not be named twice.
        let mechanism = self.mechanism.of(&found.jobs, &reason);
        let said = &mut found.said;
        let is_due = said.at.is_none_or(|at| at.elapsed() >= BETWEEN_WARNINGS);
        let is_new = !said.reasons.contains(&reason) && said.reasons.len() < REASONS_SAID;
        if is_due && is_new {
            said.reasons.insert(reason.clone());
            said.at = Some(Instant::now());
            let stays = if has_groups { ", what it found before stays" } else { "" };
            tracing::warn!("{mechanism} fails{stays}: {reason}");
        } else {
            tracing::debug!("{mechanism} fails: {reason}");
        }
        found.last_failure = Some((SystemTime::now(), reason));
    }

    /// Notes why there may be less than was asked for although nothing failed, such as a file that is not there; `None`
    /// when that is over. It is shown and, once, logged.
    #[cfg(feature = "file")]
    pub(crate) fn remark(&self, remark: Option<String>) {
        let mut found = self.found();
        if let Some(remark) = remark.as_ref().filter(|remark| found.remark.as_ref() != Some(remark)) {
            let mechanism = self.mechanism.of(&found.jobs, remark);
            if found.said.remarked.is_none_or(|at| at.elapsed() >= BETWEEN_WARNINGS) {
                found.said.remarked = Some(Instant::now());
                tracing::warn!("{mechanism}: {remark}");
            } else {
                tracing::debug!("{mechanism}: {remark}");
            }
        }
        found.remark = remark;
    }

    pub(crate) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn groups(&self) -> Arc<dyn Groups> {
        self.found().groups.clone()
    }

    /// Where the mechanism counts what it does.
    #[cfg(any(feature = "file", feature = "http", feature = "dns"))]
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes note of a report about so many groups; of none if nothing was reported.
    fn received(&self, report: Option<u64>) {
        let Some(groups) = report else { return };
        let mut found = self.found();
        found.has_result = true;
        found.updates_total += groups;
        self.counts.change(|counts| counts.received_updates_total += u64::from(groups > 0));
        let is_awaited = !found.is_announced || found.has_inherited;
        drop(found);
        if is_awaited || self.groups().has_news() {
            self.changed.notify_one();
        }
    }
}

impl Found {
    fn new(groups: Arc<dyn Groups>) -> Self {
        Self {
            groups,
            has_result: false,
            is_announced: false,
            has_inherited: false,
            updates_total: 0,
            refreshes_total: 0,
            failures_total: 0,
            last_failure: None,
            last_success: None,
            is_failing: false,
            is_started: false,
            stands_in: false,
            remark: None,
            jobs: BTreeSet::new(),
            said: Said::default(),
        }
    }
}

impl Name {
    /// `file discovery of job api (targets-*.json)`, without what `text` names.
    fn of(&self, jobs: &BTreeSet<SmolStr>, text: &str) -> String {
        let named: Vec<&str> = jobs.iter().take(JOBS_NAMED).map(SmolStr::as_str).collect();
        let named = named.join(", ");
        let of = match jobs.len() {
            0 => String::new(),
            1 => format!(" of job {named}"),
            2..=JOBS_NAMED => format!(" of jobs {named}"),
            all => format!(" of jobs {named} and {} others", all - JOBS_NAMED),
        };
        let kind = self.kind;
        match self.subject.as_str() {
            subject if text.contains(subject) || subject.is_empty() => format!("{kind} discovery{of}"),
            subject => format!("{kind} discovery{of} ({subject})"),
        }
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates").field("groups", &self.groups().counts().0).finish_non_exhaustive()
    }
}

/// Groups that are kept as they were reported.
#[derive(Default)]
struct Reported(Mutex<Sources>);

#[derive(Default)]
struct Sources {
    groups: BTreeMap<SmolStr, Arc<TargetGroup>>,
    /// What the consumer does not know about yet, and whether it was told of an earlier group of that source.
    dirty: BTreeMap<SmolStr, bool>,
}

impl Reported {
    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sources {
    /// How many groups were received; nothing if the report was empty.
    fn change(&mut self, groups: Vec<TargetGroup>, removed: Vec<SmolStr>) -> Option<u64> {
        let is_report = !(groups.is_empty() && removed.is_empty());
        let mut received = 0;
        for source in removed {
            received += u64::from(self.remove(&source));
        }
        for group in groups {
            if group.targets.is_empty() {
                received += u64::from(self.remove(&group.source));
                continue;
            }
            received += 1;
            if self.groups.get(&group.source).is_none_or(|known| **known != group) {
                let source = group.source.clone();
                let was_there = self.groups.insert(source.clone(), Arc::new(group)).is_some();
                self.dirty.entry(source).or_insert(was_there);
            }
        }
        is_report.then_some(received)
    }

    fn remove(&mut self, source: &str) -> bool {
        let removed = self.groups.remove_entry(source);
        let was_there = removed.is_some();
        if let Some((source, _)) = removed {
            self.dirty.entry(source).or_insert(true);
        }
        was_there
    }
}

impl Groups for Reported {
    fn take(&self, each: &mut dyn FnMut(SmolStr, Option<Arc<TargetGroup>>) -> bool) -> bool {
        let mut sources = self.lock();
        while let Some((source, _)) = sources.dirty.pop_first() {
            let group = sources.groups.get(&source).cloned();
            if !each(source, group) {
                break;
            }
        }
        !sources.dirty.is_empty()
    }

    fn has_news(&self) -> bool {
        !self.lock().dirty.is_empty()
    }

    fn told(&self, mark: Option<SmolStr>, each: &mut dyn FnMut(Arc<TargetGroup>) -> bool) -> Option<SmolStr> {
        let sources = self.lock();
        let after = mark.map_or(Bound::Unbounded, Bound::Excluded);
        for (source, group) in sources.groups.range((after, Bound::Unbounded)) {
            let is_told = sources.dirty.get(source).is_none_or(|was_told| *was_told);
            if is_told && !each(group.clone()) {
                return Some(source.clone());
            }
        }
        None
    }

    fn group(&self, source: &str) -> Option<Arc<TargetGroup>> {
        self.lock().groups.get(source).cloned()
    }

    fn sources(&self) -> Vec<SmolStr> {
        let sources = self.lock();
        let gone = sources.dirty.keys().filter(|source| !sources.groups.contains_key(*source));
        sources.groups.keys().chain(gone).cloned().collect()
    }

    fn counts(&self) -> (usize, usize) {
        let sources = self.lock();
        (sources.groups.len(), sources.groups.values().map(|group| group.targets.len()).sum())
    }
}
