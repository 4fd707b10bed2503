use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tower::Service;

use crate::dial::Destination;
use crate::origin::Origin;
use crate::redirect::{Arrival, Journey};
use crate::stream::Stream;
use crate::{Body, Error, Http};

type Pool = legacy::Client<Connector, Full<Bytes>>;

/// A pooled client: a [`tower::Service`] for remote write and for discovery.
///
/// Clones share one pool of connections. HTTP/1.1 is spoken, or HTTP/2 where the caller
/// ([`HttpOptions::http2`](crate::HttpOptions::http2)), the configuration and the server agree; then requests to a host
/// share one connection, whose end is noticed within a minute. Connections that are
/// idle for [`HttpOptions::idle_timeout`](crate::HttpOptions::idle_timeout) are closed, and so are all when a
/// certificate file has changed. Nothing limits the time of a request except for connecting: put
/// `tower::timeout` or `tokio::time::timeout` around it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
/// use tower::Service;
///
/// let mut client = Client::new(Http::new(&HttpClientConfig::default(), HttpOptions::default())?);
/// let request = http::Request::get("http://127.0.0.1:1/").body(bytes::Bytes::new()).unwrap();
/// assert!(client.call(request).await.unwrap_err().is_connect());
/// # Ok::<(), promferry_http_client::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Client {
    http: Http,
    pool: Arc<Mutex<Generation>>,
}

/// A pool and the certificates its connections were made with.
struct Generation {
    tls: Option<u64>,
    pool: Pool,
}

impl Client {
    /// A client without connections yet.
    pub fn new(http: Http) -> Self {
        let generation = Generation { tls: None, pool: new_pool(&http) };
        Self { pool: Arc::new(Mutex::new(generation)), http }
    }

    async fn send(self, request: Request<Bytes>) -> Result<Response<Body>, Error> {
        if Origin::of(request.extensions())?.is_some() {
            let reason = "a pooled client serves no host other than the one it connects to".to_owned();
            return Err(Error::Request { reason });
        }
        let (mut journey, mut destination) = Journey::new(request)?;
        loop {
            let request = journey.request(&self.http, &destination).await?;
            let pool = self.pool(&destination)?;
            let answered = pool.request(request).await;
            let response = answered.map_err(|error| Error::from_pool(&error, &destination.host))?;
            match journey.arrived(response, &self.http, &destination).await? {
                Arrival::Final(response) => return Ok(response),
                Arrival::GoOn(next) => destination = next,
            }
        }
    }

    fn pool(&self, destination: &Destination) -> Result<Pool, Error> {
        let mut current = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if destination.https {
            let tls = Some(self.http.dialer().tls.generation()?);
            if current.tls.is_some() && current.tls != tls {
                current.pool = new_pool(&self.http);
            }
            current.tls = tls;
        }
        Ok(current.pool.clone())
    }
}

fn new_pool(http: &Http) -> Pool {
    legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(http.idle_timeout())
        // Without a timer the idle timeout has no effect.
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http1_max_buf_size(READ_BUFFER_LIMIT_BYTES)
        .http2_adaptive_window(false)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        // Many answers may be coming over one connection, and nobody would notice that it is dead.
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(HTTP2_PING_LIMIT)
        .build(Connector { http: http.clone() })
}

/// Pooled connections are few and their answers small; this is also the limit of an answer's head.
const READ_BUFFER_LIMIT_BYTES: usize = 64 << 10;

/// What a server may send of one answer, and of all, before they are read: memory that it can make us take.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 512 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// The time without a word after which a connection in use is asked whether it is alive, and the time to answer, as in
/// Kubernetes' client-go.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
const HTTP2_PING_LIMIT: Duration = Duration::from_secs(15);

impl Service<Request<Bytes>> for Client {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("http", &self.http).finish_non_exhaustive()
    }
}

/// What the pool opens connections with.
#[derive(Clone)]
struct Connector {
    http: Http,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let http = self.http.clone();
        Box::pin(async move {
            let destination = Destination::of(&uri)?;
            let stream = http.dialer().dial(&destination, http.http2()).await?;
            Ok(TokioIo::new(stream.gathering(http.gather_reads())))
        })
    }
}
