//! Why a request was not answered with what it asked for.

use std::fmt;

use http::StatusCode;

use super::objects::Status;
use super::source::Collection;

/// What became of a request; it passes through kube's client, which knows it as an error of its service.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Refusal {
    /// For a reader, with what was asked for.
    pub(super) reason: String,
    pub(super) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// There is no answer.
    Unreachable,
    Status(StatusCode),
    /// This list cannot be streamed.
    Unstreamed,
    /// None can be.
    NoStreams,
}

/// Characters of a server's explanation that are shown: log lines and status pages are no place for more.
const MAX_SHOWN: usize = 500;

/// A request that is being refused.
pub(super) struct Refused<'a> {
    verb: &'static str,
    collection: &'a Collection,
}

impl Refusal {
    pub(super) fn of<'a>(verb: &'static str, collection: &'a Collection) -> Refused<'a> {
        Refused { verb, collection }
    }
}

impl Refused<'_> {
    pub(super) fn unreachable(&self, reason: &dyn fmt::Display) -> Refusal {
        Refusal { reason: format!("{} {}: {reason}", self.verb, self.collection), why: Why::Unreachable }
    }

    /// By the server's answer.
    pub(super) fn by(&self, status: StatusCode, explained: &Status, is_streamed: bool) -> Refusal {
        let mut reason = format!("{} {}: {status}: {}", self.verb, self.collection, self.advice(status));
        if !explained.message.is_empty() {
            reason = format!("{reason} ({})", shown(&explained.message));
        }
        let is_of_streaming = is_streamed
            && matches!(
                status,
                StatusCode::BAD_REQUEST
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::UNPROCESSABLE_ENTITY
                    | StatusCode::NOT_IMPLEMENTED
            );
        let why = match is_of_streaming {
            // Another reason, such as a selector that it does not know, is to be heard from a list.
            true if explained.message.contains("sendInitialEvents") => Why::NoStreams,
            true => Why::Unstreamed,
            false => Why::Status(status),
        };
        Refusal { reason, why }
    }

    pub(super) fn unstreamed(&self) -> Refusal {
        let reason = format!("{} {}: lists are not streamed", self.verb, self.collection);
        Refusal { reason, why: Why::Unstreamed }
    }

    fn advice(&self, status: StatusCode) -> String {
        let Collection { resource, namespace, .. } = self.collection;
        match status {
            StatusCode::UNAUTHORIZED => "the API server does not take the credentials".to_owned(),
            StatusCode::FORBIDDEN => {
                let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
                let group = match resource.group() {
                    "" => String::new(),
                    group => format!(" of apiGroup {group}"),
                };
                format!("a {kind} needs list, watch on {}{group}", resource.plural())
            }
            StatusCode::NOT_FOUND => {
                let group = if resource.group().is_empty() { "" } else { "/" };
                format!("this API server has no {} of {}{group}v1", resource.plural(), resource.group())
            }
            _ => "the API server refuses".to_owned(),
        }
    }
}

/// A text of the server's, as a line of a log can have it.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(MAX_SHOWN) {
        match character.is_control() {
            true => shown.extend(character.escape_debug()),
            false => shown.push(character),
        }
    }
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{MAX_SHOWN, shown};

    #[test]
    fn what_a_server_says_is_shown_on_one_line_of_bounded_length() {
        for (text, expected) in [
            ("no: User \"é\"", "no: User \"é\"".to_owned()),
            ("a\nWARN \u{1b}[31mb", "a\\nWARN \\u{1b}[31mb".to_owned()),
            (&"x".repeat(MAX_SHOWN), "x".repeat(MAX_SHOWN)),
            (&"ü".repeat(64 << 10), "ü".repeat(MAX_SHOWN) + "…"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }
}
