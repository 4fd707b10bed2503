//! Web identity and assumed roles against an STS that can refuse, be away and come back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use promferry_sigv4_auth::verify::{KnownKey, Verifier};
use promferry_sigv4_auth::{
    BaseCredentials, CachedCredentials, Clock, CredentialChain, CredentialError, CredentialSource,
    Credentials, CredentialsConfig, Environment, Finding, RoleStep, Scope, Secret, SigV4AuthConfig,
    SigV4Config, SigV4Layer,
};
use tempfile::TempDir;
use tower::{Layer, ServiceExt};

use crate::fake_sts::{FakeSts, HUB_ROLE, WEB_ROLE};
use crate::front::{HttpClient, verifying_front};

struct Token {
    directory: TempDir,
}

impl Token {
    fn new(text: &str) -> Self {
        let token = Self { directory: TempDir::new().expect("a directory") };
        token.replace(text);
        token
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    /// As the kubelet does it: another file takes the name.
    fn replace(&self, text: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, self.path()).expect("renamed");
    }
}

fn irsa(sts: &FakeSts, token: &Token) -> Environment {
    let path = token.path();
    sts.environment(&[
        ("AWS_ROLE_ARN", WEB_ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().expect("UTF-8")),
        ("AWS_ROLE_SESSION_NAME", "pod-1"),
    ])
}

fn chain(config: &CredentialsConfig, environment: Environment) -> Arc<CredentialChain> {
    Arc::new(CredentialChain::new(config, environment, "us-east-1").expect("a chain"))
}

fn hub_step(external_id: Option<&str>) -> RoleStep {
    RoleStep { external_id: external_id.map(str::to_owned), ..RoleStep::new(HUB_ROLE) }
}

/// A clock that runs with the system's and can be put ahead.
fn movable_clock() -> (Clock, Arc<Mutex<Duration>>) {
    let ahead = Arc::new(Mutex::new(Duration::ZERO));
    let read = Arc::clone(&ahead);
    let clock =
        Clock::from_fn(move || SystemTime::now() + *read.lock().unwrap_or_else(PoisonError::into_inner));
    (clock, ahead)
}

#[tokio::test]
async fn web_identity_reads_the_token_again_for_each_call() {
    let sts = FakeSts::start().await;
    let token = Token::new("first.token.signature\n");
    let chain = chain(&CredentialsConfig::default(), irsa(&sts, &token));
    let first = chain.credentials().await.expect("credentials");
    assert_eq!(first.access_key(), "ASIAGIVEN1");
    assert_eq!(first.provider(), format!("web identity {WEB_ROLE}"));
    assert!(first.expires_at().is_some());
    let calls = sts.state().calls.clone();
    let call = ("AssumeRoleWithWebIdentity".to_owned(), WEB_ROLE.to_owned(), "pod-1".to_owned());
    assert_eq!(calls, [call]);

    sts.state().token = String::from("second.token.signature");
    let error = chain.credentials().await.expect_err("the old token");
    assert!(
        matches!(&error, CredentialError::Refused { code, .. } if code == "ExpiredTokenException"),
        "{error}"
    );
    assert!(!error.to_string().contains("first.token.signature"), "{error}");
    token.replace("second.token.signature");
    assert_eq!(chain.credentials().await.expect("credentials").access_key(), "ASIAGIVEN2");
}

#[tokio::test]
async fn signed_writes_go_on_while_sts_comes_and_goes() {
    let sts = FakeSts::start().await;
    sts.server.set_down(true);
    let token = Token::new("first.token.signature");
    let (clock, ahead) = movable_clock();
    let scope = Scope { region: String::from("eu-west-1"), service: String::from("aps") };
    let (front, _) = verifying_front(
        Verifier::new(sts.lookup()).for_scope(scope.clone()).window(Duration::from_secs(7_200)),
    )
    .await;
    let credentials = CachedCredentials::new(chain(&CredentialsConfig::default(), irsa(&sts, &token)), clock);
    let layer = SigV4Layer::new(scope, credentials.clone());
    let client = layer.layer(HttpClient::new());
    let send = || {
        let request = http::Request::post(front.url("/write")).body(bytes::Bytes::from_static(b"x"));
        client.clone().oneshot(request.expect("a request"))
    };

    // Down at start: requests fail with the reason, and work once it is there.
    let error = send().await.expect_err("no credentials yet").to_string();
    assert!(
        error.contains(&sts.server.address.to_string()) && error.contains("interface endpoint"),
        "{error}"
    );
    sts.server.set_down(false);
    *ahead.lock().unwrap_or_else(PoisonError::into_inner) += Duration::from_secs(10);
    assert_eq!(send().await.expect("an answer").status(), 200);

    // Down at refresh, while credentials are valid.
    sts.server.set_down(true);
    *ahead.lock().unwrap_or_else(PoisonError::into_inner) += Duration::from_secs(3_400);
    assert_eq!(send().await.expect("an answer").status(), 200);
    tokio::time::timeout(Duration::from_secs(30), async {
        while credentials.status().consecutive_failures == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("a refresh that failed");
    assert_eq!(send().await.expect("an answer").status(), 200);
    assert_eq!(credentials.status().access_key.as_deref(), Some("ASIAGIVEN1"));

    // And back, with another token.
    sts.server.set_down(false);
    sts.state().token = String::from("second.token.signature");
    token.replace("second.token.signature");
    *ahead.lock().unwrap_or_else(PoisonError::into_inner) += Duration::from_secs(120);
    tokio::time::timeout(Duration::from_secs(30), async {
        while credentials.status().access_key.as_deref() != Some("ASIAGIVEN2") {
            assert_eq!(send().await.expect("an answer").status(), 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("refreshed");
    assert_eq!(send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn roles_are_assumed_with_the_right_external_id() {
    let sts = FakeSts::start().await;
    sts.state().keys.insert(String::from("AKIDBASE"), KnownKey::new("base-secret"));
    let config = |external_id: Option<&str>, secret_key: &str| CredentialsConfig {
        base: BaseCredentials::Static {
            access_key: String::from("AKIDBASE"),
            secret_key: Secret::new(secret_key),
            session_token: None,
        },
        roles: vec![hub_step(external_id)],
        ..CredentialsConfig::default()
    };
    let right = chain(&config(Some("external-7"), "base-secret"), sts.environment(&[]));
    let credentials = right.credentials().await.expect("assumed");
    assert_eq!(credentials.provider(), format!("assume role {HUB_ROLE}"));
    let caller = right.caller_identity(&credentials).await.expect("known");
    assert_eq!((caller.account.as_str(), caller.user_id.as_str()), ("222222222222", "AROA:s"));
    assert_eq!(caller.arn, "arn:aws:sts::222222222222:assumed-role/ASIAGIVEN1/s");
    let stranger = Credentials::new("AKIDSTRANGER", "stranger-secret", None);
    let error = right.caller_identity(&stranger).await.expect_err("unknown").to_string();
    assert!(error.contains("keys from static are not right"), "{error}");
    let findings: Vec<_> = right.report().looked_at.into_iter().map(|looked_at| looked_at.finding).collect();
    assert_eq!(findings, [Finding::Used, Finding::Used]);

    for (external_id, needle) in [(None, "set external_id"), (Some("wrong"), "sts:ExternalId = \"wrong\"")] {
        let chain = chain(&config(external_id, "base-secret"), sts.environment(&[]));
        let error = chain.credentials().await.expect_err("refused");
        assert!(matches!(&error, CredentialError::Refused { code, .. } if code == "AccessDenied"), "{error}");
        assert!(error.to_string().contains(needle) && error.to_string().contains(HUB_ROLE), "{error}");
        assert!(matches!(chain.report().looked_at[1].finding, Finding::Failed(_)));
    }
    let wrong = chain(&config(Some("external-7"), "wrong-base-secret"), sts.environment(&[]));
    let error = wrong.credentials().await.expect_err("refused");
    assert!(error.to_string().contains("keys from static keys are not right"), "{error}");
    assert!(!error.to_string().contains("wrong-base-secret"), "{error}");
}

#[tokio::test]
async fn roles_are_chained_and_none_assumes_itself() {
    let sts = FakeSts::start().await;
    let token = Token::new("first.token.signature");
    let last = "arn:aws:iam::333333333333:role/last";
    sts.state().roles.insert(last.to_owned(), None);
    let config = CredentialsConfig {
        roles: vec![
            RoleStep::new(WEB_ROLE),
            hub_step(Some("external-7")),
            RoleStep::new(HUB_ROLE),
            RoleStep::new(last),
        ],
        ..CredentialsConfig::default()
    };
    let chained = chain(&config, irsa(&sts, &token));
    let credentials = chained.credentials().await.expect("assumed");
    assert_eq!(credentials.provider(), format!("assume role {last}"));
    let roles: Vec<String> = sts.state().calls.iter().map(|(_, role, _)| role.clone()).collect();
    assert_eq!(roles, [WEB_ROLE, HUB_ROLE, last], "equal ones next to each other are skipped");
    let report = chained.report();
    let skipped =
        report.looked_at.iter().filter(|looked_at| matches!(looked_at.finding, Finding::Skipped(_)));
    assert_eq!(skipped.count(), 2, "{report}");

    // Of keys alone only STS knows the role, and its path not at all.
    sts.state().keys.insert(String::from("AKIDBASE"), KnownKey::new("base-secret"));
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDBASE"), ("AWS_SECRET_ACCESS_KEY", "base-secret")];
    let with_role = |role: &str| {
        let roles = vec![RoleStep::new(role)];
        chain(&CredentialsConfig { roles, ..CredentialsConfig::default() }, sts.environment(&keys))
    };
    let own = with_role("arn:aws:iam::222222222222:role/service/AKIDBASE");
    assert_eq!(own.credentials().await.expect("its own role").access_key(), "AKIDBASE");
    assert!(
        own.report().to_string().contains("already have this role (arn:aws:sts::222222222222:"),
        "{}",
        own.report()
    );
    let who = own.who_am_i().await;
    assert_eq!(who.principal_arn().as_deref(), Some("arn:aws:iam::222222222222:role/service/AKIDBASE"));
    for other in ["arn:aws:iam::222222222222:role/AKIDBASE2", "arn:aws:iam::111111111111:role/AKIDBASE"] {
        let error = with_role(other).credentials().await.expect_err("another role");
        assert!(matches!(&error, CredentialError::Refused { code, .. } if code == "AccessDenied"), "{error}");
    }

    // ADOT's form: the first role is assumed with a token of its own.
    let step = RoleStep {
        web_identity_token_file: Some(token.path()),
        session_name: Some("adot".into()),
        ..RoleStep::new(WEB_ROLE)
    };
    let config = CredentialsConfig { roles: vec![step], ..CredentialsConfig::default() };
    let own = chain(&config, sts.environment(&[])).credentials().await.expect("assumed");
    assert_eq!(own.provider(), format!("web identity {WEB_ROLE}"));
    assert_eq!(sts.state().calls.last().map(|(_, _, session)| session.clone()).as_deref(), Some("adot"));
}

#[tokio::test]
async fn prometheus_role_arn_with_irsa_signs_for_the_hub() {
    let sts = FakeSts::start().await;
    let token = Token::new("first.token.signature");
    let (front, seen) = verifying_front(Verifier::new(sts.lookup())).await;
    let config: SigV4Config = serde_json::from_str(&format!(
        r#"{{"region": "eu-west-1", "role_arn": "{HUB_ROLE}", "external_id": "external-7"}}"#
    ))
    .expect("options");
    let endpoint = front.url("/workspaces/ws-1/api/v1/remote_write").parse().expect("a URI");
    let layer = SigV4Layer::from_config(&config, &endpoint, &irsa(&sts, &token)).expect("a layer");
    let client = layer.layer(HttpClient::new());
    for _ in 0..3 {
        let request = http::Request::post(&endpoint).body(bytes::Bytes::new()).expect("a request");
        assert_eq!(client.clone().oneshot(request).await.expect("an answer").status(), 200);
    }
    assert_eq!(sts.state().calls.len(), 2, "two calls for any number of requests");
    let report = layer.credentials().report().to_string();
    assert!(report.contains("web identity (used); assume role"), "{report}");
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(seen[0].0.headers.contains_key("x-amz-security-token"));
    assert_eq!(seen[0].1.as_deref(), Ok("ASIAGIVEN2"));
}

#[tokio::test]
async fn adots_assume_role_signs_for_the_hub() {
    let sts = FakeSts::start().await;
    let token = Token::new("first.token.signature");
    let (front, seen) = verifying_front(Verifier::new(sts.lookup())).await;
    let endpoint = front.url("/workspaces/ws-1/api/v1/remote_write").parse().expect("a URI");
    let send = |json: String, environment: Environment| {
        let config: SigV4AuthConfig = serde_json::from_str(&json).expect("options");
        let layer = SigV4Layer::from_adot_config(&config, &endpoint, &environment).expect("a layer");
        let request = http::Request::post(&endpoint).body(bytes::Bytes::new()).expect("a request");
        layer.layer(HttpClient::new()).oneshot(request)
    };
    let chained = format!(
        r#"{{"region":"eu-west-1","service":"aps","assume_role":{{"arn":"{HUB_ROLE}","external_id":"external-7",
            "session_name":"cluster-a"}}}}"#
    );
    assert_eq!(send(chained, irsa(&sts, &token)).await.expect("an answer").status(), 200);
    let by_token = format!(
        r#"{{"region":"eu-west-1","service":"aps","assume_role":{{"arn":"{WEB_ROLE}","web_identity_token_file":{:?}}}}}"#,
        token.path()
    );
    assert_eq!(send(by_token, sts.environment(&[])).await.expect("an answer").status(), 200);
    let calls = sts.state().calls.clone();
    let actions: Vec<_> = calls.iter().map(|(action, ..)| action.as_str()).collect();
    assert_eq!(actions, ["AssumeRoleWithWebIdentity", "AssumeRole", "AssumeRoleWithWebIdentity"]);
    assert_eq!((calls[1].1.as_str(), calls[1].2.as_str()), (HUB_ROLE, "cluster-a"));
    assert_eq!(seen.lock().unwrap_or_else(PoisonError::into_inner).len(), 2);
}

#[tokio::test]
async fn a_session_name_that_sts_would_refuse_is_named() {
    let sts = FakeSts::start().await;
    let token = Token::new("first.token.signature");
    let path = token.path();
    let environment = sts.environment(&[
        ("AWS_ROLE_ARN", WEB_ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().expect("UTF-8")),
        ("AWS_ROLE_SESSION_NAME", "pod/1"),
    ]);
    let error = chain(&CredentialsConfig::default(), environment).credentials().await.expect_err("refused");
    assert!(error.to_string().contains("AWS_ROLE_SESSION_NAME: \"pod/1\" is no session name"), "{error}");
    assert!(sts.state().calls.is_empty(), "STS is not asked");
}

#[tokio::test]
async fn the_first_configured_provider_is_the_one() {
    let sts = FakeSts::start().await;
    let token = Token::new("first.token.signature");
    let path = token.path();
    let path = path.to_str().expect("UTF-8");
    let directory = TempDir::new().expect("a directory");
    let shared = directory.path().join("credentials");
    std::fs::write(&shared, "[default]\naws_access_key_id=AKIDDEFAULT\naws_secret_access_key=s\n[two]\naws_access_key_id=AKIDTWO\naws_secret_access_key=s\n").expect("written");
    let shared = shared.to_str().expect("UTF-8");
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
    let web = [("AWS_ROLE_ARN", WEB_ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", path)];
    let files = [("AWS_SHARED_CREDENTIALS_FILE", shared), ("AWS_CONFIG_FILE", "/nonexistent/config")];
    let two = [("AWS_PROFILE", "two")];
    let off = [("AWS_EC2_METADATA_DISABLED", "true")];
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&[Variables<'_>], &str); 4] = [
        (&[&keys, &web, &files], "AKIDENV"),
        (&[&web, &files], "ASIAGIVEN1"),
        (&[&files], "AKIDDEFAULT"),
        (&[&files, &two], "AKIDTWO"),
    ];
    for (variables, access_key) in cases {
        let environment = sts.environment(&variables.concat());
        let chain = chain(&CredentialsConfig::default(), environment);
        let credentials = chain.credentials().await.expect("credentials");
        assert_eq!(credentials.access_key(), access_key);
        assert!(chain.report().base().is_some(), "{}", chain.report());
    }
    // What is configured and fails is not passed over.
    sts.state().token = String::from("other");
    let chain = chain(&CredentialsConfig::default(), sts.environment(&[&web[..], &files].concat()));
    assert!(chain.credentials().await.is_err());

    for (variables, why) in [
        (off, "AWS_EC2_METADATA_DISABLED"),
        ([("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE")], "Fargate"),
        ([("K8S_NODE_NAME", "fargate-ip-10-0-1-2.ec2.internal")], "Fargate"),
    ] {
        let nothing = Arc::new(
            CredentialChain::new(&CredentialsConfig::default(), sts.environment(&variables), "eu-west-1")
                .expect("a chain"),
        );
        let error = nothing.credentials().await.expect_err("nothing is configured").to_string();
        for needle in
            ["AWS_ACCESS_KEY_ID is not set", "AWS_WEB_IDENTITY_TOKEN_FILE is not set", "container", why]
        {
            assert!(error.contains(needle), "{needle:?} in {error}");
        }
    }
}

#[tokio::test]
async fn a_missing_token_file_says_what_to_look_at() {
    let sts = FakeSts::start().await;
    let environment =
        sts.environment(&[("AWS_ROLE_ARN", WEB_ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token")]);
    let error = chain(&CredentialsConfig::default(), environment).credentials().await.expect_err("no file");
    let text = error.to_string();
    assert!(text.contains("/nonexistent/token") && text.contains("eks.amazonaws.com/role-arn"), "{text}");
    assert!(sts.state().calls.is_empty());
}

#[tokio::test]
async fn a_denied_service_account_is_told_its_trust_condition() {
    use base64::Engine as _;
    let sts = FakeSts::start().await;
    let claims = r#"{"iss":"https://oidc.eks.eu-west-1.amazonaws.com/id/ABC","sub":"system:serviceaccount:monitoring:promferry","aud":["sts.amazonaws.com"]}"#;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
    let token = Token::new(&format!("head.{payload}.very-secret-signature"));
    let path = token.path();
    let environment = sts.environment(&[
        ("AWS_ROLE_ARN", "arn:aws:iam::111111111111:role/other"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().expect("UTF-8")),
    ]);
    let error = chain(&CredentialsConfig::default(), environment).credentials().await.expect_err("denied");
    let text = error.to_string();
    for needle in [
        "AccessDenied",
        "oidc.eks.eu-west-1.amazonaws.com/id/ABC:sub = \"system:serviceaccount:monitoring:promferry\"",
        ":aud = \"sts.amazonaws.com\"",
        "arn:aws:iam::111111111111:role/other",
    ] {
        assert!(text.contains(needle), "{needle:?} in {text}");
    }
    assert!(!text.contains("very-secret-signature"), "{text}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that is logged on the way, at the finest level, and every `Debug` of the public types.
#[tokio::test]
async fn secrets_are_never_shown() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // The test's runtime has one thread, so this sees all of its tasks.
    let _guard = tracing::subscriber::set_default(subscriber);

    let sts = FakeSts::start().await;
    let token = Token::new("first.token.signature");
    let (front, _) = verifying_front(Verifier::new(sts.lookup())).await;
    let config =
        CredentialsConfig { roles: vec![hub_step(Some("external-7"))], ..CredentialsConfig::default() };
    let chained = chain(&config, irsa(&sts, &token));
    let cache = CachedCredentials::new(Arc::clone(&chained), Clock::system());
    let scope = Scope { region: String::from("eu-west-1"), service: String::from("aps") };
    let layer = SigV4Layer::new(scope, cache.clone());
    let request = http::Request::post(front.url("/write")).body(bytes::Bytes::new()).expect("a request");
    let client = layer.layer(HttpClient::new());
    assert_eq!(client.oneshot(request).await.expect("an answer").status(), 200);
    sts.state().token = String::from("second.token.signature");
    let error = chained.credentials().await.expect_err("the old token");

    let credentials = cache.get().await.expect("credentials");
    let shown =
        format!("{credentials:?} {cache:?} {layer:?} {chained:?} {error} {error:?} {:?}", cache.status());
    let log = String::from_utf8_lossy(&log.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    assert!(log.contains("signing request"), "the finest level was written");
    for secret in ["given-secret-", "given-token-", "token.signature"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
        assert!(!log.contains(secret), "{secret} in the log: {}", &log[..log.len().min(20_000)]);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_has_told_what_it_looked_at() {
    // Takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://user:hunter2@{}/?key=hunter2", silent.local_addr().expect("an address"));
    let token = Token::new("token");
    let path = token.path();
    let environment = Environment::from_pairs([
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.to_str().expect("UTF-8")),
        ("AWS_ROLE_ARN", WEB_ROLE),
    ]);
    let roles = vec![RoleStep::new(HUB_ROLE), RoleStep::new("arn:aws:iam::3:role/next")];
    let config = CredentialsConfig { roles, ..CredentialsConfig::default() };
    let chain = CredentialChain::new(&config, environment, "eu-west-1").expect("right");
    assert!(
        chain.longest_call() >= Duration::from_secs(3 * 30),
        "each step may take as long as a call to STS"
    );
    let given_up = tokio::time::timeout(Duration::from_millis(500), chain.credentials()).await;
    assert!(given_up.is_err());
    assert!(chain.report().to_string().starts_with("environment ("), "{}", chain.report());
    let waits_for = chain.waits_for().expect("STS");
    assert!(
        waits_for.starts_with("STS at http://127.0.0.1:") && !waits_for.contains("hunter2"),
        "{waits_for}"
    );
}
