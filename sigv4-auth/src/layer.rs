//! The tower layer.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_smithy_types::date_time::{DateTime, Format};
use http::header::DATE;
use http::{Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::{
    CachedCredentials, Clock, ConfigError, CredentialChain, CredentialError, Environment, PayloadHash, Scope,
    ScopeKeys, SigV4Config, SignError, SigningParams, sign,
};

/// Signs each request that passes, with credentials that are current at that moment.
///
/// Put it where every attempt passes through it (inside retries): a signature holds for five minutes.
#[derive(Clone, Debug)]
pub struct SigV4Layer {
    scope: Scope,
    credentials: CachedCredentials,
}

impl SigV4Layer {
    /// A layer that signs for `scope`.
    pub fn new(scope: Scope, credentials: CachedCredentials) -> Self {
        Self { scope, credentials }
    }

    /// A layer for one endpoint from Prometheus' options. Nothing is called yet: a start without reachable STS
    /// succeeds.
    ///
    /// # Errors
    /// Options that cannot be right, and a region that can't be told.
    pub fn from_config(
        config: &SigV4Config,
        endpoint: &http::Uri,
        environment: &Environment,
    ) -> Result<Self, SetupError> {
        config.validate()?;
        let region = crate::config::present(&config.region);
        let scope = Scope::resolve(
            endpoint.host().unwrap_or_default(),
            region,
            Some(config.service()),
            environment,
            ScopeKeys::PROMETHEUS,
        )?;
        let chain = CredentialChain::new(&config.credentials(), environment.clone(), &scope.region)?;
        Ok(Self::new(scope, CachedCredentials::new(chain, Clock::system())))
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
}

impl<S> Layer<S> for SigV4Layer {
    type Service = SigV4<S>;

    fn layer(&self, inner: S) -> SigV4<S> {
        SigV4 { inner, layer: self.clone() }
    }
}

/// The service that [`SigV4Layer`] makes.
///
/// A 403 whose `Date` header shows that our clock is off by more than four minutes corrects the clock, and the
/// request is signed and sent once more.
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
            layer.sign(&mut request).await?;
            let response = inner.call(request).await.map_err(Error::Inner)?;
            if !layer.corrects_clock(&response) {
                return Ok(response);
            }
            let mut request = unsigned;
            layer.sign(&mut request).await?;
            std::future::poll_fn(|context| inner.poll_ready(context)).await.map_err(Error::Inner)?;
            inner.call(request).await.map_err(Error::Inner)
        })
    }
}

impl SigV4Layer {
    async fn sign<B: AsRef<[u8]>, E>(&self, request: &mut Request<B>) -> Result<(), Error<E>> {
        let credentials = self.credentials.get().await.map_err(Error::Credentials)?;
        let params = SigningParams { scope: &self.scope, credentials: &credentials };
        sign(request, &params, self.credentials.clock().now()).map_err(Error::Sign)
    }

    fn corrects_clock<R>(&self, response: &Response<R>) -> bool {
        if response.status() != StatusCode::FORBIDDEN {
            return false;
        }
        let server = response
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok())
            .and_then(|date| DateTime::from_str(date, Format::HttpDate).ok())
            .and_then(|date| date.try_into().ok());
        let Some(offset_ms) = server.and_then(|server| self.credentials.clock().observe(server)) else {
            return false;
        };
        tracing::warn!(
            offset_ms,
            "this machine's clock differs from AWS' by more than the five minutes that a signature may; \
             signing with AWS' time from now on: set the machine's clock right"
        );
        true
    }
}

/// Why a request did not come through: no credentials, not signable, or the inner service's own error.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// There are no valid credentials now. Worth trying again.
    #[error("{0}")]
    Credentials(CredentialError),
    /// The request cannot be signed; it will not get better by itself.
    #[error("{0}")]
    Sign(SignError),
    /// The inner service failed.
    #[error("{0}")]
    Inner(E),
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
