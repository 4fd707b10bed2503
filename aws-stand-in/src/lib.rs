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
//! What it is not: a simulation of all of IAM (no session policies, no policy variables, no tags), and not published.
//!
//! A pod's way to a workspace of another account:
//!
//! ```
//! use std::time::Duration;
//! use promferry_aws_stand_in::{Cloud, Issuer, Policy, ProjectedToken, Sts, Workspaces};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (cloud, issuer) = (Cloud::memory(), Issuer::start().await);
//! let subject = "system:serviceaccount:monitoring:promferry";
//! cloud.add_provider("111122223333", &issuer, &["sts.amazonaws.com"]).await;
//! let role = "arn:aws:iam::111122223333:role/collector";
//! let trust = Policy::web_identity_trust(&issuer.provider_arn("111122223333"), subject, "sts.amazonaws.com");
//! cloud.add_role(role, trust, Some(Policy::allowing("aps:RemoteWrite", "*")), Duration::from_secs(3600)).await;
//!
//! let sts = Sts::start(&cloud).await;
//! let workspaces = Workspaces::start(&cloud, "eu-west-1").await;
//! workspaces.add("111122223333", "ws-1", None).await;
//! println!("write to {}", workspaces.url("ws-1"));
//!
//! let folder = tempfile::tempdir()?;
//! let token = issuer.token(subject, "sts.amazonaws.com", Duration::from_secs(600));
//! let token = ProjectedToken::new(folder.path(), &token);
//! println!("AWS_ENDPOINT_URL_STS={} AWS_WEB_IDENTITY_TOKEN_FILE={}", sts.url(), token.path().display());
//! assert!(sts.calls().is_empty());
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
