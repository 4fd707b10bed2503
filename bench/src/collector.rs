//! The collectors that the runner starts, each told to do the same work.

use crate::peers::Peer;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fmt::Write,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Collector {
    /// Ours.
    Promferry,
    /// `prometheus --agent`.
    Prometheus,
    /// The same, told to send metadata: its remote write 2.0 has none otherwise.
    PrometheusMetadata,
    /// VictoriaMetrics' agent.
    Vmagent,
    /// The OpenTelemetry Collector.
    Otelcol,
}

/// The work: scrape these targets, write to there.
#[derive(Debug, Clone)]
pub struct Work {
    /// What to scrape.
    pub targets: Vec<SocketAddr>,
    /// How often.
    pub interval: Duration,
    /// Where to write.
    pub url: String,
    /// Remote write 2.0 for those that speak it.
    pub remote_write_2: bool,
    /// Signs with Signature Version 4, those that can: ours, Prometheus and vmagent.
    pub signed: bool,
    /// `batch_send_deadline` of those that read Prometheus' configuration; their default (5 s) without it.
    pub batch_send_deadline: Option<Duration>,
}

impl Collector {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Promferry => "promferry",
            Self::Prometheus => "prometheus --agent",
            Self::PrometheusMetadata => "prometheus --agent, metadata-wal-records",
            Self::Vmagent => "vmagent",
            Self::Otelcol => "otelcol",
        }
    }

    /// Its executable: ours is given, the others come from `scripts/peers`.
    pub fn program(self, ours: Option<&Path>) -> Option<PathBuf> {
        match self {
            Self::Promferry => ours.filter(|path| path.is_file()).map(Path::to_owned),
            Self::Prometheus | Self::PrometheusMetadata => Peer::Prometheus.path(),
            Self::Vmagent => Peer::Vmagent.path(),
            Self::Otelcol => Peer::Otelcol.path(),
        }
    }

    /// The first line of what it says about its version.
    pub fn version(self, program: &Path) -> String {
        let argument = match self {
            Self::Promferry => "version",
            Self::Prometheus | Self::PrometheusMetadata | Self::Otelcol => "--version",
            Self::Vmagent => "-version",
        };
        let output =
            Command::new(program).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).lines().next().unwrap_or("").to_owned()
    }

    /// Writes its configuration into `folder` and gives its arguments; what it keeps on disk stays in `folder` too.
    pub fn prepare(self, work: &Work, folder: &Path, listen: SocketAddr) -> io::Result<Vec<OsString>> {
        let config = folder.join("config.yml");
        let data = folder.join("data");
        fs::create_dir_all(&data)?;
        let text = match self {
            Self::Promferry | Self::Prometheus | Self::PrometheusMetadata => {
                format!("{}{}", scrape_config(work, ""), remote_write(work))
            }
            Self::Vmagent => scrape_config(work, ""),
            Self::Otelcol => otelcol_config(work),
        };
        fs::write(&config, text)?;
        let flag = |name: &str, value: &dyn AsRef<Path>| {
            let mut flag = OsString::from(format!("{name}="));
            flag.push(value.as_ref());
            flag
        };
        Ok(match self {
            Self::Promferry => vec![
                "run".into(),
                flag("--config.file", &config),
                format!("--web.listen-address={listen}").into(),
                flag("--storage.agent.path", &data),
            ],
            Self::Prometheus | Self::PrometheusMetadata => {
                let mut arguments = vec![
                    "--agent".into(),
                    flag("--config.file", &config),
                    format!("--web.listen-address={listen}").into(),
                    flag("--storage.agent.path", &data),
                    "--log.level=warn".into(),
                ];
                if self == Self::PrometheusMetadata {
                    arguments.push("--enable-feature=metadata-wal-records".into());
                }
                arguments
            }
            Self::Vmagent => {
                let mut arguments = vec![
                    flag("-promscrape.config", &config),
                    format!("-httpListenAddr={listen}").into(),
                    format!("-remoteWrite.url={}", work.url).into(),
                    // Prometheus' own protocol: VictoriaMetrics' zstd one is understood by its own database only.
                    "-remoteWrite.forcePromProto=true".into(),
                    flag("-remoteWrite.tmpDataPath", &data),
                    "-loggerLevel=WARN".into(),
                ];
                if work.signed {
                    arguments.extend([
                        "-remoteWrite.aws.useSigv4".into(),
                        "-remoteWrite.aws.service=aps".into(),
                        format!("-remoteWrite.aws.region={REGION}").into(),
                        format!("-remoteWrite.aws.accessKey={ACCESS_KEY}").into(),
                        format!("-remoteWrite.aws.secretKey={SECRET_KEY}").into(),
                    ]);
                }
                arguments
            }
            Self::Otelcol => vec![flag("--config", &config)],
        })
    }
}

/// What requests are signed with. The sink does not look at it.
const REGION: &str = "eu-west-1";
const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG";

/// The part of a Prometheus configuration that says what to scrape, indented by `indent`.
fn scrape_config(work: &Work, indent: &str) -> String {
    let interval = format!("{}ms", work.interval.as_millis());
    let mut text = format!(
        "{indent}global:\n{indent}  scrape_interval: {interval}\n{indent}  scrape_timeout: {interval}\n\
         {indent}scrape_configs:\n{indent}  - job_name: bench\n{indent}    static_configs:\n{indent}      - targets:\n"
    );
    for target in &work.targets {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{indent}          - {target}");
    }
    text
}

fn remote_write(work: &Work) -> String {
    let mut text = format!("remote_write:\n  - url: {}\n", work.url);
    if work.remote_write_2 {
        text.push_str("    protobuf_message: io.prometheus.write.v2.Request\n");
    }
    if work.signed {
        let _ = writeln!(
            text,
            "    sigv4: {{region: {REGION}, access_key: {ACCESS_KEY}, secret_key: {SECRET_KEY}}}"
        );
    }
    if let Some(deadline) = work.batch_send_deadline {
        let _ = writeln!(text, "    queue_config: {{batch_send_deadline: {}ms}}", deadline.as_millis());
    }
    text
}

fn otelcol_config(work: &Work) -> String {
    format!(
        "receivers:\n  prometheus:\n    config:\n{}\
         processors:\n  batch: {{}}\n\
         exporters:\n  prometheus_remote_write:\n    endpoint: {}\n\
         service:\n  telemetry:\n    metrics:\n      level: none\n    logs:\n      level: warn\n\
         \x20 pipelines:\n    metrics:\n      receivers: [prometheus]\n      processors: [batch]\n\
         \x20     exporters: [prometheus_remote_write]\n",
        scrape_config(work, "      "),
        work.url,
    )
}
