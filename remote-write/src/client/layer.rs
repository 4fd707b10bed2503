use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use promferry_http_client::KeepMethod;
use promferry_model::Timestamp;
use tower::{BoxError, Layer, Service};

use crate::delivery::Outcome;
use crate::encode::Request;
use crate::options::shown_url;
use crate::refusal::written;
use crate::{Counts, Protocol};

/// Makes of a service for HTTP requests one for remote-write requests: it puts the protocol's headers on what
/// goes out, and reads what comes back as an [`Outcome`].
///
/// Below it goes what concerns each attempt (signing, reading answers:
/// [`ReadAnswerLayer`](crate::delivery::ReadAnswerLayer)), above it what concerns a request (concurrency, retries).
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use promferry_remote_write::delivery::Outcome;
/// use promferry_remote_write::{WriteLayer, encode, wire::v1};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// // An endpoint that takes everything; a client of any HTTP library stands here else.
/// let endpoint = tower::service_fn(|request: http::Request<Bytes>| async move {
///     assert_eq!(request.headers()["x-prometheus-remote-write-version"], "0.1.0");
///     Ok::<_, BoxError>(http::Response::new(Bytes::new()))
/// });
/// let service = ServiceBuilder::new()
///     .concurrency_limit(4)
///     .map_request(encode::Request::from) // protobuf and snappy
///     .layer(WriteLayer::new("http://localhost:9009/api/v1/write".parse()?))
///     .service(endpoint);
/// let answer = service.oneshot(v1::WriteRequest::default()).await?;
/// assert_eq!(answer.outcome, Outcome::Delivered);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WriteLayer {
    url: Uri,
    headers: HeaderMap,
}

impl WriteLayer {
    /// Posts to `url`.
    pub fn new(url: Uri) -> Self {
        Self { url, headers: HeaderMap::new() }
    }

    /// Sends these headers along; what the protocol says of its own headers stays.
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }
}

impl<S> Layer<S> for WriteLayer {
    type Service = Write<S>;

    fn layer(&self, inner: S) -> Write<S> {
        Write { inner, url: self.url.clone(), headers: self.headers.clone() }
    }
}

/// Shows neither a password in the URL nor what is in its query, nor the values of headers.
impl fmt::Debug for WriteLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteLayer")
            .field("url", &shown_url(&self.url.to_string()))
            .field("headers", &HeaderNames(&self.headers))
            .finish()
    }
}

/// The service of [`WriteLayer`].
#[derive(Clone)]
pub struct Write<S> {
    inner: S,
    url: Uri,
    headers: HeaderMap,
}

impl<S> Write<S> {
    pub(super) fn add_headers(&mut self, headers: HeaderMap) {
        self.headers.extend(headers);
    }
}

/// As [`WriteLayer`]'s.
impl<S: fmt::Debug> fmt::Debug for Write<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("inner", &self.inner)
            .field("url", &shown_url(&self.url.to_string()))
            .field("headers", &HeaderNames(&self.headers))
            .finish()
    }
}

/// Headers as they may be shown.
struct HeaderNames<'a>(&'a HeaderMap);

impl fmt::Debug for HeaderNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, format_args!("<secret>")))).finish()
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// What the answer means.
    pub outcome: Outcome,
    /// The answer's status.
    pub status: StatusCode,
    /// What a receiver of 2.0 says that it wrote; `None` from one that does not say.
    pub written: Option<Counts>,
    /// The answer's body as it came. After a success it has no meaning.
    pub body: Bytes,
}

impl<S> Service<Request> for Write<S>
where
    S: Service<http::Request<Bytes>, Response = http::Response<Bytes>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let protocol = request.protocol;
        let mut post = http::Request::new(request.body);
        *post.method_mut() = Method::POST;
        *post.uri_mut() = self.url.clone();
        post.headers_mut().clone_from(&self.headers);
        put_headers(post.headers_mut(), protocol);
        post.extensions_mut().insert(KeepMethod);
        let answer = self.inner.call(post);
        Box::pin(async move {
            let (head, body) = answer.await.map_err(Into::into)?.into_parts();
            let now = Timestamp::from(std::time::SystemTime::now());
            Ok(Answer {
                outcome: Outcome::of(head.status, &head.headers, &body, protocol, now),
                status: head.status,
                written: (protocol == Protocol::V2).then(|| written(&head.headers)).flatten(),
                body,
            })
        })
    }
}

/// Puts the headers that a message of `protocol` goes with among the others.
pub(crate) fn put_headers(headers: &mut HeaderMap, protocol: Protocol) {
    let (content_type, version) = match protocol {
        Protocol::V1 => ("application/x-protobuf", "0.1.0"),
        Protocol::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(
        HeaderName::from_static("x-prometheus-remote-write-version"),
        HeaderValue::from_static(version),
    );
}
