//! What `--config` and `--set` name, read and merged into one tree: mappings merge, everything else of a later one
//! replaces what an earlier one has there.

use std::path::{Path, PathBuf};

use crate::prometheus::open;
use crate::source::Source;
use crate::yaml::{Document, Entry, Node, NodeError, Span, Value};
use crate::{ConfigError, ConfigWarning, Env, ErrorKind, Files};

/// Several files as one.
pub(super) struct Merged {
    pub(super) source: Source,
    pub(super) root: Node,
    /// The files that were read.
    pub(super) files: Vec<PathBuf>,
    pub(super) warnings: Vec<ConfigWarning>,
}

impl Merged {
    pub(super) fn new() -> Self {
        let root = Node::new(Span { line: 1, column: 1, start: 0, end: 0 }, Value::Mapping(Vec::new()));
        Self { source: Source::of_several(), root, files: Vec::new(), warnings: Vec::new() }
    }

    /// Adds what `--config` names: a path, `file:PATH`, `env:NAME` or `yaml:TEXT`.
    pub(super) fn add_uri(&mut self, uri: &str, files: &dyn Files, env: &dyn Env) -> Result<(), ConfigError> {
        let refused = |kind, message: String| {
            let source = Source::new(format!("--config={uri}"), "");
            Err(ConfigError::new(NodeError::new(kind, message), &source))
        };
        let (scheme, rest) = uri.split_once(':').unwrap_or(("file", uri));
        match scheme {
            "file" => {
                let path = Path::new(rest);
                let text = files.read(path);
                let text =
                    text.map_err(|error| ConfigError::unreadable(&path.display().to_string(), &error))?;
                self.files.push(path.to_owned());
                self.add_text(path, &text)
            }
            "env" => match env.variable(rest) {
                Some(text) => self.add_text(Path::new(uri), &text),
                None => refused(ErrorKind::Value, format!("the environment variable {rest} is not set")),
            },
            "yaml" => self.add_text(Path::new("--config=yaml"), rest),
            "http" | "https" | "s3" => refused(
                ErrorKind::Unsupported,
                "not supported yet: a configuration from the network; there are a path, file:, env: and yaml:"
                    .to_owned(),
            ),
            _ => refused(
                ErrorKind::Value,
                format!("there is no source {scheme:?}; there are a path, file:, env: and yaml:"),
            ),
        }
    }

    /// Adds the text of a file.
    pub(super) fn add_text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let (source, document) = open(path, text)?;
        self.add_opened(&source, document)
    }

    pub(super) fn add_opened(&mut self, source: &Source, document: Document) -> Result<(), ConfigError> {
        if let Some(second) = document.second {
            let error = NodeError::unsupported("only the first of several YAML documents is read").at(second);
            self.warnings.push(ConfigWarning::new(error, source));
        }
        let mut root = document.root;
        if let Some(root) = &root {
            root.mapping().map_err(|error| ConfigError::new(error, source))?;
        }
        self.source.append(source, root.as_mut());
        if let Some(root) = root.filter(|root| !root.is_null()) {
            merge(&mut self.root, root);
        }
        Ok(())
    }

    /// Adds what `--set` says: `service.telemetry.logs.level=debug`.
    pub(super) fn add_set(&mut self, set: &str) -> Result<(), ConfigError> {
        let name = set.split_once('=').map_or(set, |(keys, _)| keys);
        let path = PathBuf::from(format!("--set {name}"));
        let Some((keys, value)) = set.split_once('=').filter(|(keys, _)| !keys.trim().is_empty()) else {
            let error = NodeError::new(
                ErrorKind::Value,
                "expected KEY=VALUE, as in service.telemetry.logs.level=debug",
            );
            return Err(ConfigError::new(error, &Source::new(path.display().to_string(), "")));
        };
        let (mut source, document) = open(&path, value)?;
        let at = Span { line: 1, column: 1, start: 0, end: 0 };
        let nothing = || Node::new(at, Value::Mapping(Vec::new()));
        let value = document.root.unwrap_or_else(nothing);
        // Innermost first: each key holds what is below it.
        let mut node = keys.trim().replace("::", ".").rsplit('.').fold(value, |value, key| {
            let entry = Entry { key: key.to_owned(), key_at: at, value };
            Node::new(at, Value::Mapping(vec![entry]))
        });
        source.hide_secrets(&node);
        self.source.append(&source, Some(&mut node));
        merge(&mut self.root, node);
        Ok(())
    }
}

fn merge(into: &mut Node, from: Node) {
    match (&mut into.value, from.value) {
        (Value::Mapping(entries), Value::Mapping(others)) => {
            for other in others {
                match entries.iter_mut().find(|entry| entry.key == other.key) {
                    Some(entry) => {
                        // What stands there is the later one's, for errors about the value as a whole.
                        entry.key_at = other.key_at;
                        merge(&mut entry.value, other.value);
                    }
                    None => entries.push(other),
                }
            }
        }
        (_, value) => *into = Node { at: from.at, value, written: from.written },
    }
}
