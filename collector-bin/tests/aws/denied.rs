//! Every way in which AWS can refuse, what is said of it, and that nothing is lost until it is put right.

use std::time::Duration;

use promferry_aws_stand_in::{Fault, Guardrail, Policy};

use crate::iam::{
    ACCOUNT, AUDIENCE, HUB, ROLE, SERVICE_ACCOUNT, may_assume, may_never_write, may_write,
    never_from_anybody, policy, shared_with, workspace_arn,
};
use crate::pinned::assert_pinned;
use crate::scene::{APS, Scene, WORKSPACE, scenes};

scenes![
    by_the_service_account,
    by_guardrails,
    by_workspaces,
    by_roles,
    by_keys_and_regions,
    by_expired_keys,
    by_who_shows_what_was_sent
];

const HOUR: Duration = Duration::from_secs(3600);

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

impl Scene {
    /// An endpoint that writes with a role of its own, which the pod's role may assume and which may write to it.
    async fn add_writer(&mut self, name: &str, account: &str) {
        let arn = workspace_arn(account, &format!("ws-{name}"));
        let role = role(name);
        self.cloud
            .add_role(&role, Policy::role_trust(ROLE, None), Some(policy(&[may_write(&arn)])), HOUR)
            .await;
        self.add_endpoint(name, account, &format!("ws-{name}"), &format!(", role_arn: '{role}'")).await;
    }

    /// The pod's role may assume any role, and still write to its own workspace.
    async fn let_assume(&self, roles: &str) {
        let own = may_write(&workspace_arn(ACCOUNT, WORKSPACE));
        self.cloud.set_permissions(ROLE, Some(policy(&[own, may_assume(roles)]))).await;
    }

    /// Waits until each of these endpoints says what is wrong with it, which is pinned, while the healthy one goes on
    /// and nothing of theirs arrives.
    async fn assert_denied(&mut self, names: &[&str]) {
        self.assert_denied_as(names, "").await;
    }

    async fn assert_denied_as(&mut self, names: &[&str], kind: &str) {
        for name in names {
            let said = self.said(&[&format!(" {name}: "), "the data is kept"]).await;
            assert_pinned(&format!("{name}{kind}"), &said);
        }
        self.until_more(3).await;
        self.look().await;
        assert_eq!(self.ask_who().await, 1);
        for name in names {
            let answers = self.answers(name);
            assert!(answers.iter().all(|status| *status >= 400), "{name}: {answers:?}");
        }
        self.assert_never_refused();
    }
}

/// One collector, a workspace for each way to be refused by one, and one that takes everything.
async fn by_workspaces() {
    let mut scene = Scene::new().await;
    scene.let_assume("*").await;
    let arn = |account: &str, name: &str| workspace_arn(account, &format!("ws-{name}"));
    scene.add_writer("no-policy", ACCOUNT).await;
    scene.cloud.set_permissions(&role("no-policy"), None).await;
    scene.add_writer("explicit-deny", ACCOUNT).await;
    let denied = arn(ACCOUNT, "explicit-deny");
    let deny = policy(&[may_write(&denied), may_never_write(&denied)]);
    scene.cloud.set_permissions(&role("explicit-deny"), Some(deny)).await;
    scene.add_writer("denied-by-workspace", ACCOUNT).await;
    let workspace = arn(ACCOUNT, "denied-by-workspace");
    let nobody = never_from_anybody(&workspace);
    scene.workspaces.set_resource_policy("ws-denied-by-workspace", Some(nobody));
    // Another account's workspace is not seen at all: neither by a role that may write to that one, nor by one that may
    // write to any.
    scene.add_writer("not-shared", HUB).await;
    scene.add_writer("not-found", HUB).await;
    let any = policy(&[may_write("*")]);
    scene.cloud.set_permissions(&role("not-found"), Some(any.clone())).await;
    scene.add_writer("shared-with-others", HUB).await;
    let others = shared_with("arn:aws:iam::999988887777:root", &arn(HUB, "shared-with-others"));
    scene.workspaces.set_resource_policy("ws-shared-with-others", Some(others));
    scene.add_writer("not-there", ACCOUNT).await;
    scene.cloud.set_permissions(&role("not-there"), Some(any)).await;
    scene.write_to("not-there", "ws-nowhere", &format!(", role_arn: '{}'", role("not-there")));
    scene.start().await;
    let names = [
        "no-policy",
        "explicit-deny",
        "denied-by-workspace",
        "not-shared",
        "not-found",
        "shared-with-others",
        "not-there",
    ];
    scene.assert_denied(&names).await;

    let write = |name: &str| Some(policy(&[may_write(&arn(ACCOUNT, name))]));
    scene.cloud.set_permissions(&role("no-policy"), write("no-policy")).await;
    scene.cloud.set_permissions(&role("explicit-deny"), write("explicit-deny")).await;
    scene.workspaces.set_resource_policy("ws-denied-by-workspace", None);
    for name in ["not-shared", "not-found", "shared-with-others"] {
        let shared = shared_with(&role(name), &arn(HUB, name));
        scene.workspaces.set_resource_policy(&format!("ws-{name}"), Some(shared));
    }
    scene.workspaces.add(ACCOUNT, "ws-nowhere", None).await;
    scene.ends_whole().await;
}

/// What the organisation, the role's own limits or the network's endpoint do not let through, and a refusal that hides
/// its reason.
async fn by_guardrails() {
    tokio::join!(
        guarded("boundary", Some(Guardrail::PermissionsBoundary)),
        guarded("session-policy", Some(Guardrail::SessionPolicy)),
        guarded("service-control-policy", Some(Guardrail::ServiceControlPolicy)),
        guarded("service-control-policy-deny", Some(Guardrail::ServiceControlPolicyDeny)),
        guarded("endpoint-policy", Some(Guardrail::EndpointPolicy)),
        guarded("endpoint-policy-deny", Some(Guardrail::EndpointPolicyDeny)),
        guarded("no-reason", None),
        without_reason_of_another_account(),
    );
}

async fn guarded(name: &str, guardrail: Option<Guardrail>) {
    let mut scene = Scene::new().await;
    scene.workspaces.set_guardrail(guardrail);
    if guardrail.is_none() {
        scene.workspaces.set_reasons(false);
        scene.cloud.set_permissions(ROLE, None).await;
    }
    scene.start().await;
    assert_pinned(name, &scene.said(&[" aps: ", "the data is kept"]).await);
    scene.until_waiting(APS, 3).await;
    assert!(scene.answers(APS).iter().all(|status| *status == 403), "{name}");
    scene.workspaces.set_guardrail(None);
    let own = may_write(&workspace_arn(ACCOUNT, WORKSPACE));
    scene.cloud.set_permissions(ROLE, Some(policy(&[own]))).await;
    scene.ends_whole().await;
}

/// Which of the two policies that it takes is missing is not said between accounts of different organisations.
async fn without_reason_of_another_account() {
    let mut scene = Scene::new().await;
    scene.workspaces.set_reasons(false);
    scene.add_endpoint(APS, HUB, "ws-hub", "").await;
    let arn = workspace_arn(HUB, "ws-hub");
    scene.workspaces.set_resource_policy("ws-hub", Some(shared_with(ROLE, &arn)));
    scene.start().await;
    assert_pinned("no-reason-of-another-account", &scene.said(&[" aps: ", "the data is kept"]).await);
    scene.until_waiting(APS, 3).await;
    assert!(scene.answers(APS).iter().all(|status| *status == 403));
    scene.cloud.set_permissions(ROLE, Some(policy(&[may_write(&arn)]))).await;
    scene.ends_whole().await;
}

/// The same for roles that cannot be assumed: nothing is sent, as there is nothing to sign with.
async fn by_roles() {
    tokio::join!(roles_that_refuse(""), roles_that_refuse("-with-reason"));
}

/// STS says why in newer texts, and did not in older ones.
async fn roles_that_refuse(kind: &str) {
    let mut scene = Scene::new().await;
    scene.sts.set_reasons(!kind.is_empty());
    scene.let_assume(&role("no-*")).await;
    scene.add_writer("no-trust", ACCOUNT).await;
    scene.cloud.set_trust(&role("no-trust"), Policy::role_trust(&role("somebody-else"), None)).await;
    let nobody = format!(", role_arn: '{}'", role("no-role"));
    scene.add_endpoint("no-role", ACCOUNT, "ws-no-role", &nobody).await;
    scene.add_writer("may-not-assume", HUB).await;
    let hub_role = "arn:aws:iam::444455556666:role/may-not-assume";
    let write = policy(&[may_write(&workspace_arn(HUB, "ws-may-not-assume"))]);
    scene.cloud.add_role(hub_role, Policy::role_trust(ROLE, None), Some(write), HOUR).await;
    scene.write_to("may-not-assume", "ws-may-not-assume", &format!(", role_arn: '{hub_role}'"));
    scene.start().await;
    let names = ["no-trust", "no-role", "may-not-assume"];
    scene.assert_denied_as(&names, kind).await;
    for name in names {
        assert_eq!(scene.answers(name), [0; 0], "{name}: nothing is sent without credentials");
    }

    scene.cloud.set_trust(&role("no-trust"), Policy::role_trust(ROLE, None)).await;
    let write = policy(&[may_write(&workspace_arn(ACCOUNT, "ws-no-role"))]);
    scene.cloud.add_role(&role("no-role"), Policy::role_trust(ROLE, None), Some(write), HOUR).await;
    scene.let_assume("*").await;
    scene.ends_whole().await;
}

/// What is wrong in the file is put right in the file: the next start delivers what waits.
async fn by_keys_and_regions() {
    let mut scene = Scene::new().await;
    let mut right = Vec::new();
    let wrong_secret = "bm90LXRoZS1yaWdodC1zZWNyZXQtb2YtdGhpcy1r";
    scene.add_secret(wrong_secret);
    for name in ["unknown-key", "wrong-secret", "wrong-region"] {
        let arn = workspace_arn(ACCOUNT, &format!("ws-{name}"));
        let user = format!("arn:aws:iam::{ACCOUNT}:user/{name}");
        let keys = scene.cloud.add_user(&user, policy(&[may_write(&arn)])).await;
        let sigv4 = |id: &str, secret: &str| format!(", access_key: {id}, secret_key: '{secret}'");
        let wrong = match name {
            "unknown-key" => sigv4("AKIAIOSFODNN7UNKNOWN", &keys.secret_access_key),
            "wrong-secret" => sigv4(&keys.access_key_id, wrong_secret),
            _ => sigv4(&keys.access_key_id, &keys.secret_access_key) + ", region: us-east-1",
        };
        scene.add_endpoint(name, ACCOUNT, &format!("ws-{name}"), &wrong).await;
        right.push((name, sigv4(&keys.access_key_id, &keys.secret_access_key)));
    }
    scene.start().await;
    scene.assert_denied(&["unknown-key", "wrong-secret", "wrong-region"]).await;
    scene.stop().await;
    for (name, sigv4) in right {
        scene.write_to(name, &format!("ws-{name}"), &sigv4);
    }
    scene.start().await;
    scene.ends_whole().await;
}

/// Keys of a session, as they are copied from a console into the environment: they end, and nothing renews them.
async fn by_expired_keys() {
    let mut scene = Scene::new().await;
    let [id, secret, token] = scene.session_of_its_own().await;
    let names = ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"];
    let pod: Vec<_> = names.iter().map(|name| scene.unset(name)).collect();
    for (name, value) in
        [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_SESSION_TOKEN", token)]
    {
        scene.set(name, &value);
    }
    scene.start().await;
    scene.until_more(2).await;
    scene.cloud.expire_sessions(ROLE);
    assert_pinned("expired-keys", &scene.said(&[" aps: ", "the data is kept"]).await);
    scene.until_waiting(APS, 3).await;
    scene.stop().await;
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        scene.unset(name);
    }
    for (name, value) in names.iter().zip(pod) {
        scene.set(name, &value);
    }
    scene.start().await;
    scene.ends_whole().await;
}

/// Everything about a service account's token is wrong at first, and put right one by one.
async fn by_the_service_account() {
    let mut scene = Scene::new().await;
    let elsewhere = format!("arn:aws:iam::{HUB}:role/collector");
    let issuer = scene.issuer.clone();
    let trust = |subject: &str, audience: &str| {
        Policy::web_identity_trust(&issuer.provider_arn(HUB), subject, audience)
    };
    let write = policy(&[may_write(&workspace_arn(ACCOUNT, WORKSPACE))]);
    scene
        .cloud
        .add_role(&elsewhere, trust("system:serviceaccount:default:other", AUDIENCE), Some(write), HOUR)
        .await;
    let shared = shared_with(&elsewhere, &workspace_arn(ACCOUNT, WORKSPACE));
    scene.workspaces.set_resource_policy(WORKSPACE, Some(shared));
    scene.set("AWS_ROLE_ARN", &elsewhere);
    let good = scene.issuer.token(SERVICE_ACCOUNT, AUDIENCE, HOUR);
    let refused = "there are no valid AWS credentials";
    scene.token.write("");
    scene.start().await;
    assert_pinned("token-empty", &scene.said(&[refused, "is empty"]).await);
    scene.token.write("not.a-token");
    assert_pinned("token-nonsense", &scene.said(&[refused, "not a valid JWT"]).await);
    scene.token.write(&good);
    assert_pinned("token-no-provider", &scene.said(&[refused, "No OpenIDConnect provider found"]).await);
    scene.cloud.add_provider(HUB, &scene.issuer, &[AUDIENCE]).await;
    assert_pinned("token-subject", &scene.said(&[refused, "Not authorized"]).await);
    scene.cloud.set_trust(&elsewhere, trust(SERVICE_ACCOUNT, AUDIENCE)).await;
    scene.token.write(&scene.issuer.token(SERVICE_ACCOUNT, "another", HOUR));
    assert_pinned("token-audience", &scene.said(&[refused, "Incorrect token audience"]).await);
    scene.token.write(&scene.token_for(Duration::ZERO));
    assert_pinned("token-expired", &scene.said(&[refused, "Token expired"]).await);
    assert_eq!(scene.answers(APS), [0; 0], "nothing is sent without credentials");
    scene.token.write(&good);
    scene.ends_whole().await;
}

/// A proxy's page, say, with all that it was asked: in the log, on the pages and in whoami's answer there is no secret of
/// it, as the end of every scene demands.
async fn by_who_shows_what_was_sent() {
    let mut scene = Scene::new().await;
    scene.sts.set_fault(Fault::Echo);
    scene.start().await;
    scene.said(&["AWS credentials", "not one of STS"]).await;
    assert_eq!(scene.ask_who().await, 1);
    scene.sts.set_fault(Fault::None);
    scene.until_more(1).await;
    scene.workspaces.set_fault(Fault::Echo);
    let said = scene.said(&[" aps: ", "403 Forbidden", "headers", "the data is kept"]).await;
    assert_eq!(said.matches("headers").count(), 1, "the page is shown once: {said}");
    assert_eq!(scene.ask_who().await, 1);
    scene.look().await;
    scene.workspaces.set_fault(Fault::None);
    // So little waits that it may look drained before it is tried again.
    scene.until_more(1).await;
    scene.ends_whole().await;
}
