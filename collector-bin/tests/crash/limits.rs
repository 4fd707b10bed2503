//! Targets that mean no good, and little memory.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use promferry_bench::account::Account;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::alone;
use crate::collector::{Collector, config, until};

/// A control group of version 1 with this much memory, removed when dropped. `None` where that is not
/// permitted.
struct Group(PathBuf);

impl Group {
    fn with_memory(bytes: u64) -> Option<Self> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own =
            groups.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path.to_owned()))?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("promferry-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mounted = Path::new("/sys/fs/cgroup/memory");
        let path = [mounted.join(own.trim_start_matches('/')), mounted.to_owned()]
            .into_iter()
            .filter(|parent| parent.is_dir())
            .map(|parent| parent.join(&name))
            .find(|path| std::fs::create_dir(path).is_ok())?;
        let group = Self(path);
        std::fs::write(group.0.join("memory.limit_in_bytes"), bytes.to_string()).ok()?;
        Some(group)
    }

    /// A script that runs a program in it.
    fn entering(&self) -> String {
        format!("echo $$ > {}; exec \"$@\"", self.0.join("cgroup.procs").display())
    }

    fn peak(&self) -> u64 {
        let peak = std::fs::read_to_string(self.0.join("memory.max_usage_in_bytes")).unwrap();
        peak.trim().parse().unwrap()
    }

    fn oom_kills(&self) -> u64 {
        let control = std::fs::read_to_string(self.0.join("memory.oom_control")).unwrap();
        control.lines().find_map(|line| line.strip_prefix("oom_kill ")).map_or(0, |n| n.parse().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last process may take a moment to leave.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Answers every request with what `page` makes of its number, head included.
pub(crate) async fn serve(page: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let page = std::sync::Arc::new(page);
    let number = std::sync::Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (page, number) = (page.clone(), number.clone());
            tokio::spawn(async move {
                let mut head = vec![0; 16 * 1024];
                while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    let answer = page(number.fetch_add(1, Ordering::Relaxed));
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

pub(crate) fn answer(encoding: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n{encoding}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// 500 MB of one page, compressed.
fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let lines = "metric_with_a_long_name_that_repeats{label=\"value\"} 1\n".repeat(20_000);
    for _ in 0..500_000_000 / lines.len() {
        encoder.write_all(lines.as_bytes()).unwrap();
    }
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_targets_neither_kill_it_nor_harm_others() {
    let _alone = alone().await;
    const LIMIT: u64 = 256 << 20;
    let Some(group) = Group::with_memory(LIMIT) else {
        eprintln!("SKIPPED hostile targets: a memory control group can't be made here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) =
        (Farm::start(5, 500).await.unwrap(), Sink::start(Judgement::EachSeries).await.unwrap());
    let bomb = answer("Content-Encoding: gzip\r\n", &bomb());
    let bomb = serve(move |_| bomb.clone()).await;
    // 20,000 new series at every scrape.
    let churn = serve(|number| {
        let lines: String =
            (0..20_000).map(|at| format!("churn{{id=\"{number}-{at}-{:060}\"}} 1\n", at * 7919)).collect();
        answer("", lines.as_bytes())
    })
    .await;
    let mut targets = farm.addresses().to_vec();
    targets.extend([bomb, churn]);
    let mut collector =
        Collector::start_by(folder.path(), &config(&targets, &sink, "1s"), Some(&group.entering()));
    collector.until_ready().await;
    until("the bomb is refused by name", async || {
        let targets = collector.text("/api/v1/targets").await;
        targets.contains("memory budget")
            || targets.contains("body_size_limit")
            || targets.contains("larger than")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(collector.is_running(), "{}", collector.log());
    assert_eq!(group.oom_kills(), 0);
    collector.assert_balanced().await;
    let targets = collector.text("/api/v1/targets").await;
    assert_eq!(collector.terminate().await.status.unwrap().code(), Some(0), "{}", collector.log());
    eprintln!("peak {} MiB of {} MiB", group.peak() >> 20, LIMIT >> 20);
    let account = Account::new(&farm.record(), &sink.received(), collector.interruption().as_slice());
    assert_eq!((account.lost, account.silent_targets), (0, 0), "{account:?}\n{targets}");
    assert!(account.answered >= 5 * 15, "{account:?}");
}
