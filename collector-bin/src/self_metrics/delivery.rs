use promferry_model::{MetricType, Timestamp};
use promferry_remote_write::spool::SpoolStats;
use promferry_remote_write::{Counts, EndpointStatus, LimitUsage, Protocol};
use promferry_sigv4_auth::CacheStatus;

use super::{Family, Page, Points, Subject, counter, gauge, histogram, seconds};
use crate::pipeline::Pipeline;

pub(super) fn write(
    page: &mut Page,
    pipeline: &Pipeline,
    endpoints: Vec<EndpointStatus>,
    spool: &SpoolStats,
    now: Timestamp,
) {
    let highest = endpoints.iter().map(|status| status.highest_accepted).max().unwrap_or_default();
    let deliveries: Vec<_> = endpoints
        .into_iter()
        .map(|status| {
            let stored = spool.endpoints.iter().find(|stored| stored.key == status.key);
            Delivery {
                pending_bytes: stored.map_or(0, |stored| stored.pending_bytes),
                pending_fragments: stored.map_or(0, |stored| stored.pending_fragments),
                oldest_pending: stored.and_then(|stored| stored.oldest_pending),
                parked_bytes: stored.map_or(0, |stored| stored.parked_bytes),
                oldest_parked: stored.and_then(|stored| stored.oldest_parked),
                status,
                now,
            }
        })
        .collect();
    let subjects: Vec<Subject<'_, Delivery>> = deliveries
        .iter()
        .map(|d| (vec![("remote_name", d.status.key.as_str()), ("url", d.status.url.as_str())], d))
        .collect();
    for (kind, of) in KINDS {
        for KindFamily { name: (before, after), metric_type, help, points } in KIND_FAMILIES {
            let mut written = page.open(&format!("{before}{kind}{after}"), *metric_type, help);
            for (labels, delivery) in &subjects {
                points(&delivery.status, of, &mut Points { labels, family: &mut written });
            }
        }
    }
    page.write(ENDPOINTS, &subjects);
    let intake = Intake {
        counts: pipeline.remote().total_intake(),
        highest,
        active_series: pipeline.remote().active_series(),
    };
    page.write(INTAKE, &[(Vec::new(), &intake)]);
    let signing: Vec<_> = pipeline
        .signing()
        .into_iter()
        .map(|signing| {
            let clock_offset_ms = signing.credentials.clock().offset_ms();
            (signing.endpoint, SigningStatus { cache: signing.credentials.status(), clock_offset_ms })
        })
        .collect();
    let signing: Vec<_> =
        signing.iter().map(|(key, status)| (vec![("remote_name", key.as_str())], status)).collect();
    page.write(SIGNING, &signing);
}

/// An endpoint and what waits for it.
struct Delivery {
    status: EndpointStatus,
    pending_bytes: u64,
    pending_fragments: u64,
    oldest_pending: Option<Timestamp>,
    parked_bytes: u64,
    oldest_parked: Option<Timestamp>,
    now: Timestamp,
}

type Of = fn(Counts) -> u64;

const KINDS: [(&str, Of); 3] =
    [("samples", |c| c.samples), ("histograms", |c| c.histograms), ("exemplars", |c| c.exemplars)];

/// A family for each kind of what is sent; the kind stands between the two parts of its name.
struct KindFamily {
    name: (&'static str, &'static str),
    metric_type: MetricType,
    help: &'static str,
    points: fn(&EndpointStatus, Of, &mut Points<'_, '_>),
}

const KIND_FAMILIES: &[KindFamily] = &[
    KindFamily {
        name: ("promferry_remote_", "_accepted_total"),
        metric_type: MetricType::Counter,
        help: "Handed over for the endpoint.",
        points: |status, of, points| points.value(of(status.ledger.accepted) as f64),
    },
    KindFamily {
        name: ("prometheus_remote_storage_", "_total"),
        metric_type: MetricType::Counter,
        help: "Delivered to the endpoint.",
        points: |status, of, points| points.value(of(status.ledger.delivered) as f64),
    },
    KindFamily {
        name: ("prometheus_remote_storage_", "_failed_total"),
        metric_type: MetricType::Counter,
        help: "Refused by the endpoint for good; dropped_total has it too, by reason.",
        points: |status, of, points| {
            let refused = status.ledger.dropped.iter().filter(|(reason, _)| reason.is_refusal());
            points.value(refused.map(|(_, counts)| of(*counts)).sum::<u64>() as f64);
        },
    },
    KindFamily {
        name: ("prometheus_remote_storage_", "_retried_total"),
        metric_type: MetricType::Counter,
        help: "In attempts that were repeated.",
        points: |status, of, points| points.value(of(status.delivery.retried) as f64),
    },
    KindFamily {
        name: ("prometheus_remote_storage_", "_dropped_total"),
        metric_type: MetricType::Counter,
        help: "Given up, whatever for.",
        points: |status, of, points| {
            for (reason, counts) in &status.ledger.dropped {
                points.value_of(&[("reason", reason.as_str())], of(*counts) as f64);
            }
        },
    },
    KindFamily {
        name: ("prometheus_remote_storage_", "_pending"),
        metric_type: MetricType::Gauge,
        help: "Stored or in flight.",
        points: |status, of, points| points.value(of(status.ledger.pending) as f64),
    },
    KindFamily {
        name: ("promferry_remote_", "_parked"),
        metric_type: MetricType::Gauge,
        help: "Of those that wait, what the endpoint does not take for now.",
        points: |status, of, points| points.value(of(status.ledger.parked) as f64),
    },
];

const ENDPOINTS: &[Family<Delivery>] = &[
    counter("prometheus_remote_storage_bytes_total", "Bytes delivered, compressed.", |d, points| {
        points.value(d.status.delivery.bytes as f64);
    }),
    counter(
        "prometheus_remote_storage_metadata_bytes_total",
        "Bytes of metadata delivered, compressed.",
        |d, points| points.value(d.status.delivery.metadata_bytes as f64),
    ),
    counter("prometheus_remote_storage_metadata_total", "Metadata entries delivered.", |d, points| {
        points.value(d.status.delivery.metadata as f64);
    }),
    counter("prometheus_remote_storage_metadata_failed_total", "Metadata entries given up.", |d, points| {
        points.value(d.status.delivery.metadata_failed as f64);
    }),
    gauge(
        "promferry_remote_abandoned_lanes",
        "Parts of the queue of which nothing is sent until a restart, since a request of theirs met a fault.",
        |d, points| points.value(d.status.delivery.abandoned_lanes as f64),
    ),
    gauge("prometheus_remote_storage_shards", "Requests that may be in flight at once.", |d, points| {
        points.value(d.status.delivery.shards as f64);
    }),
    gauge("prometheus_remote_storage_shards_min", "The fewest there may be.", |d, points| {
        points.value(d.status.queue.min_shards as f64);
    }),
    gauge("prometheus_remote_storage_shards_max", "The most there may be.", |d, points| {
        points.value(d.status.queue.max_shards as f64);
    }),
    gauge(
        "prometheus_remote_storage_shards_desired",
        "How many what arrives and what waits would take, at the pace of the endpoint's answers.",
        |d, points| points.value(d.status.delivery.shards_desired as f64),
    ),
    gauge("prometheus_remote_storage_shard_capacity", "The configured capacity.", |d, points| {
        points.value(d.status.queue.capacity as f64);
    }),
    gauge(
        "prometheus_remote_storage_max_samples_per_send",
        "The most samples and histograms in a request.",
        |d, points| points.value(d.status.queue.max_samples_per_send as f64),
    ),
    gauge(
        "prometheus_remote_storage_queue_highest_timestamp_seconds",
        "The latest timestamp handed over in this run.",
        |d, points| points.value(seconds(d.status.highest_accepted)),
    ),
    gauge(
        "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
        "The latest timestamp delivered in this run.",
        |d, points| points.value(seconds(d.status.delivery.highest_sent)),
    ),
    histogram(
        "prometheus_remote_storage_sent_batch_duration_seconds",
        "How long attempts took, failed ones included.",
        |d, points| {
            let durations = &d.status.delivery.attempt_durations;
            points.histogram(&durations.cumulative, durations.sum.as_secs_f64());
        },
    ),
    counter("promferry_remote_attempts_total", "Attempts by what became of them.", |d, points| {
        for (outcome, &attempts) in &d.status.delivery.requests {
            points.value_of(&[("outcome", outcome)], attempts as f64);
        }
    }),
    counter("promferry_remote_refusals_total", "Refusals by the class of their text.", |d, points| {
        for (class, refusals) in &d.status.delivery.refusals {
            points.value_of(&[("class", class)], refusals.answers as f64);
        }
    }),
    gauge(
        "promferry_remote_unknown_refusals",
        "Kinds of refusals, of the latest, whose text is of no known class; the status page shows them.",
        |d, points| points.value(d.status.delivery.unknown_refusals.len() as f64),
    ),
    gauge("promferry_remote_requests_in_flight", "Requests in flight.", |d, points| {
        points.value(d.status.delivery.in_flight as f64);
    }),
    gauge("promferry_remote_queued_bytes", "Bytes read ahead from the spool.", |d, points| {
        points.value(d.status.delivery.queued_bytes as f64);
    }),
    gauge(
        "promferry_remote_pending_bytes",
        "Bytes that wait in the spool, in flight included.",
        |d, points| {
            points.value(d.pending_bytes as f64);
        },
    ),
    gauge("promferry_remote_pending_fragments", "Pieces of scrapes that wait.", |d, points| {
        points.value(d.pending_fragments as f64);
    }),
    gauge(
        "promferry_remote_oldest_pending_timestamp_seconds",
        "The oldest timestamp that waits; none while nothing does.",
        |d, points| {
            if let Some(oldest) = d.oldest_pending {
                points.value(seconds(oldest));
            }
        },
    ),
    gauge(
        "promferry_remote_oldest_pending_age_seconds",
        "How old the oldest is that waits; 0 while nothing does.",
        |d, points| points.value(d.oldest_pending.map_or(0.0, |at| d.now.since(at).as_secs_f64())),
    ),
    gauge(
        "promferry_remote_last_success_timestamp_seconds",
        "When the endpoint last took something in this run; 0 before.",
        |d, points| points.value(seconds(d.status.delivery.last_success)),
    ),
    gauge(
        "promferry_remote_last_error_timestamp_seconds",
        "When an attempt last failed in this run; 0 before. The status page shows the error.",
        |d, points| {
            points.value(d.status.delivery.last_error.as_ref().map_or(0.0, |error| seconds(error.at)));
        },
    ),
    gauge("promferry_remote_lasting_limit_info", "1 while a limit that lasts is in force.", |d, points| {
        if let Some(reason) = &d.status.delivery.limits.limit {
            points.value_of(&[("reason", reason.as_str())], 1.0);
        }
    }),
    gauge(
        "promferry_remote_accepted_series",
        "Series that the endpoint is known to have accepted.",
        |d, points| {
            points.value(d.status.delivery.limits.accepted_series as f64);
        },
    ),
    gauge(
        "promferry_remote_parked_series",
        "Series of which samples are parked: the endpoint does not take them for now.",
        |d, points| points.value(d.status.delivery.limits.parked_series as f64),
    ),
    gauge(
        "promferry_remote_held_series",
        "Series that are held out after they were refused for what they are.",
        |d, points| points.value(d.status.delivery.limits.held_series as f64),
    ),
    counter(
        "promferry_remote_held_out_total",
        "Samples and histograms dropped because their series is held out.",
        |d, points| points.value(d.status.delivery.limits.held_out as f64),
    ),
    counter("promferry_remote_limit_probes_total", "Probes of what is parked.", |d, points| {
        let limits = &d.status.delivery.limits;
        by_outcome(limits.probes, limits.probes_taken, points);
    }),
    counter(
        "promferry_remote_limit_tests_total",
        "Requests made to find out which series the endpoint takes.",
        |d, points| {
            let limits = &d.status.delivery.limits;
            by_outcome(limits.tests, limits.tests_taken, points);
        },
    ),
    gauge("promferry_remote_parked_bytes", "Bytes that are parked.", |d, points| {
        points.value(d.parked_bytes as f64);
    }),
    gauge(
        "promferry_remote_oldest_parked_age_seconds",
        "How old the oldest is that is parked; 0 while nothing is.",
        |d, points| points.value(d.oldest_parked.map_or(0.0, |at| d.now.since(at).as_secs_f64())),
    ),
    gauge(
        "promferry_remote_protocol_info",
        "The version of remote write that is sent, and why.",
        |d, points| {
            let (version, why) = protocol_in_use(&d.status);
            points.value_of(&[("version", version), ("why", why)], 1.0);
        },
    ),
    gauge("promferry_remote_active_series", "Series that are written now, each once.", |d, points| {
        for usage in &d.status.jobs {
            points.value_of(&[("job", &usage.job)], usage.active_series as f64);
        }
    }),
    gauge(
        "promferry_remote_duplicate_series",
        "Series that are not sent because others leave under the same labels.",
        |d, points| {
            for usage in &d.status.jobs {
                points.value_of(&[("job", &usage.job)], usage.duplicate_series as f64);
            }
        },
    ),
    gauge(
        "promferry_remote_samples_per_second",
        "Samples and histograms handed over a second, as a mean over the last minute.",
        |d, points| {
            for usage in &d.status.jobs {
                points.value_of(&[("job", &usage.job)], usage.samples_per_second);
            }
        },
    ),
    gauge("promferry_remote_limit", "What the endpoint takes, as configured.", |d, points| {
        for LimitUsage { limit, of, .. } in &d.status.limits {
            points.value_of(&[("limit", limit)], *of);
        }
    }),
    gauge(
        "promferry_remote_limit_usage_ratio",
        "The part that is used of what the endpoint takes, as configured.",
        |d, points| {
            for usage in &d.status.limits {
                points.value_of(&[("limit", usage.limit)], usage.ratio());
            }
        },
    ),
];

/// What came in for all endpoints together.
struct Intake {
    counts: Counts,
    highest: Timestamp,
    active_series: usize,
}

const INTAKE: &[Family<Intake>] = &[
    counter(
        "prometheus_remote_storage_samples_in_total",
        "Samples that scrapes brought.",
        |intake, points| {
            points.value(intake.counts.samples as f64);
        },
    ),
    counter(
        "prometheus_remote_storage_histograms_in_total",
        "Native histograms that scrapes brought.",
        |intake, points| points.value(intake.counts.histograms as f64),
    ),
    counter(
        "prometheus_remote_storage_exemplars_in_total",
        "Exemplars that scrapes brought.",
        |intake, points| points.value(intake.counts.exemplars as f64),
    ),
    gauge(
        "prometheus_remote_storage_highest_timestamp_in_seconds",
        "The latest timestamp that scrapes brought.",
        |intake, points| points.value(seconds(intake.highest)),
    ),
    gauge(
        "prometheus_agent_active_series",
        "Series that are written now; of several endpoints that get different ones, the most.",
        |intake, points| points.value(intake.active_series as f64),
    ),
];

/// What an endpoint's requests are signed with.
struct SigningStatus {
    cache: CacheStatus,
    clock_offset_ms: i64,
}

const SIGNING: &[Family<SigningStatus>] = &[
    gauge(
        "promferry_credentials_expiry_timestamp_seconds",
        "When the credentials in use expire; none where they do not.",
        |signing, points| {
            if let Some(at) = signing.cache.expires_at {
                points.value(seconds(Timestamp::from(at)));
            }
        },
    ),
    gauge(
        "promferry_credentials_valid",
        "1 while there are valid credentials; what is to be signed waits otherwise.",
        |signing, points| points.value(if signing.cache.valid { 1.0 } else { 0.0 }),
    ),
    counter(
        "promferry_credentials_refreshes_total",
        "Refreshes of credentials that succeeded, the first included.",
        |signing, points| points.value(signing.cache.refreshes as f64),
    ),
    counter(
        "promferry_credentials_refresh_failures_total",
        "Refreshes of credentials that failed; the status page shows why.",
        |signing, points| points.value(signing.cache.failures as f64),
    ),
    gauge(
        "promferry_clock_offset_seconds",
        "What is added to this machine's clock for signing, since the endpoint's differs by minutes; 0 if not.",
        |signing, points| points.value(signing.clock_offset_ms as f64 / 1000.0),
    ),
];

fn by_outcome(all: u64, taken: u64, points: &mut Points<'_, '_>) {
    points.value_of(&[("outcome", "taken")], taken as f64);
    points.value_of(&[("outcome", "refused")], all.saturating_sub(taken) as f64);
}

/// The version of remote write that an endpoint is sent, and why.
pub(crate) fn protocol_in_use(status: &EndpointStatus) -> (&'static str, &'static str) {
    match status.protocol {
        _ if status.delivery.v1_by_fallback => ("1.0", "2.0 was refused"),
        Protocol::V2 => ("2.0", "configured"),
        _ => ("1.0", "configured"),
    }
}
