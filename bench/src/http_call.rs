//! One HTTP request to a server on this machine: what the runner and the fixtures ask with.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::{io, net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

/// No answer of a server here takes longer, the delays it was told to make included.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there, or the connection broke.
    #[error("{address}: {source}")]
    Connection {
        /// Who was asked.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The answer was not HTTP or ended early.
    #[error("{address}: {source}")]
    Http {
        /// Who was asked.
        address: SocketAddr,
        /// What hyper said.
        source: hyper::Error,
    },
    /// The path, a header or the method cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] http::Error),
    /// No answer in time.
    #[error("{0}: no answer within 60 s")]
    Timeout(SocketAddr),
    /// An answer with another status than 200.
    #[error("{address}{path}: status {status}: {body}")]
    Status {
        /// Who was asked.
        address: SocketAddr,
        /// What was asked for.
        path: String,
        /// The status answered.
        status: StatusCode,
        /// The body answered, shortened.
        body: String,
    },
    /// An answer that is not the JSON expected.
    #[error("{address}{path}: {source}")]
    Json {
        /// Who was asked.
        address: SocketAddr,
        /// What was asked for.
        path: String,
        /// Where the JSON is wrong.
        source: serde_json::Error,
    },
}

/// Sends one request on a connection of its own and reads the whole answer.
pub async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<(StatusCode, Bytes), CallError> {
    let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into()))?;
    let exchange = async {
        let stream =
            TcpStream::connect(address).await.map_err(|source| CallError::Connection { address, source })?;
        let http = |source| CallError::Http { address, source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let driver = tokio::spawn(connection);
        let answer = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let (head, body) = response.into_parts();
            Ok((head.status, body.collect().await.map_err(http)?.to_bytes()))
        }
        .await;
        driver.abort();
        answer
    };
    tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| CallError::Timeout(address))?
}

/// GETs a path and expects status 200.
pub async fn get(address: SocketAddr, path: &str) -> Result<Bytes, CallError> {
    let (status, body) = call(address, Method::GET, path, &[], Bytes::new()).await?;
    ok(address, path, status, &body)?;
    Ok(body)
}

/// GETs a path and reads the answer as JSON.
pub async fn get_json<T: serde::de::DeserializeOwned>(
    address: SocketAddr,
    path: &str,
) -> Result<T, CallError> {
    let body = get(address, path).await?;
    serde_json::from_slice(&body).map_err(|source| CallError::Json { address, path: path.to_owned(), source })
}

/// An error for every status but 200, with the start of the body.
pub(crate) fn ok(address: SocketAddr, path: &str, status: StatusCode, body: &[u8]) -> Result<(), CallError> {
    if status == StatusCode::OK {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
    Err(CallError::Status { address, path: path.to_owned(), status, body })
}
