use bytes::Bytes;
use promferry_model::Timestamp;
use promferry_remote_write::encode::{divide, for_each_series, join, split, transcode};
use promferry_remote_write::wire::{self, v1, v2};
use promferry_remote_write::{Compression, Counts, Fragment, Lane, Protocol};
use prost::Message;

use crate::input::take_byte;

/// What a receiver reads: a compressed body, and a message without the compression.
pub fn wire(data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    if let Ok(raw) = wire::decompress(data, LIMIT) {
        assert!(raw.len() <= LIMIT);
    }
    let ones = [wire::decode_v1(data, LIMIT).ok(), v1::WriteRequest::decode(data).ok()];
    for request in ones.into_iter().flatten() {
        let again = wire::decode_v1(&wire::encode(&request), usize::MAX);
        // As bytes, in which a not-a-number equals itself.
        assert_eq!(again.ok().map(|again| again.encode_to_vec()), Some(request.encode_to_vec()));
    }
    let twos = [wire::decode_v2(data, LIMIT).ok(), v2::Request::decode(data).ok()];
    for request in twos.into_iter().flatten() {
        let again = wire::decode_v2(&wire::encode(&request), usize::MAX);
        assert_eq!(again.ok().map(|again| again.encode_to_vec()), Some(request.encode_to_vec()));
        for series in &request.timeseries {
            if let Some(labels) = request.labels(&series.labels_refs) {
                assert_eq!(labels.len() * 2, series.labels_refs.len());
            }
        }
    }
}

/// The body of a stored fragment. The first byte says of which protocol and whether it is compressed.
pub fn fragment(data: &[u8]) {
    let mut body = data;
    let kind = take_byte(&mut body);
    let protocol = if kind & 1 == 0 { Protocol::V1 } else { Protocol::V2 };
    let compressed = kind & 2 != 0;
    let raw_len = match snap::raw::decompress_len(body) {
        // What could be stored; what is larger is no fragment's.
        Ok(length) if compressed && length <= 1 << 24 => length,
        _ if compressed => return,
        _ => body.len(),
    };
    let mut fragment = Fragment {
        lane: Lane::of_hash(0),
        protocol,
        compression: if compressed { Compression::Snappy } else { Compression::None },
        counts: Counts::default(),
        raw_len: raw_len as u32,
        min_timestamp: Timestamp::from_millis(0),
        max_timestamp: Timestamp::from_millis(0),
        body: Bytes::copy_from_slice(body),
    };
    let _ = join(std::slice::from_ref(&fragment));
    let Some(counts) = counts_of(&fragment) else {
        let _ = (split(&fragment), transcode(&fragment, other(protocol), true));
        return;
    };
    fragment.counts = counts;
    if let Ok(Some((first, second))) = split(&fragment) {
        for half in [&first, &second] {
            assert_eq!(counts_of(half), Some(half.counts), "a half does not read as what it was written as");
        }
        assert_eq!(first.counts + second.counts, counts, "split lost or made up something");
    }
    if let Ok((even, odd)) = divide(&fragment, |labels| labels.len().is_multiple_of(2)) {
        let of = |part: Option<Fragment>| part.map(|part| part.counts).unwrap_or_default();
        assert_eq!(of(even) + of(odd), counts, "divide lost or made up something");
    }
    if let Ok((Some(transcoded), left_out)) = transcode(&fragment, other(protocol), true) {
        assert_eq!(
            counts_of(&transcoded),
            Some(transcoded.counts),
            "a transcoded fragment reads differently"
        );
        assert_eq!(transcoded.counts + left_out.total(), counts, "transcode lost or made up something");
    }
    let _ = (join(std::slice::from_ref(&fragment)), join(&[fragment.clone(), fragment]));
}

/// What all series of a fragment hold; `None` if it cannot be read.
fn counts_of(fragment: &Fragment) -> Option<Counts> {
    let mut sum = Counts::default();
    for_each_series(fragment, |series| {
        sum += series.counts;
        // A series of exemplars alone, which nothing of ours writes, has no time.
        assert!(series.counts.values() == 0 || series.min_timestamp <= series.max_timestamp);
    })
    .ok()?;
    Some(sum)
}

const fn other(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::V1 => Protocol::V2,
        _ => Protocol::V1,
    }
}
