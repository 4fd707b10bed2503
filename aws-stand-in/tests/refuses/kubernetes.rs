//! Tokens of a real Kubernetes API server.

use std::path::PathBuf;
use std::time::Duration;

use promferry_aws_stand_in::{Cloud, KubernetesApi, Policy};

use crate::world::{AUDIENCE, CLUSTER, HOUR, SUBJECT, World};

const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/KUBERNETES";
const ROLE: &str = "arn:aws:iam::111122223333:role/kubernetes";
/// The least that an API server gives.
const LIFETIME: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_token_request_is_taken_and_a_token_of_another_account_is_not() {
    let peers = std::env::var_os("PROMFERRY_PEERS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"), PathBuf::from);
    let Some(api) = KubernetesApi::start(&peers, ISSUER).await else {
        // Building the two takes ten minutes and more: only the full tier does.
        let is_full_tier = std::env::var_os("PROMFERRY_TIER").is_some_and(|tier| tier == "full");
        assert!(!is_full_tier, "scripts/peers did not provide kube-apiserver and etcd");
        eprintln!(
            "SKIPPED a_token_request…: no kube-apiserver and etcd, run scripts/peers kube-apiserver etcd"
        );
        return;
    };
    api.add_service_account("monitoring", "promferry").await;
    api.add_service_account("monitoring", "other").await;
    api.add_service_account("default2", "promferry").await;
    let issuer = api.issuer().await;
    let world = World::over(Cloud::memory()).await;
    world.cloud.add_provider(CLUSTER, &issuer, &[AUDIENCE]).await;
    let trust = Policy::web_identity_trust(&issuer.provider_arn(CLUSTER), SUBJECT, AUDIENCE);
    world.cloud.add_role(ROLE, trust, None, HOUR).await;
    let call = |token: &str| world.web_identity().with("RoleArn", ROLE).with("WebIdentityToken", token);

    let right = api.token("monitoring", "promferry", AUDIENCE, LIFETIME).await;
    let answer = call(&right).send().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.element("SubjectFromWebIdentityToken"), SUBJECT);

    for (token, code, message) in [
        (
            api.token("monitoring", "other", AUDIENCE, LIFETIME).await,
            "AccessDenied",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        ),
        (
            api.token("default2", "promferry", AUDIENCE, LIFETIME).await,
            "AccessDenied",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        ),
        (
            api.token("monitoring", "promferry", "vault.example", LIFETIME).await,
            "InvalidIdentityToken",
            "Incorrect token audience",
        ),
        // The same claims, but not by the API server's key.
        (
            issuer.token(SUBJECT, AUDIENCE, LIFETIME),
            "InvalidIdentityToken",
            "Couldn't retrieve verification key from your identity provider",
        ),
        // A right token for another role, whose trust is in another issuer.
        (world.token(), "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
    ] {
        let answer = call(&token).send().await;
        assert_eq!(answer.element("Code"), code, "{}", answer.body);
        assert!(answer.element("Message").starts_with(message), "{}", answer.body);
    }

    assert_eq!(call(&right).send().await.status, 200);
    world.cloud.set_clock(700_000);
    assert_eq!(call(&right).send().await.element("Code"), "ExpiredTokenException");
}
