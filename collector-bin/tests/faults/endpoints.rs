//! Several endpoints of which one refuses everything.

use std::time::Duration;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::{Fault, Sink};

use crate::collector::{Collector, config, is_full_tier, until};
use crate::outcome::assert_nothing_lost;
use crate::pace::measure;

#[tokio::test(flavor = "multi_thread")]
async fn one_that_refuses_changes_nothing_for_two_others() {
    let phase = Duration::from_secs(if is_full_tier() { 600 } else { 12 });
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(10, 100).await.unwrap();
    let mut sinks = Vec::new();
    for _ in 0..3 {
        sinks.push(Sink::start(Judgement::EachSeries).await.unwrap());
    }
    let [refusing, same, other] = &sinks[..] else { unreachable!("three sinks were started") };
    let mut config = config(farm.addresses(), refusing, "1s");
    // One shares its bytes with the refusing one, one has bytes of its own.
    config.push_str(&format!(
        "- {{url: {}, name: same, queue_config: {{batch_send_deadline: 500ms}}}}\n\
         - {{url: {}, name: other, queue_config: {{batch_send_deadline: 500ms}}, \
         write_relabel_configs: [{{source_labels: [__name__], regex: scrape_.*, action: drop}}]}}\n",
        same.url(),
        other.url()
    ));
    let mut collector = Collector::start(folder.path(), &config);
    until("all three have samples", async || sinks.iter().all(|sink| sink.stats().samples > 0)).await;

    let quiet = measure(&[same, other], phase).await;
    refusing.set_fault(Some(Fault { status: Some(503), ..Fault::default() }));
    let beside_refusal = measure(&[same, other], phase).await;
    collector.assert_balanced().await;
    refusing.set_fault(None);
    until("the backlog is through", async || {
        collector.metric("prometheus_remote_storage_samples_pending", "").await < 3.0 * 2000.0
    })
    .await;
    collector.terminate().await;
    for (before, during) in quiet.iter().zip(&beside_refusal) {
        eprintln!(
            "{:.0} samples/s {:.0} ms late; beside a refusing one {:.0} samples/s {:.0} ms late",
            before.rate, before.delay_ms, during.rate, during.delay_ms
        );
        assert!((during.rate / before.rate - 1.0).abs() < 0.2, "{before:?} {during:?}");
        // Within the deadline of a batch, and some for a busy machine.
        assert!(during.delay_ms < before.delay_ms + 500.0, "{before:?} {during:?}");
    }
    for sink in &sinks {
        let account = assert_nothing_lost(&farm, sink, collector.interruption().as_slice(), &collector);
        assert!(account.answered as f64 >= 10.0 * phase.as_secs_f64(), "{account:?}");
    }
}
