//! One series in a hundred is refused for ever: what that costs in requests.

use std::time::Duration;

use promferry_model::PromDuration;

use crate::backend::{Backend, Bad};
use crate::capped::AMP_429;
use crate::receiver::Receiver;
use crate::world::{MINUTE, Target, config, scrape_all, start, status, until};

const SERIES: usize = 2000;
const BAD: usize = SERIES / 100;
const INTERVAL: Duration = Duration::from_millis(MINUTE.as_millis() as u64 / 4);
/// Ten minutes and more: one probe of each held-out series is part of it.
const STEADY: usize = 48;

struct Run {
    requests: usize,
    good: usize,
}

/// Scrapes until the bad series are known, and then counts.
async fn run(bad: Option<Bad>) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut backend = Backend::new(usize::MAX, 429, "");
    backend.bad = bad;
    let is_bad = backend.bad.is_some();
    let backend = backend.serve(&receiver);
    let remote = start(dir.path(), vec![config(receiver.url())]).await;
    let mut targets: Vec<_> = (0..10).map(|n| Target::open(&remote, &format!("host-{n}:80"))).collect();
    for target in &mut targets {
        target.add("good", (SERIES - BAD) / 10);
        target.add("bad", BAD / 10);
    }
    let mut scrapes = 0;
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        scrape_all(&mut targets).await;
        scrapes += 1;
        let status = until(&remote, "a scrape is decided", |s| s.ledger.pending.is_zero()).await;
        if !is_bad || status.delivery.limits.held_series == BAD {
            break;
        }
        assert!(scrapes < 40, "{:?}", status.delivery.limits);
    }
    let before = backend.lock().unwrap().requests;
    for _ in 0..STEADY {
        ticks.tick().await;
        scrape_all(&mut targets).await;
        // Each scrape is sent by itself, so that requests can be compared.
        until(&remote, "a scrape is decided", |s| s.ledger.pending.is_zero()).await;
    }
    let status = until(&remote, "all is decided", |s| s.ledger.pending.is_zero()).await;
    remote.shutdown(Duration::from_secs(20)).await;
    let backend = backend.lock().unwrap();
    let requests = backend.requests - before;
    assert_eq!(backend.out_of_order, Vec::<String>::new());
    let good: Vec<_> = backend.written.iter().filter(|(series, _)| series.contains("kind=good")).collect();
    assert_eq!(good.len(), SERIES - BAD);
    assert!(
        good.iter().all(|(_, samples)| samples.len() == scrapes + STEADY),
        "a good series lost something"
    );
    println!("{requests} requests in {STEADY} scrapes, {scrapes} before; {:?}", status.delivery.limits);
    if is_bad {
        assert_eq!(backend.written.len(), SERIES - BAD);
        assert!(status.delivery.limits.held_out > 0);
    }
    Run { requests, good: good.len() }
}

#[tokio::test(flavor = "multi_thread")]
async fn series_that_are_never_taken_cost_hardly_a_request_more() {
    let (clean, named, unnamed) = tokio::join!(
        run(None),
        run(Some(Bad { text: "kind=bad".to_owned(), named: true })),
        run(Some(Bad { text: "kind=bad".to_owned(), named: false })),
    );
    assert_eq!((clean.good, named.good, unnamed.good), (SERIES - BAD, SERIES - BAD, SERIES - BAD));
    for (what, run) in [("named", &named), ("unnamed", &unnamed)] {
        let ratio = run.requests as f64 / clean.requests as f64;
        println!("{what}: {ratio:.3}");
        assert!(ratio <= 1.05, "{what}: {} requests for {}", run.requests, clean.requests);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_out_series_that_went_away_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut backend = Backend::new(usize::MAX, 429, "");
    backend.bad = Some(Bad { text: "kind=bad".to_owned(), named: true });
    backend.serve(&receiver);
    let mut config = config(receiver.url());
    config.lasting_limits.hold_out = PromDuration::from_secs(1);
    let remote = start(dir.path(), vec![config]).await;
    let mut departing = Target::open(&remote, "host-0:80");
    let mut staying = Target::open(&remote, "host-1:80");
    departing.add("bad", 1);
    staying.add("bad", 1);
    until_held(&remote, &mut [departing, staying], 2).await;
    // Of the other one a sample comes all the time.
    let mut staying = Target::open(&remote, "host-1:80");
    staying.add("bad", 1);
    for _ in 0..40 {
        tokio::time::sleep(INTERVAL / 4).await;
        staying.scrape().await;
        let held =
            until(&remote, "a scrape is decided", |s| s.ledger.pending.is_zero()).await.delivery.limits;
        assert!((1..=2).contains(&held.held_series), "{held:?}");
    }
    until(&remote, "the departed one is forgotten", |s| s.delivery.limits.held_series == 1).await;
    drop(staying);
    until(&remote, "nothing is held out", |s| s.delivery.limits.held_series == 0).await;
    remote.shutdown(Duration::from_secs(20)).await;
}

async fn until_held(remote: &promferry_remote_write::RemoteWrite, targets: &mut [Target], count: usize) {
    for _ in 0..20 {
        scrape_all(targets).await;
        let status = until(remote, "a scrape is decided", |s| s.ledger.pending.is_zero()).await;
        if status.delivery.limits.held_series == count {
            return;
        }
    }
    panic!("not all of the {count} are held out");
}

/// Taken for what they are by now, but there is no room for them: they wait as others do.
#[tokio::test(flavor = "multi_thread")]
async fn held_out_series_that_meet_a_limit_are_parked() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut backend = Backend::new(100, AMP_429.0, AMP_429.1);
    backend.bad = Some(Bad { text: "kind=bad".to_owned(), named: true });
    let backend = backend.serve(&receiver);
    let mut config = config(receiver.url());
    config.lasting_limits.hold_out = PromDuration::from_millis(MINUTE.as_millis() as u64);
    let remote = start(dir.path(), vec![config]).await;
    let mut target = Target::open(&remote, "host:80");
    target.add("good", 10);
    target.add("bad", 3);
    let mut targets = [target];
    for _ in 0..8 {
        scrape_all(&mut targets).await;
        until(&remote, "it is decided", |s| s.ledger.pending.is_zero()).await;
    }
    assert_eq!(status(&remote).await.delivery.limits.held_series, 3);
    {
        let mut backend = backend.lock().unwrap();
        (backend.bad, backend.cap) = (None, 10);
    }
    tokio::time::sleep(MINUTE).await;
    for _ in 0..4 {
        scrape_all(&mut targets).await;
        until(&remote, "it is decided", |s| s.ledger.pending == s.ledger.parked).await;
    }
    assert_eq!(status(&remote).await.ledger.parked.samples, 4 * 3);
    backend.lock().unwrap().cap = 100;
    let done = until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    let reasons: Vec<_> = done.ledger.dropped.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["max_label_names_per_series"]);
    {
        let backend = backend.lock().unwrap();
        assert_eq!((&backend.out_of_order, backend.written.len()), (&Vec::new(), 13));
    }
    remote.shutdown(Duration::from_secs(20)).await;
}
