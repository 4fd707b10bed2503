//! As whom an endpoint's requests are signed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use promferry_sigv4_auth::{
    BaseCredentials, CachedCredentials, CredentialChain, CredentialError, Credentials, Environment,
    SigV4Config, SigV4Layer,
};

/// An endpoint whose requests are signed. Cloning is cheap; clones share everything.
#[derive(Clone, Debug)]
pub struct Signing {
    /// The endpoint's name or URL.
    pub endpoint: String,
    /// What its requests are signed with.
    pub credentials: CachedCredentials,
    /// Asks STS whose they are. None for fixed keys, which nobody is asked for otherwise either.
    chain: Option<Arc<CredentialChain>>,
}

/// How often it is looked whether there are credentials by now, until there are.
const PAUSE: Duration = Duration::from_secs(5);
/// STS has this long to say whose they are.
const STS_ANSWER: Duration = Duration::from_secs(40);

impl Signing {
    pub(crate) fn new(
        endpoint: String,
        sigv4: &SigV4Config,
        layer: &SigV4Layer,
        environment: &Environment,
    ) -> Self {
        let config = sigv4.credentials();
        let is_fixed = matches!(config.base, BaseCredentials::Static { .. }) && config.roles.is_empty();
        let chain = CredentialChain::new(&config, environment.clone(), &layer.scope().region).ok();
        let chain = chain.filter(|_| !is_fixed).map(Arc::new);
        Self { endpoint, credentials: layer.credentials().clone(), chain }
    }

    /// Says in the log as whom requests are signed, as soon as there are credentials; and once, why there are none
    /// yet. Deliveries do not wait for it.
    pub(crate) async fn announce(&self) {
        let endpoint = &self.endpoint;
        let mut is_told = false;
        let credentials = loop {
            match self.credentials.get().await {
                Ok(credentials) => break credentials,
                Err(error) if !is_told => {
                    tracing::warn!(
                        "remote_write {endpoint}: there is nothing to sign with yet, so everything waits: {error}"
                    );
                    is_told = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        };
        tracing::info!("remote_write {endpoint}: {}", self.told(&credentials).await);
    }

    /// As whom requests would be signed now, as one would say it: `signs as ARN (PROVIDER), until WHEN`.
    ///
    /// # Errors
    /// Why there are no credentials.
    pub(crate) async fn as_whom(&self) -> Result<String, CredentialError> {
        let credentials = self.credentials.get().await?;
        Ok(self.told(&credentials).await)
    }

    async fn told(&self, credentials: &Credentials) -> String {
        let (provider, until) = (credentials.provider(), Until(credentials.expires_at()));
        match self.identity(credentials).await {
            None => format!("signs with {provider}, {until}"),
            Some(Ok(arn)) => format!("signs as {arn} ({provider}), {until}"),
            Some(Err(error)) => {
                format!("signs with what {provider} gave, {until}; whose that is could not be asked: {error}")
            }
        }
    }

    async fn identity(&self, credentials: &Credentials) -> Option<Result<String, CredentialError>> {
        let chain = self.chain.as_ref()?;
        let answer = tokio::time::timeout(STS_ANSWER, chain.caller_identity(credentials)).await;
        let answer = answer.unwrap_or(Err(CredentialError::TimedOut { seconds: STS_ANSWER.as_secs() }));
        Some(answer.map(|identity| identity.arn))
    }
}

/// The end of credentials, for people.
pub(crate) struct Until(pub(crate) Option<SystemTime>);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, "until {}", humantime::format_rfc3339_seconds(at)),
            None => f.write_str("which do not expire"),
        }
    }
}
