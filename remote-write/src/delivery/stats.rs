use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use promferry_model::Timestamp;

use super::latency::{AttemptDurations, DurationHistogram};
use crate::limits::{LimitsSnapshot, LimitsStats};
use crate::refusal::{UnknownRefusal, UnknownRefusals};
use crate::{Counts, Protocol};

/// What an endpoint's delivery counts and shows; plain atomics, read at any time.
#[derive(Debug, Default)]
pub struct EndpointStats {
    requests: Mutex<BTreeMap<&'static str, u64>>,
    retried: [AtomicU64; 3],
    bytes: AtomicU64,
    metadata_bytes: AtomicU64,
    metadata: AtomicU64,
    metadata_failed: AtomicU64,
    attempts: AtomicU64,
    attempt_durations: AttemptDurations,
    answered_values: AtomicU64,
    answered_micros: AtomicU64,
    shards: AtomicUsize,
    shards_desired: AtomicUsize,
    in_flight: AtomicUsize,
    highest_sent_ms: AtomicI64,
    last_success_ms: AtomicI64,
    queued_bytes: AtomicUsize,
    abandoned_lanes: AtomicUsize,
    v1_by_fallback: AtomicBool,
    last_error: Mutex<Option<LastError>>,
    first_success: OnceLock<FirstSuccess>,
    pub(super) limits: Arc<LimitsStats>,
    refusals: Mutex<BTreeMap<&'static str, RefusalCount>>,
    unknown_refusals: UnknownRefusals,
}

/// How often a class of refusals came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusalCount {
    /// Answers of the class.
    pub answers: u64,
    /// The latest series that one was about, where that is known.
    pub series: Option<String>,
    /// When the latest came.
    pub last: Timestamp,
}

/// The latest answer or failure that was not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When it came.
    pub at: Timestamp,
    /// What it was, in words; never with a secret.
    pub text: String,
}

/// The first write that an endpoint accepted since its delivery began: the proof that URL, credentials and network
/// are right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstSuccess {
    /// When it was accepted.
    pub at: Timestamp,
    /// Who accepted it: the URL's host, with its port where the URL has one, without user and password.
    pub host: String,
    /// What the endpoint called the request: its header `x-amzn-requestid`, else `x-request-id`, at most 256
    /// characters.
    pub request_id: Option<String>,
    /// What was accepted: over 2.0 what the endpoint said that it wrote, else what was sent.
    pub accepted: Counts,
}

/// [`EndpointStats`] at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct EndpointSnapshot {
    /// Attempts by what became of them: [`Outcome::name`](super::Outcome::name), or `failed` (no answer).
    pub requests: BTreeMap<&'static str, u64>,
    /// What was in attempts that had to be repeated.
    pub retried: Counts,
    /// Bytes of bodies delivered, compressed.
    pub bytes: u64,
    /// Bytes of metadata bodies delivered, compressed.
    pub metadata_bytes: u64,
    /// Metadata entries delivered.
    pub metadata: u64,
    /// Metadata entries given up.
    pub metadata_failed: u64,
    /// Attempts made.
    pub attempts: u64,
    /// Time spent in attempts.
    pub attempt_time: Duration,
    /// How long attempts took, failed ones included.
    pub attempt_durations: DurationHistogram,
    /// Requests that may be in flight at once.
    pub shards: usize,
    /// How many would be needed by what arrives, what waits and how quickly the endpoint answers.
    pub shards_desired: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Bytes read from the spool and held in memory.
    pub queued_bytes: usize,
    /// Lanes of which nothing is sent until a restart, since a fault of ours left open what became of a request of
    /// theirs. What they hold waits in the spool.
    pub abandoned_lanes: usize,
    /// The latest timestamp among delivered samples; zero before the first.
    pub highest_sent: Timestamp,
    /// When the endpoint last took something; zero before the first.
    pub last_success: Timestamp,
    /// The first write that the endpoint took; nothing before that. Metadata requests don't count.
    pub first_success: Option<FirstSuccess>,
    /// Whether 2.0 was configured, refused, and 1.0 is sent instead.
    pub v1_by_fallback: bool,
    /// The latest failure.
    pub last_error: Option<LastError>,
    /// Series that the endpoint does not take, and the limit in force.
    pub limits: LimitsSnapshot,
    /// Refusals by the [class](crate::refusal::RefusalClass::id) of their text; `refused` for what has none.
    pub refusals: BTreeMap<&'static str, RefusalCount>,
    /// Refusals whose text is of no known class, the latest last.
    pub unknown_refusals: Vec<UnknownRefusal>,
}

impl EndpointStats {
    /// What is counted so far.
    pub fn snapshot(&self) -> EndpointSnapshot {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        EndpointSnapshot {
            requests: lock(&self.requests).clone(),
            retried: Counts {
                samples: load(&self.retried[0]),
                histograms: load(&self.retried[1]),
                exemplars: load(&self.retried[2]),
            },
            bytes: load(&self.bytes),
            metadata_bytes: load(&self.metadata_bytes),
            metadata: load(&self.metadata),
            metadata_failed: load(&self.metadata_failed),
            attempts: load(&self.attempts),
            attempt_time: self.attempt_durations.sum(),
            attempt_durations: self.attempt_durations.snapshot(),
            shards: self.shards.load(Ordering::Relaxed),
            shards_desired: self.shards_desired.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            queued_bytes: self.queued_bytes.load(Ordering::Relaxed),
            abandoned_lanes: self.abandoned_lanes.load(Ordering::Relaxed),
            highest_sent: Timestamp::from_millis(self.highest_sent_ms.load(Ordering::Relaxed)),
            last_success: Timestamp::from_millis(self.last_success_ms.load(Ordering::Relaxed)),
            first_success: self.first_success.get().cloned(),
            v1_by_fallback: self.v1_by_fallback.load(Ordering::Relaxed),
            last_error: lock(&self.last_error).clone(),
            limits: self.limits.snapshot(),
            refusals: lock(&self.refusals).clone(),
            unknown_refusals: self.unknown_refusals.snapshot(),
        }
    }

    pub(super) fn set_protocol(&self, protocol: Protocol, by_fallback: bool) {
        self.v1_by_fallback.store(by_fallback && protocol == Protocol::V1, Ordering::Relaxed);
    }

    pub(super) fn count_attempt(&self, outcome: &'static str, took: Duration) {
        *lock(&self.requests).entry(outcome).or_insert(0) += 1;
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.attempt_durations.observe(took);
    }

    /// An attempt with this many samples and histograms was answered for good.
    pub(super) fn count_answered(&self, values: u64, took: Duration) {
        self.answered_values.fetch_add(values, Ordering::Relaxed);
        self.answered_micros
            .fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Samples and histograms in attempts that were answered for good, and how long these took.
    pub(super) fn answered(&self) -> (u64, Duration) {
        (
            self.answered_values.load(Ordering::Relaxed),
            Duration::from_micros(self.answered_micros.load(Ordering::Relaxed)),
        )
    }

    pub(super) fn count_retried(&self, counts: Counts) {
        for (counter, count) in self.retried.iter().zip([counts.samples, counts.histograms, counts.exemplars])
        {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn count_delivered(&self, bytes: usize, highest: Timestamp, now: Timestamp) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.highest_sent_ms.fetch_max(highest.as_millis(), Ordering::Relaxed);
        self.last_success_ms.store(now.as_millis(), Ordering::Relaxed);
    }

    /// A write was accepted: remembers the first.
    pub(super) fn accepted_first(&self, first: impl FnOnce() -> FirstSuccess) {
        self.first_success.get_or_init(first);
    }

    pub(super) fn count_metadata(&self, entries: usize, bytes: Option<usize>) {
        match bytes {
            Some(bytes) => {
                self.metadata.fetch_add(entries as u64, Ordering::Relaxed);
                self.metadata_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            None => {
                self.metadata_failed.fetch_add(entries as u64, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn fail(&self, at: Timestamp, text: String) {
        *lock(&self.last_error) = Some(LastError { at, text });
    }

    pub(super) fn count_refusal(&self, class: &'static str, series: Option<&str>, now: Timestamp) {
        let mut refusals = lock(&self.refusals);
        let count = refusals.entry(class).or_default();
        count.answers += 1;
        count.last = now;
        if let Some(series) = series {
            count.series = Some(series.chars().take(512).collect());
        }
    }

    pub(super) fn keep_unknown(&self, status: StatusCode, headers: &HeaderMap, body: String, now: Timestamp) {
        let id = headers.get("x-amzn-requestid").and_then(|id| id.to_str().ok());
        self.unknown_refusals.keep(status, body, id, now);
    }

    pub(super) fn set_shards_desired(&self, shards: usize) {
        self.shards_desired.store(shards, Ordering::Relaxed);
    }

    pub(super) fn set_abandoned_lanes(&self, lanes: usize) {
        self.abandoned_lanes.store(lanes, Ordering::Relaxed);
    }

    pub(super) fn set_gauges(&self, shards: usize, in_flight: usize, queued_bytes: usize) {
        self.shards.store(shards, Ordering::Relaxed);
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.queued_bytes.store(queued_bytes, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
