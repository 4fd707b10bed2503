use std::fmt;

use crate::ParseError;

/// A page that [`validate`](super::validate) refuses: where and why, and which rule of OpenMetrics 1.0 it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}; rule {rule}: {} (OpenMetrics 1.0, {})", rule.text(), rule.section())]
pub struct StrictError {
    /// The place, the offending text and what is wrong with it.
    pub error: ParseError,
    /// The rule that is broken.
    pub rule: StrictRule,
}

/// What OpenMetrics 1.0 demands of a page, in the order in which the specification's grammar and data model build up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StrictRule {
    /// The page's frame: UTF-8, `# EOF` as its last line, no blank line, no carriage return at a line's end.
    Page,
    /// A line of metadata: its kind, its blanks, one of the eight types.
    Metadata,
    /// The alphabet of the names of metrics and families.
    Name,
    /// Braces, commas, names, quotes and escapes of labels.
    Labels,
    /// A sample's value: one blank before it, decimal, `NaN` or infinite.
    Value,
    /// A timestamp: finite decimal seconds.
    Timestamp,
    /// An exemplar's shape.
    Exemplar,
    /// Which samples may have an exemplar, and what it may hold.
    ExemplarPlace,
    /// Each kind of metadata once a family and before its samples.
    MetadataOrder,
    /// The unit and the family's name and type.
    Unit,
    /// No two families that could have a sample of one name.
    NameClash,
    /// The suffixes of a type's samples.
    SampleName,
    /// `le`, `quantile` and a state set's own label.
    RequiredLabel,
    /// A histogram's buckets, count and sum.
    Histogram,
    /// Values that the type forbids.
    SampleValue,
    /// A metric's samples together, its timestamps in order.
    Grouping,
}

impl StrictRule {
    /// Every rule.
    pub const ALL: [Self; 16] = [
        Self::Page,
        Self::Metadata,
        Self::Name,
        Self::Labels,
        Self::Value,
        Self::Timestamp,
        Self::Exemplar,
        Self::ExemplarPlace,
        Self::MetadataOrder,
        Self::Unit,
        Self::NameClash,
        Self::SampleName,
        Self::RequiredLabel,
        Self::Histogram,
        Self::SampleValue,
        Self::Grouping,
    ];

    /// The rule's name for programs, such as `name-clash`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Metadata => "metadata",
            Self::Name => "name",
            Self::Labels => "labels",
            Self::Value => "value",
            Self::Timestamp => "timestamp",
            Self::Exemplar => "exemplar",
            Self::ExemplarPlace => "exemplar-place",
            Self::MetadataOrder => "metadata-order",
            Self::Unit => "unit",
            Self::NameClash => "name-clash",
            Self::SampleName => "sample-name",
            Self::RequiredLabel => "required-label",
            Self::Histogram => "histogram",
            Self::SampleValue => "sample-value",
            Self::Grouping => "grouping",
        }
    }

    /// What it demands, as one sentence without a full stop.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Page => {
                "a page is UTF-8 lines that end with a line feed alone, none of them empty, and the last one is # EOF"
            }
            Self::Metadata => {
                "a line with # is # TYPE, # HELP or # UNIT, a name and a text with one blank before each; types are \
                 counter, gauge, gaugehistogram, histogram, info, stateset, summary and unknown"
            }
            Self::Name => {
                "names are letters, digits, underscores and, for metrics, colons, with no digit first; others are in \
                 quotes"
            }
            Self::Labels => {
                "labels are name=\"value\" between braces with one comma between two, each name once, with \\n, \\\" \
                 and \\\\ as escapes"
            }
            Self::Value => {
                "one blank and a decimal number that fits a 64-bit float, NaN or [+-]Inf[inity] follow the series"
            }
            Self::Timestamp => "a timestamp is a finite decimal number of seconds, after one blank",
            Self::Exemplar => {
                "an exemplar is \" # {labels} value\" and perhaps a timestamp, with one blank before each"
            }
            Self::ExemplarPlace => {
                "exemplars stand on buckets and on counters' _total, within their bucket, with at most 128 characters \
                 in the names and values of their labels"
            }
            Self::MetadataOrder => "TYPE, UNIT and HELP come at most once a family, and before its samples",
            Self::Unit => {
                "the unit follows an underscore at the end of the family's name; info and stateset have none"
            }
            Self::NameClash => {
                "a family comes once, in one piece, and no two families may have a sample of the same name by the \
                 suffixes of their types, _created included"
            }
            Self::SampleName => {
                "a family's samples have its name and a suffix of its type; a counter has a _total"
            }
            Self::RequiredLabel => {
                "buckets alone have le, a number or +Inf; a summary's quantiles alone have quantile, from 0 to 1; a \
                 state has its family's name as label"
            }
            Self::Histogram => {
                "buckets have rising bounds up to +Inf and counts that do not fall; sum and count come together, \
                 after buckets, the count equal to the bucket +Inf, and no sum with negative bounds"
            }
            Self::SampleValue => {
                "totals, counts, buckets and sums are neither NaN nor negative, counts and buckets are integers, \
                 quantiles are not negative, info is 1, a state is 0 or 1"
            }
            Self::Grouping => {
                "a metric's samples stand together, all with timestamps that do not go back or all without, and \
                 without them each sample once"
            }
        }
    }

    /// The sections of the OpenMetrics 1.0 specification
    /// (<https://prometheus.io/docs/specs/om/open_metrics_spec/>) that it comes from.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Page => "Text format: Overall Structure",
            Self::Metadata | Self::MetadataOrder => "Text format: MetricFamily metadata",
            Self::Name => "Text format: ABNF",
            Self::Labels => "Text format: ABNF and Escaping; Data Types: LabelSet",
            Self::Value => "Text format: ABNF and Numbers",
            Self::Timestamp => "Text format: ABNF and Timestamps",
            Self::Exemplar => "Text format: ABNF and Exemplars",
            Self::ExemplarPlace => "Data Types: Exemplars; Metric Types: Counter and Histogram",
            Self::Unit => "MetricFamily: Unit; Metric Types: StateSet and Info",
            Self::NameClash => "MetricFamily: Name and Suffixes; Text format: MetricFamily",
            Self::SampleName => "MetricFamily: Suffixes; Text format: Metric types",
            Self::RequiredLabel => "Text format: Metric types; Metric Types: Histogram, Summary and StateSet",
            Self::Histogram => "Metric Types: Histogram and GaugeHistogram",
            Self::SampleValue => "Metric Types",
            Self::Grouping => "Text format: Metric and MetricPoint; Data Types: Metric",
        }
    }
}

impl fmt::Display for StrictRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
