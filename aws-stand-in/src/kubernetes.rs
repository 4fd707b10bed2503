//! A real Kubernetes API server as the maker of identity tokens.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use promferry_bench::http_call;
use promferry_bench::process::{Process, free_address};
use promferry_http_client::{Connection, Http, HttpClientConfig, HttpOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Issuer, random};

/// What an API server takes to start on a busy machine, and more.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Larger answers are none that is asked for here.
const ANSWER_MAX: usize = 1 << 20;

/// A `kube-apiserver` with an `etcd` of its own, both on free ports of loopback, that end with this value. There is no
/// kubelet and no controller: it makes service accounts and answers TokenRequest, as for EKS' projected tokens.
pub struct KubernetesApi {
    issuer_url: String,
    address: SocketAddr,
    url: String,
    token: String,
    http: Http,
    _apiserver: Process,
    _etcd: Process,
    folder: TempDir,
}

impl KubernetesApi {
    /// Starts both programs from a folder. `None` where one of them is not there. Tokens will be of the issuer
    /// `issuer_url`, which begins with `https://`; nobody has to serve that URL.
    ///
    /// # Panics
    /// When they end or are not ready after two minutes, with the end of their log.
    pub async fn start(programs: &Path, issuer_url: &str) -> Option<Self> {
        let (etcd, apiserver) = (programs.join("etcd"), programs.join("kube-apiserver"));
        if !etcd.is_file() || !apiserver.is_file() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let shown = |name: &str| path(name).display().to_string();
        let (client, peer, api) = (free(), free(), free());

        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let arguments = [
            "--name=stand-in".to_owned(),
            format!("--data-dir={}", shown("etcd")),
            "--unsafe-no-fsync".to_owned(),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=stand-in={peer_url}"),
        ];
        let mut etcd = Process::start(&etcd, arguments, &path("etcd.log")).expect("etcd starts");
        until("etcd", &mut etcd, &path("etcd.log"), async || http_call::get(client, "/health").await.is_ok())
            .await;

        let token = random::hex::<16>();
        write(&path("service-account.key"), &private_key());
        write(&path("tokens.csv"), &format!("{token},admin,1,\"system:masters\"\n"));
        let key_file = shown("service-account.key");
        let arguments = [
            format!("--etcd-servers={client_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", api.port()),
            format!("--cert-dir={}", shown("certificates")),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--anonymous-auth=false".to_owned(),
            format!("--token-auth-file={}", shown("tokens.csv")),
            format!("--service-account-issuer={issuer_url}"),
            // The file of the private key serves for both: a public key is in it.
            format!("--service-account-key-file={key_file}"),
            format!("--service-account-signing-key-file={key_file}"),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--profiling=false".to_owned(),
        ];
        let log = path("apiserver.log");
        let mut apiserver = Process::start(&apiserver, arguments, &log).expect("kube-apiserver starts");
        let certificate = certificate(&folder);
        until("kube-apiserver", &mut apiserver, &log, async || certificate.is_file()).await;
        let mut config = HttpClientConfig::default();
        config.tls_config.ca_file = certificate;
        let http = Http::new(&config, HttpOptions::default()).expect("the API server's certificate");
        let url = format!("https://{api}");
        until("kube-apiserver", &mut apiserver, &log, async || {
            let ready = call(&http, &token, Method::GET, &format!("{url}/readyz"), None).await;
            ready.is_ok_and(|(status, _)| status == StatusCode::OK)
        })
        .await;
        Some(Self {
            issuer_url: issuer_url.to_owned(),
            address: api,
            url,
            token,
            http,
            _apiserver: apiserver,
            _etcd: etcd,
            folder,
        })
    }

    /// Makes a service account, and its namespace where it is missing.
    pub async fn add_service_account(&self, namespace: &str, name: &str) {
        let metadata = json!({ "metadata": { "name": namespace } });
        let (status, answer) = self.post("/api/v1/namespaces", &metadata).await;
        assert!(status == StatusCode::CREATED || status == StatusCode::CONFLICT, "{status}: {answer}");
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let (status, answer) = self.post(&path, &json!({ "metadata": { "name": name } })).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }

    /// A token by TokenRequest, as the kubelet asks for one. The server gives none for less than 600 s.
    pub async fn token(&self, namespace: &str, name: &str, audience: &str, lifetime: Duration) -> String {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "audiences": [audience], "expirationSeconds": lifetime.as_secs() },
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let (status, answer) = self.post(&path, &request).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token.expect("a token in the answer to TokenRequest").to_owned()
    }

    /// This server's issuer with its published keys (`/openid/v1/jwks`), to be made a provider of accounts.
    pub async fn issuer(&self) -> Issuer {
        let url = format!("{}/openid/v1/jwks", self.url);
        let (status, keys) = call(&self.http, &self.token, Method::GET, &url, None)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(status, StatusCode::OK, "{keys}");
        Issuer::of_keys(&self.issuer_url, keys).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that it shows, in PEM: the kubelet would mount it as `ca.crt`.
    ///
    /// # Panics
    /// When its file is gone.
    pub fn certificate(&self) -> String {
        std::fs::read_to_string(certificate(&self.folder)).expect("the API server's certificate")
    }

    /// Creates an object in a collection, such as `/api/v1/namespaces/shop/pods`; its status is written too, where it has
    /// one.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn create(&self, collection: &str, object: &Value) {
        let (status, answer) = self.post(collection, object).await;
        assert_eq!(status, StatusCode::CREATED, "{collection}: {answer}");
        let (Some(of_object), Some(name)) = (object.get("status"), object["metadata"]["name"].as_str())
        else {
            return;
        };
        let path = format!("{collection}/{name}/status");
        let (status, answer) = self.send(Method::PATCH, &path, &json!({ "status": of_object })).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.url);
        call(&self.http, &self.token, method, &url, Some(body))
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, body).await
    }
}

impl fmt::Debug for KubernetesApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesApi")
            .field("url", &self.url)
            .field("issuer_url", &self.issuer_url)
            .finish_non_exhaustive()
    }
}

async fn call(
    http: &Http,
    token: &str,
    method: Method,
    url: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), promferry_http_client::Error> {
    let content_type = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", content_type)
        .body(body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string())))
        .expect("a request of plain parts");
    let response = Connection::new(http.clone()).send(request).await?;
    let status = response.status();
    let body = response.into_body().read_to_end(ANSWER_MAX).await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

async fn until(name: &str, process: &mut Process, log: &Path, met: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !met().await {
        if !process.is_running() || start.elapsed() > START_LIMIT {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            let end: Vec<&str> = said.lines().rev().take(10).collect();
            panic!("{name} is not ready, it says (last line first):\n{}", end.join("\n"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Where the server keeps the certificate that it makes itself.
fn certificate(folder: &TempDir) -> PathBuf {
    folder.path().join("certificates/apiserver.crt")
}

fn free() -> SocketAddr {
    free_address().expect("loopback has a free port")
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// An RSA key in PEM (RFC 7468).
fn private_key() -> String {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key can be made");
    let der: Pkcs8V1Der<'static> = key.as_der().expect("an RSA key has a PKCS#8 form");
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
