//! From a scrape's samples to fragments, and from fragments to requests. Pure and synchronous.
//!
//! [`TargetEncoder`] writes one target's samples as wire bytes, without building messages, into
//! [`Fragment`]s: one for each [`Profile`] and lane, more when they get large.
//! [`RequestBuilder`] joins fragments into what is sent at once.

mod arena;
mod assembler;
mod claims;
mod context;
mod families;
mod fingerprints;
mod fragment_symbols;
mod mapped_references;
mod message;
mod profile;
mod proto;
mod reference;
mod request;
mod rewrite;
mod scratch;
mod series_references;
mod shape;
mod sort;
mod target;
mod writer;

pub use context::{EncodingContext, JobSeries};
pub use message::FragmentError;
pub use profile::{Profile, Profiles};
pub use request::{Pushed, Request, RequestBuilder, RequestLimits, join, metadata_requests};
pub use rewrite::{
    LeftOut, SeriesInFragment, compressed, divide, for_each_series, split, transcode, without,
};
pub use sort::{FingerprintedSeries, Sorted, for_each_fingerprint, sort};
pub use target::{DuplicateSeries, TargetEncoder};

use promferry_model::{OverBudget, Reservation};

use crate::{Counts, Fragment};

/// A scrape in the bytes that leave.
#[derive(Debug)]
pub struct EncodedScrape {
    /// For each profile, in the order of the [`Profiles`], what it sends.
    pub profiles: Vec<EncodedProfile>,
    /// The memory that the fragments' bodies take; to be held until they are stored.
    pub reservation: Reservation,
}

/// The memory budget had no room for a scrape's fragments.
#[derive(Debug, thiserror::Error)]
#[error("{over}")]
pub struct NotEncoded {
    /// What was missing.
    #[source]
    pub over: OverBudget,
    /// What each profile would have sent, and none of the fragments.
    pub profiles: Vec<EncodedProfile>,
}

/// What one profile sends of a scrape.
#[derive(Debug, Default)]
pub struct EncodedProfile {
    /// Its fragments, those of a lane in order. None when the profile sends nothing of the scrape.
    pub fragments: Vec<Fragment>,
    /// What is in them.
    pub counts: Counts,
    /// Native histograms with custom buckets that remote write 1.0 can't carry: they were left out.
    pub nhcb_in_rw1_not_supported: u64,
    /// What was left out because its series leaves under the same labels as another one.
    pub duplicate_series: Counts,
}
