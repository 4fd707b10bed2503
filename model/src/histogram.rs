/// The schema number of histograms whose bucket bounds are listed (NHCB); others are exponential, −4..=8.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A native histogram's value at one time (Prometheus `model/histogram`; remote-write 2.0 `Histogram`).
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// How bucket bounds follow from indices: exponential with base 2^(2^−schema), or
    /// [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Observations within ± this value are in the zero bucket.
    pub zero_threshold: f64,
    /// Sum of observations; the stale marker's bits end the series.
    pub sum: f64,
    /// Counts as integers or as floats.
    pub counts: BucketCounts,
    /// Which positive bucket indices are present.
    pub positive_spans: Vec<Span>,
    /// Which negative bucket indices are present.
    pub negative_spans: Vec<Span>,
    /// Upper bounds of the buckets under [`CUSTOM_BUCKETS_SCHEMA`], without +Inf; empty otherwise.
    pub custom_values: Vec<f64>,
    /// Whether a decrease means a restart.
    pub reset_hint: ResetHint,
}

/// The counts of a [`Histogram`], of integer or of float kind.
#[derive(Clone, Debug, PartialEq)]
pub enum BucketCounts {
    /// Buckets as deltas: the first is a count, each further one the difference to the one before.
    Integer {
        /// All observations.
        count: u64,
        /// Observations in the zero bucket.
        zero_count: u64,
        /// Deltas of the positive buckets.
        positive: Vec<i64>,
        /// Deltas of the negative buckets.
        negative: Vec<i64>,
    },
    /// Buckets as absolute counts.
    Float {
        /// All observations.
        count: f64,
        /// Observations in the zero bucket.
        zero_count: f64,
        /// Counts of the positive buckets.
        positive: Vec<f64>,
        /// Counts of the negative buckets.
        negative: Vec<f64>,
    },
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// For the first span the index of its first bucket, for others the gap to the span before.
    pub offset: i32,
    /// How many buckets follow each other.
    pub length: u32,
}

/// What is known about counter resets (remote-write 2.0 `Histogram.ResetHint`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    use super::*;

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
