//! The queue on disk: fragments are stored when they are scraped and read back when they are sent.
//!
//! A *log* holds what all endpoints of one encoding profile are sent, as *segments* of *records*; an
//! *endpoint* is a cursor that follows one log, lane by lane. [`SpoolCore`] is all of it, synchronous and
//! deterministic; [`Spool`] is the same on a thread of its own.
//!
//! What is promised: a stored scrape survives the end of the process however it ends, and, with
//! [`FsyncPolicy::Always`], the loss of the machine. A restart repeats at most what was in flight. For each
//! endpoint and kind, `accepted = delivered + dropped{reason} + pending` in every snapshot and over restarts
//! ([`LedgerSnapshot`]). Damage costs the damaged records only, and they are counted.
//!
//! What it is not: it knows nothing of requests, retries or what a body means.

mod abandoned;
mod append;
mod attach;
mod backlog;
mod core;
mod cursor;
mod disk;
mod endpoint;
mod error;
mod fetch;
mod handle;
mod ledger;
mod log;
mod lost;
mod memory;
mod options;
mod parked;
mod persist;
mod read_only;
mod record;
mod recovery;
mod reopen;
mod retention;
mod segment;
pub mod sim;
mod spread;
mod stats;
mod storage;
mod time;
mod unstored;
mod verify;
mod worker;

pub use self::backlog::Backlog;
pub use self::core::{EndpointId, LogId, Position, ProtocolChoice, SpoolCore, StoredFragment};
pub use self::disk::DiskStorage;
pub use self::error::SpoolError;
pub use self::handle::{PublishedStats, Settled, Spool, Ticket};
pub use self::ledger::{LedgerSnapshot, Reason};
pub use self::memory::{MemoryFile, MemoryStorage};
pub use self::options::{EndpointOptions, FsyncPolicy, SpoolOptions};
pub use self::read_only::ReadOnly;
pub use self::stats::{EndpointStats, LogStats, RecoveryReport, SpoolStats, StorageState};
pub use self::storage::Storage;
pub(crate) use self::time::Time;
pub use self::verify::{Damage, Verification, verify};
