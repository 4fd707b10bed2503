//! What stands in for an AMP workspace.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use promferry_remote_write::Counts;
use promferry_remote_write::wire::{self, v1};
use promferry_sigv4_auth::Scope;
use promferry_sigv4_auth::verify::{Verifier, VerifyError};

use super::server::{self, Server};
use super::sessions::Sessions;

/// A remote-write receiver that verifies signatures, decodes, counts, and looks whether each series comes in order.
/// Like AMP it takes 1.0 alone and refuses label values of more than [`MAX_LABEL_VALUE`] bytes.
#[derive(Debug)]
pub(super) struct Receiver {
    server: Server,
    shared: Arc<Shared>,
}

/// What a [`Receiver`] has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Requests received.
    pub(super) requests: u64,
    /// Requests whose signature was right, those of a session that is over included.
    pub(super) verified: u64,
    /// Requests refused because the session of their keys is over.
    pub(super) expired: u64,
    /// Requests answered with 503.
    pub(super) turned_away: u64,
    /// What was taken.
    pub(super) taken: Counts,
    /// Samples and histograms that were refused for what they are.
    pub(super) refused: u64,
    /// Samples and histograms taken out of the latest request of which something was refused.
    pub(super) taken_beside_refused: u64,
    /// Samples and histograms earlier than their series' latest.
    pub(super) out_of_order: u64,
    /// Samples and histograms of the same time as their series' latest.
    pub(super) repeated: u64,
}

/// AMP's limit for the value of a label, in bytes.
pub(super) const MAX_LABEL_VALUE: usize = 2048;
/// What a request may inflate to.
const MAX_MESSAGE_BYTES: usize = 16_000_000;
/// Cortex prints at most this many characters of a name, a value or a series (`%.200q`).
const PRINTED_CHARS: usize = 200;

#[derive(Debug)]
struct Shared {
    verifier: Verifier,
    sessions: Sessions,
    is_away: AtomicBool,
    seen: Mutex<Seen>,
    /// The latest timestamp of each series, by a hash of its labels.
    latest: Mutex<HashMap<u64, i64>>,
    hasher: RandomState,
}

impl Receiver {
    /// Starts one. It takes requests that are signed for `scope` by a key of these sessions.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) async fn start(scope: Scope, sessions: Sessions) -> io::Result<Self> {
        let known = sessions.clone();
        let shared = Arc::new(Shared {
            verifier: Verifier::new(move |access_key_id| known.key(access_key_id)).for_scope(scope),
            sessions,
            is_away: AtomicBool::new(false),
            seen: Mutex::default(),
            latest: Mutex::default(),
            hasher: RandomState::new(),
        });
        let answering = Arc::clone(&shared);
        let server = Server::start(move |head, body| {
            let shared = Arc::clone(&answering);
            async move { shared.answer(&head, &body) }
        })
        .await?;
        Ok(Self { server, shared })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Whether it answers 503 from now on.
    pub(super) fn set_away(&self, is_away: bool) {
        self.shared.is_away.store(is_away, Ordering::Relaxed);
    }

    /// What it has seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }
}

impl Shared {
    fn answer(&self, head: &Parts, body: &Bytes) -> Response<Bytes> {
        self.seen().requests += 1;
        let access_key_id = match self.verifier.verify(head, body, SystemTime::now()) {
            Ok(access_key_id) => access_key_id,
            Err(error) => return error.to_response().map(Bytes::from),
        };
        self.seen().verified += 1;
        if self.sessions.is_over(&access_key_id) {
            self.seen().expired += 1;
            return VerifyError::ExpiredToken.to_response().map(Bytes::from);
        }
        if self.is_away.load(Ordering::Relaxed) {
            self.seen().turned_away += 1;
            return server::text(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        let is_v2 = head
            .headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.contains("io.prometheus.write.v2.Request"));
        if is_v2 {
            return server::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "remote write 1.0 only");
        }
        match wire::decode_v1(body, MAX_MESSAGE_BYTES) {
            Ok(request) => self.take(&request),
            Err(error) => server::text(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }

    /// Takes what can be taken, as AMP does, and refuses the rest with the first reason.
    fn take(&self, request: &v1::WriteRequest) -> Response<Bytes> {
        let (mut taken, mut refused, mut reason) = (Counts::default(), 0, None);
        for series in &request.timeseries {
            let counts = Counts {
                samples: series.samples.len() as u64,
                histograms: series.histograms.len() as u64,
                exemplars: series.exemplars.len() as u64,
            };
            match series.labels.iter().find(|label| label.value.len() > MAX_LABEL_VALUE) {
                None => {
                    taken += counts;
                    self.look_at_order(series);
                }
                Some(label) => {
                    refused += counts.values();
                    reason.get_or_insert_with(|| too_long(&series.labels, label));
                }
            }
        }
        let mut seen = self.seen();
        seen.taken += taken;
        seen.refused += refused;
        match reason {
            None => server::text(StatusCode::OK, ""),
            Some(reason) => {
                seen.taken_beside_refused = taken.values();
                server::text(StatusCode::BAD_REQUEST, reason)
            }
        }
    }

    fn look_at_order(&self, series: &v1::TimeSeries) {
        let samples = series.samples.iter().map(|sample| sample.timestamp);
        let times = samples.chain(series.histograms.iter().map(|histogram| histogram.timestamp));
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = latest.entry(self.hasher.hash_one(&series.labels)).or_insert(i64::MIN);
        for time in times {
            self.seen().out_of_order += u64::from(time < *latest);
            self.seen().repeated += u64::from(time == *latest);
            *latest = time.max(*latest);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of AMP, which is that of Cortex (`pkg/util/validation/errors.go`).
fn too_long(labels: &[v1::Label], label: &v1::Label) -> String {
    let name = labels.iter().find(|label| label.name == "__name__").map_or("", |label| label.value.as_str());
    let others: Vec<_> = labels
        .iter()
        .filter(|label| label.name != "__name__")
        .map(|label| format!("{}={:?}", label.name, label.value))
        .collect();
    let printed = |text: &str| format!("{:?}", text.chars().take(PRINTED_CHARS).collect::<String>());
    format!(
        "label value too long for metric (actual: {}, limit: {MAX_LABEL_VALUE}) metric: {} label name: {} label value: {}",
        label.value.len(),
        printed(&format!("{name}{{{}}}", others.join(", "))),
        printed(&label.name),
        printed(&label.value),
    )
}
