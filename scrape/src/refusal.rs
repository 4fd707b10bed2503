//! What a server says when it does not give the page.

use std::time::Duration;

use http::response::Parts;
use http::{HeaderMap, StatusCode, header};
use promferry_http_client::SentSecrets;
use serde::Deserialize;

use crate::gate::Refusal;
use crate::{Job, Target, target};

/// No more of an answer that is no page is read.
pub(crate) const MAX_REFUSAL_BYTES: usize = 16 << 10;
/// Shorter values of parameters are no secrets, and are in many a word.
const MIN_HIDDEN_BYTES: usize = 4;
/// No more of its reason is shown.
const MAX_SHOWN_BYTES: usize = 200;

/// Whether an answer asks to come again later, and what it says of when (RFC 9110, 10.2.3 and 15.6.4; RFC 6585, 4).
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap) -> Option<Refusal> {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(Refusal::TooMany(retry_after(headers))),
        StatusCode::SERVICE_UNAVAILABLE => Some(Refusal::Unavailable(retry_after(headers))),
        _ => None,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let after = text(header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| httpdate::parse_http_date(text.trim()).ok();
    // Its own clock is the one that it goes by.
    let (at, now) = (date(after)?, date(text(header::DATE)?)?);
    Some(at.duration_since(now).unwrap_or_default())
}

/// A Kubernetes `Status` (k8s.io/apimachinery `meta/v1`).
#[derive(Deserialize)]
struct Status {
    kind: String,
    message: String,
}

/// The reason that the body of such an answer names: the message of a Kubernetes API server, or the first line of a
/// plain text. Never anything that was sent as a credential.
pub(crate) fn message(head: &Parts, body: &[u8], target: &Target, job: &Job) -> Option<String> {
    let is_encoded =
        head.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if is_encoded {
        return None;
    }
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let said = if content_type.starts_with("application/json") {
        let status = serde_json::from_slice::<Status>(body).ok().filter(|status| status.kind == "Status")?;
        status.message
    } else if content_type.is_empty() || content_type.starts_with("text/plain") {
        let text = std::str::from_utf8(body).ok()?;
        text.lines().find(|line| !line.trim().is_empty())?.to_owned()
    } else {
        return None;
    };
    let said = match head.extensions.get::<SentSecrets>() {
        Some(secrets) => secrets.redact(&said),
        // What was sent is not known: nothing is repeated.
        None => return None,
    };
    let said = without_parameters(said, target, job);
    Some(shown(&said)).filter(|said| !said.is_empty())
}

/// What a server says without the values of the parameters that it was asked with, any of which may be a token. The one
/// that names whom a prober asks stays.
fn without_parameters(said: String, target: &Target, job: &Job) -> String {
    let mut hidden: Vec<String> = Vec::new();
    if let Some((_, query)) = target.url().split_once('?').filter(|(_, query)| !query.is_empty()) {
        hidden.push(query.to_owned());
    }
    for (name, values) in target.query(&job.config.params) {
        if name != "target" {
            let long = values.into_iter().filter(|value| value.len() >= MIN_HIDDEN_BYTES);
            hidden.extend(long.flat_map(|value| [value.to_owned(), target::escaped(value)]));
        }
    }
    hidden.sort_by_key(|hidden| std::cmp::Reverse(hidden.len()));
    hidden.iter().fold(said, |said, hidden| said.replace(hidden, "…"))
}

/// One line without control characters, cut where it is long.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    match line.char_indices().find(|(at, c)| at + c.len_utf8() > MAX_SHOWN_BYTES) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_refusal_says_when_to_come_again() {
        const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const LATER: &str = "Sun, 06 Nov 1994 08:50:07 GMT";
        let too_many = |pause: Option<u64>| Some(Refusal::TooMany(pause.map(Duration::from_secs)));
        let unavailable = |pause: Option<u64>| Some(Refusal::Unavailable(pause.map(Duration::from_secs)));
        for (status, retry_after, date, expected) in [
            (429, Some("7"), None, too_many(Some(7))),
            (503, Some(" 0 "), None, unavailable(Some(0))),
            (503, Some(LATER), Some(DATE), unavailable(Some(30))),
            (503, Some(DATE), Some(LATER), unavailable(Some(0))),
            (503, Some(LATER), None, unavailable(None)),
            (503, Some("-1"), None, unavailable(None)),
            (503, Some("soon"), Some(DATE), unavailable(None)),
            (503, None, None, unavailable(None)),
            (429, None, None, too_many(None)),
            (500, Some("7"), None, None),
            (200, Some("7"), None, None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::RETRY_AFTER, retry_after), (header::DATE, date)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refusal(status, &headers), expected, "{status} {retry_after:?}");
        }
    }

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown(" a\tb\u{1b}[31m "), "a b [31m");
        let long = shown(&"ä".repeat(150));
        assert!(long.len() <= MAX_SHOWN_BYTES + '…'.len_utf8() && long.ends_with('…'), "{long}");
        assert_eq!(shown(&"x".repeat(200)), "x".repeat(200));
    }
}
