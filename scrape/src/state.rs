//! What is known about one target from scrape to scrape.

mod admission;
mod page;

use hashbrown::HashMap;
use promferry_model::{
    Histogram, Labels, MemoryBudget, Purpose, Sample, SeriesId, Sink, TargetInfo, TargetSink, Timestamp,
};
use smol_str::SmolStr;

use crate::bits::SeriesSet;
use crate::cache::SeriesCache;
use crate::cpu::Held;
use crate::exemplars::LastExemplars;
use crate::report::{Report, ReportSeries};
use crate::scratch::Scratch;
use crate::{Job, Target};

pub(crate) use page::PageInput;

/// One target's way into the sink with all that is remembered about its series.
///
/// It is owned by the target's loop and moves into a CPU section and back.
#[derive(Debug)]
pub(crate) struct TargetState<T> {
    sink: T,
    labels: Labels,
    /// Keys are hashed under it, so that nobody can choose lines that collide.
    seed: u64,
    generation: u32,
    cache: SeriesCache,
    /// Series that the sink knows because of the last page.
    held: SeriesSet,
    /// Series whose last committed sample was no marker and that get one when they end.
    live: SeriesSet,
    /// Series whose last sample was a native histogram.
    native: SeriesSet,
    /// The timestamp of the last scrape whose page was taken.
    last_at: Timestamp,
    /// The last timestamp of each series that the page gives timestamps or once gave.
    timestamps: HashMap<SeriesId, Timestamp>,
    exemplars: LastExemplars,
    /// Families whose metadata the sink was told: name → content, both hashed.
    families: HashMap<u64, u64>,
    report: ReportSeries,
    memory: Held,
}

/// What reading one page came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageCounts {
    pub(crate) scraped: u64,
    pub(crate) post_metric_relabeling: u64,
    pub(crate) series_added: u64,
    pub(crate) duplicate: u64,
    pub(crate) out_of_bounds: u64,
    pub(crate) out_of_order: u64,
    pub(crate) exemplars_left_out: u64,
    pub(crate) stale_markers: u64,
    pub(crate) refused: RefusedCounts,
}

/// New series that were not taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RefusedCounts {
    pub(crate) over_budget: u64,
    pub(crate) owned_elsewhere: u64,
    pub(crate) too_many: u64,
}

impl<T: TargetSink> TargetState<T> {
    pub(crate) fn open<S: Sink<Target = T>>(
        sink: &S,
        job: &Job,
        target: &Target,
        seed: u64,
        budget: &MemoryBudget,
    ) -> Self {
        let sink = sink.open(&TargetInfo {
            job: SmolStr::clone(&job.name),
            labels: target.public_labels().clone(),
            url: target.url().to_owned(),
            scrape_interval: target.scrape_interval(),
        });
        Self {
            generation: sink.generation(),
            sink,
            labels: target.public_labels().clone(),
            seed,
            cache: SeriesCache::default(),
            held: SeriesSet::default(),
            live: SeriesSet::default(),
            native: SeriesSet::default(),
            last_at: Timestamp::MIN,
            timestamps: HashMap::new(),
            exemplars: LastExemplars::default(),
            families: HashMap::new(),
            report: ReportSeries::default(),
            memory: Held::new(budget, Purpose::Series),
        }
    }

    /// Sends every line through the cold path again: the job has changed, or nothing can be relied on after
    /// a panic. Series whose labels come out equal keep their ids.
    pub(crate) fn forget_lines(&mut self) {
        self.cache.clear();
        self.families = HashMap::new();
    }

    /// Series known.
    pub(crate) fn series(&self) -> usize {
        self.held.len()
    }

    /// Bytes of memory held here, apart from the sink's.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.cache.memory_bytes()
            + self.held.memory_bytes()
            + self.live.memory_bytes()
            + self.native.memory_bytes()
            + self.timestamps.allocation_size()
            + self.exemplars.memory_bytes()
            + self.families.allocation_size()
    }

    /// Starts a scrape, admitting what a new generation of the sink or a refusal left to be admitted.
    pub(crate) fn begin(&mut self, at: Timestamp, job: &Job, counts: &mut PageCounts) {
        if self.generation != self.sink.generation() {
            self.generation = self.sink.generation();
            self.forget_lines();
            self.report.forget_ids();
        }
        self.sink.begin(at);
        let extra = job.config.extra_scrape_metrics == Some(true);
        self.report.admit(&self.labels, extra, &mut self.sink, |reason| counts.refused.count(&reason));
    }

    /// Ends a scrape whose page was taken: series that left get their markers, and what the page brought is
    /// remembered.
    pub(crate) fn accept(
        &mut self,
        scratch: &mut Scratch,
        at: Timestamp,
        report: &Report,
        counts: &mut PageCounts,
    ) -> T::Commit {
        counts.stale_markers += self.mark(at, |live, each| live.difference(&scratch.tracked).for_each(each));
        self.report.write(report, at, &mut self.sink, |id| scratch.seen.contains(id));
        let commit = self.sink.commit();
        self.last_at = at;

        scratch.ended.extend(self.held.difference(&scratch.seen).filter(|&id| !self.report.contains(id)));
        for &id in &scratch.ended {
            self.native.remove(id);
            self.timestamps.remove(&id);
            self.exemplars.remove(id);
        }
        self.exemplars.commit(&mut scratch.exemplars);
        self.live.copy_from(&scratch.tracked);
        self.held.copy_from(&scratch.seen);
        self.cache.commit(&mut scratch.walk);
        scratch.family.finish(&mut self.families);
        self.release(scratch);
        // What is there is there: if the budget is exhausted, the next new series feels it.
        let bytes = self.memory_bytes();
        let _ = self.memory.grow_to(bytes);
        self.memory.shrink_to(bytes);
        commit
    }

    /// Ends a scrape without a page, failed or empty: every series gets its marker once, and what was known
    /// is kept for when the page comes back.
    pub(crate) fn accept_nothing(
        &mut self,
        at: Timestamp,
        report: &Report,
        counts: &mut PageCounts,
    ) -> (T::Commit, SeriesSet) {
        counts.stale_markers += self.mark(at, |live, each| live.iter().for_each(each));
        self.report.write(report, at, &mut self.sink, |_| false);
        let commit = self.sink.commit();
        (commit, std::mem::take(&mut self.live))
    }

    /// Takes back what a failed page has brought.
    pub(crate) fn reject(&mut self, scratch: &mut Scratch) {
        self.sink.abort();
        for (id, before) in scratch.replaced_timestamps.drain(..).rev() {
            match before {
                Some(timestamp) => self.timestamps.insert(id, timestamp),
                None => self.timestamps.remove(&id),
            };
        }
        scratch.ended.extend(scratch.seen.difference(&self.held).filter(|&id| !self.report.contains(id)));
        self.release(scratch);
        self.memory.shrink_to(self.memory_bytes());
    }

    /// Ends the target: every series and the report series get a marker.
    pub(crate) fn end(&mut self, at: Timestamp, counts: &mut PageCounts) -> T::Commit {
        self.sink.begin(at);
        counts.stale_markers += self.mark(at, |live, each| live.iter().for_each(each));
        counts.stale_markers += self.report.end(at, &mut self.sink);
        self.live = SeriesSet::default();
        self.sink.commit()
    }

    /// Markers that were not stored are owed again.
    pub(crate) fn owe_markers(&mut self, series: &SeriesSet) {
        for id in series.iter().filter(|&id| self.held.contains(id)) {
            self.live.insert(id);
        }
    }

    fn mark(&mut self, at: Timestamp, ended: impl FnOnce(&SeriesSet, &mut dyn FnMut(SeriesId))) -> u64 {
        let Self { sink, live, native, timestamps, report, .. } = self;
        let mut markers = 0;
        ended(live, &mut |id| {
            if report.contains(id) {
                return;
            }
            if let Some(last) = timestamps.get_mut(&id) {
                if *last >= at {
                    return;
                }
                *last = at;
            }
            markers += 1;
            if native.contains(id) {
                sink.histogram(id, at, None, &Histogram::stale());
            } else {
                sink.sample(id, Sample::stale(at));
            }
        });
        markers
    }

    fn release(&mut self, scratch: &mut Scratch) {
        for id in scratch.ended.drain(..) {
            self.sink.release(id);
        }
    }
}

impl RefusedCounts {
    pub(crate) fn count(&mut self, reason: &promferry_model::Refused) {
        use promferry_model::Refused;
        match reason {
            Refused::OverBudget => self.over_budget += 1,
            Refused::OwnedByOtherTarget { .. } => self.owned_elsewhere += 1,
            _ => self.too_many += 1,
        }
    }
}
