//! Pages read as families, and families written, whatever they hold: time in proportion to them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/hostile_pages.rs"]
mod hostile_pages;
#[path = "support/linear_time.rs"]
mod linear_time;
#[path = "support/protobuf_bytes.rs"]
mod protobuf_bytes;

use linear_time::{SIZES, assert_linear};
use promferry_exposition::{
    Bucket, Event, Exemplar, Format, HistogramValue, LabelBuffer, Metric, MetricFamily, MetricPoint,
    Negotiated, ParseOptions, Parser, PointValue, Quantile, StreamError, StreamingEncoder, SummaryValue,
    read_families,
};
use promferry_model::{BucketCounts, Histogram, Labels, MetricType, Span, Timestamp};

fn formats() -> Vec<Format> {
    vec![
        Format::Text,
        Format::OpenMetrics,
        #[cfg(feature = "openmetrics2")]
        Format::OpenMetrics2,
        Format::Protobuf,
    ]
}

fn everything() -> ParseOptions {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.always_classic_histograms = true;
    options.parse_start_timestamps = true;
    options
}

#[test]
fn families_are_read_in_linear_time() {
    let text = formats().into_iter().filter(|&format| format != Format::Protobuf);
    let text = text.flat_map(|format| hostile_pages::TEXT.iter().map(move |page| (format, page, "# EOF\n")));
    let protobuf = hostile_pages::PROTOBUF.iter().map(|page| (Format::Protobuf, page, ""));
    for (format, (name, make), end) in text.chain(protobuf) {
        let pages = SIZES.map(|size| {
            let page = [&make(size), end.as_bytes()].concat();
            let bytes = page.len() + given_by(format, &page);
            (page, bytes)
        });
        assert_linear(name, &format!("as {format:?}"), &pages, |(page, bytes)| {
            let _ = read_families(format, page, everything());
            *bytes
        });
    }
}

/// How many bytes of labels the page's series have.
fn given_by(format: Format, page: &[u8]) -> usize {
    let mut parser = Parser::new(format, page, everything());
    let mut labels = LabelBuffer::new();
    let mut given = 0;
    while let Ok(Some(event)) = parser.next() {
        let read = match event {
            Event::Series(series) => series.labels(&mut labels),
            Event::Histogram(histogram) => histogram.labels(&mut labels),
            _ => continue,
        };
        if read.is_err() {
            break;
        }
        given += labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
    }
    given
}

#[test]
fn families_are_written_in_linear_time() {
    for (name, make) in HOSTILE {
        for format in formats() {
            let inputs = SIZES.map(|size| (size, streamed(make(size))));
            assert_linear(name, &format!("as {format:?}"), &inputs, |(size, families)| {
                size + write(format, families)
            });
        }
    }
}

#[test]
fn what_a_format_keeps_is_found_in_linear_time() {
    for (name, make) in HOSTILE {
        for format in formats() {
            let inputs = SIZES.map(|size| (size, make(size)));
            assert_linear(name, &format!("as {format:?}"), &inputs, |(size, families)| {
                for family in families {
                    std::hint::black_box(family.as_kept_by(format));
                }
                *size
            });
        }
    }
}

/// Families and their metrics, apart.
type Streamed = Vec<(MetricFamily, Vec<Metric>)>;

fn streamed(families: Vec<MetricFamily>) -> Streamed {
    let apart = |mut family: MetricFamily| {
        let metrics = std::mem::take(&mut family.metrics);
        (family, metrics)
    };
    families.into_iter().map(apart).collect()
}

/// How many bytes were given: the page and why the rest is not on it.
fn write(format: Format, families: &Streamed) -> usize {
    let mut page = StreamingEncoder::new(Vec::new(), Negotiated::newest(format));
    let refused = |written: Result<(), StreamError>| match written {
        Ok(()) => 0,
        Err(StreamError::Encode(refused)) => {
            refused.family.len() + refused.series.len() + refused.problem.len()
        }
        Err(other) => panic!("{other}"),
    };
    let mut given = 0;
    for (family, metrics) in families {
        given += refused(page.family(family));
        for metric in metrics {
            given += refused(page.metric(metric));
        }
    }
    given + page.finish().unwrap().len()
}

type MakeFamilies = fn(usize) -> Vec<MetricFamily>;

/// Of about as many bytes as asked for.
const HOSTILE: &[(&str, MakeFamilies)] = &[
    ("families", |size| (0..size / 16).map(|n| gauges(&format!("a{n}"), 1)).collect()),
    ("metrics", |size| vec![gauges("a", size / 16)]),
    ("metrics of a long name", |size| vec![gauges(&"a".repeat(size.isqrt()), size.isqrt())]),
    ("metrics under a long HELP", |size| {
        vec![MetricFamily { help: "b ".repeat(size / 4), ..gauges("a", size / 32) }]
    }),
    ("metrics under a long UNIT", |size| {
        vec![MetricFamily { unit: "b".repeat(size / 2), ..gauges("a", size / 32) }]
    }),
    ("metrics of the same labels", |size| {
        vec![family(MetricType::Gauge, vec![metric(&[("b", "c")], 1.0); size / 16])]
    }),
    ("metrics that are refused", |size| {
        let metric = |n: usize| metric(&[("b", &n.to_string())], -1.0);
        vec![family(MetricType::Counter, (0..size / 16).map(metric).collect())]
    }),
    ("states", |size| {
        let metric = |n: usize| metric(&[("a", &n.to_string())], 0.0);
        vec![family(MetricType::StateSet, (0..size / 16).map(metric).collect())]
    }),
    ("states of a time", |size| {
        let metric = |n: usize| Metric {
            points: vec![at(1, PointValue::Number(0.0))],
            ..metric(&[("a", &n.to_string())], 0.0)
        };
        vec![family(MetricType::StateSet, (0..size / 16).map(metric).collect())]
    }),
    ("a state that is there already", |size| {
        vec![family(MetricType::StateSet, vec![metric(&[("a", "b")], 0.0); size / 16])]
    }),
    ("long states", |size| {
        let metric = |n: usize| metric(&[("a", &format!("{}{n}", "b".repeat(size.isqrt())))], 0.0);
        vec![family(MetricType::StateSet, (0..size.isqrt()).map(metric).collect())]
    }),
    ("labels", |size| {
        let labels: Vec<_> = (0..size / 16).map(|n| (format!("b{n}"), "c")).collect();
        let labels = Labels::from_pairs(labels.iter().map(|(name, value)| (name.as_str(), *value)));
        vec![family(MetricType::Gauge, vec![Metric { labels, points: vec![PointValue::Number(1.0).into()] }])]
    }),
    ("points", |size| {
        let point = |n: usize| at(n as i64 + 1, PointValue::Number(1.0));
        vec![family(MetricType::Gauge, vec![of_points((0..size / 16).map(point).collect())])]
    }),
    ("quantiles", |size| {
        let count = size / 16;
        let quantile = |n: usize| Quantile { quantile: n as f64 / count as f64, value: 1.0 };
        let summary =
            SummaryValue { quantiles: (0..count).map(quantile).collect(), ..SummaryValue::default() };
        vec![family(MetricType::Summary, vec![of_points(vec![PointValue::from(summary).into()])])]
    }),
    ("buckets", |size| {
        let bound = |n: usize| if n * 16 + 16 > size { f64::INFINITY } else { n as f64 };
        let buckets = (0..=size / 16).map(|n| Bucket {
            upper_bound: bound(n),
            cumulative_count: n as f64,
            exemplar: None,
        });
        let histogram = HistogramValue { buckets: buckets.collect(), ..HistogramValue::default() };
        vec![family(MetricType::Histogram, vec![of_points(vec![PointValue::from(histogram).into()])])]
    }),
    ("exemplars", |size| {
        let exemplar = |n: usize| Exemplar {
            labels: Labels::from_pairs([("b", "c")]),
            value: n as f64,
            timestamp: Some(Timestamp::from_millis(n as i64 + 1)),
        };
        let exemplars = (0..size / 16).map(exemplar).collect();
        let point = MetricPoint { exemplars, ..PointValue::Number(1.0).into() };
        vec![family(MetricType::Counter, vec![of_points(vec![point])])]
    }),
    ("a native histogram's buckets", |size| {
        let count = size / 8;
        let native = Histogram {
            counts: BucketCounts::Float {
                count: count as f64,
                zero_count: 0.0,
                positive: vec![1.0; count],
                negative: vec![],
            },
            sum: 1.0,
            schema: 3,
            positive_spans: vec![Span { offset: 0, length: count as u32 }],
            ..Histogram::stale()
        };
        let histogram = HistogramValue { native: Some(Box::new(native)), ..HistogramValue::default() };
        vec![family(MetricType::Histogram, vec![of_points(vec![PointValue::from(histogram).into()])])]
    }),
];

fn family(metric_type: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    MetricFamily { name: "a".to_owned(), metric_type, suffixed: true, metrics, ..MetricFamily::default() }
}

fn gauges(name: &str, count: usize) -> MetricFamily {
    let metrics = (0..count).map(|n| metric(&[("b", &n.to_string())], 1.0)).collect();
    MetricFamily { name: name.to_owned(), suffixed: false, ..family(MetricType::Gauge, metrics) }
}

fn metric(labels: &[(&str, &str)], value: f64) -> Metric {
    let labels = Labels::from_pairs(labels.iter().copied());
    Metric { labels, points: vec![PointValue::Number(value).into()] }
}

fn of_points(points: Vec<MetricPoint>) -> Metric {
    Metric { labels: Labels::default(), points }
}

fn at(millis: i64, value: PointValue) -> MetricPoint {
    MetricPoint { timestamp: Some(Timestamp::from_millis(millis)), ..value.into() }
}
