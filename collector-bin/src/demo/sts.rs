//! An STS that gives session keys for a web identity token, as that of AWS does for a pod's service account.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::server::{self, Server};
use super::sessions::{SessionKeys, Sessions};

/// The role that the demo writes as.
pub(super) const ROLE_ARN: &str = "arn:aws:iam::111122223333:role/promferry-demo";
/// What stands in the token file: a token has three parts, and nobody but this STS reads it.
pub(super) const WEB_IDENTITY_TOKEN: &str = "e30.e30.demo";

/// AWS gives an hour; the demo is over before half of this, when keys are fetched ahead of their end.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// `AssumeRoleWithWebIdentity` (API version 2011-06-15) for [`ROLE_ARN`] and [`WEB_IDENTITY_TOKEN`].
#[derive(Debug)]
pub(super) struct Sts {
    server: Server,
    delay_ms: Arc<AtomicU64>,
}

impl Sts {
    /// Starts one that opens sessions here.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) async fn start(sessions: Sessions) -> io::Result<Self> {
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&delay_ms);
        let server = Server::start(move |_, body| {
            let (sessions, delay) = (sessions.clone(), Arc::clone(&delay));
            async move {
                tokio::time::sleep(Duration::from_millis(delay.load(Ordering::Relaxed))).await;
                answer(&body, &sessions)
            }
        })
        .await?;
        Ok(Self { server, delay_ms })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// How long it takes over each answer from now on.
    pub(super) fn set_delay(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn answer(body: &Bytes, sessions: &Sessions) -> Response<Bytes> {
    let parameter = |name: &str| {
        form_urlencoded::parse(body).find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    };
    if parameter("Action").as_deref() != Some("AssumeRoleWithWebIdentity") {
        return refusal(StatusCode::BAD_REQUEST, "InvalidAction", "Could not find operation");
    }
    let is_known = parameter("RoleArn").as_deref() == Some(ROLE_ARN)
        && parameter("WebIdentityToken").as_deref() == Some(WEB_IDENTITY_TOKEN);
    if !is_known {
        let text = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
        return refusal(StatusCode::FORBIDDEN, "AccessDenied", text);
    }
    let SessionKeys { access_key_id, secret_key, token, ends_at } = sessions.open(LIFETIME);
    // Whole seconds, as AWS gives them.
    let expiration = humantime::format_rfc3339_seconds(ends_at);
    let session = ROLE_ARN.replacen(":iam::", ":sts::", 1).replacen(":role/", ":assumed-role/", 1);
    xml(
        StatusCode::OK,
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{access_key_id}</AccessKeyId>\
             <SecretAccessKey>{secret_key}</SecretAccessKey><SessionToken>{token}</SessionToken>\
             <Expiration>{expiration}</Expiration></Credentials><AssumedRoleUser>\
             <AssumedRoleId>AROADEMO:demo</AssumedRoleId><Arn>{session}/demo</Arn></AssumedRoleUser>\
             </AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>demo</RequestId></ResponseMetadata>\
             </AssumeRoleWithWebIdentityResponse>"
        ),
    )
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    xml(
        status,
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error><RequestId>demo</RequestId></ErrorResponse>"
        ),
    )
}

fn xml(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = server::text(status, text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}
