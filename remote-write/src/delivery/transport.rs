use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use promferry_http_client::{Body, Error};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt as _};

/// How requests get to an endpoint: any tower service over whole bodies. Signing, concurrency limits and the
/// like are layers below it.
pub type Transport = BoxCloneSyncService<Request<Bytes>, Response<Bytes>, BoxError>;

/// Answers' bodies are read up to this many bytes: they are logged and classified, never stored whole.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long the body of a success is waited for: it has no meaning, but a connection whose answer was read to its
/// end can be used again.
const SUCCESS_BODY_PATIENCE: Duration = Duration::from_millis(250);

/// How long the body of a failure is waited for where the status decides: what it says is for people.
const FAILURE_BODY_PATIENCE: Duration = Duration::from_secs(1);

/// How long a body is waited for that decides over the data; one that has not ended by then has broken off.
const DECIDING_BODY_PATIENCE: Duration = Duration::from_secs(5);

/// A [`Transport`] over an HTTP client, possibly with layers already around it.
pub fn transport<S>(service: S) -> Transport
where
    S: Service<Request<Bytes>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(ReadAnswerLayer.layer(service.map_err(Into::into)))
}

/// Reads answers' bodies, up to [`MAX_ANSWER_BYTES`]. Where the status decides (success, 413, 503 and the like) they
/// are not waited for long; where what is said decides over the data (400, 429 and the like) an answer that breaks
/// off, or does not end within five seconds, is an error: a [`BrokenAnswer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadAnswerLayer;

impl<S> Layer<S> for ReadAnswerLayer {
    type Service = ReadAnswer<S>;

    fn layer(&self, inner: S) -> ReadAnswer<S> {
        ReadAnswer { inner }
    }
}

/// The service of [`ReadAnswerLayer`].
#[derive(Clone, Copy, Debug)]
pub struct ReadAnswer<S> {
    inner: S,
}

impl<S> Service<Request<Bytes>> for ReadAnswer<S>
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Bytes>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move {
            let (head, mut body) = answer.await?.into_parts();
            let mut read = BytesMut::new();
            let is_decided_by_body = is_decided_by_body(head.status);
            // One that never ends would have what was written, or is too large, sent again, and again.
            let patience = match head.status {
                status if status.is_success() => SUCCESS_BODY_PATIENCE,
                _ if is_decided_by_body => DECIDING_BODY_PATIENCE,
                _ => FAILURE_BODY_PATIENCE,
            };
            let reading = tokio::time::timeout(patience, read_into(&mut read, &mut body)).await;
            let read = read.freeze();
            let source = match reading {
                Ok(Err(error)) if is_decided_by_body => Some(error),
                Err(_) if is_decided_by_body => None,
                _ => return Ok(Response::from_parts(head, read)),
            };
            Err(BrokenAnswer { status: head.status, headers: head.headers, read, source }.into())
        })
    }
}

async fn read_into(read: &mut BytesMut, body: &mut Body) -> Result<(), Error> {
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk?;
        let room = MAX_ANSWER_BYTES - read.len();
        read.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if read.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(())
}

/// Half a text could be of another class than the whole.
fn is_decided_by_body(status: StatusCode) -> bool {
    let by_head = status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 408 | 413);
    !status.is_success() && !by_head
}

/// An answer whose text decides over the data, of which only the beginning came.
#[derive(Debug, thiserror::Error)]
#[error("answered {status}, and the text broke off")]
#[non_exhaustive]
pub struct BrokenAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What came of its text.
    pub read: Bytes,
    /// What ended it; `None` where nothing did.
    pub source: Option<Error>,
}

impl BrokenAnswer {
    /// The one that an error is or was caused by.
    pub(super) fn among(error: &BoxError) -> Option<&Self> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
        while let Some(error) = cause {
            match error.downcast_ref() {
                Some(broken) => return Some(broken),
                None => cause = error.source(),
            }
        }
        None
    }

    /// The answer as if it had ended there.
    pub(super) fn as_it_is(&self) -> Response<Bytes> {
        let mut answer = Response::new(self.read.clone());
        *answer.status_mut() = self.status;
        answer.headers_mut().clone_from(&self.headers);
        answer
    }
}

/// Why a request got no answer, as far as that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody takes connections there.
    Unreachable,
    /// It was sent on and on, or to where nothing can be sent.
    Redirected,
    /// It may have been received.
    Other,
}

impl Failure {
    pub(super) fn of(error: &BoxError) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
        while let Some(error) = cause {
            match error.downcast_ref::<Error>() {
                Some(Error::Redirect { .. }) => return Self::Redirected,
                Some(error) if error.is_connect() && !error.is_timeout() => return Self::Unreachable,
                _ => cause = error.source(),
            }
        }
        Self::Other
    }
}

/// An error and what caused it, in one line, no text twice.
pub(crate) fn describe(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
