//! Pages of delimited protobuf with one of each thing that the messages have room for.

use promferry_exposition::{
    BucketPoint, Encoder, Format, HistogramPoint, Point, PointExemplar, SummaryPoint,
};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, Span, Timestamp};

pub(super) fn protobuf_pages() -> Vec<(&'static str, Vec<u8>)> {
    let family =
        |family, metric_type| MetadataView { family, metric_type, unit: "", help: "Some \u{fc}ber help." };
    let exemplar = |value, timestamp: Option<i64>| PointExemplar {
        labels: &[("trace_id", "0af765"), ("span", "\u{e4}\"\\")],
        value,
        timestamp: timestamp.map(Timestamp::from_millis),
    };
    let labels: &[(&str, &str)] = &[("code", "200"), ("path", "/a\n\"b\"")];
    let point = Point { labels, timestamp: None, start: Some(Timestamp::from_millis(1_600_000_000_125)) };
    let stamped = Point { labels: &[], timestamp: Some(Timestamp::from_millis(-5)), start: None };

    let mut simple = Encoder::new(Format::Protobuf);
    simple
        .family(family("requests", MetricType::Counter))
        .number(point, 7.0)
        .number(stamped, f64::NAN)
        .number_with_exemplar(&[("code", "500")], 3.0, exemplar(0.5, None));
    simple
        .family(MetadataView { unit: "seconds", ..family("age", MetricType::Gauge) })
        .number(point, f64::from_bits(0x7ff0_0000_0000_0002))
        .number(stamped, -0.0);
    simple.family(family("empty", MetricType::Gauge));
    simple.family(family("what.ever", MetricType::Unknown)).number(&[], 1e300);
    let quantiles = [(0.5, 0.25), (0.99, f64::NAN), (1.0, 1e6)];
    simple
        .family(family("latency", MetricType::Summary))
        .summary(point, &SummaryPoint { quantiles: &quantiles, count: 3.0, sum: 0.75 })
        .summary(stamped, &SummaryPoint::default());

    let bucket =
        |upper_bound, cumulative_count, exemplar| BucketPoint { upper_bound, cumulative_count, exemplar };
    let with_infinity =
        [bucket(1.0, 2.0, Some(exemplar(0.7, Some(1_700_000_000_123)))), bucket(f64::INFINITY, 3.0, None)];
    let without = [bucket(0.1, 1.0, None), bucket(1e6, 2.5, Some(exemplar(9.0, None)))];
    let mut classic = Encoder::new(Format::Protobuf);
    classic
        .family(family("size_bytes", MetricType::Histogram))
        .histogram(point, &HistogramPoint { buckets: &with_infinity, count: 3.0, sum: 4.5, native: None })
        .histogram(stamped, &HistogramPoint { buckets: &without, count: 7.25, sum: -1.0, native: None })
        .histogram(&[], &HistogramPoint::default());
    classic
        .family(family("depth", MetricType::GaugeHistogram))
        .histogram(point, &HistogramPoint { buckets: &without, count: 7.0, sum: 1.0, native: None });

    let span = |offset, length| Span { offset, length };
    let integer = Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        sum: 12.5,
        counts: BucketCounts::Integer {
            count: 9,
            zero_count: 1,
            positive: vec![2, -2, 0, 3, -1, -2],
            negative: vec![1, 0],
        },
        positive_spans: vec![span(-2, 2), span(0, 1), span(3, 3)],
        negative_spans: vec![span(4, 1), span(0, 0), span(2, 1)],
        custom_values: vec![],
        reset_hint: Default::default(),
    };
    let float = Histogram {
        counts: BucketCounts::Float {
            count: 3.5,
            zero_count: 0.5,
            positive: vec![0.0, 1.5, 0.0, 0.0, 1.0, 0.0],
            negative: vec![0.0, 0.5],
        },
        schema: -4,
        ..integer.clone()
    };
    let nothing = Histogram {
        positive_spans: vec![],
        negative_spans: vec![],
        zero_threshold: 0.0,
        counts: BucketCounts::Integer { count: 0, zero_count: 0, positive: vec![], negative: vec![] },
        ..integer.clone()
    };
    let mut native = Encoder::new(Format::Protobuf);
    native.family(family("rpc_seconds", MetricType::Histogram)).histogram(
        point,
        &HistogramPoint { buckets: &with_infinity, count: 9.0, sum: 12.5, native: Some(&integer) },
    );
    native
        .family(family("mixed_seconds", MetricType::Histogram))
        .histogram(point, &HistogramPoint { native: Some(&float), ..HistogramPoint::default() })
        .histogram(stamped, &HistogramPoint { buckets: &without, count: 3.0, sum: 1.0, native: None })
        .histogram(&[], &HistogramPoint { native: Some(&nothing), ..HistogramPoint::default() });
    native
        .family(family("depth", MetricType::GaugeHistogram))
        .histogram(&[], &HistogramPoint { native: Some(&integer), ..HistogramPoint::default() });
    vec![("simple", simple.finish()), ("classic", classic.finish()), ("native", native.finish())]
}
