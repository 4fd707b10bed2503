//! A receiver that answers whatever comes to its mind: every text of the table, every kind of status, with headers
//! that say nothing true. Whatever it is, it ends, with every sample delivered or counted.

use std::time::{Duration, Instant};

use promferry_model::{PromDuration, Rng as _, SeededRng};
use promferry_remote_write::ProtobufMessage;
use promferry_remote_write::refusal::{Meaning, RefusalClass};

use crate::receiver::{Received, Verdict};
use crate::world::World;

/// Requests that are answered so, before the receiver comes to its senses.
const MAD: usize = 60;
const SERIES: usize = 50;
const SCRAPES: i64 = 20;

fn any_of<T: Copy>(rng: &mut SeededRng, all: &[T]) -> T {
    all[(rng.next_f64() * all.len() as f64) as usize]
}

fn mad_answer(rng: &mut SeededRng, received: &Received<'_>) -> Verdict {
    // After a denial nothing comes for ten seconds.
    let rows: Vec<_> = RefusalClass::all().iter().filter(|row| row.meaning != Meaning::Denied).collect();
    let row = any_of(rng, &rows);
    let (status, body) = match (rng.next_f64() * 4.0) as u32 {
        0 => {
            let status = any_of(
                rng,
                &[
                    200, 204, 300, 301, 304, 307, 400, 404, 408, 409, 410, 413, 415, 418, 429, 500, 503, 599,
                    600, 999,
                ],
            );
            (status, "{\"message\": \"the tides are wrong".to_owned())
        }
        // A text of a series that it was sent.
        1 => {
            let series = received.samples.first().map_or("", |(series, _)| *series);
            let text = "out of order sample for series ";
            (400, format!("{text}{}\n", crate::world::as_go_prints(series)).repeat(3))
        }
        _ => (any_of(rng, &row.statuses), row.example.clone()),
    };
    let mut verdict = Verdict::from((status, body));
    // Some of it is taken or none, whatever the status says.
    let taken = (rng.next_f64() * 2.0 * received.samples.len() as f64) as usize;
    verdict.taken = Some((0..received.samples.len().min(taken)).collect());
    if rng.next_f64() < 0.2 {
        verdict.headers.push(("x-prometheus-remote-write-samples-written", format!("{}", u64::MAX)));
    }
    if rng.next_f64() < 0.2 {
        let after =
            any_of(rng, &["0", "-1", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "99999999999999999999999"]);
        verdict.headers.push(("retry-after", after.to_owned()));
    }
    if rng.next_f64() < 0.2 {
        let location = any_of(rng, &["", "/api/v1/write", "ftp://x.example", "::", "http://127.0.0.1:1/"]);
        verdict.headers.push(("location", location.to_owned()));
    }
    verdict
}

async fn run(seed: u64, message: ProtobufMessage) {
    let world = World::configured(|config| {
        config.protobuf_message = message;
        config.queue_config.min_backoff = PromDuration::from_millis(5);
        config.queue_config.max_backoff = PromDuration::from_millis(20);
        config.queue_config.min_shards = 1 + (seed as usize % 4);
        config.queue_config.max_samples_per_send = 100;
        config.lasting_limits.probe_interval = PromDuration::from_millis(600);
        config.lasting_limits.hold_out = PromDuration::from_millis(600);
    })
    .await;
    let mut rng = SeededRng::new(seed);
    let mut times = 0;
    world.receiver.answer_by(move |received| {
        times += 1;
        if times <= MAD { mad_answer(&mut rng, received) } else { (200, String::new()).into() }
    });
    let mut targets: Vec<_> = (0..4).map(|at| world.target(&format!("host-{at}:1"), SERIES)).collect();
    let started = Instant::now();
    for scrape in 0..SCRAPES {
        for target in &mut targets {
            target.scrape(scrape).await;
        }
    }
    let (delivered, dropped) = world.settled().await;
    let sent = 4 * SERIES as u64 * SCRAPES as u64;
    let gone: u64 = dropped.iter().map(|(_, samples)| samples).sum();
    assert_eq!(delivered + gone, sent, "seed {seed}: {dropped:?}");
    // A bound on what one answer may cause: tests of a limit and searches are bounded, everything else causes one.
    let requests = world.receiver.requests().len();
    assert!(requests < MAD + 1000, "seed {seed}: {requests} requests");
    assert!(started.elapsed() < Duration::from_secs(25), "seed {seed}: it took {:?}", started.elapsed());
    // Once it takes everything, everything is sent.
    world.receiver.answer(200, "");
    for target in &mut targets {
        target.scrape(SCRAPES).await;
    }
    let (delivered_then, _) = world.settled().await;
    let held_out = delivered + 4 * SERIES as u64 - delivered_then;
    let said: u64 = world.snapshot().await.limits.held_out;
    assert!(held_out <= said, "seed {seed}: {held_out} of the last scrape are missing, {said} were held out");
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_answered_every_sample_is_delivered_or_counted() {
    for seeds in [0..8, 8..16, 16..24] {
        let mut all = tokio::task::JoinSet::new();
        for seed in seeds {
            let message =
                [ProtobufMessage::V1, ProtobufMessage::V2, ProtobufMessage::Auto][seed as usize % 3];
            all.spawn(run(seed, message));
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
    }
}
