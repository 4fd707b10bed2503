//! The rules of OpenMetrics 1.0 for values and histograms, which hold for what is read as for what is to be written.

use promferry_model::MetricType;

use crate::family::Suffix;

/// Code points that the names and values of an exemplar's labels may have together.
pub(crate) const MAX_EXEMPLAR_CHARS: usize = 128;

/// Says what is wrong with the value of a sample with this suffix.
pub(crate) fn judge_value(metric_type: MetricType, suffix: Suffix, value: f64) -> Result<(), &'static str> {
    Err(match suffix {
        Suffix::Total | Suffix::Sum | Suffix::Bucket | Suffix::Count | Suffix::GaugeCount
            if value.is_nan() =>
        {
            "expected a number, not NaN"
        }
        Suffix::Total | Suffix::Sum | Suffix::Bucket | Suffix::Count | Suffix::GaugeCount if value < 0.0 => {
            "expected a value that is not negative"
        }
        // Infinity has no fraction either, and is no count.
        Suffix::Bucket | Suffix::Count | Suffix::GaugeCount
            if value.fract() != 0.0 || value.is_infinite() =>
        {
            "expected an integer"
        }
        Suffix::GaugeSum if value.is_nan() => "expected a number, not NaN",
        Suffix::Info if value != 1.0 => "the value of an info is 1",
        Suffix::None if metric_type == MetricType::StateSet && value != 0.0 && value != 1.0 => {
            "the value of a state is 0 or 1"
        }
        Suffix::None if metric_type == MetricType::Summary && value < 0.0 => {
            "expected a quantile's value that is not negative"
        }
        _ => return Ok(()),
    })
}

/// What the buckets of one histogram at one time have to have with each other, and with its count and sum.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HistogramRules {
    /// The bound and count of the last bucket.
    last: Option<(f64, f64)>,
    first_bound_is_negative: bool,
}

impl HistogramRules {
    /// Whether there was no bucket yet.
    pub(crate) const fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// The next bucket.
    pub(crate) fn add(&mut self, bound: f64, count: f64) -> Result<(), HistogramFault> {
        match self.last {
            None => self.first_bound_is_negative = bound < 0.0,
            Some((before, _)) if bound <= before => return Err(HistogramFault::BoundsDoNotRise),
            Some((_, before)) if count < before => return Err(HistogramFault::CountsFall),
            Some(_) => {}
        }
        self.last = Some((bound, count));
        Ok(())
    }

    /// There are no more buckets.
    pub(crate) fn close(
        &self,
        metric_type: MetricType,
        count: Option<f64>,
        sum: Option<f64>,
    ) -> Result<(), HistogramFault> {
        let Some((f64::INFINITY, highest)) = self.last else {
            return Err(HistogramFault::NoInfinityBucket);
        };
        let is_gauge = metric_type == MetricType::GaugeHistogram;
        Err(match (count, sum) {
            (Some(_), None) => HistogramFault::CountWithoutSum,
            (None, Some(_)) => HistogramFault::SumWithoutCount,
            (Some(count), Some(_)) if count != highest => HistogramFault::CountDiffers,
            (Some(_), Some(_)) if !is_gauge && self.first_bound_is_negative => HistogramFault::SumForbidden,
            (Some(_), Some(sum)) if is_gauge && sum < 0.0 && !self.first_bound_is_negative => {
                HistogramFault::NegativeSum
            }
            _ => return Ok(()),
        })
    }
}

/// How a histogram breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistogramFault {
    BoundsDoNotRise,
    CountsFall,
    NoInfinityBucket,
    CountWithoutSum,
    SumWithoutCount,
    CountDiffers,
    SumForbidden,
    NegativeSum,
}

impl HistogramFault {
    pub(crate) const fn problem(self) -> &'static str {
        match self {
            Self::BoundsDoNotRise => "the bounds of a histogram's buckets do not rise",
            Self::CountsFall => "the counts of a histogram's buckets fall",
            Self::NoInfinityBucket => "a histogram without the bucket +Inf at the end of its buckets",
            Self::CountWithoutSum => "a histogram's count without a sum",
            Self::SumWithoutCount => "a histogram's sum without a count",
            Self::CountDiffers => "the count differs from that of the bucket +Inf",
            Self::SumForbidden => "a sum although a bucket has a negative bound",
            Self::NegativeSum => "a negative sum although no bucket has a negative bound",
        }
    }
}
