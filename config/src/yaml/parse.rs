use std::collections::HashMap;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::scalar::Scalar;
use super::{Entry, Node, NodeError, Span, Value};
use crate::ErrorKind;

/// The first document of a YAML text.
#[derive(Debug)]
pub(crate) struct Document {
    /// `None` when there is nothing but white space and comments.
    pub(crate) root: Option<Node>,
    /// Where a second document starts, which nobody reads.
    pub(crate) second: Option<Span>,
}

/// Nodes of a file at most, aliases followed: a million take some 150 MiB, and no configuration has them.
const MAX_NODES: usize = 1_000_000;

/// Nodes that aliases may add: what lets a small file become a huge configuration.
const MAX_ALIASED_NODES: usize = 100_000;

/// Parses YAML 1.2 with YAML 1.1's merge keys; anchors are followed.
pub(crate) fn parse(text: &str) -> Result<Document, NodeError> {
    // Another crate of the program may have switched on the parser's feature of comments.
    let mut options = Options::default();
    options.set_emit_comments(false);
    let events = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { events, anchors: HashMap::new(), nodes: 0, aliased: 0 };
    let mut root = None;
    loop {
        let (event, at) = builder.next()?;
        match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Ok(Document { root, second: Some(at) });
            }
            Event::DocumentStart(..) => {
                let (event, at) = builder.next()?;
                root = Some(builder.node(event, at)?);
            }
            Event::StreamEnd => return Ok(Document { root, second: None }),
            _ => {}
        }
    }
}

struct Builder<'a> {
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    aliased: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), NodeError> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, span_between(span.start, span.end))),
            Some(Err(error)) => Err(syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Builds the node that starts with `event`. The parser bounds how deep nodes nest (255 each of flow and
    /// block collections), so recursion does too.
    fn node(&mut self, event: Event<'a>, at: Span) -> Result<Node, NodeError> {
        let before = self.nodes;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("the file holds more than {MAX_NODES} values");
            return Err(NodeError::new(ErrorKind::Syntax, message).at(at));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = plain(style == ScalarStyle::Plain, tag.as_deref(), at)?;
                (Node::new(at, Value::Scalar(Scalar { text: text.into_owned(), plain })), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq", at)?;
                (self.list(at)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "map", at)?;
                (self.mapping(at)?, anchor)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    let message = "an alias inside of what it stands for";
                    return Err(NodeError::new(ErrorKind::Syntax, message).at(at));
                };
                self.aliased += size;
                self.nodes += size;
                if self.aliased > MAX_ALIASED_NODES {
                    let message = format!("aliases add more than {MAX_ALIASED_NODES} values");
                    return Err(NodeError::new(ErrorKind::Syntax, message).at(at));
                }
                return Ok(node.clone());
            }
            _ => return Err(NodeError::new(ErrorKind::Syntax, "a value was expected here").at(at)),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self, at: Span) -> Result<Node, NodeError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => {
                    return Ok(Node::new(to_end(at, end), Value::List(items)));
                }
                (event, at) => items.push(self.node(event, at)?),
            }
        }
    }

    fn mapping(&mut self, at: Span) -> Result<Node, NodeError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, end) => {
                    let value = Value::Mapping(merge(entries, merged, seen));
                    return Ok(Node::new(to_end(at, end), value));
                }
                (event, at) => self.node(event, at)?,
            };
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at)?;
            let Value::Scalar(Scalar { text, plain }) = key.value else {
                let message = "a key has to be a text";
                return Err(NodeError::new(ErrorKind::Syntax, message).at(key.at));
            };
            if plain && text == "<<" {
                merged.extend(merged_entries(value)?);
                continue;
            }
            if let Some(first) = seen.insert(text.clone(), key.at.line) {
                let message = format!("the key {text:?} was already set in line {first}");
                return Err(NodeError::new(ErrorKind::DuplicateKey, message).at(key.at));
            }
            entries.push(Entry { key: text, key_at: key.at, value });
        }
    }
}

/// What `<<` brings in: the entries of a mapping, or of a list of mappings, the first of which wins.
fn merged_entries(value: Node) -> Result<Vec<Entry>, NodeError> {
    match value.value {
        Value::Mapping(entries) => Ok(entries),
        Value::List(items) => {
            let entries: Result<Vec<_>, _> = items.into_iter().map(merged_entries).collect();
            Ok(entries?.into_iter().flatten().collect())
        }
        Value::Scalar(_) => {
            let message = "<< takes a mapping or a list of mappings";
            Err(NodeError::new(ErrorKind::Syntax, message).at(value.at))
        }
    }
}

/// A mapping's own keys win over what it merges in.
fn merge(mut own: Vec<Entry>, merged: Vec<Entry>, mut seen: HashMap<String, usize>) -> Vec<Entry> {
    for entry in merged {
        if seen.insert(entry.key.clone(), entry.key_at.line).is_none() {
            own.push(entry);
        }
    }
    own
}

/// Whether a scalar is to be resolved: `!!str 1` is a text, `!!int "1"` a number.
fn plain(plain: bool, tag: Option<&Tag>, at: Span) -> Result<bool, NodeError> {
    match tag.map(|tag| (tag, tag.core_suffix())) {
        None => Ok(plain),
        Some((_, Some("str"))) => Ok(false),
        Some((_, Some("int" | "float" | "bool" | "null"))) => Ok(true),
        Some((tag, _)) if tag.handle() == "!" && tag.suffix().is_empty() => Ok(false),
        Some((tag, _)) => Err(unsupported_tag(tag, at)),
    }
}

fn refuse_tag(tag: Option<&Tag>, allowed: &str, at: Span) -> Result<(), NodeError> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(allowed) => Err(unsupported_tag(tag, at)),
        _ => Ok(()),
    }
}

fn unsupported_tag(tag: &Tag, at: Span) -> NodeError {
    let message = format!("the tag {}{} is not supported", tag.original_handle(), tag.suffix());
    NodeError::new(ErrorKind::Syntax, message).at(at)
}

fn syntax(error: &ScanError) -> NodeError {
    let mark = *error.marker();
    NodeError::new(ErrorKind::Syntax, format!("not valid YAML: {}", error.info()))
        .at(span_between(mark, mark))
}

fn span_between(start: Marker, end: Marker) -> Span {
    let from = start.byte_offset().unwrap_or_default();
    Span {
        line: start.line(),
        column: start.col() + 1,
        start: from,
        end: end.byte_offset().unwrap_or(from).max(from),
    }
}

const fn to_end(start: Span, end: Span) -> Span {
    Span { end: if end.end > start.end { end.end } else { start.end }, ..start }
}
