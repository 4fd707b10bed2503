//! `http_sd_configs`: targets that an HTTP server lists.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions, Secret};
use promferry_model::{PromDuration, TargetGroup};
use serde::{Deserialize, Deserializer};
use tower::Service;

use super::http_config::with_http_config;
use super::json::without_values;
use super::list::{from_json, groups};
use super::refresh;
use super::url::{without_password, without_secrets};
use crate::config::{ConfigError, validate_interval};
use crate::{Discover, Error, Updates};

/// The longest list that is read: some hundred thousand targets.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// One of the `http_sd_configs`: a URL that answers with a list of target groups in JSON.
///
/// Follows `discovery/http/http.go` of Prometheus 3.16.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HttpSdConfig {
    /// Who lists the targets; `http` or `https`. Secret because it may hold a password.
    pub url: Secret,
    /// The time between two requests, which is also the limit of one. 60 s by default.
    pub refresh_interval: PromDuration,
    /// How the server is reached: Prometheus inlines these keys.
    pub http_config: HttpClientConfig,
}

impl HttpSdConfig {
    /// The keys of this block itself; those of [`HttpClientConfig`] stand beside them.
    pub const KEYS: &'static [&'static str] = &["url", "refresh_interval"];

    /// # Errors
    /// A missing or malformed URL, an interval of zero, or a broken rule of `http_config`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |message: &str| ConfigError::new(&["url"], message);
        if self.url.is_empty() {
            return Err(fail("the url is missing"));
        }
        let url: Uri = self.url.expose().parse().map_err(|_| fail("not a URL"))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(fail("the url's scheme must be http or https"));
        }
        if url.host().is_none_or(str::is_empty) {
            return Err(fail("the url has no host"));
        }
        validate_interval(self.refresh_interval)?;
        Ok(self.http_config.validate()?)
    }
}

impl Default for HttpSdConfig {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            refresh_interval: PromDuration::from_secs(60),
            http_config: HttpClientConfig::default(),
        }
    }
}

impl<'de> Deserialize<'de> for HttpSdConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        with_http_config!(
            "http_sd_config",
            struct Keys {
                url: Option<Secret>,
                refresh_interval: Option<PromDuration>,
            }
        );
        let mut keys = Keys::deserialize(deserializer)?;
        let default = Self::default();
        Ok(Self {
            http_config: keys.http_config(),
            url: keys.url.unwrap_or_default(),
            refresh_interval: keys.refresh_interval.unwrap_or(default.refresh_interval),
        })
    }
}

/// The mechanism.
pub(crate) struct HttpDiscovery {
    client: Client,
    uri: Uri,
    /// The URL without its password: names the groups and the label.
    url: String,
    /// What may be shown of it.
    shown: String,
    interval: Duration,
}

impl HttpDiscovery {
    pub(crate) fn new(config: &HttpSdConfig, options: &HttpOptions) -> Result<Self, Error> {
        config.validate()?;
        let http = Http::new(&config.http_config, options.clone())
            .map_err(|error| Error::Construct { mechanism: "http", reason: error.to_string() })?;
        let uri = config.url.expose().parse().map_err(|_| ConfigError::new(&["url"], "not a URL"))?;
        let interval = config.refresh_interval.as_std();
        let url = config.url.expose();
        let (url, shown) = (without_password(url), without_secrets(url));
        Ok(Self { client: Client::new(http), uri, url, shown, interval })
    }

    async fn refresh(&self) -> Result<Vec<TargetGroup>, String> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Ok(seconds) = HeaderValue::try_from(self.interval.as_secs_f64().to_string()) {
            headers.insert("x-prometheus-refresh-interval-seconds", seconds);
        }
        let exchange = async {
            let response = self.client.clone().call(request).await.map_err(|error| error.to_string())?;
            let (head, body) = response.into_parts();
            if head.status != StatusCode::OK {
                return Err(refused(head.status));
            }
            let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or_default();
            if !is_json(content_type) {
                return Err(format!(
                    "unsupported content type {content_type:?}, it must be application/json"
                ));
            }
            body.read_to_end(MAX_ANSWER_BYTES).await.map_err(|error| error.to_string())
        };
        let body = match tokio::time::timeout(self.interval, exchange).await {
            Ok(body) => body?,
            Err(_) => return Err(format!("no complete answer within {:?}", self.interval)),
        };
        let list = from_json(&body).map_err(|error| {
            format!("the answer is not a list of target groups: {}", without_values(&error))
        })?;
        groups(list, &self.url, "__meta_url")
    }
}

impl Discover for HttpDiscovery {
    fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let (this, updates) = (&self, &updates);
            refresh::run(this.interval, || async move {
                match this.refresh().await {
                    Ok(groups) => {
                        updates.replace(groups);
                        updates.succeeded();
                        true
                    }
                    Err(reason) => {
                        updates.counts().change(|counts| counts.http_failures_total += 1);
                        updates.failed(&format_args!("{}: {reason}", this.shown));
                        false
                    }
                }
            })
            .await;
        })
    }
}

impl fmt::Debug for HttpDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDiscovery").field("url", &self.shown).finish_non_exhaustive()
    }
}

/// What a status other than 200 comes to. What the server says with it is not shown: it may repeat the credentials.
fn refused(status: StatusCode) -> String {
    let hint = match status {
        StatusCode::UNAUTHORIZED => {
            ": set authorization, basic_auth or oauth2 in the http_sd_configs entry, or see whether they still hold"
        }
        StatusCode::FORBIDDEN => ": the credentials of the http_sd_configs entry are not those that it takes",
        _ => "",
    };
    format!("the server answers with status {status}{hint}")
}

/// Prometheus' `^(?i:application\/json(;\s*charset=("utf-8"|utf-8))?)$`.
fn is_json(content_type: &str) -> bool {
    let lower = content_type.trim().to_ascii_lowercase();
    match lower.split_once(';') {
        None => lower == "application/json",
        Some((kind, parameter)) => {
            let parameter = parameter.trim_start();
            kind == "application/json" && matches!(parameter, "charset=utf-8" | "charset=\"utf-8\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn content_types() {
        for (text, accepted) in [
            ("application/json", true),
            ("Application/JSON", true),
            (" application/json; charset=utf-8 ", true),
            ("application/json;charset=\"UTF-8\"", true),
            ("application/json; charset=latin1", false),
            ("application/json;", false),
            ("text/json", false),
            ("", false),
        ] {
            assert_eq!(is_json(text), accepted, "{text:?}");
        }
    }
}
