//! A clock that is wrong, and what it costs: one refused request, and nothing of the data.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::{Request, Response, StatusCode};
use promferry_sigv4_auth::verify::{KnownKey, Verifier};
use promferry_sigv4_auth::{
    CachedCredentials, Clock, CredentialChain, CredentialError, CredentialFuture, CredentialSource,
    Credentials, CredentialsConfig, Denial, Error, RoleStep, Scope, SigV4Layer,
};
use tokio::sync::Barrier;
use tower::{Layer, Service, ServiceExt};
use tracing::subscriber::DefaultGuard;

use crate::fake_sts::{FakeSts, HUB_ROLE, WEB_ROLE, ahead_by};
use crate::front::{HttpClient, Seen, http_date, verifying_front, verifying_front_by};

const WRITE: &str = "/workspaces/ws-1/api/v1/remote_write";
const HOUR: i64 = 3_600;

fn scope() -> Scope {
    Scope { region: String::from("eu-west-1"), service: String::from("aps") }
}

fn verifier() -> Verifier {
    Verifier::new(|access_key| (access_key == "AKID").then(|| KnownKey::new("right"))).for_scope(scope())
}

fn layer(clock: &Clock) -> SigV4Layer {
    SigV4Layer::new(scope(), CachedCredentials::new(Credentials::new("AKID", "right", None), clock.clone()))
}

/// A clock that is so many seconds ahead, by what is stored there.
fn wrong_clock(seconds: i64) -> (Clock, Arc<AtomicI64>) {
    let ahead = Arc::new(AtomicI64::new(seconds));
    let read = Arc::clone(&ahead);
    (Clock::from_fn(move || ahead_by(read.load(Ordering::SeqCst))), ahead)
}

fn write_request(url: &str) -> Request<Bytes> {
    Request::post(url).body(Bytes::from_static(b"x")).expect("a request")
}

async fn status<S, R>(client: &S, url: &str) -> StatusCode
where
    S: Service<Request<Bytes>, Response = Response<R>> + Clone,
    S::Error: std::fmt::Debug,
{
    client.clone().oneshot(write_request(url)).await.expect("an answer").status()
}

fn refused(seen: &Seen) -> usize {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.iter().filter(|(_, verdict)| verdict.is_err()).count()
}

/// What this thread logs while it is kept.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Log {
    fn start() -> Self {
        struct Writer(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Writer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let text = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&text);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || Writer(Arc::clone(&written)))
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    fn count(&self, needle: &str) -> usize {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).matches(needle).count()
    }
}

const CORRECTED: &str = "signing with AWS' time from now on";

#[tokio::test]
async fn requests_under_way_are_sent_again_too() {
    const AT_ONCE: usize = 16;
    let log = Log::start();
    let (server, seen) = verifying_front(verifier()).await;
    let url = server.url(WRITE);
    let (clock, _) = wrong_clock(2 * HOUR);
    // All of them are signed and refused before the first answer is read.
    let (signed, answered, count) =
        (Arc::new(Barrier::new(AT_ONCE)), Arc::new(Barrier::new(AT_ONCE)), Arc::new(AtomicU32::new(0)));
    let http = HttpClient::new();
    let client = layer(&clock).layer(tower::service_fn(move |request: Request<Bytes>| {
        let (signed, answered) = (Arc::clone(&signed), Arc::clone(&answered));
        let first = (count.fetch_add(1, Ordering::SeqCst) as usize) < AT_ONCE;
        let http = http.clone();
        async move {
            if first {
                signed.wait().await;
            }
            let answer = http.oneshot(request).await;
            if first {
                answered.wait().await;
            }
            answer
        }
    }));
    let requests: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move { status(&client, &url).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.expect("an end"), 200);
    }
    assert_eq!(refused(&seen), AT_ONCE);
    assert_eq!(log.count(CORRECTED), 1, "said once");
    assert_eq!(status(&client, &url).await, 200);
    assert_eq!((refused(&seen), log.count(CORRECTED)), (AT_ONCE, 1));
}

fn token_file(directory: &tempfile::TempDir) -> PathBuf {
    let path = directory.path().join("token");
    std::fs::write(&path, "first.token.signature").expect("written");
    path
}

#[tokio::test]
async fn a_clock_hours_ahead_or_behind_gets_credentials_and_writes() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = token_file(&directory);
    for hours in [-2, 3] {
        let log = Log::start();
        // AWS' clock differs from this machine's, and this machine's is what the SDK goes by.
        let ahead = hours * HOUR;
        let sts = FakeSts::start().await;
        sts.state().ahead = ahead;
        let verifier = Verifier::new(sts.lookup()).for_scope(scope());
        let (server, seen) = verifying_front_by(verifier, move || ahead_by(ahead)).await;
        let environment = sts.environment(&[
            ("AWS_ROLE_ARN", WEB_ROLE),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().expect("UTF-8")),
        ]);
        let hub = RoleStep { external_id: Some(String::from("external-7")), ..RoleStep::new(HUB_ROLE) };
        let config = CredentialsConfig { roles: vec![hub], ..CredentialsConfig::default() };
        let clock = Clock::system();
        let chain = CredentialChain::new(&config, environment, "eu-west-1").expect("a chain");
        let cache = CachedCredentials::new(chain.with_clock(clock.clone()), clock.clone());
        let client = SigV4Layer::new(scope(), cache.clone()).layer(HttpClient::new());
        for _ in 0..3 {
            assert_eq!(status(&client, &server.url(WRITE)).await, 200, "{:?}", cache.status());
        }
        assert_eq!(refused(&seen), 0, "STS had told the time");
        assert!((clock.offset_ms() / 1000 - ahead).abs() < 10, "{}", clock.offset_ms());
        assert_eq!(log.count(CORRECTED), 1, "said once");
        let status = cache.status();
        assert!(status.valid && status.refreshes == 1 && status.failures == 0, "{status:?}");
        assert_eq!(
            sts.state().calls.iter().filter(|call| call.0 == "AssumeRole").count(),
            2,
            "one was refused"
        );
    }
}

/// A source of which nobody sees when it answered, as a profile or a container has it.
struct Container {
    seconds: u64,
    given: Arc<AtomicU32>,
}

impl CredentialSource for Container {
    fn credentials(&self) -> CredentialFuture<'_> {
        self.given.fetch_add(1, Ordering::SeqCst);
        let expires_at = SystemTime::now() + Duration::from_secs(self.seconds);
        Box::pin(async move { Ok(Credentials::new("AKID", "right", None).expiring(Some(expires_at))) })
    }
}

#[tokio::test]
async fn credentials_that_only_look_expired_are_used() {
    let (server, seen) = verifying_front(verifier()).await;
    let (clock, _) = wrong_clock(2 * HOUR);
    let given = Arc::new(AtomicU32::new(0));
    let container = Container { seconds: 3_600, given: Arc::clone(&given) };
    let cache = CachedCredentials::new(container, clock.clone());
    let client = SigV4Layer::new(scope(), cache.clone()).layer(HttpClient::new());
    for _ in 0..20 {
        assert_eq!(status(&client, &server.url(WRITE)).await, 200);
    }
    assert_eq!((refused(&seen), given.load(Ordering::SeqCst)), (1, 1));
    assert!(cache.status().valid);
}

#[tokio::test]
async fn a_clock_an_hour_behind_does_not_use_expired_credentials() {
    let (server, _) = verifying_front(verifier()).await;
    let (clock, ahead) = wrong_clock(-HOUR);
    let given = Arc::new(AtomicU32::new(0));
    let container = Container { seconds: 1_200, given: Arc::clone(&given) };
    let cache = CachedCredentials::new(container, clock.clone());
    let client = SigV4Layer::new(scope(), cache.clone()).layer(HttpClient::new());
    assert_eq!(status(&client, &server.url(WRITE)).await, 200);
    assert_eq!(given.load(Ordering::SeqCst), 1);
    // Twenty-one minutes later, by a clock that is still an hour behind.
    ahead.store(-HOUR + 21 * 60, Ordering::SeqCst);
    cache.get().await.expect("new ones");
    assert_eq!(given.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_clock_that_is_set_right_is_followed() {
    let log = Log::start();
    let (server, seen) = verifying_front(verifier()).await;
    let (clock, ahead) = wrong_clock(3 * HOUR);
    let client = layer(&clock).layer(HttpClient::new());
    let url = server.url(WRITE);
    assert_eq!(status(&client, &url).await, 200);
    ahead.store(0, Ordering::SeqCst);
    assert_eq!(status(&client, &url).await, 200);
    assert_eq!(status(&client, &url).await, 200);
    assert_eq!(refused(&seen), 2, "one for each change");
    assert!(clock.offset_ms().abs() < 10_000, "{}", clock.offset_ms());
    assert_eq!((log.count(CORRECTED), log.count("agrees with AWS' again")), (1, 1));
}

/// A client whose every request is answered so, and how many there were.
fn answering(
    answer: impl Fn(u32) -> Response<Bytes> + Clone + Send + 'static,
) -> (
    impl Service<Request<Bytes>, Response = Response<Bytes>, Error = io::Error, Future: Send> + Clone + Send,
    Arc<AtomicU32>,
) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let service = tower::service_fn(move |_: Request<Bytes>| {
        let answer = answer(counted.fetch_add(1, Ordering::SeqCst));
        async move { Ok(answer) }
    });
    (service, count)
}

fn dated(status: u16, ahead: i64, error_type: Option<&'static str>) -> Response<Bytes> {
    let mut response = Response::builder().status(status).header(DATE, http_date(ahead_by(ahead)));
    if let Some(error_type) = error_type {
        response = response.header("x-amzn-errortype", error_type);
    }
    response.body(Bytes::new()).expect("a response")
}

#[tokio::test]
async fn a_second_refusal_is_returned() {
    let (service, count) = answering(|call| dated(403, HOUR * i64::from(call + 1), None));
    let client = layer(&Clock::system()).layer(service);
    assert_eq!(status(&client, "http://h/").await, 403);
    assert_eq!(count.load(Ordering::SeqCst), 2, "sent twice, and no more");
}

#[tokio::test]
async fn what_shows_skew_and_what_does_not() {
    const SKEWED: &str =
        "InvalidSignatureException:http://internal.amazon.com/coral/com.amazon.coral.service/";
    for (code, ahead, error_type, age, again) in [
        (403, HOUR, None, false, true),
        (403, -HOUR, Some("AccessDeniedException"), false, true),
        (400, HOUR, Some(SKEWED), false, true),
        (400, HOUR, Some("RequestExpired"), false, true),
        (401, HOUR, Some("RequestTimeTooSkewed"), false, true),
        // Sent twice would be refused twice.
        (400, HOUR, None, false, false),
        (400, HOUR, Some("ValidationException"), false, false),
        (401, HOUR, None, false, false),
        (403, 200, Some(SKEWED), false, false),
        (403, HOUR, None, true, false),
        (500, HOUR, Some(SKEWED), false, false),
    ] {
        let clock = Clock::system();
        let (service, count) = answering(move |call| {
            let mut response = dated(if call == 0 { code } else { 200 }, ahead, error_type);
            if age {
                response.headers_mut().insert("age", http::HeaderValue::from_static("3600"));
            }
            response
        });
        let status = status(&layer(&clock).layer(service), "http://h/").await;
        let case = format!("{code} {ahead} {error_type:?} {age}");
        assert_eq!(status == 200, again, "{case}");
        assert_eq!(count.load(Ordering::SeqCst), 1 + u32::from(again), "{case}");
        assert_eq!(clock.offset_ms() != 0, again, "{case}");
    }
}

#[tokio::test]
async fn a_wrong_date_of_a_proxy_heals() {
    let (server, _) = verifying_front(verifier()).await;
    let url = server.url(WRITE);
    let http = HttpClient::new();
    let calls = Arc::new(AtomicU32::new(0));
    let clock = Clock::system();
    // A proxy refuses the first request itself, with a date of its own.
    let client = layer(&clock).layer(tower::service_fn(move |request| {
        let (first, http) = (calls.fetch_add(1, Ordering::SeqCst) == 0, http.clone());
        async move { if first { Ok(dated(403, -24 * HOUR, None)) } else { http.oneshot(request).await } }
    }));
    assert_eq!(status(&client, &url).await, 403, "sent again with the proxy's time");
    assert_eq!(status(&client, &url).await, 200, "and the next time with AWS'");
    assert!(clock.offset_ms().abs() < 10_000, "{}", clock.offset_ms());
}

#[tokio::test]
async fn skew_in_the_body_alone_is_taken_from_it() {
    let (server, seen) = verifying_front(verifier()).await;
    let url = server.url(WRITE);
    for hours in [-1, 2] {
        let log = Log::start();
        let (clock, _) = wrong_clock(hours * HOUR);
        let layer = layer(&clock);
        let client = layer.layer(HttpClient::new().map_response(|mut response| {
            response.headers_mut().remove(DATE);
            response
        }));
        let refused = client.clone().oneshot(write_request(&url)).await.expect("an answer");
        assert_eq!((refused.status(), clock.offset_ms()), (StatusCode::FORBIDDEN, 0));
        let endpoint = url.parse().expect("a URI");
        let why = layer
            .learn_from_denial(refused.status(), refused.body(), refused.headers(), &endpoint)
            .expect("a denial");
        assert_eq!(why.denial, Denial::ClockSkew);
        let offset = if hours < 0 { "AWS' time is signed with, +" } else { "AWS' time is signed with, -" };
        assert!(why.message.contains(offset), "{}", why.message);
        assert_eq!(log.count(CORRECTED), 1);
        assert_eq!(status(&client, &url).await, 200);
    }
    assert_eq!(refused(&seen), 2);
}

#[tokio::test]
async fn a_slow_sts_is_named() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = token_file(&directory);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let environment = promferry_sigv4_auth::Environment::from_pairs([
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
        ("AWS_ROLE_ARN", WEB_ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().expect("UTF-8")),
    ]);
    let chain =
        CredentialChain::new(&CredentialsConfig::default(), environment, "eu-west-1").expect("a chain");
    let cache = CachedCredentials::new(chain, Clock::system());
    let (service, count) = answering(|_| dated(200, 0, None));
    let client = SigV4Layer::new(scope(), cache).with_patience(Duration::from_millis(300)).layer(service);
    for _ in 0..2 {
        let error = client.clone().oneshot(write_request("http://h/")).await.expect_err("no answer of STS");
        let Error::Credentials(CredentialError::Waiting { .. }) = &error else { panic!("{error}") };
        let text = error.to_string();
        assert!(
            text.contains(&format!("still waiting for STS at {url}")) && text.contains(WEB_ROLE),
            "{text}"
        );
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}
