use std::collections::VecDeque;
use std::sync::LazyLock;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, StatusCode};
use promferry_model::Timestamp;
use regex::Regex;

use crate::options::secrets_of_url;

/// How many different bodies that no class fits are kept for each endpoint.
pub const MAX_UNKNOWN_REFUSALS: usize = 20;

/// The most of a body that is kept, in bytes.
pub(crate) const KEPT_BYTES: usize = 2048;

/// A refusal whose text no row of the table fits: kept for whoever is to read it, never guessed at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownRefusal {
    /// The status it came with.
    pub status: StatusCode,
    /// The body's first 2 KiB as text, without what could be a secret: credentials, tokens and signatures,
    /// what follows the `?` of a URL, and what is beyond 64 bytes of a quoted text.
    pub body: String,
    /// AWS' id of the latest request that it was the answer to.
    pub request_id: Option<String>,
    /// How often it came; numbers in the body may have differed.
    pub count: u64,
    /// When it came first.
    pub first: Timestamp,
    /// When it came last.
    pub last: Timestamp,
}

/// An endpoint's unknown refusals, the latest [`MAX_UNKNOWN_REFUSALS`] kinds of them.
#[derive(Debug, Default)]
pub(crate) struct UnknownRefusals {
    kept: Mutex<VecDeque<UnknownRefusal>>,
}

impl UnknownRefusals {
    /// Keeps a body, [redacted](redact) to [`KEPT_BYTES`].
    pub(crate) fn keep(&self, status: StatusCode, body: String, request_id: Option<&str>, now: Timestamp) {
        let request_id = request_id.map(|id| id.chars().take(128).collect());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let same = kept.iter().position(|known| known.status == status && same_kind(&known.body, &body));
        let first = UnknownRefusal { status, body, request_id, count: 1, first: now, last: now };
        // The latest is at the end.
        let latest = match same.and_then(|at| kept.remove(at)) {
            Some(known) => UnknownRefusal { count: known.count + 1, first: known.first, ..first },
            None => first,
        };
        if kept.len() >= MAX_UNKNOWN_REFUSALS {
            kept.pop_front();
        }
        kept.push_back(latest);
    }

    /// What is kept, the latest last.
    pub(crate) fn snapshot(&self) -> Vec<UnknownRefusal> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// What an endpoint is sent that nobody else should see: some answer with all that they were asked.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

/// What is shorter stands in many a text by chance.
const MIN_SECRET_BYTES: usize = 6;
/// Whose metrics they are is no secret, and texts name it.
const TENANT_HEADERS: [&str; 3] = ["x-scope-orgid", "thanos-tenant", "user-agent"];

impl Secrets {
    /// Those among an endpoint's URL and headers: a header's value, and what follows a scheme in it. What
    /// `http_config` adds on the way is not known here; it is [redacted](redact) where it looks like a secret.
    pub(crate) fn of(url: &str, headers: &HeaderMap) -> Self {
        let of_headers = headers
            .iter()
            .filter(|(name, _)| !TENANT_HEADERS.contains(&name.as_str()))
            .filter_map(|(_, value)| value.to_str().ok())
            .flat_map(|value| {
                std::iter::once(value).chain(value.split_once(' ').map(|(_, secret)| secret.trim()))
            });
        let mut secrets: Vec<String> = secrets_of_url(url)
            .chain(of_headers)
            .filter(|text| text.len() >= MIN_SECRET_BYTES)
            .map(str::to_owned)
            .collect();
        // One may be a part of another.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// The text without them.
    pub(crate) fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), "<secret>") } else { text }
        })
    }
}

/// The first `most` bytes of a body without what could be a secret.
pub(crate) fn redact(body: &[u8], most: usize, secrets: &Secrets) -> String {
    // One that the cut would leave half of is looked for in whole.
    let beyond = body.len().min(2 * most);
    let body = secrets.hide(String::from_utf8_lossy(&body[..beyond]).into_owned());
    let body = body.as_bytes();
    let mut end = body.len().min(most);
    // A secret that the cut would leave half of could look like none.
    while end < body.len() && end > 0 && !body[end].is_ascii_whitespace() && end > most.saturating_sub(256) {
        end -= 1;
    }
    let text = String::from_utf8_lossy(&body[..end]);
    let text: String =
        text.trim().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    // Labels' values, mostly.
    static LONG_QUOTED: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#""((?:[^"\\]|\\.){64})(?:[^"\\]|\\.)+""#).ok());
    let text = without_secrets(text);
    match &*LONG_QUOTED {
        Some(quoted) => quoted.replace_all(&text, "\"${1}…\"").into_owned(),
        None => text,
    }
}

/// One's own words about an answer, which may quote it, without what could be a secret.
pub(crate) fn redact_words(words: String, secrets: &Secrets) -> String {
    without_secrets(secrets.hide(words))
}

fn without_secrets(text: String) -> String {
    static RULES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
        let rules = [
            // user:password@ of a URL.
            (r"(?i)([a-z][a-z0-9+.-]*://)[^/@\s]*@", "${1}<secret>@"),
            (r"(?i)((?:https?://|/)[^\s?\x22'<>]*\?)[^\s\x22'<>]+", "${1}<query>"),
            (r#"(?i)\b((?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^\n"']+"#, "${1}<secret>"),
            (r#"(?i)\b((?:set-)?cookie["']?\s*[:=]\s*["']?)[^\n"']+"#, "${1}<secret>"),
            (r"(?i)\b(bearer|basic)\s+[a-z0-9+/=._~-]{6,}", "${1} <secret>"),
            // A JSON Web Token, or another one that begins as one does: base64 of `{"`.
            (r"eyJ[A-Za-z0-9_+/=-]{8,}(?:\.[A-Za-z0-9_+/=-]*)*", "<token>"),
            (
                r#"(?i)((?:credential|signature|authorization|token|secret|passw(?:or)?d|api[-_]?key)[a-z0-9_-]*["']?\s*[:=]\s*["']?)[^\s"',;&]{4,}"#,
                "${1}<secret>",
            ),
            // A session token of STS, as all of them begin.
            (r"\b(?:IQoJ|FwoG|FQoG)[A-Za-z0-9+/_-]{20,}=*", "<token>"),
            (r"\b(?:AKIA|ASIA|AROA)[A-Z0-9]{12,}", "<key>"),
        ];
        rules.into_iter().filter_map(|(rule, by)| Some((Regex::new(rule).ok()?, by))).collect()
    });
    RULES.iter().fold(text, |text, (rule, by)| rule.replace_all(&text, *by).into_owned())
}

/// Whether two bodies differ by numbers at most.
fn same_kind(a: &str, b: &str) -> bool {
    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty())
    }
    words(a).eq(words(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_kinds_are_kept_and_numbers_make_no_kind() {
        let unknown = UnknownRefusals::default();
        let at = Timestamp::from_millis;
        for number in 0..50_u8 {
            let kind = char::from(b'A' + number % 25);
            let body = format!("the {kind} thing {number} is wrong");
            let id = format!("id-{number}");
            unknown.keep(StatusCode::BAD_REQUEST, body, Some(&id), at(i64::from(number)));
        }
        let kept = unknown.snapshot();
        assert_eq!(kept.len(), MAX_UNKNOWN_REFUSALS);
        let latest = kept.last().unwrap();
        assert_eq!((latest.body.as_str(), latest.count), ("the Y thing 49 is wrong", 1));
        unknown.keep(StatusCode::BAD_REQUEST, "the Y thing 7 is wrong".to_owned(), None, at(60));
        unknown.keep(StatusCode::NOT_FOUND, "the Y thing 7 is wrong".to_owned(), None, at(61));
        let kept = unknown.snapshot();
        let again = &kept[kept.len() - 2];
        assert_eq!((again.count, again.first, again.last), (2, at(49), at(60)));
        assert_eq!(kept.last().map(|other| other.status), Some(StatusCode::NOT_FOUND));
    }

    fn redact(body: &[u8], most: usize) -> String {
        super::redact(body, most, &Secrets::default())
    }

    #[test]
    fn what_the_endpoint_was_sent_is_hidden_wherever_it_stands() {
        let mut headers = HeaderMap::new();
        headers.insert("x-pass", http::HeaderValue::from_static("hunter2hunter2"));
        headers.insert("x-scope-orgid", http::HeaderValue::from_static("tenant-1"));
        let url = "https://me:hunter2@x.example/write?apikey=hunter2/2&more";
        let secrets = Secrets::of(url, &headers);
        let body = "tenant-1 sent <hunter2hunter2> to me, hunter2 and hunter2/2";
        assert_eq!(
            super::redact(body.as_bytes(), KEPT_BYTES, &secrets),
            "tenant-1 sent <<secret>> to me, <secret> and <secret>"
        );
        let cut = format!("{}hunter2hunter2 and more", "x".repeat(500));
        assert!(!super::redact(cut.as_bytes(), 505, &secrets).contains("hunt"));
    }

    #[test]
    fn no_secret_is_kept() {
        let body = br#"POST https://me:hunter2@x.example/w?X-Amz-Signature=cafe123&tok=hunter2 said
            Authorization: Bearer hunter2hunter2 or {"token": "hunter2hunter2", "password":"hunter2"}
            AWS4-HMAC-SHA256 Credential=AKIAHUNTER2HUNTER2/20260101, Signature=hunter2hunter2"#;
        let kept = redact(body, KEPT_BYTES);
        assert!(!kept.to_ascii_lowercase().contains("hunter2"), "{kept}");
        assert!(kept.contains("x.example/w?<query> said"), "{kept}");
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.c2lnbmF0dXJlaHVudGVyMg";
        for body in [
            format!("invalid token {token}"),
            format!(r#"cannot parse "{token}""#),
            format!("key glc_{token} is unknown"),
            "Authorization: Token hunter2hunter2 is unknown".to_owned(),
            r#"{"authorization": "ApiKey hunter2hunter2"}"#.to_owned(),
            "Cookie: a=b; session=hunter2hunter2".to_owned(),
        ] {
            let kept = redact(body.as_bytes(), KEPT_BYTES);
            assert!(!kept.contains("hunter2") && !kept.contains("eyJ") && !kept.contains("c2lnbm"), "{kept}");
        }
        let long = format!("label {:?} is odd", "v".repeat(300));
        assert!(redact(long.as_bytes(), KEPT_BYTES).len() < 100);
        assert!(redact(&[b'x'; 100_000], KEPT_BYTES).len() <= KEPT_BYTES);
        assert!(redact(&[0xff; 100], KEPT_BYTES).chars().all(|c| c == '\u{fffd}'));
    }
}
