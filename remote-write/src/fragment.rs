use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use bytes::Bytes;
use promferry_model::Timestamp;

/// One scrape of one lane, or a slice of it, encoded: the unit that is stored, read back and acknowledged.
///
/// The body is self-contained: a protobuf `prometheus.WriteRequest` (1.0) or
/// `io.prometheus.write.v2.Request` (2.0, with its own symbols) whose metadata-free time series carry one
/// sample or histogram each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Which lane's order it belongs to.
    pub lane: Lane,
    /// Which message the body is.
    pub protocol: Protocol,
    /// Whether the body is compressed.
    pub compression: Compression,
    /// What is in it.
    pub counts: Counts,
    /// The body's length in bytes before compression.
    pub raw_len: u32,
    /// The earliest timestamp in it.
    pub min_timestamp: Timestamp,
    /// The latest timestamp in it.
    pub max_timestamp: Timestamp,
    /// The encoded message.
    pub body: Bytes,
}

/// A remote-write message and the version header that goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `prometheus.WriteRequest`, remote write 1.0.
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`, remote write 2.0.
    V2,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "remote write 1.0",
            Self::V2 => "remote write 2.0",
        })
    }
}

/// How a fragment's body is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// As it is; small bodies are compressed together when they are sent.
    None,
    /// Snappy's block format.
    Snappy,
}

/// How much of each kind there is; what the ledger counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Float samples, stale markers included.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Counts {
    /// Whether there is nothing.
    pub const fn is_zero(&self) -> bool {
        self.samples == 0 && self.histograms == 0 && self.exemplars == 0
    }

    /// Samples and histograms: what `max_samples_per_send` limits.
    pub const fn values(&self) -> u64 {
        self.samples.saturating_add(self.histograms)
    }
}

impl Add for Counts {
    type Output = Self;

    /// Saturates: counts read from a disk may be anything.
    fn add(self, other: Self) -> Self {
        Self {
            samples: self.samples.saturating_add(other.samples),
            histograms: self.histograms.saturating_add(other.histograms),
            exemplars: self.exemplars.saturating_add(other.exemplars),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Counts {
    type Output = Self;

    /// Saturates: a ledger never goes below nothing.
    fn sub(self, other: Self) -> Self {
        Self {
            samples: self.samples.saturating_sub(other.samples),
            histograms: self.histograms.saturating_sub(other.histograms),
            exemplars: self.exemplars.saturating_sub(other.exemplars),
        }
    }
}

/// One of [`Lane::COUNT`] queues whose order is kept: a target's samples always take the same lane.
///
/// The number is part of the spool's format: an unseeded xxh3 hash of the target's public labels, modulo 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(u8);

impl Lane {
    /// How many lanes there are.
    pub const COUNT: usize = 64;

    /// The lane of a stable hash ([`promferry_model::Labels::stable_hash`]).
    pub const fn of_hash(hash: u64) -> Self {
        Self((hash % Self::COUNT as u64) as u8)
    }

    /// The lane of this number.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// The lane's number, below [`Lane::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All lanes.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }
}

/// A set of lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneSet(u64);

impl LaneSet {
    /// No lane.
    pub const EMPTY: Self = Self(0);
    /// Every lane.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether the lane is in the set.
    pub const fn contains(self, lane: Lane) -> bool {
        self.0 & (1 << lane.0) != 0
    }

    /// Adds a lane.
    pub const fn insert(&mut self, lane: Lane) {
        self.0 |= 1 << lane.0;
    }

    /// Takes a lane out.
    pub const fn remove(&mut self, lane: Lane) {
        self.0 &= !(1 << lane.0);
    }

    /// Whether no lane is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lanes in the set, by number.
    pub fn iter(self) -> impl Iterator<Item = Lane> {
        Lane::all().filter(move |&lane| self.contains(lane))
    }
}

impl FromIterator<Lane> for LaneSet {
    fn from_iter<I: IntoIterator<Item = Lane>>(lanes: I) -> Self {
        let mut set = Self::EMPTY;
        for lane in lanes {
            set.insert(lane);
        }
        set
    }
}
