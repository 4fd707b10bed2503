//! What belongs together in an `http_config` and what does not.

use std::collections::BTreeMap;
use std::path::Path;

use http::{HeaderName, HeaderValue};
use url::Url;

use super::{ConfigError, HttpClientConfig, OAuth2, TlsConfig, TlsVersion};
use crate::Secret;

/// Headers that `http_headers` may not set, because the client, the scraper or the signer sets them
/// (`config/headers.go` of `prometheus/common` 0.72).
const RESERVED_HEADERS: &[&str] = &[
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Whether the client sets this header itself.
pub(crate) fn is_reserved_header(name: &HeaderName) -> bool {
    RESERVED_HEADERS.contains(&name.as_str())
}

impl HttpClientConfig {
    /// Checks what Prometheus checks when it loads a configuration, and that URLs, header names and values are well
    /// formed. Files are not opened here.
    ///
    /// # Errors
    /// The first rule that is broken, with the path of keys that leads to it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_authentication()?;
        if let Some(oauth2) = &self.oauth2 {
            validate_oauth2(oauth2).map_err(|error| error.within("oauth2"))?;
        }
        validate_tls(&self.tls_config).map_err(|error| error.within("tls_config"))?;
        validate_proxy(
            &self.proxy_url,
            &self.no_proxy,
            self.proxy_from_environment,
            &self.proxy_connect_header,
        )?;
        for (name, header) in &self.http_headers {
            let path = ["http_headers", name];
            let parsed = header_name(name).map_err(|message| ConfigError::new(&path, message))?;
            if is_reserved_header(&parsed) {
                let message =
                    format!("setting the header {name:?} is not allowed, the client sets it itself");
                return Err(ConfigError::new(&path, message));
            }
            let values = header.values.iter().map(String::as_str).map(|value| ("values", value));
            let secrets = header.secrets.iter().map(Secret::expose).map(|value| ("secrets", value));
            for (key, value) in values.chain(secrets) {
                header_value(value)
                    .map_err(|message| ConfigError::new(&["http_headers", name, key], message))?;
            }
        }
        Ok(())
    }

    fn validate_authentication(&self) -> Result<(), ConfigError> {
        let bearer_file = !self.bearer_token_file.as_os_str().is_empty();
        let ways = [
            ("basic_auth", self.basic_auth.is_some()),
            ("authorization", self.authorization.is_some()),
            ("oauth2", self.oauth2.is_some()),
            ("bearer_token", !self.bearer_token.is_empty()),
            ("bearer_token_file", bearer_file),
        ];
        let mut used = ways.iter().filter(|(_, used)| *used).map(|(key, _)| *key);
        if let (Some(first), Some(second)) = (used.next(), used.next()) {
            return Err(ConfigError::new(
                &[second],
                format!(
                    "{first} is configured too; at most one of basic_auth, authorization, oauth2, bearer_token & \
                     bearer_token_file must be configured"
                ),
            ));
        }
        if let Some(basic) = &self.basic_auth {
            let inline = !basic.username.is_empty();
            either(inline, &basic.username_file, &["basic_auth", "username_file"], "username")?;
            let inline = !basic.password.is_empty();
            either(inline, &basic.password_file, &["basic_auth", "password_file"], "password")?;
        }
        if let Some(authorization) = &self.authorization {
            let inline = !authorization.credentials.is_empty();
            let path = ["authorization", "credentials_file"];
            either(inline, &authorization.credentials_file, &path, "credentials")?;
            let path = ["authorization", "type"];
            if authorization.scheme.trim().eq_ignore_ascii_case("basic") {
                let message = "the type cannot be \"basic\", use basic_auth instead";
                return Err(ConfigError::new(&path, message));
            }
            header_value(authorization.scheme.trim()).map_err(|message| ConfigError::new(&path, message))?;
            header_value(authorization.credentials.expose())
                .map_err(|message| ConfigError::new(&["authorization", "credentials"], message))?;
        }
        header_value(self.bearer_token.expose())
            .map_err(|message| ConfigError::new(&["bearer_token"], message))
    }
}

fn validate_oauth2(oauth2: &OAuth2) -> Result<(), ConfigError> {
    if oauth2.client_id.is_empty() {
        return Err(ConfigError::new(&["client_id"], "oauth2 needs a client_id"));
    }
    if oauth2.token_url.is_empty() {
        return Err(ConfigError::new(&["token_url"], "oauth2 needs a token_url"));
    }
    absolute_url(&oauth2.token_url, &["http", "https"])
        .map_err(|message| ConfigError::new(&["token_url"], message))?;
    if oauth2.grant_type == OAuth2::JWT_BEARER {
        let inline = !oauth2.client_certificate_key.is_empty();
        let path = ["client_certificate_key_file"];
        either(inline, &oauth2.client_certificate_key_file, &path, "client_certificate_key")?;
        if !matches!(oauth2.signature_algorithm.as_str(), "" | "RS256" | "RS384" | "RS512") {
            let message = "valid signature algorithms are RS256, RS384 and RS512";
            return Err(ConfigError::new(&["signature_algorithm"], message));
        }
    } else {
        let inline = !oauth2.client_secret.is_empty();
        either(inline, &oauth2.client_secret_file, &["client_secret_file"], "client_secret")?;
    }
    // Prometheus finds this one out at the first request only.
    if oauth2.endpoint_params.contains_key("scope") && !oauth2.scopes.is_empty() {
        let message = "the parameter \"scope\" is set by scopes already";
        return Err(ConfigError::new(&["endpoint_params", "scope"], message));
    }
    validate_tls(&oauth2.tls_config).map_err(|error| error.within("tls_config"))?;
    validate_proxy(
        &oauth2.proxy_url,
        &oauth2.no_proxy,
        oauth2.proxy_from_environment,
        &oauth2.proxy_connect_header,
    )
}

fn validate_tls(tls: &TlsConfig) -> Result<(), ConfigError> {
    either(!tls.ca.is_empty(), &tls.ca_file, &["ca_file"], "ca")?;
    either(!tls.cert.is_empty(), &tls.cert_file, &["cert_file"], "cert")?;
    either(!tls.key.is_empty(), &tls.key_file, &["key_file"], "key")?;
    let cert = !tls.cert.is_empty() || !tls.cert_file.as_os_str().is_empty();
    let key = !tls.key.is_empty() || !tls.key_file.as_os_str().is_empty();
    if cert && !key {
        let path = if tls.cert.is_empty() { "cert_file" } else { "cert" };
        let message = "exactly one of key and key_file must be configured with a client certificate";
        return Err(ConfigError::new(&[path], message));
    }
    if key && !cert {
        let path = if tls.key.is_empty() { "key_file" } else { "key" };
        let message = "exactly one of cert and cert_file must be configured with a client key";
        return Err(ConfigError::new(&[path], message));
    }
    if let (Some(min), Some(max)) = (tls.min_version, tls.max_version)
        && max < min
    {
        let message = "max_version must not be older than min_version";
        return Err(ConfigError::new(&["max_version"], message));
    }
    if tls.max_version.is_some_and(|max| max < TlsVersion::Tls12) {
        let message = "the newest version must be TLS12 or TLS13, older ones are not spoken";
        return Err(ConfigError::new(&["max_version"], message));
    }
    Ok(())
}

fn validate_proxy(
    proxy_url: &Secret,
    no_proxy: &str,
    from_environment: bool,
    connect_header: &BTreeMap<String, Vec<Secret>>,
) -> Result<(), ConfigError> {
    if !connect_header.is_empty() && !from_environment && proxy_url.is_empty() {
        let message = "proxy_connect_header needs proxy_url or proxy_from_environment";
        return Err(ConfigError::new(&["proxy_connect_header"], message));
    }
    if from_environment && !proxy_url.is_empty() {
        let message = "with proxy_from_environment, proxy_url must not be configured";
        return Err(ConfigError::new(&["proxy_url"], message));
    }
    if from_environment && !no_proxy.is_empty() {
        let message = "with proxy_from_environment, no_proxy must not be configured (set NO_PROXY)";
        return Err(ConfigError::new(&["no_proxy"], message));
    }
    if proxy_url.is_empty() && !no_proxy.is_empty() {
        return Err(ConfigError::new(&["no_proxy"], "no_proxy needs a proxy_url"));
    }
    if !proxy_url.is_empty() {
        absolute_url(proxy_url, &["http", "https", "socks5", "socks5h"])
            .map_err(|message| ConfigError::new(&["proxy_url"], message))?;
    }
    for (name, values) in connect_header {
        let path = ["proxy_connect_header", name];
        header_name(name).map_err(|message| ConfigError::new(&path, message))?;
        for value in values {
            header_value(value.expose()).map_err(|message| ConfigError::new(&path, message))?;
        }
    }
    Ok(())
}

fn either(inline: bool, file: &Path, path: &[&str], key: &str) -> Result<(), ConfigError> {
    if inline && !file.as_os_str().is_empty() {
        return Err(ConfigError::new(path, format!("at most one of {key} & {key}_file must be configured")));
    }
    Ok(())
}

/// A URL with a host and one of `schemes`; the message never repeats the URL, which may hold a password.
fn absolute_url(text: &Secret, schemes: &[&str]) -> Result<Url, String> {
    let url = Url::parse(text.expose()).map_err(|error| format!("not a URL: {error}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("the scheme must be one of {}", schemes.join(", ")));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the URL has no host".to_owned());
    }
    Ok(url)
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not a header name"))
}

fn header_value(value: &str) -> Result<(), String> {
    HeaderValue::from_bytes(value.as_bytes())
        .map(drop)
        .map_err(|_| "the value holds a line break or another control character".to_owned())
}
