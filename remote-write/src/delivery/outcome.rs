use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use promferry_model::Timestamp;

use crate::{Counts, Protocol};

/// What an answer means for the request that it answers: the one table of the delivery.
///
/// | answer | outcome |
/// |---|---|
/// | 2xx | delivered |
/// | 2xx to a 2.0 message without any `…-Written` header | wrong protocol (remote write 2.0, "Required Written Response Headers") |
/// | 5xx, 408 | retry |
/// | 429 | retry, and send less at a time |
/// | 400 whose text says that capacity is being adjusted | retry: AMP words this throttle as a 400 |
/// | 413 | too large: split and resend, or refuse what cannot be split |
/// | 415, or a 400 that says so of the content | wrong protocol |
/// | 401, 403 | denied: the data waits for better credentials |
/// | other 400, 404, 410, other 4xx, 3xx, anything else | refused |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint has it.
    Delivered,
    /// The same request may succeed later.
    Retry {
        /// What the endpoint asked for with `Retry-After`, at most five minutes.
        after: Option<Duration>,
        /// Whether the endpoint asks for less at a time.
        throttled: bool,
    },
    /// The request is larger than the endpoint takes.
    TooLarge,
    /// The endpoint does not speak the message's version.
    WrongProtocol,
    /// The sender is not allowed to write, as it is now.
    Denied,
    /// The endpoint will never take this request.
    Refused {
        /// What it did take of a 2.0 request, by its `…-Written` headers.
        written: Counts,
    },
}

/// The longest that a `Retry-After` is honoured for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

const WRITTEN_SAMPLES: &str = "x-prometheus-remote-write-samples-written";
const WRITTEN_HISTOGRAMS: &str = "x-prometheus-remote-write-histograms-written";
const WRITTEN_EXEMPLARS: &str = "x-prometheus-remote-write-exemplars-written";

impl Outcome {
    /// What an answer with this head and body means; `now` turns a `Retry-After` date into a pause.
    pub fn of(status: StatusCode, headers: &HeaderMap, body: &[u8], sent: Protocol, now: Timestamp) -> Self {
        let retry = |throttled| Self::Retry { after: retry_after(headers, now), throttled };
        match status.as_u16() {
            200..=299 if sent == Protocol::V2 && !has_written_headers(headers) => Self::WrongProtocol,
            200..=299 => Self::Delivered,
            429 => retry(true),
            408 | 500..=599 => retry(false),
            413 => Self::TooLarge,
            415 => Self::WrongProtocol,
            401 | 403 => Self::Denied,
            400 if says_capacity_is_adjusted(body) => retry(true),
            400 if says_undecodable(body) => Self::WrongProtocol,
            _ if sent == Protocol::V2 => Self::Refused { written: written(headers) },
            _ => Self::Refused { written: Counts::default() },
        }
    }
}

/// What the `…-Written` headers of an answer to a 2.0 request confirm.
pub(super) fn written(headers: &HeaderMap) -> Counts {
    let count =
        |name| headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
    Counts {
        samples: count(WRITTEN_SAMPLES),
        histograms: count(WRITTEN_HISTOGRAMS),
        exemplars: count(WRITTEN_EXEMPLARS),
    }
}

fn has_written_headers(headers: &HeaderMap) -> bool {
    [WRITTEN_SAMPLES, WRITTEN_HISTOGRAMS, WRITTEN_EXEMPLARS].iter().any(|name| headers.contains_key(*name))
}

fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match value.parse::<u64>() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => Timestamp::from(httpdate::parse_http_date(value).ok()?).since(now),
    };
    (!pause.is_zero()).then(|| pause.min(MAX_RETRY_AFTER))
}

/// AMP's automatic scaling answers 400 with a text that promises room (AMP user guide, "Troubleshooting":
/// "Capacity from 2,000,000 to 10,000,000 is automatically adjusted").
fn says_capacity_is_adjusted(body: &[u8]) -> bool {
    contains(body, b"Capacity from") && contains(body, b"automatically adjusted")
}

/// What 1.x receivers say to a 2.0 message that they try to decode (Cortex, Mimir and Prometheus before 2.54
/// wrap Go protobuf's own words).
fn says_undecodable(body: &[u8]) -> bool {
    [
        &b"illegal wireType"[..],
        b"unexpected EOF",
        b"proto: wrong wireType",
        b"unsupported proto",
        b"Unsupported content",
    ]
    .iter()
    .any(|text| contains(body, text))
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn outcome(status: u16, headers: &[(&'static str, &str)], body: &str, sent: Protocol) -> Outcome {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let now = Timestamp::from_millis(1_700_000_000_000);
        Outcome::of(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes(), sent, now)
    }

    #[test]
    fn the_table() {
        let retry = Outcome::Retry { after: None, throttled: false };
        let throttled = Outcome::Retry { after: None, throttled: true };
        let refused = Outcome::Refused { written: Counts::default() };
        let adjusted = "per-user series limit of 10000000 exceeded, Capacity from 2,000,000 to 10,000,000 is \
                        automatically adjusted based on the last 30 min of usage";
        for (status, body, expected) in [
            (200, "", Outcome::Delivered),
            (202, "", Outcome::Delivered),
            (204, "", Outcome::Delivered),
            (302, "", refused.clone()),
            (400, "out of order sample", refused.clone()),
            (400, adjusted, throttled.clone()),
            (401, "", Outcome::Denied),
            (403, "", Outcome::Denied),
            (404, "", refused.clone()),
            (408, "", retry.clone()),
            (413, "", Outcome::TooLarge),
            (415, "", Outcome::WrongProtocol),
            (429, "", throttled),
            (500, "", retry.clone()),
            (503, "", retry),
            (999, "", refused),
        ] {
            assert_eq!(outcome(status, &[], body, Protocol::V1), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_2_0_message_needs_written_headers() {
        assert_eq!(outcome(200, &[], "", Protocol::V2), Outcome::WrongProtocol);
        let confirmed = [("x-prometheus-remote-write-samples-written", "0")];
        assert_eq!(outcome(204, &confirmed, "", Protocol::V2), Outcome::Delivered);
        let partial = [("x-prometheus-remote-write-samples-written", "7")];
        let written = Counts { samples: 7, ..Counts::default() };
        assert_eq!(outcome(400, &partial, "bad sample", Protocol::V2), Outcome::Refused { written });
        assert_eq!(outcome(400, &[], "proto: illegal wireType 7", Protocol::V2), Outcome::WrongProtocol);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_capped() {
        let after = |value: &str| match outcome(503, &[("retry-after", value)], "", Protocol::V1) {
            Outcome::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("12"), Some(Duration::from_secs(12)));
        assert_eq!(after("86400"), Some(MAX_RETRY_AFTER));
        assert_eq!(after("Tue, 14 Nov 2023 22:13:50 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Tue, 14 Nov 2023 22:13:10 GMT"), None);
        assert_eq!(after("soon"), None);
    }
}
