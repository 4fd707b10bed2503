//! A sink in memory that can be told to fail commits.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use promferry_model::{
    ExemplarView, Histogram, MemorySink, MemoryTargetSink, MetadataView, Receipt, Refused, Sample, SeriesId,
    SeriesView, Sink, SinkError, TargetInfo, TargetSink, Timestamp,
};

#[derive(Clone, Default)]
pub struct RefusingSink {
    pub memory: MemorySink,
    refuse: Arc<AtomicBool>,
}

impl RefusingSink {
    pub fn refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }
}

impl Sink for RefusingSink {
    type Target = RefusingTarget;

    fn open(&self, target: &TargetInfo) -> RefusingTarget {
        RefusingTarget { target: self.memory.open(target), refuse: Arc::clone(&self.refuse) }
    }
}

pub struct RefusingTarget {
    target: MemoryTargetSink,
    refuse: Arc<AtomicBool>,
}

impl TargetSink for RefusingTarget {
    type Commit = Ready<Result<Receipt, SinkError>>;

    fn generation(&self) -> u32 {
        self.target.generation()
    }

    fn admit(&mut self, series: &SeriesView<'_>) -> Result<SeriesId, Refused> {
        self.target.admit(series)
    }

    fn release(&mut self, id: SeriesId) {
        self.target.release(id);
    }

    fn metadata(&mut self, metadata: &MetadataView<'_>) {
        self.target.metadata(metadata);
    }

    fn begin(&mut self, at: Timestamp) {
        self.target.begin(at);
    }

    fn sample(&mut self, id: SeriesId, sample: Sample) {
        self.target.sample(id, sample);
    }

    fn histogram(&mut self, id: SeriesId, at: Timestamp, start: Option<Timestamp>, histogram: &Histogram) {
        self.target.histogram(id, at, start, histogram);
    }

    fn exemplar(&mut self, exemplar: &ExemplarView<'_>) {
        self.target.exemplar(exemplar);
    }

    fn abort(&mut self) {
        self.target.abort();
    }

    fn commit(&mut self) -> Self::Commit {
        if self.refuse.load(Ordering::SeqCst) {
            self.target.abort();
            return ready(Err(SinkError::Storage("told to".to_owned())));
        }
        self.target.commit()
    }
}
