//! Files that a configuration names: what changes in them is used without reading the configuration again.

use promferry_bench::ledger::Judgement;
use promferry_bench::scripted_target::{Page, ScriptedTarget};
use promferry_bench::sink::Sink;

use crate::collector::{config, until};
use crate::triggers::start;
use crate::volume::Volume;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_changes_is_said_once_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut secret = Volume::new(&folder.path().join("secret"), &[("token", "first"), ("other", "")]);
    let target = ScriptedTarget::start(Page::text("a 1\n")).await.unwrap();
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    let config = config(&[target.address()], &sink, "500ms")
        .replace("job_name: farm\n", "job_name: farm\n  authorization: {credentials_file: secret/token}\n");
    let collector = start(folder.path(), &config, "--config.auto-reload-interval=200ms");
    let sees = async |token: &str| {
        let authorization = format!("Bearer {token}");
        until(token, async || {
            target.scrapes().last().is_some_and(|scrape| {
                scrape.headers.get("authorization").is_some_and(|seen| *seen == authorization)
            })
        })
        .await;
    };
    sees("first").await;
    secret.swap(&[("token", "second"), ("other", "")]);
    sees("second").await;
    let said = |text: &str| collector.log().lines().filter(|line| line.contains(text)).count();
    let changed = "has changed and is used as it is from now on (authorization.credentials_file of job farm)";
    until("it is said", async || said(changed) == 1).await;
    secret.swap(&[("other", "")]);
    until("it is said", async || said("secret/token can't be read: ") == 1).await;
    secret.swap(&[("token", "third"), ("other", "")]);
    sees("third").await;
    until("it is said", async || said("secret/token can be read now") == 1).await;
    assert_eq!((said(changed), said("secret/token can't be read: ")), (1, 1), "{}", collector.log());
    assert_eq!(said("reloaded"), 0, "{}", collector.log());
    for token in ["first", "second", "third"] {
        assert!(!collector.log().contains(&format!("Bearer {token}")));
    }
}
