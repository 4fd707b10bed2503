use std::collections::BTreeSet;
use std::time::Duration;

use promferry_bench::proxy::Proxy;
use promferry_cluster::Cluster;
use promferry_cluster::churn::{Judge, Storm, World};
use tokio::time::{Instant, timeout_at};

use crate::support::{Consumer, options};

/// `cluster-bench churn` does it for an hour.
const LENGTH: Duration = Duration::from_secs(20);
/// What a busy machine takes until all that is known is what there is.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
const JOBS: &[&str] = &["pod", "service", "endpointslice", "endpoints", "ingress", "node"];
const ATTACH: &str =
    "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}";

/// Through connections that break in every way, with a server that restarts and has forgotten what was: in the end all is
/// known that the API lists, no source was ever told the same twice, and none went back to what it had been.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_or_doubled() {
    let Some(mut cluster) = Cluster::start("no_change_is_missed_or_doubled").await else { return };
    let mut world = World::new(7);
    world.populate(&cluster).await;
    let proxy = Proxy::start(cluster.address()).await.unwrap();
    let straight = cluster.sd_config("admin");
    let through = straight.replace(cluster.url(), &format!("https://{}", proxy.address()));
    let mut consumer = run(&through);
    let mut judge = Judge::default();
    let storm = Storm { rate: 50, calm_ms: (500, 3000), disturbed_ms: (100, 1500), restart: true };
    let counts = tokio::select! {
        counts = storm.rage(&mut cluster, &mut world, &proxy, LENGTH) => counts,
        () = follow(&mut consumer, &mut judge) => unreachable!("it follows for ever"),
    };
    assert!(counts.disturbances > 2 && counts.restarts == 1, "{counts:?}");
    assert_eq!(world.compare(&cluster).await, [""; 0], "what the API lists is what was written");

    settle(&mut consumer, &mut judge, &world).await;
    let mut fresh = (run(&straight), Judge::default());
    settle(&mut fresh.0, &mut fresh.1, &world).await;
    let all = |judge: &Judge| -> BTreeSet<String> {
        judge.known.iter().map(|((job, _), group)| format!("{job} {group:?}")).collect()
    };
    // What is attached may come later than what it is attached to: each collection is tried again after a pause of its own.
    let deadline = Instant::now() + SETTLE_LIMIT;
    while all(&judge) != all(&fresh.1) && Instant::now() < deadline {
        let until = Instant::now() + Duration::from_millis(500);
        let _ = timeout_at(until, follow(&mut consumer, &mut judge)).await;
        let _ = timeout_at(until, follow(&mut fresh.0, &mut fresh.1)).await;
    }
    let (known, expected) = (all(&judge), all(&fresh.1));
    let missing: Vec<_> = expected.difference(&known).collect();
    let wrong: Vec<_> = known.difference(&expected).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "missing: {missing:#?}\nwrong: {wrong:#?}");
    assert_eq!(judge.faults(), [""; 0], "of {} changes", judge.changes());
}

fn run(reach: &str) -> Consumer {
    let jobs: Vec<_> = (JOBS.iter())
        .map(|role| {
            // A node has nothing attached.
            let attach = if *role == "node" { String::new() } else { format!("{ATTACH}, ") };
            (*role, format!("role: {role}, {attach}{reach}"))
        })
        .collect();
    Consumer::run(&jobs, options())
}

async fn follow(consumer: &mut Consumer, judge: &mut Judge) {
    loop {
        for change in consumer.next().await {
            judge.change(change.job, change.source, change.group);
        }
    }
}

/// Follows until what is known is what was written, and a little longer for what should not follow.
async fn settle(consumer: &mut Consumer, judge: &mut Judge, world: &World) {
    let deadline = Instant::now() + SETTLE_LIMIT;
    loop {
        let missed: Vec<String> = JOBS.iter().flat_map(|role| judge.missed(world, role)).collect();
        let until = match missed.is_empty() {
            true => Instant::now() + Duration::from_secs(3),
            false => Instant::now() + Duration::from_millis(100),
        };
        assert!(
            Instant::now() < deadline,
            "{:?}\n{:#?}",
            &missed[..missed.len().min(10)],
            consumer.discovery.status()
        );
        let _ = timeout_at(until, follow(consumer, judge)).await;
        if missed.is_empty() {
            return;
        }
    }
}
