use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use tokio::time::Instant;
use tower::{Service as _, ServiceExt as _};

use super::outcome::Outcome;
use super::request::{Phase, Sender};
use super::transport::describe;
use crate::client::put_headers;
use crate::refusal::{redact, written};
use crate::{Counts, Protocol};

/// What came of one attempt.
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// The answer, or why there was none, as it is logged.
    pub(super) words: String,
    /// What a 2.0 endpoint says that it wrote.
    pub(super) written: Option<Counts>,
}

/// Delivery was stopped before an answer came.
pub(super) struct Stopped;

impl Sender {
    /// One attempt and its answer in words. A failure without an answer is worth a retry.
    pub(super) async fn attempt(
        &self,
        body: Bytes,
        protocol: Protocol,
        attempt: usize,
    ) -> Result<Answer, Stopped> {
        let started = Instant::now();
        let retry = Outcome::Retry { after: None, throttled: false };
        let mut phase = self.phase.clone();
        let answer = tokio::select! {
            answer = tokio::time::timeout(self.attempt_timeout, self.call(body, protocol, attempt)) => answer,
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return Err(Stopped),
        };
        let took = started.elapsed();
        let mut confirmed = None;
        let (outcome, name, words) = match answer {
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
                    && let Some(explanation) = self.explain(head.status, &head.headers, &body)
                {
                    text = format!("{text}: {explanation}");
                }
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
        Ok(Answer { outcome, words, written: confirmed })
    }

    fn explain(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        match &self.explain_denial {
            Some(explain) => explain(status, headers, body),
            None => self.size.is_amp().then(|| {
                String::from("AMP takes signed requests alone, and sigv4 is not configured for this endpoint")
            }),
        }
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
        put_headers(headers, protocol);
        if attempt > 0 {
            headers.insert(HeaderName::from_static("retry-attempt"), HeaderValue::from(attempt));
        }
        let mut transport = self.transport.clone();
        let ready = transport.ready().await.map_err(|error| describe(&error))?;
        ready.call(request).await.map_err(|error| describe(&error))
    }
}

/// An answer in words: status, the body's beginning, and AWS' request id where there is one.
fn words(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    const SHOWN: usize = 512;
    let text = redact(body, SHOWN);
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
