//! The list of target groups that files and HTTP servers hold.

use std::collections::BTreeMap;
use std::fmt;

use promferry_model::{NameValidation, TargetGroup};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use smol_str::{SmolStr, format_smolstr};

use crate::StaticConfig;

/// As it is written; Go reads a null list as an empty one.
pub(super) type List = Option<Vec<Option<StaticConfig>>>;

/// The same in JSON.
pub(super) fn from_json(text: &[u8]) -> Result<List, serde_json::Error> {
    let list: Option<Vec<Option<JsonGroup>>> = serde_json::from_slice(text)?;
    let group = |group: Option<JsonGroup>| group.map(|JsonGroup(config)| config);
    Ok(list.map(|groups| groups.into_iter().map(group).collect()))
}

/// The groups of the list at `origin`, which also is the value of the label `meta`.
pub(super) fn groups(list: List, origin: &str, meta: &str) -> Result<Vec<TargetGroup>, String> {
    let entries = list.unwrap_or_default().into_iter().enumerate();
    let group = |(index, entry): (usize, Option<StaticConfig>)| {
        let entry = entry.ok_or_else(|| format!("group {index} of the list is null"))?;
        let is_invalid = |name: &&SmolStr| !NameValidation::Utf8.is_valid_label_name(name);
        if let Some(name) = entry.labels.keys().find(is_invalid) {
            return Err(format!("group {index} of the list has a label with the invalid name {name:?}"));
        }
        Ok(entry.into_group(format_smolstr!("{origin}:{index}"), &[(meta, origin)]))
    };
    entries.map(group).collect()
}

/// A group as Go's `encoding/json` reads it: the case of a key does not matter (servers written in Go that give their
/// fields no names answer with `Targets` and `Labels`), and of a key that stands twice the last one counts.
struct JsonGroup(StaticConfig);

impl<'de> Deserialize<'de> for JsonGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(JsonGroupVisitor)
    }
}

struct JsonGroupVisitor;

impl<'de> Visitor<'de> for JsonGroupVisitor {
    type Value = JsonGroup;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a group of targets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonGroup, A::Error> {
        let mut group = StaticConfig::default();
        while let Some(key) = map.next_key::<SmolStr>()? {
            match key.to_ascii_lowercase().as_str() {
                "targets" => {
                    let targets: Option<Vec<Option<SmolStr>>> = map.next_value()?;
                    let targets = targets.unwrap_or_default().into_iter();
                    group.targets = targets.map(Option::unwrap_or_default).collect();
                }
                "labels" => {
                    let labels: Option<BTreeMap<SmolStr, Option<SmolStr>>> = map.next_value()?;
                    let labels = labels.unwrap_or_default().into_iter();
                    group.labels = labels.map(|(name, value)| (name, value.unwrap_or_default())).collect();
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(A::Error::unknown_field(&key, &["targets", "labels"]));
                }
            }
        }
        Ok(JsonGroup(group))
    }
}
