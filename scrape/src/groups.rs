//! A job's groups of targets as discovery names them, and what became of their targets.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use promferry_model::{Labels, TargetGroup};
use smol_str::SmolStr;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::job::Judgement;
use crate::target::without_query;
use crate::{DroppedBy, InvalidTargets, Job, Target, TargetError};

/// A group of a job that is new, different or gone.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupChange {
    /// What found the group: a source names one group within one mechanism.
    pub mechanism: u64,
    /// The group's name within its mechanism; that of [`group`](Self::group), where there is one.
    pub source: SmolStr,
    /// The group as it is now; `None` when it is gone. One that was never there may be said to be gone.
    pub group: Option<Arc<TargetGroup>>,
}

/// Who knows the groups of all jobs, so that a [`Scraper`](crate::Scraper) need not keep them: it asks for them when a
/// job's options change, and when somebody looks at targets as they were discovered.
pub trait GroupSource: Send + Sync {
    /// Calls `each` with every group that the job has, and with its mechanism: those that
    /// [`Scraper::change`](crate::Scraper::change) was told of, as they were then, or newer ones that it will still be
    /// told of.
    ///
    /// The scraper may be locked when this is called, or else `each` may lock it and take its time: no lock that anybody
    /// holds who calls the scraper may be waited for, and none held while `each` is called.
    fn for_each(&self, job: &str, each: &mut dyn FnMut(u64, &TargetGroup));
}

/// A job's groups: what became of their targets, and the sums of that. A group whose targets are all dropped by one
/// rule takes no more than an entry of a table.
#[derive(Default)]
pub(crate) struct Groups {
    outcomes: HashMap<GroupKey, GroupOutcomes>,
    /// The groups themselves, where nobody else knows them.
    kept: Option<BTreeMap<(u64, SmolStr), Arc<TargetGroup>>>,
    discovered: u64,
    /// How many targets each rule drops.
    dropped_by: Vec<u64>,
    invalid: Vec<InvalidKind>,
    /// When an example was last looked for among all groups.
    looked_at: Option<Instant>,
}

/// To make all groups of a job takes long: where the example is a pod that comes and goes, not with each of its changes.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Tells a job's groups apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey(u128);

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is scraped under this identity.
    Active(u64),
    /// This rule drops it.
    DroppedBy(u32),
    /// It can't be scraped, for this one of the kinds of reasons.
    Invalid(u32),
}

/// What became of a group's targets, in their order.
pub(crate) enum GroupOutcomes {
    /// One rule drops them all.
    Dropped {
        rule: u32,
        targets: u32,
    },
    Mixed(Box<[Outcome]>),
}

/// Targets that can't be scraped for one kind of reason.
struct InvalidKind {
    /// That of one of them.
    error: TargetError,
    targets: u64,
    example: Option<Example>,
}

struct Example {
    /// Absent once the group has changed: until another is found it is an example of what there was.
    group: Option<GroupKey>,
    labels: Labels,
}

impl InvalidKind {
    fn has_example(&self) -> bool {
        self.example.as_ref().is_some_and(|example| example.group.is_some())
    }
}

/// What a change of groups means for what is scraped. A target may be in both lists, and more than once.
#[derive(Default)]
pub(crate) struct Moves {
    pub(crate) joined: Vec<Target>,
    /// Identities of targets that one group less has.
    pub(crate) left: Vec<u64>,
    /// Targets that can't be scraped.
    pub(crate) errors: u64,
}

impl Groups {
    /// No groups. Unless somebody else does, they are kept here.
    pub(crate) fn new(has_source: bool) -> Self {
        Self { kept: (!has_source).then(BTreeMap::new), ..Self::default() }
    }

    /// Takes in one change.
    pub(crate) fn change(&mut self, job: &Job, change: GroupChange, moves: &mut Moves) {
        let GroupChange { mechanism, source, group } = change;
        let group = group.filter(|group| !group.targets.is_empty());
        let key = GroupKey::new(mechanism, &source);
        self.set(job, key, group.as_deref(), moves);
        if let Some(kept) = &mut self.kept {
            match group {
                Some(group) => kept.insert((mechanism, source), group),
                None => kept.remove(&(mechanism, source)),
            };
        }
    }

    /// Makes these groups all there is. Groups of one source are told apart by their order.
    pub(crate) fn replace(&mut self, job: &Job, groups: Vec<TargetGroup>, moves: &mut Moves) {
        let mut of_source: HashMap<SmolStr, u64> = HashMap::new();
        let mut staying = hashbrown::HashSet::new();
        for group in groups {
            let source = group.source.clone();
            let place = of_source.entry(source.clone()).or_default();
            let mechanism = *place;
            *place += 1;
            staying.insert(GroupKey::new(mechanism, &source));
            let known = self.kept.as_ref().and_then(|kept| kept.get(&(mechanism, source.clone())));
            if known.is_none_or(|known| **known != group) {
                let group = Some(Arc::new(group));
                self.change(job, GroupChange { mechanism, source, group }, moves);
            }
        }
        let gone: Vec<_> = self.outcomes.keys().filter(|key| !staying.contains(*key)).copied().collect();
        for key in gone {
            self.set(job, key, None, moves);
        }
        if let Some(kept) = &mut self.kept {
            kept.retain(|(mechanism, source), _| staying.contains(&GroupKey::new(*mechanism, source)));
        }
    }

    /// The groups that are kept here, to be judged anew.
    pub(crate) fn unjudged(&self) -> Self {
        Self { kept: self.kept.clone(), ..Self::default() }
    }

    /// Judges every group anew, since the job is another. All targets join, none leaves.
    pub(crate) fn judge_again(&mut self, job: &Job, source: Option<&dyn GroupSource>, moves: &mut Moves) {
        let kept = self.kept.take();
        *self = Self::default();
        let mut judge = |mechanism, group: &TargetGroup| {
            self.set(job, GroupKey::new(mechanism, &group.source), Some(group), moves);
        };
        for_each(kept.as_ref(), source, &job.name, &mut judge);
        self.kept = kept;
    }

    /// Finds an example of each kind of reason that lost its own.
    pub(crate) fn find_examples(&mut self, job: &Job, source: Option<&dyn GroupSource>) {
        let is_wanted = |kind: &InvalidKind| kind.targets > 0 && !kind.has_example();
        let was_looked_for = self.looked_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN_AFTER);
        if (self.kept.is_none() && was_looked_for) || !self.invalid.iter().any(is_wanted) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let Self { outcomes, kept, invalid, .. } = self;
        let mut look = |mechanism, group: &TargetGroup| {
            let key = GroupKey::new(mechanism, &group.source);
            let Some(outcomes) = outcomes.get(&key).filter(|known| known.len() == group.targets.len()) else {
                return;
            };
            for (outcome, own) in outcomes.iter().zip(&group.targets) {
                let Outcome::Invalid(index) = outcome else { continue };
                let Some(kind) = invalid.get_mut(index as usize).filter(|kind| is_wanted(kind)) else {
                    continue;
                };
                if let (discovered, Judgement::Invalid(error)) = job.judge(own, &group.labels)
                    && discriminant(&error) == discriminant(&kind.error)
                {
                    kind.error = error;
                    kind.example = Some(Example { group: Some(key), labels: discovered.to_labels() });
                }
            }
        };
        for_each(kept.as_ref(), source, &job.name, &mut look);
    }

    /// What became of a group's targets, if the group is known.
    pub(crate) fn outcomes(&self, key: GroupKey) -> Option<&GroupOutcomes> {
        self.outcomes.get(&key)
    }

    /// The groups that are kept here.
    pub(crate) fn kept(&self) -> Option<Vec<(u64, Arc<TargetGroup>)>> {
        let kept = self.kept.as_ref()?;
        Some(kept.iter().map(|((mechanism, _), group)| (*mechanism, Arc::clone(group))).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    pub(crate) fn discovered(&self) -> u64 {
        self.discovered
    }

    pub(crate) fn dropped_count(&self) -> u64 {
        self.dropped_by.iter().sum()
    }

    pub(crate) fn dropped_by(&self, job: &Job) -> Vec<DroppedBy> {
        let dropping = self.dropped_by.iter().zip(&job.config.relabel_configs).enumerate();
        dropping
            .filter(|(_, (targets, _))| **targets > 0)
            .map(|(rule, (targets, config))| DroppedBy::new(rule, config, *targets))
            .collect()
    }

    pub(crate) fn invalid(&self) -> Vec<InvalidTargets> {
        let there = self.invalid.iter().filter(|kind| kind.targets > 0);
        there
            .map(|kind| InvalidTargets {
                error: kind.error.clone(),
                labels: kind.example.as_ref().map(|example| example.labels.clone()).unwrap_or_default(),
                targets: kind.targets,
            })
            .collect()
    }

    /// Makes this the group of its key, or takes it away.
    fn set(&mut self, job: &Job, key: GroupKey, group: Option<&TargetGroup>, moves: &mut Moves) {
        for kind in &mut self.invalid {
            if let Some(example) = kind.example.as_mut().filter(|example| example.group == Some(key)) {
                example.group = None;
            }
        }
        let new = group.map(|group| self.judge(job, key, group, moves));
        let old = match new {
            Some(new) => {
                self.count(&new, u64::wrapping_add);
                self.outcomes.insert(key, new)
            }
            None => self.outcomes.remove(&key),
        };
        if let Some(old) = old {
            self.count(&old, u64::wrapping_sub);
            moves.left.extend(old.iter().filter_map(Outcome::identity));
        }
    }

    fn judge(&mut self, job: &Job, key: GroupKey, group: &TargetGroup, moves: &mut Moves) -> GroupOutcomes {
        let mut outcomes = Vec::with_capacity(group.targets.len());
        for own in &group.targets {
            let (discovered, judgement) = job.judge(own, &group.labels);
            outcomes.push(match judgement {
                Judgement::Active(target) => {
                    let identity = target.identity();
                    moves.joined.push(target);
                    Outcome::Active(identity)
                }
                Judgement::DroppedBy(rule) => Outcome::DroppedBy(rule as u32),
                Judgement::Invalid(error) => {
                    // No other label: parameters, and what annotations say, may be secrets.
                    let address = without_query(discovered.get("__address__"));
                    let (job, group) = (&job.name, &group.source);
                    tracing::debug!(%job, %group, address, %error, "creating a target failed");
                    moves.errors += 1;
                    let index = self.kind_of(&error);
                    let kind = &mut self.invalid[index];
                    if !kind.has_example() {
                        kind.error = error;
                        kind.example = Some(Example { group: Some(key), labels: discovered.to_labels() });
                    }
                    Outcome::Invalid(index as u32)
                }
            });
        }
        GroupOutcomes::of(outcomes)
    }

    fn kind_of(&mut self, error: &TargetError) -> usize {
        let is_known = |known: &InvalidKind| discriminant(&known.error) == discriminant(error);
        self.invalid.iter().position(is_known).unwrap_or_else(|| {
            self.invalid.push(InvalidKind { error: error.clone(), targets: 0, example: None });
            self.invalid.len() - 1
        })
    }

    /// Adds a group's targets to the sums, or takes them away.
    fn count(&mut self, outcomes: &GroupOutcomes, add: impl Fn(u64, u64) -> u64) {
        self.discovered = add(self.discovered, outcomes.len() as u64);
        let mut dropped = |rule: u32, targets: u64| {
            let rule = rule as usize;
            if self.dropped_by.len() <= rule {
                self.dropped_by.resize(rule + 1, 0);
            }
            self.dropped_by[rule] = add(self.dropped_by[rule], targets);
        };
        match outcomes {
            GroupOutcomes::Dropped { rule, targets } => dropped(*rule, u64::from(*targets)),
            GroupOutcomes::Mixed(outcomes) => {
                for outcome in outcomes {
                    match *outcome {
                        Outcome::Active(_) => {}
                        Outcome::DroppedBy(rule) => dropped(rule, 1),
                        Outcome::Invalid(kind) => {
                            let kind = &mut self.invalid[kind as usize];
                            kind.targets = add(kind.targets, 1);
                        }
                    }
                }
            }
        }
    }
}

/// Calls `each` with a job's groups, from where they are.
fn for_each(
    kept: Option<&BTreeMap<(u64, SmolStr), Arc<TargetGroup>>>,
    source: Option<&dyn GroupSource>,
    job: &str,
    each: &mut dyn FnMut(u64, &TargetGroup),
) {
    match (kept, source) {
        (Some(kept), _) => {
            for ((mechanism, _), group) in kept {
                each(*mechanism, group);
            }
        }
        (None, Some(source)) => source.for_each(job, each),
        (None, None) => {}
    }
}

impl GroupKey {
    pub(crate) fn new(mechanism: u64, source: &str) -> Self {
        Self(xxh3_128_with_seed(source.as_bytes(), mechanism))
    }
}

impl GroupOutcomes {
    fn of(outcomes: Vec<Outcome>) -> Self {
        match outcomes.first() {
            Some(&Outcome::DroppedBy(rule))
                if outcomes.iter().all(|outcome| *outcome == Outcome::DroppedBy(rule)) =>
            {
                Self::Dropped { rule, targets: outcomes.len() as u32 }
            }
            _ => Self::Mixed(outcomes.into()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Dropped { targets, .. } => *targets as usize,
            Self::Mixed(outcomes) => outcomes.len(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Outcome> {
        let (same, mixed): (_, &[Outcome]) = match self {
            Self::Dropped { rule, targets } => ((Outcome::DroppedBy(*rule), *targets as usize), &[]),
            Self::Mixed(outcomes) => ((Outcome::DroppedBy(0), 0), outcomes),
        };
        std::iter::repeat_n(same.0, same.1).chain(mixed.iter().copied())
    }
}

impl Outcome {
    pub(crate) fn identity(self) -> Option<u64> {
        match self {
            Self::Active(identity) => Some(identity),
            Self::DroppedBy(_) | Self::Invalid(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<(GroupKey, GroupOutcomes)>(), 32);
    }

    #[test]
    fn outcomes_are_as_they_were_put_in() {
        use Outcome::{Active, DroppedBy, Invalid};
        for outcomes in [
            vec![],
            vec![DroppedBy(3); 4],
            vec![DroppedBy(3), DroppedBy(2)],
            vec![Active(7), DroppedBy(0), Invalid(1)],
        ] {
            let packed = GroupOutcomes::of(outcomes.clone());
            assert_eq!(packed.iter().collect::<Vec<_>>(), outcomes);
            assert_eq!(packed.len(), outcomes.len());
        }
    }
}
