//! What `promferry aws whoami` says in a pod, held against files: one for each thing that can be wrong.

mod pod;
mod policies;
mod provider;
mod sts;
mod way;
mod write;

use crate::whoami::pod::{Pod, WORKSPACE};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_right() {
    let pod = Pod::new().await;
    pod.assert_says("everything-is-right", 0, None).await;
    let asked = pod.workspaces.requests();
    assert!(asked.iter().all(|write| write.status.is_some_and(|status| status.as_u16() < 401)), "{asked:?}");
    let calls: Vec<String> = pod.sts.calls().iter().map(|call| call.action.clone()).collect();
    assert_eq!(calls[..2], ["AssumeRoleWithWebIdentity", "GetCallerIdentity"]);
    assert_eq!(pod.workspaces.received(WORKSPACE), Default::default(), "nothing is stored");

    let without = pod.run(&["--no-write"]).await;
    assert_eq!(without.code, 0, "{}", without.text);
    assert!(without.text.contains("not asked"), "{}", without.text);
    assert_eq!(pod.workspaces.requests().len(), asked.len(), "nothing is sent");

    let url = format!("--url={}", pod.workspaces.url(WORKSPACE));
    let by_flags = pod.run(&[&url, "--region=eu-west-1"]).await;
    assert_eq!(by_flags.code, 0, "{}", by_flags.text);
    let with_password = url.replace("http://", "http://user:pass-word@") + "?key=in-the-query";
    for flag in ["--no-write", "--json"] {
        let said = pod.run(&[&with_password, "--region=eu-west-1", flag]).await.text;
        assert!(said.contains("remote_write"), "{said}");
        assert!(!said.contains("pass-word") && !said.contains("in-the-query"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_two_roles() {
    let mut pod = Pod::of_a_hub(Some("cluster-7")).await;
    pod.sigv4 += ", external_id: cluster-7";
    pod.assert_says("a-chain-of-two-roles", 0, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_question_is_wrong() {
    let mut pod = Pod::new().await;
    for (flags, needle) in [
        (&["--endpoint=other"][..], "no remote_write entry called \"other\""),
        (&["--url=https://amp.example.com/"], "sigv4.region"),
    ] {
        pod.unset("AWS_REGION");
        let said = pod.run(flags).await;
        assert_eq!(said.code, 2, "{}", said.text);
        assert!(said.text.contains(needle), "{}", said.text);
    }
    pod.sigv4 = ", role_arn: nonsense".to_owned();
    let said = pod.run(&[]).await;
    assert_eq!(said.code, 2, "{}", said.text);
    assert!(said.text.contains("role_arn"), "{}", said.text);
}
