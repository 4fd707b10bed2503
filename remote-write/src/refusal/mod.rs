//! What receivers mean when they refuse: their texts, classified.
//!
//! The remote-write specifications give a sender a status and forbid it to guess at the body. But a 400 of
//! Amazon Managed Service for Prometheus may mean that one sample of two thousand is too old and the others
//! were written, that the whole request has to come again in a minute, or that no new series fit. So each
//! known text is a row of `data/refusals.json` ([`RefusalClass`]): what it means, what became of the rest of
//! the request, which series it names, under which of AMP's reasons it counts, where the text is from and how
//! sure that is. What no row fits is never guessed at: the request is refused once, and the body is kept for
//! a human to read ([`UnknownRefusal`]).
//!
//! ```
//! use http::{HeaderMap, StatusCode};
//! use promferry_remote_write::Protocol;
//! use promferry_remote_write::refusal::{Meaning, Rest, classify};
//!
//! let body = br#"user=u: err: out of order sample. timestamp=2026-11-22T12:00:00Z, series={__name__="up", job="node"}"#;
//! let refusal = classify(StatusCode::BAD_REQUEST, &HeaderMap::new(), body, Protocol::V1);
//! assert_eq!(refusal.class.map(|class| class.meaning), Some(Meaning::Samples));
//! assert_eq!(refusal.rest, Rest::Written);
//! assert_eq!(refusal.reason.as_str(), "sample-out-of-order");
//! let offender = &refusal.offenders[0];
//! assert!(offender.series.is_of(&[("__name__", "up"), ("job", "node")]));
//! ```

mod class;
mod pattern;
mod series_text;
mod unknown;

use std::borrow::Cow;

use http::{HeaderMap, StatusCode};
use promferry_model::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use crate::delivery::MAX_ANSWER_BYTES;
use crate::spool::Reason;
use crate::{Counts, Protocol};
use class::Table;

pub use class::{Confidence, LimitScope, Meaning, Naming, RefusalClass, Rest};
pub use series_text::SeriesText;
pub(crate) use series_text::display;
pub(crate) use unknown::{KEPT_BYTES, Secrets, UnknownRefusals, redact, redact_words};
pub use unknown::{MAX_UNKNOWN_REFUSALS, UnknownRefusal};

/// The most series that one answer may name; what is beyond counts as not named.
pub const MAX_OFFENDERS: usize = 10_000;

/// What an answer that was not a success says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// The row that its body fits; `None` for a body that nobody has classified.
    pub class: Option<&'static RefusalClass>,
    /// The ledger's reason for what is dropped for it.
    pub reason: Reason,
    /// What it names, in the body's order.
    pub offenders: Vec<Offender>,
    /// What became of everything else in the request.
    pub rest: Rest,
    /// How many samples and histograms it says were refused; more may be refused than are named.
    pub refused: Option<u64>,
    /// What was written, as the `X-Prometheus-Remote-Write-*-Written` headers of an answer to a 2.0 message
    /// say. It says more than `rest`.
    pub written: Option<Counts>,
}

/// A refused sample, as far as a body tells which.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Offender {
    /// Why, which may differ from offender to offender of one answer.
    pub class: &'static RefusalClass,
    /// Whose sample it is.
    pub series: SeriesText,
    /// When it was taken; `None` when the text does not say, and any sample of the series may be it.
    pub timestamp: Option<Timestamp>,
}

impl Refusal {
    /// The whole request is refused, and its answer says nothing more.
    pub(crate) fn of_everything(reason: Reason) -> Self {
        let (rest, offenders) = (Rest::Unknown, Vec::new());
        Self { class: None, reason, offenders, rest, refused: None, written: None }
    }

    /// What the refusal means; `None` where that is not known.
    pub fn meaning(&self) -> Option<Meaning> {
        self.class.map(|class| class.meaning)
    }
}

/// What an answer with this head and body to a message of `protocol` says. Takes time linear in the length of
/// the body, of which it looks at [`MAX_ANSWER_BYTES`] at most.
pub fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8], protocol: Protocol) -> Refusal {
    let body = &body[..body.len().min(MAX_ANSWER_BYTES)];
    let text = message_of(headers, body);
    let written = (protocol == Protocol::V2).then(|| written(headers)).flatten();
    let classes: Vec<_> = Table::embedded().matches(status.as_u16(), &text).collect();
    let Some(&class) = classes.first() else {
        let rest = Rest::Unknown;
        let offenders = Vec::new();
        return Refusal { class: None, reason: Reason::REFUSED, offenders, rest, refused: None, written };
    };
    let mut offenders = Vec::new();
    for named_by in classes.into_iter().filter(|other| *other == class || other.joins(class)) {
        let named = named_by.pattern.named(&text, named_by.names == Naming::First);
        let named = named.into_iter().take(MAX_OFFENDERS - offenders.len());
        offenders.extend(named.map(|named| Offender {
            class: named_by,
            series: named.series,
            timestamp: named.timestamp,
        }));
    }
    let (reason, rest, refused) = (class.reason.clone(), class.rest, class.pattern.refused(&text));
    Refusal { class: Some(class), reason, offenders, rest, refused, written }
}

impl RefusalClass {
    /// Whether texts of this class and of `first` stand in one body, line by line.
    fn joins(&self, first: &Self) -> bool {
        self.names == Naming::All && first.names == Naming::All && self.rest == first.rest
    }
}

/// What identifies a series over requests and restarts: [`Labels::stable_hash`](promferry_model::Labels::stable_hash)
/// of its labels as sent, sorted by name.
pub fn fingerprint(labels: &[(&str, &str)]) -> u64 {
    let mut hasher = Xxh3::with_seed(0);
    for (name, value) in labels {
        for part in [name.as_bytes(), &[0xff], value.as_bytes(), &[0xff]] {
            hasher.update(part);
        }
    }
    hasher.digest()
}

/// What the `…-Written` headers of an answer to a 2.0 message confirm; `None` when there is none of them.
pub fn written(headers: &HeaderMap) -> Option<Counts> {
    const NAMES: [&str; 3] = [
        "x-prometheus-remote-write-samples-written",
        "x-prometheus-remote-write-histograms-written",
        "x-prometheus-remote-write-exemplars-written",
    ];
    if !NAMES.iter().any(|name| headers.contains_key(*name)) {
        return None;
    }
    let [samples, histograms, exemplars] = NAMES.map(|name| {
        headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse().ok()).unwrap_or(0)
    });
    Some(Counts { samples, histograms, exemplars })
}

/// AWS wraps texts in JSON and says of which type they are, there or in a header; anything else is taken as it is.
fn message_of<'a>(headers: &HeaderMap, body: &'a [u8]) -> Cow<'a, str> {
    let text = message_in(body);
    let kind = headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.is_empty() || text.starts_with(kind) { text } else { Cow::Owned(format!("{kind}: {text}")) }
}

fn message_in(body: &[u8]) -> Cow<'_, str> {
    #[derive(serde::Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow, alias = "Message")]
        message: Cow<'a, str>,
        #[serde(borrow, default, rename = "__type")]
        kind: Cow<'a, str>,
    }
    if body.trim_ascii_start().starts_with(b"{")
        && let Ok(wrapped) = serde_json::from_slice::<Wrapped<'_>>(body)
    {
        return if wrapped.kind.is_empty() {
            Cow::Owned(wrapped.message.into_owned())
        } else {
            Cow::Owned(format!("{}: {}", wrapped.kind, wrapped.message))
        };
    }
    String::from_utf8_lossy(body)
}
