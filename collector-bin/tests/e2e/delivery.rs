//! From targets to a receiver, with a receiver that is not always there.

use std::time::Duration;

use promferry_bench::account::Account;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::{Fault, Sink};

use crate::collector::{Collector, config, is_full_tier, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_receiver_loses_no_sample() {
    let outage = Duration::from_secs(if is_full_tier() { 30 } else { 6 });
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) =
        (Farm::start(10, 200).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let mut collector = Collector::start(folder.path(), &config(farm.addresses(), &sink, "1s"));
    until("the first samples", async || sink.stats().samples > 2000).await;
    // Half of the outage nothing listens, half of it the answer is 503.
    for fault in [Fault { down: true, ..Fault::default() }, Fault { status: Some(503), ..Fault::default() }] {
        sink.set_fault(Some(fault));
        tokio::time::sleep(outage / 2).await;
    }
    collector.assert_balanced().await;
    sink.set_fault(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stopped = collector.terminate().await;
    assert_eq!(stopped.status.unwrap().code(), Some(0), "{}", collector.log());
    let account = Account::new(&farm.record(), &sink.received(), collector.interruption().as_slice());
    assert_eq!((account.lost, account.silent_targets), (0, 0), "{account:?}");
    assert!(account.answered as u128 >= 10 * outage.as_secs() as u128, "{account:?}");
    let stats = sink.stats();
    assert_eq!(stats.out_of_order, 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_while_the_receiver_is_down_keeps_the_data_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(3, 50).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    sink.set_fault(Some(Fault { down: true, ..Fault::default() }));
    let config = config(farm.addresses(), &sink, "500ms");
    let mut collector = Collector::start(folder.path(), &config);
    until("scrapes are stored", async || {
        collector.metric("prometheus_remote_storage_samples_pending", "").await > 500.0
    })
    .await;
    let stopped = collector.terminate().await;
    assert_eq!(stopped.status.unwrap().code(), Some(0));
    // 20 s for the flush, and some for a busy machine: far from Kubernetes' 30 s grace period and a kill.
    assert!(stopped.after < Duration::from_secs(26), "{:?}", stopped.after);
    let mut interruptions = Vec::from_iter(collector.interruption());
    let before = Account::new(&farm.record(), &sink.received(), &interruptions);
    assert!(before.answered >= 3 && before.delivered == 0, "{before:?}");
    sink.set_fault(None);
    let mut collector = Collector::start(folder.path(), &config);
    collector.until_ready().await;
    until("the backlog arrived", async || {
        Account::new(&farm.record(), &sink.received(), &interruptions).delivered >= before.lost
    })
    .await;
    collector.terminate().await;
    interruptions.extend(collector.interruption());
    let account = Account::new(&farm.record(), &sink.received(), &interruptions);
    assert_eq!((account.lost, sink.stats().out_of_order), (0, 0), "{account:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_target_and_two_endpoints_one_of_them_down() {
    // Beyond 20,000 series a target is spread over several lanes.
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(1, 25_000).await.unwrap();
    let (all, some) = (
        Sink::start(Judgement::EachSeries).await.unwrap(),
        Sink::start(Judgement::EachSeries).await.unwrap(),
    );
    let mut config = config(farm.addresses(), &all, "2s");
    config.push_str(&format!(
        "- url: {}\n  name: some\n  queue_config: {{batch_send_deadline: 500ms}}\n  \
         write_relabel_configs: [{{source_labels: [__name__], regex: 'up|scrape_.*', action: drop}}]\n",
        some.url()
    ));
    let mut collector = Collector::start(folder.path(), &config);
    until("the first scrape arrived", async || all.stats().samples >= 25_000).await;
    all.set_fault(Some(Fault { status: Some(500), ..Fault::default() }));
    let before = some.stats().samples;
    until("the other endpoint goes on", async || some.stats().samples >= before + 50_000).await;
    collector.assert_balanced().await;
    all.set_fault(None);
    // More than a scrape or two a busy machine does not send in the seconds that a stop has for it.
    until("the endpoint that was down catches up", async || {
        collector.metric("prometheus_remote_storage_samples_pending", &all.url()).await <= 26_000.0
    })
    .await;
    assert_eq!(collector.terminate().await.status.unwrap().code(), Some(0), "{}", collector.log());
    for sink in [&all, &some] {
        let account = Account::new(&farm.record(), &sink.received(), collector.interruption().as_slice());
        assert_eq!((account.lost, sink.stats().out_of_order), (0, 0), "{account:?}");
        assert!(account.answered >= 3, "{account:?}");
    }
    assert!(some.stats().series < all.stats().series, "the report series are dropped for one of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_has_to_be_reachable_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(1, 10).await.unwrap();
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
         scrape_configs:\n\
         - {{job_name: farm, static_configs: [{{targets: ['{}', 'no-such-host.invalid:80']}}]}}\n\
         - {{job_name: sd, http_sd_configs: [{{url: 'http://127.0.0.1:9/sd'}}]}}\n\
         remote_write:\n\
         - {{name: dns, url: 'http://no-such-host.invalid/api/v1/write'}}\n\
         - {{name: scheme, url: 'invalid://localhost:9999'}}\n\
         - {{name: refused, url: 'http://127.0.0.1:9/api/v1/write', sigv4: {{region: eu-west-1, role_arn: 'arn:aws:iam::1:role/x'}}}}\n",
        farm.addresses()[0]
    );
    let mut collector = Collector::start(folder.path(), &config);
    until("scrapes are stored", async || {
        collector.metric("promferry_remote_samples_accepted_total", "dns").await > 30.0
    })
    .await;
    assert!(collector.is_running());
    collector.assert_balanced().await;
}
