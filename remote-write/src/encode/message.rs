//! Reading fragments: a walk over the lengths of a message, nothing is built.

use std::borrow::Cow;

use promferry_model::{CUSTOM_BUCKETS_SCHEMA, Timestamp};

use super::proto::{Content, Fields, Malformed, take_varint};
use crate::{Compression, Counts, Fragment, Protocol};

/// A fragment's body is not what its protocol and compression say: it was damaged or written by something
/// else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// The body is not in snappy's block format.
    #[error("a stored fragment can't be inflated")]
    Snappy(#[from] snap::Error),
    /// The inflated body is not the message.
    #[error("a stored fragment is not a {protocol:?} remote-write message")]
    Malformed {
        /// Which message it should be.
        protocol: Protocol,
    },
}

/// A time series as it stands in a fragment.
#[derive(Clone, Copy)]
pub(super) struct RawSeries<'a> {
    protocol: Protocol,
    /// The content of the `TimeSeries`.
    pub(super) content: &'a [u8],
}

/// What a [`RawSeries`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) counts: Counts,
    pub(super) min_timestamp: Timestamp,
    pub(super) max_timestamp: Timestamp,
    pub(super) custom_buckets: bool,
}

/// A message's symbols (none in 1.0) and time series, in order.
pub(super) struct Message<'a> {
    pub(super) protocol: Protocol,
    pub(super) symbols: Vec<&'a str>,
    pub(super) series: Vec<RawSeries<'a>>,
}

/// A fragment's body, inflated if it is compressed.
pub(super) fn raw_body(fragment: &Fragment) -> Result<Cow<'_, [u8]>, FragmentError> {
    match fragment.compression {
        Compression::None => Ok(Cow::Borrowed(&fragment.body)),
        Compression::Snappy => {
            // What a fragment says of itself bounds what is allocated for it.
            if snap::raw::decompress_len(&fragment.body)? != fragment.raw_len as usize {
                return Err(FragmentError::Malformed { protocol: fragment.protocol });
            }
            Ok(Cow::Owned(snap::raw::Decoder::new().decompress_vec(&fragment.body)?))
        }
    }
}

/// The same, with `buffer` for what is inflated.
pub(super) fn raw_body_in<'a>(
    fragment: &'a Fragment,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], FragmentError> {
    match fragment.compression {
        Compression::None => Ok(&fragment.body),
        Compression::Snappy => {
            let raw_len = fragment.raw_len as usize;
            if snap::raw::decompress_len(&fragment.body)? != raw_len {
                return Err(FragmentError::Malformed { protocol: fragment.protocol });
            }
            if buffer.len() < raw_len {
                buffer.resize(raw_len, 0);
            }
            let length = snap::raw::Decoder::new().decompress(&fragment.body, buffer)?;
            Ok(&buffer[..length])
        }
    }
}

impl<'a> Message<'a> {
    pub(super) fn read(protocol: Protocol, raw: &'a [u8]) -> Result<Self, FragmentError> {
        let (symbols_field, series_field) = match protocol {
            Protocol::V1 => (0, 1),
            Protocol::V2 => (4, 5),
        };
        let mut message = Self { protocol, symbols: Vec::new(), series: Vec::new() };
        let malformed = |_| FragmentError::Malformed { protocol };
        for field in Fields::of(raw) {
            let field = field.map_err(malformed)?;
            let Content::Len(content) = field.content else { continue };
            if field.number == series_field {
                message.series.push(RawSeries { protocol, content });
            } else if field.number == symbols_field {
                message.symbols.push(std::str::from_utf8(content).map_err(|_| malformed(Malformed))?);
            }
        }
        Ok(message)
    }

    pub(super) fn malformed(&self) -> FragmentError {
        FragmentError::Malformed { protocol: self.protocol }
    }

    /// A time series' labels, in order, put into `labels`.
    pub(super) fn labels(
        &self,
        series: RawSeries<'a>,
        labels: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<(), FragmentError> {
        labels.clear();
        self.read_labels(series.content, labels).map_err(|_| self.malformed())
    }

    /// The labels in field 1 of a `TimeSeries` or of an `Exemplar`.
    pub(super) fn read_labels(
        &self,
        content: &'a [u8],
        labels: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<(), Malformed> {
        for field in Fields::of(content) {
            let field = field?;
            let (1, Content::Len(inner)) = (field.number, field.content) else { continue };
            match self.protocol {
                Protocol::V1 => labels.push(read_label(inner)?),
                Protocol::V2 => {
                    let mut refs = inner;
                    while !refs.is_empty() {
                        let (name, value) = (take_varint(&mut refs)?, take_varint(&mut refs)?);
                        labels.push((self.symbol(name)?, self.symbol(value)?));
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn symbol(&self, reference: u64) -> Result<&'a str, Malformed> {
        usize::try_from(reference).ok().and_then(|at| self.symbols.get(at)).copied().ok_or(Malformed)
    }
}

impl<'a> RawSeries<'a> {
    pub(super) fn contents(self) -> Result<Contents, FragmentError> {
        self.read_contents().map_err(|_| FragmentError::Malformed { protocol: self.protocol })
    }

    fn read_contents(self) -> Result<Contents, Malformed> {
        let mut contents = Contents {
            counts: Counts::default(),
            min_timestamp: Timestamp::MAX,
            max_timestamp: Timestamp::MIN,
            custom_buckets: false,
        };
        for field in Fields::of(self.content) {
            let field = field?;
            let Content::Len(inner) = field.content else { continue };
            match Kind::of(self.protocol, field.number) {
                Kind::Sample => {
                    contents.counts.samples += 1;
                    contents.saw(timestamp_in(inner, 2)?);
                }
                Kind::Histogram => {
                    contents.counts.histograms += 1;
                    contents.saw(timestamp_in(inner, 15)?);
                    contents.custom_buckets |= has_custom_buckets(inner)?;
                }
                Kind::Exemplar => contents.counts.exemplars += 1,
                Kind::Labels | Kind::Metadata | Kind::Other => {}
            }
        }
        Ok(contents)
    }
}

/// What a field of a `TimeSeries` is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Labels,
    Sample,
    Histogram,
    Exemplar,
    Metadata,
    Other,
}

impl Kind {
    pub(super) const fn of(protocol: Protocol, field: u32) -> Self {
        match (protocol, field) {
            (_, 1) => Self::Labels,
            (_, 2) => Self::Sample,
            (Protocol::V1, 3) | (Protocol::V2, 4) => Self::Exemplar,
            (Protocol::V1, 4) | (Protocol::V2, 3) => Self::Histogram,
            (Protocol::V2, 5) => Self::Metadata,
            _ => Self::Other,
        }
    }
}

impl Contents {
    fn saw(&mut self, millis: i64) {
        let at = Timestamp::from_millis(millis);
        self.min_timestamp = self.min_timestamp.min(at);
        self.max_timestamp = self.max_timestamp.max(at);
    }
}

fn read_label(content: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut name, mut value) = ("", "");
    for field in Fields::of(content) {
        let field = field?;
        let Content::Len(text) = field.content else { continue };
        let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
        match field.number {
            1 => name = text,
            2 => value = text,
            _ => {}
        }
    }
    Ok((name, value))
}

fn timestamp_in(content: &[u8], number: u32) -> Result<i64, Malformed> {
    let mut timestamp = 0;
    for field in Fields::of(content) {
        let field = field?;
        if field.number == number
            && let Content::Varint(value) = field.content
        {
            timestamp = value as i64;
        }
    }
    Ok(timestamp)
}

fn has_custom_buckets(histogram: &[u8]) -> Result<bool, Malformed> {
    let wanted = super::proto::zigzag(CUSTOM_BUCKETS_SCHEMA as i64);
    for field in Fields::of(histogram) {
        let field = field?;
        if field.number == 4
            && let Content::Varint(schema) = field.content
        {
            return Ok(schema == wanted);
        }
    }
    Ok(false)
}
