//! Building a message from time series of other messages, in either protocol.

use hashbrown::HashTable;
use promferry_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::message::{Contents, FragmentError, Kind, Message, RawSeries};
use super::proto::{
    Content, Fields, LEN, Malformed, begin_length, end_length, key, put_bytes, put_double, put_uint,
    put_varint, take_varint,
};
use crate::{Counts, Protocol};

/// A message to which time series are added one by one.
#[derive(Debug)]
pub(super) struct Assembler {
    protocol: Protocol,
    symbols: Vec<u8>,
    symbol_count: u32,
    /// Each symbol's reference, and where its text lies in `symbols`.
    index: HashTable<(u32, u32, u32)>,
    series: Vec<u8>,
    counts: Counts,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

/// The references that one source's symbols have in an [`Assembler`], found out as they are needed.
#[derive(Debug, Default)]
pub(super) struct SymbolMap(Vec<u32>);

const UNKNOWN: u32 = u32::MAX;

impl SymbolMap {
    /// Starts over for another source.
    pub(super) fn reset(&mut self, source: &Message<'_>) {
        self.0.clear();
        self.0.resize(source.symbols.len(), UNKNOWN);
    }
}

impl Assembler {
    pub(super) fn new(protocol: Protocol) -> Self {
        let mut assembler = Self {
            protocol,
            symbols: Vec::new(),
            symbol_count: 0,
            index: HashTable::new(),
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
        self.index.clear();
        self.symbol_count = 0;
        if self.protocol == Protocol::V2 {
            self.symbols.extend_from_slice(&[key(4, LEN), 0]);
            self.symbol_count = 1;
        }
        self.series.clear();
        self.counts = Counts::default();
        self.min_timestamp = Timestamp::MAX;
        self.max_timestamp = Timestamp::MIN;
    }

    pub(super) const fn len(&self) -> usize {
        self.symbols.len() + self.series.len()
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
        message.extend_from_slice(&self.symbols);
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

    /// Adds all of `source`, whose counts are known. After an error nothing of it is there.
    pub(super) fn add_all(
        &mut self,
        source: &Message<'_>,
        map: &mut SymbolMap,
        counts: Counts,
        (min, max): (Timestamp, Timestamp),
    ) -> Result<(), FragmentError> {
        let before = self.series.len();
        for &series in &source.series {
            if self.write(source, map, series).is_err() {
                self.series.truncate(before);
                return Err(source.malformed());
            }
        }
        self.counts += counts;
        self.min_timestamp = self.min_timestamp.min(min);
        self.max_timestamp = self.max_timestamp.max(max);
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
            (Protocol::V2, Protocol::V2) => self.write_v2_from_v2(source, map, series),
            (Protocol::V1, Protocol::V2) => self.write_v2_from_v1(source, series),
            (Protocol::V2, Protocol::V1) => self.write_v1_from_v2(source, series),
        }
    }

    fn write_v2_from_v2(
        &mut self,
        source: &Message<'_>,
        map: &mut SymbolMap,
        series: RawSeries<'_>,
    ) -> Result<(), Malformed> {
        self.series.push(key(5, LEN));
        let start = begin_length::<1>(&mut self.series);
        for field in Fields::of(series.content) {
            let field = field?;
            match (Kind::of(Protocol::V2, field.number), field.content) {
                (Kind::Labels, Content::Len(refs)) => self.put_mapped_refs(source, map, refs)?,
                (Kind::Exemplar, Content::Len(exemplar)) => {
                    self.series.push(key(4, LEN));
                    let start = begin_length::<1>(&mut self.series);
                    for field in Fields::of(exemplar) {
                        let field = field?;
                        match (field.number, field.content) {
                            (1, Content::Len(refs)) => self.put_mapped_refs(source, map, refs)?,
                            _ => self.series.extend_from_slice(field.whole),
                        }
                    }
                    end_length::<1>(&mut self.series, start);
                }
                (Kind::Metadata, Content::Len(metadata)) => {
                    self.series.push(key(5, LEN));
                    let start = begin_length::<1>(&mut self.series);
                    for field in Fields::of(metadata) {
                        let field = field?;
                        match (field.number, field.content) {
                            (number @ (3 | 4), Content::Varint(reference)) => {
                                let reference = self.mapped(source, map, reference)?;
                                put_uint(&mut self.series, number as u8, u64::from(reference));
                            }
                            _ => self.series.extend_from_slice(field.whole),
                        }
                    }
                    end_length::<1>(&mut self.series, start);
                }
                _ => self.series.extend_from_slice(field.whole),
            }
        }
        end_length::<1>(&mut self.series, start);
        Ok(())
    }

    fn put_mapped_refs(
        &mut self,
        source: &Message<'_>,
        map: &mut SymbolMap,
        mut refs: &[u8],
    ) -> Result<(), Malformed> {
        self.series.push(key(1, LEN));
        let start = begin_length::<1>(&mut self.series);
        while !refs.is_empty() {
            let reference = take_varint(&mut refs)?;
            let reference = self.mapped(source, map, reference)?;
            put_varint(&mut self.series, u64::from(reference));
        }
        end_length::<1>(&mut self.series, start);
        Ok(())
    }

    fn mapped(
        &mut self,
        source: &Message<'_>,
        map: &mut SymbolMap,
        reference: u64,
    ) -> Result<u32, Malformed> {
        let at = usize::try_from(reference).map_err(|_| Malformed)?;
        match map.0.get(at) {
            None => Err(Malformed),
            Some(&UNKNOWN) => {
                let reference = self.symbol(source.symbols[at]);
                map.0[at] = reference;
                Ok(reference)
            }
            Some(&known) => Ok(known),
        }
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
                let reference = self.symbol(text);
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

    fn symbol(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let hash = xxh3_64(text.as_bytes());
        let symbols = &self.symbols;
        let same = |&(_, at, length): &(u32, u32, u32)| {
            &symbols[at as usize..][..length as usize] == text.as_bytes()
        };
        if let Some(&(reference, ..)) = self.index.find(hash, same) {
            return reference;
        }
        put_bytes(&mut self.symbols, 4, text.as_bytes());
        let reference = self.symbol_count;
        self.symbol_count += 1;
        let entry = (reference, (self.symbols.len() - text.len()) as u32, text.len() as u32);
        let symbols = &self.symbols;
        self.index.insert_unique(hash, entry, |&(_, at, length)| {
            xxh3_64(&symbols[at as usize..][..length as usize])
        });
        reference
    }
}
