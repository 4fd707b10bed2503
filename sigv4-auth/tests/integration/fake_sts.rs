//! An STS that can refuse: it checks tokens, signatures, external ids and roles, and answers with AWS' words.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use promferry_sigv4_auth::verify::{KnownKey, Verifier, VerifyError};
use promferry_sigv4_auth::{Environment, Scope};

use crate::front::{Server, http_date};

pub(crate) const WEB_ROLE: &str = "arn:aws:iam::111111111111:role/collector";
pub(crate) const HUB_ROLE: &str = "arn:aws:iam::222222222222:role/hub-writer";

pub(crate) struct FakeSts {
    pub(crate) server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// The token that is right now.
    pub(crate) token: String,
    /// Roles that can be assumed, with the external id that each asks for.
    pub(crate) roles: BTreeMap<String, Option<String>>,
    /// Lasting and given out keys.
    pub(crate) keys: BTreeMap<String, KnownKey>,
    pub(crate) lifetime: Duration,
    /// How far its clock is ahead of this machine's, in seconds.
    pub(crate) ahead: i64,
    /// The calls that came, refused ones too: action, role, session name.
    pub(crate) calls: Vec<(String, String, String)>,
    given: u32,
}

impl FakeSts {
    pub(crate) async fn start() -> Self {
        let state = State {
            token: String::from("first.token.signature"),
            roles: BTreeMap::from([(HUB_ROLE.to_owned(), Some(String::from("external-7")))]),
            lifetime: Duration::from_secs(3_600),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = Server::start(move |head, body| {
            let now = shared.lock().unwrap_or_else(PoisonError::into_inner).now();
            let answer = answer(&shared, &head, &body);
            let mut response = answer.unwrap_or_else(|(status, code, message)| {
                let xml = format!(
                    "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                     <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r-1</RequestId></ErrorResponse>"
                );
                let mut response = Response::new(xml);
                *response.status_mut() = status;
                response
            });
            response.headers_mut().insert("date", http_date(now));
            response
        })
        .await;
        Self { server, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys that this STS knows, its own ones among them, for a receiver's verifier.
    pub(crate) fn lookup(&self) -> impl Fn(&str) -> Option<KnownKey> + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move |access_key| state.lock().unwrap_or_else(PoisonError::into_inner).keys.get(access_key).cloned()
    }

    /// An environment that names this STS, and these variables.
    pub(crate) fn environment(&self, more: &[(&str, &str)]) -> Environment {
        let url = self.server.url("/");
        let own = [("AWS_ENDPOINT_URL_STS", url.as_str()), ("AWS_REGION", "eu-west-1")];
        Environment::from_pairs(own.into_iter().chain(more.iter().copied()))
    }
}

impl State {
    /// The time by its clock.
    pub(crate) fn now(&self) -> SystemTime {
        ahead_by(self.ahead)
    }
}

/// The time of a clock that is so many seconds ahead of this machine's.
pub(crate) fn ahead_by(seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
}

type Refusal = (StatusCode, &'static str, String);

fn answer(state: &Mutex<State>, head: &Parts, body: &Bytes) -> Result<Response<String>, Refusal> {
    let form = form(body);
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let (action, role) = (field("Action"), field("RoleArn"));
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.calls.push((action.clone(), role.clone(), field("RoleSessionName")));
    let denied = |message: String| (StatusCode::FORBIDDEN, "AccessDenied", message);
    match action.as_str() {
        "AssumeRoleWithWebIdentity" => {
            if head.headers.contains_key("authorization") {
                return Err((StatusCode::BAD_REQUEST, "SignedCall", String::from("this call is not signed")));
            }
            if role != WEB_ROLE {
                return Err(denied(String::from("Not authorized to perform sts:AssumeRoleWithWebIdentity")));
            }
            if field("WebIdentityToken") != state.token {
                let message = format!("Token {} is expired", field("WebIdentityToken"));
                return Err((StatusCode::BAD_REQUEST, "ExpiredTokenException", message));
            }
        }
        "AssumeRole" | "GetCallerIdentity" => {
            let keys = state.keys.clone();
            let scope = Scope { region: String::from("eu-west-1"), service: String::from("sts") };
            let verifier = Verifier::new(move |access_key| keys.get(access_key).cloned()).for_scope(scope);
            let caller = verifier
                .verify(head, body, state.now())
                .map_err(|error| (StatusCode::FORBIDDEN, sts_code(&error), error.to_string()))?;
            if action == "GetCallerIdentity" {
                return Ok(Response::new(format!(
                    "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                     <GetCallerIdentityResult><Arn>arn:aws:sts::222222222222:assumed-role/{caller}/s</Arn>\
                     <UserId>AROA:s</UserId><Account>222222222222</Account></GetCallerIdentityResult>\
                     </GetCallerIdentityResponse>"
                )));
            }
            let trusted = state.roles.get(&role).is_some_and(|external_id| {
                external_id.as_ref().is_none_or(|external_id| *external_id == field("ExternalId"))
            });
            if !trusted {
                return Err(denied(format!(
                    "User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}"
                )));
            }
        }
        _ => return Err((StatusCode::BAD_REQUEST, "InvalidAction", action)),
    }
    state.given += 1;
    let given = state.given;
    let (access_key, secret_key, token) =
        (format!("ASIAGIVEN{given}"), format!("given-secret-{given}"), format!("given-token-{given}"));
    let expires_at = state.now() + state.lifetime;
    state.keys.insert(access_key.clone(), KnownKey::temporary(&secret_key, &token, expires_at));
    let seconds = expires_at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let expiration =
        aws_smithy_types::DateTime::from_secs_f64(seconds).fmt(aws_smithy_types::date_time::Format::DateTime);
    Ok(Response::new(format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret_key}</SecretAccessKey>\
         <SessionToken>{token}</SessionToken><Expiration>{}</Expiration></Credentials>\
         <AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId><Arn>{role}/s</Arn></AssumedRoleUser>\
         </{action}Result></{action}Response>",
        expiration.expect("a time")
    )))
}

fn sts_code(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::Expired { .. } | VerifyError::NotYetCurrent { .. } => "SignatureDoesNotMatch",
        _ => "InvalidClientTokenId",
    }
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().replace('+', " ").into_bytes();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("an escape"));
        bytes.extend(part[2..].replace('+', " ").bytes());
    }
    String::from_utf8(bytes).expect("UTF-8")
}
