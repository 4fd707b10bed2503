use bytes::Bytes;
use promferry_model::Timestamp;

use crate::{Compression, Counts, Fragment, Lane, Protocol};

/// Bytes a record takes over its body.
pub(super) const HEADER_LEN: usize = 68;

const FLAG_V2: u8 = 1;
const FLAG_SNAPPY: u8 = 2;
const FLAG_COMMIT: u8 = 4;
const KNOWN_FLAGS: u8 = FLAG_V2 | FLAG_SNAPPY | FLAG_COMMIT;

/// What stands in front of a body on disk, little-endian:
///
/// | bytes | |
/// |---|---|
/// | 0..4 | CRC-32C of bytes 4..68 |
/// | 4..8 | the body's length |
/// | 8..12 | CRC-32C of the body |
/// | 12..20 | sequence |
/// | 20 | lane |
/// | 21 | flags: 1 remote write 2.0, 2 snappy, 4 last of its scrape |
/// | 22..24 | zero |
/// | 24..36 | samples, histograms, exemplars |
/// | 36..48 | the same, accepted by the log before this record, modulo 2³²: says what a damaged neighbour held |
/// | 48..52 | the body's length before compression |
/// | 52..60, 60..68 | earliest and latest timestamp |
///
/// The header has a checksum of its own so that a restart reads headers only, and so that a damaged body still
/// tells its lane and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) body_len: u32,
    pub(super) body_crc: u32,
    pub(super) sequence: u64,
    pub(super) lane: Lane,
    pub(super) protocol: Protocol,
    pub(super) compression: Compression,
    pub(super) commit: bool,
    pub(super) counts: [u32; 3],
    pub(super) before: [u32; 3],
    pub(super) raw_len: u32,
    pub(super) min_timestamp: i64,
    pub(super) max_timestamp: i64,
}

impl RecordHeader {
    /// The header of a fragment; `None` when it is too large for one record.
    pub(super) fn of(fragment: &Fragment, sequence: u64, before: Counts, commit: bool) -> Option<Self> {
        let small = |n: u64| u32::try_from(n).ok();
        Some(Self {
            body_len: u32::try_from(fragment.body.len()).ok().filter(|&len| len <= MAX_BODY)?,
            body_crc: crc32c::crc32c(&fragment.body),
            sequence,
            lane: fragment.lane,
            protocol: fragment.protocol,
            compression: fragment.compression,
            commit,
            counts: [
                small(fragment.counts.samples)?,
                small(fragment.counts.histograms)?,
                small(fragment.counts.exemplars)?,
            ],
            before: [before.samples as u32, before.histograms as u32, before.exemplars as u32],
            raw_len: fragment.raw_len,
            min_timestamp: fragment.min_timestamp.as_millis(),
            max_timestamp: fragment.max_timestamp.as_millis(),
        })
    }

    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let mut flags = 0;
        if self.protocol == Protocol::V2 {
            flags |= FLAG_V2;
        }
        if self.compression == Compression::Snappy {
            flags |= FLAG_SNAPPY;
        }
        if self.commit {
            flags |= FLAG_COMMIT;
        }
        out[4..8].copy_from_slice(&self.body_len.to_le_bytes());
        out[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        out[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        out[20] = self.lane.index() as u8;
        out[21] = flags;
        for (i, n) in self.counts.iter().chain(&self.before).enumerate() {
            out[24 + 4 * i..28 + 4 * i].copy_from_slice(&n.to_le_bytes());
        }
        out[48..52].copy_from_slice(&self.raw_len.to_le_bytes());
        out[52..60].copy_from_slice(&self.min_timestamp.to_le_bytes());
        out[60..68].copy_from_slice(&self.max_timestamp.to_le_bytes());
        let crc = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header from the first [`HEADER_LEN`] bytes; `None` when they are none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        // The cheap conditions first: resynchronising tries every byte offset.
        let flags = bytes[21];
        if bytes[22] != 0 || bytes[23] != 0 || flags & !KNOWN_FLAGS != 0 {
            return None;
        }
        let lane = Lane::new(bytes[20])?;
        let body_len = u32_at(bytes, 4);
        if body_len > MAX_BODY || crc32c::crc32c(&bytes[4..]) != u32_at(bytes, 0) {
            return None;
        }
        Some(Self {
            body_len,
            body_crc: u32_at(bytes, 8),
            sequence: u64_at(bytes, 12),
            lane,
            protocol: if flags & FLAG_V2 == 0 { Protocol::V1 } else { Protocol::V2 },
            compression: if flags & FLAG_SNAPPY == 0 { Compression::None } else { Compression::Snappy },
            commit: flags & FLAG_COMMIT != 0,
            counts: [u32_at(bytes, 24), u32_at(bytes, 28), u32_at(bytes, 32)],
            before: [u32_at(bytes, 36), u32_at(bytes, 40), u32_at(bytes, 44)],
            raw_len: u32_at(bytes, 48),
            min_timestamp: u64_at(bytes, 52) as i64,
            max_timestamp: u64_at(bytes, 60) as i64,
        })
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            samples: self.counts[0].into(),
            histograms: self.counts[1].into(),
            exemplars: self.counts[2].into(),
        }
    }

    /// The fragment whose body this is; `None` when the body's checksum is another.
    pub(super) fn fragment(&self, body: Bytes) -> Option<Fragment> {
        (crc32c::crc32c(&body) == self.body_crc).then(|| Fragment {
            lane: self.lane,
            protocol: self.protocol,
            compression: self.compression,
            counts: self.counts(),
            raw_len: self.raw_len,
            min_timestamp: Timestamp::from_millis(self.min_timestamp),
            max_timestamp: Timestamp::from_millis(self.max_timestamp),
            body,
        })
    }
}

/// What is remembered of a record while its segment is being read or written.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordMeta {
    pub(super) sequence: u64,
    /// Of the header, from the segment's start; in a segment kept in memory, the record's number.
    pub(super) offset: u32,
    pub(super) body_len: u32,
    pub(super) max_timestamp: i64,
    counts: [u32; 3],
    pub(super) lane: Lane,
}

impl RecordMeta {
    pub(super) fn new(header: &RecordHeader, offset: u32) -> Self {
        Self {
            sequence: header.sequence,
            offset,
            body_len: header.body_len,
            max_timestamp: header.max_timestamp,
            counts: header.counts,
            lane: header.lane,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            samples: self.counts[0].into(),
            histograms: self.counts[1].into(),
            exemplars: self.counts[2].into(),
        }
    }
}

/// No fragment comes near this; a length beyond it is not a length.
const MAX_BODY: u32 = 1 << 30;

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written_and_any_flipped_bit_is_noticed() {
        let header = RecordHeader {
            body_len: 1234,
            body_crc: 0xdead_beef,
            sequence: u64::MAX - 3,
            lane: Lane::of_hash(77),
            protocol: Protocol::V2,
            compression: Compression::Snappy,
            commit: true,
            counts: [500, 3, 2],
            before: [u32::MAX, 0, 7],
            raw_len: 65536,
            min_timestamp: -5,
            max_timestamp: i64::MAX,
        };
        let bytes = header.encode();
        assert_eq!(RecordHeader::decode(&bytes), Some(header));
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(RecordHeader::decode(&[0; HEADER_LEN]), None);
        assert_eq!(RecordHeader::decode(&bytes[..HEADER_LEN - 1]), None);
    }
}
