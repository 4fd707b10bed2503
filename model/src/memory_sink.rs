use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{
    Exemplar, ExemplarView, Histogram, Labels, LabelsBuilder, Metadata, MetadataView, Receipt, Refused,
    Sample, SeriesId, SeriesView, Sink, SinkError, TargetInfo, TargetSink, Timestamp,
};

/// A [`Sink`] that keeps everything in memory, for tests and examples. Clones share what they keep.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    appended: Vec<Appended>,
    metadata: BTreeMap<String, Metadata>,
    generation: u32,
    refuse_new: bool,
}

/// One thing that a [`MemorySink`] was given and that was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended {
    /// The series' labels.
    pub labels: Labels,
    /// The family's metadata as the series was admitted.
    pub metadata: Metadata,
    /// The sample; of a histogram its timestamp, start and sum.
    pub sample: Sample,
    /// The native histogram, if it is one.
    pub histogram: Option<Histogram>,
    /// Its exemplars.
    pub exemplars: Vec<Exemplar>,
}

impl MemorySink {
    /// A sink without contents.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything committed so far, in order.
    pub fn appended(&self) -> Vec<Appended> {
        self.with(|state| state.appended.clone())
    }

    /// Takes out everything committed so far.
    pub fn take(&self) -> Vec<Appended> {
        self.with(|state| std::mem::take(&mut state.appended))
    }

    /// What was told about the family `name`.
    pub fn metadata(&self, name: &str) -> Option<Metadata> {
        self.with(|state| state.metadata.get(name).cloned())
    }

    /// Makes every series be admitted anew, as a changed configuration does.
    pub fn advance_generation(&self) {
        self.with(|state| state.generation += 1);
    }

    /// Refuses series that are not known yet, as an exhausted memory budget does.
    pub fn refuse_new(&self, refuse: bool) {
        self.with(|state| state.refuse_new = refuse);
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for MemorySink {
    type Target = MemoryTargetSink;

    fn open(&self, _target: &TargetInfo) -> MemoryTargetSink {
        MemoryTargetSink { sink: self.clone(), series: Vec::new(), free: Vec::new(), pending: Vec::new() }
    }
}

/// The [`TargetSink`] of a [`MemorySink`].
#[derive(Debug)]
pub struct MemoryTargetSink {
    sink: MemorySink,
    series: Vec<Option<(Labels, Metadata)>>,
    free: Vec<usize>,
    pending: Vec<Appended>,
}

impl MemoryTargetSink {
    /// How many series are admitted and not released.
    pub fn series(&self) -> usize {
        self.series.len() - self.free.len()
    }

    fn push(&mut self, id: SeriesId, sample: Sample, histogram: Option<Histogram>) {
        if let Some(Some((labels, metadata))) = self.series.get(id.index()) {
            let (labels, metadata) = (labels.clone(), metadata.clone());
            self.pending.push(Appended { labels, metadata, sample, histogram, exemplars: Vec::new() });
        }
    }
}

impl TargetSink for MemoryTargetSink {
    type Commit = Ready<Result<Receipt, SinkError>>;

    fn generation(&self) -> u32 {
        self.sink.with(|state| state.generation)
    }

    fn admit(&mut self, series: &SeriesView<'_>) -> Result<SeriesId, Refused> {
        let mut builder = LabelsBuilder::new();
        builder.reset(series.labels);
        let admitted = (builder.to_labels(), Metadata::from(series.metadata));
        if let Some(at) =
            self.series.iter().position(|known| known.as_ref().is_some_and(|k| k.0 == admitted.0))
        {
            self.series[at] = Some(admitted);
            return Ok(SeriesId::new(at as u32));
        }
        if self.sink.with(|state| state.refuse_new) {
            return Err(Refused::OverBudget);
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.series.push(None);
            self.series.len() - 1
        });
        self.series[at] = Some(admitted);
        Ok(SeriesId::new(at as u32))
    }

    fn release(&mut self, id: SeriesId) {
        if self.series.get_mut(id.index()).and_then(Option::take).is_some() {
            self.free.push(id.index());
        }
    }

    fn metadata(&mut self, metadata: &MetadataView<'_>) {
        self.sink.with(|state| state.metadata.insert(metadata.family.to_owned(), (*metadata).into()));
    }

    fn begin(&mut self, _at: Timestamp) {
        self.pending.clear();
    }

    fn sample(&mut self, id: SeriesId, sample: Sample) {
        self.push(id, sample, None);
    }

    fn histogram(
        &mut self,
        id: SeriesId,
        timestamp: Timestamp,
        start: Option<Timestamp>,
        histogram: &Histogram,
    ) {
        self.push(id, Sample { timestamp, value: histogram.sum, start }, Some(histogram.clone()));
    }

    fn exemplar(&mut self, exemplar: &ExemplarView<'_>) {
        let mut labels = LabelsBuilder::new();
        labels.reset(exemplar.labels);
        if let Some(last) = self.pending.last_mut() {
            let (value, timestamp) = (exemplar.value, exemplar.timestamp);
            last.exemplars.push(Exemplar { labels: labels.to_labels(), value, timestamp });
        }
    }

    fn abort(&mut self) {
        self.pending.clear();
    }

    fn commit(&mut self) -> Self::Commit {
        let pending = std::mem::take(&mut self.pending);
        let samples = pending.len() as u64;
        self.sink.with(|state| state.appended.extend(pending));
        ready(Ok(Receipt::new(samples, 0, Duration::ZERO)))
    }
}
