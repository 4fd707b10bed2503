//! Where the programs are that Promferry is compared with: `scripts/peers` puts them into `.cache/peers`.

use std::{
    env,
    path::{Path, PathBuf},
};

/// A program that `scripts/peers` provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Prometheus 3.16, built from its Go module.
    Prometheus,
    /// vmagent 1.150, built from its Go module.
    Vmagent,
    /// The OpenTelemetry Collector with Prometheus receiver and remote-write exporter.
    Otelcol,
    /// Prometheus 3.16 with Kubernetes and DNS discovery, which [`Peer::Prometheus`] is built without.
    PrometheusDiscovery,
    /// Debian's nginx 1.22.
    Nginx,
    /// Debian's Prometheus (2.x): an older receiver.
    DebianPrometheus,
    /// Debian's node_exporter: a real page.
    NodeExporter,
}

impl Peer {
    /// Its executable, if it is there.
    ///
    /// Looks in the folder that `PROMFERRY_PEERS` names, else in `.cache/peers` of the workspace.
    pub fn path(self) -> Option<PathBuf> {
        let folder = env::var_os("PROMFERRY_PEERS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"), PathBuf::from);
        let path = folder.join(self.file());
        path.is_file().then_some(path)
    }

    /// Its executable, or a line that says that `test` is skipped.
    ///
    /// # Panics
    ///
    /// When the peer is missing and `PROMFERRY_REQUIRE_PEERS` is `1`: a machine that can have it must not skip silently.
    pub fn or_skip(self, test: &str) -> Option<PathBuf> {
        let path = self.path();
        if path.is_none() {
            let required = env::var_os("PROMFERRY_REQUIRE_PEERS").is_some_and(|value| value == "1");
            assert!(!required, "{test} needs {self:?}, which scripts/peers did not provide");
            #[allow(clippy::print_stderr, reason = "a skipped test says so where its output is read")]
            {
                eprintln!("SKIPPED {test}: {self:?} is missing, run scripts/peers");
            }
        }
        path
    }

    fn file(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Vmagent => "vmagent",
            Self::Otelcol => "otelcol",
            Self::PrometheusDiscovery => "prometheus-discovery",
            Self::Nginx => "debian/nginx/usr/sbin/nginx",
            Self::DebianPrometheus => "debian/prometheus/usr/bin/prometheus",
            Self::NodeExporter => "debian/prometheus-node-exporter/usr/bin/prometheus-node-exporter",
        }
    }
}
