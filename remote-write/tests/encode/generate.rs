//! Any scrape under any profile, and what a receiver has to see of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::{Received, ReceivedExemplar, Value, expected_histogram, pairs, wire_type};
use promferry_model::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Exemplar, ExemplarView, Histogram, Labels, LabelsBuilder,
    MetadataView, MetricType, ResetHint, STALE_NAN_BITS, Sample, SeriesContext, SeriesView, Span, Stage,
    Timestamp, Verdict,
};
use promferry_remote_write::Protocol;
use promferry_remote_write::encode::{EncodedScrape, Profile, TargetEncoder};
use proptest::prelude::*;

/// A write relabelling: what the real one can do to a label set, without its rules.
#[derive(Clone, Debug)]
pub(crate) enum Relabel {
    DropWith(String),
    Set(String, String),
    Remove(String),
}

impl Stage for Relabel {
    fn name(&self) -> &str {
        "relabel"
    }

    fn apply(&self, labels: &mut LabelsBuilder, _: &SeriesContext<'_>) -> Verdict {
        match self {
            Self::DropWith(value) if labels.as_slice().iter().any(|label| label.value == *value) => {
                return Verdict::Drop;
            }
            Self::DropWith(_) => {}
            Self::Set(name, value) => labels.set(name.as_str(), value.as_str()),
            Self::Remove(name) => labels.remove(name),
        }
        Verdict::Keep
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ProfileSpec {
    pub(crate) external: Labels,
    pub(crate) relabel: Vec<Relabel>,
    pub(crate) v2: bool,
    pub(crate) exemplars: bool,
    pub(crate) histograms: bool,
}

impl ProfileSpec {
    pub(crate) fn profile(&self) -> Arc<Profile> {
        Arc::new(Profile {
            external_labels: self.external.clone(),
            write_relabel: self
                .relabel
                .iter()
                .map(|stage| Arc::new(stage.clone()) as Arc<dyn Stage>)
                .collect(),
            protocol: if self.v2 { Protocol::V2 } else { Protocol::V1 },
            send_exemplars: self.exemplars,
            send_native_histograms: self.histograms,
        })
    }

    /// The labels that leave, by the rules of the configuration and nothing else.
    pub(crate) fn labels(&self, labels: &Labels) -> Option<Vec<(String, String)>> {
        let mut builder = LabelsBuilder::from(labels);
        for external in &self.external {
            if !builder.has(&external.name) {
                builder.set(external.name.clone(), external.value.clone());
            }
        }
        let context = SeriesContext { target: &[], metadata: MetadataView::default() };
        let kept = self.relabel.iter().all(|stage| stage.apply(&mut builder, &context) == Verdict::Keep);
        (kept && !builder.as_slice().is_empty()).then(|| pairs(builder.as_slice()))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) series: usize,
    pub(crate) timestamp: i64,
    pub(crate) start: Option<i64>,
    pub(crate) value: PointValue,
    pub(crate) exemplars: Vec<Exemplar>,
}

#[derive(Clone, Debug)]
pub(crate) enum PointValue {
    Float(u64),
    Histogram(Histogram),
}

pub(crate) const NAMES: [&str; 7] = ["__name__", "a", "instance", "job", "le", "zone", "été.x"];
pub(crate) const VALUES: [&str; 8] =
    ["0", "1", "help text", "http_requests_total", "10.0.0.1:80", "été", "seconds", "x"];

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(&VALUES[..]).prop_map(str::to_owned),
        1 => "[a-z]{100,200}",
        1 => "\\PC{1,3}",
    ]
}

pub(crate) fn labels(names: &'static [&'static str]) -> impl Strategy<Value = Labels> {
    prop::collection::vec((prop::sample::select(names), text()), 0..6).prop_map(Labels::from_pairs)
}

pub(crate) fn relabel() -> impl Strategy<Value = Relabel> {
    let name = || prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
    prop_oneof![
        text().prop_map(Relabel::DropWith),
        (name(), text()).prop_map(|(name, value)| Relabel::Set(name, value)),
        name().prop_map(Relabel::Remove),
    ]
}

pub(crate) fn profile() -> impl Strategy<Value = ProfileSpec> {
    (labels(&NAMES), prop::collection::vec(relabel(), 0..3), any::<[bool; 3]>()).prop_map(
        |(external, relabel, [v2, exemplars, histograms])| ProfileSpec {
            external,
            relabel,
            v2,
            exemplars,
            histograms,
        },
    )
}

pub(crate) fn float() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(STALE_NAN_BITS),
        Just(0f64.to_bits()),
        Just((-0f64).to_bits()),
        Just(f64::NEG_INFINITY.to_bits()),
        any::<u64>(),
        any::<i32>().prop_map(|n| f64::from(n).to_bits()),
    ]
}

pub(crate) fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 1_700_000_000_000i64..1_700_000_900_000, 1 => Just(0), 1 => any::<i64>()]
}

pub(crate) fn histogram() -> impl Strategy<Value = Histogram> {
    // A NaN would make the comparison fail, not the encoding: bits are compared for samples.
    let number = || (-1e300f64..1e300).boxed();
    let span = (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Span { offset, length });
    let spans = || prop::collection::vec(span.clone(), 0..4);
    let integer = (
        any::<u64>(),
        any::<u64>(),
        prop::collection::vec(any::<i64>(), 0..40),
        prop::collection::vec(any::<i64>(), 0..3),
    )
        .prop_map(|(count, zero_count, positive, negative)| BucketCounts::Integer {
            count,
            zero_count,
            positive,
            negative,
        });
    let floats =
        (number(), number(), prop::collection::vec(number(), 0..20), prop::collection::vec(number(), 0..3))
            .prop_map(|(count, zero_count, positive, negative)| BucketCounts::Float {
                count,
                zero_count,
                positive,
                negative,
            });
    (
        prop_oneof![Just(CUSTOM_BUCKETS_SCHEMA), -4..=8],
        (number(), number()),
        prop_oneof![integer, floats],
        (spans(), spans()),
        prop::collection::vec(number(), 0..5),
        prop::sample::select(vec![ResetHint::Unknown, ResetHint::Yes, ResetHint::No, ResetHint::Gauge]),
    )
        .prop_map(
            |(
                schema,
                (zero_threshold, sum),
                counts,
                (positive_spans, negative_spans),
                custom_values,
                reset_hint,
            )| {
                Histogram {
                    schema,
                    zero_threshold,
                    sum,
                    counts,
                    positive_spans,
                    negative_spans,
                    custom_values,
                    reset_hint,
                }
            },
        )
}

pub(crate) fn exemplar() -> impl Strategy<Value = Exemplar> {
    (labels(&["span_id", "trace_id"]), float(), timestamp()).prop_map(|(labels, value, timestamp)| Exemplar {
        labels,
        value: f64::from_bits(value),
        timestamp: Timestamp::from_millis(timestamp),
    })
}

pub(crate) fn point() -> impl Strategy<Value = Point> {
    (
        any::<prop::sample::Index>(),
        timestamp(),
        prop::option::weighted(0.3, timestamp()),
        prop_oneof![4 => float().prop_map(PointValue::Float), 1 => histogram().prop_map(PointValue::Histogram)],
        prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(exemplar(), 1..3)],
    )
        .prop_map(|(series, timestamp, start, value, exemplars)| Point {
            series: series.index(1 << 16),
            timestamp,
            start,
            value,
            exemplars,
        })
}

pub(crate) fn metadata() -> impl Strategy<Value = (String, MetricType, String, String)> {
    let types = vec![MetricType::Unknown, MetricType::Counter, MetricType::Histogram, MetricType::StateSet];
    (
        prop::sample::select(vec!["", "http_requests", "f"]).prop_map(str::to_owned),
        prop::sample::select(types),
        prop_oneof![Just(String::new()), text()],
        prop_oneof![Just(String::new()), text()],
    )
}

pub(crate) type SeriesSpec = (Labels, (String, MetricType, String, String));

pub(crate) fn view(spec: &SeriesSpec) -> SeriesView<'_> {
    let (labels, (family, metric_type, unit, help)) = spec;
    SeriesView { labels, metadata: MetadataView { family, metric_type: *metric_type, unit, help } }
}

/// The labels under which `profile` sends a series: none when an earlier one leaves under them already.
pub(crate) fn sent_as(
    profile: &ProfileSpec,
    series: &[SeriesSpec],
    labels: &Labels,
) -> Option<Vec<(String, String)>> {
    let sent = profile.labels(labels)?;
    let first = series.iter().find(|(other, _)| profile.labels(other).as_ref() == Some(&sent))?;
    (first.0 == *labels).then_some(sent)
}

/// What a receiver has to see of `points` under `profile`.
pub(crate) fn expected(profile: &ProfileSpec, series: &[SeriesSpec], points: &[Point]) -> Vec<Received> {
    // A family has one metadata: what was told last.
    let families: BTreeMap<_, _> = series
        .iter()
        .filter(|s| view(s).metadata != MetadataView::default())
        .map(|s| (&s.1.0, &s.1))
        .collect();
    let mut expected = Vec::new();
    for point in points {
        let labels = &series[point.series % series.len()].0;
        // Of series that are one by their labels, the metadata that was told last.
        let Some(spec) = series.iter().rfind(|spec| spec.0 == *labels) else { continue };
        let Some(labels) = sent_as(profile, series, labels) else { continue };
        let start =
            if profile.v2 { point.start.map_or(0, |start| if start == 0 { 1 } else { start }) } else { 0 };
        let value = match &point.value {
            PointValue::Float(bits) => Value::Sample(*bits, point.timestamp, start),
            PointValue::Histogram(histogram) => {
                if !profile.histograms || (!profile.v2 && histogram.schema == CUSTOM_BUCKETS_SCHEMA) {
                    continue;
                }
                Value::Histogram(Box::new(expected_histogram(histogram, point.timestamp, start)))
            }
        };
        let exemplars = point.exemplars.iter().filter(|_| profile.exemplars).map(|e| ReceivedExemplar {
            labels: pairs(&e.labels),
            bits: e.value.to_bits(),
            timestamp: e.timestamp.as_millis(),
        });
        let metadata = (profile.v2 && view(spec).metadata != MetadataView::default()).then(|| {
            let (_, metric_type, unit, help) = families[&spec.1.0];
            (wire_type(*metric_type), help.clone(), unit.clone())
        });
        expected.push(Received { labels, value, exemplars: exemplars.collect(), metadata });
    }
    expected
}

pub(crate) fn write(encoder: &mut TargetEncoder, series: &[SeriesSpec], points: &[Point]) -> EncodedScrape {
    let ids: Vec<_> = series.iter().map(|spec| encoder.admit(&view(spec)).unwrap()).collect();
    encoder.begin();
    for point in points {
        let id = ids[point.series % ids.len()];
        let (timestamp, start) =
            (Timestamp::from_millis(point.timestamp), point.start.map(Timestamp::from_millis));
        match &point.value {
            PointValue::Float(bits) => {
                encoder.sample(id, Sample { timestamp, value: f64::from_bits(*bits), start });
            }
            PointValue::Histogram(histogram) => encoder.histogram(id, timestamp, start, histogram),
        }
        for Exemplar { labels, value, timestamp } in &point.exemplars {
            encoder.exemplar(&ExemplarView { labels, value: *value, timestamp: *timestamp });
        }
    }
    encoder.finish().unwrap()
}
