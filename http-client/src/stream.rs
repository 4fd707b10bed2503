//! The byte stream below HTTP: TCP, or TLS over it, or TLS over a tunnel over either.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::gather::Gather;

/// A connection, ready for HTTP.
pub(crate) struct Stream {
    io: Io,
    /// Requests go to a proxy, which wants their whole URL.
    pub(crate) to_proxy: bool,
    gather: Option<Box<Gather>>,
}

enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Stream>>),
}

impl Stream {
    pub(crate) fn tcp(tcp: TcpStream) -> Self {
        Self { io: Io::Tcp(tcp), to_proxy: false, gather: None }
    }

    pub(crate) fn tls(tls: TlsStream<Self>) -> Self {
        Self { io: Io::Tls(Box::new(tls)), to_proxy: false, gather: None }
    }

    /// The same, read in intervals of `pause` where little comes; as it comes if that is zero.
    pub(crate) fn gathering(mut self, pause: Duration) -> Self {
        self.gather = (!pause.is_zero()).then(|| Box::new(Gather::new(pause)));
        self
    }

    fn negotiated_http2(&self) -> bool {
        match &self.io {
            Io::Tcp(_) => false,
            Io::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.to_proxy);
        if self.negotiated_http2() { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, gather, .. } = &mut *self;
        let Some(gather) = gather else { return io.poll_read(cx, buf) };
        ready!(gather.poll_due(cx, |cx| io.poll_readable(cx)))?;
        let before = buf.filled().len();
        let read = io.poll_read(cx, buf);
        gather.note(buf.filled().len() - before, read.is_pending());
        read
    }
}

impl Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }

    /// Ready when something has come in.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Tls(tls) => tls.get_ref().0.io.poll_readable(cx),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(tcp) => tcp.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
