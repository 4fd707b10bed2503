//! Ports of 127.0.0.1 that stay their owner's while nobody listens there.

use std::{io, net::SocketAddr};
use tokio::net::{TcpListener, TcpSocket};

/// Pending connections of a listener, as tokio has it by itself.
const BACKLOG: u32 = 1024;

/// A port of 127.0.0.1 that the system gives to nobody else until this is dropped. Connections to it are refused except
/// while somebody listens: this process by [`listen`](Self::listen), or a program that is told the address and binds it
/// with `SO_REUSEADDR`, as servers do.
///
/// A listener that is dropped in order to be down for a while would lose its port to whoever asks for any: requests then
/// reach a stranger.
#[derive(Debug)]
pub struct HeldPort {
    address: SocketAddr,
    /// Bound, and never listened on.
    _socket: TcpSocket,
}

impl HeldPort {
    /// Holds a port that nobody has.
    pub fn any() -> io::Result<Self> {
        let socket = bound(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }

    /// The address that it holds.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens there until the listener is dropped; fails while another one does.
    pub fn listen(&self) -> io::Result<TcpListener> {
        bound(self.address)?.listen(BACKLOG)
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Two sockets may have one port if both say so and at most one listens.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn nobody_else_gets_it_and_nobody_answers_there_until_it_is_listened_on() {
        let port = HeldPort::any().unwrap();
        for _ in 0..2 {
            let refused = TcpStream::connect(port.address()).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            // Who asks for any port asks for one that is free without sharing.
            let taken = TcpSocket::new_v4().unwrap().bind(port.address()).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            let listener = port.listen().unwrap();
            assert!(port.listen().is_err(), "one at a time");
            TcpStream::connect(port.address()).await.unwrap();
            drop(listener);
        }
        // As a program does that was told the address.
        let listener = TcpListener::bind(port.address()).await.unwrap();
        TcpStream::connect(port.address()).await.unwrap();
        drop(listener);
    }
}
