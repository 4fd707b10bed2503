//! A sink that numbers series and forgets everything else: what is measured with it is scraping alone.

use std::collections::HashMap;
use std::future::{Ready, ready};

use promferry_model::{
    ExemplarView, Histogram, MetadataView, Receipt, Refused, Sample, SeriesId, SeriesView, Sink, SinkError,
    TargetInfo, TargetSink, Timestamp, hash_labels,
};

#[derive(Clone, Default)]
pub struct NullSink;

impl Sink for NullSink {
    type Target = NullTarget;

    fn open(&self, _: &TargetInfo) -> NullTarget {
        NullTarget::default()
    }
}

#[derive(Default)]
pub struct NullTarget {
    ids: HashMap<u64, u32>,
    sum: f64,
}

impl TargetSink for NullTarget {
    type Commit = Ready<Result<Receipt, SinkError>>;

    fn generation(&self) -> u32 {
        0
    }

    fn admit(&mut self, series: &SeriesView<'_>) -> Result<SeriesId, Refused> {
        let next = self.ids.len() as u32;
        Ok(SeriesId::new(*self.ids.entry(hash_labels(series.labels, 1)).or_insert(next)))
    }

    fn release(&mut self, _: SeriesId) {}

    fn metadata(&mut self, _: &MetadataView<'_>) {}

    fn begin(&mut self, _: Timestamp) {}

    fn sample(&mut self, _: SeriesId, sample: Sample) {
        self.sum += sample.value;
    }

    fn histogram(&mut self, _: SeriesId, _: Timestamp, _: Option<Timestamp>, _: &Histogram) {}

    fn exemplar(&mut self, _: &ExemplarView<'_>) {}

    fn abort(&mut self) {}

    fn commit(&mut self) -> Self::Commit {
        ready(Ok(Receipt::default()))
    }
}
