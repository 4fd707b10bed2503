//! The parts of a collector's configuration: what is declared under `receivers`, `exporters` and the like, and
//! what `service` uses of it.

use std::collections::BTreeSet;

use crate::yaml::{Entry, Mapping, Node, NodeError};

/// One of the sections that declare components.
pub(super) struct Section<'a> {
    /// `receivers`, …
    pub(super) name: &'static str,
    declared: Mapping<'a>,
    used: BTreeSet<&'a str>,
}

impl<'a> Section<'a> {
    pub(super) fn take(top: &mut Mapping<'a>, name: &'static str) -> Result<Self, NodeError> {
        let declared = match top.take(name) {
            Some(entry) => entry.value.mapping().map_err(|error| error.in_key(name))?,
            None => top.split(&[]),
        };
        Ok(Self { name, declared, used: BTreeSet::new() })
    }

    /// The component that an item of a list names.
    pub(super) fn component(&mut self, reference: &Node) -> Result<&'a Entry, NodeError> {
        let id: String = reference.read()?;
        let Some(entry) = self.declared.get(&id) else {
            let message = format!("{id:?} is not declared in {}", self.name);
            let declared = self.declared.entries().iter().map(|entry| entry.key.as_str());
            return Err(NodeError::unknown_name(message, &id, declared).at(reference.at));
        };
        self.used.insert(&entry.key);
        Ok(entry)
    }

    /// What nothing uses, which the collector does not start.
    pub(super) fn unused(&self) -> impl Iterator<Item = &'a Entry> {
        self.declared.entries().iter().copied().filter(|entry| !self.used.contains(entry.key.as_str()))
    }

    /// The mapping itself is empty.
    pub(super) fn first(&self) -> Option<&'a Entry> {
        self.declared.entries().first().copied()
    }
}

/// What a component is: `prometheus` of `prometheus/apps`.
pub(super) fn kind(id: &str) -> &str {
    id.split_once('/').map_or(id, |(kind, _)| kind).trim()
}

/// Takes keys out that have no effect here, each with the reason; a key without a value says nothing anyway.
pub(super) fn take_without_effect(
    mapping: &mut Mapping<'_>,
    keys: &[(&str, &str)],
    warn: &mut dyn FnMut(NodeError),
) {
    for (key, why) in keys {
        if let Some(entry) = mapping.take(key)
            && !entry.value.is_null()
        {
            warn(NodeError::unsupported(format!("{key} has no effect: {why}")).at(entry.key_at));
        }
    }
}

/// Takes a switch out.
pub(super) fn take_bool(mapping: &mut Mapping<'_>, key: &str) -> Result<Option<bool>, NodeError> {
    take(mapping, key)
}

/// Takes a value out; one without a value is none.
pub(super) fn take<'a, T: serde::Deserialize<'a>>(
    mapping: &mut Mapping<'a>,
    key: &str,
) -> Result<Option<T>, NodeError> {
    let Some(entry) = mapping.take(key) else { return Ok(None) };
    entry.value.read().map_err(|error| error.at(entry.value.at).in_key(key))
}
