//! The quick way over a metric: what clients write, in one pass, with the places of its lists noted.
//!
//! It knows the fields of the family's own type, each message once and each list in one piece. Whatever else a
//! metric has (another type's message, a field in two pieces, an unknown field, anything that is wrong) makes it
//! give up, and the metric is read by [`Metric::read`], which knows all of protobuf and says what is wrong. So the
//! two agree wherever this one comes to an end.

use promferry_model::MetricType;

use super::Family;
use super::metric::{Bucket, Exemplar, Histogram, Metric, Quantile, Run, Side, Summary, Time};
use crate::wire::{FIXED64, LENGTH, Message, VARINT, zigzag};

/// A field's first byte where its number is below 16.
const fn tag(number: u8, wire: u8) -> u8 {
    number << 3 | wire
}

const VARINT_1: u8 = tag(1, VARINT);
const FIXED64_1: u8 = tag(1, FIXED64);
const LENGTH_1: u8 = tag(1, LENGTH);
const VARINT_2: u8 = tag(2, VARINT);
const FIXED64_2: u8 = tag(2, FIXED64);
const LENGTH_2: u8 = tag(2, LENGTH);
const VARINT_3: u8 = tag(3, VARINT);
const LENGTH_3: u8 = tag(3, LENGTH);
const FIXED64_4: u8 = tag(4, FIXED64);
const LENGTH_4: u8 = tag(4, LENGTH);
const VARINT_5: u8 = tag(5, VARINT);
const LENGTH_5: u8 = tag(5, LENGTH);
const VARINT_6: u8 = tag(6, VARINT);
const FIXED64_6: u8 = tag(6, FIXED64);
const VARINT_7: u8 = tag(7, VARINT);
const LENGTH_7: u8 = tag(7, LENGTH);
const FIXED64_8: u8 = tag(8, FIXED64);
const LENGTH_9: u8 = tag(9, LENGTH);
const VARINT_10: u8 = tag(10, VARINT);
const LENGTH_10: u8 = tag(10, LENGTH);
const FIXED64_11: u8 = tag(11, FIXED64);
const LENGTH_11: u8 = tag(11, LENGTH);
const LENGTH_12: u8 = tag(12, LENGTH);
const VARINT_13: u8 = tag(13, VARINT);
const LENGTH_13: u8 = tag(13, LENGTH);
const FIXED64_14: u8 = tag(14, FIXED64);
const LENGTH_14: u8 = tag(14, LENGTH);
const LENGTH_15: u8 = tag(15, LENGTH);

/// Reads what a family has beside its metrics; where the first of them starts, or the end.
#[inline]
pub(super) fn family<'a>(mut rest: Rest<'a>, family: &mut Family<'a>) -> Option<usize> {
    let mut first_metric = None;
    while let Some(byte) = rest.peek() {
        let start = rest.at();
        rest.pass(1);
        match byte {
            LENGTH_1 => family.name_bytes = rest.message()?.bytes,
            LENGTH_2 => family.help_bytes = rest.message()?.bytes,
            VARINT_3 => family.metric_type = rest.varint()? as i32,
            LENGTH_4 => {
                rest.message()?;
                first_metric = first_metric.or(Some(start));
            }
            LENGTH_5 => family.unit = rest.message()?.bytes,
            _ => return None,
        }
    }
    Some(first_metric.unwrap_or(rest.end))
}

/// Where the metric that is the next field of a family, at `at`, starts and ends; `None` if that is no metric.
#[inline]
pub(super) fn metric(page: &[u8], at: usize, family_end: usize) -> Option<(usize, usize)> {
    let mut rest = Rest { bytes: page.get(at..family_end)?, end: family_end };
    if !rest.next_if(LENGTH_4) {
        return None;
    }
    let length = usize::try_from(rest.varint()?).ok()?;
    let start = rest.at();
    (length <= rest.bytes.len()).then_some((start, start + length))
}

impl Metric {
    /// Reads a metric of a family of `metric_type`; `None` if it takes the careful way. What other types have is
    /// then left as it was.
    #[inline]
    pub(crate) fn read_quickly(
        &mut self,
        page: &[u8],
        start: usize,
        end: usize,
        metric_type: MetricType,
    ) -> Option<()> {
        let mut rest = Rest { bytes: page.get(start..end)?, end };
        (self.start, self.end) = (start, end);
        (self.labels, self.timestamp_ms) = (None, 0);
        self.labels_scattered = false;
        self.has_runs = true;
        let value_tag = match metric_type {
            MetricType::Counter => {
                (self.counter, self.counter_start) = (0.0, None);
                LENGTH_3
            }
            MetricType::Gauge => {
                self.gauge = 0.0;
                LENGTH_2
            }
            MetricType::Summary => {
                self.summary = Summary::default();
                LENGTH_4
            }
            MetricType::Histogram | MetricType::GaugeHistogram => {
                self.histogram = Histogram::default();
                LENGTH_7
            }
            _ => {
                self.untyped = 0.0;
                LENGTH_5
            }
        };
        let mut has_value = false;
        while let Some(byte) = rest.peek() {
            let start = rest.at();
            if byte == LENGTH_1 {
                if self.labels.is_some() {
                    return None;
                }
                while rest.peek() == Some(LENGTH_1) {
                    rest.pass(1);
                    rest.message()?;
                }
                self.labels = Some((start, rest.at()));
            } else if byte == value_tag && !has_value {
                has_value = true;
                rest.pass(1);
                let value = rest.message()?;
                match metric_type {
                    MetricType::Counter => self.read_counter_quickly(page, value)?,
                    MetricType::Gauge => double(value, &mut self.gauge)?,
                    MetricType::Summary => self.summary.read_quickly(value)?,
                    MetricType::Histogram | MetricType::GaugeHistogram => {
                        self.histogram.read_quickly(page, value)?;
                    }
                    _ => double(value, &mut self.untyped)?,
                }
            } else if byte == VARINT_6 {
                rest.pass(1);
                self.timestamp_ms = rest.varint()? as i64;
            } else {
                return None;
            }
        }
        Some(())
    }

    #[inline]
    fn read_counter_quickly(&mut self, page: &[u8], mut rest: Rest<'_>) -> Option<()> {
        while let Some(byte) = rest.next() {
            match byte {
                FIXED64_1 => self.counter = rest.double()?,
                LENGTH_2 => exemplar(page, rest.message()?)?,
                LENGTH_3 => time(rest.message()?, &mut self.counter_start)?,
                _ => return None,
            }
        }
        Some(())
    }
}

impl Summary {
    fn read_quickly(&mut self, mut rest: Rest<'_>) -> Option<()> {
        while let Some(byte) = rest.peek() {
            let start = rest.at();
            rest.pass(1);
            match byte {
                VARINT_1 => self.count = rest.varint()?,
                FIXED64_2 => self.sum = rest.double()?,
                LENGTH_3 => {
                    quantile(rest.message()?)?;
                    while rest.next_if(byte) {
                        quantile(rest.message()?)?;
                    }
                    self.quantile_run.note(start, rest)?;
                }
                LENGTH_4 => time(rest.message()?, &mut self.start)?,
                _ => return None,
            }
        }
        Some(())
    }
}

impl Histogram {
    fn read_quickly(&mut self, page: &[u8], mut rest: Rest<'_>) -> Option<()> {
        while let Some(byte) = rest.peek() {
            let start = rest.at();
            rest.pass(1);
            match byte {
                VARINT_1 => self.count = rest.varint()?,
                FIXED64_2 => self.sum = rest.double()?,
                LENGTH_3 => {
                    loop {
                        bucket(rest.message()?, |rest| exemplar(page, rest))?;
                        self.buckets += 1;
                        if !rest.next_if(byte) {
                            break;
                        }
                    }
                    self.bucket_run.note(start, rest)?;
                }
                FIXED64_4 => self.count_float = rest.double()?,
                VARINT_5 => self.schema = rest.signed32()?,
                FIXED64_6 => self.zero_threshold = rest.double()?,
                VARINT_7 => self.zero_count = rest.varint()?,
                FIXED64_8 => self.zero_count_float = rest.double()?,
                LENGTH_9 => self.negative.read_spans(&mut rest, byte)?,
                LENGTH_12 => self.positive.read_spans(&mut rest, byte)?,
                LENGTH_10 => self.negative.read_packed_deltas(&mut rest)?,
                LENGTH_13 => self.positive.read_packed_deltas(&mut rest)?,
                VARINT_10 => self.negative.read_deltas(&mut rest, byte)?,
                VARINT_13 => self.positive.read_deltas(&mut rest, byte)?,
                LENGTH_11 => self.negative.read_packed_counts(&mut rest)?,
                LENGTH_14 => self.positive.read_packed_counts(&mut rest)?,
                FIXED64_11 => self.negative.read_counts(&mut rest, byte)?,
                FIXED64_14 => self.positive.read_counts(&mut rest, byte)?,
                LENGTH_15 => time(rest.message()?, &mut self.start)?,
                // Exemplars have number 16, whose tag takes two bytes.
                0x82 if rest.next_if(1) => {
                    loop {
                        exemplar(page, rest.message()?)?;
                        self.exemplars += 1;
                        if !rest.next_pair_if([0x82, 1]) {
                            break;
                        }
                    }
                    self.exemplar_run.note(start, rest)?;
                }
                _ => return None,
            }
        }
        Some(())
    }
}

impl Side {
    #[inline]
    fn read_spans(&mut self, rest: &mut Rest<'_>, byte: u8) -> Option<()> {
        let start = rest.at() - 1;
        loop {
            let (_, length) = next_span(rest)?;
            self.spans += 1;
            self.promised += u64::from(length);
            if !rest.next_if(byte) {
                break;
            }
        }
        self.span_run.note(start, *rest)
    }

    #[inline]
    fn read_packed_deltas(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        let start = rest.at() - 1;
        self.deltas = count_varints(rest.message()?.bytes)?;
        self.delta_run.note(start, *rest)
    }

    #[inline]
    fn read_deltas(&mut self, rest: &mut Rest<'_>, byte: u8) -> Option<()> {
        let start = rest.at() - 1;
        loop {
            rest.varint()?;
            self.deltas += 1;
            while rest.short_fields(byte).is_some() {
                self.deltas += 4;
            }
            if !rest.next_if(byte) {
                break;
            }
        }
        self.delta_run.note(start, *rest)
    }

    fn read_packed_counts(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        let start = rest.at() - 1;
        let (counts, []) = rest.message()?.bytes.as_chunks::<8>() else { return None };
        self.counts = counts.len();
        self.count_run.note(start, *rest)
    }

    fn read_counts(&mut self, rest: &mut Rest<'_>, byte: u8) -> Option<()> {
        let start = rest.at() - 1;
        loop {
            rest.double()?;
            self.counts += 1;
            if !rest.next_if(byte) {
                break;
            }
        }
        self.count_run.note(start, *rest)
    }
}

impl Run {
    /// Notes that the list is what lies before `rest`; `None` if it has been noted before.
    #[inline]
    fn note(&mut self, start: usize, rest: Rest<'_>) -> Option<()> {
        let first = self.end == 0;
        *self = Self { start, end: rest.at() };
        first.then_some(())
    }
}

#[inline]
pub(crate) fn quantile(mut rest: Rest<'_>) -> Option<Quantile> {
    let mut quantile = Quantile::default();
    while let Some(byte) = rest.next() {
        match byte {
            FIXED64_1 => quantile.quantile = rest.double()?,
            FIXED64_2 => quantile.value = rest.double()?,
            _ => return None,
        }
    }
    Some(quantile)
}

/// A classic bucket, its exemplar looked at by `exemplar`.
#[inline]
pub(crate) fn bucket<'a>(
    mut rest: Rest<'a>,
    mut exemplar: impl FnMut(Rest<'a>) -> Option<()>,
) -> Option<Bucket> {
    let mut bucket = Bucket::default();
    while let Some(byte) = rest.next() {
        match byte {
            VARINT_1 => bucket.count = rest.varint()?,
            FIXED64_2 => bucket.upper_bound = rest.double()?,
            LENGTH_3 => exemplar(rest.message()?)?,
            FIXED64_4 => bucket.count_float = rest.double()?,
            _ => return None,
        }
    }
    Some(bucket)
}

fn exemplar(page: &[u8], rest: Rest<'_>) -> Option<()> {
    let message = Message::new(page, rest.at(), rest.end);
    Exemplar::default().read(message, &mut |_, _| {}).ok()
}

#[inline]
fn double(mut rest: Rest<'_>, value: &mut f64) -> Option<()> {
    while let Some(byte) = rest.next() {
        match byte {
            FIXED64_1 => *value = rest.double()?,
            _ => return None,
        }
    }
    Some(())
}

#[inline]
fn time(mut rest: Rest<'_>, time: &mut Option<Time>) -> Option<()> {
    let time = time.get_or_insert_default();
    while let Some(byte) = rest.next() {
        match byte {
            VARINT_1 => time.seconds = rest.varint()? as i64,
            VARINT_2 => time.nanos = rest.varint()? as i32,
            _ => return None,
        }
    }
    Some(())
}

/// The offset and the length of the span that is the next field's content.
#[inline]
pub(super) fn next_span(rest: &mut Rest<'_>) -> Option<(i32, u32)> {
    if let [4, VARINT_1, offset @ 0..0x80, VARINT_2, length @ 0..0x80, after @ ..] = rest.bytes {
        rest.bytes = after;
        return Some((zigzag(u64::from(*offset)) as i32, u32::from(*length)));
    }
    span(rest.message()?)
}

fn span(mut rest: Rest<'_>) -> Option<(i32, u32)> {
    let (mut offset, mut length) = (0, 0);
    while let Some(byte) = rest.next() {
        match byte {
            VARINT_1 => offset = rest.signed32()?,
            VARINT_2 => length = rest.varint()? as u32,
            _ => return None,
        }
    }
    Some((offset, length))
}

/// In each byte the bit that says that its number goes on.
const CONTINUED: u64 = 0x8080_8080_8080_8080;

/// How many numbers a packed list holds, if the last ends where the list does and none is longer than ten bytes.
#[inline]
fn count_varints(bytes: &[u8]) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut continued = 0;
    for word in words {
        // One for each byte, summed up in the highest.
        let flags = (u64::from_le_bytes(*word) & CONTINUED) >> 7;
        continued += (flags.wrapping_mul(CONTINUED >> 7) >> 56) as usize;
    }
    continued += tail.iter().filter(|&&byte| byte >= 0x80).count();
    let ends = bytes.last().is_none_or(|&byte| byte < 0x80);
    let fits = continued < 10 || bytes.split(|&byte| byte < 0x80).all(|run| run.len() < 10);
    (ends && fits).then_some(bytes.len() - continued)
}

/// What is left of a message.
#[derive(Clone, Copy)]
pub(crate) struct Rest<'a> {
    bytes: &'a [u8],
    /// Where in the page it ends.
    end: usize,
}

impl<'a> Rest<'a> {
    #[inline]
    pub(crate) fn of(message: Message<'a>) -> Self {
        Self { bytes: message.bytes(), end: message.end() }
    }

    #[inline]
    const fn at(self) -> usize {
        self.end - self.bytes.len()
    }

    #[inline]
    fn peek(self) -> Option<u8> {
        self.bytes.first().copied()
    }

    #[inline]
    fn pass(&mut self, bytes: usize) {
        self.bytes = self.bytes.get(bytes..).unwrap_or_default();
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(byte)
    }

    #[inline]
    pub(crate) fn next_if(&mut self, byte: u8) -> bool {
        match self.bytes {
            [first, rest @ ..] if *first == byte => {
                self.bytes = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(crate) const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The next eight bytes if each of them is a number.
    #[inline]
    pub(crate) fn short_varints(&mut self) -> Option<[u8; 8]> {
        let (bytes, rest) = self.bytes.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*bytes) & CONTINUED != 0 {
            return None;
        }
        self.bytes = rest;
        Some(*bytes)
    }

    /// The next four fields' numbers if all have this tag and take a byte each.
    #[inline]
    pub(super) fn short_fields(&mut self, tag: u8) -> Option<[u8; 4]> {
        let (bytes, rest) = self.bytes.split_first_chunk::<8>()?;
        let [tag, number] = [u64::from(tag) * 0x0001_0001_0001_0001, 0x80_00_80_00_80_00_80_00];
        if (u64::from_le_bytes(*bytes) ^ tag) & (number | 0x00ff_00ff_00ff_00ff) != 0 {
            return None;
        }
        self.bytes = rest;
        let [_, first, _, second, _, third, _, fourth] = *bytes;
        Some([first, second, third, fourth])
    }

    #[inline]
    fn next_pair_if(&mut self, pair: [u8; 2]) -> bool {
        match self.bytes.split_first_chunk::<2>() {
            Some((first, rest)) if *first == pair => {
                self.bytes = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        match self.bytes {
            [first, rest @ ..] if *first < 0x80 => {
                self.bytes = rest;
                Some(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.bytes = rest;
                Some(u64::from(*first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    #[inline]
    pub(crate) fn signed32(&mut self) -> Option<i32> {
        Some(zigzag(u64::from(self.varint()? as u32)) as i32)
    }

    #[inline]
    pub(crate) fn double(&mut self) -> Option<f64> {
        let (bytes, rest) = self.bytes.split_first_chunk::<8>()?;
        self.bytes = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    /// The content of a field that has a length.
    #[inline]
    pub(crate) fn message(&mut self) -> Option<Self> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (content, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(Self { bytes: content, end: self.end - rest.len() })
    }
}
