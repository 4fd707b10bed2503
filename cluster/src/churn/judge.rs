use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promferry_model::TargetGroup;
use smol_str::SmolStr;

use super::World;

/// No more faults are kept: one is enough to fail.
const FAULTS_KEPT: usize = 20;

/// Looks at the stream of changes that a follower of a [`World`] gets, and says what is wrong with it.
///
/// A change is doubled when a source gets the group that it has; it is stale when the number that its object carries
/// falls. Whether any was missed shows at rest, when what is known must be what there is.
#[derive(Debug, Default)]
pub struct Judge {
    /// What is known, by job and source.
    pub known: BTreeMap<(SmolStr, SmolStr), Arc<TargetGroup>>,
    numbers: HashMap<(SmolStr, SmolStr), u64>,
    changes: u64,
    faults: Vec<String>,
}

impl Judge {
    /// Takes in one change: the group that a source has now, or that it has none. Jobs are named by their role, followed
    /// by anything after a `-`.
    pub fn change(&mut self, job: SmolStr, source: SmolStr, group: Option<Arc<TargetGroup>>) {
        self.changes += 1;
        let key = (job, source);
        let Some(group) = group else {
            self.known.remove(&key);
            return;
        };
        let (job, source) = (&key.0, &key.1);
        if self.known.get(&key).is_some_and(|known| *known == group) {
            self.fault(format!("{job}: {source} was announced twice without a change: {group:?}"));
        }
        let role = job.split('-').next().unwrap_or_default();
        let number = number_of(role, &group);
        let before = self.numbers.insert(key.clone(), number).unwrap_or(0);
        if number < before {
            self.fault(format!("{}: {} went back from {before} to {number}", key.0, key.1));
        }
        self.known.insert(key, group);
    }

    /// What differs between what this job knows and what there is; nothing at rest.
    pub fn missed(&self, world: &World, job: &str) -> Vec<String> {
        let role = job.split('-').next().unwrap_or_default();
        let expected = world.expected(role);
        let known: BTreeMap<SmolStr, u64> = (self.known.iter())
            .filter(|((of, _), _)| of == job)
            .map(|((_, source), group)| (source.clone(), number_of(role, group)))
            .collect();
        let mut missed = Vec::new();
        for (source, number) in &expected {
            match known.get(source) {
                Some(there) if there == number => {}
                there => missed.push(format!("{job}: {source} has {number}, known is {there:?}")),
            }
        }
        // The API server has a service of its own.
        let gone = known.keys().filter(|source| !expected.contains_key(*source) && world.is_of(source));
        missed.extend(gone.map(|source| format!("{job}: {source} is gone, and still known")));
        missed
    }

    /// What was wrong with the changes so far.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// How many changes there were.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(fault);
        }
    }
}

/// The number that the object of a group carries.
fn number_of(role: &str, group: &TargetGroup) -> u64 {
    group.labels.get(&format!("__meta_kubernetes_{role}_label_seq")).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use promferry_model::Labels;

    fn group(number: u64) -> Arc<TargetGroup> {
        let labels: Labels = [("__meta_kubernetes_pod_label_seq", number.to_string())].into_iter().collect();
        Arc::new(TargetGroup { source: "pod/a/b".into(), labels, targets: vec![Labels::default()] })
    }

    #[test]
    fn doubled_and_stale_changes_are_faults() {
        for (changes, faults) in [
            (vec![Some(1), Some(2), None, Some(3)], 0),
            (vec![Some(1), None, Some(1)], 0),
            (vec![Some(1), Some(1)], 1),
            (vec![Some(2), Some(1)], 1),
            (vec![Some(2), None, Some(1)], 1),
        ] {
            let mut judge = Judge::default();
            for number in &changes {
                judge.change("pod-all".into(), "pod/a/b".into(), number.map(group));
            }
            assert_eq!(judge.faults().len(), faults, "{changes:?}: {:?}", judge.faults());
        }
    }
}
