//! The cold path's steps that belong to scraping: target labels, names, limits.

use promferry_model::{Label, LabelsBuilder, METRIC_NAME, NameValidation, SeriesContext, Stage, Verdict};
use smol_str::{SmolStr, format_smolstr};

use crate::ScrapeConfig;

/// Puts the target's labels on a series; which side wins a conflict is decided by `honor_labels`.
///
/// Without it the page's label moves to `exported_<name>`, the prefix repeated until the name is free
/// (Prometheus 3.16 `scrape/scrape.go` `mutateSampleLabels`).
#[derive(Clone, Copy, Debug)]
pub struct TargetLabels {
    /// The page's labels win.
    pub honor_labels: bool,
}

impl Stage for TargetLabels {
    fn name(&self) -> &str {
        if self.honor_labels { "target labels (honor_labels)" } else { "target labels" }
    }

    fn apply(&self, labels: &mut LabelsBuilder, series: &SeriesContext<'_>) -> Verdict {
        if self.honor_labels {
            for Label { name, value } in series.target {
                if !labels.has(name) {
                    labels.set(name.clone(), value.clone());
                }
            }
            return Verdict::Keep;
        }
        let mut displaced: Vec<Label> = Vec::new();
        for Label { name, value } in series.target {
            let exposed = labels.get(name);
            if !exposed.is_empty() {
                displaced.push(Label { name: name.clone(), value: exposed.into() });
            }
            labels.set(name.clone(), value.clone());
        }
        // Short names first: `exported_a` may itself be a target label that was displaced.
        displaced.sort_by_key(|label| label.name.len());
        for Label { name, value } in displaced {
            let mut free = format_smolstr!("{EXPORTED_PREFIX}{name}");
            while labels.has(&free) {
                free = format_smolstr!("{EXPORTED_PREFIX}{free}");
            }
            labels.set(free, value);
        }
        Verdict::Keep
    }
}

/// Fails the scrape over a series without a name or with a name that is not valid.
#[derive(Clone, Copy, Debug)]
pub struct ValidNames(pub NameValidation);

impl Stage for ValidNames {
    fn name(&self) -> &str {
        "metric_name_validation_scheme"
    }

    fn apply(&self, labels: &mut LabelsBuilder, _series: &SeriesContext<'_>) -> Verdict {
        let metric = labels.get(METRIC_NAME);
        if metric.is_empty() {
            return Verdict::FailScrape(format!("missing metric name (__name__ label): {labels}"));
        }
        let valid = self.0.is_valid_metric_name(metric)
            && labels.as_slice().iter().all(|label| self.0.is_valid_label_name(&label.name));
        if valid {
            Verdict::Keep
        } else {
            Verdict::FailScrape(format!("invalid metric name or label names: {labels}"))
        }
    }
}

/// Fails the scrape over a series with too many or too long labels; zero is no limit. Lengths count bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelLimits {
    /// `label_limit`.
    pub labels: u64,
    /// `label_name_length_limit`.
    pub name_length: u64,
    /// `label_value_length_limit`.
    pub value_length: u64,
}

impl LabelLimits {
    /// The limits of a job.
    pub fn of(job: &ScrapeConfig) -> Self {
        Self {
            labels: job.label_limit,
            name_length: job.label_name_length_limit,
            value_length: job.label_value_length_limit,
        }
    }
}

impl Stage for LabelLimits {
    fn name(&self) -> &str {
        LABEL_LIMITS
    }

    fn apply(&self, labels: &mut LabelsBuilder, _series: &SeriesContext<'_>) -> Verdict {
        let exceeds = |count: usize, limit: u64| limit > 0 && count as u64 > limit;
        let labels = labels.as_slice();
        let metric = || {
            let name = labels.iter().find(|label| label.name == METRIC_NAME);
            shortened(name.map_or("", |label| &label.value))
        };
        if exceeds(labels.len(), self.labels) {
            return Verdict::FailScrape(format!(
                "label_limit exceeded (metric: {}, number of labels: {}, limit: {})",
                metric(),
                labels.len(),
                self.labels
            ));
        }
        for Label { name, value } in labels {
            if exceeds(name.len(), self.name_length) {
                return Verdict::FailScrape(format!(
                    "label_name_length_limit exceeded (metric: {}, label name: {}, length: {}, limit: {})",
                    metric(),
                    shortened(name),
                    name.len(),
                    self.name_length
                ));
            }
            if exceeds(value.len(), self.value_length) {
                return Verdict::FailScrape(format!(
                    "label_value_length_limit exceeded (metric: {}, label name: {}, value: {:?}, length: {}, \
                     limit: {})",
                    metric(),
                    shortened(name),
                    shortened(value),
                    value.len(),
                    self.value_length
                ));
            }
        }
        Verdict::Keep
    }
}

/// What the stage of [`LabelLimits`] is called.
pub(crate) const LABEL_LIMITS: &str = "label limits";

const EXPORTED_PREFIX: &str = "exported_";

/// Error texts show no more of a name or value than its first 50 characters.
fn shortened(text: &str) -> SmolStr {
    text.chars().take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use promferry_model::{Labels, MetadataView};

    fn applied(stage: &dyn Stage, labels: &[(&str, &str)], target: &[(&str, &str)]) -> (Verdict, String) {
        let target = Labels::from_pairs(target.iter().copied());
        let mut builder = LabelsBuilder::from(&Labels::from_pairs(labels.iter().copied()));
        let context = SeriesContext { target: &target, metadata: MetadataView::default() };
        (stage.apply(&mut builder, &context), builder.to_string())
    }

    #[test]
    fn conflicts_of_labels() {
        type Pairs = &'static [(&'static str, &'static str)];
        let table: [(bool, Pairs, Pairs, &str); 7] = [
            (false, &[("a", "1")], &[("job", "j")], r#"{a="1", job="j"}"#),
            (false, &[("job", "page")], &[("job", "j")], r#"{exported_job="page", job="j"}"#),
            (true, &[("job", "page")], &[("job", "j"), ("x", "y")], r#"{job="page", x="y"}"#),
            (
                false,
                &[("job", "page"), ("exported_job", "older")],
                &[("job", "j")],
                r#"{exported_exported_job="page", exported_job="older", job="j"}"#,
            ),
            // Prometheus 3.16 scrape_test.go, "multiple conflicting labels".
            (
                false,
                &[("foo", "a"), ("exported_foo", "b")],
                &[("foo", "t1"), ("exported_foo", "t2")],
                r#"{exported_exported_exported_foo="b", exported_exported_foo="a", exported_foo="t2", foo="t1"}"#,
            ),
            (false, &[], &[("job", "j")], r#"{job="j"}"#),
            (true, &[("exported_job", "e")], &[("job", "j")], r#"{exported_job="e", job="j"}"#),
        ];
        for (honor_labels, labels, target, expected) in table {
            let (verdict, result) = applied(&TargetLabels { honor_labels }, labels, target);
            assert_eq!((verdict, result.as_str()), (Verdict::Keep, expected));
        }
    }

    #[test]
    fn names_have_to_be_valid() {
        let legacy = ValidNames(NameValidation::Legacy);
        let utf8 = ValidNames(NameValidation::Utf8);
        for (stage, labels, kept) in [
            (utf8, &[("__name__", "a.b")][..], true),
            (legacy, &[("__name__", "a.b")], false),
            (legacy, &[("__name__", "a"), ("x.y", "1")], false),
            (legacy, &[("__name__", "a:b"), ("x_y", "1")], true),
            (utf8, &[("a", "1")], false),
        ] {
            assert_eq!(applied(&stage, labels, &[]).0 == Verdict::Keep, kept, "{labels:?}");
        }
    }

    #[test]
    fn limits_count_what_they_say() {
        let labels = [("__name__", "metric"), ("label_one", "value")];
        for (limits, error) in [
            (LabelLimits { labels: 2, name_length: 9, value_length: 6 }, None),
            (LabelLimits { labels: 1, ..Default::default() }, Some("number of labels: 2, limit: 1")),
            (LabelLimits { name_length: 8, ..Default::default() }, Some("label name: label_one, length: 9")),
            (LabelLimits { value_length: 5, ..Default::default() }, Some("value: \"metric\", length: 6")),
        ] {
            match (applied(&limits, &labels, &[]).0, error) {
                (Verdict::Keep, None) => {}
                (Verdict::FailScrape(reason), Some(part)) => assert!(reason.contains(part), "{reason}"),
                other => panic!("{limits:?}: {other:?}"),
            }
        }
    }
}
