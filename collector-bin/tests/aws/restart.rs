//! Ends and starts without STS.

use std::time::Duration;

use promferry_bench::proxy::Weather;

use crate::scene::{APS, Scene, scenes};

scenes![with_sts_away, stopped_with_sts_away];

async fn with_sts_away() {
    let mut scene = Scene::new().await;
    scene.start().await;
    scene.until_more(3).await;
    scene.way.set(Weather::Down);
    scene.kill().await;
    for _ in 0..2 {
        // Each life has nothing but what is on the disk, and adds to it.
        scene.start().await;
        let before = scene.waiting(APS).await as u64 / 60;
        scene.until_waiting(APS, before + 4).await;
        scene.kill().await;
    }
    let before = scene.arrived();
    scene.start().await;
    scene.until_waiting(APS, 8).await;
    assert_eq!(scene.arrived(), before, "nothing is sent without credentials");
    scene.way.set(Weather::Fair);
    scene.until_drained(APS).await;
    scene.ends_whole().await;
}

/// A stop that has nothing to sign with ends in time, and leaves what waits to the next start.
async fn stopped_with_sts_away() {
    let mut scene = Scene::new().await;
    scene.way.set(Weather::Down);
    scene.start().await;
    scene.until_waiting(APS, 4).await;
    // 20 s for the flush, and some for a busy machine: far from Kubernetes' 30 s grace period and a kill.
    let took = scene.stop().await;
    assert!(took < Duration::from_secs(26), "{took:?}");
    assert_eq!(scene.arrived(), 0);
    scene.way.set(Weather::Fair);
    scene.start().await;
    scene.ends_whole().await;
}
