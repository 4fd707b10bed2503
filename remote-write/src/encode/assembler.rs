//! Building a message from time series of other messages, in either protocol.

use hashbrown::HashTable;
use promferry_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::mapped_references::{MappedReferences, take_reference};
use super::message::{Contents, FragmentError, Kind, Message, RawSeries};
use super::proto::{
    Content, Fields, LEN, Malformed, VARINT, begin_length, end_length, key, put_bytes, put_double,
    put_prefix, put_uint, put_varint,
};
use super::reference::Reference;
use crate::{Counts, Protocol};

/// A message to which time series are added one by one.
#[derive(Debug)]
pub(super) struct Assembler {
    protocol: Protocol,
    symbols: Symbols,
    series: Vec<u8>,
    counts: Counts,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

/// The message's symbols: each text once, the first empty.
#[derive(Debug, Default)]
struct Symbols {
    /// As they stand in the message.
    encoded: Vec<u8>,
    count: u32,
    /// Each symbol's reference, and where its text lies in `encoded`.
    index: HashTable<(u32, u32, u32)>,
}

/// The references that one source's symbols have in an [`Assembler`], found out as they are needed.
#[derive(Debug, Default)]
pub(super) struct SymbolMap {
    references: Vec<Reference>,
    /// The last time series' labels.
    labels: MappedReferences,
    /// The last time series' metadata, as it stands in the source and as it was written: the series of a family
    /// follow each other.
    metadata: (Vec<u8>, Vec<u8>),
}

impl SymbolMap {
    /// Starts over for another source.
    pub(super) fn reset(&mut self, source: &Message<'_>) {
        self.clear();
        self.references.resize(source.symbols.len(), Reference::default());
    }

    fn clear(&mut self) {
        self.references.clear();
        self.labels.clear();
        self.metadata.0.clear();
    }
}

impl Assembler {
    pub(super) fn new(protocol: Protocol) -> Self {
        let mut assembler = Self {
            protocol,
            symbols: Symbols::default(),
            series: Vec::new(),
            counts: Counts::default(),
            min_timestamp: Timestamp::MAX,
            max_timestamp: Timestamp::MIN,
        };
        assembler.clear();
        assembler
    }

    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        if self.protocol == Protocol::V2 {
            self.symbols.encoded.extend_from_slice(&[key(4, LEN), 0]);
            self.symbols.count = 1;
        }
        self.series.clear();
        self.counts = Counts::default();
        self.min_timestamp = Timestamp::MAX;
        self.max_timestamp = Timestamp::MIN;
    }

    pub(super) const fn len(&self) -> usize {
        self.symbols.encoded.len() + self.series.len()
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// The earliest and the latest timestamp.
    pub(super) const fn timestamps(&self) -> (Timestamp, Timestamp) {
        (self.min_timestamp, self.max_timestamp)
    }

    /// Puts the message into `message`.
    pub(super) fn write_to(&self, message: &mut Vec<u8>) {
        message.extend_from_slice(&self.symbols.encoded);
        message.extend_from_slice(&self.series);
    }

    /// Adds a time series of `source`, whose contents are known.
    pub(super) fn add(
        &mut self,
        source: &Message<'_>,
        map: &mut SymbolMap,
        series: RawSeries<'_>,
        contents: &Contents,
    ) -> Result<(), FragmentError> {
        self.write(source, map, series).map_err(|_| source.malformed())?;
        self.counts += contents.counts;
        self.min_timestamp = self.min_timestamp.min(contents.min_timestamp);
        self.max_timestamp = self.max_timestamp.max(contents.max_timestamp);
        Ok(())
    }

    /// Adds all of a message of the same protocol, 2.0, whose counts are known. After an error nothing of it
    /// is there. Of the first one what is in the time series is not looked at.
    pub(super) fn add_message(
        &mut self,
        message: &[u8],
        map: &mut SymbolMap,
        counts: Counts,
        (min, max): (Timestamp, Timestamp),
    ) -> Result<(), FragmentError> {
        let before = self.series.len();
        let symbols_before = (self.symbols.encoded.len(), self.symbols.count);
        if self.write_message(message, map).is_err() {
            self.series.truncate(before);
            self.symbols.truncate(symbols_before);
            return Err(FragmentError::Malformed { protocol: self.protocol });
        }
        self.counts += counts;
        self.min_timestamp = self.min_timestamp.min(min);
        self.max_timestamp = self.max_timestamp.max(max);
        Ok(())
    }

    /// Whether a request's first message has its symbols under the numbers that they have in the request: as many,
    /// with the empty one first.
    fn keeps_references(&self, map: &SymbolMap) -> bool {
        let empty = Reference::new(0);
        self.symbols.count as usize == map.references.len() && map.references.first() == Some(&empty)
    }

    fn write_message(&mut self, message: &[u8], map: &mut SymbolMap) -> Result<(), Malformed> {
        map.clear();
        let mut first = self.series.is_empty() && self.symbols.count == 1;
        let mut rest = message;
        // What nearly all of a message is: symbols, all of them before the first time series, and each is used by
        // one; then time series; of one or two bytes' length.
        while let Some((key, content, next)) = short_field(rest) {
            match key {
                SYMBOL => map.references.push(Reference::new(self.symbols.reference(content))),
                // The symbols have the numbers that they had, so the time series stay as they are.
                SERIES if first && self.keeps_references(map) && is_series(rest) => {
                    self.series.extend_from_slice(rest);
                    return Ok(());
                }
                SERIES => {
                    first = false;
                    self.write_v2_from_v2(&[], map, content)?;
                }
                _ => break,
            }
            rest = next;
        }
        for field in Fields::of(rest) {
            let field = field?;
            match (field.number, field.content) {
                (4, Content::Len(text)) => map.references.push(Reference::new(self.symbols.reference(text))),
                (5, Content::Len(series)) => self.write_v2_from_v2(&[], map, series)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        source: &Message<'_>,
        map: &mut SymbolMap,
        series: RawSeries<'_>,
    ) -> Result<(), Malformed> {
        match (source.protocol, self.protocol) {
            (Protocol::V1, Protocol::V1) => {
                put_bytes(&mut self.series, 1, series.content);
                Ok(())
            }
            (Protocol::V2, Protocol::V2) => self.write_v2_from_v2(&source.symbols, map, series.content),
            (Protocol::V1, Protocol::V2) => self.write_v2_from_v1(source, series),
            (Protocol::V2, Protocol::V1) => self.write_v1_from_v2(source, series),
        }
    }

    /// Writes a time series with other references. `texts` are the symbols that `map` may not know yet.
    fn write_v2_from_v2(
        &mut self,
        texts: &[&str],
        map: &mut SymbolMap,
        series: &[u8],
    ) -> Result<(), Malformed> {
        self.series.push(key(5, LEN));
        let start = begin_length::<1>(&mut self.series);
        let mut rest = series;
        while let [key, length, content @ ..] = rest
            && *length < 0x80
            && let Some((content, next)) = content.split_at_checked(usize::from(*length))
        {
            // The fields that nearly every time series has, none longer than 127 bytes.
            match *key {
                LABELS => self.put_mapped_labels(texts, map, content)?,
                SAMPLE => put_prefix(&mut self.series, rest, content.len() + 2),
                METADATA if content == map.metadata.0 && !content.is_empty() => {
                    self.series.extend_from_slice(&map.metadata.1);
                }
                METADATA => {
                    let at = self.series.len();
                    self.put_mapped_metadata(texts, map, content)?;
                    map.metadata.0.clear();
                    map.metadata.0.extend_from_slice(content);
                    map.metadata.1.clear();
                    map.metadata.1.extend_from_slice(&self.series[at..]);
                }
                _ => break,
            }
            rest = next;
        }
        for field in Fields::of(rest) {
            let field = field?;
            match (Kind::of(Protocol::V2, field.number), field.content) {
                (Kind::Labels, Content::Len(refs)) => self.put_mapped_refs(texts, map, refs)?,
                (Kind::Exemplar, Content::Len(exemplar)) => {
                    self.series.push(key(4, LEN));
                    let start = begin_length::<1>(&mut self.series);
                    for field in Fields::of(exemplar) {
                        let field = field?;
                        match (field.number, field.content) {
                            (1, Content::Len(refs)) => self.put_mapped_refs(texts, map, refs)?,
                            _ => self.series.extend_from_slice(field.whole),
                        }
                    }
                    end_length::<1>(&mut self.series, start);
                }
                (Kind::Metadata, Content::Len(metadata)) => self.put_mapped_metadata(texts, map, metadata)?,
                _ => self.series.extend_from_slice(field.whole),
            }
        }
        end_length::<1>(&mut self.series, start);
        Ok(())
    }

    fn put_mapped_metadata(
        &mut self,
        texts: &[&str],
        map: &mut SymbolMap,
        metadata: &[u8],
    ) -> Result<(), Malformed> {
        self.series.push(METADATA);
        let start = begin_length::<1>(&mut self.series);
        for field in Fields::of(metadata) {
            let field = field?;
            match (field.number, field.content) {
                (number @ (3 | 4), Content::Varint(reference)) => {
                    let at = usize::try_from(reference).map_err(|_| Malformed)?;
                    let mapped = self.symbols.map(texts, &mut map.references, at)?;
                    self.series.push(key(number as u8, VARINT));
                    mapped.put(&mut self.series);
                }
                _ => self.series.extend_from_slice(field.whole),
            }
        }
        end_length::<1>(&mut self.series, start);
        Ok(())
    }

    /// The references of a time series' labels, no longer than 127 bytes.
    fn put_mapped_labels(
        &mut self,
        texts: &[&str],
        map: &mut SymbolMap,
        refs: &[u8],
    ) -> Result<(), Malformed> {
        self.series.push(LABELS);
        let start = begin_length::<1>(&mut self.series);
        if !map.labels.put_like_before(&mut self.series, refs, &map.references) {
            let (symbols, references) = (&mut self.symbols, &mut map.references);
            map.labels.put(&mut self.series, refs, |symbol| symbols.map(texts, references, symbol))?;
        }
        end_length::<1>(&mut self.series, start);
        Ok(())
    }

    fn put_mapped_refs(
        &mut self,
        texts: &[&str],
        map: &mut SymbolMap,
        mut refs: &[u8],
    ) -> Result<(), Malformed> {
        self.series.push(LABELS);
        let start = begin_length::<1>(&mut self.series);
        while !refs.is_empty() {
            let symbol = take_reference(&mut refs)?;
            self.symbols.map(texts, &mut map.references, symbol)?.put(&mut self.series);
        }
        end_length::<1>(&mut self.series, start);
        Ok(())
    }

    fn write_v2_from_v1(&mut self, source: &Message<'_>, series: RawSeries<'_>) -> Result<(), Malformed> {
        self.series.push(key(5, LEN));
        let start = begin_length::<1>(&mut self.series);
        let mut labels = Vec::new();
        source.read_labels(series.content, &mut labels)?;
        self.put_refs(&labels);
        for field in Fields::of(series.content) {
            let field = field?;
            match (Kind::of(Protocol::V1, field.number), field.content) {
                (Kind::Sample, Content::Len(sample)) => put_bytes(&mut self.series, 2, sample),
                (Kind::Histogram, Content::Len(histogram)) => put_bytes(&mut self.series, 3, histogram),
                (Kind::Exemplar, Content::Len(exemplar)) => {
                    labels.clear();
                    source.read_labels(exemplar, &mut labels)?;
                    self.series.push(key(4, LEN));
                    let start = begin_length::<1>(&mut self.series);
                    self.put_refs(&labels);
                    self.put_exemplar_value(exemplar)?;
                    end_length::<1>(&mut self.series, start);
                }
                _ => {}
            }
        }
        end_length::<1>(&mut self.series, start);
        Ok(())
    }

    fn write_v1_from_v2(&mut self, source: &Message<'_>, series: RawSeries<'_>) -> Result<(), Malformed> {
        self.series.push(key(1, LEN));
        let start = begin_length::<2>(&mut self.series);
        let mut labels = Vec::new();
        source.read_labels(series.content, &mut labels)?;
        self.put_labels(&labels);
        for field in Fields::of(series.content) {
            let field = field?;
            match (Kind::of(Protocol::V2, field.number), field.content) {
                (Kind::Sample, Content::Len(sample)) => self.put_without_field(2, sample, 3)?,
                (Kind::Histogram, Content::Len(histogram)) => self.put_without_field(4, histogram, 17)?,
                (Kind::Exemplar, Content::Len(exemplar)) => {
                    labels.clear();
                    source.read_labels(exemplar, &mut labels)?;
                    self.series.push(key(3, LEN));
                    let start = begin_length::<1>(&mut self.series);
                    self.put_labels(&labels);
                    self.put_exemplar_value(exemplar)?;
                    end_length::<1>(&mut self.series, start);
                }
                _ => {}
            }
        }
        end_length::<2>(&mut self.series, start);
        Ok(())
    }

    fn put_refs(&mut self, labels: &[(&str, &str)]) {
        if labels.is_empty() {
            return;
        }
        self.series.push(key(1, LEN));
        let start = begin_length::<1>(&mut self.series);
        for &(name, value) in labels {
            for text in [name, value] {
                let reference = self.symbols.reference(text.as_bytes());
                put_varint(&mut self.series, u64::from(reference));
            }
        }
        end_length::<1>(&mut self.series, start);
    }

    fn put_labels(&mut self, labels: &[(&str, &str)]) {
        for (name, value) in labels {
            self.series.push(key(1, LEN));
            let start = begin_length::<1>(&mut self.series);
            put_bytes(&mut self.series, 1, name.as_bytes());
            put_bytes(&mut self.series, 2, value.as_bytes());
            end_length::<1>(&mut self.series, start);
        }
    }

    fn put_exemplar_value(&mut self, exemplar: &[u8]) -> Result<(), Malformed> {
        for field in Fields::of(exemplar) {
            let field = field?;
            match (field.number, field.content) {
                (2, Content::Fixed64(bits)) => put_double(&mut self.series, 2, f64::from_bits(bits)),
                (3, Content::Varint(timestamp)) => put_uint(&mut self.series, 3, timestamp),
                _ => {}
            }
        }
        Ok(())
    }

    /// A message as field `number`, without its field `left_out`, which only 2.0 has.
    fn put_without_field(&mut self, number: u8, content: &[u8], left_out: u32) -> Result<(), Malformed> {
        self.series.push(key(number, LEN));
        let start = begin_length::<1>(&mut self.series);
        for field in Fields::of(content) {
            let field = field?;
            if field.number != left_out {
                self.series.extend_from_slice(field.whole);
            }
        }
        end_length::<1>(&mut self.series, start);
        Ok(())
    }
}

/// Keys of a 2.0 `Request`.
const SYMBOL: u8 = key(4, LEN);
const SERIES: u8 = key(5, LEN);

/// The length-delimited field at the beginning, if its key has one byte and its length one or two: key, content, and
/// what follows.
#[inline]
fn short_field(message: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (key, length, rest) = match *message {
        [key, low, ref rest @ ..] if low < 0x80 => (key, usize::from(low), rest),
        [key, low, high, ref rest @ ..] if high < 0x80 => {
            (key, usize::from(low & 0x7f) | usize::from(high) << 7, rest)
        }
        _ => return None,
    };
    let (content, next) = rest.split_at_checked(length)?;
    Some((key, content, next))
}

/// Whether all of it is time series.
fn is_series(mut message: &[u8]) -> bool {
    while let Some((SERIES, _, next)) = short_field(message) {
        message = next;
    }
    message.is_empty()
}

/// Keys of a 2.0 `TimeSeries`.
const LABELS: u8 = key(1, LEN);
const SAMPLE: u8 = key(2, LEN);
const METADATA: u8 = key(5, LEN);

impl Symbols {
    /// Forgets what came after there were so many bytes and symbols.
    fn truncate(&mut self, (length, count): (usize, u32)) {
        self.encoded.truncate(length);
        self.count = count;
        self.index.retain(|(reference, ..)| *reference < count);
    }

    fn clear(&mut self) {
        self.encoded.clear();
        self.index.clear();
        self.count = 0;
    }

    /// The reference of the source's symbol number `at`, whose text is in `texts`.
    fn map(
        &mut self,
        texts: &[&str],
        references: &mut [Reference],
        at: usize,
    ) -> Result<Reference, Malformed> {
        let known = references.get_mut(at).ok_or(Malformed)?;
        if known.is_unknown() {
            let text = texts.get(at).ok_or(Malformed)?;
            *known = Reference::new(self.reference(text.as_bytes()));
        }
        Ok(*known)
    }

    fn reference(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let hash = xxh3_64(text);
        let encoded = &self.encoded;
        let same = |&(_, at, length): &(u32, u32, u32)| &encoded[at as usize..][..length as usize] == text;
        if let Some(&(reference, ..)) = self.index.find(hash, same) {
            return reference;
        }
        put_bytes(&mut self.encoded, 4, text);
        let reference = self.count;
        self.count += 1;
        let entry = (reference, (self.encoded.len() - text.len()) as u32, text.len() as u32);
        let encoded = &self.encoded;
        self.index.insert_unique(hash, entry, |&(_, at, length)| {
            xxh3_64(&encoded[at as usize..][..length as usize])
        });
        reference
    }
}
