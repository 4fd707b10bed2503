//! Families of every type, most of them fit for every format and all of them with a chance of something hostile.

use promferry_exposition::{
    Bucket, Exemplar, HistogramValue, Metric, MetricFamily, MetricPoint, PointValue, Quantile, SummaryValue,
};
use promferry_model::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Histogram, Labels, MetricType, ResetHint, Span, Timestamp,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const TYPES: [MetricType; 8] = [
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::GaugeHistogram,
    MetricType::Histogram,
    MetricType::Info,
    MetricType::StateSet,
    MetricType::Summary,
    MetricType::Unknown,
];

const NAME_PIECES: [&str; 27] = [
    "\0",
    "a",
    "requests",
    "_",
    "_total",
    "_info",
    "_bucket",
    "_count",
    "_sum",
    "_created",
    "_seconds",
    ".",
    " ",
    "\"",
    "\\",
    "\n",
    "\t",
    "\r",
    "\u{7f}",
    "é",
    "😀",
    "{",
    "}",
    "#",
    ":",
    "7",
    "a_name_of_some_length_",
];
const TEXTS: [&str; 20] = [
    "\0", "\r", "b", "200", "", "a b", "\"", "\\", "\\n", "\n", "{}", "#", ",", "=", "é", "\u{1}", "\u{85}",
    "\u{2028}", "😀", " ",
];
const NUMBERS: [f64; 22] = [
    0.0,
    1.0,
    2.5,
    0.1,
    1e-5,
    1e6,
    123_456.75,
    9_007_199_254_740_993.0,
    1e21,
    1e308,
    5e-324,
    2.2e-308,
    f64::INFINITY,
    -0.0,
    -1.0,
    -2.5e-7,
    -1e22,
    f64::NEG_INFINITY,
    f64::NAN,
    f64::from_bits(0x7ff8_0000_0000_0001),
    f64::from_bits(0x7ff0_0000_0000_0002),
    f64::from_bits(0xfff8_0000_0000_0123),
];

/// Families of which no two have anything to do with each other.
pub(crate) fn families() -> impl Strategy<Value = Vec<MetricFamily>> {
    vec(family(), 1..4).prop_map(|mut families| {
        for (at, family) in families.iter_mut().enumerate() {
            let own = format!("n{at}{}", family.name);
            if family.metric_type == MetricType::StateSet {
                name_states(family, &own);
            }
            family.name = own;
        }
        families
    })
}

/// A state's own label has the family's name, and its metrics differ by nothing else.
fn name_states(family: &mut MetricFamily, name: &str) {
    for (at, metric) in family.metrics.iter_mut().enumerate() {
        metric.labels = Labels::from_pairs([(name.to_owned(), format!("state {at}"))]);
    }
}

fn family() -> impl Strategy<Value = MetricFamily> {
    (select(&TYPES[..]), any::<bool>()).prop_flat_map(|(metric_type, suffixed)| {
        let suffixed = suffixed && matches!(metric_type, MetricType::Counter | MetricType::Info);
        (name(), unit(), text(), vec(metric(metric_type), 0..4)).prop_map(
            move |(name, unit, help, metrics)| {
                let has_unit = !unit.is_empty() && metric_type != MetricType::Info;
                let name = if has_unit { format!("{name}_{unit}") } else { name };
                let mut family = MetricFamily { name, metric_type, suffixed, unit, help, metrics };
                tell_metrics_apart(&mut family);
                family
            },
        )
    })
}

fn tell_metrics_apart(family: &mut MetricFamily) {
    for (at, metric) in family.metrics.iter_mut().enumerate() {
        let pairs = metric.labels.iter().map(|label| (label.name.to_string(), label.value.to_string()));
        metric.labels = Labels::from_pairs(pairs.chain([("n".to_owned(), at.to_string())]));
    }
}

fn name() -> impl Strategy<Value = String> {
    vec(select(&NAME_PIECES[..]), 0..4).prop_map(|pieces| pieces.concat())
}

fn unit() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(""), 2 => Just("seconds"), 1 => Just("a b"), 1 => Just("x\"y")]
        .prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => vec(select(&TEXTS[..]), 0..4).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    let name = prop_oneof![
        12 => (1..4_usize).prop_map(|number| format!("l{number}")),
        4 => name().prop_map(|name| format!("x{name}")),
        1 => select(&["le", "quantile", "__name__", "a:b", "7"][..]).prop_map(str::to_owned),
    ];
    vec((name, text()), 0..3).prop_map(Labels::from_pairs)
}

fn metric(metric_type: MetricType) -> impl Strategy<Value = Metric> {
    let points = prop_oneof![
        5 => vec(point(metric_type), 1..2),
        3 => vec(point(metric_type), 0..4).prop_map(|mut points| {
            for (at, point) in points.iter_mut().enumerate() {
                let later = 1_700_000_000_123 + at as i64 * 1_001;
                point.timestamp = Some(point.timestamp.unwrap_or_else(|| Timestamp::from_millis(later)));
            }
            points.sort_by_key(|point| point.timestamp);
            points.dedup_by_key(|point| point.timestamp);
            points
        }),
        1 => vec(point(metric_type), 0..4),
    ];
    (labels(), points).prop_map(|(labels, points)| Metric { labels, points })
}

fn point(metric_type: MetricType) -> impl Strategy<Value = MetricPoint> {
    let value = match metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram => histogram().prop_map(PointValue::from).boxed(),
        MetricType::Summary => summary().prop_map(PointValue::from).boxed(),
        MetricType::Info | MetricType::StateSet => {
            prop_oneof![9 => Just(1.0), 1 => number()].prop_map(PointValue::Number).boxed()
        }
        MetricType::Counter => {
            prop_oneof![9 => number().prop_map(f64::abs), 1 => number()].prop_map(PointValue::Number).boxed()
        }
        _ => number().prop_map(PointValue::Number).boxed(),
    };
    (value, option::of(time()), option::of(time()), vec(exemplar(), 0..3))
        .prop_map(|(value, timestamp, start, exemplars)| MetricPoint { value, timestamp, start, exemplars })
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![3 => select(&NUMBERS[..]), 1 => any::<f64>(), 1 => (0..1000_u32).prop_map(f64::from)]
}

fn count() -> impl Strategy<Value = f64> {
    prop_oneof![20 => (0..1_000_u32).prop_map(f64::from), 1 => number()]
}

fn time() -> impl Strategy<Value = Timestamp> {
    let millis = prop_oneof![
        8 => 1_600_000_000_000..1_900_000_000_000_i64,
        2 => 0..100_000_i64,
        1 => -100_000..0_i64,
        1 => select(&[0, 1, 1 << 51, 1 << 53, -(1 << 53), 253_402_300_799_999][..]),
    ];
    millis.prop_map(Timestamp::from_millis)
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    let labels = prop_oneof![
        9 => Just(Labels::from_pairs([("trace_id", "0af7651916cd43dd8448eb211c80319c")])),
        3 => labels(),
        1 => Just(Labels::from_pairs([("t", "é".repeat(128))])),
    ];
    let value = prop_oneof![3 => Just(0.0), 1 => number()];
    (labels, value, option::of(time())).prop_map(|(labels, value, timestamp)| Exemplar {
        labels,
        value,
        timestamp,
    })
}

fn summary() -> impl Strategy<Value = SummaryValue> {
    let whole = vec((0..=100_u32, prop_oneof![9 => number().prop_map(f64::abs), 1 => number()]), 0..4);
    let whole = (whole, count(), number()).prop_map(|(quantiles, count, sum)| SummaryValue {
        count: Some(count),
        sum: Some(sum.abs()),
        quantiles: quantiles
            .into_iter()
            .map(|(percent, value)| Quantile { quantile: f64::from(percent) / 100.0, value })
            .collect(),
    });
    let wild = (option::of(number()), option::of(number()), vec((number(), number()), 0..3)).prop_map(
        |(count, sum, quantiles)| SummaryValue {
            count,
            sum,
            quantiles: quantiles.into_iter().map(|(quantile, value)| Quantile { quantile, value }).collect(),
        },
    );
    prop_oneof![5 => whole, 1 => wild].prop_map(|mut summary| {
        let mut seen = std::collections::HashSet::new();
        summary.quantiles.retain(|quantile| seen.insert((quantile.quantile + 0.0).to_bits()));
        summary
    })
}

fn histogram() -> impl Strategy<Value = HistogramValue> {
    let wild = (option::of(number()), option::of(number()), vec((number(), number()), 0..4)).prop_map(
        |(count, sum, buckets)| {
            let buckets = buckets
                .into_iter()
                .map(|(upper_bound, cumulative_count)| Bucket {
                    upper_bound,
                    cumulative_count,
                    exemplar: None,
                })
                .collect();
            HistogramValue { count, sum, buckets, native: None }
        },
    );
    let both = (classic(), native(), any::<bool>()).prop_map(|(classic, native, is_both)| {
        let classic = if is_both { classic } else { HistogramValue::default() };
        HistogramValue { native: Some(Box::new(native)), ..classic }
    });
    prop_oneof![6 => classic(), 1 => wild, 2 => both].prop_map(|mut histogram| {
        let mut seen = std::collections::HashSet::new();
        histogram.buckets.retain(|bucket| seen.insert((bucket.upper_bound + 0.0).to_bits()));
        histogram
    })
}

fn classic() -> impl Strategy<Value = HistogramValue> {
    (vec((1..10_u32, 0..5_u32, option::of(exemplar())), 0..4), 0..9_u32, number()).prop_map(
        |(steps, above, sum)| {
            let (mut bound, mut counted) = (-1.0, 0);
            let mut buckets = Vec::new();
            for (step, count, exemplar) in steps {
                (bound, counted) = (bound + f64::from(step) / 2.0, counted + count);
                let exemplar = exemplar.map(Box::new);
                buckets.push(Bucket { upper_bound: bound, cumulative_count: f64::from(counted), exemplar });
            }
            let count = f64::from(counted + above);
            buckets.push(Bucket { upper_bound: f64::INFINITY, cumulative_count: count, exemplar: None });
            HistogramValue { count: Some(count), sum: Some(sum.abs()), buckets, native: None }
        },
    )
}

/// Integer or of floats, exponential or of custom buckets.
fn native() -> impl Strategy<Value = Histogram> {
    let side = vec((0..4_i32, vec(0..9_u32, 0..4)), 0..3);
    (side.clone(), side, any::<(bool, bool)>(), number(), 0..9_u32).prop_map(
        |(positive, mut negative, (of_floats, is_custom), sum, mut zero)| {
            if is_custom {
                (negative, zero) = (Vec::new(), 0);
            }
            let spans = |side: &[(i32, Vec<u32>)]| {
                side.iter()
                    .map(|(offset, counts)| Span { offset: *offset, length: counts.len() as u32 })
                    .collect::<Vec<_>>()
            };
            let counts = |side: &[(i32, Vec<u32>)]| {
                side.iter().flat_map(|(_, counts)| counts.iter().copied()).collect::<Vec<u32>>()
            };
            let (positive_counts, negative_counts) = (counts(&positive), counts(&negative));
            let count = positive_counts.iter().chain(&negative_counts).sum::<u32>() + zero;
            let deltas = |counts: &[u32]| {
                let mut before = 0;
                let deltas = counts.iter().map(|count| {
                    let delta = i64::from(*count) - before;
                    before = i64::from(*count);
                    delta
                });
                deltas.collect::<Vec<_>>()
            };
            let floats = |counts: &[u32]| counts.iter().map(|count| f64::from(*count)).collect::<Vec<_>>();
            Histogram {
                schema: if is_custom { CUSTOM_BUCKETS_SCHEMA } else { 3 },
                zero_threshold: if is_custom { 0.0 } else { 1e-128 },
                sum: sum.abs(),
                counts: if of_floats {
                    BucketCounts::Float {
                        count: f64::from(count),
                        zero_count: f64::from(zero),
                        positive: floats(&positive_counts),
                        negative: floats(&negative_counts),
                    }
                } else {
                    BucketCounts::Integer {
                        count: u64::from(count),
                        zero_count: u64::from(zero),
                        positive: deltas(&positive_counts),
                        negative: deltas(&negative_counts),
                    }
                },
                positive_spans: spans(&positive),
                negative_spans: spans(&negative),
                custom_values: if is_custom {
                    (1..=20).map(|n| f64::from(n) / 4.0).collect()
                } else {
                    vec![]
                },
                reset_hint: ResetHint::Unknown,
            }
        },
    )
}
