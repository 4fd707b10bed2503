//! What the encoder writes reads back as what was meant, hostile names and values included.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/verdict.rs"]
mod verdict;
mod corpus {
    use promferry_exposition::{Format, ParseOptions};

    pub(crate) struct Case {
        pub(crate) format: Format,
        pub(crate) options: ParseOptions,
        pub(crate) page: Vec<u8>,
    }
}

use promferry_exposition::{
    BucketPoint, Encoder, Format, HistogramPoint, ParseOptions, Point, PointExemplar, SummaryPoint,
};
use promferry_model::{MetadataView, MetricType, Timestamp};
use proptest::prelude::*;

const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::Protobuf];

fn read(format: Format, page: Vec<u8>) -> Vec<String> {
    let mut options = ParseOptions::default();
    options.parse_start_timestamps = true;
    verdict::judge(&corpus::Case { format, options, page })
}

fn samples(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| line.starts_with("series ")).collect()
}

#[test]
fn every_format_says_the_same() {
    let exemplar =
        PointExemplar { labels: &[("t", "u")], value: 0.5, timestamp: Some(Timestamp::from_millis(1_500)) };
    let buckets = [BucketPoint { upper_bound: 1.0, cumulative_count: 2.0, exemplar: Some(exemplar) }];
    let start = Some(Timestamp::from_millis(5_000));
    let written = FORMATS.map(|format| {
        let mut page = Encoder::new(format);
        let family =
            |family, metric_type, unit| MetadataView { family, metric_type, unit, help: "A \\ \n \"help\"." };
        page.family(family("c_s", MetricType::Counter, "s")).number_with_exemplar(
            Point { labels: &[("a", "b")], timestamp: None, start },
            3.5,
            exemplar,
        );
        page.family(family("h", MetricType::Histogram, "")).histogram(
            Point { start, ..Point::default() },
            &HistogramPoint { buckets: &buckets, count: 3.0, sum: 4.0, native: None },
        );
        page.family(family("s.t", MetricType::Summary, "")).summary(
            &[("x y", "z")],
            &SummaryPoint { quantiles: &[(0.5, f64::NEG_INFINITY)], count: 2.0, sum: 1e21 },
        );
        page.family(family("i", MetricType::Info, "")).number(&[("v", "1")], 1.0);
        read(format, page.finish())
    });
    let [text, openmetrics, protobuf] = &written;
    assert_eq!(samples(text).len(), 9);
    let sorted = |lines: &[String]| {
        let mut lines: Vec<String> = samples(lines).into_iter().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(text), sorted(openmetrics));
    assert_eq!(sorted(text), sorted(protobuf));
    for lines in [openmetrics, protobuf] {
        assert_eq!(lines.iter().filter(|line| *line == "start 5000").count(), 5, "{lines:#?}");
        assert_eq!(
            lines.iter().filter(|line| *line == "exemplar {\"t\"=\"u\"} 3fe0000000000000 @1500").count(),
            2
        );
    }
    for lines in &written {
        assert!(lines.iter().any(|line| line.ends_with("\"A \\x5c \\x0a \\x22help\\x22.\"")), "{lines:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_name_and_value(name in "\\PC{1,12}", label in "\\PC{1,8}", value in any::<String>(), number: f64) {
        let value = value.replace('\0', "");
        let labels = [(label.as_str(), value.as_str())];
        let pages = FORMATS.map(|format| {
            let mut page = Encoder::new(format);
            page.family(MetadataView { family: &name, metric_type: MetricType::Gauge, ..MetadataView::default() })
                .number(&labels, if number.is_nan() { f64::INFINITY } else { number });
            read(format, page.finish())
        });
        prop_assert_eq!(pages[0].last().unwrap(), "end");
        prop_assert_eq!(samples(&pages[0]), samples(&pages[2]));
        prop_assert_eq!(samples(&pages[1]), samples(&pages[2]));
    }
}
