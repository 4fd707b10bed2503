use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// What the mechanisms of a [`Discovery`](crate::Discovery) have done since it was made, those that a new configuration
/// ended included: the numbers behind Prometheus' `prometheus_sd_*` counters, none of which ever falls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryCounts {
    /// Reports of mechanisms, of which each is about any number of groups of targets.
    pub received_updates_total: u64,
    /// Batches of changes that the consumer took.
    pub sent_updates_total: u64,
    /// When it took the last one.
    pub last_sent: Option<SystemTime>,
    /// Files of targets that could not be read or understood, each time that this was found.
    pub file_read_errors_total: u64,
    /// Requests for a list of targets that brought none.
    pub http_failures_total: u64,
    /// Names that were looked up in the DNS.
    pub dns_lookups_total: u64,
    /// Those of them of which the servers could say nothing.
    pub dns_lookup_failures_total: u64,
    /// Requests to a Kubernetes API that failed, and answers that made no sense.
    pub kubernetes_failures_total: u64,
    /// What happened to objects of a Kubernetes API, by the role whose targets they are: `pod`, `service`, `endpoints`,
    /// `endpointslice`, `node`, `ingress`. A role that was never asked for is not there.
    pub kubernetes_events: BTreeMap<&'static str, KubernetesEvents>,
}

/// What happened to objects of one kind. An object of a list that stands as it was is no event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KubernetesEvents {
    /// Objects that came.
    pub added_total: u64,
    /// Changes of them, as far as they may change a label.
    pub updated_total: u64,
    /// Objects that went.
    pub deleted_total: u64,
}

/// Where mechanisms count.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<DiscoveryCounts>);

impl Counts {
    pub(crate) fn change(&self, change: impl FnOnce(&mut DiscoveryCounts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn get(&self) -> DiscoveryCounts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
