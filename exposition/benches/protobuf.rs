//! What a protobuf page costs: `cargo bench -p promferry-exposition --bench protobuf`.
#![allow(clippy::unwrap_used, reason = "a bench that can't go on is no bench")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promferry_exposition::{
    BucketPoint, Encoder, Event, Format, HistogramPoint, LabelSpans, ParseOptions, Parser, SummaryPoint,
};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, ResetHint, Span};

criterion_group! {
    name = protobuf;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = pages
}
criterion_main!(protobuf);

fn pages(criterion: &mut Criterion) {
    let packed = native_page();
    let pages = [
        ("native, as client_golang writes them", unpacked(&packed)),
        ("native, packed", packed),
        ("classic", classic_page()),
    ];
    let mut group = criterion.benchmark_group("protobuf");
    for (name, page) in &pages {
        group.throughput(Throughput::Bytes(page.len() as u64));
        let mut spans = LabelSpans::new();
        let mut value = Histogram::stale();
        group.bench_with_input(BenchmarkId::new("known", name), page, |bencher, page| {
            bencher.iter(|| {
                walk(page, |event| match event {
                    Event::Series(series) => series.key(7).0[0] ^ series.value().to_bits(),
                    Event::Histogram(histogram) => {
                        histogram.read_into(&mut value);
                        histogram.key(7).0[0]
                    }
                    _ => 0,
                })
            });
        });
        group.bench_with_input(BenchmarkId::new("labels", name), page, |bencher, page| {
            bencher.iter(|| {
                walk(page, |event| match event {
                    Event::Series(series) => {
                        series.split(&mut spans).unwrap().len() as u64 ^ series.value().to_bits()
                    }
                    Event::Histogram(histogram) => {
                        histogram.read_into(&mut value);
                        histogram.split(&mut spans).unwrap().len() as u64
                    }
                    _ => 0,
                })
            });
        });
    }
    group.finish();
}

fn walk(page: &[u8], mut look: impl FnMut(&Event<'_>) -> u64) -> u64 {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    let mut parser = Parser::new(Format::Protobuf, black_box(page), options);
    let mut sum = 0;
    while let Some(event) = parser.next().unwrap() {
        sum ^= look(&event);
    }
    sum
}

fn labels(handler: &str) -> [(&str, &str); 4] {
    [("code", "200"), ("handler", handler), ("method", "GET"), ("namespace", "shop")]
}

/// 1,000 native histograms of 40 buckets, and 400 counters.
fn native_page() -> Vec<u8> {
    let histogram = Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        sum: 12.5,
        counts: BucketCounts::Integer {
            count: 500,
            zero_count: 1,
            positive: (0..40).map(|at| if at % 2 == 0 { 7 + at } else { -5 - at }).collect(),
            negative: Vec::new(),
        },
        positive_spans: [(-12, 20), (2, 12), (5, 8)].map(|(offset, length)| Span { offset, length }).to_vec(),
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        reset_hint: ResetHint::default(),
    };
    let mut page = Encoder::new(Format::Protobuf);
    for number in 0..20 {
        let name = format!("rpc_{number}_seconds");
        let mut family = page.family(MetadataView {
            family: &name,
            metric_type: MetricType::Histogram,
            unit: "",
            help: "Latency.",
        });
        for route in 0..50 {
            let point = HistogramPoint { native: Some(&histogram), ..HistogramPoint::default() };
            family.histogram(&labels(&format!("/api/v1/route{route}")), &point);
        }
    }
    for number in 0..20 {
        let name = format!("calls_{number}");
        let mut family = page.family(MetadataView {
            family: &name,
            metric_type: MetricType::Counter,
            unit: "",
            help: "Count.",
        });
        for route in 0..20 {
            family.number(&labels(&format!("/api/v1/route{route}")), 12_345.0 + f64::from(route));
        }
    }
    page.finish()
}

/// 300 classic histograms of 10 buckets and 300 summaries of 3 quantiles.
fn classic_page() -> Vec<u8> {
    let mut page = Encoder::new(Format::Protobuf);
    let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
    let buckets = bounds.map(|upper_bound| BucketPoint {
        upper_bound,
        cumulative_count: upper_bound * 1000.0,
        exemplar: None,
    });
    let histogram = HistogramPoint { buckets: &buckets, count: 5_100.0, sum: 312.5, native: None };
    let summary =
        SummaryPoint { quantiles: &[(0.5, 0.25), (0.9, 0.75), (0.99, 1.5)], count: 5_100.0, sum: 312.5 };
    for (metric_type, name) in [(MetricType::Histogram, "size_bytes"), (MetricType::Summary, "wait_seconds")]
    {
        let mut family =
            page.family(MetadataView { family: name, metric_type, unit: "", help: "Some help." });
        for route in 0..300 {
            let route = format!("/api/v1/route{route}");
            match metric_type {
                MetricType::Histogram => family.histogram(&labels(&route), &histogram),
                _ => family.summary(&labels(&route), &summary),
            };
        }
    }
    page.finish()
}

/// The page with each packed list of deltas written as single numbers, which is what `metrics.proto` in its second
/// syntax means and client_golang does.
fn unpacked(page: &[u8]) -> Vec<u8> {
    /// The fields of a message, those on `path` rewritten.
    fn rewrite(mut message: &[u8], path: &[u8]) -> Vec<u8> {
        let mut rewritten = Vec::new();
        while !message.is_empty() {
            let (tag, after) = varint(message);
            let (number, wire) = (tag >> 3, tag & 7);
            let (content, after) = match wire {
                0 => after.split_at(after.len() - varint(after).1.len()),
                1 => after.split_at(8),
                _ => {
                    let (length, after) = varint(after);
                    after.split_at(length as usize)
                }
            };
            match path {
                [] if wire == 2 && matches!(number, 10 | 13) => {
                    for &delta in content {
                        assert!(delta < 0x80);
                        rewritten.extend([(number << 3) as u8, delta]);
                    }
                }
                [first, path @ ..] if number == u64::from(*first) => {
                    let content = rewrite(content, path);
                    put_varint(&mut rewritten, tag);
                    put_varint(&mut rewritten, content.len() as u64);
                    rewritten.extend(content);
                }
                _ => {
                    put_varint(&mut rewritten, tag);
                    if wire == 2 {
                        put_varint(&mut rewritten, content.len() as u64);
                    }
                    rewritten.extend(content);
                }
            }
            message = after;
        }
        rewritten
    }
    let (mut rest, mut rewritten) = (page, Vec::new());
    while !rest.is_empty() {
        let (length, after) = varint(rest);
        let (family, after) = after.split_at(length as usize);
        let family = rewrite(family, &[4, 7]);
        put_varint(&mut rewritten, family.len() as u64);
        rewritten.extend(family);
        rest = after;
    }
    rewritten
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let length = bytes.iter().position(|&byte| byte < 0x80).unwrap() + 1;
    let value = bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    (value, &bytes[length..])
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}
