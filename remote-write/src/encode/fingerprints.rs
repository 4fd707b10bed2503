use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use promferry_model::Timestamp;
use smol_str::SmolStr;

use super::context::JobSeries;

const SHARDS: usize = 64;

/// Which target writes which series: a 64-bit seeded hash of each active series' labels, as they leave, and the
/// number of the target that owns it, in shards with a lock each.
///
/// It finds two targets that write one series, and its size is the exact number of active series. Two
/// different series with one hash would be taken for one; at a million active series the odds that this
/// happens anywhere are 1 in 37 million.
#[derive(Debug)]
pub(super) struct Fingerprints {
    shards: Box<[Mutex<Shard>]>,
    owners: Mutex<Owners>,
    handovers: Mutex<HashMap<u64, Handover>>,
}

/// A series that another target asked for was let go: who takes it over writes later timestamps only.
#[derive(Debug)]
struct Handover {
    /// The timestamp of the last scrape that may have written it.
    last: Timestamp,
    /// Who wrote it.
    owner: SmolStr,
}

/// Handovers are noted in this many steps before those that are long over are forgotten.
const HANDOVERS_SWEPT_EVERY: usize = 1024;
/// No scrape takes longer than this.
const HANDOVER_IS_OVER: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
struct Owners {
    slots: Vec<Option<Arc<OwnerEntry>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct OwnerEntry {
    number: u32,
    job: SmolStr,
    url: SmolStr,
    series: AtomicUsize,
    duplicates: AtomicUsize,
}

/// A target as an owner of series. It has to release what it claimed before it is dropped.
#[derive(Debug)]
pub(super) struct Owner {
    entry: Arc<OwnerEntry>,
    fingerprints: Arc<Fingerprints>,
}

/// What became of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody owned the series; now the claimant does.
    New,
    /// The claimant owns it already.
    Own,
    /// Another target owns it, or did until just now: its address.
    Foreign(SmolStr),
}

impl Fingerprints {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            owners: Mutex::default(),
            handovers: Mutex::default(),
        }
    }

    pub(super) fn register(self: &Arc<Self>, job: &SmolStr, url: &str) -> Owner {
        let mut owners = lock(&self.owners);
        let number = owners.free.pop().unwrap_or_else(|| {
            owners.slots.push(None);
            owners.slots.len() as u32 - 1
        });
        let (job, url) = (job.clone(), url.into());
        let entry = Arc::new(OwnerEntry { number, job, url, series: 0.into(), duplicates: 0.into() });
        owners.slots[number as usize] = Some(Arc::clone(&entry));
        drop(owners);
        Owner { entry, fingerprints: Arc::clone(self) }
    }

    /// How many series are active.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len).sum()
    }

    /// How many series are active in each job, the most first.
    pub(super) fn by_job(&self) -> Vec<JobSeries> {
        let mut jobs: Vec<JobSeries> = Vec::new();
        let mut index: HashMap<SmolStr, usize> = HashMap::new();
        for entry in lock(&self.owners).slots.iter().flatten() {
            let at = *index.entry(entry.job.clone()).or_insert_with(|| {
                jobs.push(JobSeries { job: entry.job.clone(), active: 0, duplicates: 0 });
                jobs.len() - 1
            });
            jobs[at].active += entry.series.load(Ordering::Relaxed);
            jobs[at].duplicates += entry.duplicates.load(Ordering::Relaxed);
        }
        jobs.sort_by(|a, b| b.active.cmp(&a.active).then_with(|| a.job.cmp(&b.job)));
        jobs
    }

    /// Bytes of memory that the entries take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).slots.capacity() * size_of::<Slot>()).sum()
    }

    fn shard(&self, fingerprint: u64) -> MutexGuard<'_, Shard> {
        // The low bits choose the shard, the high ones the place in it.
        lock(&self.shards[fingerprint as usize % SHARDS])
    }
}

impl Owner {
    /// Asks for a series, to write it at `at` for the first time; without a time anything that is free is had.
    pub(super) fn claim(&self, fingerprint: u64, at: Option<Timestamp>) -> Claim {
        let mut shard = self.fingerprints.shard(fingerprint);
        let owner = shard.claim(fingerprint, self.entry.number);
        if owner == EMPTY {
            if let Some(owner) = self.fingerprints.just_let_go(fingerprint, at) {
                shard.remove(fingerprint, self.entry.number);
                return Claim::Foreign(owner);
            }
            self.entry.series.fetch_add(1, Ordering::Relaxed);
            return Claim::New;
        }
        drop(shard);
        if owner == self.entry.number {
            return Claim::Own;
        }
        let owners = lock(&self.fingerprints.owners);
        let url = owners.slots.get(owner as usize).and_then(Option::as_ref).map(|entry| entry.url.clone());
        Claim::Foreign(url.unwrap_or_default())
    }

    /// Lets go of a series that was written at `last` at the latest.
    pub(super) fn release(&self, fingerprint: u64, last: Option<Timestamp>) {
        let mut shard = self.fingerprints.shard(fingerprint);
        let Some(is_wanted) = shard.remove(fingerprint, self.entry.number) else { return };
        self.entry.series.fetch_sub(1, Ordering::Relaxed);
        if let Some(last) = last.filter(|_| is_wanted) {
            self.fingerprints.hand_over(fingerprint, Handover { last, owner: self.entry.url.clone() });
        }
    }

    /// Counts a series that is not sent because another leaves under the same labels, or one less.
    pub(super) fn count_duplicate(&self, more: bool) {
        if more {
            self.entry.duplicates.fetch_add(1, Ordering::Relaxed);
        } else {
            self.entry.duplicates.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether what it claims it claims in this set.
    pub(super) fn is_of(&self, fingerprints: &Arc<Fingerprints>) -> bool {
        Arc::ptr_eq(&self.fingerprints, fingerprints)
    }
}

impl Fingerprints {
    fn hand_over(&self, fingerprint: u64, handover: Handover) {
        let mut handovers = lock(&self.handovers);
        let last = handover.last;
        handovers.insert(fingerprint, handover);
        if handovers.len().is_multiple_of(HANDOVERS_SWEPT_EVERY) {
            handovers.retain(|_, old| old.last > last.saturating_sub(HANDOVER_IS_OVER));
        }
    }

    /// Who let go of a series that may not be written at `at` yet. Its shard is locked meanwhile.
    fn just_let_go(&self, fingerprint: u64, at: Option<Timestamp>) -> Option<SmolStr> {
        let mut handovers = lock(&self.handovers);
        if handovers.is_empty() {
            return None;
        }
        let handover = handovers.get(&fingerprint)?;
        if at.is_some_and(|at| at <= handover.last) {
            return Some(handover.owner.clone());
        }
        handovers.remove(&fingerprint);
        None
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut owners = lock(&self.fingerprints.owners);
        owners.slots[self.entry.number as usize] = None;
        owners.free.push(self.entry.number);
    }
}

/// Fingerprint (low half, high half) and owner. 12 bytes, where a padded pair would take 16.
type Slot = [u32; 3];

/// Beside the owner: another one has asked for the series.
const WANTED: u32 = 1 << 31;
const EMPTY: u32 = u32::MAX;
const EMPTY_SLOT: Slot = [0, 0, EMPTY];

/// Open addressing with linear probing that grows by a quarter and stays 72 to 90 % full. A table that
/// doubles would be half empty after each growth: 13 to 17 bytes a series here, up to 30 there.
#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    len: usize,
}

impl Shard {
    /// Who owned it before; [`EMPTY`] when nobody did and `owner` does now.
    fn claim(&mut self, fingerprint: u64, owner: u32) -> u32 {
        if (self.len + 1) * 10 > self.slots.len() * 9 {
            self.grow();
        }
        let at = self.find(fingerprint);
        if self.slots[at][2] != EMPTY {
            let before = self.slots[at][2] & !WANTED;
            if before != owner {
                self.slots[at][2] |= WANTED;
            }
            return before;
        }
        self.slots[at] = [fingerprint as u32, (fingerprint >> 32) as u32, owner];
        self.len += 1;
        EMPTY
    }

    /// Whether another one has asked for it; `None` when it is not `owner`'s.
    fn remove(&mut self, fingerprint: u64, owner: u32) -> Option<bool> {
        if self.slots.is_empty() {
            return None;
        }
        let mut hole = self.find(fingerprint);
        let held = self.slots[hole][2];
        if held == EMPTY || held & !WANTED != owner {
            return None;
        }
        // Entries behind the hole move up unless that would put them before their home.
        let capacity = self.slots.len();
        let mut at = (hole + 1) % capacity;
        while self.slots[at][2] != EMPTY {
            let home = self.home(of(self.slots[at]));
            let distance_from = |place: usize| (place + capacity - home) % capacity;
            if distance_from(hole) < distance_from(at) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = (at + 1) % capacity;
        }
        self.slots[hole] = EMPTY_SLOT;
        self.len -= 1;
        // A quarter of what it could hold: a tidal wave of series has passed.
        if capacity > 64 && self.len * 4 < capacity {
            self.rebuild(self.len + self.len / 4 + 8);
        }
        Some(held & WANTED != 0)
    }

    fn find(&self, fingerprint: u64) -> usize {
        let mut at = self.home(fingerprint);
        while self.slots[at][2] != EMPTY && of(self.slots[at]) != fingerprint {
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        at
    }

    /// Maps the high half of the hash onto the places, any number of them.
    fn home(&self, fingerprint: u64) -> usize {
        (((fingerprint >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    fn grow(&mut self) {
        self.rebuild(self.slots.len() + self.slots.len() / 4 + 8);
    }

    fn rebuild(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY_SLOT; capacity]);
        for slot in old.into_iter().filter(|slot| slot[2] != EMPTY) {
            let at = self.find(of(slot));
            self.slots[at] = slot;
        }
    }
}

fn of(slot: Slot) -> u64 {
    u64::from(slot[0]) | (u64::from(slot[1]) << 32)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((0u64..40, 0u32..3, any::<bool>()), 0..400)) {
            let mut shard = Shard::default();
            let mut model = HashMap::new();
            for (key, owner, add) in steps {
                // Few distinct high halves, so that runs of neighbours form.
                let fingerprint = key << 58 | key;
                if add {
                    let before = *model.entry(fingerprint).or_insert(owner);
                    let claimed = shard.claim(fingerprint, owner);
                    prop_assert!(claimed == EMPTY || claimed == before);
                } else {
                    let mine = model.get(&fingerprint) == Some(&owner);
                    prop_assert_eq!(shard.remove(fingerprint, owner).is_some(), mine);
                    if mine {
                        model.remove(&fingerprint);
                    }
                }
                prop_assert_eq!(shard.len, model.len());
                for (&fingerprint, &owner) in &model {
                    prop_assert_eq!(shard.slots[shard.find(fingerprint)][2] & !WANTED, owner);
                }
            }
        }
    }

    #[test]
    fn one_series_has_one_owner_and_jobs_are_counted() {
        let fingerprints = Arc::new(Fingerprints::new());
        let a = fingerprints.register(&"api".into(), "http://a");
        let b = fingerprints.register(&"web".into(), "http://b");
        assert_eq!(a.claim(1, None), Claim::New);
        assert_eq!(a.claim(1, None), Claim::Own);
        assert_eq!(b.claim(1, None), Claim::Foreign("http://a".into()));
        assert_eq!(b.claim(2, None), Claim::New);
        assert_eq!(b.claim(3, None), Claim::New);
        assert_eq!(fingerprints.len(), 3);
        let jobs: Vec<_> = fingerprints.by_job().into_iter().map(|job| (job.job, job.active)).collect();
        assert_eq!(jobs, [("web".into(), 2), ("api".into(), 1)]);
        b.release(1, None);
        assert_eq!(fingerprints.len(), 3);
        a.release(1, None);
        assert_eq!(b.claim(1, None), Claim::New);
    }

    #[test]
    fn who_takes_over_a_series_writes_later() {
        let fingerprints = Arc::new(Fingerprints::new());
        let a = fingerprints.register(&"api".into(), "http://a");
        let b = fingerprints.register(&"api".into(), "http://b");
        let at = |millis| Some(Timestamp::from_millis(millis));
        for series in [1, 2] {
            assert_eq!(a.claim(series, at(1000)), Claim::New);
        }
        assert_eq!(b.claim(1, at(1500)), Claim::Foreign("http://a".into()));
        for series in [1, 2] {
            a.release(series, at(2000));
        }
        for early in [1500, 2000] {
            assert_eq!(b.claim(1, at(early)), Claim::Foreign("http://a".into()));
        }
        assert_eq!(fingerprints.len(), 0);
        assert_eq!(b.claim(1, at(2001)), Claim::New);
        // Nobody waited for the other: nothing was noted.
        assert_eq!(b.claim(2, at(1999)), Claim::New);
        assert!(lock(&fingerprints.handovers).is_empty());
    }

    #[test]
    fn an_entry_takes_at_most_17_bytes() {
        let fingerprints = Arc::new(Fingerprints::new());
        let owner = fingerprints.register(&"job".into(), "http://a");
        let mut hash = 1u64;
        for n in 1..=200_000usize {
            hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ n as u64;
            owner.claim(hash, None);
            if n % 20_000 == 0 {
                let each = fingerprints.memory_bytes() as f64 / fingerprints.len() as f64;
                assert!(each <= 17.0, "{each} bytes each at {n}");
            }
        }
    }
}
