//! Service account tokens and sessions that end and are renewed all the time.

use std::time::{Duration, Instant};

use promferry_aws_stand_in::Outcome;

use crate::collector::is_full_tier;
use crate::iam::ROLE;
use crate::scene::{Scene, scenes};

scenes![rotate_under_the_process, sessions_of_a_minute];

/// As the kubelet does it: a new token, well before the old one ends, behind the same path.
async fn rotate_under_the_process() {
    let mut scene = Scene::new().await;
    // A session is renewed ten seconds after it was had, at the earliest.
    scene.sts.set_lifetime(Some(Duration::from_secs(15)));
    let lifetime = Duration::from_secs(13);
    scene.token.write(&scene.token_for(lifetime));
    scene.start().await;
    let rotations = if is_full_tier() { 20 } else { 5 };
    for _ in 0..rotations {
        tokio::time::sleep(Duration::from_secs(9)).await;
        scene.token.write(&scene.token_for(lifetime));
    }
    let calls = scene.refreshes();
    assert!(calls.len() >= 4 * rotations / 5, "{calls:?}");
    for call in &calls {
        assert_eq!((call.action.as_str(), call.role_arn.as_str()), ("AssumeRoleWithWebIdentity", ROLE));
        assert!(matches!(call.outcome, Outcome::Given { .. }), "{call:?}");
    }
    // Each came with the token of its moment: one that has ended is refused.
    let tokens = calls.iter().filter_map(|call| call.web_identity_token.as_ref()).map(|token| token.expose());
    assert_eq!(tokens.collect::<std::collections::HashSet<_>>().len(), calls.len());
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// Sessions that live a minute (in the short form a quarter of one), over many of them.
async fn sessions_of_a_minute() {
    let (lifetime, lives) = if is_full_tier() { (60, 25) } else { (15, 3) };
    let mut scene = Scene::new().await;
    scene.sts.set_lifetime(Some(Duration::from_secs(lifetime)));
    let start = Instant::now();
    scene.start().await;
    tokio::time::sleep(Duration::from_secs(lifetime * lives)).await;
    let calls = scene.refreshes().len() as u64;
    // They are renewed between a half and two thirds of their life, or ten seconds after they were had.
    let (least, most) = ((lifetime / 2).max(10), (lifetime * 2 / 3).max(10));
    let (fewest, after) = (start.elapsed().as_secs() / most, start.elapsed().as_secs() / least + 1);
    assert!((fewest.saturating_sub(1)..=after + 1).contains(&calls), "{calls}, not {fewest} to {after}");
    scene.assert_never_refused();
    scene.ends_whole().await;
}
