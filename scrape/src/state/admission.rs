//! The cold path: what becomes of a line that is not known.

use promferry_exposition::{HistogramEvent, LabelBuffer, ParseError, SeriesEvent};
use promferry_model::{
    METRIC_NAME, Refused, SeriesContext, SeriesId, SeriesView, TargetSink, Verdict, label,
};

use super::{PageCounts, TargetState};
use crate::cache::{Key, Outcome, SeriesCache};
use crate::scratch::Scratch;
use crate::stages::LABEL_LIMITS;
use crate::{Job, ScrapeError};

/// A line whose series can be split into labels.
pub(super) trait Line {
    fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError>;
}

impl Line for SeriesEvent<'_> {
    fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        SeriesEvent::labels(self, labels)
    }
}

impl Line for HistogramEvent<'_> {
    fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        HistogramEvent::labels(self, labels)
    }
}

/// What the cold path decided.
pub(super) enum Admission {
    /// It is this series.
    Series(SeriesId),
    /// Metric relabelling drops it.
    Dropped,
    /// It cannot be taken now.
    Refused,
    /// `sample_limit` is reached already: it is counted and not admitted.
    OverLimit,
}

impl<T: TargetSink> TargetState<T> {
    #[cold]
    pub(super) fn admit(
        &mut self,
        job: &Job,
        scratch: &mut Scratch,
        counts: &mut PageCounts,
        key: Key,
        line: &impl Line,
        over_limit: bool,
    ) -> Result<Admission, ScrapeError> {
        line.labels(&mut scratch.labels)?;
        if !self.relabel(job, scratch)? {
            if self.reserve_line(scratch).is_ok() {
                scratch.walk.insert(key, Outcome::DROPPED);
            }
            return Ok(Admission::Dropped);
        }
        if over_limit {
            return Ok(Admission::OverLimit);
        }
        let admitted = match self.reserve_line(scratch) {
            Err(refused) => Err(refused),
            Ok(()) => {
                let labels = scratch.builder.as_slice();
                let metadata = scratch.family.metadata_of(scratch.builder.get(METRIC_NAME));
                self.sink.admit(&SeriesView { labels, metadata })
            }
        };
        let numbered = admitted.and_then(|id| Ok((id, Outcome::series(id).ok_or(Refused::TooMany)?)));
        match numbered {
            Ok((id, outcome)) => {
                scratch.walk.insert(key, outcome);
                Ok(Admission::Series(id))
            }
            Err(reason) => {
                let labels = &scratch.builder;
                scratch.refused.get_or_insert_with(|| format!("{labels}: {reason}"));
                counts.refused.count(&reason);
                Ok(Admission::Refused)
            }
        }
    }

    /// Sends the labels of a line through the job's stages; `false` when the line is dropped.
    fn relabel(&self, job: &Job, scratch: &mut Scratch) -> Result<bool, ScrapeError> {
        let Scratch { labels: read, builder: labels, family, .. } = scratch;
        let own = read.iter().map(|(name, value)| label(name, value));
        labels.reset_unsorted(own).map_err(|duplicate| ScrapeError::Series {
            reason: format!("{duplicate} (metric: {:?})", read.metric_name()),
        })?;
        let context =
            SeriesContext { target: &self.labels, metadata: family.metadata_of(read.metric_name()) };
        for (at, stage) in job.stages().iter().enumerate() {
            match stage.apply(labels, &context) {
                Verdict::Keep => {}
                Verdict::Drop => return Ok(false),
                Verdict::FailScrape(reason) if stage.name() == LABEL_LIMITS => {
                    return Err(ScrapeError::LabelLimits { reason });
                }
                Verdict::FailScrape(reason) => return Err(ScrapeError::Series { reason }),
            }
            if at == 0 && job.config.honor_labels {
                // The page honours a label by saying that it is empty: the target's is not added
                // (`labels.Labels.Has` in Prometheus). Empty labels are gone from the builder by now.
                for (name, _) in read.iter().filter(|(_, value)| value.is_empty()) {
                    labels.remove(name);
                }
            }
            if labels.as_slice().is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Accounts for one more line: its place in the cache and, until the page is accepted, in the order that
    /// the page has. Lines are reserved a few hundred at a time.
    fn reserve_line(&mut self, scratch: &Scratch) -> Result<(), Refused> {
        let lines = self.cache.len().max(scratch.walk.len()) + 1;
        let needed = lines * LINE_BYTES + scratch.walk.tail_bytes();
        if needed <= self.memory.bytes() {
            return Ok(());
        }
        let ahead = needed + RESERVED_LINES * LINE_BYTES;
        self.memory.grow_to(ahead).or_else(|_| self.memory.grow_to(needed)).map_err(|_| Refused::OverBudget)
    }
}

/// An entry and its bits.
const LINE_BYTES: usize = SeriesCache::ENTRY_BYTES + 1;
const RESERVED_LINES: usize = 256;
