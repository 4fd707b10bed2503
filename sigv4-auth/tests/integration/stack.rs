//! The tower layer in front of hyper, against a server that checks signatures.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use promferry_sigv4_auth::verify::{KnownKey, Verifier};
use promferry_sigv4_auth::{
    CachedCredentials, Clock, CredentialError, CredentialFuture, CredentialSource, Credentials, Denial,
    Environment, Error, PayloadHash, Scope, SetupError, SigV4Config, SigV4Layer, SignError, explain_denial,
};
use tower::{Layer, ServiceExt};

use crate::front::{HttpClient, Seen, verifying_front};

const WRITE: &str = "/workspaces/ws-1/api/v1/remote_write";

fn scope() -> Scope {
    Scope { region: String::from("eu-west-1"), service: String::from("aps") }
}

fn verifier() -> Verifier {
    Verifier::new(|access_key| (access_key == "AKID").then(|| KnownKey::new("right"))).for_scope(scope())
}

fn layer(secret_key: &str, clock: Clock) -> SigV4Layer {
    SigV4Layer::new(scope(), CachedCredentials::new(Credentials::new("AKID", secret_key, None), clock))
}

fn write_request(url: &str, body: &[u8]) -> Request<Bytes> {
    Request::post(url)
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .header("user-agent", "promferry")
        .header("x-scope-orgid", "team")
        .body(Bytes::copy_from_slice(body))
        .expect("a request")
}

fn verdicts(seen: &Seen) -> Vec<Result<String, String>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, verdict)| verdict.clone()).collect()
}

#[tokio::test]
async fn signed_writes_are_taken() {
    let (server, seen) = verifying_front(verifier()).await;
    let client = layer("right", Clock::system()).layer(HttpClient::new());
    let bodies = [Vec::new(), b"small".to_vec(), vec![7; 300_000]];
    let targets = [WRITE, "/", "/a%20b/%3A/~c?x=1&a=%2F&empty", "/a/../b//c/"];
    for body in &bodies {
        for target in targets {
            let request = write_request(&server.url(target), body);
            let response = client.clone().oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), 200, "{target} {:?}", response.body());
        }
    }
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(seen.len(), bodies.len() * targets.len());
    let authorization = seen[0].0.headers["authorization"].to_str().expect("text");
    assert!(
        authorization.contains(
            "SignedHeaders=content-encoding;content-type;host;x-amz-date;x-prometheus-remote-write-version,"
        ),
        "{authorization}"
    );
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_explained() {
    let (server, seen) = verifying_front(verifier()).await;
    let client = layer("wrong-stack-secret", Clock::system()).layer(HttpClient::new());
    let url = server.url(WRITE);
    let response = client.oneshot(write_request(&url, b"x")).await.expect("an answer");
    assert_eq!(response.status(), 403);
    let endpoint: Uri = url.parse().expect("a URI");
    let why =
        explain_denial(response.status(), response.body(), response.headers(), &endpoint).expect("a denial");
    assert_eq!(why.denial, Denial::SignatureMismatch);
    assert!(why.message.contains("secret key does not belong to the access key"), "{}", why.message);
    assert!(!why.message.contains("wrong-stack-secret"));
    assert_eq!(verdicts(&seen).len(), 1, "a 403 without skew is not sent again");
}

#[tokio::test]
async fn each_attempt_is_signed_anew_over_the_given_hash() {
    let (server, seen) = verifying_front(verifier()).await;
    let seconds = Arc::new(AtomicU32::new(0));
    let (ticks, start) = (Arc::clone(&seconds), SystemTime::now());
    let clock = Clock::from_fn(move || start + Duration::from_secs(u64::from(ticks.load(Ordering::SeqCst))));
    let client = layer("right", clock).layer(HttpClient::new());
    let mut request = write_request(&server.url(WRITE), b"body");
    request.extensions_mut().insert(PayloadHash::of(b"body"));
    for second in [0, 30] {
        seconds.store(second, Ordering::SeqCst);
        let response = client.clone().oneshot(request.clone()).await.expect("an answer");
        assert_eq!(response.status(), 200);
    }
    request.extensions_mut().insert(PayloadHash::of(b"another"));
    let response = client.oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), 403, "the hash that was given is the one that is signed");
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_ne!(seen[0].0.headers["x-amz-date"], seen[1].0.headers["x-amz-date"]);
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_from_the_answer() {
    for hours in [-2_i64, 3] {
        let (server, seen) = verifying_front(verifier()).await;
        let clock = Clock::from_fn(move || {
            let by = Duration::from_secs(hours.unsigned_abs() * 3_600);
            if hours < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
        });
        let client = layer("right", clock.clone()).layer(HttpClient::new());
        for _ in 0..2 {
            let request = write_request(&server.url(WRITE), b"x");
            let response = client.clone().oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), 200);
        }
        let verdicts = verdicts(&seen);
        assert_eq!(verdicts.len(), 3, "one refused, sent again, then right at once");
        assert!(verdicts[0].is_err() && verdicts[1].is_ok() && verdicts[2].is_ok(), "{verdicts:?}");
        assert!((clock.offset_ms() + hours * 3_600_000).abs() < 10_000, "{}", clock.offset_ms());
    }
}

struct Failing;

impl CredentialSource for Failing {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(async { Err(CredentialError::NotFound { looked_at: String::from("nowhere") }) })
    }
}

#[tokio::test]
async fn errors_are_told_apart() {
    let none = SigV4Layer::new(scope(), CachedCredentials::new(Failing, Clock::system()));
    let request = write_request("http://127.0.0.1:1/", b"");
    let error = none.layer(HttpClient::new()).oneshot(request).await.expect_err("no credentials");
    assert!(matches!(&error, Error::Credentials(CredentialError::NotFound { .. })), "{error:?}");
    assert!(error.to_string().contains("nowhere"), "{error}");

    let good = layer("right", Clock::system());
    let request = write_request("/relative", b"");
    let error = good.layer(HttpClient::new()).oneshot(request).await.expect_err("no host");
    assert!(matches!(error, Error::Sign(SignError::NoHost)), "{error:?}");

    let mut request = write_request("http://127.0.0.1:1/", b"");
    request.headers_mut().insert("content-type", http::HeaderValue::from_bytes(b"\xff").expect("a value"));
    let error = good.layer(HttpClient::new()).oneshot(request).await.expect_err("not text");
    assert!(matches!(error, Error::Sign(SignError::HeaderNotText { .. })), "{error:?}");

    let broken = SigV4Layer::new(
        scope(),
        CachedCredentials::new(Credentials::new("AK\nID", "s", None), Clock::system()),
    );
    let request = write_request("http://127.0.0.1:1/", b"");
    let error = broken.layer(HttpClient::new()).oneshot(request).await.expect_err("a broken key");
    assert!(matches!(error, Error::Sign(_)), "{error:?}");

    let request = write_request("http://127.0.0.1:1/", b"");
    let error = good.layer(HttpClient::new()).oneshot(request).await.expect_err("nobody there");
    assert!(matches!(error, Error::Inner(_)), "{error:?}");
    let source = std::error::Error::source(&error).expect("the client's own error");
    assert!(source.is::<hyper_util::client::legacy::Error>(), "{source:?}");
}

#[tokio::test]
async fn a_layer_is_made_from_prometheus_options() {
    let (server, seen) = verifying_front(verifier()).await;
    let url = server.url(WRITE);
    let endpoint: Uri = url.parse().expect("a URI");
    let nothing = Environment::from_pairs::<&str, &str>([]);
    let config: SigV4Config =
        serde_json::from_str(r#"{"region": "eu-west-1", "access_key": "AKID", "secret_key": "right\n"}"#)
            .expect("options");
    let layer = SigV4Layer::from_config(&config, &endpoint, &nothing).expect("a layer");
    assert_eq!(*layer.scope(), scope());
    let response =
        layer.layer(HttpClient::new()).oneshot(write_request(&url, b"x")).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(verdicts(&seen), [Ok(String::from("AKID"))]);

    let no_region = SigV4Config { region: None, ..config.clone() };
    let error = SigV4Layer::from_config(&no_region, &endpoint, &nothing).expect_err("no region");
    assert!(matches!(error, SetupError::Scope(SignError::ScopeUnknown { .. })), "{error:?}");
    let in_eks = Environment::from_pairs([("AWS_REGION", "eu-west-1")]);
    assert!(SigV4Layer::from_config(&no_region, &endpoint, &in_eks).is_ok());
    let half = SigV4Config { secret_key: None, ..config };
    let error = SigV4Layer::from_config(&half, &endpoint, &nothing).expect_err("half a key");
    assert!(error.to_string().starts_with("secret_key: "), "{error}");
}

/// Gives a new key each time it is asked.
struct Rotating(AtomicU32);

impl CredentialSource for Rotating {
    fn credentials(&self) -> CredentialFuture<'_> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        let credentials = Credentials::new(&format!("KEY{number}"), "right", Some("token"));
        Box::pin(
            async move { Ok(credentials.expiring(Some(SystemTime::now() + Duration::from_secs(3_600)))) },
        )
    }
}

#[tokio::test]
async fn refused_tokens_are_replaced() {
    let now = SystemTime::now();
    let verifier = Verifier::new(move |access_key| {
        let expires_at =
            if access_key == "KEY0" { now - Duration::from_secs(1) } else { now + Duration::from_secs(600) };
        Some(KnownKey::temporary("right", "token", expires_at))
    });
    let (server, _) = verifying_front(verifier).await;
    let minute = Arc::new(AtomicU32::new(0));
    let minutes = Arc::clone(&minute);
    let clock =
        Clock::from_fn(move || now + Duration::from_secs(u64::from(minutes.load(Ordering::SeqCst)) * 60));
    let layer = SigV4Layer::new(scope(), CachedCredentials::new(Rotating(AtomicU32::new(0)), clock));
    let client = layer.layer(HttpClient::new());
    let url = server.url(WRITE);
    let send = || client.clone().oneshot(write_request(&url, b"x"));

    let refused = send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let endpoint: Uri = url.parse().expect("a URI");
    let why =
        explain_denial(refused.status(), refused.body(), &HeaderMap::new(), &endpoint).expect("a denial");
    assert!(why.wants_new_credentials(), "{why:?}");
    let learn = || {
        layer
            .learn_from_denial(refused.status(), refused.body(), &HeaderMap::new(), &endpoint)
            .expect("a denial")
    };
    learn();
    assert_eq!(send().await.expect("an answer").status(), 403, "seconds old: not asked for again");
    minute.store(1, Ordering::SeqCst);
    learn();
    assert_eq!(send().await.expect("an answer").status(), 200);
    minute.store(2, Ordering::SeqCst);
    learn();
    assert_eq!(send().await.expect("an answer").status(), 200);
    assert_eq!(layer.credentials().status().refreshes, 2, "a late refusal is of the keys before");
}
