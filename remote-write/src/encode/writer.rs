use hashbrown::HashTable;
use promferry_model::{
    BucketCounts, ExemplarView, Histogram, Metadata, ResetHint, Sample, Span, Symbol, SymbolTable, Timestamp,
};
use xxhash_rust::xxh3::xxh3_64;

use super::arena::{Arena, Row, take_number};
use super::proto::{
    FIXED64, LEN, VARINT, begin_length, end_length, key, put_bytes, put_double, put_key, put_uint,
    put_varint, varint_len, zigzag,
};
use super::shape::{PartKind, put_label};
use crate::wire::v1::MetricType;
use crate::{Counts, Lane, Protocol};

/// A fragment closes before it outgrows one block of snappy's.
pub(super) const MAX_FRAGMENT_BYTES: usize = 64 * 1024;
/// A fragment closes at this many samples and histograms: a fourth of what a request takes by default.
pub(super) const MAX_FRAGMENT_VALUES: u64 = 500;

/// A fragment being written, byte by byte: time series are opened, get their value and exemplars, and are
/// ended, which fills in their length.
#[derive(Debug)]
pub(super) struct Writer {
    protocol: Protocol,
    lane: Lane,
    /// The time series, as they stand in the message.
    series: Vec<u8>,
    /// Where the content of the open time series starts.
    open: Option<usize>,
    counts: Counts,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
    /// The longest time series: the next one is expected to be no longer.
    longest: usize,
    symbols: FragmentSymbols,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            protocol: Protocol::V1,
            lane: Lane::of_hash(0),
            series: Vec::new(),
            open: None,
            counts: Counts::default(),
            min_timestamp: Timestamp::MAX,
            max_timestamp: Timestamp::MIN,
            longest: 0,
            symbols: FragmentSymbols::default(),
        }
    }

    /// Starts over for a target's fragments.
    pub(super) fn reset(&mut self, protocol: Protocol, lane: Lane) {
        self.protocol = protocol;
        self.lane = lane;
        self.clear();
    }

    /// Starts the next fragment.
    pub(super) fn clear(&mut self) {
        self.series.clear();
        self.open = None;
        self.counts = Counts::default();
        self.min_timestamp = Timestamp::MAX;
        self.max_timestamp = Timestamp::MIN;
        self.longest = 0;
        if self.protocol == Protocol::V2 {
            self.symbols.clear();
        }
    }

    /// Gives back memory beyond what ordinary targets need.
    pub(super) fn trim(&mut self) {
        if self.series.capacity() > 4 * MAX_FRAGMENT_BYTES {
            self.series = Vec::new();
        }
        self.symbols.trim();
    }

    pub(super) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) const fn lane(&self) -> Lane {
        self.lane
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// The earliest and the latest timestamp.
    pub(super) const fn timestamps(&self) -> (Timestamp, Timestamp) {
        (self.min_timestamp, self.max_timestamp)
    }

    /// The message: two parts that follow each other.
    pub(super) fn message(&self) -> (&[u8], &[u8]) {
        match self.protocol {
            Protocol::V1 => (&[], &self.series),
            Protocol::V2 => (&self.symbols.encoded, &self.series),
        }
    }

    /// Whether another time series belongs into the next fragment.
    pub(super) fn is_full(&self) -> bool {
        let (symbols, series) = self.message();
        self.counts.values() >= MAX_FRAGMENT_VALUES
            || symbols.len() + series.len() + self.longest > MAX_FRAGMENT_BYTES
    }

    /// Opens a time series with its labels and, in 2.0, what is known about its family.
    pub(super) fn begin_series(&mut self, arena: &Arena, row: Row, family: u32) {
        match self.protocol {
            Protocol::V1 => self.begin_v1(arena, row),
            Protocol::V2 => self.begin_v2(arena, row, family),
        }
    }

    pub(super) fn sample(&mut self, sample: Sample) {
        let timestamp = sample.timestamp.as_millis() as u64;
        let start = match self.protocol {
            Protocol::V1 => 0,
            Protocol::V2 => sample.start.map_or(0, wire_start) as u64,
        };
        let field_len = |value: u64| if value == 0 { 0 } else { 1 + varint_len(value) };
        let value_len = if sample.value.to_bits() == 0 { 0 } else { 9 };
        self.series.push(key(2, LEN));
        self.series.push((value_len + field_len(timestamp) + field_len(start)) as u8);
        put_double(&mut self.series, 1, sample.value);
        put_uint(&mut self.series, 2, timestamp);
        put_uint(&mut self.series, 3, start);
        self.counts.samples += 1;
        self.saw(sample.timestamp);
    }

    pub(super) fn histogram(&mut self, at: Timestamp, start: Option<Timestamp>, histogram: &Histogram) {
        let (field, start) = match self.protocol {
            Protocol::V1 => (4, 0),
            Protocol::V2 => (3, start.map_or(0, wire_start)),
        };
        self.series.push(key(field, LEN));
        let content = begin_length::<1>(&mut self.series);
        put_histogram(&mut self.series, histogram);
        put_uint(&mut self.series, 15, at.as_millis() as u64);
        put_packed_doubles(&mut self.series, 16, &histogram.custom_values);
        put_uint(&mut self.series, 17, start as u64);
        end_length::<1>(&mut self.series, content);
        self.counts.histograms += 1;
        self.saw(at);
    }

    /// Adds an exemplar to the open time series.
    pub(super) fn exemplar(&mut self, symbols: &SymbolTable, exemplar: &ExemplarView<'_>) {
        let field = match self.protocol {
            Protocol::V1 => 3,
            Protocol::V2 => 4,
        };
        self.series.push(key(field, LEN));
        let content = begin_length::<1>(&mut self.series);
        match self.protocol {
            Protocol::V1 => {
                for label in exemplar.labels {
                    self.series.push(key(1, LEN));
                    let start = begin_length::<1>(&mut self.series);
                    put_bytes(&mut self.series, 1, label.name.as_bytes());
                    put_bytes(&mut self.series, 2, label.value.as_bytes());
                    end_length::<1>(&mut self.series, start);
                }
            }
            Protocol::V2 if exemplar.labels.is_empty() => {}
            Protocol::V2 => {
                self.series.push(key(1, LEN));
                let refs = begin_length::<1>(&mut self.series);
                for label in exemplar.labels {
                    for text in [&label.name, &label.value] {
                        let reference = self.symbols.of_text(symbols, text);
                        put_varint(&mut self.series, u64::from(reference));
                    }
                }
                end_length::<1>(&mut self.series, refs);
            }
        }
        put_double(&mut self.series, 2, exemplar.value);
        put_uint(&mut self.series, 3, exemplar.timestamp.as_millis() as u64);
        end_length::<1>(&mut self.series, content);
        self.counts.exemplars += 1;
    }

    /// Fills in the open time series' length, if one is open.
    pub(super) fn end_series(&mut self) {
        let Some(start) = self.open.take() else { return };
        match self.protocol {
            Protocol::V1 => end_length::<2>(&mut self.series, start),
            Protocol::V2 => end_length::<1>(&mut self.series, start),
        }
        self.longest = self.longest.max(self.series.len() - start + 4);
    }

    fn begin_v1(&mut self, arena: &Arena, row: Row) {
        let (symbols, shapes, records) = (arena.symbols(), arena.shapes(), arena.records());
        let series = &mut self.series;
        series.push(key(1, LEN));
        self.open = Some(begin_length::<2>(series));
        let mut at = row.values;
        for part in shapes.parts(row.shape) {
            match part.kind() {
                PartKind::Run(run) => series.extend_from_slice(&shapes.run(run).encoded),
                PartKind::Slot(name) => {
                    let value = Symbol::from_index(take_number(records, &mut at) as usize);
                    put_label(series, symbols.length_delimited(name), symbols.length_delimited(value));
                }
            }
        }
    }

    fn begin_v2(&mut self, arena: &Arena, row: Row, family: u32) {
        let (symbols, shapes, records) = (arena.symbols(), arena.shapes(), arena.records());
        let series = &mut self.series;
        let fragment = &mut self.symbols;
        series.push(key(5, LEN));
        self.open = Some(begin_length::<1>(series));
        series.push(key(1, LEN));
        let refs = begin_length::<1>(series);
        let mut at = row.values;
        for part in shapes.parts(row.shape) {
            match part.kind() {
                PartKind::Run(run) => {
                    for &(name, value) in &shapes.run(run).pairs {
                        put_varint(series, u64::from(fragment.of(symbols, name)));
                        put_varint(series, u64::from(fragment.of(symbols, value)));
                    }
                }
                PartKind::Slot(name) => {
                    let value = Symbol::from_index(take_number(records, &mut at) as usize);
                    put_varint(series, u64::from(fragment.of(symbols, name)));
                    put_varint(series, u64::from(fragment.of(symbols, value)));
                }
            }
        }
        end_length::<1>(series, refs);
        if let Some(metadata) = arena.metadata(family) {
            let (help, unit) = fragment.of_family(symbols, family, metadata);
            series.push(key(5, LEN));
            let content = begin_length::<1>(series);
            put_uint(series, 1, MetricType::from(metadata.metric_type) as u64);
            put_uint(series, 3, u64::from(help));
            put_uint(series, 4, u64::from(unit));
            end_length::<1>(series, content);
        }
    }

    fn saw(&mut self, at: Timestamp) {
        self.min_timestamp = self.min_timestamp.min(at);
        self.max_timestamp = self.max_timestamp.max(at);
    }
}

/// A start timestamp as 2.0 writes it: 0 means that none is known, so the epoch itself becomes 1.
fn wire_start(start: Timestamp) -> i64 {
    match start.as_millis() {
        0 => 1,
        millis => millis,
    }
}

/// The fields 1 to 14 of a native histogram, the same in 1.0 and 2.0.
fn put_histogram(to: &mut Vec<u8>, histogram: &Histogram) {
    // The counts are written even when zero: which of the two is there says of what kind the histogram is.
    match &histogram.counts {
        BucketCounts::Integer { count, .. } => {
            put_key(to, 1, VARINT);
            put_varint(to, *count);
        }
        BucketCounts::Float { count, .. } => put_fixed(to, 2, *count),
    }
    put_double(to, 3, histogram.sum);
    put_uint(to, 4, zigzag(i64::from(histogram.schema)));
    put_double(to, 5, histogram.zero_threshold);
    match &histogram.counts {
        BucketCounts::Integer { zero_count, positive, negative, .. } => {
            put_key(to, 6, VARINT);
            put_varint(to, *zero_count);
            put_spans(to, 8, &histogram.negative_spans);
            put_packed_deltas(to, 9, negative);
            put_spans(to, 11, &histogram.positive_spans);
            put_packed_deltas(to, 12, positive);
        }
        BucketCounts::Float { zero_count, positive, negative, .. } => {
            put_fixed(to, 7, *zero_count);
            put_spans(to, 8, &histogram.negative_spans);
            put_packed_doubles(to, 10, negative);
            put_spans(to, 11, &histogram.positive_spans);
            put_packed_doubles(to, 13, positive);
        }
    }
    let reset_hint = match histogram.reset_hint {
        ResetHint::Yes => 1,
        ResetHint::No => 2,
        ResetHint::Gauge => 3,
        _ => 0,
    };
    put_uint(to, 14, reset_hint);
}

fn put_fixed(to: &mut Vec<u8>, field: u8, value: f64) {
    to.push(key(field, FIXED64));
    to.extend_from_slice(&value.to_le_bytes());
}

fn put_spans(to: &mut Vec<u8>, field: u8, spans: &[Span]) {
    for span in spans {
        to.push(key(field, LEN));
        let start = begin_length::<1>(to);
        put_uint(to, 1, zigzag(i64::from(span.offset)));
        put_uint(to, 2, u64::from(span.length));
        end_length::<1>(to, start);
    }
}

fn put_packed_deltas(to: &mut Vec<u8>, field: u8, deltas: &[i64]) {
    if !deltas.is_empty() {
        put_key(to, field, LEN);
        let start = begin_length::<1>(to);
        deltas.iter().for_each(|&delta| put_varint(to, zigzag(delta)));
        end_length::<1>(to, start);
    }
}

fn put_packed_doubles(to: &mut Vec<u8>, field: u8, values: &[f64]) {
    if !values.is_empty() {
        put_key(to, field, LEN);
        put_varint(to, 8 * values.len() as u64);
        values.iter().for_each(|value| to.extend_from_slice(&value.to_le_bytes()));
    }
}

/// A 2.0 fragment's own symbols: each text once, the first empty.
///
/// The target's symbols find their reference by number: an entry is valid if its epoch is the fragment's, so
/// that the next fragment starts by counting up. Texts that the target's table does not have (of exemplars
/// and metadata) are found by hash.
#[derive(Debug, Default)]
struct FragmentSymbols {
    /// The symbols as they stand in the message.
    encoded: Vec<u8>,
    count: u32,
    epoch: u32,
    /// By symbol of the target: epoch and reference.
    slots: Vec<(u32, u32)>,
    /// By family of the target: epoch and references of help and unit.
    families: Vec<(u32, u32, u32)>,
    /// References of other texts, with where the text lies in `encoded`.
    others: HashTable<(u32, u32, u32)>,
}

/// Beyond this many entries the slots are given back after use.
const MAX_KEPT_SLOTS: usize = 1 << 16;

impl FragmentSymbols {
    fn clear(&mut self) {
        self.encoded.clear();
        self.encoded.extend_from_slice(&[key(4, LEN), 0]);
        self.count = 1;
        self.others.clear();
        if self.epoch == u32::MAX {
            self.slots.clear();
            self.families.clear();
            self.epoch = 0;
        }
        self.epoch += 1;
    }

    fn trim(&mut self) {
        if self.slots.capacity() > MAX_KEPT_SLOTS {
            self.slots = Vec::new();
        }
        if self.families.capacity() > MAX_KEPT_SLOTS {
            self.families = Vec::new();
        }
        if self.encoded.capacity() > 4 * MAX_FRAGMENT_BYTES {
            self.encoded = Vec::new();
        }
    }

    fn of(&mut self, table: &SymbolTable, symbol: Symbol) -> u32 {
        match self.slots.get(symbol.index()) {
            Some(&(epoch, reference)) if epoch == self.epoch => reference,
            _ => self.add(table, symbol),
        }
    }

    #[cold]
    fn add(&mut self, table: &SymbolTable, symbol: Symbol) -> u32 {
        if self.slots.len() <= symbol.index() {
            self.slots.resize(table.slots().max(symbol.index() + 1), (0, 0));
        }
        let text = table.get(symbol);
        let known = if text.is_empty() {
            Some(0)
        } else if self.others.is_empty() {
            None
        } else {
            self.find_other(text)
        };
        let reference = known.unwrap_or_else(|| {
            self.encoded.push(key(4, LEN));
            self.encoded.extend_from_slice(table.length_delimited(symbol));
            self.count += 1;
            self.count - 1
        });
        self.slots[symbol.index()] = (self.epoch, reference);
        reference
    }

    fn of_text(&mut self, table: &SymbolTable, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(symbol) = table.find(text) {
            return self.of(table, symbol);
        }
        if let Some(known) = self.find_other(text) {
            return known;
        }
        put_bytes(&mut self.encoded, 4, text.as_bytes());
        let reference = self.count;
        self.count += 1;
        let entry = (reference, (self.encoded.len() - text.len()) as u32, text.len() as u32);
        let encoded = &self.encoded;
        self.others.insert_unique(xxh3_64(text.as_bytes()), entry, |&(_, at, length)| {
            xxh3_64(&encoded[at as usize..][..length as usize])
        });
        reference
    }

    fn of_family(&mut self, table: &SymbolTable, family: u32, metadata: &Metadata) -> (u32, u32) {
        let at = family as usize;
        if let Some(&(epoch, help, unit)) = self.families.get(at)
            && epoch == self.epoch
        {
            return (help, unit);
        }
        let help = self.of_text(table, &metadata.help);
        let unit = self.of_text(table, &metadata.unit);
        if self.families.len() <= at {
            self.families.resize(at + 1, (0, 0, 0));
        }
        self.families[at] = (self.epoch, help, unit);
        (help, unit)
    }

    fn find_other(&self, text: &str) -> Option<u32> {
        let same = |&(_, at, length): &(u32, u32, u32)| {
            &self.encoded[at as usize..][..length as usize] == text.as_bytes()
        };
        self.others.find(xxh3_64(text.as_bytes()), same).map(|&(reference, ..)| reference)
    }
}
