use promferry_remote_write::spool::{LogStats, SpoolStats, StorageState};

use super::{Family, Page, counter, gauge};

pub(super) fn write(page: &mut Page, spool: &SpoolStats) {
    let logs: Vec<_> = spool.logs.iter().map(|log| (vec![("log", log.key.as_str())], log)).collect();
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

const SPOOL: &[Family<SpoolStats>] = &[
    gauge("promferry_spool_degraded", "1 while the disk fails.", |spool, points| {
        points.value(f64::from(u8::from(spool.storage != StorageState::Healthy)));
    }),
    counter(
        "promferry_spool_settle_mismatches_total",
        "Settlements whose sums were not those of what was settled: a fault of the program.",
        |spool, points| points.value(spool.settle_mismatches as f64),
    ),
    gauge(
        "promferry_spool_left_behind_samples",
        "Samples that wait for endpoints which are not configured any more.",
        |spool, points| {
            for endpoint in spool.endpoints.iter().filter(|endpoint| !endpoint.attached) {
                points.value_of(&[("remote_name", &endpoint.key)], endpoint.ledger.pending.samples as f64);
            }
        },
    ),
];
