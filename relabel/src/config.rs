use std::fmt;

use promferry_model::NameValidation;
use serde::{Deserialize, Deserializer};
use smol_str::SmolStr;

use crate::pattern::Pattern;

/// One relabelling rule as it is written in Prometheus' configuration (`relabel_config`).
///
/// ```
/// use promferry_relabel::{Action, RelabelConfig};
///
/// let drop_debug = RelabelConfig {
///     source_labels: vec!["__name__".into()],
///     regex: Some("debug_.*".into()),
///     action: Action::Drop,
///     ..RelabelConfig::default()
/// };
/// assert_eq!(drop_debug.separator, ";");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelConfig {
    /// The labels whose values, joined by [`separator`](Self::separator), the rule looks at.
    #[serde(deserialize_with = "label_names")]
    pub source_labels: Vec<SmolStr>,
    /// What stands between the joined values; `;` unless set.
    #[serde(deserialize_with = "null_is_empty")]
    pub separator: SmolStr,
    /// The label that `replace`, `hashmod`, `lowercase` and `uppercase` write and that `keepequal` and
    /// `dropequal` compare with. May hold `$1` and `${name}` under `replace`.
    #[serde(deserialize_with = "null_is_empty")]
    pub target_label: SmolStr,
    /// A regular expression in Go's syntax that has to match the whole value. `None`, the key left out, is
    /// `(.*)`; a null in the file is the empty expression, which matches the empty value only.
    #[serde(deserialize_with = "null_regex")]
    pub regex: Option<SmolStr>,
    /// What `hashmod` divides by; 0 is refused there.
    #[serde(deserialize_with = "null_is_zero")]
    pub modulus: u64,
    /// What `replace` writes and what `labelmap` names labels; `$1` unless set.
    #[serde(deserialize_with = "null_is_empty")]
    pub replacement: SmolStr,
    /// What the rule does.
    pub action: Action,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: DEFAULT_SEPARATOR,
            target_label: SmolStr::default(),
            regex: None,
            modulus: 0,
            replacement: DEFAULT_REPLACEMENT,
            action: Action::Replace,
        }
    }
}

impl RelabelConfig {
    /// The keys of the rule in a configuration file.
    pub const KEYS: &'static [&'static str] =
        &["source_labels", "separator", "target_label", "regex", "modulus", "replacement", "action"];

    /// Checks what Prometheus checks when it loads the rule (3.16 model/relabel/relabel.go `Validate`), with
    /// names judged under `validation`.
    ///
    /// # Errors
    /// [`ConfigError`] with the key that is wrong.
    pub fn validate(&self, validation: NameValidation) -> Result<(), ConfigError> {
        self.compile_regex().map(drop)?;
        self.validate_keys(validation)
    }

    pub(crate) fn validate_keys(&self, validation: NameValidation) -> Result<(), ConfigError> {
        use Action::{
            DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase,
        };
        let action = self.action;
        if action == HashMod && self.modulus == 0 {
            return Err(ConfigError::at("modulus", "hashmod needs a modulus that is not zero"));
        }
        let writes = matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if writes && self.target_label.is_empty() {
            return Err(ConfigError::at("target_label", format!("{action} needs a target_label")));
        }
        let valid_target = if action == Replace && self.target_label.contains('$') {
            is_valid_template(&self.target_label, validation)
        } else {
            validation.is_valid_label_name(&self.target_label)
        };
        if writes && !valid_target {
            let message = format!("{:?} is not a valid target_label for {action}", self.target_label);
            return Err(ConfigError::at("target_label", message));
        }
        if matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual)
            && self.replacement != DEFAULT_REPLACEMENT
        {
            return Err(ConfigError::at("replacement", format!("replacement cannot be set for {action}")));
        }
        if action == LabelMap && !is_valid_template(&self.replacement, validation) {
            let message = format!("{:?} is not a valid replacement for {action}", self.replacement);
            return Err(ConfigError::at("replacement", message));
        }
        let unused: &[(&str, bool)] = match action {
            DropEqual | KeepEqual => &[
                ("regex", self.regex.is_some()),
                ("modulus", self.modulus != 0),
                ("separator", self.separator != DEFAULT_SEPARATOR),
            ],
            LabelDrop | LabelKeep => &[
                ("source_labels", !self.source_labels.is_empty()),
                ("target_label", !self.target_label.is_empty()),
                ("modulus", self.modulus != 0),
                ("separator", self.separator != DEFAULT_SEPARATOR),
                ("replacement", self.replacement != DEFAULT_REPLACEMENT),
            ],
            _ => &[],
        };
        if let Some((key, _)) = unused.iter().find(|(_, set)| *set) {
            let used = if matches!(action, LabelDrop | LabelKeep) {
                "regex"
            } else {
                "source_labels and target_label"
            };
            return Err(ConfigError::at(key, format!("{action} takes only {used}, not {key}")));
        }
        Ok(())
    }

    pub(crate) fn compile_regex(&self) -> Result<std::sync::Arc<Pattern>, ConfigError> {
        let regex = self.regex.as_deref().unwrap_or(DEFAULT_REGEX);
        Pattern::interned(regex)
            .map_err(|error| ConfigError::at("regex", format!("invalid regex {regex:?}: {error}")))
    }
}

/// What a rule does with the labels it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Drops what the regex matches.
    Drop,
    /// Drops where the joined source values equal the target label's value.
    DropEqual,
    /// Writes the MD5 of the joined source values modulo a number to the target label.
    HashMod,
    /// Drops what the regex does not match.
    Keep,
    /// Drops where the joined source values differ from the target label's value.
    KeepEqual,
    /// Removes the labels whose names the regex matches.
    LabelDrop,
    /// Removes the labels whose names the regex does not match.
    LabelKeep,
    /// Copies each label whose name the regex matches to the label that the replacement names.
    LabelMap,
    /// Writes the lower-cased source values to the target label.
    Lowercase,
    /// Writes the replacement to the target label where the regex matches.
    #[default]
    Replace,
    /// Writes the upper-cased source values to the target label.
    Uppercase,
}

impl Action {
    /// All actions, by name.
    pub const ALL: [Self; 11] = [
        Self::Drop,
        Self::DropEqual,
        Self::HashMod,
        Self::Keep,
        Self::KeepEqual,
        Self::LabelDrop,
        Self::LabelKeep,
        Self::LabelMap,
        Self::Lowercase,
        Self::Replace,
        Self::Uppercase,
    ];

    /// The action's name in a configuration file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::DropEqual => "dropequal",
            Self::HashMod => "hashmod",
            Self::Keep => "keep",
            Self::KeepEqual => "keepequal",
            Self::LabelDrop => "labeldrop",
            Self::LabelKeep => "labelkeep",
            Self::LabelMap => "labelmap",
            Self::Lowercase => "lowercase",
            Self::Replace => "replace",
            Self::Uppercase => "uppercase",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Action {
    /// Reads the name in any case, as Prometheus does.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Option::<SmolStr>::deserialize(deserializer)?.unwrap_or_default();
        if name.is_empty() {
            return Err(serde::de::Error::custom("the relabel action cannot be empty"));
        }
        let lowered = name.to_lowercase();
        Self::ALL.into_iter().find(|action| action.as_str() == lowered).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            serde::de::Error::custom(format_args!("unknown relabel action {name:?} (there are {known})"))
        })
    }
}

/// A rule that cannot be used, by the path of the key that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.join("."))]
#[non_exhaustive]
pub struct ConfigError {
    /// The keys and list positions that lead to the value, outermost first: `["0", "regex"]`.
    pub path: Vec<String>,
    /// What is wrong with it.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn at(key: &str, message: impl Into<String>) -> Self {
        Self { path: vec![key.to_owned()], message: message.into() }
    }

    pub(crate) fn in_rule(mut self, index: usize) -> Self {
        self.path.insert(0, index.to_string());
        self
    }
}

const DEFAULT_SEPARATOR: SmolStr = SmolStr::new_static(";");
const DEFAULT_REPLACEMENT: SmolStr = SmolStr::new_static("$1");
const DEFAULT_REGEX: &str = "(.*)";

/// Whether a name with `$1` and `${name}` in it may become a label name. Under UTF-8 nearly every text may;
/// the legacy rule is `^(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+$` (relabel.go `relabelTargetLegacy`).
fn is_valid_template(template: &str, validation: NameValidation) -> bool {
    if validation != NameValidation::Legacy {
        return validation.is_valid_label_name(template);
    }
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let word_end = |from: usize| {
        let length = template.as_bytes()[from..].iter().take_while(|b| is_word(**b)).count();
        (length > 0).then_some(from + length)
    };
    let mut at = 0;
    while at < template.len() {
        let rest = &template[at..];
        let end = if rest.starts_with("${") {
            word_end(at + 2).filter(|end| template[*end..].starts_with('}')).map(|end| end + 1)
        } else if rest.starts_with('$') {
            word_end(at + 1)
        } else if at == 0 && rest.as_bytes()[0].is_ascii_digit() {
            None
        } else {
            word_end(at)
        };
        let Some(end) = end else { return false };
        at = end;
    }
    at > 0
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SmolStr, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn null_is_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn null_regex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SmolStr>, D::Error> {
    Option::deserialize(deserializer).map(|regex| Some(regex.unwrap_or_default()))
}

fn label_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SmolStr>, D::Error> {
    let names = Option::<Vec<SmolStr>>::deserialize(deserializer)?.unwrap_or_default();
    if names.iter().any(SmolStr::is_empty) {
        return Err(serde::de::Error::custom("a source label's name is empty"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_target_templates() {
        // prometheus 3.16 model/relabel/relabel_test.go TestTargetLabelLegacyValidity.
        let valid =
            ["label", "label${1}", "${1}label", "${1}", "$1", "asd$2asd", "_${1}_", "foo${bar}foo", "a1"];
        let invalid =
            ["", "-label", "${", "$", "${}", "foo${", "-foo${1}bar-", "bar.foo${1}bar", "1a", "${a-b}"];
        for (names, expected) in [(&valid[..], true), (&invalid[..], false)] {
            for name in names {
                assert_eq!(is_valid_template(name, NameValidation::Legacy), expected, "{name:?}");
            }
        }
    }
}
