//! What an endpoint answers to a write.

use promferry_aws_stand_in::Guardrail;
use serde_json::Value;

use crate::iam::{
    ACCOUNT, AUDIENCE, HUB, ROLE, SERVICE_ACCOUNT, may_never_write, may_write, policy, shared_with,
    workspace_arn,
};
use crate::whoami::pod::{HOUR, Pod, WORKSPACE};

#[tokio::test(flavor = "multi_thread")]
async fn the_role_may_not_write() {
    let pod = Pod::new().await;
    pod.cloud.set_permissions(ROLE, None).await;
    pod.assert_says("the-role-may-not-write", 1, Some("identity_policy")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workspace_does_not_share() {
    let mut pod = Pod::new().await;
    let arn = workspace_arn(HUB, "ws-hub");
    let others = shared_with("arn:aws:iam::999988887777:root", &arn);
    pod.workspaces.add(HUB, "ws-hub", Some(others)).await;
    pod.workspace = "ws-hub".to_owned();
    pod.cloud.set_permissions(ROLE, Some(policy(&[may_write("*")]))).await;
    pod.assert_says("the-workspace-does-not-share", 1, Some("resource_policy")).await;
    // It does, and the role may not.
    pod.workspaces.set_resource_policy("ws-hub", Some(shared_with(ROLE, &arn)));
    pod.cloud.set_permissions(ROLE, None).await;
    pod.assert_says("it-shares-and-the-role-may-not", 1, Some("identity_policy")).await;
    pod.workspaces.set_reasons(false);
    pod.assert_says("which-policy-is-not-said", 1, Some("identity_or_resource_policy")).await;
    pod.cloud.set_permissions(ROLE, Some(policy(&[may_write(&arn)]))).await;
    assert_eq!(pod.run(&[]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explicit_deny() {
    let pod = Pod::new().await;
    let arn = workspace_arn(ACCOUNT, WORKSPACE);
    pod.cloud.set_permissions(ROLE, Some(policy(&[may_write(&arn), may_never_write(&arn)]))).await;
    pod.assert_says("an-explicit-deny", 1, Some("explicit_deny")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_above_the_roles() {
    let pod = Pod::new().await;
    for (guardrail, name, kind) in [
        (Guardrail::ServiceControlPolicy, "a-service-control-policy", "organization_policy"),
        (Guardrail::ServiceControlPolicyDeny, "a-service-control-policy-that-denies", "organization_policy"),
        (Guardrail::PermissionsBoundary, "a-permissions-boundary", "permissions_boundary"),
        (Guardrail::SessionPolicy, "a-session-policy", "session_policy"),
        (Guardrail::EndpointPolicy, "an-endpoint-policy", "endpoint_policy"),
        (Guardrail::EndpointPolicyDeny, "an-endpoint-policy-that-denies", "endpoint_policy"),
    ] {
        pod.workspaces.set_guardrail(Some(guardrail));
        pod.assert_says(name, 1, Some(kind)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_workspace() {
    let mut pod = Pod::new().await;
    pod.workspaces.add(HUB, "ws-hub", None).await;
    pod.workspace = "ws-hub".to_owned();
    pod.cloud.set_permissions(ROLE, Some(policy(&[may_write("*")]))).await;
    pod.assert_says("another-accounts-workspace", 1, Some("workspace_not_found")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock() {
    let pod = Pod::new().await;
    pod.cloud.set_clock(7_230_000);
    pod.token.write(&pod.issuer.token(SERVICE_ACCOUNT, AUDIENCE, 24 * HOUR));
    pod.assert_says("a-wrong-clock", 0, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys() {
    let mut pod = Pod::new().await;
    let (user, arn) = ("arn:aws:iam::111122223333:user/writer", workspace_arn(ACCOUNT, WORKSPACE));
    let keys = pod.cloud.add_user(user, policy(&[may_write(&arn)])).await;
    pod.set("AWS_ACCESS_KEY_ID", keys.access_key_id);
    pod.set("AWS_SECRET_ACCESS_KEY", keys.secret_access_key);
    pod.assert_says("a-users-keys", 0, None).await;
    pod.cloud.add_user(user, policy(&[may_write(&workspace_arn(ACCOUNT, "ws-another"))])).await;
    assert_eq!(pod.follow_until_it_may_write().await, ["identity_policy"]);
    pod.set("AWS_SECRET_ACCESS_KEY", "bm90LXRoZS1yaWdodC1zZWNyZXQtb2YtdGhpcy1r");
    pod.assert_says("a-wrong-secret", 1, Some("signature")).await;
    pod.set("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7UNKNOWN");
    pod.assert_says("an-unknown-key", 1, Some("keys")).await;
}

/// Samples would be refused or wait there; so a page to log in at, got in place of the write, is no leave to write.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_leave_to_write() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let pod = Pod::new().await;
    for (answer, may_write, what) in [
        ("302 Found\r\nlocation: /login", Value::Bool(false), "leads elsewhere"),
        ("303 See Other\r\nlocation: /login", Value::Bool(false), "leads elsewhere"),
        ("405 Method Not Allowed", Value::Bool(false), "the URL of remote write?"),
        ("503 Service Unavailable", Value::Null, "works again"),
        ("408 Request Timeout", Value::Null, "works again"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 16 << 10];
                let length = stream.read(&mut request).await.unwrap();
                let status = if request[..length].starts_with(b"GET /login") { "200 OK" } else { answer };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        });
        let found = pod.ask(&format!("http://{address}")).await;
        assert_eq!(found["may_write"], may_write, "{answer}: {found}");
        assert_eq!(found["failure"]["kind"], "endpoint", "{found}");
        assert!(found["failure"]["what"].as_str().unwrap().contains(what), "{found}");
        serving.abort();
    }
}
