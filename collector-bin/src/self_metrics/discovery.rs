use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::SystemTime;

use promferry_discovery::{CollectionStatus, DiscoveryCounts, MechanismStatus};
use promferry_model::Timestamp;
use smol_str::SmolStr;

use super::{Family, Page, Points, counter, gauge, seconds};
use crate::pipeline::Pipeline;

pub(super) fn write(page: &mut Page, pipeline: &Pipeline) {
    let mechanisms = pipeline.discovery();
    let counts = pipeline.discovery_counts();

    let jobs = by_job(&mechanisms, &counts, pipeline.scraper().stats().into_keys());
    let subjects: Vec<_> = jobs
        .iter()
        .map(|(job, discovered)| (vec![("name", SET), ("config", job.as_str())], discovered))
        .collect();
    page.write(JOBS, &subjects);
    let mut refreshes: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for mechanism in mechanisms.iter().filter(|mechanism| matches!(mechanism.mechanism, "dns" | "http")) {
        for job in &mechanism.jobs {
            *refreshes.entry((mechanism.mechanism, job.as_str())).or_default() += mechanism.failures_total;
        }
    }
    let subjects: Vec<_> = refreshes
        .iter()
        .map(|((mechanism, job), failures)| (vec![("mechanism", *mechanism), ("config", *job)], failures))
        .collect();
    page.write(REFRESHES, &subjects);
    let failed_configs = mechanisms.iter().filter(|mechanism| !mechanism.is_as_configured).count();
    page.write(FAILED_CONFIGS, &[(vec![("name", SET)], &failed_configs)]);
    page.write(UPDATES, &[(vec![("name", SET)], &counts)]);
    page.write(COUNTS, &[(Vec::new(), &counts)]);
    page.write(OBJECTS, &[(Vec::new(), &pipeline.discovered_objects_bytes())]);

    let collections = collections_alike_together(&mechanisms);
    let subjects: Vec<_> = collections
        .iter()
        .map(|((resource, namespace, selector), status)| {
            let labels = vec![
                ("resource", *resource),
                ("namespace", namespace.as_str()),
                ("selector", selector.as_str()),
            ];
            (labels, status)
        })
        .collect();
    page.write(COLLECTIONS, &subjects);

    let mechanisms = alike_together(mechanisms);
    let subjects: Vec<_> = mechanisms
        .values()
        .map(|m| (vec![("mechanism", m.mechanism), ("subject", m.subject.as_str())], m))
        .collect();
    page.write(MECHANISMS, &subjects);
}

/// Prometheus has two sets of mechanisms, one for scraping and one for finding Alertmanagers.
const SET: &str = "scrape";

/// What is discovered for a job.
#[derive(Default)]
struct Discovered {
    targets: usize,
    last_sent: Option<SystemTime>,
}

/// Those of jobs for which nothing can be discovered too.
fn by_job(
    mechanisms: &[MechanismStatus],
    counts: &DiscoveryCounts,
    configured: impl Iterator<Item = SmolStr>,
) -> BTreeMap<SmolStr, Discovered> {
    let none = || Discovered { targets: 0, last_sent: counts.last_sent };
    let mut jobs: BTreeMap<SmolStr, Discovered> = configured.map(|job| (job, none())).collect();
    for mechanism in mechanisms {
        for job in &mechanism.jobs {
            jobs.entry(job.clone()).or_insert_with(none).targets += mechanism.targets;
        }
    }
    jobs
}

/// Mechanisms that look at the same, as all static ones do, are one subject: a series stands on a page once.
fn alike_together(mechanisms: Vec<MechanismStatus>) -> BTreeMap<(&'static str, String), MechanismStatus> {
    let mut together: BTreeMap<_, MechanismStatus> = BTreeMap::new();
    for other in mechanisms {
        match together.entry((other.mechanism, other.subject.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(other);
            }
            Entry::Occupied(mut entry) => {
                let one = entry.get_mut();
                one.groups += other.groups;
                one.targets += other.targets;
                one.updates_total += other.updates_total;
                one.refreshes_total += other.refreshes_total;
                one.failures_total += other.failures_total;
                one.is_failing |= other.is_failing;
                // Since when all of them are right.
                one.last_success = one.last_success.min(other.last_success);
            }
        }
    }
    together
}

/// Mechanisms share what they follow of one server. Of collections that only look alike, such as those of two servers,
/// the one that fares worse counts.
pub(crate) fn collections_alike_together(
    mechanisms: &[MechanismStatus],
) -> BTreeMap<(&'static str, String, String), CollectionStatus> {
    let mut together: BTreeMap<_, CollectionStatus> = BTreeMap::new();
    for other in mechanisms.iter().flat_map(|mechanism| &mechanism.collections) {
        let selectors = [&other.label_selector, &other.field_selector].map(String::as_str);
        let selectors: Vec<_> = selectors.into_iter().filter(|selector| !selector.is_empty()).collect();
        let namespace = other.namespace.as_deref().unwrap_or_default().to_owned();
        match together.entry((other.resource, namespace, selectors.join(" and "))) {
            Entry::Vacant(entry) => {
                entry.insert(other.clone());
            }
            Entry::Occupied(mut entry) => {
                let one = entry.get_mut();
                one.objects = one.objects.max(other.objects);
                one.last_listed = one.last_listed.min(other.last_listed);
                one.last_heard = one.last_heard.min(other.last_heard);
                one.lists_total = one.lists_total.max(other.lists_total);
                one.watches_total = one.watches_total.max(other.watches_total);
                one.failures_total = one.failures_total.max(other.failures_total);
                if one.failure.is_none() {
                    one.failure.clone_from(&other.failure);
                }
            }
        }
    }
    together
}

fn time(at: Option<SystemTime>, points: &mut Points<'_, '_>) {
    if let Some(at) = at {
        points.value(seconds(Timestamp::from(at)));
    }
}

const JOBS: &[Family<Discovered>] = &[
    gauge("prometheus_sd_discovered_targets", "Targets discovered for a job.", |job, points| {
        points.value(job.targets as f64);
    }),
    gauge(
        "prometheus_sd_last_update_timestamp_seconds",
        "When changes of targets were last taken up.",
        |job, points| time(job.last_sent, points),
    ),
];

const REFRESHES: &[Family<u64>] = &[counter(
    "prometheus_sd_refresh_failures_total",
    "Refreshes that failed, of mechanisms that ask again and again.",
    |failures, points| points.value(*failures as f64),
)];

const FAILED_CONFIGS: &[Family<usize>] = &[gauge(
    "prometheus_sd_failed_configs",
    "Mechanisms that cannot be started as they are configured.",
    |failed, points| points.value(*failed as f64),
)];

const UPDATES: &[Family<DiscoveryCounts>] = &[
    counter(
        "prometheus_sd_received_updates_total",
        "Reports of mechanisms about targets.",
        |counts, points| points.value(counts.received_updates_total as f64),
    ),
    counter("prometheus_sd_updates_total", "Batches of changes taken up.", |counts, points| {
        points.value(counts.sent_updates_total as f64);
    }),
    counter("prometheus_sd_updates_delayed_total", "Batches that had to wait: none has to.", |_, points| {
        points.value(0.0)
    }),
];

const COUNTS: &[Family<DiscoveryCounts>] = &[
    counter(
        "prometheus_sd_file_read_errors_total",
        "Files of targets that could not be read or understood.",
        |counts, points| points.value(counts.file_read_errors_total as f64),
    ),
    counter(
        "prometheus_sd_http_failures_total",
        "Requests for lists of targets that failed.",
        |counts, points| points.value(counts.http_failures_total as f64),
    ),
    counter("prometheus_sd_dns_lookups_total", "Names looked up in the DNS.", |counts, points| {
        points.value(counts.dns_lookups_total as f64);
    }),
    counter(
        "prometheus_sd_dns_lookup_failures_total",
        "Names of which the DNS could say nothing.",
        |counts, points| points.value(counts.dns_lookup_failures_total as f64),
    ),
    counter("prometheus_sd_kubernetes_events_total", "Changes of Kubernetes' objects.", |counts, points| {
        for role in ROLES {
            let events = counts.kubernetes_events.get(role).copied().unwrap_or_default();
            for (event, objects) in [
                ("add", events.added_total),
                ("delete", events.deleted_total),
                ("update", events.updated_total),
            ] {
                points.value_of(&[("event", event), ("role", role)], objects as f64);
            }
        }
    }),
    counter(
        "prometheus_sd_kubernetes_failures_total",
        "Requests to Kubernetes' API that failed.",
        |counts, points| points.value(counts.kubernetes_failures_total as f64),
    ),
];

const OBJECTS: &[Family<usize>] = &[gauge(
    "promferry_kubernetes_objects_bytes",
    "Bytes of memory that the objects of all collections take.",
    |bytes, points| points.value(*bytes as f64),
)];

/// All have their series from the start, as in Prometheus.
const ROLES: [&str; 6] = ["endpoints", "endpointslice", "ingress", "node", "pod", "service"];

const COLLECTIONS: &[Family<CollectionStatus>] = &[
    gauge("promferry_kubernetes_objects", "Objects known of a collection.", |collection, points| {
        points.value(collection.objects as f64);
    }),
    gauge(
        "promferry_kubernetes_failing",
        "1 while a collection can't be kept up to date.",
        |collection, points| {
            points.value(f64::from(u8::from(collection.failure.is_some())));
        },
    ),
    gauge(
        "promferry_kubernetes_last_list_timestamp_seconds",
        "When a collection was last listed.",
        |collection, points| time(collection.last_listed, points),
    ),
    gauge(
        "promferry_kubernetes_last_heard_timestamp_seconds",
        "When the API server last said anything about a collection.",
        |collection, points| time(collection.last_heard, points),
    ),
    counter("promferry_kubernetes_lists_total", "Lists that were completed.", |collection, points| {
        points.value(collection.lists_total as f64);
    }),
    counter("promferry_kubernetes_watches_total", "Watches that were begun.", |collection, points| {
        points.value(collection.watches_total as f64);
    }),
    counter(
        "promferry_kubernetes_failures_total",
        "Requests that failed, and answers that made no sense.",
        |collection, points| points.value(collection.failures_total as f64),
    ),
];

const MECHANISMS: &[Family<MechanismStatus>] = &[
    gauge("promferry_discovered_targets", "Targets that a mechanism names.", |mechanism, points| {
        points.value(mechanism.targets as f64);
    }),
    counter("promferry_discovery_refreshes_total", "Tries to find out.", |mechanism, points| {
        points.value(mechanism.refreshes_total as f64);
    }),
    counter("promferry_discovery_failures_total", "Tries that failed.", |mechanism, points| {
        points.value(mechanism.failures_total as f64);
    }),
    gauge(
        "promferry_discovery_last_success_timestamp_seconds",
        "When a mechanism last found out.",
        |mechanism, points| time(mechanism.last_success, points),
    ),
];
