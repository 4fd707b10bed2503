use promferry_model::{Label, LabelsBuilder};
use smol_str::SmolStr;

use crate::RelabelRules;

/// What a list of rules did to one set of labels, rule by rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Whether the labels were kept. If not, the last step says which rule dropped them.
    pub kept: bool,
    /// What each rule did, up to the one that dropped.
    pub steps: Vec<Step>,
}

impl Explanation {
    /// The step that dropped the labels.
    pub fn dropped_by(&self) -> Option<&Step> {
        if self.kept { None } else { self.steps.last() }
    }
}

/// What one rule did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The rule's position in its list, from 0.
    pub rule: usize,
    /// What the rule is called: `metric_relabel_configs[2] drop`.
    pub name: SmolStr,
    /// The labels that are other than before, by name; empty when the rule did nothing.
    pub changes: Vec<Change>,
}

/// A label that a rule set, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The label's name.
    pub label: SmolStr,
    /// Its value before; empty if it was absent.
    pub before: SmolStr,
    /// Its value now; empty if it is gone.
    pub after: SmolStr,
}

impl RelabelRules {
    /// Applies the rules as [`apply`](Self::apply) does and says what each of them did.
    pub fn explain(&self, labels: &mut LabelsBuilder) -> Explanation {
        let mut steps = Vec::with_capacity(self.rules().len());
        for (at, rule) in self.rules().iter().enumerate() {
            let before = labels.as_slice().to_vec();
            let kept = rule.apply(labels);
            let changes = differences(&before, labels.as_slice());
            steps.push(Step { rule: at, name: rule.name().into(), changes });
            if !kept {
                return Explanation { kept, steps };
            }
        }
        Explanation { kept: true, steps }
    }
}

/// Both lists are sorted by name.
fn differences(before: &[Label], after: &[Label]) -> Vec<Change> {
    let mut names: Vec<&SmolStr> = before.iter().chain(after).map(|label| &label.name).collect();
    names.sort_unstable();
    names.dedup();
    let value = |labels: &[Label], name: &SmolStr| {
        let found = labels.binary_search_by(|label| label.name.cmp(name));
        found.map_or_else(|_| SmolStr::default(), |at| labels[at].value.clone())
    };
    names
        .into_iter()
        .map(|name| Change { label: name.clone(), before: value(before, name), after: value(after, name) })
        .filter(|change| change.before != change.after)
        .collect()
}
