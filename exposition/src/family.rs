use promferry_model::MetricType;

/// What comes behind a family's name in the name of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suffix {
    None,
    Total,
    Created,
    Sum,
    Count,
    Bucket,
    GaugeSum,
    GaugeCount,
    Info,
}

impl Suffix {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Total => "_total",
            Self::Created => "_created",
            Self::Sum => "_sum",
            Self::Count => "_count",
            Self::Bucket => "_bucket",
            Self::GaugeSum => "_gsum",
            Self::GaugeCount => "_gcount",
            Self::Info => "_info",
        }
    }

    /// Those that samples of a type have.
    pub(crate) const fn of(metric_type: MetricType) -> &'static [Self] {
        match metric_type {
            MetricType::Counter => &[Self::Total, Self::Created],
            MetricType::Histogram => &[Self::Bucket, Self::Sum, Self::Count, Self::Created],
            MetricType::GaugeHistogram => &[Self::Bucket, Self::GaugeSum, Self::GaugeCount],
            MetricType::Summary => &[Self::None, Self::Sum, Self::Count, Self::Created],
            MetricType::Info => &[Self::Info],
            _ => &[Self::None],
        }
    }

    /// Its place in a set of suffixes.
    pub(crate) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Every suffix that series of one of the types have.
const SUFFIXES: [Suffix; 7] = [
    Suffix::Total,
    Suffix::Bucket,
    Suffix::Sum,
    Suffix::Count,
    Suffix::GaugeSum,
    Suffix::GaugeCount,
    Suffix::Info,
];

/// Whether a series of the metric `name` belongs to the family `family` of this type (Prometheus 3.16
/// `scrape.isSeriesPartOfFamily`). A counter's or info's family may itself be named with the suffix.
pub fn belongs_to_family(name: &str, family: &str, metric_type: MetricType) -> bool {
    if !name.starts_with(family) {
        return false;
    }
    let without = |text: &'_ str| -> usize {
        suffixes(metric_type)
            .find(|suffix| text.ends_with(suffix))
            .map_or(text.len(), |suffix| text.len() - suffix.len())
    };
    let family = match metric_type {
        MetricType::Counter | MetricType::Info => &family[..without(family)],
        _ => family,
    };
    &name[..without(name)] == family
}

/// The family that a series of the metric `name` belongs to, out of those that `type_of` knows by name: the
/// one of the metric's own name if there is one, else the one whose type has the metric's suffix.
///
/// ```
/// use promferry_exposition::family_of;
/// use promferry_model::MetricType;
/// let type_of = |family: &str| (family == "request_seconds").then_some(MetricType::Histogram);
/// assert_eq!(family_of("request_seconds_bucket", type_of), Some("request_seconds"));
/// assert_eq!(family_of("request_seconds_total", type_of), None);
/// ```
pub fn family_of(name: &str, type_of: impl Fn(&str) -> Option<MetricType>) -> Option<&str> {
    if type_of(name).is_some() {
        return Some(name);
    }
    SUFFIXES
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix.as_str()))
        .find(|family| type_of(family).is_some_and(|of| belongs_to_family(name, family, of)))
}

/// Suffixes that a family's series may have in any format, beside the family's name itself.
fn suffixes(metric_type: MetricType) -> impl Iterator<Item = &'static str> {
    let suffixes = Suffix::of(metric_type).iter();
    suffixes.filter(|suffix| !matches!(suffix, Suffix::None | Suffix::Created)).map(|suffix| suffix.as_str())
}
