//! Pages as families: what belongs together comes together, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use promferry_exposition::{Format, MetricFamily, ParseOptions, PointValue, ReadError, read_families};
use promferry_model::{MetricType, Timestamp};

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

#[test]
fn a_label_twice_is_refused() {
    let refused = read_families(Format::Text, b"a{b=\"1\",b=\"2\"} 1\n", options()).unwrap_err();
    let expected = ReadError::RepeatedLabel { metric: "a".to_owned(), label: "b".to_owned() };
    assert_eq!(refused, expected);
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
