//! STS: parameters, signatures, and the policies of roles.

use std::time::Duration;

use promferry_aws_stand_in::{Outcome, Policy};

use crate::raw::Call;
use crate::world::{COLLECTOR, HOUR, Row, USER, WRITER, World, Wrong, check, row};

const DENIED: (u16, &str) = (403, "AccessDenied");
const VALIDATION: (u16, &str) = (400, "ValidationError");

fn set(call: &mut Call, name: &'static str, value: &str) {
    *call = call.clone().with(name, value);
}

pub(crate) async fn parameters(world: &World) {
    let at = |value: &str, name: &str| {
        format!(
            "1 validation error detected: Value {value} at '{name}' failed to satisfy constraint: Member must"
        )
    };
    let rows = vec![
        row(
            "there is no action",
            Wrong::Call(|_, call| drop(call.form.remove("Action"))),
            (400, "MissingAction"),
            "",
        ),
        row(
            "the action is none",
            Wrong::Call(|_, call| set(call, "Action", "AssumeRule")),
            (400, "InvalidAction"),
            "Could not find operation AssumeRule for version 2011-06-15",
        ),
        row(
            "the version is none",
            Wrong::Call(|_, call| set(call, "Version", "2012-10-17")),
            (400, "InvalidAction"),
            "Could not find operation AssumeRoleWithWebIdentity for version 2012-10-17",
        ),
        row(
            "there is no role",
            Wrong::Call(|_, call| drop(call.form.remove("RoleArn"))),
            VALIDATION,
            at("null", "roleArn"),
        ),
        row(
            "the role's ARN is short",
            Wrong::Call(|_, call| set(call, "RoleArn", "collector")),
            VALIDATION,
            at("'collector'", "roleArn"),
        ),
        row(
            "the role's ARN is none",
            Wrong::Call(|_, call| set(call, "RoleArn", "arn:aws:iam::111122223333:user/collector")),
            VALIDATION,
            "Request ARN is invalid",
        ),
        row(
            "the session's name is short",
            Wrong::Call(|_, call| set(call, "RoleSessionName", "s")),
            VALIDATION,
            format!("{} have length greater than or equal to 2", at("'s'", "roleSessionName")),
        ),
        row(
            "the session's name is long",
            Wrong::Call(|_, call| set(call, "RoleSessionName", &"s".repeat(65))),
            VALIDATION,
            at(&format!("'{}'", "s".repeat(65)), "roleSessionName"),
        ),
        row(
            "the session's name has a blank",
            Wrong::Call(|_, call| set(call, "RoleSessionName", "a b")),
            VALIDATION,
            at("'a b'", "roleSessionName"),
        ),
        row(
            "the session is short",
            Wrong::Call(|_, call| set(call, "DurationSeconds", "899")),
            VALIDATION,
            at("'899'", "durationSeconds"),
        ),
        row(
            "the session is long",
            Wrong::Call(|_, call| set(call, "DurationSeconds", "43201")),
            VALIDATION,
            at("'43201'", "durationSeconds"),
        ),
        row(
            "two are wrong",
            Wrong::Call(|_, call| {
                set(call, "RoleSessionName", "s");
                set(call, "DurationSeconds", "0");
            }),
            VALIDATION,
            "2 validation errors detected: ",
        ),
        row(
            "a parameter is not understood",
            Wrong::Call(|_, call| set(call, "Policy", "{}")),
            VALIDATION,
            "the parameter Policy is not understood here",
        ),
    ];
    check(world, rows, World::web_identity).await;
    let rows = vec![
        row(
            "the external id is short",
            Wrong::Call(|_, call| set(call, "ExternalId", "7")),
            VALIDATION,
            at("'7'", "externalId"),
        ),
        row(
            "the external id has a blank",
            Wrong::Call(|_, call| set(call, "ExternalId", "a b")),
            VALIDATION,
            at("'a b'", "externalId"),
        ),
    ];
    check(world, rows, World::assume_role).await;
}

fn assume_role_rows() -> Vec<Row> {
    let user = "User: arn:aws:sts::111122223333:assumed-role/collector/promferry is not authorized to perform: \
                sts:AssumeRole";
    let no_identity_policy = format!(
        "{user} on resource: {WRITER} because no identity-based policy allows the sts:AssumeRole action"
    );
    let no_trust = format!("{user} because no role trust policy allows the sts:AssumeRole action");
    vec![
        row(
            "there is no external id",
            Wrong::Call(|_, call| drop(call.form.remove("ExternalId"))),
            DENIED,
            no_trust.as_str(),
        ),
        row(
            "the external id is another",
            Wrong::Call(|_, call| set(call, "ExternalId", "external-8")),
            DENIED,
            no_trust.as_str(),
        ),
        row(
            "the role is not there",
            Wrong::Call(|_, call| set(call, "RoleArn", "arn:aws:iam::444455556666:role/hub-nobody")),
            DENIED,
            no_trust.as_str(),
        ),
        row(
            "the trust names another role",
            Wrong::Trust(
                WRITER,
                String::from(
                    r#"{"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
                    "Principal": {"AWS": "arn:aws:iam::111122223333:role/other"}}}"#,
                ),
            ),
            DENIED,
            no_trust.as_str(),
        ),
        row(
            "the trust allows another action",
            Wrong::Trust(
                WRITER,
                String::from(
                    r#"{"Statement": {"Effect": "Allow", "Action": "sts:TagSession",
                    "Principal": {"AWS": "111122223333"}}}"#,
                ),
            ),
            DENIED,
            no_trust.as_str(),
        ),
        row(
            "the trust denies",
            Wrong::Trust(
                WRITER,
                String::from(
                    r#"{"Statement": [
                        {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"},
                        {"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"}
                    ]}"#,
                ),
            ),
            DENIED,
            format!("{user} with an explicit deny in the role trust policy"),
        ),
        row(
            "the caller has no policy",
            Wrong::Permissions(COLLECTOR, None),
            DENIED,
            no_identity_policy.as_str(),
        ),
        row(
            "the caller's policy is of another role",
            Wrong::Permissions(
                COLLECTOR,
                Some(
                    r#"{"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
                    "Resource": "arn:aws:iam::444455556666:role/other"}}"#,
                ),
            ),
            DENIED,
            no_identity_policy.as_str(),
        ),
        row(
            "the caller's policy denies",
            Wrong::Permissions(
                COLLECTOR,
                Some(
                    r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"},
                    {"Effect": "Deny", "Action": "sts:*", "Resource": "*"}]}"#,
                ),
            ),
            DENIED,
            format!("{user} on resource: {WRITER} with an explicit deny in an identity-based policy"),
        ),
        row(
            "a chained session is to live for more than an hour",
            Wrong::Call(|_, call| set(call, "DurationSeconds", "3601")),
            VALIDATION,
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ),
    ]
}

pub(crate) async fn roles(world: &World) {
    check(world, assume_role_rows(), World::assume_role).await;

    // Without a reason both sides' refusals are one and the same.
    world.sts.set_reasons(false);
    let mut answers = Vec::new();
    for row in assume_role_rows()
        .into_iter()
        .filter(|row| matches!(row.wrong, Wrong::Trust(..) | Wrong::Permissions(..)))
    {
        match row.wrong {
            Wrong::Trust(role, trust) => {
                world.cloud.set_trust(role, Policy::parse(&trust).unwrap()).await;
            }
            Wrong::Permissions(role, _) => world.cloud.set_permissions(role, None).await,
            _ => {}
        }
        answers.push(world.assume_role().send().await.element("Message").to_owned());
    }
    let expected = format!(
        "User: arn:aws:sts::111122223333:assumed-role/collector/promferry is not authorized to perform: \
         sts:AssumeRole on resource: {WRITER}"
    );
    assert!(answers.iter().all(|answer| *answer == expected), "{answers:?}");
}

/// A user's keys are not a session: the limit of chains is not theirs, that of the role is.
pub(crate) async fn users(world: &World) {
    let by_user = |world: &World| {
        let mut call = world.assume_role().with("DurationSeconds", "7200");
        call.signer = Some(world.user());
        call
    };
    let rows = vec![
        row(
            "the session is too long for the role",
            Wrong::Call(|_, call| set(call, "DurationSeconds", "7201")),
            VALIDATION,
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ),
        row(
            "the user is of another account",
            Wrong::Trust(
                WRITER,
                String::from(
                    r#"{"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
                    "Principal": {"AWS": "arn:aws:iam::777788889999:root"}}}"#,
                ),
            ),
            DENIED,
            format!("User: {USER} is not authorized to perform: sts:AssumeRole"),
        ),
    ];
    check(world, rows, by_user).await;
}

/// Within an account, a trust that names the caller suffices; one that names its account does not.
pub(crate) async fn trust_within_an_account(world: &World) {
    let role = "arn:aws:iam::111122223333:role/next";
    let trusting = |principal: &str| Policy::role_trust(principal, None);
    world.cloud.add_role(role, trusting("111122223333"), None, HOUR).await;
    world.cloud.set_permissions(COLLECTOR, None).await;
    let call = || {
        let mut call = world.assume_role().with("RoleArn", role);
        call.form.remove("ExternalId");
        call
    };
    assert_eq!(call().send().await.status, 403);
    for principal in [COLLECTOR, "arn:aws:sts::111122223333:assumed-role/collector/promferry"] {
        world.cloud.set_trust(role, trusting(principal)).await;
        assert_eq!(call().send().await.status, 200, "{principal}");
    }
    world.cloud.set_trust(role, trusting("arn:aws:sts::111122223333:assumed-role/collector/other")).await;
    assert_eq!(call().send().await.status, 403);
    world.cloud.set_trust(role, trusting("arn:aws:iam::111122223333:root")).await;
    assert_eq!(call().send().await.status, 403);
    world.set_right().await;
    let allowed = Policy::allowing("sts:AssumeRole", role);
    world.cloud.set_permissions(COLLECTOR, Some(allowed)).await;
    assert_eq!(call().send().await.status, 200);
}

pub(crate) async fn signatures(world: &World) {
    let rows = || {
        vec![
            row(
                "there is no signature",
                Wrong::Call(|_, call| call.signer = None),
                (403, "MissingAuthenticationToken"),
                "Request is missing Authentication Token",
            ),
            row(
                "the key is unknown",
                Wrong::Call(|_, call| call.signer().access_key_id = String::from("ASIANOBODYKNOWSTHIS0")),
                (403, "InvalidClientTokenId"),
                "The security token included in the request is invalid.",
            ),
            row(
                "the session token is missing",
                Wrong::Call(|_, call| call.signer().session_token = None),
                (403, "InvalidClientTokenId"),
                "The security token included in the request is invalid.",
            ),
            row(
                "the session token is another",
                Wrong::Call(|_, call| call.signer().session_token = Some(String::from("another"))),
                (403, "InvalidClientTokenId"),
                "The security token included in the request is invalid.",
            ),
            row(
                "the secret is another",
                Wrong::Call(|_, call| call.signer().secret_access_key = String::from("another")),
                (403, "SignatureDoesNotMatch"),
                "The request signature we calculated does not match the signature you provided.",
            ),
            row(
                "the body was changed",
                Wrong::Call(|_, call| call.appended = "&"),
                (403, "SignatureDoesNotMatch"),
                "The request signature we calculated does not match the signature you provided.",
            ),
            row(
                "the region is another",
                Wrong::Call(|_, call| call.signer().region = "us-east-1"),
                (403, "SignatureDoesNotMatch"),
                "Credential should be scoped to a valid region",
            ),
            row(
                "the service is another",
                Wrong::Call(|_, call| call.signer().service = "aps"),
                (403, "SignatureDoesNotMatch"),
                "Credential should be scoped to correct service: 'sts'.",
            ),
            row(
                "the time is past",
                Wrong::Call(|_, call| call.signer().at -= Duration::from_secs(320)),
                (403, "SignatureDoesNotMatch"),
                "Signature expired: ",
            ),
            row(
                "the time is to come",
                Wrong::Call(|_, call| call.signer().at += Duration::from_secs(320)),
                (403, "SignatureDoesNotMatch"),
                "Signature not yet current: ",
            ),
        ]
    };
    check(world, rows(), World::caller_identity).await;
    check(world, rows(), World::assume_role).await;
}

pub(crate) async fn sessions_expire(world: &World) {
    let session = world.web_identity().send().await.session();
    let call = || {
        let mut call = world.caller_identity();
        call.signer = Some(session.clone());
        call
    };
    let identity = call().send().await;
    assert_eq!(identity.element("Arn"), "arn:aws:sts::111122223333:assumed-role/collector/promferry");
    assert_eq!(identity.element("Account"), "111122223333");
    assert!(identity.element("UserId").ends_with(":promferry"), "{}", identity.body);
    world.cloud.expire_sessions(COLLECTOR);
    let answer = call().send().await;
    assert_eq!((answer.status, answer.element("Code")), (403, "ExpiredToken"));
    assert_eq!(answer.element("Message"), "The security token included in the request is expired");
    let next = world.web_identity().send().await.session();
    let mut again = world.caller_identity();
    again.signer = Some(next);
    assert_eq!(again.send().await.status, 200);

    // A session of seconds, and one that AWS' clock lets run out.
    world.sts.set_lifetime(Some(Duration::from_secs(900)));
    let mut short = world.caller_identity();
    short.signer = Some(world.web_identity().send().await.session());
    assert_eq!(short.send().await.status, 200);
    world.cloud.set_clock(901_000);
    short.signer().at = world.cloud.now();
    assert_eq!(short.send().await.element("Code"), "ExpiredToken");
}

pub(crate) async fn calls_are_recorded(world: &World) {
    let before = world.sts.calls().len();
    let token = world.token();
    let given = world.web_identity().with("WebIdentityToken", &token).send().await.session();
    world.assume_role().with("ExternalId", "other").send().await;
    world.caller_identity().send().await;
    let calls = world.sts.calls().split_off(before);
    let actions: Vec<_> = calls.iter().map(|call| call.action.as_str()).collect();
    assert_eq!(actions, ["AssumeRoleWithWebIdentity", "AssumeRole", "GetCallerIdentity"]);
    assert_eq!(calls[0].web_identity_token.as_ref().unwrap().expose(), token);
    assert!(
        matches!(&calls[0].outcome, Outcome::Given { access_key_id, .. } if *access_key_id == given.access_key_id)
    );
    assert_eq!(calls[1].access_key_id.as_ref(), Some(&world.session.access_key_id));
    assert_eq!((calls[1].role_arn.as_str(), calls[1].external_id.as_deref()), (WRITER, Some("other")));
    assert!(matches!(&calls[1].outcome, Outcome::Refused { code, .. } if code == "AccessDenied"));
    assert!(matches!(&calls[2].outcome, Outcome::Identity { .. }));

    // Nothing of it is secret, and all that is secret is known.
    let secrets = world.cloud.secrets();
    let shown = format!("{calls:?} {:?} {:?} {:?} {:?}", world.cloud, world.issuer, world.sts, world.user);
    for secret in [
        &token,
        &given.secret_access_key,
        given.session_token.as_ref().unwrap(),
        &world.user.secret_access_key,
    ] {
        assert!(secrets.contains(secret));
    }
    assert!(secrets.iter().all(|secret| !shown.contains(secret.as_str())), "{shown}");
}
