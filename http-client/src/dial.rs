//! From a URL to a connected stream: name, TCP, proxy, TLS.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsConnector;
use tower::Service;

use crate::Error;
use crate::error::{io_reason, root_cause};
use crate::proxy::{Proxies, Proxy, ProxyKind};
use crate::stream::Stream;
use crate::tls::{TlsSource, handshake_reason};

/// As in Prometheus.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time a proxy may take to answer a CONNECT.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to hosts as one `http_config` says.
pub(crate) struct Dialer {
    tcp: HttpConnector<Resolver>,
    connect_timeout: Duration,
    pub(crate) proxies: Proxies,
    pub(crate) tls: Arc<TlsSource>,
}

/// Where a request goes; an IPv6 address is in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whom to ask for over TLS where that is not the host.
    pub(crate) server_name: Option<String>,
}

impl Destination {
    /// # Errors
    /// [`Error::Request`] for a URL without host or with a scheme other than http and https.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Request { reason: reason.to_owned() };
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(fail("the url's scheme must be http or https")),
            None => return Err(fail("the url has no scheme and host")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| fail("the url has no host"))?;
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host: host.to_owned(), port, server_name: None })
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }
}

impl Dialer {
    pub(crate) fn new(proxies: Proxies, tls: Arc<TlsSource>, connect_timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(15)));
        Self { tcp, connect_timeout, proxies, tls }
    }

    /// The proxy that a request to `destination` goes through.
    pub(crate) fn proxy(&self, destination: &Destination) -> Option<&Proxy> {
        self.proxies.choose(destination.https, destination.bare_host(), destination.port)
    }

    pub(crate) async fn dial(&self, destination: &Destination, http2: bool) -> Result<Stream, Error> {
        let stream = match self.proxy(destination) {
            None => self.tcp(&destination.host, destination.port).await?,
            Some(proxy) => self.through(proxy, destination).await?,
        };
        if !destination.https {
            return Ok(stream);
        }
        let name = destination.server_name.as_ref().unwrap_or(&destination.host);
        self.handshake(stream, name, http2).await
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<Stream, Error> {
        let address = format!("{host}:{port}");
        let uri = Uri::builder().scheme("http").authority(address.as_str()).path_and_query("/").build();
        let uri = uri.map_err(|_| Error::Request { reason: format!("{address:?} is not an address") })?;
        let connecting = self.tcp.clone().call(uri);
        match within(self.connect_timeout, "connecting to", &address, connecting).await? {
            Ok(tcp) => Ok(Stream::tcp(tcp.into_inner())),
            Err(error) => Err(connect_error(&error, host, address)),
        }
    }

    async fn handshake(&self, stream: Stream, host: &str, http2: bool) -> Result<Stream, Error> {
        let name = self.tls.server_name(host)?;
        let connector = TlsConnector::from(self.tls.client_config(http2)?);
        let step = "the tls handshake with";
        match within(TLS_HANDSHAKE_TIMEOUT, step, host, connector.connect(name, stream)).await? {
            Ok(tls) => Ok(Stream::tls(tls)),
            Err(error) => Err(Error::Tls { host: host.to_owned(), reason: handshake_reason(&error) }),
        }
    }

    async fn through(&self, proxy: &Proxy, destination: &Destination) -> Result<Stream, Error> {
        let address = proxy.address();
        let blame = |error: Error| match error {
            timeout @ Error::Timeout { .. } => timeout,
            other => Error::Proxy { proxy: address.clone(), reason: other.to_string() },
        };
        let mut stream = self.tcp(&proxy.host, proxy.port).await.map_err(blame)?;
        if proxy.kind == ProxyKind::Https {
            stream = self.handshake(stream, &proxy.host, false).await.map_err(blame)?;
        }
        let tunnelling = async {
            match proxy.kind {
                ProxyKind::Socks5 => self.socks(stream, proxy, destination).await,
                _ if destination.https => self.tunnel(stream, proxy, destination).await,
                _ => {
                    stream.to_proxy = true;
                    Ok(stream)
                }
            }
        };
        let opened = within(TUNNEL_TIMEOUT, "opening a tunnel through", &address, tunnelling).await?;
        opened.map_err(|reason| Error::Proxy { proxy: address, reason })
    }

    async fn socks(
        &self,
        stream: Stream,
        proxy: &Proxy,
        destination: &Destination,
    ) -> Result<Stream, String> {
        let to = |address: &str| {
            Uri::builder()
                .scheme("http")
                .authority(address)
                .path_and_query("/")
                .build()
                .map_err(|e| e.to_string())
        };
        let mut socks = SocksV5::new(to(&proxy.address())?, Once(Some(stream)));
        if let Some((user, password)) = &proxy.user {
            socks = socks.with_auth(user.clone(), password.clone());
        }
        let opened = socks.call(to(&destination.address())?).await;
        opened.map(TokioIo::into_inner).map_err(|error| {
            format!("it does not open a tunnel to {}: {}", destination.address(), root_cause(&error))
        })
    }

    async fn tunnel(
        &self,
        stream: Stream,
        proxy: &Proxy,
        destination: &Destination,
    ) -> Result<Stream, String> {
        let target = destination.address();
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = target.parse().map_err(|_| format!("{target:?} is not an address"))?;
        let host = HeaderValue::try_from(&target).map_err(|_| format!("{target:?} is not an address"))?;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().extend(self.proxies.connect_headers.clone());
        if let Some(authorization) = proxy.authorization() {
            request.headers_mut().entry(header::PROXY_AUTHORIZATION).or_insert(authorization);
        }
        let unanswered = |error: hyper::Error| format!("it does not answer CONNECT: {}", root_cause(&error));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unanswered)?;
        let driver = AbortOnDrop(tokio::spawn(connection.with_upgrades()));
        let response = sender.send_request(request).await.map_err(unanswered)?;
        let status = response.status();
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err("it wants a user name and password, or refuses those of proxy_url (407)".to_owned());
        }
        if !status.is_success() {
            return Err(format!("it refuses the connection to {target} with status {status}"));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(unanswered)?;
        drop(driver);
        match upgraded.downcast::<TokioIo<Stream>>() {
            // TLS lets the client speak first, so bytes that are here already are none of the target's.
            Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io.into_inner()),
            _ => Err("it sent data of its own into the tunnel".to_owned()),
        }
    }
}

/// Ends a connection's driver with the future that needed it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn within<T>(
    limit: Duration,
    step: &'static str,
    host: &str,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work).await.map_err(|_| Error::Timeout {
        step,
        host: host.to_owned(),
        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    })
}

fn connect_error(error: &(dyn StdError + 'static), host: &str, address: String) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(dns) = error.downcast_ref::<DnsError>() {
            return Error::Dns { host: host.to_owned(), reason: io_reason(&dns.0) };
        }
        cause = error.source();
    }
    Error::Connect { address, reason: root_cause(error) }
}

/// The system's resolver, with errors that can be told from those of connecting.
#[derive(Clone)]
struct Resolver(GaiResolver);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DnsError(std::io::Error);

impl Service<Name> for Resolver {
    type Response = <GaiResolver as Service<Name>>::Response;
    type Error = DnsError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DnsError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DnsError>> {
        self.0.poll_ready(cx).map_err(DnsError)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let looking_up = self.0.call(name);
        Box::pin(async move { looking_up.await.map_err(DnsError) })
    }
}

/// The connector that `SocksV5` wants, for a connection that is there already.
struct Once(Option<Stream>);

impl Service<Uri> for Once {
    type Response = TokioIo<Stream>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<TokioIo<Stream>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(
            self.0.take().map(TokioIo::new).ok_or_else(|| std::io::ErrorKind::NotConnected.into()),
        )
    }
}
