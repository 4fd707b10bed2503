//! What is written, to the byte, where that is somebody's expectation: names under each escaping, what is refused and
//! how that is said, and how a page is sent on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;

use promferry_exposition::{
    Encoder, Exemplar, Format, HistogramPoint, HistogramValue, Metric, MetricFamily, MetricPoint, Negotiated,
    Point, PointExemplar, PointValue, Quantile, ScrapeProtocol, StreamError, StreamingEncoder, StrictRule,
    SummaryValue, write_families,
};
use promferry_model::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, EscapingScheme, Histogram, Labels, MetadataView, MetricType,
    ResetHint, Span, Timestamp,
};

use EscapingScheme::{AllowUtf8, Dots, Underscores, Values};
use ScrapeProtocol::{OpenMetricsText0_0_1, OpenMetricsText1_0_0, PrometheusText0_0_4, PrometheusText1_0_0};

/// As prometheus/common 0.72 `expfmt` escapes a counter `http.requests_total` with a label `http.method`.
#[test]
fn names_are_written_as_agreed() {
    for (protocol, escaping, page) in [
        (
            PrometheusText1_0_0,
            AllowUtf8,
            "# TYPE \"http.requests_total\" counter\n{\"http.requests_total\",\"http.method\"=\"a.b\"} 7\n",
        ),
        (
            PrometheusText0_0_4,
            AllowUtf8,
            "# TYPE http_requests_total counter\nhttp_requests_total{http_method=\"a.b\"} 7\n",
        ),
        (
            PrometheusText1_0_0,
            Underscores,
            "# TYPE http_requests_total counter\nhttp_requests_total{http_method=\"a.b\"} 7\n",
        ),
        (
            PrometheusText0_0_4,
            Dots,
            "# TYPE http_dot_requests__total counter\nhttp_dot_requests__total{http_dot_method=\"a.b\"} 7\n",
        ),
        (
            PrometheusText0_0_4,
            Values,
            "# TYPE U__http_2e_requests__total counter\nU__http_2e_requests__total{U__http_2e_method=\"a.b\"} 7\n",
        ),
        (
            OpenMetricsText1_0_0,
            AllowUtf8,
            "# TYPE \"http.requests\" counter\n{\"http.requests_total\",\"http.method\"=\"a.b\"} 7.0\n# EOF\n",
        ),
        (
            OpenMetricsText0_0_1,
            AllowUtf8,
            "# TYPE http_requests counter\nhttp_requests_total{http_method=\"a.b\"} 7.0\n# EOF\n",
        ),
        (
            OpenMetricsText1_0_0,
            Values,
            "# TYPE U__http_2e_requests_ counter\nU__http_2e_requests__total{U__http_2e_method=\"a.b\"} 7.0\n# EOF\n",
        ),
    ] {
        let answer = Negotiated::new(protocol, escaping);
        let metadata = MetadataView {
            family: "http.requests",
            metric_type: MetricType::Counter,
            ..MetadataView::default()
        };
        let mut borrowed = Encoder::for_protocol(answer);
        borrowed.family(metadata).number(&[("http.method", "a.b")], 7.0);
        assert_eq!(String::from_utf8(borrowed.finish()).unwrap(), page, "{answer}");

        let mut streamed = StreamingEncoder::new(Vec::new(), answer);
        let metric = metric(&[("http.method", "a.b")], 7.0);
        let family =
            MetricFamily { suffixed: true, ..family("http.requests", MetricType::Counter, vec![metric]) };
        streamed.family(&family).unwrap();
        assert_eq!(String::from_utf8(streamed.finish().unwrap()).unwrap(), page, "{answer}");
    }
}

#[test]
fn what_openmetrics_forbids_is_refused_with_its_rule() {
    use StrictRule::{
        ExemplarPlace, Grouping, Histogram, Labels as LabelsRule, Name, NameClash, Page, RequiredLabel,
        SampleName, SampleValue, Unit,
    };
    let number = |metric_type, value: f64| vec![family("a", metric_type, vec![metric(&[], value)])];
    let histogram = |buckets: &[(f64, f64)], count: Option<f64>, sum: Option<f64>| {
        let buckets = buckets
            .iter()
            .map(|&(upper_bound, cumulative_count)| promferry_exposition::Bucket {
                upper_bound,
                cumulative_count,
                exemplar: None,
            })
            .collect();
        let value = HistogramValue { count, sum, buckets, native: None };
        vec![family("a", MetricType::Histogram, vec![metric(&[], value)])]
    };
    let summary = |quantile, value| {
        let value = SummaryValue { quantiles: vec![Quantile { quantile, value }], ..SummaryValue::default() };
        vec![family("a", MetricType::Summary, vec![metric(&[], value)])]
    };
    let with = |change: fn(&mut MetricFamily)| {
        let mut changed = family("a", MetricType::Gauge, vec![metric(&[], 1.0)]);
        change(&mut changed);
        vec![changed]
    };
    let infinity = f64::INFINITY;
    for (families, rule) in [
        (number(MetricType::Counter, -1.0), SampleValue),
        (number(MetricType::Counter, f64::NAN), SampleValue),
        (number(MetricType::Info, 2.0), SampleValue),
        (number(MetricType::StateSet, 1.0), RequiredLabel),
        (number(MetricType::Histogram, 1.0), SampleName),
        (histogram(&[(1.0, 1.0)], Some(1.0), Some(1.0)), Histogram),
        (histogram(&[(1.0, 2.0), (infinity, 1.0)], Some(1.0), Some(1.0)), Histogram),
        (histogram(&[(2.0, 1.0), (1.0, 1.0), (infinity, 1.0)], Some(1.0), Some(1.0)), Histogram),
        (histogram(&[(infinity, 1.0)], Some(2.0), Some(1.0)), Histogram),
        (histogram(&[(infinity, 1.0)], Some(1.0), None), Histogram),
        (histogram(&[(-1.0, 1.0), (infinity, 1.0)], Some(1.0), Some(1.0)), Histogram),
        (histogram(&[(infinity, 1.5)], None, None), SampleValue),
        (histogram(&[(f64::NAN, 1.0), (infinity, 1.0)], None, None), RequiredLabel),
        (summary(1.5, 1.0), RequiredLabel),
        (summary(0.5, -1.0), SampleValue),
        (with(|family| family.name.clear()), Name),
        (with(|family| family.unit.push_str("seconds")), Unit),
        (with(|family| family.help.push('\r')), Page),
        (with(|family| family.metrics.push(family.metrics[0].clone())), Grouping),
        (with(|family| family.metrics[0].labels = Labels::from_pairs([("__name__", "b")])), LabelsRule),
        (
            with(|family| {
                let first = &mut family.metrics[0].points;
                first.push(MetricPoint { timestamp: Some(Timestamp::from_millis(1)), ..first[0].clone() });
            }),
            Grouping,
        ),
        (
            with(|family| {
                (family.metric_type, family.suffixed) = (MetricType::Counter, true);
                family.metrics[0].points[0].exemplars.push(Exemplar {
                    labels: Labels::from_pairs([("t", "é".repeat(128))]),
                    value: 1.0,
                    timestamp: None,
                });
            }),
            ExemplarPlace,
        ),
        ([number(MetricType::Histogram, 0.0), number(MetricType::Histogram, 0.0)].concat(), SampleName),
        (
            vec![
                family("a", MetricType::Summary, Vec::new()),
                family("a_sum", MetricType::Gauge, Vec::new()),
            ],
            NameClash,
        ),
    ] {
        let refused = write_families(Format::OpenMetrics, &families).unwrap_err();
        assert_eq!(refused.rule, rule, "{refused}\n{families:?}");
        assert_eq!(refused.family, families.last().unwrap().name);
    }
}

#[test]
fn a_refusal_says_where_and_why() {
    let families = [family("jobs", MetricType::Counter, vec![metric(&[("queue", "in")], -1.0)])];
    assert_eq!(
        write_families(Format::OpenMetrics, &families).unwrap_err().to_string(),
        "family \"jobs\", metric {queue=\"in\"}: expected a value that is not negative; rule sample-value: \
         totals, counts, buckets and sums are neither NaN nor negative, counts and buckets are integers, quantiles \
         are not negative, info is 1, a state is 0 or 1"
    );
    // Prometheus takes it.
    assert!(write_families(Format::Text, &families).is_ok());
}

#[test]
fn what_is_refused_leaves_no_trace_and_the_page_goes_on() {
    let mut page = StreamingEncoder::new(Vec::new(), Negotiated::newest(Format::OpenMetrics));
    let refusal = |result: Result<(), StreamError>| match result {
        Err(StreamError::Encode(refused)) => refused.rule,
        other => panic!("{other:?}"),
    };
    let early = metric(&[], 1.0);
    assert_eq!(refusal(page.metric(&early)), StrictRule::SampleName);
    page.family(&family("a", MetricType::Counter, vec![metric(&[("n", "0")], 1.0)])).unwrap();
    assert_eq!(refusal(page.metric(&metric(&[("n", "1")], -1.0))), StrictRule::SampleValue);
    page.metric(&metric(&[("n", "1")], 2.0)).unwrap();
    let clash = family("a_total", MetricType::Gauge, vec![metric(&[], 1.0)]);
    assert_eq!(refusal(page.family(&clash)), StrictRule::NameClash);
    assert_eq!(refusal(page.metric(&early)), StrictRule::SampleName);
    page.family(&family("b", MetricType::Gauge, vec![metric(&[], 3.0)])).unwrap();
    assert_eq!(
        String::from_utf8(page.finish().unwrap()).unwrap(),
        "# TYPE a counter\na_total{n=\"0\"} 1.0\na_total{n=\"1\"} 2.0\n# TYPE b gauge\nb 3.0\n# EOF\n"
    );
}

/// A metric that is refused for what it says may come again and say something else.
#[test]
fn a_metric_that_was_refused_may_come_again() {
    let nan_in_counter = metric(&[("b", "c")], f64::NAN);
    for (format, family, refused, accepted) in [
        (
            Format::OpenMetrics,
            family("a", MetricType::Counter, vec![]),
            nan_in_counter.clone(),
            metric(&[("b", "c")], 1.0),
        ),
        #[cfg(feature = "openmetrics2")]
        (
            Format::OpenMetrics2,
            family("a", MetricType::Counter, vec![]),
            nan_in_counter,
            metric(&[("b", "c")], 1.0),
        ),
        (
            Format::OpenMetrics,
            family("a", MetricType::StateSet, vec![metric(&[("a", "on")], 1.0)]),
            // Its second point is, when the first is noted already.
            Metric {
                points: vec![PointValue::Number(0.0).into(), PointValue::Number(0.0).into()],
                ..metric(&[("a", "off")], 0.0)
            },
            metric(&[("a", "off")], 0.0),
        ),
        (
            Format::Text,
            family("a", MetricType::Gauge, vec![]),
            metric(&[("b", "c")], SummaryValue::default()),
            metric(&[("b", "c")], 1.0),
        ),
        (
            Format::Protobuf,
            family("a", MetricType::Gauge, vec![]),
            metric(&[("b", "c")], SummaryValue::default()),
            metric(&[("b", "c")], 1.0),
        ),
    ] {
        let mut page = StreamingEncoder::new(Vec::new(), Negotiated::newest(format));
        page.family(&family).unwrap();
        page.metric(&refused).unwrap_err();
        page.metric(&accepted).unwrap();
        let mut whole = family.clone();
        whole.metrics.push(accepted);
        let expected = write_families(format, &[whole]).unwrap();
        assert_eq!(page.finish().unwrap(), expected, "{format:?} {}", family.metric_type.as_str());
    }
}

/// Counts what comes and fails when it is full.
#[derive(Default)]
struct Pipe {
    written: Vec<usize>,
    room: usize,
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.room {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        self.room -= bytes.len();
        self.written.push(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_long_page_is_sent_on_in_pieces() {
    let write = |room| -> Result<Pipe, StreamError> {
        let pipe = Pipe { room, ..Pipe::default() };
        let mut page = StreamingEncoder::new(pipe, Negotiated::newest(Format::Text));
        page.family(&family("a", MetricType::Gauge, Vec::new()))?;
        for number in 0..20_000 {
            page.metric(&metric(&[("n", &number.to_string())], f64::from(number)))?;
        }
        page.finish()
    };
    let pipe = write(usize::MAX).unwrap();
    let length: usize = pipe.written.iter().sum();
    assert!(length > 300_000 && pipe.written.len() <= length / 65_536 + 1, "{:?}", pipe.written);
    assert!(pipe.written.iter().all(|piece| *piece < 70_000), "{:?}", pipe.written);
    assert!(
        matches!(write(length - 1), Err(StreamError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    );
}

#[test]
fn custom_buckets_are_classic_ones() {
    let custom = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        sum: 4.5,
        counts: BucketCounts::Integer { count: 6, zero_count: 0, positive: vec![2, -1, 2], negative: vec![] },
        positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 2 }],
        negative_spans: vec![],
        custom_values: vec![0.25, 0.5, 1.0],
        reset_hint: ResetHint::Unknown,
    };
    let value = HistogramValue { native: Some(Box::new(custom.clone())), ..HistogramValue::default() };
    let families = [family("a", MetricType::Histogram, vec![metric(&[], value)])];
    let expected = "# TYPE a histogram\na_bucket{le=\"0.25\"} 2.0\na_bucket{le=\"0.5\"} 2.0\na_bucket{le=\"1.0\"} 3.0\n\
                    a_bucket{le=\"+Inf\"} 6.0\na_sum 4.5\na_count 6.0\n# EOF\n";
    let page = write_families(Format::OpenMetrics, &families).unwrap();
    assert_eq!(String::from_utf8(page).unwrap(), expected);

    let mut borrowed = Encoder::new(Format::OpenMetrics);
    let metadata =
        MetadataView { family: "a", metric_type: MetricType::Histogram, ..MetadataView::default() };
    let point = HistogramPoint { native: Some(&custom), count: 6.0, sum: 4.5, buckets: &[] };
    borrowed.family(metadata).histogram(&[], &point);
    assert_eq!(String::from_utf8(borrowed.finish()).unwrap(), expected);
}

#[test]
fn seconds_read_back_as_the_same_millisecond() {
    for (millis, seconds) in [
        (0, "0.000"),
        (1, "0.001"),
        (-1, "-0.001"),
        (1_500, "1.500"),
        // The double nearest to this many seconds is a little less, and so is its thousandfold.
        (1_001, "1.0010000000000001"),
        (1_700_000_000_123, "1700000000.123"),
        (253_402_300_799_999, "253402300799.999"),
    ] {
        let mut page = Encoder::new(Format::OpenMetrics);
        let point = Point { timestamp: Some(Timestamp::from_millis(millis)), ..Point::default() };
        page.family(MetadataView { family: "a", ..MetadataView::default() }).number(point, 0.0);
        let page = String::from_utf8(page.finish()).unwrap();
        let written = page.lines().nth(1).unwrap().strip_prefix("a 0.0 ").unwrap();
        assert_eq!(written, seconds);
        assert_eq!((written.parse::<f64>().unwrap() * 1000.0) as i64, millis);
    }
}

#[test]
fn exemplars_of_native_histograms_are_written() {
    let native = Histogram {
        schema: 0,
        zero_threshold: 0.0,
        sum: 1.0,
        counts: BucketCounts::Integer { count: 1, zero_count: 0, positive: vec![1], negative: vec![] },
        positive_spans: vec![Span { offset: 0, length: 1 }],
        negative_spans: vec![],
        custom_values: vec![],
        reset_hint: ResetHint::Unknown,
    };
    let at = Some(Timestamp::from_millis(1_500));
    let exemplars = [PointExemplar { labels: &[("t", "u")], value: 1.0, timestamp: at }];
    let mut page = Encoder::new(Format::Protobuf);
    let metadata =
        MetadataView { family: "a", metric_type: MetricType::Histogram, ..MetadataView::default() };
    let point = HistogramPoint { native: Some(&native), ..HistogramPoint::default() };
    page.family(metadata).histogram_with_exemplars(&[], &point, &exemplars);
    let mut options = promferry_exposition::ParseOptions::default();
    options.native_histograms = true;
    let families = promferry_exposition::read_families(Format::Protobuf, &page.finish(), options).unwrap();
    let read = &families[0].metrics[0].points[0].exemplars;
    let labels = Labels::from_pairs([("t", "u")]);
    assert_eq!(read[..], [Exemplar { labels, value: 1.0, timestamp: at }]);
}

fn family(name: &str, metric_type: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    MetricFamily { name: name.to_owned(), metric_type, metrics, ..MetricFamily::default() }
}

fn metric(labels: &[(&str, &str)], value: impl Into<PointValue>) -> Metric {
    let labels = Labels::from_pairs(labels.iter().copied());
    Metric { labels, points: vec![value.into().into()] }
}
