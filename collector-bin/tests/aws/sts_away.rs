//! STS that is not there, or not as it should be.

use std::time::{Duration, Instant};

use promferry_aws_stand_in::Fault;
use promferry_bench::proxy::Weather;

use crate::collector::{is_full_tier, until};
use crate::pinned::assert_pinned;
use crate::scene::{APS, Scene, scenes};

scenes![
    at_start,
    at_refresh,
    longer_than_validity,
    slow,
    too_slow,
    silent,
    throttles,
    answers_nonsense,
    disabled
];

fn seconds(short: u64, long: u64) -> Duration {
    Duration::from_secs(if is_full_tier() { long } else { short })
}

impl Scene {
    /// Waits until so many more refreshes have failed, which is logged and counted.
    async fn until_failures(&self, more: usize) {
        let failures = || self.collector().log().matches(" failures=").count();
        let enough = failures() + more;
        until("refreshes fail", async || failures() >= enough).await;
        let counted = self.collector().metric("promferry_credentials_refresh_failures_total", APS).await;
        assert!(counted >= enough as f64, "{counted} counted, {enough} logged");
        self.look().await;
    }
}

async fn at_start() {
    let mut scene = Scene::new().await;
    scene.way.set(Weather::Down);
    scene.start().await;
    let said = scene.said(&[" aps: ", "the data is kept"]).await;
    assert_pinned("sts-away", &said);
    scene.until_waiting(APS, 6).await;
    assert_eq!(scene.answers(APS), [0; 0], "nothing is sent without credentials");
    scene.way.set(Weather::Fair);
    scene.until_drained(APS).await;
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// What is still valid is used on, and it is there again before that ends.
async fn at_refresh() {
    let mut scene = Scene::new().await;
    // It begins 30 to 40 s after they came. Two failures take 8 s at most, and something has to be left of them then.
    scene.sts.set_lifetime(Some(Duration::from_secs(60)));
    scene.start().await;
    scene.until_more(2).await;
    scene.way.set(Weather::Down);
    scene.until_failures(2).await;
    // Nobody waits while it fails.
    let most = scene.most_waiting(APS, async || scene.until_more(3).await).await;
    assert!(most <= 4, "{most} scrapes waited");
    scene.said(&["the ones at hand are still used"]).await;
    assert_eq!(scene.collector().metric("promferry_credentials_valid", APS).await, 1.0);
    scene.way.set(Weather::Fair);
    let calls = scene.refreshes().len();
    until("it is refreshed", async || scene.refreshes().len() > calls).await;
    scene.until_more(2).await;
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// Nothing valid is left for most of that time: everything waits, then everything goes, in order.
async fn longer_than_validity() {
    let mut scene = Scene::new().await;
    scene.sts.set_lifetime(Some(Duration::from_secs(15)));
    scene.start().await;
    scene.until_more(2).await;
    scene.way.set(Weather::Down);
    tokio::time::sleep(seconds(40, 300)).await;
    scene.until_waiting(APS, 10).await;
    scene.said(&["there are no valid AWS credentials"]).await;
    assert_eq!(scene.collector().metric("promferry_credentials_valid", APS).await, 0.0);
    let requests = scene.answers(APS).len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.answers(APS).len(), requests, "nothing is sent with what has ended");
    scene.way.set(Weather::Fair);
    scene.until_drained(APS).await;
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// Slow, but it answers: the start waits for it, what comes later does not.
async fn slow() {
    let mut scene = Scene::new().await;
    scene.sts.set_lifetime(Some(Duration::from_secs(25)));
    scene.sts.set_fault(Fault::Slow(Duration::from_secs(5)));
    scene.start().await;
    scene.until_more(3).await;
    let calls = scene.refreshes().len();
    until("it is refreshed", async || scene.refreshes().len() > calls).await;
    scene.until_more(2).await;
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// So slow that no attempt waits for it: the message is of STS, not of the workspace.
async fn too_slow() {
    let mut scene = Scene::new().await;
    scene.sts.set_fault(Fault::Slow(Duration::from_secs(12)));
    scene.start().await;
    let said = scene.said(&[" aps: ", "the data is kept"]).await;
    assert_pinned("sts-too-slow", &said);
    scene.until_waiting(APS, 5).await;
    assert_eq!(scene.answers(APS), [0; 0], "nothing is sent without credentials");
    scene.sts.set_fault(Fault::None);
    scene.until_drained(APS).await;
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// The packets get lost, as behind a security group that lets nobody in.
async fn silent() {
    let mut scene = Scene::new().await;
    scene.way.set(Weather::HalfOpen);
    scene.start().await;
    let said = scene.said(&[" aps: ", "the data is kept"]).await;
    assert_pinned("sts-silent", &said);
    scene.until_waiting(APS, 5).await;
    scene.way.set(Weather::Fair);
    scene.until_drained(APS).await;
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// It is not asked more for that: one caller asks, with growing pauses.
async fn throttles() {
    let mut scene = Scene::new().await;
    scene.sts.set_fault(Fault::Throttling);
    let start = Instant::now();
    scene.start().await;
    let said = scene.said(&[" aps: ", "the data is kept"]).await;
    assert_pinned("sts-throttles", &said);
    tokio::time::sleep(seconds(20, 300)).await;
    let (calls, took) = (scene.refreshes().len(), start.elapsed());
    // Three attempts a refresh; pauses of about 1, 2, 4, 8 and then 10 s.
    let most = 3 * (5 + took.as_secs() as usize / 7);
    eprintln!("throttled for {:.0} s: {calls} calls", took.as_secs_f64());
    assert!(calls <= most, "{calls} calls in {took:?}");
    // One call of six passes.
    let faults = [vec![Fault::Throttling; 5], vec![Fault::None]].concat();
    scene.sts.set_faults(&faults);
    scene.until_drained(APS).await;
    scene.sts.set_fault(Fault::None);
    scene.assert_never_refused();
    scene.ends_whole().await;
}

async fn answers_nonsense() {
    let mut scene = Scene::new().await;
    scene.sts.set_fault(Fault::Nonsense);
    scene.start().await;
    // A page where one logs in to the network, say.
    let said = scene.said(&[" aps: ", "the data is kept"]).await;
    assert_pinned("sts-answers-nonsense", &said);
    scene.sts.set_fault(Fault::None);
    for weather in [Weather::Garbage, Weather::CutAnswerAfter(20), Weather::ResetAfter(100)] {
        scene.way.set(weather);
        scene.until_failures(1).await;
    }
    scene.until_waiting(APS, 4).await;
    scene.way.set(Weather::Fair);
    scene.until_drained(APS).await;
    scene.assert_never_refused();
    scene.ends_whole().await;
}

/// A region in which STS is switched off.
async fn disabled() {
    let mut scene = Scene::new().await;
    scene.sts.set_fault(Fault::RegionDisabled);
    scene.start().await;
    let said = scene.said(&[" aps: ", "the data is kept"]).await;
    assert_pinned("sts-disabled", &said);
    scene.until_waiting(APS, 4).await;
    scene.sts.set_fault(Fault::None);
    scene.until_drained(APS).await;
    scene.assert_never_refused();
    scene.ends_whole().await;
}
