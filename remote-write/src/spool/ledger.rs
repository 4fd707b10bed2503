use std::fmt;

use smol_str::SmolStr;

use crate::Counts;

/// Why samples were dropped, as the `reason` label names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reason(SmolStr);

impl Reason {
    /// Older than the endpoint's `sample_age_limit`.
    pub const TOO_OLD: Self = Self(SmolStr::new_static("too_old"));
    /// The spool was full and they were the oldest in it.
    pub const SPOOL_FULL: Self = Self(SmolStr::new_static("spool_full"));
    /// Damaged on disk.
    pub const CORRUPT: Self = Self(SmolStr::new_static("corrupt"));
    /// The endpoint refused them.
    pub const REFUSED: Self = Self(SmolStr::new_static("refused"));
    /// Their series leaves under the very same labels as another one, which was there first.
    pub const DUPLICATE_SERIES: Self = Self(SmolStr::new_static("duplicate_series"));
    /// The memory budget had no room to store them.
    pub const OVER_BUDGET: Self = Self(SmolStr::new_static("over_budget"));
    /// Neither the disk nor the memory that stands in for it could take them.
    pub const STORAGE: Self = Self(SmolStr::new_static("storage"));
    /// Native histograms with custom buckets, which 1.0 has no place for; Prometheus' name for it.
    pub const NHCB_IN_RW1: Self = Self(SmolStr::new_static("nhcb_in_rw1_not_supported"));
    /// Native histograms that were stored for 2.0, where 1.0 is sent and `send_native_histograms` is off.
    pub const NATIVE_HISTOGRAMS_OFF: Self = Self(SmolStr::new_static("native_histograms_off"));
    /// Of an endpoint that left the configuration and was given up, by time or by hand.
    pub const ABANDONED: Self = Self(SmolStr::new_static("abandoned"));
    /// Not dropped but moved to the endpoint's parked queue, with which the ledger goes on
    /// ([`SpoolCore::park`](super::SpoolCore::park)); no snapshot shows it.
    pub const PARKED: Self = Self(SmolStr::new_static("parked"));
    /// Settled without a word on what became of them: a fault of the caller, never of the endpoint.
    pub const UNACCOUNTED: Self = Self(SmolStr::new_static("unaccounted"));

    /// The reason of this name; lower case with underscores, at most 255 bytes (longer ones are cut).
    pub fn new(name: &str) -> Self {
        let mut end = name.len().min(usize::from(u8::MAX));
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self(SmolStr::new(&name[..end]))
    }

    /// Whether the endpoint refused them; otherwise they were given up before they were sent, or instead.
    pub fn is_refusal(&self) -> bool {
        const OURS: [Reason; 10] = [
            Reason::TOO_OLD,
            Reason::SPOOL_FULL,
            Reason::CORRUPT,
            Reason::DUPLICATE_SERIES,
            Reason::OVER_BUDGET,
            Reason::STORAGE,
            Reason::NHCB_IN_RW1,
            Reason::NATIVE_HISTOGRAMS_OFF,
            Reason::ABANDONED,
            Reason::UNACCOUNTED,
        ];
        !OURS.contains(self)
    }

    /// The reason's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What became of everything one endpoint was to be sent, since it was first seen and over all restarts.
///
/// `accepted = delivered + dropped + pending`, for each kind, in every snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerSnapshot {
    /// Everything that was handed to the spool for this endpoint.
    pub accepted: Counts,
    /// What the endpoint took.
    pub delivered: Counts,
    /// What was given up, by reason, sorted by name.
    pub dropped: Vec<(Reason, Counts)>,
    /// What is stored or in flight.
    pub pending: Counts,
    /// What of it is parked: the endpoint does not take it for now.
    pub parked: Counts,
}

impl LedgerSnapshot {
    /// Everything that was dropped.
    pub fn dropped_total(&self) -> Counts {
        self.dropped.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts)
    }

    /// What was dropped for this reason.
    pub fn dropped_for(&self, reason: &Reason) -> Counts {
        self.dropped.iter().find(|(r, _)| r == reason).map_or_else(Counts::default, |(_, counts)| *counts)
    }

    /// The ledger of an endpoint together with that of its parked queue: what was moved there is counted once.
    pub(super) fn with_parked(self, parked: Self) -> Self {
        let moved = self.dropped_for(&Reason::PARKED) + parked.dropped_for(&Reason::PARKED);
        let mut dropped = Dropped::default();
        for (reason, counts) in self.dropped.iter().chain(&parked.dropped) {
            if *reason != Reason::PARKED {
                dropped.add(reason, *counts);
            }
        }
        Self {
            accepted: (self.accepted + parked.accepted) - moved,
            delivered: self.delivered + parked.delivered,
            dropped: dropped.into_vec(),
            pending: self.pending + parked.pending,
            parked: parked.pending,
        }
    }

    /// Whether `accepted = delivered + dropped + pending` for each kind.
    pub fn balances(&self) -> bool {
        self.accepted == self.delivered + self.dropped_total() + self.pending
    }
}

/// Dropped counts by reason: few, so a sorted vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped(Vec<(Reason, Counts)>);

impl Dropped {
    pub(super) fn add(&mut self, reason: &Reason, counts: Counts) {
        if counts.is_zero() {
            return;
        }
        match self.0.binary_search_by(|(r, _)| r.cmp(reason)) {
            Ok(at) => self.0[at].1 += counts,
            Err(at) => self.0.insert(at, (reason.clone(), counts)),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (reason, counts) in &other.0 {
            self.add(reason, *counts);
        }
    }

    pub(super) fn total(&self) -> Counts {
        self.0.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &(Reason, Counts)> {
        self.0.iter()
    }

    pub(super) fn into_vec(self) -> Vec<(Reason, Counts)> {
        self.0
    }
}
