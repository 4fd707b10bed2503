//! Listening, as every server of the collector does it.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Listens on `address` (`host:port`, an empty host meaning all addresses).
///
/// # Errors
/// What the system answered, with the address.
pub(crate) async fn bind(address: &str) -> io::Result<TcpListener> {
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    TcpListener::bind(&full)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}")))
}

/// Hands each connection to `serve` until `stop` says true, then ends those that are open. At most `max_connections`
/// are served at a time; the others wait to be accepted.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    max_connections: usize,
    mut stop: watch::Receiver<bool>,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < max_connections => accepted,
            Some(_) = connections.join_next(), if connections.len() >= max_connections => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, say: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        connections.spawn(serve(stream));
    }
}
