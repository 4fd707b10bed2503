//! A real Prometheus beside the test: a receiver, a second scraper, and the reader of what both wrote.

use crate::{
    clock::now_ms,
    http_call::{CallError, call, get_json, ok},
    messages::{Histogram, LabelMatcher, Query, ReadRequest, ReadResponse},
    process::{Process, free_address},
};
use http::Method;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

/// Labels of a series, `__name__` among them.
pub type Labels = BTreeMap<String, String>;

/// Every sample of each series.
pub type SeriesData = BTreeMap<Labels, Samples>;

/// Samples of one series in time order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Timestamp (milliseconds) and bits of the value: stale markers are told from other NaNs.
    pub floats: Vec<(i64, u64)>,
    /// Native histograms.
    pub histograms: Vec<Histogram>,
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct PrometheusServer {
    process: Process,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

/// Why Prometheus does not run or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// It could not be started, or its folder not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It was not ready in time.
    #[error("Prometheus was not ready within {limit:?}; it printed:\n{log}")]
    NotReady {
        /// How long was waited.
        limit: Duration,
        /// What it printed.
        log: String,
    },
    /// It did not answer, or with an error.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer to a remote read is no snappy block.
    #[error("the remote-read answer is no snappy block: {0}")]
    Snappy(#[from] snap::Error),
    /// The answer to a remote read does not decode.
    #[error("the remote-read answer does not decode: {0}")]
    Protobuf(#[from] prost::DecodeError),
}

const READY_LIMIT: Duration = Duration::from_secs(60);

/// Condition on a label in [`PrometheusServer::read`].
pub fn equal(name: &str, value: &str) -> LabelMatcher {
    LabelMatcher { r#type: 0, name: name.to_owned(), value: value.to_owned() }
}

/// The opposite of [`equal`].
pub fn not_equal(name: &str, value: &str) -> LabelMatcher {
    LabelMatcher { r#type: 1, ..equal(name, value) }
}

impl PrometheusServer {
    /// Starts `program` with `config` and the remote-write receiver on, and waits until it is ready.
    ///
    /// `extra` are further flags. With `--scrape.discovery-reload-interval=100ms` (a hidden flag of 3.x) it scrapes
    /// within a second instead of five.
    pub async fn start(program: &Path, config: &str, extra: &[&str]) -> Result<Self, PrometheusError> {
        let folder = tempfile::tempdir()?;
        let config_file = folder.path().join("prometheus.yml");
        fs::write(&config_file, config)?;
        let address = free_address()?;
        let mut arguments = vec![
            format!("--config.file={}", config_file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address={address}"),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        arguments.extend(extra.iter().map(|flag| (*flag).to_owned()));
        let process = Process::start(program, arguments, &folder.path().join("log"))?;
        let mut server = Self { process, address, folder };
        let start = Instant::now();
        while crate::http_call::get(address, "/-/ready").await.is_err() {
            if start.elapsed() > READY_LIMIT || !server.process.is_running() {
                return Err(PrometheusError::NotReady { limit: start.elapsed(), log: server.log() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes remote write.
    pub fn write_url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Label sets of the series that match a selector such as `{job="node"}`, of all time.
    pub async fn series(&self, selector: &str) -> Result<BTreeSet<Labels>, PrometheusError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            data: BTreeSet<Labels>,
        }
        let answer: Answer =
            get_json(self.address, &format!("/api/v1/series?match[]={}", percent_encode(selector))).await?;
        Ok(answer.data)
    }

    /// `/api/v1/targets` as it answers it.
    pub async fn targets(&self) -> Result<serde_json::Value, PrometheusError> {
        Ok(get_json(self.address, "/api/v1/targets").await?)
    }

    /// Every sample of the series that match, from the beginning until a minute from now, by remote read, which unlike a
    /// query gives stale markers back.
    pub async fn read(&self, matchers: Vec<LabelMatcher>) -> Result<SeriesData, PrometheusError> {
        let query = Query { start_timestamp_ms: 0, end_timestamp_ms: now_ms() + 60_000, matchers };
        let request = ReadRequest { queries: vec![query], accepted_response_types: vec![0] };
        let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())?;
        let headers = [
            ("content-encoding", "snappy"),
            ("content-type", "application/x-protobuf"),
            ("x-prometheus-remote-read-version", "0.1.0"),
        ];
        let (status, body) = call(self.address, Method::POST, "/api/v1/read", &headers, body).await?;
        ok(self.address, "/api/v1/read", status, &body)?;
        let response = ReadResponse::decode(&snap::raw::Decoder::new().decompress_vec(&body)?[..])?;
        let mut data = SeriesData::new();
        for series in response.results.into_iter().flat_map(|result| result.timeseries) {
            let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
            let samples: &mut Samples = data.entry(labels).or_default();
            samples.floats.extend(series.samples.iter().map(|one| (one.timestamp, one.value.to_bits())));
            samples.histograms.extend(series.histograms);
        }
        Ok(data)
    }
}

fn percent_encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
