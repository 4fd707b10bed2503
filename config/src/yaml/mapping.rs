use serde::Deserialize;

use super::deserialize::MappingDeserializer;
use super::{Entry, NodeError, Span};

/// Some of the entries of a mapping: Prometheus lets one mapping hold the keys of several types
/// (`scrape_configs` those of `http_config`), and each type reads its own.
#[derive(Clone, Debug)]
pub(crate) struct Mapping<'a> {
    at: Span,
    entries: Vec<&'a Entry>,
}

impl<'a> Mapping<'a> {
    pub(super) const fn new(at: Span, entries: Vec<&'a Entry>) -> Self {
        Self { at, entries }
    }

    pub(crate) const fn at(&self) -> Span {
        self.at
    }

    pub(crate) fn entries(&self) -> &[&'a Entry] {
        &self.entries
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key).copied()
    }

    /// Takes the entry of this key out.
    pub(crate) fn take(&mut self, key: &str) -> Option<&'a Entry> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    /// Takes the entries of these keys out, as a mapping of their own.
    pub(crate) fn split(&mut self, keys: &[&str]) -> Self {
        let (own, others) = self.entries.iter().partition(|entry| keys.contains(&entry.key.as_str()));
        self.entries = others;
        Self { at: self.at, entries: own }
    }

    /// An error if an entry is left, with suggestions from all that there could be.
    pub(crate) fn refuse_unknown<'k>(
        &self,
        known: impl IntoIterator<Item = &'k &'k str>,
    ) -> Result<(), NodeError> {
        match self.entries.first() {
            None => Ok(()),
            Some(entry) => {
                Err(NodeError::unknown_key(&entry.key, known.into_iter().copied()).at(entry.key_at))
            }
        }
    }

    /// Whatever `T` reads.
    pub(crate) fn read<T: Deserialize<'a>>(&self) -> Result<T, NodeError> {
        T::deserialize(MappingDeserializer(self.clone()))
    }
}
