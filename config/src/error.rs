use std::fmt;

use crate::source::Source;
use crate::yaml::NodeError;

/// Why a configuration cannot be used: one line that says what is wrong and where.
///
/// `{}` prints `prometheus.yml:12:7: unknown key "scrape_intervall" in scrape_configs[0] (did you mean
/// "scrape_interval"?)`; `{:#}` adds the lines of the file in question. Secrets are in neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Box<Finding>);

/// A part of a configuration that is accepted and has no effect, or another than it may seem, or that is likely to
/// go wrong; printed as a [`ConfigError`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigWarning(Box<Finding>);

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not YAML, or more of it than can be read.
    Syntax,
    /// A mapping has a key twice.
    DuplicateKey,
    /// A key that nothing knows.
    UnknownKey,
    /// A value of the wrong type, or one that breaks a rule.
    Value,
    /// Something that Prometheus or the OpenTelemetry Collector knows, that would change what is scraped, named or sent, and that is not
    /// there yet.
    Unsupported,
    /// A file could not be read.
    File,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl ConfigError {
    pub(crate) fn new(error: NodeError, source: &Source) -> Self {
        Self(Box::new(Finding::new(error, source)))
    }

    pub(crate) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        Self(Box::new(Finding {
            kind: ErrorKind::File,
            file: file.to_owned(),
            position: None,
            message: format!("cannot be read: {error}"),
            path: String::new(),
            suggestion: None,
            excerpt: String::new(),
        }))
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file, as it was named.
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// Where in the file; `None` if the file could not be read at all.
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// The keys that lead to the value: `scrape_configs[0].relabel_configs[2].regex`; empty at the top.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What is wrong, without where.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The key or name that was probably meant.
    pub fn suggestion(&self) -> Option<&str> {
        self.0.suggestion.as_deref()
    }

    /// The line of the file with the place marked below it, without secrets; empty where there is none.
    pub fn excerpt(&self) -> &str {
        &self.0.excerpt
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigWarning {
    pub(crate) fn new(error: NodeError, source: &Source) -> Self {
        Self(Box::new(Finding::new(error, source)))
    }

    /// Whether what stands there will not work as it is: a URL under which nothing is taken, a file that cannot be
    /// read. What has no effect, or only may go wrong, is no fault.
    pub fn is_fault(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Value | ErrorKind::File)
    }

    /// The file, as it was named.
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// Where in the file.
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// The keys that lead to the value.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What is to be known, without where.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    kind: ErrorKind,
    file: String,
    position: Option<Position>,
    message: String,
    path: String,
    suggestion: Option<String>,
    excerpt: String,
}

impl Finding {
    fn new(error: NodeError, source: &Source) -> Self {
        let path = error.path_text();
        let message = if error.quotes && Source::is_secret_path(&error.path) {
            "the value cannot be used (it is a secret and not shown)".to_owned()
        } else {
            error.message
        };
        Self {
            kind: error.kind,
            file: source.name(error.at).to_owned(),
            position: error.at.map(|at| Position { line: at.line, column: at.column }),
            excerpt: error.at.map(|at| source.excerpt(at, error.kind)).unwrap_or_default(),
            message,
            path,
            suggestion: error.suggestion,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.path.is_empty() {
            write!(f, " in {}", self.path)?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, " (did you mean {suggestion:?}?)")?;
        }
        if f.alternate() && !self.excerpt.is_empty() {
            write!(f, "\n{}", self.excerpt)?;
        }
        Ok(())
    }
}
