//! Bodies of answers, whole or made while they are sent.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The body of an answer. One that can't be brought to its end breaks the connection off, so that nobody takes it for
/// whole.
pub type PageBody = Either<Full<Bytes>, Pieces>;

/// The pieces of a body that is made while it is sent.
#[derive(Debug)]
pub struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    /// The last piece was the end.
    is_whole: Arc<AtomicBool>,
}

/// What is sent at once.
const PIECE_BYTES: usize = 64 * 1024;
/// For how long a client may take for the whole: a thread waits for it.
const AT_MOST: Duration = Duration::from_secs(60);

/// A body that is known.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> PageBody {
    Either::Left(Full::new(bytes.into()))
}

/// A body that `write` writes while it is sent, where blocking does no harm: two pieces of 64 KiB are held of it,
/// however long it is. A client that goes away, or takes more than a minute, ends it.
pub(crate) fn streamed(write: impl FnOnce(&mut BodyWriter) -> io::Result<()> + Send + 'static) -> PageBody {
    let (to, pieces) = mpsc::channel(1);
    let is_whole = Arc::new(AtomicBool::new(false));
    let body = Pieces { pieces, is_whole: Arc::clone(&is_whole) };
    let mut writer =
        BodyWriter { piece: Vec::new(), to, runtime: Handle::current(), until: Instant::now() + AT_MOST };
    tokio::task::spawn_blocking(move || match write(&mut writer).and_then(|()| writer.send()) {
        Ok(()) => is_whole.store(true, Ordering::Release),
        Err(error) => tracing::debug!("a page was not sent to its end: {error}"),
    });
    Either::Right(body)
}

/// Where a body is written that is [`streamed`].
pub(crate) struct BodyWriter {
    piece: Vec<u8>,
    to: mpsc::Sender<Bytes>,
    runtime: Handle,
    until: Instant,
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    /// Nothing: pieces are sent when they are full, and the last at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BodyWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        // A timer has to be made within the runtime.
        let sending = async { tokio::time::timeout_at(self.until, self.to.send(piece)).await };
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client went away")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes too long")),
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Self::Data>>>> {
        let broken_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the page breaks off");
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            // Once it is told, nothing more is asked for.
            None => (!self.is_whole.load(Ordering::Acquire)).then(|| Err(broken_off())),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_long_body_arrives_whole_and_in_pieces() {
        let text = |line: u32| format!("line {line}\n");
        let mut body =
            streamed(move |to| (0..100_000).try_for_each(|line| to.write_all(text(line).as_bytes())));
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() < PIECE_BYTES + 100);
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, (0..100_000).map(text).collect::<String>().into_bytes());
        assert!(streamed(|_| Ok(())).frame().await.is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_breaks_off_is_no_end() {
        let body = streamed(|to| {
            to.write_all(&[b'x'; PIECE_BYTES])?;
            Err(io::Error::other("no more"))
        });
        assert!(body.collect().await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_client_that_goes_away_ends_the_writing() {
        let (ended, told) = tokio::sync::oneshot::channel();
        let body = streamed(move |to| {
            let written = (0..100).try_for_each(|_| to.write_all(&[b'x'; PIECE_BYTES]));
            let _ = ended.send(written.as_ref().map_err(io::Error::kind).copied());
            written
        });
        drop(body);
        assert_eq!(told.await.unwrap(), Err(io::ErrorKind::BrokenPipe));
    }
}
