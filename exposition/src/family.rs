use promferry_model::MetricType;

/// Suffixes that a family's series may have beside the family's name itself.
const fn suffixes(metric_type: MetricType) -> &'static [&'static str] {
    match metric_type {
        MetricType::Counter => &["_total"],
        MetricType::Histogram => &["_bucket", "_sum", "_count"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        MetricType::Summary => &["_sum", "_count"],
        MetricType::Info => &["_info"],
        _ => &[],
    }
}

/// Every suffix that one of the types has.
const SUFFIXES: [&str; 7] = ["_total", "_bucket", "_sum", "_count", "_gsum", "_gcount", "_info"];

/// Whether a series of the metric `name` belongs to the family `family` of this type (Prometheus 3.16
/// `scrape.isSeriesPartOfFamily`). A counter's or info's family may itself be named with the suffix.
pub fn belongs_to_family(name: &str, family: &str, metric_type: MetricType) -> bool {
    if !name.starts_with(family) {
        return false;
    }
    let without = |text: &'_ str| -> usize {
        suffixes(metric_type)
            .iter()
            .find(|s| text.ends_with(**s))
            .map_or(text.len(), |s| text.len() - s.len())
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
        .filter_map(|suffix| name.strip_suffix(suffix))
        .find(|family| type_of(family).is_some_and(|of| belongs_to_family(name, family, of)))
}
