//! Pages in the types of prometheus-parse: what is converted is unchanged, what is not is named.
#![cfg(feature = "prometheus-parse")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use prometheus_parse::{HistogramCount, Sample, Scrape, SummaryCount, Value};
use promferry_exposition::{ConvertedScrape, Format, ParseOptions, UnconvertibleReason as Reason};
use promferry_model::{MetricType, Timestamp};
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;

fn convert(format: Format, page: &str) -> ConvertedScrape {
    let mut options = ParseOptions::default();
    options.parse_start_timestamps = true;
    ConvertedScrape::parse_at(format, page.as_bytes(), options, Timestamp::from_millis(NOW)).unwrap()
}

fn named(converted: &ConvertedScrape) -> Vec<(&str, Reason)> {
    converted.unconvertible.iter().map(|lost| (lost.series.as_str(), lost.reason)).collect()
}

fn plain(sample: &Sample) -> (&str, BTreeMap<&str, &str>, &Value, i64) {
    let labels = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    (&sample.metric, labels, &sample.value, sample.timestamp.timestamp_millis())
}

#[test]
fn values_types_and_times() {
    let page = "# HELP c What\\nit counts.\n# TYPE c counter\nc{a=\"1\",b=\"2\"} 3 5\n# TYPE job:g gauge\njob:g 1.5\n\
                plain{} 7\n{\"quoted.name\",\"label.name\"=\"ü }\"} 1\n{\"quoted.name\",\"label.name\"=\"ü\"} 2\n";
    let converted = convert(Format::Text, page);
    let samples: Vec<_> = converted.scrape.samples.iter().map(plain).collect();
    let expected = [
        ("c", BTreeMap::from([("a", "1"), ("b", "2")]), &Value::Counter(3.0), 5),
        ("job:g", BTreeMap::new(), &Value::Gauge(1.5), NOW),
        ("plain", BTreeMap::new(), &Value::Untyped(7.0), NOW),
        ("quoted.name", BTreeMap::from([("label.name", "ü")]), &Value::Untyped(2.0), NOW),
    ];
    assert_eq!(samples, expected);
    assert_eq!(converted.scrape.docs["c"], "What\nit counts.");
    assert_eq!(named(&converted), [("quoted.name{label.name=\"ü }\"}", Reason::Label)]);
}

#[test]
fn buckets_and_quantiles_are_gathered_in_order() {
    let page = "# TYPE h histogram\nh_bucket{p=\"b\",le=\"1\"} 1\nh_bucket{p=\"b\",le=\"+Inf\"} 2\nh_sum{p=\"b\"} 9\n\
                h_count{p=\"b\"} 2\nh_bucket{le=\"1\",p=\"a\"} 5\nh_bucket{p=\"a\"} 6\n\
                # TYPE s summary\ns{quantile=\"0.5\"} 4\ns{quantile=\"0.9\"} 8\ns 1\ns_count 3\n";
    let converted = convert(Format::Text, page);
    let samples: Vec<_> = converted.scrape.samples.iter().map(plain).collect();
    let bucket = |less_than, count| HistogramCount { less_than, count };
    let quantile = |quantile, count| SummaryCount { quantile, count };
    let b = BTreeMap::from([("p", "b")]);
    let expected = [
        ("h", b.clone(), &Value::Histogram(vec![bucket(1.0, 1.0), bucket(f64::INFINITY, 2.0)]), NOW),
        ("h_sum", b.clone(), &Value::Untyped(9.0), NOW),
        ("h_count", b, &Value::Untyped(2.0), NOW),
        ("h", BTreeMap::from([("p", "a")]), &Value::Histogram(vec![bucket(1.0, 5.0)]), NOW),
        ("s", BTreeMap::new(), &Value::Summary(vec![quantile(0.5, 4.0), quantile(0.9, 8.0)]), NOW),
        ("s_count", BTreeMap::new(), &Value::Untyped(3.0), NOW),
    ];
    assert_eq!(samples, expected);
    assert_eq!(named(&converted), [("h_bucket{p=\"a\"}", Reason::Bound), ("s", Reason::Bound)]);
}

#[test]
fn what_there_is_no_room_for_is_named() {
    let page = "# TYPE foo counter\nfoo_total{a=\"b\"} 1 # {id=\"x\"} 1\nfoo_created{a=\"b\"} 5\n# TYPE build info\n\
                build_info{v=\"1\"} 1\n# EOF\n";
    let converted = convert(Format::OpenMetrics, page);
    let samples: Vec<_> = converted.scrape.samples.iter().map(plain).collect();
    assert_eq!(samples, [("foo_total", BTreeMap::from([("a", "b")]), &Value::Counter(1.0), NOW)]);
    let expected = [
        ("foo_total{a=\"b\"}", Reason::StartTimestamp),
        ("foo_total{a=\"b\"}", Reason::Exemplars),
        ("build_info{v=\"1\"}", Reason::Type(MetricType::Info)),
    ];
    assert_eq!(named(&converted), expected);

    for (series, reason) in [
        (r#"x{a="1",a="2"}"#, Reason::RepeatedLabel),
        (r#"x{a="b,c"}"#, Reason::Label),
        (r#"x{a="b=c"}"#, Reason::Label),
        (r#"x{a="b}c"}"#, Reason::Label),
        (r#"x{a="\"b\""}"#, Reason::Label),
        (r#"x{a="} 5 6",b="c"}"#, Reason::Label),
    ] {
        let converted = convert(Format::Text, &format!("{series} 1\n"));
        assert_eq!(named(&converted), [(series, reason)]);
        assert!(converted.scrape.samples.is_empty());
    }
    let converted = convert(Format::Text, "x 1 9223372036854775807\n");
    assert_eq!(named(&converted), [("x", Reason::Timestamp)]);
}

#[test]
fn refused_pages_are_refused() {
    let now = Timestamp::from_millis(NOW);
    let refused = ConvertedScrape::parse_at(Format::Text, b"x{ 1\n", ParseOptions::default(), now);
    assert!(refused.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a label holds, the sample comes out unchanged or is named.
    #[test]
    fn no_label_is_changed(values in prop::collection::vec("[a-c,={}\"\\\\\n 0-9é]{0,6}", 1..4)) {
        let escape = |value: &String| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = values.iter().enumerate().map(|(at, v)| format!("l{at}=\"{}\"", escape(v))).collect();
        let series = format!("m{{{}}}", labels.join(","));
        let converted = convert(Format::Text, &format!("{series} 1\n"));
        match converted.scrape.samples.as_slice() {
            [sample] => {
                prop_assert_eq!(sample.labels.len(), values.len());
                for (at, value) in values.iter().enumerate() {
                    prop_assert_eq!(sample.labels.get(&format!("l{at}")), Some(value.as_str()));
                }
                prop_assert!(converted.unconvertible.is_empty());
            }
            _ => prop_assert_eq!(named(&converted), [(series.as_str(), Reason::Label)]),
        }
    }

    /// On what its own parser reads right, both give the same.
    #[test]
    fn agrees_with_its_parser(values in prop::collection::vec("[a-zA-Z0-9/._-]{1,12}", 1..5), value in any::<i32>()) {
        let mut page = "# HELP m Some help.\n# TYPE m gauge\n".to_owned();
        for (at, label) in values.iter().enumerate() {
            page += &format!("m{{at=\"{at}\",l=\"{label}\"}} {value} {at}\n");
        }
        let theirs = Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let ours = convert(Format::Text, &page);
        prop_assert_eq!(&ours.scrape.samples, &theirs.samples);
        prop_assert_eq!(&ours.scrape.docs, &theirs.docs);
    }
}
