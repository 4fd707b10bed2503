//! On the pages that prometheus-parse 0.2 reads right, it reads what this crate reads. Those are few: no
//! empty or quoted label lists, no `,`, `=`, `}` or escape in a value, no blank behind a comma, no colon in a
//! name, nothing to refuse.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use prometheus_parse::{Scrape, Value};
use promferry_exposition::{Event, Format, LabelBuffer, ParseOptions, Parser};
use proptest::prelude::*;

type Samples = Vec<(String, BTreeMap<String, String>, u64, Option<i64>)>;

fn read(page: &str) -> Samples {
    let mut parser = Parser::new(Format::Text, page.as_bytes(), ParseOptions::default());
    let mut buffer = LabelBuffer::new();
    let mut samples = Samples::new();
    while let Some(event) = parser.next().unwrap() {
        if let Event::Series(series) = event {
            series.labels(&mut buffer).unwrap();
            let labels =
                buffer.iter().skip(1).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let timestamp = series.timestamp().map(|timestamp| timestamp.as_millis());
            samples.push((buffer.metric_name().to_owned(), labels, series.value().to_bits(), timestamp));
        }
    }
    samples
}

fn read_by_prometheus_parse(page: &str) -> Samples {
    let scrape = Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let samples = scrape.samples.into_iter().map(|sample| {
        let (Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value)) = sample.value else {
            panic!("no such metric was written")
        };
        let labels = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        (sample.metric, labels, value.to_bits(), Some(sample.timestamp.timestamp_millis()))
    });
    samples.collect()
}

fn sample() -> impl Strategy<Value = String> {
    let labels = prop::collection::btree_map("[a-z_][a-z0-9_]{0,8}", "[a-zA-Z0-9/._-]{1,12}", 1..4);
    let value = prop_oneof![
        any::<i32>().prop_map(|value| value.to_string()),
        (-1e12..1e12).prop_map(|value: f64| value.to_string()),
        Just("1.5e+09".to_owned()),
    ];
    (labels, value, 0..4_000_000_000_000_i64).prop_map(|(labels, value, timestamp)| {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        format!("{{{}}} {value} {timestamp}\n", labels.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reads_the_same(families in prop::collection::vec(("[a-z][a-z_]{0,10}", any::<bool>(), prop::collection::vec(sample(), 1..5)), 1..5)) {
        let mut page = String::new();
        for (at, (family, is_counter, samples)) in families.iter().enumerate() {
            let metric_type = if *is_counter { "counter" } else { "gauge" };
            page += &format!("# HELP {family}_{at} Some help.\n# TYPE {family}_{at} {metric_type}\n");
            for sample in samples {
                page += &format!("{family}_{at}{sample}");
            }
        }
        let ours = read(&page);
        prop_assert_eq!(ours, read_by_prometheus_parse(&page), "{}", page);
    }
}
