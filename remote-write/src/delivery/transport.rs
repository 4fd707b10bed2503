use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use promferry_http_client::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt as _};

/// How requests get to an endpoint: any tower service over whole bodies. Signing, concurrency limits and the
/// like are layers below it.
pub type Transport = BoxCloneSyncService<Request<Bytes>, Response<Bytes>, BoxError>;

/// Answers' bodies are read up to this many bytes: they are logged and classified, never stored whole.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A [`Transport`] over an HTTP client, possibly with layers already around it.
pub fn transport<S>(service: S) -> Transport
where
    S: Service<Request<Bytes>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(ReadAnswerLayer.layer(service.map_err(Into::into)))
}

/// Reads answers' bodies, up to [`MAX_ANSWER_BYTES`].
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
            while let Some(chunk) = body.chunk().await {
                // The head has decided already: a body that breaks off takes nothing from it.
                let Ok(chunk) = chunk else { break };
                let room = MAX_ANSWER_BYTES - read.len();
                read.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if read.len() == MAX_ANSWER_BYTES {
                    break;
                }
            }
            Ok(Response::from_parts(head, read.freeze()))
        })
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
