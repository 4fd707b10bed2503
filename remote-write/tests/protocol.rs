//! Which message is sent: what is configured, what the receiver takes, what was found out before. Whatever it
//! is, nothing is lost, nothing comes twice, and the ledger balances.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod receiver;
mod sender;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use promferry_model::{
    BucketCounts, Clock, Histogram, Labels, PromDuration, Sample, SeriesId, SystemClock, TargetSink,
    Timestamp,
};
use promferry_remote_write::spool::Reason;
use promferry_remote_write::{ProtobufMessage, RemoteWrite, RemoteWriteConfig, RemoteWriteTarget};
use receiver::Receiver;

/// Goes on as the machine's does, and further when it is told to.
struct AheadClock {
    system: SystemClock,
    ahead_ms: AtomicI64,
}

impl AheadClock {
    fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(by.as_millis() as i64, Ordering::Relaxed);
    }
}

impl Clock for AheadClock {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_ms.load(Ordering::Relaxed) as u64;
        self.system.now().saturating_add(Duration::from_millis(ahead))
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }
}

/// A sender with one endpoint and one target.
struct Sender {
    remote: RemoteWrite,
    clock: Arc<AheadClock>,
    target: RemoteWriteTarget,
    series: Vec<SeriesId>,
    scraped: i64,
}

const SERIES: usize = 300;
const START: i64 = 1_700_000_000_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60 + 1);

impl Sender {
    async fn start(dir: &Path, config: RemoteWriteConfig, scraped: i64) -> Self {
        let clock = Arc::new(AheadClock { system: SystemClock::new(), ahead_ms: AtomicI64::new(0) });
        let external_labels = Labels::from_pairs([("cluster", "test")]);
        let remote = sender::start(dir, clock.clone(), external_labels, vec![sender::endpoint(config)]).await;
        let numbers = (0..SERIES).map(|number| number.to_string());
        let (target, series) = sender::gauges(&remote, "a:1", numbers);
        Self { remote, clock, target, series, scraped }
    }

    async fn scrape(&mut self) {
        let at = Timestamp::from_millis(START + 1000 * self.scraped);
        self.scraped += 1;
        self.target.begin(at);
        for &id in &self.series {
            self.target.sample(id, Sample::new(at, 1.0));
        }
        self.target.commit().await.unwrap();
    }

    /// Waits until everything that was scraped has arrived, and checks that it did once.
    async fn arrives(&self, receiver: &Receiver) {
        let expected = SERIES * self.scraped as usize;
        receiver.until("all of it arrived", |r| r.count() >= expected).await;
        assert_eq!(receiver.count(), expected);
        receiver.assert_once_in_order();
    }

    /// Ends it and checks that the ledger says that everything was delivered.
    async fn stop(self, dropped: u64) {
        for _ in 0..500 {
            let status = self.remote.status().await.unwrap().remove(0);
            assert!(status.ledger.balances(), "{status:?}");
            if status.ledger.pending.samples == 0 {
                assert_eq!(status.ledger.dropped_total().samples, dropped);
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(self.target);
        self.remote.shutdown(Duration::from_secs(20)).await;
    }
}

fn config(receiver: &Receiver, message: ProtobufMessage) -> RemoteWriteConfig {
    let mut config =
        RemoteWriteConfig { url: receiver.url(), protobuf_message: message, ..RemoteWriteConfig::default() };
    config.queue_config.batch_send_deadline = PromDuration::from_millis(10);
    config.queue_config.max_backoff = PromDuration::from_millis(100);
    config.metadata_config.send = false;
    config
}

/// What a receiver answers to a message that it does not know, while `only` says which it knows.
fn speaks(receiver: &Receiver, only: &Arc<Mutex<&'static str>>, refusal: (u16, &'static str)) {
    let only = Arc::clone(only);
    receiver.judge(move |received| {
        if received.version.starts_with(*only.lock().unwrap()) {
            (200, String::new())
        } else {
            (refusal.0, refusal.1.to_owned())
        }
    });
}

/// How many requests had this version.
fn requests(receiver: &Receiver, version: &str) -> usize {
    receiver.requests().iter().filter(|(of, ..)| of.starts_with(version)).count()
}

const V1_ONLY: &str = "0.1";
const V2_ONLY: &str = "2.";
const ANY: &str = "";

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_not_knowing_2_0_leads_to_1_0() {
    for refusal in [
        (415, "unsupported media type"),
        (
            400,
            "proto: WriteRequest: illegal tag 0 (wire type 0): proto: wrong wireType = 2 for field Samples",
        ),
        (400, "snappy: unexpected EOF"),
        (299, ""),
    ] {
        for message in [ProtobufMessage::V2, ProtobufMessage::Auto] {
            let dir = tempfile::tempdir().unwrap();
            let receiver = Receiver::start().await;
            speaks(&receiver, &Arc::new(Mutex::new(V1_ONLY)), refusal);
            let mut sender = Sender::start(dir.path(), config(&receiver, message), 0).await;
            for _ in 0..3 {
                sender.scrape().await;
            }
            sender.arrives(&receiver).await;
            assert_eq!(requests(&receiver, "2."), 1, "{refusal:?}");
            assert!(sender.remote.status().await.unwrap()[0].delivery.v1_by_fallback);
            sender.stop(0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_2_0_gets_2_0_and_one_that_nothing_is_said_about_gets_1_0() {
    for (message, only, versions) in [
        (ProtobufMessage::Auto, V2_ONLY, ["2.0.0"]),
        (ProtobufMessage::V2, ANY, ["2.0.0"]),
        (ProtobufMessage::Auto, ANY, ["2.0.0"]),
        (ProtobufMessage::V1, ANY, ["0.1.0"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        speaks(&receiver, &Arc::new(Mutex::new(only)), (415, ""));
        let mut sender = Sender::start(dir.path(), config(&receiver, message), 0).await;
        sender.scrape().await;
        sender.arrives(&receiver).await;
        assert!(receiver.requests().iter().all(|(version, ..)| versions.contains(&version.as_str())));
        sender.stop(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_fall_back_is_refused_and_counted() {
    for (message, only) in [(ProtobufMessage::V2, V1_ONLY), (ProtobufMessage::V1, V2_ONLY)] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        speaks(&receiver, &Arc::new(Mutex::new(only)), (415, "unsupported media type"));
        let config = RemoteWriteConfig { protobuf_fallback: false, ..config(&receiver, message) };
        let mut sender = Sender::start(dir.path(), config, 0).await;
        sender.scrape().await;
        receiver.until("a refusal", |r| !r.requests().is_empty()).await;
        assert_eq!(receiver.count(), 0);
        sender.stop(SERIES as u64).await;
        assert_eq!(receiver.requests().len(), 1, "refused once, and no request more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_choice_outlives_a_restart_and_a_backlog_of_2_0_leaves_as_1_0() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let only = Arc::new(Mutex::new(V1_ONLY));
    speaks(&receiver, &only, (415, ""));
    let mut sender = Sender::start(dir.path(), config(&receiver, ProtobufMessage::Auto), 0).await;
    sender.scrape().await;
    sender.arrives(&receiver).await;
    // Down: what is scraped now waits on disk, as 2.0.
    receiver.answer(503, "");
    for _ in 0..3 {
        sender.scrape().await;
    }
    let scraped = sender.scraped;
    drop(sender.target);
    sender.remote.shutdown(Duration::from_millis(100)).await;

    speaks(&receiver, &only, (415, ""));
    let sender = Sender::start(dir.path(), config(&receiver, ProtobufMessage::Auto), scraped).await;
    sender.arrives(&receiver).await;
    sender.stop(0).await;
    assert_eq!(requests(&receiver, "2."), 1, "the first run's first request");

    // At another URL nothing is known.
    let other = Receiver::start().await;
    let moved = RemoteWriteConfig { name: "moved".into(), ..config(&other, ProtobufMessage::Auto) };
    let mut sender = Sender::start(dir.path(), moved, 0).await;
    sender.scrape().await;
    sender.arrives(&other).await;
    assert_eq!(requests(&other, "0.1"), 0);
    sender.stop(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_a_day_one_request_asks_whether_2_0_is_taken_by_now() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let only = Arc::new(Mutex::new(V1_ONLY));
    speaks(&receiver, &only, (415, ""));
    let mut sender = Sender::start(dir.path(), config(&receiver, ProtobufMessage::Auto), 0).await;
    for day in 0..3 {
        for _ in 0..3 {
            sender.scrape().await;
            sender.arrives(&receiver).await;
        }
        assert_eq!(requests(&receiver, "2."), day + 1);
        sender.clock.advance(DAY);
    }
    // An answer that says nothing about the message says nothing about the data either.
    receiver.judge(
        |received| if received.version.starts_with('2') { (400, "no".into()) } else { (200, String::new()) },
    );
    sender.scrape().await;
    sender.arrives(&receiver).await;
    assert_eq!(requests(&receiver, "2."), 4);

    *only.lock().unwrap() = ANY;
    speaks(&receiver, &only, (415, ""));
    sender.clock.advance(DAY);
    let v1 = requests(&receiver, "0.1");
    for _ in 0..3 {
        sender.scrape().await;
        sender.arrives(&receiver).await;
    }
    assert_eq!(requests(&receiver, "0.1"), v1, "2.0 from here on");
    assert!(!sender.remote.status().await.unwrap()[0].delivery.v1_by_fallback);
    sender.stop(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_changes_its_mind_is_followed_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let only = Arc::new(Mutex::new(V2_ONLY));
    speaks(&receiver, &only, (415, ""));
    let mut sender = Sender::start(dir.path(), config(&receiver, ProtobufMessage::Auto), 0).await;
    for knows in [V2_ONLY, V1_ONLY, V2_ONLY, V1_ONLY] {
        *only.lock().unwrap() = knows;
        for _ in 0..2 {
            sender.scrape().await;
            sender.arrives(&receiver).await;
        }
    }
    sender.stop(0).await;
    let refused = receiver.requests().iter().filter(|(.., status)| *status == 415).count();
    assert_eq!(refused, 3, "one for each change");
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_that_1_0_has_no_place_for_are_counted() {
    let histogram = |schema: i32| Histogram {
        schema,
        custom_values: if schema == promferry_model::CUSTOM_BUCKETS_SCHEMA { vec![1.0] } else { Vec::new() },
        counts: BucketCounts::Integer { count: 3, zero_count: 0, positive: vec![], negative: vec![] },
        ..Histogram::stale()
    };
    for (send_native_histograms, delivered, custom, off) in [(true, 1, 1, 0), (false, 0, 0, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        speaks(&receiver, &Arc::new(Mutex::new(V1_ONLY)), (415, ""));
        let config = RemoteWriteConfig { send_native_histograms, ..config(&receiver, ProtobufMessage::V2) };
        let mut sender = Sender::start(dir.path(), config, 0).await;
        sender.scrape().await;
        sender.arrives(&receiver).await;
        let at = Timestamp::from_millis(START + 5000);
        sender.target.begin(at);
        sender.target.histogram(sender.series[0], at, None, &histogram(3));
        sender.target.histogram(
            sender.series[1],
            at,
            None,
            &histogram(promferry_model::CUSTOM_BUCKETS_SCHEMA),
        );
        sender.target.commit().await.unwrap();
        let mut ledger = sender.remote.status().await.unwrap().remove(0).ledger;
        for _ in 0..500 {
            if ledger.pending.histograms == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            ledger = sender.remote.status().await.unwrap().remove(0).ledger;
        }
        assert!(ledger.balances());
        assert_eq!(ledger.delivered.histograms, delivered);
        assert_eq!(ledger.dropped_for(&Reason::NHCB_IN_RW1).histograms, custom);
        assert_eq!(ledger.dropped_for(&Reason::NATIVE_HISTOGRAMS_OFF).histograms, off);
        sender.stop(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_metadata_go_to_whom_1_0_is_sent() {
    for (only, told) in [(V1_ONLY, true), (V2_ONLY, false)] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        speaks(&receiver, &Arc::new(Mutex::new(only)), (415, ""));
        let mut config = config(&receiver, ProtobufMessage::Auto);
        config.metadata_config.send = true;
        config.metadata_config.send_interval = PromDuration::from_millis(30);
        let mut sender = Sender::start(dir.path(), config, 0).await;
        sender.scrape().await;
        sender.arrives(&receiver).await;
        let families = || receiver.state.lock().unwrap().metadata.clone();
        if told {
            receiver.until("metadata", |_| families().iter().any(|family| family == "m")).await;
        } else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(families().is_empty(), "2.0 has it on every series");
            assert_eq!(requests(&receiver, "0.1"), 0);
        }
        sender.stop(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_out_holds_for_another_password_too() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let only = Arc::new(Mutex::new("0.1"));
    speaks(&receiver, &only, (415, "unsupported"));
    let with_password = |password: &str| {
        let mut config = config(&receiver, ProtobufMessage::V2);
        config.url = config.url.replacen("http://", &format!("http://me:{password}@"), 1);
        config
    };
    let mut sender = Sender::start(dir.path(), with_password("hunter2"), 0).await;
    sender.scrape().await;
    sender.arrives(&receiver).await;
    sender.stop(0).await;
    let of_2_0 = || receiver.requests().iter().filter(|(version, ..)| version.starts_with('2')).count();
    assert_eq!(of_2_0(), 1);
    let mut sender = Sender::start(dir.path(), with_password("changed"), 1).await;
    sender.scrape().await;
    let expected = 2 * SERIES;
    receiver.until("the second scrape", |r| r.count() == expected).await;
    sender.stop(0).await;
    assert_eq!(of_2_0(), 1, "it was known");
}
