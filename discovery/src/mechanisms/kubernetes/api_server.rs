//! How the API server is reached: `api_server` with its `http_config`, by a kubeconfig, or as a pod of the cluster does.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use promferry_http_client::{Http, HttpClientConfig, HttpOptions};

use super::config::KubernetesSdConfig;
use super::kubeconfig;
use crate::Error;
use crate::mechanisms::url::without_password;

/// How long events gather before they are read. Nobody sees one before the debounce is over, and five that are read at
/// once cost little more than one.
const GATHER_EVENTS: Duration = Duration::from_millis(100);

/// What the surroundings, not the configuration, say about Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KubernetesOptions {
    /// The API server of the cluster in which this process runs: `KUBERNETES_SERVICE_HOST` of the process by default.
    pub service_host: Option<String>,
    /// Its port: `KUBERNETES_SERVICE_PORT` of the process by default.
    pub service_port: Option<String>,
    /// The folder of the pod's service account, with `token`, `ca.crt` and `namespace`;
    /// `/var/run/secrets/kubernetes.io/serviceaccount` by default.
    pub service_account: PathBuf,
    /// Objects on a page of a list at most. 500 by default, as `kubectl` asks for; fewer if they are long, so that a page
    /// has about a MiB. Lists are streamed where the server can, then there are no pages.
    pub page_items: u32,
    /// The time in which an answer has to begin, a page has to be there, and a streamed list has to go on. A minute by
    /// default.
    pub answer_limit: Duration,
    /// The pause after a first failure, twice that after each further one, up to 30 s. 800 ms by default, as in
    /// client-go. Up to as much again is added by chance, so that collectors do not return all at once.
    pub retry_pause: Duration,
    /// The time without a word after which a watch is begun anew. 5 minutes by default: a server that has nothing to
    /// tell says so about once a minute.
    pub watch_silence: Duration,
}

impl Default for KubernetesOptions {
    fn default() -> Self {
        Self {
            service_host: env::var("KUBERNETES_SERVICE_HOST").ok(),
            service_port: env::var("KUBERNETES_SERVICE_PORT").ok(),
            service_account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
            page_items: 500,
            answer_limit: Duration::from_secs(60),
            retry_pause: Duration::from_millis(800),
            watch_silence: Duration::from_secs(300),
        }
    }
}

/// An API server that can be asked.
#[derive(Debug, Clone)]
pub(super) struct ApiServer {
    /// Paths are appended to it.
    pub(super) url: String,
    /// The same for a reader.
    pub(super) shown_url: String,
    pub(super) http: Http,
}

impl ApiServer {
    pub(super) fn new(url: String, config: &HttpClientConfig, http: &HttpOptions) -> Result<Self, Error> {
        // A watch takes a connection of HTTP/1.1 to itself, and namespaces may be many.
        let options = HttpOptions { http2: true, gather_reads: GATHER_EVENTS, ..http.clone() };
        let http = Http::new(config, options).map_err(|error| fail(error.to_string()))?;
        Ok(Self { shown_url: without_password(&url), url, http })
    }
}

/// The API server's URL and how it is reached, as it is said now.
pub(super) fn reached(
    config: &KubernetesSdConfig,
    options: &KubernetesOptions,
) -> Result<(String, HttpClientConfig), Error> {
    if !config.kubeconfig_file.as_os_str().is_empty() {
        kubeconfig::read(&config.kubeconfig_file)
    } else if !config.api_server.is_empty() {
        config.api_server_url().map(|url| (url, config.http_config.clone()))
    } else {
        in_cluster(options)
    }
    .map_err(fail)
}

fn fail(reason: String) -> Error {
    Error::Construct { mechanism: "kubernetes", reason }
}

/// As client-go's `rest.InClusterConfig`. The token is read again when it changes: it lives for an hour.
fn in_cluster(options: &KubernetesOptions) -> Result<(String, HttpClientConfig), String> {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let (Some(host), Some(port)) = (given(&options.service_host), given(&options.service_port)) else {
        return Err(
            "this process does not run in a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT \
                    are not set), give api_server"
                .to_owned(),
        );
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let token = options.service_account.join("token");
    if let Err(error) = std::fs::metadata(&token) {
        return Err(format!(
            "there is no token of a service account, is automountServiceAccountToken off? {}: {error}",
            token.display()
        ));
    }
    let mut config = HttpClientConfig::default();
    config.bearer_token_file = token;
    config.tls_config.ca_file = options.service_account.join("ca.crt");
    Ok((format!("https://{host}:{port}"), config))
}

/// The namespace of the pod in which this process runs.
pub(super) fn own_namespace(options: &KubernetesOptions) -> Result<String, Error> {
    let path = options.service_account.join("namespace");
    let read = std::fs::read_to_string(&path);
    let namespace = read
        .map_err(|error| fail(format!("cannot find out the own namespace: {}: {error}", path.display())))?;
    match namespace.trim() {
        "" => Err(fail(format!("cannot find out the own namespace: {} is empty", path.display()))),
        namespace => Ok(namespace.to_owned()),
    }
}
