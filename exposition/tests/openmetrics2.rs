//! OpenMetrics 2.0: what its lines mean, and what is refused where.
#![cfg(feature = "openmetrics2")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fmt::Write as _;

use proptest::prelude::*;

use promferry_exposition::{
    BucketPoint, Encoder, Event, Exemplars, Format, HistogramPoint, LabelBuffer, ParseError, ParseOptions,
    Parser, Point, PointExemplar, SummaryPoint,
};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, ResetHint, Span, Timestamp};

/// What a page says, one line a sample.
fn samples(page: &str, options: ParseOptions) -> Result<Vec<String>, ParseError> {
    let page = format!("{page}# EOF\n");
    let mut parser = Parser::new(Format::OpenMetrics2, page.as_bytes(), options);
    let mut labels = LabelBuffer::new();
    let mut lines = Vec::new();
    while let Some(event) = parser.next()? {
        let mut line = String::new();
        let (timestamp, start, exemplars) = match event {
            Event::Series(series) => {
                series.labels(&mut labels)?;
                write!(line, "{} {}", spelled(&labels), series.value()).unwrap();
                (series.timestamp(), series.start(), series.exemplars())
            }
            Event::Histogram(event) => {
                event.labels(&mut labels)?;
                let histogram = event.histogram();
                let spans: Vec<_> = histogram.positive_spans.iter().map(|s| (s.offset, s.length)).collect();
                let gauge = if histogram.reset_hint == ResetHint::Gauge { " gauge" } else { "" };
                let counts = match &histogram.counts {
                    BucketCounts::Integer { count, positive, .. } => format!("{count} {positive:?}"),
                    BucketCounts::Float { count, positive, .. } => format!("float {count} {positive:?}"),
                };
                write!(line, "{} schema {} {spans:?} {counts}{gauge}", spelled(&labels), histogram.schema)
                    .unwrap();
                (event.timestamp(), event.start(), event.exemplars())
            }
            _ => continue,
        };
        append(&mut line, timestamp, start, exemplars);
        lines.push(line);
    }
    Ok(lines)
}

fn append(
    line: &mut String,
    timestamp: Option<Timestamp>,
    start: Option<Timestamp>,
    mut exemplars: Exemplars<'_>,
) {
    timestamp.iter().for_each(|time| write!(line, " @{time}").unwrap());
    start.iter().for_each(|time| write!(line, " since {time}").unwrap());
    let mut labels = LabelBuffer::new();
    while let Some(exemplar) = exemplars.next(&mut labels) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(line, " # {} {} @{}", labels.join(","), exemplar.value, exemplar.timestamp.unwrap()).unwrap();
    }
}

fn spelled(labels: &LabelBuffer) -> String {
    let mut spelled = labels.metric_name().to_owned();
    for (name, value) in labels.iter().skip(1) {
        write!(spelled, ",{name}={value}").unwrap();
    }
    spelled
}

fn everything() -> ParseOptions {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.parse_start_timestamps = true;
    options
}

#[test]
fn times_starts_and_exemplars() {
    let page = "a{b=\"c\"} 1 12.5 st@3.25 # {t=\"x\\\"\"} 0.5 7 # {} 2 8.5\n{\"d.e\",f=\"g\\n\"} NaN st@4\n";
    let expected = ["a,b=c 1 @12500 since 3250 # t=x\" 0.5 @7000 #  2 @8500", "d.e,f=g\n NaN since 4000"];
    assert_eq!(samples(page, everything()).unwrap(), expected);
    let without_starts = samples(page, ParseOptions::default()).unwrap();
    assert_eq!(without_starts[1], "d.e,f=g\n NaN");
}

#[test]
fn composite_values_are_several_samples() {
    let page = "# TYPE s summary\ns{a=\"b\"} {quantile:[0.5:1,0.99:3],sum:5,count:2} 7\n\
        # TYPE g gaugehistogram\ng {gcount:3,gsum:-1,bucket:[-Inf:-1,0:1,+Inf:3]}\n";
    assert_eq!(
        samples(page, everything()).unwrap(),
        [
            "s_count,a=b 2 @7000",
            "s_sum,a=b 5 @7000",
            "s,a=b,quantile=0.5 1 @7000",
            "s,a=b,quantile=0.99 3 @7000",
            "g_gcount 3",
            "g_gsum -1",
            "g_bucket,le=-Inf -1",
            "g_bucket,le=0.0 1",
            "g_bucket,le=+Inf 3",
        ]
    );
}

#[test]
fn exemplars_belong_to_the_bucket_of_their_value() {
    let page = "# TYPE h histogram\nh {count:9,sum:1,bucket:[1:2,2:5,+Inf:9]} \
        # {t=\"a\"} 1.5 1 # {t=\"b\"} NaN 2 # {t=\"c\"} 1 3 # {t=\"d\"} -7 4 # {t=\"e\"} 1.25 5 # {t=\"f\"} 99 6\n";
    assert_eq!(
        samples(page, everything()).unwrap(),
        [
            "h_count 9",
            "h_sum 1",
            "h_bucket,le=1.0 2 # t=c 1 @3000 # t=d -7 @4000",
            "h_bucket,le=2.0 5 # t=a 1.5 @1000 # t=e 1.25 @5000",
            "h_bucket,le=+Inf 9 # t=b NaN @2000 # t=f 99 @6000",
        ]
    );
}

#[test]
fn native_histograms_with_and_without_classic_buckets() {
    let native = "count:6,sum:1.5,schema:3,zero_threshold:0.001,zero_count:1,positive_spans:[-2:2,3:1],positive_buckets:[1,3,1]";
    let page =
        format!("# TYPE h histogram\nh{{a=\"b\"}} {{{native},bucket:[1:2,+Inf:6]}} 4 # {{t=\"x\"}} 0.5 1\n");
    let histogram = "h,a=b schema 3 [(-2, 2), (3, 1)] 6 [1, 2, -2] @4000 # t=x 0.5 @1000";
    let classic = [
        "h_count,a=b 6 @4000",
        "h_sum,a=b 1.5 @4000",
        "h_bucket,a=b,le=1.0 2 @4000 # t=x 0.5 @1000",
        "h_bucket,a=b,le=+Inf 6 @4000",
    ];
    let mut options = everything();
    assert_eq!(samples(&page, options).unwrap(), [histogram]);
    options.always_classic_histograms = true;
    assert_eq!(samples(&page, options).unwrap(), [&[histogram], &classic[..]].concat());
    options.native_histograms = false;
    assert_eq!(samples(&page, options).unwrap(), classic);

    // Without native histograms and without classic buckets the count is all that is known.
    let page = format!("# TYPE h histogram\nh {{{native}}} # {{}} 0.5 1\n");
    assert_eq!(
        samples(&page, options).unwrap(),
        ["h_count 6", "h_sum 1.5", "h_bucket,le=+Inf 6 #  0.5 @1000"]
    );
    options.convert_classic_to_custom_buckets = true;
    options.always_classic_histograms = false;
    assert_eq!(samples(&page, options).unwrap(), ["h schema -53 [(0, 1)] 6 [6] #  0.5 @1000"]);

    let gauge = "# TYPE g gaugehistogram\n\
        g {gcount:2.5,gsum:1,schema:0,zero_threshold:0,zero_count:0,positive_spans:[0:1,],positive_buckets:[,2.5]}\n";
    assert_eq!(samples(gauge, everything()).unwrap(), ["g schema 0 [(0, 1)] float 2.5 [2.5] gauge"]);
}

#[test]
fn classic_buckets_become_custom_ones() {
    let mut options = everything();
    options.convert_classic_to_custom_buckets = true;
    let page = |buckets: &str| format!("# TYPE h histogram\nh {{count:6,sum:1.5,bucket:[{buckets}]}}\n");
    assert_eq!(samples(&page("1:2,2:2,+Inf:6"), options).unwrap(), ["h schema -53 [(0, 3)] 6 [2, -2, 4]"]);
    let error = samples(&page("1:2,2:1,+Inf:6"), options).unwrap_err();
    assert_eq!(error.problem(), "counts of classic buckets do not grow with their bounds");
}

#[test]
fn type_and_unit_are_of_equal_names_alone() {
    let mut options = everything();
    options.type_and_unit_labels = true;
    let page = "# TYPE a counter\n# UNIT a seconds\na{__type__=\"x\",__unit__=\"y\"} 1\na_total{__type__=\"x\"} 1\na 1\n";
    let expected = ["a,__type__=counter,__unit__=seconds 1", "a_total,__type__=x 1", "a 1"];
    assert_eq!(samples(page, options).unwrap(), expected);
}

#[test]
fn refusals_say_where_and_what() {
    for (page, column, problem) in [
        ("a 1 2 3", 7, "timestamp is there already"),
        ("a 1 st@2 3", 10, "timestamp must precede the start timestamp"),
        ("a 1 st@2 st@3", 10, "start timestamp is there already"),
        ("a 1 st@", 5, "not a number, expected a timestamp in seconds"),
        ("a 1 # {} 1", 11, "expected the exemplar's timestamp in seconds"),
        ("a 1 # {\"b\"} 1 1", 11, "expected '=' after the label name"),
        ("{a=\"b\",\"c\"} 1", 8, "metric name must be the first item in the braces"),
        ("{\"\"} 1", 3, "name must not be empty"),
        ("{a=\"b\"} 1", 1, "expected a metric name, as in {\"name\"} or name{}"),
        ("a{b=\"c\"d=\"e\"} 1", 8, "expected ',' or '}' after the label"),
        ("a  1", 2, "expected a value after the series"),
        ("a {count:1,sum:1}", 3, "only histograms and summaries have composite values"),
        ("# TYPE a info", 10, "name of an info must end with _info"),
        ("# TYPE a gauge\r", 15, "unexpected carriage return"),
        (
            "# TYPE a untyped",
            10,
            "expected one of counter, gauge, gaugehistogram, histogram, info, stateset, summary and unknown",
        ),
    ] {
        let error = samples(&format!("{page}\n"), everything()).unwrap_err();
        assert_eq!(
            (error.line(), error.column(), error.problem()),
            (Some(1), Some(column), problem),
            "{page}"
        );
    }
    for (metric_type, value, column, problem) in [
        ("counter", "NaN", 3, "value of a counter is not a number"),
        ("histogram", "1", 3, "expected a composite value, which histograms and summaries have"),
        ("stateset", "2", 3, "value of a stateset is neither 0 nor 1"),
        ("stateset", "1", 3, "stateset lacks the label of its name"),
        ("histogram", "{count:1,sum:1}", 4, "field bucket is missing"),
        ("histogram", "{count:1,gsum:1}", 12, "expected a field that values of this type have"),
        ("histogram", "{count:1,count:1}", 12, "field is there already"),
        ("histogram", "{count:1,sum:}", 16, "expected the field's value, a number or a list in brackets"),
        ("histogram", "{count:1,sum:1,bucket:[1:1]}", 25, "buckets lack the bound +Inf"),
        ("histogram", "{count:1,sum:1,bucket:[2:1,1:1]}", 30, "bounds of buckets must grow"),
        ("histogram", "{count:1,sum:1,bucket:[1:-1,+Inf:1]}", 26, "count of a bucket is negative"),
        ("summary", "{count:1,sum:1,quantile:[1.5:1]}", 28, "expected a quantile from 0 to 1"),
        (
            "histogram",
            "{count:1,sum:1,schema:9,zero_threshold:0,zero_count:0}",
            25,
            "expected a schema from -4 to 8",
        ),
        (
            "histogram",
            "{count:1,sum:1,schema:0,zero_threshold:0,zero_count:0}",
            10,
            "buckets have 0 observations, but the count is 1",
        ),
    ] {
        let page = format!("# TYPE a {metric_type}\na {value}\n");
        let error = samples(&page, everything()).unwrap_err();
        assert_eq!(
            (error.line(), error.column(), error.problem()),
            (Some(2), Some(column), problem),
            "{page}"
        );
    }
    let mut parser = Parser::new(Format::OpenMetrics2, b"a 1\n", everything());
    parser.next().unwrap();
    assert_eq!(parser.next().unwrap_err().problem(), "page does not end with # EOF");
}

#[test]
fn each_sample_of_a_value_has_a_key_of_its_own() {
    let page = "# TYPE h histogram\nh {count:6,sum:1,schema:0,zero_threshold:0,zero_count:6,bucket:[1:2,2:3,+Inf:6]}\n\
        h{a=\"b\"} {count:6,sum:1,bucket:[1:2,2:3,+Inf:6]}\n# TYPE s summary\ns {count:1,sum:1,quantile:[0.5:1,1:1]}\n\
        # TYPE h_count gauge\nh_count 1\n# EOF\n";
    let mut options = everything();
    options.always_classic_histograms = true;
    let mut parser = Parser::new(Format::OpenMetrics2, page.as_bytes(), options);
    let mut series_of_key = HashMap::new();
    let mut labels = LabelBuffer::new();
    while let Some(event) = parser.next().unwrap() {
        let (key, again) = match event {
            Event::Series(series) => {
                series.labels(&mut labels).unwrap();
                (series.key(7), series.key(7))
            }
            Event::Histogram(histogram) => {
                histogram.labels(&mut labels).unwrap();
                (histogram.key(7), histogram.key(7))
            }
            _ => continue,
        };
        assert_eq!(key, again);
        let before = series_of_key.insert(key, spelled(&labels));
        assert_eq!(before, None, "two series with one key");
    }
    assert_eq!(series_of_key.len(), 1 + 5 + 5 + 4 + 1);
}

/// Spans and absolute counts of one side, more often than not as many as there should be.
fn side() -> impl Strategy<Value = (Vec<Span>, Vec<i64>)> {
    let offset = prop_oneof![12 => 0..3_i32, 1 => -2..0_i32, 1 => Just(i32::MAX), 1 => Just(i32::MIN)];
    let spans = (offset, 0..3_u32).prop_map(|(offset, length)| Span { offset, length });
    (prop::collection::vec(spans, 0..3), prop::bool::weighted(0.1)).prop_flat_map(|(spans, one_more)| {
        let promised = spans.iter().map(|span| span.length as usize).sum::<usize>();
        let count = prop_oneof![20 => 0..4_i64, 1 => Just(-1)];
        (Just(spans), prop::collection::vec(count, promised + usize::from(one_more)))
    })
}

proptest! {
    /// A native histogram is judged without its lists being kept; here they are.
    #[test]
    fn what_could_not_be_stored_is_refused(
        schema in -6..11_i32, positive in side(), negative in side(), zero_count in 0..3_i64,
        off in prop_oneof![4 => Just(0), 1 => -1..2_i64], is_float: bool, has_nan: bool,
    ) {
        let ((positive_spans, positive), (negative_spans, negative)) = (positive, negative);
        let in_buckets: i64 = [zero_count].iter().chain(&positive).chain(&negative).sum();
        let count = (in_buckets + off).max(0);
        let deltas = |counts: &[i64]| {
            let before = [0].into_iter().chain(counts.iter().copied());
            counts.iter().zip(before).map(|(count, before)| count - before).collect::<Vec<_>>()
        };
        let halved = |counts: &[i64]| counts.iter().map(|&count| count as f64 / 2.0).collect::<Vec<_>>();
        let histogram = Histogram {
            schema,
            zero_threshold: 0.0,
            sum: if has_nan { f64::NAN } else { 1.0 },
            counts: if is_float {
                let (positive, negative) = (halved(&positive), halved(&negative));
                BucketCounts::Float { count: count as f64 + 0.5, zero_count: zero_count as f64, positive, negative }
            } else {
                let (positive, negative) = (deltas(&positive), deltas(&negative));
                BucketCounts::Integer { count: count as u64, zero_count: zero_count as u64, positive, negative }
            },
            positive_spans,
            negative_spans,
            custom_values: Vec::new(),
            reset_hint: ResetHint::Unknown,
        };
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let spans = |spans: &[Span]| list(spans.iter().map(|s| format!("{}:{}", s.offset, s.length)).collect());
        let counts = |counts: &[i64]| {
            list(counts.iter().map(|&n| if is_float { (n as f64 / 2.0).to_string() } else { n.to_string() }).collect())
        };
        let page = format!(
            "# TYPE h histogram\nh {{count:{count}{},sum:{},schema:{schema},zero_threshold:0,zero_count:{zero_count},\
             positive_spans:{},positive_buckets:{},negative_spans:{},negative_buckets:{}}}\n# EOF\n",
            if is_float { ".5" } else { "" },
            histogram.sum,
            spans(&histogram.positive_spans), counts(&positive), spans(&histogram.negative_spans), counts(&negative),
        );
        let mut parser = Parser::new(Format::OpenMetrics2, page.as_bytes(), everything());
        parser.next().unwrap();
        match (parser.next(), histogram.validate()) {
            (Ok(Some(Event::Histogram(event))), Ok(())) => {
                prop_assert_eq!(format!("{:?}", event.histogram()), format!("{:?}", histogram));
            }
            (Err(_), Err(_)) => {}
            (read, judged) => panic!("{read:?} but {judged:?}: {page}"),
        }
    }
}

#[test]
fn a_line_of_many_buckets_and_exemplars_takes_no_time() {
    let mut page = "# TYPE h histogram\nh {count:1,sum:1,bucket:[".to_owned();
    (0..20_000).for_each(|bound| write!(page, "{bound}:0,").unwrap());
    page.push_str("+Inf:1]}");
    (0..20_000).rev().for_each(|value| write!(page, " # {{}} {value} 1").unwrap());
    page.push('\n');
    let samples = samples(&page, everything()).unwrap();
    assert_eq!(samples.len(), 2 + 20_001);
    assert!(
        samples[2..20_002].iter().all(|sample| sample.matches('#').count() == 1),
        "one exemplar a bucket"
    );
}

#[test]
fn what_is_written_is_read_back() {
    let at = |timestamp: Option<i64>, start: Option<i64>| Point {
        labels: &[("a", "b\"\n")],
        timestamp: timestamp.map(Timestamp::from_millis),
        start: start.map(Timestamp::from_millis),
    };
    let family = |family, metric_type| MetadataView { family, metric_type, unit: "", help: "" };
    let exemplar = |value, timestamp: Option<i64>| PointExemplar {
        labels: &[("t", "u")],
        value,
        timestamp: timestamp.map(Timestamp::from_millis),
    };
    let native = |counts| Histogram {
        schema: 3,
        zero_threshold: 0.001,
        sum: -0.5,
        counts,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        reset_hint: ResetHint::Unknown,
    };
    let integers =
        native(BucketCounts::Integer { count: 7, zero_count: 1, positive: vec![1, 2, -1], negative: vec![] });
    let floats = native(BucketCounts::Float {
        count: 7.0,
        zero_count: 0.0,
        positive: vec![4.0, 1e9, 3.0],
        negative: vec![],
    });
    let bucket =
        |upper_bound, cumulative_count, exemplar| BucketPoint { upper_bound, cumulative_count, exemplar };
    let buckets =
        [bucket(0.5, 1.0, Some(exemplar(0.25, Some(5_000)))), bucket(2.0, 3.0, Some(exemplar(1.0, None)))];
    let classic = HistogramPoint { buckets: &buckets, count: 4.0, sum: 2.5, native: None };
    let only = |native| HistogramPoint { native: Some(native), ..HistogramPoint::default() };

    let mut page = Encoder::new(Format::OpenMetrics2);
    page.family(MetadataView { unit: "seconds", help: "a\n\"b\"", ..family("c", MetricType::Counter) })
        .number(at(Some(12_500), Some(3_250)), 1.0)
        .number_with_exemplar(&[], 2.0, exemplar(0.5, Some(7_000)));
    page.family(family("i", MetricType::Info)).number(at(None, None), 1.0);
    page.family(family("g.h", MetricType::Gauge)).number(at(None, Some(1)), f64::NAN).number(&[], -0.0);
    page.family(family("s", MetricType::Summary)).summary(
        at(Some(1), Some(2)),
        &SummaryPoint { quantiles: &[(0.5, 1.0), (1.0, f64::NAN)], count: 3.0, sum: 4.5 },
    );
    page.family(family("h", MetricType::Histogram))
        .histogram(at(None, Some(9_000)), &classic)
        .histogram(&[("n", "1")], &HistogramPoint { native: Some(&integers), ..classic })
        .histogram(&[("n", "2")], &only(&floats));
    page.family(family("q", MetricType::GaugeHistogram)).histogram(&[], &classic);
    let page = page.finish();
    let mut options = everything();
    options.always_classic_histograms = true;
    let (text, end) = (str::from_utf8(&page).unwrap(), "# EOF\n");
    assert_eq!(
        samples(text.strip_suffix(end).unwrap(), options).unwrap(),
        [
            "c_total,a=b\"\n 1 @12500 since 3250",
            "c_total 2 # t=u 0.5 @7000",
            "i_info,a=b\"\n 1",
            "g.h,a=b\"\n NaN",
            "g.h -0",
            "s_count,a=b\"\n 3 @1 since 2",
            "s_sum,a=b\"\n 4.5 @1 since 2",
            "s,a=b\"\n,quantile=0.5 1 @1 since 2",
            "s,a=b\"\n,quantile=1.0 NaN @1 since 2",
            "h_count,a=b\"\n 4 since 9000",
            "h_sum,a=b\"\n 2.5 since 9000",
            "h_bucket,a=b\"\n,le=0.5 1 since 9000 # t=u 0.25 @5000",
            "h_bucket,a=b\"\n,le=2.0 3 since 9000",
            "h_bucket,a=b\"\n,le=+Inf 4 since 9000",
            "h,n=1 schema 3 [(-2, 2), (3, 1)] 7 [1, 2, -1] # t=u 0.25 @5000",
            "h_count,n=1 7",
            "h_sum,n=1 -0.5",
            "h_bucket,n=1,le=0.5 1 # t=u 0.25 @5000",
            "h_bucket,n=1,le=2.0 3",
            "h_bucket,n=1,le=+Inf 4",
            "h,n=2 schema 3 [(-2, 2), (3, 1)] float 7 [4.0, 1000000000.0, 3.0]",
            "q_gcount 4",
            "q_gsum 2.5",
            "q_bucket,le=0.5 1 # t=u 0.25 @5000",
            "q_bucket,le=2.0 3",
            "q_bucket,le=+Inf 4",
        ]
    );
    assert!(
        text.starts_with("# TYPE c_total counter\n# UNIT c_total seconds\n# HELP c_total a\\n\\\"b\\\"\n"),
        "{text}"
    );
    assert!(text.contains("# TYPE i_info info\n") && text.contains("# TYPE \"g.h\" gauge\n"), "{text}");
}
