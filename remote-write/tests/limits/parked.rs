//! The parked queue: its order, its bounds, and what it costs the endpoint.

use std::time::Duration;

use promferry_remote_write::RemoteWrite;
use promferry_remote_write::spool::{DiskStorage, SpoolOptions};

use crate::backend::Backend;
use crate::capped::{AMP_429, CAP, NEW, OLD, add_new, assert_complete, established, scrape_for};
use crate::receiver::Receiver;
use crate::world::{MINUTE, Target, config, scrape_all, start, start_in, until};

/// Relabelled on the other side: the metric that the answer names is in no request.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_names_a_metric_nobody_sent_costs_no_more_than_another() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let text = "user=1_ws: per-metric series limit of 100 exceeded for metric theirs_requests_1, please contact \
                administrator to raise it (local limit: 0 global limit: 100 actual local limit: 50) for series \
                {__name__=\"theirs_requests_1\"}";
    let backend = Backend::new(CAP, 400, text).serve(&receiver);
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    let before = backend.lock().unwrap().requests;
    scrape_for(&mut targets, 10).await;
    let limited = until(&remote, "only what is parked waits", |s| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == OLD + NEW - CAP
    })
    .await;
    let requests = backend.lock().unwrap().requests - before;
    println!("{requests} requests, {:?}", limited.delivery.limits);
    assert!(requests < 10 * 10 + 150, "{requests}");
    assert_eq!(limited.ledger.dropped, []);
    backend.lock().unwrap().cap = 10 * CAP;
    until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    assert_complete(&backend, OLD + NEW, 1 + 10, 10);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_what_is_parked_is_probed_as_rarely_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    scrape_for(&mut targets, 4).await;
    until(&remote, "only what is parked waits", |s| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == OLD + NEW - CAP
    })
    .await;
    drop(targets);
    remote.shutdown(Duration::ZERO).await;
    drop(remote);

    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let before = backend.lock().unwrap().requests;
    tokio::time::sleep(6 * MINUTE).await;
    let requests = backend.lock().unwrap().requests - before;
    // After 1/12, 1/6, 1/3, 2/3 of a minute and then each.
    assert!((4..=10).contains(&requests), "{requests} requests in six minutes");
    let flush = std::time::Instant::now();
    let status = remote.flush(Duration::from_secs(20)).await.unwrap().remove(0);
    assert!(!status.ledger.parked.is_zero() && status.ledger.pending == status.ledger.parked);
    assert!(flush.elapsed() < Duration::from_secs(10), "what is parked does not go by flushing");
    remote.shutdown(Duration::from_secs(20)).await;
}

/// Samples that are about to be parked count as parked, although nothing is in the queue yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_limit_meets_an_empty_queue_and_slow_answers() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    scrape_for(&mut targets, 2).await;
    until(&remote, "something is parked", |s| !s.ledger.parked.is_zero()).await;
    backend.lock().unwrap().cap = OLD + NEW;
    until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    backend.lock().unwrap().delay = Duration::from_millis(30);
    for (at, target) in targets.iter_mut().enumerate().take(4) {
        target.add("newer", 50 + at);
    }
    scrape_for(&mut targets, 12).await;
    until(&remote, "only what is parked waits", |s| s.ledger.pending == s.ledger.parked).await;
    backend.lock().unwrap().cap = 10 * CAP;
    scrape_for(&mut targets, 12).await;
    let done = until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    {
        let backend = backend.lock().unwrap();
        assert_eq!((&backend.out_of_order, &done.ledger.dropped), (&Vec::new(), &Vec::new()));
        let newer = backend.written.iter().filter(|(series, _)| series.contains("kind=newer"));
        assert_eq!(newer.clone().count(), 50 + 51 + 52 + 53);
        assert!(newer.clone().all(|(_, samples)| samples.len() == 24), "{newer:?}");
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

/// What a pass leaves is stored before what it read is removed, among what comes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_over_a_large_queue_does_not_push_out_what_it_has_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let storage = DiskStorage::new(dir.path()).unwrap();
    // A quarter of it is for the parked queue.
    let options = SpoolOptions { max_bytes: Some(4 << 20), ..SpoolOptions::default() };
    let remote = start_in(storage, options, config(receiver.url())).await;
    let mut targets = established(&remote).await;
    for number in 0..20 {
        let mut target = Target::open(&remote, &format!("host-new-{number}:80"));
        target.add("new", 60);
        targets.push(target);
    }
    for scrape in 0..70 {
        scrape_all(&mut targets).await;
        tokio::time::sleep(Duration::from_millis(90)).await;
        // On a machine that is busy a pass takes long. So that no more comes meanwhile than its queue has room for, the
        // next scrape waits until the endpoint has said what it thinks of this one, and the queue has given up what is
        // more than three eighths of it.
        until(&remote, "what is new is decided", |s| s.ledger.pending == s.ledger.parked).await;
        until_parked_bytes_are_at_most(3 << 17, &remote).await;
        backend.lock().unwrap().cap = CAP + scrape / 6;
    }
    let done = until(&remote, "only what is parked waits", |s| s.ledger.pending == s.ledger.parked).await;
    println!("{:?} {:?}", done.ledger, done.delivery.limits);
    let reasons: Vec<_> = done.ledger.dropped.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["per_user_series_limit"], "{:?}", done.ledger);
    backend.lock().unwrap().cap = 10_000;
    until(&remote, "all that was left arrived", |s| s.ledger.pending.is_zero()).await;
    assert_eq!(backend.lock().unwrap().out_of_order, Vec::<String>::new());
    remote.shutdown(Duration::from_secs(20)).await;
}

async fn until_parked_bytes_are_at_most(most: u64, remote: &RemoteWrite) {
    for _ in 0..3000 {
        if remote.spool().stats().await.unwrap().endpoints[0].parked_bytes <= most {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("more than {most} bytes stay parked");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_drain_the_queue_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let mut config = config(receiver.url());
    config.queue_config.max_shards = 1;
    let remote = start(dir.path(), vec![config]).await;
    let mut targets = established(&remote).await;
    backend.lock().unwrap().cap = OLD;
    for number in 0..12 {
        let mut target = Target::open(&remote, &format!("host-new-{number}:80"));
        target.add("new", 20);
        targets.push(target);
    }
    scrape_for(&mut targets, 8).await;
    until(&remote, "only what is parked waits", |s| s.ledger.pending == s.ledger.parked).await;
    receiver.state.lock().unwrap().in_hand = (0, 0);
    {
        let mut backend = backend.lock().unwrap();
        (backend.cap, backend.delay) = (10 * CAP, Duration::from_millis(100));
    }
    until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    let (_, at_once) = receiver.state.lock().unwrap().in_hand;
    assert!((2..=4).contains(&at_once), "{at_once} at once");
    assert_complete(&backend, OLD + 12 * 20, 1 + 8, 8);
    remote.shutdown(Duration::from_secs(20)).await;
}
