//! A collector with a recipe, and a Prometheus that takes what it writes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use promferry_bench::peers::Peer;
use promferry_bench::prometheus_server::{Labels, PrometheusServer, Samples, equal};
use tempfile::TempDir;

use crate::collector::Collector;

/// No wait is longer, on a machine that does much else: what has not happened by then is taken for never.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// The bits of the value that ends a series.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Prometheus as a receiver: it refuses what is out of order and what says something else again.
pub(crate) struct Receiver(PrometheusServer);

/// A collector at work on a recipe.
pub(crate) struct Scene<'r> {
    pub(crate) collector: Collector,
    receiver: &'r Receiver,
    name: String,
    _folder: TempDir,
}

impl Receiver {
    /// Nothing, said aloud, where there is no Prometheus.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let program = Peer::Prometheus.or_skip(test)?;
        Some(Self(PrometheusServer::start(&program, "global: {}\n", &[]).await.unwrap()))
    }

    pub(crate) fn url(&self) -> String {
        self.0.write_url()
    }

    /// Last values of the series of this metric that a recipe wrote, by label `by`; ended ones are left out.
    pub(crate) async fn values(&self, recipe: &str, metric: &str, by: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for (labels, samples) in self.series(recipe, metric).await {
            let Some(&(_, bits)) = samples.floats.last().filter(|(_, bits)| *bits != STALE) else { continue };
            let key = labels.get(by).cloned().unwrap_or_default();
            assert!(values.insert(key, f64::from_bits(bits)).is_none(), "two series of {metric}: {labels:?}");
        }
        values
    }

    /// The series of this metric that a recipe wrote.
    pub(crate) async fn series(&self, recipe: &str, metric: &str) -> BTreeMap<Labels, Samples> {
        let matchers = vec![equal("recipe", recipe), equal("__name__", metric)];
        self.0.read(matchers).await.unwrap()
    }

    /// Label sets of the series that match a selector, of all time.
    pub(crate) async fn found(&self, selector: &str) -> Vec<Labels> {
        self.0.series(selector).await.unwrap().into_iter().collect()
    }
}

/// Whether a series was ended by a stale marker.
pub(crate) fn is_ended(samples: &Samples) -> bool {
    samples.floats.last().is_some_and(|(_, bits)| *bits == STALE)
}

impl<'r> Scene<'r> {
    /// Starts a collector with this configuration, which is a recipe's, in this environment.
    pub(crate) async fn start(
        receiver: &'r Receiver,
        name: &str,
        config: &str,
        environment: &[(&str, String)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let exports: String =
            environment.iter().map(|(name, value)| format!("export {name}='{value}'; ")).collect();
        let collector = Collector::start_by(folder.path(), config, Some(&format!("{exports}exec \"$@\"")));
        let scene = Self { collector, receiver, name: name.to_owned(), _folder: folder };
        scene
            .until("it is ready", async || {
                scene.collector.page("/-/ready", "*/*").await.is_some_and(|page| page.0 == 200)
            })
            .await;
        scene
    }

    /// Waits until the recipe's targets are these, by `instance`, and all are up. What is wrong is printed if that never
    /// happens.
    pub(crate) async fn until_up(&self, instances: &[String]) {
        let wanted: BTreeMap<String, f64> =
            instances.iter().map(|instance| (instance.clone(), 1.0)).collect();
        let started = Instant::now();
        loop {
            let up = self.receiver.values(&self.name, "up", "instance").await;
            if up == wanted {
                return;
            }
            if started.elapsed() > LIMIT {
                let differ: Vec<_> = (up.iter().filter(|one| wanted.get(one.0) != Some(one.1)))
                    .chain(wanted.iter().filter(|one| !up.contains_key(one.0)))
                    .take(10)
                    .collect();
                let targets = self.collector.text("/api/v1/targets").await;
                let log = self.collector.log();
                let end: Vec<&str> = log.lines().rev().take(30).collect();
                panic!(
                    "{}: {} of {} are up, such as {differ:?}\n{}\n{}",
                    self.name,
                    up.len(),
                    wanted.len(),
                    &targets[..targets.len().min(4000)],
                    end.join("\n")
                );
            }
            pause().await;
        }
    }

    /// Waits until a text is in its log.
    pub(crate) async fn until_said(&self, said: &str) {
        self.until(said, async || self.collector.log().contains(said)).await;
    }

    /// Waits for something; what it logged is printed if that never happens.
    pub(crate) async fn until(&self, what: &str, met: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !met().await {
            assert!(
                started.elapsed() < LIMIT,
                "{}: never happened: {what}\n{}",
                self.name,
                self.collector.log()
            );
            pause().await;
        }
    }

    /// Nothing that was scraped was refused or given up, here or by the receiver.
    pub(crate) async fn assert_nothing_refused(&self) {
        self.collector.assert_balanced().await;
        for metric in [
            "promferry_samples_refused_total",
            "promferry_target_errors_total",
            "prometheus_remote_storage_samples_dropped_total",
            "prometheus_remote_storage_samples_failed_total",
        ] {
            let refused = self.collector.metric(metric, "").await;
            assert_eq!(refused, 0.0, "{}: {}", self.name, self.collector.lines(metric).await);
        }
    }

    /// Ends the collector in good order.
    pub(crate) async fn end(mut self) {
        let stopped = self.collector.terminate().await;
        assert!(stopped.status.is_some_and(|status| status.success()), "{}", self.collector.log());
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}
