use std::env;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
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

use crate::collection;
use crate::etcd::Etcd;
use crate::users::{Tokens, write, write_kubeconfig, write_service_account};

/// What either program takes to start on a busy machine, and more.
const START_LIMIT: Duration = Duration::from_secs(180);

/// No answer to [`Cluster::call`] takes longer.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// Larger answers are none that is asked for here.
const ANSWER_MAX: usize = 64 << 20;

/// Somebody else may take a port between its choice and the program's start.
const ATTEMPTS: usize = 3;

/// A kube-apiserver with an etcd of its own, both on free ports of one address, that end with this value and with the
/// thread that started them (start it on a thread that lives as long: a test's own, not one of a pool).
pub struct Cluster {
    url: String,
    address: SocketAddr,
    etcd: Etcd,
    tokens: Tokens,
    http: Http,
    idle: Mutex<Vec<Connection>>,
    builder: Builder,
    programs: Programs,
    apiserver: Option<Process>,
    _etcd: Process,
    folder: TempDir,
}

/// How a [`Cluster`] is started.
#[derive(Clone, Debug)]
pub struct Builder {
    programs: Option<PathBuf>,
    issuer: String,
    address: IpAddr,
    network_namespace: Option<String>,
    apiserver_arguments: Vec<String>,
}

#[derive(Clone, Debug)]
struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
}

impl Cluster {
    /// Starts both programs. `None`, said aloud as the skip of `test`, where they are not there: building them takes ten
    /// minutes and more, so that only the full tier (`PROMFERRY_TIER=full`) does.
    ///
    /// # Panics
    /// When they end or are not ready after three minutes, with the end of their log; in the full tier when they are not
    /// there.
    pub async fn start(test: &str) -> Option<Self> {
        Self::builder().start(test).await
    }

    /// As [`start`](Self::start) does it, to be changed.
    pub fn builder() -> Builder {
        Builder {
            programs: None,
            issuer: "https://kubernetes.default.svc".to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            network_namespace: None,
            apiserver_arguments: Vec::new(),
        }
    }

    /// Such as `https://127.0.0.1:20443`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of the certificate that the API server shows: its own authority, in PEM.
    pub fn certificate(&self) -> PathBuf {
        certificate(self.folder.path())
    }

    /// A folder of this cluster's own, for files that end with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process id of the API server while it runs.
    pub fn apiserver_pid(&self) -> Option<u32> {
        self.apiserver.as_ref().map(Process::pid)
    }

    /// The bearer token of one of [`USERS`](crate::USERS).
    ///
    /// # Panics
    /// When nobody has this name.
    pub fn token(&self, user: &str) -> String {
        self.tokens.of(user)
    }

    /// A kubeconfig file of one of [`USERS`](crate::USERS); its namespace is `default`.
    ///
    /// # Panics
    /// When nobody has this name.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{user}.kubeconfig"));
        write_kubeconfig(&file, &self.url, &self.certificate(), &self.token(user));
        file
    }

    /// A folder with `token`, `ca.crt` and `namespace`, as the kubelet mounts it into a pod of this namespace.
    ///
    /// # Panics
    /// When nobody has this name.
    pub fn service_account(&self, user: &str, namespace: &str) -> PathBuf {
        let folder = self.folder.path().join(format!("{user}.{namespace}.serviceaccount"));
        write_service_account(&folder, &self.certificate(), &self.token(user), namespace)
    }

    /// Keys of a `kubernetes_sd_configs` entry, in YAML's flow form, by which `user` reaches the server.
    ///
    /// # Panics
    /// When nobody has this name.
    pub fn sd_config(&self, user: &str) -> String {
        format!(
            "api_server: '{}', tls_config: {{ca_file: '{}'}}, authorization: {{credentials: '{}'}}",
            self.url,
            self.certificate().display(),
            self.token(user)
        )
    }

    /// What the API server answers to the admin. The body of a PATCH is a JSON merge patch. An answer that is no JSON is
    /// given as a string.
    ///
    /// # Panics
    /// When there is no answer within a minute.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.call_as("admin", method, path, body).await
    }

    /// What the API server answers to one of [`USERS`](crate::USERS), as [`call`](Self::call) does.
    ///
    /// # Panics
    /// When there is no answer within a minute, or nobody has this name.
    pub async fn call_as(
        &self,
        user: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let content_type = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        self.send(user, method, path, content_type, body)
            .await
            .unwrap_or_else(|error| panic!("{}{path}: {error}", self.url))
    }

    /// Creates an object in a collection, such as `/api/v1/namespaces/shop/pods`; its `status` is written too, where it
    /// has one. What the server gives out itself (uid, version, times) is left out of what is sent, so that objects may
    /// come from a list. Gives the object as the server made it, without the status.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn create(&self, collection: &str, object: &Value) -> Value {
        let mut object = object.clone();
        let status = object.as_object_mut().and_then(|object| object.remove("status"));
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for given in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
                metadata.remove(given);
            }
        }
        let (code, created) = self.call(Method::POST, collection, Some(&object)).await;
        assert_eq!(code, StatusCode::CREATED, "{collection}: {created}");
        if let Some(status) = status.filter(|status| *status != json!({}))
            && let Some(name) = created["metadata"]["name"].as_str()
        {
            let collection = collection.split('?').next().unwrap_or_default();
            self.patch(&format!("{collection}/{name}/status"), &json!({ "status": status })).await;
        }
        created
    }

    /// Merges a patch (RFC 7396) into the object at this path.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn patch(&self, path: &str, patch: &Value) {
        let (status, answer) = self.call(Method::PATCH, path, Some(patch)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }

    /// Deletes the object at this path, without the grace that a pod on a node has.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn delete(&self, path: &str) {
        let (status, answer) =
            self.call(Method::DELETE, path, Some(&json!({ "gracePeriodSeconds": 0 }))).await;
        assert!(status.is_success(), "{path}: {status}: {answer}");
    }

    /// Creates or changes the objects of a YAML text with one or more documents, by server-side apply; fields that the
    /// API does not know are refused.
    ///
    /// # Panics
    /// When the text is no YAML of objects, or the server refuses one.
    pub async fn apply_yaml(&self, text: &str) {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        for object in objects.iter().filter(|object| !object.is_null()) {
            let name = object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("no name: {object}"));
            let path = format!(
                "{}/{name}?fieldManager=promferry&force=true&fieldValidation=Strict",
                collection(object)
            );
            let body = Bytes::from(object.to_string());
            let (status, answer) = self
                .send("admin", Method::PATCH, &path, "application/apply-patch+yaml", body)
                .await
                .unwrap_or_else(|error| panic!("{}{path}: {error}", self.url));
            assert!(status.is_success(), "{path}: {status}: {answer}");
        }
    }

    /// Ends the API server as a crash would, not the etcd; those who watch see their connections close.
    pub async fn stop(&mut self) {
        self.apiserver = None;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Ends the API server, if it runs, and starts it again on the same port.
    ///
    /// # Panics
    /// When it is not ready after three minutes, with the end of its log.
    pub async fn restart(&mut self) {
        self.stop().await;
        let started = Instant::now();
        loop {
            let mut apiserver =
                self.builder.apiserver(&self.programs, self.folder.path(), self.address, self.etcd);
            match self.until_ready(&mut apiserver).await {
                Ok(()) => {
                    self.apiserver = Some(apiserver);
                    return;
                }
                // Who connects at the wrong moment may have the port for its own end of a connection.
                Err(said) => assert!(started.elapsed() < START_LIMIT, "kube-apiserver is not ready: {said}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Writes objects straight into etcd, which takes a third of a second for a thousand pods, also while the API server
    /// is down. Keys are such as `/registry/pods/shop/web-1`; nodes are in `minions`, services in `services/specs`,
    /// Endpoints in `services/endpoints`, ingresses in `ingress`. The objects need `apiVersion`, `kind`, a `uid` and a
    /// `creationTimestamp`, for nobody checks or completes them.
    ///
    /// # Panics
    /// When etcd refuses them.
    pub async fn etcd_put(&self, objects: &[(String, Value)]) {
        self.etcd.put(objects).await;
    }

    /// Deletes these keys from etcd.
    ///
    /// # Panics
    /// When etcd refuses it.
    pub async fn etcd_delete(&self, keys: &[String]) {
        self.etcd.delete(keys).await;
    }

    /// Has etcd forget all that was before now. Watches go on, for the API server keeps the newest changes itself: only a
    /// restart after it makes it answer 410 to who asks for what it no longer knows.
    ///
    /// # Panics
    /// When etcd refuses it.
    pub async fn compact(&self) {
        self.etcd.compact().await;
    }

    async fn send(
        &self,
        user: &str,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Value), promferry_http_client::Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token(user)))
            .header("content-type", content_type)
            .body(body)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = idle.unwrap_or_else(|| Connection::new(self.http.clone()));
        let exchange = async {
            let response = connection.send(request).await?;
            let status = response.status();
            let body = response.into_body().read_to_end(ANSWER_MAX).await?;
            let text = |_| Value::String(String::from_utf8_lossy(&body).into_owned());
            Ok((status, serde_json::from_slice(&body).unwrap_or_else(text)))
        };
        let answer = tokio::time::timeout(CALL_LIMIT, exchange)
            .await
            .unwrap_or_else(|_| panic!("{}{path}: no answer within {CALL_LIMIT:?}", self.url));
        if answer.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        answer
    }

    /// The end of its log when it ends, or is not ready in time.
    async fn until_ready(&self, apiserver: &mut Process) -> Result<(), String> {
        until(apiserver, &self.folder.path().join("apiserver.log"), async || {
            let answer = self.send("admin", Method::GET, "/readyz", "application/json", Bytes::new()).await;
            answer.is_ok_and(|(status, _)| status == StatusCode::OK)
        })
        .await
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("url", &self.url)
            .field("builder", &self.builder)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// The folder of `etcd` and `kube-apiserver`, instead of the one that `PROMFERRY_PEERS` names, else `.cache/peers` of
    /// the workspace.
    pub fn programs(mut self, folder: &Path) -> Self {
        self.programs = Some(folder.to_owned());
        self
    }

    /// The issuer of service accounts' tokens, which begins with `https://`; nobody has to serve it.
    pub fn issuer(mut self, url: &str) -> Self {
        self.issuer = url.to_owned();
        self
    }

    /// The address that both listen on, instead of 127.0.0.1. The API server's proxies reach pods at addresses that are
    /// not loopback's: a network namespace that has one is where that can be tested.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// A network namespace (`ip netns`) in which both run. Who starts them stays where it is and must reach the address
    /// from there.
    pub fn in_network_namespace(mut self, name: &str) -> Self {
        self.network_namespace = Some(name.to_owned());
        self
    }

    /// One more argument of the API server's, such as `--feature-gates=WatchList=false`.
    pub fn apiserver_argument(mut self, argument: &str) -> Self {
        self.apiserver_arguments.push(argument.to_owned());
        self
    }

    /// Starts both, as [`Cluster::start`] does.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start(self, test: &str) -> Option<Cluster> {
        let started = self.start_if_there().await;
        if started.is_none() {
            let is_full_tier = env::var_os("PROMFERRY_TIER").is_some_and(|tier| tier == "full");
            assert!(!is_full_tier, "{test}: scripts/peers did not provide kube-apiserver and etcd");
            #[expect(clippy::print_stderr, reason = "a skipped test says so where its output is read")]
            {
                eprintln!(
                    "SKIPPED {test}: no kube-apiserver and etcd, run scripts/peers kube-apiserver etcd"
                );
            }
        }
        started
    }

    /// Starts both; `None`, and no word about it, where one of them is not there.
    ///
    /// # Panics
    /// When they end or are not ready after three minutes, with the end of their log.
    pub async fn start_if_there(self) -> Option<Cluster> {
        let folder = self.programs.clone().or_else(|| env::var_os("PROMFERRY_PEERS").map(PathBuf::from));
        let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"));
        let programs = Programs { etcd: folder.join("etcd"), apiserver: folder.join("kube-apiserver") };
        if !programs.etcd.is_file() || !programs.apiserver.is_file() {
            return None;
        }
        let mut said = String::new();
        for _ in 0..ATTEMPTS {
            match self.attempt(&programs).await {
                Ok(cluster) => return Some(cluster),
                Err(why) => said = why,
            }
        }
        panic!("kube-apiserver and etcd do not start: {said}");
    }

    async fn attempt(&self, programs: &Programs) -> Result<Cluster, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (client, peer, address) = (self.free(), self.free(), self.free());
        let mut etcd = self.etcd(programs, folder.path(), client, peer);
        until(&mut etcd, &folder.path().join("etcd.log"), async || {
            http_call::get(client, "/health").await.is_ok()
        })
        .await?;
        let tokens = Tokens::new();
        tokens.write(&folder.path().join("tokens.csv"));
        write(&folder.path().join("service-account.key"), &private_key());
        let mut apiserver = self.apiserver(programs, folder.path(), address, Etcd(client));
        let certificate = certificate(folder.path());
        until(&mut apiserver, &folder.path().join("apiserver.log"), async || certificate.is_file()).await?;
        let mut config = HttpClientConfig::default();
        config.tls_config.ca_file = certificate;
        let http = Http::new(&config, HttpOptions::default())
            .map_err(|error| format!("the API server's certificate: {error}"))?;
        let mut cluster = Cluster {
            url: format!("https://{address}"),
            address,
            etcd: Etcd(client),
            tokens,
            http,
            idle: Mutex::default(),
            builder: self.clone(),
            programs: programs.clone(),
            apiserver: None,
            _etcd: etcd,
            folder,
        };
        cluster.until_ready(&mut apiserver).await?;
        cluster.apiserver = Some(apiserver);
        Ok(cluster)
    }

    fn etcd(&self, programs: &Programs, folder: &Path, client: SocketAddr, peer: SocketAddr) -> Process {
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let arguments = [
            "--name=test".to_owned(),
            format!("--data-dir={}", folder.join("etcd").display()),
            "--unsafe-no-fsync".to_owned(),
            "--max-request-bytes=33554432".to_owned(),
            "--quota-backend-bytes=4294967296".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=test={peer}"),
        ];
        self.spawn(&programs.etcd, arguments.map(OsString::from).to_vec(), &folder.join("etcd.log"))
    }

    fn apiserver(&self, programs: &Programs, folder: &Path, address: SocketAddr, etcd: Etcd) -> Process {
        let shown = |name: &str| folder.join(name).display().to_string();
        let arguments = [
            format!("--etcd-servers=http://{}", etcd.0),
            format!("--bind-address={}", address.ip()),
            format!("--advertise-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            format!("--cert-dir={}", shown("certificates")),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--anonymous-auth=false".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--token-auth-file={}", shown("tokens.csv")),
            format!("--service-account-issuer={}", self.issuer),
            // The file of the private key serves for both: a public key is in it.
            format!("--service-account-key-file={}", shown("service-account.key")),
            format!("--service-account-signing-key-file={}", shown("service-account.key")),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--profiling=false".to_owned(),
        ];
        let arguments = arguments.iter().chain(&self.apiserver_arguments).map(OsString::from).collect();
        self.spawn(&programs.apiserver, arguments, &folder.join("apiserver.log"))
    }

    fn spawn(&self, program: &Path, arguments: Vec<OsString>, log: &Path) -> Process {
        let started = match &self.network_namespace {
            None => Process::start(program, arguments, log),
            Some(name) => {
                let mut outer: Vec<OsString> = ["netns", "exec"].map(OsString::from).to_vec();
                outer.extend([OsString::from(name), program.into()]);
                outer.extend(arguments);
                Process::start(Path::new("ip"), outer, log)
            }
        };
        started.unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
    }

    fn free(&self) -> SocketAddr {
        let port = free_address().expect("loopback has a free port").port();
        SocketAddr::new(self.address, port)
    }
}

/// The end of its log when the program ends, or takes too long.
async fn until(process: &mut Process, log: &Path, met: impl AsyncFn() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !met().await {
        if !process.is_running() || start.elapsed() > START_LIMIT {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            let end: Vec<&str> = said.lines().rev().take(10).collect();
            return Err(format!("it says (last line first):\n{}", end.join("\n")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Where the server keeps the certificate that it makes itself.
fn certificate(folder: &Path) -> PathBuf {
    folder.join("certificates/apiserver.crt")
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
