//! Published command lines as processes.

use std::path::{Path, PathBuf};

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;
use tokio::task::{JoinSet, LocalSet};

use crate::collector::{config, until};
use crate::published::{Published, below};

/// A configuration of each dialect over one target.
fn configuration(words: &[String], farm: &Farm, sink: &Sink) -> (String, String) {
    let flag = |name: &str| {
        let next = words.iter().skip_while(|word| *word != name).nth(1).cloned();
        words.iter().find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned())).or(next)
    };
    match (flag("--config.file"), flag("--config")) {
        (Some(path), None) => (path, config(farm.addresses(), sink, "500ms")),
        (None, Some(path)) => (path, of_collector(farm, sink)),
        other => panic!("{other:?}"),
    }
}

fn of_collector(farm: &Farm, sink: &Sink) -> String {
    format!(
        "receivers:\n  prometheus:\n    config:\n      global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n      \
         scrape_configs: [{{job_name: farm, static_configs: [{{targets: ['{}']}}]}}]\n\
         exporters:\n  prometheusremotewrite: {{endpoint: '{}'}}\n\
         service:\n  pipelines:\n    metrics: {{receivers: [prometheus], exporters: [prometheusremotewrite]}}\n",
        farm.addresses()[0],
        sink.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn published_command_lines_start() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/manifests");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "args")).collect();
    assert!(files.len() >= 10, "{files:?}");
    let mut starts = JoinSet::new();
    let all = LocalSet::new();
    for file in files {
        starts.spawn_local_on(async move { (delivers(&file).await, file) }, &all);
    }
    while let Some(started) = all.run_until(starts.join_next()).await {
        let (log, file) = started.unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        // What the command line itself gives rise to, beside what the configuration does.
        let warnings = log.matches("flags of Prometheus without effect here").count();
        assert_eq!(warnings, usize::from(NOT_ALL_HAVE_EFFECT.contains(&name)), "{name}\n{log}");
        assert!(log.contains("INFO") && !log.contains("ERROR"), "{name}\n{log}");
    }
}

/// The command lines with flags that have no effect.
const NOT_ALL_HAVE_EFFECT: [&str; 5] = [
    "helm-chart",
    "helm-chart-as-an-agent",
    "helm-chart-with-prefix",
    "operator-of-prometheus-2",
    "operator-with-options",
];

/// Starts it; it must become ready, deliver, and end with 0. What it logged.
async fn delivers(file: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let text = std::fs::read_to_string(file).unwrap();
    let words: Vec<String> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let (path, configuration) = configuration(&words, &farm, &sink);
    write_below(folder.path(), &path, &configuration);
    // The operator mounts an empty one where nothing was asked for.
    write_below(folder.path(), "/etc/prometheus/web_config/web-config.yaml", "");
    let started = Published::start(folder.path(), &words, &[]);
    started.until_ready().await;
    until("samples arrive", async || sink.stats().samples > 0).await;
    let has = |word: &str| words.iter().any(|known| known == word);
    if has("--web.page-title=cluster blue") {
        let page = started.page("/").await.unwrap();
        assert!(page.contains("<title>cluster blue"), "{page}");
    }
    let log = started.stop().await;
    if has("--log.format=json") {
        for line in log.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
    }
    log
}

fn write_below(folder: &Path, path: &str, text: &str) {
    let path = below(folder, path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_configuration_in_a_variable_wins() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let content = [("AOT_CONFIG_CONTENT", of_collector(&farm, &sink))];
    let storage = "--storage.agent.path=/data".to_owned();
    // ADOT's image has a default configuration on its command line; that file is not even there.
    for words in [
        vec!["/awscollector".to_owned(), "--config=/etc/otel-config.yaml".to_owned(), storage.clone()],
        vec!["/awscollector".to_owned(), storage.clone()],
    ] {
        let before = sink.stats().samples;
        let started = Published::start(folder.path(), &words, &content);
        started.until_ready().await;
        until("samples arrive", async || sink.stats().samples > before).await;
        let log = started.stop().await;
        assert!(log.contains("other than from the OpenTelemetry Collector"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flush_deadline_is_how_long_a_stop_sends() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let fault = promferry_bench::sink::Fault { status: Some(503), ..Default::default() };
    sink.set_fault(Some(fault));
    write_below(folder.path(), "/a.yml", &config(farm.addresses(), &sink, "500ms"));
    let words = [
        "promferry",
        "run",
        "--config.file=/a.yml",
        "--storage.tsdb.path=/data",
        "--storage.remote.flush-deadline=1s",
    ];
    let started = Published::start(folder.path(), &words.map(str::to_owned), &[]);
    started.until_ready().await;
    until("a page is scraped", async || farm.record().targets[0].answered.len() > 1).await;
    let start = std::time::Instant::now();
    let log = started.stop().await;
    assert!(start.elapsed() < std::time::Duration::from_secs(15), "{log}");
    assert!(folder.path().join("data/spool").is_dir());
    assert!(log.contains("stay in the spool"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_decides_where_the_file_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(1, 20).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let job = format!("static_configs: [{{targets: ['{}']}}]", farm.addresses()[0]);
    let configuration = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n\
         - {{job_name: open, {job}}}\n- {{job_name: told, extra_scrape_metrics: false, {job}}}\n\
         remote_write: [{{url: '{}', write_relabel_configs: [{{source_labels: [__name__, job], regex: \
         'scrape_timeout_seconds;(.*)', action: keep}}]}}]\n",
        sink.url()
    );
    write_below(folder.path(), "/a.yml", &configuration);
    let words =
        ["promferry", "--config.file=/a.yml", "--enable-feature=extra-scrape-metrics"].map(str::to_owned);
    let started = Published::start(folder.path(), &words, &[]);
    started.until_ready().await;
    until("what is off by default arrives", async || sink.stats().samples > 1).await;
    until("both jobs were scraped", async || farm.record().targets[0].answered.len() > 6).await;
    started.stop().await;
    // Of one job, that is.
    assert_eq!(sink.stats().series, 1);
}
