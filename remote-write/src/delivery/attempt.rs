use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use promferry_http_client::KeepMethod;
use tokio::time::Instant;
use tower::{BoxError, Service as _, ServiceExt as _};

use super::outcome::Outcome;
use super::request::{Body, Phase, Sender};
use super::transport::{BrokenAnswer, Failure, describe};
use crate::client::put_headers;
use crate::options::shown_url;
use crate::refusal::{KEPT_BYTES, Refusal, Secrets, redact, redact_words, written};
use crate::spool::Reason;
use crate::{Counts, Protocol};

/// What came of one attempt.
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// The answer, or why there was none, as it is logged.
    pub(super) words: String,
    /// What a 2.0 endpoint says that it wrote.
    pub(super) written: Option<Counts>,
    /// What the endpoint calls the request.
    pub(super) request_id: Option<String>,
    /// Nobody takes connections there.
    pub(super) unreachable: bool,
}

/// Delivery was stopped before an answer came.
pub(super) struct Stopped;

/// The latest answers to a request, as far as their texts broke off: their status, and how many in a row.
#[derive(Default)]
pub(super) struct BrokenAnswers(Option<(StatusCode, u32)>);

/// So many answers in a row of one status that break off are no accident: what came of the text decides. With the
/// pauses between attempts as they are by default, that is after a dozen seconds.
const MAX_BROKEN_ANSWERS: u32 = 10;

impl BrokenAnswers {
    /// Whether another one is as good as the whole.
    fn count(&mut self, status: StatusCode) -> bool {
        let before = self.0.filter(|(known, _)| *known == status).map_or(0, |(_, count)| count);
        self.0 = Some((status, before + 1));
        before + 1 >= MAX_BROKEN_ANSWERS
    }
}

impl Sender {
    /// One attempt and its answer in words. A failure without an answer is worth a retry.
    pub(super) async fn attempt(
        &self,
        body: Body,
        protocol: Protocol,
        attempt: usize,
        broken: &mut BrokenAnswers,
    ) -> Result<Answer, Stopped> {
        let started = Instant::now();
        let retry = Outcome::Retry { after: None, throttled: false };
        let mut phase = self.phase.clone();
        let answer = tokio::select! {
            answer = tokio::time::timeout(self.attempt_timeout, self.call(body, protocol, attempt)) => answer,
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return Err(Stopped),
        };
        let took = started.elapsed();
        let answer = answer.map(|answer| {
            answer.or_else(|error| match BrokenAnswer::among(&error) {
                Some(begun) if broken.count(begun.status) => Ok(begun.as_it_is()),
                begun => {
                    if begun.is_none() {
                        *broken = BrokenAnswers::default();
                    }
                    Err((Failure::of(&error), self.secrets.hide(describe(&error))))
                }
            })
        });
        let (mut confirmed, mut request_id, mut unreachable) = (None, None, false);
        let (outcome, name, words) = match answer {
            Err(_) => (retry, "failed", format!("no answer within {:?}", self.attempt_timeout)),
            // It was answered, with redirects: it goes nowhere however often it is sent.
            Ok(Err((Failure::Redirected, text))) => {
                let outcome = Outcome::Refused(Box::new(Refusal::of_everything(Reason::REFUSED)));
                let name = outcome.name();
                (outcome, name, text)
            }
            Ok(Err((failure, text))) => {
                unreachable = failure == Failure::Unreachable;
                (retry, "failed", text)
            }
            Ok(Ok(answer)) => {
                let (head, body) = answer.into_parts();
                let outcome = Outcome::of(head.status, &head.headers, &body, protocol, self.clock.now());
                let mut text = words(head.status, &head.headers, &body, &self.secrets);
                if matches!(&outcome, Outcome::Refused(refusal) if refusal.class.is_none()) {
                    let body = redact(&body, KEPT_BYTES, &self.secrets);
                    self.stats.keep_unknown(head.status, &head.headers, body, self.clock.now());
                }
                if outcome == Outcome::Denied
                    && let Some(explanation) = self.explain(&head.headers, &body, head.status)
                {
                    text = format!("{text}: {explanation}");
                }
                request_id = self::request_id(&head.headers);
                if protocol == Protocol::V2 {
                    confirmed = written(&head.headers);
                }
                let name = outcome.name();
                (outcome, name, text)
            }
        };
        self.stats.count_attempt(name, took);
        if outcome != Outcome::Delivered {
            self.stats.fail(self.clock.now(), words.clone());
        }
        Ok(Answer { outcome, words, written: confirmed, request_id, unreachable })
    }

    fn explain(&self, headers: &HeaderMap, body: &[u8], status: StatusCode) -> Option<String> {
        // A denial that wears a 400 or a 404 is one all the same.
        let status = if status == StatusCode::UNAUTHORIZED { status } else { StatusCode::FORBIDDEN };
        match &self.explain_denial {
            // It may quote the endpoint.
            Some(explain) => explain(status, headers, body).map(|words| redact_words(words, &self.secrets)),
            None => self.size.is_amp().then(|| {
                String::from("AMP takes signed requests alone, and sigv4 is not configured for this endpoint")
            }),
        }
    }

    async fn call(
        &self,
        body: Body,
        protocol: Protocol,
        attempt: usize,
    ) -> Result<http::Response<Bytes>, BoxError> {
        let mut request = Request::post(self.url.as_str())
            .body(body.bytes)
            .map_err(|error| format!("the url can't be used: {error}"))?;
        *request.extensions_mut() = body.extensions;
        request.extensions_mut().insert(KeepMethod);
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        put_headers(headers, protocol);
        if attempt > 0 {
            headers.insert(HeaderName::from_static("retry-attempt"), HeaderValue::from(attempt));
        }
        let mut transport = self.transport.clone();
        transport.ready().await?.call(request).await
    }
}

/// The most characters of a header's value that are shown.
const MAX_SHOWN_HEADER: usize = 256;

/// An answer in words: status, the body's beginning, and AWS' request id where there is one.
fn words(status: StatusCode, headers: &HeaderMap, body: &[u8], secrets: &Secrets) -> String {
    const SHOWN: usize = 512;
    let text = redact(body, SHOWN, secrets);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let id = headers.get(AWS_REQUEST_ID).and_then(header_text);
    let mut words = format!("answered {status}");
    let location = headers.get(header::LOCATION).filter(|_| status.is_redirection());
    if let Some(location) = location.and_then(|value| value.to_str().ok()) {
        let location: String = shown_url(location).chars().take(MAX_SHOWN_HEADER).collect();
        words = format!("{words} (to {location})");
    }
    if !text.is_empty() {
        words = format!("{words} {text:?}");
    }
    if let Some(id) = id {
        words = format!("{words} (request id {id})");
    }
    words
}

/// AWS' name for the header.
const AWS_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// What the endpoint, or a proxy before it, calls the request, if it says so.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let names = [AWS_REQUEST_ID, HeaderName::from_static("x-request-id")];
    names.iter().find_map(|name| headers.get(name).and_then(header_text))
}

/// As much of a header's text as is shown; nothing where it is empty or no text.
fn header_text(value: &HeaderValue) -> Option<String> {
    let text: String = value.to_str().ok()?.trim().chars().take(MAX_SHOWN_HEADER).collect();
    (!text.is_empty()).then_some(text)
}
