//! The HTTP server of the pages.

pub(crate) mod body;
mod route;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use self::body::PageBody;
use self::body::whole;
use self::route::{Route, RoutePrefix};
use crate::cli::WebArgs;
use crate::listener;
use crate::web_config::{Access, Admission, WebConfigError};

/// What the pages show; asked anew for each request.
pub trait Pages: Send + Sync + 'static {
    /// Whether the process can still do its work; if not, it is better started anew.
    fn is_healthy(&self) -> bool;

    /// The collector's own metrics in the format that `accept` prefers: content type and page.
    fn metrics(&self, accept: Option<&str>) -> impl Future<Output = (String, Vec<u8>)> + Send;

    /// `/api/v1/targets` as Prometheus answers it; `query` is the URL's query string.
    fn targets(&self, query: &str) -> impl Future<Output = PageBody> + Send;

    /// A page for people under this title, in HTML; `query` is the URL's query string. Its links are relative, so that
    /// they hold below every prefix, also one that a gateway takes away.
    fn status(&self, title: &str, query: &str) -> impl Future<Output = String> + Send;
}

/// What can be asked of the process from outside, where `--web.enable-lifecycle` allows it.
pub trait Lifecycle: Send + Sync {
    /// Takes up the configuration as it is now. Resolves when it is in force, or with the reason for which the one
    /// before stays.
    fn reload(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Lets the process end as on SIGTERM, without waiting for it.
    fn quit(&self);
}

/// A future that a trait object can give.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The listening sockets of the pages.
#[derive(Debug)]
pub struct Web {
    listeners: Vec<TcpListener>,
    prefix: RoutePrefix,
    title: String,
    read_timeout: Duration,
    max_connections: usize,
    has_lifecycle: bool,
    access: Option<Arc<Access>>,
    ready: Arc<AtomicBool>,
}

/// Why the pages can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(io::Error),
    /// The file of `--web.config.file` can't be used.
    #[error(transparent)]
    Config(#[from] WebConfigError),
    /// A flag's value can't be used.
    #[error("--{flag}: {reason}")]
    Flag {
        /// The flag's name.
        flag: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Web {
    /// Reads the file of `--web.config.file` and listens on each address that the flags name.
    ///
    /// # Errors
    /// A flag or a file that can't be used, an address that can't be listened on.
    pub async fn bind(args: &WebArgs) -> Result<Self, WebError> {
        if args.max_connections == 0 {
            let reason = "with 0 nobody would be answered; at least 1 is needed".to_owned();
            return Err(WebError::Flag { flag: "web.max-connections", reason });
        }
        let prefix = RoutePrefix::of(args)?;
        let file = args.config_file.as_deref().filter(|file| !file.as_os_str().is_empty());
        let access = file.map(Access::load).transpose()?.map(Arc::new);
        let mut listeners = Vec::new();
        for address in &args.listen_addresses {
            listeners.push(listener::bind(address).await.map_err(WebError::Listen)?);
        }
        Ok(Self {
            listeners,
            prefix,
            title: args.page_title.clone(),
            read_timeout: args.read_timeout.as_std(),
            max_connections: args.max_connections,
            has_lifecycle: args.lifecycle,
            access,
            ready: Arc::default(),
        })
    }

    /// The addresses that are listened on, in the order of the flags.
    ///
    /// # Errors
    /// What the system answered.
    pub fn local_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// The URL of the status page, at each address.
    ///
    /// # Errors
    /// What the system answered.
    pub fn urls(&self) -> io::Result<Vec<String>> {
        let is_tls = self.access.as_ref().is_some_and(|access| access.speaks_tls());
        let scheme = if is_tls { "https" } else { "http" };
        let addresses = self.local_addresses()?;
        Ok(addresses.iter().map(|address| format!("{scheme}://{address}{}/", self.prefix)).collect())
    }

    /// What `/-/ready` answers from now on.
    pub fn readiness(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// Answers requests until `stop` says true. Until there are pages, since what earlier runs left is still being
    /// read, only `/-/healthy` is answered with 200, and everything else with 503, but for `lifecycle`. That is asked
    /// only where the flag allows it.
    pub async fn serve<P: Pages>(
        self,
        pages: Arc<OnceLock<P>>,
        lifecycle: Option<Arc<dyn Lifecycle>>,
        stop: watch::Receiver<bool>,
    ) {
        let site = Arc::new(Site {
            pages,
            lifecycle: lifecycle.filter(|_| self.has_lifecycle),
            is_quitting: AtomicBool::new(false),
            access: self.access,
            ready: self.ready,
            prefix: self.prefix,
            title: self.title,
            read_timeout: self.read_timeout,
        });
        let places = Arc::new(Semaphore::new(self.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut listening = JoinSet::new();
        for listener in self.listeners {
            let site = Arc::clone(&site);
            let serve = move |stream| Arc::clone(&site).connection(stream);
            listening.spawn(listener::accept(listener, Arc::clone(&places), stop.clone(), serve));
        }
        listening.join_all().await;
    }
}

/// What all connections share.
struct Site<P> {
    pages: Arc<OnceLock<P>>,
    lifecycle: Option<Arc<dyn Lifecycle>>,
    is_quitting: AtomicBool,
    access: Option<Arc<Access>>,
    ready: Arc<AtomicBool>,
    prefix: RoutePrefix,
    title: String,
    read_timeout: Duration,
}

type Page = Response<PageBody>;

const TEXT: &str = "text/plain; charset=utf-8";
/// The path of a liveness probe.
const HEALTHY: &str = "/-/healthy";
const RELOAD: &str = "/-/reload";
const QUIT: &str = "/-/quit";

impl<P: Pages> Site<P> {
    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let tls = match &self.access {
            Some(access) => access.tls().await,
            None => None,
        };
        let Some(tls) = tls else { return self.serve(stream).await };
        // A handshake is a part of the first request's time, as in Go.
        let handshake = async {
            if !begins_tls(&stream).await? {
                return tell_of_tls(stream).await.map(|()| None);
            }
            TlsAcceptor::from(tls).accept(stream).await.map(Some)
        };
        let met = match self.limit() {
            Some(limit) => tokio::time::timeout(limit, handshake).await.unwrap_or(Ok(None)),
            None => handshake.await,
        };
        match met {
            Ok(Some(stream)) => self.serve(stream).await,
            Ok(None) => {}
            Err(error) => tracing::debug!("a connection to the pages failed: {error}"),
        }
    }

    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let limit = self.limit();
        let service = service_fn(move |request| {
            let site = Arc::clone(&self);
            async move { Ok::<_, Infallible>(site.admit(request).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        // It counts from the end of the answer before, too: idle connections end with it, as in Prometheus.
        http.timer(TokioTimer::new()).header_read_timeout(limit).max_buf_size(16 * 1024);
        // A client that goes away in the middle is no concern of ours.
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }

    /// How long a client may take to send a request, if not for ever.
    fn limit(&self) -> Option<Duration> {
        Some(self.read_timeout).filter(|timeout| !timeout.is_zero())
    }

    /// Lets in who may look, in the words of exporter-toolkit 0.20 (web/handler.go).
    async fn admit(&self, request: Request<Incoming>) -> Page {
        let Some(access) = &self.access else { return self.answer(request).await };
        let (admission, headers) = access.admit(request.headers()).await;
        let mut page = match admission {
            Admission::Welcome => self.answer(request).await,
            Admission::Unauthorized => {
                let page = page(StatusCode::UNAUTHORIZED, TEXT, "Unauthorized\n");
                with(page, header::WWW_AUTHENTICATE, "Basic")
            }
            Admission::TooMany => page(StatusCode::TOO_MANY_REQUESTS, TEXT, "Too Many Requests\n"),
        };
        page.headers_mut().extend(headers);
        page
    }

    async fn answer(&self, request: Request<Incoming>) -> Page {
        let path = match self.prefix.route(request.uri().path()) {
            Route::Page(path) => path,
            Route::Home => return self.to_home(),
            Route::Elsewhere => return not_found(),
        };
        if matches!(path, RELOAD | QUIT) {
            return self.act(request.method(), path).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let page = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are answered here\n");
            return with(page, header::ALLOW, "GET, HEAD");
        }
        let Some(pages) = self.pages.get() else {
            return match path {
                HEALTHY => page(StatusCode::OK, TEXT, "Promferry is Healthy.\n"),
                _ => unavailable("Service Unavailable: the spool is being read\n"),
            };
        };
        let query = request.uri().query().unwrap_or_default();
        match path {
            "/" | "/status" => {
                page(StatusCode::OK, "text/html; charset=utf-8", pages.status(&self.title, query).await)
            }
            "/metrics" => {
                let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
                let (content_type, metrics) = pages.metrics(accept).await;
                page(StatusCode::OK, &content_type, metrics)
            }
            HEALTHY if pages.is_healthy() => page(StatusCode::OK, TEXT, "Promferry is Healthy.\n"),
            HEALTHY => unavailable("Service Unavailable: nothing is stored any more\n"),
            "/-/ready" if self.ready.load(Ordering::Acquire) => {
                page(StatusCode::OK, TEXT, "Promferry is Ready.\n")
            }
            "/-/ready" => unavailable("Service Unavailable"),
            "/api/v1/targets" => respond(StatusCode::OK, "application/json", pages.targets(query).await),
            _ => not_found(),
        }
    }

    /// Reloads or ends the process, in the words of Prometheus 3.16 (web/web.go).
    async fn act(&self, method: &Method, path: &str) -> Page {
        if !matches!(*method, Method::POST | Method::PUT) {
            let page = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Only POST or PUT requests allowed");
            return with(page, header::ALLOW, "POST, PUT");
        }
        let Some(lifecycle) = &self.lifecycle else {
            return page(StatusCode::FORBIDDEN, TEXT, "Lifecycle API is not enabled.");
        };
        if path == QUIT {
            if self.is_quitting.swap(true, Ordering::Relaxed) {
                return page(StatusCode::OK, TEXT, "Termination already in progress.");
            }
            lifecycle.quit();
            return page(StatusCode::OK, TEXT, "Requesting termination... Goodbye!");
        }
        match lifecycle.reload().await {
            Ok(()) => Response::new(whole(Bytes::new())),
            Err(error) => {
                let text = format!("failed to reload config: {error}\n");
                page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        }
    }

    fn to_home(&self) -> Page {
        let mut found = Response::new(whole(Bytes::new()));
        *found.status_mut() = StatusCode::FOUND;
        if let Ok(home) = HeaderValue::try_from(format!("{}/", self.prefix)) {
            found.headers_mut().insert(header::LOCATION, home);
        }
        found
    }
}

/// Whether what a client says first is the beginning of a handshake.
async fn begins_tls(stream: &TcpStream) -> io::Result<bool> {
    const HANDSHAKE: u8 = 0x16;
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 0 || first[0] == HANDSHAKE)
}

/// What Go's server says to who speaks HTTP where TLS is spoken: it is a probe's missing `scheme: HTTPS`, mostly.
async fn tell_of_tls(mut stream: TcpStream) -> io::Result<()> {
    let answer =
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n".as_bytes();
    stream.write_all(answer).await?;
    stream.shutdown().await
}

fn page(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Page {
    respond(status, content_type, whole(body))
}

fn respond(status: StatusCode, content_type: &str, body: PageBody) -> Page {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(content_type) = content_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

fn with(mut page: Page, name: HeaderName, value: &'static str) -> Page {
    page.headers_mut().insert(name, HeaderValue::from_static(value));
    page
}

fn not_found() -> Page {
    page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n")
}

fn unavailable(text: &'static str) -> Page {
    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}
