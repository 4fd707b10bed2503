use crate::{Label, LabelsBuilder, MetadataView};

/// One step on a new series' way from the target's page to the wire: relabelling, a dialect's names, limits.
///
/// Stages run once a series, in order; a list of them is all that "explain" has to read.
pub trait Stage: Send + Sync {
    /// What the step is called where it is explained, for example `metric_relabel_configs[2] drop`.
    fn name(&self) -> &str;

    /// Changes `labels`, or says what else becomes of the series.
    fn apply(&self, labels: &mut LabelsBuilder, series: &SeriesContext<'_>) -> Verdict;
}

/// What a [`Stage`] may know about a series besides its labels.
#[derive(Clone, Copy, Debug)]
pub struct SeriesContext<'a> {
    /// The target's public labels.
    pub target: &'a [Label],
    /// The metadata of the family that the series belongs to.
    pub metadata: MetadataView<'a>,
}

/// What a [`Stage`] decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The series goes on with the labels as they now are.
    Keep,
    /// The series is left out; a cached outcome.
    Drop,
    /// The whole scrape fails for this reason, as with `label_limit`.
    FailScrape(String),
}
