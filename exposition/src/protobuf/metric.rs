//! The message `io.prometheus.client.Metric` in one pass: what its samples need, without lists; those are
//! walked again when they are asked for.

use crate::wire::{FIXED64, Field, Message, VARINT, WireError, zigzag};

// Numbers of the fields that are walked again.
pub(crate) const SUMMARY: i32 = 4;
pub(crate) const HISTOGRAM: i32 = 7;
pub(crate) const COUNTER: i32 = 3;
pub(crate) const COUNTER_EXEMPLAR: i32 = 2;
pub(crate) const QUANTILE: i32 = 3;
pub(crate) const BUCKET: i32 = 3;
pub(crate) const BUCKET_EXEMPLAR: i32 = 3;
pub(crate) const HISTOGRAM_EXEMPLAR: i32 = 16;
const LABEL: i32 = 1;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Metric {
    /// Where the metric's fields start and end.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Where the first label's tag starts and the last label ends, if the labels lie together.
    pub(crate) labels: Option<(usize, usize)>,
    pub(crate) labels_scattered: bool,
    pub(crate) timestamp_ms: i64,
    pub(crate) gauge: f64,
    pub(crate) untyped: f64,
    pub(crate) counter: f64,
    pub(crate) counter_start: Option<Time>,
    pub(crate) summary: Summary,
    pub(crate) histogram: Histogram,
    /// Whether it was read quickly: each list is then one run, and is known.
    pub(crate) has_runs: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) start: Option<Time>,
    pub(crate) quantile_run: Run,
}

/// Where the fields of a list start and end if nothing else stands between them: all of one number, and of one
/// wire type. Empty where there is no such list, and unknown unless the metric was read quickly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Histogram {
    pub(crate) count: u64,
    pub(crate) count_float: f64,
    pub(crate) sum: f64,
    pub(crate) start: Option<Time>,
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) zero_count: u64,
    pub(crate) zero_count_float: f64,
    pub(crate) buckets: usize,
    pub(crate) bucket_run: Run,
    pub(crate) exemplars: usize,
    pub(crate) exemplar_run: Run,
    pub(crate) positive: Side,
    pub(crate) negative: Side,
}

/// One side of a native histogram, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Side {
    pub(crate) spans: usize,
    /// Buckets that the spans promise.
    pub(crate) promised: u64,
    pub(crate) deltas: usize,
    pub(crate) counts: usize,
    pub(crate) span_run: Run,
    pub(crate) delta_run: Run,
    pub(crate) count_run: Run,
}

/// The field numbers of one side of a native histogram.
#[derive(Clone, Copy)]
pub(crate) struct SideFields {
    pub(crate) span: i32,
    pub(crate) delta: i32,
    pub(crate) count: i32,
}

pub(crate) const NEGATIVE: SideFields = SideFields { span: 9, delta: 10, count: 11 };
pub(crate) const POSITIVE: SideFields = SideFields { span: 12, delta: 13, count: 14 };

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: i32,
}

impl Time {
    pub(crate) const fn as_millis(self) -> i64 {
        self.seconds.wrapping_mul(1000).wrapping_add((self.nanos / 1_000_000) as i64)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) count: u64,
    pub(crate) count_float: f64,
    pub(crate) upper_bound: f64,
}

impl Bucket {
    pub(crate) fn value(&self) -> f64 {
        if self.count_float == 0.0 { self.count as f64 } else { self.count_float }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quantile {
    pub(crate) quantile: f64,
    pub(crate) value: f64,
}

/// An exemplar but for its labels.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exemplar {
    pub(crate) value: f64,
    pub(crate) time: Option<Time>,
}

impl Histogram {
    /// Prometheus 3.16 `isNativeHistogram`.
    pub(crate) fn is_native(&self) -> bool {
        self.positive.spans > 0 || self.negative.spans > 0 || self.zero_threshold > 0.0 || self.zero_count > 0
    }

    /// Prometheus 3.16 `isFloatHistogram`.
    pub(crate) fn is_float(&self) -> bool {
        self.count_float > 0.0
            || self.zero_count_float > 0.0
            || self.positive.counts > 0
            || self.negative.counts > 0
    }

    pub(crate) fn count(&self) -> f64 {
        if self.count_float == 0.0 { self.count as f64 } else { self.count_float }
    }
}

impl Metric {
    /// Reads any metric: what the quick way gives up.
    #[cold]
    pub(crate) fn read(&mut self, mut message: Message<'_>) -> Result<(), WireError> {
        *self = Self { start: message.at(), end: message.end(), ..Self::default() };
        loop {
            let tag = message.at();
            let Some(field) = message.field()? else { return Ok(()) };
            match field.number {
                LABEL => {
                    message.message(field)?;
                    self.labels = Some(match self.labels {
                        None => (tag, message.at()),
                        Some((start, end)) => {
                            self.labels_scattered |= end != tag;
                            (start, message.at())
                        }
                    });
                }
                2 => double_in(message.message(field)?, &mut self.gauge)?,
                COUNTER => self.read_counter(message.message(field)?)?,
                SUMMARY => self.summary.read(message.message(field)?)?,
                5 => double_in(message.message(field)?, &mut self.untyped)?,
                6 => self.timestamp_ms = message.integer(field)? as i64,
                HISTOGRAM => self.histogram.read(message.message(field)?)?,
                _ => message.skip(field)?,
            }
        }
    }

    fn read_counter(&mut self, mut message: Message<'_>) -> Result<(), WireError> {
        while let Some(field) = message.field()? {
            match field.number {
                1 => self.counter = message.double(field)?,
                COUNTER_EXEMPLAR => Exemplar::default().read(message.message(field)?, &mut |_, _| {})?,
                3 => read_time(message.message(field)?, &mut self.counter_start)?,
                _ => message.skip(field)?,
            }
        }
        Ok(())
    }
}

impl Summary {
    fn read(&mut self, mut message: Message<'_>) -> Result<(), WireError> {
        while let Some(field) = message.field()? {
            match field.number {
                1 => self.count = message.integer(field)?,
                2 => self.sum = message.double(field)?,
                QUANTILE => {
                    Quantile::read(message.message(field)?)?;
                }
                4 => read_time(message.message(field)?, &mut self.start)?,
                _ => message.skip(field)?,
            }
        }
        Ok(())
    }
}

impl Histogram {
    fn read(&mut self, mut message: Message<'_>) -> Result<(), WireError> {
        while let Some(field) = message.field()? {
            match field.number {
                1 => self.count = message.integer(field)?,
                2 => self.sum = message.double(field)?,
                BUCKET => {
                    Bucket::read(message.message(field)?)?;
                    self.buckets += 1;
                }
                4 => self.count_float = message.double(field)?,
                5 => self.schema = zigzag(u64::from(message.integer(field)? as u32)) as i32,
                6 => self.zero_threshold = message.double(field)?,
                7 => self.zero_count = message.integer(field)?,
                8 => self.zero_count_float = message.double(field)?,
                9..=11 => self.negative.read(&mut message, field, NEGATIVE)?,
                12..=14 => self.positive.read(&mut message, field, POSITIVE)?,
                15 => read_time(message.message(field)?, &mut self.start)?,
                HISTOGRAM_EXEMPLAR => {
                    Exemplar::default().read(message.message(field)?, &mut |_, _| {})?;
                    self.exemplars += 1;
                }
                _ => message.skip(field)?,
            }
        }
        Ok(())
    }
}

impl Side {
    fn read(&mut self, message: &mut Message<'_>, field: Field, fields: SideFields) -> Result<(), WireError> {
        if field.number == fields.span {
            let (_, length) = read_span(message.message(field)?)?;
            self.spans += 1;
            self.promised += u64::from(length);
            Ok(())
        } else if field.number == fields.delta {
            message.repeated(field, VARINT, |_| self.deltas += 1)
        } else {
            message.repeated(field, FIXED64, |_| self.counts += 1)
        }
    }
}

impl Bucket {
    pub(crate) fn read(mut message: Message<'_>) -> Result<Self, WireError> {
        let mut bucket = Self::default();
        while let Some(field) = message.field()? {
            match field.number {
                1 => bucket.count = message.integer(field)?,
                2 => bucket.upper_bound = message.double(field)?,
                BUCKET_EXEMPLAR => Exemplar::default().read(message.message(field)?, &mut |_, _| {})?,
                4 => bucket.count_float = message.double(field)?,
                _ => message.skip(field)?,
            }
        }
        Ok(bucket)
    }
}

impl Quantile {
    pub(crate) fn read(mut message: Message<'_>) -> Result<Self, WireError> {
        let mut quantile = Self::default();
        while let Some(field) = message.field()? {
            match field.number {
                1 => quantile.quantile = message.double(field)?,
                2 => quantile.value = message.double(field)?,
                _ => message.skip(field)?,
            }
        }
        Ok(quantile)
    }
}

impl Exemplar {
    /// Reads one occurrence of an exemplar on top of earlier ones, as protobuf merges them.
    pub(crate) fn read<'a>(
        &mut self,
        mut message: Message<'a>,
        label: &mut impl FnMut(&'a [u8], &'a [u8]),
    ) -> Result<(), WireError> {
        while let Some(field) = message.field()? {
            match field.number {
                1 => {
                    let pair = LabelPair::read(message.message(field)?)?;
                    label(pair.name, pair.value);
                }
                2 => self.value = message.double(field)?,
                3 => read_time(message.message(field)?, &mut self.time)?,
                _ => message.skip(field)?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct LabelPair<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) is_named: bool,
}

impl<'a> LabelPair<'a> {
    pub(crate) fn read(mut message: Message<'a>) -> Result<Self, WireError> {
        let mut pair = Self::default();
        while let Some(field) = message.field()? {
            match field.number {
                1 => {
                    pair.name = message.message(field)?.bytes();
                    pair.is_named = true;
                }
                2 => pair.value = message.message(field)?.bytes(),
                _ => message.skip(field)?,
            }
        }
        Ok(pair)
    }
}

/// The span's offset and length.
pub(crate) fn read_span(mut message: Message<'_>) -> Result<(i32, u32), WireError> {
    let (mut offset, mut length) = (0, 0);
    while let Some(field) = message.field()? {
        match field.number {
            1 => offset = zigzag(u64::from(message.integer(field)? as u32)) as i32,
            2 => length = message.integer(field)? as u32,
            _ => message.skip(field)?,
        }
    }
    Ok((offset, length))
}

fn double_in(mut message: Message<'_>, value: &mut f64) -> Result<(), WireError> {
    while let Some(field) = message.field()? {
        match field.number {
            1 => *value = message.double(field)?,
            _ => message.skip(field)?,
        }
    }
    Ok(())
}

fn read_time(mut message: Message<'_>, time: &mut Option<Time>) -> Result<(), WireError> {
    let time = time.get_or_insert_default();
    while let Some(field) = message.field()? {
        match field.number {
            1 => time.seconds = message.integer(field)? as i64,
            2 => time.nanos = message.integer(field)? as i32,
            _ => message.skip(field)?,
        }
    }
    Ok(())
}

/// The contents of one field in all occurrences of a message within a metric: the buckets of its histogram,
/// say. The metric has been read before, so what cannot be read ends the walk.
#[derive(Clone, Copy)]
pub(crate) struct Within<'a> {
    metric: Message<'a>,
    outer: i32,
    inner: i32,
    open: Option<Message<'a>>,
}

impl<'a> Within<'a> {
    pub(crate) const fn new(metric: Message<'a>, outer: i32, inner: i32) -> Self {
        Self { metric, outer, inner, open: None }
    }

    /// The contents of the fields of one run.
    pub(crate) const fn of_run(metric: Message<'a>, run: Run, inner: i32) -> Self {
        let nothing = metric.part(run.end, run.end);
        Self { metric: nothing, outer: 0, inner, open: Some(metric.part(run.start, run.end)) }
    }
}

impl<'a> Iterator for Within<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        loop {
            let Some(open) = &mut self.open else {
                self.open = Some(next_of(&mut self.metric, self.outer, Message::skip)?);
                continue;
            };
            let pass_over = if self.outer == HISTOGRAM { pass_over_histogram_field } else { pass_over_field };
            match next_of(open, self.inner, pass_over) {
                Some(content) => return Some(content),
                None => self.open = None,
            }
        }
    }
}

/// The content of the next field of this number.
pub(crate) fn next_of<'a>(
    message: &mut Message<'a>,
    number: i32,
    pass_over: impl Fn(&mut Message<'a>, Field) -> Result<(), WireError>,
) -> Option<Message<'a>> {
    while let Some(field) = message.field().ok()? {
        if field.number == number {
            return message.message(field).ok();
        }
        pass_over(message, field).ok()?;
    }
    None
}

fn pass_over_field(message: &mut Message<'_>, field: Field) -> Result<(), WireError> {
    message.skip(field)
}

/// Packed numbers may run beyond their field, so passing over them has to read them.
fn pass_over_histogram_field(message: &mut Message<'_>, field: Field) -> Result<(), WireError> {
    match field.number {
        10 | 13 => message.repeated(field, VARINT, |_| {}),
        11 | 14 => message.repeated(field, FIXED64, |_| {}),
        _ => message.skip(field),
    }
}

/// The spans, deltas and counts of one side in all occurrences of the metric's histogram.
pub(crate) fn read_side(
    mut metric: Message<'_>,
    fields: SideFields,
    mut span: impl FnMut(i32, u32),
    mut delta: impl FnMut(i64),
    mut count: impl FnMut(f64),
) -> Result<(), WireError> {
    while let Some(mut histogram) = next_of(&mut metric, HISTOGRAM, Message::skip) {
        while let Some(field) = histogram.field()? {
            if field.number == fields.span {
                let (offset, length) = read_span(histogram.message(field)?)?;
                span(offset, length);
            } else if field.number == fields.delta {
                histogram.repeated(field, VARINT, |value| delta(zigzag(value)))?;
            } else if field.number == fields.count {
                histogram.repeated(field, FIXED64, |bits| count(f64::from_bits(bits)))?;
            } else {
                pass_over_histogram_field(&mut histogram, field)?;
            }
        }
    }
    Ok(())
}
