//! Listening, as every server of the collector does it.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Listens on `address`, `host:port`. An empty host and `0.0.0.0` mean all addresses, those of IPv6 too, as Go's
/// `net.Listen` takes them: a pod of a cluster with IPv6 alone has no other.
///
/// # Errors
/// What the system answered, with the address.
pub(crate) async fn bind(address: &str) -> io::Result<TcpListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}"));
    let Some(port) = address.strip_prefix(':').or_else(|| address.strip_prefix("0.0.0.0:")) else {
        return TcpListener::bind(address).await.map_err(named);
    };
    match TcpListener::bind(format!("[::]:{port}")).await {
        Ok(listener) => Ok(listener),
        // A machine without IPv6, or one that keeps the two apart: what is wrong otherwise is wrong with both.
        Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await.map_err(named),
    }
}

/// Hands each connection to `serve` until `stop` says true, then ends those that are open. As many are served at a
/// time as there are `places`, which several listeners may share; the others wait.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    places: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, say: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        // Nobody closes the semaphore.
        let Ok(place) = place else { break };
        let served = serve(stream);
        connections.spawn(async move {
            served.await;
            drop(place);
        });
    }
}
