//! IAM policies, read strictly: what is not understood is an error, never an allowance.

mod document;

use serde::Deserialize;
use serde_json::json;

use crate::arn::matches_pattern;
use crate::condition::Condition;
use crate::policy::document::Document;
use crate::{Access, Caller};

/// An IAM policy document: of an identity, of a role's trust, or of a workspace.
///
/// ```
/// use promferry_aws_stand_in::{Access, Caller, Decision, Policy};
///
/// let policy = Policy::parse(
///     r#"{"Version": "2012-10-17", "Statement": [
///         {"Effect": "Allow", "Action": "aps:RemoteWrite", "Resource": "arn:aws:aps:*:111122223333:workspace/*"}
///     ]}"#,
/// )?;
/// let caller = Caller::user("arn:aws:iam::111122223333:user/writer");
/// let write = Access::new(caller, "aps:RemoteWrite", "arn:aws:aps:eu-west-1:111122223333:workspace/ws-1");
/// assert_eq!(policy.evaluate(&write), Decision::Allowed);
/// let query = Access { action: String::from("aps:QueryMetrics"), ..write };
/// assert_eq!(policy.evaluate(&query), Decision::ImplicitDeny);
/// # Ok::<(), promferry_aws_stand_in::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
    text: String,
}

/// What one policy says about one access, in the words of IAM's policy simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it, and none denies it.
    Allowed,
    /// No statement is about it.
    ImplicitDeny,
    /// A statement denies it, whatever others allow.
    ExplicitDeny,
}

/// What is wrong with a policy document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is no JSON, or has a key that this crate does not know (`NotAction`, `NotPrincipal`, `NotResource` are
    /// among these).
    #[error("the policy does not read: {0}")]
    Json(#[from] serde_json::Error),
    /// It says what this crate does not evaluate, or what IAM refuses.
    #[error("statement {statement} of the policy: {reason}")]
    Statement {
        /// The statement's number, from 1.
        statement: usize,
        /// What is wrong and what can be written.
        reason: String,
    },
    /// Its version is none that IAM has.
    #[error("the policy's version {0:?} is neither \"2012-10-17\" nor \"2008-10-17\"")]
    Version(String),
}

/// Whom an allowing policy means: IAM asks more of somebody whose account alone is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    None,
    /// The caller's account, which has to allow its own identity in turn.
    Account,
    /// The caller itself.
    Caller,
    Denied,
}

impl Policy {
    /// Reads a policy document.
    ///
    /// Understood are `Allow` and `Deny`, `Principal`, `Action`, `Resource`, `*` and `?` in these, and the operators
    /// `StringEquals`, `StringNotEquals`, `StringLike`, `ArnEquals`, `ArnLike` and `Bool`, each with or without
    /// `ForAnyValue:`.
    ///
    /// # Errors
    /// Everything else is one: no policy is half understood. Policy variables (`${aws:username}`) are not known.
    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        let document: Document = serde_json::from_str(json)?;
        match document.version.as_deref() {
            None | Some("2012-10-17" | "2008-10-17") => {}
            Some(other) => return Err(PolicyError::Version(other.to_owned())),
        }
        let statements = document.statement.0;
        if statements.is_empty() {
            let reason = String::from("a policy needs one");
            return Err(PolicyError::Statement { statement: 1, reason });
        }
        let statements = statements.into_iter().enumerate().map(|(index, statement)| {
            statement.read().map_err(|reason| PolicyError::Statement { statement: index + 1, reason })
        });
        Ok(Self { statements: statements.collect::<Result<_, _>>()?, text: json.to_owned() })
    }

    /// An identity policy that allows one action on one resource, wildcards included.
    ///
    /// # Panics
    /// For an action without a service.
    pub fn allowing(action: &str, resource: &str) -> Self {
        let statement = json!({ "Effect": "Allow", "Action": action, "Resource": resource });
        Self::of_statements(&json!([statement]))
    }

    /// A trust policy for a service account's tokens: `sub` and `aud` of the provider's issuer are these.
    pub fn web_identity_trust(provider_arn: &str, subject: &str, audience: &str) -> Self {
        let name = provider_arn.split_once(":oidc-provider/").map_or(provider_arn, |(_, name)| name);
        let (sub, aud) = (format!("{name}:sub"), format!("{name}:aud"));
        Self::of_statements(&json!([{
            "Effect": "Allow",
            "Principal": { "Federated": provider_arn },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": { sub: subject, aud: audience } },
        }]))
    }

    /// A trust policy for one principal (the ARN of a role, user or session, or an account), with the external id that it
    /// has to give.
    ///
    /// # Panics
    /// For a principal that IAM does not take.
    pub fn role_trust(principal: &str, external_id: Option<&str>) -> Self {
        let mut statement = json!({
            "Effect": "Allow",
            "Principal": { "AWS": principal },
            "Action": "sts:AssumeRole",
        });
        if let Some(external_id) = external_id {
            statement["Condition"] = json!({ "StringEquals": { "sts:ExternalId": external_id } });
        }
        Self::of_statements(&json!([statement]))
    }

    /// A trust policy that denies every caller: how a trust is revoked.
    pub fn no_trust() -> Self {
        let actions = ["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"];
        Self::of_statements(&json!([{ "Effect": "Deny", "Principal": "*", "Action": actions }]))
    }

    fn of_statements(statements: &serde_json::Value) -> Self {
        let document = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        Self::parse(&document).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What this policy alone says about an access.
    ///
    /// A statement without a `Principal` is one of an identity's policy and is taken to belong to the caller; one
    /// without a `Resource` is one of a trust policy and is about the resource that has it.
    pub fn evaluate(&self, access: &Access) -> Decision {
        match self.grant(access) {
            Grant::Denied => Decision::ExplicitDeny,
            Grant::None => Decision::ImplicitDeny,
            Grant::Account | Grant::Caller => Decision::Allowed,
        }
    }

    /// The document as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn grant(&self, access: &Access) -> Grant {
        let mut best = Grant::None;
        for statement in &self.statements {
            let grant = statement.grant(access);
            match (statement.effect, grant) {
                (_, Grant::None) => {}
                (Effect::Deny, _) => return Grant::Denied,
                (Effect::Allow, Grant::Caller) => best = Grant::Caller,
                (Effect::Allow, grant) if best == Grant::None => best = grant,
                (Effect::Allow, _) => {}
            }
        }
        best
    }

    /// Whether it can be a role's trust policy: every statement names principals, actions of STS, and no resource.
    pub(crate) fn is_trust(&self) -> bool {
        self.statements.iter().all(|one| {
            let is_of_sts = one.actions.iter().all(|action| action.starts_with("sts:"));
            one.principals.is_some() && one.resources.is_none() && is_of_sts
        })
    }

    /// Whether it can be an identity's policy: every statement names resources and no principal.
    pub(crate) fn is_of_identity(&self) -> bool {
        self.statements.iter().all(|one| one.principals.is_none() && one.resources.is_some())
    }

    /// Whether it can be a resource's policy: every statement names both.
    pub(crate) fn is_of_resource(&self) -> bool {
        self.statements.iter().all(|one| one.principals.is_some() && one.resources.is_some())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    effect: Effect,
    principals: Option<Vec<Principal>>,
    actions: Vec<String>,
    resources: Option<Vec<String>>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Principal {
    Everyone,
    /// All of an account: its number, or its `:root`.
    Account(String),
    /// A user, a role or one session of a role.
    Arn(String),
    /// An identity provider of web identities.
    Federated(String),
    /// A service of AWS: none calls here.
    Service,
}

impl Statement {
    fn grant(&self, access: &Access) -> Grant {
        // Actions are compared without regard to case, resources with it (IAM User Guide, "Policy elements").
        let action = access.action.to_ascii_lowercase();
        let is_action = self.actions.iter().any(|one| matches_pattern(&one.to_ascii_lowercase(), &action));
        let is_resource = self
            .resources
            .as_ref()
            .is_none_or(|resources| resources.iter().any(|one| matches_pattern(one, &access.resource)));
        if !is_action || !is_resource || !self.conditions.iter().all(|one| one.is_met(&access.context)) {
            return Grant::None;
        }
        let Some(principals) = &self.principals else { return Grant::Caller };
        let mut best = Grant::None;
        for principal in principals {
            match principal.grant(&access.caller) {
                Grant::None => {}
                Grant::Caller => return Grant::Caller,
                grant => best = grant,
            }
        }
        best
    }
}

impl Principal {
    fn grant(&self, caller: &Caller) -> Grant {
        let is_named = match (self, caller) {
            (Self::Everyone, _) => true,
            (Self::Account(account), Caller::User { .. } | Caller::Session { .. }) => {
                return if caller.account() == account { Grant::Account } else { Grant::None };
            }
            (Self::Arn(arn), Caller::User { arn: user }) => arn == user,
            (Self::Arn(arn), Caller::Session { role_arn, session_arn }) => {
                arn == role_arn || arn == session_arn
            }
            (Self::Federated(provider), Caller::WebIdentity { provider_arn }) => provider == provider_arn,
            _ => false,
        };
        if is_named { Grant::Caller } else { Grant::None }
    }

    fn read(kind: &str, value: &str) -> Result<Self, String> {
        let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        match kind {
            "AWS" if value == "*" => Ok(Self::Everyone),
            "AWS" if is_account(value) => Ok(Self::Account(value.to_owned())),
            "AWS" => {
                let parts: Vec<&str> = value.splitn(6, ':').collect();
                match parts[..] {
                    ["arn", _, "iam", "", account, "root"] if is_account(account) => {
                        Ok(Self::Account(account.to_owned()))
                    }
                    ["arn", _, "iam" | "sts", "", account, _]
                        if is_account(account) && !value.contains(['*', '?']) =>
                    {
                        Ok(Self::Arn(value.to_owned()))
                    }
                    _ => Err(format!(
                        "{value:?} is no principal: IAM takes an account's number or the ARN of a user, role or \
                         session, without wildcards in it"
                    )),
                }
            }
            "Federated" => Ok(Self::Federated(value.to_owned())),
            "Service" => Ok(Self::Service),
            other => {
                Err(format!("principals of kind {other:?} are not known: AWS, Federated and Service are"))
            }
        }
    }
}
