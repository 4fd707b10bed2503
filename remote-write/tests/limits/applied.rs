//! What is known of an endpoint's limits when its delivery begins anew or its series get other labels.

use std::time::Duration;

use promferry_model::Labels;
use promferry_remote_write::{EndpointChange, RemoteWriteConfig};

use crate::backend::Backend;
use crate::capped::{AMP_429, CAP, NEW, OLD, add_new, assert_complete, established, scrape_for};
use crate::receiver::Receiver;
use crate::sender;
use crate::world::{config, scrape_all, start, until};

fn anew(config: &RemoteWriteConfig) -> Vec<EndpointChange> {
    vec![sender::endpoint(config.clone()).into()]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_stays_parked_for_the_delivery_that_follows() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let config = config(receiver.url());
    let remote = start(dir.path(), vec![config.clone()]).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    scrape_for(&mut targets, 6).await;
    let is_parked = |s: &promferry_remote_write::EndpointStatus| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == OLD + NEW - CAP
    };
    until(&remote, "only what is parked waits", is_parked).await;
    for _ in 0..3 {
        // Whatever it is at just then: a probe, a pass, an ordinary request.
        remote.apply(Labels::default(), anew(&config)).await.unwrap();
        scrape_for(&mut targets, 3).await;
        until(&remote, "only what is parked waits again", is_parked).await;
    }
    backend.lock().unwrap().cap = 10 * CAP;
    tokio::time::sleep(Duration::from_millis(700)).await;
    remote.apply(Labels::default(), anew(&config)).await.unwrap();
    scrape_for(&mut targets, 2).await;
    until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    assert_complete(&backend, OLD + NEW, 1 + 6 + 3 * 3 + 2, 6 + 3 * 3 + 2);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_that_are_delivered_after_a_change_are_known_to_be_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let config = config(receiver.url());
    let remote = start(dir.path(), vec![config.clone()]).await;
    let mut targets = established(&remote).await;
    until(&remote, "they are known", |s| s.delivery.limits.accepted_series == OLD).await;
    // The same delivery, and other series to it.
    let labels = Labels::from_pairs([("cluster", "green")]);
    let change = vec![EndpointChange::SameTransport(config.clone())];
    let applied = remote.apply(labels.clone(), change).await.unwrap();
    assert!(applied.changed.is_empty() && applied.external_labels);
    scrape_all(&mut targets).await;
    until(&remote, "the others are known too", |s| s.delivery.limits.accepted_series == 2 * OLD).await;
    // Another delivery, which has seen none of their first samples.
    remote.apply(labels, anew(&config)).await.unwrap();
    scrape_all(&mut targets).await;
    until(&remote, "they are known again", |s| s.delivery.limits.accepted_series == OLD).await;
    remote.shutdown(Duration::from_secs(20)).await;
}
