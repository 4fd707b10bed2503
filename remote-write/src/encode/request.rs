use std::fmt;

use bytes::Bytes;
use promferry_model::Metadata;

use super::assembler::{Assembler, SymbolMap};
use super::message::{FragmentError, raw_body_in};
use super::proto::{put_varint, take_varint};
use super::rewrite::{LeftOut, transcode};
use super::scratch::compress;
use crate::wire::v1::{MetricMetadata, MetricType, WriteRequest};
use crate::{Compression, Counts, Fragment, LaneSet, Protocol, wire};

/// What is sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which message the body is, and so which headers go with it.
    pub protocol: Protocol,
    /// The message in snappy's block format.
    pub body: Bytes,
    /// The message's length in bytes before compression.
    pub raw_len: usize,
    /// What is in it.
    pub counts: Counts,
}

/// How large a request may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Samples and histograms (`max_samples_per_send`).
    pub max_samples: u64,
    /// Bytes of the message.
    pub max_raw_bytes: usize,
    /// Bytes of the compressed message. Judged by the most that compression could make of it.
    pub max_compressed_bytes: usize,
}

impl RequestLimits {
    /// No limits.
    pub const NONE: Self =
        Self { max_samples: u64::MAX, max_raw_bytes: usize::MAX, max_compressed_bytes: usize::MAX };
}

/// What [`RequestBuilder::push`] did with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It is in the request, but for what a 2.0 fragment had and a 1.0 request can't have.
    Added {
        /// What that was.
        left_out: LeftOut,
    },
    /// It does not fit beside what is there: finish the request and push again.
    Full,
    /// It exceeds the limits even alone: [`split`](super::split) it.
    TooLarge,
}

/// Joins fragments into a request.
///
/// In 1.0 compressed bodies follow each other as they are: a concatenation of messages is the merged message,
/// and snappy's elements never reach back beyond their own block, so only the lengths in front are replaced by
/// one. Small fragments are compressed together, behind the others; the fragments of one lane keep their order.
/// In 2.0 the symbols of each fragment but the first are mapped once. A fragment of the other protocol is transcoded.
pub struct RequestBuilder {
    protocol: Protocol,
    native_histograms: bool,
    limits: RequestLimits,
    counts: Counts,
    raw_len: usize,
    /// 1.0: compressed elements without the length in front.
    elements: Vec<u8>,
    /// 1.0: messages that are to be compressed together, behind what is compressed already.
    uncompressed: Vec<u8>,
    /// Of which lanes they are.
    uncompressed_lanes: LaneSet,
    /// 2.0.
    assembler: Assembler,
    map: SymbolMap,
    inflated: Vec<u8>,
    snappy: snap::raw::Encoder,
    buffer: Vec<u8>,
}

impl RequestBuilder {
    /// A builder of requests of one protocol.
    pub fn new(protocol: Protocol, limits: RequestLimits) -> Self {
        Self {
            protocol,
            native_histograms: true,
            limits,
            counts: Counts::default(),
            raw_len: 0,
            elements: Vec::new(),
            uncompressed: Vec::new(),
            uncompressed_lanes: LaneSet::EMPTY,
            assembler: Assembler::new(protocol),
            map: SymbolMap::default(),
            inflated: Vec::new(),
            snappy: snap::raw::Encoder::new(),
            buffer: Vec::new(),
        }
    }

    /// Leaves the native histograms of 2.0 fragments out of 1.0 requests.
    #[must_use]
    pub const fn without_native_histograms(mut self) -> Self {
        self.native_histograms = false;
        self
    }

    /// Changes the limits for what is pushed from now on.
    pub const fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// Adds a fragment if it fits.
    ///
    /// # Errors
    /// [`FragmentError`] when the fragment can't be read. The request is then as it was. Of a large
    /// compressed 1.0 fragment only the length in front is read, and of a request's first 2.0 fragment the
    /// symbols and the lengths of its time series.
    pub fn push(&mut self, fragment: &Fragment) -> Result<Pushed, FragmentError> {
        if fragment.protocol == self.protocol {
            return self.push_same(fragment, LeftOut::default());
        }
        let (transcoded, left_out) = transcode(fragment, self.protocol, self.native_histograms)?;
        match transcoded {
            Some(transcoded) => self.push_same(&transcoded, left_out),
            None => Ok(Pushed::Added { left_out }),
        }
    }

    /// Whether nothing was pushed since the last request.
    pub const fn is_empty(&self) -> bool {
        self.counts.is_zero()
    }

    /// What is in the request so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Forgets what was pushed.
    pub fn clear(&mut self) {
        self.counts = Counts::default();
        self.raw_len = 0;
        self.elements.clear();
        self.uncompressed.clear();
        self.uncompressed_lanes = LaneSet::EMPTY;
        self.assembler.clear();
    }

    /// The request of what was pushed since the last one.
    ///
    /// # Errors
    /// [`FragmentError::Snappy`] when the message exceeds 4 GiB, which limits prevent.
    pub fn finish(&mut self) -> Result<Request, FragmentError> {
        let (body, raw_len) = match self.protocol {
            Protocol::V1 => {
                self.compress_pending()?;
                let mut body = Vec::with_capacity(self.elements.len() + 10);
                put_varint(&mut body, self.raw_len as u64);
                body.extend_from_slice(&self.elements);
                (Bytes::from(body), self.raw_len)
            }
            Protocol::V2 => {
                self.uncompressed.clear();
                self.assembler.write_to(&mut self.uncompressed);
                let body = compressed(&mut self.snappy, &mut self.buffer, &self.uncompressed)?;
                (Bytes::copy_from_slice(body), self.uncompressed.len())
            }
        };
        let request = Request { protocol: self.protocol, body, raw_len, counts: self.counts };
        self.clear();
        Ok(request)
    }

    fn push_same(&mut self, fragment: &Fragment, left_out: LeftOut) -> Result<Pushed, FragmentError> {
        let added = Pushed::Added { left_out };
        if !self.fits(fragment) {
            return Ok(if self.is_empty() { Pushed::TooLarge } else { Pushed::Full });
        }
        match self.protocol {
            Protocol::V1 if is_block(fragment) => {
                let mut elements = &fragment.body[..];
                if take_varint(&mut elements) != Ok(u64::from(fragment.raw_len)) {
                    return Err(FragmentError::Malformed { protocol: fragment.protocol });
                }
                // Only within a lane does the order matter.
                if self.uncompressed_lanes.contains(fragment.lane) {
                    self.compress_pending()?;
                }
                self.elements.extend_from_slice(elements);
            }
            Protocol::V1 => {
                let raw = raw_body_in(fragment, &mut self.inflated)?;
                if raw.len() != fragment.raw_len as usize {
                    return Err(FragmentError::Malformed { protocol: fragment.protocol });
                }
                self.uncompressed.extend_from_slice(raw);
                self.uncompressed_lanes.insert(fragment.lane);
            }
            Protocol::V2 => {
                let raw = raw_body_in(fragment, &mut self.inflated)?;
                let timestamps = (fragment.min_timestamp, fragment.max_timestamp);
                self.assembler.add_message(raw, &mut self.map, fragment.counts, timestamps)?;
            }
        }
        self.raw_len += fragment.raw_len as usize;
        self.counts += fragment.counts;
        Ok(added)
    }

    fn fits(&self, fragment: &Fragment) -> bool {
        let added = fragment.raw_len as usize;
        let (raw_len, compressed_len) = match self.protocol {
            Protocol::V1 => {
                let (ready, pending) = if is_block(fragment) { (fragment.body.len(), 0) } else { (0, added) };
                let pending = snap::raw::max_compress_len(self.uncompressed.len() + pending);
                (self.raw_len + added, self.elements.len() + ready + pending + 10)
            }
            Protocol::V2 => {
                let raw_len = self.assembler.len() + added;
                (raw_len, snap::raw::max_compress_len(raw_len))
            }
        };
        self.counts.values() + fragment.counts.values() <= self.limits.max_samples
            && raw_len <= self.limits.max_raw_bytes
            && compressed_len <= self.limits.max_compressed_bytes
    }

    fn compress_pending(&mut self) -> Result<(), FragmentError> {
        if self.uncompressed.is_empty() {
            return Ok(());
        }
        let mut body = compressed(&mut self.snappy, &mut self.buffer, &self.uncompressed)?;
        // What compression put there is well-formed.
        let _ = take_varint(&mut body);
        self.elements.extend_from_slice(body);
        self.uncompressed.clear();
        self.uncompressed_lanes = LaneSet::EMPTY;
        Ok(())
    }
}

/// From this many bytes on a compressed 1.0 fragment is put into a request as it is. Each of snappy's blocks, of 64 KiB
/// at most, begins without anything to refer to, which takes some 260 bytes: smaller fragments, such as the ends of
/// scrapes, are compressed again, together.
const MIN_BLOCK_BYTES: u32 = 48 * 1024;

fn is_block(fragment: &Fragment) -> bool {
    fragment.compression == Compression::Snappy && fragment.raw_len >= MIN_BLOCK_BYTES
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("protocol", &self.protocol)
            .field("limits", &self.limits)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// The request of these fragments, of the first one's protocol.
///
/// # Errors
/// [`FragmentError`] when a fragment can't be read.
pub fn join(fragments: &[Fragment]) -> Result<Request, FragmentError> {
    let protocol = fragments.first().map_or(Protocol::V1, |fragment| fragment.protocol);
    let mut builder = RequestBuilder::new(protocol, RequestLimits::NONE);
    for fragment in fragments {
        let _ = builder.push(fragment)?;
    }
    builder.finish()
}

/// 1.0's requests of metadata alone, at most `max_per_send` families in each
/// (`metadata_config.max_samples_per_send`).
pub fn metadata_requests(metadata: &[impl AsRef<Metadata>], max_per_send: usize) -> Vec<Request> {
    let requests = metadata.chunks(max_per_send.max(1)).map(|chunk| {
        let metadata = chunk.iter().map(|known| {
            let known = known.as_ref();
            MetricMetadata {
                r#type: MetricType::from(known.metric_type) as i32,
                metric_family_name: known.family.to_string(),
                help: known.help.to_string(),
                unit: known.unit.to_string(),
            }
        });
        let message = WriteRequest { timeseries: Vec::new(), metadata: metadata.collect() };
        Request {
            protocol: Protocol::V1,
            raw_len: prost::Message::encoded_len(&message),
            body: wire::encode(&message).into(),
            counts: Counts::default(),
        }
    });
    requests.collect()
}

fn compressed<'a>(
    snappy: &mut snap::raw::Encoder,
    buffer: &'a mut Vec<u8>,
    message: &[u8],
) -> Result<&'a [u8], FragmentError> {
    compress(snappy, buffer, message).map_err(FragmentError::from)
}
