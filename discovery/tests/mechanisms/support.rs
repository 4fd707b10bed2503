//! A consumer that applies changes as a scrape manager would.

use std::collections::BTreeMap;
use std::time::Duration;

use promferry_discovery::{Change, Changes, Discovery, DiscoveryConfigs, DiscoveryOptions, MechanismId};
use promferry_http_client::HttpOptions;

/// Parses YAML as the collector does.
pub(crate) fn configs(yaml: &str) -> DiscoveryConfigs {
    let configs: DiscoveryConfigs =
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    configs.validate().unwrap();
    configs
}

/// Nothing waits for long in tests.
pub(crate) fn options() -> DiscoveryOptions {
    DiscoveryOptions {
        debounce: Duration::from_millis(20),
        file_poll_interval: Duration::from_millis(20),
        http: HttpOptions { user_agent: "Test/1".to_owned(), ..HttpOptions::default() },
        ..DiscoveryOptions::default()
    }
}

/// The targets of all jobs, as one who applies all changes sees them.
pub(crate) struct Consumer {
    pub(crate) discovery: Discovery,
    changes: Changes,
    groups: BTreeMap<(String, MechanismId, String), Vec<String>>,
    pub(crate) batches: usize,
}

impl Consumer {
    pub(crate) fn new(options: DiscoveryOptions) -> Self {
        let (discovery, changes) = Discovery::new(options);
        Self { discovery, changes, groups: BTreeMap::new(), batches: 0 }
    }

    pub(crate) fn run(yaml: &str, options: DiscoveryOptions) -> Self {
        let consumer = Self::new(options);
        let errors = consumer.discovery.apply([("job".into(), configs(yaml))]);
        assert!(errors.is_empty(), "{errors:?}");
        consumer
    }

    /// All targets, each as its labels with those of its group, sorted.
    pub(crate) fn targets(&self) -> Vec<String> {
        let mut targets: Vec<_> = self.groups.values().flatten().cloned().collect();
        targets.sort();
        targets
    }

    pub(crate) fn sources(&self) -> Vec<String> {
        self.groups.keys().map(|(_, _, source)| source.clone()).collect()
    }

    pub(crate) fn jobs(&self) -> Vec<(String, usize)> {
        let mut jobs: BTreeMap<String, usize> = BTreeMap::new();
        for ((job, _, _), targets) in &self.groups {
            *jobs.entry(job.clone()).or_default() += targets.len();
        }
        jobs.into_iter().collect()
    }

    /// The next batch, applied and returned.
    pub(crate) async fn batch(&mut self) -> Vec<Change> {
        let batch = tokio::time::timeout(Duration::from_secs(30), self.changes.next()).await;
        let batch = batch.unwrap_or_else(|_| panic!("no change, still {:#?}", self.discovery.status()));
        for change in &batch {
            let key = (change.job.to_string(), change.mechanism, change.source.to_string());
            match &change.group {
                None => drop(self.groups.remove(&key)),
                Some(group) => {
                    let targets = group.targets.iter().map(|target| {
                        let labels = group.labels.iter().chain(target.iter());
                        let labels: Vec<_> = labels.map(|l| format!("{}={}", l.name, l.value)).collect();
                        labels.join(",")
                    });
                    self.groups.insert(key, targets.collect());
                }
            }
        }
        self.batches += 1;
        batch
    }

    /// Applies changes until the targets are these.
    pub(crate) async fn until(&mut self, expected: &[&str]) {
        while self.targets() != expected {
            self.batch().await;
        }
    }

    /// Nothing changes for a while.
    pub(crate) async fn is_quiet(&mut self) {
        let batch = tokio::time::timeout(Duration::from_millis(300), self.changes.next()).await;
        assert!(batch.is_err(), "an unexpected change: {:#?}", batch.unwrap());
    }

    /// Waits until the only mechanism has failed for a reason that contains `text`.
    pub(crate) async fn failure(&self, text: &str) {
        for _ in 0..1000 {
            let status = self.discovery.status().remove(0);
            if let Some((_, reason)) = &status.last_failure
                && status.is_failing
                && reason.contains(text)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no failure that says {text:?}: {:#?}", self.discovery.status());
    }

    /// Waits until the only mechanism is well.
    pub(crate) async fn recovery(&self) {
        for _ in 0..1000 {
            if !self.discovery.status()[0].is_failing {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still failing: {:#?}", self.discovery.status());
    }
}
