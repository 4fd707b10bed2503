//! All policies of the way.

use promferry_aws_stand_in::Policy;
use serde_json::Value;

use crate::iam::{ACCOUNT, AUDIENCE, ROLE};
use crate::pinned::assert_is_in_file;
use crate::whoami::pod::{HUB_ROLE, Pod};

/// Of an account where nothing is set up yet: all at once.
#[tokio::test(flavor = "multi_thread")]
async fn all_policies_of_the_way() {
    let mut pod = Pod::of_a_hub(None).await;
    pod.sigv4 += ", external_id: cluster-7";
    pod.cloud.set_trust(ROLE, Policy::no_trust()).await;
    pod.cloud.set_trust(HUB_ROLE, Policy::no_trust()).await;
    pod.cloud.set_permissions(HUB_ROLE, None).await;
    pod.cloud.set_permissions(ROLE, None).await;
    let said = pod.run(&["--policies"]).await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_is_in_file("whoami/all-policies-of-the-way", &pod.steady(&said.text));
    let json: Value = serde_json::from_str(&pod.run(&["--json"]).await.text).unwrap();
    for needed in json["endpoints"][0]["policies"].as_array().unwrap() {
        pod.give(needed).await;
    }
    assert_eq!(pod.run(&[]).await.code, 0, "nothing more is needed");
}

/// Step by step, the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pasted_helps() {
    let mut pod = Pod::of_a_hub(None).await;
    pod.sigv4 += ", external_id: cluster-7";
    let other = Policy::web_identity_trust(
        &pod.issuer.provider_arn(ACCOUNT),
        "system:serviceaccount:default:other",
        AUDIENCE,
    );
    pod.cloud.set_trust(ROLE, other).await;
    pod.cloud.set_trust(HUB_ROLE, Policy::no_trust()).await;
    pod.cloud.set_permissions(HUB_ROLE, None).await;
    pod.cloud.set_permissions(ROLE, None).await;
    let kinds = pod.follow_until_it_may_write().await;
    assert_eq!(kinds, ["role_trust", "caller_policy_or_role_trust", "identity_policy"]);
}
