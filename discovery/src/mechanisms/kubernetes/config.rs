use std::fmt;
use std::path::{Path, PathBuf};

use promferry_http_client::{HttpClientConfig, Secret};
use serde::{Deserialize, Deserializer};
use smol_str::SmolStr;

use super::selector;
use crate::config::{ConfigError, null_is_default};
use crate::mechanisms::http_config::with_http_config;
use crate::mechanisms::url::without_password;

/// One of the `kubernetes_sd_configs`: which objects of a cluster are targets, and how its API server is reached.
///
/// Without `api_server` and `kubeconfig_file` it is the server of the cluster in which this process runs, asked with
/// the pod's service account. Keys, defaults and rules are those of Prometheus 3.16
/// (`discovery/kubernetes/kubernetes.go`).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KubernetesSdConfig {
    /// The API server's URL, or its `host:port`, which means `http`. Empty for the cluster that this process runs in.
    /// Secret because it may hold a password.
    pub api_server: Secret,
    /// What the targets are.
    pub role: KubernetesRole,
    /// A kubeconfig to reach the API server with; empty for none. Its `current-context` counts. One that gets its
    /// credentials from a program (`exec`) cannot be started.
    pub kubeconfig_file: PathBuf,
    /// Where namespaced objects are looked for: everywhere, unless something is said.
    pub namespaces: KubernetesNamespaces,
    /// Which objects the API server is asked for; at most one selector for a kind of objects.
    pub selectors: Vec<KubernetesSelector>,
    /// What else becomes labels of the targets.
    pub attach_metadata: KubernetesMetadata,
    /// How `api_server` is reached: Prometheus inlines these keys.
    pub http_config: HttpClientConfig,
}

/// The kind of objects that become targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesRole {
    /// A target for each node: its kubelet.
    Node,
    /// A target for each port of each container, one without a port for a container that names none.
    Pod,
    /// A target for each port of each service.
    Service,
    /// A target for each address and port of `Endpoints`, and for the other ports of the pods behind them.
    Endpoints,
    /// As `endpoints`, of `EndpointSlice` objects.
    EndpointSlice,
    /// A target for each path of each ingress.
    Ingress,
}

/// `namespaces`: nothing said is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesNamespaces {
    /// The namespace of the pod in which this process runs, in addition to `names`.
    #[serde(deserialize_with = "null_is_default")]
    pub own_namespace: bool,
    /// Namespaces by name.
    #[serde(deserialize_with = "null_is_default")]
    pub names: Vec<SmolStr>,
}

/// One of the `selectors`, which the API server applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSelector {
    /// The kind of objects that it selects.
    pub role: Option<KubernetesRole>,
    /// A label selector, such as `app=web,tier in (front, back)`.
    #[serde(deserialize_with = "null_is_default")]
    pub label: String,
    /// A field selector, such as `status.phase=Running`.
    #[serde(deserialize_with = "null_is_default")]
    pub field: String,
}

/// `attach_metadata`: labels of objects that targets belong to. Each needs the right to list and watch those objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesMetadata {
    /// Labels and annotations of the node, for `pod`, `endpoints` and `endpointslice`.
    #[serde(deserialize_with = "null_is_default")]
    pub node: bool,
    /// Labels and annotations of the namespace, for every role but `node`.
    #[serde(deserialize_with = "null_is_default")]
    pub namespace: bool,
    /// The name of the deployment that a pod belongs to, found through its replica set.
    #[serde(deserialize_with = "null_is_default")]
    pub deployment: bool,
    /// The name of the job that a pod belongs to.
    #[serde(deserialize_with = "null_is_default")]
    pub job: bool,
    /// The name of the cron job that a pod belongs to, found through its job.
    #[serde(deserialize_with = "null_is_default")]
    pub cronjob: bool,
}

impl KubernetesSdConfig {
    /// The keys of this block itself; those of [`HttpClientConfig`] stand beside them.
    pub const KEYS: &'static [&'static str] =
        &["api_server", "role", "kubeconfig_file", "namespaces", "selectors", "attach_metadata"];

    /// Everything of this role in the cluster that this process runs in.
    pub fn new(role: KubernetesRole) -> Self {
        Self {
            api_server: Secret::default(),
            role,
            kubeconfig_file: PathBuf::new(),
            namespaces: KubernetesNamespaces::default(),
            selectors: Vec::new(),
            attach_metadata: KubernetesMetadata::default(),
            http_config: HttpClientConfig::default(),
        }
    }

    /// # Errors
    /// A broken rule of `http_config`, keys that exclude each other, or a selector that is malformed or of no use for
    /// the role.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.http_config.validate()?;
        let fail = |path: &[&str], message: &str| Err(ConfigError::new(path, message));
        let has_server = !self.api_server.is_empty();
        let has_kubeconfig = !self.kubeconfig_file.as_os_str().is_empty();
        let is_http_default = self.http_config == HttpClientConfig::default();
        if has_server && has_kubeconfig {
            return fail(&["kubeconfig_file"], "cannot use kubeconfig_file and api_server simultaneously");
        }
        if has_kubeconfig && !is_http_default {
            let message = "cannot use a custom HTTP client configuration together with kubeconfig_file";
            return fail(&["kubeconfig_file"], message);
        }
        if !has_server && !is_http_default {
            let message =
                "to use a custom HTTP client configuration please provide the api_server URL explicitly";
            return fail(&["api_server"], message);
        }
        if self.namespaces.own_namespace && (has_server || has_kubeconfig) {
            let other = if has_server { "api_server" } else { "kubeconfig_file" };
            let message = format!(
                "cannot use {other} and namespaces.own_namespace simultaneously: the own namespace is that of a pod"
            );
            return Err(ConfigError::new(&["namespaces", "own_namespace"], message));
        }
        if has_server {
            self.api_server_url().map_err(|message| ConfigError::new(&["api_server"], message))?;
        }
        for (index, selector) in self.selectors.iter().enumerate() {
            let within = |error: ConfigError| error.within(&index.to_string()).within("selectors");
            self.validate_selector(selector, &self.selectors[..index]).map_err(within)?;
        }
        Ok(())
    }

    fn validate_selector(
        &self,
        selector: &KubernetesSelector,
        before: &[KubernetesSelector],
    ) -> Result<(), ConfigError> {
        let allowed = self.role.selectable();
        let Some(role) = selector.role.filter(|role| allowed.contains(role)) else {
            let allowed: Vec<_> = allowed.iter().map(KubernetesRole::to_string).collect();
            let message = format!("the role {} supports only selectors of {}", self.role, allowed.join(", "));
            return Err(ConfigError::new(&["role"], message));
        };
        if before.iter().any(|other| other.role == Some(role)) {
            return Err(ConfigError::new(&["role"], format!("there are two selectors of the role {role}")));
        }
        selector::parse_field(&selector.field).map_err(|message| ConfigError::new(&["field"], message))?;
        selector::parse_label(&selector.label).map_err(|message| ConfigError::new(&["label"], message))
    }

    /// `api_server` as a URL to append paths to. As in client-go, a host alone is reached by `http`.
    pub(super) fn api_server_url(&self) -> Result<String, String> {
        let given = self.api_server.expose();
        let url = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
        let parsed: http::Uri = url.parse().map_err(|_| "not a URL".to_owned())?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err("the URL's scheme must be http or https".to_owned());
        }
        if parsed.host().is_none_or(str::is_empty) {
            return Err("the URL has no host".to_owned());
        }
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// What tells it from others, for a reader.
    pub(crate) fn subject(&self) -> String {
        let mut subject = self.role.to_string();
        if self.namespaces.own_namespace || !self.namespaces.names.is_empty() {
            let own = self.namespaces.own_namespace.then_some("its own");
            let names = self.namespaces.names.iter().map(SmolStr::as_str).chain(own);
            subject += " in ";
            subject += &names.collect::<Vec<_>>().join(", ");
        }
        if !self.api_server.is_empty() {
            subject += " at ";
            subject += &without_password(self.api_server.expose());
        } else if !self.kubeconfig_file.as_os_str().is_empty() {
            subject += &format!(" of {}", self.kubeconfig_file.display());
        }
        for selector in &self.selectors {
            let texts = [&selector.label, &selector.field].map(String::as_str);
            let texts: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).collect();
            if let (Some(role), false) = (selector.role, texts.is_empty()) {
                subject += &format!(", {role} {}", texts.join(" and "));
            }
        }
        subject
    }

    pub(crate) fn resolve_paths(&mut self, base_dir: &Path) {
        self.http_config.resolve_paths(base_dir);
        let path = &mut self.kubeconfig_file;
        if !path.as_os_str().is_empty() && path.is_relative() {
            *path = base_dir.join(&*path);
        }
    }
}

impl<'de> Deserialize<'de> for KubernetesSdConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        with_http_config!(
            "kubernetes_sd_config",
            struct Keys {
                api_server: Option<Secret>,
                role: Option<KubernetesRole>,
                kubeconfig_file: Option<PathBuf>,
                namespaces: Option<KubernetesNamespaces>,
                selectors: Option<Vec<KubernetesSelector>>,
                attach_metadata: Option<KubernetesMetadata>,
            }
        );
        let mut keys = Keys::deserialize(deserializer)?;
        let Some(role) = keys.role else {
            let message = "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)";
            return Err(serde::de::Error::custom(message));
        };
        Ok(Self {
            http_config: keys.http_config(),
            api_server: keys.api_server.unwrap_or_default(),
            role,
            kubeconfig_file: keys.kubeconfig_file.unwrap_or_default(),
            namespaces: keys.namespaces.unwrap_or_default(),
            selectors: keys.selectors.unwrap_or_default(),
            attach_metadata: keys.attach_metadata.unwrap_or_default(),
        })
    }
}

impl KubernetesRole {
    /// The kinds of objects that a selector may be about.
    fn selectable(self) -> &'static [Self] {
        match self {
            Self::Node => &[Self::Node],
            Self::Pod => &[Self::Pod, Self::Node],
            Self::Service => &[Self::Service],
            Self::Endpoints => &[Self::Pod, Self::Service, Self::Endpoints],
            Self::EndpointSlice => &[Self::Pod, Self::Service, Self::EndpointSlice],
            Self::Ingress => &[Self::Ingress],
        }
    }
}

impl fmt::Display for KubernetesRole {
    /// As in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Ingress => "ingress",
        })
    }
}
