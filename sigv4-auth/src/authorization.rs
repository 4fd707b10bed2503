//! AWS' sentence of an action that is not allowed, taken apart: who, what, on what, and which kind of policy.

/// An action that AWS did not allow, as far as its sentence tells
/// (`User: … is not authorized to perform: … on resource: … because no identity-based policy allows …`).
///
/// Where several kinds of policy refuse, AWS names one of them (IAM user guide, "Troubleshoot access denied error
/// messages").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAuthorized {
    /// The ARN of who asked.
    pub principal: Option<String>,
    /// The action, such as `aps:RemoteWrite`.
    pub action: Option<String>,
    /// The ARN of what it was asked of.
    pub resource: Option<String>,
    /// The kind of policy that refused; `None` where AWS does not tell.
    pub policy: Option<PolicyKind>,
    /// Whether a statement denies it. Otherwise none allows it.
    pub explicit_deny: bool,
}

/// The kinds of policy that can refuse an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyKind {
    /// A policy of the user or role that asks.
    Identity,
    /// The policy of what is asked, such as a workspace's.
    Resource,
    /// Who may assume a role.
    RoleTrust,
    /// The most that a role's or user's own policies can allow.
    PermissionsBoundary,
    /// Given for one session when the role was assumed.
    Session,
    /// The organisation's, over accounts.
    ServiceControl,
    /// The organisation's, over resources.
    ResourceControl,
    /// That of the interface endpoint on the way.
    VpcEndpoint,
}

impl NotAuthorized {
    /// Takes AWS' sentence apart; what it lacks stays empty.
    pub fn parse(text: &str) -> Self {
        let after = |mark: &str| {
            let (_, rest) = text.split_once(mark)?;
            Some(first_word(rest).to_owned()).filter(|word| !word.is_empty())
        };
        // An ARN may hold any of these words.
        let reason = ["because no ", "explicit deny"].iter().filter_map(|mark| text.find(mark)).min();
        let reason = reason.map(|at| text[at..].to_ascii_lowercase()).unwrap_or_default();
        Self {
            principal: after("User: "),
            action: after("to perform: "),
            resource: after("on resource: "),
            policy: PolicyKind::named_in(&reason),
            explicit_deny: reason.contains("explicit deny"),
        }
    }

    /// The account of who asked.
    pub fn principal_account(&self) -> Option<&str> {
        account_of(self.principal.as_deref()?)
    }

    /// The account of what was asked.
    pub fn resource_account(&self) -> Option<&str> {
        account_of(self.resource.as_deref()?)
    }

    /// Whether both accounts are known and differ: then the policies of either side have to allow the action.
    pub fn crosses_accounts(&self) -> bool {
        match (self.principal_account(), self.resource_account()) {
            (Some(principal), Some(resource)) => principal != resource,
            _ => false,
        }
    }
}

impl PolicyKind {
    // Fragments, and in lower case: AWS' documents have more than one spelling of these sentences.
    const NAMES: [(&'static str, Self); 9] = [
        ("role trust policy", Self::RoleTrust),
        ("identity-based policy", Self::Identity),
        ("resource-based policy", Self::Resource),
        ("permissions boundary", Self::PermissionsBoundary),
        ("permission boundary", Self::PermissionsBoundary),
        ("session policy", Self::Session),
        ("service control policy", Self::ServiceControl),
        ("resource control policy", Self::ResourceControl),
        ("vpc endpoint policy", Self::VpcEndpoint),
    ];

    fn named_in(reason: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(name, _)| reason.contains(name)).map(|(_, kind)| *kind)
    }
}

/// The account in an ARN, its digits alone; `None` in those of servers that have no accounts.
///
/// ```
/// use promferry_sigv4_auth::account_of;
///
/// assert_eq!(account_of("arn:aws:iam::111122223333:role/amp-writer"), Some("111122223333"));
/// assert_eq!(account_of("arn:minio:iam:::role/idp"), None);
/// ```
pub fn account_of(arn: &str) -> Option<&str> {
    let account = arn.split(':').nth(4)?;
    (!account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit())).then_some(account)
}

/// The role of an assumed role's session, as its trust policies and others name it. A session's ARN lacks the
/// role's path; so does this.
pub(crate) fn role_of_session(arn: &str) -> Option<String> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, partition, "sts", _, account, resource] = parts.as_slice() else { return None };
    let name = resource.strip_prefix("assumed-role/")?.split('/').next()?;
    Some(format!("arn:{partition}:iam::{account}:role/{name}"))
}

/// The last part of a role's ARN, without its path.
pub(crate) fn role_name(role_arn: &str) -> &str {
    role_arn.rsplit('/').next().unwrap_or(role_arn)
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default().trim_end_matches([',', '.', ';', '"'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: &str = "User: arn:aws:sts::111111111111:assumed-role/session policy/pod is not authorized to perform: \
                       aps:RemoteWrite on resource: arn:aws:aps:eu-west-1:222222222222:workspace/ws-1";

    /// The endings are those of the IAM user guide's page on access denied messages, and of STS.
    #[test]
    fn each_kind_of_policy_is_recognised() {
        use PolicyKind::*;
        let cases = [
            ("", None, false),
            (" because no identity-based policy allows the aps:RemoteWrite action", Some(Identity), false),
            (" because no resource-based policy allows the aps:RemoteWrite action", Some(Resource), false),
            (" because no role trust policy allows the sts:AssumeRole action", Some(RoleTrust), false),
            (" because no session policy allows the aps:RemoteWrite action", Some(Session), false),
            (
                " because no permissions boundary allows the aps:RemoteWrite action",
                Some(PermissionsBoundary),
                false,
            ),
            (
                " because no service control policy allows the aps:RemoteWrite action",
                Some(ServiceControl),
                false,
            ),
            (" because no VPC endpoint policy allows the aps:RemoteWrite action", Some(VpcEndpoint), false),
            (" with an explicit deny in an identity-based policy", Some(Identity), true),
            (" with an explicit deny in a resource-based policy", Some(Resource), true),
            (" with an explicit deny in the role trust policy", Some(RoleTrust), true),
            (" with an explicit deny in a permissions boundary", Some(PermissionsBoundary), true),
            (" with an explicit deny in a session policy", Some(Session), true),
            (
                " with an explicit deny in a service control policy: arn:aws:organizations::3:policy/o-1/p-1",
                Some(ServiceControl),
                true,
            ),
            (" due to an explicit deny in a Service Control Policy", Some(ServiceControl), true),
            (" with an explicit deny in a resource control policy", Some(ResourceControl), true),
            (" with an explicit deny in a VPC endpoint policy", Some(VpcEndpoint), true),
            (" with an explicit deny", None, true),
            (" because no new-fangled policy allows the aps:RemoteWrite action", None, false),
        ];
        for (ending, policy, explicit_deny) in cases {
            let parsed = NotAuthorized::parse(&format!("{WHO}{ending}"));
            assert_eq!((parsed.policy, parsed.explicit_deny), (policy, explicit_deny), "{ending}");
            assert_eq!(parsed.action.as_deref(), Some("aps:RemoteWrite"));
            assert_eq!(
                (parsed.principal_account(), parsed.resource_account()),
                (Some("111111111111"), Some("222222222222"))
            );
            assert!(parsed.crosses_accounts());
        }
    }

    #[test]
    fn what_is_not_told_stays_empty() {
        let parsed = NotAuthorized::parse("Not authorized to perform sts:AssumeRoleWithWebIdentity");
        assert_eq!(
            (parsed.principal, parsed.action, parsed.resource, parsed.policy),
            (None, None, None, None)
        );
        for arn in
            ["arn:aws:aps:eu-west-1", "arn:aws:aps:eu-west-1::workspace/x", "arn:aws:aps:r:ACCOUNT:w", ""]
        {
            let text = format!("User: arn:aws:iam::1:user/u … on resource: {arn}");
            assert!(!NotAuthorized::parse(&text).crosses_accounts(), "{arn}");
        }
    }

    #[test]
    fn sessions_tell_their_role() {
        let role = role_of_session("arn:aws-cn:sts::111111111111:assumed-role/collector/pod-1");
        assert_eq!(role.as_deref(), Some("arn:aws-cn:iam::111111111111:role/collector"));
        for other in ["arn:aws:iam::1:user/u", "arn:aws:sts::1:federated-user/u", "x", ""] {
            assert_eq!(role_of_session(other), None, "{other}");
        }
        assert_eq!(role_name("arn:aws:iam::1:role/service/path/collector"), "collector");
    }
}
