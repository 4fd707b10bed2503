//! Roles assumed one with the other.

use std::time::Duration;

use promferry_aws_stand_in::{Outcome, Policy};

use crate::collector::until;
use crate::iam::{HUB, ROLE, may_assume, may_write, policy, workspace_arn};
use crate::pinned::assert_pinned;
use crate::scene::{APS, Scene, scenes};

scenes![right_wrong_and_missing_external_id, three_roles];

const HOUR: Duration = Duration::from_secs(3600);
const WRITER: &str = "arn:aws:iam::444455556666:role/writer";

/// Three endpoints assume the same role, each its own way; the trust policy takes up one after the other.
async fn right_wrong_and_missing_external_id() {
    let mut scene = Scene::new().await;
    let write = [APS, "wrong", "missing"].map(|name| may_write(&workspace_arn(HUB, &format!("ws-{name}"))));
    scene
        .cloud
        .add_role(WRITER, Policy::role_trust(ROLE, Some("cluster-7")), Some(policy(&write)), HOUR)
        .await;
    scene.cloud.set_permissions(ROLE, Some(policy(&[may_assume(WRITER)]))).await;
    let role = format!(", role_arn: '{WRITER}'");
    scene.add_endpoint(APS, HUB, "ws-aps", &format!("{role}, external_id: cluster-7")).await;
    scene.add_endpoint("wrong", HUB, "ws-wrong", &format!("{role}, external_id: cluster-8")).await;
    scene.add_endpoint("missing", HUB, "ws-missing", &role).await;
    scene.start().await;
    scene.until_more(3).await;
    for name in ["wrong", "missing"] {
        let said = scene.said(&[&format!(" {name}: "), "the data is kept"]).await;
        assert_pinned(&format!("{name}-external-id"), &said);
        assert_eq!(scene.answers(name), [0; 0], "nothing is sent without credentials");
    }
    // As somebody sets it right: each id is one that the role takes.
    for (name, id) in [("wrong", Some("cluster-8")), ("missing", None)] {
        scene.cloud.set_trust(WRITER, Policy::role_trust(ROLE, id)).await;
        scene.until_drained(name).await;
    }
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// Web identity, then a second role and with that a third, which alone may write.
async fn three_roles() {
    const SECOND: &str = "arn:aws:iam::222233334444:role/second";
    let mut scene = Scene::new().await;
    let write = policy(&[may_write(&workspace_arn(HUB, "ws-hub"))]);
    scene.cloud.set_permissions(ROLE, Some(policy(&[may_assume(SECOND)]))).await;
    scene
        .cloud
        .add_role(SECOND, Policy::role_trust(ROLE, None), Some(policy(&[may_assume(WRITER)])), HOUR)
        .await;
    scene.cloud.add_role(WRITER, Policy::role_trust(SECOND, Some("cluster-7")), Some(write), HOUR).await;
    let roles =
        format!(", roles: [{{role_arn: '{SECOND}'}}, {{role_arn: '{WRITER}', external_id: cluster-7}}]");
    scene.add_endpoint(APS, HUB, "ws-hub", &roles).await;
    scene.sts.set_lifetime(Some(Duration::from_secs(15)));
    scene.start().await;
    until("they are renewed", async || scene.refreshes().len() >= 6).await;
    scene.until_more(2).await;
    let calls = scene.refreshes();
    assert!(calls.iter().all(|call| matches!(call.outcome, Outcome::Given { .. })), "{calls:?}");
    for chain in calls.chunks_exact(3) {
        let [base, second, third] = chain else { unreachable!("three") };
        assert_eq!([base, second, third].map(|call| call.role_arn.as_str()), [ROLE, SECOND, WRITER]);
        assert_eq!(base.access_key_id, None, "a token needs no signature");
        for (before, call) in [(base, second), (second, third)] {
            let Outcome::Given { access_key_id, .. } = &before.outcome else { unreachable!("given") };
            assert_eq!(
                call.access_key_id.as_ref(),
                Some(access_key_id),
                "each is signed with the one before"
            );
        }
    }
    scene.assert_never_refused();
    let writes = scene.workspaces.requests();
    let caller = writes[0].caller_arn.as_deref().unwrap();
    assert!(caller.starts_with("arn:aws:sts::444455556666:assumed-role/writer/"), "{caller}");
    scene.said(&["remote_write aps: signs as", &format!("as {caller} ")]).await;
    scene.ends_whole().await;
}
