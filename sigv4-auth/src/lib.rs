//! Signs HTTP requests for AWS (Signature Version 4) as a [`tower::Layer`], and keeps the credentials for it
//! fresh, so that a request is never lost to an expired key.
//!
//! What it is:
//! - [`SigV4Layer`]: a layer over any `http::Request<B>` whose body is bytes; [`sign`] for those without tower. The
//!   examples `sign_with_hyper` and `sign_for_reqwest` are a program each.
//! - [`CredentialChain`]: credentials the way a pod on EKS has them — environment, web identity (IRSA), shared
//!   profile, container (ECS, EKS Pod Identity), IMDSv2 — and any number of roles assumed on top, by AWS' own
//!   SDK. [`CachedCredentials`] refreshes them in the background and goes on with valid ones while STS is away.
//! - [`Clock`]: the time, corrected by what AWS' answers say of it: a machine's clock that is hours wrong stops
//!   neither signing nor credentials.
//! - [`explain_denial`]: what a 403 of Amazon Managed Service for Prometheus means, in plain words.
//! - [`CredentialChain::who_am_i`]: whose credentials they are, step by step, and where there are none or an endpoint
//!   refuses them, which policy or way is missing, with the policy's JSON.
//! - `verify` (feature): the receiving side, which checks signatures as AWS does, for tests and stand-ins.
//!
//! What it is not: an HTTP client, a retry policy, or a signer for streamed bodies, query strings (presigned
//! URLs) or S3.
//!
//! ```
//! use bytes::Bytes;
//! use promferry_sigv4_auth::{CachedCredentials, Clock, Credentials, Scope, SigV4Layer};
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write";
//! let scope = Scope::of_host("aps-workspaces.eu-west-1.amazonaws.com").expect("AMP's own name");
//! let keys = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", None);
//! let layer = SigV4Layer::new(scope, CachedCredentials::new(keys, Clock::system()));
//!
//! // Stands in for an HTTP client.
//! let client = tower::service_fn(|request: http::Request<Bytes>| async move {
//!     assert!(request.headers().contains_key("authorization"));
//!     Ok::<_, std::io::Error>(http::Response::new(()))
//! });
//! let response = layer.layer(client).oneshot(http::Request::post(endpoint).body(Bytes::new())?).await?;
//! assert_eq!(response.status(), 200);
//! # Ok(())
//! # }
//! ```

mod adot;
mod authorization;
mod cache;
mod chain;
mod clock;
mod config;
mod credentials;
mod denial;
mod environment;
mod failure;
mod layer;
mod payload_hash;
mod policy;
mod reach;
mod report;
mod scope;
mod sdk;
mod secret;
mod sign;
mod sts;
mod sts_refusal;
mod token;
#[cfg(feature = "verify")]
pub mod verify;
mod whoami;

pub use adot::{AssumeRole, SigV4AuthConfig};
pub use authorization::{NotAuthorized, PolicyKind, account_of};
pub use cache::{CacheStatus, CachedCredentials};
pub use chain::CredentialChain;
pub use clock::{Clock, Skew};
pub use config::{BaseCredentials, ConfigError, CredentialsConfig, RoleStep, SigV4Config};
pub use credentials::{CredentialError, CredentialFuture, CredentialSource, Credentials};
pub use denial::{Denial, Explanation, explain_denial};
pub use environment::Environment;
pub use failure::{Failure, FailureKind, NeededPolicy};
pub use layer::{Error, SetupError, SigV4, SigV4Layer};
pub use payload_hash::PayloadHash;
pub use policy::{
    assume_role_policy, remote_write_policy, role_trust, web_identity_trust, workspace_resource_policy,
};
pub use reach::{Reach, reach, reach_directly};
pub use report::{Finding, LookedAt, ProviderReport};
pub use scope::{Scope, ScopeKeys};
pub use secret::Secret;
pub use sign::{SignError, SigningParams, sign};
pub use sts::CallerIdentity;
pub use token::TokenFacts;
pub use whoami::{Step, WhoAmI};
