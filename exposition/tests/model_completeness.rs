//! Nothing that the parser gives is lost or changed on the way into families: every sample of every page of the corpus
//! is in them, and no other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/corpus.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod corpus;

use std::collections::HashSet;

use corpus::{Case, cases};
use promferry_exposition::{
    Event, Exemplar, Exemplars, Format, LabelBuffer, Metric, MetricFamily, ParseError, Parser, PointValue,
    ReadError, go_float, read_families,
};
use promferry_model::{MetricType, Timestamp};

/// What a page says, in no order: its samples, and values and times of its exemplars.
#[derive(Debug, Default, PartialEq)]
struct Said {
    samples: Vec<String>,
    exemplars: Vec<String>,
    /// Whether a series or an exemplar has a label twice.
    repeats_a_label: bool,
}

impl Said {
    fn sample(&mut self, labels: Vec<(String, String)>, value: &str, at: Option<Timestamp>) {
        let names: HashSet<&String> = labels.iter().map(|(name, _)| name).collect();
        self.repeats_a_label |= names.len() < labels.len();
        let mut labels: Vec<_> = labels
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| match (name.as_str(), go_float::parse(value.as_bytes())) {
                // The text of a bound is a number in the families.
                ("le" | "quantile", Ok(bound)) => (name, bits(bound)),
                _ => (name, value),
            })
            .collect();
        labels.sort_unstable();
        self.samples.push(format!("{labels:?} {value} {at:?}"));
    }

    fn exemplar(&mut self, value: f64, at: Option<Timestamp>) {
        self.exemplars.push(format!("{} {at:?}", bits(value)));
    }

    fn sorted(mut self) -> Self {
        self.samples.sort_unstable();
        self.exemplars.sort_unstable();
        self
    }
}

fn bits(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

fn said_by_events(case: &Case) -> Result<Said, ParseError> {
    let mut said = Said::default();
    let mut labels = LabelBuffer::new();
    let mut parser = Parser::new(case.format, &case.page, case.options);
    while let Some(event) = parser.next()? {
        match event {
            Event::Series(series) => {
                series.labels(&mut labels)?;
                said.sample(owned(&labels), &bits(series.value()), series.timestamp());
                exemplars_of(series.exemplars(), &mut said);
            }
            Event::Histogram(event) => {
                event.labels(&mut labels)?;
                said.sample(owned(&labels), &format!("{:?}", event.histogram()), event.timestamp());
                exemplars_of(event.exemplars(), &mut said);
            }
            _ => {}
        }
    }
    Ok(said.sorted())
}

fn exemplars_of(mut exemplars: Exemplars<'_>, said: &mut Said) {
    let mut labels = LabelBuffer::new();
    while let Some(exemplar) = exemplars.next(&mut labels) {
        let names: HashSet<&str> = labels.iter().map(|(name, _)| name).collect();
        said.repeats_a_label |= names.len() < labels.len();
        said.exemplar(exemplar.value, exemplar.timestamp);
    }
}

fn owned(labels: &LabelBuffer) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn said_by_families(format: Format, families: &[MetricFamily]) -> Said {
    let mut said = Said::default();
    for family in families {
        for metric in &family.metrics {
            said_of_metric(format, family, metric, &mut said);
        }
    }
    said.sorted()
}

fn said_of_metric(format: Format, family: &MetricFamily, metric: &Metric, said: &mut Said) {
    let labels = |suffix: &str, bound: Option<(&str, f64)>| {
        let mut labels = vec![("__name__".to_owned(), format!("{}{suffix}", family.name))];
        labels.extend(metric.labels.iter().map(|label| (label.name.to_string(), label.value.to_string())));
        labels.extend(bound.map(|(name, bound)| (name.to_owned(), go_float::format(bound))));
        labels
    };
    let (count, sum) = match family.metric_type {
        MetricType::GaugeHistogram if format != Format::Protobuf => ("_gcount", "_gsum"),
        _ => ("_count", "_sum"),
    };
    let suffix = match family.metric_type {
        MetricType::Counter if family.suffixed => "_total",
        MetricType::Info if family.suffixed => "_info",
        _ => "",
    };
    for point in &metric.points {
        let at = point.timestamp;
        let mut exemplars: Vec<&Exemplar> = point.exemplars.iter().collect();
        let is_of_type = match family.metric_type {
            MetricType::Histogram | MetricType::GaugeHistogram => {
                matches!(point.value, PointValue::Histogram(_))
            }
            MetricType::Summary => matches!(point.value, PointValue::Summary(_)),
            _ => matches!(point.value, PointValue::Number(_)),
        };
        assert!(is_of_type, "{family:?}");
        let (counted, summed) = match &point.value {
            PointValue::Number(value) => {
                said.sample(labels(suffix, None), &bits(*value), at);
                (None, None)
            }
            PointValue::Summary(summary) => {
                for quantile in &summary.quantiles {
                    let labels = labels("", Some(("quantile", quantile.quantile)));
                    said.sample(labels, &bits(quantile.value), at);
                }
                (summary.count, summary.sum)
            }
            PointValue::Histogram(histogram) => {
                if let Some(native) = &histogram.native {
                    said.sample(labels("", None), &format!("{native:?}"), at);
                }
                for bucket in &histogram.buckets {
                    let labels = labels("_bucket", Some(("le", bucket.upper_bound)));
                    said.sample(labels, &bits(bucket.cumulative_count), at);
                    exemplars.extend(bucket.exemplar.as_deref());
                }
                (histogram.count, histogram.sum)
            }
            other => panic!("{other:?}"),
        };
        if let Some(counted) = counted {
            said.sample(labels(count, None), &bits(counted), at);
        }
        if let Some(summed) = summed {
            said.sample(labels(sum, None), &bits(summed), at);
        }
        exemplars.iter().for_each(|exemplar| said.exemplar(exemplar.value, exemplar.timestamp));
    }
}

#[test]
fn every_sample_of_every_page_is_in_the_families() {
    let mut accepted = 0;
    let with_other_options = |case: Case| {
        let mut all = case.options;
        all.native_histograms = true;
        all.always_classic_histograms = true;
        let mut custom = all;
        custom.convert_classic_to_custom_buckets = true;
        custom.type_and_unit_labels = true;
        [case.options, all, custom].map(|options| Case {
            options,
            page: case.page.clone(),
            name: case.name.clone(),
            ..case
        })
    };
    // Of mutated and random pages every tenth is enough to take seconds.
    let some = cases().into_iter().enumerate().filter(|(number, case)| !case.digest || number % 10 == 0);
    for case in some.flat_map(|(_, case)| with_other_options(case)) {
        let told = || format!("{}: {}", case.name, String::from_utf8_lossy(&case.page));
        match (said_by_events(&case), read_families(case.format, &case.page, case.options)) {
            (Ok(events), Ok(families)) => {
                assert!(!events.repeats_a_label, "{}", told());
                assert_eq!(said_by_families(case.format, &families), events, "{}", told());
                accepted += usize::from(!events.samples.is_empty());
            }
            (Ok(events), Err(ReadError::RepeatedLabel { .. })) => {
                assert!(events.repeats_a_label, "{}", told());
            }
            (Err(events), Err(ReadError::Parse(families))) => assert_eq!(families, events, "{}", told()),
            // Of a page that is refused further down a label may be found twice before.
            (Err(_), Err(ReadError::RepeatedLabel { .. })) => {}
            (events, families) => panic!("{}: {events:?}, {families:?}", told()),
        }
    }
    assert!(accepted > 1_000, "{accepted} pages");
}
