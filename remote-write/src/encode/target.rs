use std::sync::Arc;

use hashbrown::HashTable;
use promferry_model::{
    CUSTOM_BUCKETS_SCHEMA, ExemplarView, Histogram, Label, Labels, METRIC_NAME, MetadataView, OverBudget,
    Purpose, Refused, Reservation, Sample, SeriesId, SeriesView, TargetInfo, Timestamp, hash_labels,
};
use smol_str::SmolStr;

use super::arena::{Arena, Row};
use super::claims::Claims;
use super::context::EncodingContext;
use super::profile::Outgoing;
use super::scratch::Scratch;
use super::{EncodedScrape, NotEncoded, Profiles};
use crate::{Counts, Lane, Protocol};

/// Encodes one target's scrapes: what a [`TargetSink`](promferry_model::TargetSink) of remote write is made
/// of. It knows the target's series, and writes their samples as the bytes that leave.
///
/// ```
/// use std::sync::Arc;
/// use promferry_model::{
///     Labels, MemoryBudget, MetadataView, Sample, SeriesView, TargetInfo, Timestamp,
/// };
/// use promferry_remote_write::{encode, wire};
///
/// let profile = Arc::new(encode::Profile::default());
/// let profiles = Arc::new(encode::Profiles::new(1, vec![profile]));
/// let context = encode::EncodingContext::new(MemoryBudget::new(1 << 20), 42);
/// let target = TargetInfo {
///     job: "api".into(),
///     labels: Labels::from_pairs([("instance", "10.0.0.7:8080"), ("job", "api")]),
///     url: "http://10.0.0.7:8080/metrics".into(),
///     scrape_interval: std::time::Duration::from_secs(15),
/// };
/// let mut encoder = encode::TargetEncoder::new(&target, profiles, context);
///
/// let labels = Labels::from_pairs([("__name__", "up"), ("instance", "10.0.0.7:8080"), ("job", "api")]);
/// let up = encoder.admit(&SeriesView { labels: &labels, metadata: MetadataView::default() })?;
/// encoder.begin();
/// encoder.sample(up, Sample::new(Timestamp::from_millis(1_700_000_000_000), 1.0));
/// let scrape = encoder.finish()?;
///
/// let request = encode::join(&scrape.profiles[0].fragments)?;
/// let decoded = wire::decode_v1(&request.body, 1 << 20)?;
/// assert_eq!(decoded.timeseries[0].samples[0].value, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TargetEncoder {
    context: Arc<EncodingContext>,
    profiles: Arc<Profiles>,
    /// Taken over before the next scrape.
    next_profiles: Option<Arc<Profiles>>,
    arena: Arena,
    claims: Claims,
    /// Decides the target's first lane.
    hash: u64,
    spread: Spread,
    newly_spread: Option<u64>,
    /// By series: which of [`SUB_LANES`] it takes, or [`REPORT_SERIES`]; empty for a target that has one lane.
    sub_lanes: Vec<u8>,
    /// Whether the open scrape has a value of a series that the target itself exposes; asked only where there is more
    /// than one lane.
    has_own_values: bool,
    /// Series by fingerprint; there while series are admitted that are known already.
    index: Option<HashTable<SeriesId>>,
    reservation: Option<Reservation>,
    open: Option<Box<Scratch>>,
    duplicate: Option<DuplicateSeries>,
    /// Whether series were admitted since the last scrape that was finished.
    first_samples: bool,
}

/// A series that is known and not sent: another one leaves under the very same labels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DuplicateSeries {
    /// The series' labels, before external labels and write relabelling.
    pub labels: Labels,
    /// The address of the target whose series is sent; it may be the same target.
    pub owner: SmolStr,
}

/// Into how many lanes the target's series go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// The first page decides: a scrape that failed says nothing about the target's size. It is written as if there
    /// were [`SUB_LANES`].
    Undecided,
    One,
    SubLanes,
}

/// How many lanes a huge target's series are spread over.
const SUB_LANES: usize = 8;
/// Stands for the first of [`SUB_LANES`], which is the one lane of a target of ordinary size: what a scrape says of
/// itself is written there before it is known what the target exposes.
const REPORT_SERIES: u8 = u8::MAX;
/// A target whose first page has more series than this is huge.
const HUGE: usize = 20_000;
/// Reservations grow in steps, so that not every series goes to the shared budget.
const RESERVE_STEP: usize = 4096;

impl TargetEncoder {
    /// An encoder without series.
    pub fn new(target: &TargetInfo, profiles: Arc<Profiles>, context: Arc<EncodingContext>) -> Self {
        Self {
            arena: Arena::new(target.labels.to_vec(), &profiles),
            claims: Claims::new(target, &profiles, &context),
            duplicate: None,
            hash: target.labels.stable_hash(),
            spread: Spread::Undecided,
            newly_spread: None,
            sub_lanes: Vec::new(),
            has_own_values: false,
            index: None,
            reservation: None,
            open: None,
            first_samples: false,
            next_profiles: None,
            profiles,
            context,
        }
    }

    /// Makes a series known, for every profile. The same labels give the same id; later metadata replaces
    /// earlier.
    ///
    /// Where a profile sends another series under the very same labels already, of this target or of another,
    /// it does not send this one, until the other is let go: see [`TargetEncoder::take_duplicate`].
    ///
    /// # Errors
    /// [`Refused`] when other targets send the series wherever it would be sent, memory is short, or numbers run
    /// out. Nothing is kept of a refused series.
    pub fn admit(&mut self, series: &SeriesView<'_>) -> Result<SeriesId, Refused> {
        let outgoing: Vec<Outgoing> = self
            .profiles
            .iter()
            .map(|profile| profile.outgoing(series.labels, self.arena.constants(), series.metadata))
            .collect();
        let claimed = self.claims.claim(&self.profiles, series.labels, &outgoing);
        // What is sent for the first time is new, unless it was a duplicate up to now.
        if !claimed.is_new() || self.claims.has_duplicates() {
            let hash = hash_labels(series.labels, self.context.seed);
            if let Some(id) = self.find(hash, series) {
                self.claims.give_back(&claimed);
                let family = self.arena.set_metadata(&series.metadata, &self.context.metadata);
                self.arena.set_family(id, family).map_err(|_| Refused::TooMany)?;
                return Ok(id);
            }
        }
        if let Some(owner) = claimed.owned_elsewhere() {
            return Err(Refused::OwnedByOtherTarget { owner });
        }
        match self.insert(series, &outgoing) {
            Ok(id) => {
                if let Some(owner) = self.claims.admitted(id, claimed, &mut self.arena)
                    && self.duplicate.is_none()
                {
                    let labels = Labels::from_pairs(series.labels.iter().map(|l| (&*l.name, &*l.value)));
                    self.duplicate = Some(DuplicateSeries { labels, owner });
                }
                Ok(id)
            }
            Err(refused) => {
                self.claims.give_back(&claimed);
                Err(refused)
            }
        }
    }

    /// Lets go of a series; its id may be given out again, and another target may write the series.
    pub fn release(&mut self, id: SeriesId) {
        let Some(hash) = self.arena.hash(id, self.context.seed) else { return };
        self.claims.release(id, &self.arena);
        if let Some(index) = &mut self.index
            && let Ok(entry) = index.find_entry(hash, |&known| known == id)
        {
            entry.remove();
        }
        self.arena.remove(id);
        if self.open.is_none() {
            self.compact_if_worthwhile();
        }
    }

    /// The first series since the last call that was admitted, or came under another profile, and that some profile does
    /// not send, because another one leaves under the same labels.
    pub fn take_duplicate(&mut self) -> Option<DuplicateSeries> {
        self.duplicate.take()
    }

    /// Says when the next scrape happens: a series that another target has let go of is not taken over for a
    /// scrape that is not later than that one's last.
    pub fn set_time(&mut self, at: Timestamp) {
        self.claims.set_time(at);
    }

    /// Tells what is known about a metric family from now on.
    pub fn metadata(&mut self, metadata: &MetadataView<'_>) {
        self.arena.set_metadata(metadata, &self.context.metadata);
    }

    /// Takes over other profiles, now or, in the middle of a scrape, before the next one. Series need not be
    /// admitted again: what a new profile makes of them is derived from their labels.
    pub fn set_profiles(&mut self, profiles: Arc<Profiles>) {
        self.next_profiles = Some(profiles);
        if self.open.is_none() {
            self.take_next_profiles();
        }
    }

    /// The profiles in use.
    pub fn profiles(&self) -> &Arc<Profiles> {
        &self.profiles
    }

    /// Starts a scrape; what was added to one that is open is forgotten.
    pub fn begin(&mut self) {
        self.abort();
        if self.claims.has_duplicates() {
            self.claims.retry(&mut self.arena);
        }
        self.has_own_values = false;
        let (hash, lanes) = (self.hash, self.lanes());
        let mut scratch = self.context.take_scratch();
        scratch.begin(&self.profiles, self.arena.len(), lanes, |sub| {
            Lane::of_hash(hash.wrapping_add(sub as u64))
        });
        self.open = Some(scratch);
    }

    /// Adds a value of an admitted series. Nothing happens outside a scrape or for an id that is not in use.
    pub fn sample(&mut self, id: SeriesId, sample: Sample) {
        let Some((own, family)) = self.arena.read(id) else { return };
        let lane = match self.sub_lanes.get(id.index()) {
            None | Some(&REPORT_SERIES) => 0,
            Some(&sub) => {
                self.has_own_values = true;
                usize::from(sub)
            }
        };
        let Some(scratch) = &mut self.open else { return };
        for profile in 0..self.profiles.len() {
            match self.arena.row(profile, id, own) {
                Some(row) => {
                    let writer = scratch.next_series(profile, lane, &self.context.budget);
                    writer.begin_series(&self.arena, row, family);
                    writer.sample(sample);
                }
                None if self.arena.is_duplicate(profile, id) => {
                    scratch.count_duplicate(profile, Counts { samples: 1, ..Counts::default() });
                }
                None => scratch.end_series(profile),
            }
        }
    }

    /// Adds a native histogram of an admitted series, to the profiles that send them. Remote write 1.0 has no
    /// custom buckets; there such a histogram is counted and left out.
    pub fn histogram(
        &mut self,
        id: SeriesId,
        timestamp: Timestamp,
        start: Option<Timestamp>,
        histogram: &Histogram,
    ) {
        let Some((own, family)) = self.arena.read(id) else { return };
        let lane = match self.sub_lanes.get(id.index()) {
            None | Some(&REPORT_SERIES) => 0,
            Some(&sub) => {
                self.has_own_values = true;
                usize::from(sub)
            }
        };
        let Some(scratch) = &mut self.open else { return };
        for (at, profile) in self.profiles.iter().enumerate() {
            let row: Option<Row> = self.arena.row(at, id, own).filter(|_| profile.send_native_histograms);
            match row {
                Some(_) if profile.protocol == Protocol::V1 && histogram.schema == CUSTOM_BUCKETS_SCHEMA => {
                    scratch.end_series(at);
                    scratch.count_unsupported_histogram(at);
                }
                Some(row) => {
                    let writer = scratch.next_series(at, lane, &self.context.budget);
                    writer.begin_series(&self.arena, row, family);
                    writer.histogram(timestamp, start, histogram);
                }
                None if profile.send_native_histograms && self.arena.is_duplicate(at, id) => {
                    scratch.count_duplicate(at, Counts { histograms: 1, ..Counts::default() });
                }
                None => scratch.end_series(at),
            }
        }
    }

    /// Adds an exemplar to what was added last, in the profiles that send exemplars.
    pub fn exemplar(&mut self, exemplar: &ExemplarView<'_>) {
        let Some(scratch) = &mut self.open else { return };
        for (at, profile) in self.profiles.iter().enumerate() {
            if !profile.send_exemplars {
                continue;
            }
            match scratch.open_series(at) {
                Some(writer) => writer.exemplar(self.arena.symbols(), exemplar),
                None => scratch.count_exemplar_of_duplicate(at),
            }
        }
    }

    /// Forgets what was added since [`TargetEncoder::begin`].
    pub fn abort(&mut self) {
        if let Some(mut scratch) = self.open.take() {
            scratch.clear();
            self.context.give_scratch(scratch);
        }
        self.end_scrape();
    }

    /// Ends the scrape: its fragments, for each profile in the order of [`TargetEncoder::profiles`].
    ///
    /// # Errors
    /// [`NotEncoded`] when the memory budget has no room for the fragments; nothing is kept of them.
    pub fn finish(&mut self) -> Result<EncodedScrape, NotEncoded> {
        let mut scratch = self.open.take().unwrap_or_else(|| self.context.take_scratch());
        let mut finished = scratch.finish(&self.context.budget);
        scratch.clear();
        self.context.give_scratch(scratch);
        if self.spread == Spread::Undecided
            && self.has_own_values
            && let Ok(scrape) = &mut finished
        {
            self.decide_spread(scrape);
            // Most targets are complete now: what their tables hold in reserve is not needed.
            self.compact();
        }
        if let Ok(scrape) = &finished
            && std::mem::take(&mut self.first_samples)
        {
            for fragment in scrape.profiles.iter().flat_map(|profile| &profile.fragments) {
                self.context.saw_first_samples(fragment.lane, fragment.max_timestamp);
            }
        }
        self.end_scrape();
        finished
    }

    /// The target's hash when the page just finished is the first one that is spread over lanes: to be remembered
    /// before its fragments are stored ([`EncodingContext::expect_backlog`]).
    pub fn take_newly_spread(&mut self) -> Option<u64> {
        self.newly_spread.take()
    }

    /// Whether it is open into how many lanes the target goes.
    pub(crate) fn is_undecided(&self) -> bool {
        self.spread == Spread::Undecided
    }

    /// How many series are admitted and not released.
    pub fn series(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of memory that the series take, the target's share of the set of active series included.
    pub fn memory_bytes(&self) -> usize {
        self.arena.memory_bytes() + self.sub_lanes.capacity() + self.claims.memory_bytes(self.arena.len())
    }

    fn insert(&mut self, series: &SeriesView<'_>, outgoing: &[Outgoing]) -> Result<SeriesId, Refused> {
        let expected = self.memory_bytes() + self.arena.bytes_for(series.labels);
        self.reserve(expected).map_err(|_| Refused::OverBudget)?;
        let family = self.arena.set_metadata(&series.metadata, &self.context.metadata);
        let id = self.arena.insert(series.labels, family, outgoing).map_err(|_| Refused::TooMany)?;
        self.first_samples = true;
        // A table that doubled may have taken more than expected. That is had; the next series is refused
        // when it was too much.
        let _ = self.reserve(self.memory_bytes());
        if self.spread != Spread::One {
            let sub = match is_report(series.labels) {
                true => REPORT_SERIES,
                false => (hash_labels(series.labels, 0) % SUB_LANES as u64) as u8,
            };
            if self.sub_lanes.len() <= id.index() {
                self.sub_lanes.resize(id.index() + 1, 0);
            }
            self.sub_lanes[id.index()] = sub;
        }
        if let Some(index) = &mut self.index {
            let (arena, seed) = (&self.arena, self.context.seed);
            let hash = |&id: &SeriesId| arena.hash(id, seed).unwrap_or_default();
            index.insert_unique(hash(&id), id, hash);
        }
        Ok(id)
    }

    fn find(&mut self, hash: u64, series: &SeriesView<'_>) -> Option<SeriesId> {
        let (arena, seed) = (&self.arena, self.context.seed);
        let index = self.index.get_or_insert_with(|| {
            let mut index = HashTable::with_capacity(arena.len());
            let hash = |&id: &SeriesId| arena.hash(id, seed).unwrap_or_default();
            for id in arena.ids() {
                index.insert_unique(hash(&id), id, hash);
            }
            index
        });
        index.find(hash, |&id| arena.has_labels(id, series.labels)).copied()
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let bytes = bytes.next_multiple_of(RESERVE_STEP);
        match &mut self.reservation {
            Some(reservation) if reservation.bytes() >= bytes => Ok(()),
            Some(reservation) => reservation.resize(bytes),
            None => {
                self.reservation = Some(self.context.budget.try_reserve(Purpose::Series, bytes)?);
                Ok(())
            }
        }
    }

    const fn lanes(&self) -> usize {
        match self.spread {
            Spread::One => 1,
            Spread::Undecided | Spread::SubLanes => SUB_LANES,
        }
    }

    /// The first page is known. A target of ordinary size keeps to one lane: since each series was written to
    /// one place only, its fragments need no more than that lane's number.
    fn decide_spread(&mut self, scrape: &mut EncodedScrape) {
        let (spread, new) = self.context.decide_spread(self.hash, self.arena.len() > HUGE);
        self.newly_spread = new.then_some(self.hash);
        if spread {
            self.spread = Spread::SubLanes;
            return;
        }
        self.spread = Spread::One;
        self.sub_lanes = Vec::new();
        let lane = Lane::of_hash(self.hash);
        let fragments = scrape.profiles.iter_mut().flat_map(|profile| &mut profile.fragments);
        fragments.for_each(|fragment| fragment.lane = lane);
    }

    fn end_scrape(&mut self) {
        self.index = None;
        self.compact_if_worthwhile();
        self.take_next_profiles();
    }

    fn take_next_profiles(&mut self) {
        if let Some(profiles) = self.next_profiles.take() {
            let duplicate = self.claims.set_profiles(&profiles, &mut self.arena, &self.context);
            if let Some((id, owner)) = duplicate
                && self.duplicate.is_none()
                && let Some(labels) = self.arena.labels(id)
            {
                self.duplicate = Some(DuplicateSeries { labels: labels.to_labels(), owner });
            }
            self.profiles = profiles;
            // Under other labels they are other series.
            self.first_samples |= self.arena.len() > 0;
            let _ = self.reserve(self.memory_bytes());
        }
    }

    fn compact_if_worthwhile(&mut self) {
        if self.arena.wants_compaction() {
            self.compact();
        }
    }

    /// Only between scrapes: what is being encoded knows texts by their numbers, which may be given anew.
    fn compact(&mut self) {
        self.arena.compact();
        let bytes = self.memory_bytes().next_multiple_of(RESERVE_STEP);
        if let Some(reservation) = self.reservation.as_mut().filter(|held| held.bytes() > bytes) {
            // Giving back always succeeds.
            let _ = reservation.resize(bytes);
        }
    }
}

/// Whether a series has a name of those that a scrape writes about itself, as Prometheus calls them.
fn is_report(labels: &[Label]) -> bool {
    let name = labels.iter().find(|label| label.name == METRIC_NAME).map(|label| label.value.as_str());
    name.is_some_and(|name| name == "up" || name.starts_with("scrape_"))
}

impl Drop for TargetEncoder {
    fn drop(&mut self) {
        self.claims.release_all(&self.arena);
        if let Some(mut scratch) = self.open.take() {
            scratch.clear();
            self.context.give_scratch(scratch);
        }
    }
}
