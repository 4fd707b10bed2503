use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

use super::pattern::Pattern;
use crate::spool::Reason;

/// The rows of `data/refusals.json`, in the order in which they are tried.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::read(include_str!("../../data/refusals.json"))
        .unwrap_or_else(|error| unreachable!("a test reads every row of the embedded file: {error}"))
});

/// What a receiver means by one kind of text: a row of `data/refusals.json`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefusalClass {
    /// The row's name, with hyphens.
    pub id: &'static str,
    /// Which receivers say it.
    pub by: String,
    /// The statuses that it comes with.
    pub statuses: Vec<u16>,
    /// The text, as literals with holes.
    pub text: String,
    /// What it means for the request.
    pub meaning: Meaning,
    /// What became of everything in the request that the text is not about.
    pub rest: Rest,
    /// Whether the text says which series it is about.
    pub names: Naming,
    /// Whether the series will be refused each time, as one with too many labels is, and not only this
    /// sample of it: worth holding the series out.
    pub lasting: bool,
    /// The name of the reason in AMP's `DiscardedSamples`, and so in the ledger.
    pub reason: Reason,
    /// Where the text stands: document, or repository with revision and file.
    pub source: String,
    /// How sure it is.
    pub confidence: Confidence,
    /// A body of the class.
    pub example: String,
    pub(super) pattern: Pattern,
}

/// What a refusal means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Meaning {
    /// Samples were refused for what they are: sending them again changes nothing.
    Samples,
    /// Exemplars were refused for what they are.
    Exemplars,
    /// Metadata was refused; no sample was.
    Metadata,
    /// Too much at once: the same succeeds later.
    Throttle,
    /// A limit that sending less at once does not help against: of new series, not of those known.
    LastingLimit(LimitScope),
    /// The credentials, the clock that they were used by, or the account that they are of: the same succeeds
    /// with better ones.
    Denied,
    /// The receiver does not understand the message or its encoding.
    Undecodable,
    /// The request is too large.
    TooLarge,
}

/// What a lasting limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub enum LimitScope {
    /// Active series of the workspace (tenant).
    #[serde(rename = "workspace")]
    Workspace,
    /// Active series that carry a set of labels.
    #[serde(rename = "label set")]
    LabelSet,
    /// Active series of one metric name.
    #[serde(rename = "metric")]
    Metric,
    /// Groups of replicas that are deduplicated.
    #[serde(rename = "replica groups")]
    ReplicaGroups,
}

/// What became of everything in the request that a refusal is not about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub enum Rest {
    /// It was written.
    #[serde(rename = "written")]
    Written,
    /// Nothing was written.
    #[serde(rename = "not written")]
    NotWritten,
    /// The text does not say, and neither does the receiver's source.
    #[serde(rename = "unknown")]
    Unknown,
}

/// Whether a text says which series it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub enum Naming {
    /// Each of them.
    #[serde(rename = "all")]
    All,
    /// The first; there may be more that are not named.
    #[serde(rename = "first")]
    First,
    /// None.
    #[serde(rename = "none")]
    None,
}

/// How sure a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub enum Confidence {
    /// A user's log shows it, or a test has had it from the receiver itself.
    #[serde(rename = "seen")]
    Seen,
    /// The receiver's documentation shows it.
    #[serde(rename = "documented")]
    Documented,
    /// The receiver's source writes it.
    #[serde(rename = "read in source")]
    ReadInSource,
}

impl RefusalClass {
    /// Every row, in the order in which they are tried.
    pub fn all() -> &'static [Self] {
        &TABLE.classes
    }
}

/// Classes are equal when they are the same row.
impl PartialEq for RefusalClass {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for RefusalClass {}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Samples => f.write_str("samples refused"),
            Self::Exemplars => f.write_str("exemplars refused"),
            Self::Metadata => f.write_str("metadata refused"),
            Self::Throttle => f.write_str("throttle"),
            Self::LastingLimit(scope) => write!(f, "lasting limit: {scope}"),
            Self::Denied => f.write_str("denied"),
            Self::Undecodable => f.write_str("undecodable"),
            Self::TooLarge => f.write_str("too large"),
        }
    }
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workspace => "workspace",
            Self::LabelSet => "label set",
            Self::Metric => "metric",
            Self::ReplicaGroups => "replica groups",
        })
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Written => "written",
            Self::NotWritten => "not written",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::First => "the first",
            Self::None => "none",
        })
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seen => "seen",
            Self::Documented => "documented",
            Self::ReadInSource => "read in source",
        })
    }
}

/// The rows.
#[derive(Debug)]
pub(super) struct Table {
    classes: Vec<RefusalClass>,
}

impl Table {
    pub(super) fn embedded() -> &'static Self {
        &TABLE
    }

    pub(super) fn read(json: &'static str) -> Result<Self, TableError> {
        let rows: Vec<Row> = serde_json::from_str(json)?;
        let classes = rows.into_iter().map(Row::compile).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { classes })
    }

    /// The rows that fit, first to last.
    pub(super) fn matches(&self, status: u16, body: &str) -> impl Iterator<Item = &RefusalClass> {
        let classes = self.classes.iter().filter(move |class| class.statuses.contains(&status));
        classes.filter(|class| class.pattern.is_in(body))
    }
}

/// Why the table can't be read; a fault of the file, which a test finds.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{id}: {what}")]
    Row { id: &'static str, what: &'static str },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: &'static str,
    by: String,
    statuses: Vec<u16>,
    text: String,
    meaning: RowMeaning,
    #[serde(default)]
    scope: Option<LimitScope>,
    rest: Rest,
    names: Naming,
    lasting: bool,
    reason: String,
    source: String,
    confidence: Confidence,
    example: String,
}

#[derive(Clone, Copy, Deserialize)]
enum RowMeaning {
    #[serde(rename = "refused")]
    Samples,
    #[serde(rename = "refused exemplar")]
    Exemplars,
    #[serde(rename = "refused metadata")]
    Metadata,
    #[serde(rename = "throttle")]
    Throttle,
    #[serde(rename = "lasting limit")]
    LastingLimit,
    #[serde(rename = "denied")]
    Denied,
    #[serde(rename = "undecodable")]
    Undecodable,
    #[serde(rename = "too large")]
    TooLarge,
}

impl Row {
    fn compile(self) -> Result<RefusalClass, TableError> {
        let fault = |what| TableError::Row { id: self.id, what };
        let meaning = match (self.meaning, self.scope) {
            (RowMeaning::LastingLimit, Some(scope)) => Meaning::LastingLimit(scope),
            (RowMeaning::LastingLimit, None) => return Err(fault("a lasting limit needs its scope")),
            (_, Some(_)) => return Err(fault("only a lasting limit has a scope")),
            (RowMeaning::Samples, None) => Meaning::Samples,
            (RowMeaning::Exemplars, None) => Meaning::Exemplars,
            (RowMeaning::Metadata, None) => Meaning::Metadata,
            (RowMeaning::Throttle, None) => Meaning::Throttle,
            (RowMeaning::Denied, None) => Meaning::Denied,
            (RowMeaning::Undecodable, None) => Meaning::Undecodable,
            (RowMeaning::TooLarge, None) => Meaning::TooLarge,
        };
        let pattern = Pattern::new(&self.text);
        if pattern.names_series() != (self.names != Naming::None) {
            return Err(fault("names has to say whether the text has a {series} or {metric}"));
        }
        Ok(RefusalClass {
            id: self.id,
            by: self.by,
            statuses: self.statuses,
            text: self.text,
            meaning,
            rest: self.rest,
            names: self.names,
            lasting: self.lasting,
            reason: Reason::new(&self.reason),
            source: self.source,
            confidence: self.confidence,
            example: self.example,
            pattern,
        })
    }
}
