//! Writes the seeds that are not text, from the encoder and the messages: `cargo run --example write_seeds`.

use std::io;
use std::path::Path;

use promferry_exposition::{
    BucketPoint, Encoder, Format, HistogramPoint, Point, PointExemplar, SummaryPoint,
};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, ResetHint, Span, Timestamp};
use promferry_remote_write::wire::{self, v1, v2};
use prost::Message;

const AT: i64 = 1_700_000_000_000;

fn main() -> io::Result<()> {
    for (format, name) in [(Format::Protobuf, "protobuf"), (Format::OpenMetrics, "openmetrics")] {
        write(name, "encoded", &classic(format))?;
    }
    write("protobuf", "native", &native())?;

    let (one, two) = (request_v1(), request_v2());
    write("wire", "v1", &wire::encode(&one))?;
    write("wire", "v2", &wire::encode(&two))?;
    write("wire", "v1_raw", &one.encode_to_vec())?;
    write("wire", "v2_raw", &two.encode_to_vec())?;
    let with_kind = |kind: u8, body: Vec<u8>| [vec![kind], body].concat();
    write("fragment", "v1", &with_kind(0, one.encode_to_vec()))?;
    write("fragment", "v2", &with_kind(1, two.encode_to_vec()))?;
    write("fragment", "v1_snappy", &with_kind(2, wire::encode(&one)))?;
    write("fragment", "v2_snappy", &with_kind(3, wire::encode(&two)))
}

fn write(target: &str, name: &str, content: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::write(folder.join(name), content)
}

fn metadata(family: &str, metric_type: MetricType) -> MetadataView<'_> {
    MetadataView { family, metric_type, unit: "", help: "What \"it\" is." }
}

fn classic(format: Format) -> Vec<u8> {
    let exemplar = PointExemplar {
        labels: &[("trace_id", "abc")],
        value: 0.5,
        timestamp: Some(Timestamp::from_millis(AT)),
    };
    let buckets = [BucketPoint { upper_bound: 1.0, cumulative_count: 2.0, exemplar: Some(exemplar) }];
    let start = Some(Timestamp::from_millis(AT - 5_000));
    let mut page = Encoder::new(format);
    page.family(metadata("requests", MetricType::Counter)).number_with_exemplar(
        Point { labels: &[("code", "200")], timestamp: Some(Timestamp::from_millis(AT)), start },
        3.5,
        exemplar,
    );
    page.family(metadata("latency", MetricType::Histogram)).histogram(
        Point { start, ..Point::default() },
        &HistogramPoint { buckets: &buckets, count: 3.0, sum: 4.0, native: None },
    );
    page.family(metadata("size", MetricType::Summary))
        .summary(&[("x", "y")], &SummaryPoint { quantiles: &[(0.5, 1.0)], count: 2.0, sum: 3.0 });
    page.finish()
}

fn native() -> Vec<u8> {
    let histogram = Histogram {
        schema: 3,
        zero_threshold: 0.001,
        sum: 18.4,
        counts: BucketCounts::Integer {
            count: 9,
            zero_count: 2,
            positive: vec![1, 2, -1],
            negative: vec![1],
        },
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
        negative_spans: vec![Span { offset: -2, length: 1 }],
        custom_values: Vec::new(),
        reset_hint: ResetHint::Unknown,
    };
    let mut page = Encoder::new(Format::Protobuf);
    page.family(metadata("native", MetricType::Histogram)).histogram(
        &[("path", "/")],
        &HistogramPoint { count: 9.0, sum: 18.4, native: Some(&histogram), ..HistogramPoint::default() },
    );
    page.finish()
}

fn request_v1() -> v1::WriteRequest {
    let label = |name: &str, value: &str| v1::Label { name: name.into(), value: value.into() };
    let labels = |name: &str| vec![label("__name__", name), label("job", "api")];
    let native = v1::Histogram {
        count: Some(v1::histogram::Count::CountInt(3)),
        sum: 4.5,
        schema: 3,
        zero_threshold: 0.001,
        zero_count: Some(v1::histogram::ZeroCount::ZeroCountInt(0)),
        positive_spans: vec![v1::BucketSpan { offset: 0, length: 2 }],
        positive_deltas: vec![1, 1],
        timestamp: AT,
        ..Default::default()
    };
    v1::WriteRequest {
        timeseries: vec![
            v1::TimeSeries {
                labels: labels("up"),
                samples: vec![v1::Sample { value: 1.0, timestamp: AT }],
                exemplars: vec![v1::Exemplar { labels: vec![label("t", "a")], value: 0.5, timestamp: AT }],
                ..Default::default()
            },
            v1::TimeSeries { labels: labels("native"), histograms: vec![native], ..Default::default() },
            v1::TimeSeries {
                labels: labels("down"),
                samples: vec![v1::Sample { value: -2.5, timestamp: AT - 1 }],
                ..Default::default()
            },
        ],
        metadata: Vec::new(),
    }
}

fn request_v2() -> v2::Request {
    let symbols = ["", "__name__", "up", "job", "api", "native", "help"];
    let native = v2::Histogram {
        count: Some(v1::histogram::Count::CountFloat(3.0)),
        sum: 4.5,
        schema: -53,
        positive_spans: vec![v1::BucketSpan { offset: 0, length: 2 }],
        positive_counts: vec![1.0, 2.0],
        custom_values: vec![0.5],
        timestamp: AT,
        start_timestamp: AT - 9,
        ..Default::default()
    };
    v2::Request {
        symbols: symbols.map(str::to_owned).to_vec(),
        timeseries: vec![
            v2::TimeSeries {
                labels_refs: vec![1, 2, 3, 4],
                samples: vec![v2::Sample { value: 1.0, timestamp: AT, start_timestamp: AT - 9 }],
                exemplars: vec![v2::Exemplar { labels_refs: vec![3, 4], value: 0.5, timestamp: AT }],
                metadata: Some(v2::Metadata { r#type: 1, help_ref: 6, unit_ref: 0 }),
                ..Default::default()
            },
            v2::TimeSeries { labels_refs: vec![1, 5, 3, 4], histograms: vec![native], ..Default::default() },
        ],
    }
}
