use std::borrow::Cow;
use std::io;

use promferry_model::Labels;

use crate::StrictRule;

/// Why a family or a metric is not written: no page that says it would be read back so, or none would be valid
/// OpenMetrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("family {family:?}{}: {problem}; rule {rule}: {}", in_series(series), rule.text())]
#[non_exhaustive]
pub struct EncodeError {
    /// The family's name.
    pub family: String,
    /// The labels of the metric as text, empty if the family as a whole is at fault.
    pub series: String,
    /// The rule of OpenMetrics that would be broken; the rules that other formats have too go by the same names.
    pub rule: StrictRule,
    /// What is wrong.
    pub problem: Cow<'static, str>,
}

impl EncodeError {
    pub(super) fn of_family(family: &str, fault: Fault) -> Self {
        let Fault { rule, problem } = fault;
        Self { family: family.to_owned(), series: String::new(), rule, problem }
    }

    pub(super) fn of_metric(family: &str, labels: &Labels, fault: Fault) -> Self {
        Self { series: labels.to_string(), ..Self::of_family(family, fault) }
    }
}

/// Why a [`StreamingEncoder`](crate::StreamingEncoder) could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A family or a metric was refused and is not on the page, which can go on. Of a family that was given with its
    /// metrics, it and those before the refused one are on the page, those behind it are not.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The page could not be sent on.
    #[error("cannot write the page: {0}")]
    Write(#[from] io::Error),
}

/// What is wrong, before it is known where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) rule: StrictRule,
    pub(super) problem: Cow<'static, str>,
}

/// The refusal itself, as a result.
pub(super) fn fault<T>(rule: StrictRule, problem: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
    Err(Fault { rule, problem: problem.into() })
}

fn in_series(series: &str) -> String {
    if series.is_empty() { String::new() } else { format!(", metric {series}") }
}
