use std::fmt;

use bytes::Bytes;
use promferry_model::{MemoryBudget, OverBudget, Purpose, Reservation, Timestamp};

use super::writer::{MAX_FRAGMENT_VALUES, MIN_FRAGMENT_VALUES, Writer};
use super::{EncodedProfile, EncodedScrape, NotEncoded, Profiles};
use crate::{Compression, Counts, Fragment, Lane};

/// From this many bytes on a fragment is compressed when it closes. Smaller ones are compressed together
/// when they are sent: alone they would take twice the bytes.
pub(super) const MIN_COMPRESSED_BYTES: usize = 16 * 1024;

/// What snappy's encoder keeps: a table of 16,384 places in a block (`snap`'s `MAX_TABLE_SIZE`), of 16 bits each.
const SNAPPY_TABLE_BYTES: usize = 2 * 16_384;

/// The memory in which one scrape is encoded; scrapes use it one after the other.
pub(super) struct Scratch {
    /// Of each profile one writer a lane.
    writers: Vec<Writer>,
    lanes: usize,
    profiles: Vec<OpenProfile>,
    snappy: snap::raw::Encoder,
    compressed: Vec<u8>,
    message: Vec<u8>,
    reservation: Option<Reservation>,
    over_budget: Option<OverBudget>,
    /// The memory of all this while it is kept.
    kept: Option<Reservation>,
}

#[derive(Debug, Default)]
struct OpenProfile {
    closed: Vec<Fragment>,
    /// What went into them, also where the budget has no room for it.
    counts: Counts,
    /// The writer in which a time series is open.
    open: Option<usize>,
    unsupported_histograms: u64,
    duplicates: Counts,
    /// What was added last is a duplicate's: so are its exemplars.
    in_duplicate: bool,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            writers: Vec::new(),
            lanes: 0,
            profiles: Vec::new(),
            snappy: snap::raw::Encoder::new(),
            compressed: Vec::new(),
            message: Vec::new(),
            reservation: None,
            over_budget: None,
            kept: None,
        }
    }

    /// Accounts for the memory held; `false` when the budget has no room for it, so that it is better given back.
    pub(super) fn keep(&mut self, budget: &MemoryBudget) -> bool {
        let bytes = self.memory_bytes();
        match &mut self.kept {
            Some(kept) if kept.bytes() == bytes => true,
            Some(kept) => kept.resize(bytes).is_ok(),
            None => {
                self.kept = budget.try_reserve(Purpose::Buffers, bytes).ok();
                self.kept.is_some()
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let writers: usize = self.writers.iter().map(Writer::memory_bytes).sum();
        writers + self.compressed.capacity() + self.message.capacity() + SNAPPY_TABLE_BYTES
    }

    /// Starts a scrape of about `series` time series that goes into `lanes` lanes, of which `lane` says which they
    /// are.
    pub(super) fn begin(
        &mut self,
        profiles: &Profiles,
        series: usize,
        lanes: usize,
        lane: impl Fn(usize) -> Lane,
    ) {
        self.lanes = lanes;
        let writers = profiles.len() * lanes;
        while self.writers.len() < writers {
            self.writers.push(Writer::new());
        }
        for (at, writer) in self.writers[..writers].iter_mut().enumerate() {
            writer.reset(profiles[at / lanes].protocol, lane(at % lanes), max_values(series.div_ceil(lanes)));
        }
        self.profiles.resize_with(profiles.len(), OpenProfile::default);
        for profile in &mut self.profiles {
            profile.closed.clear();
            profile.counts = Counts::default();
            profile.open = None;
            profile.unsupported_histograms = 0;
            profile.duplicates = Counts::default();
            profile.in_duplicate = false;
        }
        self.reservation = None;
        self.over_budget = None;
    }

    /// The writer in which the next time series of `profile` and `lane` begins; ends the one that is open.
    pub(super) fn next_series(&mut self, profile: usize, lane: usize, budget: &MemoryBudget) -> &mut Writer {
        self.end_series(profile);
        let at = profile * self.lanes + lane;
        if self.writers[at].is_full() {
            self.close(profile, at, budget);
        }
        self.profiles[profile].open = Some(at);
        &mut self.writers[at]
    }

    /// Ends the time series of `profile` that is open: later exemplars are not its.
    pub(super) fn end_series(&mut self, profile: usize) {
        self.profiles[profile].in_duplicate = false;
        if let Some(at) = self.profiles[profile].open.take() {
            self.writers[at].end_series();
        }
    }

    /// The writer in which a time series of `profile` is open.
    pub(super) fn open_series(&mut self, profile: usize) -> Option<&mut Writer> {
        self.profiles[profile].open.map(|at| &mut self.writers[at])
    }

    pub(super) fn count_unsupported_histogram(&mut self, profile: usize) {
        self.profiles[profile].unsupported_histograms += 1;
    }

    /// Counts a value that is left out because another series leaves under the same labels.
    pub(super) fn count_duplicate(&mut self, profile: usize, counts: Counts) {
        self.end_series(profile);
        self.profiles[profile].duplicates += counts;
        self.profiles[profile].in_duplicate = true;
    }

    pub(super) fn count_exemplar_of_duplicate(&mut self, profile: usize) {
        let profile = &mut self.profiles[profile];
        profile.duplicates.exemplars += u64::from(profile.in_duplicate);
    }

    /// Closes what is open and hands over what was encoded.
    pub(super) fn finish(&mut self, budget: &MemoryBudget) -> Result<EncodedScrape, NotEncoded> {
        for profile in 0..self.profiles.len() {
            self.end_series(profile);
            for at in profile * self.lanes..(profile + 1) * self.lanes {
                self.close(profile, at, budget);
            }
        }
        let encoded = self.profiles.iter_mut().map(|profile| EncodedProfile {
            fragments: std::mem::take(&mut profile.closed),
            counts: profile.counts,
            nhcb_in_rw1_not_supported: profile.unsupported_histograms,
            duplicate_series: profile.duplicates,
        });
        let profiles = encoded.collect();
        if let Some(over) = self.over_budget.take() {
            self.reservation = None;
            return Err(NotEncoded { over, profiles });
        }
        match self.reservation.take().map_or_else(|| budget.try_reserve(Purpose::Buffers, 0), Ok) {
            Ok(reservation) => Ok(EncodedScrape { profiles, reservation }),
            Err(over) => Err(NotEncoded { over, profiles }),
        }
    }

    /// Forgets the scrape and gives back memory beyond what ordinary targets need.
    pub(super) fn clear(&mut self) {
        self.profiles.iter_mut().for_each(|profile| profile.closed.clear());
        self.reservation = None;
        self.writers.iter_mut().for_each(Writer::trim);
    }

    fn close(&mut self, profile: usize, at: usize, budget: &MemoryBudget) {
        let writer = &mut self.writers[at];
        let counts = writer.counts();
        if counts.is_zero() {
            return;
        }
        self.profiles[profile].counts += counts;
        if self.over_budget.is_none() {
            let (first, second) = writer.message();
            let raw_len = first.len() + second.len();
            let message = if first.is_empty() {
                second
            } else {
                self.message.clear();
                self.message.extend_from_slice(first);
                self.message.extend_from_slice(second);
                &self.message
            };
            let (compression, body) = if raw_len < MIN_COMPRESSED_BYTES {
                (Compression::None, message)
            } else {
                match compress(&mut self.snappy, &mut self.compressed, message) {
                    Ok(compressed) => (Compression::Snappy, compressed),
                    Err(_) => (Compression::None, message),
                }
            };
            match reserve_more(&mut self.reservation, budget, body.len()) {
                Ok(()) => {
                    let (min_timestamp, max_timestamp): (Timestamp, Timestamp) = writer.timestamps();
                    self.profiles[profile].closed.push(Fragment {
                        lane: writer.lane(),
                        protocol: writer.protocol(),
                        compression,
                        counts,
                        raw_len: raw_len as u32,
                        min_timestamp,
                        max_timestamp,
                        body: Bytes::copy_from_slice(body),
                    });
                }
                Err(over) => {
                    self.over_budget = Some(over);
                    self.profiles.iter_mut().for_each(|profile| profile.closed.clear());
                    self.reservation = None;
                }
            }
        }
        writer.clear();
    }
}

/// At how many samples and histograms a fragment closes, so that those of a scrape are of equal size: a small one
/// behind some large ones leaves requests half empty.
fn max_values(series: usize) -> u64 {
    let series = series as u64;
    let equal = series.div_ceil(series.div_ceil(MAX_FRAGMENT_VALUES).max(1));
    equal.clamp(MIN_FRAGMENT_VALUES, MAX_FRAGMENT_VALUES)
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("writers", &self.writers.len()).finish_non_exhaustive()
    }
}

/// `message` in snappy's block format. Only a message beyond 4 GiB is too large for it.
pub(super) fn compress<'a>(
    snappy: &mut snap::raw::Encoder,
    buffer: &'a mut Vec<u8>,
    message: &[u8],
) -> Result<&'a [u8], snap::Error> {
    let bound = snap::raw::max_compress_len(message.len());
    if buffer.len() < bound {
        buffer.resize(bound, 0);
    }
    let length = snappy.compress(message, buffer)?;
    Ok(&buffer[..length])
}

fn reserve_more(
    reservation: &mut Option<Reservation>,
    budget: &MemoryBudget,
    bytes: usize,
) -> Result<(), OverBudget> {
    match reservation {
        Some(reservation) => reservation.resize(reservation.bytes() + bytes),
        None => {
            *reservation = Some(budget.try_reserve(Purpose::Buffers, bytes)?);
            Ok(())
        }
    }
}
