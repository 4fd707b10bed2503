//! A receiver behind TLS whose certificate, or whose TLS, is wrong for a time.

use std::time::Duration;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;

use crate::collector::{Collector, LIMIT, config_to, until, until_within};
use crate::outcome::{assert_nothing_lost, until_counts_agree};
use crate::tls_front::{Authority, Face, Front};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_or_no_tls_keeps_everything_until_it_is_right_again() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let right = authority.server("localhost");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let farm = Farm::start(5, 100).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let front = Front::start(sink.address(), right.clone()).await;
    let url = format!("https://localhost:{}/api/v1/write", front.address().port());
    let mut config = config_to(farm.addresses(), &url, "1s");
    config.push_str("    max_backoff: 500ms\n  remote_timeout: 2s\n  tls_config: {ca_file: ca.pem}\n");
    let mut collector = Collector::start(folder.path(), &config);
    until("samples over TLS", async || sink.stats().samples > 0).await;
    for (what, face, said) in [
        ("another authority", stranger.server("localhost"), "trusted authority"),
        ("another name", authority.server("elsewhere.example"), "elsewhere.example"),
        ("an old certificate", authority.expired("localhost"), "expired"),
        ("no TLS", Face::Plain, "tls with localhost"),
    ] {
        let said_before = collector.log().len();
        front.wear(&face);
        // Trouble is said once a minute.
        until_within(2 * LIMIT, what, async || collector.log()[said_before..].contains(said)).await;
        let before = sink.stats().accepted_requests;
        tokio::time::sleep(Duration::from_secs(2)).await;
        collector.assert_balanced().await;
        assert_eq!(sink.stats().accepted_requests, before, "{what} was trusted");
        front.wear(&right);
        until("samples again", async || sink.stats().accepted_requests > before).await;
    }
    until_counts_agree(&collector, &sink).await;
    assert_eq!(collector.metric("prometheus_remote_storage_samples_dropped_total", "").await, 0.0);
    collector.terminate().await;
    assert_nothing_lost(&farm, &sink, collector.interruption().as_slice(), &collector);
}
