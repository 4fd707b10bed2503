use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use promferry_model::{Clock, Rng, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::{Service as _, ServiceExt as _};

use super::backoff::Backoff;
use super::negotiation::Negotiation;
use super::notice::Notices;
use super::outcome::Outcome;
use super::stats::EndpointStats;
use super::transport::{Transport, describe};
use crate::encode::{self, FragmentError, LeftOut, Pushed, RequestBuilder, RequestLimits};
use crate::spool::{Position, Reason, StoredFragment};
use crate::{Counts, Fragment, Lane, Protocol};

/// Whether an endpoint's delivery goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// What waits goes out now, without waiting for more; a refusal ends it.
    Flushing,
    Stopped,
}

/// Explains a 401 or 403 to the operator, from its status, headers and body.
pub type ExplainDenial = Arc<dyn Fn(StatusCode, &HeaderMap, &[u8]) -> Option<String> + Send + Sync>;

/// Everything that one request needs to be delivered, whatever the endpoint answers.
pub(super) struct Sender {
    pub(super) endpoint: String,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) negotiation: Negotiation,
    /// Over 1.0; over 2.0 they always are.
    pub(super) send_native_histograms: bool,
    pub(super) transport: Transport,
    pub(super) attempt_timeout: Duration,
    pub(super) min_backoff: Duration,
    pub(super) max_backoff: Duration,
    pub(super) sample_age_limit: Duration,
    pub(super) explain_denial: Option<ExplainDenial>,
    pub(super) stats: Arc<EndpointStats>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Mutex<Box<dyn Rng>>,
    pub(super) notices: Notices,
    /// Bytes before compression that a request may have; lowered when the endpoint finds one too large.
    pub(super) max_raw_bytes: AtomicUsize,
    pub(super) phase: watch::Receiver<Phase>,
}

/// What became of one stored fragment.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) lane: Lane,
    pub(super) position: Position,
    pub(super) body_bytes: usize,
    pub(super) delivered: Counts,
    pub(super) dropped: Vec<(Reason, Counts)>,
}

/// A fragment, or what splitting left of one, and whose settlement it belongs to.
struct Part {
    of: usize,
    fragment: Fragment,
}

/// What to do with the parts of a request after it was tried for as long as it takes.
enum Decision {
    Delivered {
        /// Of each part, what the message could not carry.
        left_out: Vec<LeftOut>,
    },
    Dropped {
        reason: Reason,
        written: Counts,
    },
    Split,
    /// Some of it may have become too old while it waited.
    LookAgain,
    Undecided,
}

/// A request ready to be sent.
struct Encoded {
    protocol: Protocol,
    body: Bytes,
    left_out: Vec<LeftOut>,
}

/// After a 401 or 403 the next attempt waits at least this long.
const DENIED_PAUSE: Duration = Duration::from_secs(10);

/// A 413 to a request below both is no matter of size: it is refused, not split.
const BLAMABLE_RAW_BYTES: usize = 64 * 1024;
const BLAMABLE_VALUES: u64 = 500;

impl Sender {
    /// Delivers `fragments`, in order, or finds out why not. Returns `None` when delivery was stopped before
    /// all of it was decided: then nothing is settled and a later run sends it again.
    pub(super) async fn deliver(&self, fragments: Vec<StoredFragment>) -> Option<Vec<Settlement>> {
        let mut settlements: Vec<_> = fragments
            .iter()
            .map(|stored| Settlement {
                lane: stored.fragment.lane,
                position: stored.position,
                body_bytes: stored.fragment.body.len(),
                delivered: Counts::default(),
                dropped: Vec::new(),
            })
            .collect();
        let parts = fragments
            .into_iter()
            .enumerate()
            .map(|(of, stored)| Part { of, fragment: stored.fragment })
            .collect();
        let mut work = VecDeque::from([parts]);
        let mut backoff = Backoff::new(self.min_backoff, self.max_backoff);
        while let Some(group) = work.pop_front() {
            let (group, too_old) = self.separate_too_old(group);
            for part in &too_old {
                settlements[part.of].dropped.push((Reason::TOO_OLD, part.fragment.counts));
            }
            if group.is_empty() {
                continue;
            }
            match self.deliver_group(&group, &mut backoff).await {
                Decision::Delivered { left_out } => {
                    for (part, left_out) in group.iter().zip(&left_out) {
                        let settlement = &mut settlements[part.of];
                        settlement.delivered += part.fragment.counts - left_out.total();
                        for (reason, counts) in [
                            (Reason::NHCB_IN_RW1, left_out.custom_buckets),
                            (Reason::NATIVE_HISTOGRAMS_OFF, left_out.native_histograms),
                        ] {
                            if !counts.is_zero() {
                                settlement.dropped.push((reason, counts));
                            }
                        }
                    }
                }
                Decision::Dropped { reason, mut written } => {
                    for part in &group {
                        let delivered = take_up_to(&mut written, part.fragment.counts);
                        settlements[part.of].delivered += delivered;
                        settlements[part.of].dropped.push((reason.clone(), part.fragment.counts - delivered));
                    }
                }
                Decision::Split => match halves(group) {
                    Ok((first, second)) => {
                        work.push_front(second);
                        work.push_front(first);
                    }
                    Err(part) => settlements[part.of].dropped.push((too_large(), part.fragment.counts)),
                },
                Decision::LookAgain => work.push_front(group),
                Decision::Undecided => return None,
            }
        }
        Some(settlements)
    }

    /// Sends a 1.0 metadata request; given up after a refusal or when delivery stops.
    pub(super) async fn deliver_metadata(&self, body: Bytes) -> bool {
        let mut backoff = Backoff::new(self.min_backoff, self.max_backoff);
        for attempt in 0.. {
            let outcome = match self.attempt(body.clone(), Protocol::V1, attempt).await {
                Ok((outcome, _)) => outcome,
                Err(_) => Outcome::Retry { after: None, throttled: false },
            };
            match outcome {
                Outcome::Delivered => return true,
                Outcome::Retry { after, .. } if self.pause(&mut backoff, after, Phase::Flushing).await => {}
                _ => return false,
            }
        }
        false
    }

    async fn deliver_group(&self, group: &[Part], backoff: &mut Backoff) -> Decision {
        let counts = group.iter().fold(Counts::default(), |sum, part| sum + part.fragment.counts);
        let raw_bytes: usize = group.iter().map(|part| part.fragment.raw_len as usize).sum();
        let highest = group.iter().map(|part| part.fragment.max_timestamp).max().unwrap_or_default();
        if group.len() > 1 && raw_bytes > self.max_raw_bytes.load(Ordering::Relaxed) {
            return Decision::Split;
        }
        let mut encoded: Option<Encoded> = None;
        // What this request was refused as: nothing is tried twice.
        let mut refused = Vec::new();
        let mut instead = None;
        for attempt in 0.. {
            let offer = match instead.take() {
                Some(offer) => offer,
                None => self.negotiation.offer(self.clock.now()),
            };
            let protocol = offer.protocol;
            let request = match encoded.take() {
                Some(request) if request.protocol == protocol => Ok(Some(request)),
                _ => self.encode(group, protocol),
            };
            if !matches!(request, Ok(Some(_))) {
                self.negotiation.inconclusive(offer, self.clock.now());
            }
            let request = match request {
                Ok(Some(request)) => request,
                Ok(None) if group.len() > 1 => return Decision::Split,
                Ok(None) => {
                    let text =
                        format!("{}: {counts:?} of one scrape exceed what a request may have", self.endpoint);
                    self.notices.error(self.clock.monotonic(), "too large", &text);
                    return Decision::Split;
                }
                Err(error) => {
                    let text =
                        format!("{}: {counts:?} can't be read back and are dropped: {error}", self.endpoint);
                    self.notices.error(self.clock.monotonic(), "encode", &text);
                    return Decision::Dropped { reason: Reason::CORRUPT, written: Counts::default() };
                }
            };
            let Encoded { body, left_out, .. } = encoded.insert(request);
            let (body, left_out) = (body.clone(), left_out.clone());
            if counts == left_out.iter().fold(Counts::default(), |sum, part| sum + part.total()) {
                return Decision::Delivered { left_out };
            }
            let body_bytes = body.len();
            let (outcome, answer) = match self.attempt(body, protocol, attempt).await {
                Ok(answered) => answered,
                Err(Stopped) => {
                    self.negotiation.inconclusive(offer, self.clock.now());
                    return Decision::Undecided;
                }
            };
            match &outcome {
                Outcome::Delivered => self.negotiation.taken(offer, self.clock.now()),
                Outcome::WrongProtocol => {
                    refused.push(protocol);
                    instead = self.negotiation.refused(offer, self.clock.now());
                    instead = instead.filter(|offer| !refused.contains(&offer.protocol));
                    if let Some(instead) = instead {
                        self.notices.warn(
                            self.clock.monotonic(),
                            "fallback",
                            &format!(
                                "{}: {protocol} is not understood ({answer}); {} is sent instead",
                                self.endpoint, instead.protocol
                            ),
                        );
                        continue;
                    }
                }
                _ => self.negotiation.inconclusive(offer, self.clock.now()),
            }
            match outcome {
                // Asking for 2.0 was our doing: the verdict on the data is the one on 1.0.
                Outcome::TooLarge | Outcome::Refused { .. } if offer.probe => {}
                Outcome::Delivered => {
                    self.stats.count_delivered(body_bytes, highest, self.clock.now());
                    self.notices.recovered(&self.endpoint);
                    return Decision::Delivered { left_out };
                }
                Outcome::Retry { after, .. } | Outcome::Limited { after, .. } => {
                    self.stats.count_retried(counts);
                    self.notices.warn(
                        self.clock.monotonic(),
                        "retry",
                        &format!("{}: {answer}; the data is kept and sent again", self.endpoint),
                    );
                    if !self.pause(backoff, after, Phase::Stopped).await {
                        return Decision::Undecided;
                    }
                    if self.any_too_old(group) {
                        return Decision::LookAgain;
                    }
                }
                Outcome::Denied => {
                    self.stats.count_retried(counts);
                    self.notices.error(
                        self.clock.monotonic(),
                        "denied",
                        &format!(
                            "{}: {answer}; the data is kept and sent again once that is put right",
                            self.endpoint
                        ),
                    );
                    if !self.pause(backoff, Some(DENIED_PAUSE), Phase::Flushing).await {
                        return Decision::Undecided;
                    }
                }
                Outcome::TooLarge if raw_bytes > BLAMABLE_RAW_BYTES || counts.values() > BLAMABLE_VALUES => {
                    self.max_raw_bytes.fetch_min((raw_bytes / 2).max(BLAMABLE_RAW_BYTES), Ordering::Relaxed);
                    self.notices.warn(
                        self.clock.monotonic(),
                        "too large",
                        &format!(
                            "{}: {answer} to {raw_bytes} bytes before compression; split and sent again",
                            self.endpoint
                        ),
                    );
                    return Decision::Split;
                }
                Outcome::TooLarge | Outcome::WrongProtocol | Outcome::Refused(_) => {
                    let written =
                        if let Outcome::Refused(refusal) = outcome { refusal.written } else { None };
                    let written = written.unwrap_or_default();
                    self.notices.error(
                        self.clock.monotonic(),
                        "refused",
                        &format!(
                            "{}: {answer}; {} samples and {} histograms are refused for good and dropped",
                            self.endpoint, counts.samples, counts.histograms
                        ),
                    );
                    return Decision::Dropped { reason: Reason::REFUSED, written };
                }
            }
        }
        Decision::Undecided
    }

    /// The request that carries `group`; `None` when it would be larger than one may be.
    fn encode(&self, group: &[Part], protocol: Protocol) -> Result<Option<Encoded>, FragmentError> {
        let max_bytes = self.max_raw_bytes.load(Ordering::Relaxed);
        let limits = RequestLimits {
            max_raw_bytes: max_bytes,
            max_compressed_bytes: max_bytes,
            ..RequestLimits::NONE
        };
        let mut builder = RequestBuilder::new(protocol, limits);
        if !self.send_native_histograms {
            builder = builder.without_native_histograms();
        }
        let mut left_out = Vec::with_capacity(group.len());
        for part in group {
            match builder.push(&part.fragment)? {
                Pushed::Added { left_out: of_part } => left_out.push(of_part),
                Pushed::Full | Pushed::TooLarge => return Ok(None),
            }
        }
        Ok(Some(Encoded { protocol, body: builder.finish()?.body, left_out }))
    }

    /// One attempt and its answer in words. A failure without an answer is worth a retry.
    async fn attempt(
        &self,
        body: Bytes,
        protocol: Protocol,
        attempt: usize,
    ) -> Result<(Outcome, String), Stopped> {
        let started = Instant::now();
        let retry = Outcome::Retry { after: None, throttled: false };
        let mut phase = self.phase.clone();
        let answer = tokio::select! {
            answer = tokio::time::timeout(self.attempt_timeout, self.call(body, protocol, attempt)) => answer,
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return Err(Stopped),
        };
        let took = started.elapsed();
        let (outcome, name, text) = match answer {
            Err(_) => (retry, "failed", format!("no answer within {:?}", self.attempt_timeout)),
            Ok(Err(text)) => (retry, "failed", text),
            Ok(Ok(answer)) => {
                let (head, body) = answer.into_parts();
                let outcome = Outcome::of(head.status, &head.headers, &body, protocol, self.clock.now());
                let mut text = words(head.status, &head.headers, &body);
                if matches!(&outcome, Outcome::Refused(refusal) if refusal.class.is_none()) {
                    self.stats.keep_unknown(head.status, &head.headers, &body, self.clock.now());
                }
                if outcome == Outcome::Denied
                    && let Some(explanation) = self
                        .explain_denial
                        .as_ref()
                        .and_then(|explain| explain(head.status, &head.headers, &body))
                {
                    text = format!("{text}: {explanation}");
                }
                let name = outcome.name();
                (outcome, name, text)
            }
        };
        self.stats.count_attempt(name, took);
        if outcome != Outcome::Delivered {
            self.stats.fail(self.clock.now(), text.clone());
        }
        Ok((outcome, text))
    }

    async fn call(
        &self,
        body: Bytes,
        protocol: Protocol,
        attempt: usize,
    ) -> Result<http::Response<Bytes>, String> {
        let mut request = Request::post(self.url.as_str())
            .body(body)
            .map_err(|error| format!("the url can't be used: {error}"))?;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        let (content_type, version) = match protocol {
            Protocol::V1 => ("application/x-protobuf", "0.1.0"),
            Protocol::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(
            HeaderName::from_static("x-prometheus-remote-write-version"),
            HeaderValue::from_static(version),
        );
        if attempt > 0 {
            headers.insert(HeaderName::from_static("retry-attempt"), HeaderValue::from(attempt));
        }
        let mut transport = self.transport.clone();
        let ready = transport.ready().await.map_err(|error| describe(&error))?;
        ready.call(request).await.map_err(|error| describe(&error))
    }

    /// Sleeps between attempts; false when delivery came to `end` meanwhile. A flush does not hurry what is
    /// backing off.
    async fn pause(&self, backoff: &mut Backoff, asked: Option<Duration>, end: Phase) -> bool {
        let pause = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            backoff.pause(asked, &mut **rng)
        };
        let mut phase = self.phase.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            _ = phase.wait_for(|phase| *phase >= end) => false,
        }
    }

    fn separate_too_old(&self, group: Vec<Part>) -> (Vec<Part>, Vec<Part>) {
        let Some(oldest) = self.oldest_allowed() else { return (group, Vec::new()) };
        group.into_iter().partition(|part| part.fragment.max_timestamp >= oldest)
    }

    fn any_too_old(&self, group: &[Part]) -> bool {
        self.oldest_allowed()
            .is_some_and(|oldest| group.iter().any(|part| part.fragment.max_timestamp < oldest))
    }

    fn oldest_allowed(&self) -> Option<Timestamp> {
        (!self.sample_age_limit.is_zero()).then(|| self.clock.now().saturating_sub(self.sample_age_limit))
    }
}

/// Larger than the endpoint takes, and a single value: nothing is left to split.
fn too_large() -> Reason {
    Reason::new("too_large")
}

/// Delivery was stopped before an answer came.
struct Stopped;

/// Splits a request in two, or gives back its only part when that can't be split.
fn halves(mut group: Vec<Part>) -> Result<(Vec<Part>, Vec<Part>), Part> {
    if group.len() > 1 {
        let second = group.split_off(group.len() / 2);
        return Ok((group, second));
    }
    let Some(part) = group.pop() else { return Ok((Vec::new(), Vec::new())) };
    match encode::split(&part.fragment) {
        Ok(Some((first, second))) => {
            Ok((vec![Part { of: part.of, fragment: first }], vec![Part { of: part.of, fragment: second }]))
        }
        _ => Err(part),
    }
}

fn take_up_to(written: &mut Counts, counts: Counts) -> Counts {
    let taken = Counts {
        samples: written.samples.min(counts.samples),
        histograms: written.histograms.min(counts.histograms),
        exemplars: written.exemplars.min(counts.exemplars),
    };
    *written = *written - taken;
    taken
}

/// An answer in words: status, the body's beginning, and AWS' request id where there is one.
fn words(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    const SHOWN: usize = 512;
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let id = headers.get("x-amzn-requestid").and_then(|id| id.to_str().ok());
    let mut words = format!("answered {status}");
    if !text.is_empty() {
        words = format!("{words} {text:?}");
    }
    if let Some(id) = id {
        words = format!("{words} (request id {id})");
    }
    words
}
