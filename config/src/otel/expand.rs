//! Placeholders and dollar signs, as the OpenTelemetry Collector's `confmap` v1.70 takes them: `${env:NAME}`,
//! `${env:NAME:-default}`, `${NAME}`, `${file:PATH}` and `${yaml:TEXT}` are replaced, and `$$` is a dollar sign. A
//! value that is nothing but one placeholder becomes whatever the text is in YAML.

use std::path::{Path, PathBuf};

use crate::yaml::{Entry, Node, NodeError, Resolved, Scalar, Segment, Span, Value, parse};
use crate::{Env, ErrorKind, Files};

/// What placeholders are replaced with, and what was noticed.
pub(super) struct Expansion<'a> {
    files: &'a dyn Files,
    env: &'a dyn Env,
    /// Bytes that may still be put in for placeholders.
    left: usize,
    /// Variables that are not set, and what else is likely to be meant otherwise.
    pub(super) warnings: Vec<NodeError>,
    /// Files that were put in.
    pub(super) files_read: Vec<PathBuf>,
}

/// Replacements one after the other in one value, as confmap has it.
const MAX_ROUNDS: usize = 1000;

/// Bytes that all replacements of a configuration may add up to: variables that name themselves twice double with
/// each round.
const MAX_BYTES: usize = 16 << 20;

/// How deep values may nest once all is replaced; a file alone gets to 510.
const MAX_DEPTH: usize = 600;

impl<'a> Expansion<'a> {
    pub(super) const fn new(files: &'a dyn Files, env: &'a dyn Env) -> Self {
        Self { files, env, left: MAX_BYTES, warnings: Vec::new(), files_read: Vec::new() }
    }

    /// Replaces what is in a value and below it; keys are left alone.
    pub(super) fn expand(&mut self, node: &mut Node) -> Result<(), NodeError> {
        self.node(node, 0)
    }

    fn node(&mut self, node: &mut Node, depth: usize) -> Result<(), NodeError> {
        if depth > MAX_DEPTH {
            let message = format!("values nest more than {MAX_DEPTH} deep once placeholders are replaced");
            return Err(NodeError::new(ErrorKind::Value, message).at(node.at));
        }
        match &mut node.value {
            Value::Scalar(_) => self.scalar(node, depth),
            Value::List(items) => items.iter_mut().enumerate().try_for_each(|(index, item)| {
                let noticed = self.warnings.len();
                self.node(item, depth + 1).map_err(|error| error.in_item(index))?;
                self.noticed_within(noticed, &Segment::Index(index));
                Ok(())
            }),
            Value::Mapping(entries) => entries.iter_mut().try_for_each(|Entry { key, value, .. }| {
                let noticed = self.warnings.len();
                self.node(value, depth + 1).map_err(|error| error.in_key(key))?;
                self.noticed_within(noticed, &Segment::Key(key.clone()));
                Ok(())
            }),
        }
    }

    /// What was noticed since then is below this key or list position.
    fn noticed_within(&mut self, since: usize, segment: &Segment) {
        for warning in self.warnings.iter_mut().skip(since) {
            warning.path.push(segment.clone());
        }
    }

    fn scalar(&mut self, node: &mut Node, depth: usize) -> Result<(), NodeError> {
        let at = node.at;
        for _ in 0..MAX_ROUNDS {
            let Value::Scalar(scalar) = &mut node.value else {
                self.node(node, depth + 1)?;
                node.written = node.written.take().and_then(|text| self.text(text, at).ok());
                return Ok(());
            };
            let Some(placeholder) = find(&scalar.text, |inner| !is_group(inner)) else {
                if let Some(group) = find(&scalar.text, is_group) {
                    let message = format!(
                        "{group} is taken as a group of a regex; the OpenTelemetry Collector wants ${group} there"
                    );
                    self.warnings.push(NodeError::unsupported(message).at(at));
                }
                scalar.text = scalar.text.replace("$$", "$");
                node.written = node.written.take().map(|text| text.replace("$$", "$"));
                return Ok(());
            };
            let retrieved = self.retrieve(placeholder, at).map_err(|error| error.at(at))?;
            if placeholder.len() == scalar.text.len() {
                self.spend(retrieved.text().len(), at)?;
                *node = retrieved.into_node(at);
            } else {
                let text = scalar.text.replace(placeholder, retrieved.text());
                self.spend(text.len(), at)?;
                *scalar = Scalar { text, plain: false };
                node.written = None;
            }
        }
        Err(too_many_rounds().at(at))
    }

    /// As [`scalar`](Self::scalar), where nothing but a text can come of it.
    fn text(&mut self, mut text: String, at: Span) -> Result<String, NodeError> {
        for _ in 0..MAX_ROUNDS {
            let Some(placeholder) = find(&text, |inner| !is_group(inner)) else {
                return Ok(text.replace("$$", "$"));
            };
            let retrieved = self.retrieve(placeholder, at)?;
            text = text.replace(placeholder, retrieved.text());
            self.spend(text.len(), at)?;
        }
        Err(too_many_rounds())
    }

    fn spend(&mut self, bytes: usize, at: Span) -> Result<(), NodeError> {
        self.left = self.left.checked_sub(bytes + 1).ok_or_else(|| {
            let message =
                format!("what placeholders are replaced with adds up to more than {MAX_BYTES} bytes");
            NodeError::new(ErrorKind::Value, message).at(at)
        })?;
        Ok(())
    }

    fn retrieve(&mut self, placeholder: &str, at: Span) -> Result<Retrieved, NodeError> {
        let refused = |why: String| Err(NodeError::new(ErrorKind::Value, format!("{placeholder}: {why}")));
        let inner = &placeholder[2..placeholder.len() - 1];
        let (scheme, value) = inner.split_once(':').unwrap_or(("env", inner));
        if !is_scheme(scheme) {
            return refused(format!(
                "{:?} is not the name of a source; there are env, file and yaml, as in ${{env:NAME}}",
                scheme
            ));
        }
        if value.contains('$') {
            return refused("a dollar sign can't be part of it".to_owned());
        }
        match scheme {
            "env" => self.variable(value, at).or_else(refused),
            "yaml" => Ok(Retrieved::Yaml(value.to_owned())),
            "file" => {
                let path = Path::new(value);
                self.files_read.push(path.to_owned());
                match self.files.read(path) {
                    Ok(text) => Ok(Retrieved::Yaml(text)),
                    Err(error) => Err(NodeError::new(
                        ErrorKind::File,
                        format!("{placeholder}: cannot be read: {error}"),
                    )),
                }
            }
            "http" | "https" | "s3" => refused(
                "not supported yet: a configuration from the network; there are env, file and yaml"
                    .to_owned(),
            ),
            name if value.starts_with('-') && is_variable(name) => {
                refused(format!("there is no source {name:?}; write ${{env:{inner}}}"))
            }
            _ => refused(format!("there is no source {scheme:?}; there are env, file and yaml")),
        }
    }

    fn variable(&mut self, value: &str, at: Span) -> Result<Retrieved, String> {
        let (name, default) = match value.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (value, None),
        };
        if !is_variable(name) {
            return Err(format!(
                "{name:?} is not the name of an environment variable: letters, digits and _, no digit first"
            ));
        }
        Ok(match (self.env.variable(name), default) {
            (Some(text), _) => Retrieved::Yaml(text),
            (None, Some("")) => Retrieved::EmptyText,
            (None, Some(default)) => Retrieved::Yaml(default.to_owned()),
            (None, None) => {
                let message = format!("the environment variable {name} is not set");
                self.warnings.push(NodeError::unsupported(message).at(at));
                Retrieved::Yaml(String::new())
            }
        })
    }
}

fn too_many_rounds() -> NodeError {
    let message = format!("placeholders lead to further placeholders more than {MAX_ROUNDS} times");
    NodeError::new(ErrorKind::Value, message)
}

/// What a placeholder stands for.
enum Retrieved {
    /// The text of a value.
    Yaml(String),
    /// The empty text, where no text would be no value.
    EmptyText,
}

impl Retrieved {
    fn text(&self) -> &str {
        match self {
            Self::Yaml(text) => text,
            Self::EmptyText => "",
        }
    }

    /// The value, all of which stands where its placeholder does.
    fn into_node(self, at: Span) -> Node {
        let Self::Yaml(text) = self else {
            return Node::new(at, Value::Scalar(Scalar { text: String::new(), plain: false }));
        };
        let Ok(document) = parse(&text) else {
            return Node::new(at, Value::Scalar(Scalar { text, plain: false }));
        };
        let nothing = || Node::new(at, Value::Scalar(Scalar { text: String::new(), plain: true }));
        let mut node = document.root.unwrap_or_else(nothing);
        match &node.value {
            // A text is taken as it is, with the quotes it may have.
            Value::Scalar(scalar) if scalar.resolve() == Resolved::Text => {
                Node::new(at, Value::Scalar(Scalar { text, plain: true }))
            }
            _ => {
                stand_at(&mut node, at);
                node.written = Some(text);
                node
            }
        }
    }
}

fn stand_at(node: &mut Node, at: Span) {
    node.at = at;
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| stand_at(item, at)),
        Value::Mapping(entries) => {
            for entry in entries {
                entry.key_at = at;
                stand_at(&mut entry.value, at);
            }
        }
    }
}

/// The first placeholder that is not escaped, the innermost if one holds another: confmap's `findURI`, the search of
/// which goes on behind an escaped one and no longer sees what is before it.
fn find(text: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    let mut rest = text;
    loop {
        let close = rest.find('}')?;
        if let Some(open) = rest[..close].rfind("${") {
            let dollars = rest[..open].bytes().rev().take_while(|b| *b == b'$').count();
            if dollars % 2 == 0 && wanted(&rest[open + 2..close]) {
                return Some(&rest[open..=close]);
            }
        }
        rest = &rest[close + 1..];
    }
}

/// `${1}`, which confmap refuses: no variable has such a name, so that it can only be a group.
fn is_group(inner: &str) -> bool {
    !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_digit())
}

fn is_scheme(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-'))
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// scripts/oracles/confmap has the same.
    const ENVIRONMENT: [(&str, &str); 22] = [
        ("X", "x"),
        ("EMPTY", ""),
        ("T", "true"),
        ("N", "0123"),
        ("FLOAT", "1.50"),
        ("NULL", "null"),
        ("NAME", "X"),
        ("NEST", "${env:X}"),
        ("NESTED_TRUE", "${env:T}"),
        ("TEXT_OF_NEST", "a${env:X}"),
        ("DOL", "a$b"),
        ("DOL2", "a$$b"),
        ("DOL_BRACE", "$${env:X}"),
        ("MAP", "{a: 1}"),
        ("MAP_OF_NEST", "{a: \"${env:X}\", b: \"$$1\"}"),
        ("LIST", "[a, b]"),
        ("CLASS", "[abc]"),
        ("QUOTED", "\"q\""),
        ("COLON", "a: b"),
        ("BAD", "["),
        ("LINES", "a\nb\n"),
        ("SPACES", " x "),
    ];

    fn environment(name: &str) -> Option<String> {
        // What no case of the oracle has: variables that lead to ever more.
        match name {
            "SELF" => Some("${env:SELF}".to_owned()),
            "TWICE" => Some("${env:TWICE}${env:TWICE} ".to_owned()),
            "DEEPER" => Some(format!("{}{}{}", "[".repeat(50), "\"${env:DEEPER}\"", "]".repeat(50))),
            "WIDER" => Some("[\"${env:WIDER}\", \"${env:WIDER}\"]".to_owned()),
            _ => ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        }
    }

    struct TwoFiles;

    impl Files for TwoFiles {
        fn matching(&self, _pattern: &Path) -> io::Result<Vec<PathBuf>> {
            Ok(Vec::new())
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            match path.to_str() {
                Some("DIR/text") => Ok("from file\n".to_owned()),
                Some("DIR/map.yaml") => Ok("a: ${env:X}\n".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn expand(text: &str) -> (Result<Node, NodeError>, Vec<String>) {
        let at = Span { line: 1, column: 1, start: 0, end: 0 };
        let mut node = Node::new(at, Value::Scalar(Scalar { text: text.to_owned(), plain: false }));
        let mut expansion = Expansion::new(&TwoFiles, &environment);
        let expanded = expansion.expand(&mut node);
        (expanded.map(|()| node), expansion.warnings.iter().map(ToString::to_string).collect())
    }

    fn equal(ours: &Node, theirs: &Node) -> bool {
        match (&ours.value, &theirs.value) {
            (Value::Scalar(a), Value::Scalar(b)) => match (a.resolve(), b.resolve()) {
                (Resolved::Text, Resolved::Text) => a.text == b.text,
                (a, b) => a == b,
            },
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
            }
            (Value::Mapping(a), Value::Mapping(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|(a, b)| a.key == b.key && equal(&a.value, &b.value))
            }
            _ => false,
        }
    }

    #[test]
    fn values_are_confmaps() {
        let golden = include_str!("../../tests/data/otel/confmap.jsonl");
        let mut cases = 0;
        for line in golden.lines() {
            let row = parse(line).unwrap().root.unwrap();
            let row = row.mapping().unwrap();
            let given: String = row.get("in").unwrap().value.read().unwrap();
            let (expanded, warnings) = expand(&given);
            cases += 1;
            if given == "${1}" {
                assert_eq!(expanded.unwrap().read::<String>().unwrap(), "${1}");
                assert_eq!(warnings.len(), 1, "{warnings:?}");
                continue;
            }
            match row.get("error") {
                Some(error) => {
                    let error: String = error.value.read().unwrap();
                    assert!(expanded.is_err(), "{given}: {expanded:?}, confmap: {error}");
                }
                None => {
                    let expanded = expanded.unwrap_or_else(|error| panic!("{given}: {error}"));
                    let text: String = row.get("string").unwrap().value.read().unwrap();
                    assert_eq!(expanded.read::<String>().unwrap(), text, "{given}");
                    let any = &row.get("any").unwrap().value;
                    assert!(equal(&expanded, any), "{given}: {expanded:?}, confmap: {any:?}");
                }
            }
        }
        assert!(cases > 70, "{cases}");
    }

    #[test]
    fn errors_say_what_to_write() {
        for (given, expected) in [
            ("${UNSET:-d}", "${UNSET:-d}: there is no source \"UNSET\"; write ${env:UNSET:-d}"),
            ("${nope:X}", "${nope:X}: there is no source \"nope\"; there are env, file and yaml"),
            (
                "a${env:a-b}",
                "${env:a-b}: \"a-b\" is not the name of an environment variable: letters, digits and _, no digit first",
            ),
            (
                "${s3://bucket.s3.eu-west-1.amazonaws.com/key}",
                "${s3://bucket.s3.eu-west-1.amazonaws.com/key}: not supported yet: a configuration from the network; \
                 there are env, file and yaml",
            ),
            ("${file:DIR/missing}", "${file:DIR/missing}: cannot be read: entity not found"),
            (
                "${ env:X}",
                "${ env:X}: \" env\" is not the name of a source; there are env, file and yaml, as in ${env:NAME}",
            ),
            ("${env:SELF}", "placeholders lead to further placeholders more than 1000 times"),
            ("${env:TWICE}", "what placeholders are replaced with adds up to more than 16777216 bytes"),
            ("${env:DEEPER}", "values nest more than 600 deep once placeholders are replaced"),
            ("${env:WIDER}", "values nest more than 600 deep once placeholders are replaced"),
        ] {
            assert_eq!(expand(given).0.unwrap_err().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn what_is_likely_to_be_meant_otherwise_is_said() {
        for (given, expected) in [
            ("a${env:UNSET}", "the environment variable UNSET is not set"),
            (
                "(.*)${1}",
                "${1} is taken as a group of a regex; the OpenTelemetry Collector wants $${1} there",
            ),
        ] {
            assert_eq!(expand(given).1, [expected], "{given}");
        }
        for given in ["$${1}", "$1", "${env:EMPTY}", "${env:UNSET:-}"] {
            assert!(expand(given).1.is_empty(), "{given}");
        }
    }
}
