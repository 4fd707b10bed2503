//! The signer and the verifier against AWS' test suite and against botocore.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_types::date_time::{DateTime, Format};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use promferry_sigv4_auth::verify::{KnownKey, Verifier, VerifyError};
use promferry_sigv4_auth::{Credentials, Scope, SigningParams, sign};
use serde::Deserialize;

#[derive(Deserialize)]
struct SuiteVector {
    name: String,
    context: SuiteContext,
    request: String,
    signed_request: String,
}

#[derive(Deserialize)]
struct SuiteContext {
    credentials: SuiteKeys,
    region: String,
    service: String,
}

#[derive(Deserialize)]
struct SuiteKeys {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

/// How many vectors the suite has.
const SUITE: usize = 38;

/// What of the suite cannot come to an HTTP server of today, or AWS does for S3 alone.
const NOT_APPLICABLE: [(&str, &str); 10] = [
    ("get-header-value-multiline", "folded header lines are no HTTP any more (RFC 9112 section 5.2)"),
    ("get-space-normalized", "a space is not possible in a request line"),
    ("get-space-unnormalized", "a space is not possible in a request line"),
    ("post-sts-header-after", "a session token that is not signed is not taken"),
    ("get-relative-relative-unnormalized", UNNORMALIZED),
    ("get-relative-unnormalized", UNNORMALIZED),
    ("get-slash-dot-slash-unnormalized", UNNORMALIZED),
    ("get-slash-pointless-dot-unnormalized", UNNORMALIZED),
    ("get-slash-unnormalized", UNNORMALIZED),
    ("get-slashes-unnormalized", UNNORMALIZED),
];
const UNNORMALIZED: &str = "paths that are not normalised are S3's";

/// What the signer signs otherwise, rightly: it takes in the headers that nothing on the way changes.
const OTHER_HEADERS: [(&str, &str); 7] = [
    ("get-header-key-duplicate", "my-header1 is signed"),
    ("get-header-value-order", "my-header1 is signed"),
    ("get-header-value-trim", "my-header1 and my-header2 are signed"),
    ("post-header-key-sort", "my-header1 is signed"),
    ("post-header-value-case", "my-header1 is signed"),
    ("post-x-www-form-urlencoded", "content-length is signed"),
    ("post-x-www-form-urlencoded-parameters", "content-length is signed"),
];

/// The suite's vectors but for these, each of which must be there.
fn suite_without(skipped: &[(&str, &str)]) -> Vec<SuiteVector> {
    let mut suite: Vec<SuiteVector> =
        serde_json::from_str(include_str!("../data/aws_signing_test_suite.json")).expect("the suite");
    assert_eq!(suite.len(), SUITE);
    for (name, reason) in skipped {
        let at = suite.iter().position(|vector| vector.name == *name);
        suite.remove(at.unwrap_or_else(|| panic!("no vector {name}, which is skipped for {reason:?}")));
    }
    suite
}

#[test]
fn verifier_takes_aws_test_suite() {
    let suite = suite_without(&NOT_APPLICABLE);
    assert_eq!(suite.len(), 28);
    for vector in &suite {
        let request = parse_request(&vector.signed_request);
        let keys = &vector.context.credentials;
        let (access_key, secret_key) = (keys.access_key_id.clone(), keys.secret_access_key.clone());
        let token = request.headers().get("x-amz-security-token").map(|token| text(token).to_owned());
        let now = time("20150830T123600Z");
        let verifier = Verifier::new(move |given| {
            (given == access_key).then(|| match &token {
                Some(token) => KnownKey::temporary(&secret_key, token, now + Duration::from_secs(1)),
                None => KnownKey::new(&secret_key),
            })
        });
        let (mut head, body) = request.into_parts();
        assert_eq!(verifier.verify(&head, &body, now), Ok(keys.access_key_id.clone()), "{}", vector.name);
        head.method = Method::PATCH;
        assert_eq!(
            verifier.verify(&head, &body, now),
            Err(VerifyError::SignatureMismatch),
            "{}",
            vector.name
        );
    }
}

#[test]
fn signer_makes_the_signatures_of_aws_test_suite() {
    let suite = suite_without(&[&NOT_APPLICABLE[..], &OTHER_HEADERS[..]].concat());
    assert_eq!(suite.len(), 21);
    for vector in &suite {
        let mut request = parse_request(&vector.request);
        let expected = parse_request(&vector.signed_request);
        let signed_headers = text(&expected.headers()["authorization"]);
        let context = &vector.context;
        let scope = Scope { region: context.region.clone(), service: context.service.clone() };
        let keys = &context.credentials;
        let credentials =
            Credentials::new(&keys.access_key_id, &keys.secret_access_key, keys.token.as_deref());
        let now = time("20150830T123600Z");
        sign(&mut request, &SigningParams { scope: &scope, credentials: &credentials }, now).expect("signed");
        assert_eq!(text(&request.headers()["authorization"]), signed_headers, "{}", vector.name);
    }
}

#[derive(Deserialize)]
struct Botocore {
    vectors: Vec<BotocoreVector>,
}

#[derive(Deserialize)]
struct BotocoreVector {
    method: String,
    url: String,
    host: String,
    headers: std::collections::BTreeMap<String, String>,
    only_signed_headers: bool,
    body: Body,
    region: String,
    service: String,
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
    date: String,
    authorization: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    Repeat(usize),
    Base64(String),
}

impl BotocoreVector {
    fn request(&self) -> Request<Vec<u8>> {
        let body = match &self.body {
            Body::Repeat(count) => vec![b'x'; *count],
            Body::Base64(text) => STANDARD.decode(text).expect("base64"),
        };
        let mut request =
            Request::builder().method(self.method.as_str()).uri(&self.url).body(body).expect("a request");
        request.headers_mut().insert("host", value(&self.host));
        for (name, text) in &self.headers {
            request.headers_mut().insert(HeaderName::from_str(name).expect("a name"), value(text));
        }
        request
    }
}

fn botocore_vectors() -> Vec<BotocoreVector> {
    let all: Botocore =
        serde_json::from_str(include_str!("../data/botocore_vectors.json")).expect("botocore's vectors");
    assert_eq!(all.vectors.len(), 400);
    all.vectors
}

#[test]
fn verifier_takes_what_botocore_signed() {
    for vector in botocore_vectors() {
        let mut request = vector.request();
        let headers = request.headers_mut();
        headers.insert("authorization", value(&vector.authorization));
        headers.insert("x-amz-date", value(&vector.date));
        if let Some(token) = &vector.session_token {
            headers.insert("x-amz-security-token", value(token));
        }
        let now = time(&vector.date);
        let known = match &vector.session_token {
            Some(token) => KnownKey::temporary(&vector.secret_key, token, now + Duration::from_secs(1)),
            None => KnownKey::new(&vector.secret_key),
        };
        let verifier = Verifier::new(move |_| Some(known.clone()))
            .for_scope(Scope { region: vector.region.clone(), service: vector.service.clone() });
        let (head, mut body) = request.into_parts();
        assert_eq!(verifier.verify(&head, &body, now).as_ref(), Ok(&vector.access_key), "{}", vector.url);
        body.push(0);
        assert_eq!(verifier.verify(&head, &body, now), Err(VerifyError::SignatureMismatch), "{}", vector.url);
    }
}

#[test]
fn signer_agrees_with_botocore_and_the_verifier() {
    let mut equal = 0;
    for vector in botocore_vectors() {
        let scope = Scope { region: vector.region.clone(), service: vector.service.clone() };
        let credentials =
            Credentials::new(&vector.access_key, &vector.secret_key, vector.session_token.as_deref());
        let now = time(&vector.date);
        // Once with the host header given, once left to the URI as an HTTP client does it.
        for has_host in [true, false] {
            let mut request = vector.request();
            if !has_host {
                request.headers_mut().remove("host");
            }
            sign(&mut request, &SigningParams { scope: &scope, credentials: &credentials }, now)
                .expect("signed");
            assert_eq!(request.headers()["x-amz-date"], vector.date.as_str());
            if vector.only_signed_headers {
                assert_eq!(text(&request.headers()["authorization"]), vector.authorization, "{}", vector.url);
                equal += 1;
            }
            let known = match &vector.session_token {
                Some(token) => KnownKey::temporary(&vector.secret_key, token, now + Duration::from_secs(1)),
                None => KnownKey::new(&vector.secret_key),
            };
            let verifier = Verifier::new(move |_| Some(known.clone())).for_scope(scope.clone());
            // An unsigned header may change on the way.
            request.headers_mut().insert("user-agent", value("proxy"));
            request.headers_mut().insert("cookie", value("changed"));
            let (head, body) = request.into_parts();
            assert_eq!(verifier.verify(&head, &body, now).as_ref(), Ok(&vector.access_key), "{}", vector.url);
        }
    }
    // The others have headers that botocore signs and this signer leaves out.
    assert_eq!(equal, 2 * 246);
}

#[test]
fn refusals_have_aws_words() {
    let now = time("20261122T120000Z");
    let scope = Scope { region: "eu-west-1".into(), service: "aps".into() };
    let later = now + Duration::from_secs(600);
    let earlier = now - Duration::from_secs(600);
    let of = |region: &str, service: &str| Scope { region: region.into(), service: service.into() };
    let plain = Credentials::new("AKID", "secret", None);
    let temporary = Credentials::new("ASIA", "secret", Some("token"));
    type Change = fn(&mut Request<Vec<u8>>);
    let nothing: Change = |_| {};
    let cases: [(Credentials, Scope, SystemTime, Change, &str); 12] = [
        (
            plain.clone(),
            scope.clone(),
            now,
            |r| {
                r.headers_mut().remove("authorization");
            },
            "Missing Authentication Token",
        ),
        (
            plain.clone(),
            scope.clone(),
            now,
            |r| {
                r.headers_mut().insert("authorization", value("Bearer x"));
            },
            "requires 'Algorithm'",
        ),
        (
            plain.clone(),
            scope.clone(),
            now,
            |r| {
                r.headers_mut().insert("authorization", value("AWS4-HMAC-SHA256 Credential=a/b"));
            },
            "requires 'Credential'",
        ),
        (
            Credentials::new("NOBODY", "secret", None),
            scope.clone(),
            now,
            nothing,
            "security token included in the request is invalid",
        ),
        (
            Credentials::new("ASIA", "secret", Some("other")),
            scope.clone(),
            now,
            nothing,
            "security token included in the request is invalid",
        ),
        (
            Credentials::new("OLD", "secret", Some("token")),
            scope.clone(),
            now,
            nothing,
            "security token included in the request is expired",
        ),
        (
            plain.clone(),
            scope.clone(),
            earlier,
            nothing,
            "Signature expired: 20261122T115000Z is now earlier than 20261122T115500Z (20261122T120000Z - 5 min.)",
        ),
        (
            plain.clone(),
            scope.clone(),
            later,
            nothing,
            "Signature not yet current: 20261122T121000Z is still later than 20261122T120500Z (20261122T120000Z + 5 min.)",
        ),
        (plain.clone(), of("us-east-1", "aps"), now, nothing, "scoped to a valid region, not 'us-east-1'"),
        (plain.clone(), of("eu-west-1", "es"), now, nothing, "scoped to correct service: 'aps'"),
        (
            plain,
            scope.clone(),
            now,
            |r| {
                r.headers_mut().insert("x-amz-meta", value("added"));
            },
            "'x-amz-meta' must be a 'SignedHeader'",
        ),
        (
            Credentials::new("AKID", "wrong", None),
            scope.clone(),
            now,
            nothing,
            "request signature we calculated does not match",
        ),
    ];
    let verifier = Verifier::new(move |access_key| match access_key {
        "AKID" => Some(KnownKey::new("secret")),
        "ASIA" => Some(KnownKey::temporary("secret", "token", later)),
        "OLD" => Some(KnownKey::temporary("secret", "token", earlier)),
        _ => None,
    })
    .for_scope(scope);
    for (credentials, scope, signed_at, change, words) in cases {
        let mut request = Request::post("https://example.com/x").body(Vec::new()).expect("a request");
        let params = SigningParams { scope: &scope, credentials: &credentials };
        sign(&mut request, &params, signed_at).expect("signed");
        change(&mut request);
        let (head, body) = request.into_parts();
        let error = verifier.verify(&head, &body, now).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
        let response = error.to_response();
        assert_eq!(response.status(), 403);
        assert!(response.body().contains("{\"message\":"), "{}", response.body());
    }
    let mut request = Request::post("https://example.com/x").body(Vec::new()).expect("a request");
    let params = SigningParams { scope: &of("eu-west-1", "aps"), credentials: &temporary };
    sign(&mut request, &params, now).expect("signed");
    let (head, body) = request.into_parts();
    assert_eq!(verifier.verify(&head, &body, now).as_deref(), Ok("ASIA"));
}

/// Signed by botocore 1.44: a `Date` in mail's form, and the header in which S3's clients say the body's hash.
#[test]
fn dates_and_hashes_in_headers_are_read() {
    let hash = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    let in_mail = [("date", "Sun, 22 Nov 2026 12:00:00 -0000")];
    let with_hash = [("x-amz-date", "20261122T120000Z"), ("x-amz-content-sha256", hash)];
    let without = [("x-amz-date", "20261122T120000Z"), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")];
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str, Result<String, VerifyError>);
    let cases: [Case<'_>; 5] = [
        (
            &in_mail,
            "date;host",
            "c32ddfa071a64a5fd15f8b261771b0c9013a58ae051e3d895666df29e5ed0d1b",
            Ok(String::from("AKID")),
        ),
        (
            &[("date", "Sun, 22 Nov 2026 12:00:00 +0100")],
            "date;host",
            "c32ddfa071a64a5fd15f8b261771b0c9013a58ae051e3d895666df29e5ed0d1b",
            Err(VerifyError::NoDate),
        ),
        (
            &with_hash,
            "host;x-amz-content-sha256;x-amz-date",
            "c1bdcfe63b51273ff3ff053ec72876b7439899be0546862799990b5b62a4d10d",
            Ok(String::from("AKID")),
        ),
        (
            &with_hash,
            "host;x-amz-content-sha256;x-amz-date",
            "d1bdcfe63b51273ff3ff053ec72876b7439899be0546862799990b5b62a4d10d",
            Err(VerifyError::SignatureMismatch),
        ),
        (
            &without,
            "host;x-amz-content-sha256;x-amz-date",
            "e360206a58d0af459f334020c5cc79a5baf9409c3b4e75aca35a837e972a5b3e",
            Err(VerifyError::PayloadHashMismatch),
        ),
    ];
    let verifier = Verifier::new(|_| Some(KnownKey::new("secret")));
    for (headers, signed, signature, verdict) in cases {
        let mut request = Request::post("http://example.com/x").body(b"body".to_vec()).expect("a request");
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-west-1/aps/aws4_request, SignedHeaders={signed}, \
             Signature={signature}"
        );
        request.headers_mut().insert("authorization", value(&authorization));
        for (name, text) in headers {
            request.headers_mut().insert(HeaderName::from_str(name).expect("a name"), value(text));
        }
        let (head, body) = request.into_parts();
        assert_eq!(verifier.verify(&head, &body, time("20261122T120000Z")), verdict, "{headers:?}");
    }
    let response = VerifyError::PayloadHashMismatch.to_response();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-amzn-errortype"]),
        (400, &value("XAmzContentSHA256Mismatch"))
    );
}

/// Implementations differ in what they sign for a tab, so none is sent in a signed header.
#[test]
fn tabs_in_signed_headers_are_sent_as_spaces() {
    let now = time("20261122T120000Z");
    let scope = Scope { region: "eu-west-1".into(), service: "aps".into() };
    let credentials = Credentials::new("AKID", "secret", None);
    let mut request = Request::post("https://example.com/x").body(Vec::new()).expect("a request");
    request.headers_mut().insert("x-amz-meta", value("a\tb\t c"));
    let mut secret = value("a\tb");
    secret.set_sensitive(true);
    request.headers_mut().insert("x-amz-secret", secret);
    request.headers_mut().insert("x-other", value("a\tb"));
    sign(&mut request, &SigningParams { scope: &scope, credentials: &credentials }, now).expect("signed");
    assert_eq!(request.headers()["x-amz-meta"], "a b  c");
    assert_eq!(request.headers()["x-amz-secret"], "a b");
    assert!(request.headers()["x-amz-secret"].is_sensitive());
    assert_eq!(request.headers()["x-other"], "a\tb");
    let (head, body) = request.into_parts();
    let verifier = Verifier::new(|_| Some(KnownKey::new("secret")));
    assert_eq!(verifier.verify(&head, &body, now).as_deref(), Ok("AKID"));
}

fn parse_request(text: &str) -> Request<Vec<u8>> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let line = lines.next().expect("a request line");
    let mut words = line.split(' ');
    let method = words.next().expect("a method");
    let target = words.next().expect("a target");
    let mut request = Request::new(body.as_bytes().to_vec());
    *request.method_mut() = Method::from_str(method).expect("a method");
    *request.uri_mut() = Uri::try_from(target.as_bytes()).expect("a target");
    for line in lines {
        let (name, text) = line.split_once(':').expect("a header");
        request.headers_mut().append(HeaderName::from_str(name).expect("a name"), value(text));
    }
    request
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).expect("a header's value")
}

fn text(value: &HeaderValue) -> &str {
    std::str::from_utf8(value.as_bytes()).expect("text")
}

/// A time in ISO 8601's basic format.
pub(crate) fn basic_format(time: SystemTime) -> String {
    let extended = DateTime::from(time).fmt(Format::DateTime).expect("a time");
    extended.replace(['-', ':'], "")
}

/// The time that ISO 8601's basic format says.
pub(crate) fn time(basic: &str) -> SystemTime {
    let number = |range: std::ops::Range<usize>| basic[range].parse::<i64>().expect("digits");
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    // Days from civil, after H. Hinnant's public description.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let year_of_era = year % 400;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + number(9..11) * 3_600 + number(11..13) * 60 + number(13..15);
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).expect("after 1970"))
}
