//! The calls to STS, and what its refusals mean to the user.

use std::fmt::Debug;
use std::path::Path;
use std::time::SystemTime;

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId as _;

use crate::sdk::{Aws, error_text, shown};
use crate::{CredentialError, Credentials, RoleStep, TokenFacts, sts_refusal};

/// Whose credentials they are, as STS says it (`GetCallerIdentity`, which needs no permission).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The account's twelve digits.
    pub account: String,
    /// The ARN of the user or of the assumed role's session.
    pub arn: String,
    /// The unique id.
    pub user_id: String,
}

/// STS at one region.
pub(crate) struct Sts<'a> {
    pub(crate) aws: &'a Aws,
    pub(crate) region: &'a str,
    pub(crate) use_fips: bool,
}

impl Sts<'_> {
    pub(crate) async fn assume_role_with_web_identity(
        &self,
        token_file: &Path,
        step: &RoleStep,
        session_name: &str,
    ) -> Result<Credentials, CredentialError> {
        const PROVIDER: &str = "web identity";
        let token = read_token(token_file)?;
        let result = self
            .aws
            .sts(self.region, self.use_fips, None)
            .assume_role_with_web_identity()
            .role_arn(&step.role_arn)
            .role_session_name(session_name)
            .web_identity_token(&token)
            .send()
            .await;
        match result {
            Ok(output) => from_sts(output.credentials(), PROVIDER, &step.role_arn),
            Err(error) => Err(self.refused(&error, PROVIDER.to_owned(), &[&token], |code, message| {
                let facts = TokenFacts::of(&token, token_file).unwrap_or_default();
                sts_refusal::of_web_identity(code, message, &step.role_arn, &facts, token_file).1
            })),
        }
    }

    pub(crate) async fn assume_role(
        &self,
        with: &Credentials,
        step: &RoleStep,
        session_name: &str,
    ) -> Result<Credentials, CredentialError> {
        let result = self
            .aws
            .sts(self.region, self.use_fips, Some(with))
            .assume_role()
            .role_arn(&step.role_arn)
            .role_session_name(session_name)
            .set_external_id(step.external_id.clone())
            .send()
            .await;
        let provider = format!("assume role {}", step.role_arn);
        match result {
            Ok(output) => from_sts(output.credentials(), &provider, &step.role_arn),
            Err(error) => {
                let secrets =
                    [with.secret_key().expose(), with.session_token().map_or("", |token| token.expose())];
                Err(self.refused(&error, provider, &secrets, |code, message| {
                    sts_refusal::of_assume_role(code, message, with, step).1
                }))
            }
        }
    }

    pub(crate) async fn caller_identity(&self, of: &Credentials) -> Result<CallerIdentity, CredentialError> {
        match self.aws.sts(self.region, self.use_fips, Some(of)).get_caller_identity().send().await {
            Ok(output) => Ok(CallerIdentity {
                account: output.account().unwrap_or_default().to_owned(),
                arn: output.arn().unwrap_or_default().to_owned(),
                user_id: output.user_id().unwrap_or_default().to_owned(),
            }),
            Err(error) => {
                let secrets =
                    [of.secret_key().expose(), of.session_token().map_or("", |token| token.expose())];
                Err(self.refused(&error, of.provider().to_owned(), &secrets, |code, message| {
                    sts_refusal::of_keys(code, message, of).1
                }))
            }
        }
    }

    /// Where it is called, for messages.
    pub(crate) fn endpoint(&self) -> String {
        self.aws.sts_endpoint(self.region, self.use_fips)
    }

    /// A private subnet reaches the STS of its own region at most.
    fn of_another_region(&self) -> Option<String> {
        let (own, url) = self.aws.own_sts(self.region, self.use_fips)?;
        Some(format!(
            "; this process runs in {own} (AWS_REGION): where it reaches the STS of that region alone, set \
             AWS_ENDPOINT_URL_STS={url}"
        ))
    }

    fn refused<E, R>(
        &self,
        error: &SdkError<E, R>,
        provider: String,
        secrets: &[&str],
        advice: impl FnOnce(&str, &str) -> Option<String>,
    ) -> CredentialError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: Debug + 'static,
    {
        // With neither of them it is the answer of somebody else, a proxy say.
        if let SdkError::ServiceError(answer) = error
            && (answer.err().meta().code().is_some() || answer.err().meta().message().is_some())
        {
            let code = answer.err().meta().code().unwrap_or("no error code");
            let message = answer.err().meta().message().unwrap_or("no message");
            return CredentialError::Refused {
                provider,
                advice: advice(code, message),
                code: without(secrets, code),
                message: without(secrets, message),
                request_id: answer.err().meta().request_id().map(shown),
            };
        }
        let (endpoint, detail) = (self.endpoint(), without(secrets, &error_text(error)));
        let what = match error {
            SdkError::TimeoutError(_) => "it did not answer in time",
            SdkError::DispatchFailure(_) => "no connection",
            _ => return CredentialError::NotSts { provider, endpoint, reason: detail },
        };
        CredentialError::Unreachable {
            provider,
            endpoint,
            reason: format!("{what} ({detail}){}", self.of_another_region().unwrap_or_default()),
        }
    }
}

fn read_token(token_file: &Path) -> Result<String, CredentialError> {
    let invalid =
        |reason: String| CredentialError::Invalid { provider: String::from("web identity"), reason };
    let shown_path = token_file.display();
    let token = std::fs::read_to_string(token_file).map_err(|error| {
        invalid(format!(
            "cannot read the token file {shown_path}: {error}; is the service account annotated with \
             eks.amazonaws.com/role-arn, and may this user read the projected volume (fsGroup)?"
        ))
    })?;
    let token = token.trim();
    if token.is_empty() {
        return Err(invalid(format!("the token file {shown_path} is empty")));
    }
    Ok(token.to_owned())
}

fn from_sts(
    credentials: Option<&aws_sdk_sts::types::Credentials>,
    provider: &str,
    role_arn: &str,
) -> Result<Credentials, CredentialError> {
    let invalid = |reason: &str| CredentialError::Invalid {
        provider: provider.to_owned(),
        reason: format!("STS answered for {role_arn} {reason}"),
    };
    let given = credentials.ok_or_else(|| invalid("without credentials"))?;
    let expires_at =
        SystemTime::try_from(*given.expiration()).map_err(|_| invalid("with an expiry that is no time"))?;
    Ok(Credentials::new(given.access_key_id(), given.secret_access_key(), Some(given.session_token()))
        .expiring(Some(expires_at))
        .provided_by(format!("{} {role_arn}", provider.split(" arn:").next().unwrap_or(provider))))
}

/// A text fit to be shown, with none of these secrets in it.
fn without(secrets: &[&str], text: &str) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "<secret>");
    }
    shown(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_canonical_strings_are_cut() {
        let text = "refused Token-123 here\nThe Canonical String for this request should have been x-amz-security-token";
        assert_eq!(without(&["Token-123", ""], text), "refused <secret> here");
    }
}
