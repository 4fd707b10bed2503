//! Joining, splitting and transcoding lose nothing and keep the order.

use std::sync::Arc;

use crate::support::{Received, Value, receive, receive_all, receive_fragment, target};
use promferry_model::{
    ExemplarView, Histogram, Labels, MemoryBudget, Metadata, MetadataView, MetricType, Sample, SeriesView,
    Timestamp,
};
use promferry_remote_write::encode::{
    self, EncodingContext, FragmentError, LeftOut, Profile, Profiles, Pushed, RequestBuilder, RequestLimits,
    TargetEncoder, join, split, transcode, without,
};
use promferry_remote_write::{Compression, Counts, Fragment, Protocol, wire};
use proptest::prelude::*;

/// Fragments of several scrapes of a page of `series` series, some with exemplars or histograms.
pub(crate) fn fragments(protocol: Protocol, series: usize, scrapes: usize) -> Vec<Fragment> {
    let profile = Profile {
        external_labels: Labels::from_pairs([("cluster", "eu"), ("region", "eu-central-1")]),
        protocol,
        send_exemplars: true,
        send_native_histograms: true,
        ..Profile::default()
    };
    let context = EncodingContext::new(MemoryBudget::unlimited(), 7);
    let profiles = Arc::new(Profiles::new(1, vec![Arc::new(profile)]));
    let mut encoder = TargetEncoder::new(&target("api", "10.0.0.1:80"), profiles, context);
    let ids: Vec<_> = (0..series)
        .map(|n| {
            let labels = Labels::from_pairs([
                ("__name__", format!("http_requests_{}_total", n % 7)),
                ("code", (200 + n % 5).to_string()),
                ("instance", "10.0.0.1:80".into()),
                ("job", "api".into()),
                ("path", format!("/some/longer/path/{n}")),
            ]);
            let metadata = MetadataView {
                family: &format!("http_requests_{}", n % 7),
                metric_type: MetricType::Counter,
                unit: "",
                help: "requests that were answered",
            };
            encoder.admit(&SeriesView { labels: &labels, metadata }).unwrap()
        })
        .collect();
    let mut fragments = Vec::new();
    for scrape in 0..scrapes {
        encoder.begin();
        let at = Timestamp::from_millis(1_700_000_000_000 + 15_000 * scrape as i64);
        for (n, &id) in ids.iter().enumerate() {
            if n % 50 == 17 {
                encoder.histogram(id, at, Some(at), &Histogram { sum: n as f64, ..Histogram::stale() });
            } else {
                encoder.sample(id, Sample { timestamp: at, value: (n * scrape) as f64, start: Some(at) });
            }
            if n % 13 == 5 {
                let labels = Labels::from_pairs([("trace_id", format!("{n:032x}"))]);
                encoder.exemplar(&ExemplarView { labels: &labels, value: n as f64, timestamp: at });
            }
        }
        fragments.extend(encoder.finish().unwrap().profiles.swap_remove(0).fragments);
    }
    fragments
}

pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::V1, Protocol::V2];

#[test]
fn a_request_is_its_fragments_one_after_the_other() {
    for protocol in PROTOCOLS {
        // Large compressed fragments and small raw ones in turn.
        let mut mixed = Vec::new();
        for series in [3, 600, 5, 20, 700, 1] {
            mixed.extend(fragments(protocol, series, 2));
        }
        assert!(mixed.iter().any(|f| f.compression == Compression::Snappy));
        assert!(mixed.iter().any(|f| f.compression == Compression::None));
        let request = join(&mixed).unwrap();
        assert_eq!(receive(&request), receive_all(&mixed));
        assert_eq!(snap::raw::decompress_len(&request.body).unwrap(), request.raw_len);
    }
}

#[test]
fn limits_decide_how_many_fragments_fit() {
    for protocol in PROTOCOLS {
        let all = fragments(protocol, 900, 8);
        for limits in [
            RequestLimits { max_samples: 1200, ..RequestLimits::NONE },
            RequestLimits { max_raw_bytes: 100_000, ..RequestLimits::NONE },
            RequestLimits { max_compressed_bytes: 60_000, ..RequestLimits::NONE },
        ] {
            let mut builder = RequestBuilder::new(protocol, limits);
            let mut requests = Vec::new();
            for fragment in &all {
                match builder.push(fragment).unwrap() {
                    Pushed::Added { .. } => {}
                    Pushed::Full => {
                        requests.push(builder.finish().unwrap());
                        assert!(matches!(builder.push(fragment).unwrap(), Pushed::Added { .. }));
                    }
                    Pushed::TooLarge => panic!("each fragment fits alone"),
                }
            }
            requests.push(builder.finish().unwrap());
            assert!(requests.len() > 1);
            for request in &requests {
                assert!(request.counts.values() <= limits.max_samples);
                assert!(request.raw_len <= limits.max_raw_bytes);
                assert!(request.body.len() <= limits.max_compressed_bytes);
            }
            let received: Vec<_> = requests.iter().flat_map(receive).collect();
            assert_eq!(received, receive_all(&all), "{limits:?}");
        }
        let small = RequestLimits { max_samples: 10, ..RequestLimits::NONE };
        assert_eq!(RequestBuilder::new(protocol, small).push(&all[0]).unwrap(), Pushed::TooLarge);
    }
}

#[test]
fn halves_are_the_whole_down_to_single_series() {
    fn halve(fragment: &Fragment, leaves: &mut Vec<Fragment>) {
        match split(fragment).unwrap() {
            None => leaves.push(fragment.clone()),
            Some((first, second)) => {
                assert_eq!(first.counts + second.counts, fragment.counts);
                assert_eq!((first.lane, second.lane), (fragment.lane, fragment.lane));
                halve(&first, leaves);
                halve(&second, leaves);
            }
        }
    }
    for protocol in PROTOCOLS {
        for fragment in fragments(protocol, 400, 1) {
            let mut leaves = Vec::new();
            halve(&fragment, &mut leaves);
            assert!(leaves.iter().all(|leaf| leaf.counts.values() == 1));
            assert_eq!(receive(&join(&leaves).unwrap()), receive_fragment(&fragment));
        }
    }
}

#[test]
fn a_named_series_is_taken_out_alone() {
    for protocol in PROTOCOLS {
        let fragment = fragments(protocol, 120, 1).swap_remove(0);
        let before = receive_fragment(&fragment);
        let offender = before[before.len() / 2].labels.clone();
        let is_offender = |labels: &[(&str, &str)]| {
            labels.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).eq(offender.iter().cloned())
        };
        let (rest, out) = without(&fragment, is_offender).unwrap();
        let rest = rest.unwrap();
        assert_eq!(out.values(), 1);
        assert_eq!(rest.counts + out, fragment.counts);
        let expected: Vec<_> = before.into_iter().filter(|series| series.labels != offender).collect();
        assert_eq!(receive_fragment(&rest), expected);

        let (rest, out) = without(&fragment, |_| true).unwrap();
        assert_eq!((rest, out), (None, fragment.counts));

        let mut seen = Vec::new();
        encode::for_each_series(&fragment, |series| {
            seen.push((series.labels.len(), series.counts.values(), series.min_timestamp));
        })
        .unwrap();
        assert_eq!(seen.len() as u64, fragment.counts.values());
        assert!(
            seen.iter()
                .all(|&(labels, values, at)| { labels == 7 && values == 1 && at == fragment.min_timestamp })
        );
    }
}

fn without_v2_only(mut received: Vec<Received>) -> Vec<Received> {
    for series in &mut received {
        series.metadata = None;
        match &mut series.value {
            Value::Sample(_, _, start) => *start = 0,
            Value::Histogram(histogram) => histogram.start_timestamp = 0,
        }
    }
    received
}

#[test]
fn the_other_protocol_says_the_same() {
    for fragment in fragments(Protocol::V2, 300, 2) {
        let (v1, left_out) = transcode(&fragment, Protocol::V1, true).unwrap();
        let v1 = v1.unwrap();
        assert_eq!((v1.protocol, v1.counts, left_out), (Protocol::V1, fragment.counts, LeftOut::default()));
        assert_eq!(receive_fragment(&v1), without_v2_only(receive_fragment(&fragment)));
        let (again, _) = transcode(&v1, Protocol::V2, true).unwrap();
        assert_eq!(receive_fragment(&again.unwrap()), receive_fragment(&v1));
        // A builder of the other protocol does it by itself.
        let mut builder = RequestBuilder::new(Protocol::V1, RequestLimits::NONE);
        assert_eq!(builder.push(&fragment).unwrap(), Pushed::Added { left_out: LeftOut::default() });
        assert_eq!(receive(&builder.finish().unwrap()), receive_fragment(&v1));
    }
}

#[test]
fn custom_buckets_are_counted_where_1_0_cannot_carry_them() {
    let message = wire::v2::Request {
        symbols: ["", "__name__", "a", "b"].map(String::from).to_vec(),
        timeseries: [(2, -53), (3, 3)]
            .map(|(name, schema)| wire::v2::TimeSeries {
                labels_refs: vec![1, name],
                histograms: vec![wire::v2::Histogram { schema, timestamp: 7, ..Default::default() }],
                ..Default::default()
            })
            .to_vec(),
    };
    let raw = prost::Message::encode_to_vec(&message);
    let fragment = Fragment {
        lane: promferry_remote_write::Lane::of_hash(0),
        protocol: Protocol::V2,
        compression: Compression::None,
        counts: Counts { histograms: 2, ..Default::default() },
        raw_len: raw.len() as u32,
        min_timestamp: Timestamp::from_millis(7),
        max_timestamp: Timestamp::from_millis(7),
        body: raw.into(),
    };
    let (v1, left_out) = transcode(&fragment, Protocol::V1, true).unwrap();
    let received = receive_fragment(&v1.unwrap());
    let one = Counts { histograms: 1, ..Counts::default() };
    assert_eq!(left_out, LeftOut { custom_buckets: one, ..LeftOut::default() });
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].labels, [("__name__".to_owned(), "b".to_owned())]);
}

#[test]
fn requests_of_metadata_carry_nothing_else() {
    let metadata: Vec<_> = (0..5)
        .map(|n| {
            Arc::new(Metadata {
                family: format!("f{n}").into(),
                metric_type: MetricType::Gauge,
                unit: "seconds".into(),
                help: "text".into(),
            })
        })
        .collect();
    let requests = encode::metadata_requests(&metadata, 2);
    let decoded: Vec<_> = requests.iter().map(|r| wire::decode_v1(&r.body, r.raw_len).unwrap()).collect();
    assert_eq!(decoded.iter().map(|message| message.metadata.len()).collect::<Vec<_>>(), [2, 2, 1]);
    assert!(decoded.iter().all(|message| message.timeseries.is_empty()));
    assert_eq!(decoded[2].metadata[0].metric_family_name, "f4");
    assert_eq!(decoded[2].metadata[0].r#type, 2);
}

proptest! {
    /// Whatever the disk gives back, reading it ends with an answer or an error.
    #[test]
    fn damaged_fragments_are_errors_and_nothing_worse(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(), v2 in any::<bool>(),
    ) {
        thread_local! {
            static INTACT: [Vec<Fragment>; 2] = PROTOCOLS.map(|p| [fragments(p, 4, 1), fragments(p, 400, 1)].concat());
        }
        for mut fragment in INTACT.with(|intact| intact[usize::from(v2)].clone()) {
            let mut body = fragment.body.to_vec();
            let at = at.index(body.len());
            body[at] ^= byte;
            body.truncate(cut.index(2 * body.len()).max(1));
            fragment.body = body.into();
            let _ = encode::for_each_series(&fragment, |_| {});
            let _ = split(&fragment);
            let _ = transcode(&fragment, Protocol::V1, true);
            let _ = transcode(&fragment, Protocol::V2, true);
            let _ = join(&[fragment]);
        }
    }
}

#[test]
fn a_fragment_that_cannot_be_read_leaves_the_request_as_it_was() {
    let good = fragments(Protocol::V2, 20, 1);
    let series = |name| wire::v2::TimeSeries {
        labels_refs: vec![1, name],
        samples: vec![wire::v2::Sample { value: 1.0, timestamp: 7, start_timestamp: 0 }],
        ..Default::default()
    };
    let symbols = ["", "__name__", "a"].map(String::from).to_vec();
    let message = wire::v2::Request { symbols, timeseries: vec![series(2), series(3)] };
    let raw = prost::Message::encode_to_vec(&message);
    let damaged = Fragment { raw_len: raw.len() as u32, body: raw.into(), ..good[0].clone() };
    let mut builder = RequestBuilder::new(Protocol::V2, RequestLimits::NONE);
    for fragment in &good {
        assert!(matches!(builder.push(fragment).unwrap(), Pushed::Added { .. }));
        assert!(matches!(builder.push(&damaged), Err(FragmentError::Malformed { .. })));
    }
    assert_eq!(receive(&builder.finish().unwrap()), receive_all(&good));
}

#[test]
fn an_announced_size_is_checked_before_it_is_believed() {
    let all = fragments(Protocol::V1, 400, 2);
    let fragment = all.iter().find(|fragment| fragment.compression == Compression::Snappy).unwrap();
    let mut lying = fragment.clone();
    lying.body = [&[0xff, 0xff, 0xff, 0x7f][..], &fragment.body[3..]].concat().into();
    assert!(matches!(join(&[lying.clone()]), Err(FragmentError::Malformed { .. })));
    assert!(matches!(split(&lying), Err(FragmentError::Malformed { .. })));
    assert!(matches!(wire::decode_v1(&lying.body, 1 << 20), Err(wire::WireError::TooLarge { .. })));
}
