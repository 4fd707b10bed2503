//! Credentials, and where they come from.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::reach::route_advice;
use crate::{ProviderReport, Secret};

/// An access key with its secret, and what belongs to it. Cloning is cheap; `Debug` shows neither the secret
/// nor the session token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    access_key: String,
    secret_key: Secret,
    session_token: Option<Secret>,
    expires_at: Option<SystemTime>,
    provider: String,
}

impl Credentials {
    /// Makes credentials that never expire. White space around the texts is removed: secrets mounted from
    /// files often end in a newline.
    pub fn new(access_key: &str, secret_key: &str, session_token: Option<&str>) -> Self {
        Self(Arc::new(Parts {
            access_key: access_key.trim().to_owned(),
            secret_key: Secret::new(secret_key.trim()),
            session_token: session_token.map(|token| Secret::new(token.trim())),
            expires_at: None,
            provider: String::from("static"),
        }))
    }

    /// The same with an expiry.
    pub fn expiring(self, expires_at: Option<SystemTime>) -> Self {
        self.changed(|parts| parts.expires_at = expires_at)
    }

    /// The same with the name of what provided them.
    pub fn provided_by(self, provider: impl Into<String>) -> Self {
        let provider = provider.into();
        self.changed(|parts| parts.provider = provider)
    }

    /// The access key id. It is no secret: AWS' own logs show it.
    pub fn access_key(&self) -> &str {
        &self.0.access_key
    }

    /// The secret of the access key.
    pub fn secret_key(&self) -> &Secret {
        &self.0.secret_key
    }

    /// The session token of temporary credentials.
    pub fn session_token(&self) -> Option<&Secret> {
        self.0.session_token.as_ref()
    }

    /// When they end; `None`: never.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at
    }

    /// What provided them, such as `web identity`, or a role's ARN.
    pub fn provider(&self) -> &str {
        &self.0.provider
    }

    /// Whether they still hold at `now`.
    pub fn valid_at(&self, now: SystemTime) -> bool {
        self.0.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    fn changed(self, change: impl FnOnce(&mut Parts)) -> Self {
        let parts = &self.0;
        let mut parts = Parts {
            access_key: parts.access_key.clone(),
            secret_key: parts.secret_key.clone(),
            session_token: parts.session_token.clone(),
            expires_at: parts.expires_at,
            provider: parts.provider.clone(),
        };
        change(&mut parts);
        Self(Arc::new(parts))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.0.access_key)
            .field("secret_key", &self.0.secret_key)
            .field("session_token", &self.0.session_token)
            .field("expires_at", &self.0.expires_at)
            .field("provider", &self.0.provider)
            .finish()
    }
}

/// The future of [`CredentialSource::credentials`].
pub type CredentialFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Credentials, CredentialError>> + Send + 'a>>;

/// Something that gets credentials each time it is asked. It keeps none:
/// [`CachedCredentials`](crate::CachedCredentials) does.
pub trait CredentialSource: Send + Sync + 'static {
    /// Gets credentials now, with a call to STS or another service where need be.
    fn credentials(&self) -> CredentialFuture<'_>;

    /// What the last call looked at; empty before the first, and for sources with nothing to tell.
    fn report(&self) -> ProviderReport {
        ProviderReport::default()
    }

    /// Whom a call that is under way waits for, such as `STS at https://sts.eu-west-1.amazonaws.com`; for messages
    /// while it takes long.
    fn waits_for(&self) -> Option<String> {
        None
    }

    /// How long a call may take, with all of its own timeouts and retries; one that takes longer is given up, and
    /// begins anew later. 40 s where nothing is said.
    fn longest_call(&self) -> Duration {
        Duration::from_secs(40)
    }
}

impl CredentialSource for Credentials {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

impl<S: CredentialSource + ?Sized> CredentialSource for Arc<S> {
    fn credentials(&self) -> CredentialFuture<'_> {
        self.as_ref().credentials()
    }

    fn report(&self) -> ProviderReport {
        self.as_ref().report()
    }

    fn waits_for(&self) -> Option<String> {
        self.as_ref().waits_for()
    }

    fn longest_call(&self) -> Duration {
        self.as_ref().longest_call()
    }
}

/// Why there are no credentials. None of these is final: tokens get mounted, trust policies repaired and STS
/// reachable while a process runs, so each may be tried again. No secret is ever part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Nothing is configured that could give any.
    #[error("no AWS credentials are configured; looked at {looked_at}")]
    NotFound {
        /// Each provider and why it was not it.
        looked_at: String,
    },
    /// What is configured cannot work, such as a token file that can't be read.
    #[error("AWS credentials from {provider}: {reason}")]
    Invalid {
        /// The provider.
        provider: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The service that gives credentials did not answer: no route, no name, no interface endpoint, or late.
    #[error("AWS credentials from {provider}: no answer from {endpoint}: {reason}; {}", route_advice(.endpoint))]
    Unreachable {
        /// The provider.
        provider: String,
        /// Which endpoint was called.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// Something answered that is not STS, or its answer came damaged.
    #[error(
        "AWS credentials from {provider}: the answer of {endpoint} is not one of STS ({reason}): does a proxy or a \
         network's log-in page answer in its place, or does AWS_ENDPOINT_URL_STS lead elsewhere?"
    )]
    NotSts {
        /// The provider.
        provider: String,
        /// Which endpoint was called.
        endpoint: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The service answered, and refused.
    #[error("AWS credentials from {provider}: {code}: {message}{}", .advice.as_deref().map(|advice| format!("; {advice}")).unwrap_or_default())]
    Refused {
        /// The provider.
        provider: String,
        /// AWS' error code, such as `AccessDenied`.
        code: String,
        /// AWS' own text.
        message: String,
        /// What to do about it.
        advice: Option<String>,
        /// AWS' id of the request, as CloudTrail has it.
        request_id: Option<String>,
    },
    /// They are being fetched, and that takes longer than the caller wants to wait.
    #[error("AWS credentials: still waiting for {source_name} ({seconds} s)")]
    Waiting {
        /// Whom the call waits for.
        source_name: String,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// Getting them took longer than they are worth waiting for.
    #[error("AWS credentials: none within {seconds} s")]
    TimedOut {
        /// The seconds that were waited.
        seconds: u64,
    },
}

impl CredentialError {
    /// Whether the service refused because a policy does not allow it, or none there is known.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "AccessDenied" || code == "AccessDeniedException")
    }
}
