//! STS, IAM and workspaces of Amazon Managed Service for Prometheus (AMP) on loopback, that *refuse* what AWS refuses: for
//! tests of whatever has to get credentials and keep writing.
//!
//! What it is:
//! - [`Cloud`]: accounts with roles, users, identity providers and the keys that are valid; its clock can be moved.
//! - [`Policy`]: IAM policies, evaluated by IAM's rules ([`authorize`]); what is not understood is an error.
//! - [`Issuer`] and [`ProjectedToken`]: a cluster's OpenID Connect issuer, and its tokens as the kubelet swaps them;
//!   [`KubernetesApi`]: a real API server's tokens instead.
//! - [`Sts`]: web identities and chained roles, checked as AWS does and refused in its words; faults and short lifetimes.
//! - [`Workspaces`]: remote write behind signatures, session tokens, role and resource policies, into a recording sink.
//!
//! What it is not: a simulation of all of IAM (no session policies, policy variables or tags), a judge of latencies or
//! quotas, or published.
//!
//! # What is refused, in this order
//!
//! - Every call of STS: an action or version that is none; parameters beyond the constraints of STS' service model, all
//!   that are wrong in one answer.
//! - Signed calls: no signature; an unknown key; a session token that is missing, another or expired; a time more than five
//!   minutes off; another region or service; a signature that is not the one of these bytes.
//! - `AssumeRoleWithWebIdentity`: an ARN that is no role's; a token that is no JWT; an issuer that is no provider *of the
//!   role's account*; a key that the issuer does not publish; any signature but a right one by RS256; an audience that is
//!   none of the provider's; a token that has expired or is not valid yet; a role that is not there, or whose trust does not
//!   allow it, which are told apart by nobody; a longer session than the role's longest.
//! - `AssumeRole`: a caller whose own policies do not allow it (but within one account, where the trust names the caller
//!   itself); a trust that does not; more than an hour for a session of a session; a longer session than the role's longest.
//! - A write: another path or method than remote write's; what is refused of signed calls; what the role's policies and the
//!   workspace's do not allow together; a workspace of another account that it shares with nobody, as if it were not there.
//!
//! Each answer has AWS' code, text, form and `Date`. Where a text was seen is said beside it in the source; some are from
//! memory and say so. What depends on a text should look at the parts of it that have long been stable.
//!
//! # Example
//!
//! A pod's way to credentials, and what a wrong token makes of it:
//!
//! ```
//! use std::time::Duration;
//! use promferry_aws_stand_in::{Cloud, Issuer, Policy, ProjectedToken, Sts, Workspaces};
//! use promferry_sigv4_auth::{CredentialChain, CredentialSource as _, CredentialsConfig, Environment};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (cloud, issuer) = (Cloud::memory(), Issuer::start().await);
//! let (account, role) = ("111122223333", "arn:aws:iam::111122223333:role/collector");
//! let (subject, audience) = ("system:serviceaccount:monitoring:promferry", "sts.amazonaws.com");
//! cloud.add_provider(account, &issuer, &[audience]).await;
//! let trust = Policy::web_identity_trust(&issuer.provider_arn(account), subject, audience);
//! cloud.add_role(role, trust, Some(Policy::allowing("aps:RemoteWrite", "*")), Duration::from_secs(3_600)).await;
//! let sts = Sts::start(&cloud).await;
//! let workspaces = Workspaces::start(&cloud, "eu-west-1").await;
//! workspaces.add(account, "ws-1", None).await;
//! println!("remote_write: [{{url: {:?}, sigv4: {{region: eu-west-1}}}}]", workspaces.url("ws-1"));
//!
//! let folder = tempfile::tempdir()?;
//! let token = ProjectedToken::new(folder.path(), &issuer.token(subject, audience, Duration::from_secs(600)));
//! let pod = Environment::from_pairs([
//!     ("AWS_ROLE_ARN", role.to_owned()),
//!     ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().display().to_string()),
//!     ("AWS_ENDPOINT_URL_STS", sts.url()),
//! ]);
//! let chain = CredentialChain::new(&CredentialsConfig::default(), pod, "eu-west-1")?;
//! assert!(chain.credentials().await.is_ok());
//!
//! token.write(&issuer.token("system:serviceaccount:default:other", audience, Duration::from_secs(600)));
//! let refused = chain.credentials().await.unwrap_err();
//! assert!(refused.to_string().contains("Not authorized to perform sts:AssumeRoleWithWebIdentity"));
//! assert_eq!(sts.calls().len(), 2);
//! # Ok(())
//! # }
//! ```

mod access;
mod arn;
mod client;
mod cloud;
mod condition;
mod fault;
mod identity_token;
mod issuer;
mod kubernetes;
mod memory;
mod moto;
mod policy;
mod projected_token;
mod random;
mod server;
mod sts;
mod workspaces;
mod world_time;

pub use access::{Access, Caller, Missing, authorize};
pub use cloud::{Cloud, Keys};
pub use fault::Fault;
pub use issuer::Issuer;
pub use kubernetes::KubernetesApi;
pub use moto::Moto;
pub use policy::{Decision, Policy, PolicyError};
pub use projected_token::ProjectedToken;
pub use sts::{Call, Outcome, Sts};
pub use workspaces::{Guardrail, Labels, Workspaces, Write};
