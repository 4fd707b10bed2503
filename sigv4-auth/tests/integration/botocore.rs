//! botocore, AWS' SDK for Python, judges what is signed here, and the verifier judges what botocore signs: each in a
//! process of its own, and what one signs goes over HTTP to the other.
//!
//! `scripts/python` brings botocore; without it these tests say that they skip, and fail with
//! `PROMFERRY_REQUIRE_JUDGES=1`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use promferry_sigv4_auth::verify::{KnownKey, Verifier};
use promferry_sigv4_auth::{Credentials, SigningParams, sign};
use tower::ServiceExt;

use crate::front::{HttpClient, Server};
use crate::generated::{Coverage, REQUESTS, Unsigned, generated};
use crate::vectors::{basic_format, time};

/// As `tests/data/botocore_judge.py` has them.
const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "s/+wJalrXUtnFEMI/K7MDENG";

#[tokio::test(flavor = "multi_thread")]
async fn botocore_takes_what_is_signed_here() {
    let Some(python) = python() else { return };
    let (judge, client) = (Judge::start(&python), HttpClient::new());
    let mut coverage = Coverage::default();
    let mut changed = 0;
    for unsigned in generated() {
        coverage.note(&unsigned);
        let request = unsigned.sign_here(&judge.address);
        let (status, reason) = send(&client, &request).await;
        assert_eq!(status, StatusCode::OK, "{unsigned:?}\n{reason}");
        // What was changed on the way is refused.
        let (head, body) = request.into_parts();
        for part in Part::ALL {
            let Some((head, body)) = part.changed(&head, &body) else { continue };
            let (status, reason) = send(&client, &Request::from_parts(head, body)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{part:?} changed in {unsigned:?}\n{reason}");
            changed += 1;
        }
    }
    coverage.assert_complete();
    note(&format!("{REQUESTS} taken, {changed} with one byte changed refused"));
    assert!(changed > 5 * REQUESTS, "{changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_botocore_signs_is_taken_here() {
    let Some(python) = python() else { return };
    let unsigned = generated();
    let mut coverage = Coverage::default();
    unsigned.iter().for_each(|unsigned| coverage.note(unsigned));
    coverage.assert_complete();
    let changed = Arc::new(Mutex::new(0_usize));
    let count = Arc::clone(&changed);
    let server = Server::start(move |head, body| {
        if let Err(refusal) = verified(&head, &body) {
            return *refusal;
        }
        for part in Part::ALL {
            let Some((head, body)) = part.changed(&head, &body) else { continue };
            if verified(&head, &body).is_ok() {
                let mut response = Response::new(format!("taken with {part:?} changed"));
                *response.status_mut() = StatusCode::EXPECTATION_FAILED;
                return response;
            }
            *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
        Response::new(String::new())
    })
    .await;
    let answers = botocore_sends(&python, &server, &unsigned).await;
    for (unsigned, answer) in unsigned.iter().zip(&answers) {
        assert_eq!(answer.trim(), "200", "{unsigned:?}");
    }
    assert_eq!(answers.len(), REQUESTS);
    let changed = *changed.lock().unwrap_or_else(PoisonError::into_inner);
    note(&format!("{REQUESTS} taken, {changed} with one byte changed refused"));
    assert!(changed > 5 * REQUESTS, "{changed}");
}

/// A change in one of these is to be noticed: a new botocore may agree where this one does not. The documentation of
/// the module `verify` has them as a table.
#[tokio::test(flavor = "multi_thread")]
async fn where_botocore_is_known_to_differ() {
    let Some(python) = python() else { return };
    let (judge, client) = (Judge::start(&python), HttpClient::new());
    let server = Server::start(|head, body| match verified(&head, &body) {
        Ok(()) => Response::new(String::new()),
        Err(refusal) => *refusal,
    })
    .await;

    // What differs, and whether botocore takes what is signed here and the verifier what botocore signs.
    let target = |target: &str| Unsigned { target: target.to_owned(), ..Unsigned::plain() };
    let header = |name: &str, value: &str| Unsigned {
        headers: vec![(name.to_owned(), value.to_owned())],
        body: b"body".to_vec(),
        ..Unsigned::plain()
    };
    let host = |host: &str| Unsigned { host: Some(host.to_owned()), ..Unsigned::plain() };
    let hash_of_body = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    let mut cases = vec![
        ("plus in a query", target("/p?a=b+c"), false, false),
        ("second equals sign", target("/p?a=b=c"), false, false),
        ("lone percent sign", target("/p?a=%"), false, false),
        ("percent sign and one digit", target("/p?a=%4"), false, false),
        ("escape in lower case", target("/p?a=%2f"), false, false),
        ("escape of what needs none", target("/p?a=%41"), false, false),
        ("only an empty pair", target("/p?&"), false, false),
        ("empty pair", target("/p?a=1&&b=2"), false, false),
        ("empty pair at the end", target("/p?a=1&"), false, false),
        ("path that ends in a dot", target("/a/."), false, false),
        ("path that ends in two dots", target("/a/b/.."), false, false),
        ("host in upper case", host("Example.com"), false, false),
        ("port of the scheme", host("example.com:80"), false, false),
        ("hash that is none", header("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), false, false),
        (
            "hash of another body",
            header("x-amz-content-sha256", &hash_of_body.replace('2', "3")),
            false,
            false,
        ),
        // A tab is sent as a space here; botocore signs a space and sends the tab.
        ("tab in a header", header("x-amz-meta", "a\tb"), true, false),
        // What agrees.
        ("date as mail has it", header("date", "any"), true, true),
        ("hash of the body", header("x-amz-content-sha256", hash_of_body), true, true),
        ("names without value and repeated ones", target("/p?b=2&b=10&a&a=&B=1&a=%20"), true, true),
        ("another port", host("example.com:8080"), true, true),
        ("dot segments", target("/./a/../b//c/"), true, true),
    ];
    for reserved in "/:!*'(),;@$?".chars() {
        cases.push(("reserved character in a query", target(&format!("/p?a={reserved}b")), false, false));
    }
    // The headers that botocore never signs, for they change on the way.
    for name in [
        "user-agent",
        "x-amzn-trace-id",
        "expect",
        "connection",
        "transfer-encoding",
        "keep-alive",
        "te",
        "traceparent",
        "baggage",
        "proxy-authorization",
    ] {
        let unsigned = botocore_leaves_out(&python, name);
        assert!(unsigned, "{name}");
    }

    let sent: Vec<Unsigned> = cases.iter().map(|(_, unsigned, ..)| unsigned.clone()).collect();
    let answers = botocore_sends(&python, &server, &sent).await;
    assert_eq!(answers.len(), cases.len());
    for ((what, unsigned, taken_there, taken_here), answer) in cases.iter().zip(&answers) {
        let (status, reason) = send(&client, &unsigned.sign_here(&judge.address)).await;
        assert_eq!(
            status == StatusCode::OK,
            *taken_there,
            "{what}, signed here: {}\n{reason}",
            unsigned.target
        );
        assert_eq!(
            answer.trim() == "200",
            *taken_here,
            "{what}, signed by botocore: {}\n{answer}",
            unsigned.target
        );
    }
}

impl Unsigned {
    fn sign_here(&self, address: &str) -> Request<Bytes> {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(format!("http://{address}{}", self.target))
            .body(Bytes::from(self.body.clone()))
            .expect("a request");
        let headers = request.headers_mut();
        if let Some(host) = &self.host {
            headers.insert(HOST, HeaderValue::from_str(host).expect("a host"));
        }
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, self.token.as_deref());
        let params = SigningParams { scope: &self.scope, credentials: &credentials };
        sign(&mut request, &params, self.time).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        request
    }

    /// For botocore: one line of JSON.
    fn to_json(&self) -> String {
        let value = serde_json::json!({
            "method": self.method,
            "target": self.target,
            "host": self.host,
            "headers": self.headers,
            "body": STANDARD.encode(&self.body),
            "token": self.token,
            "region": self.scope.region,
            "service": self.scope.service,
            "time": basic_format(self.time),
        });
        value.to_string()
    }
}

/// What a change of one byte is made in.
#[derive(Clone, Copy, Debug)]
enum Part {
    Method,
    Path,
    Query,
    Host,
    Header,
    Body,
    Time,
    Token,
    Signature,
}

impl Part {
    const ALL: [Self; 9] = [
        Self::Method,
        Self::Path,
        Self::Query,
        Self::Host,
        Self::Header,
        Self::Body,
        Self::Time,
        Self::Token,
        Self::Signature,
    ];

    /// The request with one byte changed in that part; `None` if it has none.
    fn changed(self, head: &Parts, body: &Bytes) -> Option<(Parts, Bytes)> {
        let (mut head, mut body) = (head.clone(), body.clone());
        match self {
            Self::Method => head.method = other_in(head.method.as_str(), |_| true)?.parse().ok()?,
            Self::Path => {
                // The first letter of the last name, which no dot segment takes away.
                let (path, query) =
                    (head.uri.path().to_owned(), head.uri.query().map(|query| format!("?{query}")));
                let name = path.trim_end_matches('/').rfind('/')?;
                let path = format!("{}{}", &path[..name], other_in(&path[name..], |at| at > 0)?);
                head.uri = with_target(&head, &format!("{path}{}", query.unwrap_or_default()));
            }
            Self::Query => {
                let query = head.uri.query()?;
                let query = other_in(query, |at| at == 0)?;
                head.uri = with_target(&head, &format!("{}?{query}", head.uri.path()));
            }
            Self::Host => change(&mut head, &HOST)?,
            Self::Header => {
                let is_signed = |name: &&HeaderName| {
                    let name = name.as_str();
                    name.starts_with("x-amz-meta") || name.starts_with("content-type")
                };
                let name = head.headers.keys().find(is_signed)?.clone();
                change(&mut head, &name)?;
            }
            Self::Body => {
                let mut bytes = body.to_vec();
                *bytes.last_mut()? ^= 1;
                body = Bytes::from(bytes);
            }
            Self::Time => {
                let value = text(head.headers.get("x-amz-date")?)?;
                let value = format!("{}{}", &value[..14], other_in(&value[14..], |_| true)?);
                head.headers.insert("x-amz-date", HeaderValue::from_str(&value).ok()?);
            }
            Self::Token => change(&mut head, &HeaderName::from_static("x-amz-security-token"))?,
            Self::Signature => {
                let value = text(head.headers.get(AUTHORIZATION)?)?;
                let (front, last) = value.split_at(value.len() - 1);
                let last = if last == "0" { "1" } else { "0" };
                head.headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("{front}{last}")).ok()?);
            }
        }
        Some((head, body))
    }
}

/// Changes the first letter or digit of a header's first value.
fn change(head: &mut Parts, name: &HeaderName) -> Option<()> {
    let value = other_in(text(head.headers.get(name)?)?, |_| true)?;
    *head.headers.get_mut(name)? = HeaderValue::from_str(&value).ok()?;
    Some(())
}

/// With the first letter or digit exchanged for another of those whose place is right.
fn other_in(text: &str, place: impl Fn(usize) -> bool) -> Option<String> {
    let at = text.bytes().enumerate().position(|(at, byte)| place(at) && byte.is_ascii_alphanumeric())?;
    let other = match &text[at..=at] {
        digit if digit.as_bytes()[0].is_ascii_digit() => {
            if digit == "1" {
                "2"
            } else {
                "1"
            }
        }
        letter if letter.as_bytes()[0].is_ascii_uppercase() => {
            if letter == "X" {
                "Y"
            } else {
                "X"
            }
        }
        letter => {
            if letter == "x" {
                "y"
            } else {
                "x"
            }
        }
    };
    Some(format!("{}{other}{}", &text[..at], &text[at + 1..]))
}

fn with_target(head: &Parts, target: &str) -> http::Uri {
    let front = head.uri.authority().map_or_else(String::new, |authority| format!("http://{authority}"));
    format!("{front}{target}").parse().expect("a URI")
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// What the verifier says, at the time that the request was signed at.
fn verified(head: &Parts, body: &[u8]) -> Result<(), Box<Response<String>>> {
    let token = head.headers.get("x-amz-security-token").and_then(text).map(str::to_owned);
    let now = match head.headers.get("x-amz-date").and_then(text) {
        Some(date) => time(date),
        None => time("20261122T120000Z"),
    };
    let verifier = Verifier::new(move |given| {
        (given == ACCESS_KEY).then(|| match &token {
            Some(token) => KnownKey::temporary(SECRET_KEY, token, now + Duration::from_secs(1)),
            None => KnownKey::new(SECRET_KEY),
        })
    });
    verifier.verify(head, body, now).map(drop).map_err(|error| Box::new(error.to_response()))
}

async fn send(client: &HttpClient, request: &Request<Bytes>) -> (StatusCode, String) {
    let response = client.clone().oneshot(request.clone()).await.expect("an answer");
    let (head, body) = response.into_parts();
    (head.status, String::from_utf8_lossy(&body).into_owned())
}

/// Has botocore sign these and send them to the server; what it was answered, one line each.
async fn botocore_sends(python: &Path, server: &Server, requests: &[Unsigned]) -> Vec<String> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for request in requests {
        writeln!(file, "{}", request.to_json()).expect("written");
    }
    let mut command = tokio::process::Command::new(python);
    command.arg(script()).arg("sign").arg(server.address.to_string()).arg(file.path());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
    let output = output.expect("within two minutes").expect("it ran");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn botocore_leaves_out(python: &Path, header: &str) -> bool {
    let code =
        "import sys, botocore.auth; sys.exit(sys.argv[1] not in botocore.auth.SIGNED_HEADERS_BLACKLIST)";
    let status = Command::new(python).args(["-c", code, header]).status();
    status.expect("it ran").success()
}

/// botocore as the server that judges signatures. Ends with the value, or with this process, which is the other end of its
/// standard input.
struct Judge {
    process: Child,
    address: String,
}

impl Judge {
    fn start(python: &Path) -> Self {
        let mut process = Command::new(python)
            .arg(script())
            .arg("judge")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut port = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut port).expect("its port");
        Self { process, address: format!("127.0.0.1:{}", port.trim()) }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/botocore_judge.py")
}

#[allow(clippy::print_stderr, reason = "what was counted or skipped is said where a test's output is read")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// A Python that has botocore.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("PROMFERRY_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/python/bin/python"),
        PathBuf::from,
    );
    let mut import = Command::new(&python);
    import.args(["-c", "import botocore"]).stderr(Stdio::null());
    if !import.status().is_ok_and(|status| status.success()) {
        let required = std::env::var_os("PROMFERRY_REQUIRE_JUDGES").is_some_and(|value| value == "1");
        assert!(!required, "this test needs botocore, which scripts/python did not provide");
        note("SKIPPED: botocore is missing, run scripts/python");
        return None;
    }
    Some(python)
}
