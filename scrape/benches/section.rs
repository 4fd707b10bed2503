//! A CPU section: a page from the wire to a sink that forgets it.

#[path = "../tests/support/mod.rs"]
mod support;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use promferry_model::Timestamp;
use promferry_scrape::PageReader;
use serde_json::json;
use support::null_sink::NullSink;
use support::{families, gzip, job, large_page, options_at_start, target};

fn main() {
    divan::main();
}

const SERIES: [usize; 3] = [100, 1000, 100_000];

fn reader() -> PageReader<NullSink> {
    let job = job(json!({}));
    let target = target(&job, &[]);
    PageReader::new(&NullSink, job, target, options_at_start())
}

fn read_again(bencher: Bencher<'_, '_>, series: usize, pages: &[Vec<u8>]) {
    let mut reader = reader();
    let mut scrape = 0;
    let mut read = move |page: &[u8]| {
        scrape += 1;
        let body = page.to_vec();
        black_box(reader.read(body, Some("text/plain"), Timestamp::from_millis(scrape)).result.is_ok())
    };
    for page in pages {
        assert!(read(page));
    }
    let mut next = 0;
    bencher.counter(ItemsCount::new(series)).bench_local(|| {
        next = (next + 1) % pages.len();
        read(&pages[next])
    });
}

#[divan::bench(args = SERIES)]
fn known_page(bencher: Bencher<'_, '_>, series: usize) {
    read_again(bencher, series, &[large_page(series).into_bytes()]);
}

#[divan::bench(args = SERIES)]
fn known_page_compressed(bencher: Bencher<'_, '_>, series: usize) {
    read_again(bencher, series, &[gzip(large_page(series).as_bytes())]);
}

/// Every other page has its families in reverse order.
#[divan::bench(args = SERIES)]
fn shuffled_page(bencher: Bencher<'_, '_>, series: usize) {
    let mut families = families(series);
    let page = families.concat().into_bytes();
    families.reverse();
    read_again(bencher, series, &[page, families.concat().into_bytes()]);
}

#[divan::bench(args = SERIES)]
fn new_page(bencher: Bencher<'_, '_>, series: usize) {
    let page = large_page(series).into_bytes();
    bencher.counter(ItemsCount::new(series)).with_inputs(|| (reader(), page.clone())).bench_local_values(
        |(mut reader, page)| {
            black_box(reader.read(page, Some("text/plain"), Timestamp::from_millis(1)).result.is_ok())
        },
    );
}
