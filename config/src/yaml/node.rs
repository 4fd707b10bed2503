use serde::Deserialize;

use super::deserialize::NodeDeserializer;
use super::scalar::Scalar;
use super::{Mapping, NodeError};

/// A part of a file, in bytes, with the line and column of its start (both from 1, columns in characters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A YAML value and where it stands. Aliases and merge keys are already resolved.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Span,
    pub(crate) value: Value,
    /// What stands for the value where a text is asked for, if that is something else than its scalar: the text of
    /// an environment variable that is a list or a mapping (`${env:CLASS}` with `[abc]`, as a regex).
    pub(crate) written: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key of a mapping with its value; no mapping has a key twice.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Span,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) const fn new(at: Span, value: Value) -> Self {
        Self { at, value, written: None }
    }

    /// Whether the value was left out or is null, which in Go's YAML is the zero value of any type.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// The value as a mapping; null is the empty one.
    pub(crate) fn mapping(&self) -> Result<Mapping<'_>, NodeError> {
        match &self.value {
            Value::Mapping(entries) => Ok(Mapping::new(self.at, entries.iter().collect())),
            _ if self.is_null() => Ok(Mapping::new(self.at, Vec::new())),
            _ => Err(self.wrong_type("a mapping of keys to values")),
        }
    }

    /// The value as a list; null is the empty one.
    pub(crate) fn list(&self) -> Result<&[Self], NodeError> {
        match &self.value {
            Value::List(items) => Ok(items),
            _ if self.is_null() => Ok(&[]),
            _ => Err(self.wrong_type("a list")),
        }
    }

    /// Whatever `T` reads.
    pub(crate) fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, NodeError> {
        T::deserialize(NodeDeserializer(self))
    }

    pub(crate) fn wrong_type(&self, expected: &str) -> NodeError {
        let found = match &self.value {
            Value::Scalar(scalar) => scalar.describe(),
            Value::List(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        };
        NodeError::invalid(format!("expected {expected}, found {found}")).at(self.at)
    }
}
