use std::sync::Arc;
use std::sync::atomic::Ordering;

use promferry_model::{
    ExemplarView, Histogram, MetadataView, Refused, Sample, SeriesId, SeriesView, Sink, TargetInfo,
    TargetSink, Timestamp,
};
use smol_str::SmolStr;

use super::set::{Commit, Entered, Scrape, Set};
use super::{Inner, RemoteWrite};
use crate::Counts;
use crate::encode::{EncodedProfile, NotEncoded, TargetEncoder};
use crate::spool::{LogId, Reason};
use crate::usage::RateMeter;

impl Sink for RemoteWrite {
    type Target = RemoteWriteTarget;

    fn open(&self, target: &TargetInfo) -> RemoteWriteTarget {
        let set = self.0.set();
        RemoteWriteTarget {
            encoder: TargetEncoder::new(target, Arc::clone(&set.profiles), Arc::clone(&self.0.context)),
            inner: Arc::clone(&self.0),
            meters: meters(&set, &target.job),
            job: target.job.clone(),
            values: Counts::default(),
            set: Entered::new(set),
        }
    }
}

/// The [`TargetSink`] of a [`RemoteWrite`].
pub struct RemoteWriteTarget {
    encoder: TargetEncoder,
    inner: Arc<Inner>,
    job: SmolStr,
    /// The set that the scrape under way began with, else that of the last one.
    set: Entered,
    /// What the job's rate is counted with, by the profile's position.
    meters: Box<[Arc<RateMeter>]>,
    /// What was added since `begin`, whichever profiles send it.
    values: Counts,
}

impl RemoteWriteTarget {
    /// Begins a scrape with the current set.
    fn enter(&mut self) {
        self.set.end();
        loop {
            self.set.begin();
            if self.inner.generation.load(Ordering::SeqCst) == self.set.generation() {
                return;
            }
            self.set = Entered::new(self.inner.set());
            // What was open is forgotten by whoever begins.
            self.encoder.abort();
            self.encoder.set_profiles(Arc::clone(&self.set.profiles));
            self.meters = meters(&self.set, &self.job);
            self.say_duplicate();
        }
    }

    fn say_duplicate(&mut self) {
        if let Some(duplicate) = self.encoder.take_duplicate() {
            self.inner.duplicates.say(self.inner.clock.monotonic(), duplicate);
        }
    }
}

impl TargetSink for RemoteWriteTarget {
    type Commit = Commit;

    /// Always the same: what other profiles make of the series is derived from the labels that are known.
    fn generation(&self) -> u32 {
        0
    }

    fn admit(&mut self, series: &SeriesView<'_>) -> Result<SeriesId, Refused> {
        let admitted = self.encoder.admit(series);
        self.say_duplicate();
        admitted
    }

    fn release(&mut self, id: SeriesId) {
        self.encoder.release(id);
    }

    fn metadata(&mut self, metadata: &MetadataView<'_>) {
        self.encoder.metadata(metadata);
    }

    fn begin(&mut self, at: Timestamp) {
        self.values = Counts::default();
        self.enter();
        self.encoder.set_time(at);
        self.encoder.begin();
    }

    fn sample(&mut self, id: SeriesId, sample: Sample) {
        self.values.samples += 1;
        self.encoder.sample(id, sample);
    }

    fn histogram(
        &mut self,
        id: SeriesId,
        timestamp: Timestamp,
        start: Option<Timestamp>,
        histogram: &Histogram,
    ) {
        self.values.histograms += 1;
        self.encoder.histogram(id, timestamp, start, histogram);
    }

    fn exemplar(&mut self, exemplar: &ExemplarView<'_>) {
        self.values.exemplars += 1;
        self.encoder.exemplar(exemplar);
    }

    fn abort(&mut self) {
        self.encoder.abort();
        self.set.end();
    }

    fn commit(&mut self) -> Commit {
        let Self { encoder, inner, set, meters, .. } = self;
        inner.total_intake.add(std::mem::take(&mut self.values));
        if encoder.is_undecided() {
            inner.context.narrow_backlog(inner.spool.published_stats().stats.backlog);
        }
        let mut scrape = Scrape::default();
        match encoder.finish() {
            Err(NotEncoded { profiles, .. }) => {
                for (known, profile) in set.logs.iter().zip(&profiles) {
                    scrape.refused.push((known.log, profile.counts, Reason::OVER_BUDGET));
                    refuse_left_out(known.log, profile, &mut scrape);
                }
            }
            Ok(encoded) => {
                if let Some(target) = encoder.take_newly_spread() {
                    inner.spool.note_spread(target);
                }
                let now = inner.clock.monotonic();
                scrape.groups.reserve_exact(encoded.profiles.len());
                for ((known, meter), profile) in set.logs.iter().zip(meters).zip(encoded.profiles) {
                    known.intake.count(meter, now, &profile);
                    refuse_left_out(known.log, &profile, &mut scrape);
                    if !profile.fragments.is_empty() {
                        scrape.groups.push((known.log, profile.fragments));
                    }
                }
                scrape.reservation = Some(encoded.reservation);
            }
        }
        let commit = set.store(scrape, &inner.spool);
        self.set.end();
        commit
    }
}

fn meters(set: &Set, job: &SmolStr) -> Box<[Arc<RateMeter>]> {
    set.logs.iter().map(|known| known.intake.meter(job)).collect()
}

/// Counts what a scrape had for this log and what is not among its fragments.
fn refuse_left_out(log: LogId, profile: &EncodedProfile, scrape: &mut Scrape) {
    if profile.nhcb_in_rw1_not_supported > 0 {
        let counts = Counts { histograms: profile.nhcb_in_rw1_not_supported, ..Counts::default() };
        scrape.refused.push((log, counts, Reason::NHCB_IN_RW1));
    }
    if !profile.duplicate_series.is_zero() {
        scrape.refused.push((log, profile.duplicate_series, Reason::DUPLICATE_SERIES));
    }
}
