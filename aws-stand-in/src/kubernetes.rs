//! A real Kubernetes API server as the maker of identity tokens.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use promferry_cluster::Cluster;
use serde_json::{Value, json};

use crate::Issuer;

/// A `kube-apiserver` with an `etcd` of its own, both on free ports of loopback, that end with this value. There is no
/// kubelet and no controller: it makes service accounts and answers TokenRequest, as for EKS' projected tokens.
pub struct KubernetesApi {
    issuer_url: String,
    cluster: Cluster,
}

impl KubernetesApi {
    /// Starts both programs from a folder. `None` where one of them is not there. Tokens will be of the issuer
    /// `issuer_url`, which begins with `https://`; nobody has to serve that URL.
    ///
    /// # Panics
    /// When they end or are not ready after three minutes, with the end of their log.
    pub async fn start(programs: &Path, issuer_url: &str) -> Option<Self> {
        let cluster = Cluster::builder().programs(programs).issuer(issuer_url).start_if_there().await?;
        Some(Self { issuer_url: issuer_url.to_owned(), cluster })
    }

    /// Makes a service account, and its namespace where it is missing.
    pub async fn add_service_account(&self, namespace: &str, name: &str) {
        let metadata = json!({ "metadata": { "name": namespace } });
        let (status, answer) = self.cluster.call(Method::POST, "/api/v1/namespaces", Some(&metadata)).await;
        assert!(status == StatusCode::CREATED || status == StatusCode::CONFLICT, "{status}: {answer}");
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.cluster.create(&path, &json!({ "metadata": { "name": name } })).await;
    }

    /// A token by TokenRequest, as the kubelet asks for one. The server gives none for less than 600 s.
    pub async fn token(&self, namespace: &str, name: &str, audience: &str, lifetime: Duration) -> String {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "audiences": [audience], "expirationSeconds": lifetime.as_secs() },
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let (status, answer) = self.cluster.call(Method::POST, &path, Some(&request)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token.expect("a token in the answer to TokenRequest").to_owned()
    }

    /// This server's issuer with its published keys (`/openid/v1/jwks`), to be made a provider of accounts.
    pub async fn issuer(&self) -> Issuer {
        let (status, keys) = self.cluster.call(Method::GET, "/openid/v1/jwks", None).await;
        assert_eq!(status, StatusCode::OK, "{keys}");
        Issuer::of_keys(&self.issuer_url, keys).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.cluster.address()
    }

    /// The certificate that it shows, in PEM: the kubelet would mount it as `ca.crt`.
    ///
    /// # Panics
    /// When its file is gone.
    pub fn certificate(&self) -> String {
        std::fs::read_to_string(self.cluster.certificate()).expect("the API server's certificate")
    }

    /// Creates an object in a collection, such as `/api/v1/namespaces/shop/pods`; its status is written too, where it has
    /// one.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn create(&self, collection: &str, object: &Value) {
        self.cluster.create(collection, object).await;
    }
}

impl fmt::Debug for KubernetesApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesApi")
            .field("url", &self.cluster.url())
            .field("issuer_url", &self.issuer_url)
            .finish_non_exhaustive()
    }
}
