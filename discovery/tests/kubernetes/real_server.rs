//! A kube-apiserver with its etcd, as `scripts/peers` builds them. There is no controller and no kubelet: what they
//! would write, the tests write.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use promferry_http_client::{Connection, Http, HttpClientConfig, HttpOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the server takes to start on a busy machine, and more.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The token of a service account that may list and watch everything, of one that may nothing, and of the owner.
pub(crate) const SCRAPER: &str = "scraper-token";
pub(crate) const NOBODY: &str = "nobody-token";
const ADMIN: &str = "admin-token";

pub(crate) struct RealServer {
    pub(crate) address: SocketAddr,
    folder: TempDir,
    programs: PathBuf,
    etcd_url: String,
    apiserver: Option<Process>,
    _etcd: Process,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl RealServer {
    /// `None`, and a word about it, where the programs are not there.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let programs = std::env::var_os("PROMFERRY_PEERS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"), PathBuf::from);
        if !programs.join("etcd").is_file() || !programs.join("kube-apiserver").is_file() {
            // Building the two takes ten minutes and more: only the full tier does.
            let is_full_tier = std::env::var_os("PROMFERRY_TIER").is_some_and(|tier| tier == "full");
            assert!(!is_full_tier, "scripts/peers did not provide kube-apiserver and etcd");
            #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
            {
                eprintln!(
                    "SKIPPED {test}: no kube-apiserver and etcd, run scripts/peers kube-apiserver etcd"
                );
            }
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (client, peer) = (free_address(), free_address());
        let etcd_url = format!("http://{client}");
        let etcd = start(
            &programs.join("etcd"),
            &[
                "--name=test".to_owned(),
                format!("--data-dir={}", folder.path().join("etcd").display()),
                "--unsafe-no-fsync".to_owned(),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster=test=http://{peer}"),
            ],
            &folder.path().join("etcd.log"),
        );
        fs::write(folder.path().join("service-account.key"), private_key()).unwrap();
        let tokens = format!(
            "{ADMIN},admin,1,\"system:masters\"\n\
             {SCRAPER},system:serviceaccount:monitoring:scraper,2,\"system:serviceaccounts,system:authenticated\"\n\
             {NOBODY},nobody,3,\"system:authenticated\"\n"
        );
        fs::write(folder.path().join("tokens.csv"), tokens).unwrap();
        let address = free_address();
        let mut server = Self { address, folder, programs, etcd_url, apiserver: None, _etcd: etcd };
        server.start_apiserver().await;
        Some(server)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificates/apiserver.crt")
    }

    /// Ends the API server, not the etcd.
    pub(crate) fn stop_apiserver(&mut self) {
        self.apiserver = None;
    }

    pub(crate) async fn start_apiserver(&mut self) {
        let shown = |name: &str| self.folder.path().join(name).display().to_string();
        let log = self.folder.path().join("apiserver.log");
        let apiserver = start(
            &self.programs.join("kube-apiserver"),
            &[
                format!("--etcd-servers={}", self.etcd_url),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                format!("--secure-port={}", self.address.port()),
                format!("--cert-dir={}", shown("certificates")),
                "--endpoint-reconciler-type=none".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                "--anonymous-auth=false".to_owned(),
                format!("--token-auth-file={}", shown("tokens.csv")),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                // A public key is in the file of the private one.
                format!("--service-account-key-file={}", shown("service-account.key")),
                format!("--service-account-signing-key-file={}", shown("service-account.key")),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                "--profiling=false".to_owned(),
            ],
            &log,
        );
        self.apiserver = Some(apiserver);
        let started = Instant::now();
        loop {
            let is_ready = match self.certificate().is_file() {
                true => {
                    self.call(Method::GET, "/readyz", None).await.is_some_and(|(status, _)| status == 200)
                }
                false => false,
            };
            if is_ready {
                return;
            }
            if started.elapsed() > START_LIMIT {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!(
                    "kube-apiserver is not ready: {}",
                    said.lines().rev().take(10).collect::<Vec<_>>().join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Writes an object as it was recorded, with its status.
    pub(crate) async fn create(&self, collection: &str, recorded: &Value) {
        let mut object = recorded.clone();
        let metadata = object["metadata"].as_object_mut().unwrap();
        let kept = ["name", "namespace", "labels", "annotations", "ownerReferences"];
        metadata.retain(|name, _| kept.contains(&name.as_str()));
        let (status, answer) = self.call(Method::POST, collection, Some(&object)).await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{collection}: {answer}");
        if let Some(status) = recorded.get("status").filter(|status| **status != json!({})) {
            let name = recorded["metadata"]["name"].as_str().unwrap();
            self.patch(&format!("{collection}/{name}/status"), &json!({ "status": status })).await;
        }
    }

    pub(crate) async fn patch(&self, path: &str, patch: &Value) {
        let (status, answer) = self.call(Method::PATCH, path, Some(patch)).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }

    pub(crate) async fn delete(&self, path: &str) {
        let now = json!({ "gracePeriodSeconds": 0 });
        let (status, answer) = self.call(Method::DELETE, path, Some(&now)).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Option<(StatusCode, Value)> {
        let mut config = HttpClientConfig::default();
        config.tls_config.ca_file = self.certificate();
        let http = Http::new(&config, HttpOptions::default()).ok()?;
        let is_patch = method == Method::PATCH;
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address))
            .header("authorization", format!("Bearer {ADMIN}"))
            .header(
                "content-type",
                if is_patch { "application/merge-patch+json" } else { "application/json" },
            )
            .body(body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string())))
            .unwrap();
        let response = Connection::new(http).send(request).await.ok()?;
        let status = response.status();
        let body = response.into_body().read_to_end(1 << 20).await.ok()?;
        Some((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// Where util-linux' setpriv is there, the kernel kills the program when its parent is gone.
fn start(program: &Path, arguments: &[String], log: &Path) -> Process {
    let log = fs::File::options().append(true).create(true).open(log).unwrap();
    let setpriv = Path::new("/usr/bin/setpriv");
    let mut command = match setpriv.is_file() {
        true => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        false => Command::new(program),
    };
    let command = command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Process(command.spawn().unwrap())
}

/// One of those that the system hands out to nobody.
fn free_address() -> SocketAddr {
    (0..100)
        .find_map(|attempt| {
            let port = 20_000 + (RandomState::new().hash_one(attempt) % 12_000) as u16;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?.local_addr().ok()
        })
        .unwrap()
}

/// An RSA key in PEM (RFC 7468).
fn private_key() -> String {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'static> = key.as_der().unwrap();
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
