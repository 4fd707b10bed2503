//! What the encoder writes reads back as what was meant, hostile names and values included.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/families.rs"]
mod families;
#[path = "support/traps.rs"]
#[allow(dead_code, reason = "the pages alone are of use here")]
mod traps;
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

use families::families;
use promferry_exposition::{
    BucketPoint, EncodeError, Encoder, Format, HistogramPoint, MetricFamily, Negotiated, ParseOptions, Point,
    PointExemplar, PointValue, ScrapeProtocol, StreamError, StreamingEncoder, StrictRule, SummaryPoint,
    read_families, validate, write_families,
};
use promferry_model::{EscapingScheme, Labels, MetadataView, MetricType, Timestamp};
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

fn read_all(format: Format, page: &[u8]) -> Vec<MetricFamily> {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.always_classic_histograms = true;
    options.parse_start_timestamps = true;
    let families = read_families(format, page, options);
    families.unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(page)))
}

/// Leaves out, one by one, the metrics and families that a format refuses.
fn writable(format: Format, families: &[MetricFamily]) -> Vec<MetricFamily> {
    let mut page = StreamingEncoder::new(std::io::sink(), Negotiated::newest(format));
    let mut writable = Vec::new();
    for family in families {
        let mut head = MetricFamily { metrics: Vec::new(), ..family.clone() };
        if page.family(&head).is_ok() {
            head.metrics =
                family.metrics.iter().filter(|metric| page.metric(metric).is_ok()).cloned().collect();
            writable.push(head);
        }
    }
    writable
}

/// What is written reads back as what the format has room for, and OpenMetrics is valid.
fn comes_back(format: Format, families: &[MetricFamily]) -> Result<(), TestCaseError> {
    let families = writable(format, families);
    let page = write_families(format, &families).unwrap();
    let kept: Vec<MetricFamily> = families.iter().filter_map(|family| family.as_kept_by(format)).collect();
    let text = String::from_utf8_lossy(&page);
    prop_assert_eq!(read_all(format, &page), kept, "{}", text);
    if format == Format::OpenMetrics
        && let Err(refusal) = validate(&page)
    {
        return Err(TestCaseError::fail(format!("{refusal}\n{text}")));
    }
    // However the page is cut into pieces.
    let mut stream = StreamingEncoder::new(Vec::new(), Negotiated::newest(format));
    for family in &families {
        stream.family(&MetricFamily { metrics: Vec::new(), ..family.clone() }).unwrap();
        family.metrics.iter().for_each(|metric| stream.metric(metric).unwrap());
    }
    let streamed = stream.finish().unwrap();
    prop_assert_eq!(String::from_utf8_lossy(&streamed), text);
    Ok(())
}

/// The page of one family without anybody's judgement, as far as [`Encoder`] can say it.
fn unjudged(family: &MetricFamily) -> Option<Vec<u8>> {
    let mut page = Encoder::new(Format::OpenMetrics);
    let MetricFamily { name, metric_type, unit, help, .. } = family;
    let mut written = page.family(MetadataView { family: name, metric_type: *metric_type, unit, help });
    for metric in &family.metrics {
        let pairs = |labels: &'_ Labels| -> Vec<(String, String)> {
            labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect()
        };
        let owned = pairs(&metric.labels);
        let labels: Vec<(&str, &str)> = owned.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        for point in &metric.points {
            let at = Point { labels: &labels, timestamp: point.timestamp, start: point.start };
            match &point.value {
                PointValue::Number(value) => match point.exemplars.first() {
                    Some(exemplar) if *metric_type == MetricType::Counter => {
                        let owned = pairs(&exemplar.labels);
                        let labels: Vec<(&str, &str)> =
                            owned.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                        let (value_of_it, timestamp) = (exemplar.value, exemplar.timestamp);
                        let exemplar = PointExemplar { labels: &labels, value: value_of_it, timestamp };
                        written.number_with_exemplar(at, *value, exemplar);
                    }
                    _ => {
                        written.number(at, *value);
                    }
                },
                PointValue::Summary(summary) => {
                    let quantiles: Vec<_> = summary.quantiles.iter().map(|q| (q.quantile, q.value)).collect();
                    let (count, sum) = (summary.count?, summary.sum?);
                    written.summary(at, &SummaryPoint { quantiles: &quantiles, count, sum });
                }
                PointValue::Histogram(histogram) => {
                    let has_infinity = histogram.buckets.last()?.upper_bound == f64::INFINITY;
                    let has_exemplars = histogram.buckets.iter().any(|bucket| bucket.exemplar.is_some());
                    if !has_infinity || has_exemplars {
                        return None;
                    }
                    let buckets: Vec<_> = histogram
                        .buckets
                        .iter()
                        .map(|bucket| BucketPoint {
                            upper_bound: bucket.upper_bound,
                            cumulative_count: bucket.cumulative_count,
                            exemplar: None,
                        })
                        .collect();
                    let (count, sum) = (histogram.count?, histogram.sum?);
                    written.histogram(at, &HistogramPoint { buckets: &buckets, count, sum, native: None });
                }
                _ => return None,
            }
        }
    }
    Some(page.finish())
}

/// What is refused although the page would be valid: it would not be read back so.
fn is_refused_beyond_the_rules(refusal: &EncodeError) -> bool {
    refusal.rule == StrictRule::Labels
        || ["UNIT cannot write", "themselves have", "the start of another", "a NUL in"]
            .iter()
            .any(|part| refusal.problem.contains(part))
}

/// Whether families of a page stay apart when it is written: none is named as another's.
fn are_apart(families: &[MetricFamily]) -> bool {
    let mut names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| !pair[1].starts_with(pair[0]))
}

fn families_of(format: Format, page: &[u8]) -> Option<Vec<MetricFamily>> {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.always_classic_histograms = true;
    options.parse_start_timestamps = true;
    read_families(format, page, options).ok()
}

/// Every valid page of the OpenMetrics test data can be written: nothing is refused that is valid.
#[test]
fn valid_openmetrics_comes_back() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/openmetrics");
    let mut valid = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let page = std::fs::read(&path).unwrap();
        if path.extension().is_none_or(|extension| extension != "txt") || validate(&page).is_err() {
            continue;
        }
        let families = read_all(Format::OpenMetrics, &page);
        if let Err(refused) = write_families(Format::OpenMetrics, &families) {
            panic!("{}: {refused}", path.display());
        }
        for format in FORMATS {
            comes_back(format, &families).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        valid += 1;
    }
    assert_eq!(valid, 44);
}

/// Pages of real programs are turned into any other format.
#[test]
fn real_pages_come_back() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pages");
    let mut pages = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let read = match path.extension().and_then(|extension| extension.to_str()) {
            Some("prom") => Format::Text,
            Some("om") => Format::OpenMetrics,
            Some("pb") => Format::Protobuf,
            _ => continue,
        };
        let families = read_all(read, &std::fs::read(&path).unwrap());
        // OpenMetrics has no place for what every Go program says: a gauge and a counter of one name but for `_total`.
        for lossless in [Format::Text, Format::Protobuf] {
            assert_eq!(writable(lossless, &families), families, "{}", path.display());
        }
        for format in FORMATS {
            comes_back(format, &families).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        pages += 1;
    }
    assert!(pages > 20, "{pages}");
}

/// So do odd pages, if they can be read at all.
#[test]
fn odd_pages_come_back() {
    let mut came_back = 0;
    for trap in traps::TRAPS {
        let ended = [trap, b"# EOF\n".as_slice()].concat();
        for (read, page) in [(Format::Text, trap.to_vec()), (Format::OpenMetrics, ended)] {
            let Some(families) = families_of(read, &page).filter(|families| are_apart(families)) else {
                continue;
            };
            for format in FORMATS {
                let text = String::from_utf8_lossy(&page);
                comes_back(format, &families).unwrap_or_else(|error| panic!("{text:?}: {error}"));
                came_back += 1;
            }
        }
    }
    assert!(came_back > 200, "{came_back}");
}

/// `PROMFERRY_ROUND_TRIPS` families of each kind, if it is set.
fn cases() -> u32 {
    std::env::var("PROMFERRY_ROUND_TRIPS").ok().and_then(|cases| cases.parse().ok()).unwrap_or(512)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: cases(), ..ProptestConfig::default() })]

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

    #[test]
    fn families_come_back_from_text(families in families()) {
        comes_back(Format::Text, &families)?;
    }

    #[test]
    fn families_come_back_from_openmetrics(families in families()) {
        comes_back(Format::OpenMetrics, &families)?;
    }

    #[test]
    fn families_come_back_from_protobuf(families in families()) {
        comes_back(Format::Protobuf, &families)?;
    }

    #[test]
    #[cfg(feature = "openmetrics2")]
    fn families_come_back_from_openmetrics2(families in families()) {
        comes_back(Format::OpenMetrics2, &families)?;
    }

    /// The judgement of what is to be written is that of the page.
    #[test]
    fn what_is_refused_would_not_be_valid(families in families()) {
        for family in &families {
            let Err(refusal) = write_families(Format::OpenMetrics, std::slice::from_ref(family)) else { continue };
            let Some(page) = unjudged(family) else { continue };
            let text = String::from_utf8_lossy(&page);
            prop_assert!(
                validate(&page).is_err() || is_refused_beyond_the_rules(&refusal),
                "{}\n{}", refusal, text
            );
        }
    }

    /// Escaped names need no quotes, and what is written with them is as valid and as well read.
    #[test]
    fn escaped_names_are_legacy_names(
        families in families(),
        protocol in prop::sample::select(&ScrapeProtocol::ALL[..]),
        escaping in prop::sample::select(&[EscapingScheme::Underscores, EscapingScheme::Dots, EscapingScheme::Values][..]),
    ) {
        let format = protocol.format();
        let mut stream = StreamingEncoder::new(Vec::new(), Negotiated::new(protocol, escaping));
        for family in &families {
            match stream.family(family) {
                Ok(()) | Err(StreamError::Encode(_)) => {}
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        let page = stream.finish().unwrap();
        for family in read_all(format, &page) {
            prop_assert!(promferry_model::is_valid_metric_name(&family.name), "{}", family.name);
            for label in family.metrics.iter().flat_map(|metric| &metric.labels) {
                prop_assert!(promferry_model::is_valid_label_name(&label.name), "{}", label.name);
            }
        }
        if format == Format::OpenMetrics
            && let Err(refusal) = validate(&page)
        {
            return Err(TestCaseError::fail(format!("{refusal}\n{}", String::from_utf8_lossy(&page))));
        }
    }
}
