//! `cargo bench -p promferry-remote-write --bench encode`: nanoseconds a sample. Each function encodes one
//! page of 1,000 series of a Kubernetes target, 12 labels each; `items/s` counts samples.

use divan::Bencher;
use divan::counter::ItemsCount;
use page::{AT, SERIES, page};
use promferry_remote_write::Protocol;
use promferry_remote_write::encode::{RequestBuilder, RequestLimits, join, transcode};
use promferry_remote_write::wire::{v1, v2};
use prost::Message;

mod page;

fn main() {
    divan::main();
}

/// Samples to closed, compressed fragments.
#[divan::bench(args = [Protocol::V1, Protocol::V2])]
fn fragments(bencher: Bencher<'_, '_>, protocol: Protocol) {
    let mut page = page(protocol, 34);
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| page.encode());
}

/// The same without compression of what is open at the end: as much of a page as fits one fragment.
#[divan::bench(args = [Protocol::V1, Protocol::V2])]
fn samples_alone(bencher: Bencher<'_, '_>, protocol: Protocol) {
    let mut page = page(protocol, 34);
    page.ids.truncate(150);
    bencher.counter(ItemsCount::new(150usize)).bench_local(|| {
        page.encoder.begin();
        page.samples();
        page.encoder.abort();
    });
}

/// Fragments of two pages to one request.
#[divan::bench(args = [Protocol::V1, Protocol::V2])]
fn requests(bencher: Bencher<'_, '_>, protocol: Protocol) {
    let mut page = page(protocol, 34);
    let fragments: Vec<_> = (0..2).flat_map(|_| page.encode()).collect();
    let mut builder = RequestBuilder::new(protocol, RequestLimits::NONE);
    bencher.counter(ItemsCount::new(2 * SERIES)).bench_local(|| {
        for fragment in &fragments {
            let _ = builder.push(fragment).expect("own fragments");
        }
        builder.finish().expect("own fragments")
    });
}

/// The other protocol's fragments from those that were stored.
#[divan::bench(args = [Protocol::V1, Protocol::V2])]
fn transcoded_to(bencher: Bencher<'_, '_>, protocol: Protocol) {
    let other = if protocol == Protocol::V1 { Protocol::V2 } else { Protocol::V1 };
    let fragments = page(other, 34).encode();
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| {
        fragments
            .iter()
            .map(|fragment| transcode(fragment, protocol, true).expect("own fragments"))
            .collect::<Vec<_>>()
    });
}

/// What others do: owned messages, then prost, then snappy.
#[divan::bench]
fn prost_v1(bencher: Bencher<'_, '_>) {
    let page = page(Protocol::V1, 34);
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| {
        let timeseries = page.labels.iter().enumerate().map(|(n, labels)| v1::TimeSeries {
            labels: labels
                .iter()
                .map(|label| v1::Label { name: label.name.to_string(), value: label.value.to_string() })
                .collect(),
            samples: vec![v1::Sample { value: n as f64, timestamp: AT }],
            ..Default::default()
        });
        let message = v1::WriteRequest { timeseries: timeseries.collect(), ..Default::default() };
        snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).expect("small")
    });
}

/// The same in 2.0, with a map for the symbols.
#[divan::bench]
fn prost_v2(bencher: Bencher<'_, '_>) {
    let page = page(Protocol::V2, 34);
    bencher.counter(ItemsCount::new(SERIES)).bench_local(|| {
        let mut map = std::collections::HashMap::from([("", 0u32)]);
        let mut symbols = vec![String::new()];
        let mut reference = |text| {
            *map.entry(text).or_insert_with(|| {
                symbols.push(str::to_owned(text));
                symbols.len() as u32 - 1
            })
        };
        let timeseries = page.labels.iter().enumerate().map(|(n, labels)| v2::TimeSeries {
            labels_refs: labels
                .iter()
                .flat_map(|label| [&label.name, &label.value])
                .map(|t| reference(t))
                .collect(),
            samples: vec![v2::Sample { value: n as f64, timestamp: AT, start_timestamp: 0 }],
            ..Default::default()
        });
        let timeseries = timeseries.collect();
        let message = v2::Request { symbols, timeseries };
        snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).expect("small")
    });
}

/// What a request of 2,000 samples weighs, printed once.
#[divan::bench(sample_count = 1, sample_size = 1)]
#[expect(clippy::print_stderr, reason = "a figure beside the table")]
fn bytes_a_sample() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut page = page(protocol, 34);
        let fragments: Vec<_> = (0..2).flat_map(|_| page.encode()).collect();
        let request = join(&fragments).expect("own fragments");
        let samples = request.counts.samples as usize;
        eprintln!(
            "{protocol:?}: {:.1} bytes a sample raw, {:.1} compressed, {} fragments",
            request.raw_len as f64 / samples as f64,
            request.body.len() as f64 / samples as f64,
            fragments.len(),
        );
    }
}
