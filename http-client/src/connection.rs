use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use crate::dial::Destination;
use crate::error::head_is_too_large;
use crate::origin::SentSecrets;
use crate::redirect::{Arrival, Journey};
use crate::{Body, Error, Http};

/// hyper's own choice grows with the largest page ever read and never shrinks: some 200 KB for each idle connection
/// after pages of 200 KB, against 19 KB this way.
const READ_BUFFER_BYTES: usize = 8 << 10;
/// The read buffer also limits the head of an answer. A server whose head does not fit gets another connection with
/// this one.
const LARGE_READ_BUFFER_BYTES: usize = 256 << 10;
/// A connection whose last body was read to its end is free again as soon as its task has run.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(50);

/// One HTTP/1.1 connection that is kept alive between requests, for a scrape loop to own.
///
/// It connects when first used and again whenever the server, a changed certificate or an answer that was not read to
/// its end has closed it; dropping it closes the connection. It needs a tokio runtime with I/O and time enabled.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use promferry_http_client::{Connection, Http, HttpClientConfig, HttpOptions};
///
/// let http = Http::new(&HttpClientConfig::default(), HttpOptions::default())?;
/// let mut connection = Connection::new(http);
/// let request = http::Request::get("http://127.0.0.1:1/metrics").body(bytes::Bytes::new()).unwrap();
/// let error = connection.send(request).await.unwrap_err();
/// assert_eq!(error.to_string(), "cannot connect to 127.0.0.1:1: connection refused");
/// # Ok::<(), promferry_http_client::Error>(())
/// # }).unwrap();
/// ```
pub struct Connection {
    http: Http,
    /// To the host that requests are for.
    home: Option<Open>,
    /// To the host that they are redirected to, if that is another one.
    away: Option<Box<Open>>,
    read_buffer_bytes: usize,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    destination: Destination,
    to_proxy: bool,
    tls_generation: u64,
}

impl Connection {
    /// A connection that is not open yet.
    pub fn new(http: Http) -> Self {
        Self { http, home: None, away: None, read_buffer_bytes: READ_BUFFER_BYTES }
    }

    /// Sends a request with an absolute `http` or `https` URL and returns the head of the answer with its body still
    /// to be read. There is no limit on the time this takes except for connecting: put one around it.
    ///
    /// A request that meets a kept-alive connection which the server has just closed is sent once more, on a new one.
    ///
    /// # Errors
    /// See [`Error`]; an answer with a status of 400 or above is none.
    pub async fn send(&mut self, request: Request<Bytes>) -> Result<Response<Body>, Error> {
        let (mut journey, mut destination) = Journey::new(request)?;
        loop {
            let response = self.exchange(&journey, &destination).await?;
            match journey.arrived(response, &self.http, &destination).await? {
                Arrival::Final(response) => return Ok(response),
                Arrival::GoOn(next) => destination = next,
            }
        }
    }

    /// What it connects with.
    pub fn http(&self) -> &Http {
        &self.http
    }

    async fn exchange(
        &mut self,
        journey: &Journey,
        destination: &Destination,
    ) -> Result<Response<Incoming>, Error> {
        let tls_generation = if destination.https { self.http.dialer().tls.generation()? } else { 0 };
        let kept = self.take(destination).filter(|open| open.tls_generation == tls_generation);
        let mut request = journey.request(&self.http, destination).await?;
        let mut secrets = SentSecrets::of(request.headers());
        if let Some(mut open) = kept
            && is_free(&mut open.sender).await
        {
            let is_idempotent = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
            match open.sender.try_send_request(addressed(request, open.to_proxy)).await {
                Ok(response) => {
                    self.keep(journey, open);
                    return Ok(secrets.beside(response));
                }
                Err(mut failed) => {
                    let unsent = failed.take_message().is_some();
                    let error = failed.into_error();
                    let is_stale = unsent || (is_idempotent && ended_by_server(&error));
                    if !is_stale && !self.enlarge(&error) {
                        return Err(Error::from_hyper(&error, &destination.host));
                    }
                }
            }
            request = journey.request(&self.http, destination).await?;
            secrets = SentSecrets::of(request.headers());
        }
        let mut open = self.open(destination, tls_generation).await?;
        match open.sender.send_request(addressed(request, open.to_proxy)).await {
            Ok(response) => {
                self.keep(journey, open);
                return Ok(secrets.beside(response));
            }
            Err(error) if self.enlarge(&error) => {}
            Err(error) => return Err(Error::from_hyper(&error, &destination.host)),
        }
        let request = journey.request(&self.http, destination).await?;
        let secrets = SentSecrets::of(request.headers());
        let mut open = self.open(destination, tls_generation).await?;
        let answered = open.sender.send_request(addressed(request, open.to_proxy)).await;
        let response = answered.map_err(|error| Error::from_hyper(&error, &destination.host))?;
        self.keep(journey, open);
        Ok(secrets.beside(response))
    }

    async fn open(&self, destination: &Destination, tls_generation: u64) -> Result<Open, Error> {
        let stream = self.http.dialer().dial(destination, false).await?;
        let to_proxy = stream.to_proxy;
        let handshake = http1::Builder::new()
            .read_buf_exact_size(Some(self.read_buffer_bytes))
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(|error| Error::from_hyper(&error, &destination.host))?;
        tokio::spawn(async move {
            // The request in progress gets the same error; without one nobody is interested.
            let _ = connection.await;
        });
        Ok(Open { sender, destination: destination.clone(), to_proxy, tls_generation })
    }

    fn take(&mut self, destination: &Destination) -> Option<Open> {
        if self.home.as_ref().is_some_and(|open| open.destination == *destination) {
            return self.home.take();
        }
        if self.away.as_ref().is_some_and(|open| open.destination == *destination) {
            return self.away.take().map(|open| *open);
        }
        None
    }

    fn keep(&mut self, journey: &Journey, open: Open) {
        let is_home = !journey.is_redirected() || self.home.is_none();
        if is_home {
            self.home = Some(open);
        } else {
            self.away = Some(Box::new(open));
        }
    }

    /// Whether the head of an answer was too large and may fit next time.
    fn enlarge(&mut self, error: &hyper::Error) -> bool {
        let may_fit = head_is_too_large(error) && self.read_buffer_bytes < LARGE_READ_BUFFER_BYTES;
        if may_fit {
            self.read_buffer_bytes = LARGE_READ_BUFFER_BYTES;
        }
        may_fit
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = self.home.as_ref().map(|open| open.destination.address());
        f.debug_struct("Connection").field("http", &self.http).field("connected_to", &destination).finish()
    }
}

/// Whether the next request can go out: the last answer was read to its end and the server still listens.
async fn is_free(sender: &mut SendRequest<Full<Bytes>>) -> bool {
    sender.is_ready()
        || tokio::time::timeout(SETTLE_TIMEOUT, sender.ready()).await.is_ok_and(|ready| ready.is_ok())
}

fn ended_by_server(error: &hyper::Error) -> bool {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return true;
    }
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::ConnectionAborted
                | std::io::ErrorKind::BrokenPipe
                | std::io::ErrorKind::UnexpectedEof
        )
    })
}

/// Servers get the path and a `Host`, proxies the whole URL.
fn addressed(mut request: Request<Full<Bytes>>, to_proxy: bool) -> Request<Full<Bytes>> {
    let uri = request.uri().clone();
    if !request.headers().contains_key(header::HOST)
        && let Some(host) = host_header(&uri)
    {
        request.headers_mut().insert(header::HOST, host);
    }
    if !to_proxy && let Some(path) = uri.path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    request
}

/// Host and port, without the port that the scheme implies.
fn host_header(uri: &Uri) -> Option<HeaderValue> {
    let host = uri.host()?;
    let implied = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    match uri.port_u16().filter(|port| *port != implied) {
        Some(port) => HeaderValue::try_from(format!("{host}:{port}")).ok(),
        None => HeaderValue::try_from(host).ok(),
    }
}
