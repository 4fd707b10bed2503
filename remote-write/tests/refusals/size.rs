//! Requests that are too large.

use crate::world::{AMP, Target, World, dropped};

#[tokio::test(flavor = "multi_thread")]
async fn the_size_that_was_too_large_is_remembered() {
    let world = World::start().await;
    world.receiver.judge(|received| {
        if received.raw_bytes > 100_000 { (413, "too large".into()) } else { (200, String::new()) }
    });
    let mut target = world.target("a:1", 2000);
    target.scrape(0).await;
    world.settled().await;
    let refused =
        |world: &World| world.receiver.requests().iter().filter(|(.., status)| *status == 413).count();
    let learned = refused(&world);
    assert!((1..=3).contains(&learned), "{learned}");
    for scrape in 1..4 {
        target.scrape(scrape).await;
        assert_eq!(world.settled().await, (2000 * (scrape as u64 + 1), Vec::new()));
    }
    assert_eq!(refused(&world), learned, "no request was as large again");
    world.receiver.assert_once_in_order();
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_request_is_not_split_for_a_413() {
    let world = World::start().await;
    world.receiver.answer(413, "too large");
    world.target("a:1", 400).scrape(0).await;
    assert_eq!(world.settled().await, (0, dropped("too_large", 400)));
    assert_eq!(world.receiver.requests().len(), 1);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_million_bytes_goes_to_amp() {
    let world = World::configured(|config| config.url = AMP.into()).await;
    // Values that don't compress, one of them beyond what may be sent at all.
    let noise = |bytes: usize, seed: u64| {
        let mut state = seed;
        let text = (0..bytes).map(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (state >> 33) as u8 % 90)
        });
        text.filter(|c| *c != '"' && *c != '\\').collect::<String>()
    };
    let values = (0..40).map(|at| noise(60_000, at)).chain([noise(1_200_000, 99)]);
    let mut target = Target::open(&world.remote, "a:1", values);
    target.scrape(0).await;
    target.scrape(1).await;
    assert_eq!(world.settled().await, (80, dropped("too_large", 2)));
    let largest = world.receiver.state.lock().unwrap().largest;
    assert!(largest.0 < 1_000_000 && largest.1 < 1_000_000, "{largest:?}");
    assert!(largest.0 > 400_000, "requests are not needlessly small: {largest:?}");
    world.receiver.assert_once_in_order();
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_may_take_a_huge_sample() {
    let world = World::start().await;
    let values = ["x".repeat(1_200_000), "small".to_owned()];
    Target::open(&world.remote, "a:1", values).scrape(0).await;
    assert_eq!(world.settled().await, (2, Vec::new()));
    world.shutdown().await;
}
