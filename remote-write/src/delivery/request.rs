use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, StatusCode};
use promferry_model::{Clock, Rng, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::age::SampleAge;
use super::attempt::{Answer, BrokenAnswers, Stopped};
use super::backoff::Backoff;
use super::limited::{self, Group, Kind};
use super::negotiation::Negotiation;
use super::notice::Notices;
use super::outcome::Outcome;
use super::pace::Pace;
use super::refused::{self, Judged};
use super::search::{MAX_OF_ONE_REQUEST, SearchAllowance};
use super::size::SizeLimit;
use super::stats::{EndpointStats, FirstSuccess};
use super::transport::Transport;
use super::words::{in_words, with_short_values};
use crate::encode::{self, FragmentError, LeftOut, Pushed, RequestBuilder, RequestLimits};
use crate::limits::{Limits, Way};
use crate::options::shown_host;
use crate::refusal::{self, Refusal, Rest, Secrets};
use crate::spool::{Position, Reason, StoredFragment};
use crate::{Counts, Fragment, Lane, Protocol};

/// Whether an endpoint's delivery goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// What waits goes out now, without waiting for more; a refusal ends it.
    Flushing,
    /// Requests that were begun come to their end, and none is begun any more: another delivery goes on after this.
    HandingOver,
    Stopped,
}

/// Explains a denial to the operator, from its status, headers and body. The status is 401 or 403: a denial that came
/// with another (AWS' services have some with 400, and AMP's unknown workspace a 404) is given as a 403. What it says
/// is redacted as the endpoint's own texts are.
pub type ExplainDenial = Arc<dyn Fn(StatusCode, &HeaderMap, &[u8]) -> Option<String> + Send + Sync>;

/// Makes what belongs to a body, such as its hash for a signature, for the extensions of the requests that carry
/// it. Called once for each body, however often it is sent.
pub type DescribeBody = Arc<dyn Fn(&Bytes) -> Extensions + Send + Sync>;

/// Everything that one request needs to be delivered, whatever the endpoint answers.
pub(super) struct Sender {
    pub(super) endpoint: String,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    /// What is secret in them and in the URL.
    pub(super) secrets: Secrets,
    pub(super) negotiation: Negotiation,
    /// Over 1.0; over 2.0 they always are.
    pub(super) send_native_histograms: bool,
    pub(super) transport: Transport,
    pub(super) attempt_timeout: Duration,
    pub(super) min_backoff: Duration,
    pub(super) max_backoff: Duration,
    pub(super) sample_age_limit: Duration,
    pub(super) explain_denial: Option<ExplainDenial>,
    pub(super) describe_body: Option<DescribeBody>,
    pub(super) stats: Arc<EndpointStats>,
    pub(super) age: SampleAge,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Mutex<Box<dyn Rng>>,
    pub(super) notices: Notices,
    pub(super) size: SizeLimit,
    pub(super) pace: Pace,
    pub(super) searches: SearchAllowance,
    pub(super) limits: Limits,
    pub(super) phase: watch::Receiver<Phase>,
}

/// What became of one stored fragment.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) lane: Lane,
    pub(super) position: Position,
    pub(super) delivered: Counts,
    /// What is parked is among it.
    pub(super) dropped: Vec<(Reason, Counts)>,
    /// What goes to the parked queue.
    pub(super) parked: Vec<Fragment>,
}

/// A fragment, or what splitting left of one, and whose settlement it belongs to.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) of: usize,
    pub(super) fragment: Fragment,
}

/// What to do with the parts of a request after it was tried for as long as it takes.
enum Decision {
    Delivered {
        /// Of each part, what the message could not carry.
        left_out: Vec<LeftOut>,
        /// What a 2.0 endpoint says that it wrote.
        written: Option<Counts>,
    },
    Refused {
        left_out: Vec<LeftOut>,
        refusal: Box<Refusal>,
        /// The answer in words.
        answer: String,
    },
    /// A lasting limit stands in the way of some of it.
    Limited(Box<Refusal>),
    /// It can't be read back.
    Corrupt,
    Split,
    /// Some of it may have become too old while it waited.
    LookAgain,
    Undecided,
}

/// What came of a probe of the parked queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    Taken,
    /// The limit is still in force.
    Limited,
    /// No limit stands in the way, but the sample itself is not taken.
    Refused,
}

/// A request ready to be sent.
struct Encoded {
    protocol: Protocol,
    body: Body,
    left_out: Vec<LeftOut>,
}

/// What is sent, the same at every attempt.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// What [`DescribeBody`] made of it.
    pub(super) extensions: Extensions,
}

/// An endpoint to which no connection came about for this long of a flush, twice at least, is not waited for any
/// longer. What is restarted beside this process is back within it, as a rule.
const UNREACHABLE_PATIENCE: Duration = Duration::from_secs(5);

/// After a 401 or 403 the next attempt waits at least this long.
const DENIED_PAUSE: Duration = Duration::from_secs(10);

impl Sender {
    /// Delivers `fragments`, in order, or finds out why not. Returns `None` when delivery was stopped before
    /// all of it was decided: then nothing is settled and a later run sends it again.
    pub(super) async fn deliver(&self, way: Way, fragments: Vec<StoredFragment>) -> Option<Vec<Settlement>> {
        let mut settlements: Vec<_> = fragments
            .iter()
            .map(|stored| Settlement {
                lane: stored.fragment.lane,
                position: stored.position,
                delivered: Counts::default(),
                dropped: Vec::new(),
                parked: Vec::new(),
            })
            .collect();
        let parts = fragments
            .into_iter()
            .enumerate()
            .map(|(of, stored)| Part { of, fragment: stored.fragment })
            .collect();
        let mut work = VecDeque::from([Group::new(parts)]);
        let mut backoff = Backoff::new(self.min_backoff, self.max_backoff);
        let mut searches = 0;
        self.searches.earn();
        while let Some(group) = work.pop_front() {
            let (parts, too_old) = self.separate_too_old(group.parts);
            for part in &too_old {
                settlements[part.of].dropped.push((Reason::TOO_OLD, part.fragment.counts));
            }
            if parts.is_empty() {
                continue;
            }
            let group = Group { parts, ..group };
            let Some(group) = self.sort_out(way, group, &mut work, &mut settlements) else { continue };
            let kind = group.kind;
            let judged = match self.deliver_group(kind, &group.parts, &mut backoff).await {
                Decision::Delivered { left_out, written } => {
                    backoff = Backoff::new(self.min_backoff, self.max_backoff);
                    let judged = refused::delivered(&group.parts, &left_out, written);
                    if judged.delivered.iter().any(|(_, counts)| !counts.is_zero()) {
                        self.learn(way, kind, &group.parts);
                    }
                    judged
                }
                Decision::Refused { left_out, refusal, answer } => {
                    if refusal.class.is_some() && refusal.rest == Rest::Written {
                        self.learn(way, Kind::Sorted { limited: false }, &group.parts);
                    }
                    let mut may_spend = |requests| {
                        let may = kind != Kind::Probe
                            && searches + requests <= MAX_OF_ONE_REQUEST
                            && self.searches.spend(requests);
                        searches += if may { requests } else { 0 };
                        may
                    };
                    let probed =
                        if kind == Kind::Probe { limited::fragments(&group.parts) } else { Vec::new() };
                    let judged = refused::judge(group.parts, &left_out, &refusal, &mut may_spend);
                    self.hold_out(kind, &probed, &judged);
                    self.say_refused(&answer, &refusal, &judged);
                    judged
                }
                Decision::Limited(refusal) => {
                    self.divide_limited(way, group, &refusal, &mut work, &mut settlements);
                    continue;
                }
                Decision::Corrupt => refused::dropped(&group.parts, &Reason::CORRUPT),
                Decision::Split => match halves(group.parts) {
                    Ok((first, second)) => Judged { again: vec![first, second], ..Judged::default() },
                    Err(part) => {
                        let reason = self.say_too_large(&part.fragment);
                        refused::dropped(&[part], &reason)
                    }
                },
                Decision::LookAgain => Judged { again: vec![group.parts], ..Judged::default() },
                Decision::Undecided => return None,
            };
            for (of, counts) in judged.delivered {
                settlements[of].delivered += counts;
            }
            for (of, reason, counts) in judged.dropped {
                settlements[of].dropped.push((reason, counts));
            }
            for parts in judged.again.into_iter().rev() {
                work.push_front(Group { kind: kind.of_parts(), parts });
            }
        }
        Some(settlements)
    }

    /// Sends a sample of a parked series, to see whether it is taken; `None` when delivery was stopped.
    pub(super) async fn probe(&self, sample: Fragment) -> Option<Probed> {
        let group = Group { kind: Kind::Test, parts: vec![Part { of: 0, fragment: sample }] };
        let mut backoff = Backoff::new(self.min_backoff, self.max_backoff);
        match self.deliver_group(group.kind, &group.parts, &mut backoff).await {
            Decision::Delivered { left_out, written } => {
                let judged = refused::delivered(&group.parts, &left_out, written);
                if judged.delivered.iter().all(|(_, counts)| counts.is_zero()) {
                    return Some(Probed::Refused);
                }
                self.learn(Way::Parked, group.kind, &group.parts);
                Some(Probed::Taken)
            }
            Decision::Limited(refusal) => {
                self.limits.limited(&refusal);
                Some(Probed::Limited)
            }
            Decision::Refused { .. } | Decision::Corrupt | Decision::Split => Some(Probed::Refused),
            Decision::LookAgain => Some(Probed::Limited),
            Decision::Undecided => None,
        }
    }

    async fn deliver_group(&self, kind: Kind, group: &[Part], backoff: &mut Backoff) -> Decision {
        let counts = group.iter().fold(Counts::default(), |sum, part| sum + part.fragment.counts);
        let raw_bytes: usize = group.iter().map(|part| part.fragment.raw_len as usize).sum();
        let highest = group.iter().map(|part| part.fragment.max_timestamp).max().unwrap_or_default();
        if group.len() > 1 && raw_bytes > self.size.raw_bytes(self.clock.monotonic()) {
            return Decision::Split;
        }
        let mut encoded: Option<Encoded> = None;
        // What this request was refused as: nothing is tried twice.
        let mut refused = Vec::new();
        let mut instead = None;
        // A lasting limit that is not known to be in force may be a passing one the first time.
        let mut may_pass = matches!(kind, Kind::Sorted { .. });
        // Since when in the flush no connection comes about, and at how many attempts.
        let mut unreachable: Option<(Instant, u32)> = None;
        let mut broken = BrokenAnswers::default();
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
                Ok(None) => return Decision::Split,
                Err(error) => {
                    self.say_corrupt(counts, &error);
                    return Decision::Corrupt;
                }
            };
            let Encoded { body, left_out, .. } = encoded.insert(request);
            let (body, left_out) = (body.clone(), left_out.clone());
            if counts == left_out.iter().fold(Counts::default(), |sum, part| sum + part.total()) {
                return Decision::Delivered { left_out, written: None };
            }
            let body_bytes = body.bytes.len();
            let started = Instant::now();
            let flushing = *self.phase.borrow() >= Phase::Flushing;
            let Answer { outcome, words: answer, written, request_id, unreachable: nobody_there } =
                match self.attempt(body, protocol, attempt, &mut broken).await {
                    Ok(answered) => answered,
                    Err(Stopped) => {
                        self.negotiation.inconclusive(offer, self.clock.now());
                        return Decision::Undecided;
                    }
                };
            // An outage that began before may be over any moment: only what the flush tried says that it lasts.
            unreachable = (nobody_there && flushing).then(|| {
                let (since, attempts) = unreachable.unwrap_or((started, 0));
                (since, attempts + 1)
            });
            if !matches!(outcome, Outcome::Retry { .. } | Outcome::Denied) {
                self.stats.count_answered(counts.values(), started.elapsed());
            }
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
                    let accepted = written.unwrap_or_else(|| {
                        left_out.iter().fold(counts, |sum, of_part| sum - of_part.total())
                    });
                    self.stats.accepted_first(|| FirstSuccess {
                        at: self.clock.now(),
                        host: shown_host(&self.url),
                        request_id,
                        accepted,
                    });
                    self.pace.delivered(self.clock.monotonic());
                    self.notices.recovered(self.clock.monotonic(), &self.endpoint);
                    return Decision::Delivered { left_out, written };
                }
                Outcome::Limited { refusal, .. } if !may_pass || self.limits.is_limited() => {
                    return Decision::Limited(refusal);
                }
                Outcome::Retry { after, .. } | Outcome::Limited { after, .. } => {
                    self.stats.count_retried(counts);
                    let limited = matches!(outcome, Outcome::Limited { .. });
                    may_pass &= !limited;
                    // Waiting does not help against a limit that lasts, and what the endpoint knows waits with the rest.
                    let after = if limited { after.map(|after| after.min(self.max_backoff)) } else { after };
                    if matches!(outcome, Outcome::Retry { throttled: true, .. }) {
                        self.pace.throttled(self.clock.monotonic());
                    }
                    self.notices.warn(
                        self.clock.monotonic(),
                        "retry",
                        &format!("{}: {answer}; the data is kept and sent again", self.endpoint),
                    );
                    let gone = unreachable.is_some_and(|(since, attempts)| {
                        attempts > 1 && since.elapsed() >= UNREACHABLE_PATIENCE
                    });
                    if gone {
                        return Decision::Undecided;
                    }
                    if !self.pause(backoff, after, Phase::HandingOver).await {
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
                    // The end cuts the pause short for one last attempt: it may have been put right meanwhile.
                    let was_the_last = *self.phase.borrow() >= Phase::Flushing;
                    let waited = self.pause(backoff, Some(DENIED_PAUSE), Phase::Flushing).await;
                    if was_the_last || (!waited && *self.phase.borrow() >= Phase::HandingOver) {
                        return Decision::Undecided;
                    }
                    if self.any_too_old(group) {
                        return Decision::LookAgain;
                    }
                }
                Outcome::TooLarge if self.size.too_large(raw_bytes, counts, self.clock.monotonic()) => {
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
                Outcome::TooLarge => {
                    let refusal = Box::new(Refusal::of_everything(too_large()));
                    return Decision::Refused { left_out, refusal, answer };
                }
                Outcome::WrongProtocol => {
                    let refusal = Box::new(Refusal::of_everything(Reason::REFUSED));
                    let answer = match self.negotiation.advice() {
                        Some(advice) => format!("{answer}: {advice}"),
                        None => answer,
                    };
                    return Decision::Refused { left_out, refusal, answer };
                }
                Outcome::Refused(refusal) => return Decision::Refused { left_out, refusal, answer },
            }
        }
        Decision::Undecided
    }

    /// The request that carries `group`; `None` when it would be larger than one may be.
    fn encode(&self, group: &[Part], protocol: Protocol) -> Result<Option<Encoded>, FragmentError> {
        let max_bytes = self.size.raw_bytes(self.clock.monotonic());
        let alone = group.len() == 1 && is_single(&group[0].fragment);
        let limits = if alone {
            // Nothing is left to split: it is measured, and not judged by what compression could make of it.
            RequestLimits::NONE
        } else {
            RequestLimits { max_raw_bytes: max_bytes, max_compressed_bytes: max_bytes, ..RequestLimits::NONE }
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
        let request = builder.finish()?;
        let largest = request.raw_len.max(request.body.len());
        if alone && self.size.single_value_bytes().is_some_and(|most| largest > most) {
            return Ok(None);
        }
        Ok(Some(Encoded { protocol, body: self.describe(request.body), left_out }))
    }

    /// A body with what belongs to it.
    pub(super) fn describe(&self, bytes: Bytes) -> Body {
        let extensions = self.describe_body.as_ref().map(|describe| describe(&bytes)).unwrap_or_default();
        Body { bytes, extensions }
    }

    /// Says what was refused: each class once a minute, by name where there is one.
    fn say_refused(&self, answer: &str, refusal: &Refusal, judged: &Judged) {
        let now = self.clock.monotonic();
        let kind = refusal.class.map_or("refused", |class| class.id);
        let first = judged.found.first().map(|found| found.series.as_str());
        self.stats.count_refusal(kind, first, self.clock.now());
        for found in &judged.found {
            let (reason, fingerprint) = (&found.class.reason, found.fingerprint);
            tracing::debug!(%reason, fingerprint, series = found.series, "refused by {}", self.endpoint);
        }
        let dropped = judged.dropped.iter().fold(Counts::default(), |sum, (_, _, counts)| sum + *counts);
        let what = in_words(dropped);
        if dropped.is_zero() && !judged.again.is_empty() {
            // It is looked for: what is found is said.
            return;
        }
        let mut text = match refusal.class {
            _ if dropped.is_zero() => "no sample was refused".to_owned(),
            Some(class) => format!("{what} refused ({})", class.reason),
            None => format!("{what} refused for good"),
        };
        if let Some(series) = first {
            text.push_str(" of ");
            text.extend(with_short_values(series).chars().take(SHOWN_SERIES_CHARS));
        }
        if refusal.rest == Rest::Written {
            text.push_str("; the rest was written");
        } else if !judged.again.is_empty() {
            text.push_str("; the rest is sent again");
        }
        self.notices.error(now, kind, &format!("{}: {answer}; {text}", self.endpoint));
    }

    /// Says what can't be split any further, and for which reason it is dropped.
    fn say_too_large(&self, fragment: &Fragment) -> Reason {
        let mut series = String::new();
        let read = encode::for_each_series(fragment, |first| {
            if series.is_empty() {
                series = refusal::display(first.labels);
            }
        });
        if let Err(error) = read {
            self.say_corrupt(fragment.counts, &error);
            return Reason::CORRUPT;
        }
        let series: String = series.chars().take(SHOWN_SERIES_CHARS).collect();
        let text = format!(
            "{}: a sample of {} bytes is larger than a request may be and refused (too_large): {series}",
            self.endpoint, fragment.raw_len
        );
        self.notices.error(self.clock.monotonic(), "single value too large", &text);
        too_large()
    }

    fn say_corrupt(&self, counts: Counts, error: &FragmentError) {
        let text = format!("{}: {counts:?} can't be read back and are dropped: {error}", self.endpoint);
        self.notices.error(self.clock.monotonic(), "encode", &text);
    }

    /// Sleeps between attempts; false when delivery came to `end` meanwhile. A flush does not hurry what is
    /// backing off.
    pub(super) async fn pause(&self, backoff: &mut Backoff, asked: Option<Duration>, end: Phase) -> bool {
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
        (!self.sample_age_limit.is_zero()).then(|| self.age.oldest(self.sample_age_limit))
    }
}

/// Larger than the endpoint takes, and a single value: nothing is left to split.
fn too_large() -> Reason {
    Reason::new("too_large")
}

/// As much of a series' name as a log line shows.
const SHOWN_SERIES_CHARS: usize = 512;

/// Whether there is nothing to split.
fn is_single(fragment: &Fragment) -> bool {
    fragment.counts.values() <= 1
}

/// Splits a request in two, or gives back its only part when that can't be split.
pub(super) fn halves(mut group: Vec<Part>) -> Result<(Vec<Part>, Vec<Part>), Part> {
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
