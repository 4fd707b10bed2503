//! Endpoints and labels change while everything goes on.

use std::time::Duration;

use promferry_model::TargetSink as _;

use crate::receiver::Receiver;
use crate::setup::{
    Load, Target, anew, cluster, config, drained, names, numbers, same, slow_receiver, start,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_added_changed_removed_under_load() {
    const TARGETS: usize = 6;
    const SERIES: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let [stays, old, new, leaves, added] = [
        slow_receiver().await,
        slow_receiver().await,
        slow_receiver().await,
        slow_receiver().await,
        slow_receiver().await,
    ];
    let config_of = |name: &str, receiver: &Receiver| config(name, receiver.address);
    let first =
        [config_of("stays", &stays), config_of("changes", &old), config_of("leaves", &leaves)].to_vec();
    let remote = start(dir.path(), cluster("blue"), first.clone()).await;
    let load = Load::start(&remote, TARGETS, SERIES);
    load.go_on_for(30).await;

    // One stays, one moves, one leaves, one comes.
    let moved = config_of("changes", &new);
    let second = vec![anew(config_of("comes", &added)), same(&first[0]), anew(moved.clone())];
    let applied = remote.apply(cluster("blue"), second).await.unwrap();
    assert_eq!(names(&applied), [vec!["comes"], vec!["changes"], vec!["leaves"]]);
    assert!(!applied.external_labels);
    let keys: Vec<_> = remote.status().await.unwrap().into_iter().map(|endpoint| endpoint.key).collect();
    assert_eq!(keys, ["comes", "stays", "changes"], "in the order of the configuration");
    let left_behind = leaves.count();
    load.go_on_for(30).await;
    assert_eq!(leaves.count(), left_behind, "nothing goes to who has left");

    // The one that left comes back; the one that moved is sent something else by the same way.
    let mut faster = moved.clone();
    faster.queue_config.max_samples_per_send = 50;
    faster.send_exemplars = true;
    let third =
        vec![same(&first[0]), same(&config_of("comes", &added)), same(&faster), anew(first[2].clone())];
    let applied = remote.apply(cluster("blue"), third).await.unwrap();
    assert_eq!(names(&applied), [vec!["leaves"], vec!["changes"], vec![]]);
    load.go_on_for(30).await;
    let scrapes = load.stop().await;
    let status = drained(&remote).await;

    let all = scrapes.iter().sum::<i64>() as u64 * SERIES as u64;
    for (name, is_there_all_along) in
        [("stays", true), ("changes", true), ("leaves", false), ("comes", false)]
    {
        let ledger = &status[name].ledger;
        assert_eq!(ledger.delivered, ledger.accepted, "{name}: {ledger:?}");
        assert_eq!(ledger.accepted.samples == all, is_there_all_along, "{name}: {ledger:?} of {all}");
    }
    let delivered = |name: &str| status[name].ledger.delivered.samples as usize;
    assert_eq!(delivered("stays"), stays.count());
    assert_eq!(delivered("changes"), old.count() + new.count());
    assert_eq!(delivered("leaves"), leaves.count());
    assert_eq!(delivered("comes"), added.count());

    let of = |receivers: &[&Receiver], series: &str| -> Vec<i64> {
        let all = receivers.iter().flat_map(|receiver| numbers(receiver).remove(series).unwrap_or_default());
        all.collect()
    };
    assert_eq!(numbers(&stays).len(), TARGETS * SERIES);
    for (series, came) in numbers(&stays) {
        let target: usize = series.split("host-").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
        let end = scrapes[target];
        let every: Vec<i64> = (0..end).collect();
        assert_eq!(came, every, "{series}");
        assert_eq!(of(&[&old, &new], &series), every, "{series}: in order, first here and then there");
        let late = of(&[&added], &series);
        assert!(!late.is_empty() && late == (end - late.len() as i64..end).collect::<Vec<_>>(), "{series}");
        let twice = of(&[&leaves], &series);
        let gap = twice.windows(2).position(|pair| pair[1] != pair[0] + 1).unwrap();
        assert_eq!((twice[0], *twice.last().unwrap()), (0, end - 1), "{series}");
        assert!(twice[..=gap].is_sorted() && twice[gap + 1] > twice[gap], "{series}: {twice:?}");
        assert_eq!(twice.windows(2).filter(|pair| pair[1] != pair[0] + 1).count(), 1, "{series}: {twice:?}");
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn external_labels_change_from_one_scrape_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let config = config("amp", receiver.address);
    let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
    let mut early = Target::open(&remote, "early:80", 3);
    let mut late = Target::open(&remote, "late:80", 3);
    let mut other = Target::open(&remote, "other:80", 3);
    let generation = early.sink.generation();
    for number in 0..3 {
        for target in [&mut early, &mut late, &mut other] {
            target.scrape(number).await;
        }
    }
    // One scrape began before and ends after; one was taken back.
    late.begin(3);
    other.begin(3);
    other.sink.abort();
    let applying = tokio::spawn({
        let (remote, changes) = (remote.clone(), vec![same(&config)]);
        async move { remote.apply(cluster("green"), changes).await.unwrap() }
    });
    // Until it is green: what begins then is not stored before what began earlier is.
    let mut number = 3;
    let mut waiting = loop {
        assert!(number < 10_000, "it never waits");
        early.begin(number);
        let mut commit = early.commit();
        number += 1;
        if tokio::time::timeout(Duration::from_millis(500), &mut commit).await.is_err() {
            break commit;
        }
    };
    assert!(!applying.is_finished());
    late.commit().await.unwrap();
    (&mut waiting).await.unwrap();
    assert!(applying.await.unwrap().external_labels);
    let switched = number - 1;
    for target in [&mut early, &mut late, &mut other] {
        target.scrape(number).await;
        assert_eq!(target.sink.generation(), generation, "nobody has to admit anything anew");
    }
    let status = drained(&remote).await;
    let expected = |labels: &str, instance: &str| -> Vec<i64> {
        let series = format!("__name__=m,cluster={labels},instance={instance}:80,job=test,number=1");
        numbers(&receiver).remove(&series).unwrap_or_default()
    };
    // A machine that is held up may have made it wait before.
    let first = expected("green", "early")[0];
    assert!(first == switched || first == number, "{first}");
    assert_eq!(expected("blue", "early"), (0..first).collect::<Vec<_>>());
    assert_eq!(expected("green", "early"), (first..=number).collect::<Vec<_>>());
    assert_eq!((expected("blue", "late"), expected("green", "late")), (vec![0, 1, 2, 3], vec![number]));
    assert_eq!((expected("blue", "other"), expected("green", "other")), (vec![0, 1, 2], vec![number]));
    let bits = receiver.samples().into_values().flatten().map(|(_, bits)| f64::from_bits(bits));
    assert_eq!(bits.filter(|value| value.is_nan()).count(), 0, "no series ended");
    assert_eq!(status["amp"].ledger.delivered.samples as usize, receiver.count());
    assert_eq!(status["amp"].jobs[0].active_series, 9);
    assert_eq!(remote.spool().stats().await.unwrap().logs.len(), 1, "the log of the old labels is gone");
    assert_eq!(remote.active_series(), 9);
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_made_one_after_the_other_whoever_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = slow_receiver().await;
    let remote = start(dir.path(), cluster("none"), vec![config("amp", receiver.address)]).await;
    let load = Load::start(&remote, 3, 5);
    load.go_on_for(3).await;
    let mut changes = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (remote, change) = (remote.clone(), vec![anew(config("amp", receiver.address))]);
        changes.spawn(async move {
            let applying = remote.apply(cluster(&number.to_string()), change);
            if number % 3 == 0 {
                // Who waited for it has gone.
                drop(tokio::time::timeout(Duration::from_millis(2), applying).await);
            } else {
                applying.await.unwrap();
            }
        });
    }
    while let Some(changed) = changes.join_next().await {
        changed.unwrap();
    }
    remote.apply(cluster("last"), vec![anew(config("amp", receiver.address))]).await.unwrap();
    load.go_on_for(3).await;
    let scrapes = load.stop().await;
    let status = drained(&remote).await;
    assert_eq!(status["amp"].ledger.delivered.samples as i64, 5 * scrapes.iter().sum::<i64>());
    assert_eq!(receiver.count() as u64, status["amp"].ledger.delivered.samples);
    receiver.assert_once_in_order();
    let came = numbers(&receiver);
    for (target, scrapes) in scrapes.iter().enumerate() {
        let instance = format!("instance=host-{target}:80,job=test,number=0");
        let mut all: Vec<i64> = came
            .iter()
            .filter(|(series, _)| series.contains(&instance))
            .flat_map(|(_, came)| came.clone())
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..*scrapes).collect::<Vec<_>>(), "each scrape under one label");
        let last =
            came.iter().find(|(series, _)| series.contains(&instance) && series.contains("cluster=last"));
        assert_eq!(last.and_then(|(_, came)| came.last()), Some(&(scrapes - 1)));
    }
    remote.shutdown(Duration::from_secs(20)).await;
}
