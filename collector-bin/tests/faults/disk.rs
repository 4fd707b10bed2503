//! Disks that are full or can't be written, each in a mount namespace of its own.

use std::process::Command;
use std::time::Duration;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::{Fault, Sink};

use crate::collector::{Collector, config, until};
use crate::outcome::{assert_nothing_lost, until_counts_agree};

/// A collector whose storage is a small file system that only it sees.
struct OnSmallDisk {
    collector: Collector,
    data: String,
}

impl OnSmallDisk {
    /// `None`, said aloud, where a mount namespace can't be made.
    fn start(folder: &std::path::Path, config: &str, mebibytes: u32) -> Option<Self> {
        let permitted = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).status();
        if !permitted.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: a mount namespace can't be made here");
            return None;
        }
        let data = folder.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let data = data.display().to_string();
        // "$0" is the program: the scripts add nothing to its arguments.
        let mount = format!("mount -t tmpfs -o size={mebibytes}m none {data} && exec \"$0\" \"$@\"");
        let script = format!("exec unshare -m sh -c '{mount}' \"$@\"");
        Some(Self { collector: Collector::start_by(folder, config, Some(&script)), data })
    }

    /// Runs a command where the collector's mounts are.
    fn inside(&self, command: &str) {
        let pid = self.collector.pid().to_string();
        let status = Command::new("nsenter").args(["-t", &pid, "-m", "sh", "-c", command]).status().unwrap();
        assert!(status.success(), "{command}");
    }

    async fn is_degraded(&self) -> bool {
        self.collector.metric("promferry_spool_degraded", "").await == 1.0
    }
}

/// The receiver goes away, the disk breaks and is mended, the receiver comes back: scraping never stops, what the disk
/// did not take is kept in memory, and everything arrives in order.
async fn a_disk_breaks(mebibytes: u32, breaking: &str, mending: &str) {
    let folder = tempfile::tempdir().unwrap();
    let farm = Farm::start(10, 500).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let mut config = config(farm.addresses(), &sink, "1s");
    config.push_str("    max_backoff: 500ms\n");
    let Some(mut run) = OnSmallDisk::start(folder.path(), &config, mebibytes) else { return };
    until("the first samples", async || sink.stats().samples > 5_000).await;
    sink.set_fault(Some(Fault { down: true, ..Fault::default() }));
    run.inside(&breaking.replace("DATA", &run.data));
    until("it goes on in memory", async || run.is_degraded().await).await;
    let scrapes = || farm.record().targets.iter().map(|target| target.answered.len()).sum::<usize>();
    let before = scrapes();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(scrapes() >= before + 20, "scraping stopped");
    run.collector.assert_balanced().await;
    assert!(run.is_degraded().await);
    run.inside(&mending.replace("DATA", &run.data));
    until("the disk is used again", async || !run.is_degraded().await).await;
    sink.set_fault(None);
    until_counts_agree(&run.collector, &sink).await;
    assert_eq!(run.collector.metric("prometheus_remote_storage_samples_dropped_total", "").await, 0.0);
    assert_eq!(run.collector.terminate().await.status.unwrap().code(), Some(0));
    let interruption = run.collector.interruption();
    let account = assert_nothing_lost(&farm, &sink, interruption.as_slice(), &run.collector);
    eprintln!("{breaking}: {account:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_nothing() {
    // dd ends with an error when nothing is left.
    a_disk_breaks(8, "dd if=/dev/zero of=DATA/filler bs=4k 2>/dev/null; true", "rm DATA/filler").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_becomes_read_only_costs_nothing() {
    // A second mount over the first, because one with files open for writing does not become read-only.
    a_disk_breaks(
        8,
        "mount --bind DATA/spool DATA/spool && mount -o remount,bind,ro DATA/spool",
        "umount DATA/spool",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_being_read_for_long_keeps_no_probe_waiting_and_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    // To open a pipe for writing takes until somebody reads from it.
    std::fs::create_dir_all(folder.path().join("data/spool")).unwrap();
    let made = Command::new("mkfifo").arg(folder.path().join("data/spool/lock")).status().unwrap();
    assert!(made.success());
    let mut collector = Collector::start(folder.path(), &config(&[], &sink, "1s"));
    until("it is healthy", async || {
        collector.page("/-/healthy", "*/*").await.is_some_and(|page| page.0 == 200)
    })
    .await;
    for path in ["/-/ready", "/metrics", "/", "/api/v1/targets"] {
        let (status, _, body) = collector.page(path, "*/*").await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(status == 503 && body.contains("Service Unavailable"), "{path}: {status} {body}");
    }
    assert_eq!(collector.terminate().await.status.unwrap().code(), Some(0));
    assert!(collector.log().contains("SIGTERM before the start was over"), "{}", collector.log());
}
