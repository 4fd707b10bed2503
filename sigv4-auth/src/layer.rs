//! The tower layer.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Request, Response, StatusCode, Uri};
use tower::{Layer, Service};

use crate::clock::server_time;
use crate::{
    CachedCredentials, Clock, ConfigError, CredentialChain, CredentialError, CredentialsConfig, Denial,
    Environment, Explanation, PayloadHash, Scope, SigV4Config, SignError, SigningParams, Skew,
    explain_denial, sign,
};

/// Signs each request that passes, with credentials that are current at that moment.
///
/// Put it where every attempt passes through it (inside retries): a signature holds for five minutes.
#[derive(Clone, Debug)]
pub struct SigV4Layer {
    scope: Scope,
    credentials: CachedCredentials,
    patience: Duration,
    /// The access key of the request that was refused last.
    refused: Arc<Mutex<Option<String>>>,
}

/// How long a request waits for credentials when nothing is said.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

impl SigV4Layer {
    /// A layer that signs for `scope`.
    pub fn new(scope: Scope, credentials: CachedCredentials) -> Self {
        Self { scope, credentials, patience: DEFAULT_PATIENCE, refused: Arc::default() }
    }

    /// The same layer; a request waits so long for credentials that are being fetched (10 s when nothing is said)
    /// before it fails with [`CredentialError::Waiting`], which names what it waited for. It has to be less than
    /// what the request as a whole may take, else that timeout speaks, and names nothing. Fetching goes on.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// A layer for one endpoint from Prometheus' options. Nothing is called yet: a start without reachable STS
    /// succeeds.
    ///
    /// # Errors
    /// Options that cannot be right, and a region that can't be told.
    pub fn from_config(
        config: &SigV4Config,
        endpoint: &Uri,
        environment: &Environment,
    ) -> Result<Self, SetupError> {
        config.validate()?;
        let scope = config.scope(endpoint.host().unwrap_or_default(), environment)?;
        Self::with_chain(scope, &config.credentials(), environment)
    }

    pub(crate) fn with_chain(
        scope: Scope,
        credentials: &CredentialsConfig,
        environment: &Environment,
    ) -> Result<Self, SetupError> {
        let clock = Clock::system();
        let chain =
            CredentialChain::new(credentials, environment.clone(), &scope.region)?.with_clock(clock.clone());
        Ok(Self::new(scope, CachedCredentials::new(chain, clock)))
    }

    /// The region and service it signs for.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The credentials it signs with: for their state, and to [`invalidate`](CachedCredentials::invalidate)
    /// them when the endpoint calls them expired.
    pub fn credentials(&self) -> &CachedCredentials {
        &self.credentials
    }

    /// Explains a refusal as [`explain_denial`] does, and learns from it for the next attempt: credentials that the
    /// endpoint calls expired or unknown are invalidated, and a clock that it calls wrong is corrected by the time
    /// in its text, for answers whose `Date` a proxy has taken away.
    pub fn learn_from_denial(
        &self,
        status: StatusCode,
        body: &[u8],
        headers: &HeaderMap,
        endpoint: &Uri,
    ) -> Option<Explanation> {
        let mut explanation = explain_denial(status, body, headers, endpoint)?;
        if explanation.wants_new_credentials()
            && let Some(access_key) = self.refused().or_else(|| self.credentials.status().access_key)
        {
            self.credentials.invalidate(&access_key);
            explanation.message.push_str("; credentials are fetched anew");
        }
        if explanation.denial == Denial::ClockSkew
            && let Some(server) = explanation.server_time
        {
            let clock = self.credentials.clock();
            clock.observe(server);
            let offset_seconds = clock.offset_ms() / 1000;
            if offset_seconds != 0 {
                explanation.message.push_str(&format!(
                    "; AWS' time is signed with, {offset_seconds:+} s from this machine's: should this stay, see \
                     whether a proxy changes the Date of answers or holds requests back"
                ));
            }
        }
        Some(explanation)
    }
}

impl<S> Layer<S> for SigV4Layer {
    type Service = SigV4<S>;

    fn layer(&self, inner: S) -> SigV4<S> {
        SigV4 { inner, layer: self.clone() }
    }
}

/// The service that [`SigV4Layer`] makes.
///
/// A 403 whose `Date` header is more than four minutes from the time that the request was signed at corrects the
/// clock, and the request is signed and sent once more; so does a 400 or 401 whose `x-amzn-errortype` is about the
/// signature. A second refusal is returned.
///
/// The body is whole bytes, such as `bytes::Bytes`; a client that wants an `http_body::Body` goes behind tower's
/// `MapRequest` (`request.map(Full::new)`).
#[derive(Clone, Debug)]
pub struct SigV4<S> {
    inner: S,
    layer: SigV4Layer,
}

impl<S, B, R> Service<Request<B>> for SigV4<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: AsRef<[u8]> + Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = Error<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Error::Inner)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to call; the clone takes its place.
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            if request.extensions().get::<PayloadHash>().is_none() {
                let hash = PayloadHash::of(request.body().as_ref());
                request.extensions_mut().insert(hash);
            }
            let unsigned = request.clone();
            let signed = layer.sign(&mut request).await?;
            let response = inner.call(request).await.map_err(Error::Inner)?;
            layer.answered(&signed, response.status());
            if !layer.shows_skew(signed.at, &response) {
                return Ok(response);
            }
            let mut request = unsigned;
            let signed = layer.sign(&mut request).await?;
            std::future::poll_fn(|context| inner.poll_ready(context)).await.map_err(Error::Inner)?;
            let response = inner.call(request).await.map_err(Error::Inner)?;
            layer.answered(&signed, response.status());
            Ok(response)
        })
    }
}

/// What a request was signed with.
struct Signed {
    at: SystemTime,
    access_key: String,
}

impl SigV4Layer {
    async fn sign<B: AsRef<[u8]>, E>(&self, request: &mut Request<B>) -> Result<Signed, Error<E>> {
        let credentials = self.credentials.get_within(self.patience).await.map_err(Error::Credentials)?;
        let params = SigningParams { scope: &self.scope, credentials: &credentials };
        let now = self.credentials.clock().now();
        sign(request, &params, now).map_err(Error::Sign)?;
        Ok(Signed { at: now, access_key: credentials.access_key().to_owned() })
    }

    /// Keeps what an answer says of the credentials.
    fn answered(&self, signed: &Signed, status: StatusCode) {
        if status.is_success() {
            self.credentials.accepted(&signed.access_key);
        } else if status.is_client_error() {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some(signed.access_key.clone());
        }
    }

    fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the time of a signature was what the endpoint refused it for. The clock is right afterwards.
    fn shows_skew<R>(&self, signed_at: SystemTime, response: &Response<R>) -> bool {
        if !may_show_skew(response.status(), response.headers()) {
            return false;
        }
        let clock = self.credentials.clock();
        server_time(response.headers()).is_some_and(|server| clock.judge(signed_at, server) != Skew::Within)
    }
}

/// AWS' error types for a signature that is not of its time, where the status alone could mean the data.
const SKEW_ERROR_TYPES: [&str; 4] =
    ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired"];

fn may_show_skew(status: StatusCode, headers: &HeaderMap) -> bool {
    match status {
        StatusCode::FORBIDDEN => true,
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => headers
            .get("x-amzn-errortype")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(':').next())
            .is_some_and(|error_type| SKEW_ERROR_TYPES.contains(&error_type)),
        _ => false,
    }
}

/// Why a request did not come through: no credentials, not signable, or the inner service's own error.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// There are no valid credentials now. Worth trying again.
    #[error("{0}")]
    Credentials(#[source] CredentialError),
    /// The request cannot be signed; it will not get better by itself.
    #[error("{0}")]
    Sign(#[source] SignError),
    /// The inner service failed. Its error is the source, for callers who tell failures apart by it.
    #[error("{0}")]
    Inner(#[source] E),
}

/// Why a layer could not be made from options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// An option cannot be right.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Region or service unknown.
    #[error(transparent)]
    Scope(#[from] SignError),
}
