//! Who wants to do what, and whether the policies on both sides let them.

use std::collections::BTreeMap;

use crate::Policy;
use crate::arn::account_of;
use crate::policy::Grant;

/// One access, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who calls.
    pub caller: Caller,
    /// `service:Action`.
    pub action: String,
    /// The ARN of what is accessed.
    pub resource: String,
    /// Condition keys in lower case with their values.
    pub context: BTreeMap<String, Vec<String>>,
}

/// Who calls, as principals of policies name them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// Somebody with a token of an identity provider; in no account yet.
    WebIdentity {
        /// `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH`.
        provider_arn: String,
    },
    /// A user with long-lived keys.
    User {
        /// `arn:aws:iam::ACCOUNT:user/NAME`.
        arn: String,
    },
    /// A session of a role.
    Session {
        /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
        role_arn: String,
        /// `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`.
        session_arn: String,
    },
}

/// Which of the policies did not let an access through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// None of the caller's own policies allows it.
    IdentityPolicy,
    /// The resource's policy (a role's trust policy too) does not.
    ResourcePolicy,
    /// One of the caller's policies denies it.
    IdentityDeny,
    /// The resource's policy denies it.
    ResourceDeny,
}

impl Access {
    /// An access with the condition keys that every request has: `aws:PrincipalArn`, `aws:PrincipalAccount` and
    /// `aws:SecureTransport`.
    pub fn new(caller: Caller, action: impl Into<String>, resource: impl Into<String>) -> Self {
        let access =
            Self { action: action.into(), resource: resource.into(), context: BTreeMap::new(), caller };
        let (arn, account) = match &access.caller {
            Caller::WebIdentity { .. } => return access.with("aws:SecureTransport", "true"),
            // The key holds the role's ARN, not the session's (IAM User Guide, "Global condition keys").
            Caller::User { arn } | Caller::Session { role_arn: arn, .. } => {
                (arn.clone(), account_of(arn).to_owned())
            }
        };
        access
            .with("aws:PrincipalArn", arn)
            .with("aws:PrincipalAccount", account)
            .with("aws:SecureTransport", "true")
    }

    /// With one more value of a condition key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.context.entry(key.to_ascii_lowercase()).or_default().push(value.into());
        self
    }
}

impl Caller {
    /// A user by its ARN.
    pub fn user(arn: impl Into<String>) -> Self {
        Self::User { arn: arn.into() }
    }

    /// A session of a role by the role's ARN (a session's ARN has no path, and the partition of its role).
    pub fn session(role_arn: impl Into<String>, session_name: &str) -> Self {
        let role_arn = role_arn.into();
        let session_arn = crate::arn::RoleArn::parse(&role_arn)
            .map_or_else(|| format!("{role_arn}/{session_name}"), |role| role.session(session_name));
        Self::Session { role_arn, session_arn }
    }

    /// Its ARN, as AWS writes it in refusals.
    pub fn arn(&self) -> &str {
        match self {
            Self::WebIdentity { provider_arn } => provider_arn,
            Self::User { arn } => arn,
            Self::Session { session_arn, .. } => session_arn,
        }
    }

    /// The account's twelve digits.
    pub fn account(&self) -> &str {
        account_of(self.arn())
    }
}

/// Whether an access is let through, by IAM's rules for one account and for two (IAM User Guide, "Policy evaluation
/// logic" and "Cross-account policy evaluation logic").
///
/// Within an account the caller's policies or the resource's suffice, where the resource's names the caller and not only
/// its account. Between accounts both have to allow. A role's trust policy (`needs_resource_policy`) has to allow always.
///
/// # Errors
/// What is missing, or what denies; the caller's side is looked at first.
pub fn authorize(
    access: &Access,
    identity_policies: &[Policy],
    resource_policy: Option<&Policy>,
    needs_resource_policy: bool,
) -> Result<(), Missing> {
    let by_identity =
        identity_policies.iter().map(|policy| policy.grant(access)).fold(Grant::None, |all, one| {
            match (all, one) {
                (Grant::Denied, _) | (_, Grant::Denied) => Grant::Denied,
                (Grant::None, one) => one,
                (all, _) => all,
            }
        });
    let by_resource = resource_policy.map_or(Grant::None, |policy| policy.grant(access));
    if by_identity == Grant::Denied {
        return Err(Missing::IdentityDeny);
    }
    if by_resource == Grant::Denied {
        return Err(Missing::ResourceDeny);
    }
    let identity_allows = by_identity != Grant::None;
    let resource_allows = by_resource != Grant::None;
    let is_same_account = access.caller.account() == account_of(&access.resource);
    if is_same_account && by_resource == Grant::Caller {
        return Ok(());
    }
    if !identity_allows {
        return Err(Missing::IdentityPolicy);
    }
    if !resource_allows && (needs_resource_policy || !is_same_account) {
        return Err(Missing::ResourcePolicy);
    }
    Ok(())
}
