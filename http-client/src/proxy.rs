//! Which proxy, if any, leads to a host: the rules of Go's `net/http` and `golang.org/x/net/http/httpproxy`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::{ConfigError, Error, HttpClientConfig, Secret};

/// What the environment says about proxies, for `proxy_from_environment`.
///
/// [`HttpOptions`](crate::HttpOptions) takes it as an argument so that tests and embedding programs can say something
/// else than the process' environment does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    /// The proxy for `http` URLs; secret because it may hold a password.
    pub http_proxy: Secret,
    /// The proxy for `https` URLs.
    pub https_proxy: Secret,
    /// What is reached directly, comma-separated.
    pub no_proxy: String,
}

impl ProxyEnvironment {
    /// The process' `http_proxy`, `https_proxy` and `no_proxy`, else their spellings in capitals, as Go reads them.
    pub fn from_process() -> Self {
        let read = |lower: &str, upper: &str| {
            [lower, upper]
                .into_iter()
                .filter_map(|name| std::env::var(name).ok())
                .find(|value| !value.is_empty())
                .unwrap_or_default()
        };
        Self {
            http_proxy: read("http_proxy", "HTTP_PROXY").into(),
            https_proxy: read("https_proxy", "HTTPS_PROXY").into(),
            no_proxy: read("no_proxy", "NO_PROXY"),
        }
    }
}

/// The proxies of one `http_config`.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Absent for a plain `proxy_url`, which Go uses for every host, also for localhost.
    exceptions: Option<NoProxy>,
    pub(crate) connect_headers: HeaderMap,
}

impl Proxies {
    pub(crate) fn new(config: &HttpClientConfig, environment: &ProxyEnvironment) -> Result<Self, Error> {
        let connect_headers = connect_headers(&config.proxy_connect_header)?;
        if config.proxy_from_environment {
            let proxy = |text: &Secret| if text.is_empty() { None } else { Proxy::parse_loosely(text) };
            return Ok(Self {
                http: proxy(&environment.http_proxy),
                https: proxy(&environment.https_proxy),
                exceptions: Some(NoProxy::parse(&environment.no_proxy)),
                connect_headers,
            });
        }
        if config.proxy_url.is_empty() {
            return Ok(Self::default());
        }
        let proxy = Proxy::parse(&config.proxy_url)
            .ok_or_else(|| ConfigError::new(&["proxy_url"], "not the URL of a proxy"))?;
        let exceptions = (!config.no_proxy.is_empty()).then(|| NoProxy::parse(&config.no_proxy));
        Ok(Self { http: Some(proxy.clone()), https: Some(proxy), exceptions, connect_headers })
    }

    /// The proxy for a request to `host` (an IPv6 address without brackets) at `port`.
    pub(crate) fn choose(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if https { self.https.as_ref() } else { self.http.as_ref() }?;
        let direct = self.exceptions.as_ref().is_some_and(|exceptions| exceptions.matches(host, port));
        (!direct).then_some(proxy)
    }
}

fn connect_headers(config: &BTreeMap<String, Vec<Secret>>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, values) in config {
        let fail = || ConfigError::new(&["proxy_connect_header", name], "not a header");
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail())?;
        for value in values {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| fail())?;
            value.set_sensitive(true);
            headers.append(&parsed, value);
        }
    }
    Ok(headers)
}

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    Http,
    /// HTTP inside TLS.
    Https,
    /// Names are looked up by the proxy: Go does so for both `socks5` and `socks5h`.
    Socks5,
}

/// One proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) kind: ProxyKind,
    /// An IPv6 address is in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User name and password, decoded.
    pub(crate) user: Option<(String, String)>,
}

impl Proxy {
    fn parse(text: &Secret) -> Option<Self> {
        let url = Url::parse(text.expose()).ok()?;
        let (kind, default_port) = match url.scheme() {
            "http" => (ProxyKind::Http, 80),
            "https" => (ProxyKind::Https, 443),
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            _ => return None,
        };
        let host = url.host_str().filter(|host| !host.is_empty())?.to_owned();
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decode(url.username()), decode(url.password().unwrap_or_default())));
        Some(Self { kind, host, port: url.port().unwrap_or(default_port), user })
    }

    /// As Go reads the environment: what isn't a URL is one with "http://" in front.
    fn parse_loosely(text: &Secret) -> Option<Self> {
        Self::parse(text).or_else(|| Self::parse(&format!("http://{}", text.expose()).into()))
    }

    /// Host and port, to name the proxy in messages.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let (name, password) = self.user.as_ref()?;
        basic_authorization(name, password).ok()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// The header value of RFC 7617.
pub(crate) fn basic_authorization(
    name: &str,
    password: &str,
) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut value =
        HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}"))))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The hosts that are reached directly.
#[derive(Debug, Default, PartialEq)]
struct NoProxy {
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq)]
enum Rule {
    Everything,
    Network(IpNet),
    Address(IpAddr, Option<String>),
    /// The suffix starts with a dot; `exact` says that the name without the dot matches too.
    Domain {
        suffix: String,
        exact: bool,
        port: Option<String>,
    },
}

impl NoProxy {
    fn parse(text: &str) -> Self {
        let rules =
            text.split(',').map(|entry| entry.trim().to_lowercase()).filter_map(|entry| Rule::parse(&entry));
        Self { rules: rules.collect() }
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.trim().to_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let port = port.to_string();
        let same_port = |rule: &Option<String>| rule.as_ref().is_none_or(|rule| *rule == port);
        self.rules.iter().any(|rule| match rule {
            Rule::Everything => true,
            Rule::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Rule::Address(allowed, port) => address == Some(*allowed) && same_port(port),
            Rule::Domain { suffix, exact, port } => {
                (host.ends_with(suffix) || (*exact && host == suffix[1..])) && same_port(port)
            }
        })
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = entry.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = split_port(entry);
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address, port));
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        let exact = !host.starts_with('.');
        let suffix = if exact { format!(".{host}") } else { host.to_owned() };
        Some(Self::Domain { suffix, exact, port })
    }
}

/// "host:port" and "[v6]:port"; more than one colon without brackets is an IPv6 address.
fn split_port(entry: &str) -> (&str, Option<String>) {
    if let Some(rest) = entry.strip_prefix('[')
        && let Some((host, after)) = rest.split_once(']')
    {
        return (host, after.strip_prefix(':').filter(|port| !port.is_empty()).map(str::to_owned));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, (!port.is_empty()).then(|| port.to_owned())),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Go's `httpproxy` tests that its documentation promises, and its special treatment of loopback.
    #[test]
    fn no_proxy_matches_as_in_go() {
        let list = "foo.com, .bar.org , *.baz.net,192.168.1.1,10.0.0.0/8,[2001:db8::52:0:1],fd00::/8,\
                    port.com:8080,172.16.0.1:99,[2001:db8::3]:77,:1,,";
        for (host, port, direct) in [
            ("foo.com", 80, true),
            ("FOO.com", 80, true),
            ("a.foo.com", 80, true),
            ("xfoo.com", 80, false),
            ("bar.org", 80, false),
            ("a.bar.org", 80, true),
            ("baz.net", 80, false),
            ("a.b.baz.net", 80, true),
            ("192.168.1.1", 443, true),
            ("192.168.1.2", 443, false),
            ("10.200.0.1", 443, true),
            ("2001:db8::52:0:1", 443, true),
            ("2001:db8::52:0:2", 443, false),
            ("fd12::1", 443, true),
            ("port.com", 8080, true),
            ("port.com", 80, false),
            ("a.port.com", 8080, true),
            ("172.16.0.1", 99, true),
            ("172.16.0.1", 98, false),
            ("2001:db8::3", 77, true),
            ("2001:db8::3", 78, false),
            ("localhost", 80, true),
            ("127.0.0.9", 80, true),
            ("::1", 80, true),
            ("example.com", 80, false),
        ] {
            assert_eq!(NoProxy::parse(list).matches(host, port), direct, "{host}:{port}");
        }
        assert!(NoProxy::parse("x,*").matches("example.com", 1));
        assert!(!NoProxy::parse("").matches("example.com", 1));
    }

    #[test]
    fn a_proxy_is_parsed_and_never_shown() {
        let proxy = Proxy::parse(&"http://us%20er:p%40ss@proxy.local:3128/".into()).unwrap();
        assert_eq!(proxy.user, Some(("us er".to_owned(), "p@ss".to_owned())));
        assert_eq!(format!("{proxy:?}"), "Proxy { kind: Http, address: \"proxy.local:3128\", .. }");
        assert_eq!(Proxy::parse(&"socks5://[::1]".into()).unwrap().address(), "[::1]:1080");
        assert_eq!(Proxy::parse_loosely(&"proxy.local:3128".into()).unwrap().address(), "proxy.local:3128");
        assert!(Proxy::parse(&"ftp://x".into()).is_none());
    }
}
