//! What the tests of encoding share: targets, and a plain reading of what was encoded.

use std::collections::HashSet;
use std::time::Duration;

use prometheus_wire::{v1, v2};
use promferry_model::{BucketCounts, Histogram, Labels, MetricType, ResetHint, TargetInfo};
use promferry_remote_write::encode::{Request, join};
use promferry_remote_write::{Fragment, Protocol, wire as prometheus_wire};

pub(crate) fn target(job: &str, instance: &str) -> TargetInfo {
    TargetInfo {
        job: job.into(),
        labels: Labels::from_pairs([("instance", instance), ("job", job)]),
        url: format!("http://{instance}/metrics"),
        scrape_interval: Duration::from_secs(15),
    }
}

/// One time series as a receiver sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: Value,
    pub(crate) exemplars: Vec<ReceivedExemplar>,
    /// 2.0 only: type, help, unit.
    pub(crate) metadata: Option<(i32, String, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Bits of the value, timestamp, start timestamp.
    Sample(u64, i64, i64),
    Histogram(Box<v2::Histogram>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReceivedExemplar {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) bits: u64,
    pub(crate) timestamp: i64,
}

pub(crate) fn receive_all(fragments: &[Fragment]) -> Vec<Received> {
    fragments.iter().flat_map(receive_fragment).collect()
}

pub(crate) fn receive_fragment(fragment: &Fragment) -> Vec<Received> {
    let request = join(std::slice::from_ref(fragment)).unwrap();
    assert_eq!(request.counts, fragment.counts);
    let received = receive(&request);
    let timestamps = received.iter().map(|series| match &series.value {
        Value::Sample(_, at, _) => *at,
        Value::Histogram(histogram) => histogram.timestamp,
    });
    assert_eq!(timestamps.clone().min(), Some(fragment.min_timestamp.as_millis()));
    assert_eq!(timestamps.max(), Some(fragment.max_timestamp.as_millis()));
    received
}

/// Decodes a request as a strict receiver does and checks what holds for all of them.
pub(crate) fn receive(request: &Request) -> Vec<Received> {
    let received = match request.protocol {
        Protocol::V1 => receive_v1(request),
        Protocol::V2 => receive_v2(request),
        other => panic!("no receiver for {other:?}"),
    };
    for series in &received {
        let names: Vec<_> = series.labels.iter().map(|(name, _)| name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "sorted and unique: {names:?}");
        assert!(series.labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()));
    }
    let counts = |f: fn(&Received) -> u64| received.iter().map(f).sum::<u64>();
    assert_eq!(counts(|s| u64::from(matches!(s.value, Value::Sample(..)))), request.counts.samples);
    assert_eq!(counts(|s| u64::from(matches!(s.value, Value::Histogram(_)))), request.counts.histograms);
    assert_eq!(counts(|s| s.exemplars.len() as u64), request.counts.exemplars);
    received
}

fn receive_v1(request: &Request) -> Vec<Received> {
    let message = prometheus_wire::decode_v1(&request.body, request.raw_len).unwrap();
    let labels = |labels: &[v1::Label]| labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect();
    let series = message.timeseries.iter().map(|series| Received {
        labels: labels(&series.labels),
        value: match (&series.samples[..], &series.histograms[..]) {
            ([sample], []) => Value::Sample(sample.value.to_bits(), sample.timestamp, 0),
            ([], [histogram]) => Value::Histogram(Box::new(v2_of_v1(histogram))),
            _ => panic!("one value a time series: {series:?}"),
        },
        exemplars: series
            .exemplars
            .iter()
            .map(|e| ReceivedExemplar {
                labels: labels(&e.labels),
                bits: e.value.to_bits(),
                timestamp: e.timestamp,
            })
            .collect(),
        metadata: None,
    });
    series.collect()
}

fn receive_v2(request: &Request) -> Vec<Received> {
    let message = prometheus_wire::decode_v2(&request.body, request.raw_len).unwrap();
    assert_eq!(message.symbols[0], "");
    let distinct: HashSet<_> = message.symbols.iter().collect();
    assert_eq!(distinct.len(), message.symbols.len(), "symbols are deduplicated: {:?}", message.symbols);
    let mut used: Vec<bool> = message.symbols.iter().map(String::is_empty).collect();
    for series in &message.timeseries {
        let exemplars = series.exemplars.iter().flat_map(|exemplar| &exemplar.labels_refs);
        let metadata = series.metadata.iter().flat_map(|known| [&known.help_ref, &known.unit_ref]);
        for reference in series.labels_refs.iter().chain(exemplars).chain(metadata) {
            used[*reference as usize] = true;
        }
    }
    assert!(used.iter().all(|used| *used), "no symbol without a use: {:?} {used:?}", message.symbols);
    let labels = |refs: &[u32]| -> Vec<(String, String)> {
        let pairs = message.labels(refs).expect("references in range and even");
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let text = |reference: u32| message.symbol(reference).expect("reference in range").to_owned();
    let series = message.timeseries.iter().map(|series| Received {
        labels: labels(&series.labels_refs),
        value: match (&series.samples[..], &series.histograms[..]) {
            ([s], []) => Value::Sample(s.value.to_bits(), s.timestamp, s.start_timestamp),
            ([], [histogram]) => Value::Histogram(Box::new(histogram.clone())),
            _ => panic!("one value a time series: {series:?}"),
        },
        exemplars: series
            .exemplars
            .iter()
            .map(|e| ReceivedExemplar {
                labels: labels(&e.labels_refs),
                bits: e.value.to_bits(),
                timestamp: e.timestamp,
            })
            .collect(),
        metadata: series.metadata.map(|m| (m.r#type, text(m.help_ref), text(m.unit_ref))),
    });
    series.collect()
}

fn v2_of_v1(h: &v1::Histogram) -> v2::Histogram {
    v2::Histogram {
        count: h.count,
        sum: h.sum,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count,
        negative_spans: h.negative_spans.clone(),
        negative_deltas: h.negative_deltas.clone(),
        negative_counts: h.negative_counts.clone(),
        positive_spans: h.positive_spans.clone(),
        positive_deltas: h.positive_deltas.clone(),
        positive_counts: h.positive_counts.clone(),
        reset_hint: h.reset_hint,
        timestamp: h.timestamp,
        custom_values: h.custom_values.clone(),
        start_timestamp: 0,
    }
}

/// What a receiver of 2.0 has to see of a histogram.
pub(crate) fn expected_histogram(h: &Histogram, timestamp: i64, start_timestamp: i64) -> v2::Histogram {
    use v1::histogram::{Count, ZeroCount};
    let spans = |spans: &[promferry_model::Span]| {
        spans.iter().map(|span| v1::BucketSpan { offset: span.offset, length: span.length }).collect()
    };
    let mut expected = v2::Histogram {
        sum: h.sum,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        negative_spans: spans(&h.negative_spans),
        positive_spans: spans(&h.positive_spans),
        reset_hint: match h.reset_hint {
            ResetHint::Unknown => 0,
            ResetHint::Yes => 1,
            ResetHint::No => 2,
            ResetHint::Gauge => 3,
            other => panic!("no number for {other:?}"),
        },
        timestamp,
        custom_values: h.custom_values.clone(),
        start_timestamp,
        ..Default::default()
    };
    match &h.counts {
        BucketCounts::Integer { count, zero_count, positive, negative } => {
            expected.count = Some(Count::CountInt(*count));
            expected.zero_count = Some(ZeroCount::ZeroCountInt(*zero_count));
            expected.positive_deltas = positive.clone();
            expected.negative_deltas = negative.clone();
        }
        BucketCounts::Float { count, zero_count, positive, negative } => {
            expected.count = Some(Count::CountFloat(*count));
            expected.zero_count = Some(ZeroCount::ZeroCountFloat(*zero_count));
            expected.positive_counts = positive.clone();
            expected.negative_counts = negative.clone();
        }
    }
    expected
}

/// The number of a type in 1.0's and 2.0's enumerations, which agree.
pub(crate) fn wire_type(metric_type: MetricType) -> i32 {
    v1::MetricType::from(metric_type) as i32
}

pub(crate) fn pairs(labels: &[promferry_model::Label]) -> Vec<(String, String)> {
    labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect()
}
