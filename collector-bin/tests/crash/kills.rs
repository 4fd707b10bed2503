//! `kill -9` at random moments.

use std::time::Duration;

use promferry_bench::account::{Account, Interruption, missing};
use promferry_bench::clock::now_ms;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::{Fault, Sink};
use promferry_model::{Rng as _, SeededRng};

use crate::alone;
use crate::collector::{Collector, config, is_full_tier, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_that_was_answered_a_second_before() {
    let _alone = alone().await;
    let kills = if is_full_tier() { 200 } else { 10 };
    let seed = now_ms() as u64;
    eprintln!("seed {seed}");
    let mut rng = SeededRng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) =
        (Farm::start(10, 200).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let config = config(farm.addresses(), &sink, "1s");
    let mut interruptions = Vec::new();
    for kill in 0..kills {
        let mut collector = Collector::start(folder.path(), &config);
        collector.until_ready().await;
        // At every second kill the receiver is down, so that the spool is not empty.
        let down = kill % 2 == 1;
        sink.set_fault(down.then(|| Fault { down: true, ..Fault::default() }));
        tokio::time::sleep(Duration::from_millis(1000 + rng.next_u64() % 2000)).await;
        collector.assert_balanced().await;
        interruptions.push(killed(&mut collector, &farm).await);
    }
    sink.set_fault(None);
    let mut collector = Collector::start(folder.path(), &config);
    collector.until_ready().await;
    until("what the last run left", async || {
        collector.metric("prometheus_remote_storage_samples_pending", "").await < 5000.0
    })
    .await;
    let stopped = collector.terminate().await;
    assert_eq!(stopped.status.and_then(|status| status.code()), Some(0), "{}", collector.log());
    interruptions.extend(collector.interruption());
    let account = assert_nothing_lost(&farm, &sink, &interruptions, &collector);
    eprintln!("{kills} kills: {account:?}, {:?}", sink.stats());
    assert!(account.answered > 10 * kills, "{account:?}");
}

/// Kills it and waits until no answer is on its way to it.
async fn killed(collector: &mut Collector, farm: &Farm) -> Interruption {
    let began_ms = now_ms();
    collector.kill();
    loop {
        // A request may still lie in a target's socket.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if farm.under_way() == 0 {
            return Interruption { began_ms, over_ms: now_ms() };
        }
    }
}

/// Every scrape arrived, or was in hand at an interruption, or failed as the collector says; none out of order. What
/// is missing is printed, and with a loss the log's lines about that target.
fn assert_nothing_lost(
    farm: &Farm,
    sink: &Sink,
    interruptions: &[Interruption],
    collector: &Collector,
) -> Account {
    let (record, received, stats) = (farm.record(), sink.received(), sink.stats());
    let account = Account::new(&record, &received, interruptions);
    let missing = missing(&record, &received, interruptions);
    for one in &missing {
        eprintln!("{one}");
        for line in collector.log().lines().filter(|line| line.contains(&one.instance)) {
            eprintln!("    {line}");
        }
    }
    assert_eq!((account.lost, account.silent_targets), (0, 0), "{account:?}");
    // A machine so busy that more than a few scrapes end past their deadline shows nothing.
    assert!(account.failed * 20 <= account.answered, "{account:?}");
    assert_eq!((stats.out_of_order, stats.retimed), (0, 0), "{stats:?}");
    account
}
