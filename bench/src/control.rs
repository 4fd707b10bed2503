//! The small HTTP servers by which farm and sink are asked and told.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};

/// Longer instructions are cut off.
const BODY_MAX: usize = 1 << 20;

/// A server on a port of 127.0.0.1 that ends when this is dropped.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    _server: JoinSet<()>,
}

impl Control {
    /// Answers each request with what `handle` makes of its method, path and body.
    pub async fn start<H>(handle: H) -> io::Result<Self>
    where
        H: Fn(&Method, &str, &[u8]) -> (StatusCode, Vec<u8>) + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let handle = Arc::new(handle);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let handle = Arc::clone(&handle);
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let handle = Arc::clone(&handle);
                    async move {
                        let (head, body) = request.into_parts();
                        let (status, answer) = match Limited::new(body, BODY_MAX).collect().await {
                            Ok(body) => handle(&head.method, head.uri.path(), &body.to_bytes()),
                            Err(error) => (StatusCode::BAD_REQUEST, error.to_string().into_bytes()),
                        };
                        let mut response = Response::new(Full::new(Bytes::from(answer)));
                        *response.status_mut() = status;
                        Ok::<_, Infallible>(response)
                    }
                });
                connections.spawn(async move {
                    // A caller that hangs up is no concern of the server's.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, _server: server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Status 200 with a value as JSON.
pub fn json(value: &impl serde::Serialize) -> (StatusCode, Vec<u8>) {
    match serde_json::to_vec(value) {
        Ok(bytes) => (StatusCode::OK, bytes),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    }
}
