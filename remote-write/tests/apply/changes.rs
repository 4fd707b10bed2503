//! What changes, what stays, and what is told of it.

use std::time::Duration;

use promferry_model::Timestamp;
use promferry_relabel::{Action, RelabelConfig};
use promferry_remote_write::{Counts, EndpointChange, RemoteWriteConfig};

use crate::receiver::{Receiver, Verdict};
use crate::setup::{
    START, Target, anew, cluster, config, drained, drop_numbers, names, numbers, same, start, status,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_endpoint_keeps_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let [stays, other] = [Receiver::start().await, Receiver::start().await];
    let mut config_of_stays = config("stays", stays.address);
    let config_of_other = config("other", other.address);
    let configs = vec![config_of_stays.clone(), config_of_other.clone()];
    let remote = start(dir.path(), cluster("blue"), configs).await;
    let mut target = Target::open(&remote, "a:80", 5);
    let mut number = 0;
    let mut scrape = async |receivers: &[&Receiver]| {
        target.scrape(number).await;
        number += 1;
        drained(&remote).await;
        for receiver in receivers {
            assert_eq!(numbers(receiver).into_values().flatten().max(), Some(number - 1));
        }
    };
    scrape(&[&stays, &other]).await;
    let attempts = status(&remote).await["stays"].delivery.attempts;
    assert!(attempts > 0);
    // The other one is reached in another way, goes and comes back.
    for others in [vec![anew(config_of_other.clone())], vec![], vec![anew(config_of_other.clone())]] {
        let mut changes = vec![same(&config_of_stays)];
        changes.extend(others);
        remote.apply(cluster("blue"), changes).await.unwrap();
        scrape(&[&stays]).await;
    }
    // What is encoded for it changes, and what is warned of, but not how it is reached.
    remote.apply(cluster("green"), vec![same(&config_of_stays)]).await.unwrap();
    scrape(&[&stays]).await;
    config_of_stays.active_series_limit = 10;
    config_of_stays.send_exemplars = true;
    let applied = remote.apply(cluster("green"), vec![same(&config_of_stays)]).await.unwrap();
    assert_eq!(names(&applied), [vec![], vec!["stays"], vec![]]);
    scrape(&[&stays]).await;
    let kept = &status(&remote).await["stays"];
    assert_eq!(kept.delivery.attempts, attempts + 5, "its statistics go on");
    assert_eq!(kept.limits[0].used, 5.0);
    assert!(remote.apply(cluster("green"), vec![same(&config_of_stays)]).await.unwrap().is_nothing());
    assert_eq!(stays.connections(), 1);
    // Delivery begins anew, by the same way.
    config_of_stays.queue_config.max_shards = 7;
    remote.apply(cluster("green"), vec![same(&config_of_stays)]).await.unwrap();
    scrape(&[&stays]).await;
    assert_eq!(status(&remote).await["stays"].delivery.attempts, 1);
    assert_eq!(stays.connections(), 1);
    stays.assert_once_in_order();
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_apply_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = [Receiver::start().await, Receiver::start().await];
    let configs = [config("first", first.address), config("second", second.address)];
    let remote = start(dir.path(), cluster("blue"), configs.to_vec()).await;
    let mut target = Target::open(&remote, "a:80", 5);
    target.scrape(0).await;
    let before = drained(&remote).await;

    let moved = || anew(config("first", second.address));
    let bad = |change: &dyn Fn(&mut RemoteWriteConfig)| {
        let mut config = configs[1].clone();
        change(&mut config);
        config
    };
    let cases: [(&str, Vec<EndpointChange>, &str); 5] = [
        (
            "an option that can't be",
            vec![moved(), anew(bad(&|config| config.queue_config.max_shards = 0))],
            "remote_write endpoint second: queue_config.max_shards: max_shards has to be at least 1",
        ),
        (
            "a rule that can't be compiled",
            vec![moved(), same(&bad(&|config| config.write_relabel_configs = drop_numbers("(")))],
            "remote_write endpoint second: write_relabel_configs.0",
        ),
        ("two of one name", vec![moved(), moved()], "two remote_write endpoints are called first"),
        (
            "the transport of nobody",
            vec![moved(), same(&config("third", second.address))],
            "there is no remote_write endpoint third whose transport could stay",
        ),
        (
            "two without a name at one address",
            vec![anew(config("", first.address)), anew(config("", first.address))],
            "two remote_write endpoints are called http://",
        ),
    ];
    for (what, changes, expected) in cases {
        let error = remote.apply(cluster("green"), changes).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{what}: {error}");
    }
    let after = drained(&remote).await;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, before) in before {
        assert_eq!(
            (&before.url, &before.delivery.attempts),
            (&after[&name].url, &after[&name].delivery.attempts)
        );
    }
    assert_eq!(remote.spool().stats().await.unwrap().logs.len(), 1);
    target.scrape(1).await;
    drained(&remote).await;
    for receiver in [first, second] {
        assert_eq!(receiver.connections(), 1);
        let came = numbers(&receiver);
        assert!(
            came.iter().all(|(series, came)| series.contains("cluster=blue") && came == &[0, 1]),
            "{came:?}"
        );
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_that_new_rules_make_alike_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut config = config("amp", receiver.address);
    let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
    let mut target = Target::open(&remote, "a:80", 3);
    target.scrape(0).await;
    config.write_relabel_configs = vec![RelabelConfig {
        regex: Some("number".into()),
        action: Action::LabelDrop,
        ..RelabelConfig::default()
    }];
    remote.apply(cluster("blue"), vec![same(&config)]).await.unwrap();
    assert_eq!(remote.duplicates(), []);
    target.scrape(1).await;
    let told = remote.duplicates();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].labels.get("number"), told[0].owner.as_str()), ("1", "http://a:80/metrics"));
    let ledger = drained(&remote).await.remove("amp").unwrap().ledger;
    assert_eq!((ledger.delivered.samples, ledger.dropped_total().samples), (3 + 1, 2));
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_write_that_is_accepted_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut requests = 0;
    receiver.answer_by(move |_| {
        requests += 1;
        let headers = match requests {
            1 => vec![("x-amzn-requestid", "denied".to_owned())],
            2 => vec![("x-request-id", "proxy".to_owned()), ("x-amzn-requestid", "5c7a".to_owned())],
            3 => vec![("x-request-id", "proxy".to_owned())],
            _ => Vec::new(),
        };
        Verdict { headers, ..(if requests == 1 { 503 } else { 200 }, String::new()).into() }
    });
    let mut config = config("amp", receiver.address);
    config.url = format!("http://user:hunter2@{}/api/v1/write?token=hunter2", receiver.address);
    let remote = start(dir.path(), cluster("blue"), vec![config.clone()]).await;
    let mut target = Target::open(&remote, "a:80", 4);
    assert_eq!(status(&remote).await["amp"].delivery.first_success, None);
    for (number, request_id) in [Some("5c7a"), Some("proxy"), None].into_iter().enumerate() {
        if number > 0 {
            remote.apply(cluster("blue"), vec![anew(config.clone())]).await.unwrap();
        }
        for again in 0..2 {
            target.scrape(2 * number as i64 + again).await;
            let first = drained(&remote).await["amp"].delivery.first_success.clone().unwrap();
            assert_eq!(first.host, receiver.address.to_string());
            assert_eq!(first.request_id.as_deref(), request_id, "of the first of this delivery");
            assert_eq!(first.accepted, Counts { samples: 4, ..Counts::default() });
            assert!(first.at > Timestamp::from_millis(*START) && !format!("{first:?}").contains("hunter2"));
            if number < 2 {
                break;
            }
        }
    }
    remote.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn external_labels_change_where_there_is_no_endpoint_too() {
    let dir = tempfile::tempdir().unwrap();
    let remote = start(dir.path(), cluster("blue"), Vec::new()).await;
    let mut target = Target::open(&remote, "a:80", 3);
    target.scrape(0).await;
    let applied = remote.apply(cluster("green"), Vec::new()).await.unwrap();
    assert!(applied.external_labels);
    assert!(remote.apply(cluster("green"), Vec::new()).await.unwrap().is_nothing(), "they are known by now");
    target.scrape(1).await;

    let receiver = Receiver::start().await;
    let applied = remote.apply(cluster("green"), vec![anew(config("amp", receiver.address))]).await.unwrap();
    assert!(!applied.external_labels);
    target.scrape(2).await;
    drained(&remote).await;
    let came = numbers(&receiver);
    assert!(came.len() == 3 && came.keys().all(|series| series.contains("cluster=green")), "{came:?}");
    remote.shutdown(Duration::from_secs(20)).await;
}
