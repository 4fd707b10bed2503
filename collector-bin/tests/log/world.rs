//! A small cluster of which any part can be broken while the program watches it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use promferry_aws_stand_in::{Cloud, Issuer, Policy, ProjectedToken, Sts, Workspaces};
use promferry_bench::scripted_target::{Page, ScriptedTarget};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::collector::Collector;
use crate::iam::{ACCOUNT, AUDIENCE, REGION, ROLE, SERVICE_ACCOUNT, may_write, policy, workspace_arn};
use crate::receiver::Receiver;
use crate::secrets::{Emitted, PAGES};
use crate::tls_front::{Authority, Face};

const WORKSPACE: &str = "ws-0a1b2c3d";
/// Services behind the gateway.
pub(crate) const SERVICES: usize = 30;

/// What can be broken, and is mended where that is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A relabelling rule drops all targets of a job.
    EverythingDropped,
    /// A target's certificate has expired.
    ExpiredCertificate,
    /// A target has no page where it is looked for.
    NoSuchPage,
    /// A page breaks the rules of its format.
    BrokenPage,
    /// The gateway that many targets are behind is gone.
    GatewayGone,
    /// A receiver answers 503.
    ReceiverAway,
    /// A target shows a label value that the receiver refuses.
    LongLabelValue,
    /// The role that signs may not write any more.
    NoPermission,
    /// A file of discovery is not what it should be.
    BrokenFile,
    /// A page has more samples than it may.
    TooManySamples,
}

/// The targets, receivers and files, and the program.
pub(crate) struct World {
    folder: TempDir,
    _token_folder: TempDir,
    cloud: Cloud,
    _issuer: Issuer,
    _sts: Sts,
    workspaces: Workspaces,
    archive: Receiver,
    web: [ScriptedTarget; 2],
    billing: ScriptedTarget,
    search: ScriptedTarget,
    gateway: Option<ScriptedTarget>,
    gateway_address: SocketAddr,
    orders: ScriptedTarget,
    catalog: ScriptedTarget,
    reports: ScriptedTarget,
    vault: SocketAddr,
    environment: Vec<(&'static str, String)>,
    collector: Option<Collector>,
}

fn page(metric: &str, series: usize) -> Page {
    Page::text((0..series).map(|at| format!("{metric}{{part=\"{at}\"}} {at}\n")).collect::<String>())
}

impl World {
    pub(crate) async fn new() -> Self {
        let cloud = Cloud::memory();
        let issuer = Issuer::start().await;
        cloud.add_provider(ACCOUNT, &issuer, &[AUDIENCE]).await;
        let trust = Policy::web_identity_trust(&issuer.provider_arn(ACCOUNT), SERVICE_ACCOUNT, AUDIENCE);
        cloud.add_role(ROLE, trust, Some(permission()), Duration::from_secs(3600)).await;
        let token_folder = tempfile::tempdir().unwrap();
        let token = issuer.token(SERVICE_ACCOUNT, AUDIENCE, Duration::from_secs(24 * 3600));
        let token = ProjectedToken::new(token_folder.path(), &token);
        let sts = Sts::start(&cloud).await;
        let workspaces = Workspaces::start(&cloud, REGION).await;
        workspaces.add(ACCOUNT, WORKSPACE, None).await;
        let folder = tempfile::tempdir().unwrap();
        let start = async |metric, series| ScriptedTarget::start(page(metric, series)).await.unwrap();
        let gateway = start("service_requests_total", 5).await;
        let (vault, authority) = expired_target().await;
        std::fs::write(folder.path().join("ca.pem"), authority).unwrap();
        let world = Self {
            environment: vec![
                ("AWS_ROLE_ARN", ROLE.to_owned()),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().display().to_string()),
                ("AWS_ENDPOINT_URL_STS", sts.url()),
                ("AWS_REGION", REGION.to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ],
            _token_folder: token_folder,
            cloud,
            _issuer: issuer,
            _sts: sts,
            workspaces,
            archive: Receiver::start().await,
            web: [start("web_requests_total", 20).await, start("web_requests_total", 20).await],
            billing: start("invoices_total", 10).await,
            search: start("queries_total", 10).await,
            gateway_address: gateway.address(),
            gateway: Some(gateway),
            orders: start("orders_total", 10).await,
            catalog: start("items_total", 8).await,
            reports: start("reports_total", 5).await,
            vault,
            folder,
            collector: None,
        };
        world.write_targets();
        world
    }

    fn targets_file(&self) -> PathBuf {
        self.folder.path().join("reports.json")
    }

    fn write_targets(&self) {
        let targets = format!("[{{\"targets\": [\"{}\"]}}]", self.reports.address());
        std::fs::write(self.targets_file(), targets).unwrap();
    }

    /// The configuration, with these faults in it from the start.
    fn config(&self, interval: &str, from_start: &[Fault]) -> String {
        let statically = |name: &str, targets: &[SocketAddr], more: &str| {
            let targets: Vec<_> = targets.iter().map(|address| format!("'{address}'")).collect();
            format!("- job_name: {name}\n  static_configs: [{{targets: [{}]}}]\n{more}", targets.join(", "))
        };
        let mut jobs = statically("web", &[self.web[0].address(), self.web[1].address()], "");
        jobs.push_str(&statically("billing", &[self.billing.address()], ""));
        jobs.push_str(&statically("search", &[self.search.address()], ""));
        jobs.push_str(&statically("orders", &[self.orders.address()], ""));
        jobs.push_str(&statically("catalog", &[self.catalog.address()], "  sample_limit: 10\n"));
        jobs.push_str(&format!(
            "- job_name: reports\n  file_sd_configs: [{{files: ['{}']}}]\n",
            self.targets_file().display()
        ));
        jobs.push_str("- job_name: services\n  static_configs:\n");
        for service in 0..SERVICES {
            jobs.push_str(&format!(
                "  - {{targets: ['{}'], labels: {{instance: service-{service}, __metrics_path__: /service-{service}/metrics}}}}\n",
                self.gateway_address
            ));
        }
        if from_start.contains(&Fault::EverythingDropped) {
            let pods: Vec<_> = (0..12).map(|at| SocketAddr::from(([10, 0, 3, at], 8080))).collect();
            let rule = "  relabel_configs: [{source_labels: [__meta_scrape], regex: 'true', action: keep}]\n";
            jobs.push_str(&statically("pods", &pods, rule));
        }
        if from_start.contains(&Fault::ExpiredCertificate) {
            let port = self.vault.port();
            jobs.push_str(&format!(
                "- job_name: vault\n  scheme: https\n  tls_config: {{ca_file: ca.pem}}\n  \
                 static_configs: [{{targets: ['localhost:{port}']}}]\n"
            ));
        }
        format!(
            "global: {{scrape_interval: {interval}, scrape_timeout: {interval}, external_labels: {{cluster: test}}}}\n\
             scrape_configs:\n{jobs}remote_write:\n\
             - name: archive\n  url: {}\n  queue_config: {{batch_send_deadline: 500ms}}\n\
             - name: amp\n  url: {}\n  sigv4: {{region: {REGION}}}\n  queue_config: {{batch_send_deadline: 500ms}}\n",
            self.archive.url(),
            self.workspaces.url(WORKSPACE),
        )
    }

    pub(crate) async fn start(&mut self, interval: &str, from_start: &[Fault]) {
        let exports: Vec<_> =
            self.environment.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
        let script = format!(
            "for name in $(env | sed -n 's/^\\(AWS_[A-Z0-9_]*\\|[a-zA-Z]*_[pP][rR][oO][xX][yY]\\)=.*/\\1/p'); do unset \"$name\"; done\n\
             export HOME=/nonexistent {}\nexec \"$@\"",
            exports.join(" ")
        );
        let config = self.config(interval, from_start);
        let collector = Collector::start_with(self.folder.path(), &config, Some(&script), &[]);
        collector.until_ready().await;
        self.collector = Some(collector);
    }

    pub(crate) async fn plant(&mut self, fault: Fault) {
        match fault {
            Fault::EverythingDropped | Fault::ExpiredCertificate => {}
            Fault::NoSuchPage => {
                self.billing.show(Page::status(StatusCode::NOT_FOUND));
            }
            Fault::BrokenPage => {
                self.search.show(Page::text("queries_total{part=\"1\"} 1\nqueries_total{part=\"2\" 2\n"));
            }
            Fault::GatewayGone => self.gateway = None,
            Fault::ReceiverAway => self.archive.set_away(true),
            Fault::LongLabelValue => {
                let basket = "b".repeat(3000);
                self.orders.show(Page::text(format!(
                    "orders_total{{basket=\"{basket}\"}} 1\norders_total{{part=\"1\"}} 1\n"
                )));
            }
            Fault::NoPermission => self.cloud.set_permissions(ROLE, None).await,
            Fault::BrokenFile => {
                std::fs::write(self.targets_file(), "[{\"targets\": [\"10.0.0.1:80\"").unwrap()
            }
            Fault::TooManySamples => {
                self.catalog.show(page("items_total", 50));
            }
        }
    }

    pub(crate) async fn mend(&mut self, fault: Fault) {
        match fault {
            // Nobody listens at its address any more; the others are of the configuration.
            Fault::EverythingDropped | Fault::ExpiredCertificate | Fault::GatewayGone => {}
            Fault::NoSuchPage => {
                self.billing.show(page("invoices_total", 10));
            }
            Fault::BrokenPage => {
                self.search.show(page("queries_total", 10));
            }
            Fault::ReceiverAway => self.archive.set_away(false),
            Fault::LongLabelValue => {
                self.orders.show(page("orders_total", 10));
            }
            Fault::NoPermission => self.cloud.set_permissions(ROLE, Some(permission())).await,
            Fault::BrokenFile => self.write_targets(),
            Fault::TooManySamples => {
                self.catalog.show(page("items_total", 8));
            }
        }
    }

    /// Ends the program, and looks for secrets in all that it emitted. What it wrote into its log.
    pub(crate) async fn end(mut self) -> String {
        let mut emitted = Emitted::default();
        let mut collector = self.collector.take().unwrap();
        for (path, accept) in PAGES {
            if let Some((_, _, body)) = collector.page(path, accept).await {
                emitted.add(format!("{path} as {accept}"), body);
            }
        }
        let stopped = collector.terminate().await;
        let log = collector.written_log();
        assert_eq!(stopped.status.and_then(|status| status.code()), Some(0), "{log}");
        emitted.add_folder(self.folder.path());
        emitted.assert_no_secret(&self.cloud.secrets());
        log
    }
}

fn permission() -> Policy {
    policy(&[may_write(&workspace_arn(ACCOUNT, WORKSPACE))])
}

/// A target with a certificate that has expired, and who signed it.
async fn expired_target() -> (SocketAddr, String) {
    let authority = Authority::new();
    let Face::Tls(config) = authority.expired("localhost") else { panic!("a certificate is for TLS") };
    let acceptor = TlsAcceptor::from(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever looks at the certificate goes away.
            let _ = acceptor.accept(stream).await;
        }
    });
    (address, authority.pem())
}
