//! Pages as families: what belongs together comes together, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use promferry_exposition::{
    BucketPoint, Encoder, Format, HistogramPoint, HistogramValue, MetricFamily, ParseOptions, Point,
    PointExemplar, PointValue, ReadError, read_families,
};
use promferry_model::{
    BucketCounts, Histogram, MetadataView, MetricType, NORMAL_NAN_BITS, STALE_NAN_BITS, Span, Timestamp,
};

fn options() -> ParseOptions {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.always_classic_histograms = true;
    options.parse_start_timestamps = true;
    options
}

fn read(format: Format, page: &str) -> Vec<MetricFamily> {
    read_families(format, page.as_bytes(), options()).unwrap()
}

/// Name, type, whether suffixed, and of each metric its labels and values.
fn shape(families: &[MetricFamily]) -> Vec<String> {
    let mut lines = Vec::new();
    for family in families {
        let suffixed = if family.suffixed { " suffixed" } else { "" };
        lines.push(format!("{} {}{suffixed}", family.name, family.metric_type.as_str()));
        for metric in &family.metrics {
            for point in &metric.points {
                let value = match &point.value {
                    PointValue::Number(number) => format!("{number}"),
                    PointValue::Summary(summary) => {
                        let quantiles: Vec<String> = summary
                            .quantiles
                            .iter()
                            .map(|quantile| format!("{}:{}", quantile.quantile, quantile.value))
                            .collect();
                        format!("{:?} {:?} [{}]", summary.count, summary.sum, quantiles.join(" "))
                    }
                    PointValue::Histogram(histogram) => {
                        let buckets: Vec<String> = histogram
                            .buckets
                            .iter()
                            .map(|bucket| format!("{}:{}", bucket.upper_bound, bucket.cumulative_count))
                            .collect();
                        format!("{:?} {:?} [{}]", histogram.count, histogram.sum, buckets.join(" "))
                    }
                    other => panic!("{other:?}"),
                };
                let at = point.timestamp.map(|at| format!(" @{at}")).unwrap_or_default();
                let start = point.start.map(|at| format!(" st@{at}")).unwrap_or_default();
                lines.push(format!("  {} {value}{at}{start}", metric.labels));
            }
        }
    }
    lines
}

#[test]
fn what_belongs_together_comes_together() {
    let page = "# HELP c What \\\\ is\\n counted.\n# TYPE c_total counter\nc_total{a=\"1\"} 3\n# TYPE h histogram\n\
                h_bucket{le=\"1\",x=\"y\"} 2\nh_bucket{le=\"+Inf\",x=\"y\"} 3\nh_sum{x=\"y\"} 4\nh_count{x=\"y\"} 3\n\
                # TYPE s summary\ns{quantile=\"0.5\"} 1 7\ns_sum 2 7\ns_count 3 7\ns_sum 4 8\nc_total{a=\"2\"} 5\n\
                g 1\n# TYPE u untyped\nu NaN\n";
    assert_eq!(
        shape(&read(Format::Text, page)),
        [
            "c unknown",
            "c counter suffixed",
            "  {a=\"1\"} 3",
            "  {a=\"2\"} 5",
            "h histogram",
            "  {x=\"y\"} Some(3.0) Some(4.0) [1:2 inf:3]",
            "s summary",
            "  {} Some(3.0) Some(2.0) [0.5:1] @7",
            "  {} None Some(4.0) [] @8",
            "g unknown",
            "  {} 1",
            "u unknown",
            "  {} NaN",
        ]
    );
}

/// Pages that say things in odd ways, and the families that come of them.
const ODD: &[(&str, &str, &[&str])] = &[
    ("counter without suffix", "# TYPE c counter\nc 1\n", &["c counter", "  {} 1"]),
    ("counter named in OpenMetrics' way", "# TYPE c counter\nc_total 1\n", &["c counter suffixed", "  {} 1"]),
    (
        "counter with and without",
        "# TYPE c counter\nc 1\nc_total 2\nc 3\n",
        &["c counter", "  {} 1", "  {} 3", "c_total unknown", "  {} 2"],
    ),
    ("nothing but a suffix", "# TYPE _total counter\n_total 1\n", &["_total counter", "  {} 1"]),
    (
        "the suffix twice",
        "# TYPE a_total_total counter\na_total_total 1\n",
        &["a_total counter suffixed", "  {} 1"],
    ),
    ("a counter of which there is nothing", "# TYPE c_total counter\n", &["c counter suffixed"]),
    (
        "a histogram's own name",
        "# TYPE h histogram\nh_count 1\nh 2\n",
        &["h histogram", "  {} Some(1.0) None []", "h unknown", "  {} 2"],
    ),
    (
        "buckets without a bound",
        "# TYPE h histogram\nh_bucket 1\nh_bucket{le=\"x\"} 2\nh_bucket{le=\"1\"} 3\n",
        &["h histogram", "  {} None None [1:3]", "h_bucket unknown", "  {} 1", "  {le=\"x\"} 2"],
    ),
    (
        "a count with a bound",
        "# TYPE h histogram\nh_count{le=\"1\"} 1\n",
        &["h histogram", "h_count unknown", "  {le=\"1.0\"} 1"],
    ),
    (
        "a summary without a quantile",
        "# TYPE s summary\ns 1\ns_sum{quantile=\"1\"} 2\ns_bucket{le=\"1\"} 2\n",
        &[
            "s summary",
            "s unknown",
            "  {} 1",
            "s_sum unknown",
            "  {quantile=\"1.0\"} 2",
            "s_bucket unknown",
            "  {le=\"1\"} 2",
        ],
    ),
    (
        "types that change",
        "# TYPE a gauge\na 1\n# TYPE a counter\na 2\n# TYPE a gauge\na 3\n# HELP a x\n",
        &["a gauge", "  {} 1", "  {} 3", "a counter", "  {} 2"],
    ),
    (
        "a type that comes too late",
        "a 1\n# TYPE a gauge\na 2\n",
        &["a unknown", "  {} 1", "a gauge", "  {} 2"],
    ),
    ("a type said anew", "# TYPE a gauge\n# TYPE a counter\na 2\n", &["a counter", "  {} 2"]),
    (
        "families in one another",
        "# TYPE a gauge\n# TYPE h histogram\nh_count 1\na 2\nh_sum 3\n",
        &["a gauge", "  {} 2", "h histogram", "  {} Some(1.0) Some(3.0) []"],
    ),
    (
        "names that clash",
        "# TYPE h_count counter\nh_count 1\n# TYPE h histogram\nh_count 2\n# TYPE g gauge\nh_count 3\n",
        &["h_count counter", "  {} 1", "  {} 3", "h histogram", "  {} Some(2.0) None []", "g gauge"],
    ),
    (
        "metrics in one another",
        "# TYPE h histogram\nh_count{a=\"1\"} 1\nh_count{a=\"2\"} 2\nh_sum{a=\"1\"} 3\n",
        &["h histogram", "  {a=\"1\"} Some(1.0) Some(3.0) []", "  {a=\"2\"} Some(2.0) None []"],
    ),
    (
        "one metric, its labels in another order",
        "# TYPE h histogram\nh_count{a=\"1\",b=\"2\"} 1\nh_sum{b=\"2\",a=\"1\",c=\"\"} 3\n",
        &["h histogram", "  {a=\"1\", b=\"2\"} Some(1.0) Some(3.0) []"],
    ),
    (
        "bounds in disorder, one of them twice",
        "# TYPE h histogram\nh_bucket{le=\"10\"} 1\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"30\"} 3\nh_bucket{le=\"2\"} 4\n\
         h_bucket{le=\"10\"} 5\n",
        &["h histogram", "  {} None None [10:1 2:2 30:3]", "  {} None None [2:4 10:5]"],
    ),
    (
        "times",
        "# TYPE h histogram\nh_count 1 5\nh_sum 2 5\nh_count 3 6\nh_sum 4 5\n",
        &[
            "h histogram",
            "  {} Some(1.0) Some(2.0) [] @5",
            "  {} Some(3.0) None [] @6",
            "  {} None Some(4.0) [] @5",
        ],
    ),
    ("a series twice", "a 1\na 1\n", &["a unknown", "  {} 1", "  {} 1"]),
    (
        "names in quotes",
        "# TYPE \"x.y\" histogram\n{\"x.y_count\",\"l m\"=\"n\"} 1\n",
        &["x.y histogram", "  {\"l m\"=\"n\"} Some(1.0) None []"],
    ),
];

#[test]
fn what_is_said_in_odd_ways_is_not_lost() {
    for (what, page, expected) in ODD {
        assert_eq!(shape(&read(Format::Text, page)), *expected, "{what}: {page}");
    }
}

#[test]
fn openmetrics_types() {
    let page = "# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"on\"} 1\n# TYPE g gaugehistogram\n\
                g_bucket{le=\"+Inf\"} 2\ng_gcount 2\ng_gsum 3\ng_count 4\n# TYPE c_total counter\nc_total_total 1\n\
                # TYPE d_total counter\nd_total 1\n# TYPE e counter\n# EOF\n";
    assert_eq!(
        shape(&read(Format::OpenMetrics, page)),
        [
            "i info suffixed",
            "  {v=\"1\"} 1",
            "s stateset",
            "  {s=\"on\"} 1",
            "g gaugehistogram",
            "  {} Some(2.0) Some(3.0) [inf:2]",
            "g_count unknown",
            "  {} 4",
            "c_total counter suffixed",
            "  {} 1",
            "d counter suffixed",
            "  {} 1",
            "e counter suffixed",
        ]
    );
}

#[test]
fn protobuf_says_native_histograms_beside_classic_ones() {
    let exemplar =
        |value| PointExemplar { labels: &[("id", "1")], value, timestamp: Some(Timestamp::from_millis(1)) };
    let native = Histogram {
        sum: 9.0,
        counts: BucketCounts::Integer { count: 3, zero_count: 1, positive: vec![1, -1, 1], negative: vec![] },
        positive_spans: vec![Span { offset: 0, length: 3 }],
        ..Histogram::stale()
    };
    let buckets = [
        BucketPoint { upper_bound: 1.0, cumulative_count: 1.0, exemplar: Some(exemplar(0.5)) },
        BucketPoint { upper_bound: f64::INFINITY, cumulative_count: 3.0, exemplar: None },
    ];
    let mut page = Encoder::new(Format::Protobuf);
    page.family(MetadataView { family: "h", metric_type: MetricType::Histogram, ..MetadataView::default() })
        .histogram(
            Point { start: Some(Timestamp::from_millis(7)), ..Point::from(&[("a", "b")]) },
            &HistogramPoint { buckets: &buckets, count: 3.0, sum: 9.0, native: Some(&native) },
        );
    let page = page.finish();
    let families = read_families(Format::Protobuf, &page, options()).unwrap();
    assert_eq!(shape(&families), ["h histogram", "  {a=\"b\"} Some(3.0) Some(9.0) [1:1 inf:3] st@7"]);
    let point = &families[0].metrics[0].points[0];
    let PointValue::Histogram(value) = &point.value else { panic!("{point:?}") };
    let kept = value.native.as_ref().unwrap();
    assert_eq!(kept.positive_spans, [Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }]);
    assert_eq!(value.buckets[0].exemplar.as_ref().unwrap().value, 0.5);
    assert_eq!(point.exemplars.len(), 1, "without its own a native histogram has its buckets'");
    let family = &families[0];
    assert_eq!(family.as_kept_by(Format::Protobuf).as_ref(), Some(family));

    // Without classic ones beside it, and without native ones.
    let mut only_native = ParseOptions::default();
    only_native.native_histograms = true;
    let families = read_families(Format::Protobuf, &page, only_native).unwrap();
    assert_eq!(shape(&families), ["h histogram", "  {a=\"b\"} None None []"]);
    let text = families[0].as_kept_by(Format::Text).unwrap();
    assert_eq!(shape(&[text]), ["h histogram", "  {a=\"b\"} Some(3.0) Some(9.0) [inf:3]"]);
    let families = read_families(Format::Protobuf, &page, ParseOptions::default()).unwrap();
    let PointValue::Histogram(value) = &families[0].metrics[0].points[0].value else {
        panic!("{families:?}")
    };
    assert_eq!(value.native, None);
}

#[test]
#[cfg(feature = "openmetrics2")]
fn openmetrics_2_0() {
    let page = "# TYPE c_total counter\nc_total 3 1.5 st@0.5 # {t=\"a\\\"b\"} 1 2.5 # {} 2 3.5\nc_total_total 4\nc_total 5\n\
                # TYPE h histogram\nh {count:3,sum:4,bucket:[1:2,+Inf:3]} st@7 # {} 2 1 # {} 0.5 2 # {} 0.75 3\n\
                # TYPE n histogram\nn{a=\"b\"} {count:3,sum:4,schema:0,zero_threshold:0,zero_count:1,\
                positive_spans:[0:2],positive_buckets:[1,1]}\n# TYPE g gaugehistogram\ng {gcount:1,gsum:2,bucket:[+Inf:1]}\n\
                # TYPE s summary\ns {count:3,sum:4,quantile:[0.5:1]}\n# TYPE b counter\nb_total 1\n# TYPE i_info info\n\
                i_info 1\n# EOF\n";
    let families = read(Format::OpenMetrics2, page);
    assert_eq!(
        shape(&families),
        [
            "c counter suffixed",
            "  {} 3 @1500 st@500",
            "c_total_total unknown",
            "  {} 4",
            "c_total unknown",
            "  {} 5",
            "h histogram",
            "  {} Some(3.0) Some(4.0) [1:2 inf:3] st@7000",
            "n histogram",
            "  {a=\"b\"} None None []",
            "g gaugehistogram",
            "  {} Some(1.0) Some(2.0) [inf:1]",
            "s summary",
            "  {} Some(3.0) Some(4.0) [0.5:1]",
            "b counter",
            "b_total unknown",
            "  {} 1",
            "i info suffixed",
            "  {} 1",
        ]
    );
    let exemplars = &families[0].metrics[0].points[0].exemplars;
    assert_eq!(exemplars.iter().map(|exemplar| exemplar.value).collect::<Vec<_>>(), [1.0, 2.0]);
    assert_eq!(exemplars[0].labels.get("t"), "a\"b");
    let point = &families[3].metrics[0].points[0];
    let PointValue::Histogram(value) = &point.value else { panic!("{point:?}") };
    let of_buckets =
        value.buckets.iter().map(|bucket| bucket.exemplar.as_ref().map(|exemplar| exemplar.value));
    assert_eq!(of_buckets.collect::<Vec<_>>(), [Some(0.5), Some(2.0)]);
    assert_eq!(point.exemplars[0].value, 0.75, "a bucket has one, the point has the others");
    let PointValue::Histogram(value) = &families[4].metrics[0].points[0].value else {
        panic!("{families:?}")
    };
    assert_eq!(value.native.as_ref().unwrap().positive_spans, [Span { offset: 0, length: 2 }]);
    for family in &families {
        assert_eq!(family.as_kept_by(Format::OpenMetrics2).as_ref(), Some(family));
    }
}

#[test]
fn classic_histograms_come_as_custom_buckets_if_asked_for() {
    let page = "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n# TYPE g gauge\n\
                g 1\n";
    let mut options = ParseOptions::default();
    options.convert_classic_to_custom_buckets = true;
    let families = read_families(Format::Text, page.as_bytes(), options).unwrap();
    assert_eq!(shape(&families), ["h histogram", "  {} None None []", "g gauge", "  {} 1"]);
    let PointValue::Histogram(value) = &families[0].metrics[0].points[0].value else {
        panic!("{families:?}")
    };
    assert_eq!(value.native.as_ref().unwrap().custom_values, [1.0]);
    // No format has room for them but as what they were.
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let kept = families[0].as_kept_by(format).unwrap();
        assert_eq!(shape(&[kept]), ["h histogram", "  {} Some(3.0) Some(4.0) [1:2 inf:3]"], "{format:?}");
    }
}

#[test]
fn a_label_twice_is_refused() {
    let cases = [
        (Format::Text, "\na{b=\"1\",b=\"2\"} 1\n", "b", 2),
        (Format::Text, "a{b=\"\",b=\"\"} 1\n", "b", 1),
        (Format::Text, "a{__name__=\"c\"} 1\n", "__name__", 1),
        (Format::OpenMetrics, "a 1 # {b=\"1\",b=\"2\"} 1\n# EOF\n", "b", 1),
    ];
    for (format, page, label, line) in cases {
        let refused = read_families(format, page.as_bytes(), options()).unwrap_err();
        let expected =
            ReadError::RepeatedLabel { line: Some(line), metric: "a".to_owned(), label: label.to_owned() };
        assert_eq!(refused, expected, "{page}");
    }
    let refused = read_families(Format::Text, b"a 1\nb{c=\"1\",c=\"1\"} 1\n", options()).unwrap_err();
    assert_eq!(refused.to_string(), "line 2: label name \"c\" of the metric \"b\" is not unique");
    let refused = read_families(Format::Text, b"a 1\nb{ 1\n", options()).unwrap_err();
    assert!(refused.to_string().starts_with("line 2, column "), "{refused}");
}

#[test]
fn equal_is_equal_by_bits() {
    let number = |bits| PointValue::Number(f64::from_bits(bits));
    assert_eq!(number(NORMAL_NAN_BITS), number(NORMAL_NAN_BITS));
    assert_ne!(number(NORMAL_NAN_BITS), number(STALE_NAN_BITS));
    assert_ne!(PointValue::Number(0.0), PointValue::Number(-0.0));
    let native = |sum, count| {
        let counts = BucketCounts::Float { count, zero_count: 0.0, positive: vec![count], negative: vec![] };
        let native = Some(Box::new(Histogram { sum, counts, ..Histogram::stale() }));
        PointValue::from(HistogramValue { native, ..HistogramValue::default() })
    };
    assert_eq!(native(f64::NAN, f64::NAN), native(f64::NAN, f64::NAN));
    assert_ne!(native(0.0, 1.0), native(-0.0, 1.0));
    assert_ne!(native(0.0, 1.0), native(0.0, 2.0));
}

#[test]
fn openmetrics_says_starts_units_and_exemplars() {
    let page = "# TYPE c_seconds counter\n# UNIT c_seconds seconds\nc_seconds_total 1.5 # {t=\"a\\\"b\"} 0.5 1.5\n\
                c_seconds_created 1.25\n# EOF\n";
    let families = read(Format::OpenMetrics, page);
    assert_eq!(shape(&families), ["c_seconds counter suffixed", "  {} 1.5 st@1250"]);
    assert_eq!(families[0].unit, "seconds");
    let exemplar = &families[0].metrics[0].points[0].exemplars[0];
    assert_eq!(exemplar.labels.get("t"), "a\"b");
    assert_eq!(exemplar.timestamp, Some(Timestamp::from_millis(1500)));
    let text = families[0].as_kept_by(Format::Text).unwrap();
    assert_eq!(shape(&[text]), ["c_seconds counter suffixed", "  {} 1.5"]);
    assert_eq!(families[0].as_kept_by(Format::OpenMetrics).as_ref(), Some(&families[0]));
    assert_eq!(families[0].metric_type, MetricType::Counter);
}
