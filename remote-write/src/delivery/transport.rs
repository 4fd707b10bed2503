use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
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

/// A [`Transport`] over an HTTP client, possibly with layers already around it.
pub fn transport<S>(service: S) -> Transport
where
    S: Service<Request<Bytes>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(ReadAnswerLayer.layer(service.map_err(Into::into)))
}

/// Reads answers' bodies, up to [`MAX_ANSWER_BYTES`]. A success needs none; where what is said decides over the data
/// (400, 429 and the like) an answer that breaks off is an error, as if there had been none.
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
            let reading = read_into(&mut read, &mut body);
            let broken_off = if head.status.is_success() {
                // One that never ends would have what was written sent again, and again.
                let _ = tokio::time::timeout(SUCCESS_BODY_PATIENCE, reading).await;
                None
            } else {
                reading.await.err()
            };
            match broken_off {
                Some(error) if is_decided_by_body(head.status) => Err(error.into()),
                _ => Ok(Response::from_parts(head, read.freeze())),
            }
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
