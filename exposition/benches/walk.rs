//! How long a sample takes, of known series and of new ones, beside prometheus-parse:
//! `cargo bench -p promferry-exposition`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../tests/support/realistic.rs"]
mod realistic;

use divan::counter::{BytesCount, ItemsCount};
use promferry_exposition::{Event, Format, LabelBuffer, ParseOptions, Parser};

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

const SIZES: [usize; 2] = [1_000, 100_000];

fn main() {
    divan::main();
}

fn bench(bencher: divan::Bencher<'_, '_>, series: usize, page: &str, walk: impl Fn(&str) -> u64 + Sync) {
    bencher
        .counter(ItemsCount::new(series))
        .counter(BytesCount::of_str(page))
        .bench(|| divan::black_box(walk(divan::black_box(page))));
}

/// What a scraper does with a page whose series it knows: key, value and time.
fn known_series(format: Format, page: &str) -> u64 {
    let mut parser = Parser::new(format, page.as_bytes(), ParseOptions::default());
    let mut sum = 0;
    while let Some(event) = parser.next().unwrap() {
        if let Event::Series(series) = event {
            sum ^= series.key(7).0[0] ^ series.value().to_bits();
            sum ^= series.timestamp().is_some() as u64;
        }
    }
    sum
}

#[divan::bench(args = SIZES)]
fn text_known(bencher: divan::Bencher<'_, '_>, series: usize) {
    let page = realistic::text_page(series);
    bench(bencher, series, &page, |page| known_series(Format::Text, page));
}

#[divan::bench(args = SIZES)]
fn openmetrics_known(bencher: divan::Bencher<'_, '_>, series: usize) {
    let page = realistic::text_page(series) + "# EOF\n";
    bench(bencher, series, &page, |page| known_series(Format::OpenMetrics, page));
}

#[divan::bench(args = SIZES)]
fn text_walk_only(bencher: divan::Bencher<'_, '_>, series: usize) {
    let page = realistic::text_page(series);
    bench(bencher, series, &page, |page| {
        let mut parser = Parser::new(Format::Text, page.as_bytes(), ParseOptions::default());
        let mut sum = 0;
        while let Some(event) = parser.next().unwrap() {
            if let Event::Series(series) = event {
                sum ^= series.value().to_bits();
            }
        }
        sum
    });
}

#[divan::bench(args = SIZES)]
fn text_with_labels(bencher: divan::Bencher<'_, '_>, series: usize) {
    let page = realistic::text_page(series);
    bench(bencher, series, &page, |page| {
        let mut parser = Parser::new(Format::Text, page.as_bytes(), ParseOptions::default());
        let mut labels = LabelBuffer::new();
        let mut sum = 0;
        while let Some(event) = parser.next().unwrap() {
            if let Event::Series(series) = event {
                series.labels(&mut labels).unwrap();
                sum ^= labels.len() as u64 ^ series.value().to_bits();
            }
        }
        sum
    });
}

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn prometheus_parse(bencher: divan::Bencher<'_, '_>, series: usize) {
    let page = realistic::text_page(series);
    bench(bencher, series, &page, |page| {
        let lines = page.lines().map(|line| Ok(line.to_owned()));
        prometheus_parse::Scrape::parse(lines).unwrap().samples.len() as u64
    });
}
