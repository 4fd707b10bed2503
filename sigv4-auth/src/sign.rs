//! Signing one request.

use std::time::SystemTime;

use aws_credential_types::Credentials as SdkCredentials;
use aws_sigv4::http_request::{self, SignableBody, SignableRequest, SigningSettings};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Credentials, PayloadHash, Scope, ScopeKeys};

/// What a signature is made with.
#[derive(Clone, Copy, Debug)]
pub struct SigningParams<'a> {
    /// The region and service it is for.
    pub scope: &'a Scope,
    /// The key it is made with.
    pub credentials: &'a Credentials,
}

/// Signs a request in place: sets `authorization`, `x-amz-date` and, for temporary credentials,
/// `x-amz-security-token`. What an earlier signing left of these is replaced.
///
/// Signed are the method, path, query, body and the headers that nothing on the way changes: `host`,
/// `content-type`, `content-encoding`, `x-prometheus-*` and `x-amz-*`. A request without a `Host` header is
/// signed for its URI's authority without a default port, which is what hyper then sends. A tab in a signed header
/// becomes a space, for implementations differ in what they sign for it. The body is hashed unless the request's
/// extensions hold a [`PayloadHash`].
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use promferry_sigv4_auth::{Credentials, Scope, SigningParams, sign};
///
/// let scope = Scope { region: "us-east-1".into(), service: "aps".into() };
/// let credentials = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", None);
/// let mut request = http::Request::post("https://aps-workspaces.us-east-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write")
///     .body(Vec::new())?;
/// let now = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
/// sign(&mut request, &SigningParams { scope: &scope, credentials: &credentials }, now)?;
/// assert_eq!(request.headers()["x-amz-date"], "20150830T123600Z");
/// assert!(request.headers()["authorization"].to_str()?.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/aps/"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A request that names no host, a signed header or a credential that no header can hold.
pub fn sign<B: AsRef<[u8]>>(
    request: &mut http::Request<B>,
    params: &SigningParams<'_>,
    now: SystemTime,
) -> Result<(), SignError> {
    let payload_hash = match request.extensions().get::<PayloadHash>() {
        Some(hash) => *hash,
        None => PayloadHash::of(request.body().as_ref()),
    };
    for header in [&AUTHORIZATION, &X_AMZ_DATE, &X_AMZ_SECURITY_TOKEN] {
        request.headers_mut().remove(header);
    }
    replace_tabs(request.headers_mut());
    let signed = signature_headers(request, params, payload_hash, now)?;
    request.headers_mut().extend(signed);
    Ok(())
}

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

fn signature_headers<B>(
    request: &http::Request<B>,
    params: &SigningParams<'_>,
    payload_hash: PayloadHash,
    now: SystemTime,
) -> Result<HeaderMap, SignError> {
    let credentials = params.credentials;
    let identity: Identity = SdkCredentials::new(
        credentials.access_key(),
        credentials.secret_key().expose(),
        credentials.session_token().map(|token| token.expose().to_owned()),
        None,
        "promferry",
    )
    .into();
    let settings = SigningSettings::default();
    let v4_params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&params.scope.region)
        .name(&params.scope.service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| SignError::Unsignable { reason: error.to_string() })?
        .into();
    let headers = signable_headers(request)?;
    let signable = SignableRequest::new(
        request.method().as_str(),
        absolute_uri(request)?,
        headers.into_iter(),
        SignableBody::Precomputed(payload_hash.to_hex()),
    )
    .map_err(|error| SignError::Unsignable { reason: error.to_string() })?;
    let output = http_request::sign(signable, &v4_params)
        .map_err(|error| SignError::Unsignable { reason: error.to_string() })?;
    let mut signed = HeaderMap::new();
    for header in output.into_parts().0.into_parts().0 {
        let mut value = HeaderValue::from_str(header.value())
            .map_err(|_| SignError::CredentialNotText { header: header.name() })?;
        value.set_sensitive(header.sensitive() || header.name() == AUTHORIZATION);
        signed.insert(HeaderName::from_static(header.name()), value);
    }
    Ok(signed)
}

fn replace_tabs(headers: &mut HeaderMap) {
    for (_, value) in
        headers.iter_mut().filter(|(name, value)| is_signed(name) && value.as_bytes().contains(&b'\t'))
    {
        let spaced: Vec<u8> =
            value.as_bytes().iter().map(|byte| if *byte == b'\t' { b' ' } else { *byte }).collect();
        // What holds no more than spaces in place of tabs is a header's value as before.
        if let Ok(mut spaced) = HeaderValue::from_bytes(&spaced) {
            spaced.set_sensitive(value.is_sensitive());
            *value = spaced;
        }
    }
}

fn signable_headers<B>(request: &http::Request<B>) -> Result<Vec<(&str, &str)>, SignError> {
    request
        .headers()
        .iter()
        .filter(|(name, _)| is_signed(name))
        .map(|(name, value)| {
            std::str::from_utf8(value.as_bytes())
                .map(|value| (name.as_str(), value))
                .map_err(|_| SignError::HeaderNotText { header: name.clone() })
        })
        .collect()
}

fn is_signed(name: &HeaderName) -> bool {
    *name == HOST
        || *name == CONTENT_TYPE
        || *name == CONTENT_ENCODING
        || name.as_str().starts_with("x-prometheus-")
        || name.as_str().starts_with("x-amz-")
}

// aws-sigv4 panics on a URI without authority, so one in origin form gets the authority of its Host header.
fn absolute_uri<B>(request: &http::Request<B>) -> Result<String, SignError> {
    let uri = request.uri();
    if !uri.query().is_none_or(holds_text) {
        return Err(SignError::QueryNotText);
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = match uri.authority() {
        Some(authority) if !authority.host().is_empty() => authority.as_str(),
        Some(_) => return Err(SignError::NoHost),
        None => request.headers().get(HOST).and_then(|host| host.to_str().ok()).ok_or(SignError::NoHost)?,
    };
    // Userinfo never goes over the wire as part of the host.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let scheme = uri.scheme_str().unwrap_or("https");
    Ok(format!("{scheme}://{authority}{path}"))
}

// aws-sigv4 puts the replacement character for what is no UTF-8 in a query, and AWS would refuse the signature.
fn holds_text(query: &str) -> bool {
    let mut decoded = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let escaped = (*first == b'%').then(|| Some(digit(0)? * 16 + digit(1)?)).flatten();
        match escaped.and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    std::str::from_utf8(&decoded).is_ok()
}

/// Why a request could not be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// Region or service can neither be inferred from the endpoint's host nor are they set.
    #[error(
        "cannot tell the AWS {what} to sign for from the host {host:?}: {why}; set {} and {}",
        .keys.region,
        .keys.service
    )]
    ScopeUnknown {
        /// `region` or `service`.
        what: &'static str,
        /// Why the host does not say it.
        why: &'static str,
        /// The endpoint's host.
        host: String,
        /// What the two options are called.
        keys: ScopeKeys,
    },
    /// Neither the URI nor a `Host` header names a host.
    #[error("cannot sign a request that names no host: give it an absolute URI or a host header")]
    NoHost,
    /// The query holds percent-escapes that are no UTF-8 text.
    #[error("cannot sign a query whose percent-escapes are not UTF-8 text")]
    QueryNotText,
    /// A header that has to be signed holds bytes that are no text.
    #[error("cannot sign the header {header}: its value is not UTF-8 text")]
    HeaderNotText {
        /// The header's name.
        header: HeaderName,
    },
    /// The access key or session token holds characters that no header may.
    #[error("the AWS credentials hold characters that the header {header} cannot: are they mistyped or cut?")]
    CredentialNotText {
        /// The header that would have held it.
        header: &'static str,
    },
    /// aws-sigv4 refused the request.
    #[error("cannot sign the request: {reason}")]
    Unsignable {
        /// Its reason.
        reason: String,
    },
}
