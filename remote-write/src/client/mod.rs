//! Sending one request: encoding it, the headers that go with it, and what its answer means.

mod layer;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Uri, header};
use prost::Message;
use tower::{BoxError, Layer as _, Service as _, ServiceExt as _};

use crate::delivery::{Transport, describe};
use crate::encode::Request;
use crate::wire::{self, v1, v2};
use crate::{Counts, Protocol};

pub(crate) use layer::put_headers;
pub use layer::{Answer, Write, WriteLayer};

/// Sends single requests to one endpoint and says what became of each: no queue, no retry.
///
/// It is [`WriteLayer`] over a [`Transport`]. Whoever wants requests kept and sent again uses
/// [`Writer`](crate::Writer) or [`RemoteWrite`](crate::RemoteWrite).
///
/// ```
/// use promferry_http_client::{Client as HttpClient, Http, HttpClientConfig, HttpOptions};
/// use promferry_remote_write::delivery::{Outcome, transport};
/// use promferry_remote_write::{Client, wire::v1};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let url = format!("http://{}/api/v1/write", listener.local_addr()?);
/// # std::thread::spawn(move || {
/// #     use std::io::{Read as _, Write as _};
/// #     let (mut stream, _) = listener.accept().unwrap();
/// #     let _ = stream.read(&mut [0; 4096]);
/// #     stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
/// # });
/// let http = HttpClient::new(Http::new(&HttpClientConfig::default(), HttpOptions::default())?);
/// let client = Client::new(&url, transport(http))?;
/// let label = |name: &str, value: &str| v1::Label { name: name.into(), value: value.into() };
/// let answer = client
///     .send(v1::WriteRequest {
///         timeseries: vec![v1::TimeSeries {
///             labels: vec![label("__name__", "orders_total"), label("job", "orders")],
///             samples: vec![v1::Sample { value: 42.0, timestamp: 1_700_000_000_000 }],
///             ..Default::default()
///         }],
///         ..Default::default()
///     })
///     .await?;
/// assert_eq!(answer.outcome, Outcome::Delivered);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    write: Write<Transport>,
    timeout: Duration,
}

/// Why there is no answer: the request may be sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nothing came back in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The request did not get there, or the answer did not get back.
    #[error("{}", describe(.0))]
    Transport(BoxError),
}

/// A URL that no request can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the url can't be used: {0}")]
pub struct InvalidUrl(String);

impl Client {
    /// A client for the endpoint at `url`. An answer may take 30 s.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn new(url: &str, transport: Transport) -> Result<Self, InvalidUrl> {
        let url: Uri = url.parse().map_err(|error: http::uri::InvalidUri| InvalidUrl(error.to_string()))?;
        let mut headers = HeaderMap::new();
        let user_agent = concat!("promferry-remote-write/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(user_agent));
        let write = WriteLayer::new(url).with_headers(headers).layer(transport);
        Ok(Self { write, timeout: Duration::from_secs(30) })
    }

    /// Sends these headers along, a tenant's for example. They replace the `User-Agent` where they have one, and
    /// never what the protocol says.
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.write.add_headers(headers);
        self
    }

    /// Waits this long for an answer.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends a request: a [`v1::WriteRequest`], a [`v2::Request`], or one that
    /// [`RequestBuilder`](crate::encode::RequestBuilder) made.
    ///
    /// # Errors
    /// [`SendError`] when there is no answer. Whatever an answer says is an [`Outcome`](crate::delivery::Outcome).
    pub async fn send(&self, request: impl Into<Request>) -> Result<Answer, SendError> {
        let request = request.into();
        let mut write = self.write.clone();
        let answer = async {
            write
                .ready()
                .await
                .map_err(SendError::Transport)?
                .call(request)
                .await
                .map_err(SendError::Transport)
        };
        tokio::time::timeout(self.timeout, answer).await.map_err(|_| SendError::Timeout(self.timeout))?
    }
}

impl From<v1::WriteRequest> for Request {
    fn from(message: v1::WriteRequest) -> Self {
        let counts = message.timeseries.iter().fold(Counts::default(), |sum, series| {
            sum + counts(&series.samples, &series.histograms, &series.exemplars)
        });
        whole(Protocol::V1, counts, &message)
    }
}

impl From<v2::Request> for Request {
    fn from(message: v2::Request) -> Self {
        let counts = message.timeseries.iter().fold(Counts::default(), |sum, series| {
            sum + counts(&series.samples, &series.histograms, &series.exemplars)
        });
        whole(Protocol::V2, counts, &message)
    }
}

fn counts<S, H, E>(samples: &[S], histograms: &[H], exemplars: &[E]) -> Counts {
    Counts {
        samples: samples.len() as u64,
        histograms: histograms.len() as u64,
        exemplars: exemplars.len() as u64,
    }
}

fn whole(protocol: Protocol, counts: Counts, message: &impl Message) -> Request {
    Request { protocol, counts, raw_len: message.encoded_len(), body: wire::encode(message).into() }
}
