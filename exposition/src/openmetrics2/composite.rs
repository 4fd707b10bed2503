//! Composite values: the fields between braces, and the lists in them.

use std::borrow::Cow;

use promferry_model::{BucketCounts, Histogram, MetricType, ResetHint, Span};

use crate::classic_histogram::ClassicHistogram;
use crate::error::Problem;
use crate::go_float::NumberError;
use crate::{ParseError, go_float};

/// A field of a composite value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Count,
    GaugeCount,
    Sum,
    GaugeSum,
    Schema,
    ZeroThreshold,
    ZeroCount,
    PositiveSpans,
    PositiveBuckets,
    NegativeSpans,
    NegativeBuckets,
    Bucket,
    Quantile,
}

/// The fields with their keywords.
const FIELDS: [(Field, &[u8]); FIELD_COUNT] = [
    (Field::Count, b"count:"),
    (Field::GaugeCount, b"gcount:"),
    (Field::Sum, b"sum:"),
    (Field::GaugeSum, b"gsum:"),
    (Field::Schema, b"schema:"),
    (Field::ZeroThreshold, b"zero_threshold:"),
    (Field::ZeroCount, b"zero_count:"),
    (Field::PositiveSpans, b"positive_spans:"),
    (Field::PositiveBuckets, b"positive_buckets:"),
    (Field::NegativeSpans, b"negative_spans:"),
    (Field::NegativeBuckets, b"negative_buckets:"),
    (Field::Bucket, b"bucket:"),
    (Field::Quantile, b"quantile:"),
];
const FIELD_COUNT: usize = 13;

impl Field {
    /// Whether a family of this type has the field.
    const fn is_of(self, metric_type: MetricType) -> bool {
        match metric_type {
            MetricType::Summary => matches!(self, Self::Count | Self::Sum | Self::Quantile),
            MetricType::Histogram => !matches!(self, Self::GaugeCount | Self::GaugeSum | Self::Quantile),
            MetricType::GaugeHistogram => !matches!(self, Self::Count | Self::Sum | Self::Quantile),
            _ => false,
        }
    }
}

/// Where the fields of one composite value stand in the page.
#[derive(Clone, Copy)]
pub(super) struct Composite<'a> {
    page: &'a [u8],
    metric_type: MetricType,
    /// Where each field's value starts and ends; an absent field has nothing, which no present one has.
    fields: [(usize, usize); FIELD_COUNT],
}

impl<'a> Composite<'a> {
    /// No fields.
    pub(super) const fn none(page: &'a [u8]) -> Self {
        Self { page, metric_type: MetricType::Unknown, fields: [(0, 0); FIELD_COUNT] }
    }

    /// Reads the fields from behind the opening brace, and returns where they end, behind the closing one. All that
    /// a family of this type needs is there then; what stands in the fields is not judged.
    pub(super) fn read(
        page: &'a [u8],
        start: usize,
        metric_type: MetricType,
    ) -> Result<(Self, usize), ParseError> {
        let mut composite = Self { page, metric_type, fields: [(0, 0); FIELD_COUNT] };
        let mut at = start;
        if page.get(at) != Some(&b'}') {
            loop {
                at = composite.read_field(at)?;
                match page.get(at) {
                    Some(b',') => at += 1,
                    Some(b'}') => break,
                    _ => return Err(composite.error(at, "expected ',' or '}' after the field")),
                }
            }
        }
        composite.judge_required(start)?;
        Ok((composite, at + 1))
    }

    fn read_field(&mut self, at: usize) -> Result<usize, ParseError> {
        let rest = self.page.get(at..).unwrap_or_default();
        let known = FIELDS.iter().find(|(_, keyword)| rest.starts_with(keyword));
        let Some((field, keyword)) = known.filter(|(field, _)| field.is_of(self.metric_type)) else {
            return Err(self.error(at, "expected a field that values of this type have"));
        };
        if self.has(*field) {
            return Err(self.error(at, "field is there already"));
        }
        let start = at + keyword.len();
        let value = &self.page[start..];
        let length = if value.first() == Some(&b'[') {
            let end = value.iter().position(|c| matches!(c, b']' | b' ' | b'\n' | b'\r' | 0));
            end.filter(|end| value[*end] == b']').map(|end| end + 1)
        } else {
            let ends = |c: &u8| matches!(c, b',' | b'}' | b'[' | b']' | b' ' | b'\n' | b'\r' | 0);
            Some(value.iter().position(ends).unwrap_or(value.len())).filter(|length| *length > 0)
        };
        let Some(length) = length else {
            return Err(self.error(start, "expected the field's value, a number or a list in brackets"));
        };
        self.fields[*field as usize] = (start, start + length);
        Ok(start + length)
    }

    fn judge_required(&self, at: usize) -> Result<(), ParseError> {
        let (count, sum, lacks_count, lacks_sum) = match self.metric_type {
            MetricType::GaugeHistogram => {
                (Field::GaugeCount, Field::GaugeSum, "field gcount is missing", "field gsum is missing")
            }
            _ => (Field::Count, Field::Sum, "field count is missing", "field sum is missing"),
        };
        let problem = if !self.has(count) {
            lacks_count
        } else if !self.has(sum) {
            lacks_sum
        } else if self.metric_type == MetricType::Summary {
            if self.has(Field::Quantile) {
                return Ok(());
            }
            "field quantile is missing"
        } else if self.is_native() {
            if !self.has(Field::ZeroThreshold) {
                "field zero_threshold is missing"
            } else if !self.has(Field::ZeroCount) {
                "field zero_count is missing"
            } else {
                return Ok(());
            }
        } else if self.has(Field::Bucket) {
            return Ok(());
        } else {
            "field bucket is missing"
        };
        Err(self.error(at, problem))
    }

    pub(super) const fn has(&self, field: Field) -> bool {
        self.fields[field as usize].1 > 0
    }

    /// Whether it says a native histogram.
    pub(super) const fn is_native(&self) -> bool {
        self.has(Field::Schema)
    }

    const fn is_gauge(&self) -> bool {
        matches!(self.metric_type, MetricType::GaugeHistogram)
    }

    pub(super) fn count(&self) -> Result<f64, ParseError> {
        self.number(if self.is_gauge() { Field::GaugeCount } else { Field::Count })
    }

    pub(super) fn sum(&self) -> Result<f64, ParseError> {
        self.number(if self.is_gauge() { Field::GaugeSum } else { Field::Sum })
    }

    fn number(&self, field: Field) -> Result<f64, ParseError> {
        let (start, end) = self.fields[field as usize];
        go_float::parse(&self.page[start..end])
            .map_err(|error| self.error(start, Cow::Owned(error.to_string())))
    }

    /// The classic buckets or the quantiles.
    pub(super) fn pairs(&self) -> Result<Pairs<'a>, ParseError> {
        let of_summary = self.metric_type == MetricType::Summary;
        let items = self.items(if of_summary { Field::Quantile } else { Field::Bucket })?;
        Ok(Pairs { items, of_summary, before: None })
    }

    /// Judges what the classic buckets or quantiles say.
    pub(super) fn judge_pairs(&self) -> Result<(), ParseError> {
        self.count()?;
        self.sum()?;
        if self.is_native() && !self.has(Field::Bucket) {
            return Ok(());
        }
        let mut last = f64::NAN;
        for pair in self.pairs()? {
            let Pair { at, bound, value } = pair.map_err(|(at, problem)| self.error(at, problem))?;
            if self.metric_type == MetricType::Histogram && value < 0.0 {
                return Err(self.error(at, "count of a bucket is negative"));
            }
            last = bound;
        }
        self.judge_last_bound(last)
    }

    fn judge_last_bound(&self, last: f64) -> Result<(), ParseError> {
        if self.metric_type != MetricType::Summary && last != f64::INFINITY {
            return Err(self.error(self.fields[Field::Bucket as usize].0, "buckets lack the bound +Inf"));
        }
        Ok(())
    }

    /// Makes a histogram with custom buckets of the classic ones, in `histogram`.
    pub(super) fn convert(
        &self,
        classic: &mut ClassicHistogram,
        histogram: &mut Histogram,
    ) -> Result<(), ParseError> {
        classic.clear();
        classic.set_count(self.count()?);
        classic.set_sum(self.sum()?);
        if self.has(Field::Bucket) {
            let mut last = f64::NAN;
            for pair in self.pairs()? {
                let Pair { bound, value, .. } = pair.map_err(|(at, problem)| self.error(at, problem))?;
                classic.add_bucket(bound, value);
                last = bound;
            }
            self.judge_last_bound(last)?;
        }
        let start = self.fields[Field::Bucket as usize].0.max(1);
        classic.convert(histogram).map_err(|error| self.error(start, error.problem()))?;
        histogram.reset_hint = self.reset_hint();
        Ok(())
    }

    const fn reset_hint(&self) -> ResetHint {
        if self.is_gauge() { ResetHint::Gauge } else { ResetHint::Unknown }
    }

    /// Judges the native histogram as [`Histogram::validate`] would, without keeping its lists.
    pub(super) fn judge_native(&self) -> Result<Native, ParseError> {
        let at = |field| self.fields[field as usize].0;
        let count_at = at(if self.is_gauge() { Field::GaugeCount } else { Field::Count });
        let (start, end) = self.fields[Field::Schema as usize];
        let schema = str::from_utf8(&self.page[start..end]).ok().and_then(|text| text.parse().ok());
        let Some(schema) = schema.filter(|schema: &i64| (-4..=8).contains(schema)) else {
            return Err(self.error(start, "expected a schema from -4 to 8"));
        };
        let (count, sum) = (self.count()?, self.sum()?);
        if count < 0.0 {
            return Err(self.error(count_at, "count is negative"));
        }
        let zero_threshold = self.number(Field::ZeroThreshold)?;
        if !zero_threshold.is_finite() || zero_threshold < 0.0 {
            return Err(
                self.error(at(Field::ZeroThreshold), "expected a finite threshold that is not negative")
            );
        }
        let zero_count = self.number(Field::ZeroCount)?;
        if zero_count < 0.0 {
            return Err(self.error(at(Field::ZeroCount), "count is negative"));
        }
        let is_float = [count, zero_count].iter().any(|&n| n.trunc() != n || n >= 2_f64.powi(64))
            || [Field::PositiveBuckets, Field::NegativeBuckets].iter().any(|&field| self.has_fraction(field));
        let mut in_buckets = zero_count as u64;
        for (spans, buckets) in SIDES {
            let promised = self.judge_spans(spans)?;
            let mut have: u64 = 0;
            for (at, item) in self.items(buckets)? {
                let is_negative = if is_float {
                    float(item).map_err(|error| self.error(at, Cow::Owned(error.to_string())))? < 0.0
                } else {
                    let count =
                        integer(item).ok_or_else(|| self.error(at, "expected an integer of 64 bits"))?;
                    in_buckets = in_buckets.wrapping_add(count as u64);
                    count < 0
                };
                if is_negative {
                    return Err(self.error(at, "count of a bucket is negative"));
                }
                have += 1;
            }
            if promised != have {
                let problem = format!("spans promise {promised} buckets, but there are {have}");
                return Err(self.error(at(spans).max(start), Cow::Owned(problem)));
            }
        }
        // Observations that are not numbers make the sum none, and are in no bucket.
        let most = count as u64;
        if !is_float && (in_buckets > most || (in_buckets != most && !sum.is_nan())) {
            let problem = format!("buckets have {in_buckets} observations, but the count is {most}");
            return Err(self.error(count_at, Cow::Owned(problem)));
        }
        Ok(Native { schema: schema as i32, count, sum, zero_threshold, zero_count, is_float })
    }

    /// How many buckets the spans promise.
    fn judge_spans(&self, field: Field) -> Result<u64, ParseError> {
        let (mut promised, mut end) = (0, 0_i64);
        for (number, (at, item)) in self.items(field)?.enumerate() {
            let Span { offset, length } =
                span(item).ok_or_else(|| self.error(at, "expected a span, as in 0:3"))?;
            if if number == 0 { offset == i32::MIN } else { offset < 0 } {
                return Err(self.error(at, "expected a span that does not go back"));
            }
            promised += u64::from(length);
            end += i64::from(offset) + i64::from(length);
            if end - 1 > i64::from(i32::MAX) {
                return Err(self.error(at, "span reaches a bucket beyond 32 bits"));
            }
        }
        Ok(promised)
    }

    /// Puts the histogram, which was judged, into `histogram`, whose lists are used again.
    pub(super) fn read_native(&self, native: Native, histogram: &mut Histogram) {
        let Native { schema, count, sum, zero_threshold, zero_count, is_float } = native;
        (histogram.schema, histogram.zero_threshold, histogram.sum) = (schema, zero_threshold, sum);
        histogram.custom_values.clear();
        histogram.reset_hint = self.reset_hint();
        for (field, spans) in [
            (Field::PositiveSpans, &mut histogram.positive_spans),
            (Field::NegativeSpans, &mut histogram.negative_spans),
        ] {
            spans.clear();
            spans.extend(self.items(field).into_iter().flatten().filter_map(|(_, item)| span(item)));
        }
        let items = |field| self.items(field).into_iter().flatten().map(|(_, item)| item);
        if is_float {
            if !matches!(histogram.counts, BucketCounts::Float { .. }) {
                let (positive, negative) = (Vec::new(), Vec::new());
                histogram.counts = BucketCounts::Float { count, zero_count, positive, negative };
            }
            if let BucketCounts::Float { count: c, zero_count: z, positive, negative } = &mut histogram.counts
            {
                (*c, *z) = (count, zero_count);
                for (field, counts) in
                    [(Field::PositiveBuckets, positive), (Field::NegativeBuckets, negative)]
                {
                    counts.clear();
                    counts.extend(items(field).filter_map(|item| float(item).ok()));
                }
            }
        } else {
            let (count, zero_count) = (count as u64, zero_count as u64);
            if !matches!(histogram.counts, BucketCounts::Integer { .. }) {
                let (positive, negative) = (Vec::new(), Vec::new());
                histogram.counts = BucketCounts::Integer { count, zero_count, positive, negative };
            }
            if let BucketCounts::Integer { count: c, zero_count: z, positive, negative } =
                &mut histogram.counts
            {
                (*c, *z) = (count, zero_count);
                for (field, deltas) in
                    [(Field::PositiveBuckets, positive), (Field::NegativeBuckets, negative)]
                {
                    let mut before: i64 = 0;
                    deltas.clear();
                    deltas.extend(
                        items(field)
                            .filter_map(integer)
                            .map(|count| count.wrapping_sub(std::mem::replace(&mut before, count))),
                    );
                }
            }
        }
    }

    /// Whether a list of counts has one that is written as a float.
    fn has_fraction(&self, field: Field) -> bool {
        let (start, end) = self.fields[field as usize];
        self.page[start..end].iter().any(|c| matches!(c, b'.' | b'e' | b'E'))
    }

    /// The items of a list; an absent one has none.
    fn items(&self, field: Field) -> Result<Items<'a>, ParseError> {
        let (start, end) = self.fields[field as usize];
        let text = str::from_utf8(&self.page[start..end])
            .map_err(|_| self.error(start, "list is not valid UTF-8"))?
            .trim();
        if text.is_empty() {
            return Ok(Items { rest: None, at: start });
        }
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let inner = inner.ok_or_else(|| self.error(start, "expected a list in brackets"))?;
        Ok(Items { rest: Some(inner), at: start + 1 })
    }

    fn error(&self, at: usize, problem: impl Into<Problem>) -> ParseError {
        ParseError::in_text(self.page, at, problem)
    }
}

/// A native histogram but for its lists.
#[derive(Clone, Copy)]
pub(super) struct Native {
    schema: i32,
    count: f64,
    sum: f64,
    zero_threshold: f64,
    zero_count: f64,
    is_float: bool,
}

/// Spans with their buckets.
const SIDES: [(Field, Field); 2] =
    [(Field::PositiveSpans, Field::PositiveBuckets), (Field::NegativeSpans, Field::NegativeBuckets)];

fn span(item: &str) -> Option<Span> {
    let (offset, length) = item.split_once(':')?;
    let length = length.trim();
    // Go reads no sign here.
    let length = length.parse().ok().filter(|_| !length.starts_with('+'))?;
    Some(Span { offset: offset.trim().parse().ok()?, length })
}

fn integer(item: &str) -> Option<i64> {
    item.parse().ok()
}

fn float(item: &str) -> Result<f64, NumberError> {
    go_float::parse(item.as_bytes())
}

/// The items between brackets, without blanks around them, and where they start. Empty ones are passed over, as
/// Prometheus does.
#[derive(Clone, Copy)]
struct Items<'a> {
    rest: Option<&'a str>,
    at: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<(usize, &'a str)> {
        loop {
            let rest = self.rest?;
            let (item, after) = match rest.split_once(',') {
                Some((item, after)) => (item, Some(after)),
                None => (rest, None),
            };
            let at = self.at;
            self.at += item.len() + 1;
            self.rest = after;
            let trimmed = item.trim();
            if !trimmed.is_empty() {
                return Some((at, trimmed));
            }
        }
    }
}

/// A bound with its count, or a quantile with its value, and where it starts.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    at: usize,
    pub(super) bound: f64,
    pub(super) value: f64,
}

/// Classic buckets as bounds with counts, or quantiles with values, in growing order.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a> {
    items: Items<'a>,
    of_summary: bool,
    before: Option<f64>,
}

impl<'a> Pairs<'a> {
    pub(super) const fn none() -> Self {
        Self { items: Items { rest: None, at: 0 }, of_summary: false, before: None }
    }

    fn read(&mut self, item: &str) -> Result<(f64, f64), &'static str> {
        let number = |text: &str| go_float::parse(text.trim().as_bytes()).map_err(|_| "expected a number");
        if self.of_summary {
            let (quantile, value) = item.split_once(':').ok_or("expected a quantile, as in 0.5:1")?;
            let (value, quantile) = (number(value)?, number(quantile)?);
            if !(0.0..=1.0).contains(&quantile) {
                return Err("expected a quantile from 0 to 1");
            }
            if self.before.is_some_and(|before| quantile <= before) {
                return Err("quantiles must grow");
            }
            self.before = Some(quantile);
            return Ok((quantile, value));
        }
        let (bound, count) = item.rsplit_once(':').ok_or("expected a bucket, as in 0.5:1")?;
        let (count, bound) = (number(count)?, number(bound)?);
        if bound.is_nan() {
            return Err("expected a bound that is a number");
        }
        if self.before.is_some_and(|before| bound <= before) {
            return Err("bounds of buckets must grow");
        }
        self.before = Some(bound);
        Ok((bound, count))
    }
}

impl Iterator for Pairs<'_> {
    /// An error has its place.
    type Item = Result<Pair, (usize, &'static str)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (at, item) = self.items.next()?;
        let pair = self.read(item).map(|(bound, value)| Pair { at, bound, value });
        Some(pair.map_err(|problem| (at, problem)))
    }
}
