use std::sync::Arc;

use hashbrown::HashMap;
use promferry_model::{Label, SeriesId, TargetInfo, Timestamp};
use smol_str::SmolStr;

use super::Profiles;
use super::arena::Arena;
use super::context::EncodingContext;
use super::fingerprints::{Claim, Fingerprints, Owner};
use super::profile::Outgoing;

/// Which of a target's series are its own to send. A series belongs to whoever first sends something under its
/// labels as they leave, external labels and write relabelling included: so that no two samples with one
/// timestamp leave as one series, whether two targets or two series of one target would send them.
#[derive(Debug)]
pub(super) struct Claims {
    job: SmolStr,
    url: SmolStr,
    ways: Vec<Way>,
    /// Series that are not sent because of another, with the hash of their labels: by way and id.
    duplicates: HashMap<(usize, SeriesId), u64>,
    seed: u64,
    /// When the scrape happened that is under way, else the last one.
    at: Option<Timestamp>,
}

/// One way in which series are named: the target as an owner of such series, and the profiles that name them so.
#[derive(Debug)]
struct Way {
    owner: Owner,
    profiles: Vec<usize>,
}

/// What became of the claims of one series: for each way its hash and the claim; `None` where it is not sent.
pub(super) struct Claimed(Vec<Option<(u64, Claim)>>);

impl Claims {
    pub(super) fn new(target: &TargetInfo, profiles: &Profiles, context: &EncodingContext) -> Self {
        let (job, url) = (target.job.clone(), SmolStr::new(&target.url));
        let ways = sets(profiles, context).into_iter();
        let ways = ways.map(|(set, profiles)| Way { owner: set.register(&job, &url), profiles }).collect();
        Self { job, url, ways, duplicates: HashMap::new(), seed: context.seed, at: None }
    }

    /// Says when the scrape happens that begins.
    pub(super) fn set_time(&mut self, at: Timestamp) {
        self.at = Some(at);
    }

    /// Asks for a series, of which `outgoing` is what each profile makes.
    pub(super) fn claim(&self, profiles: &Profiles, labels: &[Label], outgoing: &[Outgoing]) -> Claimed {
        let claim = |way: &Way| {
            let first = *way.profiles.first()?;
            let fingerprint = profiles[first].fingerprint(labels, &outgoing[first], self.seed)?;
            Some((fingerprint, way.owner.claim(fingerprint, self.at)))
        };
        Claimed(self.ways.iter().map(claim).collect())
    }

    /// Undoes a claim that came to nothing.
    pub(super) fn give_back(&self, Claimed(claims): &Claimed) {
        for (way, claim) in self.ways.iter().zip(claims) {
            if let Some((fingerprint, Claim::New)) = claim {
                way.owner.release(*fingerprint, None);
            }
        }
    }

    /// Keeps a series that was admitted from being sent where another one leaves under its labels; whose that
    /// is.
    pub(super) fn admitted(&mut self, id: SeriesId, claimed: Claimed, arena: &mut Arena) -> Option<SmolStr> {
        let mut first = None;
        for (number, claim) in claimed.0.into_iter().enumerate() {
            let (fingerprint, owner) = match claim {
                None | Some((_, Claim::New)) => continue,
                Some((fingerprint, Claim::Own)) => (fingerprint, self.url.clone()),
                Some((fingerprint, Claim::Foreign(owner))) => (fingerprint, owner),
            };
            self.add_duplicate(number, id, fingerprint, arena);
            first = first.or(Some(owner));
        }
        first
    }

    /// Sends duplicates whose other one is gone.
    pub(super) fn retry(&mut self, arena: &mut Arena) {
        let Self { ways, duplicates, at, .. } = self;
        duplicates.retain(|&(number, id), &mut fingerprint| {
            let Way { owner, profiles } = &ways[number];
            if owner.claim(fingerprint, *at) != Claim::New {
                return true;
            }
            owner.count_duplicate(false);
            if !profiles.iter().all(|&profile| arena.unset_duplicate(profile, id)) {
                owner.release(fingerprint, None);
            }
            false
        });
    }

    /// Whether some series is known and not sent.
    pub(super) fn has_duplicates(&self) -> bool {
        !self.duplicates.is_empty()
    }

    /// Lets go of a series, which is still in the arena.
    pub(super) fn release(&mut self, id: SeriesId, arena: &Arena) {
        for (number, way) in self.ways.iter().enumerate() {
            if !self.duplicates.is_empty() && self.duplicates.remove(&(number, id)).is_some() {
                way.owner.count_duplicate(false);
            }
            way.release(id, arena, self.seed, self.at);
        }
    }

    /// Lets go of all series.
    pub(super) fn release_all(&self, arena: &Arena) {
        for way in &self.ways {
            arena.ids().for_each(|id| way.release(id, arena, self.seed, self.at));
        }
    }

    /// Takes over other profiles, the arena too. Returns the first series that is not sent from now on because of
    /// another one, and whose that is.
    pub(super) fn set_profiles(
        &mut self,
        profiles: &Profiles,
        arena: &mut Arena,
        context: &EncodingContext,
    ) -> Option<(SeriesId, SmolStr)> {
        let mut first = None;
        let sets = sets(profiles, context);
        let mut old: Vec<Option<Way>> = std::mem::take(&mut self.ways).into_iter().map(Some).collect();
        for way in old.iter().flatten().filter(|way| !sets.iter().any(|(set, _)| way.owner.is_of(set))) {
            arena.ids().for_each(|id| way.release(id, arena, self.seed, self.at));
        }
        arena.set_profiles(profiles);
        let duplicates = std::mem::take(&mut self.duplicates);
        for (number, (set, profiles)) in sets.into_iter().enumerate() {
            let known = old.iter().position(|way| way.as_ref().is_some_and(|way| way.owner.is_of(&set)));
            match known.and_then(|at| Some((at, old[at].take()?))) {
                Some((at, way)) => {
                    self.ways.push(Way { owner: way.owner, profiles });
                    for (&(_, id), &fingerprint) in duplicates.iter().filter(|((way, _), _)| *way == at) {
                        self.ways[number].owner.count_duplicate(false);
                        self.add_duplicate(number, id, fingerprint, arena);
                    }
                }
                None => {
                    let profile = profiles.first().copied().unwrap_or_default();
                    self.ways.push(Way { owner: set.register(&self.job, &self.url), profiles });
                    let owner = &self.ways[number].owner;
                    let duplicates: Vec<_> = arena
                        .ids()
                        .filter_map(|id| {
                            let fingerprint = arena.outgoing_hash(profile, id, self.seed)?;
                            match owner.claim(fingerprint, self.at) {
                                Claim::New => None,
                                Claim::Own => Some((id, fingerprint, self.url.clone())),
                                Claim::Foreign(owner) => Some((id, fingerprint, owner)),
                            }
                        })
                        .collect();
                    for (id, fingerprint, owner) in duplicates {
                        self.add_duplicate(number, id, fingerprint, arena);
                        first = first.or(Some((id, owner)));
                    }
                }
            }
        }
        first
    }

    /// Bytes of memory that the claims of this many series take, in the sets of active series too.
    pub(super) fn memory_bytes(&self, series: usize) -> usize {
        self.ways.len() * series * FINGERPRINT_BYTES + self.duplicates.allocation_size()
    }

    fn add_duplicate(&mut self, number: usize, id: SeriesId, fingerprint: u64, arena: &mut Arena) {
        let way = &self.ways[number];
        way.owner.count_duplicate(true);
        way.profiles.iter().for_each(|&profile| arena.set_duplicate(profile, id));
        self.duplicates.insert((number, id), fingerprint);
    }
}

impl Way {
    /// A duplicate has no hash here: it is not sent.
    fn release(&self, id: SeriesId, arena: &Arena, seed: u64, at: Option<Timestamp>) {
        let first = self.profiles.first();
        if let Some(fingerprint) = first.and_then(|&first| arena.outgoing_hash(first, id, seed)) {
            self.owner.release(fingerprint, at);
        }
    }
}

impl Claimed {
    /// Whether the series is sent anywhere where it was not before.
    pub(super) fn is_new(&self) -> bool {
        self.0.iter().flatten().any(|(_, claim)| *claim == Claim::New)
    }

    /// Who owns the series, if it would be sent and other targets send it wherever it would be.
    pub(super) fn owned_elsewhere(&self) -> Option<SmolStr> {
        let mut owner = None;
        for (_, claim) in self.0.iter().flatten() {
            match claim {
                Claim::Foreign(url) => owner = owner.or_else(|| Some(url.clone())),
                Claim::New | Claim::Own => return None,
            }
        }
        owner
    }
}

/// What the set of active series takes for each.
const FINGERPRINT_BYTES: usize = 17;

/// The sets of active series that `profiles` use, each with the profiles that use it.
fn sets(profiles: &Profiles, context: &EncodingContext) -> Vec<(Arc<Fingerprints>, Vec<usize>)> {
    let mut sets: Vec<(Arc<Fingerprints>, Vec<usize>)> = Vec::new();
    for (at, profile) in profiles.iter().enumerate() {
        let set = context.fingerprints(profile);
        match sets.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &set)) {
            Some((_, profiles)) => profiles.push(at),
            None => sets.push((set, vec![at])),
        }
    }
    sets
}
