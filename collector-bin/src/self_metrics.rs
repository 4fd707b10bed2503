//! The collector's own metrics.

use promferry_exposition::{Encoder, Format};
use promferry_model::{MetadataView, MetricType, Purpose, Timestamp};
use promferry_remote_write::spool::{SpoolStats, StorageState};
use promferry_remote_write::{Counts, EndpointStatus};

use crate::pipeline::Pipeline;

/// The collector's own metrics as a page; Prometheus' names where it has one for the same thing.
pub async fn page(pipeline: &Pipeline, format: Format) -> (String, Vec<u8>) {
    let mut page = Page { encoder: Encoder::new(format) };
    page.build();
    page.process(pipeline);
    page.scraping(pipeline);
    page.discovery(pipeline);
    if let (Ok(endpoints), Ok(spool)) = (pipeline.endpoints().await, pipeline.spool().await) {
        page.delivery(&endpoints, &spool);
        page.spool(&spool);
    }
    page.credentials(pipeline);
    (page.encoder.content_type().to_owned(), page.encoder.finish())
}

struct Page {
    encoder: Encoder,
}

type Point<'a> = (&'a [(&'a str, &'a str)], f64);

impl Page {
    fn family<'a>(
        &mut self,
        metric_type: MetricType,
        family: &str,
        help: &str,
        points: impl IntoIterator<Item = Point<'a>>,
    ) {
        // In OpenMetrics the sample's suffix is not part of the family's name.
        let family =
            if metric_type == MetricType::Counter { family.trim_end_matches("_total") } else { family };
        let mut written = self.encoder.family(MetadataView { family, metric_type, unit: "", help });
        for (labels, value) in points {
            written.number(labels, value);
        }
    }

    fn gauge<'a>(&mut self, family: &str, help: &str, points: impl IntoIterator<Item = Point<'a>>) {
        self.family(MetricType::Gauge, family, help, points);
    }

    fn counter<'a>(&mut self, family: &str, help: &str, points: impl IntoIterator<Item = Point<'a>>) {
        self.family(MetricType::Counter, family, help, points);
    }

    fn build(&mut self) {
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        self.gauge("promferry_build_info", "The version that runs.", [(&labels[..], 1.0)]);
    }

    fn process(&mut self, pipeline: &Pipeline) {
        let (budget, limits) = (pipeline.budget(), pipeline.limits());
        self.gauge(
            "promferry_memory_budget_bytes",
            "Bytes that data may take.",
            [(&[][..], budget.limit() as f64)],
        );
        let used: Vec<_> = Purpose::ALL
            .iter()
            .map(|&purpose| ([("purpose", purpose.as_str())], budget.used_by(purpose) as f64))
            .collect();
        self.gauge("promferry_memory_reserved_bytes", "Bytes reserved of the budget.", points(&used));
        self.gauge(
            "promferry_memory_reserved_bytes_max",
            "The most reserved at once.",
            [(&[][..], budget.peak() as f64)],
        );
        self.gauge("promferry_cpu_limit_cores", "Cores that the process may use.", [(&[][..], limits.cpus)]);
        let late = pipeline.heartbeat().take_worst().as_secs_f64();
        self.gauge(
            "promferry_timer_lag_seconds",
            "The latest timer since the last scrape of this page.",
            [(&[][..], late)],
        );
        let resident = resident_bytes().unwrap_or_default();
        self.gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            [(&[][..], resident as f64)],
        );
    }

    fn scraping(&mut self, pipeline: &Pipeline) {
        let jobs = pipeline.scraper().stats();
        let labels: Vec<_> = jobs.keys().map(|job| [("job", job.as_str())]).collect();
        let each = |value: fn(&promferry_scrape::JobStats) -> u64| {
            labels.iter().zip(jobs.values()).map(move |(labels, stats)| (&labels[..], value(stats) as f64))
        };
        self.counter(
            "promferry_scrapes_scheduled_total",
            "Moments at which a target was to be scraped.",
            each(|s| s.ledger.scheduled),
        );
        self.counter(
            "promferry_scrapes_scraped_total",
            "Scrapes whose page was taken.",
            each(|s| s.ledger.scraped),
        );
        for (family, help, reasons) in [
            (
                "promferry_scrapes_failed_total",
                "Scrapes that failed.",
                jobs.values().map(|s| &s.ledger.failed).collect::<Vec<_>>(),
            ),
            (
                "promferry_scrapes_missed_total",
                "Moments at which no scrape was tried.",
                jobs.values().map(|s| &s.ledger.missed).collect(),
            ),
        ] {
            let counted: Vec<_> = jobs
                .keys()
                .zip(reasons)
                .flat_map(|(job, reasons)| {
                    reasons
                        .iter()
                        .map(move |(reason, &n)| ([("job", job.as_str()), ("reason", *reason)], n as f64))
                })
                .collect();
            self.counter(family, help, points(&counted));
        }
        self.gauge("promferry_targets", "Targets scraped now.", each(|s| s.targets));
        self.gauge("promferry_target_series", "Series known of the targets scraped now.", each(|s| s.series));
        self.counter("promferry_samples_scraped_total", "Samples on pages.", each(|s| s.samples_scraped));
        self.counter(
            "promferry_samples_post_metric_relabeling_total",
            "Samples left after metric relabelling.",
            each(|s| s.samples_post_metric_relabeling),
        );
        self.counter(
            "prometheus_target_scrapes_sample_duplicate_timestamp_total",
            "Samples left out: the page had the series before.",
            each(|s| s.samples_duplicate),
        );
        self.counter(
            "prometheus_target_scrapes_sample_out_of_bounds_total",
            "Samples left out: too far in the future.",
            each(|s| s.samples_out_of_bounds),
        );
        self.counter(
            "prometheus_target_scrapes_sample_out_of_order_total",
            "Samples left out: not later than the last.",
            each(|s| s.samples_out_of_order),
        );
        self.counter(
            "prometheus_target_scrapes_exceeded_sample_limit_total",
            "Scrapes failed by sample_limit.",
            each(|s| s.exceeded_sample_limit),
        );
        self.counter(
            "prometheus_target_scrapes_exceeded_body_size_limit_total",
            "Scrapes failed by body_size_limit.",
            each(|s| s.exceeded_body_size_limit),
        );
        self.counter(
            "prometheus_target_scrape_pool_exceeded_label_limits_total",
            "Scrapes failed by a label limit.",
            each(|s| s.exceeded_label_limits),
        );
        self.counter(
            "prometheus_target_scrape_pool_exceeded_target_limit_total",
            "Updates with more targets than target_limit.",
            each(|s| s.exceeded_target_limit),
        );
        let refused: Vec<_> = jobs
            .iter()
            .flat_map(|(job, s)| {
                [
                    ("over_budget", s.refused_over_budget),
                    ("owned_by_other_target", s.refused_owned_elsewhere),
                    ("too_many", s.refused_too_many),
                ]
                .map(|(reason, n)| ([("job", job.as_str()), ("reason", reason)], n as f64))
            })
            .collect();
        self.counter(
            "promferry_samples_refused_total",
            "Samples of new series that were not taken.",
            points(&refused),
        );
        self.counter("promferry_scrape_panics_total", "Pages whose reading panicked.", each(|s| s.panics));
        self.counter(
            "promferry_scrape_loop_restarts_total",
            "Loops that panicked and were started again.",
            each(|s| s.loop_restarts),
        );
        self.counter(
            "promferry_scrape_bytes_received_total",
            "Bytes of pages as received.",
            each(|s| s.bytes_received),
        );
        self.counter(
            "promferry_scrape_bytes_inflated_total",
            "Bytes of pages once inflated.",
            each(|s| s.bytes_inflated),
        );
    }

    fn discovery(&mut self, pipeline: &Pipeline) {
        let mechanisms = pipeline.discovery();
        let labels: Vec<_> = mechanisms
            .iter()
            .map(|m| [("mechanism", m.mechanism), ("subject", m.subject.as_str())])
            .collect();
        let each = |value: fn(&promferry_discovery::MechanismStatus) -> u64| {
            labels.iter().zip(&mechanisms).map(move |(labels, status)| (&labels[..], value(status) as f64))
        };
        self.gauge(
            "promferry_discovered_targets",
            "Targets that a mechanism names.",
            each(|m| m.targets as u64),
        );
        self.counter(
            "promferry_discovery_refreshes_total",
            "Tries to find out.",
            each(|m| m.refreshes_total),
        );
        self.counter("promferry_discovery_failures_total", "Tries that failed.", each(|m| m.failures_total));
    }

    fn delivery(&mut self, endpoints: &[EndpointStatus], spool: &SpoolStats) {
        let labels: Vec<_> =
            endpoints.iter().map(|e| [("remote_name", e.key.as_str()), ("url", e.url.as_str())]).collect();
        let each = |value: fn(&EndpointStatus) -> f64| {
            labels.iter().zip(endpoints).map(move |(labels, endpoint)| (&labels[..], value(endpoint)))
        };
        for (kind, of) in KINDS {
            let counted = |what: fn(&EndpointStatus) -> Counts| {
                labels
                    .iter()
                    .zip(endpoints)
                    .map(move |(labels, endpoint)| (&labels[..], of(what(endpoint)) as f64))
            };
            self.counter(
                &format!("promferry_remote_{kind}_accepted_total"),
                "Handed over for the endpoint.",
                counted(|e| e.ledger.accepted),
            );
            self.counter(
                &format!("prometheus_remote_storage_{kind}_total"),
                "Delivered to the endpoint.",
                counted(|e| e.ledger.delivered),
            );
            self.counter(
                &format!("prometheus_remote_storage_{kind}_retried_total"),
                "In attempts that were repeated.",
                counted(|e| e.delivery.retried),
            );
            self.gauge(
                &format!("prometheus_remote_storage_{kind}_pending"),
                "Stored or in flight.",
                counted(|e| e.ledger.pending),
            );
            let dropped: Vec<_> = endpoints
                .iter()
                .flat_map(|e| {
                    e.ledger.dropped.iter().map(|(reason, counts)| {
                        (
                            [
                                ("remote_name", e.key.as_str()),
                                ("url", e.url.as_str()),
                                ("reason", reason.as_str()),
                            ],
                            of(*counts) as f64,
                        )
                    })
                })
                .collect();
            self.counter(
                &format!("prometheus_remote_storage_{kind}_dropped_total"),
                "Given up.",
                points(&dropped),
            );
        }
        self.counter(
            "prometheus_remote_storage_bytes_total",
            "Bytes delivered, compressed.",
            each(|e| e.delivery.bytes as f64),
        );
        self.counter(
            "prometheus_remote_storage_metadata_bytes_total",
            "Bytes of metadata delivered, compressed.",
            each(|e| e.delivery.metadata_bytes as f64),
        );
        self.counter(
            "prometheus_remote_storage_metadata_total",
            "Metadata entries delivered.",
            each(|e| e.delivery.metadata as f64),
        );
        self.counter(
            "prometheus_remote_storage_metadata_failed_total",
            "Metadata entries given up.",
            each(|e| e.delivery.metadata_failed as f64),
        );
        self.gauge(
            "prometheus_remote_storage_shards",
            "Requests that may be in flight at once.",
            each(|e| e.delivery.shards as f64),
        );
        self.gauge(
            "promferry_remote_requests_in_flight",
            "Requests in flight.",
            each(|e| e.delivery.in_flight as f64),
        );
        self.gauge(
            "promferry_remote_queued_bytes",
            "Bytes read ahead from the spool.",
            each(|e| e.delivery.queued_bytes as f64),
        );
        self.counter(
            "promferry_remote_attempt_seconds_total",
            "Time spent in attempts.",
            each(|e| e.delivery.attempt_time.as_secs_f64()),
        );
        self.gauge(
            "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
            "The latest timestamp delivered.",
            each(|e| seconds(e.delivery.highest_sent)),
        );
        let requests: Vec<_> = endpoints
            .iter()
            .flat_map(|e| {
                e.delivery.requests.iter().map(|(outcome, &n)| {
                    (
                        [("remote_name", e.key.as_str()), ("url", e.url.as_str()), ("outcome", *outcome)],
                        n as f64,
                    )
                })
            })
            .collect();
        self.counter(
            "promferry_remote_attempts_total",
            "Attempts by what became of them.",
            points(&requests),
        );
        let active: Vec<_> = endpoints
            .iter()
            .flat_map(|e| {
                e.jobs.iter().map(|usage| {
                    let labels = [
                        ("remote_name", e.key.as_str()),
                        ("url", e.url.as_str()),
                        ("job", usage.job.as_str()),
                    ];
                    (labels, usage.active_series as f64)
                })
            })
            .collect();
        self.gauge(
            "promferry_remote_active_series",
            "Series that are written now, each once.",
            points(&active),
        );
        let oldest: Vec<_> = spool
            .endpoints
            .iter()
            .filter_map(|e| Some(([("remote_name", e.key.as_str())], seconds(e.oldest_pending?))))
            .collect();
        self.gauge(
            "promferry_remote_oldest_pending_timestamp_seconds",
            "The oldest timestamp that waits.",
            points(&oldest),
        );
    }

    fn spool(&mut self, spool: &SpoolStats) {
        let labels: Vec<_> = spool.logs.iter().map(|log| [("log", log.key.as_str())]).collect();
        let logs = labels.iter().zip(&spool.logs);
        self.gauge(
            "promferry_spool_bytes",
            "Bytes stored.",
            logs.clone().map(|(l, log)| (&l[..], log.bytes as f64)),
        );
        self.gauge(
            "promferry_spool_memory_bytes",
            "Bytes of them in memory, because the disk failed.",
            logs.clone().map(|(l, log)| (&l[..], log.memory_bytes as f64)),
        );
        self.gauge(
            "promferry_spool_max_bytes",
            "Bytes at which the oldest goes.",
            logs.clone().map(|(l, log)| (&l[..], log.max_bytes as f64)),
        );
        self.gauge(
            "promferry_spool_segments",
            "Segments.",
            logs.map(|(l, log)| (&l[..], log.segments as f64)),
        );
        let degraded = f64::from(u8::from(spool.storage != StorageState::Healthy));
        self.gauge("promferry_spool_degraded", "1 while the disk fails.", [(&[][..], degraded)]);
    }

    fn credentials(&mut self, pipeline: &Pipeline) {
        let status: Vec<_> =
            pipeline.credentials().iter().map(|(key, cached)| (key, cached.status())).collect();
        let labels: Vec<_> = status.iter().map(|(key, _)| [("remote_name", key.as_str())]).collect();
        let expiry = labels.iter().zip(&status).filter_map(|(labels, (_, status))| {
            Some((&labels[..], seconds(Timestamp::from(status.expires_at?))))
        });
        self.gauge(
            "promferry_credentials_expiry_timestamp_seconds",
            "When the credentials in use expire.",
            expiry,
        );
    }
}

type Kind = (&'static str, fn(Counts) -> u64);

const KINDS: [Kind; 3] =
    [("samples", |c| c.samples), ("histograms", |c| c.histograms), ("exemplars", |c| c.exemplars)];

fn points<'a, const N: usize>(
    owned: &'a [([(&'a str, &'a str); N], f64)],
) -> impl Iterator<Item = Point<'a>> {
    owned.iter().map(|(labels, value)| (&labels[..], *value))
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}
