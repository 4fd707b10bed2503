//! `kill -9` at random moments.

use std::time::Duration;

use promferry_bench::account::Account;
use promferry_bench::clock::now_ms;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::{Fault, Sink};
use promferry_model::{Rng as _, SeededRng};

use crate::collector::{Collector, config, is_full_tier, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_that_was_answered_a_second_before() {
    let kills = if is_full_tier() { 200 } else { 10 };
    let seed = now_ms() as u64;
    eprintln!("seed {seed}");
    let mut rng = SeededRng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) =
        (Farm::start(10, 200).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let config = config(farm.addresses(), &sink, "500ms");
    let mut killed_at = Vec::new();
    for kill in 0..kills {
        let mut collector = Collector::start(folder.path(), &config);
        collector.until_ready().await;
        // At every second kill the receiver is down, so that the spool is not empty.
        let down = kill % 2 == 1;
        sink.set_fault(down.then(|| Fault { down: true, ..Fault::default() }));
        tokio::time::sleep(Duration::from_millis(1000 + rng.next_u64() % 2000)).await;
        collector.assert_balanced().await;
        killed_at.push(now_ms());
        collector.kill();
    }
    sink.set_fault(None);
    let mut collector = Collector::start(folder.path(), &config);
    collector.until_ready().await;
    let lost = || {
        let account = Account::new(&farm.record(), &sink.received(), &killed_at);
        (account.lost, account)
    };
    until("what the last run left", async || {
        collector.metric("prometheus_remote_storage_samples_pending", "").await < 5000.0
    })
    .await;
    let stopped = collector.terminate().await;
    assert_eq!(stopped.status.and_then(|status| status.code()), Some(0), "{}", collector.log());
    let (lost, account) = lost();
    eprintln!("{kills} kills: {account:?}, {:?}", sink.stats());
    assert_eq!(lost, 0, "{account:?}");
    assert_eq!(sink.stats().out_of_order, 0);
    assert!(account.answered > 10 * kills, "{account:?}");
}
