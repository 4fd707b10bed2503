//! What servers do that do not answer as they should.

use std::time::{Duration, Instant, SystemTime};

use promferry_aws_stand_in::{Cloud, Fault, Outcome};
use promferry_bench::sink;

use crate::raw::Call;
use crate::world::World;

/// What was down listens again within a moment.
async fn until_it_listens(call: &Call) {
    let start = Instant::now();
    while call.try_send().await.is_none() {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not listen again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sts_fails_as_told() {
    let world = World::over(Cloud::memory()).await;
    let status = async || world.caller_identity().try_send().await.map(|answer| answer.status);

    world.sts.set_fault(Fault::Down);
    assert_eq!(status().await, None);
    world.sts.set_fault(Fault::None);
    until_it_listens(&world.caller_identity()).await;
    world.sts.set_fault(Fault::Throttling);
    let throttled = world.caller_identity().send().await;
    assert_eq!(
        (throttled.status, throttled.element("Code"), throttled.element("Message")),
        (400, "Throttling", "Rate exceeded")
    );
    world.sts.set_fault(Fault::RegionDisabled);
    let disabled = world.assume_role().send().await;
    assert_eq!((disabled.status, disabled.element("Code")), (403, "RegionDisabledException"));
    assert!(
        disabled
            .element("Message")
            .starts_with("STS is not activated in this region for account:444455556666.")
    );
    world.sts.set_fault(Fault::Nonsense);
    for _ in 0..5 {
        let answer = world.assume_role().send().await;
        assert!(
            !answer.body.contains("</AssumeRoleResponse>") && !answer.body.contains("<Code>"),
            "{}",
            answer.body
        );
    }
    world.sts.set_fault(Fault::Slow(Duration::from_millis(300)));
    let start = Instant::now();
    assert_eq!(status().await, Some(200));
    assert!(start.elapsed() >= Duration::from_millis(300));

    world.sts.set_faults(&[Fault::Throttling, Fault::Down, Fault::None]);
    for expected in [Some(400), None, Some(200), Some(400), None, Some(200)] {
        assert_eq!(status().await, expected);
    }
    world.sts.set_fault(Fault::None);
    assert_eq!(status().await, Some(200));
    let faults = world.sts.calls().iter().filter(|call| call.outcome == Outcome::Fault).count();
    // Calls that nobody listened to are not among them: five of nonsense, two closed.
    assert_eq!(faults, 7);
}

#[tokio::test]
async fn workspaces_fail_as_told() {
    let world = World::over(Cloud::memory()).await;
    let status = async || world.write("ws-own").try_send().await.map(|answer| answer.status);
    world.workspaces.set_fault(Fault::Down);
    assert_eq!(status().await, None);
    world.workspaces.set_fault(Fault::None);
    until_it_listens(&world.write("ws-hub")).await;
    world.workspaces.set_fault(Fault::Nonsense);
    assert_eq!(status().await, Some(502));
    world.workspaces.set_fault(Fault::RegionDisabled);
    assert_eq!(status().await, Some(403));
    world.workspaces.set_fault(Fault::None);
    assert_eq!(status().await, Some(204));

    // A single workspace fails by its sink, whose answers and silences are passed on.
    let failing = sink::Fault { status: Some(503), ..sink::Fault::default() };
    world.workspaces.sink("ws-own").set_fault(Some(failing));
    assert_eq!(status().await, Some(503));
    let dropping = sink::Fault { drop: Some(sink::When::After), ..sink::Fault::default() };
    world.workspaces.sink("ws-own").set_fault(Some(dropping));
    assert_eq!(status().await, None);
    assert_eq!(world.write("ws-hub").send().await.status, 204);
    assert_eq!(world.workspaces.stats("ws-own").samples, 2);
}

/// The `Date` of answers, the window and expiries are by AWS' clock.
#[tokio::test]
async fn the_clock_is_moved() {
    let world = World::over(Cloud::memory()).await;
    for shift_ms in [7_200_000, -7_200_000] {
        world.cloud.set_clock(shift_ms);
        let aws = world.cloud.now();
        let answer = world.web_identity().send().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let date = httpdate::parse_http_date(answer.header("date")).unwrap();
        let apart = date.duration_since(aws).unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_secs(30), "{apart:?}");
        let expiration = humantime::parse_rfc3339(answer.element("Expiration")).unwrap();
        let lifetime = expiration.duration_since(date).unwrap();
        assert!((3_590..3_610).contains(&lifetime.as_secs()), "{lifetime:?}");

        let mut write = world.write("ws-own");
        write.signer = Some(crate::raw::Signer { service: "aps", at: SystemTime::now(), ..answer.session() });
        let refused = write.send().await;
        assert_eq!(refused.status, 403, "{}", refused.body);
        let date = httpdate::parse_http_date(refused.header("date")).unwrap();
        write.signer().at = date;
        assert_eq!(write.send().await.status, 204);
    }
}
