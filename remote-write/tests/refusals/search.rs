//! Samples that a receiver gives a whole request up for, without a word on which they are.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::receiver::Verdict;
use crate::world::{World, as_go_prints, dropped};

fn verdict(status: u16, body: impl Into<String>) -> Verdict {
    (status, body.into()).into()
}

/// Every hundredth series is bad.
fn is_bad(series: &str) -> bool {
    series.ends_with("00") || series.ends_with("number=0")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_named_is_found_and_the_rest_is_delivered() {
    let world = World::start().await;
    world.receiver.judge(|received| {
        if received.samples.iter().any(|(series, _)| is_bad(series)) {
            (400, "out of order sample\n".into())
        } else {
            (200, String::new())
        }
    });
    let mut targets = [world.target("a:1", 1000), world.target("b:1", 1000)];
    for target in &mut targets {
        target.scrape(0).await;
    }
    assert_eq!(world.settled().await, (1980, dropped("sample-out-of-order", 20)));
    assert_eq!(world.receiver.count(), 1980);
    world.receiver.assert_once_in_order();
    let requests = world.receiver.requests().len();
    // Twenty bad ones of 2,000: each is a leaf of a tree of halves.
    assert!((40..400).contains(&requests), "{requests} requests");
    let refusals = world.snapshot().await.refusals;
    assert!(is_bad(refusals["prometheus-1-out-of-order"].series.as_ref().unwrap().trim_end_matches("\"}")));
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_first_is_dropped_first_and_the_rest_was_written() {
    let world = World::start().await;
    let named = Arc::new(Mutex::new(BTreeSet::new()));
    let names = Arc::clone(&named);
    world.receiver.answer_by(move |received| {
        let bad = received.samples.iter().find(|(series, _)| is_bad(series));
        let Some((series, _)) = bad else { return verdict(200, "") };
        names.lock().unwrap().insert((*series).to_owned());
        let text = format!(
            "series has too many labels (actual: 151, limit: 150) series: '{}'",
            as_go_prints(series)
        );
        let mut verdict = verdict(400, text);
        let taken = (0..received.samples.len()).filter(|&at| !is_bad(received.samples[at].0));
        verdict.taken = Some(taken.collect());
        verdict
    });
    let mut target = world.target("a:1", 1000);
    target.scrape(0).await;
    let (delivered, by_reason) = world.settled().await;
    let refused = world.receiver.requests().iter().filter(|(.., status)| *status == 400).count() as u64;
    assert_eq!((delivered + refused, by_reason), (1000, dropped("max_label_names_per_series", refused)));
    assert_eq!(world.receiver.count(), 990, "every good one arrived");
    world.receiver.assert_once_in_order();
    let requests = world.receiver.requests().len();
    assert!(requests <= 3, "{requests}: a refused request causes no other");
    assert_eq!(named.lock().unwrap().len() as u64, refused);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_bounded() {
    let world = World::configured(|config| config.queue_config.max_samples_per_send = 1000).await;
    world.receiver.answer(400, "out of bounds\n");
    world.target("a:1", 1000).scrape(0).await;
    assert_eq!(world.settled().await, (0, dropped("sample-out-of-bounds", 1000)));
    let requests = world.receiver.requests();
    let sent: usize = requests.iter().filter(|(_, samples, _)| *samples >= 500).count();
    assert!(requests.len() > 100 && requests.len() <= 512 + 1 + sent, "{} requests", requests.len());
    world.shutdown().await;
}
