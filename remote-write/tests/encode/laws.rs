//! Whatever is done to fragments on their way (joined, split, divided, turned into the other message), a receiver
//! sees what was scraped.

use std::sync::Arc;

use crate::generate::{
    NAMES, Point, PointValue, ProfileSpec, SeriesSpec, expected, labels, metadata, point, profile, write,
};
use crate::support::{Received, Value, receive, receive_all, receive_fragment, target};
use http::{HeaderMap, HeaderValue, header};
use promferry_model::{BucketCounts, CUSTOM_BUCKETS_SCHEMA, MemoryBudget, Span};
use promferry_remote_write::encode::{
    EncodingContext, LeftOut, Profiles, Pushed, Request, RequestBuilder, RequestLimits, TargetEncoder,
    divide, join, split, transcode,
};
use promferry_remote_write::{Counts, Fragment, Protocol, receiver};
use proptest::prelude::*;

/// The fragments of some scrapes under one profile, and what a receiver has to see of each scrape.
fn encode(
    profile: &ProfileSpec,
    series: &[SeriesSpec],
    scrapes: &[Vec<Point>],
) -> (Vec<Fragment>, Vec<Received>) {
    let context = EncodingContext::new(MemoryBudget::unlimited(), 7);
    let profiles = Arc::new(Profiles::new(1, vec![profile.profile()]));
    let mut encoder = TargetEncoder::new(&target("api", "10.0.0.1:80"), profiles, context);
    let mut fragments = Vec::new();
    let mut all = Vec::new();
    for points in scrapes {
        fragments.extend(write(&mut encoder, series, points).profiles.swap_remove(0).fragments);
        all.extend(expected(profile, series, points));
    }
    // The first page of a target is written in eight places: only the order within a series is promised.
    (fragments, sorted(all))
}

fn sorted(mut received: Vec<Received>) -> Vec<Received> {
    received.sort_by(|a, b| a.labels.cmp(&b.labels));
    received
}

/// What is left of it in a 1.0 message.
fn as_v1(received: Vec<Received>, native_histograms: bool) -> (Vec<Received>, LeftOut) {
    let mut left_out = LeftOut::default();
    let mut kept = Vec::new();
    for mut series in received {
        series.metadata = None;
        let counts = Counts { histograms: 1, exemplars: series.exemplars.len() as u64, samples: 0 };
        match &mut series.value {
            Value::Sample(_, _, start) => *start = 0,
            Value::Histogram(_) if !native_histograms => {
                left_out.native_histograms += counts;
                continue;
            }
            Value::Histogram(histogram) if histogram.schema == CUSTOM_BUCKETS_SCHEMA => {
                left_out.custom_buckets += counts;
                continue;
            }
            Value::Histogram(histogram) => histogram.start_timestamp = 0,
        }
        kept.push(series);
    }
    (kept, left_out)
}

fn other(protocol: Protocol) -> Protocol {
    if protocol == Protocol::V1 { Protocol::V2 } else { Protocol::V1 }
}

/// Splits until `depth` or until there is nothing to split.
fn leaves(fragment: &Fragment, depth: usize) -> Vec<Fragment> {
    match split(fragment).unwrap() {
        Some((first, second)) if depth > 0 => {
            [leaves(&first, depth - 1), leaves(&second, depth - 1)].concat()
        }
        _ => vec![fragment.clone()],
    }
}

/// How many samples a request may have for each fragment to fit: as few as can be, and seven.
fn at_least_one(fragments: &[Fragment]) -> u64 {
    fragments.iter().map(|fragment| fragment.counts.values()).max().unwrap_or_default().max(7)
}

/// Requests of at most `max_samples`, in `protocol`.
fn requests(fragments: &[Fragment], protocol: Protocol, max_samples: u64) -> Vec<Request> {
    let limits = RequestLimits { max_samples, ..RequestLimits::NONE };
    let mut builder = RequestBuilder::new(protocol, limits);
    let mut requests = Vec::new();
    for fragment in fragments {
        if builder.push(fragment).unwrap() == Pushed::Full {
            requests.push(builder.finish().unwrap());
            assert!(matches!(builder.push(fragment).unwrap(), Pushed::Added { .. }));
        }
    }
    if !builder.is_empty() {
        requests.push(builder.finish().unwrap());
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn joined_split_divided_or_transcoded_it_is_what_was_scraped(
        series in prop::collection::vec((labels(&NAMES), metadata()), 1..10),
        profile in profile(),
        scrapes in prop::collection::vec(prop::collection::vec(point(), 1..25), 1..4),
        depth in 0_usize..6,
        native_histograms in any::<bool>(),
    ) {
        let (fragments, expected) = encode(&profile, &series, &scrapes);
        prop_assume!(!fragments.is_empty());
        let protocol = fragments[0].protocol;
        prop_assert_eq!(&sorted(receive(&join(&fragments).unwrap())), &expected);

        let pieces: Vec<_> = fragments.iter().flat_map(|fragment| leaves(fragment, depth)).collect();
        prop_assert_eq!(&sorted(receive_all(&pieces)), &expected);
        let parts = requests(&pieces, protocol, at_least_one(&pieces));
        prop_assert_eq!(&sorted(parts.iter().flat_map(receive).collect()), &expected);

        let of_zone = |labels: &[(&str, &str)]| labels.iter().any(|(name, _)| *name == "zone");
        let divided = pieces.iter().flat_map(|piece| {
            let (first, second) = divide(piece, of_zone).unwrap();
            [first, second].into_iter().flatten()
        });
        let divided: Vec<_> = divided.collect();
        prop_assert_eq!(&sorted(receive_all(&divided)), &expected);

        let mut left_out = LeftOut::default();
        let mut turned = Vec::new();
        for piece in &pieces {
            let (fragment, out) = transcode(piece, other(protocol), native_histograms).unwrap();
            prop_assert_eq!(fragment.as_ref().map(|f| f.counts).unwrap_or_default() + out.total(), piece.counts);
            left_out.custom_buckets += out.custom_buckets;
            left_out.native_histograms += out.native_histograms;
            turned.extend(fragment);
        }
        let (kept, expected_out) = match other(protocol) {
            Protocol::V1 => as_v1(expected, native_histograms),
            _ => (expected, LeftOut::default()),
        };
        prop_assert_eq!(left_out, expected_out);
        prop_assert_eq!(&sorted(receive_all(&turned)), &kept);
        let parts = requests(&turned, other(protocol), at_least_one(&turned));
        prop_assert_eq!(&sorted(parts.iter().flat_map(receive).collect()), &kept);
        // Whoever mixes both in one request gets one of both: the stored and the turned.
        for builder_protocol in [Protocol::V1, Protocol::V2] {
            let parts = requests(&turned, builder_protocol, u64::MAX);
            let mut back: Vec<_> = parts.iter().flat_map(receive).collect();
            back = sorted(back);
            if builder_protocol == Protocol::V1 && other(protocol) == Protocol::V2 {
                back = as_v1(back, true).0;
                let again = as_v1(kept.clone(), true).0;
                prop_assert_eq!(&back, &again);
            }
        }
    }

    /// This crate's own receiver reads what the generated types read.
    #[test]
    fn the_receivers_types_read_the_same(
        series in prop::collection::vec((labels(&NAMES), metadata()), 1..8),
        profile in profile(),
        mut points in prop::collection::vec(point(), 1..25),
    ) {
        points.iter_mut().for_each(make_consistent);
        let (fragments, _) = encode(&profile, &series, &[points]);
        for fragment in &fragments {
            // A series whose relabelling left it without a label has no place in a strict receiver.
            let seen = receive_fragment(fragment);
            let request = join(std::slice::from_ref(fragment)).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            if request.protocol == Protocol::V2 {
                let content_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            }
            let read = receiver::read(&headers, &request.body, request.raw_len).unwrap();
            prop_assert_eq!(read.protocol, request.protocol);
            prop_assert_eq!(read.counts(), request.counts);
            for (read, seen) in read.series.iter().zip(&seen) {
                let pairs: Vec<_> = read.labels.iter().map(|l| (l.name.to_string(), l.value.to_string())).collect();
                prop_assert_eq!(&pairs, &seen.labels);
                match &seen.value {
                    Value::Sample(bits, at, start) => {
                        let sample = read.samples[0];
                        prop_assert_eq!(sample.value.to_bits(), *bits);
                        prop_assert_eq!(sample.timestamp.as_millis(), *at);
                        prop_assert_eq!(sample.start.map_or(0, |start| start.as_millis()), *start);
                    }
                    Value::Histogram(histogram) => {
                        let sample = &read.histograms[0];
                        let start = sample.start.map_or(0, |start| start.as_millis());
                        let again = crate::support::expected_histogram(
                            &sample.histogram,
                            sample.timestamp.as_millis(),
                            start,
                        );
                        prop_assert_eq!(&again, &**histogram);
                    }
                }
                prop_assert_eq!(read.exemplars.len(), seen.exemplars.len());
                let described = read.metadata.as_ref().map(|m| (m.help.to_string(), m.unit.to_string()));
                let expected = seen.metadata.as_ref().map(|(_, help, unit)| (help.clone(), unit.clone()));
                prop_assert_eq!(described, expected);
            }
        }
    }
}

/// Gives a histogram the spans that its buckets need.
fn make_consistent(point: &mut Point) {
    let PointValue::Histogram(histogram) = &mut point.value else { return };
    let (positive, negative) = match &histogram.counts {
        BucketCounts::Integer { positive, negative, .. } => (positive.len(), negative.len()),
        BucketCounts::Float { positive, negative, .. } => (positive.len(), negative.len()),
    };
    let span = |length: usize| vec![Span { offset: -3, length: length as u32 }];
    (histogram.positive_spans, histogram.negative_spans) = (span(positive), span(negative));
}
