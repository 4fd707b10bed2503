//! Why an endpoint cannot be written to, and which policy would change that.

use http::Uri;

use crate::authorization::{NotAuthorized, PolicyKind};
use crate::reach::{Reach, reach};
use crate::sdk::shown;

/// Why credentials could not be got, or an endpoint refused them, and what would be needed. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Which it is.
    pub kind: FailureKind,
    /// What happened and what to do, a few sentences without line breaks.
    pub what: String,
    /// What was answered, in AWS' own words, or what the system said.
    pub answer: Option<String>,
    /// AWS' id of the request, for its support and for CloudTrail.
    pub request_id: Option<String>,
    /// Policies that would have to be there, the one that is missing first.
    pub needed: Vec<NeededPolicy>,
}

/// A policy that would have to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededPolicy {
    /// Where it belongs, such as `trust policy of arn:aws:iam::123456789012:role/hub-writer`.
    pub place: String,
    /// What has to be seen to before it is put there.
    pub note: Option<String>,
    /// A whole policy document; its statement can be added to one that is there.
    pub json: String,
}

/// The kinds of [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// Nothing that gives credentials is configured.
    NoProvider,
    /// What is configured cannot work, such as a token file that can't be read.
    Provider,
    /// STS or the endpoint can't be reached.
    Route(Reach),
    /// IAM has no identity provider for who issued the token, or it takes no token for this audience.
    IdentityProvider,
    /// The web identity token has expired.
    TokenExpired,
    /// AWS can't take the web identity token for what it is.
    Token,
    /// The role's trust policy does not let the caller in.
    RoleTrust,
    /// No policy of the caller lets it assume the role.
    CallerPolicy,
    /// One of these two; AWS does not say which.
    CallerPolicyOrRoleTrust,
    /// The keys themselves are wrong, unknown or expired.
    Keys,
    /// This machine's clock and AWS' are too far apart.
    ClockSkew,
    /// Any other refusal of STS, or an answer that is none of STS.
    Sts,
    /// No policy of the identity lets it write.
    IdentityPolicy,
    /// The workspace's resource policy does not let the identity write.
    ResourcePolicy,
    /// One of these two, or both; AWS does not say which.
    IdentityOrResourcePolicy,
    /// The permissions boundary does not let it.
    PermissionsBoundary,
    /// The session policy does not let it.
    SessionPolicy,
    /// A policy of the organisation does not let it.
    OrganizationPolicy,
    /// The interface endpoint's policy does not let it.
    EndpointPolicy,
    /// A statement denies it.
    ExplicitDeny,
    /// The identity's account has no such workspace.
    WorkspaceNotFound,
    /// The signature is not what AWS computes, or is for another region or service.
    Signature,
    /// Any other answer of the endpoint.
    Endpoint,
}

impl Failure {
    /// A failure of which no more is known than `what`.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), answer: None, request_id: None, needed: Vec::new() }
    }

    /// What is on the way to an endpoint that gave no answer, found out by going there again; `reason` is what the
    /// call failed with. `None` where `endpoint` is no URL.
    pub async fn of_route(endpoint: &str, reason: &str) -> Option<Self> {
        let url: Uri = endpoint.parse().ok()?;
        url.host()?;
        let found = match reach(&url).await {
            Reach::Answers { .. } if is_about_tls(reason) => Reach::Tls(why_no_tls(reason).to_owned()),
            found => found,
        };
        Some(Self::of_reach(&url, found, reason))
    }

    /// The same where what is on the way is known.
    pub fn of_reach(endpoint: &Uri, found: Reach, reason: &str) -> Self {
        let what = found.explain(endpoint);
        Self { answer: Some(shown(reason)), ..Self::new(FailureKind::Route(found), what) }
    }
}

impl FailureKind {
    /// A word for it that stays the same, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoProvider => "no_provider",
            Self::Provider => "provider",
            Self::Route(_) => "route",
            Self::IdentityProvider => "identity_provider",
            Self::TokenExpired => "token_expired",
            Self::Token => "token",
            Self::RoleTrust => "role_trust",
            Self::CallerPolicy => "caller_policy",
            Self::CallerPolicyOrRoleTrust => "caller_policy_or_role_trust",
            Self::Keys => "keys",
            Self::ClockSkew => "clock_skew",
            Self::Sts => "sts",
            Self::IdentityPolicy => "identity_policy",
            Self::ResourcePolicy => "resource_policy",
            Self::IdentityOrResourcePolicy => "identity_or_resource_policy",
            Self::PermissionsBoundary => "permissions_boundary",
            Self::SessionPolicy => "session_policy",
            Self::OrganizationPolicy => "organization_policy",
            Self::EndpointPolicy => "endpoint_policy",
            Self::ExplicitDeny => "explicit_deny",
            Self::WorkspaceNotFound => "workspace_not_found",
            Self::Signature => "signature",
            Self::Endpoint => "endpoint",
        }
    }
}

fn is_about_tls(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["certificate", "handshake", "tls", "corrupt message"].iter().any(|word| reason.contains(word))
}

/// The end of a chain of causes, without what led to it.
fn why_no_tls(reason: &str) -> &str {
    let end = reason.rsplit_once("failed: ").map_or(reason, |(_, end)| end);
    end.trim_end_matches(')')
}

/// Which policy is missing for a write, or refuses it, and what to do.
pub(crate) fn write_refused(refused: &NotAuthorized) -> (FailureKind, String) {
    if let Some(found) = refused_elsewhere(refused, "the resource policy of the workspace") {
        return found;
    }
    let accounts = match (refused.principal_account(), refused.resource_account()) {
        (Some(principal), Some(resource)) if principal != resource => Some((principal, resource)),
        _ => None,
    };
    match (refused.policy, accounts) {
        (Some(PolicyKind::Resource | PolicyKind::RoleTrust), Some((principal, resource))) => (
            FailureKind::ResourcePolicy,
            format!(
                "the workspace is of account {resource}, and its resource policy does not let this identity of \
                 account {principal} write: add it there, or write through a role of account {resource} (role_arn)"
            ),
        ),
        (Some(PolicyKind::Resource | PolicyKind::RoleTrust), None) => (
            FailureKind::ResourcePolicy,
            String::from(
                "the resource policy of the workspace does not let this identity write: add it there, or write \
                 through a role of the workspace's account (role_arn)",
            ),
        ),
        (Some(_), Some((principal, resource))) => (
            FailureKind::IdentityPolicy,
            format!(
                "no policy of this identity of account {principal} allows it: add it \
                 (AmazonPrometheusRemoteWriteAccess holds it). The workspace is of account {resource}: its resource \
                 policy has to let this identity write too, or write through a role of account {resource} (role_arn)"
            ),
        ),
        (None, Some((principal, resource))) => (
            FailureKind::IdentityOrResourcePolicy,
            format!(
                "AWS does not say which policy is missing. The identity is of account {principal} and the workspace \
                 of account {resource}, so two have to agree: a policy of this identity and the resource policy of \
                 the workspace; or write through a role of account {resource} (role_arn)"
            ),
        ),
        (None, None) if refused.principal_account().is_none() || refused.resource_account().is_none() => (
            FailureKind::IdentityOrResourcePolicy,
            String::from(
                "AWS does not say which policy is missing: a policy of this identity has to allow it \
                 (AmazonPrometheusRemoteWriteAccess holds it), and where the workspace is another account's, its \
                 resource policy too; or write through a role of the workspace's account (role_arn)",
            ),
        ),
        (None, None) => (
            FailureKind::IdentityPolicy,
            String::from(
                "AWS does not say which policy is missing; mostly none of this identity allows it: add it to one \
                 (AmazonPrometheusRemoteWriteAccess holds it); after a change it takes IAM up to some minutes",
            ),
        ),
        (Some(_), None) => (
            FailureKind::IdentityPolicy,
            String::from(
                "no policy of this identity allows it: add it to one (AmazonPrometheusRemoteWriteAccess holds it); \
                 after a change it takes IAM up to some minutes",
            ),
        ),
    }
}

/// What refuses, and who can change it, where that is none of the two policies that mostly miss: the caller's own, and
/// the policy (`its_policy`, in words) of what was asked.
pub(crate) fn refused_elsewhere(refused: &NotAuthorized, its_policy: &str) -> Option<(FailureKind, String)> {
    const ORGANISATION: &str =
        "only who administers the organisation can change that, policies of the account can't";
    let account = |account: Option<&str>| account.map(|id| format!(" of account {id}")).unwrap_or_default();
    let callers_account = account(refused.principal_account());
    if refused.explicit_deny {
        const NO_ALLOW: &str = "and no Allow outweighs that: look for the Deny there, also at its conditions";
        let (kind, place) = match refused.policy {
            Some(PolicyKind::ServiceControl) => {
                let text = format!(
                    "a service control policy denies it to identities{callers_account}; {ORGANISATION}"
                );
                return Some((FailureKind::OrganizationPolicy, text));
            }
            Some(PolicyKind::ResourceControl) => {
                let its_account = account(refused.resource_account());
                let text =
                    format!("a resource control policy denies it for resources{its_account}; {ORGANISATION}");
                return Some((FailureKind::OrganizationPolicy, text));
            }
            Some(PolicyKind::Identity) => (FailureKind::ExplicitDeny, "a policy of this identity"),
            Some(PolicyKind::Resource | PolicyKind::RoleTrust) => (FailureKind::ExplicitDeny, its_policy),
            Some(PolicyKind::PermissionsBoundary) => {
                (FailureKind::PermissionsBoundary, "the permissions boundary of this identity")
            }
            Some(PolicyKind::Session) => (FailureKind::SessionPolicy, SESSION_POLICY),
            Some(PolicyKind::VpcEndpoint) => {
                (FailureKind::EndpointPolicy, "the policy of the interface endpoint on the way")
            }
            None => {
                let text = "a policy denies it explicitly: look for a Deny (also in the organisation's and the \
                            interface endpoint's policies)";
                return Some((FailureKind::ExplicitDeny, text.to_owned()));
            }
        };
        return Some((kind, format!("{place} denies it, {NO_ALLOW}")));
    }
    Some(match refused.policy? {
        PolicyKind::PermissionsBoundary => (
            FailureKind::PermissionsBoundary,
            String::from(
                "the permissions boundary of this identity does not allow it; what its own policies allow counts \
                 only within that: add it to the boundary",
            ),
        ),
        PolicyKind::Session => (
            FailureKind::SessionPolicy,
            format!("{SESSION_POLICY} does not allow it, whatever the role's own policies say: add it there"),
        ),
        PolicyKind::ServiceControl => (
            FailureKind::OrganizationPolicy,
            format!("no service control policy allows it to identities{callers_account}; {ORGANISATION}"),
        ),
        PolicyKind::ResourceControl => (
            FailureKind::OrganizationPolicy,
            format!(
                "no resource control policy allows it for resources{}; {ORGANISATION}",
                account(refused.resource_account())
            ),
        ),
        PolicyKind::VpcEndpoint => (
            FailureKind::EndpointPolicy,
            String::from(
                "the policy of the interface endpoint on the way does not allow it: who owns the VPC can add it there",
            ),
        ),
        PolicyKind::Identity | PolicyKind::Resource | PolicyKind::RoleTrust => return None,
    })
}

/// EKS Pod Identity has them since March 2026 (AWS' containers blog, "Session policies for Amazon EKS Pod Identity").
const SESSION_POLICY: &str =
    "the session policy that was given when the role was assumed (with EKS Pod Identity, in the association)";
