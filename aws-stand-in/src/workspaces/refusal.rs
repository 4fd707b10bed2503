//! AMP's errors, in its words.

use http::{HeaderValue, Response, StatusCode};
use promferry_sigv4_auth::verify::VerifyError;
use serde_json::json;

use crate::access::{Access, Missing};
use crate::workspaces::Guardrail;

/// An error that AMP answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    error_type: &'static str,
    /// API Gateway, which AMP is behind, writes `message`; IAM's refusals and AMP's own are `Message`.
    key: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    fn forbidden(error_type: &'static str, key: &'static str, message: String) -> Self {
        Self { status: StatusCode::FORBIDDEN, error_type, key, message }
    }

    /// What API Gateway says of any path and method that it does not know, signed or not.
    pub(crate) fn missing_authentication_token() -> Self {
        Self::signature(&VerifyError::MissingAuthenticationToken)
    }

    pub(crate) fn signature(error: &VerifyError) -> Self {
        Self::forbidden(error.error_type(), "message", error.to_string())
    }

    /// open-telemetry aws-otel-collector#2155; prometheus-interoperability-spec#70.
    pub(crate) fn workspace_not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            error_type: "ResourceNotFoundException",
            key: "Message",
            message: String::from("Workspace not found"),
        }
    }

    /// IAM User Guide, "Troubleshoot access denied error messages".
    pub(crate) fn not_authorized(access: &Access, missing: Missing, reasons: bool) -> Self {
        let action = &access.action;
        let reason = match missing {
            Missing::IdentityPolicy => format!("because no identity-based policy allows the {action} action"),
            Missing::ResourcePolicy => format!("because no resource-based policy allows the {action} action"),
            Missing::IdentityDeny => String::from("with an explicit deny in an identity-based policy"),
            Missing::ResourceDeny => String::from("with an explicit deny in a resource-based policy"),
        };
        Self::denied(access, &reason, reasons)
    }

    /// IAM User Guide, as above.
    pub(crate) fn guardrail(access: &Access, guardrail: Guardrail, reasons: bool) -> Self {
        let action = &access.action;
        let none = |kind: &str| format!("because no {kind} allows the {action} action");
        let reason = match guardrail {
            Guardrail::PermissionsBoundary => none("permissions boundary"),
            Guardrail::SessionPolicy => none("session policy"),
            Guardrail::ServiceControlPolicy => none("service control policy"),
            Guardrail::EndpointPolicy => none("VPC endpoint policy"),
            Guardrail::ServiceControlPolicyDeny => {
                String::from("with an explicit deny in a service control policy")
            }
            Guardrail::EndpointPolicyDeny => String::from("with an explicit deny in a VPC endpoint policy"),
        };
        Self::denied(access, &reason, reasons)
    }

    fn denied(access: &Access, reason: &str, reasons: bool) -> Self {
        let (caller, action, resource) = (access.caller.arn(), &access.action, &access.resource);
        let mut message =
            format!("User: {caller} is not authorized to perform: {action} on resource: {resource}");
        if reasons {
            message = format!("{message} {reason}");
        }
        Self::forbidden("AccessDeniedException", "Message", message)
    }

    pub(crate) fn throttling() -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            error_type: "ThrottlingException",
            key: "message",
            message: String::from("Rate exceeded"),
        }
    }

    /// A region that is not switched on does not know the account's keys.
    pub(crate) fn region_disabled() -> Self {
        Self::signature(&VerifyError::UnknownKey)
    }

    pub(crate) fn to_response(&self, request_id: &str) -> Response<String> {
        let mut response = Response::new(json!({ self.key: self.message }).to_string());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.error_type));
        if let Ok(request_id) = HeaderValue::try_from(request_id) {
            headers.insert("x-amzn-requestid", request_id);
        }
        response
    }
}
