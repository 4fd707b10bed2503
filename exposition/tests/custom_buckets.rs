//! Classic histograms as native ones with custom buckets: what is collected, what ends a histogram, what is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::fmt::Write as _;

use promferry_exposition::{
    BucketPoint, Encoder, Event, Exemplars, Format, HistogramPoint, LabelBuffer, ParseError, ParseOptions,
    Parser,
};
use promferry_model::{BucketCounts, CUSTOM_BUCKETS_SCHEMA, Histogram, MetadataView, MetricType, ResetHint};

/// What a page says, one line an event; histograms as `name{labels} count/sum [spans] counts bounds`.
fn spelled(format: Format, page: &str, options: ParseOptions) -> Result<Vec<String>, ParseError> {
    spelled_bytes(format, page.as_bytes(), options)
}

fn spelled_bytes(format: Format, page: &[u8], options: ParseOptions) -> Result<Vec<String>, ParseError> {
    let mut parser = Parser::new(format, page, options);
    let mut labels = LabelBuffer::new();
    let mut lines = Vec::new();
    while let Some(event) = parser.next()? {
        let (mut line, timestamp, start, exemplars) = match event {
            Event::Series(series) => {
                series.labels(&mut labels)?;
                let line = format!("{} {}", name_and_labels(&labels), series.value());
                (line, series.timestamp(), series.start(), series.exemplars())
            }
            Event::Histogram(histogram) => {
                histogram.labels(&mut labels)?;
                let value = histogram.histogram();
                assert_eq!(value.schema, CUSTOM_BUCKETS_SCHEMA);
                value.validate().unwrap();
                let line = format!("{} {}", name_and_labels(&labels), buckets(&value));
                (line, histogram.timestamp(), histogram.start(), histogram.exemplars())
            }
            Event::Type { family, metric_type } => {
                lines.push(format!("type {family} {}", metric_type.as_str()));
                continue;
            }
            _ => {
                lines.push("other".to_owned());
                continue;
            }
        };
        timestamp.iter().for_each(|time| write!(line, " @{time}").unwrap());
        start.iter().for_each(|time| write!(line, " since {time}").unwrap());
        append_exemplars(&mut line, exemplars);
        lines.push(line);
    }
    Ok(lines)
}

fn name_and_labels(labels: &LabelBuffer) -> String {
    let mut spelled = labels.metric_name().to_owned();
    for (name, value) in labels.iter().skip(1) {
        write!(spelled, ",{name}={value}").unwrap();
    }
    spelled
}

fn buckets(histogram: &Histogram) -> String {
    let spans: Vec<(i32, u32)> = histogram.positive_spans.iter().map(|s| (s.offset, s.length)).collect();
    let (kind, count, positive) = match &histogram.counts {
        BucketCounts::Integer { count, positive, .. } => ("integer", *count as f64, format!("{positive:?}")),
        BucketCounts::Float { count, positive, .. } => ("float", *count, format!("{positive:?}")),
    };
    let gauge = if histogram.reset_hint == ResetHint::Gauge { " gauge" } else { "" };
    let (sum, bounds) = (histogram.sum, &histogram.custom_values);
    format!("{kind} {count}/{sum} {spans:?} {positive} below {bounds:?}{gauge}")
}

fn append_exemplars(line: &mut String, mut exemplars: Exemplars<'_>) {
    let mut labels = LabelBuffer::new();
    while let Some(exemplar) = exemplars.next(&mut labels) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(line, " # {} {}", labels.join(","), exemplar.value).unwrap();
        exemplar.timestamp.iter().for_each(|time| write!(line, " @{time}").unwrap());
    }
}

fn converting() -> ParseOptions {
    let mut options = ParseOptions::default();
    options.convert_classic_to_custom_buckets = true;
    options
}

const SIMPLE: &str = "# TYPE h histogram\n\
    h_bucket{a=\"x\",le=\"0.5\"} 1\nh_bucket{a=\"x\",le=\"2\"} 3\nh_bucket{a=\"x\",le=\"+Inf\"} 3\n\
    h_sum{a=\"x\"} 2.5\nh_count{a=\"x\"} 3\n";

#[test]
fn a_histogram_is_given_where_its_lines_end() {
    let simple = "h,a=x integer 3/2.5 [(0, 2)] [1, 1] below [0.5, 2.0]";
    for (what_follows, more) in [
        ("", vec![]),
        ("g 1\n", vec!["g 1"]),
        ("# a comment\n", vec!["other"]),
        ("# HELP h help\n", vec!["other"]),
        ("# TYPE h histogram\n", vec!["type h histogram"]),
        ("h{a=\"x\"} 1\n", vec![]),
        ("h_count{a=\"y\"} 0\n", vec!["h,a=y integer 0/0 [] [] below []"]),
    ] {
        let page = format!("{SIMPLE}{what_follows}");
        let lines = spelled(Format::Text, &page, converting()).unwrap();
        // A sample of the histogram's own name is passed on, and ends nothing.
        if what_follows.starts_with("h{") {
            assert_eq!(lines, ["type h histogram", "h,a=x 1", simple]);
            continue;
        }
        let expected: Vec<&str> = ["type h histogram", simple].into_iter().chain(more).collect();
        assert_eq!(lines, expected, "{what_follows}");
    }
}

#[test]
fn classic_series_stay_if_they_are_wanted() {
    let mut options = converting();
    options.always_classic_histograms = true;
    let lines = spelled(Format::Text, SIMPLE, options).unwrap();
    assert_eq!(
        lines,
        [
            "type h histogram",
            "h_bucket,a=x,le=0.5 1",
            "h_bucket,a=x,le=2.0 3",
            "h_bucket,a=x,le=+Inf 3",
            "h_sum,a=x 2.5",
            "h_count,a=x 3",
            "h,a=x integer 3/2.5 [(0, 2)] [1, 1] below [0.5, 2.0]",
        ]
    );
}

#[test]
fn only_the_declared_histograms_series_are_collected() {
    for (page, expected) in [
        // Another type, another family, no type.
        ("# TYPE h gauge\nh_count 1\n", vec!["type h gauge", "h_count 1"]),
        ("# TYPE g histogram\nh_count 1\n", vec!["type g histogram", "h_count 1"]),
        ("h_count 1\n", vec!["h_count 1"]),
        // Bounds that are no numbers; no bound at all.
        (
            "# TYPE h histogram\nh_bucket{le=\"x\"} 1\nh_bucket{le=\"NaN\"} 1\nh_bucket 2\n",
            vec!["type h histogram", "h_bucket,le=x 1", "h_bucket,le=NaN 1", "h_bucket 2"],
        ),
        // Lines out of order, labels in another order, a bound that comes twice.
        (
            "# TYPE h histogram\nh_count{a=\"1\",b=\"2\"} 4\nh_bucket{b=\"2\",le=\"5\",a=\"1\"} 4\n\
             h_bucket{a=\"1\",b=\"2\",le=\"1\"} 1\nh_bucket{a=\"1\",b=\"2\",le=\"1.0\"} 9\n",
            vec!["type h histogram", "h,a=1,b=2 integer 4/0 [(0, 2)] [1, 2] below [1.0, 5.0]"],
        ),
        // Empty labels are none; floats; empty buckets.
        (
            "# TYPE h histogram\nh_bucket{a=\"\",le=\"1\"} 0\nh_bucket{a=\"\",le=\"2\"} 1.5\n",
            vec!["type h histogram", "h float 1.5/0 [(1, 1)] [1.5] below [1.0, 2.0]"],
        ),
    ] {
        assert_eq!(spelled(Format::Text, page, converting()).unwrap(), expected, "{page}");
    }
}

#[test]
fn what_cannot_be_converted_is_lost() {
    for lines in [
        "h_bucket{le=\"1\"} -1\n",
        "h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 1\n",
        "h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 2\n",
        "h_count -1\n",
        "h_sum 1\n",
        "h_bucket{le=\"+Inf\"} 1\nh_count 2\n",
        "h_bucket{le=\"1\"} 2\nh_count 1\n",
        "h_bucket{le=\"+Inf\"} NaN\nh_count NaN\n",
    ] {
        let page = format!("# TYPE h histogram\n{lines}h_count{{a=\"y\"}} 0\n");
        let expected = ["type h histogram", "h,a=y integer 0/0 [] [] below []"];
        assert_eq!(spelled(Format::Text, &page, converting()).unwrap(), expected, "{page}");
    }
}

#[test]
fn openmetrics_gives_exemplars_times_and_starts() {
    let page = "# TYPE h histogram\n\
        h_bucket{le=\"1.0\"} 1 # {t=\"a\"} 0.5 7.5\nh_bucket{le=\"+Inf\"} 2 12.5 # {t=\"b\"} 5 8\nh_count 2 12.5\nh_created 3\n\
        # EOF\n";
    let mut options = converting();
    options.parse_start_timestamps = true;
    let histogram =
        "h integer 2/0 [(0, 2)] [1, 0] below [1.0] @12500 since 3000 # t=a 0.5 @7500 # t=b 5 @8000";
    assert_eq!(spelled(Format::OpenMetrics, page, options).unwrap(), ["type h histogram", histogram]);
}

#[test]
fn protobuf_gives_one_histogram_a_metric_and_refuses_what_cannot_be_converted() {
    let bucket =
        |upper_bound, cumulative_count| BucketPoint { upper_bound, cumulative_count, exemplar: None };
    let page = |metric_type, buckets: &[BucketPoint<'_>], count| {
        let mut encoder = Encoder::new(Format::Protobuf);
        let family = MetadataView { family: "h", metric_type, unit: "", help: "" };
        let histogram = HistogramPoint { buckets, count, sum: 1.5, native: None };
        encoder.family(family).histogram(&[("a", "x")], &histogram).histogram(&[("a", "y")], &histogram);
        encoder.finish()
    };
    let buckets = [bucket(0.5, 1.0), bucket(2.0, 3.0)];
    let mut options = converting();
    for (metric_type, native_histograms) in
        [(MetricType::Histogram, false), (MetricType::GaugeHistogram, true)]
    {
        options.native_histograms = native_histograms;
        let gauge = if metric_type == MetricType::GaugeHistogram { " gauge" } else { "" };
        let lines = spelled_bytes(Format::Protobuf, &page(metric_type, &buckets, 4.0), options).unwrap();
        let expected = |a: &str| format!("h,a={a} integer 4/1.5 [(0, 3)] [1, 1, -1] below [0.5, 2.0]{gauge}");
        assert_eq!(lines[2..], [expected("x"), expected("y")], "{lines:?}");
    }
    let falling = page(MetricType::Histogram, &[bucket(0.5, 2.0), bucket(2.0, 1.0)], 2.0);
    let error = spelled_bytes(Format::Protobuf, &falling, converting()).unwrap_err();
    assert!(error.to_string().contains("counts of classic buckets do not grow with their bounds"), "{error}");
    assert_eq!(error.family(), Some("h"));

    let mut options = converting();
    options.always_classic_histograms = true;
    let lines =
        spelled_bytes(Format::Protobuf, &page(MetricType::Histogram, &buckets, 4.0), options).unwrap();
    assert_eq!(lines.len(), 2 + 2 * 6, "the classic series, then the histogram: {lines:?}");
    assert!(lines[7].starts_with("h,a=x integer"), "{lines:?}");
}

#[test]
fn a_page_that_is_refused_otherwise_is_refused() {
    for page in ["# TYPE h histogram\nh_count x\n", "# TYPE h histogram\nh_count{a=} 1\n"] {
        let place = |options| spelled(Format::Text, page, options).unwrap_err().to_string();
        assert_eq!(place(converting()), place(ParseOptions::default()), "{page}");
    }
}

#[test]
fn a_histograms_key_follows_its_labels() {
    let key_of = |page: &str, seed| {
        let mut parser = Parser::new(Format::Text, page.as_bytes(), converting());
        loop {
            if let Event::Histogram(histogram) = parser.next().unwrap().unwrap() {
                return histogram.key(seed);
            }
        }
    };
    let page = |labels: &str, first: &str| {
        format!("# TYPE h histogram\nh_{first}{{{labels}}} 0\nh_count{{{labels}}} 0\n")
    };
    let pages = [
        page("", "sum"),
        page("a=\"1\"", "sum"),
        page("a=\"11\"", "sum"),
        page("a=\"1\",b=\"1\"", "sum"),
        page("a=\"1b\",b=\"\"", "sum"),
        page("a=\"1\",b=\"1\"", "sum").replace("h ", "i ").replace("h_", "i_"),
    ];
    let keys: HashSet<_> = pages.iter().map(|page| key_of(page, 1).0).collect();
    assert_eq!(keys.len(), pages.len(), "each is a series of its own");
    let same =
        [page("a=\"1\",b=\"2\"", "sum"), page("b=\"2\",a=\"1\"", "sum"), page("a=\"1\",b=\"2\"", "count")];
    let keys: HashSet<_> = same.iter().map(|page| key_of(page, 1).0).collect();
    assert_eq!(keys.len(), 1, "the same series");
    assert_ne!(key_of(&pages[0], 1), key_of(&pages[0], 2));
}

#[test]
fn a_hundred_thousand_bounds_in_falling_order_take_no_time() {
    let mut page = "# TYPE h histogram\n".to_owned();
    for bound in (0..100_000).rev() {
        writeln!(page, "h_bucket{{le=\"{bound}\"}} {bound}").unwrap();
    }
    let lines = spelled(Format::Text, &page, converting()).unwrap();
    assert!(lines[1].starts_with("h integer 99999/0 [(1, 99999)] [1, 0, 0, "), "{}", &lines[1][..80]);
}
