use std::cell::Cell;
use std::sync::Arc;

use md5::{Digest, Md5};
use promferry_model::{LabelsBuilder, NameValidation, SeriesContext, Stage, Verdict};
use smol_str::{SmolStr, ToSmolStr};

use crate::case::{push_lower, push_upper};
use crate::pattern::Pattern;
use crate::template::Template;
use crate::{Action, ConfigError, RelabelConfig};

/// A list of rules, compiled; applied in order until one drops. Cloning shares the compiled rules.
///
/// Applying a rule that matches nothing allocates nothing.
#[derive(Clone, Debug)]
pub struct RelabelRules {
    name: SmolStr,
    rules: Arc<[Relabel]>,
}

impl Default for RelabelRules {
    /// No rules: keeps everything as it is.
    fn default() -> Self {
        Self { name: DEFAULT_NAME, rules: Arc::new([]) }
    }
}

impl RelabelRules {
    /// Checks and compiles `configs`; label names are judged under `validation`.
    ///
    /// # Errors
    /// [`ConfigError`] for the first rule that cannot be used; its path starts with the rule's position.
    pub fn compile(configs: &[RelabelConfig], validation: NameValidation) -> Result<Self, ConfigError> {
        Self::compile_named("relabel_configs", configs, validation)
    }

    /// Like [`compile`](Self::compile) for a list that is called `name` where its rules are explained:
    /// `metric_relabel_configs`, `write_relabel_configs`.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compile_named(
        name: &str,
        configs: &[RelabelConfig],
        validation: NameValidation,
    ) -> Result<Self, ConfigError> {
        let rules = configs.iter().enumerate().map(|(at, config)| {
            let rule_name = format!("{name}[{at}] {}", config.action);
            Relabel::compile_named(rule_name.into(), config, validation).map_err(|error| error.in_rule(at))
        });
        Ok(Self { name: name.into(), rules: rules.collect::<Result<_, _>>()? })
    }

    /// Applies the rules in order; `false` when one of them drops. The labels are then as that rule left them.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        self.rules.iter().all(|rule| rule.apply(labels))
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Relabel] {
        &self.rules
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Stage for RelabelRules {
    fn name(&self) -> &str {
        &self.name
    }

    fn apply(&self, labels: &mut LabelsBuilder, _series: &SeriesContext<'_>) -> Verdict {
        verdict(Self::apply(self, labels))
    }
}

/// One rule, compiled.
#[derive(Debug)]
pub struct Relabel {
    name: SmolStr,
    source_labels: Box<[SmolStr]>,
    separator: SmolStr,
    step: Step,
}

/// What a rule does, with all that it needs.
#[derive(Debug)]
enum Step {
    Drop(Arc<Pattern>),
    DropEqual {
        target: SmolStr,
    },
    HashMod {
        target: SmolStr,
        modulus: u64,
    },
    Keep(Arc<Pattern>),
    KeepEqual {
        target: SmolStr,
    },
    LabelDrop(Arc<Pattern>),
    LabelKeep(Arc<Pattern>),
    LabelMap {
        pattern: Arc<Pattern>,
        name: Template,
    },
    Lowercase {
        target: SmolStr,
    },
    Replace {
        pattern: Arc<Pattern>,
        target: Template,
        replacement: Template,
        validation: NameValidation,
    },
    /// Neither the label nor the value depends on what was matched.
    Set {
        pattern: Arc<Pattern>,
        target: SmolStr,
        value: SmolStr,
    },
    Uppercase {
        target: SmolStr,
    },
}

impl Relabel {
    /// Checks and compiles one rule.
    ///
    /// # Errors
    /// [`ConfigError`] with the key that is wrong.
    pub fn compile(config: &RelabelConfig, validation: NameValidation) -> Result<Self, ConfigError> {
        Self::compile_named(config.action.to_smolstr(), config, validation)
    }

    fn compile_named(
        name: SmolStr,
        config: &RelabelConfig,
        validation: NameValidation,
    ) -> Result<Self, ConfigError> {
        let pattern = config.compile_regex()?;
        config.validate_keys(validation)?;
        let target = config.target_label.clone();
        let step = match config.action {
            Action::Drop => Step::Drop(pattern),
            Action::DropEqual => Step::DropEqual { target },
            Action::HashMod => Step::HashMod { target, modulus: config.modulus },
            Action::Keep => Step::Keep(pattern),
            Action::KeepEqual => Step::KeepEqual { target },
            Action::LabelDrop => Step::LabelDrop(pattern),
            Action::LabelKeep => Step::LabelKeep(pattern),
            Action::LabelMap => {
                let name = Template::compile(&config.replacement, &pattern);
                Step::LabelMap { pattern, name }
            }
            Action::Lowercase => Step::Lowercase { target },
            Action::Replace => {
                let target = Template::compile(&target, &pattern);
                let replacement = Template::compile(&config.replacement, &pattern);
                match (target.constant(), replacement.constant()) {
                    (Some(target), Some(value)) if validation.is_valid_label_name(&target) => {
                        Step::Set { pattern, target, value }
                    }
                    _ => Step::Replace { pattern, target, replacement, validation },
                }
            }
            Action::Uppercase => Step::Uppercase { target },
        };
        let source_labels = config.source_labels.clone().into_boxed_slice();
        Ok(Self { name, source_labels, separator: config.separator.clone(), step })
    }

    /// What the rule is called where it is explained: `metric_relabel_configs[2] drop`, or its action alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies the rule; `false` when it drops.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        match &self.step {
            Step::LabelDrop(pattern) => labels.retain(|label| !pattern.is_match(&label.name)),
            Step::LabelKeep(pattern) => labels.retain(|label| pattern.is_match(&label.name)),
            Step::LabelMap { pattern, name } => map_labels(labels, pattern, name),
            step => {
                let outcome = match self.source_labels.as_ref() {
                    [] => step.decide("", labels),
                    [name] => step.decide(labels.get(name), labels),
                    names => with_scratch(|joined| {
                        for (at, name) in names.iter().enumerate() {
                            if at > 0 {
                                joined.push_str(&self.separator);
                            }
                            joined.push_str(labels.get(name));
                        }
                        step.decide(joined, labels)
                    }),
                };
                match outcome {
                    Outcome::Keep => {}
                    Outcome::Drop => return false,
                    Outcome::Set(name, value) => labels.set(name, value),
                }
            }
        }
        true
    }
}

impl Stage for Relabel {
    fn name(&self) -> &str {
        &self.name
    }

    fn apply(&self, labels: &mut LabelsBuilder, _series: &SeriesContext<'_>) -> Verdict {
        verdict(Self::apply(self, labels))
    }
}

enum Outcome {
    Keep,
    Drop,
    Set(SmolStr, SmolStr),
}

impl Step {
    /// What becomes of labels whose joined source values are `value`.
    fn decide(&self, value: &str, labels: &LabelsBuilder) -> Outcome {
        let keep_if = |keep: bool| if keep { Outcome::Keep } else { Outcome::Drop };
        match self {
            Self::Drop(pattern) => keep_if(!pattern.is_match(value)),
            Self::DropEqual { target } => keep_if(labels.get(target) != value),
            Self::HashMod { target, modulus } => {
                let digest = Md5::digest(value.as_bytes());
                // The last eight bytes, as Prometheus has done since its first release.
                let hash = digest.iter().skip(8).fold(0u64, |hash, byte| hash << 8 | u64::from(*byte));
                Outcome::Set(target.clone(), (hash % modulus).to_smolstr())
            }
            Self::Keep(pattern) => keep_if(pattern.is_match(value)),
            Self::KeepEqual { target } => keep_if(labels.get(target) == value),
            Self::Lowercase { target } => Outcome::Set(target.clone(), built(|into| push_lower(value, into))),
            Self::Replace { pattern, target, replacement, validation } => {
                let Some(groups) = pattern.find(value) else { return Outcome::Keep };
                let name = match target.constant() {
                    Some(name) => name,
                    None => built(|into| target.expand(&groups, into)),
                };
                if !validation.is_valid_label_name(&name) {
                    return Outcome::Keep;
                }
                Outcome::Set(name, built(|into| replacement.expand(&groups, into)))
            }
            Self::Set { pattern, target, value: replacement } => {
                if !pattern.is_match(value) {
                    return Outcome::Keep;
                }
                Outcome::Set(target.clone(), replacement.clone())
            }
            Self::Uppercase { target } => Outcome::Set(target.clone(), built(|into| push_upper(value, into))),
            // Those look at names, not at values.
            Self::LabelDrop(_) | Self::LabelKeep(_) | Self::LabelMap { .. } => Outcome::Keep,
        }
    }
}

const DEFAULT_NAME: SmolStr = SmolStr::new_static("relabel_configs");

const fn verdict(kept: bool) -> Verdict {
    if kept { Verdict::Keep } else { Verdict::Drop }
}

fn map_labels(labels: &mut LabelsBuilder, pattern: &Pattern, name: &Template) {
    // Collected first: a copy is never itself copied.
    let mut copies = Vec::new();
    for label in labels.as_slice() {
        if pattern.is_match(&label.name) {
            let copy = built(|into| {
                pattern.replace_all(&label.name, into, |groups, into| name.expand(groups, into));
            });
            copies.push((copy, label.value.clone()));
        }
    }
    for (name, value) in copies {
        // Nothing can be called by an empty name; Prometheus makes such a label and then fails on it.
        if !name.is_empty() {
            labels.set(name, value);
        }
    }
}

fn built(build: impl FnOnce(&mut String)) -> SmolStr {
    with_scratch(|text| {
        build(text);
        SmolStr::new(text.as_str())
    })
}

/// Lends an empty text whose memory is kept for the next time; calls may nest.
fn with_scratch<T>(work: impl FnOnce(&mut String) -> T) -> T {
    thread_local! {
        static SCRATCH: Cell<Vec<String>> = const { Cell::new(Vec::new()) };
    }
    let mut texts = SCRATCH.take();
    let mut text = texts.pop().unwrap_or_default();
    SCRATCH.set(texts);
    let result = work(&mut text);
    text.clear();
    if text.capacity() <= MAX_SCRATCH {
        let mut texts = SCRATCH.take();
        texts.push(text);
        SCRATCH.set(texts);
    }
    result
}

/// Bytes of scratch memory a thread keeps at most for each text; one huge label value is not kept for ever.
const MAX_SCRATCH: usize = 64 * 1024;
