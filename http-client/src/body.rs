use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::Error;

/// The body of an answer, read as it arrives.
///
/// Read it to the end to keep the connection; dropping it earlier closes an HTTP/1.1 connection.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    host: Arc<str>,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, host: &str) -> Self {
        Self { incoming, host: host.into() }
    }

    /// The next bytes as they come from the connection (a few KB at a time over HTTP/1.1), still compressed if the
    /// answer is; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Closed`] when the connection ended first, [`Error::Exchange`] for anything else.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            match self.incoming.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(Error::from_hyper(&error, &self.host))),
            }
        }
    }

    /// The rest of the body in one piece.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`] when it is longer than `limit_bytes`, and those of [`chunk`](Self::chunk).
    pub async fn read_to_end(mut self, limit_bytes: usize) -> Result<Bytes, Error> {
        let too_large = |host: &str| Error::BodyTooLarge { host: host.to_owned(), limit_bytes };
        if http_body::Body::size_hint(&self).lower() > limit_bytes as u64 {
            return Err(too_large(&self.host));
        }
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            let chunk = chunk?;
            if whole.len() + chunk.len() > limit_bytes {
                return Err(too_large(&self.host));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        polled.map_err(|error| Error::from_hyper(&error, &self.host))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
