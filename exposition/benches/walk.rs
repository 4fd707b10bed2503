//! How long a sample of a text page takes, known and with its labels, beside the crate prometheus-parse:
//! `cargo bench -p promferry-exposition --bench walk`.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark fails by panicking, and criterion's macros write functions"
)]

#[path = "../tests/support/realistic.rs"]
mod realistic;

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use promferry_exposition::{Event, Format, LabelBuffer, LabelSpans, ParseOptions, Parser, SeriesEvent};

const SERIES: usize = 1_000;

criterion_group!(benches, text, openmetrics);
criterion_main!(benches);

fn text(criterion: &mut Criterion) {
    let page = realistic::text_page(SERIES);
    let mut group = criterion.benchmark_group("text");
    group.throughput(Throughput::Bytes(page.len() as u64));
    walks(&mut group, Format::Text, &page);
    group.sample_size(10);
    group.bench_function("prometheus-parse", |bencher| {
        bencher.iter(|| {
            let lines = black_box(&page).lines().map(|line| Ok(line.to_owned()));
            prometheus_parse::Scrape::parse(lines).unwrap().samples.len()
        });
    });
    group.finish();
}

fn openmetrics(criterion: &mut Criterion) {
    let page = realistic::text_page(SERIES) + "# EOF\n";
    let mut group = criterion.benchmark_group("openmetrics");
    group.throughput(Throughput::Bytes(page.len() as u64));
    walks(&mut group, Format::OpenMetrics, &page);
    group.finish();
}

fn walks(group: &mut BenchmarkGroup<'_, WallTime>, format: Format, page: &str) {
    group.bench_function("known", |bencher| {
        bencher.iter(|| walk(format, page, |series| series.series_bytes().map_or(0, <[u8]>::len)));
    });
    group.bench_function("known with key", |bencher| {
        bencher.iter(|| walk(format, page, |series| series.key(7).0[0] as usize));
    });
    let mut spans = LabelSpans::new();
    group.bench_function("labels as spans", |bencher| {
        bencher.iter(|| walk(format, page, |series| series.split(&mut spans).unwrap().len()));
    });
    group.bench_function("labels as spans, each text touched", |bencher| {
        bencher.iter(|| {
            walk(format, page, |series| {
                let labels = series.split(&mut spans).unwrap();
                labels.iter().map(|(name, value)| name.len() + value.len()).sum()
            })
        });
    });
    let mut labels = LabelBuffer::new();
    group.bench_function("labels copied", |bencher| {
        bencher.iter(|| {
            walk(format, page, |series| {
                series.labels(&mut labels).unwrap();
                labels.len()
            })
        });
    });
}

/// Looks at each sample's value and at what else `look` looks at.
fn walk(format: Format, page: &str, mut look: impl FnMut(SeriesEvent<'_>) -> usize) -> u64 {
    let mut parser = Parser::new(format, black_box(page.as_bytes()), ParseOptions::default());
    let mut sum = 0;
    while let Some(event) = parser.next().unwrap() {
        if let Event::Series(series) = event {
            sum ^= series.value().to_bits() ^ look(series) as u64;
        }
    }
    sum
}
