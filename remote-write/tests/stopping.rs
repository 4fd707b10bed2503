//! How delivery ends: what is waited for, for how long, and what is said in the end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod receiver;
mod sender;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use promferry_model::{Clock, Labels, PromDuration, Sample, SystemClock, TargetSink, Timestamp};
use promferry_remote_write::delivery::transport;
use promferry_remote_write::{Endpoint, Lane, RemoteWrite, RemoteWriteConfig};
use receiver::Receiver;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

/// An endpoint whose requests go where `route` says.
fn routed(
    change: impl FnOnce(&mut RemoteWriteConfig),
    route: impl Fn(&Request<Bytes>) -> SocketAddr + Clone + Send + Sync + 'static,
) -> Endpoint {
    let mut config: RemoteWriteConfig = "http://127.0.0.1:9/api/v1/write".into();
    config.queue_config.batch_send_deadline = PromDuration::from_millis(20);
    config.queue_config.max_backoff = PromDuration::from_millis(100);
    config.metadata_config.send = false;
    change(&mut config);
    let client = sender::http().map_request(move |mut request: Request<Bytes>| {
        let uri: Uri = format!("http://{}/api/v1/write", route(&request)).parse().unwrap();
        *request.uri_mut() = uri;
        request
    });
    Endpoint { config, transport: transport(client), explain_denial: None, describe_body: None }
}

/// Where nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn scrape(remote: &RemoteWrite, instance: &str, series: usize) {
    let (mut target, series) = sender::gauges(remote, instance, (0..series).map(|number| number.to_string()));
    let at = Timestamp::from_millis(1_700_000_000_000);
    target.begin(at);
    for id in series {
        target.sample(id, Sample::new(at, 1.0));
    }
    target.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_began_before_a_flush_may_end_within_it() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let (address, gone) = (receiver.address, nobody());
    let is_back = Arc::new(AtomicBool::new(false));
    let back = Arc::clone(&is_back);
    let endpoint = routed(|_| {}, move |_| if back.load(Ordering::Relaxed) { address } else { gone });
    let remote =
        sender::start(dir.path(), Arc::new(SystemClock::new()), Labels::default(), vec![endpoint]).await;
    scrape(&remote, "a:1", 10).await;
    // It has been gone for longer than a flush would wait for it.
    tokio::time::sleep(Duration::from_secs(6)).await;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        is_back.store(true, Ordering::Relaxed);
    });
    let ledger = remote.shutdown(Duration::from_secs(20)).await.remove(0).ledger;
    assert_eq!((ledger.delivered.samples, ledger.pending.samples), (10, 0));
}

/// A clock that counts how often it is asked.
struct CountingClock(SystemClock, AtomicU64);

impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.monotonic()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_waits_for_its_last_request_does_nothing_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (hanging, gone) = (silent.local_addr().unwrap(), nobody());
    let is_large = |request: &Request<Bytes>| request.body().len() > 2_000;
    let endpoint = routed(
        |config| (config.queue_config.min_shards, config.queue_config.max_shards) = (2, 2),
        move |request| if is_large(request) { hanging } else { gone },
    );
    let clock = Arc::new(CountingClock(SystemClock::new(), AtomicU64::new(0)));
    let remote = sender::start(dir.path(), clock.clone(), Labels::default(), vec![endpoint]).await;
    scrape(&remote, "large:1", 1_500).await;
    let connection = silent.accept().await.unwrap();
    scrape(&remote, "b:1", 10).await;
    while remote.status().await.unwrap()[0].delivery.in_flight < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Both are busy: these wait.
    for number in 0..8 {
        scrape(&remote, &format!("waiting-{number}:1"), 10).await;
    }
    let before = clock.1.load(Ordering::Relaxed);
    let started = std::time::Instant::now();
    let ledger = remote.shutdown(Duration::from_secs(8)).await.remove(0).ledger;
    assert_eq!((ledger.pending.samples, ledger.balances()), (1_590, true));
    assert!(started.elapsed() >= Duration::from_millis(7_900), "it waits for the one that may be answered");
    let asked = clock.1.load(Ordering::Relaxed) - before;
    assert!(asked < 5_000, "{asked}");
    drop(connection);
}

/// A clock that fails the spool's thread from some moment on.
struct FailingClock(SystemClock, AtomicBool);

impl FailingClock {
    fn look(&self) {
        let is_spool = std::thread::current().name() == Some("spool");
        assert!(!(is_spool && self.1.load(Ordering::Relaxed)), "a clock that fails, on purpose");
    }
}

impl Clock for FailingClock {
    fn now(&self) -> Timestamp {
        self.look();
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.look();
        self.0.monotonic()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_spool_that_is_gone_said_last_is_the_final_account() {
    let dir = tempfile::tempdir().unwrap();
    let gone = nobody();
    let clock = Arc::new(FailingClock(SystemClock::new(), AtomicBool::new(false)));
    let endpoint = routed(|_| {}, move |_| gone);
    let remote = sender::start(dir.path(), clock.clone(), Labels::default(), vec![endpoint]).await;
    scrape(&remote, "a:1", 10).await;
    assert_eq!(remote.status().await.unwrap()[0].ledger.pending.samples, 10);
    clock.1.store(true, Ordering::Relaxed);
    while remote.spool().is_working() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = remote.shutdown(Duration::from_secs(1)).await;
    let [endpoint] = status.as_slice() else { panic!("{status:?}") };
    assert_eq!((endpoint.ledger.accepted.samples, endpoint.ledger.pending.samples), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_sent_any_more_a_flush_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = routed(|_| {}, |_| panic!("a layer that panics, on purpose"));
    let remote =
        sender::start(dir.path(), Arc::new(SystemClock::new()), Labels::default(), vec![endpoint]).await;
    let abandoned = async || remote.status().await.unwrap()[0].delivery.abandoned_lanes;
    for number in 0..5_000 {
        scrape(&remote, &format!("host-{number}:1"), 1).await;
        if abandoned().await == Lane::COUNT {
            break;
        }
    }
    assert_eq!(abandoned().await, Lane::COUNT);
    let started = std::time::Instant::now();
    let ledger = remote.shutdown(Duration::from_secs(20)).await.remove(0).ledger;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!((ledger.delivered.samples, ledger.pending), (0, ledger.accepted));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_denied_is_sent_once_more_at_the_end() {
    for right_in_the_end in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        let is_right = Arc::new(AtomicBool::new(false));
        let right = Arc::clone(&is_right);
        receiver.state.lock().unwrap().judge = Some(Box::new(move |_| {
            let status = if right.load(Ordering::Relaxed) { 200 } else { 403 };
            (status, String::new()).into()
        }));
        let address = receiver.address;
        let remote = sender::start(
            dir.path(),
            Arc::new(SystemClock::new()),
            Labels::default(),
            vec![routed(|_| {}, move |_| address)],
        )
        .await;
        scrape(&remote, "a:1", 10).await;
        let requests = || receiver.state.lock().unwrap().requests.len();
        while requests() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // In the pause that follows a denial.
        tokio::time::sleep(Duration::from_millis(300)).await;
        is_right.store(right_in_the_end, Ordering::Relaxed);
        let ledger = remote.shutdown(Duration::from_secs(8)).await.remove(0).ledger;
        assert_eq!(requests(), 2, "{ledger:?}");
        assert_eq!(ledger.delivered.samples, if right_in_the_end { 10 } else { 0 });
        assert_eq!(ledger.pending.samples, if right_in_the_end { 0 } else { 10 });
    }
}
