//! STS' errors, in its words.
//!
//! Each text says where it was seen; "from memory" is said of those that were not. Whoever reads them should look at
//! stable parts only.

use http::{HeaderValue, Response, StatusCode};
use promferry_sigv4_auth::verify::VerifyError;

use crate::arn::account_of;
use crate::identity_token::SignatureError;
use crate::sts::answer::escaped;

/// An error that STS answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn access_denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::bad_request("ValidationError", message)
    }

    /// From memory.
    pub(crate) fn missing_action() -> Self {
        Self::bad_request("MissingAction", "The request must contain the parameter Action")
    }

    /// aws/aws-cli#37, of another query service.
    pub(crate) fn invalid_action(action: &str, version: &str) -> Self {
        Self::bad_request("InvalidAction", format!("Could not find operation {action} for version {version}"))
    }

    /// physera/onelogin-aws-cli#12.
    pub(crate) fn invalid_arn() -> Self {
        Self::validation("Request ARN is invalid")
    }

    /// aws-actions/configure-aws-credentials#318: for a trust that refuses and for a role that is not there alike.
    pub(crate) fn web_identity_denied() -> Self {
        Self::access_denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
    }

    /// aws-actions/configure-aws-credentials#280.
    pub(crate) fn no_provider(issuer: &str) -> Self {
        let message = format!("No OpenIDConnect provider found in your account for {issuer}");
        Self::bad_request("InvalidIdentityToken", message)
    }

    /// awslabs/amazon-eks-irsa-cfn#18.
    pub(crate) fn incorrect_audience() -> Self {
        Self::bad_request("InvalidIdentityToken", "Incorrect token audience")
    }

    /// aws/aws-sdk-ruby#2698.
    pub(crate) fn no_audience() -> Self {
        Self::bad_request("InvalidIdentityToken", "Missing a required claim: aud")
    }

    /// From memory.
    pub(crate) fn not_a_token() -> Self {
        let message =
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)";
        Self::bad_request("InvalidIdentityToken", message)
    }

    /// parseablehq/parseable#604; older answers have no blank before the second time (awslabs/aws-orbit-workbench#707).
    pub(crate) fn expired_token(now: u64, expiry: u64) -> Self {
        let message = format!(
            "Token expired: current date/time {now} must be before the expiration date/time {expiry}"
        );
        Self::bad_request("ExpiredTokenException", message)
    }

    /// From memory.
    pub(crate) fn token_of_the_future() -> Self {
        Self::bad_request("InvalidIdentityToken", "The ID Token provided is not yet valid")
    }

    pub(crate) fn token_signature(error: SignatureError) -> Self {
        match error {
            // From memory.
            SignatureError::Unreachable => Self::bad_request(
                "IDPCommunicationError",
                "The identity provider (IdP) could not be reached to verify the incoming identity token",
            ),
            // awslabs/aws-sdk-rust#827, its two blanks too.
            SignatureError::NoSuchKey => Self::bad_request(
                "InvalidIdentityToken",
                "Couldn't retrieve verification key from your identity provider,  please reference \
                 AssumeRoleWithWebIdentity documentation for requirements",
            ),
            // STS API Reference, AssumeRoleWithWebIdentity, "Errors".
            SignatureError::Invalid => Self::bad_request(
                "InvalidIdentityToken",
                "The web identity token that was passed could not be validated by AWS. Get a new identity token from \
                 the identity provider and then retry the request.",
            ),
        }
    }

    /// kreuzwerker/awsu#27.
    pub(crate) fn over_the_roles_maximum() -> Self {
        Self::validation("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    }

    /// prowler-cloud/prowler#7721.
    pub(crate) fn over_the_chain_limit() -> Self {
        Self::validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        )
    }

    /// From memory.
    pub(crate) fn throttling() -> Self {
        Self::bad_request("Throttling", "Rate exceeded")
    }

    /// org-formation-cli#465.
    pub(crate) fn region_disabled(arn: &str) -> Self {
        let message = format!(
            "STS is not activated in this region for account:{}. Your account administrator can activate STS in this \
             region using the IAM Console.",
            account_of(arn)
        );
        Self::new(StatusCode::FORBIDDEN, "RegionDisabledException", message)
    }

    /// The codes are the common ones of AWS' query services (STS API Reference, "Common error types"), the texts those
    /// that every service has.
    pub(crate) fn signature(error: &VerifyError) -> Self {
        let code = match error {
            VerifyError::MissingAuthenticationToken => {
                let message = "Request is missing Authentication Token";
                return Self::new(StatusCode::FORBIDDEN, "MissingAuthenticationToken", message);
            }
            VerifyError::IncompleteSignature { .. } | VerifyError::NoDate => {
                return Self::bad_request("IncompleteSignature", error.to_string());
            }
            VerifyError::UnknownKey => "InvalidClientTokenId",
            VerifyError::ExpiredToken => "ExpiredToken",
            _ => "SignatureDoesNotMatch",
        };
        Self::new(StatusCode::FORBIDDEN, code, error.to_string())
    }

    pub(crate) fn to_response(&self, request_id: &str) -> Response<String> {
        // Laid out as STS does (awslabs/aws-sdk-rust#827).
        let body = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
             <Code>{}</Code>\n    <Message>{}</Message>\n  </Error>\n  <RequestId>{request_id}</RequestId>\n\
             </ErrorResponse>\n",
            self.code,
            escaped(&self.message),
        );
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("text/xml"));
        if let Ok(request_id) = HeaderValue::try_from(request_id) {
            headers.insert("x-amzn-requestid", request_id);
        }
        response
    }
}
