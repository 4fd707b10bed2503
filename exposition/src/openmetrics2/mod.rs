//! OpenMetrics 2.0 as Prometheus 3.16 reads its release candidate (`model/textparse/openmetrics2parse.go`).

use promferry_model::{Histogram, MetricType, Timestamp};

use crate::{Event, ExemplarSample, LabelBuffer, ParseError, ParseOptions, SeriesKey};

pub(crate) struct OpenMetrics2Parser<'a> {
    page: &'a [u8],
}

impl<'a> OpenMetrics2Parser<'a> {
    pub(crate) const fn new(page: &'a [u8], _options: ParseOptions) -> Self {
        Self { page }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Event<'_>>, ParseError> {
        Err(ParseError::in_text(self.page, 0, "OpenMetrics 2.0 is not read yet"))
    }

    pub(crate) const fn start(&self) -> Option<Timestamp> {
        None
    }

    pub(crate) const fn key(&self, seed: u64) -> SeriesKey {
        SeriesKey([seed, 0])
    }

    pub(crate) const fn series(&self) -> Option<&[u8]> {
        None
    }

    pub(crate) const fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }

    pub(crate) fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        labels.clear();
        Ok(())
    }

    /// The exemplar behind `next` earlier ones.
    pub(crate) const fn exemplar(
        &self,
        _next: &mut usize,
        _labels: &mut LabelBuffer,
    ) -> Option<ExemplarSample> {
        None
    }

    pub(crate) fn read_into(&self, _histogram: &mut Histogram) {}
}
