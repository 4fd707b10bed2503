//! Sessions that AWS ends before their time.

use std::time::{Duration, Instant};

use crate::iam::ROLE;
use crate::scene::{APS, Scene, scenes};

scenes![revoked_midway];

async fn revoked_midway() {
    let mut scene = Scene::new().await;
    scene.start().await;
    scene.until_more(2).await;
    // What is younger is not given up: the refusal may be about the ones before.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let calls = scene.refreshes().len();
    scene.cloud.expire_sessions(ROLE);
    let revoked = Instant::now();
    scene.said(&[" aps: ", "expired", "the data is kept"]).await;
    scene.until_more(8).await;
    eprintln!("revoked: written again after {:.1} s at most", revoked.elapsed().as_secs_f64());
    assert_eq!(scene.refreshes().len(), calls + 1, "one new session, asked for once");
    let answers = scene.answers(APS);
    let refused = answers.iter().filter(|status| **status == 403).count();
    assert!((1..=4).contains(&refused), "{answers:?}");
    scene.ends_whole().await;
}
