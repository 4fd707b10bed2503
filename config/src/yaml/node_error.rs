use std::fmt;

use serde::de::{Expected, Unexpected};

use super::suggest::closest;
use super::{Mapping, Node, Span, Value};
use crate::ErrorKind;

/// What is wrong with a node; where it stands is filled in on the way out.
#[derive(Clone, Debug)]
pub(crate) struct NodeError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    pub(crate) at: Option<Span>,
    /// The keys and list positions that lead to the value, innermost first.
    pub(crate) path: Vec<Segment>,
    /// The message may quote the value.
    pub(crate) quotes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

impl NodeError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), suggestion: None, at: None, path: Vec::new(), quotes: false }
    }

    /// A value that cannot be; the message may quote it.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { quotes: true, ..Self::new(ErrorKind::Value, message) }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn unknown_key<'k>(key: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let suggestion = closest(key, known.iter().copied());
        let message = match &suggestion {
            None if (1..=8).contains(&known.len()) => {
                format!("unknown key {key:?} (there are {})", known.join(", "))
            }
            _ => format!("unknown key {key:?}"),
        };
        Self { suggestion, ..Self::new(ErrorKind::UnknownKey, message) }
    }

    /// A name that is none of the known ones.
    pub(crate) fn unknown_name<'k>(
        message: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Self {
        Self { suggestion: closest(name, known), ..Self::new(ErrorKind::Value, message) }
    }

    /// The error of an options type, which names the offending value by its path from `mapping`.
    pub(crate) fn at_path(mapping: &Mapping<'_>, path: &[String], message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Value, message).at(mapping.at());
        let mut segments = Vec::new();
        let mut node: Option<&Node> = None;
        for (depth, name) in path.iter().enumerate() {
            let step = match node.map(|node| &node.value) {
                None if depth == 0 => {
                    mapping.get(name).map(|entry| (Segment::Key(name.clone()), &entry.value))
                }
                Some(Value::Mapping(entries)) => entries
                    .iter()
                    .find(|entry| entry.key == *name)
                    .map(|entry| (Segment::Key(name.clone()), &entry.value)),
                Some(Value::List(items)) => name
                    .parse()
                    .ok()
                    .and_then(|index: usize| items.get(index).map(|item| (Segment::Index(index), item))),
                _ => None,
            };
            let Some((segment, value)) = step else {
                // The key is missing: the error stands at what should hold it.
                segments.push(name.parse().map_or_else(|_| Segment::Key(name.clone()), Segment::Index));
                continue;
            };
            segments.push(segment);
            error.at = Some(value.at);
            node = Some(value);
        }
        segments.reverse();
        error.path = segments;
        error
    }

    /// Sets where the error stands, unless it is already known more exactly.
    pub(crate) fn at(mut self, at: Span) -> Self {
        self.at.get_or_insert(at);
        self
    }

    pub(crate) fn in_key(mut self, key: &str) -> Self {
        self.path.push(Segment::Key(key.to_owned()));
        self
    }

    pub(crate) fn in_item(mut self, index: usize) -> Self {
        self.path.push(Segment::Index(index));
        self
    }

    /// `scrape_configs[0].relabel_configs[2].regex`
    pub(crate) fn path_text(&self) -> String {
        let mut text = String::new();
        for segment in self.path.iter().rev() {
            match segment {
                Segment::Key(key) if text.is_empty() => text.push_str(key),
                Segment::Key(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                Segment::Index(index) => {
                    text.push_str(&format!("[{index}]"));
                }
            }
        }
        text
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NodeError {}

impl serde::de::Error for NodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::invalid(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // serde names the type alone; nobody who writes a configuration knows a `u64`.
        match (found, expected.to_string().as_str()) {
            (Unexpected::Signed(number), "u8" | "u16" | "u32" | "u64" | "usize") if number < 0 => {
                Self::invalid(format!("expected a whole number of at least 0, found {number}"))
            }
            (found, expected) => Self::invalid(format!("expected {expected}, found {found}")),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("{variant:?} is not one of {}", expected.join(", "));
        Self { suggestion: closest(variant, expected.iter().copied()), ..Self::invalid(message) }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown_key(field, expected.iter().copied())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(ErrorKind::Value, format!("the key {field:?} is missing"))
    }
}
