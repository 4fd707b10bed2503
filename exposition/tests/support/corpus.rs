//! The pages that Prometheus' own parsers have judged, made anew each time in the same way.

mod traps;

use std::fs;
use std::path::PathBuf;

use promferry_exposition::{
    BucketPoint, Encoder, Format, HistogramPoint, ParseOptions, Point, PointExemplar, SummaryPoint,
};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, Rng, SeededRng, Span, Timestamp};
use traps::{PIECES, TRAPS};

/// A page to judge.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) options: ParseOptions,
    pub(crate) page: Vec<u8>,
    /// Whether a hash of the verdict is enough.
    pub(crate) digest: bool,
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let plain = ParseOptions::default();
    let mut started = plain;
    started.parse_start_timestamps = true;
    for (number, trap) in TRAPS.iter().enumerate() {
        let ended = [trap, b"# EOF\n".as_slice()].concat();
        add(&mut cases, format!("trap/text/{number}"), Format::Text, plain, trap.to_vec(), false);
        add(
            &mut cases,
            format!("trap/openmetrics/{number}"),
            Format::OpenMetrics,
            plain,
            ended.clone(),
            false,
        );
        add(
            &mut cases,
            format!("trap/openmetrics-start/{number}"),
            Format::OpenMetrics,
            started,
            ended,
            true,
        );
        add(
            &mut cases,
            format!("trap/openmetrics-endless/{number}"),
            Format::OpenMetrics,
            plain,
            trap.to_vec(),
            true,
        );
    }
    let mut rng = SeededRng::new(3);
    for (name, page) in files("openmetrics", "txt") {
        add(&mut cases, format!("suite/{name}"), Format::OpenMetrics, started, page.clone(), false);
        add(&mut cases, format!("suite-as-text/{name}"), Format::Text, plain, page, true);
    }
    for (extension, format, options) in [("prom", Format::Text, plain), ("om", Format::OpenMetrics, started)]
    {
        for (name, page) in files("pages", extension) {
            add(&mut cases, format!("page/{name}"), format, options, page.clone(), false);
            for number in 0..150 {
                let mutated = mutate(&page, &mut rng);
                add(&mut cases, format!("mutation/{name}/{number}"), format, options, mutated, true);
            }
        }
    }
    for number in 0..random_pages() {
        let page = random_page(&mut rng);
        let ended = [&page, b"\n# EOF\n".as_slice()].concat();
        add(&mut cases, format!("random/text/{number}"), Format::Text, plain, page, true);
        let options = if number % 2 == 0 { plain } else { started };
        add(&mut cases, format!("random/openmetrics/{number}"), Format::OpenMetrics, options, ended, true);
    }
    for (name, page) in protobuf_pages() {
        for flags in 0..8_u8 {
            let mut options = plain;
            options.native_histograms = flags & 1 != 0;
            options.always_classic_histograms = flags & 2 != 0;
            options.parse_start_timestamps = flags & 4 != 0;
            add(
                &mut cases,
                format!("protobuf/{name}/{flags}"),
                Format::Protobuf,
                options,
                page.clone(),
                flags != 3,
            );
        }
        let mut options = plain;
        options.native_histograms = true;
        options.always_classic_histograms = true;
        for number in 0..150 {
            let mutated = mutate_bytes(&page, &mut rng);
            add(
                &mut cases,
                format!("protobuf-mutation/{name}/{number}"),
                Format::Protobuf,
                options,
                mutated,
                true,
            );
        }
    }
    cases
}

/// More than are kept can be judged in one go: `PROMFERRY_RANDOM_PAGES=100000`.
fn random_pages() -> usize {
    std::env::var("PROMFERRY_RANDOM_PAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

fn add(
    cases: &mut Vec<Case>,
    name: String,
    format: Format,
    options: ParseOptions,
    page: Vec<u8>,
    digest: bool,
) {
    cases.push(Case { name, format, options, page, digest });
}

pub(crate) fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn files(folder: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(data("data").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn below(rng: &mut SeededRng, bound: usize) -> usize {
    (rng.next_u64() % bound as u64) as usize
}

fn random_page(rng: &mut SeededRng) -> Vec<u8> {
    let mut page = Vec::new();
    for _ in 0..1 + below(rng, 14) {
        page.extend_from_slice(PIECES[below(rng, PIECES.len())].as_bytes());
    }
    page
}

/// The page with one to three pieces put in, taken out or doubled.
fn mutate(page: &[u8], rng: &mut SeededRng) -> Vec<u8> {
    let mut page = page.to_vec();
    for _ in 0..1 + below(rng, 3) {
        let at = below(rng, page.len());
        match below(rng, 3) {
            0 => {
                let piece = PIECES[below(rng, PIECES.len())];
                page.splice(at..at, piece.bytes());
            }
            1 => {
                page.remove(at);
            }
            _ => {
                let end = (at + 1 + below(rng, 40)).min(page.len());
                let doubled = page[at..end].to_vec();
                page.splice(at..at, doubled);
            }
        }
    }
    page
}

fn mutate_bytes(page: &[u8], rng: &mut SeededRng) -> Vec<u8> {
    let mut page = page.to_vec();
    for _ in 0..1 + below(rng, 2) {
        let at = below(rng, page.len());
        match below(rng, 6) {
            0 => page[at] = rng.next_u64() as u8,
            1 => page[at] = page[at].wrapping_add(1),
            2 => page[at] ^= 1 << below(rng, 8),
            3 => page[at] ^= 0x80,
            4 => page.truncate(at.max(1)),
            _ => {
                page.remove(at);
                if page.is_empty() {
                    page.push(0);
                }
            }
        }
    }
    page
}

fn protobuf_pages() -> Vec<(&'static str, Vec<u8>)> {
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
