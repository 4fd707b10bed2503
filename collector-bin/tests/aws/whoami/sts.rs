//! Roles that STS does not give.

use std::time::Duration;

use promferry_aws_stand_in::{Fault, Policy};

use crate::iam::{ACCOUNT, AUDIENCE, HUB, ROLE, SERVICE_ACCOUNT};
use crate::whoami::pod::{HOUR, HUB_ROLE, Pod};

#[tokio::test(flavor = "multi_thread")]
async fn sts_takes_no_more_calls() {
    let pod = Pod::new().await;
    pod.sts.set_fault(Fault::Throttling);
    pod.assert_says("sts-takes-no-more-calls", 1, Some("sts")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_answers_for_sts() {
    let pod = Pod::new().await;
    pod.sts.set_fault(Fault::Nonsense);
    pod.assert_says("somebody-else-answers-for-sts", 1, Some("sts")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_refuses_sub() {
    let pod = Pod::new().await;
    let other = Policy::web_identity_trust(
        &pod.issuer.provider_arn(ACCOUNT),
        "system:serviceaccount:default:other",
        AUDIENCE,
    );
    pod.cloud.set_trust(ROLE, other).await;
    pod.assert_says("the-trust-refuses-sub", 1, Some("role_trust")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_refuses_aud() {
    let pod = Pod::new().await;
    pod.token.write(&pod.issuer.token(SERVICE_ACCOUNT, "vault", HOUR));
    pod.assert_says("the-trust-refuses-aud", 1, Some("identity_provider")).await;
    // Both ways that are named lead on.
    pod.cloud.add_provider(ACCOUNT, &pod.issuer, &[AUDIENCE, "vault"]).await;
    assert_eq!(pod.follow_until_it_may_write().await, ["role_trust"]);
    pod.cloud.add_provider(ACCOUNT, &pod.issuer, &[AUDIENCE]).await;
    pod.token.write(&pod.issuer.token(SERVICE_ACCOUNT, AUDIENCE, HOUR));
    assert_eq!(pod.follow_until_it_may_write().await, ["role_trust"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_provider() {
    let mut pod = Pod::new().await;
    pod.set("AWS_ROLE_ARN", HUB_ROLE);
    pod.assert_says("no-provider", 1, Some("identity_provider")).await;
    pod.cloud.add_provider(HUB, &pod.issuer, &[AUDIENCE]).await;
    pod.workspaces.add(HUB, "ws-hub", None).await;
    pod.workspace = "ws-hub".to_owned();
    assert_eq!(pod.follow_until_it_may_write().await, ["role_trust", "identity_policy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token() {
    let pod = Pod::new().await;
    pod.token.write(&pod.issuer.token(SERVICE_ACCOUNT, AUDIENCE, Duration::ZERO));
    pod.assert_says("an-expired-token", 1, Some("token_expired")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_by_another_key() {
    let pod = Pod::new().await;
    pod.token.write(&pod.issuer.token_by_another_key(SERVICE_ACCOUNT, AUDIENCE, HOUR));
    pod.assert_says("a-token-by-another-key", 1, Some("token")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_there() {
    let mut pod = Pod::new().await;
    pod.set("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/colector");
    pod.assert_says("a-role-that-is-not-there", 1, Some("role_trust")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_may_not_assume() {
    let pod = Pod::of_a_hub(None).await;
    pod.sts.set_reasons(true);
    pod.cloud.set_permissions(ROLE, None).await;
    pod.assert_says("the-caller-may-not-assume", 1, Some("caller_policy")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_does_not_trust() {
    let mut pod = Pod::of_a_hub(Some("cluster-7")).await;
    pod.sts.set_reasons(true);
    pod.assert_says("the-external-id-is-missing", 1, Some("role_trust")).await;
    pod.sigv4 += ", external_id: cluster-8";
    pod.assert_says("the-external-id-is-wrong", 1, Some("role_trust")).await;
    pod.sts.set_reasons(false);
    pod.assert_says("which-side-is-not-said", 1, Some("caller_policy_or_role_trust")).await;
}
