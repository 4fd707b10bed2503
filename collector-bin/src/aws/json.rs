//! The answer for programs.

use std::time::SystemTime;

use promferry_sigv4_auth::{Failure, FailureKind, Finding, LookedAt, NeededPolicy, Step, TokenFacts};
use serde::Serialize;
use serde_json::Value;

use super::{Answer, Write};

/// All answers as one JSON document.
pub(super) fn of(answers: &[Answer]) -> String {
    let report = Report { endpoints: answers.iter().map(Endpoint::of).collect() };
    // Texts and numbers in maps with keys of text: nothing that could fail.
    let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
    text.push('\n');
    text
}

#[derive(Serialize)]
struct Report {
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
struct Endpoint {
    name: Option<String>,
    url: Option<String>,
    region: String,
    service: String,
    looked_at: Vec<Looked>,
    token: Option<Token>,
    chain: Vec<Identity>,
    expires_at: Option<String>,
    clock_offset_seconds: i64,
    /// `null` where it was not asked, there was nothing to ask with, or nothing came of it.
    may_write: Option<bool>,
    failure: Option<Failed>,
    /// Every policy that the whole way needs, whether it is there or not.
    policies: Vec<Needed>,
}

#[derive(Serialize)]
struct Looked {
    provider: String,
    role_arn: Option<String>,
    finding: &'static str,
    why: Option<String>,
}

#[derive(Serialize)]
struct Token {
    file: String,
    issuer: String,
    subject: String,
    audience: Vec<String>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct Identity {
    provider: String,
    role_arn: Option<String>,
    external_id_given: bool,
    expires_at: Option<String>,
    account: Option<String>,
    arn: Option<String>,
    user_id: Option<String>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Failed {
    kind: &'static str,
    reach: Option<&'static str>,
    what: String,
    answer: Option<String>,
    request_id: Option<String>,
    needed: Vec<Needed>,
}

#[derive(Serialize)]
struct Needed {
    place: String,
    note: Option<String>,
    policy: Value,
}

impl Endpoint {
    fn of(answer: &Answer) -> Self {
        let who = &answer.who;
        Self {
            name: answer.name.clone(),
            url: answer.url.clone(),
            region: answer.scope.region.clone(),
            service: answer.scope.service.clone(),
            looked_at: who.looked_at.looked_at.iter().map(Looked::of).collect(),
            token: who.token.as_ref().map(Token::of),
            chain: who.chain.iter().map(Identity::of).collect(),
            expires_at: who.credentials.as_ref().and_then(|credentials| time(credentials.expires_at())),
            clock_offset_seconds: answer.clock_offset_ms / 1000,
            may_write: match answer.write {
                Write::NotAsked | Write::Unknown(_) => None,
                Write::LetIn(_) => Some(true),
                Write::Refused(_) => Some(false),
            },
            failure: answer.failure().map(Failed::of),
            policies: answer.policies.iter().map(Needed::of).collect(),
        }
    }
}

impl Looked {
    fn of(looked_at: &LookedAt) -> Self {
        let (finding, why) = match &looked_at.finding {
            Finding::Used => ("used", None),
            Finding::NotConfigured(why) => ("not_configured", Some(why)),
            Finding::Skipped(why) => ("skipped", Some(why)),
            Finding::Failed(why) => ("failed", Some(why)),
        };
        Self {
            provider: looked_at.provider.clone(),
            role_arn: looked_at.role_arn.clone(),
            finding,
            why: why.cloned(),
        }
    }
}

impl Token {
    fn of(token: &TokenFacts) -> Self {
        Self {
            file: token.file.display().to_string(),
            issuer: token.issuer.clone(),
            subject: token.subject.clone(),
            audience: token.audience.clone(),
            expires_at: time(token.expires_at),
        }
    }
}

impl Identity {
    fn of(step: &Step) -> Self {
        let told = step.identity.as_ref().ok();
        Self {
            provider: step.provider.clone(),
            role_arn: step.role_arn.clone(),
            external_id_given: step.external_id_given,
            expires_at: time(step.expires_at),
            account: told.map(|identity| identity.account.clone()),
            arn: told.map(|identity| identity.arn.clone()),
            user_id: told.map(|identity| identity.user_id.clone()),
            error: step.identity.as_ref().err().map(ToString::to_string),
        }
    }
}

impl Failed {
    fn of(failure: &Failure) -> Self {
        Self {
            kind: failure.kind.name(),
            reach: match &failure.kind {
                FailureKind::Route(reach) => Some(reach.name()),
                _ => None,
            },
            what: failure.what.clone(),
            answer: failure.answer.clone(),
            request_id: failure.request_id.clone(),
            needed: failure.needed.iter().map(Needed::of).collect(),
        }
    }
}

impl Needed {
    fn of(needed: &NeededPolicy) -> Self {
        Self {
            place: needed.place.clone(),
            note: needed.note.clone(),
            policy: serde_json::from_str(&needed.json).unwrap_or_default(),
        }
    }
}

fn time(time: Option<SystemTime>) -> Option<String> {
    time.map(|time| humantime::format_rfc3339_seconds(time).to_string())
}
