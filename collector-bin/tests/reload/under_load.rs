//! Targets by the dozen, and everything changes but what does not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use promferry_bench::farm::Farm;
use promferry_bench::ledger::{Instance, Judgement};
use promferry_bench::sink::Sink;

use crate::collector::until;
use crate::outcome::assert_nothing_lost;
use crate::tls_front::{Authority, TlsFront};
use crate::triggers::start;
use crate::volume::Volume;

/// Of each page: 20 of them counters, 10 gauges whose names begin with `worker_`.
const SERIES: usize = 30;
const GAUGES: u64 = 10;
/// `up` and the others that a scrape says of itself.
const REPORT_SERIES: u64 = 5;

const INTERVAL: Duration = Duration::from_secs(1);
/// Where somebody was kept waiting for longer, scrapes may fail or be missed for that.
const STILL: Duration = Duration::from_millis(250);

fn job(name: &str, targets: &[SocketAddr], more: &str) -> String {
    let targets: Vec<_> = targets.iter().map(|address| format!("'{address}'")).collect();
    format!("- job_name: {name}\n  static_configs: [{{targets: [{}]}}]\n{more}", targets.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load() {
    let folder = tempfile::tempdir().unwrap();
    let steady = Farm::start(40, SERIES).await.unwrap();
    let [changed, removed, added, secure] = [
        Farm::start(4, SERIES).await.unwrap(),
        Farm::start(4, SERIES).await.unwrap(),
        Farm::start(4, SERIES).await.unwrap(),
        Farm::start(1, SERIES).await.unwrap(),
    ];
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let front = TlsFront::start(secure.addresses()[0], &old).await;

    let steady_jobs: Vec<_> = steady.addresses().chunks(10).enumerate().collect();
    let steady_jobs: Vec<_> =
        steady_jobs.iter().map(|(n, targets)| job(&format!("steady_{n}"), targets, "")).collect();
    let behind_tls = job(
        "secure",
        &[front.address],
        &format!(
            "  scheme: https\n  tls_config: {{ca_file: tls/ca.pem, cert_file: tls/tls.crt, key_file: tls/tls.key}}\n  \
             relabel_configs: [{{target_label: instance, replacement: '{}'}}]\n",
            secure.addresses()[0]
        ),
    );
    let whole = |jobs: &[String]| {
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{cluster: test}}}}\n\
             scrape_configs:\n{}{behind_tls}{}remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 500ms}}\n",
            steady_jobs.concat(),
            jobs.concat(),
            sink.url()
        )
    };
    let is_changed = job("changed", changed.addresses(), "");
    let with_limit = job("changed", changed.addresses(), "  sample_limit: 1000\n");
    let without_gauges = job(
        "changed",
        changed.addresses(),
        "  metric_relabel_configs: [{source_labels: [__name__], regex: worker_.*, action: drop}]\n",
    );
    let (is_removed, is_added) =
        (job("removed", removed.addresses(), ""), job("added", added.addresses(), ""));

    let key_pair = |authority: &Authority| {
        let (certificate, key) = authority.client();
        [("ca.pem", authority.pem()), ("tls.crt", certificate), ("tls.key", key)]
    };
    let mut tls = Volume::new(&folder.path().join("tls"), &texts(&key_pair(&old)));
    let first = whole(&[is_changed.clone(), is_removed.clone()]);
    let mut config = Volume::new(&folder.path().join("config"), &[("prometheus.yml", first.as_str())]);
    std::os::unix::fs::symlink("config/prometheus.yml", folder.path().join("prometheus.yml")).unwrap();

    let stalls = Stalls::watch();
    let mut collector = start(folder.path(), &first, "--config.auto-reload-interval=500ms");
    let is_in = |farm: &Farm, scrapes: usize| {
        let received = sink.received();
        farm.addresses().iter().all(|address| {
            received.instances.get(&address.to_string()).is_some_and(|of| of.scrapes.len() >= scrapes)
        })
    };
    let stale = |farm: &Farm| {
        let received = sink.received();
        let of = |address: &SocketAddr| received.instances.get(&address.to_string()).cloned();
        farm.addresses()
            .iter()
            .map(|address| of(address).unwrap_or_default().stale_markers)
            .collect::<Vec<_>>()
    };
    let said = async |text: &str| until(text, async || collector.log().contains(text)).await;
    for farm in [&steady, &changed, &removed, &secure] {
        until("everything is scraped", async || is_in(farm, 2)).await;
    }
    // To read all pages for the first time takes a busy machine longer than an interval.
    let missed = async || {
        let of = async |job| collector.metric("promferry_scrapes_missed_total", job).await;
        of("steady_").await + of("secure").await
    };
    let missed_at_first = missed().await;

    config.swap(&[("prometheus.yml", &whole(&[is_changed, is_removed.clone(), is_added.clone()]))]);
    said("configuration reloaded: jobs +added, 7 unchanged; endpoints unchanged").await;
    until("the new job is scraped", async || is_in(&added, 2)).await;

    config.swap(&[("prometheus.yml", &whole(&[with_limit.clone(), is_removed, is_added.clone()]))]);
    said("configuration reloaded: jobs ~changed, 7 unchanged; endpoints unchanged").await;

    config.swap(&[("prometheus.yml", &whole(&[with_limit, is_added.clone()]))]);
    said("configuration reloaded: jobs −removed, 7 unchanged; endpoints unchanged").await;
    // A scrape that fails ends series, too.
    let are_ended = |farm: &Farm, series: u64| {
        let was_still = stalls.longest() > STILL;
        stale(farm).into_iter().all(|ended| ended == series || (was_still && ended > series))
    };
    until("the series of the removed job have ended", async || {
        are_ended(&removed, SERIES as u64 + REPORT_SERIES)
    })
    .await;
    assert!(are_ended(&changed, 0), "a limit ends no series: {:?}", stale(&changed));

    config.swap(&[("prometheus.yml", "scrape_configs: [{job_name: broken]\n")]);
    said("the configuration was not reloaded, the one of ").await;
    assert_eq!(collector.metric("prometheus_config_last_reload_successful", "").await, 0.0);

    config.swap(&[("prometheus.yml", &whole(&[without_gauges, is_added]))]);
    said("configuration reloaded: jobs ~changed, 7 unchanged; endpoints unchanged\n").await;
    until("what is dropped has ended", async || are_ended(&changed, GAUGES)).await;

    // The connection that is open lives on; the next one needs both, the new authority and the new certificate.
    front.turn_to(&new);
    let before = secure.record().targets[0].answered.len();
    tls.swap(&texts(&key_pair(&new)));
    said("tls/ca.pem has changed and is used as it is from now on (tls_config.ca_file of job secure)").await;
    until("it is scraped with the new ones", async || {
        let of_target = &secure.record().targets[0];
        of_target.connections >= 2 && of_target.answered.len() > before + 3
    })
    .await;

    let missed = missed().await - missed_at_first;
    collector.terminate().await;
    let was_still = stalls.longest() > STILL;
    if was_still {
        eprintln!(
            "the machine stood still for {:?}: nothing can be said of scrapes that were missed or failed, nor of \
             connections that were closed for that",
            stalls.longest()
        );
    }
    assert!(missed == 0.0 || was_still, "{missed} scrapes were missed");
    for farm in [&steady, &removed, &added, &secure] {
        assert_nothing_lost(farm, &sink, collector.interruption().as_slice(), &collector);
    }
    let received = sink.received();
    for (farm, connections) in [(&steady, 1), (&added, 1), (&secure, 2)] {
        assert!(are_ended(farm, 0), "series that go on: {:?}", stale(farm));
        for target in farm.record().targets {
            let instance = &received.instances[&target.instance];
            let is_kept = target.connections == connections && instance.failed_ms.is_empty();
            assert!(
                was_still || is_kept,
                "{}: {} connections, failed at {:?}",
                target.instance,
                target.connections,
                instance.failed_ms
            );
            assert!(
                was_still || longest_gap(instance) < INTERVAL * 3 / 2,
                "{}: {instance:?}",
                target.instance
            );
        }
    }
    assert!(was_still || front.refused() == 0, "{} were refused", front.refused());
    for target in changed.record().targets {
        let failed = &received.instances[&target.instance].failed_ms;
        assert!(was_still || failed.is_empty(), "{}: {failed:?}", target.instance);
    }
    let stats = sink.stats();
    assert_eq!((stats.out_of_order, stats.retimed, stats.duplicates), (0, 0, 0), "{stats:?}");
}

fn texts<'a>(files: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    files.iter().map(|(name, text)| (*name, text.as_str())).collect()
}

/// The longest time from one scrape's timestamp to the next one's; the first ones stand aside, since the first is
/// taken promptly, and reading it takes longest.
fn longest_gap(instance: &Instance) -> Duration {
    let at: Vec<_> = instance.scrapes.values().skip(2).map(|arrived| arrived.timestamp_ms).collect();
    let longest = at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    Duration::from_millis(longest.unsigned_abs())
}

/// How long this machine keeps somebody waiting.
struct Stalls {
    longest_ms: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Stalls {
    fn watch() -> Self {
        let stalls = Self { longest_ms: Arc::default(), is_over: Arc::default() };
        let (longest_ms, is_over) = (Arc::clone(&stalls.longest_ms), Arc::clone(&stalls.is_over));
        std::thread::spawn(move || {
            const STEP: Duration = Duration::from_millis(10);
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(STEP);
                let late = began.elapsed().saturating_sub(STEP).as_millis();
                longest_ms.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        stalls
    }

    fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.load(Ordering::Relaxed))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
