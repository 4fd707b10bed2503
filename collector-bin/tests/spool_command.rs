//! `promferry spool` as a user runs it, on spools that a sender left behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;
use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
use promferry_model::{
    BucketCounts, Histogram, Labels, LabelsBuilder, MemoryBudget, MetadataView, ResetHint, Sample,
    SeriesView, Sink as _, Span, SystemClock, TargetInfo, TargetSink as _, Timestamp,
};
use promferry_remote_write::delivery::transport;
use promferry_remote_write::spool::{DiskStorage, Spool, SpoolOptions};
use promferry_remote_write::{Endpoint, ProtobufMessage, RemoteWrite, RemoteWriteConfig, Shared};

const SERIES: usize = 50;
const SCRAPES: i64 = 6;

/// Fills a spool for these endpoints, none of which can be reached.
async fn left_behind(folder: &Path, names: &[&str]) -> PathBuf {
    left_behind_as(folder, names, ProtobufMessage::V1).await
}

/// The same in this message; of 2.0 each scrape has a native histogram too.
async fn left_behind_as(folder: &Path, names: &[&str], message: ProtobufMessage) -> PathBuf {
    let data = folder.join("data");
    let (clock, budget) = (Arc::new(SystemClock::new()), MemoryBudget::new(64 << 20));
    let storage = DiskStorage::new(data.join("spool")).unwrap();
    let (spool, _) = Spool::open(storage, SpoolOptions::default(), budget.clone(), clock.clone()).unwrap();
    let endpoint = |name: &&str| Endpoint {
        config: RemoteWriteConfig {
            url: "http://127.0.0.1:9/".to_owned(),
            name: (*name).to_owned(),
            protobuf_message: message,
            ..RemoteWriteConfig::default()
        },
        transport: transport(Client::new(
            Http::new(&HttpClientConfig::default(), HttpOptions::default()).unwrap(),
        )),
        explain_denial: None,
        describe_body: None,
    };
    let external_labels = Labels::from_pairs([("cluster", "left")]);
    let shared = Shared { external_labels, spool, budget, clock, seed: 1, user_agent: "test".to_owned() };
    let remote = RemoteWrite::start(shared, names.iter().map(endpoint).collect()).await.unwrap();
    let labels = Labels::from_pairs([("instance", "a:1"), ("job", "test")]);
    let url = "http://a:1/metrics".to_owned();
    let mut target = remote.open(&TargetInfo {
        job: "test".into(),
        labels: labels.clone(),
        url,
        scrape_interval: Duration::from_secs(1),
    });
    let series: Vec<_> = (0..SERIES)
        .map(|number| {
            let mut builder = LabelsBuilder::from(&labels);
            builder.set("__name__", "m");
            builder.set("number", number.to_string());
            let series = SeriesView { labels: builder.as_slice(), metadata: MetadataView::default() };
            target.admit(&series).unwrap()
        })
        .collect();
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    for scrape in 0..SCRAPES {
        let at = Timestamp::from_millis(now - 60_000 + scrape * 1000);
        target.begin(at);
        for &id in &series {
            target.sample(id, Sample::new(at, scrape as f64));
        }
        if message == ProtobufMessage::V2 {
            target.histogram(series[0], at, None, &histogram());
        }
        target.commit().await.unwrap();
    }
    remote.shutdown(Duration::ZERO).await;
    // What was left is known after the end.
    let status = remote.status().await.unwrap();
    assert!(status.iter().all(|endpoint| endpoint.ledger.balances()));
    assert!(status.iter().all(|endpoint| endpoint.ledger.pending.samples == SERIES as u64 * SCRAPES as u64));
    data
}

fn histogram() -> Histogram {
    Histogram {
        schema: 0,
        zero_threshold: 0.001,
        sum: 3.0,
        counts: BucketCounts::Integer { count: 2, zero_count: 0, positive: vec![2], negative: Vec::new() },
        positive_spans: vec![Span { offset: 1, length: 1 }],
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        reset_hint: ResetHint::Unknown,
    }
}

async fn promferry(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promferry"));
    command.arg("spool").args(arguments).arg(format!("--storage.agent.path={}", data.display()));
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let Output { status, stdout, stderr } = run.await.unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code(), text)
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let logs = std::fs::read_dir(data.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-"));
    let files = logs.flat_map(|log| std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_listed_verified_and_delivered_elsewhere_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = left_behind(folder.path(), &["first", "second"]).await;
    let (code, text) = promferry(&data, &["ls"]).await;
    assert_eq!(code, Some(0), "{text}");
    for endpoint in ["first", "second"] {
        assert!(text.contains(&format!("endpoint {endpoint}: 300 samples wait")), "{text}");
    }
    assert!(text.contains("last opened by process ") && text.contains(", the oldest of 20"), "{text}");
    let (code, text) = promferry(&data, &["verify"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("nothing is damaged") && text.contains("1 logs, 1 segments, 13 records, 2 cursors"),
        "{text}"
    );

    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let to = format!("--to={}", sink.url());
    let (code, text) = promferry(&data, &["drain", &to, "--endpoint=second"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("second: 0 samples wait"), "{text}");
    assert_eq!((sink.stats().samples, sink.stats().out_of_order), (300, 0));
    let (_, text) = promferry(&data, &["ls"]).await;
    assert!(text.contains("endpoint first: 300 samples wait"), "{text}");
    assert!(
        text.contains("endpoint second: 0 samples wait") && text.contains("300 samples delivered"),
        "{text}"
    );

    let (code, text) = promferry(&data, &["drain", &to, "--endpoint=third"]).await;
    assert!(code == Some(2) && text.contains("no endpoint called \"third\""), "{code:?} {text}");
    let nowhere = ["drain", "--to=http://127.0.0.1:9/", "--timeout=1"];
    let (code, text) = promferry(&data, &nowhere).await;
    assert!(code == Some(1) && text.contains("first: 300 samples wait"), "{code:?} {text}");
    let (code, text) = promferry(&data, &["forget", "first"]).await;
    assert!(code == Some(0) && text.contains("300 samples were given up"), "{code:?} {text}");
    let (code, text) = promferry(&data, &["drain", &to]).await;
    assert!(code == Some(0) && text.contains("nothing waits"), "{code:?} {text}");
    assert_eq!(sink.stats().samples, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_without_a_configuration_delivers_native_histograms_of_2_0_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let data = left_behind_as(folder.path(), &["amp"], ProtobufMessage::V2).await;
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    let (code, text) = promferry(&data, &["drain", &format!("--to={}", sink.url())]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("300 samples, 6 histograms delivered") && !text.contains("dropped"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_takes_an_endpoints_entry_from_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let data = left_behind(folder.path(), &["amp"]).await;
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, format!("remote_write:\n- name: amp\n  url: {}\n", sink.url())).unwrap();
    let flag = format!("--config.file={}", file.display());
    let (code, text) = promferry(&data, &["drain", &flag]).await;
    assert_eq!((code, sink.stats().samples), (Some(0), 300), "{text}");
    std::fs::write(&file, "remote_write: []\n").unwrap();
    let data = left_behind(&folder.path().join("again"), &["amp"]).await;
    let (code, text) = promferry(&data, &["drain", &flag]).await;
    assert!(code == Some(2) && text.contains("no remote_write entry called \"amp\""), "{code:?} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_in_use_can_be_looked_at_and_not_drained() {
    let folder = tempfile::tempdir().unwrap();
    let data = left_behind(folder.path(), &["amp"]).await;
    let storage = DiskStorage::new(data.join("spool")).unwrap();
    let clock = Arc::new(SystemClock::new());
    let (spool, _) = Spool::open(storage, SpoolOptions::default(), MemoryBudget::unlimited(), clock).unwrap();
    for arguments in [&["drain", "--to=http://127.0.0.1:9/"][..], &["forget", "amp"]] {
        let (code, text) = promferry(&data, arguments).await;
        let holder = format!("in use by another process (process {}", std::process::id());
        assert!(code == Some(2) && text.contains(&holder), "{code:?} {text}");
    }
    for arguments in [["ls"], ["verify"]] {
        assert_eq!(promferry(&data, &arguments).await.0, Some(0));
    }
    spool.close().await;
    let (code, text) = promferry(&folder.path().join("nowhere"), &["ls"]).await;
    assert!(code == Some(2) && text.contains("there is no spool in"), "{code:?} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_and_ends_with_1_and_nothing_is_changed_by_looking() {
    let folder = tempfile::tempdir().unwrap();
    let data = left_behind(folder.path(), &["amp"]).await;
    let segment = &segments(&data)[0];
    let whole = std::fs::read(segment).unwrap();
    let mut damaged = whole.clone();
    // In the body of the first record, and in the header of a later one.
    damaged[64 + 68 + 10] ^= 1;
    let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
    let length = number(64 + 4);
    let (first, second) = (number(64 + 24), number(64 + 68 + length + 24));
    damaged[64 + 68 + length + 14] ^= 1;
    std::fs::write(segment, &damaged).unwrap();
    let (code, text) = promferry(&data, &["verify"]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(&format!("at byte 64: the checksum of record 1 is wrong ({first} samples)")),
        "{text}"
    );
    assert!(text.contains(&format!("at byte {}: no record can be read", 64 + 68 + length)), "{text}");
    assert!(text.contains("2 places are damaged"), "{text}");
    assert_eq!(promferry(&data, &["ls"]).await.0, Some(0));
    assert_eq!(std::fs::read(segment).unwrap(), damaged);
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let (code, text) = promferry(&data, &["drain", &format!("--to={}", sink.url())]).await;
    let lost = first + second;
    assert!(
        code == Some(0) && text.contains(&format!("{lost} samples dropped as corrupt")),
        "{code:?} {text}"
    );
    assert_eq!(sink.stats().samples, 300 - lost as u64);
}
