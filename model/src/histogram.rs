/// The schema number of histograms whose bucket bounds are listed (NHCB); others are exponential, −4..=8.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A native histogram's value at one time (Prometheus `model/histogram`; remote-write 2.0 `Histogram`).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Histogram {
    /// How bucket bounds follow from indices: exponential with base 2^(2^−schema), or
    /// [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Observations within ± this value are in the zero bucket.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_f64"))]
    pub zero_threshold: f64,
    /// Sum of observations; the stale marker's bits end the series.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_f64"))]
    pub sum: f64,
    /// Counts as integers or as floats.
    pub counts: BucketCounts,
    /// Which positive bucket indices are present.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub positive_spans: Vec<Span>,
    /// Which negative bucket indices are present.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub negative_spans: Vec<Span>,
    /// Upper bounds of the buckets under [`CUSTOM_BUCKETS_SCHEMA`], without +Inf; empty otherwise.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::serde_f64::list")
    )]
    pub custom_values: Vec<f64>,
    /// Whether a decrease means a restart.
    #[cfg_attr(feature = "serde", serde(default))]
    pub reset_hint: ResetHint,
}

/// The counts of a [`Histogram`], of integer or of float kind.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "lowercase"))]
pub enum BucketCounts {
    /// Buckets as deltas: the first is a count, each further one the difference to the one before.
    Integer {
        /// All observations.
        count: u64,
        /// Observations in the zero bucket.
        zero_count: u64,
        /// Deltas of the positive buckets.
        #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
        positive: Vec<i64>,
        /// Deltas of the negative buckets.
        #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
        negative: Vec<i64>,
    },
    /// Buckets as absolute counts.
    Float {
        /// All observations.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_f64"))]
        count: f64,
        /// Observations in the zero bucket.
        #[cfg_attr(feature = "serde", serde(with = "crate::serde_f64"))]
        zero_count: f64,
        /// Counts of the positive buckets.
        #[cfg_attr(
            feature = "serde",
            serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::serde_f64::list")
        )]
        positive: Vec<f64>,
        /// Counts of the negative buckets.
        #[cfg_attr(
            feature = "serde",
            serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::serde_f64::list")
        )]
        negative: Vec<f64>,
    },
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Span {
    /// For the first span the index of its first bucket, for others the gap to the span before.
    pub offset: i32,
    /// How many buckets follow each other.
    pub length: u32,
}

/// What is known about counter resets (remote-write 2.0 `Histogram.ResetHint`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum ResetHint {
    /// Nothing: the reader has to look.
    #[default]
    Unknown,
    /// There was a reset before this value.
    Yes,
    /// There was none.
    No,
    /// It is a gauge histogram, where a decrease is no reset.
    Gauge,
}

/// Why a [`Histogram`] contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistogramError {
    /// Spans promise another number of buckets than there are.
    #[error("{side} side: spans need {needed} buckets, have {have} buckets")]
    SpansBucketsMismatch {
        /// `positive` or `negative`.
        side: &'static str,
        /// Buckets that the spans promise.
        needed: u64,
        /// Buckets that are there.
        have: usize,
    },
    /// A schema that no bucket layout belongs to.
    #[error("histogram schema {schema} is not among -4..=52 and not {CUSTOM_BUCKETS_SCHEMA}")]
    Schema {
        /// The schema.
        schema: i32,
    },
    /// A span after the first goes back.
    #[error("{side} side: span number {at} has a negative offset {offset}")]
    NegativeSpanOffset {
        /// `positive` or `negative`.
        side: &'static str,
        /// Which span, counted from 1.
        at: usize,
        /// Its offset.
        offset: i32,
    },
    /// A span reaches a bucket whose index 32 bits cannot hold.
    #[error("{side} side: span number {at} reaches bucket index {index}, which is out of range")]
    SpanIndexOutOfRange {
        /// `positive` or `negative`.
        side: &'static str,
        /// Which span, counted from 1.
        at: usize,
        /// The index.
        index: i64,
    },
    /// A schema that is known and that nothing stores: exponential beyond −4..=8.
    #[error("histogram schema {schema} is not among -4..=8 and not {CUSTOM_BUCKETS_SCHEMA}")]
    UnstorableSchema {
        /// The schema.
        schema: i32,
    },
    /// A bucket has less than no observations.
    #[error("{side} side: bucket number {at} has a negative count")]
    NegativeBucketCount {
        /// `positive` or `negative`.
        side: &'static str,
        /// Which of the buckets that are present, counted from 1.
        at: usize,
    },
    /// The histogram or its zero bucket has less than no observations.
    #[error("count or zero count is negative")]
    NegativeCount,
    /// The buckets of an integer histogram hold another number of observations than its count says.
    #[error("{in_buckets} observations found in buckets, but the count is {count}")]
    CountMismatch {
        /// Observations in all buckets.
        in_buckets: u64,
        /// The histogram's count.
        count: u64,
    },
    /// Custom bounds that are not numbers growing from one to the next below +Inf.
    #[error("custom bound number {at} is {bound}, bounds must increase and end below +Inf")]
    CustomBounds {
        /// Which bound, counted from 1.
        at: usize,
        /// The bound, as text.
        bound: String,
    },
    /// There are more custom buckets than bounds make.
    #[error("{bounds} custom bounds are too few for {needed} buckets")]
    TooFewCustomBounds {
        /// Bounds that are there.
        bounds: usize,
        /// Buckets up to the last one that a span reaches.
        needed: u64,
    },
    /// Custom buckets beside a zero bucket or negative buckets.
    #[error("a histogram of custom buckets has no zero bucket and no negative buckets")]
    NotCustom,
    /// Custom bounds beside exponential buckets.
    #[error("a histogram of exponential buckets has no custom bounds")]
    UnexpectedCustomBounds,
}

impl Histogram {
    /// The value that ends a native-histogram series.
    pub fn stale() -> Self {
        Self {
            schema: 0,
            zero_threshold: 0.0,
            sum: f64::from_bits(crate::STALE_NAN_BITS),
            counts: BucketCounts::Integer {
                count: 0,
                zero_count: 0,
                positive: Vec::new(),
                negative: Vec::new(),
            },
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            custom_values: Vec::new(),
            reset_hint: ResetHint::Unknown,
        }
    }

    /// Checks that the schema is one of Prometheus' (exponential ones are reserved up to 52) and that spans
    /// and buckets agree.
    ///
    /// # Errors
    /// [`HistogramError`] names what is wrong.
    pub fn check(&self) -> Result<(), HistogramError> {
        if !(-4..=52).contains(&self.schema) && self.schema != CUSTOM_BUCKETS_SCHEMA {
            return Err(HistogramError::Schema { schema: self.schema });
        }
        self.check_spans()
    }

    /// Checks that spans and buckets agree.
    ///
    /// # Errors
    /// [`HistogramError`] names the side and what disagrees.
    pub fn check_spans(&self) -> Result<(), HistogramError> {
        let (positive, negative) = match &self.counts {
            BucketCounts::Integer { positive, negative, .. } => (positive.len(), negative.len()),
            BucketCounts::Float { positive, negative, .. } => (positive.len(), negative.len()),
        };
        check_side("positive", &self.positive_spans, positive)?;
        check_side("negative", &self.negative_spans, negative)
    }

    /// Checks all that Prometheus checks before it stores a histogram (3.16 `model/histogram` `Validate`): beside
    /// [`check`](Self::check) that no count is negative, that an integer histogram's buckets add up to its count
    /// (to no more than that if the sum is not a number, as such observations are in no bucket), and the rules of
    /// [`CUSTOM_BUCKETS_SCHEMA`]. The counts of a float histogram need not add up.
    ///
    /// # Errors
    /// [`HistogramError`] names the first rule that is broken.
    pub fn validate(&self) -> Result<(), HistogramError> {
        match self.schema {
            CUSTOM_BUCKETS_SCHEMA => self.validate_custom_buckets()?,
            -4..=8 => {
                self.check_spans()?;
                check_indices("positive", &self.positive_spans)?;
                check_indices("negative", &self.negative_spans)?;
                if !self.custom_values.is_empty() {
                    return Err(HistogramError::UnexpectedCustomBounds);
                }
            }
            schema => return Err(HistogramError::UnstorableSchema { schema }),
        }
        match &self.counts {
            BucketCounts::Integer { count, zero_count, positive, negative } => {
                let in_buckets = observations("negative", negative)?
                    .wrapping_add(observations("positive", positive)?)
                    .wrapping_add(*zero_count);
                if in_buckets > *count || (in_buckets != *count && !self.sum.is_nan()) {
                    return Err(HistogramError::CountMismatch { in_buckets, count: *count });
                }
                Ok(())
            }
            BucketCounts::Float { count, zero_count, positive, negative } => {
                if *count < 0.0 || *zero_count < 0.0 {
                    return Err(HistogramError::NegativeCount);
                }
                for (side, counts) in [("negative", negative), ("positive", positive)] {
                    if let Some(at) = counts.iter().position(|count| *count < 0.0) {
                        return Err(HistogramError::NegativeBucketCount { side, at: at + 1 });
                    }
                }
                Ok(())
            }
        }
    }

    fn validate_custom_buckets(&self) -> Result<(), HistogramError> {
        let bounds = &self.custom_values;
        let is_out_of_place = |at: usize| {
            let bound = bounds[at];
            bound.is_nan() || bound == f64::INFINITY || (at > 0 && bound <= bounds[at - 1])
        };
        if let Some(at) = (0..bounds.len()).find(|&at| is_out_of_place(at)) {
            return Err(HistogramError::CustomBounds { at: at + 1, bound: bounds[at].to_string() });
        }
        self.check_spans()?;
        if let Some(first) = self.positive_spans.first().filter(|span| span.offset < 0) {
            return Err(HistogramError::NegativeSpanOffset { side: "positive", at: 1, offset: first.offset });
        }
        let needed = end_index(&self.positive_spans) as u64;
        if needed > bounds.len() as u64 + 1 {
            return Err(HistogramError::TooFewCustomBounds { bounds: bounds.len(), needed });
        }
        let has_zero_count = match &self.counts {
            BucketCounts::Integer { zero_count, .. } => *zero_count != 0,
            BucketCounts::Float { zero_count, .. } => *zero_count != 0.0,
        };
        if has_zero_count || self.zero_threshold != 0.0 || !self.negative_spans.is_empty() {
            return Err(HistogramError::NotCustom);
        }
        Ok(())
    }

    /// How many buckets are present on both sides.
    pub fn bucket_count(&self) -> usize {
        match &self.counts {
            BucketCounts::Integer { positive, negative, .. } => positive.len() + negative.len(),
            BucketCounts::Float { positive, negative, .. } => positive.len() + negative.len(),
        }
    }
}

fn check_side(side: &'static str, spans: &[Span], have: usize) -> Result<(), HistogramError> {
    if let Some((at, span)) = spans.iter().enumerate().skip(1).find(|(_, span)| span.offset < 0) {
        return Err(HistogramError::NegativeSpanOffset { side, at: at + 1, offset: span.offset });
    }
    let needed: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if needed == have as u64 {
        Ok(())
    } else {
        Err(HistogramError::SpansBucketsMismatch { side, needed, have })
    }
}

/// That every bucket's index fits 32 bits.
fn check_indices(side: &'static str, spans: &[Span]) -> Result<(), HistogramError> {
    if let Some(Span { offset: i32::MIN, .. }) = spans.first() {
        return Err(HistogramError::SpanIndexOutOfRange { side, at: 1, index: i32::MIN.into() });
    }
    let mut end = 0;
    for (number, span) in spans.iter().enumerate() {
        end += end_index(std::slice::from_ref(span));
        if end - 1 > i64::from(i32::MAX) {
            return Err(HistogramError::SpanIndexOutOfRange { side, at: number + 1, index: end - 1 });
        }
    }
    Ok(())
}

/// The index behind the last bucket.
fn end_index(spans: &[Span]) -> i64 {
    spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum()
}

/// How many observations these deltas hold, modulo 2^64 as Prometheus counts them.
fn observations(side: &'static str, deltas: &[i64]) -> Result<u64, HistogramError> {
    let (mut count, mut sum) = (0_i64, 0_u64);
    for (number, delta) in deltas.iter().enumerate() {
        count = count.wrapping_add(*delta);
        if count < 0 {
            return Err(HistogramError::NegativeBucketCount { side, at: number + 1 });
        }
        sum = sum.wrapping_add(count as u64);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_storage_takes_is_named() {
        let valid = Histogram {
            schema: 3,
            sum: 2.5,
            counts: BucketCounts::Integer {
                count: 7,
                zero_count: 1,
                positive: vec![1, 1],
                negative: vec![3],
            },
            positive_spans: vec![Span { offset: -5, length: 1 }, Span { offset: 2, length: 1 }],
            negative_spans: vec![Span { offset: 0, length: 1 }],
            ..Histogram::stale()
        };
        let counts = |positive: &[f64], count, zero_count| BucketCounts::Float {
            count,
            zero_count,
            positive: positive.to_vec(),
            negative: vec![0.0],
        };
        let custom = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            counts: BucketCounts::Integer { count: 3, zero_count: 0, positive: vec![1, 1], negative: vec![] },
            positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }],
            negative_spans: Vec::new(),
            custom_values: vec![f64::NEG_INFINITY, 2.0],
            sum: valid.sum,
            ..Histogram::stale()
        };
        let with_count = |count| {
            let mut with = valid.clone();
            if let BucketCounts::Integer { count: c, .. } = &mut with.counts {
                *c = count;
            }
            with
        };
        let cases = [
            (valid.clone(), None),
            (custom.clone(), None),
            (Histogram { counts: counts(&[0.5, f64::NAN], f64::NAN, 0.0), ..valid.clone() }, None),
            (Histogram { counts: counts(&[0.5, 1.0], 99.0, 0.0), ..valid.clone() }, None),
            (Histogram { schema: 9, ..valid.clone() }, Some(HistogramError::UnstorableSchema { schema: 9 })),
            (with_count(8), Some(HistogramError::CountMismatch { in_buckets: 7, count: 8 })),
            (Histogram { sum: f64::NAN, ..with_count(8) }, None),
            (
                Histogram { sum: f64::NAN, ..with_count(6) },
                Some(HistogramError::CountMismatch { in_buckets: 7, count: 6 }),
            ),
            (
                Histogram {
                    counts: BucketCounts::Integer {
                        count: 7,
                        zero_count: 1,
                        positive: vec![1, -2],
                        negative: vec![3],
                    },
                    ..valid.clone()
                },
                Some(HistogramError::NegativeBucketCount { side: "positive", at: 2 }),
            ),
            (
                Histogram { counts: counts(&[0.0, -0.5], 1.0, 0.0), ..valid.clone() },
                Some(HistogramError::NegativeBucketCount { side: "positive", at: 2 }),
            ),
            (
                Histogram { counts: counts(&[0.0, 0.0], -1.0, 0.0), ..valid.clone() },
                Some(HistogramError::NegativeCount),
            ),
            (
                Histogram { counts: counts(&[0.0, 0.0], 1.0, -1.0), ..valid.clone() },
                Some(HistogramError::NegativeCount),
            ),
            (
                Histogram { custom_values: vec![1.0], ..valid.clone() },
                Some(HistogramError::UnexpectedCustomBounds),
            ),
            (
                Histogram {
                    positive_spans: vec![Span { offset: i32::MAX, length: 1 }, Span { offset: 0, length: 1 }],
                    ..valid.clone()
                },
                Some(HistogramError::SpanIndexOutOfRange { side: "positive", at: 2, index: 1 << 31 }),
            ),
            (
                Histogram { negative_spans: vec![Span { offset: i32::MIN, length: 1 }], ..valid.clone() },
                Some(HistogramError::SpanIndexOutOfRange { side: "negative", at: 1, index: i32::MIN.into() }),
            ),
            (
                Histogram { custom_values: vec![2.0, 2.0], ..custom.clone() },
                Some(HistogramError::CustomBounds { at: 2, bound: "2".to_owned() }),
            ),
            (
                Histogram { custom_values: vec![2.0, f64::INFINITY], ..custom.clone() },
                Some(HistogramError::CustomBounds { at: 2, bound: "inf".to_owned() }),
            ),
            (
                Histogram { custom_values: vec![2.0], ..custom.clone() },
                Some(HistogramError::TooFewCustomBounds { bounds: 1, needed: 3 }),
            ),
            (
                Histogram {
                    positive_spans: vec![Span { offset: -1, length: 1 }, Span { offset: 1, length: 1 }],
                    ..custom.clone()
                },
                Some(HistogramError::NegativeSpanOffset { side: "positive", at: 1, offset: -1 }),
            ),
            (Histogram { zero_threshold: 1e-9, ..custom.clone() }, Some(HistogramError::NotCustom)),
            (
                Histogram { negative_spans: vec![Span { offset: 0, length: 0 }], ..custom },
                Some(HistogramError::NotCustom),
            ),
        ];
        for (number, (histogram, expected)) in cases.into_iter().enumerate() {
            assert_eq!(histogram.validate().err(), expected, "case {number}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_named() {
        let with = |schema, spans: &[(i32, u32)], buckets: usize| {
            let spans = spans.iter().map(|&(offset, length)| Span { offset, length }).collect();
            let counts = BucketCounts::Integer {
                count: 0,
                zero_count: 0,
                positive: vec![0; buckets],
                negative: Vec::new(),
            };
            Histogram { schema, counts, positive_spans: spans, ..Histogram::stale() }.check()
        };
        assert_eq!(with(3, &[(-5, 1), (2, 1)], 2), Ok(()));
        assert_eq!(with(CUSTOM_BUCKETS_SCHEMA, &[(0, 2)], 2), Ok(()));
        assert_eq!(with(i32::MAX, &[], 0), Err(HistogramError::Schema { schema: i32::MAX }));
        assert_eq!(with(-5, &[], 0), Err(HistogramError::Schema { schema: -5 }));
        let gap = HistogramError::NegativeSpanOffset { side: "positive", at: 2, offset: -1 };
        assert_eq!(with(0, &[(0, 1), (-1, 1)], 2), Err(gap));
        let mismatch = HistogramError::SpansBucketsMismatch { side: "positive", needed: 3, have: 2 };
        assert_eq!(with(0, &[(0, 3)], 2), Err(mismatch));
    }
}
