//! What a real Prometheus says, and what it keeps.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use promferry_model::Timestamp;
use promferry_remote_write::ProtobufMessage;

use crate::world::{Target, World, dropped};

/// Ended with the test.
struct Prometheus {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Prometheus {
    /// Out-of-order samples are not taken, which is the default.
    async fn start(binary: &Path) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = data.path().join("prometheus.yml");
        std::fs::write(&config, "").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(binary)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--web.enable-remote-write-receiver")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self { process, url: format!("http://127.0.0.1:{port}/api/v1/write"), _data: data };
        for _ in 0..1500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return prometheus;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("Prometheus never listened");
    }

    /// A sender of its own to it.
    async fn sender(&self, message: ProtobufMessage) -> World {
        World::configured(|config| {
            config.url.clone_from(&self.url);
            config.protobuf_message = message;
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary that `scripts/peers` provides.
fn binary() -> Option<PathBuf> {
    let folder = std::env::var_os("PROMFERRY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"), PathBuf::from);
    let binary = folder.join("prometheus");
    if !binary.is_file() {
        let required = std::env::var_os("PROMFERRY_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "this test needs Prometheus, which scripts/peers did not provide");
        #[allow(clippy::print_stderr, reason = "a skipped test says so where its output is read")]
        {
            eprintln!("SKIPPED: Prometheus is missing, run scripts/peers");
        }
        return None;
    }
    Some(binary)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_prometheus_refuses_is_dropped() {
    let Some(binary) = binary() else { return };
    for (message, class) in [
        (ProtobufMessage::V1, "prometheus-1-out-of-order"),
        (ProtobufMessage::V2, "prometheus-2-out-of-order"),
    ] {
        let prometheus = Prometheus::start(&binary).await;
        let now = Timestamp::from(SystemTime::now());
        let ahead = prometheus.sender(message).await;
        let numbers = ["7", "70"].map(str::to_owned);
        Target::open(&ahead.remote, "a:1", numbers).scrape_at(now, 1.0).await;
        assert_eq!(ahead.settled().await, (2, Vec::new()), "{message:?}");
        ahead.shutdown().await;

        let world = prometheus.sender(message).await;
        let mut target = world.target("a:1", 100);
        target.scrape_at(now.saturating_sub(Duration::from_secs(5)), 2.0).await;
        assert_eq!(world.settled().await, (98, dropped("sample-out-of-order", 2)), "{message:?}");
        target.scrape_at(now, 3.0).await;
        let mut both = dropped("new-value-for-timestamp", 2);
        both.extend(dropped("sample-out-of-order", 2));
        assert_eq!(world.settled().await, (196, both), "{message:?}");
        let snapshot = world.snapshot().await;
        assert!(snapshot.refusals.contains_key(class), "{:?}", snapshot.refusals);
        assert!(snapshot.unknown_refusals.is_empty(), "{:?}", snapshot.unknown_refusals);
        world.shutdown().await;
    }
}
