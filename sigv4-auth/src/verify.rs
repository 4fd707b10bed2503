//! The receiving side: checks a request's signature as AWS does, with AWS' words.
//!
//! Written from AWS' description ("Authenticating Requests: AWS Signature Version 4", IAM User Guide) and by
//! hand, so that it judges the signing side independently of the library that signs.
//!
//! # Where botocore differs
//! botocore (AWS' SDK for Python, 1.44) and this module agree on every path, also with reserved characters raw and
//! escaped, on queries whose names and values are escaped as RFC 3986 says, on any order and repetition of names, on
//! headers with runs of spaces, commas and several values, and on every method. `tests/integration/botocore.rs` has
//! both judge each other. They are known to differ where botocore signs the text it is given:
//!
//! | what | botocore signs | here, as aws-sigv4 |
//! |---|---|---|
//! | a raw `+` in a query | `+` | a space, `%20` |
//! | raw reserved characters in a query, a second `=` | as they are | escaped |
//! | a `%` without two digits in a query | `%` | `%25` |
//! | `%2f` and `%41` in a query | as they are | `%2F` and `A` |
//! | empty pairs in a query (`&`, `a&&b`, `a&`) | a pair `=` | nothing |
//! | a path that ends in `/.` or `/..` | without the last slash | with it (RFC 3986 section 5.2.4) |
//! | a tab in a signed header | a space | a tab; [`sign`](crate::sign) sends a space |
//! | a `Host` in upper case or with its scheme's port | in lower case, without the port | as it was sent |
//! | a wrong `x-amz-content-sha256` | what it says | refused |

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_smithy_types::date_time::{DateTime, Format};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, DATE, HOST};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use sha2::Sha256;

use crate::{PayloadHash, Scope, Secret};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Checks signatures in the `authorization` header against known keys.
///
/// ```
/// use std::time::SystemTime;
/// use promferry_sigv4_auth::verify::{KnownKey, Verifier, VerifyError};
/// use promferry_sigv4_auth::{Credentials, Scope, SigningParams, sign};
///
/// let scope = Scope { region: "eu-west-1".into(), service: "aps".into() };
/// let verifier = Verifier::new(|access_key| (access_key == "AKID").then(|| KnownKey::new("right")))
///     .for_scope(scope.clone());
/// let now = SystemTime::now();
/// for (secret, verdict) in [("right", Ok("AKID".to_owned())), ("wrong", Err(VerifyError::SignatureMismatch))] {
///     let credentials = Credentials::new("AKID", secret, None);
///     let mut request = http::Request::post("http://localhost:9090/api/v1/write").body("body")?;
///     sign(&mut request, &SigningParams { scope: &scope, credentials: &credentials }, now)?;
///     let (head, body) = request.into_parts();
///     assert_eq!(verifier.verify(&head, body.as_bytes(), now), verdict);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Verifier {
    lookup: Lookup,
    scope: Option<Scope>,
    window: Duration,
}

type Lookup = Box<dyn Fn(&str) -> Option<KnownKey> + Send + Sync>;

/// What belongs to an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// The secret key.
    pub secret_key: Secret,
    /// The session token that has to come with it; `None` for a lasting key, which may not bring one.
    pub session_token: Option<Secret>,
    /// When the session token ends.
    pub expires_at: Option<SystemTime>,
}

impl KnownKey {
    /// A lasting key.
    pub fn new(secret_key: &str) -> Self {
        Self { secret_key: Secret::new(secret_key), session_token: None, expires_at: None }
    }

    /// A temporary key.
    pub fn temporary(secret_key: &str, session_token: &str, expires_at: SystemTime) -> Self {
        Self {
            secret_key: Secret::new(secret_key),
            session_token: Some(Secret::new(session_token)),
            expires_at: Some(expires_at),
        }
    }
}

impl Verifier {
    /// A verifier of the keys that `lookup` knows, for any region and service, with AWS' window of five
    /// minutes to both sides.
    pub fn new(lookup: impl Fn(&str) -> Option<KnownKey> + Send + Sync + 'static) -> Self {
        Self { lookup: Box::new(lookup), scope: None, window: WINDOW }
    }

    /// Takes signatures for this region and service only.
    pub fn for_scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// How far a signature's time may be from `now`, to both sides.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Checks one request and says whose it is (the access key id).
    ///
    /// # Errors
    /// What is wrong with it. [`VerifyError::to_response`] makes AWS' answer of it.
    pub fn verify(&self, head: &Parts, body: &[u8], now: SystemTime) -> Result<String, VerifyError> {
        let authorization = Authorization::of(&head.headers)?;
        let key = (self.lookup)(authorization.access_key).ok_or(VerifyError::UnknownKey)?;
        self.check_token(&key, &head.headers, now)?;
        let time = self.check_time(&head.headers, now, authorization.date)?;
        self.check_scope(&authorization)?;
        let host = host_of(head);
        check_signed_headers(&authorization, &head.headers)?;

        let payload_hash = PayloadHash::of(body);
        check_payload_hash(&head.headers, payload_hash)?;

        let canonical = canonical_request(head, host, &authorization, payload_hash)?;
        let scope =
            format!("{}/{}/{}/aws4_request", authorization.date, authorization.region, authorization.service);
        let string_to_sign =
            format!("{ALGORITHM}\n{time}\n{scope}\n{}", PayloadHash::of(canonical.as_bytes()).to_hex());
        let mut mac = keyed(&signing_key(key.secret_key.expose(), &authorization));
        mac.update(string_to_sign.as_bytes());
        let signature = from_hex(authorization.signature).ok_or(VerifyError::SignatureMismatch)?;
        mac.verify_slice(&signature).map_err(|_| VerifyError::SignatureMismatch)?;
        Ok(authorization.access_key.to_owned())
    }

    fn check_token(&self, key: &KnownKey, headers: &HeaderMap, now: SystemTime) -> Result<(), VerifyError> {
        let given = headers.get("x-amz-security-token").map(|token| token.as_bytes());
        if given != key.session_token.as_ref().map(|token| token.expose().as_bytes()) {
            return Err(VerifyError::UnknownKey);
        }
        if key.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(VerifyError::ExpiredToken);
        }
        Ok(())
    }

    fn check_time(
        &self,
        headers: &HeaderMap,
        now: SystemTime,
        scope_date: &str,
    ) -> Result<String, VerifyError> {
        let (text, time) = request_time(headers)?;
        if !text.starts_with(scope_date) {
            return Err(VerifyError::ScopeDate { scope: scope_date.to_owned(), time: text });
        }
        let minutes = self.window.as_secs() / 60;
        if time + self.window < now {
            let earliest = basic_format(now - self.window);
            return Err(VerifyError::Expired {
                time: text,
                limit: earliest,
                now: basic_format(now),
                minutes,
            });
        }
        if time > now + self.window {
            let latest = basic_format(now + self.window);
            return Err(VerifyError::NotYetCurrent {
                time: text,
                limit: latest,
                now: basic_format(now),
                minutes,
            });
        }
        Ok(text)
    }

    fn check_scope(&self, authorization: &Authorization<'_>) -> Result<(), VerifyError> {
        match &self.scope {
            Some(scope) if scope.region != authorization.region => {
                Err(VerifyError::Region { given: authorization.region.to_owned() })
            }
            Some(scope) if scope.service != authorization.service => {
                Err(VerifyError::Service { expected: scope.service.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("scope", &self.scope)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// Why a signature is refused, in AWS' own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no `authorization` header.
    #[error("Missing Authentication Token")]
    MissingAuthenticationToken,
    /// The header is none of Signature Version 4.
    #[error("Authorization header requires '{missing}' parameter.")]
    IncompleteSignature {
        /// What it lacks.
        missing: &'static str,
    },
    /// There is no time of signing, or it is no time.
    #[error("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")]
    NoDate,
    /// The access key, or its session token, is unknown.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The session token has ended.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// The day in the credential scope is not that of the time of signing.
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope}' != '{}', from '{time}'.",
        .time.get(..8).unwrap_or_default()
    )]
    ScopeDate {
        /// The day in the scope.
        scope: String,
        /// The time of signing.
        time: String,
    },
    /// Signed too long ago.
    #[error("Signature expired: {time} is now earlier than {limit} ({now} - {minutes} min.)")]
    Expired {
        /// The time of signing.
        time: String,
        /// The earliest that is taken.
        limit: String,
        /// The verifier's time.
        now: String,
        /// The window.
        minutes: u64,
    },
    /// Signed in the future.
    #[error("Signature not yet current: {time} is still later than {limit} ({now} + {minutes} min.)")]
    NotYetCurrent {
        /// The time of signing.
        time: String,
        /// The latest that is taken.
        limit: String,
        /// The verifier's time.
        now: String,
        /// The window.
        minutes: u64,
    },
    /// Signed for another region.
    #[error("Credential should be scoped to a valid region, not '{given}'. ")]
    Region {
        /// The region in the scope.
        given: String,
    },
    /// Signed for another service.
    #[error("Credential should be scoped to correct service: '{expected}'. ")]
    Service {
        /// The service that it should be for.
        expected: String,
    },
    /// A header that has to be signed is not.
    #[error("'{header}' must be a 'SignedHeader' in the AWS Authorization.")]
    UnsignedHeader {
        /// The header.
        header: String,
    },
    /// The header `x-amz-content-sha256` is not the body's hash.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    PayloadHashMismatch,
    /// The signature is not what these keys make of this request.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
         Access Key and signing method. Consult the service documentation for details."
    )]
    SignatureMismatch,
}

impl VerifyError {
    /// AWS' name of the error, as in the header `x-amzn-ErrorType`.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::IncompleteSignature { .. } | Self::NoDate => "IncompleteSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::ExpiredToken => "ExpiredTokenException",
            Self::PayloadHashMismatch => "XAmzContentSHA256Mismatch",
            _ => "InvalidSignatureException",
        }
    }

    /// What AWS answers: 403, and 400 where the header with the body's hash is wrong.
    pub fn to_response(&self) -> Response<String> {
        let body = serde_json::json!({ "message": self.to_string() }).to_string();
        let mut response = Response::new(body);
        *response.status_mut() = match self {
            Self::PayloadHashMismatch => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        };
        let headers = response.headers_mut();
        headers.insert("x-amzn-errortype", http::HeaderValue::from_static(self.error_type()));
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
        response
    }
}

struct Authorization<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Self, VerifyError> {
        let text = headers.get(AUTHORIZATION).ok_or(VerifyError::MissingAuthenticationToken)?;
        let text = text.to_str().ok().and_then(|text| text.strip_prefix(ALGORITHM));
        let text = text.ok_or(VerifyError::IncompleteSignature { missing: "Algorithm" })?;
        let parameter = |name: &'static str| {
            text.split(',')
                .filter_map(|part| part.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
                .ok_or(VerifyError::IncompleteSignature { missing: name })
        };
        // The access key may hold slashes, the scope never does.
        let mut scope = parameter("Credential")?.rsplitn(5, '/');
        let mut next = || scope.next().ok_or(VerifyError::IncompleteSignature { missing: "Credential" });
        let (terminator, service, region, date, access_key) = (next()?, next()?, next()?, next()?, next()?);
        if terminator != "aws4_request" {
            return Err(VerifyError::IncompleteSignature { missing: "Credential" });
        }
        Ok(Self {
            access_key,
            date,
            region,
            service,
            signed_headers: parameter("SignedHeaders")?.split(';').collect(),
            signature: parameter("Signature")?,
        })
    }
}

/// The time of signing in ISO 8601's basic format and as a time.
fn request_time(headers: &HeaderMap) -> Result<(String, SystemTime), VerifyError> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if let Some(date) = text("x-amz-date") {
        let bytes = date.as_bytes();
        let digits = |range: std::ops::Range<usize>| {
            bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
        };
        if bytes.len() != 16 || !digits(0..8) || bytes[8] != b'T' || !digits(9..15) || bytes[15] != b'Z' {
            return Err(VerifyError::NoDate);
        }
        let extended = format!(
            "{}-{}-{}T{}:{}:{}Z",
            &date[0..4],
            &date[4..6],
            &date[6..8],
            &date[9..11],
            &date[11..13],
            &date[13..15]
        );
        let time = DateTime::from_str(&extended, Format::DateTime).ok().and_then(|time| time.try_into().ok());
        return Ok((date.to_owned(), time.ok_or(VerifyError::NoDate)?));
    }
    let date = text(DATE.as_str()).ok_or(VerifyError::NoDate)?;
    // botocore writes the zone as mail does (RFC 5322 section 3.3), where HTTP has GMT (RFC 9110 section 5.6.7).
    let zoneless = [" -0000", " +0000"].iter().find_map(|zone| date.strip_suffix(zone));
    let date = &zoneless.map_or_else(|| date.to_owned(), |date| format!("{date} GMT"));
    let time = DateTime::from_str(date, Format::HttpDate).ok().and_then(|time| time.try_into().ok());
    let time = time.ok_or(VerifyError::NoDate)?;
    Ok((basic_format(time), time))
}

fn basic_format(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let whole = DateTime::from_secs(i64::try_from(seconds).unwrap_or_default());
    whole.fmt(Format::DateTime).unwrap_or_default().replace(['-', ':'], "")
}

fn host_of(head: &Parts) -> Option<&str> {
    let header = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| head.uri.authority().map(|authority| authority.as_str()))
}

fn check_signed_headers(authorization: &Authorization<'_>, headers: &HeaderMap) -> Result<(), VerifyError> {
    let signed = |name: &str| authorization.signed_headers.contains(&name);
    if !signed("host") {
        return Err(VerifyError::UnsignedHeader { header: String::from("Host") });
    }
    match headers.keys().find(|name| name.as_str().starts_with("x-amz-") && !signed(name.as_str())) {
        Some(header) => Err(VerifyError::UnsignedHeader { header: header.to_string() }),
        None => Ok(()),
    }
}

/// What `x-amz-content-sha256` says, where it is there, must be the body's hash: S3 alone takes `UNSIGNED-PAYLOAD`.
fn check_payload_hash(headers: &HeaderMap, payload_hash: PayloadHash) -> Result<(), VerifyError> {
    let hash = payload_hash.to_hex();
    match headers.get_all("x-amz-content-sha256").iter().all(|given| given.as_bytes() == hash.as_bytes()) {
        true => Ok(()),
        false => Err(VerifyError::PayloadHashMismatch),
    }
}

fn canonical_request(
    head: &Parts,
    host: Option<&str>,
    authorization: &Authorization<'_>,
    payload_hash: PayloadHash,
) -> Result<String, VerifyError> {
    let mut headers = String::new();
    for name in &authorization.signed_headers {
        let value = match *name {
            "host" => host.map(collapsed),
            name => joined(&head.headers, name),
        };
        let value = value.ok_or(VerifyError::SignatureMismatch)?;
        headers.push_str(&format!("{name}:{value}\n"));
    }
    Ok(format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        head.method,
        encoded(normalized(head.uri.path()).as_bytes(), true),
        canonical_query(head.uri.query().unwrap_or_default()),
        authorization.signed_headers.join(";"),
        payload_hash.to_hex(),
    ))
}

/// A header's values, in the order they came, with a comma between.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Option<Vec<String>> = headers
        .get_all(name)
        .iter()
        .map(|value| std::str::from_utf8(value.as_bytes()).ok().map(collapsed))
        .collect();
    values.filter(|values| !values.is_empty()).map(|values| values.join(","))
}

/// Without spaces around, and with one in place of many. Other white space stays as it is.
fn collapsed(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Without dot segments (RFC 3986 section 5.2.4) and empty segments.
fn normalized(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let names_folder = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    let slash = if names_folder && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(&decoded(name), false), encoded(&decoded(value), false)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encodes all but the unreserved characters of RFC 3986, and slashes where they stand for themselves.
fn encoded(bytes: &[u8], keeps_slash: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte))
            }
            b'/' if keeps_slash => text.push('/'),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Percent-decodes a part of a query; a plus is a space there.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|digits| from_hex(std::str::from_utf8(digits).ok()?)) {
            Some(byte) => {
                decoded.extend(byte);
                at += 3;
            }
            None => {
                decoded.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    decoded
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn signing_key(secret_key: &str, authorization: &Authorization<'_>) -> [u8; 32] {
    let step = |key: &[u8], text: &str| {
        let mut mac = keyed(key);
        mac.update(text.as_bytes());
        <[u8; 32]>::from(mac.finalize().into_bytes())
    };
    let date = step(format!("AWS4{secret_key}").as_bytes(), authorization.date);
    let region = step(&date, authorization.region);
    let service = step(&region, authorization.service);
    step(&service, "aws4_request")
}
