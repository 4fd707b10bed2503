//! What the SDK reads from the process's own environment, each in a process of its own.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use promferry_sigv4_auth::{CredentialChain, CredentialSource, CredentialsConfig, Environment, RoleStep};
use rcgen::{CertifiedIssuer, KeyPair};
use tokio::process::Command;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::front::Server;

/// What of the configuration [`child`] is told in its environment.
const USE_FIPS_STS_ENDPOINT: &str = "TEST_USE_FIPS_STS_ENDPOINT";
const ROLE_STS_REGION: &str = "TEST_ROLE_STS_REGION";

/// Not a test of its own: what the others run as a process.
#[tokio::test]
#[ignore = "run by the other tests of this file in processes with their own environment"]
async fn child() {
    let config = CredentialsConfig {
        use_fips_sts_endpoint: std::env::var_os(USE_FIPS_STS_ENDPOINT).is_some(),
        roles: std::env::var(ROLE_STS_REGION)
            .map(|region| RoleStep { sts_region: Some(region), ..RoleStep::new("arn:aws:iam::1:role/next") })
            .into_iter()
            .collect(),
        ..CredentialsConfig::default()
    };
    let chain = match CredentialChain::new(&config, Environment::process(), "eu-west-1") {
        Ok(chain) => chain,
        Err(error) => return println!("failed: {error}"),
    };
    match chain.credentials().await {
        Ok(credentials) => println!("got {} from {}", credentials.access_key(), credentials.provider()),
        Err(error) => println!("failed: {error}"),
    }
    println!("looked at: {}", chain.report());
}

/// What may be printed nowhere: secret keys and tokens that the servers here give, and tokens that the child is given.
const SECRETS: [&str; 5] = [
    "secret-key-that-is-given",
    "session-token-that-is-given",
    "secret-part",
    "pod-identity-token",
    "imds-token",
];

/// Runs [`child`] with these variables and none of ours, and gives what it printed, which shows no secret.
async fn run_child(variables: &[(&str, &str)]) -> String {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .args(["process::child", "--exact", "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("within a minute").expect("it ran");
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for secret in SECRETS {
        assert!(!printed.contains(secret) && !errors.contains(secret), "{secret}: {printed}\n{errors}");
    }
    printed.into_owned()
}

const KEYS: &str = r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIASERVED","SecretAccessKey":"secret-key-that-is-given","Token":"session-token-that-is-given","Expiration":"2099-01-01T00:00:00Z","LastUpdated":"2026-01-01T00:00:00Z"}"#;

fn not_found() -> Response<String> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

#[tokio::test]
async fn pod_identity_gives_its_token_and_goes_past_the_proxy() {
    let server = Server::start(|head: Parts, _: Bytes| match head.headers.get("authorization") {
        Some(token) if token == "pod-identity-token" && head.uri.path() == "/v1/credentials" => {
            Response::new(KEYS.to_owned())
        }
        _ => not_found(),
    })
    .await;
    let directory = tempfile::TempDir::new().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "pod-identity-token").expect("written");
    let output = run_child(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server.url("/v1/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().expect("UTF-8")),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
    ])
    .await;
    assert!(output.contains("got ASIASERVED from container"), "{output}");
}

#[tokio::test]
async fn imds_is_the_last_and_is_asked_with_a_token() {
    let server = Server::start(|head: Parts, _: Bytes| {
        let with_token =
            head.headers.get("x-aws-ec2-metadata-token").is_some_and(|token| token == "imds-token");
        match (head.method.as_str(), head.uri.path()) {
            ("PUT", "/latest/api/token") => {
                let mut response = Response::new(String::from("imds-token"));
                let ttl = http::HeaderValue::from_static("21600");
                response.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", ttl);
                response
            }
            ("GET", "/latest/meta-data/iam/security-credentials/") if with_token => {
                Response::new(String::from("node-role"))
            }
            ("GET", "/latest/meta-data/iam/security-credentials/node-role") if with_token => {
                Response::new(KEYS.to_owned())
            }
            _ => not_found(),
        }
    })
    .await;
    let url = server.url("");
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    let output = run_child(&[endpoint]).await;
    assert!(output.contains("got ASIASERVED from IMDS"), "{output}");
    assert!(output.contains("environment (AWS_ACCESS_KEY_ID is not set); web identity"), "{output}");
    let output = run_child(&[endpoint, ("AWS_EC2_METADATA_DISABLED", "true")]).await;
    assert!(output.contains("failed: no AWS credentials are configured"), "{output}");
}

/// A proxy that notes what it is asked for and lets nothing through.
async fn closed_proxy() -> (Server, Log) {
    let log = Log::default();
    let asked = Arc::clone(&log);
    let proxy = Server::start(move |head: Parts, _: Bytes| {
        let line = format!("{} {}", head.method, head.uri);
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    })
    .await;
    (proxy, log)
}

type Log = Arc<Mutex<Vec<String>>>;

/// What was noted, without repetitions.
fn noted(log: &Log) -> Vec<String> {
    let mut lines = log.lock().unwrap_or_else(PoisonError::into_inner).clone();
    lines.dedup();
    lines
}

/// A folder with a web identity token.
struct Identity(tempfile::TempDir);

impl Identity {
    fn new() -> Self {
        let directory = tempfile::TempDir::new().expect("a directory");
        std::fs::write(directory.path().join("token"), "head.payload.secret-part").expect("written");
        Self(directory)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn variables(&self, region: &str) -> Vec<(String, String)> {
        let token = self.0.path().join("token");
        [
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().expect("UTF-8")),
            ("AWS_REGION", region),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

async fn run_with(identity: &Identity, region: &str, more: &[(&str, &str)]) -> String {
    let variables = identity.variables(region);
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(more.iter().copied())
        .collect();
    run_child(&variables).await
}

/// An STS that gives keys to everybody, and notes the actions.
fn generous_sts() -> (impl Fn(Parts, Bytes) -> Response<String> + Send + Sync + 'static, Log) {
    let log = Log::default();
    let asked = Arc::clone(&log);
    let answer = move |_: Parts, body: Bytes| {
        let body = String::from_utf8_lossy(&body).into_owned();
        let action = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(action.to_owned());
        Response::new(format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
             <AccessKeyId>ASIAGIVEN</AccessKeyId><SecretAccessKey>secret-key-that-is-given</SecretAccessKey>\
             <SessionToken>session-token-that-is-given</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>"
        ))
    };
    (answer, log)
}

#[tokio::test]
async fn sts_is_regional_and_called_through_the_proxy() {
    const FIPS: (&str, &str) = ("AWS_USE_FIPS_ENDPOINT", "true");
    const DUAL_STACK: (&str, &str) = ("AWS_USE_DUALSTACK_ENDPOINT", "true");
    // The names are those of AWS' list of STS endpoints and of its partitions' domains.
    type Variables = &'static [(&'static str, &'static str)];
    let cases: [(&str, Variables, &str); 11] = [
        ("eu-central-1", &[], "sts.eu-central-1.amazonaws.com"),
        ("us-east-1", &[FIPS], "sts-fips.us-east-1.amazonaws.com"),
        ("eu-west-1", &[DUAL_STACK], "sts.eu-west-1.api.aws"),
        ("us-east-2", &[FIPS, DUAL_STACK], "sts-fips.us-east-2.api.aws"),
        ("us-gov-west-1", &[], "sts.us-gov-west-1.amazonaws.com"),
        ("us-gov-west-1", &[FIPS], "sts.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", &[], "sts.cn-north-1.amazonaws.com.cn"),
        ("cn-north-1", &[DUAL_STACK], "sts.cn-north-1.api.amazonwebservices.com.cn"),
        ("us-west-2", &[(USE_FIPS_STS_ENDPOINT, "1")], "sts-fips.us-west-2.amazonaws.com"),
        // Keys of the environment come before the web identity; the role is then assumed in its own region.
        (
            "eu-west-1",
            &[("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "s"), (ROLE_STS_REGION, "ap-south-1")],
            "sts.ap-south-1.amazonaws.com",
        ),
        (
            "eu-west-3",
            &[
                ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"),
                ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
            ],
            "sts.eu-west-3.amazonaws.com",
        ),
    ];
    let mut children = tokio::task::JoinSet::new();
    for (region, more, host) in cases {
        children.spawn(async move {
            let (identity, (proxy, asked)) = (Identity::new(), closed_proxy().await);
            let url = proxy.url("");
            let output = run_with(&identity, region, &[more, &[("HTTPS_PROXY", &url)]].concat()).await;
            assert!(
                output.contains(&format!("no answer from https://{host}")),
                "{region} {more:?}: {output}"
            );
            assert_eq!(noted(&asked), [format!("CONNECT {host}:443")], "{region} {more:?}");
        });
    }
    while let Some(child) = children.join_next().await {
        child.expect("as expected");
    }
}

#[tokio::test]
async fn a_profile_that_assumes_a_role_does_so_as_configured() {
    let folder = tempfile::TempDir::new().expect("a directory");
    let config = folder.path().join("config");
    let profiles = "[profile writer]\nrole_arn = arn:aws:iam::111122223333:role/writer\nsource_profile = base\n\
                    [profile base]\naws_access_key_id = AKID\naws_secret_access_key = s\n";
    std::fs::write(&config, profiles).expect("written");
    let (proxy, asked) = closed_proxy().await;
    let url = proxy.url("");
    let output = run_child(&[
        ("AWS_CONFIG_FILE", config.to_str().expect("UTF-8")),
        ("AWS_PROFILE", "writer"),
        ("AWS_REGION", "us-west-2"),
        ("HTTPS_PROXY", &url),
        (USE_FIPS_STS_ENDPOINT, "1"),
    ])
    .await;
    assert_eq!(noted(&asked), ["CONNECT sts-fips.us-west-2.amazonaws.com:443"], "{output}");
}

#[tokio::test]
async fn the_sts_of_this_processs_region_is_named_where_another_one_does_not_answer() {
    let (proxy, _) = closed_proxy().await;
    let url = proxy.url("");
    let keys = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let variables = [("AWS_REGION", "eu-west-1"), ("HTTPS_PROXY", &url)];
    for (region, is_named) in [("eu-central-1", true), ("eu-west-1", false)] {
        let output = run_child(&[&keys[..], &variables, &[(ROLE_STS_REGION, region)]].concat()).await;
        assert!(output.contains(&format!("no answer from https://sts.{region}.amazonaws.com")), "{output}");
        let advice = "set AWS_ENDPOINT_URL_STS=https://sts.eu-west-1.amazonaws.com";
        assert_eq!(output.contains(advice), is_named, "{output}");
    }
}

#[tokio::test]
async fn sts_is_where_the_environment_says() {
    let identity = Identity::new();
    let ((own, own_log), (general, general_log)) = (generous_sts(), generous_sts());
    let (own, general) = (Server::start(own).await, Server::start(general).await);
    let (own, general) = (own.url(""), general.url(""));
    let for_all = ("AWS_ENDPOINT_URL", general.as_str());
    let for_sts = ("AWS_ENDPOINT_URL_STS", own.as_str());

    let output = run_with(&identity, "eu-west-1", &[for_all]).await;
    assert!(output.contains("got ASIAGIVEN from web identity"), "{output}");
    assert_eq!((noted(&own_log).len(), noted(&general_log).len()), (0, 1));
    let output = run_with(&identity, "eu-west-1", &[for_all, for_sts]).await;
    assert!(output.contains("got ASIAGIVEN from web identity"), "{output}");
    assert_eq!((noted(&own_log).len(), noted(&general_log).len()), (1, 1));
    let output = run_with(&identity, "eu-west-1", &[("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")]).await;
    assert!(output.contains("no answer from http://127.0.0.1:1"), "{output}");

    // A profile's role is assumed by the SDK itself, at the same place.
    let profile = identity.file(
        "config",
        "[default]\nrole_arn = arn:aws:iam::1:role/profile\nsource_profile = keys\n\
         [profile keys]\naws_access_key_id = AKID\naws_secret_access_key = s\n",
    );
    let output = run_child(&[("AWS_CONFIG_FILE", &profile), ("AWS_REGION", "eu-west-1"), for_sts]).await;
    assert!(output.contains("got ASIAGIVEN from profile"), "{output}");
    assert_eq!(noted(&own_log), ["AssumeRoleWithWebIdentity", "AssumeRole"]);
}

#[tokio::test]
async fn no_proxy_is_honoured() {
    let (identity, (proxy, asked)) = (Identity::new(), closed_proxy().await);
    let (sts, actions) = generous_sts();
    let sts = Server::start(sts).await;
    let (sts, proxy) = (sts.url(""), proxy.url(""));
    let through = [("AWS_ENDPOINT_URL_STS", sts.as_str()), ("HTTP_PROXY", proxy.as_str())];
    let output = run_with(&identity, "eu-west-1", &through).await;
    assert!(output.contains("failed: "), "{output}");
    assert_eq!((noted(&asked), noted(&actions)), (vec![format!("POST {sts}/")], Vec::new()));
    for no_proxy in ["127.0.0.1", "example.com,127.0.0.0/8"] {
        let output =
            run_with(&identity, "eu-west-1", &[&through[..], &[("NO_PROXY", no_proxy)]].concat()).await;
        assert!(output.contains("got ASIAGIVEN from web identity"), "{no_proxy}: {output}");
    }
    assert_eq!((noted(&asked).len(), noted(&actions).len()), (1, 1));
}

#[tokio::test]
async fn the_ca_bundle_is_the_trust_store() {
    let (authority, other) = (authority(), authority());
    let key = KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![String::from("localhost")]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    let (sts, actions) = generous_sts();
    let sts = Server::start_by(Some(Arc::new(config).into()), sts).await;
    let url = format!("https://localhost:{}", sts.address.port());

    let identity = Identity::new();
    let trusted = identity.file("trusted.pem", &authority.pem());
    let others = identity.file("others.pem", &other.pem());
    let sts = ("AWS_ENDPOINT_URL_STS", url.as_str());
    let output = run_with(&identity, "eu-west-1", &[sts, ("AWS_CA_BUNDLE", &trusted)]).await;
    assert!(output.contains("got ASIAGIVEN from web identity"), "{output}");
    assert_eq!(noted(&actions), ["AssumeRoleWithWebIdentity"]);
    // The system's authorities don't know it, and neither do others; it is the bundle alone that counts.
    for bundle in [None, Some(("AWS_CA_BUNDLE", others.as_str()))] {
        let output = run_with(&identity, "eu-west-1", &[&[sts][..], bundle.as_slice()].concat()).await;
        assert!(output.contains(&format!("no answer from {url}")), "{bundle:?}: {output}");
        assert!(output.contains("certificate"), "{bundle:?}: {output}");
    }
    // What is no bundle is refused with its name.
    let whole = authority.pem();
    for (file, why) in [
        (String::from("/nonexistent.pem"), "No such file"),
        (identity.file("empty.pem", ""), "holds no certificate in PEM"),
        (identity.file("cut.pem", &whole[..whole.len() / 2]), "is it cut?"),
        (identity.file("other.pem", &whole.replace("MII", "MIA")), "can't be read"),
    ] {
        let output = run_with(&identity, "eu-west-1", &[sts, ("AWS_CA_BUNDLE", &file)]).await;
        assert!(output.contains(&format!("AWS_CA_BUNDLE: {file}: ")) && output.contains(why), "{output}");
    }
    assert_eq!(noted(&actions).len(), 1);
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}
