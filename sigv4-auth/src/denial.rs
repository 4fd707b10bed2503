//! What a 401 or 403 means to somebody who writes to AMP.

use std::time::SystemTime;

use aws_smithy_types::date_time::{DateTime, Format};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

use crate::authorization::NotAuthorized;
use crate::clock::server_time;
use crate::failure::write_refused;
use crate::policy;
use crate::sdk::shown;

/// Why AWS refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// The path is none of the API's, or the request was not signed ("Missing Authentication Token").
    MissingAuthenticationToken,
    /// The signature is not the one AWS computes: the secret is wrong, or something changed the request.
    SignatureMismatch,
    /// What AWS got as a signature is none ("Authorization header requires …").
    IncompleteSignature,
    /// The access key id is unknown.
    UnknownKey,
    /// The session token has expired or is refused. New credentials help.
    ExpiredToken,
    /// Our clock and AWS' are more than five minutes apart.
    ClockSkew,
    /// The signature is for another region or service.
    WrongScope,
    /// The identity is known, but no policy allows the action, or one denies it.
    NotAuthorized,
    /// AMP knows no such workspace in the account of the identity that signed.
    WorkspaceNotFound,
    /// Anything else.
    Other,
}

/// A denial in plain words, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Which it is.
    pub denial: Denial,
    /// What happened and what to do, one sentence or two, no line breaks.
    pub message: String,
    /// AWS' id of the request, for its support.
    pub request_id: Option<String>,
    /// Who was refused what, of [`Denial::NotAuthorized`].
    pub not_authorized: Option<NotAuthorized>,
    /// AWS' time when it refused the request, as far as the answer tells it: the text of a refusal for the clock,
    /// else the `Date` header.
    pub server_time: Option<SystemTime>,
}

impl Explanation {
    /// Whether fresh credentials may help: get them
    /// ([`invalidate`](crate::CachedCredentials::invalidate)) and send once more.
    pub fn wants_new_credentials(&self) -> bool {
        matches!(self.denial, Denial::ExpiredToken | Denial::UnknownKey)
    }
}

/// Explains a 401 or 403 of AMP or another AWS endpoint, and AMP's 404 for a workspace that it does not know.
/// `None` for any other status.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use promferry_sigv4_auth::{Denial, explain_denial};
///
/// let endpoint = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write/".parse()?;
/// let body = br#"{"message":"Missing Authentication Token"}"#;
/// let why = explain_denial(StatusCode::FORBIDDEN, body, &HeaderMap::new(), &endpoint).expect("a denial");
/// assert_eq!(why.denial, Denial::MissingAuthenticationToken);
/// assert!(why.message.contains("slash"));
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
pub fn explain_denial(
    status: StatusCode,
    body: &[u8],
    headers: &HeaderMap,
    endpoint: &Uri,
) -> Option<Explanation> {
    let text = message_of(body);
    let denial = classify(&text, &error_type(body, headers));
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {}
        StatusCode::NOT_FOUND if denial == Denial::WorkspaceNotFound => {}
        _ => return None,
    }
    let not_authorized = (denial == Denial::NotAuthorized).then(|| NotAuthorized::parse(&text));
    let message = match denial {
        Denial::MissingAuthenticationToken => missing_token_message(endpoint),
        Denial::SignatureMismatch => String::from(
            "AWS computed another signature than ours: the secret key does not belong to the access key, or a \
             proxy on the way changed the request (path, host or a signed header)",
        ),
        Denial::IncompleteSignature => String::from(
            "what AWS got as a signature is none: a proxy on the way, or a header that is configured, changed or \
             replaced the authorization header",
        ),
        // The tokens: IAM user guide, "Manage AWS STS in an AWS Region".
        Denial::UnknownKey => String::from(
            "AWS does not know this access key, or its session token: the key was deleted or belongs to another \
             partition (China, GovCloud), temporary keys are used without their session token, or the token is of \
             the global sts.amazonaws.com and the region one that has to be enabled (take the region's own STS)",
        ),
        Denial::ExpiredToken => String::from(
            "the session token has expired; should this stay, the source of credentials gives old ones",
        ),
        Denial::ClockSkew => format!(
            "the clock of this machine and that of AWS are more than five minutes apart: set it right (AWS says: {})",
            shown(&text)
        ),
        Denial::WrongScope => format!(
            "the signature is for another region or service than this endpoint's: check region and service of \
             sigv4 (AWS says: {})",
            shown(&text)
        ),
        Denial::NotAuthorized => not_authorized
            .as_ref()
            .map(|refused| not_authorized_message(refused, endpoint))
            .unwrap_or_default(),
        Denial::WorkspaceNotFound => workspace_not_found_message(endpoint),
        Denial::Other if text.is_empty() => {
            String::from("no reason is given; is this an AMP endpoint, and is a proxy in between?")
        }
        Denial::Other => format!(
            "it is no refusal that AWS' documentation knows; is this an AMP endpoint, and is a proxy in between? \
             (it says: {})",
            shown(&text)
        ),
    };
    let request_id = header(headers, "x-amzn-requestid").or_else(|| header(headers, "x-amz-request-id"));
    let server_time = time_in(&text).or_else(|| server_time(headers));
    Some(Explanation { denial, message, request_id: request_id.map(shown), not_authorized, server_time })
}

fn classify(text: &str, error_type: &str) -> Denial {
    let text = text.to_ascii_lowercase();
    let error_type = error_type.to_ascii_lowercase();
    let says = |needle: &str| text.contains(needle);
    if says("missing authentication token") || error_type.starts_with("missingauthenticationtoken") {
        Denial::MissingAuthenticationToken
    } else if says("signature expired")
        || says("signature not yet current")
        || says("request has expired")
        || error_type.starts_with("requestexpired")
        || error_type.starts_with("requesttimetooskewed")
    {
        Denial::ClockSkew
    } else if says("credential should be scoped") || says("date in credential scope") {
        Denial::WrongScope
    } else if says("token included in the request is expired") || error_type.starts_with("expiredtoken") {
        Denial::ExpiredToken
    } else if says("token included in the request is invalid") || error_type.starts_with("unrecognizedclient")
    {
        Denial::UnknownKey
    } else if says("signature we calculated")
        || error_type.starts_with("invalidsignature")
        || error_type.starts_with("signaturedoesnotmatch")
    {
        Denial::SignatureMismatch
    } else if says("authorization header requires")
        || says("in authorization header")
        || error_type.starts_with("incompletesignature")
    {
        Denial::IncompleteSignature
    } else if says("not authorized to perform") || error_type.starts_with("accessdenied") {
        Denial::NotAuthorized
    } else if says("workspace not found") {
        Denial::WorkspaceNotFound
    } else {
        Denial::Other
    }
}

fn missing_token_message(endpoint: &Uri) -> String {
    let path = endpoint.path();
    if path.ends_with('/') && path.len() > 1 {
        return format!(
            "AMP knows no path {path:?}: remove the slash at the end of the URL (AWS says: Missing Authentication Token)"
        );
    }
    if !path.ends_with("/api/v1/remote_write") || !path.starts_with("/workspaces/") {
        return format!(
            "AMP knows no path {path:?}: the URL of remote write ends in \
             /workspaces/WORKSPACE-ID/api/v1/remote_write (AWS says: Missing Authentication Token)"
        );
    }
    String::from(
        "the request reached AWS without a signature: is sigv4 configured for this URL, and does a proxy remove \
         the authorization header? (AWS says: Missing Authentication Token)",
    )
}

fn not_authorized_message(refused: &NotAuthorized, endpoint: &Uri) -> String {
    let principal = refused.principal.as_deref().unwrap_or("this identity");
    let action = refused.action.as_deref().unwrap_or("aps:RemoteWrite");
    let resource = refused.resource.clone().or_else(|| arn_in_url(endpoint));
    let resource = resource.as_deref().unwrap_or("the workspace");
    let (_, why) = write_refused(refused);
    format!("{} is not allowed {} on {}: {why}", shown(principal), shown(action), shown(resource))
}

// Seen for an identity of another account, and at another region's endpoint: aws-otel-collector#2155,
// prometheus-interoperability-spec#70.
fn workspace_not_found_message(endpoint: &Uri) -> String {
    let workspace = arn_in_url(endpoint).or_else(|| Some(format!("workspace {}", workspace_id(endpoint)?)));
    format!(
        "the account of this identity has no {}: write through a role of the workspace's account (role_arn), or put \
         region and workspace id in the url right (AWS says: Workspace not found)",
        shown(workspace.as_deref().unwrap_or("such workspace"))
    )
}

/// AWS' time in a refusal for the clock: `… is now earlier than … (20261122T001500Z - 5 min.)`.
fn time_in(text: &str) -> Option<SystemTime> {
    let rest =
        text.split('(').find(|rest| rest.get(16..19).is_some_and(|sign| sign == " - " || sign == " + "))?;
    let part = |from: usize, to: usize| rest.get(from..to);
    let extended = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?
    );
    DateTime::from_str(&extended, Format::DateTime).ok()?.try_into().ok()
}

/// The id in the URL of a workspace.
pub(crate) fn workspace_id(endpoint: &Uri) -> Option<&str> {
    endpoint.path().strip_prefix("/workspaces/")?.split('/').next().filter(|id| !id.is_empty())
}

/// The ARN as far as the URL tells it.
fn arn_in_url(endpoint: &Uri) -> Option<String> {
    let workspace = workspace_id(endpoint)?;
    let region = crate::Scope::of_host(endpoint.host()?)?.region;
    Some(policy::workspace_arn(&region, None, workspace))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// AWS' name of the error: of the header, else of the body, where a namespace can stand before it and more after it.
fn error_type(body: &[u8], headers: &HeaderMap) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "__type")]
        error_type: String,
    }
    let name = match header(headers, "x-amzn-errortype") {
        Some(name) => name.to_owned(),
        None => serde_json::from_slice::<Body>(body).map(|body| body.error_type).unwrap_or_default(),
    };
    name.rsplit('#').next().and_then(|name| name.split(':').next()).unwrap_or_default().trim().to_owned()
}

/// AWS' JSON services say it as `message` or `Message`; anything else is taken as it is.
pub(crate) fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(alias = "Message")]
        message: String,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => body.message,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write";

    fn explain(body: &str, endpoint: &str) -> Explanation {
        let endpoint = endpoint.parse().expect("a URI");
        let mut headers = HeaderMap::new();
        headers.insert("x-amzn-requestid", http::HeaderValue::from_static("id-1"));
        explain_denial(StatusCode::FORBIDDEN, body.as_bytes(), &headers, &endpoint).expect("a denial")
    }

    #[test]
    fn each_denial_has_its_sentence() {
        let secret = "session-token-in-canonical-string";
        let mismatch = format!(
            r#"{{"message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.\n\nThe Canonical String for this request should have been\n'POST\n{secret}'"}}"#
        );
        let cases: [(&str, &str, Denial, &[&str]); 20] = [
            (
                r#"{"__type":"com.amazon.coral.service#IncompleteSignatureException","message":"Authorization header requires 'Signature' parameter. Authorization=session-token-in-canonical-string"}"#,
                WRITE,
                Denial::IncompleteSignature,
                &["a proxy on the way", "authorization header"],
            ),
            (r#"{"__type":"RequestExpired"}"#, WRITE, Denial::ClockSkew, &["clock"]),
            (r#"{"message":"Request has expired."}"#, WRITE, Denial::ClockSkew, &["clock"]),
            (r#"{"__type":"ExpiredTokenException:"}"#, WRITE, Denial::ExpiredToken, &["expired"]),
            (
                r#"{"message":"User: arn:aws-cn:iam::1:user/u is not authorized to perform: aps:RemoteWrite"}"#,
                "https://aps-workspaces.cn-north-1.amazonaws.com.cn/workspaces/ws-1/api/v1/remote_write",
                Denial::NotAuthorized,
                &["arn:aws-cn:aps:cn-north-1:ACCOUNT:workspace/ws-1"],
            ),
            (
                r#"{"Message":"Workspace not found"}"#,
                "https://aps-workspaces.us-gov-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write",
                Denial::WorkspaceNotFound,
                &["arn:aws-us-gov:aps:us-gov-west-1:ACCOUNT:workspace/ws-1"],
            ),
            (
                r#"{"message":"Missing Authentication Token"}"#,
                &format!("{WRITE}/"),
                Denial::MissingAuthenticationToken,
                &["slash at the end"],
            ),
            (
                r#"{"message":"Missing Authentication Token"}"#,
                "https://h/api/v1/write",
                Denial::MissingAuthenticationToken,
                &["/workspaces/WORKSPACE-ID/api/v1/remote_write"],
            ),
            (
                r#"{"message":"Missing Authentication Token"}"#,
                WRITE,
                Denial::MissingAuthenticationToken,
                &["without a signature"],
            ),
            (&mismatch, WRITE, Denial::SignatureMismatch, &["secret key", "proxy"]),
            (
                r#"{"message":"The security token included in the request is invalid."}"#,
                WRITE,
                Denial::UnknownKey,
                &["does not know this access key", "sts.amazonaws.com"],
            ),
            (
                r#"{"message":"The security token included in the request is expired"}"#,
                WRITE,
                Denial::ExpiredToken,
                &["expired"],
            ),
            (
                r#"{"message":"Signature expired: 20261122T000000Z is now earlier than 20261122T001000Z (20261122T001500Z - 5 min.)"}"#,
                WRITE,
                Denial::ClockSkew,
                &["clock", "20261122T001500Z"],
            ),
            (
                r#"{"message":"Signature not yet current: 20261122T010000Z is still later than 20261122T000500Z"}"#,
                WRITE,
                Denial::ClockSkew,
                &["clock"],
            ),
            (
                r#"{"message":"Credential should be scoped to a valid region, not 'us-east-1'. "}"#,
                WRITE,
                Denial::WrongScope,
                &["region", "us-east-1"],
            ),
            (
                r#"{"Message":"User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: aps:RemoteWrite on resource: arn:aws:aps:eu-west-1:2:workspace/ws-1 because no identity-based policy allows the aps:RemoteWrite action"}"#,
                WRITE,
                Denial::NotAuthorized,
                &[
                    "arn:aws:sts::1:assumed-role/r/s is not allowed aps:RemoteWrite on arn:aws:aps:eu-west-1:2:workspace/ws-1",
                    "AmazonPrometheusRemoteWriteAccess",
                ],
            ),
            (
                r#"{"message":"User: arn:aws:iam::1:user/u is not authorized to perform: aps:RemoteWrite with an explicit deny in a service control policy"}"#,
                WRITE,
                Denial::NotAuthorized,
                &["arn:aws:aps:eu-west-1:ACCOUNT:workspace/ws-1", "service control policy denies it"],
            ),
            (
                r#"{"Message":"Workspace not found"}"#,
                WRITE,
                Denial::WorkspaceNotFound,
                &["has no arn:aws:aps:eu-west-1:ACCOUNT:workspace/ws-1", "role_arn", "region"],
            ),
            ("<html>403 Forbidden</html>", WRITE, Denial::Other, &["an AMP endpoint", "html"]),
            ("", WRITE, Denial::Other, &["no reason is given"]),
        ];
        for (body, endpoint, denial, needles) in cases {
            let explanation = explain(body, endpoint);
            assert_eq!(explanation.denial, denial, "{body}");
            for needle in needles {
                assert!(explanation.message.contains(needle), "{needle:?} in {:?}", explanation.message);
            }
            assert!(!explanation.message.contains(secret) && !explanation.message.contains('\n'));
            assert!(!explanation.message.contains("fetched"), "nobody does that here");
            assert_eq!(explanation.request_id.as_deref(), Some("id-1"));
            assert_eq!(
                explanation.wants_new_credentials(),
                matches!(denial, Denial::ExpiredToken | Denial::UnknownKey)
            );
        }
    }

    #[test]
    fn the_policy_that_is_missing_is_named() {
        let refusal = |account: &str, ending: &str| {
            format!(
                r#"{{"message":"User: arn:aws:sts::111111111111:assumed-role/collector/pod-1 is not authorized to perform: aps:RemoteWrite on resource: arn:aws:aps:eu-west-1:{account}:workspace/ws-1{ending}"}}"#
            )
        };
        const OWN: &str = "111111111111";
        const OTHER: &str = "222222222222";
        const IDENTITY: &str = " because no identity-based policy allows the aps:RemoteWrite action";
        const RESOURCE: &str = " because no resource-based policy allows the aps:RemoteWrite action";
        let cases: [(&str, &str, &[&str]); 15] = [
            (OWN, "", &["does not say which", "add it to one (AmazonPrometheusRemoteWriteAccess holds it)"]),
            ("", "", &["does not say which", "where the workspace is another account's", "role_arn"]),
            (OWN, IDENTITY, &["no policy of this identity allows it"]),
            (OWN, RESOURCE, &["resource policy of the workspace does not let"]),
            (
                OTHER,
                "",
                &["does not say which", "account 111111111111", "account 222222222222", "two have to agree"],
            ),
            (
                OTHER,
                IDENTITY,
                &["no policy of this identity of account 111111111111", "resource policy has to let"],
            ),
            (
                OTHER,
                RESOURCE,
                &[
                    "workspace is of account 222222222222, and its resource policy",
                    "a role of account 222222222222",
                ],
            ),
            (
                OWN,
                " because no service control policy allows the aps:RemoteWrite action",
                &["no service control policy", "administers the organisation"],
            ),
            (
                OWN,
                " with an explicit deny in a service control policy",
                &["service control policy denies it to identities of account 111111111111"],
            ),
            (
                OWN,
                " with an explicit deny in a resource control policy",
                &["resource control policy denies it"],
            ),
            (
                OWN,
                " because no permissions boundary allows the aps:RemoteWrite action",
                &["permissions boundary of this identity does not allow it"],
            ),
            (
                OWN,
                " because no session policy allows the aps:RemoteWrite action",
                &["session policy", "association"],
            ),
            (
                OWN,
                " because no VPC endpoint policy allows the aps:RemoteWrite action",
                &["interface endpoint"],
            ),
            (
                OWN,
                " with an explicit deny in a VPC endpoint policy",
                &["interface endpoint on the way denies it"],
            ),
            (
                OWN,
                " with an explicit deny in a resource-based policy",
                &["resource policy of the workspace denies it"],
            ),
        ];
        for (account, ending, needles) in cases {
            let explanation = explain(&refusal(account, ending), WRITE);
            assert_eq!(explanation.denial, Denial::NotAuthorized);
            for needle in needles {
                assert!(
                    explanation.message.contains(needle),
                    "{ending}: {needle:?} in {}",
                    explanation.message
                );
            }
            // Advice that would not help is as bad as none.
            let to_identity = explanation.message.contains("AmazonPrometheusRemoteWriteAccess");
            assert_eq!(
                to_identity,
                [IDENTITY, ""].contains(&ending) && (account, ending) != (OTHER, ""),
                "{ending}"
            );
            assert!(explanation.not_authorized.is_some());
        }
    }

    #[test]
    fn other_statuses_are_no_denials() {
        let endpoint = WRITE.parse().expect("a URI");
        for status in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_REQUEST] {
            assert_eq!(
                explain_denial(status, b"Missing Authentication Token", &HeaderMap::new(), &endpoint),
                None
            );
        }
        let not_found = |body: &[u8]| {
            explain_denial(StatusCode::NOT_FOUND, body, &HeaderMap::new(), &endpoint).map(|why| why.denial)
        };
        assert_eq!(not_found(br#"{"Message":"Workspace not found"}"#), Some(Denial::WorkspaceNotFound));
        assert_eq!(not_found(b"404 page not found"), None);
    }

    #[test]
    fn a_refusal_for_the_clock_tells_the_time() {
        let noon = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_348_800);
        for (text, time) in [
            (
                "Signature expired: 20261122T110000Z is now earlier than 20261122T115500Z (20261122T120000Z - 5 min.)",
                Some(noon),
            ),
            (
                "Signature not yet current: 20261122T130000Z is still later than 20261122T120500Z (20261122T120000Z + 5 min.)",
                Some(noon),
            ),
            ("Signature expired (20261322T120000Z - 5 min.)", None),
            ("Signature expired (2026112\u{1f552}120000Z - 5 min.)", None),
            ("(20261122T120000Z)", None),
            ("", None),
        ] {
            assert_eq!(explain(text, WRITE).server_time, time, "{text}");
        }
    }
}
