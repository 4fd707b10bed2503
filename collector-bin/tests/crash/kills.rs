//! `kill -9` at random moments, with the receiver down for part of the time.

use std::time::Duration;

use promferry_bench::account::Interruption;
use promferry_bench::clock::now_ms;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::{Arrived, Judgement, Received};
use promferry_bench::page::sequence_of;
use promferry_bench::peers::Peer;
use promferry_bench::prometheus_server::{PrometheusServer, equal};
use promferry_bench::proxy::{Proxy, Weather};
use promferry_bench::sink::Sink;
use promferry_model::{Rng as _, SeededRng};

use crate::alone;
use crate::collector::{Collector, config_to, is_full_tier, until};
use crate::outcome::{assert_all_received, assert_nothing_lost, until_counts_agree};

const TARGETS: usize = 20;
const SERIES: usize = 1000;
/// `queue_config`: what one crash can have in flight is this many requests of this many samples.
const MAX_SHARDS: u64 = 4;
const MAX_SAMPLES_PER_SEND: u64 = 2000;

/// 20,000 samples a second that go through a proxy, which is how the receiver goes away and comes back.
struct Run {
    farm: Farm,
    proxy: Proxy,
    folder: tempfile::TempDir,
    config: String,
    interruptions: Vec<Interruption>,
    /// How often connections were cut with requests in flight: kills, and the receiver's going away.
    cuts: u64,
}

impl Run {
    async fn start(receiver: std::net::SocketAddr) -> Self {
        let farm = Farm::start(TARGETS, SERIES).await.unwrap();
        let proxy = Proxy::start(receiver).await.unwrap();
        let url = format!("http://{}/api/v1/write", proxy.address());
        let mut config = config_to(farm.addresses(), &url, "1s");
        config.push_str(&format!(
            "    max_shards: {MAX_SHARDS}\n    max_samples_per_send: {MAX_SAMPLES_PER_SEND}\n    max_backoff: 1s\n"
        ));
        Self { farm, proxy, folder: tempfile::tempdir().unwrap(), config, interruptions: Vec::new(), cuts: 0 }
    }

    /// Lives and dies so often. In two of three lives the receiver goes away before the end and comes back in the next
    /// one; at least half of the kills find samples in the spool.
    async fn torment(&mut self, kills: u64) {
        let seed = now_ms() as u64;
        eprintln!("seed {seed}");
        let mut rng = SeededRng::new(seed);
        let mut between = |low: u64, high: u64| Duration::from_millis(low + rng.next_u64() % (high - low));
        for kill in 0..kills {
            let mut collector = Collector::start(self.folder.path(), &self.config);
            let life = between(700, 2500);
            if kill % 3 == 0 {
                self.proxy.set(Weather::Fair);
                tokio::time::sleep(life).await;
            } else {
                tokio::time::sleep(between(0, 500)).await;
                self.proxy.set(Weather::Fair);
                tokio::time::sleep(life / 2).await;
                self.proxy.set(Weather::Down);
                self.cuts += 1;
                tokio::time::sleep(life / 2).await;
            }
            assert!(collector.is_running(), "{}", collector.log());
            self.interruptions.push(collector.kill(&self.farm).await);
            self.cuts += 1;
        }
        self.proxy.set(Weather::Fair);
    }

    /// The last life, in which everything arrives.
    async fn last_life(&self) -> Collector {
        let collector = Collector::start(self.folder.path(), &self.config);
        collector.until_ready().await;
        until("what the last run left", async || {
            let pending = collector.metric("prometheus_remote_storage_samples_pending", "").await;
            pending < (TARGETS * SERIES) as f64
        })
        .await;
        let waiting = waiting_at_starts(&collector.log());
        let kills = self.interruptions.len();
        let unsent = waiting.iter().skip(1).filter(|samples| **samples > 0).count();
        eprintln!("{unsent} of {kills} kills left samples in the spool: {waiting:?}");
        assert_eq!(waiting.len(), kills + 1);
        assert!(unsent * 2 >= kills, "too few kills found anything in the spool");
        collector
    }

    async fn end(&mut self, collector: &mut Collector) {
        let stopped = collector.terminate().await;
        assert_eq!(stopped.status.and_then(|status| status.code()), Some(0), "{}", collector.log());
        self.interruptions.extend(collector.interruption());
    }
}

/// How many samples each start found, by its log.
fn waiting_at_starts(log: &str) -> Vec<u64> {
    let starts = log.lines().filter(|line| line.contains("remote_write ") && line.contains("not signed"));
    let waiting = starts.map(|line| {
        let before =
            line.split(" samples wait from before").next().filter(|before| before.len() < line.len());
        before.and_then(|before| before.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    });
    waiting.collect()
}

fn kills() -> u64 {
    if is_full_tier() { 100 } else { 5 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_that_was_answered_a_second_before() {
    let _alone = alone().await;
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let mut run = Run::start(sink.address()).await;
    run.torment(kills()).await;
    let mut collector = run.last_life().await;
    until_counts_agree(&collector, &sink).await;
    collector.assert_balanced().await;
    run.end(&mut collector).await;
    let account = assert_nothing_lost(&run.farm, &sink, &run.interruptions, &collector);
    let stats = sink.stats();
    eprintln!("{} kills: {account:?}, {stats:?}", kills());
    assert!(account.answered > TARGETS as u64 * kills(), "{account:?}");
    // A fragment is never cut for a request: one more than the limit may ride along.
    let in_flight = MAX_SHARDS * (MAX_SAMPLES_PER_SEND + 500);
    assert!(stats.duplicates <= run.cuts * in_flight, "{} cuts, {stats:?}", run.cuts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_misses_nothing_after_kills() {
    let Some(program) = Peer::Prometheus.or_skip("kills before a real Prometheus") else { return };
    let _alone = alone().await;
    let settings = "storage: {tsdb: {out_of_order_time_window: 0s}}\n";
    let server = PrometheusServer::start(&program, settings, &[]).await.unwrap();
    let mut run = Run::start(server.address()).await;
    run.torment(kills()).await;
    let mut collector = run.last_life().await;
    collector.assert_balanced().await;
    let dropped = collector.lines("prometheus_remote_storage_samples_dropped_total").await;
    run.end(&mut collector).await;
    let received = read(&server, &run.farm).await;
    let account = assert_all_received(&run.farm, &received, &run.interruptions, &collector);
    eprintln!("{} kills: {account:?}\n{dropped}", kills());
    assert!(account.answered > TARGETS as u64 * kills(), "{account:?}");
}

/// What Prometheus has of the farm's targets, by remote read.
async fn read(server: &PrometheusServer, farm: &Farm) -> Received {
    let mut received = Received::default();
    for address in farm.addresses() {
        let matchers = vec![equal("job", "farm"), equal("instance", &address.to_string())];
        let instance = received.instances.entry(address.to_string()).or_default();
        for (labels, samples) in server.read(matchers).await.unwrap() {
            for (timestamp_ms, bits) in samples.floats {
                let value = f64::from_bits(bits);
                if labels["__name__"] == "up" && value == 0.0 {
                    instance.failed_ms.insert(timestamp_ms);
                } else if labels["__name__"] != "up"
                    && !labels["__name__"].starts_with("scrape_")
                    && let Some(sequence) = sequence_of(value)
                {
                    let new = Arrived { series: 0, timestamp_ms };
                    instance.scrapes.entry(sequence).or_insert(new).series += 1;
                }
            }
        }
    }
    received
}
