//! Endpoints that come, change and go while samples wait for them.

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::{Fault, Sink};

use crate::collector::{Collector, until};
use crate::outcome::assert_nothing_lost;
use crate::triggers::start;

const FLAGS: &str = "--web.enable-lifecycle --no-config.auto-reload";

fn config(farm: &Farm, endpoints: &[String], labels: &str) -> String {
    let targets: Vec<_> = farm.addresses().iter().map(|address| format!("'{address}'")).collect();
    format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, external_labels: {{{labels}}}}}\n\
         scrape_configs: [{{job_name: farm, static_configs: [{{targets: [{}]}}]}}]\nremote_write:\n{}",
        targets.join(", "),
        endpoints.concat()
    )
}

fn endpoint(name: &str, sink: &Sink, more: &str) -> String {
    let queue = "queue_config: {batch_send_deadline: 200ms, max_backoff: 300ms}";
    format!("- {{name: {name}, url: '{}', {queue}{more}}}\n", sink.url())
}

async fn reload(folder: &tempfile::TempDir, collector: &Collector, config: &str) {
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    assert_eq!(collector.post("/-/reload").await, (200, String::new()));
}

async fn waits(collector: &Collector, name: &str) -> f64 {
    let label = format!("remote_name=\"{name}\"");
    collector.metric("prometheus_remote_storage_samples_pending", &label).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_added_changed_and_removed_with_what_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(3, 50).await.unwrap();
    let (steady, tried) = (
        Sink::start(Judgement::EachSeries).await.unwrap(),
        Sink::start(Judgement::EachSeries).await.unwrap(),
    );
    let later = Sink::start(Judgement::EachSeries).await.unwrap();
    let away = || Some(Fault { status: Some(503), ..Fault::default() });
    let of = |endpoints: &[String]| config(&farm, endpoints, "cluster: test");
    let (is_steady, is_tried) = (endpoint("steady", &steady, ""), endpoint("tried", &tried, ""));
    let mut collector = start(folder.path(), &of(&[is_steady.clone(), is_tried.clone()]), FLAGS);
    until("samples", async || tried.stats().samples > 500).await;
    tried.set_fault(away());
    until("something waits", async || waits(&collector, "tried").await > 500.0).await;

    let is_later = endpoint("later", &later, "");
    reload(&folder, &collector, &of(&[is_steady.clone(), is_tried, is_later.clone()])).await;
    assert!(
        collector.log().contains("configuration reloaded: jobs unchanged; endpoints +later, 2 unchanged")
    );
    until("the new one gets samples", async || later.stats().samples > 500).await;
    collector.assert_balanced().await;

    let is_changed = endpoint("tried", &tried, ", remote_timeout: 20s, headers: {X-Changed: yes}");
    reload(&folder, &collector, &of(&[is_steady.clone(), is_changed.clone(), is_later.clone()])).await;
    assert!(collector.log().contains("endpoints ~tried, 2 unchanged"));
    assert!(waits(&collector, "tried").await > 500.0, "what waits stays");
    tried.set_fault(None);
    until("what waited is delivered", async || waits(&collector, "tried").await < 300.0).await;
    assert_nothing_lost_but_what_waits(&collector, &farm, &tried).await;

    tried.set_fault(away());
    until("something waits again", async || waits(&collector, "tried").await > 500.0).await;
    reload(&folder, &collector, &of(&[is_steady.clone(), is_later.clone()])).await;
    let log = collector.log();
    assert!(log.contains("endpoints −tried, 2 unchanged"), "{log}");
    assert!(log.contains(" samples wait for tried, which is no remote_write endpoint any more"), "{log}");
    assert!(!collector.text("/status").await.contains(&tried.url()));
    let before = tried.stats();
    tried.set_fault(None);
    reload(&folder, &collector, &of(&[is_steady, is_changed, is_later])).await;
    until("what waited for it is delivered after all", async || {
        waits(&collector, "tried").await < 300.0 && tried.stats().samples > before.samples + 500
    })
    .await;

    collector.assert_balanced().await;
    collector.terminate().await;
    assert_nothing_lost(&farm, &steady, collector.interruption().as_slice(), &collector);
    for (name, sink) in [("steady", &steady), ("tried", &tried), ("later", &later)] {
        let stats = sink.stats();
        let wrong = (stats.out_of_order, stats.retimed, stats.duplicates, stats.stale_markers);
        assert_eq!(wrong, (0, 0, 0, 0), "{name}: {stats:?}");
    }
    assert!(farm.record().targets.iter().all(|target| target.connections == 1));
}

/// Of each target every scrape before its last that arrived.
async fn assert_nothing_lost_but_what_waits(collector: &Collector, farm: &Farm, sink: &Sink) {
    collector.assert_balanced().await;
    let received = sink.received();
    for address in farm.addresses() {
        let scrapes = &received.instances[&address.to_string()].scrapes;
        let last = *scrapes.last_key_value().unwrap().0;
        let missing: Vec<_> = (1..last).filter(|sequence| !scrapes.contains_key(sequence)).collect();
        assert!(missing.is_empty(), "{address}: {missing:?} of {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn external_labels_change_from_one_scrape_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(2, 20).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let endpoints = [endpoint("a", &sink, "")];
    let mut collector = start(folder.path(), &config(&farm, &endpoints, "cluster: old"), FLAGS);
    until("samples", async || sink.stats().samples > 200).await;
    let before = sink.stats().series;
    reload(&folder, &collector, &config(&farm, &endpoints, "cluster: new")).await;
    let said = "configuration reloaded: jobs unchanged; endpoints unchanged; other external labels";
    assert!(collector.log().contains(said), "{}", collector.log());
    until("all series come under new labels", async || sink.stats().series == 2 * before).await;
    collector.terminate().await;
    let stats = sink.stats();
    assert_eq!((stats.out_of_order, stats.duplicates, stats.stale_markers), (0, 0, 0), "{stats:?}");
    assert_nothing_lost(&farm, &sink, collector.interruption().as_slice(), &collector);
    assert!(farm.record().targets.iter().all(|target| target.connections == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_signed_for_from_now_on() {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(2, 20).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let of = |more: &str| config(&farm, &[endpoint("amp", &sink, more)], "cluster: test");
    let mut collector = start(folder.path(), &of(""), FLAGS);
    until("samples", async || sink.stats().samples > 200).await;
    assert!(collector.metric("promferry_credentials_valid", "").await < 1.0);
    let keys = ", sigv4: {region: eu-west-1, access_key: AKIDEXAMPLE, secret_key: hunter2}";
    reload(&folder, &collector, &of(keys)).await;
    until("it says with what", async || collector.log().contains("remote_write amp: signs with ")).await;
    assert_eq!(collector.metric("promferry_credentials_valid", "amp").await, 1.0);
    let before = sink.stats().samples;
    until("signed samples", async || sink.stats().samples > before + 200).await;
    reload(&folder, &collector, &of("")).await;
    assert!(collector.metric("promferry_credentials_valid", "").await < 1.0);
    let before = sink.stats().samples;
    until("samples without", async || sink.stats().samples > before + 200).await;
    collector.terminate().await;
    assert_nothing_lost(&farm, &sink, collector.interruption().as_slice(), &collector);
    assert_eq!(collector.log().matches("endpoints ~amp").count(), 2);
    assert!(!collector.log().contains("hunter2"));
}
