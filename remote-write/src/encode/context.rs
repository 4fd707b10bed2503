use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};
use promferry_model::{MemoryBudget, Metadata, MetadataView, Purpose, Reservation, Timestamp};
use smol_str::SmolStr;

use super::Profile;
use super::fingerprints::Fingerprints;
use super::scratch::Scratch;
use crate::{Lane, LaneSet};

/// How many series one job has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobSeries {
    /// The job's name.
    pub job: SmolStr,
    /// Series that are written, each once.
    pub active: usize,
    /// Series that are known and not sent, because others leave under the very same labels.
    pub duplicates: usize,
}

/// What the targets of one sink share: which series are active and whose they are, texts of metadata, working
/// memory, and the budget that all of it counts against.
#[derive(Debug)]
pub struct EncodingContext {
    pub(super) budget: MemoryBudget,
    pub(super) seed: u64,
    /// The active series for each way in which profiles name them.
    fingerprints: Mutex<Vec<(Arc<Profile>, Arc<Fingerprints>)>>,
    pub(super) metadata: MetadataPool,
    #[expect(clippy::vec_box, reason = "it moves between here and the encoders without being copied")]
    scratch: Mutex<Vec<Box<Scratch>>>,
    spread: Mutex<TargetLanes>,
    /// By lane: the latest timestamp of a fragment that holds a series' first sample.
    newest_first_samples: [AtomicI64; Lane::COUNT],
}

/// Which targets keep to several lanes and which to one, by the hash of their labels: a target that goes and comes
/// back in another size stays where its older samples may wait.
#[derive(Debug, Default)]
struct TargetLanes {
    spread: BTreeSet<u64>,
    /// Of this run.
    single: HashSet<u64>,
    /// Where samples of an earlier run wait.
    backlog: LaneSet,
    /// Where targets went that `single` had no room for.
    crowded: LaneSet,
}

/// More targets of one lane are not told apart (about 1 MiB): those lanes then count as having a backlog.
const MAX_SINGLE: usize = 1 << 16;

impl TargetLanes {
    fn narrow_backlog(&mut self, lanes: LaneSet) {
        self.backlog = self.backlog.iter().filter(|&lane| lanes.contains(lane)).collect();
    }

    fn decide(&mut self, target: u64, huge: bool) -> (bool, bool) {
        if self.spread.contains(&target) {
            return (true, false);
        }
        let lane = Lane::of_hash(target);
        let may_wait =
            self.single.contains(&target) || self.backlog.contains(lane) || self.crowded.contains(lane);
        if huge && !may_wait {
            self.spread.insert(target);
            return (true, true);
        }
        if self.single.len() >= MAX_SINGLE {
            for single in self.single.drain() {
                self.crowded.insert(Lane::of_hash(single));
            }
        }
        self.single.insert(target);
        (false, false)
    }
}

impl EncodingContext {
    /// A context without targets. `seed` keeps targets from choosing labels whose hashes collide: let it
    /// differ from process to process.
    pub fn new(budget: MemoryBudget, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            metadata: MetadataPool::new(&budget),
            budget,
            seed,
            fingerprints: Mutex::default(),
            scratch: Mutex::default(),
            spread: Mutex::default(),
            newest_first_samples: [const { AtomicI64::new(i64::MIN) }; Lane::COUNT],
        })
    }

    /// A fragment of this lane whose latest timestamp is beyond this one holds no series' first sample since
    /// its target was opened.
    pub(crate) fn newest_first_sample(&self, lane: Lane) -> Timestamp {
        Timestamp::from_millis(self.newest_first_samples[lane.index()].load(Ordering::Relaxed))
    }

    /// Notes that a fragment holds first samples.
    pub(super) fn saw_first_samples(&self, lane: Lane, newest: Timestamp) {
        self.newest_first_samples[lane.index()].fetch_max(newest.as_millis(), Ordering::Relaxed);
    }

    /// Says what an earlier run left: which targets' series were spread over several lanes, by the hash of their
    /// labels, and in which lanes samples still wait. A target that is another size now keeps to its lanes.
    pub fn expect_backlog(&self, spread: impl IntoIterator<Item = u64>, lanes: LaneSet) {
        *self.spread.lock().unwrap_or_else(PoisonError::into_inner) =
            TargetLanes { spread: spread.into_iter().collect(), backlog: lanes, ..TargetLanes::default() };
    }

    /// Says that of the lanes in which samples of an earlier run waited only these are left: targets that come now may
    /// have several lanes.
    pub fn narrow_backlog(&self, lanes: LaneSet) {
        self.spread.lock().unwrap_or_else(PoisonError::into_inner).narrow_backlog(lanes);
    }

    /// Decides whether a target's series are spread, given that its size asks for it or not: as they were before
    /// where anything of it may wait. Also says whether that is new.
    pub(super) fn decide_spread(&self, target: u64, huge: bool) -> (bool, bool) {
        self.spread.lock().unwrap_or_else(PoisonError::into_inner).decide(target, huge)
    }

    /// How many series are active now, over all targets; exact. Of several profiles that leave out or rename
    /// different series, it is that of the one with the most.
    pub fn active_series(&self) -> usize {
        self.sets().iter().map(|set| set.len()).max().unwrap_or(0)
    }

    /// How many series of each job are active now under `profile`, the most first; exact.
    pub fn active_series_by_job(&self, profile: &Arc<Profile>) -> Vec<JobSeries> {
        self.fingerprints(profile).by_job()
    }

    /// What the targets now say about their metric families, each once.
    pub fn metadata(&self) -> Vec<Arc<Metadata>> {
        self.metadata.live()
    }

    /// Bytes of memory that the set of active series takes.
    pub fn active_series_bytes(&self) -> usize {
        self.sets().iter().map(|set| set.memory_bytes()).sum()
    }

    /// The active series of every profile that names them as this one does.
    pub(super) fn fingerprints(&self, profile: &Arc<Profile>) -> Arc<Fingerprints> {
        let mut sets = self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, set)) = sets.iter().find(|(known, _)| known.names_series_as(profile)) {
            return Arc::clone(set);
        }
        // Those of earlier profiles that no target uses any more.
        sets.retain(|(_, set)| Arc::strong_count(set) > 1);
        let set = Arc::new(Fingerprints::new());
        sets.push((Arc::clone(profile), Arc::clone(&set)));
        set
    }

    fn sets(&self) -> Vec<Arc<Fingerprints>> {
        let sets = self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
        sets.iter().map(|(_, set)| Arc::clone(set)).collect()
    }

    /// As many of these exist as there ever were scrapes being encoded at once.
    pub(super) fn take_scratch(&self) -> Box<Scratch> {
        let idle = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Box::new(Scratch::new()))
    }

    /// Keeps it for the next scrape, if the budget has room for what it holds.
    pub(super) fn give_scratch(&self, mut scratch: Box<Scratch>) {
        if scratch.keep(&self.budget) {
            self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        }
    }
}

/// Each distinct metadata once: the targets of a job say the same about the same families.
#[derive(Debug)]
pub(super) struct MetadataPool(Mutex<Pool>);

#[derive(Debug)]
struct Pool {
    table: HashTable<Arc<Metadata>>,
    hasher: DefaultHashBuilder,
    sweep_at: usize,
    /// Bytes of the texts in the table.
    bytes: usize,
    /// The budget for them, in steps.
    reservation: Option<Reservation>,
    budget: MemoryBudget,
}

/// Reserved at once: most families take less than a hundredth of it.
const RESERVE_STEP: usize = 16 * 1024;

impl MetadataPool {
    fn new(budget: &MemoryBudget) -> Self {
        Self(Mutex::new(Pool {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            sweep_at: 0,
            bytes: 0,
            reservation: None,
            budget: budget.clone(),
        }))
    }

    pub(super) fn intern(&self, view: &MetadataView<'_>) -> Arc<Metadata> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Pool { table, hasher, sweep_at, bytes, reservation, budget } = &mut *guard;
        let hash = hash(hasher, view);
        if let Some(known) = table.find(hash, |known| self::view(known) == *view) {
            return Arc::clone(known);
        }
        if table.len() >= *sweep_at {
            table.retain(|known| Arc::strong_count(known) > 1);
            *sweep_at = 2 * table.len() + 64;
            *bytes = table.iter().map(|known| text_bytes(&self::view(known))).sum();
            table.shrink_to(table.len(), |known| self::hash(hasher, &self::view(known)));
        }
        let metadata = Arc::new(Metadata::from(*view));
        table.insert_unique(hash, Arc::clone(&metadata), |known| self::hash(hasher, &self::view(known)));
        *bytes += text_bytes(view);
        let wanted = bytes.next_multiple_of(RESERVE_STEP);
        // What is there is there: when the budget is exhausted, the next new series feels it.
        match reservation {
            Some(held) if held.bytes() == wanted => {}
            Some(held) => drop(held.resize(wanted)),
            None => *reservation = budget.try_reserve(Purpose::Series, wanted).ok(),
        }
        metadata
    }

    fn live(&self) -> Vec<Arc<Metadata>> {
        let pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pool.table.iter().filter(|known| Arc::strong_count(known) > 1).cloned().collect()
    }
}

/// What an entry takes: the texts, and the allocation and place in the table.
fn text_bytes(view: &MetadataView<'_>) -> usize {
    view.family.len() + view.unit.len() + view.help.len() + size_of::<Metadata>() + 32
}

/// A borrowed view of owned metadata.
pub(super) fn view(metadata: &Metadata) -> MetadataView<'_> {
    MetadataView {
        family: &metadata.family,
        metric_type: metadata.metric_type,
        unit: &metadata.unit,
        help: &metadata.help,
    }
}

fn hash(hasher: &DefaultHashBuilder, view: &MetadataView<'_>) -> u64 {
    let mut state = hasher.build_hasher();
    view.hash(&mut state);
    std::hash::Hasher::finish(&state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_keeps_to_its_lanes_whatever_size_it_comes_back_in() {
        let mut lanes = TargetLanes { spread: BTreeSet::from([1]), ..TargetLanes::default() };
        lanes.backlog.insert(Lane::of_hash(2));
        let mut decide = |target, huge| lanes.decide(target, huge);
        assert_eq!(decide(1, false), (true, false), "it was spread by an earlier run");
        assert_eq!(decide(2, true), (false, false), "its lane has older samples");
        assert_eq!(decide(3, true), (true, true));
        assert_eq!(decide(3, false), (true, false));
        assert_eq!(decide(4, false), (false, false));
        assert_eq!(decide(4, true), (false, false));

        // Another one of the lane with older samples, before and after they were delivered.
        let other = 2 + Lane::COUNT as u64;
        assert_eq!(lanes.decide(2 + 2 * Lane::COUNT as u64, true), (false, false));
        lanes.narrow_backlog(LaneSet::EMPTY);
        lanes.narrow_backlog(LaneSet::ALL);
        assert_eq!(lanes.decide(other, true), (true, true));
        assert_eq!(lanes.decide(2, true), (false, false), "it has newer ones in one lane");
    }

    #[test]
    fn targets_that_are_too_many_to_be_told_apart_keep_to_their_lanes_too() {
        let mut lanes = TargetLanes::default();
        // All in one lane, by the way in which lanes are made of hashes.
        let of_lane = |number: u64| number * Lane::COUNT as u64;
        for target in 0..=MAX_SINGLE as u64 {
            lanes.decide(of_lane(target), false);
        }
        assert_eq!(lanes.single.len(), 1);
        assert_eq!(lanes.decide(of_lane(0), true), (false, false));
        assert_eq!(lanes.decide(of_lane(1_000_000), true), (false, false), "only slower, never wrong");
        assert_eq!(lanes.decide(of_lane(0) + 1, true), (true, true), "another lane");
    }
}
