//! Families as JSON: the documented shape, and back again bit for bit.
#![cfg(feature = "serde")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use promferry_exposition::{
    Bucket, Exemplar, Format, HistogramValue, Metric, MetricFamily, MetricPoint, ParseOptions, PointValue,
    Quantile, SummaryValue, read_families,
};
use promferry_model::{
    BucketCounts, Histogram, Labels, MetricType, ResetHint, STALE_NAN_BITS, Span, Timestamp,
};
use proptest::prelude::*;

/// What `docs/expositions.md` shows and describes.
const DOCUMENTED: &str = include_str!("data/families.json");

const PAGE: &str = r#"# TYPE requests counter
# HELP requests Requests served.
requests_total{code="200"} 1027.0 1395066363.0 # {trace_id="4bf92f"} 0.25 1395066360.5
requests_created{code="200"} 1395000000.0
# TYPE queue_seconds gauge
# UNIT queue_seconds seconds
queue_seconds NaN
# TYPE latency summary
latency{quantile="0.5"} 0.25
latency_sum 17.5
latency_count 70.0
# TYPE size histogram
size_bucket{le="100.0"} 2.0
size_bucket{le="+Inf"} 3.0 # {} 250.0
size_sum 450.5
size_count 3.0
# EOF
"#;

fn documented() -> Vec<MetricFamily> {
    let mut options = ParseOptions::default();
    options.parse_start_timestamps = true;
    let mut families = read_families(Format::OpenMetrics, PAGE.as_bytes(), options).unwrap();
    let native = Histogram {
        schema: 2,
        zero_threshold: 1e-128,
        sum: f64::INFINITY,
        counts: BucketCounts::Integer { count: 9, zero_count: 1, positive: vec![3, -1, 1], negative: vec![] },
        positive_spans: vec![Span { offset: -4, length: 2 }, Span { offset: 1, length: 1 }],
        negative_spans: vec![],
        custom_values: vec![],
        reset_hint: ResetHint::Unknown,
    };
    let value = HistogramValue { native: Some(Box::new(native)), ..HistogramValue::default() };
    families.push(MetricFamily {
        name: "native".to_owned(),
        metric_type: MetricType::Histogram,
        metrics: vec![Metric { labels: Labels::default(), points: vec![PointValue::from(value).into()] }],
        ..MetricFamily::default()
    });
    families
}

#[test]
fn the_documented_shape() {
    let families = documented();
    let documented: serde_json::Value = serde_json::from_str(DOCUMENTED).unwrap();
    assert_eq!(serde_json::to_value(&families).unwrap(), documented);
    assert_eq!(serde_json::from_str::<Vec<MetricFamily>>(DOCUMENTED).unwrap(), families);
}

#[test]
fn the_documentation_shows_it() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/expositions.md");
    let Ok(page) = std::fs::read_to_string(page) else {
        eprintln!("skipped: {page} is not there, as in a package of this crate alone");
        return;
    };
    assert!(page.contains(&format!("```json\n{DOCUMENTED}```\n")));
}

#[test]
fn what_is_no_family_is_refused() {
    for (text, expected) in [
        (r#"[{"name":"a","metrics":[]}]"#, "missing field `type`"),
        (r#"[{"name":"a","type":"meter","metrics":[]}]"#, "unknown variant `meter`"),
        (
            r#"[{"name":"a","type":"gauge","metrics":[{"labels":{},"points":[{}]}]}]"#,
            "no variant of enum PointValue",
        ),
        (
            r#"[{"name":"a","type":"gauge","metrics":[{"labels":{"b":"1","b":"2"},"points":[]}]}]"#,
            "label name \"b\" is not unique",
        ),
        (
            r#"[{"name":"a","type":"gauge","metrics":[{"labels":{},"points":[{"number":"Nan"}]}]}]"#,
            "expected a number, \"+Inf\"",
        ),
        (
            r#"[{"name":"a","type":"gauge","metrics":[{"labels":{},"points":[{"number":"NaN(3ff0000000000000)"}]}]}]"#,
            "expected a number",
        ),
    ] {
        let refused = serde_json::from_str::<Vec<MetricFamily>>(text).unwrap_err().to_string();
        assert!(refused.contains(expected), "{text}: {refused}");
    }
}

/// Numbers whose bits are easily lost.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<f64>(),
        Just(f64::from_bits(STALE_NAN_BITS)),
        Just(-0.0),
        Just(5e-324),
        Just(9_007_199_254_740_993_i64 as f64),
    ]
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    ("\\PC{0,4}", number(), any::<Option<i64>>()).prop_map(|(label, value, time)| Exemplar {
        labels: Labels::from_pairs([("id", label)]),
        value,
        timestamp: time.map(Timestamp::from_millis),
    })
}

fn value() -> impl Strategy<Value = PointValue> {
    let pairs = || prop::collection::vec((number(), number()), 0..3);
    let native = (any::<i32>(), number(), prop::collection::vec(number(), 0..3), any::<u64>(), any::<bool>())
        .prop_map(|(schema, sum, floats, count, is_float)| Histogram {
            schema,
            zero_threshold: sum,
            sum,
            counts: if is_float {
                BucketCounts::Float {
                    count: sum,
                    zero_count: sum,
                    positive: floats.clone(),
                    negative: vec![],
                }
            } else {
                let negative = vec![i64::MIN, count as i64];
                BucketCounts::Integer { count, zero_count: count, positive: vec![], negative }
            },
            positive_spans: vec![Span { offset: schema, length: u32::MAX }],
            negative_spans: vec![],
            custom_values: floats,
            reset_hint: ResetHint::Gauge,
        });
    prop_oneof![
        number().prop_map(PointValue::Number),
        (prop::option::of(number()), prop::option::of(number()), pairs()).prop_map(|(count, sum, pairs)| {
            let quantiles = pairs.into_iter().map(|(quantile, value)| Quantile { quantile, value });
            SummaryValue { count, sum, quantiles: quantiles.collect() }.into()
        }),
        (
            prop::option::of(number()),
            prop::option::of(number()),
            pairs(),
            prop::option::of(exemplar()),
            prop::option::of(native)
        )
            .prop_map(|(count, sum, pairs, exemplar, native)| {
                let bucket = |(upper_bound, cumulative_count)| Bucket {
                    upper_bound,
                    cumulative_count,
                    exemplar: exemplar.clone().map(Box::new),
                };
                let buckets = pairs.into_iter().map(bucket).collect();
                HistogramValue { count, sum, buckets, native: native.map(Box::new) }.into()
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn back_again_bit_for_bit(
        name in "\\PC{0,6}",
        help in any::<String>(),
        value in value(),
        exemplars in prop::collection::vec(exemplar(), 0..2),
        time: Option<i64>,
        start: Option<i64>,
    ) {
        let point = MetricPoint {
            timestamp: time.map(Timestamp::from_millis),
            start: start.map(Timestamp::from_millis),
            exemplars,
            ..value.into()
        };
        let labels = Labels::from_pairs([(name.clone(), help.clone())]);
        let metrics = vec![Metric { labels, points: vec![point] }];
        let unit = help.clone();
        let family = MetricFamily { name, metric_type: MetricType::StateSet, suffixed: true, unit, help, metrics };
        let written = serde_json::to_string(&family).unwrap();
        prop_assert_eq!(serde_json::from_str::<MetricFamily>(&written).unwrap(), family, "{}", written);
    }
}
