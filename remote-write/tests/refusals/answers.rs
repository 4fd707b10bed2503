//! One answer, and what is dropped, delivered and sent again for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use promferry_model::PromDuration;

use crate::receiver::{Received, Verdict};
use crate::world::{AMP, World, as_go_prints, dropped};

fn verdict(status: u16, body: impl Into<String>) -> Verdict {
    (status, body.into()).into()
}

/// Takes all but the samples of series `number`, as a receiver does that writes the rest.
fn all_but(received: &Received<'_>, number: &str) -> Vec<usize> {
    let refused = format!("number={number}");
    (0..received.samples.len()).filter(|&at| !received.samples[at].0.ends_with(&refused)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_sample_is_dropped_alone_and_nothing_is_sent_again() {
    for (text, reason) in [
        ("user=u: err: out of order sample. timestamp=2023-11-14T22:13:20Z, series=", "sample-out-of-order"),
        ("user=u: err: duplicate sample for timestamp. series=", "new-value-for-timestamp"),
        (
            "user=u: err: too old sample. timestamp=2023-11-14T22:13:20Z, tsdbHeadMaxTimestamp=2023-11-14T23:13:20Z, series=",
            "sample-too-old",
        ),
        ("series has too many labels (actual: 151, limit: 150) series: ", "max_label_names_per_series"),
        (
            "failed pushing to ingester i-0: user=a: the sample has been rejected (err-mimir-sample-out-of-order). The affected sample has timestamp 2023-11-14T22:13:20Z and is from series ",
            "sample-out-of-order",
        ),
    ] {
        let world = World::start().await;
        world.receiver.answer_by(move |received| {
            let taken = all_but(received, "7");
            let refused = received.samples.iter().find(|(series, _)| series.ends_with("number=7")).unwrap();
            let mut verdict = verdict(400, format!("{text}{}", as_go_prints(refused.0)));
            verdict.taken = Some(taken);
            verdict
        });
        world.target("a:1", 100).scrape(0).await;
        assert_eq!(world.settled().await, (99, dropped(reason, 1)), "{text}");
        assert_eq!((world.receiver.requests().len(), world.receiver.count()), (1, 99), "{text}");
        let refusals = world.snapshot().await.refusals;
        let series = refusals.values().next().unwrap().series.clone();
        assert_eq!(series.as_deref(), Some(r#"m{instance="a:1", job="test", number="7"}"#), "{text}");
        world.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_that_is_not_named_counts_as_one_where_the_rest_was_written() {
    for (status, text, reason, count) in [
        (400, "sample missing metric name", "missing_metric_name", 1),
        (409, "store locally for endpoint a:1: add 3 samples: out of order sample", "sample-out-of-order", 3),
        (400, "timestamp too old: 1700000000000 metric: \"m\"", "greater_than_max_sample_age", 1),
    ] {
        let world = World::start().await;
        world.receiver.answer(status, text);
        world.target("a:1", 100).scrape(0).await;
        assert_eq!(world.settled().await, (100 - count, dropped(reason, count)), "{text}");
        assert_eq!(world.receiver.requests().len(), 1, "{text}");
        world.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_refuses_the_request_once_and_is_kept() {
    for status in [400, 404, 405, 410, 422, 302, 999] {
        let world = World::start().await;
        let first = AtomicBool::new(true);
        world.receiver.answer_by(move |_| {
            if !first.swap(false, Ordering::Relaxed) {
                return verdict(200, "");
            }
            let mut verdict = verdict(status, "the tides are wrong, token=hunter2hunter2");
            verdict.headers.push(("x-amzn-requestid", "id-1".into()));
            verdict
        });
        let mut target = world.target("a:1", 100);
        target.scrape(0).await;
        world.receiver.until("a refusal", |receiver| receiver.requests().len() == 1).await;
        target.scrape(1).await;
        assert_eq!(world.settled().await, (100, dropped("refused", 100)), "{status}");
        assert_eq!(world.receiver.requests().len(), 2, "{status}: a refused request causes no other");
        let snapshot = world.snapshot().await;
        let kept = &snapshot.unknown_refusals;
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].count, kept[0].request_id.as_deref()), (1, Some("id-1")));
        assert_eq!(kept[0].body, "the tides are wrong, token=<secret>");
        assert!(!snapshot.last_error.unwrap().text.contains("hunter2"));
        world.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_metadata_costs_no_sample() {
    let world = World::with_2_0().await;
    world.receiver.answer_by(|received| {
        let mut verdict = verdict(400, "metadata 'HELP' value too long: \"How long\" metric \"m\"");
        verdict.taken = Some((0..received.samples.len()).collect());
        verdict
    });
    world.target("a:1", 100).scrape(0).await;
    assert_eq!(world.settled().await, (100, Vec::new()));
    assert_eq!(world.receiver.requests().len(), 1);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttle_that_wears_a_400_is_tried_again() {
    for text in [
        "per-user series limit of 10000000 exceeded, Capacity from 2,000,000 to 10,000,000 is automatically adjusted",
        "{\"message\":\"Rate exceeded\"}",
        "ingestion rate limit (6666.6) exceeded while adding 499 samples and 0 metadata",
    ] {
        for status in [400, 429] {
            let world = World::start().await;
            let mut times = 0;
            world.receiver.answer_by(move |_| {
                times += 1;
                if times <= 3 { verdict(status, text) } else { verdict(200, "") }
            });
            world.target("a:1", 100).scrape(0).await;
            assert_eq!(world.settled().await, (100, Vec::new()), "{status} {text}");
            assert_eq!(world.receiver.requests().len(), 4);
            assert_eq!(world.snapshot().await.requests["throttled"], 3);
            world.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_understood_in_1_0_is_refused_once() {
    let world = World::start().await;
    world.receiver.answer(400, "proto: wrong wireType = 2 for field Labels");
    world.target("a:1", 100).scrape(0).await;
    assert_eq!(world.settled().await, (0, dropped("refused", 100)));
    assert_eq!(world.receiver.requests().len(), 1);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn written_headers_of_a_400_keep_the_ledger_exact() {
    let world = World::with_2_0().await;
    world.receiver.answer_by(|received| {
        let bad = |series: &str| series.ends_with("number=7") || series.ends_with("number=8");
        let lines: Vec<_> = received
            .samples
            .iter()
            .filter(|(series, _)| bad(series))
            .map(|(series, _)| {
                let text = if series.ends_with('7') { "out of order sample" } else { "out of bounds" };
                format!("{text} for series {}", as_go_prints(series))
            })
            .collect();
        let mut verdict = verdict(if lines.is_empty() { 200 } else { 400 }, lines.join("\n"));
        verdict.taken =
            Some((0..received.samples.len()).filter(|&at| !bad(received.samples[at].0)).collect());
        verdict
    });
    world.target("a:1", 100).scrape(0).await;
    let mut each = dropped("sample-out-of-bounds", 1);
    each.extend(dropped("sample-out-of-order", 1));
    assert_eq!(world.settled().await, (98, each));
    assert_eq!((world.receiver.requests().len(), world.receiver.count()), (1, 98));
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn written_headers_tell_more_than_a_text() {
    // Named is the first of five; and a body that nobody knows.
    for (text, reason) in [
        (
            "user=u: err: out of order sample. timestamp=2023-11-14T22:13:20Z, series={__name__=\"m\", instance=\"a:1\", job=\"test\", number=\"3\"}",
            "sample-out-of-order",
        ),
        ("the tides are wrong", "refused"),
    ] {
        let world = World::with_2_0().await;
        world.receiver.answer_by(move |_| {
            let mut verdict = verdict(400, text);
            verdict.taken = Some((5..100).collect());
            verdict
        });
        world.target("a:1", 100).scrape(0).await;
        assert_eq!(world.settled().await, (95, dropped(reason, 5)), "{text}");
        assert_eq!((world.receiver.requests().len(), world.receiver.count()), (1, 95));
        world.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_success_did_not_write_is_not_called_delivered() {
    let world = World::with_2_0().await;
    world.receiver.answer_by(|received| {
        let mut verdict = verdict(200, "");
        verdict.taken = Some((10..received.samples.len()).collect());
        verdict
    });
    world.target("a:1", 100).scrape(0).await;
    assert_eq!(world.settled().await, (90, dropped("not_written", 10)));
    assert_eq!(world.receiver.count(), 90);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_halves_what_is_in_flight() {
    let world = World::configured(|config| {
        config.queue_config.min_shards = 8;
        config.queue_config.max_shards = 8;
        config.queue_config.max_samples_per_send = 100;
        config.queue_config.max_backoff = PromDuration::from_millis(30);
    })
    .await;
    let mut times = 0;
    world.receiver.answer_by(move |_| {
        times += 1;
        let mut verdict = if times <= 8 { verdict(429, "slow down") } else { verdict(200, "") };
        verdict.after = Duration::from_millis(100);
        verdict
    });
    let mut targets: Vec<_> = (0..24).map(|at| world.target(&format!("host-{at}:1"), 100)).collect();
    for target in &mut targets {
        target.scrape(0).await;
    }
    world.receiver.until("the first eight", |receiver| receiver.requests().len() >= 8).await;
    assert_eq!(world.receiver.state.lock().unwrap().in_hand.1, 8);
    // Those that were refused come again; what comes after them is half as many at once.
    world.receiver.until("what was refused", |receiver| receiver.count() >= 900).await;
    world.receiver.state.lock().unwrap().in_hand.1 = 0;
    assert_eq!(world.settled().await, (2400, Vec::new()));
    let most = world.receiver.state.lock().unwrap().in_hand.1;
    assert!((1..8).contains(&most), "{most} at once");
    world.receiver.assert_once_in_order();
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_waited() {
    for status in [429, 503] {
        let world = World::start().await;
        let mut asked = None;
        let waited = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&waited);
        world.receiver.answer_by(move |_| match asked {
            None => {
                asked = Some(Instant::now());
                let mut verdict = verdict(status, "later");
                verdict.headers.push(("retry-after", "1".into()));
                verdict
            }
            Some(at) => {
                seen.store(at.elapsed() >= Duration::from_millis(900), Ordering::Relaxed);
                verdict(200, "")
            }
        });
        world.target("a:1", 10).scrape(0).await;
        assert_eq!(world.settled().await, (10, Vec::new()));
        assert!(waited.load(Ordering::Relaxed), "{status}: it came before it was asked to");
        world.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_does_not_hurry_what_is_backing_off() {
    let world = World::configured(|config| {
        config.queue_config.min_backoff = PromDuration::from_secs(60);
        config.queue_config.max_backoff = PromDuration::from_secs(60);
    })
    .await;
    world.receiver.answer(503, "down");
    world.target("a:1", 10).scrape(0).await;
    world.receiver.until("an attempt", |receiver| receiver.requests().len() == 1).await;
    let started = Instant::now();
    world.remote.shutdown(Duration::from_millis(700)).await;
    let took = started.elapsed();
    assert_eq!(world.receiver.requests().len(), 1, "the end of the process is no reason to try again");
    assert!(took >= Duration::from_millis(650) && took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_request_to_amp_is_explained() {
    let world = World::configured(|config| config.url = AMP.into()).await;
    world.receiver.answer(403, r#"{"message":"Missing Authentication Token"}"#);
    world.target("a:1", 10).scrape(0).await;
    world.receiver.until("a denial", |receiver| !receiver.requests().is_empty()).await;
    for _ in 0..500 {
        if world.snapshot().await.last_error.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let text = world.snapshot().await.last_error.unwrap().text;
    assert!(text.contains("Missing Authentication Token") && text.contains("sigv4"), "{text}");
    let ledger = world.remote.status().await.unwrap().remove(0).ledger;
    assert_eq!((ledger.pending.samples, ledger.balances()), (10, true), "a denial keeps the data");
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_that_are_named_is_dropped() {
    let world = World::start().await;
    world.receiver.answer_by(|received| {
        let named = received.samples.iter().filter(|(series, _)| series.ends_with('5'));
        let lines: Vec<_> = named
            .map(|(series, _)| format!("out of order sample for series {}", as_go_prints(series)))
            .collect();
        let mut verdict = verdict(400, lines.join("\n"));
        let taken = (0..received.samples.len()).filter(|&at| !received.samples[at].0.ends_with('5'));
        verdict.taken = Some(taken.collect());
        verdict
    });
    let mut targets = [world.target("a:1", 100), world.target("b:1", 100)];
    for target in &mut targets {
        target.scrape(0).await;
    }
    assert_eq!(world.settled().await, (180, dropped("sample-out-of-order", 20)));
    assert_eq!(world.receiver.count(), 180);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_without_the_body_or_without_an_end_is_a_refusal() {
    // A request that was turned into a GET would succeed at many a page, and nothing would be written.
    for (status, requests) in [(301, 1), (302, 1), (303, 1), (308, 11), (307, 11)] {
        let world = World::start().await;
        let first = AtomicBool::new(true);
        let mut times = 0;
        world.receiver.answer_by(move |_| {
            times += 1;
            first.store(times <= requests, Ordering::Relaxed);
            if !first.load(Ordering::Relaxed) {
                return verdict(200, "");
            }
            let mut verdict = verdict(status, "");
            verdict.headers.push(("location", "/api/v1/write?token=hunter2".into()));
            verdict
        });
        let mut target = world.target("a:1", 100);
        target.scrape(0).await;
        world.receiver.until("a refusal", |receiver| receiver.requests().len() >= requests).await;
        target.scrape(1).await;
        assert_eq!(world.settled().await, (100, dropped("refused", 100)), "{status}");
        assert_eq!(world.receiver.requests().len(), requests + 1, "{status}");
        let snapshot = world.snapshot().await;
        assert_eq!(snapshot.requests["refused"], 1);
        let text = snapshot.last_error.unwrap().text;
        assert!(text.contains("redirect") || text.contains("/api/v1/write"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        world.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_that_keeps_the_body_is_followed() {
    let world = World::start().await;
    let mut times = 0;
    world.receiver.answer_by(move |_| {
        times += 1;
        let mut verdict = verdict(if times == 1 { 308 } else { 200 }, "");
        verdict.headers.push(("location", "/elsewhere".into()));
        verdict
    });
    world.target("a:1", 100).scrape(0).await;
    assert_eq!(world.settled().await, (100, Vec::new()));
    assert_eq!((world.receiver.requests().len(), world.receiver.count()), (2, 100));
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_does_not_wait_for_the_retry_after_of_a_lasting_limit() {
    let world = World::start().await;
    let is_new = |series: &str| series.contains("instance=new");
    world.receiver.answer_by(move |received| {
        let new = received.samples.iter().filter(|(series, _)| is_new(series)).count();
        if new == 0 {
            return verdict(200, "");
        }
        let mut verdict = verdict(429, "per-user series limit of 100 exceeded");
        verdict.taken = Some(Vec::new());
        verdict.headers.push(("retry-after", "300".into()));
        verdict
    });
    let (mut known, mut new) = (world.target("known:1", 100), world.target("new:1", 100));
    known.scrape(0).await;
    world.receiver.until("what is known", |receiver| receiver.count() == 100).await;
    let started = Instant::now();
    tokio::join!(known.scrape(1), new.scrape(1));
    known.scrape(2).await;
    world.receiver.until("what is known goes on", |receiver| receiver.count() == 300).await;
    assert!(started.elapsed() < Duration::from_secs(15));
    world.receiver.assert_once_in_order();
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_wears_another_status_keeps_the_data() {
    for (status, header, body) in [
        // An identity of another account, or another region's endpoint (aws-otel-collector#2155).
        (404, None, r#"{"Message":"Workspace not found"}"#),
        (400, None, r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}"#),
        (
            400,
            Some("ExpiredTokenException:http://internal.amazon.com/coral/com.amazon.coral.service/"),
            r#"{"message":"no"}"#,
        ),
    ] {
        let world = World::start().await;
        world.receiver.answer_by(move |_| {
            let mut verdict = verdict(status, body);
            verdict.headers.extend(header.map(|header| ("x-amzn-errortype", header.to_owned())));
            verdict
        });
        world.target("a:1", 10).scrape(0).await;
        world.receiver.until("a denial", |receiver| !receiver.requests().is_empty()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let ledger = world.remote.status().await.unwrap().remove(0).ledger;
        assert_eq!((ledger.pending.samples, ledger.balances()), (10, true), "{body}");
        assert_eq!(world.receiver.requests().len(), 1, "the next attempt comes after ten seconds");
        assert_eq!(world.snapshot().await.requests["denied"], 1);
        world.shutdown().await;
    }
}
