use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use promferry_http_client::{Client as HttpClient, Http, HttpClientConfig, HttpOptions};
use promferry_model::{Clock, Labels, MemoryBudget, Sink as _, SystemClock, TargetInfo};

use super::{Inner, Open, Writer, commit_regularly};
use crate::delivery::{DescribeBody, ExplainDenial, Transport, transport};
use crate::spool::{DiskStorage, MemoryStorage, Spool, SpoolError, SpoolOptions};
use crate::{Endpoint, RemoteWrite, RemoteWriteConfig, Shared, StartError};

/// What a [`Writer`] is made of.
#[must_use = "a builder does nothing until it is started"]
pub struct WriterBuilder {
    config: RemoteWriteConfig,
    external_labels: Labels,
    directory: Option<PathBuf>,
    spool: SpoolOptions,
    memory_bytes: usize,
    commit_interval: Duration,
    user_agent: String,
    transport: Option<Transport>,
    explain_denial: Option<ExplainDenial>,
    describe_body: Option<DescribeBody>,
}

/// Why a [`Writer`] could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The spool's directory can't be created.
    #[error("the directory {} can't be used: {source}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The spool could not be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No HTTP client could be made.
    #[error(transparent)]
    Http(#[from] promferry_http_client::Error),
    /// The endpoint's options can't be.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What may wait in memory when nothing is said: 64 MiB.
const DEFAULT_MEMORY_BYTES: u64 = 64 << 20;

impl WriterBuilder {
    pub(super) fn new(config: RemoteWriteConfig) -> Self {
        Self {
            config,
            external_labels: Labels::default(),
            directory: None,
            spool: SpoolOptions::default(),
            memory_bytes: 64 << 20,
            commit_interval: Duration::from_secs(1),
            user_agent: concat!("promferry-remote-write/", env!("CARGO_PKG_VERSION")).to_owned(),
            transport: None,
            explain_denial: None,
            describe_body: None,
        }
    }

    /// Labels that every series gets which has none of that name.
    pub fn external_labels(mut self, labels: Labels) -> Self {
        self.external_labels = labels;
        self
    }

    /// Keeps what waits in this directory, over restarts. Only one process can work in it. Without it what waits is
    /// in memory, and lost with the process.
    pub fn spool_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// How what waits is kept. Its size in memory is 64 MiB if this does not say otherwise.
    pub fn spool_options(mut self, options: SpoolOptions) -> Self {
        self.spool = options;
        self
    }

    /// Bytes of memory for everything but what waits in memory by choice (64 MiB): series, bodies in flight.
    pub const fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// How often what was appended is stored (1 s).
    pub const fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// The `User-Agent` of requests.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// How requests get to the endpoint: authentication, signing and TLS of one's own. Without it a plain client
    /// with the system's certificates.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Turns a denial, whatever status it came with, into what has to be done about it.
    pub fn explain_denial(mut self, explain: ExplainDenial) -> Self {
        self.explain_denial = Some(explain);
        self
    }

    /// Makes what belongs to each body and not to each attempt, for the transport to find in the requests'
    /// extensions: a signature's hash of the body, say.
    pub fn describe_body(mut self, describe: DescribeBody) -> Self {
        self.describe_body = Some(describe);
        self
    }

    /// Starts delivery, beginning with what an earlier run left. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`WriterError`]. An endpoint that can't be reached is none: its data waits.
    pub async fn start(self) -> Result<Writer, WriterError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let budget = MemoryBudget::new(self.memory_bytes);
        let mut options = self.spool;
        let (spool, _) = match self.directory {
            Some(path) => {
                let storage =
                    DiskStorage::new(&path).map_err(|source| WriterError::Directory { path, source })?;
                Spool::open(storage, options, budget.clone(), Arc::clone(&clock))?
            }
            None => {
                options.max_bytes.get_or_insert(DEFAULT_MEMORY_BYTES);
                Spool::open(MemoryStorage::new(), options, budget.clone(), Arc::clone(&clock))?
            }
        };
        let transport = match self.transport {
            Some(transport) => transport,
            None => {
                let mut config = HttpClientConfig::default();
                config.enable_http2 = false;
                transport(HttpClient::new(Http::new(&config, HttpOptions::default())?))
            }
        };
        let endpoint = Endpoint {
            config: self.config,
            transport,
            explain_denial: self.explain_denial,
            describe_body: self.describe_body,
        };
        let labels = self.external_labels.clone();
        let shared = Shared {
            external_labels: self.external_labels,
            spool,
            budget,
            clock: Arc::clone(&clock),
            seed: seed(),
            user_agent: self.user_agent,
        };
        let remote = RemoteWrite::start(shared, vec![endpoint]).await?;
        let target = remote.open(&TargetInfo {
            job: labels.get("job").into(),
            labels,
            url: "writer".to_owned(),
            scrape_interval: self.commit_interval,
        });
        let open = Open {
            target,
            series: Default::default(),
            families: Default::default(),
            values: 0,
            swept_at: clock.monotonic(),
            closed: false,
        };
        let inner = Arc::new(Inner { remote, clock, open: Mutex::new(open) });
        tokio::spawn(commit_regularly(Arc::downgrade(&inner), self.commit_interval));
        Ok(Writer(inner))
    }
}

/// Differs from process to process.
fn seed() -> u64 {
    let since = UNIX_EPOCH.elapsed().unwrap_or_default();
    (since.as_nanos() as u64) ^ u64::from(std::process::id()).rotate_left(32)
}

impl From<String> for RemoteWriteConfig {
    fn from(url: String) -> Self {
        Self { url, ..Self::default() }
    }
}

impl From<&str> for RemoteWriteConfig {
    fn from(url: &str) -> Self {
        url.to_owned().into()
    }
}
