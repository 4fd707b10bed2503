use std::ops::Range;

use crate::ErrorKind;
use crate::yaml::{Entry, Node, Segment, Span, Value};

/// A file that was read, or several that are one configuration: what errors show of it.
#[derive(Debug)]
pub(crate) struct Source {
    /// Where each file begins in the text, and what it is called.
    files: Vec<(usize, String)>,
    text: String,
    /// The bytes that hold secrets, once the file is parsed.
    secrets: Option<Vec<Range<usize>>>,
}

impl Source {
    /// `name` is the path as the user gave it.
    pub(crate) fn new(name: impl Into<String>, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { files: vec![(0, name.into())], text: text.to_owned(), secrets: None }
    }

    /// Adds a file that was parsed; its nodes then stand for what they are in the whole.
    pub(crate) fn append(&mut self, file: &Self, root: Option<&mut Node>) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let start = self.text.len();
        self.text.push_str(&file.text);
        self.files.extend(file.files.iter().map(|(at, name)| (start + at, name.clone())));
        if let Some(root) = root {
            shift(root, start);
            collect_secrets(root, false, self.secrets.get_or_insert_default());
        }
    }

    /// Of several files none: what is appended makes them up.
    pub(crate) const fn of_several() -> Self {
        Self { files: Vec::new(), text: String::new(), secrets: Some(Vec::new()) }
    }

    /// The file that something stands in; the first without a place.
    pub(crate) fn name(&self, at: Option<Span>) -> &str {
        let start = at.map_or(0, |at| at.start);
        let file = self.files.iter().rev().find(|(begin, _)| *begin <= start).or_else(|| self.files.first());
        file.map_or("", |(_, name)| name)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Notes what must not be shown.
    pub(crate) fn hide_secrets(&mut self, root: &Node) {
        let mut secrets = Vec::new();
        collect_secrets(root, false, &mut secrets);
        self.secrets = Some(secrets);
    }

    /// Whether a value may not be shown, by the keys that lead to it.
    pub(crate) fn is_secret_path(path: &[Segment]) -> bool {
        path.iter().any(|segment| matches!(segment, Segment::Key(key) if is_secret_key(key)))
    }

    /// The line of `at`, with the place marked.
    pub(crate) fn excerpt(&self, at: Span, kind: ErrorKind) -> String {
        let start = at.start.min(self.text.len());
        let line_start =
            self.text.as_bytes()[..start].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line_end = self.text.as_bytes()[start..].iter().position(|b| *b == b'\n');
        let line_end = line_end.map_or(self.text.len(), |length| start + length);
        let Some(line) = self.shown(line_start..line_end, at, kind) else { return String::new() };
        let before: String =
            self.text.get(line_start..start).unwrap_or_default().chars().map(blank).collect();
        if before.chars().count() >= MAX_SHOWN {
            return String::new();
        }
        let marked = self.text.get(start..at.end.clamp(start, line_end)).unwrap_or_default();
        let hidden =
            self.secrets.iter().flatten().any(|secret| secret.start < at.end && at.start < secret.end);
        let marks = if hidden { HIDDEN.len() } else { marked.trim_end().chars().count().clamp(1, MAX_SHOWN) };
        let number = at.line.to_string();
        let margin = " ".repeat(number.len());
        format!("{margin} |\n{number} | {line}\n{margin} | {before}{}", "^".repeat(marks))
    }

    /// Whether a key of a text that could not be parsed may have a secret for its value.
    fn may_hide(&self, key: &str) -> bool {
        is_secret_key(key) || (key == "replacement" && self.text.contains(HEADER_LABEL))
    }

    fn shown(&self, line: Range<usize>, at: Span, kind: ErrorKind) -> Option<String> {
        let text = self.text.get(line.clone())?.trim_end();
        let mut shown = match &self.secrets {
            Some(secrets) => {
                let mut shown = String::new();
                let mut end = line.start;
                let mut hide = |secret: Range<usize>| {
                    let (from, to) = (secret.start.max(end), secret.end.min(line.end));
                    if from < to {
                        shown.push_str(self.text.get(end..from).unwrap_or_default());
                        shown.push_str(HIDDEN);
                        end = to;
                    }
                };
                // An unknown key may be a misspelt secret's: its value is not shown.
                let rest_hidden = kind == ErrorKind::UnknownKey;
                let mut overlapping: Vec<_> = secrets
                    .iter()
                    .filter(|secret| secret.start < line.end && secret.end > line.start)
                    .collect();
                overlapping.sort_by_key(|secret| secret.start);
                for secret in overlapping {
                    if !rest_hidden || secret.start < at.start {
                        hide(secret.clone());
                    }
                }
                let stop = if rest_hidden { at.end.clamp(end, line.end) } else { line.end };
                shown.push_str(self.text.get(end..stop).unwrap_or_default());
                if stop < line.start + text.len() {
                    shown.push_str(": …");
                }
                shown
            }
            // Not parsed: nobody knows what is a secret, so that only what cannot be one is shown.
            None => match text.split_once(':') {
                Some((key, _)) if self.may_hide(key.trim_start_matches([' ', '\t', '-'])) => {
                    format!("{key}: …")
                }
                Some((key, _)) if looks_like_key(key) && !is_secretive(text) && !text.contains('@') => {
                    text.to_owned()
                }
                _ => return None,
            },
        };
        if shown.chars().count() > MAX_SHOWN {
            shown = shown.chars().take(MAX_SHOWN).chain(['…']).collect();
        }
        Some(shown.trim_end().to_owned())
    }
}

/// What stands for a secret.
const HIDDEN: &str = "<hidden>";

/// Characters of a line that an excerpt shows at most.
const MAX_SHOWN: usize = 160;

/// Labels of a target that set a header: what a rule writes into them is sent as it is, and may be a credential.
const HEADER_LABEL: &str = "__header_";

/// Keys whose values, and everything below them, are secrets or may hold one.
fn is_secret_key(key: &str) -> bool {
    if matches!(
        key,
        "key"
            | "key_pem"
            | "client_certificate_key"
            | "proxy_url"
            | "token_url"
            | "endpoint_params"
            | "proxy_connect_header"
            | "headers"
            | "basic_auth_users"
    ) {
        return true;
    }
    let file = key.ends_with("_file") || key.ends_with("_files");
    key.starts_with(HEADER_LABEL) || (!file && is_secretive(key))
}

fn is_secretive(text: &str) -> bool {
    const WORDS: [&str; 9] =
        ["password", "passwd", "passphrase", "secret", "token", "credential", "api_key", "api-key", "apikey"];
    let lower = text.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
}

fn looks_like_key(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '-', '{']).chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn collect_secrets(node: &Node, secret: bool, secrets: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Scalar(scalar) => {
            // A URL, or what was meant for one.
            let with_password = scalar.text.split_once('@').is_some_and(|(before, _)| before.contains(':'));
            if secret || with_password {
                secrets.push(node.at.start..node.at.end);
            }
        }
        Value::List(items) => items.iter().for_each(|item| collect_secrets(item, secret, secrets)),
        Value::Mapping(entries) => {
            let sets_header = entries.iter().any(|Entry { key, value, .. }| {
                key == "target_label"
                    && matches!(&value.value, Value::Scalar(label) if label.text.starts_with(HEADER_LABEL))
            });
            for Entry { key, value, .. } in entries {
                let is_header = sets_header && key == "replacement";
                collect_secrets(value, secret || is_header || is_secret_key(key), secrets);
            }
        }
    }
}

/// Moves a file's nodes to where the file begins; lines and columns stay the file's own.
fn shift(node: &mut Node, by: usize) {
    let moved = |at: &mut Span| {
        at.start += by;
        at.end += by;
    };
    moved(&mut node.at);
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Value::Mapping(entries) => {
            for entry in entries {
                moved(&mut entry.key_at);
                shift(&mut entry.value, by);
            }
        }
    }
}

/// What stands below a character so that the marks line up.
const fn blank(c: char) -> char {
    if c == '\t' { '\t' } else { ' ' }
}
