//! One `http_config`, ready to be used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Request, Uri, header};
use bytes::Bytes;
use http_body_util::Full;

use crate::auth::Authenticator;
use crate::dial::{Destination, Dialer};
use crate::file::Credential;
use crate::origin::Origin;
use crate::proxy::{Proxies, ProxyEnvironment, ProxyKind};
use crate::tls::TlsSource;
use crate::{ConfigError, Error, HttpClientConfig};

/// What the caller, not the configuration, decides about its requests.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// The `User-Agent` of requests that carry none; empty for no such header.
    pub user_agent: String,
    /// Offer HTTP/2 to `https` servers, if `enable_http2` allows it too. Used by [`Client`](crate::Client) only: a
    /// [`Connection`](crate::Connection) speaks HTTP/1.1.
    pub http2: bool,
    /// The time to look up a name and connect to one of its addresses.
    pub connect_timeout: Duration,
    /// How long the [`Client`](crate::Client) keeps a connection that nobody uses.
    pub idle_timeout: Duration,
    /// For how long the [`Client`](crate::Client) lets answers gather that come slowly, under a megabyte a second, before
    /// it reads them: for streams of small messages that nobody waits for. Zero reads at once.
    pub gather_reads: Duration,
    /// What `proxy_from_environment` reads; the process' environment if absent.
    pub proxy_environment: Option<ProxyEnvironment>,
}

impl Default for HttpOptions {
    /// HTTP/1.1 as `Promferry/<version>`, 30 s to connect, 5 minutes idle (as Prometheus).
    fn default() -> Self {
        Self {
            user_agent: concat!("Promferry/", env!("CARGO_PKG_VERSION")).to_owned(),
            http2: false,
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            gather_reads: Duration::ZERO,
            proxy_environment: None,
        }
    }
}

/// A checked [`HttpClientConfig`] with all that requests share: TLS configuration, credentials, token, proxies.
///
/// Cloning is cheap and shares everything. Credentials, certificates and keys in files are looked at for each
/// request and read again when they have changed.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

struct Inner {
    dialer: Dialer,
    authenticator: Authenticator,
    headers: Vec<(HeaderName, HeaderSource)>,
    user_agent: Option<HeaderValue>,
    follow_redirects: bool,
    http2: bool,
    idle_timeout: Duration,
    gather_reads: Duration,
}

enum HeaderSource {
    Fixed(HeaderValue),
    File(Credential),
}

impl Http {
    /// Prepares `config`.
    ///
    /// Like Prometheus, this needs the files of `tls_config` to be there and usable, while the files of credentials
    /// are first read by a request: a missing one fails that request only. A TLS file that disappears or turns bad
    /// later fails requests until it is mended.
    ///
    /// # Errors
    /// [`Error::Config`] for a broken rule, [`Error::File`] or [`Error::TlsConfig`] for TLS material that cannot be
    /// used.
    pub fn new(config: &HttpClientConfig, options: HttpOptions) -> Result<Self, Error> {
        config.validate()?;
        let environment = match (&options.proxy_environment, config.proxy_from_environment) {
            (Some(given), _) => given.clone(),
            (None, true) => ProxyEnvironment::from_process(),
            (None, false) => ProxyEnvironment::default(),
        };
        let tls = TlsSource::shared(&config.tls_config);
        if tls.has_material() {
            tls.generation()?;
        }
        let proxies = Proxies::new(config, &environment)?;
        let user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|_| Error::Request { reason: "the user agent is not a header value".to_owned() })?;
        Ok(Self(Arc::new(Inner {
            dialer: Dialer::new(proxies, tls, options.connect_timeout),
            authenticator: Authenticator::new(config, &options)?,
            headers: header_sources(config)?,
            user_agent: (!user_agent.is_empty()).then_some(user_agent),
            follow_redirects: config.follow_redirects,
            http2: options.http2 && config.enable_http2,
            idle_timeout: options.idle_timeout,
            gather_reads: options.gather_reads,
        })))
    }

    /// Whether both are clones of one, so that a connection of either serves the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.0.dialer
    }

    pub(crate) fn follows_redirects(&self) -> bool {
        self.0.follow_redirects
    }

    pub(crate) fn http2(&self) -> bool {
        self.0.http2
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.0.idle_timeout
    }

    pub(crate) fn gather_reads(&self) -> Duration {
        self.0.gather_reads
    }

    /// Adds what the configuration says to a request for `destination`, but what `origin` says otherwise. `estranged` requests have been redirected to
    /// another host: they carry no credentials.
    pub(crate) async fn dress(
        &self,
        request: Request<Bytes>,
        destination: &Destination,
        origin: Option<&Origin>,
        estranged: bool,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let (mut parts, body) = request.into_parts();
        if let Some(user_agent) = &self.0.user_agent {
            parts.headers.entry(header::USER_AGENT).or_insert_with(|| user_agent.clone());
        }
        let configured = self.0.headers.iter().filter(|(name, _)| !origin.is_some_and(|own| own.has(name)));
        for (name, source) in configured {
            let value = match source {
                HeaderSource::Fixed(value) => value.clone(),
                HeaderSource::File(credential) => secret_value("http_headers", &credential.read()?)?,
            };
            parts.headers.append(name, value);
        }
        if estranged {
            for name in [
                header::AUTHORIZATION,
                header::WWW_AUTHENTICATE,
                header::COOKIE,
                HeaderName::from_static("cookie2"),
                header::PROXY_AUTHORIZATION,
                header::PROXY_AUTHENTICATE,
            ] {
                parts.headers.remove(name);
            }
        } else if !parts.headers.contains_key(header::AUTHORIZATION)
            && let Some(value) = self.0.authenticator.authorization(&parts.uri).await?
        {
            parts.headers.insert(header::AUTHORIZATION, value);
        }
        if !destination.https
            && let Some(proxy) = self.0.dialer.proxy(destination)
            && proxy.kind != ProxyKind::Socks5
            && let Some(authorization) = proxy.authorization()
        {
            parts.headers.insert(header::PROXY_AUTHORIZATION, authorization);
        }
        parts.uri = without_user_information(parts.uri);
        Ok(Request::from_parts(parts, Full::new(body)))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("follow_redirects", &self.0.follow_redirects)
            .field("http2", &self.0.http2)
            .finish_non_exhaustive()
    }
}

fn header_sources(config: &HttpClientConfig) -> Result<Vec<(HeaderName, HeaderSource)>, Error> {
    let mut sources = Vec::new();
    for (name, header) in &config.http_headers {
        let fail = || ConfigError::new(&["http_headers", name], "not a header");
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail())?;
        for value in &header.values {
            let value = HeaderValue::from_str(value).map_err(|_| fail())?;
            sources.push((parsed.clone(), HeaderSource::Fixed(value)));
        }
        for secret in &header.secrets {
            let value = secret_value("http_headers", secret.expose())?;
            sources.push((parsed.clone(), HeaderSource::Fixed(value)));
        }
        for file in &header.files {
            let source = HeaderSource::File(Credential::new("", "http_headers", file));
            sources.push((parsed.clone(), source));
        }
    }
    Ok(sources)
}

/// A header value that must not be shown, from a credential whose origin is `key`.
pub(crate) fn secret_value(key: &str, text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| Error::Request {
        reason: format!("the value of {key} holds a line break or another control character"),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// "http://user:password@host/" without what must not leave in a header or request line.
fn without_user_information(uri: Uri) -> Uri {
    let Some(authority) = uri.authority().map(|authority| authority.as_str().to_owned()) else {
        return uri;
    };
    let Some((_, bare)) = authority.rsplit_once('@') else {
        return uri;
    };
    let mut parts = uri.clone().into_parts();
    match bare.parse() {
        Ok(authority) => parts.authority = Some(authority),
        Err(_) => return uri,
    }
    Uri::from_parts(parts).unwrap_or(uri)
}
