//! A pass over the parked queue that does not come to its end: nothing is overtaken and nothing is lost.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use promferry_remote_write::RemoteWrite;
use promferry_remote_write::spool::SpoolOptions;
use promferry_remote_write::spool::sim::SimDisk;

use crate::backend::Backend;
use crate::capped::{AMP_429, CAP};
use crate::receiver::Receiver;
use crate::world::{MINUTE, Target, config, scrape_all, start, start_in, until};

/// Series that are parked of one target, more than go into one request.
const PARKED: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_a_restart_interrupts_is_finished_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let backend = Backend::new(0, AMP_429.0, AMP_429.1).serve(&receiver);
    let mut config = config(receiver.url());
    config.queue_config.max_samples_per_send = PARKED;
    let remote = start(dir.path(), vec![config.clone()]).await;
    let mut target = Target::open(&remote, "host-new:80");
    target.add("new", PARKED);
    let mut targets = [target];
    for _ in 0..20 {
        scrape_all(&mut targets).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until(&remote, "all of it is parked", |s| {
        s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == PARKED
    })
    .await;
    // A pass that comes to its end, so that the next one reads what it left.
    backend.lock().unwrap().cap = 1;
    until(&remote, "one series is taken", |s| s.delivery.limits.parked_series < PARKED).await;
    until(&remote, "only what is parked waits", |s| s.ledger.pending == s.ledger.parked).await;
    {
        let mut backend = backend.lock().unwrap();
        (backend.cap, backend.delay) = (2, Duration::from_millis(60));
    }
    // The series that is taken by now has gone a quarter of the way, and with it what the others left.
    until(&remote, "another pass is under way", |_| {
        let backend = backend.lock().unwrap();
        backend.written.len() == 2 && backend.written.values().all(|samples| samples.len() >= 5)
    })
    .await;
    assert!(backend.lock().unwrap().written.values().any(|samples| samples.len() < 15));
    drop(targets);
    remote.shutdown(Duration::ZERO).await;
    drop(remote);
    {
        let mut backend = backend.lock().unwrap();
        (backend.cap, backend.delay) = (10 * CAP, Duration::ZERO);
    }
    let remote = start(dir.path(), vec![config]).await;
    let mut target = Target::open(&remote, "host-new:80");
    target.add("new", PARKED);
    let mut targets = [target];
    for _ in 0..10 {
        scrape_all(&mut targets).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let done = until(&remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    {
        let backend = backend.lock().unwrap();
        assert_eq!((&backend.out_of_order, &done.ledger.dropped), (&Vec::new(), &Vec::new()));
        assert_eq!(backend.written.len(), PARKED);
        assert!(backend.written.values().all(|samples| samples.len() == 30), "{:?}", backend.written);
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

/// A fault in the spool's thread, which opens the spool again: the queue is worked at as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_spool_does_not_end_the_work_at_what_is_parked() {
    let receiver = Receiver::start().await;
    let backend = Backend::new(10, AMP_429.0, AMP_429.1).serve(&receiver);
    let disk = SimDisk::new();
    let remote = start_in(disk.storage(), SpoolOptions::default(), config(receiver.url())).await;
    let mut target = Target::open(&remote, "host-new:80");
    target.add("new", PARKED);
    let mut targets = [target];
    for _ in 0..5 {
        scrape_all(&mut targets).await;
        until(&remote, "only what is parked waits", |s| {
            s.ledger.pending == s.ledger.parked && s.delivery.limits.parked_series == PARKED - 10
        })
        .await;
    }
    // Nothing else works at the spool: the probe's read is what fails.
    disk.panic_at(0);
    let probes = crate::world::status(&remote).await.delivery.limits.probes;
    until(&remote, "it is probed again", |s| s.delivery.limits.probes > probes + 1).await;
    backend.lock().unwrap().cap = 10 * CAP;
    assert_all_arrives(&remote, &backend, 5).await;
    remote.shutdown(Duration::from_secs(20)).await;
}

/// A part of the queue that can't be read for a while is not overtaken by what stands behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_for_a_while_is_waited_for() {
    let receiver = Receiver::start().await;
    let backend = Backend::new(0, AMP_429.0, AMP_429.1).serve(&receiver);
    let disk = SimDisk::new();
    let options = SpoolOptions { segment_bytes: 4_000, ..SpoolOptions::default() };
    let remote = start_in(disk.storage(), options, config(receiver.url())).await;
    let is_log = |path: &String| path.starts_with("log-");
    let of_endpoint: BTreeSet<String> = disk.files().into_keys().filter(is_log).map(directory_of).collect();
    let mut target = Target::open(&remote, "host-new:80");
    target.add("new", PARKED);
    let mut targets = [target];
    for _ in 0..4 {
        scrape_all(&mut targets).await;
        until(&remote, "all of it is parked", |s| s.ledger.pending == s.ledger.parked).await;
    }
    // What a pass leaves is in these segments, and what comes from now on in others.
    backend.lock().unwrap().cap = 1;
    until(&remote, "one series is taken", |s| s.delivery.limits.parked_series < PARKED).await;
    let parked = disk
        .files()
        .into_keys()
        .filter(|path| is_log(path) && !of_endpoint.contains(&directory_of(path.clone())));
    let parked: Vec<String> = parked.collect();
    assert!(!parked.is_empty());
    parked.iter().for_each(|path| disk.fail_reads(path));
    for _ in 0..8 {
        scrape_all(&mut targets).await;
        until(&remote, "all of it is parked", |s| s.ledger.pending == s.ledger.parked).await;
    }
    backend.lock().unwrap().cap = 10 * CAP;
    tokio::time::sleep(2 * MINUTE).await;
    parked.iter().for_each(|path| disk.heal_reads(path));
    assert_all_arrives(&remote, &backend, 12).await;
    remote.shutdown(Duration::from_secs(20)).await;
}

/// Waits until nothing is parked any more: each series arrived in order, with so many samples, and none was dropped.
async fn assert_all_arrives(remote: &RemoteWrite, backend: &Mutex<Backend>, samples: usize) {
    let done = until(remote, "all that was parked arrived", |s| s.ledger.pending.is_zero()).await;
    assert_eq!(done.ledger.dropped, []);
    let backend = backend.lock().unwrap();
    assert_eq!(backend.out_of_order, Vec::<String>::new());
    assert!(
        backend.written.len() == PARKED && backend.written.values().all(|kept| kept.len() == samples),
        "{:?}",
        backend.written
    );
}

fn directory_of(path: String) -> String {
    path.split('/').next().unwrap().to_owned()
}
