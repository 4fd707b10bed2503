//! A limit of active series: AMP's 429, its 400, Mimir's own words.

use std::time::Duration;

use promferry_remote_write::RemoteWrite;

use crate::backend::{Backend, Shared};
use crate::receiver::Receiver;
use crate::world::{MINUTE, Target, config, scrape_all, start, status, until};

pub(crate) const AMP_429: (u16, &str) = (
    429,
    "user=1_ws: per-user series limit of 1000 exceeded, please contact administrator to raise it (local limit: 0 \
     global limit: 1000 actual local limit: 500)",
);
const AMP_400: (u16, &str) = (
    400,
    "user=1_ws: per-user series limit (local limit: 0 global limit: 1000 actual local limit: 500) exceeded",
);
const MIMIR: (u16, &str) = (
    429,
    "the request has been rejected because the tenant exceeded the active series limit, set to 1000. 5 series were \
     rejected from this request of a total of 20 (err-mimir-max-active-series). To adjust the related per-tenant \
     limit, configure -distributor.max-active-series-per-user, or contact your service administrator.",
);

pub(crate) const CAP: usize = 1000;
pub(crate) const OLD: usize = 900;
pub(crate) const NEW: usize = 200;
/// A scrape interval of 15 s: a quarter of a minute.
const INTERVAL: Duration = Duration::from_millis(MINUTE.as_millis() as u64 / 4);

/// Nine targets with the existing series, which the backend knows.
pub(crate) async fn established(remote: &RemoteWrite) -> Vec<Target> {
    let mut targets: Vec<_> = (0..9).map(|n| Target::open(remote, &format!("host-{n}:80"))).collect();
    for target in &mut targets {
        target.add("old", OLD / 9);
    }
    scrape_all(&mut targets).await;
    until(remote, "the existing series are known", |s| s.ledger.pending.is_zero()).await;
    targets
}

/// Half of the new series are on the pages of the old ones, half on a page of their own.
pub(crate) fn add_new(remote: &RemoteWrite, targets: &mut Vec<Target>) {
    for target in targets.iter_mut().take(4) {
        target.add("new", NEW / 8);
    }
    let mut target = Target::open(remote, "host-new:80");
    target.add("new", NEW / 2);
    targets.push(target);
}

pub(crate) async fn scrape_for(targets: &mut [Target], scrapes: usize) {
    let mut ticks = tokio::time::interval(INTERVAL);
    for _ in 0..scrapes {
        ticks.tick().await;
        scrape_all(targets).await;
    }
}

/// Requests so far, and how long an existing series' sample took at most.
fn counted(backend: &Shared) -> (usize, Duration) {
    let backend = backend.lock().unwrap();
    (backend.requests, backend.longest_lag)
}

/// Every series that was offered has each of its samples, once and in order.
pub(crate) fn assert_complete(backend: &Shared, series: usize, old: usize, new: usize) {
    let backend = backend.lock().unwrap();
    assert_eq!(backend.out_of_order, Vec::<String>::new());
    assert_eq!(backend.written.len(), series);
    for (series, samples) in &backend.written {
        let expected = if series.contains("kind=old") { old } else { new };
        assert_eq!(samples.len(), expected, "{series}: {samples:?}; {} duplicates", backend.duplicates);
        assert!(samples.is_sorted());
    }
}

async fn existing_series_go_on(refusal: (u16, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, refusal.0, refusal.1).serve(&receiver);
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    let before = backend.lock().unwrap().requests;
    scrape_for(&mut targets, 40).await;
    let limited = until(&remote, "only what is parked waits", |s| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == OLD + NEW - CAP
    })
    .await;
    {
        let backend = backend.lock().unwrap();
        assert!(backend.longest_lag < Duration::from_secs(5), "{:?}", backend.longest_lag);
        assert_eq!(backend.written.len(), CAP);
        let old = backend.written.iter().filter(|(series, _)| series.contains("kind=old"));
        assert!(old.clone().count() == OLD && old.clone().all(|(_, samples)| samples.len() == 41));
        println!(
            "{refusal:?}: {} requests, {} refused, existing at most {:?} behind, duplicates {}, {:?}",
            backend.requests - before,
            backend.refused,
            backend.longest_lag,
            backend.duplicates,
            limited.delivery.limits
        );
    }
    assert_eq!(limited.ledger.dropped, []);
    assert_eq!(limited.delivery.limits.limit.unwrap().as_str(), "per_user_series_limit");

    backend.lock().unwrap().cap = 10 * CAP;
    scrape_for(&mut targets, 8).await;
    let done = until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    assert_eq!(done.ledger.dropped, []);
    assert_complete(&backend, OLD + NEW, 1 + 40 + 8, 40 + 8);
    until(&remote, "the limit is over", |s| s.delivery.limits.limit.is_none()).await;
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_series_go_on_beside_429() {
    existing_series_go_on(AMP_429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_series_go_on_beside_a_400_that_is_a_limit() {
    existing_series_go_on(AMP_400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_series_go_on_beside_mimirs_429() {
    existing_series_go_on(MIMIR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_forgets_nothing_that_is_parked() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    scrape_for(&mut targets, 10).await;
    let before = status(&remote).await.ledger;
    drop(targets);
    // In the middle of things.
    remote.shutdown(Duration::ZERO).await;
    drop(remote);

    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let after = status(&remote).await.ledger;
    assert_eq!((after.accepted, after.dropped), (before.accepted, before.dropped));
    let mut targets: Vec<_> = (0..9).map(|n| Target::open(&remote, &format!("host-{n}:80"))).collect();
    for target in &mut targets {
        target.add("old", OLD / 9);
    }
    add_new(&remote, &mut targets);
    backend.lock().unwrap().longest_lag = Duration::ZERO;
    let requests = backend.lock().unwrap().requests;
    scrape_for(&mut targets, 20).await;
    until(&remote, "only what is parked waits", |s| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == OLD + NEW - CAP
    })
    .await;
    let (made, lag) = counted(&backend);
    println!("after a restart: {} requests, existing at most {lag:?} behind", made - requests);
    backend.lock().unwrap().cap = 10 * CAP;
    scrape_for(&mut targets, 4).await;
    let done = until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    assert_eq!(done.ledger.dropped, []);
    assert_complete(&backend, OLD + NEW, 1 + 10 + 24, 10 + 24);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_spool_from_before_what_the_endpoint_knows_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let mut targets = established(&remote).await;
    // Nothing fits any more.
    backend.lock().unwrap().cap = OLD;
    drop(targets);
    remote.shutdown(Duration::from_secs(20)).await;
    drop(remote);

    let dir = tempfile::tempdir().unwrap();
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    targets = (0..9).map(|n| Target::open(&remote, &format!("host-{n}:80"))).collect();
    for target in &mut targets {
        target.add("old", OLD / 9);
    }
    add_new(&remote, &mut targets);
    backend.lock().unwrap().longest_lag = Duration::ZERO;
    let requests = backend.lock().unwrap().requests;
    scrape_for(&mut targets, 30).await;
    let limited = until(&remote, "only new series are parked", |s| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == NEW
    })
    .await;
    let (made, lag) = counted(&backend);
    println!(
        "nothing known: {} requests, existing at most {lag:?} behind, {:?}",
        made - requests,
        limited.delivery.limits
    );
    backend.lock().unwrap().cap = 10 * CAP;
    let done = until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    assert_eq!(done.ledger.dropped, []);
    assert_complete(&backend, OLD + NEW, 1 + 30, 30);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_for_too_long_is_dropped_under_the_limits_name() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let mut config = config(receiver.url());
    config.lasting_limits.max_parked_age = promferry_model::PromDuration::from_secs(2);
    let remote = start(dir.path(), vec![config]).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    scrape_for(&mut targets, 12).await;
    drop(targets);
    let done = until(&remote, "what was parked is given up", |s| s.ledger.pending.is_zero()).await;
    let parked = (OLD + NEW - CAP) as u64;
    assert_eq!(done.ledger.dropped.len(), 1, "{:?}", done.ledger);
    assert_eq!(done.ledger.dropped[0].0.as_str(), "per_user_series_limit");
    assert_eq!(done.ledger.dropped[0].1.samples, 12 * parked);
    assert_eq!(backend.lock().unwrap().out_of_order, Vec::<String>::new());
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_other_endpoints_notice_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let capped = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receivers[0]);
    let free: Vec<_> = receivers[1..].iter().map(|r| Backend::new(10 * CAP, 429, "").serve(r)).collect();
    let configs = receivers.iter().map(|receiver| config(receiver.url())).collect();
    let remote = start(dir.path(), configs).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    scrape_for(&mut targets, 30).await;
    until(&remote, "only what is parked waits", |s| s.ledger.pending == s.ledger.parked).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let all = remote.status().await.unwrap();
    assert!(!all[0].ledger.parked.is_zero());
    for (endpoint, backend) in all[1..].iter().zip(&free) {
        assert!(endpoint.ledger.balances() && endpoint.ledger.pending.is_zero(), "{endpoint:?}");
        assert_eq!(endpoint.ledger.dropped, []);
        assert_eq!(endpoint.delivery.requests.keys().copied().collect::<Vec<_>>(), ["delivered"]);
        assert_complete(backend, OLD + NEW, 31, 30);
        let backend = backend.lock().unwrap();
        assert!(backend.longest_lag < Duration::from_secs(5), "{:?}", backend.longest_lag);
        assert_eq!(backend.duplicates, 0);
    }
    assert_eq!(capped.lock().unwrap().out_of_order, Vec::<String>::new());
    remote.shutdown(Duration::from_secs(20)).await;
}

/// Slots that become free one by one are taken, and nobody is overtaken.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_rises_little_by_little_lets_in_as_many() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(CAP, AMP_429.0, AMP_429.1).serve(&receiver);
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let mut targets = established(&remote).await;
    add_new(&remote, &mut targets);
    scrape_for(&mut targets, 8).await;
    for _ in 0..4 {
        backend.lock().unwrap().cap += 15;
        scrape_for(&mut targets, 8).await;
    }
    let parked = OLD + NEW - CAP - 60;
    until(&remote, "what fits is taken", |s| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == parked
    })
    .await;
    assert_eq!(backend.lock().unwrap().out_of_order, Vec::<String>::new());
    backend.lock().unwrap().cap = 10 * CAP;
    let done = until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    assert_eq!(done.ledger.dropped, []);
    assert_complete(&backend, OLD + NEW, 1 + 40, 40);
    println!("little by little: {:?}", done.delivery.limits);
    remote.shutdown(Duration::from_secs(20)).await;
}

/// 45,000 existing series and 10,000 new ones, a limit of 50,000, for twenty minutes of two seconds each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes three minutes"]
async fn at_full_size() {
    const SCRAPES: usize = 80;
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(50_000, AMP_429.0, AMP_429.1).serve(&receiver);
    let mut config = config(receiver.url());
    config.queue_config.max_samples_per_send = 2000;
    config.lasting_limits.probe_interval = promferry_model::PromDuration::from_secs(8);
    let remote = start(dir.path(), vec![config]).await;
    let mut targets: Vec<_> = (0..45).map(|n| Target::open(&remote, &format!("host-{n}:80"))).collect();
    for target in &mut targets {
        target.add("old", 1000);
    }
    scrape_all(&mut targets).await;
    until(&remote, "the existing series are known", |s| s.ledger.pending.is_zero()).await;
    for target in &mut targets[..20] {
        target.add("new", 250);
    }
    let mut target = Target::open(&remote, "host-new:80");
    target.add("new", 5000);
    targets.push(target);
    let before = backend.lock().unwrap().requests;
    let mut ticks = tokio::time::interval(Duration::from_secs(2));
    for _ in 0..SCRAPES {
        ticks.tick().await;
        scrape_all(&mut targets).await;
    }
    let limited = until(&remote, "only what is parked waits", |s| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == 5000
    })
    .await;
    let (made, lag) = counted(&backend);
    println!(
        "{} requests, {} refused, existing at most {lag:?} behind, parked {:?}, {:?}",
        made - before,
        backend.lock().unwrap().refused,
        limited.ledger.parked,
        limited.delivery.limits
    );
    backend.lock().unwrap().cap = 60_000;
    let raised = std::time::Instant::now();
    let done = until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    println!("{} parked samples arrived within {:?}", limited.ledger.parked.samples, raised.elapsed());
    assert_eq!(done.ledger.dropped, []);
    assert!(lag < Duration::from_secs(15), "{lag:?}");
    assert_complete(&backend, 55_000, 1 + SCRAPES, SCRAPES);
    remote.shutdown(Duration::from_secs(20)).await;
}
