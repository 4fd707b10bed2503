use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use promferry_model::Timestamp;

use crate::Protocol;
use crate::refusal::{Meaning, Refusal, classify, written};

/// What an answer means for the request that it answers: the one table of the delivery.
///
/// | answer | outcome |
/// |---|---|
/// | 2xx | delivered |
/// | 2xx to a 2.0 message without any `…-Written` header | wrong protocol (remote write 2.0, "Required Written Response Headers") |
/// | 5xx, 408 | retry |
/// | 429, or a 400 whose text is a throttle's | retry, and send less at a time |
/// | 429 or 400 whose text is of a lasting limit | limited: what the endpoint knows goes on, what is new waits |
/// | 413, or a 400 whose text says so | too large: split and resend, or refuse what cannot be split |
/// | 415, or a 400 that says so of the content | wrong protocol |
/// | 401, 403, or a 400 or 404 whose text is about credentials | denied: the data waits for better credentials |
/// | 400, 409 whose text is known | refused: what it is about, and nothing else |
/// | other 400, 404, 410, other 4xx, 3xx, anything else | refused: the whole request, once |
///
/// The texts are the rows of [`RefusalClass::all`](crate::refusal::RefusalClass::all).
#[derive(Clone, Debug, PartialEq)]
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
    /// A limit that lasts: of new series, not of those the endpoint knows.
    Limited {
        /// What the endpoint asked for with `Retry-After`, at most five minutes.
        after: Option<Duration>,
        /// Which limit, and whose series.
        refusal: Box<Refusal>,
    },
    /// The request is larger than the endpoint takes.
    TooLarge,
    /// The endpoint does not speak the message's version.
    WrongProtocol,
    /// The sender is not allowed to write, as it is now.
    Denied,
    /// The endpoint will never take this request as it is.
    Refused(Box<Refusal>),
}

/// The longest that a `Retry-After` is honoured for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

impl Outcome {
    /// What an answer with this head and body means; `now` turns a `Retry-After` date into a pause.
    pub fn of(status: StatusCode, headers: &HeaderMap, body: &[u8], sent: Protocol, now: Timestamp) -> Self {
        let after = || retry_after(headers, now);
        match status.as_u16() {
            200..=299 if sent == Protocol::V2 && written(headers).is_none() => return Self::WrongProtocol,
            200..=299 => return Self::Delivered,
            408 | 500..=599 => return Self::Retry { after: after(), throttled: false },
            401 | 403 => return Self::Denied,
            413 => return Self::TooLarge,
            _ => {}
        }
        let refusal = classify(status, headers, body, sent);
        match (status.as_u16(), refusal.meaning()) {
            (_, Some(Meaning::LastingLimit(_))) => {
                Self::Limited { after: after(), refusal: Box::new(refusal) }
            }
            (429, _) | (_, Some(Meaning::Throttle)) => Self::Retry { after: after(), throttled: true },
            (_, Some(Meaning::Denied)) => Self::Denied,
            (415, _) | (_, Some(Meaning::Undecodable)) => Self::WrongProtocol,
            (_, Some(Meaning::TooLarge)) => Self::TooLarge,
            _ => Self::Refused(Box::new(refusal)),
        }
    }

    /// The outcome's name in counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry { throttled: true, .. } => "throttled",
            Self::Retry { .. } => "retry",
            Self::Limited { .. } => "limited",
            Self::TooLarge => "too_large",
            Self::WrongProtocol => "wrong_protocol",
            Self::Denied => "denied",
            Self::Refused(_) => "refused",
        }
    }
}

fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match value.parse::<u64>() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => Timestamp::from(httpdate::parse_http_date(value).ok()?).since(now),
    };
    (!pause.is_zero()).then(|| pause.min(MAX_RETRY_AFTER))
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
        let adjusted = "per-user series limit of 10000000 exceeded, Capacity from 2,000,000 to 10,000,000 is \
                        automatically adjusted based on the last 30 min of usage";
        for (status, body, expected) in [
            (200, "", "delivered"),
            (202, "", "delivered"),
            (204, "", "delivered"),
            (302, "", "refused"),
            (400, "", "refused"),
            (400, "out of order sample", "refused"),
            (400, adjusted, "throttled"),
            (
                400,
                r#"{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"expired"}"#,
                "denied",
            ),
            (400, "ingestion rate limit (10) exceeded while adding 5 samples and 0 metadata", "throttled"),
            (400, "per-user series limit of 5 exceeded", "limited"),
            (400, "received message larger than max (5 vs 4)", "too_large"),
            (400, "proto: wrong wireType = 2 for field Labels", "wrong_protocol"),
            (401, "", "denied"),
            (403, "", "denied"),
            (404, "", "refused"),
            (404, r#"{"Message":"Workspace not found"}"#, "denied"),
            (408, "", "retry"),
            (409, "add 1 samples: out of order sample", "refused"),
            (410, "", "refused"),
            (413, "", "too_large"),
            (415, "", "wrong_protocol"),
            (418, "", "refused"),
            (429, "", "throttled"),
            (429, "per-user series limit of 5 exceeded", "limited"),
            (500, "out of order sample", "retry"),
            (503, "", "retry"),
            (999, "", "refused"),
        ] {
            assert_eq!(outcome(status, &[], body, Protocol::V1).name(), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_2_0_message_needs_written_headers() {
        assert_eq!(outcome(200, &[], "", Protocol::V2), Outcome::WrongProtocol);
        let confirmed = [("x-prometheus-remote-write-samples-written", "0")];
        assert_eq!(outcome(204, &confirmed, "", Protocol::V2), Outcome::Delivered);
        let partial = [("x-prometheus-remote-write-samples-written", "7")];
        let Outcome::Refused(refusal) = outcome(400, &partial, "bad sample", Protocol::V2) else {
            panic!("refused");
        };
        assert_eq!(refusal.written, Some(crate::Counts { samples: 7, ..Default::default() }));
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
