use promferry_remote_write::spool::{LogStats, PublishedStats, StorageState};

use super::{Family, Page, counter, gauge};

pub(super) fn write(page: &mut Page, spool: &PublishedStats) {
    let logs: Vec<_> = spool.stats.logs.iter().map(|log| (vec![("log", log.key.as_str())], log)).collect();
    page.write(LOGS, &logs);
    page.write(SPOOL, &[(Vec::new(), spool)]);
}

const LOGS: &[Family<LogStats>] = &[
    gauge("promferry_spool_bytes", "Bytes stored.", |log, points| points.value(log.bytes as f64)),
    gauge(
        "promferry_spool_memory_bytes",
        "Bytes of them in memory, because the disk failed.",
        |log, points| points.value(log.memory_bytes as f64),
    ),
    gauge("promferry_spool_max_bytes", "Bytes at which the oldest goes.", |log, points| {
        points.value(log.max_bytes as f64);
    }),
    gauge("promferry_spool_segments", "Segments.", |log, points| points.value(log.segments as f64)),
];

const SPOOL: &[Family<PublishedStats>] = &[
    gauge(
        "promferry_spool_stats_age_seconds",
        "How old it is what this page says of the spool and of delivery; seconds while the disk does not answer.",
        |spool, points| points.value(spool.age.as_secs_f64()),
    ),
    gauge("promferry_spool_degraded", "1 while the disk fails.", |spool, points| {
        points.value(f64::from(u8::from(spool.stats.storage != StorageState::Healthy)));
    }),
    counter(
        "promferry_spool_settle_mismatches_total",
        "Settlements whose sums were not those of what was settled: a fault of the program.",
        |spool, points| points.value(spool.stats.settle_mismatches as f64),
    ),
    gauge(
        "promferry_spool_left_behind_samples",
        "Samples that wait for endpoints which are not configured any more.",
        |spool, points| {
            for endpoint in spool.stats.endpoints.iter().filter(|endpoint| !endpoint.attached) {
                points.value_of(&[("remote_name", &endpoint.key)], endpoint.ledger.pending.samples as f64);
            }
        },
    ),
];
