//! How many samples a second the sink takes in, so that it is known not to be what limits a collector.

use divan::{Bencher, counter::ItemsCount};
use promferry_bench::{
    ledger::{Judgement, Ledger},
    messages::{Label, Sample, TimeSeries, WriteRequest},
    page::Page,
    wire::Protocol,
};
use prost::Message;

const SERIES: usize = 2000;

fn main() {
    divan::main();
}

/// A request with every series of one page of the farm.
fn request(sequence: u64) -> Vec<u8> {
    let mut page = Vec::new();
    Page::new(1, SERIES).render(sequence, &mut page);
    let page = String::from_utf8_lossy(&page).into_owned();
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let timeseries = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, rest) = series.split_once('{')?;
        let mut labels =
            vec![label("__name__", name), label("instance", "127.0.0.1:9100"), label("job", "bench")];
        labels.extend(rest.trim_end_matches('}').split(',').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some(label(name, value.trim_matches('"')))
        }));
        let sample =
            Sample { value: value.parse().ok()?, timestamp: sequence as i64 * 15_000, start_timestamp: 0 };
        Some(TimeSeries { labels, samples: vec![sample], ..TimeSeries::default() })
    });
    let message = WriteRequest { timeseries: timeseries.collect(), metadata: Vec::new() }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&message).unwrap_or_default()
}

#[divan::bench(args = [Judgement::CountOnly, Judgement::EachSeries])]
fn accept(bencher: Bencher<'_, '_>, judgement: Judgement) {
    let requests: Vec<_> = (1..=16).map(request).collect();
    bencher.counter(ItemsCount::new(SERIES)).bench_local({
        let mut ledger = Ledger::new(judgement);
        let mut next = requests.iter().cycle();
        move || next.next().map(|body| ledger.accept(body, Protocol::V1, 0))
    });
}
