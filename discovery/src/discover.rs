use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use promferry_model::TargetGroup;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::time::Instant;

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
    changed: Arc<Notify>,
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

/// What one mechanism has found, and how it fares.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) groups: BTreeMap<SmolStr, Arc<TargetGroup>>,
    /// Sources that the consumer does not know about yet.
    pub(crate) dirty: BTreeSet<SmolStr>,
    /// Something has been found, were it that there is nothing.
    pub(crate) has_result: bool,
    /// The first result has been passed on.
    pub(crate) is_announced: bool,
    pub(crate) updates_total: u64,
    pub(crate) refreshes_total: u64,
    pub(crate) failures_total: u64,
    pub(crate) last_failure: Option<(SystemTime, String)>,
    pub(crate) last_success: Option<SystemTime>,
    pub(crate) is_failing: bool,
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
    remarked: Option<Instant>,
}

impl Updates {
    pub(crate) fn new(kind: &'static str, subject: String, changed: Arc<Notify>) -> Self {
        Self { mechanism: Arc::new(Name { kind, subject }), found: Arc::default(), changed }
    }

    /// These groups are all there is: sources that are not among them are gone.
    pub fn replace(&self, groups: Vec<TargetGroup>) {
        let mut found = self.found();
        let mut gone: BTreeSet<SmolStr> = found.groups.keys().cloned().collect();
        for group in groups {
            gone.remove(&group.source);
            found.set(group);
        }
        for source in gone {
            found.remove(&source);
        }
        self.finish(found);
    }

    /// These groups are those of their sources now (one without targets is none), and the sources in `removed` have
    /// none any more. What is reported together reaches the consumer together.
    pub fn change(&self, groups: Vec<TargetGroup>, removed: Vec<SmolStr>) {
        let mut found = self.found();
        for source in removed {
            found.remove(&source);
        }
        for group in groups {
            found.set(group);
        }
        self.finish(found);
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
        found.has_result = true;
        self.finish(found);
    }

    /// It has not, or not all of it; `reason` goes to the status page and into the log, and must not contain secrets.
    /// It is logged as a warning when it begins and when it is another one, though no more than once a minute.
    pub fn failed(&self, reason: &dyn fmt::Display) {
        let mut found = self.found();
        let reason = reason.to_string();
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
            let stays = if found.groups.is_empty() { "" } else { ", what it found before stays" };
            tracing::warn!("{mechanism} fails{stays}: {reason}");
        } else {
            tracing::debug!("{mechanism} fails: {reason}");
        }
        found.last_failure = Some((SystemTime::now(), reason));
    }

    /// Notes why there may be less than was asked for although nothing failed, such as a file that is not there; `None`
    /// when that is over. It is shown and, once, logged.
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

    fn finish(&self, found: MutexGuard<'_, Found>) {
        let is_news = !found.dirty.is_empty() || (found.has_result && !found.is_announced);
        drop(found);
        if is_news {
            self.changed.notify_one();
        }
    }
}

impl Found {
    fn set(&mut self, group: TargetGroup) {
        if group.targets.is_empty() {
            self.remove(&group.source);
            return;
        }
        self.has_result = true;
        self.updates_total += 1;
        if self.groups.get(&group.source).is_some_and(|known| **known == group) {
            return;
        }
        self.dirty.insert(group.source.clone());
        self.groups.insert(group.source.clone(), Arc::new(group));
    }

    fn remove(&mut self, source: &str) {
        self.has_result = true;
        if let Some((source, _)) = self.groups.remove_entry(source) {
            self.updates_total += 1;
            self.dirty.insert(source);
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
        f.debug_struct("Updates").field("groups", &self.found().groups.len()).finish_non_exhaustive()
    }
}
