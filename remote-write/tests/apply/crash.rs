//! A crash after a change.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use promferry_model::{MemoryBudget, SystemClock};
use promferry_remote_write::spool::{DiskStorage, Spool, SpoolOptions};

use crate::receiver::Receiver;
use crate::sender;
use crate::setup::{Target, anew, cluster, config, drained, drop_numbers, numbers, start, status};

/// Copies a directory as a crash would leave it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_change_finds_the_same_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let [amp, gone] = [Receiver::start().await, Receiver::start().await];
    let configs = [config("amp", amp.address), config("gone", gone.address)];
    let remote = start(dir.path(), cluster("blue"), configs.to_vec()).await;
    let mut target = Target::open(&remote, "a:80", 10);
    for number in 0..3 {
        target.scrape(number).await;
    }
    drained(&remote).await;
    amp.answer(503, "away");
    gone.answer(503, "away");
    for number in 3..6 {
        target.scrape(number).await;
    }
    let mut changed = configs[0].clone();
    changed.write_relabel_configs = drop_numbers("7");
    remote.apply(cluster("green"), vec![anew(changed.clone())]).await.unwrap();
    for number in 6..9 {
        target.scrape(number).await;
    }
    let before = status(&remote).await.remove("amp").unwrap().ledger;
    assert_eq!((before.delivered.samples, before.pending.samples), (30, 30 + 27));

    // As it is now, and as an orderly end leaves it.
    let crashed = dir.path().join("crashed/spool");
    copy(&dir.path().join("spool"), &crashed);
    remote.shutdown(Duration::ZERO).await;
    drop((target, remote));
    for (spool, orderly) in [(crashed, false), (dir.path().join("spool"), true)] {
        let left = |receiver: &Receiver| {
            receiver.state.lock().unwrap().judge = None;
            receiver.state.lock().unwrap().samples.clear();
        };
        let budget = MemoryBudget::new(64 << 20);
        let clock = Arc::new(SystemClock::new());
        let storage = DiskStorage::new(&spool).unwrap();
        let (opened, report) = Spool::open(storage, SpoolOptions::default(), budget, clock.clone()).unwrap();
        assert_eq!((report.damaged, report.lost_cursors.len(), report.unclaimed_logs.len()), (0, 0, 0));
        let stats = opened.stats().await.unwrap();
        let ledger_of =
            |key: &str| &stats.endpoints.iter().find(|endpoint| endpoint.key == key).unwrap().ledger;
        assert_eq!(*ledger_of("amp"), before);
        assert_eq!(ledger_of("gone").pending.samples, 30, "what it has left behind");
        opened.close().await;
        drop(opened);

        left(&amp);
        left(&gone);
        let both = vec![changed.clone(), configs[1].clone()];
        let endpoints = both.into_iter().map(sender::endpoint).collect();
        let remote = sender::start(&spool, clock, cluster("green"), endpoints).await;
        let status = drained(&remote).await;
        assert_eq!(status["amp"].ledger.delivered.samples, 30 + 57);
        assert_eq!(status["gone"].ledger.delivered.samples, 60);
        let mut came = numbers(&amp);
        for number in 0..10 {
            let series =
                |cluster| format!("__name__=m,cluster={cluster},instance=a:80,job=test,number={number}");
            assert_eq!(came.remove(&series("blue")).unwrap(), [3, 4, 5], "orderly: {orderly}");
            let late = came.remove(&series("green")).unwrap_or_default();
            assert_eq!(late, if number == 7 { vec![] } else { vec![6, 7, 8] }, "orderly: {orderly}");
        }
        assert_eq!(numbers(&gone).into_values().collect::<BTreeSet<_>>(), [vec![3, 4, 5]].into());
        remote.shutdown(Duration::from_secs(20)).await;
    }
}
