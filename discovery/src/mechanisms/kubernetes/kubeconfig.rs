//! A kubeconfig: the cluster and the user of its current context.
//!
//! Follows `tools/clientcmd` of client-go 0.37: data within the file wins over files that it names, which are relative
//! to its folder. Programs that hand out credentials (`exec`, `auth-provider`) are not run.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promferry_http_client::{BasicAuth, HttpClientConfig, Secret};
use serde::Deserialize;

use crate::config::null_is_default;

/// The longest kubeconfig that is read.
const MAX_BYTES: u64 = 4 << 20;

/// The API server's URL and how it is reached.
pub(super) fn read(path: &Path) -> Result<(String, HttpClientConfig), String> {
    let fail = |reason: String| format!("kubeconfig_file {}: {reason}", path.display());
    let length = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if length > MAX_BYTES {
        return Err(fail(format!("it has more than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let kubeconfig: Kubeconfig = serde_saphyr::from_str(&text).map_err(|error| {
        // What the error says may quote a secret.
        let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
        fail(format!("not a kubeconfig{}", place.unwrap_or_default()))
    })?;
    kubeconfig.client(path.parent().unwrap_or(path)).map_err(fail)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(deserialize_with = "null_is_default")]
    current_context: String,
    #[serde(deserialize_with = "null_is_default")]
    contexts: Vec<NamedContext>,
    #[serde(deserialize_with = "null_is_default")]
    clusters: Vec<NamedCluster>,
    #[serde(deserialize_with = "null_is_default")]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: Secret,
    tls_server_name: String,
    insecure_skip_tls_verify: bool,
    certificate_authority: PathBuf,
    certificate_authority_data: String,
    proxy_url: Secret,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    client_certificate: PathBuf,
    client_certificate_data: String,
    client_key: PathBuf,
    client_key_data: Secret,
    token: Secret,
    #[serde(rename = "tokenFile")]
    token_file: PathBuf,
    username: String,
    password: Secret,
    #[serde(rename = "as")]
    impersonated: String,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

impl Kubeconfig {
    fn client(self, folder: &Path) -> Result<(String, HttpClientConfig), String> {
        let Self { current_context, contexts, clusters, users } = self;
        if current_context.is_empty() {
            return Err("it has no current-context".to_owned());
        }
        let context = contexts.into_iter().find(|named| named.name == current_context);
        let Context { cluster, user } =
            context.ok_or_else(|| format!("it has no context {current_context:?}"))?.context;
        let Some(NamedCluster { cluster, .. }) = clusters.into_iter().find(|named| named.name == cluster)
        else {
            return Err(format!("it has no cluster {cluster:?}"));
        };
        if cluster.server.is_empty() {
            return Err("its cluster has no server".to_owned());
        }
        let named = users.into_iter().find(|named| named.name == user);
        let user = match named {
            Some(named) => named.user,
            None if user.is_empty() => User::default(),
            None => return Err(format!("it has no user {user:?}")),
        };
        let refused = [
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
            ("as", !user.impersonated.is_empty()),
        ];
        if let Some((key, _)) = refused.iter().find(|(_, is_there)| *is_there) {
            return Err(format!(
                "its user has {key}, which is not supported; use a token of a service account, or a certificate"
            ));
        }
        let url = cluster.server.expose().trim_end_matches('/').to_owned();
        Ok((url, http_config(cluster, user, folder)?))
    }
}

fn http_config(cluster: Cluster, user: User, folder: &Path) -> Result<HttpClientConfig, String> {
    let decoded = |key: &str, data: &str| -> Result<String, String> {
        let bytes = STANDARD.decode(data.trim()).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| format!("its {key} is not PEM in base64"))
    };
    // Data or a file, and of the two data.
    let either = |key: &str, data: &str, file: PathBuf| match data.is_empty() {
        true => Ok((String::new(), file)),
        false => Ok::<_, String>((decoded(key, data)?, PathBuf::new())),
    };
    let mut http = HttpClientConfig::default();
    let tls = &mut http.tls_config;
    let key = "certificate-authority-data";
    (tls.ca, tls.ca_file) = either(key, &cluster.certificate_authority_data, cluster.certificate_authority)?;
    let key = "client-certificate-data";
    (tls.cert, tls.cert_file) = either(key, &user.client_certificate_data, user.client_certificate)?;
    let (key, key_file) = either("client-key-data", user.client_key_data.expose(), user.client_key)?;
    (tls.key, tls.key_file) = (key.into(), key_file);
    tls.server_name = cluster.tls_server_name;
    tls.insecure_skip_verify = cluster.insecure_skip_tls_verify;
    http.proxy_url = cluster.proxy_url;
    if !user.token_file.as_os_str().is_empty() {
        http.bearer_token_file = user.token_file;
    } else if !user.token.is_empty() {
        http.bearer_token = user.token;
    } else if !user.username.is_empty() {
        let basic = BasicAuth { username: user.username, password: user.password, ..BasicAuth::default() };
        http.basic_auth = Some(basic);
    }
    http.resolve_paths(folder);
    Ok(http)
}
