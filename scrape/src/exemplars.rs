//! Which exemplars are new.

use hashbrown::HashMap;
use promferry_exposition::{Exemplars, LabelBuffer};
use promferry_model::{ExemplarView, LabelsBuilder, SeriesId, TargetSink, Timestamp, hash_labels, label};

/// The last exemplar of each series that had one, so that a page which repeats it does not send it again
/// (Prometheus 3.16 `tsdb/exemplar.go` `validateExemplar`).
#[derive(Debug, Default)]
pub(crate) struct LastExemplars(HashMap<SeriesId, LastExemplar>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct LastExemplar {
    timestamp: Timestamp,
    /// The page gave the timestamp.
    timed: bool,
    content: u64,
}

/// What judging exemplars needs for the time of a page.
#[derive(Debug, Default)]
pub(crate) struct ExemplarBuffers {
    labels: LabelBuffer,
    builders: Vec<Candidate>,
    fresh: Vec<(SeriesId, LastExemplar)>,
}

#[derive(Debug)]
struct Candidate {
    timestamp: Timestamp,
    timed: bool,
    value: f64,
    labels: LabelsBuilder,
}

impl ExemplarBuffers {
    pub(crate) fn start(&mut self) {
        self.fresh.clear();
    }

    /// Passes on the exemplars of the sample that was just added, oldest first; says how many were left out. Those
    /// without a time have been observed at `at`; without that they are left out.
    pub(crate) fn add<T: TargetSink>(
        &mut self,
        mut exemplars: Exemplars<'_>,
        id: SeriesId,
        at: Option<Timestamp>,
        last: &LastExemplars,
        sink: &mut T,
    ) -> u64 {
        let mut left_out = 0;
        self.builders.clear();
        while let Some(sample) = exemplars.next(&mut self.labels) {
            let characters: usize =
                self.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
            let mut labels = LabelsBuilder::new();
            let unique = labels.reset_unsorted(self.labels.iter().map(|(name, value)| label(name, value)));
            let timestamp = sample.timestamp.or(at);
            let Some(timestamp) = timestamp.filter(|_| characters <= MAX_CHARACTERS && unique.is_ok()) else {
                left_out += 1;
                continue;
            };
            self.builders.push(Candidate {
                timestamp,
                timed: sample.timestamp.is_some(),
                value: sample.value,
                labels,
            });
        }
        self.builders.sort_by(|a, b| a.timestamp.cmp(&b.timestamp).then(a.value.total_cmp(&b.value)));
        let mut newest = last.0.get(&id).copied();
        for candidate in &self.builders {
            let Candidate { timestamp, timed, value, ref labels } = *candidate;
            let content = hash_labels(labels.as_slice(), value.to_bits());
            let is_new = newest.is_none_or(|last| {
                let same = content == last.content && (timestamp == last.timestamp || !(timed || last.timed));
                !same && timestamp >= last.timestamp
            });
            if is_new {
                sink.exemplar(&ExemplarView { labels: labels.as_slice(), value, timestamp });
                newest = Some(LastExemplar { timestamp, timed, content });
                self.fresh.extend(newest.map(|newest| (id, newest)));
            } else {
                left_out += 1;
            }
        }
        left_out
    }
}

impl LastExemplars {
    /// Remembers what a page that is passed on has added.
    pub(crate) fn commit(&mut self, page: &mut ExemplarBuffers) {
        self.0.extend(page.fresh.drain(..));
    }

    pub(crate) fn remove(&mut self, id: SeriesId) {
        self.0.remove(&id);
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.allocation_size()
    }
}

/// OpenMetrics' limit for an exemplar's label set.
const MAX_CHARACTERS: usize = 128;
