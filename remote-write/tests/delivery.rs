//! Samples go in at one end, and a real HTTP server counts them at the other, whatever it answers meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod receiver;
mod sender;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use promferry_model::{
    Labels, LabelsBuilder, MetadataView, PromDuration, Sample, SeriesId, SeriesView, SystemClock, TargetSink,
    Timestamp,
};
use promferry_relabel::RelabelConfig;
use promferry_remote_write::spool::Reason;
use promferry_remote_write::{ProtobufMessage, RemoteWrite, RemoteWriteConfig, RemoteWriteTarget};
use receiver::Receiver;

const START: i64 = 1_700_000_000_000;

fn config(receiver: &Receiver) -> RemoteWriteConfig {
    let mut config = RemoteWriteConfig { url: receiver.url(), ..RemoteWriteConfig::default() };
    config.queue_config.batch_send_deadline = PromDuration::from_millis(20);
    config.queue_config.max_backoff = PromDuration::from_millis(100);
    config.metadata_config.send = false;
    config
}

async fn start(dir: &Path, configs: Vec<RemoteWriteConfig>) -> RemoteWrite {
    let endpoints = configs.into_iter().map(sender::endpoint).collect();
    let external_labels = Labels::from_pairs([("cluster", "test")]);
    sender::start(&dir.join("spool"), Arc::new(SystemClock::new()), external_labels, endpoints).await
}

struct Target {
    sink: RemoteWriteTarget,
    series: Vec<SeriesId>,
}

impl Target {
    fn open(remote: &RemoteWrite, instance: &str, series: usize) -> Self {
        let numbers = (0..series).map(|number| number.to_string());
        let (mut sink, series) = sender::gauges(remote, instance, numbers);
        sink.metadata(&sender::GAUGE);
        Self { sink, series }
    }

    async fn scrape(&mut self, number: i64) {
        let at = Timestamp::from_millis(START + 1000 * number);
        self.sink.begin(at);
        for &id in &self.series {
            self.sink.sample(id, Sample::new(at, number as f64));
        }
        self.sink.commit().await.unwrap();
    }
}

/// Every endpoint's ledger balances; returns (accepted, delivered, dropped, pending) samples of the first.
async fn balance(remote: &RemoteWrite) -> (u64, u64, u64, u64) {
    let status = remote.status().await.unwrap();
    for endpoint in &status {
        assert!(endpoint.ledger.balances(), "{endpoint:?}");
    }
    let ledger = &status[0].ledger;
    let dropped = ledger.dropped_total().samples;
    (ledger.accepted.samples, ledger.delivered.samples, dropped, ledger.pending.samples)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_a_restart_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let remote = start(dir.path(), vec![config(&receiver)]).await;
    let mut targets: Vec<_> = (0..5).map(|n| Target::open(&remote, &format!("host-{n}:80"), 300)).collect();
    for scrape in 0..4 {
        if scrape == 1 {
            receiver.until("the first scrape arrived", |r| r.count() == 5 * 300).await;
            receiver.answer(503, "down for a while");
        }
        for target in &mut targets {
            target.scrape(scrape).await;
        }
    }
    receiver
        .until("attempts were made", |r| {
            r.requests().iter().filter(|(_, _, status)| *status == 503).count() > 2
        })
        .await;
    let (accepted, delivered, dropped, pending) = balance(&remote).await;
    assert_eq!((accepted, delivered, dropped, pending), (6000, 1500, 0, 4500));
    drop(targets);
    remote.shutdown(Duration::from_millis(200)).await;
    drop(remote);

    receiver.answer(200, "");
    let remote = start(dir.path(), vec![config(&receiver)]).await;
    let mut target = Target::open(&remote, "host-0:80", 300);
    target.scrape(9).await;
    receiver.until("everything arrived", |r| r.count() == 6300).await;
    receiver.assert_once_in_order();
    remote.shutdown(Duration::from_secs(20)).await;
    let labels = receiver.samples().into_keys().next().unwrap();
    assert_eq!(labels, "__name__=m,cluster=test,instance=host-0:80,job=test,number=0");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_sends_what_waits_and_does_not_wait_for_more() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut config = config(&receiver);
    config.queue_config.batch_send_deadline = PromDuration::from_secs(3600);
    let remote = start(dir.path(), vec![config]).await;
    let mut target = Target::open(&remote, "a:1", 10);
    target.scrape(0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.count(), 0, "ten samples wait for the deadline");
    // Announced too late to be read ahead; it still goes in the same request.
    target.scrape(1).await;
    remote.shutdown(Duration::from_secs(20)).await;
    assert_eq!((receiver.count(), receiver.requests().len()), (20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_endpoint_that_is_down_takes_nothing_from_another_with_other_rules() {
    let dir = tempfile::tempdir().unwrap();
    let (up, down) = (Receiver::start().await, Receiver::start().await);
    down.answer(500, "");
    let only_odd: RelabelConfig =
        serde_json::from_str(r#"{"source_labels": ["number"], "regex": ".*[13579]", "action": "keep"}"#)
            .unwrap();
    let filtered = RemoteWriteConfig { write_relabel_configs: vec![only_odd], ..config(&up) };
    let remote = start(dir.path(), vec![filtered, config(&down)]).await;
    let mut target = Target::open(&remote, "a:1", 100);
    for scrape in 0..5 {
        target.scrape(scrape).await;
    }
    up.until("half of it arrived", |r| r.count() == 250).await;
    assert_eq!(down.count(), 0);
    balance(&remote).await;
    down.answer(200, "");
    down.until("all of it arrived", |r| r.count() == 500).await;
    assert!(up.samples().keys().all(|series| !series.ends_with('0')));
    up.assert_once_in_order();
    down.assert_once_in_order();
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_split_until_it_fits() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.judge(|received| {
        if received.raw_bytes > 100_000 { (413, "too large".into()) } else { (200, String::new()) }
    });
    let remote = start(dir.path(), vec![config(&receiver)]).await;
    let mut target = Target::open(&remote, "a:1", 2000);
    for scrape in 0..3 {
        target.scrape(scrape).await;
    }
    receiver.until("all of it arrived", |r| r.count() == 6000).await;
    receiver.assert_once_in_order();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(balance(&remote).await, (6000, 6000, 0, 0));
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_counted_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut first = true;
    receiver.judge(move |_| {
        let status = if first { 400 } else { 200 };
        first = false;
        (status, "label value is not to our taste".into())
    });
    let remote = start(dir.path(), vec![config(&receiver)]).await;
    let mut target = Target::open(&remote, "a:1", 10);
    target.scrape(0).await;
    receiver.until("a refusal", |r| r.requests().len() == 1).await;
    target.scrape(1).await;
    receiver.until("the next scrape", |r| r.count() == 10).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(balance(&remote).await, (20, 10, 10, 0));
    let status = remote.status().await.unwrap().remove(0);
    assert_eq!(status.ledger.dropped_for(&Reason::REFUSED).samples, 10);
    let text = status.delivery.last_error.unwrap().text;
    assert!(text.contains("400") && text.contains("not to our taste"), "{text}");
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_keeps_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.answer(403, r#"{"message":"Missing Authentication Token"}"#);
    let remote = start(dir.path(), vec![config(&receiver)]).await;
    let mut target = Target::open(&remote, "a:1", 10);
    target.scrape(0).await;
    receiver.until("a denial", |r| !r.requests().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(receiver.requests().len(), 1, "the next attempt comes after ten seconds at the earliest");
    assert_eq!(balance(&remote).await, (10, 0, 0, 10));
    let started = std::time::Instant::now();
    remote.shutdown(Duration::from_secs(20)).await;
    assert!(started.elapsed() < Duration::from_secs(8), "a refusal ends the flush at once");
    receiver.answer(200, "");
    let remote = start(dir.path(), vec![config(&receiver)]).await;
    receiver.until("the kept data", |r| r.count() == 10).await;
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_knows_only_1_0_gets_1_0() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.judge(|received| {
        if received.version.starts_with('2') { (415, "unsupported".into()) } else { (200, String::new()) }
    });
    let wanted = RemoteWriteConfig { protobuf_message: ProtobufMessage::V2, ..config(&receiver) };
    let remote = start(dir.path(), vec![wanted]).await;
    let mut target = Target::open(&remote, "a:1", 700);
    for scrape in 0..3 {
        target.scrape(scrape).await;
    }
    receiver.until("all of it arrived", |r| r.count() == 2100).await;
    receiver.assert_once_in_order();
    let versions: Vec<_> = receiver.requests().into_iter().map(|(version, ..)| version).collect();
    assert_eq!(versions.iter().filter(|version| version.starts_with('2')).count(), 1, "{versions:?}");
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_2_is_confirmed_by_written_headers() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let wanted = RemoteWriteConfig { protobuf_message: ProtobufMessage::V2, ..config(&receiver) };
    let remote = start(dir.path(), vec![wanted]).await;
    let mut target = Target::open(&remote, "a:1", 700);
    target.scrape(0).await;
    receiver.until("all of it arrived", |r| r.count() == 700).await;
    assert!(receiver.requests().iter().all(|(version, ..)| version == "2.0.0"));
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_live_targets_is_sent_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut config = config(&receiver);
    config.metadata_config.send = true;
    config.metadata_config.send_interval = PromDuration::from_millis(50);
    let remote = start(dir.path(), vec![config]).await;
    let target = Target::open(&remote, "a:1", 1);
    receiver.until("metadata", |r| r.state.lock().unwrap().metadata.iter().any(|family| family == "m")).await;
    drop(target);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_of_another_size_after_a_restart_does_not_overtake_what_it_left() {
    // More than this many series are spread over several lanes.
    const HUGE: usize = 20_000;
    for (before, scrapes, after) in [(200, 100, HUGE + 100), (HUGE + 100, 3, 200)] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        receiver.answer(503, "down");
        let mut config = config(&receiver);
        // Lanes are sent side by side: what is in another lane may overtake.
        config.queue_config.min_shards = 8;
        let remote = start(dir.path(), vec![config.clone()]).await;
        let mut target = Target::open(&remote, "host:80", before);
        for scrape in 0..scrapes {
            target.scrape(scrape).await;
        }
        drop(target);
        remote.shutdown(Duration::ZERO).await;
        drop(remote);
        let remote = start(dir.path(), vec![config]).await;
        let mut target = Target::open(&remote, "host:80", after);
        for scrape in scrapes..scrapes + 2 {
            target.scrape(scrape).await;
        }
        receiver.answer(200, "");
        let all = scrapes as usize * before + 2 * after;
        receiver.until("everything arrived", |r| r.count() == all).await;
        receiver.assert_once_in_order();
        remote.shutdown(Duration::from_secs(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_round_of_metadata_waits_for_an_endpoint_that_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.answer_by(|_| receiver::Verdict {
        after: Duration::from_millis(20),
        ..(503, "down".to_owned()).into()
    });
    let mut config = config(&receiver);
    config.metadata_config.send = true;
    config.metadata_config.send_interval = PromDuration::from_millis(10);
    config.queue_config.min_backoff = PromDuration::from_millis(5);
    config.queue_config.max_backoff = PromDuration::from_millis(5);
    let remote = start(dir.path(), vec![config]).await;
    let target = Target::open(&remote, "a:1", 1);
    receiver.until("attempts", |r| r.requests().len() > 20).await;
    assert_eq!(receiver.state.lock().unwrap().in_hand.1, 1, "at once");
    receiver.answer(200, "");
    let rounds =
        |r: &Receiver| r.state.lock().unwrap().metadata.iter().filter(|family| *family == "m").count();
    receiver.until("rounds go on", |r| rounds(r) > 3).await;
    drop(target);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_metadata_is_sent_in_requests_that_are_not_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut config = config(&receiver);
    config.metadata_config.send = true;
    config.metadata_config.send_interval = PromDuration::from_millis(50);
    let remote = start(dir.path(), vec![config]).await;
    let (mut sink, labels) = sender::open(&remote, "test", "a:1");
    let help = "x".repeat(3000);
    for number in 0..1000 {
        let family = format!("family_{number}");
        let metadata = MetadataView { family: &family, help: &help, ..sender::GAUGE };
        let mut builder = LabelsBuilder::from(&labels);
        builder.set("__name__", family.as_str());
        sink.admit(&SeriesView { labels: builder.as_slice(), metadata }).unwrap();
    }
    receiver.until("all of it", |r| r.state.lock().unwrap().metadata.len() >= 1000).await;
    let largest = receiver.state.lock().unwrap().largest;
    assert!(largest.0 < 1_000_000 && largest.0 > 300_000, "{largest:?}");
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_described_once_however_often_it_is_sent() {
    #[derive(Clone)]
    struct Number(usize);

    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut requests = 0;
    receiver.judge(move |received| {
        requests += 1;
        match requests {
            ..=6 => (503, "down".into()),
            _ if received.raw_bytes > 100_000 => (413, "too large".into()),
            _ => (200, String::new()),
        }
    });
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let layered = tower::ServiceBuilder::new()
        .map_request({
            let sent = Arc::clone(&sent);
            move |request: http::Request<bytes::Bytes>| {
                let number = request.extensions().get::<Number>().map(|number| number.0);
                sent.lock().unwrap().push((number, request.body().clone()));
                request
            }
        })
        .service(sender::http());
    let described = Arc::new(std::sync::Mutex::new(Vec::new()));
    let describe = {
        let described = Arc::clone(&described);
        move |body: &bytes::Bytes| {
            let mut described = described.lock().unwrap();
            described.push(body.clone());
            let mut extensions = http::Extensions::new();
            extensions.insert(Number(described.len() - 1));
            extensions
        }
    };
    let mut config = config(&receiver);
    config.metadata_config.send = true;
    config.metadata_config.send_interval = PromDuration::from_millis(100);
    let endpoint = promferry_remote_write::Endpoint {
        config,
        transport: promferry_remote_write::delivery::transport(layered),
        explain_denial: None,
        describe_body: Some(Arc::new(describe)),
    };
    let clock = Arc::new(SystemClock::new());
    let remote = sender::start(&dir.path().join("spool"), clock, Labels::default(), vec![endpoint]).await;
    let mut target = Target::open(&remote, "a:1", 2000);
    target.scrape(0).await;
    receiver.until("all of it arrived", |r| r.count() == 2000).await;
    receiver.until("its metadata", |r| !r.state.lock().unwrap().metadata.is_empty()).await;
    remote.shutdown(Duration::from_secs(20)).await;

    let (described, sent) = (described.lock().unwrap(), sent.lock().unwrap());
    let mut attempts = vec![0; described.len()];
    for (number, body) in sent.iter() {
        let number = number.expect("each request carries what its body was described by");
        assert!(described[number] == *body, "what belongs to another body");
        attempts[number] += 1;
    }
    assert!(attempts.iter().all(|attempts| *attempts > 0), "made for nothing: {attempts:?}");
    assert!(attempts.iter().any(|attempts| *attempts > 2), "none was sent again: {attempts:?}");
    assert!(described.len() > 3, "none was split: {attempts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_explanation_quotes_is_redacted_as_the_answer_is() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let echo = r#"[["x-scope","hunter2-of-the-header"],["x-amz-security-token","IQoJb3JpZ2luX2VjEHUNTER2hunter2"]]
        authorization: Basic hunter2hunter2"#;
    receiver.judge(move |_| (403, echo.to_owned()));
    let mut config = config(&receiver);
    config.headers.insert("x-scope".to_owned(), "hunter2-of-the-header".to_owned());
    let endpoint = promferry_remote_write::Endpoint {
        config,
        transport: promferry_remote_write::delivery::transport(sender::http()),
        explain_denial: Some(Arc::new(|status, _, body| {
            Some(format!("the endpoint's {status} says: {}", String::from_utf8_lossy(body)))
        })),
        describe_body: None,
    };
    let clock = Arc::new(SystemClock::new());
    let remote = sender::start(&dir.path().join("spool"), clock, Labels::default(), vec![endpoint]).await;
    let mut target = Target::open(&remote, "a:1", 10);
    target.scrape(0).await;
    let said = async || remote.status().await.unwrap().remove(0).delivery.last_error.map(|error| error.text);
    let said = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match said().await {
                Some(said) => break said,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let said = said.await.unwrap();
    assert!(said.contains("403 Forbidden says: [[") && !said.to_lowercase().contains("hunter2"), "{said}");
    remote.shutdown(Duration::from_millis(100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_delivery_stops_one_lane_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let bomb = |request: http::Request<bytes::Bytes>| async move {
        // Only one of the targets makes requests as large as that.
        if request.body().len() > 200_000 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            panic!("a layer that panics, on purpose");
        }
        request
    };
    let layered = tower::ServiceBuilder::new()
        .layer_fn(move |inner| {
            tower::service_fn(move |request| {
                let mut inner = Clone::clone(&inner);
                async move { tower::Service::call(&mut inner, bomb(request).await).await }
            })
        })
        .service(sender::http());
    let endpoint = promferry_remote_write::Endpoint {
        config: config(&receiver),
        transport: promferry_remote_write::delivery::transport(layered),
        explain_denial: None,
        describe_body: None,
    };
    let clock = Arc::new(SystemClock::new());
    let remote = sender::start(&dir.path().join("spool"), clock, Labels::default(), vec![endpoint]).await;
    let noise = |seed: u64| {
        let mut state = seed + 1;
        let text = (0..60_000).map(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (state >> 33) as u8 % 26)
        });
        text.collect::<String>()
    };
    let (mut large, series) = sender::gauges(&remote, "large:1", (0..60).map(noise));
    let at = Timestamp::from_millis(START);
    large.begin(at);
    for id in series {
        large.sample(id, Sample::new(at, 1.0));
    }
    large.commit().await.unwrap();
    let mut small = Target::open(&remote, "b:1", 10);
    for scrape in 0..5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        small.scrape(scrape).await;
        receiver.until("the other target's", |r| r.count() == 10 * (scrape as usize + 1)).await;
    }
    let started = std::time::Instant::now();
    let status = remote.shutdown(Duration::from_secs(20)).await.remove(0);
    assert!(started.elapsed() < Duration::from_secs(10), "what can't be sent is not waited for");
    assert_eq!((status.delivery.abandoned_lanes, status.ledger.pending.samples), (1, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_does_not_wait_for_an_endpoint_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&Receiver::start().await);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    config.url = format!("http://{gone}/api/v1/write");
    let remote = start(dir.path(), vec![config.clone()]).await;
    let mut target = Target::open(&remote, "a:1", 10);
    target.scrape(0).await;
    let started = std::time::Instant::now();
    let ledger = remote.shutdown(Duration::from_secs(20)).await.remove(0).ledger;
    let took = started.elapsed();
    assert_eq!((ledger.pending.samples, ledger.balances()), (10, true));
    assert!(took >= Duration::from_millis(4900) && took < Duration::from_secs(10), "{took:?}");
}
