//! What a server here does instead of answering as it should.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};

/// What a server does instead of answering as it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It answers as it should.
    #[default]
    None,
    /// Nothing listens: connections are refused, open ones are closed.
    Down,
    /// It answers as it should, so much later.
    Slow(Duration),
    /// `Throttling: Rate exceeded` (400 of STS, 429 of a workspace).
    Throttling,
    /// The account has not switched the region on.
    RegionDisabled,
    /// No answer of AWS: pages of a proxy, an answer that breaks off, nothing.
    Nonsense,
    /// A 403 of somebody else that shows all that it was sent, headers and body.
    Echo,
}

/// The faults in force: one after the other, over and over.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<(Vec<Fault>, usize)>);

impl Faults {
    pub(crate) fn set(&self, faults: &[Fault]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (faults.to_vec(), 0);
    }

    /// What the next call meets, and how many calls came before it since these faults are in force.
    pub(crate) fn next(&self) -> (Fault, usize) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (faults, calls) = &mut *faults;
        let before = *calls;
        *calls += 1;
        (if faults.is_empty() { Fault::None } else { faults[before % faults.len()] }, before)
    }
}

/// The answer of [`Fault::Echo`].
pub(crate) fn echo(head: &Parts, body: &Bytes) -> Response<String> {
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| format!("[{:?},{:?}]", name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    // The session token first, without a name that stands right before it as in a header.
    headers.sort_unstable_by(|a, b| b.cmp(a));
    let body = String::from_utf8_lossy(body);
    let mut response = Response::new(format!("{{\"headers\":[{}],\"body\":{body:?}}}", headers.join(",")));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}
