//! How large the program is and how soon it is ready, beside its rivals.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use promferry_bench::http_call;
use promferry_bench::peers::Peer;
use promferry_bench::process::Process;

use crate::collector::{LIMIT, is_full_tier};
use crate::network::in_own_network;

const PROMETHEUS: &str = "scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:9']}]}]\n\
                          remote_write: [{url: 'http://127.0.0.1:9/api/v1/write'}]\n";
const OTELCOL: &str = "receivers: {prometheus: {config: {scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:9']}]}]}}}\n\
                       exporters: {prometheusremotewrite: {endpoint: 'http://127.0.0.1:9/api/v1/write'}}\n\
                       service: {pipelines: {metrics: {receivers: [prometheus], exporters: [prometheusremotewrite]}}}\n";
const VMAGENT: &str = "scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:9']}]}]\n";

struct Program {
    name: &'static str,
    path: PathBuf,
    config: &'static str,
    /// `CONFIG` and `DATA` stand for the paths.
    arguments: &'static [&'static str],
    ready: Ready,
}

/// How a program tells that it is ready.
enum Ready {
    /// A page of port 9090 is answered with 200.
    Page(&'static str),
    /// The log says this.
    Said(&'static str),
}

#[test]
fn start_up_time() {
    in_own_network("start_up::start_up_time", async |image| {
        let folder = tempfile::tempdir().unwrap();
        let ours = Program {
            name: "promferry",
            path: image.unpack(&folder.path().join("bundle")).join("promferry"),
            config: PROMETHEUS,
            arguments: &["run", "--config.file=CONFIG", "--storage.agent.path=DATA"],
            ready: Ready::Page("/-/ready"),
        };
        let test = "start_up_time";
        // Some are built only for the full tier, which then has to have them.
        let rival = |peer: Peer| if is_full_tier() { peer.or_skip(test) } else { peer.path() };
        let rivals = [
            rival(Peer::Otelcol).map(|path| Program {
                name: "otelcol",
                path,
                config: OTELCOL,
                arguments: &["--config=CONFIG"],
                // Its health check is no part of the collector that scripts/peers builds.
                ready: Ready::Said("Everything is ready"),
            }),
            rival(Peer::Prometheus).map(|path| Program {
                name: "prometheus --agent",
                path,
                config: PROMETHEUS,
                arguments: &["--agent", "--config.file=CONFIG", "--storage.agent.path=DATA"],
                ready: Ready::Page("/-/ready"),
            }),
            rival(Peer::Vmagent).map(|path| Program {
                name: "vmagent",
                path,
                config: VMAGENT,
                arguments: &[
                    "-promscrape.config=CONFIG",
                    "-remoteWrite.url=http://127.0.0.1:9/api/v1/write",
                    "-remoteWrite.tmpDataPath=DATA",
                    "-httpListenAddr=127.0.0.1:9090",
                ],
                ready: Ready::Page("/ready"),
            }),
        ];
        let programs: Vec<_> = [Some(ours)].into_iter().chain(rivals).flatten().collect();
        let rounds = if is_full_tier() { 11 } else { 3 };
        let mut times = vec![Vec::new(); programs.len()];
        // In turns, so that what else the machine does is shared.
        for round in 0..rounds {
            for (program, times) in programs.iter().zip(&mut times) {
                let folder = folder.path().join(format!("{}-{round}", program.name));
                times.push(program.start(&folder).await);
            }
        }
        println!("\n| program | bytes | ready after, median of {rounds} starts |\n|---|---:|---:|");
        for (program, times) in programs.iter().zip(&mut times) {
            times.sort_unstable();
            let bytes = fs::metadata(&program.path).unwrap().len();
            println!("| {} | {bytes} | {:.1} ms |", program.name, times[rounds / 2].as_secs_f64() * 1e3);
        }
        println!("| the image's layout | {} | |", size_of(&image.folder));
    });
}

impl Program {
    /// From the start of the process until it says that it is ready.
    async fn start(&self, folder: &Path) -> Duration {
        fs::create_dir(folder).unwrap();
        let config = folder.join("config.yml");
        fs::write(&config, self.config).unwrap();
        let replace = |argument: &&str| {
            let argument = argument.replace("CONFIG", &config.display().to_string());
            argument.replace("DATA", &folder.join("data").display().to_string())
        };
        let address: SocketAddr = "127.0.0.1:9090".parse().unwrap();
        let log = folder.join("log");
        let begin = Instant::now();
        let mut process = Process::start(&self.path, self.arguments.iter().map(replace), &log).unwrap();
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let is_ready = async || match self.ready {
            Ready::Page(path) => http_call::get(address, path).await.is_ok(),
            Ready::Said(text) => said().contains(text),
        };
        while !is_ready().await {
            let is_waiting = process.is_running() && begin.elapsed() < LIMIT;
            assert!(is_waiting, "{}: {}", self.name, said());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = begin.elapsed();
        process.kill().unwrap();
        took
    }
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => size_of(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}
