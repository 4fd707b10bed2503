//! Everything of the demo at work: exporters, STS, receiver, and the pipeline between them.

use std::sync::Arc;
use std::time::Duration;

use promferry_config::{Config, NoFiles};
use promferry_model::{Clock as _, SystemClock};
use promferry_remote_write::spool::SpoolOptions;
use promferry_remote_write::{Counts, EndpointStatus};
use promferry_scrape::PoolSummary;
use promferry_sigv4_auth::{Environment, Scope};
use tempfile::TempDir;

use super::exporters::{Exporters, GATEWAY_PATH, WORKER};
use super::receiver::Receiver;
use super::sessions::Sessions;
use super::sts::{ROLE_ARN, Sts, WEB_IDENTITY_TOKEN};
use crate::limits::Limits;
use crate::pipeline::{DeliveryStatus, Pipeline, PipelineOptions};

pub(super) struct Stage {
    pub(super) exporters: Exporters,
    pub(super) receiver: Receiver,
    pub(super) sts: Sts,
    pub(super) sessions: Sessions,
    pub(super) pipeline: Arc<Pipeline>,
    /// The spool and the token lie in it; it goes when this is dropped.
    _folder: TempDir,
}

/// How things stand at one moment, as the pipeline itself says.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// Targets whose last scrape succeeded.
    pub(super) up: usize,
    /// All targets.
    pub(super) targets: usize,
    /// What was scraped, and stored to be sent.
    pub(super) scraped: Counts,
    pub(super) delivered: Counts,
    pub(super) refused: Counts,
    pub(super) waiting: Counts,
    /// Bytes of what waits.
    pub(super) waiting_bytes: u64,
    /// The age of the oldest sample that waits.
    pub(super) oldest: Option<Duration>,
}

const REGION: &str = "eu-west-1";

impl Stage {
    /// Starts all of it, in a folder of its own for temporary files.
    pub(super) async fn start(limits: Limits) -> Result<Self, Box<dyn std::error::Error>> {
        let sessions = Sessions::default();
        let scope = Scope { region: REGION.to_owned(), service: "aps".to_owned() };
        let receiver = Receiver::start(scope, sessions.clone()).await?;
        let sts = Sts::start(sessions.clone()).await?;
        let exporters = Exporters::start().await?;
        let folder = tempfile::Builder::new().prefix("promferry-demo-").tempdir()?;
        let token_file = folder.path().join("token");
        tokio::fs::write(&token_file, WEB_IDENTITY_TOKEN).await?;
        let environment = Environment::from_pairs([
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ROLE_ARN", ROLE_ARN.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token_file.display().to_string()),
            ("AWS_ENDPOINT_URL_STS", format!("http://{}", sts.address())),
        ]);
        let text = configuration(&exporters, &receiver);
        let config = Config::from_prometheus("demo.yml".as_ref(), &text, &NoFiles, &|_: &str| None)?;
        let options = PipelineOptions {
            storage_path: folder.path().join("data"),
            spool: SpoolOptions::default(),
            limits,
            user_agent: concat!("Promferry/", env!("CARGO_PKG_VERSION"), " (demo)").to_owned(),
            environment,
            discovery_debounce: Duration::from_secs(1),
            start_timestamps: false,
            extra_scrape_metrics: false,
            transports: None,
        };
        let pipeline = Arc::new(Pipeline::start(&config, options).await?);
        Ok(Self { exporters, receiver, sts, sessions, pipeline, _folder: folder })
    }

    /// How things stand now.
    pub(super) async fn standing(&self) -> Standing {
        let pools = self.pipeline.scraper().summary();
        let sum = |count: fn(&PoolSummary) -> u64| pools.iter().map(count).sum::<u64>() as usize;
        let (up, targets) = (sum(|pool| pool.up), sum(|pool| pool.active));
        let DeliveryStatus { endpoints, spool, .. } = self.pipeline.delivery().await;
        let mut standing = Standing { up, targets, ..Standing::default() };
        if let [EndpointStatus { ledger, .. }] = &endpoints[..] {
            standing.scraped = ledger.accepted;
            standing.delivered = ledger.delivered;
            standing.refused = ledger.dropped_total();
            standing.waiting = ledger.pending;
        }
        if let [stored] = &spool.stats.endpoints[..] {
            let now = SystemClock::new().now();
            standing.waiting_bytes = stored.pending_bytes;
            standing.oldest = stored.oldest_pending.map(|oldest| now.since(oldest));
        }
        standing
    }

    /// How often credentials were fetched.
    pub(super) fn refreshes(&self) -> u64 {
        self.pipeline.signing().iter().map(|signing| signing.credentials.status().refreshes).sum()
    }

    /// Everything works again.
    pub(super) fn calm(&self) {
        self.receiver.set_away(false);
        self.sts.set_delay(Duration::ZERO);
    }
}

impl Standing {
    /// Samples and histograms of which it is decided what became of them.
    pub(super) fn settled(&self) -> u64 {
        self.delivered.values() + self.refused.values()
    }
}

fn configuration(exporters: &Exporters, receiver: &Receiver) -> String {
    format!(
        r#"
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  scrape_native_histograms: true
  external_labels: {{cluster: demo}}
scrape_configs:
  - job_name: shop
    http_sd_configs: [{{url: 'http://{registry}/targets'}}]
    relabel_configs:
      - {{source_labels: [app], target_label: instance}}
    metric_relabel_configs:
      - {{source_labels: [__name__], regex: build_info, action: drop}}
  - job_name: ray-via-gateway
    static_configs: [{{targets: [{WORKER}]}}]
    relabel_configs:
      - {{source_labels: [__address__], target_label: instance}}
      - {{source_labels: [__address__], regex: '(.+)', replacement: '{path}', target_label: __metrics_path__}}
      - {{target_label: __address__, replacement: '{gateway}'}}
remote_write:
  - name: receiver
    url: http://{receiver}/workspaces/ws-demo/api/v1/remote_write
    send_exemplars: true
    send_native_histograms: true
    sigv4: {{region: {REGION}}}
    queue_config: {{batch_send_deadline: 200ms, min_shards: {LANES_AT_ONCE}, max_backoff: 1s}}
"#,
        registry = exporters.registry(),
        path = GATEWAY_PATH.replace("{}", "$1"),
        gateway = exporters.gateway(),
        receiver = receiver.address(),
    )
}

/// A request for each target may be under way at once.
const LANES_AT_ONCE: usize = 4;
