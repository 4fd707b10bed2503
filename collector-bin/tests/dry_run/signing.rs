//! As whom is signed, asked at stand-ins of AWS.

use std::path::Path;
use std::time::Duration;

use promferry_aws_stand_in::{Cloud, Issuer, Policy, ProjectedToken, Sts, Workspaces};
use promferry_bench::scripted_target::{Page, ScriptedTarget};

use crate::program::{dry_run, dry_run_as};

const ACCOUNT: &str = "111122223333";
const ROLE: &str = "arn:aws:iam::111122223333:role/collector";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:monitoring:collector";
const AUDIENCE: &str = "sts.amazonaws.com";

fn write_config(folder: &Path, target: &ScriptedTarget, url: &str) {
    let config = format!(
        "scrape_configs:\n- {{job_name: a, static_configs: [{{targets: ['{}']}}]}}\n\
         remote_write:\n- {{name: amp, url: '{url}', sigv4: {{region: eu-west-1}}}}\n",
        target.address()
    );
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
}

/// With a role for a service account STS gives credentials and says whose they are; the workspace hears nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whose_credentials_they_are_is_asked_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let target = ScriptedTarget::start(Page::text("a 1\n")).await.unwrap();
    let cloud = Cloud::memory();
    let issuer = Issuer::start().await;
    cloud.add_provider(ACCOUNT, &issuer, &[AUDIENCE]).await;
    let trust = Policy::web_identity_trust(&issuer.provider_arn(ACCOUNT), SERVICE_ACCOUNT, AUDIENCE);
    cloud.add_role(ROLE, trust, None, Duration::from_secs(3600)).await;
    let workspaces = Workspaces::start(&cloud, "eu-west-1").await;
    workspaces.add(ACCOUNT, "ws-own", None).await;
    let sts = Sts::start(&cloud).await;
    let token = issuer.token(SERVICE_ACCOUNT, AUDIENCE, Duration::from_secs(3600));
    let token = ProjectedToken::new(folder.path().join("irsa"), &token);
    write_config(folder.path(), &target, &workspaces.url("ws-own"));
    let variables = [
        ("AWS_ROLE_ARN", ROLE.to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().display().to_string()),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ];
    let path = folder.path().to_owned();
    let run = tokio::task::spawn_blocking(move || {
        dry_run_as(&path, &["--config.file=prometheus.yml"], |command| {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").envs(variables);
        })
    });
    let run = run.await.unwrap();
    assert_eq!((run.status, run.findings()), (0, vec![]), "{run:?}");
    let told = "    signs as arn:aws:sts::111122223333:assumed-role/collector/";
    assert!(run.report.contains(told) && run.report.contains(", until 20"), "{}", run.report);
    assert!(workspaces.requests().is_empty(), "{:?}", workspaces.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_had_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let target = ScriptedTarget::start(Page::text("a 1\n")).await.unwrap();
    let url = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write";
    write_config(folder.path(), &target, url);
    let path = folder.path().to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let well = dry_run(&path, &["--config.file=prometheus.yml"]);
        let none = dry_run_as(&path, &["--config.file=prometheus.yml"], |command| {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        });
        (well, none)
    });
    let (well, none) = run.await.unwrap();
    assert_eq!((well.status, well.findings()), (0, vec![]), "{well:?}");
    let findings = none.findings();
    let [finding] = findings.as_slice() else { panic!("{none:?}") };
    assert!(
        finding.starts_with("prometheus.yml:4: remote_write amp: there is nothing to sign with: "),
        "{finding}"
    );
    assert!(none.report.contains("\n    there is nothing to sign with\n"), "{}", none.report);
    assert_eq!(none.status, 1);
}
