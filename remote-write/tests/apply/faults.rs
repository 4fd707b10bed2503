//! Scrapes that do not end, and faults of the spool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use promferry_model::{SinkError, SystemClock};
use promferry_remote_write::spool::sim::SimDisk;
use promferry_remote_write::spool::{FsyncPolicy, MemoryStorage, SpoolOptions};
use promferry_remote_write::{Endpoint, EndpointChange};

use crate::sender;
use crate::setup::{Taken, Target, cluster, config, drained, in_memory};

/// A scrape that begins and does not end holds nobody up for long.
#[tokio::test(start_paused = true)]
async fn a_scrape_that_does_not_end_is_not_waited_for_for_ever() {
    let taken = Taken::default();
    let endpoint = |name: &str| Endpoint {
        config: config(name, ([127, 0, 0, 1], 9).into()),
        transport: in_memory(&taken, usize::MAX),
        explain_denial: None,
        describe_body: None,
    };
    let storage = MemoryStorage::new();
    let clock = Arc::new(SystemClock::new());
    let remote =
        sender::start_in(storage, SpoolOptions::default(), clock, cluster("blue"), vec![endpoint("amp")])
            .await;
    let mut stuck = Target::open(&remote, "stuck", 2);
    let mut well = Target::open(&remote, "well", 2);
    stuck.begin(0);
    let change = vec![EndpointChange::SameTransport(endpoint("amp").config)];
    remote.apply(cluster("green"), change).await.unwrap();
    tokio::time::resume();
    well.scrape(1).await;
    let late = stuck.commit().await;
    assert_eq!(late, Err(SinkError::Storage("its log was closed".to_owned())));
    stuck.scrape(2).await;
    assert_eq!(drained(&remote).await["amp"].ledger.delivered.samples, 4);
    let mut came = taken.lock().unwrap().clone();
    came.sort();
    let expected = ["green stuck 0", "green stuck 1", "green well 0", "green well 1"];
    assert_eq!(
        came,
        expected.map(|series| (series.to_owned(), if series.contains("stuck") { 2 } else { 1 }))
    );
    remote.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_spool_during_a_change_costs_nothing() {
    for call in 0..30 {
        let disk = SimDisk::new();
        let taken = Taken::default();
        let endpoint = |name: &str| Endpoint {
            config: config(name, ([127, 0, 0, 1], 9).into()),
            transport: in_memory(&taken, 5),
            explain_denial: None,
            describe_body: None,
        };
        let options = SpoolOptions { fsync: FsyncPolicy::Always, ..SpoolOptions::default() };
        let remote = sender::start_in(
            disk.storage(),
            options,
            Arc::new(SystemClock::new()),
            cluster("blue"),
            vec![endpoint("a")],
        )
        .await;
        let mut target = Target::open(&remote, "t", 3);
        target.scrape(0).await;
        disk.panic_at(call);
        let changes = vec![endpoint("a").into(), endpoint("b").into()];
        remote.apply(cluster("green"), changes).await.unwrap();
        // The fault may come as late as this: then the scrape is told that it is not stored.
        let mut number = 1;
        loop {
            target.begin(number);
            match target.commit().await {
                Ok(_) => break,
                Err(_) => number += 1,
            }
        }
        let status = drained(&remote).await;
        let came = |cluster: &str, at: i64| {
            let taken = taken.lock().unwrap();
            taken.iter().filter(|(series, number)| series.starts_with(cluster) && *number == at).count()
        };
        assert_eq!((came("blue", 0), came("green", number)), (3, 2 * 3), "{call}: {status:?}");
        remote.shutdown(Duration::from_secs(5)).await;
    }
}

/// Faults that come one upon the other: however many there are, nobody who was handed over is left without delivery.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_spool_leave_no_endpoint_without_delivery() {
    for gap in [0, 2, 9, 23] {
        for call in 0..30 {
            let disk = SimDisk::new();
            let taken = Taken::default();
            let endpoint = |name: &str| Endpoint {
                config: config(name, ([127, 0, 0, 1], 9).into()),
                transport: in_memory(&taken, usize::MAX),
                explain_denial: None,
                describe_body: None,
            };
            let options = SpoolOptions { fsync: FsyncPolicy::Always, ..SpoolOptions::default() };
            let clock = Arc::new(SystemClock::new());
            let both = vec![endpoint("a"), endpoint("b")];
            let remote = sender::start_in(disk.storage(), options, clock, cluster("blue"), both).await;
            let mut target = Target::open(&remote, "t", 3);
            target.scrape(0).await;
            for fault in 0..3 {
                disk.panic_at(call + fault * (gap + 1));
            }
            let changes = vec![endpoint("a").into(), endpoint("b").into(), endpoint("c").into()];
            let applied = remote.apply(cluster("green"), changes).await;
            let names = if applied.is_ok() { 3 } else { 2 };
            disk.restart();
            let mut number = 1;
            loop {
                target.begin(number);
                match target.commit().await {
                    Ok(_) => break,
                    Err(_) => number += 1,
                }
            }
            let came = || taken.lock().unwrap().iter().filter(|(_, at)| *at == number).count();
            let started = Instant::now();
            while came() < names * 3 {
                assert!(started.elapsed() < Duration::from_secs(20), "{gap} {call}: {applied:?}, {}", came());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            remote.shutdown(Duration::from_secs(5)).await;
        }
    }
}
