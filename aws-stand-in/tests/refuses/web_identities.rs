//! STS: web identities, their tokens and the trust of a role.

use std::time::Duration;

use promferry_aws_stand_in::{Issuer, Policy};

use crate::raw::Call;
use crate::world::{AUDIENCE, COLLECTOR, HOUR, SUBJECT, World, Wrong, check, row};

const DENIED: (u16, &str) = (403, "AccessDenied");
const INVALID_TOKEN: (u16, &str) = (400, "InvalidIdentityToken");
const VALIDATION: (u16, &str) = (400, "ValidationError");

fn set(call: &mut Call, name: &'static str, value: &str) {
    *call = call.clone().with(name, value);
}

fn set_token(call: &mut Call, token: &str) {
    set(call, "WebIdentityToken", token);
}

pub(crate) async fn web_identities(world: &World) {
    let not_authorized = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
    let rows = vec![
        row(
            "the token is none",
            Wrong::Call(|_, call| set_token(call, "no.token")),
            INVALID_TOKEN,
            "The ID Token provided is not a valid JWT",
        ),
        row(
            "the issuer is no provider of the account",
            Wrong::Call(|_, call| {
                set(call, "RoleArn", "arn:aws:iam::999999999999:role/cluster/collector");
            }),
            INVALID_TOKEN,
            format!("No OpenIDConnect provider found in your account for {}", world.issuer.url()),
        ),
        row(
            "the key is another",
            Wrong::Call(|world, call| {
                set_token(call, &world.issuer.token_by_another_key(SUBJECT, AUDIENCE, HOUR));
            }),
            INVALID_TOKEN,
            "The web identity token that was passed could not be validated by AWS",
        ),
        row(
            "the key is not published any more",
            Wrong::World(|world| world.issuer.rotate_key()),
            INVALID_TOKEN,
            "Couldn't retrieve verification key from your identity provider,  please reference",
        ),
        row(
            "it says that it needs no signature",
            Wrong::Call(|world, call| {
                set_token(call, &world.issuer.token_without_signature(SUBJECT, AUDIENCE, HOUR));
            }),
            INVALID_TOKEN,
            "The web identity token that was passed could not be validated by AWS",
        ),
        row(
            "one letter of the claims is another",
            Wrong::Call(|world, call| {
                let claims = world.issuer.claims("system:serviceaccount:monitoring:other", AUDIENCE, HOUR);
                let other = world.issuer.token_of(&claims);
                let (right, other) = (world.token(), other.split('.').nth(1).unwrap().to_owned());
                let mut parts: Vec<&str> = right.split('.').collect();
                parts[1] = &other;
                set_token(call, &parts.join("."));
            }),
            INVALID_TOKEN,
            "The web identity token that was passed could not be validated by AWS",
        ),
        row(
            "the issuer does not answer",
            Wrong::World(|world| world.issuer.set_down(true)),
            (400, "IDPCommunicationError"),
            "The identity provider",
        ),
        row(
            "the audience is another",
            Wrong::Call(|world, call| {
                set_token(call, &world.issuer.token(SUBJECT, "vault.example", HOUR));
            }),
            INVALID_TOKEN,
            "Incorrect token audience",
        ),
        row(
            "there is no audience",
            Wrong::Call(|world, call| {
                let mut claims = world.issuer.claims(SUBJECT, AUDIENCE, HOUR);
                claims.as_object_mut().unwrap().remove("aud");
                set_token(call, &world.issuer.token_of(&claims));
            }),
            INVALID_TOKEN,
            "Missing a required claim: aud",
        ),
        row(
            "it has expired",
            Wrong::Call(|world, call| {
                set_token(call, &world.issuer.token(SUBJECT, AUDIENCE, Duration::ZERO));
            }),
            (400, "ExpiredTokenException"),
            "Token expired: current date/time ",
        ),
        row(
            "it is not valid yet",
            Wrong::Call(|world, call| {
                let mut claims = world.issuer.claims(SUBJECT, AUDIENCE, HOUR);
                claims["nbf"] = (claims["nbf"].as_u64().unwrap() + 600).into();
                set_token(call, &world.issuer.token_of(&claims));
            }),
            INVALID_TOKEN,
            "The ID Token provided is not yet valid",
        ),
        row(
            "the role is not there",
            Wrong::Call(|_, call| set(call, "RoleArn", "arn:aws:iam::111122223333:role/nobody")),
            DENIED,
            not_authorized,
        ),
        row(
            "the service account is another",
            Wrong::Call(|world, call| {
                let other = "system:serviceaccount:default:promferry";
                set_token(call, &world.issuer.token(other, AUDIENCE, HOUR));
            }),
            DENIED,
            not_authorized,
        ),
        row(
            "the trust names another provider",
            Wrong::Trust(
                COLLECTOR,
                trust(&world.issuer, "arn:aws:iam::111122223333:oidc-provider/other", SUBJECT),
            ),
            DENIED,
            not_authorized,
        ),
        row(
            "the trust names another service account",
            Wrong::Trust(
                COLLECTOR,
                trust(&world.issuer, &world.issuer.provider_arn("111122223333"), "system:serviceaccount:a:b"),
            ),
            DENIED,
            not_authorized,
        ),
        row(
            "the trust denies",
            Wrong::Trust(
                COLLECTOR,
                String::from(
                    r#"{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRoleWithWebIdentity"}}"#,
                ),
            ),
            DENIED,
            not_authorized,
        ),
        row(
            "the session is too long for the role",
            Wrong::Call(|_, call| {
                set(call, "RoleArn", "arn:aws:iam::111122223333:role/short");
                set(call, "DurationSeconds", "3601");
            }),
            VALIDATION,
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ),
    ];
    let right = Policy::web_identity_trust(&world.issuer.provider_arn("111122223333"), SUBJECT, AUDIENCE);
    world.cloud.add_role("arn:aws:iam::111122223333:role/short", right, None, HOUR).await;
    check(world, rows, World::web_identity).await;
}

fn trust(issuer: &Issuer, provider_arn: &str, subject: &str) -> String {
    serde_json::json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Federated": provider_arn },
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": { "StringEquals": { format!("{}:sub", issuer.name()): subject } },
    }]})
    .to_string()
}
