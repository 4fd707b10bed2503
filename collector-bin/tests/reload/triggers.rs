//! What makes the program look at its configuration, and what it does with one that can't be used.

use std::path::Path;
use std::time::{Duration, Instant};

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;

use crate::collector::{Collector, config, until};

/// The program with these flags besides the usual.
pub(crate) fn start(folder: &Path, config: &str, flags: &str) -> Collector {
    Collector::start_by(folder, config, Some(&format!("exec \"$@\" {flags}")))
}

/// A job that has no targets.
fn with_job(config: &str, name: &str) -> String {
    config.replace("remote_write:", &format!("- job_name: {name}\nremote_write:"))
}

async fn started(flags: &str) -> (tempfile::TempDir, String, Collector, Farm, Sink) {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(1, 10).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let config = config(farm.addresses(), &sink, "500ms");
    let collector = start(folder.path(), &config, flags);
    collector.until_ready().await;
    (folder, config, collector, farm, sink)
}

fn write(folder: &tempfile::TempDir, config: &str) {
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
}

async fn until_said(collector: &Collector, text: &str) {
    until(text, async || collector.log().contains(text)).await;
}

const SUCCESSFUL: &str = "prometheus_config_last_reload_successful";
const SUCCESS_AT: &str = "prometheus_config_last_reload_success_timestamp_seconds";

/// The configuration is a pipe, so that the signal comes while it is read for the first time.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_before_the_start_is_over_is_obeyed_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prometheus.yml");
    let script = format!("rm {0} && mkfifo {0} && exec \"$@\" --no-config.auto-reload", file.display());
    let config = "scrape_configs: []\n";
    let collector = Collector::start_by(folder.path(), config, Some(&script));
    until("there is a pipe", async || std::fs::metadata(&file).is_ok_and(|found| !found.is_file())).await;
    // Opening it waits for the program to open it too.
    let opening = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(&file));
    let mut pipe = tokio::time::timeout(Duration::from_secs(30), opening).await.unwrap().unwrap().unwrap();
    collector.signal("HUP");
    std::io::Write::write_all(&mut pipe, config.as_bytes()).unwrap();
    drop(pipe);
    // It was to be read again, which a pipe can't be.
    until_said(&collector, "the configuration was not reloaded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_the_endpoint_and_by_itself() {
    let (folder, config, collector, ..) =
        started("--web.enable-lifecycle --config.auto-reload-interval=1h").await;
    let at_start = collector.metric(SUCCESS_AT, "").await;
    let config = with_job(&config, "by_sighup");
    write(&folder, &config);
    collector.signal("HUP");
    until_said(&collector, "configuration reloaded: jobs +by_sighup, 1 unchanged; endpoints unchanged").await;
    assert!(collector.metric(SUCCESS_AT, "").await > at_start);

    let config = with_job(&config, "by_post");
    write(&folder, &config);
    assert_eq!(collector.post("/-/reload").await, (200, String::new()));
    assert!(collector.log().contains("jobs +by_post, 2 unchanged"));
    assert_eq!(collector.post("/-/reload").await.0, 200);
    assert!(collector.log().contains("configuration reloaded: what it asks for has not changed"));

    write(&folder, &config.replace("scrape_configs", "scrape_config"));
    let (status, text) = collector.post("/-/reload").await;
    assert_eq!(status, 500);
    let expected = "prometheus.yml:2:1: unknown key \"scrape_config\" (did you mean \"scrape_configs\"?)";
    assert!(text.starts_with("failed to reload config: ") && text.contains(expected), "{text}");
    assert!(collector.log().contains(expected));
    assert_eq!(collector.page("/-/reload", "*/*").await.unwrap().0, 405);
    drop(collector);

    let (folder, config, collector, ..) = started("--config.auto-reload-interval=200ms").await;
    assert_eq!(collector.post("/-/reload").await.0, 403);
    write(&folder, &with_job(&config, "by_itself"));
    until_said(&collector, "configuration reloaded: jobs +by_itself, 1 unchanged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_auto_reload() {
    let (folder, config, collector, ..) =
        started("--no-config.auto-reload --config.auto-reload-interval=200ms").await;
    write(&folder, &with_job(&config, "more"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!collector.log().contains("reloaded"));
    collector.signal("HUP");
    until_said(&collector, "configuration reloaded: jobs +more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_reload_is_seen_in_metrics() {
    let (folder, config, collector, _farm, sink) =
        started("--web.enable-lifecycle --config.auto-reload-interval=200ms").await;
    let at_start = collector.metric(SUCCESS_AT, "").await;
    assert_eq!(collector.metric(SUCCESSFUL, "").await, 1.0);
    let said = |log: &str| log.matches("the configuration was not reloaded, the one of 20").count();
    write(&folder, &config.replace("job_name: farm", "job_name: [farm"));
    until("it is said", async || said(&collector.log()) == 1).await;
    assert!(collector.log().contains("prometheus.yml:"), "{}", collector.log());
    assert_eq!(collector.metric(SUCCESSFUL, "").await, 0.0);
    assert_eq!(collector.metric(SUCCESS_AT, "").await, at_start);
    // What the verdict is already known of is not said again; what was asked is answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(collector.post("/-/reload").await.0, 500);
    assert_eq!(said(&collector.log()), 1, "{}", collector.log());

    // A certificate that is not there yet: nothing of the configuration's own files shows when it comes.
    let ca = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap().cert.pem();
    let with_ca = with_job(&config, "later\n  tls_config: {ca_file: later.pem}");
    write(&folder, &with_ca);
    until("the other reason is said", async || said(&collector.log()) == 2).await;
    assert!(collector.log().contains("later.pem"));
    std::fs::write(folder.path().join("later.pem"), ca).unwrap();
    until("it is taken up", async || collector.metric(SUCCESSFUL, "").await == 1.0).await;
    assert!(collector.log().contains("configuration reloaded: jobs +later, 1 unchanged"));
    let taken = sink.stats().samples;
    until("scraping goes on", async || sink.stats().samples > taken + 100).await;
    assert_eq!(sink.stats().stale_markers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_included_file() {
    let (folder, config, collector, farm, sink) = started("--config.auto-reload-interval=200ms").await;
    let (main, included) = config.split_once("remote_write:").unwrap();
    let (global, job) = main.split_once("scrape_configs:\n").unwrap();
    let jobs = folder.path().join("jobs");
    std::fs::create_dir(&jobs).unwrap();
    std::fs::write(jobs.join("farm.yml"), format!("scrape_configs:\n{job}")).unwrap();
    write(&folder, &format!("{global}scrape_config_files: [jobs/*.yml]\nremote_write:{included}"));
    // The same job from elsewhere is the same job.
    until_said(&collector, "configuration reloaded: what it asks for has not changed").await;
    std::fs::write(jobs.join("more.yml"), "scrape_configs: [{job_name: more}]\n").unwrap();
    until_said(&collector, "configuration reloaded: jobs +more, 1 unchanged").await;
    std::fs::write(jobs.join("more.yml"), "scrape_configs: [{job_name: more, honor_labels: true}]\n")
        .unwrap();
    until_said(&collector, "configuration reloaded: jobs ~more, 1 unchanged").await;
    std::fs::write(jobs.join("more.yml"), "scrape_configs: [{job_name: more}]\njobs: []\n").unwrap();
    until_said(&collector, "more.yml:2:1: unknown key \"jobs\"").await;
    std::fs::remove_file(jobs.join("more.yml")).unwrap();
    until_said(&collector, "configuration reloaded: jobs −more, 1 unchanged").await;
    assert_eq!(sink.stats().stale_markers, 0);
    assert_eq!(farm.record().targets[0].connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_files_change_nothing() {
    let (folder, config, collector, _farm, sink) = started("--config.auto-reload-interval=200ms").await;
    // All of it is valid, and half of it is too: without the endpoint.
    let mut name = 0;
    let log = loop {
        name += 1;
        let before = collector.log().lines().count();
        let whole = with_job(&config, &format!("job_{name}"));
        let half = whole.find("remote_write:").unwrap();
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        for end in (half..whole.len()).step_by((whole.len() - half) / 8) {
            let written = Instant::now();
            write(&folder, &whole[..end]);
            tokio::time::sleep(Duration::from_millis(150)).await;
            longest = longest.max(written.elapsed());
        }
        write(&folder, &whole);
        assert!(began.elapsed() > Duration::from_secs(1));
        until_said(&collector, &format!("+job_{name}")).await;
        // On a machine that stood still meanwhile, half of it was all there was for a second.
        if longest < Duration::from_millis(600) || name == 5 {
            break collector.log().lines().skip(before).collect::<Vec<_>>().join("\n");
        }
    };
    assert!(!log.contains("endpoints −") && !log.contains("−farm") && !log.contains("not reloaded"), "{log}");

    // Half of it is not valid, and stays so for longer than a look takes.
    let whole = with_job(&config, "whole");
    write(&folder, &whole[..whole.find("targets: [").unwrap() + 10]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(collector.metric(SUCCESSFUL, "").await, 1.0);
    write(&folder, &whole);
    until_said(&collector, "+whole").await;
    assert!(!collector.log().contains("not reloaded"), "{}", collector.log());
    assert_eq!(sink.stats().stale_markers, 0);
}
