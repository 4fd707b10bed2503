//! What becomes of discovered targets that are not scraped.

use std::fmt;

use promferry_model::Labels;
use promferry_relabel::{Action, RelabelConfig};

use crate::TargetError;

/// The discovered targets that one rule of `relabel_configs` drops. Displayed as
/// `relabel_configs[0] (keep __meta_x =~ "true")`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DroppedBy {
    /// The rule's position in `relabel_configs`, from 0.
    pub rule: usize,
    /// What the rule looks at: `keep __meta_x =~ "true"`.
    pub text: String,
    /// How many targets it drops.
    pub targets: u64,
}

impl DroppedBy {
    pub(crate) fn new(rule: usize, config: &RelabelConfig, targets: u64) -> Self {
        Self { rule, text: rule_text(config), targets }
    }
}

impl fmt::Display for DroppedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relabel_configs[{}] ({})", self.rule, self.text)
    }
}

/// Discovered targets that cannot be scraped for one kind of reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidTargets {
    /// What is wrong with one of them.
    pub error: TargetError,
    /// The labels of that one, before relabelling.
    pub labels: Labels,
    /// How many they are.
    pub targets: u64,
}

/// Characters of a regular expression that are shown: some list hundreds of names.
const REGEX_SHOWN: usize = 100;

/// A rule that can drop, as one would say it.
fn rule_text(config: &RelabelConfig) -> String {
    let sources = match config.source_labels.as_slice() {
        [] => "\"\"".to_owned(),
        names => names.join(&config.separator),
    };
    match config.action {
        Action::KeepEqual | Action::DropEqual => {
            format!("{} {sources} == {}", config.action, config.target_label)
        }
        action => {
            let regex = config.regex.as_deref().unwrap_or("(.*)");
            let shown: String = regex.chars().take(REGEX_SHOWN).collect();
            let cut = if shown.len() < regex.len() { "…" } else { "" };
            format!("{action} {sources} =~ {:?}", shown + cut)
        }
    }
}
