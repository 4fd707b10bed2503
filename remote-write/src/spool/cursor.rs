use promferry_model::Timestamp;

use super::core::ProtocolChoice;
use super::ledger::{Dropped, Reason};
use crate::{Counts, Lane, Protocol};

/// What a cursor file begins with: magic and version. Records follow, the first of them the endpoint's key.
pub(super) const CURSOR_HEADER: [u8; 12] = *b"PFRYCUR\n\x01\0\0\0";

/// One step in an endpoint's life, as it is written to its cursor file: length (4 bytes), CRC-32C (4) of what
/// follows, then the fields below, little-endian. Every record states totals and not changes, so that the
/// newest one of its kind counts and a lost one costs only itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CursorRecord {
    /// Whose file this is.
    Endpoint { key: String },
    /// From `sequence` on, when the log had accepted `accepted`, the endpoint gets what this log gets. Its
    /// previous attachment ended at `previous_end`: said here too, lest it seem to go on when its own record is
    /// damaged.
    Attach {
        attachment: u32,
        log: String,
        sequence: u64,
        accepted: Counts,
        previous_end: Option<(u64, Counts)>,
    },
    /// Up to `sequence` (not included), when the log had accepted `accepted`.
    End { attachment: u32, sequence: u64, accepted: Counts },
    /// Everything of the lane up to and including `sequence` is decided, and how.
    Lane { attachment: u32, lane: Lane, sequence: u64, delivered: Counts, dropped: Dropped },
    /// What was found missing after a restart, whichever lanes it was of.
    Lost { attachment: u32, dropped: Dropped },
    /// Everything of this attachment is decided; the totals of it and all before it.
    Retired { attachment: u32, accepted: Counts, delivered: Counts, dropped: Dropped },
    /// What was refused before it was stored.
    Refused { dropped: Dropped },
    /// The message that the endpoint was found to take.
    Protocol(ProtocolChoice),
}

impl CursorRecord {
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 8]);
        match self {
            Self::Endpoint { key } => {
                out.push(0);
                put_text(out, key);
            }
            Self::Attach { attachment, log, sequence, accepted, previous_end } => {
                out.push(1);
                put_u32(out, *attachment);
                put_text(out, log);
                put_u64(out, *sequence);
                put_counts(out, accepted);
                out.push(u8::from(previous_end.is_some()));
                if let Some((sequence, accepted)) = previous_end {
                    put_u64(out, *sequence);
                    put_counts(out, accepted);
                }
            }
            Self::End { attachment, sequence, accepted } => {
                out.push(2);
                put_u32(out, *attachment);
                put_u64(out, *sequence);
                put_counts(out, accepted);
            }
            Self::Lane { attachment, lane, sequence, delivered, dropped } => {
                out.push(3);
                put_u32(out, *attachment);
                out.push(lane.index() as u8);
                put_u64(out, *sequence);
                put_counts(out, delivered);
                put_dropped(out, dropped);
            }
            Self::Lost { attachment, dropped } => {
                out.push(4);
                put_u32(out, *attachment);
                put_dropped(out, dropped);
            }
            Self::Retired { attachment, accepted, delivered, dropped } => {
                out.push(5);
                put_u32(out, *attachment);
                put_counts(out, accepted);
                put_counts(out, delivered);
                put_dropped(out, dropped);
            }
            Self::Refused { dropped } => {
                out.push(6);
                put_dropped(out, dropped);
            }
            Self::Protocol(choice) => {
                out.push(7);
                out.push(match choice.protocol {
                    Protocol::V1 => 1,
                    Protocol::V2 => 2,
                });
                put_u64(out, choice.chosen_at.as_millis() as u64);
                put_u64(out, choice.url_hash);
            }
        }
        let payload = &out[start + 8..];
        let (length, crc) = (payload.len() as u32, crc32c::crc32c(payload));
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The attachment that it says something of.
    pub(super) fn attachment(&self) -> Option<u32> {
        match self {
            Self::Endpoint { .. } | Self::Refused { .. } | Self::Protocol(_) => None,
            Self::Attach { attachment, .. }
            | Self::End { attachment, .. }
            | Self::Lane { attachment, .. }
            | Self::Lost { attachment, .. }
            | Self::Retired { attachment, .. } => Some(*attachment),
        }
    }

    /// Reads the record at the start of `bytes` and how long it is.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut head = Reader(bytes);
        let length = head.u32()? as usize;
        let crc = head.u32()?;
        let payload = head.0.get(..length).filter(|payload| !payload.is_empty())?;
        if crc32c::crc32c(payload) != crc {
            return None;
        }
        let mut r = Reader(payload);
        let record = match r.u8()? {
            0 => Self::Endpoint { key: r.text()? },
            1 => Self::Attach {
                attachment: r.u32()?,
                log: r.text()?,
                sequence: r.u64()?,
                accepted: r.counts()?,
                previous_end: match r.u8()? {
                    0 => None,
                    _ => Some((r.u64()?, r.counts()?)),
                },
            },
            2 => Self::End { attachment: r.u32()?, sequence: r.u64()?, accepted: r.counts()? },
            3 => Self::Lane {
                attachment: r.u32()?,
                lane: Lane::new(r.u8()?)?,
                sequence: r.u64()?,
                delivered: r.counts()?,
                dropped: r.dropped()?,
            },
            4 => Self::Lost { attachment: r.u32()?, dropped: r.dropped()? },
            5 => Self::Retired {
                attachment: r.u32()?,
                accepted: r.counts()?,
                delivered: r.counts()?,
                dropped: r.dropped()?,
            },
            6 => Self::Refused { dropped: r.dropped()? },
            7 => Self::Protocol(ProtocolChoice {
                protocol: match r.u8()? {
                    1 => Protocol::V1,
                    2 => Protocol::V2,
                    _ => return None,
                },
                chosen_at: Timestamp::from_millis(r.u64()? as i64),
                url_hash: r.u64()?,
            }),
            _ => return None,
        };
        Some((record, 8 + length))
    }
}

/// What a cursor file held.
#[derive(Debug, Default)]
pub(super) struct CursorScan {
    pub(super) records: Vec<CursorRecord>,
    /// Where the last good record ends.
    pub(super) end: usize,
    /// Places between good records that were none.
    pub(super) damaged: u64,
}

/// Reads all records after the file's header; damage costs the damaged ones only.
pub(super) fn scan(bytes: &[u8]) -> CursorScan {
    let mut found = CursorScan::default();
    let mut at = 0;
    let mut damaged = false;
    while at < bytes.len() {
        if let Some((record, length)) = CursorRecord::decode(&bytes[at..]) {
            // Damage counts once something good follows it: before that it is a torn end.
            found.damaged += u64::from(std::mem::take(&mut damaged));
            found.records.push(record);
            at += length;
            found.end = at;
        } else {
            damaged = true;
            at += 1;
        }
    }
    found
}

fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend(n.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend(n.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len() as u32);
    out.extend(text.as_bytes());
}

fn put_counts(out: &mut Vec<u8>, counts: &Counts) {
    put_u64(out, counts.samples);
    put_u64(out, counts.histograms);
    put_u64(out, counts.exemplars);
}

fn put_dropped(out: &mut Vec<u8>, dropped: &Dropped) {
    put_u32(out, dropped.iter().len() as u32);
    for (reason, counts) in dropped.iter() {
        put_text(out, reason.as_str());
        put_counts(out, counts);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[n]| n)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn counts(&mut self) -> Option<Counts> {
        Some(Counts { samples: self.u64()?, histograms: self.u64()?, exemplars: self.u64()? })
    }

    fn dropped(&mut self) -> Option<Dropped> {
        let mut dropped = Dropped::default();
        for _ in 0..self.u32()? {
            let reason = Reason::new(&self.text()?);
            let counts = self.counts()?;
            dropped.add(&reason, counts);
        }
        Some(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<CursorRecord> {
        let counts = Counts { samples: 1, histograms: 2, exemplars: u64::MAX };
        let mut dropped = Dropped::default();
        dropped.add(&Reason::TOO_OLD, counts);
        dropped.add(&Reason::new("per_user_series_limit"), counts);
        let lane = Lane::of_hash(63);
        vec![
            CursorRecord::Endpoint { key: "amp".to_owned() },
            CursorRecord::Attach {
                attachment: 1,
                log: "v1".to_owned(),
                sequence: 9,
                accepted: counts,
                previous_end: Some((8, counts)),
            },
            CursorRecord::End { attachment: 1, sequence: 10, accepted: counts },
            CursorRecord::Lane {
                attachment: 1,
                lane,
                sequence: 9,
                delivered: counts,
                dropped: dropped.clone(),
            },
            CursorRecord::Lost { attachment: 1, dropped: Dropped::default() },
            CursorRecord::Retired {
                attachment: 1,
                accepted: counts,
                delivered: counts,
                dropped: dropped.clone(),
            },
            CursorRecord::Refused { dropped },
            CursorRecord::Protocol(ProtocolChoice {
                protocol: Protocol::V1,
                chosen_at: Timestamp::from_millis(-5),
                url_hash: 77,
            }),
        ]
    }

    #[test]
    fn records_read_back_and_a_damaged_byte_costs_one_record() {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for record in records() {
            starts.push(bytes.len());
            record.encode_into(&mut bytes);
        }
        assert_eq!(scan(&bytes).records, records());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x21;
            let hit = starts.partition_point(|&start| start <= at) - 1;
            let mut left = records();
            left.remove(hit);
            assert_eq!(scan(&damaged).records, left, "byte {at}");
        }
        for end in 0..bytes.len() {
            let whole = starts.partition_point(|&start| start <= end) - 1;
            assert_eq!(scan(&bytes[..end]).records, records()[..whole], "cut at {end}");
        }
    }
}
