use std::future::Future;
use std::time::Duration;

use smol_str::SmolStr;

use crate::{ExemplarView, Histogram, Label, MetadataView, Sample, TargetInfo, Timestamp};

/// Where scraped samples go. One [`TargetSink`] is opened for each target and is owned by the target's loop.
pub trait Sink: Clone + Send + Sync + 'static {
    /// What takes one target's samples.
    type Target: TargetSink;

    /// Opens the way for one target. Opening again what is still open is allowed; who admits a series first
    /// owns it.
    fn open(&self, target: &TargetInfo) -> Self::Target;
}

/// Takes one target's samples, scrape by scrape: `begin`, then `sample`s, `histogram`s and `exemplar`s, then
/// `commit` or `abort`.
///
/// Nothing of a scrape leaves before its `commit`. Series are admitted once, on the cold path, and known by a
/// [`SeriesId`] from then on; the hot path never sees labels.
pub trait TargetSink: Send + 'static {
    /// Resolves when the scrape is stored. It owns what it needs: dropping it cancels nothing, and several
    /// may be open at once.
    type Commit: Future<Output = Result<Receipt, SinkError>> + Send + 'static;

    /// Changes whenever series have to be admitted anew. A series whose labels come out equal keeps its id. A sink
    /// that derives what it sends from the labels that it was given never needs that, whatever it is to send.
    fn generation(&self) -> u32;

    /// Makes a series known. The same labels give the same id, and later metadata replaces earlier.
    ///
    /// # Errors
    /// [`Refused`] says why this series can't be taken now; asking again later may succeed.
    fn admit(&mut self, series: &SeriesView<'_>) -> Result<SeriesId, Refused>;

    /// Lets go of a series that ended; its id may be given out again.
    fn release(&mut self, id: SeriesId);

    /// Tells a family's metadata when it is first seen and whenever it changes.
    fn metadata(&mut self, metadata: &MetadataView<'_>);

    /// Starts a scrape that happened at `at`.
    fn begin(&mut self, at: Timestamp);

    /// Adds a value of an admitted series.
    fn sample(&mut self, id: SeriesId, sample: Sample);

    /// Adds a native histogram of an admitted series; `start` as in [`Sample::start`].
    fn histogram(
        &mut self,
        id: SeriesId,
        timestamp: Timestamp,
        start: Option<Timestamp>,
        histogram: &Histogram,
    );

    /// Adds an exemplar to the sample or histogram that was added last.
    fn exemplar(&mut self, exemplar: &ExemplarView<'_>);

    /// Forgets what was added since `begin`.
    fn abort(&mut self);

    /// Hands the scrape over. It is queued before this returns: the order of calls is the order of storage.
    fn commit(&mut self) -> Self::Commit;
}

/// A series' number within its own [`TargetSink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(u32);

impl SeriesId {
    /// The id of this number.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The number: small and dense, fit to index an array.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A series as it is made known to a [`TargetSink`].
#[derive(Clone, Copy, Debug)]
pub struct SeriesView<'a> {
    /// All labels after relabelling, the target's included: sorted, unique, none empty.
    pub labels: &'a [Label],
    /// The metadata of its family; default where there is none.
    pub metadata: MetadataView<'a>,
}

/// Why a series was not taken. Never cached: the next scrape asks again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The memory for one more series is not there.
    #[error("the memory budget has no room for another series")]
    OverBudget,
    /// Another target writes the very same series; two writers would overwrite each other.
    #[error("the series is already written by target {owner}")]
    OwnedByOtherTarget {
        /// The owner's address.
        owner: SmolStr,
    },
    /// The target has too many series or too many label texts for one dictionary.
    #[error("the target has more distinct series or label values than can be numbered")]
    TooMany,
}

/// What a commit stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Samples and histograms stored, of the first encoding that took any.
    pub samples: u64,
    /// Bytes stored for all encodings.
    pub bytes: u64,
    /// How long storing took from the call on.
    pub elapsed: Duration,
}

impl Receipt {
    /// A receipt over these counts.
    pub const fn new(samples: u64, bytes: u64, elapsed: Duration) -> Self {
        Self { samples, bytes, elapsed }
    }
}

/// Why a scrape was not stored; the sink has counted its samples as dropped for this reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Neither the disk nor the memory that stands in for it could take the samples.
    #[error("the scrape could not be stored: {0}")]
    Storage(String),
    /// The memory budget has no room for the scrape.
    #[error("the memory budget has no room for the scrape")]
    OverBudget,
    /// The sink is shutting down.
    #[error("the sink is closed")]
    Closed,
}
