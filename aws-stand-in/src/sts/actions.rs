//! What STS decides, in AWS' order.

use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use promferry_sigv4_auth::Scope;

use crate::access::{Access, Caller, Missing, authorize};
use crate::arn::RoleArn;
use crate::cloud::{Identity, Role, Session};
use crate::identity_token::IdentityToken;
use crate::policy::Decision;
use crate::sts::Shared;
use crate::sts::parameters::Parameters;
use crate::sts::refusal::Refusal;
use crate::world_time::unix_seconds;

const VERSION: &str = "2011-06-15";

/// A session of a role that was itself assumed by a session's keys lives no longer, seconds.
const CHAIN_LIMIT: u64 = 3_600;

/// What STS answers where it does not refuse.
pub(crate) enum Answered {
    Session { action: &'static str, session: Session, subject: Option<Subject> },
    Identity { arn: String, user_id: String, account: String },
}

/// What the answer to a web identity repeats of its token.
pub(crate) struct Subject {
    pub(crate) subject: String,
    pub(crate) audience: String,
    pub(crate) provider_arn: String,
}

impl Shared {
    pub(crate) async fn act(
        &self,
        head: &Parts,
        body: &Bytes,
        parameters: &Parameters,
    ) -> Result<Answered, Refusal> {
        let action = parameters.get("Action").ok_or_else(Refusal::missing_action)?;
        let version = parameters.get("Version").unwrap_or_default();
        match action {
            _ if version != VERSION => Err(Refusal::invalid_action(action, version)),
            "AssumeRoleWithWebIdentity" => self.assume_role_with_web_identity(parameters).await,
            "AssumeRole" => {
                parameters.check(&["RoleArn", "RoleSessionName"], &["DurationSeconds", "ExternalId"])?;
                let identity = self.verified(head, body)?;
                self.assume_role(&identity, parameters).await
            }
            "GetCallerIdentity" => {
                parameters.check(&[], &[])?;
                let identity = self.verified(head, body)?;
                Ok(Answered::Identity {
                    arn: identity.caller.arn().to_owned(),
                    account: identity.caller.account().to_owned(),
                    user_id: identity.user_id,
                })
            }
            _ => Err(Refusal::invalid_action(action, version)),
        }
    }

    async fn assume_role_with_web_identity(&self, parameters: &Parameters) -> Result<Answered, Refusal> {
        parameters.check(&["RoleArn", "RoleSessionName", "WebIdentityToken"], &["DurationSeconds"])?;
        let (role_arn, session_name) = (parameters.text("RoleArn"), parameters.text("RoleSessionName"));
        let account = RoleArn::parse(role_arn).ok_or_else(Refusal::invalid_arn)?.account;
        let token =
            IdentityToken::parse(parameters.text("WebIdentityToken")).ok_or_else(Refusal::not_a_token)?;
        let claims = &token.claims;
        let no_provider = || Refusal::no_provider(&claims.iss);
        let issuer = self.cloud.issuer(&claims.iss).ok_or_else(no_provider)?;
        let provider_arn = issuer.provider_arn(account);
        let client_ids = self.cloud.client_ids(&provider_arn).await.ok_or_else(no_provider)?;
        token.check_signature(&issuer).await.map_err(Refusal::token_signature)?;
        if claims.aud.is_empty() {
            return Err(Refusal::no_audience());
        }
        if !claims.aud.iter().any(|audience| client_ids.contains(audience)) {
            return Err(Refusal::incorrect_audience());
        }
        let now = unix_seconds(self.cloud.now());
        if claims.exp <= now {
            return Err(Refusal::expired_token(now, claims.exp));
        }
        if claims.nbf > now {
            return Err(Refusal::token_of_the_future());
        }

        let role = self.cloud.role(role_arn).await.ok_or_else(Refusal::web_identity_denied)?;
        let caller = Caller::WebIdentity { provider_arn: provider_arn.clone() };
        let mut access = Access::new(caller, "sts:AssumeRoleWithWebIdentity", role_arn)
            .with("aws:FederatedProvider", provider_arn.as_str())
            .with("sts:RoleSessionName", session_name)
            .with(&format!("{}:sub", issuer.name()), claims.sub.as_str());
        for audience in &claims.aud {
            access = access.with(&format!("{}:aud", issuer.name()), audience.as_str());
        }
        if role.trust.evaluate(&access) != Decision::Allowed {
            return Err(Refusal::web_identity_denied());
        }
        check_duration(parameters, &role)?;
        let session = self.give(role_arn, &role, parameters, account).await;
        let subject = Subject { subject: claims.sub.clone(), audience: claims.aud.join(","), provider_arn };
        Ok(Answered::Session { action: "AssumeRoleWithWebIdentity", session, subject: Some(subject) })
    }

    async fn assume_role(&self, identity: &Identity, parameters: &Parameters) -> Result<Answered, Refusal> {
        let (role_arn, session_name) = (parameters.text("RoleArn"), parameters.text("RoleSessionName"));
        RoleArn::parse(role_arn).ok_or_else(Refusal::invalid_arn)?;
        let mut access = Access::new(identity.caller.clone(), "sts:AssumeRole", role_arn)
            .with("sts:RoleSessionName", session_name);
        if let Some(external_id) = parameters.get("ExternalId") {
            access = access.with("sts:ExternalId", external_id);
        }
        let own = self.cloud.identity_policies(identity).await;
        let role = self.cloud.role(role_arn).await;
        // A role that is not there is one that trusts nobody: AWS does not tell the two apart.
        let trust = role.as_ref().map(|role| &role.trust);
        let verdict = authorize(&access, &own, trust, true);
        verdict.map_err(|missing| self.not_authorized(identity, role_arn, missing))?;
        let role =
            role.as_ref().ok_or_else(|| self.not_authorized(identity, role_arn, Missing::ResourcePolicy))?;
        let is_chained = matches!(identity.caller, Caller::Session { .. });
        if is_chained && parameters.duration_seconds() > CHAIN_LIMIT {
            return Err(Refusal::over_the_chain_limit());
        }
        check_duration(parameters, role)?;
        let session = self.give(role_arn, role, parameters, &identity.origin_account).await;
        Ok(Answered::Session { action: "AssumeRole", session, subject: None })
    }

    /// The texts with a reason have the forms of the IAM User Guide, "Troubleshoot access denied error messages".
    fn not_authorized(&self, identity: &Identity, role_arn: &str, missing: Missing) -> Refusal {
        let user = format!("User: {} is not authorized to perform: sts:AssumeRole", identity.caller.arn());
        if !self.settings().reasons {
            return Refusal::access_denied(format!("{user} on resource: {role_arn}"));
        }
        Refusal::access_denied(match missing {
            Missing::IdentityPolicy => format!(
                "{user} on resource: {role_arn} because no identity-based policy allows the sts:AssumeRole action"
            ),
            Missing::IdentityDeny => {
                format!("{user} on resource: {role_arn} with an explicit deny in an identity-based policy")
            }
            Missing::ResourcePolicy => {
                format!("{user} because no role trust policy allows the sts:AssumeRole action")
            }
            Missing::ResourceDeny => format!("{user} with an explicit deny in the role trust policy"),
        })
    }

    async fn give(
        &self,
        role_arn: &str,
        role: &Role,
        parameters: &Parameters,
        origin_account: &str,
    ) -> Session {
        let asked_for = Duration::from_secs(parameters.duration_seconds());
        let lifetime = self.settings().lifetime.unwrap_or(asked_for);
        self.cloud.issue(role_arn, role, parameters.text("RoleSessionName"), lifetime, origin_account).await
    }

    fn verified(&self, head: &Parts, body: &Bytes) -> Result<Identity, Refusal> {
        let signed_for = scope_part(head, 1).unwrap_or_default();
        let region = self.region.clone().unwrap_or_else(|| signed_for.to_owned());
        let scope = Scope { region, service: String::from("sts") };
        self.cloud.verify(head, body, scope).map_err(|error| Refusal::signature(&error))
    }
}

fn check_duration(parameters: &Parameters, role: &Role) -> Result<(), Refusal> {
    if parameters.duration_seconds() > role.max_session.as_secs() {
        return Err(Refusal::over_the_roles_maximum());
    }
    Ok(())
}

/// The access key in the `authorization` header, whether or not the signature is right.
pub(crate) fn access_key_of(head: &Parts) -> Option<String> {
    credential(head)?.split('/').next().map(str::to_owned)
}

/// A part of the credential scope: 0 is the day, 1 the region, 2 the service.
fn scope_part(head: &Parts, part: usize) -> Option<&str> {
    credential(head)?.split('/').nth(part + 1)
}

fn credential(head: &Parts) -> Option<&str> {
    let text = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    text.split_once("Credential=")?.1.split([',', ' ']).next()
}
