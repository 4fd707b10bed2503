//! Delivery is handed over while requests are under way.

use std::time::{Duration, Instant};

use promferry_model::{PromDuration, SinkError};
use promferry_remote_write::StartError;
use promferry_remote_write::spool::SpoolError;
use tokio::net::TcpListener;

use crate::receiver::Receiver;
use crate::setup::{Target, anew, cluster, config, drained, same, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_a_change_that_waits_for_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = Receiver::start().await;
    let configs = [config("silent", silent.local_addr().unwrap()), config("well", receiver.address)];
    let remote = start(dir.path(), cluster("blue"), configs.to_vec()).await;
    let mut target = Target::open(&remote, "a:80", 10);
    target.scrape(0).await;
    let connection = silent.accept().await.unwrap();
    receiver.until("the other one has it", |receiver| receiver.count() == 10).await;

    // It waits for the answer to the request that is on its way.
    let changes = || vec![anew(config("silent", receiver.address)), same(&configs[1])];
    let applying = tokio::spawn({
        let remote = remote.clone();
        let changes = changes();
        async move { remote.apply(cluster("green"), changes).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!applying.is_finished());
    target.scrape(1).await;
    let started = Instant::now();
    let status = remote.shutdown(Duration::from_secs(2)).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let applied = applying.await.unwrap();
    assert!(matches!(applied, Ok(_) | Err(StartError::Spool(SpoolError::Closed))), "{applied:?}");
    for endpoint in &status {
        assert!(endpoint.ledger.balances(), "{endpoint:?}");
        assert_eq!(endpoint.ledger.accepted.samples, 20, "{endpoint:?}");
    }
    assert_eq!(status[1].ledger.delivered.samples, 20, "what nobody holds up is sent");
    let late = remote.apply(cluster("green"), changes()).await;
    assert!(matches!(late, Err(StartError::Spool(SpoolError::Closed))), "{late:?}");
    target.begin(2);
    assert_eq!(target.commit().await, Err(SinkError::Closed));
    drop((connection, target, remote));

    // What was not answered waits still, and goes on in the new way.
    let remote = start(dir.path(), cluster("green"), vec![config("silent", receiver.address)]).await;
    assert_eq!(drained(&remote).await["silent"].ledger.delivered.samples, 20);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_begins_while_delivery_is_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = Receiver::start().await;
    let mut config = config("amp", silent.local_addr().unwrap());
    config.remote_timeout = PromDuration::from_millis(1500);
    config.queue_config.min_shards = 8;
    let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
    Target::open(&remote, "a:80", 10).scrape(0).await;
    let connection = silent.accept().await.unwrap();
    let mut there = config.clone();
    there.url = receiver.url();
    let applying = tokio::spawn({
        let (remote, changes) = (remote.clone(), vec![anew(there)]);
        async move { remote.apply(cluster("blue"), changes).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    // These wait for whoever comes next.
    for target in 0..20 {
        Target::open(&remote, &format!("b-{target}:80"), 10).scrape(1).await;
    }
    // Nor does the one that had no answer begin again.
    let another = tokio::time::timeout(Duration::from_millis(2500), silent.accept()).await;
    assert!(another.is_err(), "{another:?}");
    let applied = tokio::time::timeout(Duration::from_secs(10), applying).await;
    applied.expect("the request had its time").unwrap().unwrap();
    let status = drained(&remote).await;
    assert_eq!(status["amp"].ledger.delivered.samples, 210);
    assert_eq!(receiver.count(), 210);
    receiver.assert_once_in_order();
    drop(connection);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_nothing_is_handed_over_at_once() {
    for status in [503, 403] {
        let dir = tempfile::tempdir().unwrap();
        let [away, here] = [Receiver::start().await, Receiver::start().await];
        away.answer(status, "");
        let mut config = config("amp", away.address);
        config.queue_config.min_backoff = PromDuration::from_secs(20);
        config.queue_config.max_backoff = PromDuration::from_secs(20);
        let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
        Target::open(&remote, "a:80", 10).scrape(0).await;
        away.until("it was tried", |away| !away.requests().is_empty()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        config.url = here.url();
        let started = Instant::now();
        remote.apply(cluster("blue"), vec![anew(config)]).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        drained(&remote).await;
        assert_eq!((away.requests().len(), here.count()), (1, 10));
        remote.shutdown(Duration::from_secs(20)).await;
    }
}

/// An endpoint that never answers, and one that does; both are changed.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_requests_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [before, after, comes, gone] =
        [Receiver::start().await, Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let configs = [
        config("silent", silent.local_addr().unwrap()),
        config("well", before.address),
        config("gone", gone.address),
    ];
    let remote = start(dir.path(), cluster("blue"), configs.to_vec()).await;
    let mut target = Target::open(&remote, "a:80", 10);
    target.scrape(0).await;
    let connection = silent.accept().await.unwrap();
    before.until("the other one has it", |before| before.count() == 10).await;
    gone.until("and that one", |gone| gone.count() == 10).await;

    // 30 s, the request that hangs may take.
    let applying = tokio::spawn({
        let remote = remote.clone();
        let changes = vec![
            anew(config("silent", after.address)),
            anew(config("well", after.address)),
            anew(config("comes", comes.address)),
        ];
        async move { remote.apply(cluster("green"), changes).await }
    });
    // While it does the others get what comes, in the new way and from the moment on at which they have one.
    let started = Instant::now();
    let mut number = 1;
    while comes.count() == 0 || after.count() == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "they wait for who hangs");
        target.scrape(number).await;
        number += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!applying.is_finished(), "it waits for all of them");
    let left_behind = gone.count();
    // The end comes while it does: what nobody holds up is sent.
    for _ in 0..20 {
        target.scrape(number).await;
        number += 1;
    }
    let status = remote.shutdown(Duration::from_secs(2)).await;
    applying.await.unwrap().ok();
    let of = |key: &str| &status.iter().find(|endpoint| endpoint.key == key).unwrap().ledger;
    assert_eq!(of("well").delivered.samples as i64, 10 * number);
    assert_eq!(before.count() + after.count(), of("well").delivered.samples as usize);
    assert_eq!(of("comes").delivered, of("comes").accepted);
    assert_eq!(of("silent").delivered.samples, 0);
    assert_eq!(of("silent").pending.samples as i64, 10 * number);
    assert_eq!(gone.count(), left_behind, "nothing goes to who has left");
    drop(connection);
}
