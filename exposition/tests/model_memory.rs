//! Families read from a page take memory in proportion to the page, whatever it says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/held_memory.rs"]
mod held_memory;
#[path = "support/protobuf_bytes.rs"]
mod protobuf_bytes;
#[path = "support/realistic.rs"]
mod realistic;

use held_memory::taken_by;
use promferry_exposition::{Encoder, Format, HistogramPoint, ParseOptions, read_families};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType};
use protobuf_bytes::{delimited, field, number};

/// Bytes of families to a byte of the page, at most. The worst are pages of nothing but short names: `a 1` and its
/// newline, four bytes, become a family (112 bytes), a metric (40), a point (72) and a name.
const KEPT: usize = 64;
/// The same while reading: tables that find families and metrics, and lists that grow by doubling.
const PEAK: usize = 160;
/// The same for families kept of pages as programs write them.
const KEPT_OF_REAL: usize = 8;
/// What even an empty page may take.
const FIXED: usize = 4096;

/// Bytes kept and the most bytes held, of the families of a page.
fn memory(format: Format, page: &[u8]) -> (usize, usize) {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.always_classic_histograms = true;
    options.parse_start_timestamps = true;
    let (taken, _families) = taken_by(|| read_families(format, page, options));
    (taken.kept, taken.peak)
}

fn repeated(size: usize, mut line: impl FnMut(usize) -> String) -> String {
    let mut page = String::with_capacity(size + 100);
    let mut number = 0;
    while page.len() < size {
        page.push_str(&line(number));
        number += 1;
    }
    page
}

/// The shortest names: letters and digits, a new one each time.
fn short_name(number: usize) -> String {
    let mut name = String::new();
    let mut rest = number;
    loop {
        name.insert(0, char::from(b'a' + (rest % 26) as u8));
        rest /= 26;
        if rest == 0 {
            return name;
        }
        rest -= 1;
    }
}

fn hostile_pages(size: usize) -> Vec<(&'static str, Format, Vec<u8>)> {
    let text = |what, line: &dyn Fn(usize) -> String| (what, Format::Text, repeated(size, line).into_bytes());
    let openmetrics = |what, head: &str, line: &dyn Fn(usize) -> String| {
        (what, Format::OpenMetrics, format!("{head}{}# EOF\n", repeated(size, line)).into_bytes())
    };
    let many_labels = repeated(size, |at| format!("{}=\"1\",", short_name(at)));
    let mut pages = vec![
        ("many labels", Format::Text, format!("a{{{many_labels}}} 1\n").into_bytes()),
        text("one series again and again", &|_| "a 1\n".to_owned()),
        text("a name each", &|at| format!("{} 1\n", short_name(at))),
        text("a type each", &|at| format!("# TYPE {} gauge\n", short_name(at))),
        text("a help each", &|at| format!("# HELP {} x\n", short_name(at))),
        text("a label each", &|at| format!("a{{b=\"{}\"}} 1\n", short_name(at))),
        text("types in turn", &|at| format!("# TYPE a {}\na 1\n", ["gauge", "counter", "untyped"][at % 3])),
        text("a histogram's times", &|at| format!("# TYPE h histogram\nh_sum 1 {at}\n")),
        openmetrics("exemplars", "# TYPE a counter\n", &|_| "a_total 1 # {} 1\n".to_owned()),
        openmetrics("exemplars' labels", "# TYPE a counter\n", &|_| {
            "a_total 1 # {a=\"1\",b=\"1\"} 1\n".to_owned()
        }),
    ];
    for (what, order) in [("buckets up", 1_i64), ("buckets down", -1)] {
        let bucket = |at: usize| format!("h_bucket{{le=\"{}\"}} 1\n", order * at as i64);
        let page = format!("# TYPE h histogram\n{}", repeated(size, bucket));
        pages.push((what, Format::Text, page.into_bytes()));
    }
    let quantile = |at: usize| format!("s{{quantile=\"{}\"}} 1\n", -(at as i64));
    let page = format!("# TYPE s summary\n{}", repeated(size, quantile));
    pages.push(("quantiles down", Format::Text, page.into_bytes()));
    pages.push(("native histograms without buckets", Format::Protobuf, protobuf_page(size)));
    pages.push(("gauges of nothing", Format::Protobuf, empty_metrics(size)));
    pages
}

/// The smallest native histograms.
fn protobuf_page(size: usize) -> Vec<u8> {
    let native = Histogram {
        sum: 0.0,
        counts: BucketCounts::Integer { count: 0, zero_count: 1, positive: vec![], negative: vec![] },
        ..Histogram::stale()
    };
    let mut page = Encoder::new(Format::Protobuf);
    for at in 0..size / 20 {
        let name = short_name(at);
        page.family(MetadataView {
            family: &name,
            metric_type: MetricType::Histogram,
            ..MetadataView::default()
        })
        .histogram(&[], &HistogramPoint { native: Some(&native), ..HistogramPoint::default() });
    }
    page.finish()
}

/// One family of metrics that say nothing: two bytes each.
fn empty_metrics(size: usize) -> Vec<u8> {
    let metrics = field(4, b"").repeat(size / 2);
    delimited(&[field(1, b"a"), number(3, 1), metrics].concat())
}

#[test]
fn memory_is_in_proportion_to_the_page() {
    for size in [1_000, 20_000, 50_000, 100_000] {
        for (what, format, page) in hostile_pages(size) {
            let (kept, most) = memory(format, &page);
            let most_allowed = |a_byte: usize| FIXED + a_byte * page.len();
            assert!(kept <= most_allowed(KEPT), "{what}: {kept} bytes kept of {}", page.len());
            assert!(most <= most_allowed(PEAK), "{what}: {most} bytes held of {}", page.len());
        }
    }
}

#[test]
fn families_of_a_real_page_are_a_few_times_its_size() {
    let page = realistic::text_page(1_000);
    let (kept, _) = memory(Format::Text, page.as_bytes());
    assert!(kept <= KEPT_OF_REAL * page.len(), "{kept} bytes of {}", page.len());
}
