//! A cluster as a pod sees it: its API server behind TLS, and what the kubelet mounts. Objects are those that the API
//! server would list; there is no controller and no kubelet.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use promferry_bench::farm::Farm;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::kubernetes::ApiServer;
use crate::published::Published;

/// Where the program looks for what the kubelet mounts.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The token of the pod's service account.
const TOKEN: &str = "token-of-the-service-account";

pub(crate) struct Cluster {
    api: ApiServer,
    address: SocketAddr,
    certificate: String,
    _front: JoinSet<()>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let api = ApiServer::start().await;
        let behind: SocketAddr = api.url.strip_prefix("http://").unwrap().parse().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut front = JoinSet::new();
        front.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut behind = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
                });
            }
        });
        Self { api, address, certificate: certificate.pem(), _front: front }
    }

    /// A service, its endpoints, and a pod behind each, over these targets.
    pub(crate) fn add_service(&self, name: &str, annotations: &Value, targets: &Farm) {
        let labels = json!({ "app": name });
        self.put("services", json!({
            "metadata": { "name": name, "namespace": "shop", "labels": labels, "annotations": annotations },
            "spec": { "type": "ClusterIP", "clusterIP": "10.96.0.10", "ports": [{ "name": "metrics", "port": 80 }] },
        }));
        let subsets: Vec<_> = targets
            .addresses()
            .iter()
            .enumerate()
            .map(|(number, address)| {
                let pod = format!("{name}-{number}");
                self.add_pod(&pod, name, &json!({}), *address);
                json!({
                    "addresses": [{
                        "ip": address.ip().to_string(),
                        "nodeName": "fargate-ip-10-0-1-7",
                        "targetRef": { "kind": "Pod", "namespace": "shop", "name": pod },
                    }],
                    "ports": [{ "name": "metrics", "port": address.port(), "protocol": "TCP" }],
                })
            })
            .collect();
        self.put(
            "endpoints",
            json!({
                "metadata": { "name": name, "namespace": "shop", "labels": labels },
                "subsets": subsets,
            }),
        );
    }

    pub(crate) fn add_pod(&self, name: &str, app: &str, annotations: &Value, target: SocketAddr) {
        self.put("pods", pod(name, app, annotations, target));
    }

    pub(crate) fn add_node(&self, name: &str) {
        self.put(
            "nodes",
            json!({
                "metadata": { "name": name, "labels": { "eks.amazonaws.com/compute-type": "fargate" } },
                "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.1.7" }],
                            "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } } },
            }),
        );
    }

    fn put(&self, plural: &str, object: Value) {
        self.api.put(plural, object);
    }

    /// Whether each request that came had the service account's token.
    pub(crate) fn was_asked_by_the_service_account(&self) -> bool {
        let state = self.api.state();
        let is_its =
            |request: &String| request.to_lowercase().contains(&format!("authorization: bearer {TOKEN}\r\n"));
        !state.requests.is_empty() && state.requests.iter().all(is_its)
    }

    /// Starts a published command line in a pod of this cluster. `None` where nobody may make a mount namespace.
    pub(crate) fn start_pod(
        &self,
        folder: &Path,
        words: &[String],
        variables: &[(&str, String)],
    ) -> Option<Published> {
        start_pod(folder, words, variables, self.address, TOKEN, self.certificate.as_bytes())
    }
}

/// A running pod with one container.
pub(crate) fn pod(name: &str, app: &str, annotations: &Value, target: SocketAddr) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": { "app": app }, "annotations": annotations,
        },
        "spec": {
            "nodeName": "fargate-ip-10-0-1-7",
            "containers": [{
                "name": app, "image": "registry.example/app:1",
                "ports": [{ "name": "metrics", "containerPort": target.port(), "protocol": "TCP" }],
            }],
        },
        "status": {
            "phase": "Running", "podIP": target.ip().to_string(), "hostIP": "10.0.1.7",
            "podIPs": [{ "ip": target.ip().to_string() }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// The annotations by which a pod asks to be scraped.
pub(crate) fn scraped_at(target: SocketAddr) -> Value {
    json!({ "prometheus.io/scrape": "true", "prometheus.io/port": target.port().to_string() })
}

/// Starts a published command line as the kubelet does: with the service account's files where they always are, which
/// takes a mount namespace, and the variables that tell where the API server is.
pub(crate) fn start_pod(
    folder: &Path,
    words: &[String],
    variables: &[(&str, String)],
    api_server: SocketAddr,
    token: &str,
    certificate: &[u8],
) -> Option<Published> {
    let mount = format!("mount -t tmpfs none /var/run/ && mkdir -p {SERVICE_ACCOUNT}");
    let mut trial = Command::new("unshare");
    let permitted = trial.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount]).status();
    if !permitted.is_ok_and(|status| status.success()) {
        #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("SKIPPED {}: nobody here may mount anything in a namespace of its own", words[0]);
        }
        return None;
    }
    let account = folder.join("service-account");
    std::fs::create_dir_all(&account).unwrap();
    std::fs::write(account.join("token"), token).unwrap();
    std::fs::write(account.join("ca.crt"), certificate).unwrap();
    std::fs::write(account.join("namespace"), "monitoring").unwrap();
    // Nothing of this machine's own identity.
    let mut of_pod = vec![
        ("KUBERNETES_SERVICE_HOST", api_server.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", api_server.port().to_string()),
        ("HOME", "/nonexistent".to_owned()),
    ];
    of_pod.extend(variables.iter().cloned());
    let script = format!("{mount}\ncp {}/* {SERVICE_ACCOUNT}", account.display());
    Some(Published::start_after(folder, words, &of_pod, Some(&script)))
}
