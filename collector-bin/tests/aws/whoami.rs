//! What `promferry aws whoami` says in a pod, held against files: one for each thing that can be wrong.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use promferry_aws_stand_in::{Cloud, Fault, Guardrail, Issuer, Policy, ProjectedToken, Sts, Workspaces};
use promferry_bench::port::HeldPort;
use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::collector::program;
use crate::iam::{
    ACCOUNT, AUDIENCE, HUB, REGION, ROLE, SERVICE_ACCOUNT, may_assume, may_never_write, may_write, policy,
    role_trust, shared_with, web_identity_trust, workspace_arn,
};
use crate::secrets::Emitted;

const HOUR: Duration = Duration::from_secs(3600);
const WORKSPACE: &str = "ws-1";
const HUB_ROLE: &str = "arn:aws:iam::444455556666:role/hub/writer";

/// A pod with IRSA whose role may write to a workspace of its account; each test takes something away.
struct Pod {
    cloud: Cloud,
    issuer: Issuer,
    token: ProjectedToken,
    sts: Sts,
    workspaces: Workspaces,
    environment: Vec<(String, String)>,
    workspace: String,
    /// What stands in `sigv4` beside the region.
    sigv4: String,
    /// What stands in the endpoint's entry beside that.
    more: String,
    folder: TempDir,
}

/// What the program answered.
struct Answer {
    code: i32,
    text: String,
}

impl Pod {
    async fn new() -> Self {
        let cloud = Cloud::memory();
        let issuer = Issuer::start().await;
        cloud.add_provider(ACCOUNT, &issuer, &[AUDIENCE]).await;
        let trust = web_identity_trust(ACCOUNT, &issuer, SERVICE_ACCOUNT, AUDIENCE);
        cloud
            .add_role(ROLE, trust, Some(policy(&[may_write(&workspace_arn(ACCOUNT, WORKSPACE))])), HOUR)
            .await;
        // What is said is broken into lines, so the path's length has to be the same on every machine.
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let token = issuer.token(SERVICE_ACCOUNT, AUDIENCE, 24 * HOUR);
        let token = ProjectedToken::new(folder.path().join("serviceaccount"), &token);
        let sts = Sts::start(&cloud).await;
        let workspaces = Workspaces::start(&cloud, REGION).await;
        workspaces.add(ACCOUNT, WORKSPACE, None).await;
        let environment = [
            ("AWS_ROLE_ARN", ROLE.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().display().to_string()),
            ("AWS_ROLE_SESSION_NAME", "pod-1".to_owned()),
            ("AWS_ENDPOINT_URL_STS", sts.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("HOME", "/nonexistent".to_owned()),
        ];
        Self {
            cloud,
            issuer,
            token,
            sts,
            workspaces,
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
            workspace: WORKSPACE.to_owned(),
            sigv4: String::new(),
            more: String::new(),
            folder,
        }
    }

    /// The pod's role goes on to a role of the hub's account, which may write to a workspace there.
    async fn of_a_hub(external_id: Option<&str>) -> Self {
        let mut pod = Self::new().await;
        pod.workspaces.add(HUB, "ws-hub", None).await;
        pod.workspace = "ws-hub".to_owned();
        let write = policy(&[may_write(&workspace_arn(HUB, "ws-hub"))]);
        pod.cloud.add_role(HUB_ROLE, role_trust(ROLE, external_id), Some(write), HOUR).await;
        pod.cloud.set_permissions(ROLE, Some(policy(&[may_assume(HUB_ROLE)]))).await;
        pod.sigv4 = format!(", role_arn: '{HUB_ROLE}'");
        pod
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.unset(name);
        self.environment.push((name.to_owned(), value.into()));
    }

    fn unset(&mut self, name: &str) {
        self.environment.retain(|(set, _)| set != name);
    }

    fn config(&self) -> String {
        format!(
            "global: {{external_labels: {{cluster: test}}}}\nremote_write:\n- name: amp\n  url: {}\n  \
             sigv4: {{region: {REGION}{}}}\n{}",
            self.workspaces.url(&self.workspace),
            self.sigv4,
            self.more,
        )
    }

    /// Runs the program with the pod's variables and no others.
    async fn run(&self, flags: &[&str]) -> Answer {
        let file = self.folder.path().join("prometheus.yml");
        std::fs::write(&file, self.config()).unwrap();
        let mut command = Command::new(program());
        command.args(["aws", "whoami"]).args(flags).env_clear().envs(self.environment.iter().cloned());
        if !flags.iter().any(|flag| flag.starts_with("--url")) {
            command.arg(format!("--config.file={}", file.display()));
        }
        // The servers that it calls are in this process.
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let mut emitted = Emitted::default();
        emitted.add("stdout", &out);
        emitted.add("stderr", &err);
        let own = self.environment.iter().filter(|(name, _)| name == "AWS_SECRET_ACCESS_KEY");
        let own = own.map(|(_, secret)| secret.clone());
        emitted.assert_none_of(&self.cloud.secrets().into_iter().chain(own).collect::<Vec<_>>());
        Answer { code: output.status.code().unwrap(), text: out + &err }
    }

    /// Holds what is said, for people and for programs, against the file of this name.
    async fn assert_says(&self, name: &str, code: i32, kind: Option<&str>) {
        let said = self.run(&[]).await;
        assert_eq!(said.code, code, "{}", said.text);
        assert_pinned(name, &self.steady(&said.text));
        let json = self.run(&["--json"]).await;
        assert_eq!(json.code, code, "{}", json.text);
        let json: Value =
            serde_json::from_str(&json.text).unwrap_or_else(|error| panic!("{error}: {}", json.text));
        let endpoint = &json["endpoints"][0];
        assert_eq!(endpoint["failure"]["kind"].as_str(), kind, "{json}");
        let documented = include_str!("../../../docs/configuration.md");
        for word in [&endpoint["failure"]["kind"], &endpoint["failure"]["reach"]] {
            let word = word.as_str().map(|word| format!("`{word}`")).unwrap_or_default();
            assert!(documented.contains(&word), "docs/configuration.md has no {word}");
        }
        for needed in endpoint["failure"]["needed"].as_array().into_iter().flatten() {
            // What is to be pasted is a policy that IAM would take.
            let policy = needed["policy"].to_string();
            Policy::parse(&policy).unwrap_or_else(|error| panic!("{error}: {policy}"));
        }
    }

    /// What is found on the way to an endpoint, with the credentials that there are.
    async fn reach(&self, endpoint: &str) -> Value {
        let found = self.ask(endpoint).await;
        assert_eq!(found["may_write"], Value::Null, "{found}");
        found["failure"]["reach"].clone()
    }

    /// What is said of a server that nobody can write to.
    async fn ask(&self, endpoint: &str) -> Value {
        let url = format!("--url={endpoint}/workspaces/{WORKSPACE}/api/v1/remote_write");
        let said = self.run(&[&url, "--region=eu-west-1", "--json"]).await;
        assert_eq!(said.code, 1, "{}", said.text);
        let json: Value = serde_json::from_str(&said.text).unwrap();
        json["endpoints"][0].clone()
    }

    /// Does with a policy what is said to do with it.
    async fn give(&self, needed: &Value) {
        let policy = Policy::parse(&needed["policy"].to_string()).unwrap();
        let place = needed["place"].as_str().unwrap();
        match place.split_once(" of ").unwrap() {
            ("trust policy", role) => self.cloud.set_trust(role, policy).await,
            ("a policy", role) => self.cloud.set_permissions(role, Some(policy)).await,
            _ => panic!("{place}"),
        }
    }

    /// The text with names in place of what differs from run to run.
    fn steady(&self, text: &str) -> String {
        static CHANGES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
            let changes = [
                // What the resolver says of a name that is not there differs from machine to machine.
                (r"(address\s+information:)[^)]*\)", "$1 …)"),
                (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
                (r"localhost:\d+", "localhost:PORT"),
                (r"port(\s+)\d{5}\b", "port${1}PORT"),
                (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
                (r"\bid/[0-9A-F]{32}\b", "id/CLUSTER"),
                (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ \((in )?[^)]*?( ago)?\)", "TIME (${1}SPAN$2)"),
                (r"\b\d{10}\b", "SECONDS"),
            ];
            changes.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).into()
        });
        let text = text.replace(&self.folder.path().display().to_string(), "/…");
        CHANGES.iter().fold(text, |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
    }
}

/// Panics unless `tests/data/whoami/NAME.txt` says the same. With `PROMFERRY_PIN=1` the file is written instead.
fn assert_pinned(name: &str, said: &str) {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/whoami").join(name).with_extension("txt");
    if std::env::var_os("PROMFERRY_PIN").is_some() {
        return std::fs::write(&file, said).unwrap();
    }
    let pinned =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {}: {said}", file.display()));
    assert_eq!(said, pinned, "{}", file.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_right() {
    let pod = Pod::new().await;
    pod.assert_says("everything-is-right", 0, None).await;
    let asked = pod.workspaces.requests();
    assert!(asked.iter().all(|write| write.status.is_some_and(|status| status.as_u16() < 401)), "{asked:?}");
    let calls: Vec<String> = pod.sts.calls().iter().map(|call| call.action.clone()).collect();
    assert_eq!(calls[..2], ["AssumeRoleWithWebIdentity", "GetCallerIdentity"]);
    assert_eq!(pod.workspaces.received(WORKSPACE), Default::default(), "nothing is stored");

    let without = pod.run(&["--no-write"]).await;
    assert_eq!(without.code, 0, "{}", without.text);
    assert!(without.text.contains("not asked"), "{}", without.text);
    assert_eq!(pod.workspaces.requests().len(), asked.len(), "nothing is sent");

    let url = format!("--url={}", pod.workspaces.url(WORKSPACE));
    let by_flags = pod.run(&[&url, "--region=eu-west-1"]).await;
    assert_eq!(by_flags.code, 0, "{}", by_flags.text);
    let with_password = url.replace("http://", "http://user:pass-word@") + "?key=in-the-query";
    for flag in ["--no-write", "--json"] {
        let said = pod.run(&[&with_password, "--region=eu-west-1", flag]).await.text;
        assert!(said.contains("remote_write"), "{said}");
        assert!(!said.contains("pass-word") && !said.contains("in-the-query"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_two_roles() {
    let mut pod = Pod::of_a_hub(Some("cluster-7")).await;
    pod.sigv4 += ", external_id: cluster-7";
    pod.assert_says("a-chain-of-two-roles", 0, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_question_is_wrong() {
    let mut pod = Pod::new().await;
    for (flags, needle) in [
        (&["--endpoint=other"][..], "no remote_write entry called \"other\""),
        (&["--url=https://amp.example.com/"], "sigv4.region"),
    ] {
        pod.unset("AWS_REGION");
        let said = pod.run(flags).await;
        assert_eq!(said.code, 2, "{}", said.text);
        assert!(said.text.contains(needle), "{}", said.text);
    }
    pod.sigv4 = ", role_arn: nonsense".to_owned();
    let said = pod.run(&[]).await;
    assert_eq!(said.code, 2, "{}", said.text);
    assert!(said.text.contains("role_arn"), "{}", said.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_configured() {
    let mut pod = Pod::new().await;
    pod.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
    pod.unset("AWS_ROLE_ARN");
    pod.set("AWS_EXECUTION_ENV", "AWS_EKS_FARGATE");
    pod.unset("AWS_EC2_METADATA_DISABLED");
    pod.assert_says("nothing-is-configured", 1, Some("no_provider")).await;
    assert!(pod.sts.calls().is_empty() && pod.workspaces.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_is_not_there() {
    let mut pod = Pod::new().await;
    pod.sigv4 = ", profile: writer".to_owned();
    pod.assert_says("a-profile-that-is-not-there", 1, Some("provider")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_that_cant_be_read() {
    let mut pod = Pod::new().await;
    pod.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/eks.amazonaws.com/serviceaccount/token");
    pod.assert_says("a-token-file-that-cant-be-read", 1, Some("provider")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sts_refuses_connections() {
    let mut pod = Pod::new().await;
    let closed = HeldPort::any().unwrap();
    assert_eq!(pod.reach(&format!("http://{}", closed.address())).await, "refused");
    pod.set("AWS_ENDPOINT_URL_STS", format!("http://{}", closed.address()));
    pod.assert_says("sts-refuses-connections", 1, Some("route")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_such_name() {
    let mut pod = Pod::new().await;
    assert_eq!(pod.reach("http://aps-workspaces.eu-west-1.invalid").await, "no_such_name");
    pod.set("AWS_ENDPOINT_URL_STS", "http://sts.eu-west-1.invalid");
    pod.assert_says("no-such-name", 1, Some("route")).await;
}

/// An address that answers no connection, as one behind a closed security group; ours is a private one.
#[tokio::test(flavor = "multi_thread")]
async fn an_interface_endpoint_that_is_closed() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let held: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok())
            .collect();
    let mut pod = Pod::new().await;
    assert_eq!(pod.reach(&format!("http://{address}")).await, "timed_out_private");
    pod.set("AWS_ENDPOINT_URL_STS", format!("http://{address}"));
    pod.assert_says("an-interface-endpoint-that-is-closed", 1, Some("route")).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_says_no() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    let mut pod = Pod::new().await;
    pod.unset("AWS_ENDPOINT_URL_STS");
    pod.set("HTTPS_PROXY", format!("http://{proxy}"));
    pod.assert_says("a-proxy-that-says-no", 1, Some("route")).await;
}

/// Something on the way shows its own certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_somebody_else() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
        }
    });
    let mut pod = Pod::new().await;
    assert_eq!(pod.reach(&format!("https://localhost:{port}")).await, "tls");
    pod.set("AWS_ENDPOINT_URL_STS", format!("https://localhost:{port}"));
    pod.assert_says("a-certificate-of-somebody-else", 1, Some("route")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sts_takes_no_more_calls() {
    let pod = Pod::new().await;
    pod.sts.set_fault(Fault::Throttling);
    pod.assert_says("sts-takes-no-more-calls", 1, Some("sts")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_refuses_sub() {
    let pod = Pod::new().await;
    let other = web_identity_trust(ACCOUNT, &pod.issuer, "system:serviceaccount:default:other", AUDIENCE);
    pod.cloud.set_trust(ROLE, other).await;
    pod.assert_says("the-trust-refuses-sub", 1, Some("role_trust")).await;
}

/// Of an account where nothing is set up yet: all at once.
#[tokio::test(flavor = "multi_thread")]
async fn all_policies_of_the_way() {
    let mut pod = Pod::of_a_hub(None).await;
    pod.sigv4 += ", external_id: cluster-7";
    pod.cloud.set_trust(ROLE, Policy::no_trust()).await;
    pod.cloud.set_trust(HUB_ROLE, Policy::no_trust()).await;
    pod.cloud.set_permissions(HUB_ROLE, None).await;
    pod.cloud.set_permissions(ROLE, None).await;
    let said = pod.run(&["--policies"]).await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_pinned("all-policies-of-the-way", &pod.steady(&said.text));
    let json: Value = serde_json::from_str(&pod.run(&["--json"]).await.text).unwrap();
    for needed in json["endpoints"][0]["policies"].as_array().unwrap() {
        pod.give(needed).await;
    }
    assert_eq!(pod.run(&[]).await.code, 0, "nothing more is needed");
}

/// What is said to be needed is what is needed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pasted_helps() {
    let mut pod = Pod::of_a_hub(None).await;
    pod.sigv4 += ", external_id: cluster-7";
    let other = web_identity_trust(ACCOUNT, &pod.issuer, "system:serviceaccount:default:other", AUDIENCE);
    pod.cloud.set_trust(ROLE, other).await;
    pod.cloud.set_trust(HUB_ROLE, Policy::no_trust()).await;
    pod.cloud.set_permissions(HUB_ROLE, None).await;
    pod.cloud.set_permissions(ROLE, None).await;
    let mut kinds = Vec::new();
    for _ in 0..6 {
        let said = pod.run(&["--json"]).await;
        let json: Value = serde_json::from_str(&said.text).unwrap();
        let failure = &json["endpoints"][0]["failure"];
        if failure.is_null() {
            assert_eq!(said.code, 0);
            break;
        }
        kinds.push(failure["kind"].as_str().unwrap().to_owned());
        let needed = failure["needed"].as_array().unwrap();
        assert!(!needed.is_empty(), "{json}");
        for needed in needed {
            pod.give(needed).await;
        }
    }
    assert_eq!(kinds, ["role_trust", "caller_policy_or_role_trust", "identity_policy"]);
    assert_eq!(pod.run(&[]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_refuses_aud() {
    let pod = Pod::new().await;
    pod.token.write(&pod.issuer.token(SERVICE_ACCOUNT, "vault", HOUR));
    pod.assert_says("the-trust-refuses-aud", 1, Some("identity_provider")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_provider() {
    let mut pod = Pod::new().await;
    pod.set("AWS_ROLE_ARN", HUB_ROLE);
    pod.assert_says("no-provider", 1, Some("identity_provider")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token() {
    let pod = Pod::new().await;
    pod.token.write(&pod.issuer.token(SERVICE_ACCOUNT, AUDIENCE, Duration::ZERO));
    pod.assert_says("an-expired-token", 1, Some("token_expired")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_by_another_key() {
    let pod = Pod::new().await;
    pod.token.write(&pod.issuer.token_by_another_key(SERVICE_ACCOUNT, AUDIENCE, HOUR));
    pod.assert_says("a-token-by-another-key", 1, Some("token")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_there() {
    let mut pod = Pod::new().await;
    pod.set("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/colector");
    pod.assert_says("a-role-that-is-not-there", 1, Some("role_trust")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_may_not_assume() {
    let pod = Pod::of_a_hub(None).await;
    pod.sts.set_reasons(true);
    pod.cloud.set_permissions(ROLE, None).await;
    pod.assert_says("the-caller-may-not-assume", 1, Some("caller_policy")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_does_not_trust() {
    let mut pod = Pod::of_a_hub(Some("cluster-7")).await;
    pod.sts.set_reasons(true);
    pod.assert_says("the-external-id-is-missing", 1, Some("role_trust")).await;
    pod.sigv4 += ", external_id: cluster-8";
    pod.assert_says("the-external-id-is-wrong", 1, Some("role_trust")).await;
    pod.sts.set_reasons(false);
    pod.assert_says("which-side-is-not-said", 1, Some("caller_policy_or_role_trust")).await;
}

/// Credentials from an agent on the node, which carry session tags on to the roles that are assumed with them.
#[tokio::test(flavor = "multi_thread")]
async fn pod_identity() {
    let mut pod = Pod::of_a_hub(None).await;
    let session = session(&pod).await;
    let agent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = agent.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = agent.accept().await {
            let session = session.clone();
            tokio::spawn(async move { answer_json(&mut stream, &session).await });
        }
    });
    let token = pod.folder.path().join("eks-pod-identity-token");
    std::fs::write(&token, "pod-identity-token-of-the-agent").unwrap();
    pod.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
    pod.unset("AWS_ROLE_ARN");
    pod.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}/v1/credentials"));
    pod.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display().to_string());
    pod.assert_says("pod-identity", 0, None).await;
    pod.cloud.set_trust(HUB_ROLE, Policy::no_trust()).await;
    pod.assert_says("pod-identity-is-not-trusted", 1, Some("caller_policy_or_role_trust")).await;
    // Its own role, which only STS knows it has.
    pod.workspace = WORKSPACE.to_owned();
    let write = policy(&[may_write(&workspace_arn(ACCOUNT, WORKSPACE))]);
    pod.cloud.set_permissions(ROLE, Some(write)).await;
    pod.sigv4 = format!(", role_arn: '{ROLE}'");
    pod.assert_says("pod-identity-has-the-role-already", 0, None).await;

    serving.abort();
    let closed = HeldPort::any().unwrap();
    pod.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/v1/credentials", closed.address()));
    pod.assert_says("pod-identity-without-its-agent", 1, Some("provider")).await;
}

/// Keys of a session of the pod's role, as the agent has them.
async fn session(pod: &Pod) -> String {
    let token = std::fs::read_to_string(pod.token.path()).unwrap();
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=pod-1&RoleArn={}&WebIdentityToken={token}",
        ROLE.replace(':', "%3A").replace('/', "%2F")
    );
    let request = http::Request::post(pod.sts.url())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.into())
        .unwrap();
    let http = Http::new(&HttpClientConfig::default(), HttpOptions::default()).unwrap();
    let answer = Client::new(http).oneshot(request).await.unwrap();
    let answer = answer.into_body().read_to_end(1 << 16).await.unwrap();
    let xml = String::from_utf8(answer.to_vec()).unwrap();
    let field = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{name}: {xml}"));
        rest.split_once('<').unwrap().0.to_owned()
    };
    let [key, secret, token, end] =
        ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"].map(field);
    format!(
        r#"{{"AccessKeyId":"{key}","SecretAccessKey":"{secret}","Token":"{token}","Expiration":"{end}"}}"#
    )
}

async fn answer_json(stream: &mut tokio::net::TcpStream, json: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut request = [0; 4096];
    let length = stream.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
    assert!(request.contains("authorization: pod-identity-token-of-the-agent"), "{request}");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        json.len()
    );
    stream.write_all((head + json).as_bytes()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_may_not_write() {
    let pod = Pod::new().await;
    pod.cloud.set_permissions(ROLE, None).await;
    pod.assert_says("the-role-may-not-write", 1, Some("identity_policy")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workspace_does_not_share() {
    let mut pod = Pod::new().await;
    let arn = workspace_arn(HUB, "ws-hub");
    let others = shared_with("arn:aws:iam::999988887777:root", &arn);
    pod.workspaces.add(HUB, "ws-hub", Some(others)).await;
    pod.workspace = "ws-hub".to_owned();
    pod.cloud.set_permissions(ROLE, Some(policy(&[may_write("*")]))).await;
    pod.assert_says("the-workspace-does-not-share", 1, Some("resource_policy")).await;
    // It does, and the role may not.
    pod.workspaces.set_resource_policy("ws-hub", Some(shared_with(ROLE, &arn)));
    pod.cloud.set_permissions(ROLE, None).await;
    pod.assert_says("it-shares-and-the-role-may-not", 1, Some("identity_policy")).await;
    pod.workspaces.set_reasons(false);
    pod.assert_says("which-policy-is-not-said", 1, Some("identity_or_resource_policy")).await;
    pod.cloud.set_permissions(ROLE, Some(policy(&[may_write(&arn)]))).await;
    assert_eq!(pod.run(&[]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explicit_deny() {
    let pod = Pod::new().await;
    let arn = workspace_arn(ACCOUNT, WORKSPACE);
    pod.cloud.set_permissions(ROLE, Some(policy(&[may_write(&arn), may_never_write(&arn)]))).await;
    pod.assert_says("an-explicit-deny", 1, Some("explicit_deny")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_above_the_roles() {
    let pod = Pod::new().await;
    for (guardrail, name, kind) in [
        (Guardrail::ServiceControlPolicy, "a-service-control-policy", "organization_policy"),
        (Guardrail::ServiceControlPolicyDeny, "a-service-control-policy-that-denies", "organization_policy"),
        (Guardrail::PermissionsBoundary, "a-permissions-boundary", "permissions_boundary"),
        (Guardrail::SessionPolicy, "a-session-policy", "session_policy"),
        (Guardrail::EndpointPolicy, "an-endpoint-policy", "endpoint_policy"),
        (Guardrail::EndpointPolicyDeny, "an-endpoint-policy-that-denies", "endpoint_policy"),
    ] {
        pod.workspaces.set_guardrail(Some(guardrail));
        pod.assert_says(name, 1, Some(kind)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_workspace() {
    let mut pod = Pod::new().await;
    pod.workspaces.add(HUB, "ws-hub", None).await;
    pod.workspace = "ws-hub".to_owned();
    pod.cloud.set_permissions(ROLE, Some(policy(&[may_write("*")]))).await;
    pod.assert_says("another-accounts-workspace", 1, Some("workspace_not_found")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock() {
    let pod = Pod::new().await;
    pod.cloud.set_clock(7_230_000);
    pod.token.write(&pod.issuer.token(SERVICE_ACCOUNT, AUDIENCE, 24 * HOUR));
    pod.assert_says("a-wrong-clock", 0, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys() {
    let mut pod = Pod::new().await;
    let arn = workspace_arn(ACCOUNT, WORKSPACE);
    let keys = pod.cloud.add_user("arn:aws:iam::111122223333:user/writer", policy(&[may_write(&arn)])).await;
    pod.set("AWS_ACCESS_KEY_ID", keys.access_key_id);
    pod.set("AWS_SECRET_ACCESS_KEY", keys.secret_access_key);
    pod.assert_says("a-users-keys", 0, None).await;
    pod.set("AWS_SECRET_ACCESS_KEY", "bm90LXRoZS1yaWdodC1zZWNyZXQtb2YtdGhpcy1r");
    pod.assert_says("a-wrong-secret", 1, Some("signature")).await;
    pod.set("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7UNKNOWN");
    pod.assert_says("an-unknown-key", 1, Some("keys")).await;
}

/// Samples would be refused or wait there; so a page to log in at, got in place of the write, is no leave to write.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_leave_to_write() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let pod = Pod::new().await;
    for (answer, may_write, what) in [
        ("302 Found\r\nlocation: /login", Value::Bool(false), "leads elsewhere"),
        ("303 See Other\r\nlocation: /login", Value::Bool(false), "leads elsewhere"),
        ("405 Method Not Allowed", Value::Bool(false), "the URL of remote write?"),
        ("503 Service Unavailable", Value::Null, "works again"),
        ("408 Request Timeout", Value::Null, "works again"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 16 << 10];
                let length = stream.read(&mut request).await.unwrap();
                let status = if request[..length].starts_with(b"GET /login") { "200 OK" } else { answer };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        });
        let found = pod.ask(&format!("http://{address}")).await;
        assert_eq!(found["may_write"], may_write, "{answer}: {found}");
        assert_eq!(found["failure"]["kind"], "endpoint", "{found}");
        assert!(found["failure"]["what"].as_str().unwrap().contains(what), "{found}");
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_is_not_reached() {
    let mut pod = Pod::new().await;
    pod.workspaces.set_fault(Fault::Down);
    pod.assert_says("the-endpoint-refuses-connections", 1, Some("route")).await;
    pod.workspaces.set_fault(Fault::None);
    let closed = HeldPort::any().unwrap();
    pod.more = format!("  proxy_url: http://{}\n", closed.address());
    pod.assert_says("the-endpoints-proxy-is-not-there", 1, Some("route")).await;
}
