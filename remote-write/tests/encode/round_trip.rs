//! What the encoder writes is what a receiver's generated types read, for any scrape and any profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::{
    Received, ReceivedExemplar, Value, expected_histogram, pairs, receive_all, target, wire_type,
};
use promferry_model::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Exemplar, ExemplarView, Histogram, Labels, LabelsBuilder,
    MemoryBudget, MetadataView, MetricType, ResetHint, STALE_NAN_BITS, Sample, SeriesContext, SeriesView,
    Span, Stage, Timestamp, Verdict,
};
use promferry_remote_write::encode::{EncodedScrape, EncodingContext, Profile, Profiles, TargetEncoder};
use promferry_remote_write::{Compression, Lane, Protocol};
use proptest::prelude::*;

/// A write relabelling: what the real one can do to a label set, without its rules.
#[derive(Clone, Debug)]
enum Relabel {
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
struct ProfileSpec {
    external: Labels,
    relabel: Vec<Relabel>,
    v2: bool,
    exemplars: bool,
    histograms: bool,
}

impl ProfileSpec {
    fn profile(&self) -> Arc<Profile> {
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
    fn labels(&self, labels: &Labels) -> Option<Vec<(String, String)>> {
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
struct Point {
    series: usize,
    timestamp: i64,
    start: Option<i64>,
    value: PointValue,
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, Debug)]
enum PointValue {
    Float(u64),
    Histogram(Histogram),
}

const NAMES: [&str; 7] = ["__name__", "a", "instance", "job", "le", "zone", "été.x"];
const VALUES: [&str; 8] =
    ["0", "1", "help text", "http_requests_total", "10.0.0.1:80", "été", "seconds", "x"];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(&VALUES[..]).prop_map(str::to_owned),
        1 => "[a-z]{100,200}",
        1 => "\\PC{1,3}",
    ]
}

fn labels(names: &'static [&'static str]) -> impl Strategy<Value = Labels> {
    prop::collection::vec((prop::sample::select(names), text()), 0..6).prop_map(Labels::from_pairs)
}

fn relabel() -> impl Strategy<Value = Relabel> {
    let name = || prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
    prop_oneof![
        text().prop_map(Relabel::DropWith),
        (name(), text()).prop_map(|(name, value)| Relabel::Set(name, value)),
        name().prop_map(Relabel::Remove),
    ]
}

fn profile() -> impl Strategy<Value = ProfileSpec> {
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

fn float() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(STALE_NAN_BITS),
        Just(0f64.to_bits()),
        Just((-0f64).to_bits()),
        Just(f64::NEG_INFINITY.to_bits()),
        any::<u64>(),
        any::<i32>().prop_map(|n| f64::from(n).to_bits()),
    ]
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 1_700_000_000_000i64..1_700_000_900_000, 1 => Just(0), 1 => any::<i64>()]
}

fn histogram() -> impl Strategy<Value = Histogram> {
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

fn exemplar() -> impl Strategy<Value = Exemplar> {
    (labels(&["span_id", "trace_id"]), float(), timestamp()).prop_map(|(labels, value, timestamp)| Exemplar {
        labels,
        value: f64::from_bits(value),
        timestamp: Timestamp::from_millis(timestamp),
    })
}

fn point() -> impl Strategy<Value = Point> {
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

fn metadata() -> impl Strategy<Value = (String, MetricType, String, String)> {
    let types = vec![MetricType::Unknown, MetricType::Counter, MetricType::Histogram, MetricType::StateSet];
    (
        prop::sample::select(vec!["", "http_requests", "f"]).prop_map(str::to_owned),
        prop::sample::select(types),
        prop_oneof![Just(String::new()), text()],
        prop_oneof![Just(String::new()), text()],
    )
}

type SeriesSpec = (Labels, (String, MetricType, String, String));

fn view(spec: &SeriesSpec) -> SeriesView<'_> {
    let (labels, (family, metric_type, unit, help)) = spec;
    SeriesView { labels, metadata: MetadataView { family, metric_type: *metric_type, unit, help } }
}

/// The labels under which `profile` sends a series: none when an earlier one leaves under them already.
fn sent_as(profile: &ProfileSpec, series: &[SeriesSpec], labels: &Labels) -> Option<Vec<(String, String)>> {
    let sent = profile.labels(labels)?;
    let first = series.iter().find(|(other, _)| profile.labels(other).as_ref() == Some(&sent))?;
    (first.0 == *labels).then_some(sent)
}

/// What a receiver has to see of `points` under `profile`.
fn expected(profile: &ProfileSpec, series: &[SeriesSpec], points: &[Point]) -> Vec<Received> {
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

fn write(encoder: &mut TargetEncoder, series: &[SeriesSpec], points: &[Point]) -> EncodedScrape {
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

/// The values of each series in their order. Only that order is promised.
fn by_series(received: Vec<Received>) -> BTreeMap<Vec<(String, String)>, Vec<Received>> {
    let mut series: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for received in received {
        series.entry(received.labels.clone()).or_default().push(received);
    }
    series
}

fn check(scrape: &EncodedScrape, profiles: &[ProfileSpec], series: &[SeriesSpec], points: &[Point]) {
    assert_eq!(scrape.profiles.len(), profiles.len());
    let mut bytes = 0;
    for (encoded, profile) in scrape.profiles.iter().zip(profiles) {
        let expected = by_series(expected(profile, series, points));
        let received = by_series(receive_all(&encoded.fragments));
        assert_eq!(received, expected);
        let left_out = points.iter().filter(|point| {
            !profile.v2
                && profile.histograms
                && matches!(&point.value, PointValue::Histogram(h) if h.schema == CUSTOM_BUCKETS_SCHEMA)
                && sent_as(profile, series, &series[point.series % series.len()].0).is_some()
        });
        assert_eq!(encoded.nhcb_in_rw1_not_supported, left_out.count() as u64);
        let duplicates = points.iter().filter(|point| {
            let labels = &series[point.series % series.len()].0;
            (profile.histograms || matches!(&point.value, PointValue::Float(_)))
                && profile.labels(labels).is_some()
                && sent_as(profile, series, labels).is_none()
        });
        assert_eq!(encoded.duplicate_series.values(), duplicates.count() as u64);
        for fragment in &encoded.fragments {
            bytes += fragment.body.len();
            assert!(fragment.counts.values() <= 500);
            assert_eq!(fragment.compression == Compression::Snappy, fragment.raw_len >= 16 * 1024);
        }
    }
    assert_eq!(scrape.reservation.bytes(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn receivers_read_what_was_written(
        series in prop::collection::vec((labels(&NAMES), metadata()), 1..12),
        profiles in prop::collection::vec(profile(), 1..4),
        scrapes in prop::collection::vec(prop::collection::vec(point(), 0..30), 1..4),
    ) {
        let list = profiles.iter().map(ProfileSpec::profile).collect();
        let context = EncodingContext::new(MemoryBudget::unlimited(), 7);
        let target = target("api", "10.0.0.1:80");
        let mut encoder = TargetEncoder::new(&target, Arc::new(Profiles::new(1, list)), context);
        for points in &scrapes {
            let scrape = write(&mut encoder, &series, points);
            check(&scrape, &profiles, &series, points);
            let lane = Lane::of_hash(target.labels.stable_hash());
            prop_assert!(scrape.profiles.iter().flat_map(|p| &p.fragments).all(|f| f.lane == lane));
        }
    }

    #[test]
    fn changed_profiles_apply_to_series_that_are_known(
        series in prop::collection::vec((labels(&NAMES), metadata()), 1..8),
        before in prop::collection::vec(profile(), 0..3),
        after in prop::collection::vec(profile(), 1..3),
        kept in any::<bool>(),
        points in prop::collection::vec(point(), 1..20),
    ) {
        let mut old: Vec<_> = before.iter().map(ProfileSpec::profile).collect();
        let context = EncodingContext::new(MemoryBudget::unlimited(), 7);
        let profiles = Arc::new(Profiles::new(1, old.clone()));
        let mut encoder = TargetEncoder::new(&target("api", "10.0.0.1:80"), profiles, context);
        write(&mut encoder, &series, &points);

        let (mut specs, mut new) = (after.clone(), after.iter().map(ProfileSpec::profile).collect::<Vec<_>>());
        if kept && !old.is_empty() {
            new.insert(0, old.swap_remove(0));
            specs.insert(0, before[0].clone());
        }
        let ids: Vec<_> = series.iter().map(|spec| encoder.admit(&view(spec)).unwrap()).collect();
        encoder.set_profiles(Arc::new(Profiles::new(2, new)));
        let again: Vec<_> = series.iter().map(|spec| encoder.admit(&view(spec)).unwrap()).collect();
        prop_assert_eq!(ids, again);
        check(&write(&mut encoder, &series, &points), &specs, &series, &points);
    }
}

#[test]
fn an_exemplar_belongs_to_the_value_before_it_and_to_nothing_else() {
    let drops = ProfileSpec {
        external: Labels::default(),
        relabel: vec![Relabel::DropWith("dropped".into())],
        v2: false,
        exemplars: true,
        histograms: false,
    };
    let context = EncodingContext::new(MemoryBudget::unlimited(), 7);
    let profiles = Arc::new(Profiles::new(1, vec![drops.profile()]));
    let mut encoder = TargetEncoder::new(&target("api", "a:1"), profiles, context);
    let mut admit = |name: &str| {
        let labels = Labels::from_pairs([("__name__", name)]);
        encoder.admit(&SeriesView { labels: &labels, metadata: MetadataView::default() }).unwrap()
    };
    let (kept, dropped) = (admit("kept"), admit("dropped"));
    let at = Timestamp::from_millis(5);
    let trace = Labels::from_pairs([("trace_id", "abc")]);
    let exemplar = ExemplarView { labels: &trace, value: 1.0, timestamp: at };
    encoder.begin();
    encoder.exemplar(&exemplar);
    encoder.sample(kept, Sample::new(at, 1.0));
    encoder.sample(dropped, Sample::new(at, 2.0));
    encoder.exemplar(&exemplar);
    encoder.sample(kept, Sample::new(at, 3.0));
    encoder.histogram(kept, at, None, &Histogram::stale());
    encoder.exemplar(&exemplar);
    let scrape = encoder.finish().unwrap();
    let received = receive_all(&scrape.profiles[0].fragments);
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|series| series.exemplars.is_empty()), "{received:?}");
}
