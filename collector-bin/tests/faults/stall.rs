//! A disk that does not answer for a while, or never again: a simulated one, below everything else as it is.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use promferry_bench::account::{Account, Interruption};
use promferry_bench::clock::now_ms;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::{Fault, Sink};
use promferry_collector::cli::WebArgs;
use promferry_collector::limits::Limits;
use promferry_collector::pages::CollectorPages;
use promferry_collector::pipeline::{Pipeline, PipelineOptions};
use promferry_collector::web::Web;
use promferry_config::{Config, NoFiles};
use promferry_remote_write::spool::SpoolOptions;
use promferry_remote_write::spool::sim::SimDisk;
use promferry_sigv4_auth::Environment;
use tokio::sync::watch;

use crate::collector::{config, is_full_tier, until};

/// What `promferry run` wires, in this process; its own page is one of its targets.
struct OnSimulatedDisk {
    pipeline: Arc<Pipeline>,
    disk: SimDisk,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl OnSimulatedDisk {
    async fn start(farm: &Farm, sink: &Sink) -> Self {
        let flags = WebArgs { listen_addresses: vec!["127.0.0.1:0".to_owned()], ..WebArgs::default() };
        let web = Web::bind(&flags).await.unwrap();
        let address = web.local_addresses().unwrap()[0];
        let pages = Arc::new(OnceLock::new());
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(web.serve(Arc::clone(&pages), None, stopped));
        let own = format!(
            "scrape_configs:\n- job_name: own\n  static_configs: [{{targets: ['{address}']}}]\n- job_name: farm\n"
        );
        let text = config(farm.addresses(), sink, "1s").replace("scrape_configs:\n- job_name: farm\n", &own);
        let config = Config::from_prometheus("test.yml".as_ref(), &text, &NoFiles, &|_: &str| None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = PipelineOptions {
            storage_path: folder.path().to_owned(),
            spool: SpoolOptions { max_bytes: Some(64 << 20), ..SpoolOptions::default() },
            limits: Limits {
                memory_bytes: 512 << 20,
                memory_is_limited: true,
                cpus: 2.0,
                budget_share: None,
            },
            user_agent: "promferry-test".to_owned(),
            environment: Environment::from_pairs([] as [(&str, &str); 0]),
            discovery_debounce: Duration::from_millis(100),
            start_timestamps: false,
            extra_scrape_metrics: false,
            transports: None,
        };
        let disk = SimDisk::new();
        let storage = disk.storage();
        let pipeline = Arc::new(Pipeline::start_on(&config, options, || Ok(storage)).await.unwrap());
        assert!(pages.set(CollectorPages::new(Arc::clone(&pipeline))).is_ok());
        Self { pipeline, disk, address, _stop: stop, _folder: folder }
    }

    /// A page, which has to be there within a second.
    async fn page(&self, path: &str) -> String {
        let (status, page) = self.answer(path).await;
        assert_eq!(status, 200, "{path}: {page}");
        page
    }

    async fn answer(&self, path: &str) -> (u16, String) {
        let asked = async {
            let http = promferry_http_client::Http::new(&Default::default(), Default::default()).unwrap();
            let request = http::Request::get(format!("http://{}{path}", self.address));
            let request = request.body(bytes::Bytes::new()).unwrap();
            let response = promferry_http_client::Connection::new(http).send(request).await.unwrap();
            (response.status().as_u16(), response.into_body().read_to_end(16 << 20).await.unwrap())
        };
        let answered = tokio::time::timeout(Duration::from_secs(1), asked).await;
        let (status, page) = answered.unwrap_or_else(|_| panic!("{path} is not answered"));
        (status, String::from_utf8(page.to_vec()).unwrap())
    }

    /// How old it is what the pages say.
    async fn age(&self) -> f64 {
        let page = self.page("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix("promferry_spool_stats_age_seconds "));
        line.unwrap().parse().unwrap()
    }

    /// Scrapes of a job that succeeded, and those that failed. On a busy machine some may come late.
    fn scrapes(&self, job: &str) -> (u64, u64) {
        let stats = self.pipeline.scraper().stats();
        let (_, stats) = stats.iter().find(|(name, _)| *name == job).unwrap();
        (stats.ledger.scraped, stats.ledger.failed.values().sum())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stalls_costs_no_scrape_and_no_page() {
    let stall = Duration::from_secs(if is_full_tier() { 10 } else { 6 });
    let farm = Farm::start(5, 200).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let run = OnSimulatedDisk::start(&farm, &sink).await;
    until("the first samples", async || sink.stats().samples > 3_000 && run.scrapes("own").0 > 2).await;

    run.disk.stall(stall);
    let (began, before) = (Instant::now(), (run.scrapes("farm"), run.scrapes("own")));
    let mut oldest: f64 = 0.0;
    while began.elapsed() < stall - Duration::from_millis(200) {
        for path in ["/", "/-/healthy", "/api/v1/targets"] {
            run.page(path).await;
        }
        oldest = oldest.max(run.age().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = (run.scrapes("farm"), run.scrapes("own"));
    assert!(oldest > stall.as_secs_f64() - 2.0, "the disk did not stall: {oldest} s");
    assert!(run.page("/").await.contains("The disk has not answered for"));
    assert_eq!((after.0.1, after.1.1), (before.0.1, before.1.1), "scrapes failed");
    let (farm_scrapes, own_scrapes) = (after.0.0 - before.0.0, after.1.0 - before.1.0);
    let at_least = stall.as_secs() / 2;
    assert!(own_scrapes >= at_least && farm_scrapes >= 5 * at_least, "{after:?} after {before:?}");

    until("the disk answers again", async || run.age().await < 1.0).await;
    let began_ms = now_ms();
    let status = run.pipeline.shutdown(Duration::from_secs(20)).await;
    let interruption = Interruption { began_ms, over_ms: now_ms(), grace_ms: 1000 };
    let ledger = &status[0].ledger;
    assert!(ledger.balances() && ledger.pending.is_zero() && ledger.dropped.is_empty(), "{ledger:?}");
    assert_eq!(sink.stats().out_of_order, 0);
    let account = Account::new(&farm.record(), &sink.received(), &[interruption]);
    assert_eq!((account.lost, account.failed, account.silent_targets), (0, 0, 0), "{account:?}");
    eprintln!(
        "{stall:?} without the disk: {after:?} after {before:?}, pages up to {oldest} s old; {account:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_never_answers_again_does_not_keep_the_process_from_ending() {
    let farm = Farm::start(2, 50).await.unwrap();
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    let run = OnSimulatedDisk::start(&farm, &sink).await;
    until("the first samples", async || sink.stats().samples > 200 && run.age().await < 1.0).await;
    sink.set_fault(Some(Fault { down: true, ..Fault::default() }));
    run.disk.stall(Duration::from_secs(3600));
    until("the disk stalls", async || run.age().await > 2.0).await;
    let stopped =
        tokio::time::timeout(Duration::from_secs(10), run.pipeline.shutdown(Duration::from_secs(2)));
    let status = stopped.await.expect("it waits for the disk");
    assert!(status[0].ledger.balances() && !status[0].ledger.accepted.is_zero(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_can_store_nothing_any_more_says_so_to_a_probe_and_one_that_ends_does_not() {
    let farm = Farm::start(1, 20).await.unwrap();
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    let run = OnSimulatedDisk::start(&farm, &sink).await;
    until("the first samples", async || sink.stats().samples > 0).await;
    run.page("/-/healthy").await;
    // As after faults from which it could not recover, the thread has ended.
    run.pipeline.remote().spool().close().await;
    assert_eq!(run.answer("/-/healthy").await.0, 503);
    run.page("/metrics").await;
    run.pipeline.shutdown(Duration::from_secs(1)).await;
    run.page("/-/healthy").await;
}
