use promferry_model::{
    BucketCounts, ExemplarView, Histogram, ResetHint, Sample, Span, Symbol, SymbolTable, Timestamp,
};

use super::arena::{Arena, Row, take_number};
use super::fragment_symbols::FragmentSymbols;
use super::proto::{
    FIXED64, LEN, VARINT, begin_length, end_length, key, put_bytes, put_double, put_key, put_prefix,
    put_uint, put_varint, zigzag,
};
use super::series_references::SeriesReferences;
use super::shape::{PartKind, put_label};
use crate::{Counts, Lane, Protocol};

/// A fragment closes before it outgrows one block of snappy's.
pub(super) const MAX_FRAGMENT_BYTES: usize = 64 * 1024;
/// A fragment closes at this many samples and histograms: a fourth of what a request takes by default.
pub(super) const MAX_FRAGMENT_VALUES: u64 = 500;
/// And not before: less in 2.0 would be too small to be compressed.
pub(super) const MIN_FRAGMENT_VALUES: u64 = 320;

/// A fragment being written, byte by byte: time series are opened, get their value and exemplars, and are
/// ended, which fills in their length.
#[derive(Debug)]
pub(super) struct Writer {
    protocol: Protocol,
    lane: Lane,
    max_values: u64,
    /// The time series, as they stand in the message.
    series: Vec<u8>,
    /// Where the content of the open time series starts.
    open: Option<usize>,
    counts: Counts,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
    /// The longest time series: the next one is expected to be no longer.
    longest: usize,
    timestamp_field: TimestampField,
    symbols: FragmentSymbols,
    /// 2.0: the last time series' labels.
    references: SeriesReferences,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            protocol: Protocol::V1,
            lane: Lane::of_hash(0),
            max_values: MAX_FRAGMENT_VALUES,
            series: Vec::new(),
            open: None,
            counts: Counts::default(),
            min_timestamp: Timestamp::MAX,
            max_timestamp: Timestamp::MIN,
            longest: 0,
            timestamp_field: TimestampField::default(),
            symbols: FragmentSymbols::default(),
            references: SeriesReferences::default(),
        }
    }

    /// Starts over for a target's fragments.
    pub(super) fn reset(&mut self, protocol: Protocol, lane: Lane, max_values: u64) {
        self.protocol = protocol;
        self.lane = lane;
        self.max_values = max_values;
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
            self.references.clear();
        }
    }

    /// Gives back memory beyond what ordinary targets need.
    pub(super) fn trim(&mut self) {
        if self.series.capacity() > 4 * MAX_FRAGMENT_BYTES {
            self.series = Vec::new();
        }
        self.symbols.trim();
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        self.series.capacity() + self.symbols.memory_bytes()
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
        self.counts.values() >= self.max_values
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
        self.timestamp_field.set(timestamp);
        // Room for all of it at once: each push would ask for it.
        let at = self.series.len();
        self.series.extend_from_slice(&[0; SAMPLE_BLOCK]);
        let field = &mut self.series[at..at + SAMPLE_BLOCK];
        let mut len = 2;
        if sample.value.to_bits() != 0 {
            field[2] = key(1, FIXED64);
            field[3..11].copy_from_slice(&sample.value.to_le_bytes());
            len = 11;
        }
        field[len..len + FIELD_BLOCK].copy_from_slice(&self.timestamp_field.bytes);
        len += self.timestamp_field.len;
        field[0] = key(2, LEN);
        field[1] = (len - 2) as u8;
        self.series.truncate(at + len);
        if start != 0 {
            put_uint(&mut self.series, 3, start);
            self.series[at + 1] = (self.series.len() - at - 2) as u8;
        }
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
                        self.symbols.of_text(symbols, text).put(&mut self.series);
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
                    put_label(series, symbols, name, value);
                }
            }
        }
    }

    fn begin_v2(&mut self, arena: &Arena, row: Row, family: u32) {
        let (symbols, shapes, records) = (arena.symbols(), arena.shapes(), arena.records());
        let series = &mut self.series;
        let fragment = &mut self.symbols;
        // Room for the keys and both lengths.
        series.extend_from_slice(&[key(5, LEN), 0, key(1, LEN), 0]);
        let refs = series.len();
        self.open = Some(refs - 2);
        let before = &mut self.references;
        let mut at = row.values;
        let next_value = || take_number(records, &mut at);
        if !before.put_like_before(series, row.shape, next_value, |value| fragment.of(symbols, value)) {
            before.begin();
            at = row.values;
            for part in shapes.parts(row.shape) {
                match part.kind() {
                    PartKind::Run(run) => {
                        let (refs, length) = fragment.of_run(symbols, run, &shapes.run(run).pairs);
                        put_prefix(series, refs, length);
                    }
                    PartKind::Slot(name) => {
                        let value = take_number(records, &mut at);
                        fragment.of(symbols, name).put(series);
                        let value_at = series.len();
                        fragment.of(symbols, Symbol::from_index(value as usize)).put(series);
                        before.note_slot(value, series.len() - refs, series.len() - value_at);
                    }
                }
            }
            before.end(row.shape, &series[refs..]);
        }
        end_length::<1>(series, refs);
        if let Some(metadata) = arena.metadata(family) {
            let (field, length) = fragment.of_family(symbols, family, metadata);
            put_prefix(series, field, length);
        }
    }

    fn saw(&mut self, at: Timestamp) {
        self.min_timestamp = self.min_timestamp.min(at);
        self.max_timestamp = self.max_timestamp.max(at);
    }
}

/// A varint field is at most this long: its key and ten bytes.
const FIELD_BLOCK: usize = 11;
/// Key and length, a `double` with its key, and a varint field.
const SAMPLE_BLOCK: usize = 2 + 9 + FIELD_BLOCK;

/// Field 2 of a `Sample`. Nearly all samples of a scrape have one timestamp, which is encoded once.
#[derive(Debug, Default)]
struct TimestampField {
    value: u64,
    bytes: [u8; FIELD_BLOCK],
    len: usize,
}

impl TimestampField {
    fn set(&mut self, value: u64) {
        if value == self.value {
            return;
        }
        *self = Self { value, ..Self::default() };
        if value == 0 {
            // What an absent field means.
            return;
        }
        self.len = 1;
        self.bytes[0] = key(2, VARINT);
        let mut rest = value;
        while rest >= 0x80 {
            self.bytes[self.len] = rest as u8 | 0x80;
            self.len += 1;
            rest >>= 7;
        }
        self.bytes[self.len] = rest as u8;
        self.len += 1;
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
