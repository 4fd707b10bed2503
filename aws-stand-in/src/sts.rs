//! STS at one endpoint.

mod actions;
mod answer;
mod parameters;
mod refusal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use promferry_sigv4_auth::Secret;

use crate::Cloud;
use crate::fault::{Fault, Faults, echo};
use crate::server::{Closed, Server};
use crate::sts::actions::Answered;
use crate::sts::parameters::Parameters;
use crate::sts::refusal::Refusal;

/// STS' endpoint of a region, on loopback: `AssumeRoleWithWebIdentity`, `AssumeRole` and `GetCallerIdentity` (version
/// 2011-06-15). It ends when this is dropped.
#[derive(Debug)]
pub struct Sts {
    server: Server,
    shared: Arc<Shared>,
}

/// A call that came, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// This machine's time when it came.
    pub at: SystemTime,
    /// `AssumeRole` and the like; empty where it named none.
    pub action: String,
    /// The role to be assumed; empty where it named none.
    pub role_arn: String,
    /// The session's name; empty where it had none.
    pub session_name: String,
    /// The external id that it gave.
    pub external_id: Option<String>,
    /// Whose signature it says it has.
    pub access_key_id: Option<String>,
    /// The token that it brought.
    pub web_identity_token: Option<Secret>,
    /// What it got.
    pub outcome: Outcome,
}

/// What a call got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Keys of a session.
    Given {
        /// `ASIA…`.
        access_key_id: String,
        /// By AWS' clock.
        expires_at: SystemTime,
    },
    /// Its own ARN.
    Identity {
        /// The caller's.
        arn: String,
    },
    /// One of AWS' errors.
    Refused {
        /// `AccessDenied` and the like.
        code: String,
        /// AWS' text.
        message: String,
    },
    /// What a [`Fault`] makes of it.
    Fault,
}

#[derive(Debug)]
struct Shared {
    cloud: Cloud,
    /// The only region whose signatures are taken; `None` takes any.
    region: Option<String>,
    faults: Faults,
    settings: Mutex<Settings>,
    calls: Mutex<Vec<Call>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    lifetime: Option<Duration>,
    reasons: bool,
}

impl Sts {
    /// Starts one that takes signatures for any region.
    pub async fn start(cloud: &Cloud) -> Self {
        Self::serve(cloud, None).await
    }

    /// Starts the one of a region, which takes signatures for that region only.
    pub async fn start_in(cloud: &Cloud, region: &str) -> Self {
        Self::serve(cloud, Some(region.to_owned())).await
    }

    async fn serve(cloud: &Cloud, region: Option<String>) -> Self {
        let shared = Arc::new(Shared {
            cloud: cloud.clone(),
            region,
            faults: Faults::default(),
            settings: Mutex::default(),
            calls: Mutex::default(),
        });
        let answering = Arc::clone(&shared);
        let server = Server::start(cloud.time(), move |head, body| {
            let shared = Arc::clone(&answering);
            async move { shared.answer(head, body).await }
        })
        .await;
        Self { server, shared }
    }

    /// What `AWS_ENDPOINT_URL_STS` is set to: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What every call meets from now on. What was [`Fault::Down`] listens again within a moment, on the same port.
    pub fn set_fault(&self, fault: Fault) {
        self.set_faults(&[fault]);
    }

    /// What the calls meet from now on, one after the other and then from the start again: five of [`Fault::Throttling`]
    /// and one [`Fault::None`] throttle five calls of six. [`Fault::Down`] among others closes that call's connection.
    pub fn set_faults(&self, faults: &[Fault]) {
        self.shared.faults.set(faults);
        self.server.set_down(!faults.is_empty() && faults.iter().all(|fault| *fault == Fault::Down));
    }

    /// How long sessions live that are given from now on, whatever the caller asks for: lets hours pass in seconds.
    /// Limits of what can be asked for are checked all the same.
    pub fn set_lifetime(&self, lifetime: Option<Duration>) {
        self.shared.settings().lifetime = lifetime;
    }

    /// Whether `AccessDenied` of `AssumeRole` says which policy did not allow it (`… because no identity-based policy
    /// allows …`). AWS does so within an organisation only; it is off at first.
    pub fn set_reasons(&self, reasons: bool) {
        self.shared.settings().reasons = reasons;
    }

    /// The calls so far, in order. Those that came while nobody listened ([`Fault::Down`]) are not among them.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls().clone()
    }
}

impl Shared {
    async fn answer(&self, head: Parts, body: Bytes) -> Result<Response<String>, Closed> {
        let parameters = Parameters::read(&body);
        let token = parameters.get("WebIdentityToken");
        token.iter().for_each(|token| self.cloud.saw_secret(token));
        let mut call = Call {
            at: SystemTime::now(),
            action: parameters.get("Action").unwrap_or_default().to_owned(),
            role_arn: parameters.get("RoleArn").unwrap_or_default().to_owned(),
            session_name: parameters.get("RoleSessionName").unwrap_or_default().to_owned(),
            external_id: parameters.get("ExternalId").map(str::to_owned),
            access_key_id: actions::access_key_of(&head),
            web_identity_token: token.map(Secret::new),
            outcome: Outcome::Fault,
        };
        // AWS shows its ids in refusals too.
        let request_id = crate::random::uuid();
        let (fault, before) = self.faults.next();
        let refused = match fault {
            Fault::None => None,
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                None
            }
            Fault::Down => {
                self.calls().push(call);
                return Err(Closed);
            }
            Fault::Nonsense => {
                self.calls().push(call);
                return Ok(nonsense(before));
            }
            Fault::Echo => {
                self.calls().push(call);
                return Ok(echo(&head, &body));
            }
            Fault::Throttling => Some(Refusal::throttling()),
            Fault::RegionDisabled => Some(Refusal::region_disabled(&call.role_arn)),
        };
        let answered = match refused {
            Some(refusal) => Err(refusal),
            None => self.act(&head, &body, &parameters).await,
        };
        call.outcome = match &answered {
            Ok(Answered::Session { session, .. }) => Outcome::Given {
                access_key_id: session.keys.access_key_id.clone(),
                expires_at: session.expires_at,
            },
            Ok(Answered::Identity { arn, .. }) => Outcome::Identity { arn: arn.clone() },
            Err(refusal) => {
                Outcome::Refused { code: refusal.code.to_owned(), message: refusal.message.clone() }
            }
        };
        self.calls().push(call);
        Ok(match answered {
            Ok(answered) => answer::of(&answered, &request_id),
            Err(refusal) => refusal.to_response(&request_id),
        })
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers that are none of AWS, in turn.
fn nonsense(number: usize) -> Response<String> {
    let (status, content_type, body) = [
        (StatusCode::BAD_GATEWAY, "text/html", "<html><body><h1>502 Bad Gateway</h1></body></html>"),
        (StatusCode::OK, "text/html", "<html><body>Please log in to this network</body></html>"),
        (StatusCode::OK, "text/xml", "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA"),
        (StatusCode::OK, "text/xml", ""),
        (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "\u{0}\u{1}\u{fffd}"),
    ][number % 5];
    let mut response = Response::new(body.to_owned());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(content_type));
    response
}
