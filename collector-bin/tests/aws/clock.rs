//! A machine and AWS that do not agree about the time: AWS' clock is moved, which is the same for the program.

use std::time::Duration;

use promferry_aws_stand_in::Policy;

use crate::collector::until;
use crate::iam::{HUB, ROLE, may_assume, may_write, policy, workspace_arn};
use crate::scene::{APS, Scene, scenes};

scenes![two_hours_behind, two_hours_ahead, moves_and_comes_back, ahead_with_a_chain];

const HOURS: i64 = 3600 * 1000;
const HOUR: Duration = Duration::from_secs(3600);

impl Scene {
    /// Requests that were refused so far.
    fn refused(&self) -> usize {
        self.answers(APS).iter().filter(|status| **status == 403).count()
    }
}

/// This machine is behind: its signatures have expired when they are made.
async fn two_hours_behind() {
    wrong_from_the_start(2 * HOURS).await;
}

/// This machine is ahead: what STS gives looks as if it had ended an hour ago.
async fn two_hours_ahead() {
    wrong_from_the_start(-2 * HOURS).await;
}

async fn wrong_from_the_start(shift_ms: i64) {
    let mut scene = Scene::new().await;
    scene.cloud.set_clock(shift_ms);
    scene.token.write(&scene.token_for(HOUR));
    scene.sts.set_lifetime(Some(Duration::from_secs(15)));
    scene.start().await;
    scene.until_more(3).await;
    scene.said(&["clock differs"]).await;
    // Those that were under way together, if that, and none any more; sessions are renewed before they end.
    let refused = scene.refused();
    assert!(refused <= 4, "{:?}", scene.answers(APS));
    until("sessions are renewed", async || scene.refreshes().len() >= 3).await;
    scene.until_more(2).await;
    assert_eq!(scene.refused(), refused);
    let offset = scene.collector().metric("promferry_clock_offset_seconds", APS).await;
    assert!((offset - shift_ms as f64 / 1000.0).abs() < 5.0, "{offset} s");
    scene.ends_whole().await;
}

/// Wrong in the middle, right again later.
async fn moves_and_comes_back() {
    let mut scene = Scene::new().await;
    scene.start().await;
    scene.until_more(2).await;
    for shift_ms in [1_200_000, 0, -1_200_000, 0] {
        let refused = scene.refused();
        scene.cloud.set_clock(shift_ms);
        scene.until_more(3).await;
        assert!(scene.refused() > refused, "by {shift_ms} ms: {:?}", scene.answers(APS));
        let offset = scene.collector().metric("promferry_clock_offset_seconds", APS).await;
        assert!((offset - shift_ms as f64 / 1000.0).abs() < 5.0, "{offset} s, not {shift_ms} ms");
    }
    assert!(scene.refused() <= 4 * 4, "{:?}", scene.answers(APS));
    scene.ends_whole().await;
}

/// Signed calls to STS are refused for their time as well.
async fn ahead_with_a_chain() {
    const WRITER: &str = "arn:aws:iam::444455556666:role/writer";
    let mut scene = Scene::new().await;
    let write = policy(&[may_write(&workspace_arn(HUB, "ws-hub"))]);
    scene.cloud.add_role(WRITER, Policy::role_trust(ROLE, None), Some(write), HOUR).await;
    scene.cloud.set_permissions(ROLE, Some(policy(&[may_assume(WRITER)]))).await;
    scene.add_endpoint(APS, HUB, "ws-hub", &format!(", role_arn: '{WRITER}'")).await;
    scene.cloud.set_clock(-2 * HOURS);
    scene.token.write(&scene.token_for(HOUR));
    scene.start().await;
    scene.until_more(5).await;
    scene.ends_whole().await;
}
