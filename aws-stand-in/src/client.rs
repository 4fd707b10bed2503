//! One HTTP request to a server on loopback, on a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Connection(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("no answer within 30 s")]
    Timeout,
}

pub(crate) async fn call(address: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = sender.send_request(request.map(Full::new));
        let answer = async {
            let (head, body) = request.await?.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection ends by itself when the server closes it after its answer.
            _ = connection => answer.await,
        }
    };
    tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| CallError::Timeout)?
}
