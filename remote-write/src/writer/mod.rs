mod builder;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use promferry_model::{
    Clock, Exemplar, ExemplarView, Histogram, Label, Labels, METRIC_NAME, Metadata, MetadataView, Receipt,
    Refused, Sample, SeriesId, SeriesView, SinkError, TargetSink, Timestamp,
};
use smol_str::SmolStr;

use crate::spool::{LedgerSnapshot, SpoolError};
use crate::{Commit, EndpointStatus, RemoteWrite, RemoteWriteTarget};

pub use builder::{WriterBuilder, WriterError};

/// Sends samples of one's own: appended one by one, kept on disk or in memory, delivered in order over outages,
/// with an account of every one.
///
/// Clones share it. What is appended is stored once a second, or when there is enough for a request, or by
/// [`commit`](Self::commit); from then on it is the sender's to deliver.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use promferry_model::Labels;
/// use promferry_remote_write::Writer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("spool");
/// let writer = Writer::builder("http://127.0.0.1:9/api/v1/write")
///     .external_labels(Labels::from_pairs([("cluster", "blue")]))
///     .spool_directory(path)                      // without it what waits is in memory
///     .start()
///     .await?;
///
/// let orders = Labels::from_pairs([("__name__", "orders_total"), ("job", "orders"), ("shop", "eu")]);
/// writer.append(&orders, SystemTime::now(), 42.0)?;
///
/// writer.commit().await?;                         // on disk
/// let ledger = writer.close(Duration::ZERO).await; // nobody listens on that port
/// assert_eq!((ledger.accepted.samples, ledger.pending.samples), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Writer(Arc<Inner>);

struct Inner {
    remote: RemoteWrite,
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
}

struct Open {
    target: RemoteWriteTarget,
    series: HashMap<Labels, Known>,
    families: HashMap<SmolStr, Metadata>,
    /// Samples and histograms that are not committed.
    values: usize,
    swept_at: Duration,
    closed: bool,
}

struct Known {
    id: SeriesId,
    last: Timestamp,
    used_at: Duration,
}

/// Why a sample was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A label has no name or no value, or two have one name, or none is `__name__`.
    #[error("the labels {labels} {problem}")]
    Labels {
        /// All labels.
        labels: String,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// The series has a sample of that time or a later one already: receivers want them in order.
    #[error("{labels} has a sample of {last} already; {timestamp} is not later", last = last.as_millis(), timestamp = timestamp.as_millis())]
    OutOfOrder {
        /// The series.
        labels: Labels,
        /// Its latest sample's time.
        last: Timestamp,
        /// The time of the sample that was not taken.
        timestamp: Timestamp,
    },
    /// There is no room for another series.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// [`Writer::close`] was called.
    #[error("the writer is closed")]
    Closed,
}

/// What is appended is committed at this many samples and histograms, whatever the time.
const MAX_OPEN_VALUES: usize = 2000;
/// A series that nothing was appended to for this long is forgotten; it may come back.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
const SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);

impl Writer {
    /// A writer to the endpoint of a configuration, or just of a URL.
    pub fn builder(config: impl Into<crate::RemoteWriteConfig>) -> WriterBuilder {
        WriterBuilder::new(config.into())
    }

    /// Tells what is known about a family, before its first sample. The family of `orders_total` may be called
    /// `orders_total` or `orders`; likewise with the suffixes of histograms and summaries.
    pub fn describe(&self, metadata: &Metadata) {
        let mut open = self.open();
        open.families.insert(metadata.family.clone(), metadata.clone());
        open.target.metadata(&view(metadata));
    }

    /// Appends a sample to the series of these labels.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(
        &self,
        labels: &Labels,
        timestamp: impl Into<Timestamp>,
        value: f64,
    ) -> Result<(), AppendError> {
        self.append_sample(labels, Sample::new(timestamp.into(), value), &[])
    }

    /// Appends a sample, possibly with the time since which it counts, and its exemplars.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append_sample(
        &self,
        labels: &Labels,
        sample: Sample,
        exemplars: &[Exemplar],
    ) -> Result<(), AppendError> {
        self.with_series(labels, sample.timestamp, exemplars, |target, id| target.sample(id, sample))
    }

    /// Appends a native histogram, possibly with the time since which it counts, and its exemplars.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append_histogram(
        &self,
        labels: &Labels,
        timestamp: impl Into<Timestamp>,
        start: Option<Timestamp>,
        histogram: &Histogram,
        exemplars: &[Exemplar],
    ) -> Result<(), AppendError> {
        let timestamp = timestamp.into();
        self.with_series(labels, timestamp, exemplars, |target, id| {
            target.histogram(id, timestamp, start, histogram);
        })
    }

    /// Stores what was appended: resolves when it is on disk, or in memory where that is asked for. What it
    /// started goes on when it is dropped.
    ///
    /// # Errors
    /// [`SinkError`] when it could not be stored; it is counted as dropped.
    pub async fn commit(&self) -> Result<Receipt, SinkError> {
        let commit = self.open().commit(self.0.clock.monotonic());
        match commit {
            Some(commit) => commit.await,
            None => Ok(Receipt::default()),
        }
    }

    /// Stores what was appended and sends all that waits without waiting for more, for at most `limit`. The
    /// ledger as it then stands; what is pending is still being delivered.
    ///
    /// # Errors
    /// [`SpoolError::Closed`] after [`close`](Self::close). What could not be stored is in the ledger.
    pub async fn flush(&self, limit: Duration) -> Result<LedgerSnapshot, SpoolError> {
        let _ = self.commit().await;
        Ok(ledger_of(self.0.remote.flush(limit).await?))
    }

    /// How delivery stands: the ledger, requests, the latest trouble.
    ///
    /// # Errors
    /// [`SpoolError::Closed`] after [`close`](Self::close).
    pub async fn status(&self) -> Result<EndpointStatus, SpoolError> {
        self.0.remote.status().await?.pop().ok_or(SpoolError::Closed)
    }

    /// Stores what was appended, delivers for at most `limit`, and ends: the final ledger. What is pending in
    /// it waits on disk for the next start, or is lost where it was in memory. Nothing can be appended from
    /// then on, by no clone.
    pub async fn close(&self, limit: Duration) -> LedgerSnapshot {
        // In one step: what is appended between the two would be stored by nobody.
        let commit = {
            let mut open = self.open();
            open.closed = true;
            open.commit(self.0.clock.monotonic())
        };
        if let Some(commit) = commit {
            // That it could not be stored is in the ledger.
            let _ = commit.await;
        }
        ledger_of(self.0.remote.shutdown(limit).await)
    }

    fn with_series(
        &self,
        labels: &Labels,
        timestamp: Timestamp,
        exemplars: &[Exemplar],
        add: impl FnOnce(&mut RemoteWriteTarget, SeriesId),
    ) -> Result<(), AppendError> {
        let now = self.0.clock.monotonic();
        let mut open = self.open();
        if open.closed {
            return Err(AppendError::Closed);
        }
        let id = open.series_at(labels, timestamp, now)?;
        let Open { target, values, .. } = &mut *open;
        if *values == 0 {
            target.begin(timestamp);
        }
        add(target, id);
        for Exemplar { labels, value, timestamp } in exemplars {
            target.exemplar(&ExemplarView { labels, value: *value, timestamp: *timestamp });
        }
        *values += 1;
        if *values >= MAX_OPEN_VALUES {
            // It is queued by now; that it could not be stored is in the ledger.
            drop(open.commit(now));
        }
        Ok(())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("series", &self.open().series.len()).finish_non_exhaustive()
    }
}

impl Open {
    /// The series' number, if a sample of this time may follow what it has.
    fn series_at(
        &mut self,
        labels: &Labels,
        timestamp: Timestamp,
        now: Duration,
    ) -> Result<SeriesId, AppendError> {
        if let Some(known) = self.series.get_mut(labels) {
            if timestamp <= known.last {
                let (labels, last) = (labels.clone(), known.last);
                return Err(AppendError::OutOfOrder { labels, last, timestamp });
            }
            (known.last, known.used_at) = (timestamp, now);
            return Ok(known.id);
        }
        let problem = |problem| AppendError::Labels { labels: labels.to_string(), problem };
        if !labels.has(METRIC_NAME) {
            return Err(problem("have no __name__"));
        }
        if labels.iter().any(|label: &Label| label.name.is_empty()) {
            return Err(problem("have a name that is empty"));
        }
        let metadata = family_of(&self.families, labels.get(METRIC_NAME)).map(view).unwrap_or_default();
        let id = self.target.admit(&SeriesView { labels, metadata })?;
        self.series.insert(labels.clone(), Known { id, last: timestamp, used_at: now });
        Ok(id)
    }

    fn commit(&mut self, now: Duration) -> Option<Commit> {
        if self.values == 0 {
            return None;
        }
        self.values = 0;
        let commit = self.target.commit();
        if now.saturating_sub(self.swept_at) >= SWEEP_INTERVAL {
            self.swept_at = now;
            let Self { series, target, .. } = self;
            series.retain(|_, known| {
                let used = now.saturating_sub(known.used_at) < FORGET_AFTER;
                if !used {
                    target.release(known.id);
                }
                used
            });
        }
        Some(commit)
    }
}

/// Commits what is appended, for as long as there is a writer.
async fn commit_regularly(writer: Weak<Inner>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(inner) = writer.upgrade() else { return };
        let now = inner.clock.monotonic();
        let mut open = inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.closed {
            return;
        }
        // It is queued by now; that it could not be stored is in the ledger.
        drop(open.commit(now));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let now = self.clock.monotonic();
        drop(self.open.get_mut().unwrap_or_else(PoisonError::into_inner).commit(now));
    }
}

fn ledger_of(mut status: Vec<EndpointStatus>) -> LedgerSnapshot {
    status.pop().map(|endpoint| endpoint.ledger).unwrap_or_default()
}

fn view(metadata: &Metadata) -> MetadataView<'_> {
    MetadataView {
        family: &metadata.family,
        metric_type: metadata.metric_type,
        unit: &metadata.unit,
        help: &metadata.help,
    }
}

fn family_of<'a>(families: &'a HashMap<SmolStr, Metadata>, name: &str) -> Option<&'a Metadata> {
    const SUFFIXES: [&str; 6] = ["_total", "_bucket", "_sum", "_count", "_created", "_info"];
    let shorter = || SUFFIXES.iter().find_map(|suffix| families.get(name.strip_suffix(suffix)?));
    families.get(name).or_else(shorter)
}
