//! A wall clock that jumps while the receiver is down: delivery goes by intervals, and by the wall clock only where
//! samples have an age.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod receiver;
mod sender;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use promferry_model::{Clock, Labels, PromDuration, Sample, SystemClock, TargetSink, Timestamp};
use promferry_remote_write::spool::Reason;
use promferry_remote_write::{RemoteWrite, RemoteWriteConfig};
use receiver::Receiver;

const HOUR_MS: i64 = 3_600_000;
const SERIES: usize = 100;

/// The machine's clock, set wrong by so many milliseconds.
struct WrongClock {
    machine: SystemClock,
    ahead_ms: AtomicI64,
}

impl WrongClock {
    fn jump(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.machine.now().as_millis() + self.ahead_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

struct Stand {
    receiver: Receiver,
    clock: Arc<WrongClock>,
    remote: RemoteWrite,
    targets: u32,
}

impl Stand {
    async fn start(dir: &Path, sample_age_limit: Option<PromDuration>) -> Self {
        let receiver = Receiver::start().await;
        let mut config = RemoteWriteConfig { url: receiver.url(), ..RemoteWriteConfig::default() };
        config.queue_config.batch_send_deadline = PromDuration::from_millis(20);
        config.queue_config.max_backoff = PromDuration::from_millis(100);
        config.queue_config.sample_age_limit = sample_age_limit;
        config.metadata_config.send = false;
        let clock = Arc::new(WrongClock { machine: SystemClock::new(), ahead_ms: AtomicI64::new(0) });
        let endpoints = vec![sender::endpoint(config)];
        let remote = sender::start(&dir.join("spool"), clock.clone(), Labels::default(), endpoints).await;
        Self { receiver, clock, remote, targets: 0 }
    }

    /// One scrape, at the time that the clock shows, of a target not seen before.
    async fn scrape_new_target(&mut self) {
        self.targets += 1;
        let instance = format!("host-{}:80", self.targets);
        let numbers = (0..SERIES).map(|number| number.to_string());
        let (mut sink, series) = sender::gauges(&self.remote, &instance, numbers);
        let at = self.clock.now();
        sink.begin(at);
        for id in series {
            sink.sample(id, Sample::new(at, 1.0));
        }
        sink.commit().await.unwrap();
    }

    async fn until_attempted(&self) {
        let before = self.receiver.requests().len();
        self.receiver.until("another attempt", |r| r.requests().len() > before).await;
    }

    /// Samples dropped for their age, after checking that the ledger balances.
    async fn too_old(&self) -> u64 {
        let status = self.remote.status().await.unwrap();
        assert!(status[0].ledger.balances(), "{:?}", status[0]);
        assert_eq!(status[0].ledger.accepted.samples, u64::from(self.targets) * SERIES as u64);
        status[0].ledger.dropped_for(&Reason::TOO_OLD).samples
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_either_way_loses_nothing_and_stops_no_retry() {
    let dir = tempfile::tempdir().unwrap();
    let mut stand = Stand::start(dir.path(), None).await;
    stand.receiver.answer(503, "down for a while");
    for jump in [0, 24 * HOUR_MS, -48 * HOUR_MS, HOUR_MS / 60, -HOUR_MS] {
        stand.clock.jump(jump);
        stand.scrape_new_target().await;
        stand.until_attempted().await;
    }
    stand.receiver.answer(200, "");
    stand.receiver.until("everything arrived", |r| r.count() == 5 * SERIES).await;
    stand.receiver.assert_once_in_order();
    stand.remote.shutdown(Duration::from_secs(20)).await;
    assert_eq!(stand.too_old().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_age_limit_a_jump_in_either_direction_ages_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let limit = Some(PromDuration::from_millis(55 * 60 * 1000));
    let mut stand = Stand::start(dir.path(), limit).await;
    stand.receiver.answer(503, "down for a while");
    stand.scrape_new_target().await;
    stand.until_attempted().await;
    stand.clock.jump(-2 * HOUR_MS);
    stand.scrape_new_target().await;
    stand.until_attempted().await;
    assert_eq!(stand.too_old().await, 0);
    // Now the clock is two hours ahead: the first are two hours old by it, the second four. They came just now.
    stand.clock.jump(4 * HOUR_MS);
    stand.scrape_new_target().await;
    stand.until_attempted().await;
    stand.receiver.answer(200, "");
    stand.receiver.until("everything arrived", |r| r.count() == 3 * SERIES).await;
    stand.remote.shutdown(Duration::from_secs(20)).await;
    assert_eq!(stand.too_old().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gets_too_old_while_it_is_refused_for_its_credentials_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let limit = Some(PromDuration::from_secs(3));
    let mut stand = Stand::start(dir.path(), limit).await;
    for status in [503, 403] {
        stand.receiver.answer(status, "not you");
        stand.scrape_new_target().await;
        stand.until_attempted().await;
        let (before, dropped) = (stand.receiver.requests().len(), stand.too_old().await);
        let started = std::time::Instant::now();
        while stand.too_old().await == dropped {
            assert!(started.elapsed() < Duration::from_secs(25), "{status}: it is too old for long");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let more = stand.receiver.requests().len() - before;
        assert!(status != 403 || more == 0, "too old, and sent {more} times more");
    }
    stand.remote.shutdown(Duration::from_secs(20)).await;
    assert_eq!(stand.receiver.count(), 0);
}
