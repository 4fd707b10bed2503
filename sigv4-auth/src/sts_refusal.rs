//! What a refusal of STS means to the user.

use std::path::Path;

use crate::authorization::{NotAuthorized, PolicyKind, account_of};
use crate::failure::{FailureKind, refused_elsewhere};
use crate::sdk::shown;
use crate::{Credentials, RoleStep, TokenFacts};

/// Which kind a refusal is, and what to do where that can be told.
pub(crate) type Judged = (FailureKind, Option<String>);

/// Of `AssumeRoleWithWebIdentity`. Its codes and texts are those of the API reference and of what clusters' users
/// report; AWS answers alike for a trust policy that does not match and a role that does not exist.
pub(crate) fn of_web_identity(
    code: &str,
    message: &str,
    role_arn: &str,
    token: &TokenFacts,
    token_file: &Path,
) -> Judged {
    let issuer = token.issuer_name();
    let (subject, audience) = (shown(&token.subject), shown(&token.audience.join(", ")));
    let account = account_of(role_arn).map(|id| format!("account {id}"));
    let account = account.as_deref().unwrap_or("the role's account");
    let token_file = token_file.display();
    let message = message.to_ascii_lowercase();
    match code {
        "AccessDenied" | "AccessDeniedException" => (
            FailureKind::RoleTrust,
            Some(format!(
                "the trust policy of {role_arn} does not let this service account in, or the role does not exist: it \
                 has to allow sts:AssumeRoleWithWebIdentity to the identity provider {issuer:?} with the conditions \
                 {issuer}:sub = {subject:?} and {issuer}:aud = {audience:?}"
            )),
        ),
        "InvalidIdentityToken" if message.contains("audience") => (
            FailureKind::IdentityProvider,
            Some(format!(
                "the token is for the audience {audience:?}, and the identity provider {issuer:?} in {account} takes \
                 none for it: have the token projected for sts.amazonaws.com (audience of the projected volume; the \
                 annotation eks.amazonaws.com/audience), or add {audience:?} to the provider's audiences"
            )),
        ),
        "InvalidIdentityToken" if message.contains("provider found") && issuer.is_empty() => (
            FailureKind::IdentityProvider,
            Some(format!(
                "IAM in {account} has no OIDC identity provider for the issuer of the token in {token_file}, and the \
                 token can't be read here to name it: is it the service account's?"
            )),
        ),
        "InvalidIdentityToken" if message.contains("provider found") => (
            FailureKind::IdentityProvider,
            Some(format!(
                "IAM in {account} needs an OIDC identity provider for {issuer:?} with the audience {audience:?}: aws \
                 iam create-open-id-connect-provider --url https://{issuer} --client-id-list {}. Each account whose \
                 roles are assumed with a token needs its own",
                shown(&token.audience.join(" "))
            )),
        ),
        "InvalidIdentityToken" => (
            FailureKind::Token,
            Some(format!(
                "AWS cannot check the token in {token_file} against its issuer {issuer:?}: the issuer's \
                 /.well-known/openid-configuration and keys have to be reachable for AWS and hold the key that \
                 signed it; a cluster that was made anew has another issuer"
            )),
        ),
        "ExpiredTokenException" | "ExpiredToken" => (
            FailureKind::TokenExpired,
            Some(format!(
                "the token in {token_file} has expired: the kubelet renews it there, a copy of it is not renewed"
            )),
        ),
        "IDPRejectedClaim" => (
            FailureKind::Token,
            Some(format!(
                "the identity provider {issuer:?} does not stand by the token in {token_file}: it has expired or was \
                 revoked, as with a service account or pod that is gone"
            )),
        ),
        "IDPCommunicationError" => (
            FailureKind::Token,
            Some(format!(
                "AWS could not reach the identity provider {issuer:?}; this passes by itself mostly"
            )),
        ),
        other => of_any(other),
    }
}

/// Of `AssumeRole`, called with these credentials.
pub(crate) fn of_assume_role(code: &str, message: &str, with: &Credentials, step: &RoleStep) -> Judged {
    if code != "AccessDenied" && code != "AccessDeniedException" {
        return of_keys(code, message, with);
    }
    let role = &step.role_arn;
    let refused = NotAuthorized::parse(message);
    if let Some((kind, text)) = refused_elsewhere(&refused, &format!("the trust policy of {role}")) {
        return (kind, Some(text));
    }
    let caller = with.provider();
    let condition = match &step.external_id {
        Some(id) => format!(" with the condition sts:ExternalId = {id:?} (the external_id given)"),
        None => String::from("; should it ask for an sts:ExternalId, set external_id"),
    };
    let kind = match refused.policy {
        Some(PolicyKind::Identity) => FailureKind::CallerPolicy,
        Some(PolicyKind::RoleTrust | PolicyKind::Resource) => FailureKind::RoleTrust,
        _ => FailureKind::CallerPolicyOrRoleTrust,
    };
    if refused.action.as_deref() == Some("sts:TagSession") {
        let text = format!(
            "the credentials from {caller} carry session tags on, as those of EKS Pod Identity do: the policy of the \
             caller and the trust policy of {role} have to allow sts:TagSession beside sts:AssumeRole; or switch the \
             association's session tags off (disableSessionTags)"
        );
        return (kind, Some(text));
    }
    let text = match kind {
        FailureKind::CallerPolicy => format!(
            "no policy of the caller ({caller}) allows it: add sts:AssumeRole on {role} to one; the trust policy of \
             that role has to name the caller too{condition}"
        ),
        FailureKind::RoleTrust => format!(
            "the trust policy of {role} does not let the caller ({caller}) in: it has to name it{condition}"
        ),
        _ => format!(
            "two policies have to agree: the one of the caller ({caller}) has to allow sts:AssumeRole on {role}, and \
             the trust policy of that role has to name the caller{condition}. A role that does not exist is refused \
             in the same words"
        ),
    };
    (kind, Some(text))
}

/// Of any call that is signed with these keys.
pub(crate) fn of_keys(code: &str, message: &str, keys: &Credentials) -> Judged {
    let provider = keys.provider();
    let says = message.to_ascii_lowercase();
    if says.contains("signature expired") || says.contains("signature not yet current") {
        let text = "the clock of this machine and that of AWS are more than five minutes apart: set it right";
        return (FailureKind::ClockSkew, Some(text.to_owned()));
    }
    match code {
        "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => {
            (FailureKind::Keys, Some(format!("the keys from {provider} are not right")))
        }
        "ExpiredToken" | "ExpiredTokenException" => {
            (FailureKind::Keys, Some(format!("the keys from {provider} have expired")))
        }
        other => of_any(other),
    }
}

fn of_any(code: &str) -> Judged {
    let advice = match code {
        "RegionDisabledException" => Some("switch STS on for this region in IAM's account settings"),
        "Throttling" | "ThrottlingException" => {
            Some("STS takes no more calls from this account for the moment; they are tried again")
        }
        _ => None,
    };
    (FailureKind::Sts, advice.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::222222222222:role/hub-writer";
    const CALLER: &str =
        "User: arn:aws:sts::111111111111:assumed-role/collector/pod-1 is not authorized to perform: ";

    fn token() -> TokenFacts {
        TokenFacts {
            file: "/token".into(),
            issuer: String::from("https://oidc.eks.eu-west-1.amazonaws.com/id/ABC"),
            subject: String::from("system:serviceaccount:monitoring:promferry"),
            audience: vec![String::from("vault")],
            expires_at: None,
        }
    }

    /// Texts as AWS writes them: "No OpenIDConnect provider found" and "Incorrect token audience" are in many
    /// reports to amazon-eks-pod-identity-webhook and eksctl; the others are of the API reference.
    #[test]
    fn web_identity_refusals_are_told_apart() {
        let cases: [(&str, &str, FailureKind, &[&str]); 8] = [
            ("IDPRejectedClaim", "", FailureKind::Token, &["/token", "expired or was revoked"]),
            (
                "AccessDenied",
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
                FailureKind::RoleTrust,
                &[
                    "trust policy of arn:aws:iam::222222222222:role/hub-writer",
                    "id/ABC:sub = \"system:serviceaccount:monitoring:promferry\"",
                    "id/ABC:aud = \"vault\"",
                ],
            ),
            (
                "InvalidIdentityToken",
                "No OpenIDConnect provider found in your account for https://oidc.eks.eu-west-1.amazonaws.com/id/ABC",
                FailureKind::IdentityProvider,
                &["account 222222222222", "create-open-id-connect-provider --url https://oidc.eks"],
            ),
            (
                "InvalidIdentityToken",
                "Incorrect token audience",
                FailureKind::IdentityProvider,
                &["audience \"vault\"", "sts.amazonaws.com", "eks.amazonaws.com/audience"],
            ),
            (
                "InvalidIdentityToken",
                "Couldn't retrieve verification key from your identity provider, please reference \
                 AssumeRoleWithWebIdentity documentation for requirements",
                FailureKind::Token,
                &["/.well-known/openid-configuration", "made anew"],
            ),
            (
                "ExpiredTokenException",
                "Token expired: current date/time 1624482533 must be before the expiration date/time1624482335",
                FailureKind::TokenExpired,
                &["/token", "kubelet renews it"],
            ),
            ("IDPCommunicationError", "", FailureKind::Token, &["could not reach"]),
            ("RegionDisabledException", "", FailureKind::Sts, &["account settings"]),
        ];
        for (code, message, kind, needles) in cases {
            let (found, advice) = of_web_identity(code, message, ROLE, &token(), Path::new("/token"));
            assert_eq!(found, kind, "{message}");
            let advice = advice.expect("an advice");
            for needle in needles {
                assert!(advice.contains(needle), "{needle:?} in {advice}");
            }
        }
        let no_provider = |token: &TokenFacts| {
            let message = "No OpenIDConnect provider found in your account for https://oidc.example";
            let (kind, advice) =
                of_web_identity("InvalidIdentityToken", message, ROLE, token, Path::new("/token"));
            assert_eq!(kind, FailureKind::IdentityProvider);
            advice.expect("an advice")
        };
        let audience = vec![String::from("vault"), String::from("sts.amazonaws.com")];
        let advice = no_provider(&TokenFacts { audience, ..token() });
        assert!(advice.contains("--client-id-list vault sts.amazonaws.com."), "{advice}");
        let advice = no_provider(&TokenFacts::default());
        assert!(!advice.contains("--url") && advice.contains("can't be read"), "{advice}");
        assert_eq!(of_web_identity("Odd", "", ROLE, &token(), Path::new("/t")), (FailureKind::Sts, None));
    }

    #[test]
    fn assume_role_refusals_are_told_apart() {
        let on = format!("on resource: {ROLE}");
        let cases: [(String, Option<&str>, FailureKind, &[&str]); 9] = [
            (
                format!("sts:AssumeRole {on}"),
                Some("e-1"),
                FailureKind::CallerPolicyOrRoleTrust,
                &["two policies", "sts:ExternalId = \"e-1\"", "does not exist"],
            ),
            (
                format!(
                    "sts:AssumeRole {on} because no identity-based policy allows the sts:AssumeRole action"
                ),
                None,
                FailureKind::CallerPolicy,
                &["no policy of the caller (static) allows it", "set external_id"],
            ),
            (
                String::from("sts:AssumeRole because no role trust policy allows the sts:AssumeRole action"),
                Some("e-1"),
                FailureKind::RoleTrust,
                &["trust policy of arn:aws:iam::222222222222:role/hub-writer does not let", "= \"e-1\""],
            ),
            (
                format!(
                    "sts:AssumeRole {on} because no resource-based policy allows the sts:AssumeRole action"
                ),
                None,
                FailureKind::RoleTrust,
                &["does not let the caller", "set external_id"],
            ),
            (
                format!("sts:TagSession {on}"),
                None,
                FailureKind::CallerPolicyOrRoleTrust,
                &["sts:TagSession beside sts:AssumeRole", "disableSessionTags"],
            ),
            (
                String::from("sts:AssumeRole with an explicit deny in the role trust policy"),
                None,
                FailureKind::ExplicitDeny,
                &["the trust policy of arn:aws:iam::222222222222:role/hub-writer denies it"],
            ),
            (
                format!("sts:AssumeRole {on} with an explicit deny in a service control policy"),
                None,
                FailureKind::OrganizationPolicy,
                &["identities of account 111111111111", "administers the organisation"],
            ),
            (
                format!(
                    "sts:AssumeRole {on} because no permissions boundary allows the sts:AssumeRole action"
                ),
                None,
                FailureKind::PermissionsBoundary,
                &["permissions boundary"],
            ),
            (
                format!(
                    "sts:AssumeRole {on} because no VPC endpoint policy allows the sts:AssumeRole action"
                ),
                None,
                FailureKind::EndpointPolicy,
                &["interface endpoint"],
            ),
        ];
        let keys = Credentials::new("AKID", "s", None);
        for (refusal, external_id, kind, needles) in cases {
            let step = RoleStep { external_id: external_id.map(str::to_owned), ..RoleStep::new(ROLE) };
            let (found, advice) = of_assume_role("AccessDenied", &format!("{CALLER}{refusal}"), &keys, &step);
            assert_eq!(found, kind, "{refusal}");
            let advice = advice.expect("an advice");
            for needle in needles {
                assert!(advice.contains(needle), "{needle:?} in {advice}");
            }
        }
        let expired = "Signature expired: 20261122T000000Z is now earlier than 20261122T001000Z";
        assert_eq!(of_keys("SignatureDoesNotMatch", expired, &keys).0, FailureKind::ClockSkew);
        assert_eq!(of_keys("SignatureDoesNotMatch", "", &keys).0, FailureKind::Keys);
        assert_eq!(of_keys("Throttling", "Rate exceeded", &keys).0, FailureKind::Sts);
    }
}
