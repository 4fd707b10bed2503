//! Workspaces: signatures, sessions, and the policies of both sides.

use std::time::Duration;

use http::Method;
use promferry_aws_stand_in::{Fault, Guardrail, Policy};

use crate::raw::series;
use crate::world::{COLLECTOR, HUB, WRITER, World, Wrong, check, row};

const INVALID_SIGNATURE: (u16, &str) = (403, "InvalidSignatureException");
const UNKNOWN: (u16, &str) = (403, "UnrecognizedClientException");
const DENIED: (u16, &str) = (403, "AccessDeniedException");
const NOT_FOUND: (u16, &str) = (404, "ResourceNotFoundException");
const UNSIGNED: (u16, &str) = (403, "MissingAuthenticationTokenException");

pub(crate) async fn signatures(world: &World) {
    let rows = vec![
        row(
            "there is no signature",
            Wrong::Call(|_, call| call.signer = None),
            UNSIGNED,
            "Missing Authentication Token",
        ),
        row(
            "the path ends in a slash",
            Wrong::Call(|_, call| call.url.push('/')),
            UNSIGNED,
            "Missing Authentication Token",
        ),
        row(
            "it is no POST",
            Wrong::Call(|_, call| call.method = Method::PUT),
            UNSIGNED,
            "Missing Authentication Token",
        ),
        row(
            "the key is unknown",
            Wrong::Call(|_, call| call.signer().access_key_id = String::from("ASIANOBODYKNOWSTHIS0")),
            UNKNOWN,
            "The security token included in the request is invalid.",
        ),
        row(
            "the session token is missing",
            Wrong::Call(|_, call| call.signer().session_token = None),
            UNKNOWN,
            "The security token included in the request is invalid.",
        ),
        row(
            "the session token is another",
            Wrong::Call(|_, call| call.signer().session_token = Some(String::from("another"))),
            UNKNOWN,
            "The security token included in the request is invalid.",
        ),
        row(
            "the secret is another",
            Wrong::Call(|_, call| call.signer().secret_access_key = String::from("another")),
            INVALID_SIGNATURE,
            "The request signature we calculated does not match",
        ),
        row(
            "the body was changed",
            Wrong::Call(|_, call| call.appended = "x"),
            INVALID_SIGNATURE,
            "The request signature we calculated does not match",
        ),
        row(
            "the region is another",
            Wrong::Call(|_, call| call.signer().region = "us-east-1"),
            INVALID_SIGNATURE,
            "Credential should be scoped to a valid region",
        ),
        row(
            "the service is another",
            Wrong::Call(|_, call| call.signer().service = "es"),
            INVALID_SIGNATURE,
            "Credential should be scoped to correct service: 'aps'.",
        ),
        row(
            "the time is past",
            Wrong::Call(|_, call| call.signer().at -= Duration::from_secs(320)),
            INVALID_SIGNATURE,
            "Signature expired: ",
        ),
        row(
            "the time is to come",
            Wrong::Call(|_, call| call.signer().at += Duration::from_secs(320)),
            INVALID_SIGNATURE,
            "Signature not yet current: ",
        ),
        row(
            "AWS' clock is ahead",
            Wrong::World(|world| world.cloud.set_clock(320_000)),
            INVALID_SIGNATURE,
            "Signature expired: ",
        ),
        row(
            "AWS' clock is behind",
            Wrong::World(|world| world.cloud.set_clock(-320_000)),
            INVALID_SIGNATURE,
            "Signature not yet current: ",
        ),
        row(
            "too much comes",
            Wrong::World(|world| world.workspaces.set_faults(&[Fault::Throttling, Fault::None])),
            (429, "ThrottlingException"),
            "Rate exceeded",
        ),
    ];
    check(world, rows, |world| world.write("ws-own")).await;
}

pub(crate) async fn policies_within_an_account(world: &World) {
    let no_policy = "User: arn:aws:sts::111122223333:assumed-role/collector/promferry is not authorized to perform: \
                     aps:RemoteWrite on resource: arn:aws:aps:eu-west-1:111122223333:workspace/ws-own";
    let rows = vec![
        row(
            "the role has no policy",
            Wrong::Permissions(COLLECTOR, None),
            DENIED,
            format!("{no_policy} because no identity-based policy allows the aps:RemoteWrite action"),
        ),
        row(
            "the policy is of another workspace",
            Wrong::Permissions(
                COLLECTOR,
                Some(
                    r#"{"Statement": {"Effect": "Allow", "Action": "aps:*",
                    "Resource": "arn:aws:aps:eu-west-1:111122223333:workspace/ws-other"}}"#,
                ),
            ),
            DENIED,
            format!("{no_policy} because no identity-based policy"),
        ),
        row(
            "the policy is of another region",
            Wrong::Permissions(
                COLLECTOR,
                Some(
                    r#"{"Statement": {"Effect": "Allow", "Action": "aps:RemoteWrite", "Resource": "*",
                    "Condition": {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}}}"#,
                ),
            ),
            DENIED,
            format!("{no_policy} because no identity-based policy"),
        ),
        row(
            "the policy allows queries only",
            Wrong::Permissions(
                COLLECTOR,
                Some(r#"{"Statement": {"Effect": "Allow", "Action": "aps:Query*", "Resource": "*"}}"#),
            ),
            DENIED,
            format!("{no_policy} because no identity-based policy"),
        ),
        row(
            "the policy denies",
            Wrong::Permissions(
                COLLECTOR,
                Some(
                    r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"},
                    {"Effect": "Deny", "Action": "aps:RemoteWrite", "Resource": "*"}]}"#,
                ),
            ),
            DENIED,
            format!("{no_policy} with an explicit deny in an identity-based policy"),
        ),
        row(
            "the workspace's policy denies",
            Wrong::ResourcePolicy(
                "ws-own",
                Some(String::from(
                    r#"{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "aps:RemoteWrite",
                    "Resource": "*"}}"#,
                )),
            ),
            DENIED,
            format!("{no_policy} with an explicit deny in a resource-based policy"),
        ),
        row(
            "the workspace is not there",
            Wrong::Call(|world, call| call.url = world.workspaces.url("ws-nowhere")),
            NOT_FOUND,
            "Workspace not found",
        ),
    ];
    check(world, rows, |world| world.write("ws-own")).await;

    // What names the role itself needs no policy of the role; what names its account does.
    world.cloud.set_permissions(COLLECTOR, None).await;
    for (principal, status) in [(COLLECTOR, 204), ("arn:aws:iam::111122223333:root", 403)] {
        let policy = serde_json::json!({ "Statement": {
            "Effect": "Allow", "Principal": { "AWS": principal }, "Action": "aps:RemoteWrite", "Resource": "*",
        }});
        world.workspaces.set_resource_policy("ws-own", Some(Policy::parse(&policy.to_string()).unwrap()));
        assert_eq!(world.write("ws-own").send().await.status, status, "{principal}");
    }
}

pub(crate) async fn policies_between_accounts(world: &World) {
    let user = "User: arn:aws:sts::111122223333:assumed-role/collector/promferry is not authorized to perform: \
                aps:RemoteWrite on resource: arn:aws:aps:eu-west-1:444455556666:workspace/ws-hub";
    let rows = vec![
        row(
            "the workspace has no policy",
            Wrong::ResourcePolicy("ws-hub", None),
            NOT_FOUND,
            "Workspace not found",
        ),
        row(
            "the workspace's policy names another account",
            Wrong::ResourcePolicy(
                "ws-hub",
                Some(String::from(
                    r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "777788889999"},
                    "Action": "aps:RemoteWrite", "Resource": "*"}}"#,
                )),
            ),
            DENIED,
            format!("{user} because no resource-based policy allows the aps:RemoteWrite action"),
        ),
        row(
            "the role has no policy",
            Wrong::Permissions(COLLECTOR, None),
            DENIED,
            format!("{user} because no identity-based policy allows the aps:RemoteWrite action"),
        ),
    ];
    check(world, rows, |world| world.write("ws-hub")).await;
}

/// A role of the workspace's account needs no resource policy; what is written is known by where its chain began.
pub(crate) async fn a_chained_role_writes(world: &World) {
    world.workspaces.set_resource_policy("ws-hub", None);
    let session = world.assume_role().send().await.session();
    let write = |body: Vec<u8>| {
        let mut call = world.write("ws-hub");
        call.signer = Some(crate::raw::Signer { service: "aps", ..session.clone() });
        call.body = body;
        call
    };
    let answer = write(series("up", &[("cluster", "a")])).send().await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(write(series("up", &[("cluster", "a")])).send().await.status, 204);
    assert_eq!(write(b"no snappy".to_vec()).send().await.status, 400);

    let stats = world.workspaces.stats("ws-hub");
    assert_eq!((stats.samples, stats.duplicates, stats.bad_requests), (2, 1, 1));
    let writers = world.workspaces.writers_of("ws-hub");
    assert_eq!(writers.len(), 1);
    let (labels, accounts) = writers.into_iter().next().unwrap();
    assert_eq!((labels["__name__"].as_str(), labels["cluster"].as_str()), ("up", "a"));
    assert_eq!(accounts.into_iter().collect::<Vec<_>>(), ["111122223333"]);

    let requests = world.workspaces.requests();
    let last = requests.last().unwrap();
    assert_eq!(last.workspace, "ws-hub");
    assert_eq!(
        last.caller_arn.as_deref(),
        Some("arn:aws:sts::444455556666:assumed-role/hub-writer/promferry")
    );
    assert_eq!(last.status.unwrap(), 400);
    assert!(world.workspaces.arn("ws-hub").contains(HUB));

    // A session that expired is refused, one of the same role that came later is not.
    world.cloud.expire_sessions(WRITER);
    let answer = write(series("up", &[])).send().await;
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (403, "ExpiredTokenException"));
    let next = world.assume_role().send().await.session();
    let mut again = write(series("up", &[]));
    again.signer = Some(crate::raw::Signer { service: "aps", ..next });
    assert_eq!(again.send().await.status, 204);
}

pub(crate) async fn guardrails(world: &World) {
    for (guardrail, reason) in [
        (Guardrail::PermissionsBoundary, "because no permissions boundary allows the aps:RemoteWrite action"),
        (Guardrail::SessionPolicy, "because no session policy allows the aps:RemoteWrite action"),
        (
            Guardrail::ServiceControlPolicy,
            "because no service control policy allows the aps:RemoteWrite action",
        ),
        (Guardrail::EndpointPolicy, "because no VPC endpoint policy allows the aps:RemoteWrite action"),
        (Guardrail::ServiceControlPolicyDeny, "with an explicit deny in a service control policy"),
        (Guardrail::EndpointPolicyDeny, "with an explicit deny in a VPC endpoint policy"),
    ] {
        world.workspaces.set_guardrail(Some(guardrail));
        let answer = world.write("ws-own").send().await;
        assert!(answer.status == 403 && answer.body.contains(reason), "{guardrail:?}: {}", answer.body);
        world.workspaces.set_reasons(false);
        let answer = world.write("ws-own").send().await;
        assert!(answer.status == 403 && !answer.body.contains(reason), "{guardrail:?}: {}", answer.body);
        world.set_right().await;
        assert_eq!(world.write("ws-own").send().await.status, 204);
    }
}
