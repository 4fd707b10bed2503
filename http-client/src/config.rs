//! The keys of Prometheus' `http_config` block.

mod validate;

pub(crate) use validate::is_reserved_header;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use crate::Secret;

/// Prometheus' `http_config`: how to reach a server and who to be there.
///
/// The keys, their defaults and their rules are those of Prometheus 3.16 (`config/http_config.go` of
/// `prometheus/common` 0.72). Prometheus inlines this block in `scrape_config`, `http_sd_config` and
/// `remote_write`; [`KEYS`](Self::KEYS) lets such a reader tell the keys of this block from its own.
///
/// Deserializing checks names and types; [`validate`](Self::validate) checks what belongs together.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpClientConfig {
    /// User name and password, sent as `Authorization: Basic`.
    pub basic_auth: Option<BasicAuth>,
    /// Any other `Authorization` header.
    pub authorization: Option<Authorization>,
    /// A token fetched from an OAuth 2.0 server.
    pub oauth2: Option<OAuth2>,
    /// The older spelling of `authorization.credentials`.
    pub bearer_token: Secret,
    /// The older spelling of `authorization.credentials_file`.
    #[serde(deserialize_with = "null_is_default")]
    pub bearer_token_file: PathBuf,
    /// Trust, client certificate and versions of TLS.
    #[serde(deserialize_with = "null_is_default")]
    pub tls_config: TlsConfig,
    /// The proxy: `http`, `https`, `socks5` or `socks5h`. Secret because it may hold a password.
    pub proxy_url: Secret,
    /// Comma-separated hosts, domains, addresses and networks that are reached without the proxy.
    #[serde(deserialize_with = "null_is_default")]
    pub no_proxy: String,
    /// Take the proxy from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
    #[serde(deserialize_with = "null_is_default")]
    pub proxy_from_environment: bool,
    /// Headers sent to the proxy with each CONNECT request.
    #[serde(deserialize_with = "null_is_default")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    /// Follow redirects, at most 10 for a request. On by default; off where the key has no value, as in Go. A request
    /// that carries an AWS signature (version 4) follows none but to its own host, path and query, nor from `https` to
    /// `http`: elsewhere the signature does not hold, and its session token is nobody's business.
    #[serde(deserialize_with = "null_is_default")]
    pub follow_redirects: bool,
    /// Allow HTTP/2 where both the caller ([`HttpOptions::http2`](crate::HttpOptions::http2)) and the server want it.
    /// On by default; off where the key has no value, as in Go.
    #[serde(deserialize_with = "null_is_default")]
    pub enable_http2: bool,
    /// Headers added to each request.
    #[serde(deserialize_with = "null_is_default")]
    pub http_headers: BTreeMap<String, HttpHeader>,
}

impl HttpClientConfig {
    /// The names of this block's keys, for a reader of a mapping in which they stand among others.
    pub const KEYS: &'static [&'static str] = &[
        "basic_auth",
        "authorization",
        "oauth2",
        "bearer_token",
        "bearer_token_file",
        "tls_config",
        "proxy_url",
        "no_proxy",
        "proxy_from_environment",
        "proxy_connect_header",
        "follow_redirects",
        "enable_http2",
        "http_headers",
    ];

    /// Makes every relative path one below `base_dir`: Prometheus reads them relative to the configuration file.
    pub fn resolve_paths(&mut self, base_dir: &Path) {
        let join = |path: &mut PathBuf| {
            if !path.as_os_str().is_empty() && path.is_relative() {
                *path = base_dir.join(&*path);
            }
        };
        join(&mut self.bearer_token_file);
        self.tls_config.resolve_paths(&join);
        if let Some(basic) = &mut self.basic_auth {
            join(&mut basic.username_file);
            join(&mut basic.password_file);
        }
        if let Some(authorization) = &mut self.authorization {
            join(&mut authorization.credentials_file);
        }
        if let Some(oauth2) = &mut self.oauth2 {
            join(&mut oauth2.client_secret_file);
            join(&mut oauth2.client_certificate_key_file);
            oauth2.tls_config.resolve_paths(&join);
        }
        self.http_headers.values_mut().flat_map(|header| &mut header.files).for_each(join);
    }

    /// The files that it names, each with the key that does: all are looked at for each request and read again when
    /// they have changed.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let mut files = vec![("bearer_token_file", self.bearer_token_file.as_path())];
        if let Some(BasicAuth { username_file, password_file, .. }) = &self.basic_auth {
            files.extend([
                ("basic_auth.username_file", username_file.as_path()),
                ("basic_auth.password_file", password_file.as_path()),
            ]);
        }
        if let Some(Authorization { credentials_file, .. }) = &self.authorization {
            files.push(("authorization.credentials_file", credentials_file));
        }
        if let Some(oauth2) = &self.oauth2 {
            let TlsConfig { ca_file, cert_file, key_file, .. } = &oauth2.tls_config;
            files.extend([
                ("oauth2.client_secret_file", oauth2.client_secret_file.as_path()),
                ("oauth2.client_certificate_key_file", oauth2.client_certificate_key_file.as_path()),
                ("oauth2.tls_config.ca_file", ca_file.as_path()),
                ("oauth2.tls_config.cert_file", cert_file.as_path()),
                ("oauth2.tls_config.key_file", key_file.as_path()),
            ]);
        }
        let TlsConfig { ca_file, cert_file, key_file, .. } = &self.tls_config;
        files.extend([
            ("tls_config.ca_file", ca_file.as_path()),
            ("tls_config.cert_file", cert_file.as_path()),
            ("tls_config.key_file", key_file.as_path()),
        ]);
        let headers = self.http_headers.values().flat_map(|header| &header.files);
        files.extend(headers.map(|file| ("http_headers", file.as_path())));
        files.retain(|(_, path)| !path.as_os_str().is_empty());
        files
    }
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: Secret::default(),
            bearer_token_file: PathBuf::new(),
            tls_config: TlsConfig::default(),
            proxy_url: Secret::default(),
            no_proxy: String::new(),
            proxy_from_environment: false,
            proxy_connect_header: BTreeMap::new(),
            follow_redirects: true,
            enable_http2: true,
            http_headers: BTreeMap::new(),
        }
    }
}

/// `basic_auth`: each of the two inline or in a file, which is read again when it changes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user name.
    #[serde(deserialize_with = "null_is_default")]
    pub username: String,
    /// The file that holds the user name.
    #[serde(deserialize_with = "null_is_default")]
    pub username_file: PathBuf,
    /// The password.
    pub password: Secret,
    /// The file that holds the password.
    #[serde(deserialize_with = "null_is_default")]
    pub password_file: PathBuf,
}

/// `authorization`: the header `Authorization: <type> <credentials>`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// The scheme; `Bearer` when empty. `Basic` is refused: that is what `basic_auth` is for.
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub scheme: String,
    /// What follows the scheme.
    pub credentials: Secret,
    /// The file that holds it.
    #[serde(deserialize_with = "null_is_default")]
    pub credentials_file: PathBuf,
}

/// `oauth2`: a token by client credentials (RFC 6749 §4.4) or by a signed assertion (RFC 7523).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth2 {
    /// Who asks; required.
    #[serde(deserialize_with = "null_is_default")]
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// The file that holds it.
    #[serde(deserialize_with = "null_is_default")]
    pub client_secret_file: PathBuf,
    /// The `kid` of the assertion (jwt-bearer only).
    #[serde(deserialize_with = "null_is_default")]
    pub client_certificate_key_id: String,
    /// The RSA key in PEM that signs the assertion (jwt-bearer only).
    pub client_certificate_key: Secret,
    /// The file that holds it.
    #[serde(deserialize_with = "null_is_default")]
    pub client_certificate_key_file: PathBuf,
    /// `client_credentials` (also when empty) or `urn:ietf:params:oauth:grant-type:jwt-bearer`.
    #[serde(deserialize_with = "null_is_default")]
    pub grant_type: String,
    /// `RS256` (also when empty), `RS384` or `RS512` (jwt-bearer only).
    #[serde(deserialize_with = "null_is_default")]
    pub signature_algorithm: String,
    /// The assertion's `iss`; `client_id` when empty (jwt-bearer only).
    #[serde(deserialize_with = "null_is_default")]
    pub iss: String,
    /// The assertion's `aud`; `token_url` when empty (jwt-bearer only).
    #[serde(deserialize_with = "null_is_default")]
    pub audience: String,
    /// More claims of the assertion (jwt-bearer only).
    #[serde(deserialize_with = "null_is_default")]
    pub claims: BTreeMap<String, serde_json::Value>,
    /// The scopes asked for.
    #[serde(deserialize_with = "null_is_default")]
    pub scopes: Vec<String>,
    /// Where the token is fetched; required. Secret because it may hold a password.
    pub token_url: Secret,
    /// More parameters of the request for the token; `grant_type` may be overridden, `scope` may not.
    /// Secret because some servers take their credentials here.
    #[serde(deserialize_with = "null_is_default")]
    pub endpoint_params: BTreeMap<String, Secret>,
    /// TLS towards the token's server.
    #[serde(deserialize_with = "null_is_default")]
    pub tls_config: TlsConfig,
    /// The proxy towards the token's server, as [`HttpClientConfig::proxy_url`].
    pub proxy_url: Secret,
    /// As [`HttpClientConfig::no_proxy`].
    #[serde(deserialize_with = "null_is_default")]
    pub no_proxy: String,
    /// As [`HttpClientConfig::proxy_from_environment`].
    #[serde(deserialize_with = "null_is_default")]
    pub proxy_from_environment: bool,
    /// As [`HttpClientConfig::proxy_connect_header`].
    #[serde(deserialize_with = "null_is_default")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

impl OAuth2 {
    /// The grant type that signs an assertion instead of sending a secret.
    pub(crate) const JWT_BEARER: &'static str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

    /// The part of this block that says how to reach the token's server, as a block of its own.
    pub(crate) fn http_config(&self) -> HttpClientConfig {
        HttpClientConfig {
            tls_config: self.tls_config.clone(),
            proxy_url: self.proxy_url.clone(),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment,
            proxy_connect_header: self.proxy_connect_header.clone(),
            ..HttpClientConfig::default()
        }
    }
}

/// `tls_config`: what to trust and what to show. Each of CA, certificate and key is given inline or as a file, which
/// is read again when it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificates in PEM to trust instead of the system's.
    #[serde(deserialize_with = "null_is_default")]
    pub ca: String,
    /// The file that holds them.
    #[serde(deserialize_with = "null_is_default")]
    pub ca_file: PathBuf,
    /// The client's certificate chain in PEM.
    #[serde(deserialize_with = "null_is_default")]
    pub cert: String,
    /// The file that holds it.
    #[serde(deserialize_with = "null_is_default")]
    pub cert_file: PathBuf,
    /// The client's private key in PEM.
    pub key: Secret,
    /// The file that holds it.
    #[serde(deserialize_with = "null_is_default")]
    pub key_file: PathBuf,
    /// The name the server's certificate must carry, and the name sent to the server; the URL's host when empty.
    #[serde(deserialize_with = "null_is_default")]
    pub server_name: String,
    /// Accept any certificate.
    #[serde(deserialize_with = "null_is_default")]
    pub insecure_skip_verify: bool,
    /// The oldest version accepted. The implementation's own floor is TLS 1.2, also when this says less.
    pub min_version: Option<TlsVersion>,
    /// The newest version offered; TLS 1.2 at least.
    pub max_version: Option<TlsVersion>,
}

impl TlsConfig {
    fn resolve_paths(&mut self, join: &impl Fn(&mut PathBuf)) {
        join(&mut self.ca_file);
        join(&mut self.cert_file);
        join(&mut self.key_file);
    }
}

/// A version of TLS as Prometheus spells it: `TLS10`, `TLS11`, `TLS12`, `TLS13`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.0, which this client does not speak.
    #[serde(rename = "TLS10")]
    Tls10,
    /// TLS 1.1, which this client does not speak.
    #[serde(rename = "TLS11")]
    Tls11,
    /// TLS 1.2.
    #[serde(rename = "TLS12")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "TLS13")]
    Tls13,
}

/// The values of one of the `http_headers`; each entry becomes one header line.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpHeader {
    /// Values that may be shown.
    #[serde(deserialize_with = "null_is_default")]
    pub values: Vec<String>,
    /// Values that may not.
    #[serde(deserialize_with = "null_is_default")]
    pub secrets: Vec<Secret>,
    /// Files that hold a value each, read again when they change.
    #[serde(deserialize_with = "null_is_default")]
    pub files: Vec<PathBuf>,
}

/// A rule of `http_config` that is broken: where and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.join("."))]
pub struct ConfigError {
    /// The keys that lead to the offending value, from the block that was validated: `["basic_auth", "password"]`.
    pub path: Vec<String>,
    /// What is wrong and what to do, lower-case.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self { path: path.iter().map(|key| (*key).to_owned()).collect(), message: message.into() }
    }

    /// The same error as seen from the block that holds this one under `key`.
    #[must_use]
    pub fn within(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }
}

/// YAML's empty value is Go's zero value, also of what is on by default (go.yaml.in/yaml/v2 `decode.go`).
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
