//! The spool on a real directory, through its thread.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bytes::Bytes;
use promferry_model::{MemoryBudget, Purpose, SinkError, SystemClock, Timestamp};
use promferry_remote_write::spool::{
    DiskStorage, EndpointOptions, LogId, Reason, Spool, SpoolError, SpoolOptions,
};
use promferry_remote_write::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};

fn fragment(lane: u8, samples: u64, body: impl Into<Vec<u8>>) -> Fragment {
    let body: Vec<u8> = body.into();
    Fragment {
        lane: Lane::new(lane).unwrap(),
        protocol: Protocol::V1,
        compression: Compression::None,
        counts: Counts { samples, ..Counts::default() },
        raw_len: body.len() as u32,
        min_timestamp: Timestamp::from_millis(1000),
        max_timestamp: Timestamp::from_millis(2000),
        body: Bytes::from(body),
    }
}

fn open(directory: &std::path::Path) -> Result<Spool, SpoolError> {
    let storage = DiskStorage::new(directory).unwrap();
    let clock = Arc::new(SystemClock::new());
    Spool::open(storage, SpoolOptions::default(), MemoryBudget::unlimited(), clock).map(|(spool, _)| spool)
}

#[tokio::test]
async fn what_is_stored_is_fetched_in_order_settled_and_not_seen_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let samples = |n| Counts { samples: n, ..Counts::default() };
    {
        let spool = open(directory.path()).unwrap();
        let log = spool.open_log("v1").await.unwrap();
        let endpoint = spool.attach("amp", log, EndpointOptions::default()).await.unwrap();
        let mut arrivals = spool.arrivals(endpoint);
        let tickets: Vec<_> = (0..10u8)
            .map(|i| spool.append(vec![(log, vec![fragment(i % 3, 2, [i; 5]), fragment(i % 3, 1, [i; 7])])]))
            .collect();
        for ticket in tickets {
            assert_eq!(ticket.await.unwrap().samples, 3);
        }
        arrivals.changed().await.unwrap();
        let fetched = spool.fetch(endpoint, LaneSet::ALL, usize::MAX).await.unwrap();
        let bodies: Vec<_> = fetched.iter().map(|f| (f.fragment.body[0], f.fragment.body.len())).collect();
        assert_eq!(bodies, (0..10u8).flat_map(|i| [(i, 5), (i, 7)]).collect::<Vec<_>>());
        assert!(spool.fetch(endpoint, LaneSet::ALL, usize::MAX).await.unwrap().is_empty());

        // Lane 0 holds scrapes 0, 3, 6 and 9; the first two are settled.
        let lane = Lane::new(0).unwrap();
        let of_lane: Vec<_> = fetched.iter().filter(|f| f.fragment.lane == lane).collect();
        let refused = vec![(Reason::REFUSED, samples(1))];
        spool.settle(endpoint, lane, of_lane[3].position, samples(5), refused).await.unwrap();
        let ledger = spool.ledger(endpoint).await.unwrap();
        assert!(ledger.balances());
        assert_eq!(
            (ledger.accepted, ledger.delivered, ledger.pending),
            (samples(30), samples(5), samples(24))
        );
        spool.close().await;
        assert!(matches!(spool.ledger(endpoint).await, Err(SpoolError::Closed)));
    }
    let spool = open(directory.path()).unwrap();
    let log = spool.open_log("v1").await.unwrap();
    let endpoint = spool.attach("amp", log, EndpointOptions::default()).await.unwrap();
    let ledger = spool.ledger(endpoint).await.unwrap();
    assert!(ledger.balances());
    assert_eq!((ledger.accepted, ledger.delivered, ledger.pending), (samples(30), samples(5), samples(24)));
    assert_eq!(ledger.dropped_for(&Reason::REFUSED), samples(1));
    let again = spool.fetch(endpoint, LaneSet::ALL, usize::MAX).await.unwrap();
    let first: Vec<_> = again.iter().map(|f| f.fragment.body[0]).collect();
    assert_eq!(first, [1, 1, 2, 2, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]);
    spool.close().await;
}

#[tokio::test]
async fn a_second_process_is_told_that_the_spool_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(&error, SpoolError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    first.close().await;
    open(directory.path()).unwrap().close().await;
}

#[tokio::test]
async fn what_the_budget_has_no_room_for_is_refused_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let budget = MemoryBudget::new(100);
    let storage = DiskStorage::new(directory.path()).unwrap();
    let clock = Arc::new(SystemClock::new());
    let (spool, _) = Spool::open(storage, SpoolOptions::default(), budget.clone(), clock).unwrap();
    let log = spool.open_log("v1").await.unwrap();
    let endpoint = spool.attach("amp", log, EndpointOptions::default()).await.unwrap();
    let scrape =
        |size: usize| -> Vec<(LogId, Vec<Fragment>)> { vec![(log, vec![fragment(0, 7, vec![0; size])])] };
    assert_eq!(spool.append(scrape(101)).await, Err(SinkError::OverBudget));
    assert!(spool.append(scrape(100)).await.is_ok());
    assert_eq!(budget.used_by(Purpose::Buffers), 0);
    let ledger = spool.ledger(endpoint).await.unwrap();
    assert!(ledger.balances());
    assert_eq!(ledger.accepted.samples, 14);
    assert_eq!(ledger.dropped_for(&Reason::OVER_BUDGET).samples, 7);
    spool.close().await;
}

#[tokio::test]
async fn what_is_stored_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("data/spool");
    let spool = open(&root).unwrap();
    let log = spool.open_log("v1").await.unwrap();
    spool.attach("amp", log, EndpointOptions::default()).await.unwrap();
    spool.append(vec![(log, vec![fragment(0, 2, [1; 5])])]).await.unwrap();
    spool.close().await;
    let mut seen = 0;
    let mut paths = vec![root];
    while let Some(path) = paths.pop() {
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{path:?}");
        if metadata.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}
