//! The list of target groups that files and HTTP servers hold.

use promferry_model::{NameValidation, TargetGroup};
use smol_str::format_smolstr;

use crate::StaticConfig;

/// As it is written; Go reads a null list as an empty one.
pub(super) type List = Option<Vec<Option<StaticConfig>>>;

/// The groups of the list at `origin`, which also is the value of the label `meta`.
pub(super) fn groups(list: List, origin: &str, meta: &str) -> Result<Vec<TargetGroup>, String> {
    let entries = list.unwrap_or_default().into_iter().enumerate();
    let group = |(index, entry): (usize, Option<StaticConfig>)| {
        let entry = entry.ok_or_else(|| format!("group {index} of the list is null"))?;
        let is_invalid = |name: &&smol_str::SmolStr| !NameValidation::Utf8.is_valid_label_name(name);
        if let Some(name) = entry.labels.keys().find(is_invalid) {
            return Err(format!("group {index} of the list has a label with the invalid name {name:?}"));
        }
        Ok(entry.into_group(format_smolstr!("{origin}:{index}"), &[(meta, origin)]))
    };
    entries.map(group).collect()
}
