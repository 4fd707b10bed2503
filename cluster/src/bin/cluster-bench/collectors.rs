//! The collectors that are measured, each with the same configuration.

use crate::Failure;
use clap::{Args, ValueEnum};
use promferry_bench::{
    peers::Peer,
    process::{Process, free_address},
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// Prometheus takes up to a minute to end when its receiver is gone.
const STOP_LIMIT: Duration = Duration::from_secs(75);

/// A collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Collector {
    /// Ours.
    Promferry,
    /// `prometheus --agent` with Kubernetes discovery compiled in.
    PrometheusDiscovery,
    /// VictoriaMetrics' agent.
    Vmagent,
}

/// Which collectors, and what is kept of them.
#[derive(Args)]
pub(crate) struct Collectors {
    /// Which collectors, one after another; one that is missing is skipped aloud.
    #[arg(
        long = "collector",
        value_delimiter = ',',
        default_value = "promferry,prometheus-discovery,vmagent"
    )]
    pub(crate) collectors: Vec<Collector>,
    /// Our executable.
    #[arg(long, default_value = "target/release/promferry")]
    pub(crate) binary: PathBuf,
    /// Writes all figures to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keeps configurations, data and logs in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Ends with a failure when a collector is missing or ended by itself, or when ours breaks a promise.
    #[arg(long)]
    pub(crate) check: bool,
}

/// A collector at work; its folder goes with it unless it is kept.
#[derive(Debug)]
pub(crate) struct Running {
    collector: Collector,
    process: Process,
    /// Where its pages are.
    pub(crate) address: SocketAddr,
    pub(crate) folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Collector {
    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Promferry => "promferry",
            Self::PrometheusDiscovery => "prometheus --agent",
            Self::Vmagent => "vmagent",
        }
    }

    /// The first line of what it says about its version.
    pub(crate) fn version(self, program: &Path) -> String {
        let argument = match self {
            Self::Promferry => "version",
            Self::PrometheusDiscovery => "--version",
            Self::Vmagent => "-version",
        };
        let output = Command::new(program).arg(argument).output().map(|output| output.stdout);
        String::from_utf8_lossy(&output.unwrap_or_default()).lines().next().unwrap_or("").to_owned()
    }

    fn arguments(
        self,
        scrape_configs: &str,
        url: &str,
        folder: &Path,
        listen: SocketAddr,
    ) -> Result<Vec<OsString>, Failure> {
        let (config, data) = (folder.join("config.yml"), folder.join("data"));
        fs::create_dir_all(&data)?;
        let text = match self {
            Self::Vmagent => scrape_configs.to_owned(),
            Self::Promferry | Self::PrometheusDiscovery => {
                format!("{scrape_configs}remote_write:\n- url: {url}\n")
            }
        };
        fs::write(&config, text)?;
        let flag = |name: &str, value: &dyn AsRef<Path>| {
            let mut flag = OsString::from(format!("{name}="));
            flag.push(value.as_ref());
            flag
        };
        let listen_flag = format!("--web.listen-address={listen}");
        Ok(match self {
            Self::Promferry => vec![
                "run".into(),
                flag("--config.file", &config),
                listen_flag.into(),
                flag("--storage.agent.path", &data),
            ],
            Self::PrometheusDiscovery => vec![
                "--agent".into(),
                flag("--config.file", &config),
                listen_flag.into(),
                flag("--storage.agent.path", &data),
                "--log.level=warn".into(),
            ],
            Self::Vmagent => vec![
                flag("-promscrape.config", &config),
                format!("-httpListenAddr={listen}").into(),
                format!("-remoteWrite.url={url}").into(),
                "-remoteWrite.forcePromProto=true".into(),
                flag("-remoteWrite.tmpDataPath", &data),
                "-loggerLevel=WARN".into(),
            ],
        })
    }
}

impl Collectors {
    /// Those that are there, with their programs.
    pub(crate) fn present(&self) -> Vec<(Collector, PathBuf)> {
        let program = |collector: Collector| match collector {
            Collector::Promferry => Some(self.binary.clone()).filter(|path| path.is_file()),
            Collector::PrometheusDiscovery => Peer::PrometheusDiscovery.path(),
            Collector::Vmagent => Peer::Vmagent.path(),
        };
        let mut present = Vec::new();
        for &collector in &self.collectors {
            match program(collector) {
                Some(program) => present.push((collector, program)),
                None => {
                    let from = if collector == Collector::Promferry { "--binary" } else { "scripts/peers" };
                    let name = collector.name();
                    eprintln!("cluster-bench: SKIPPED {name}: its executable is missing ({from})");
                }
            }
        }
        present
    }

    /// Starts a collector with these `scrape_configs` (and a `global` before them, if any) that writes to `url`; `run`
    /// names its folder.
    pub(crate) fn start(
        &self,
        collector: Collector,
        program: &Path,
        run: &str,
        scrape_configs: &str,
        url: &str,
    ) -> Result<Running, Failure> {
        let (folder, temporary) = match &self.keep {
            Some(keep) => {
                let folder = keep.join(format!("{run}-{}", collector.name().replace(' ', "")));
                fs::create_dir_all(&folder)?;
                (folder, None)
            }
            None => {
                let folder = tempfile::tempdir()?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        let address = free_address()?;
        let arguments = collector.arguments(scrape_configs, url, &folder, address)?;
        let process = Process::start(program, arguments, &folder.join("log"))?;
        Ok(Running { collector, process, address, folder, _temporary: temporary })
    }

    pub(crate) fn write_json(&self, figures: &impl Serialize) -> Result<(), Failure> {
        if let Some(path) = &self.json {
            fs::write(path, serde_json::to_vec_pretty(figures)?)?;
        }
        Ok(())
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// An error with the end of its log when it has ended.
    pub(crate) fn must_run(&mut self) -> Result<(), Failure> {
        if self.process.is_running() {
            return Ok(());
        }
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        Err(format!("{} ended by itself; it printed:\n{end}", self.collector.name()).into())
    }

    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.process.terminate(STOP_LIMIT).await?;
        Ok(())
    }
}
