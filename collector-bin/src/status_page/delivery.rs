//! What becomes of samples once they are scraped: for each endpoint, and in the spool.

use promferry_remote_write::EndpointStatus;
use promferry_remote_write::encode::DuplicateSeries;
use promferry_remote_write::spool::{SpoolStats, StorageState};

use super::Shown;
use super::html::{Html, ago, bytes, counts, text, trouble};
use crate::self_metrics::protocol_in_use;
use crate::signing::{Signing, Until};

impl Html {
    pub(super) fn delivery(&mut self, shown: &Shown) {
        self.endpoints(shown);
        self.requests(shown);
        self.quotas(&shown.endpoints);
        self.lasting_limits(&shown.endpoints);
        self.dropped(&shown.endpoints);
        self.refusals(shown);
    }

    fn endpoints(&mut self, shown: &Shown) {
        let heads = [
            "endpoint",
            "url",
            "delivered",
            "waiting",
            "oldest that waits",
            "dropped",
            "accepted",
            "last success",
            "last trouble",
        ];
        let row = |endpoint: &EndpointStatus| {
            let (ledger, delivery) = (&endpoint.ledger, &endpoint.delivery);
            let stored = shown.spool.stats.endpoints.iter().find(|stored| stored.key == endpoint.key);
            let oldest = stored.and_then(|stored| stored.oldest_pending);
            let said = delivery.last_error.as_ref();
            let last_trouble = said.map(|error| format!("{}: {}", ago(error.at, shown.now), error.text));
            let is_over = said.is_some_and(|error| error.at <= delivery.last_success);
            let last_trouble = last_trouble.unwrap_or_default();
            [
                text(&endpoint.key),
                text(&endpoint.url),
                counts(ledger.delivered),
                counts(ledger.pending),
                text(oldest.map(|at| ago(at, shown.now)).unwrap_or_default()),
                counts(ledger.dropped_total()),
                counts(ledger.accepted),
                text(ago(delivery.last_success, shown.now)),
                if is_over { text(last_trouble) } else { trouble(last_trouble) },
            ]
        };
        self.table("Delivery", &heads, shown.endpoints.iter().map(row));
    }

    fn requests(&mut self, shown: &Shown) {
        let heads = [
            "endpoint",
            "protocol",
            "attempts",
            "mean attempt",
            "retried",
            "bytes waiting",
            "shards",
            "in flight",
        ];
        let row = |endpoint: &EndpointStatus| {
            let delivery = &endpoint.delivery;
            let stored = shown.spool.stats.endpoints.iter().find(|stored| stored.key == endpoint.key);
            let (version, why) = protocol_in_use(endpoint);
            let mean =
                delivery.attempt_time.checked_div(u32::try_from(delivery.attempts).unwrap_or(u32::MAX));
            let queue = &endpoint.queue;
            [
                text(&endpoint.key),
                text(format!("{version} ({why})")),
                text(delivery.attempts),
                text(mean.map(|mean| format!("{} ms", mean.as_millis())).unwrap_or_default()),
                counts(delivery.retried),
                text(bytes(stored.map_or(0, |stored| stored.pending_bytes))),
                text(format!(
                    "{} of {} to {}, {} needed",
                    delivery.shards, queue.min_shards, queue.max_shards, delivery.shards_desired
                )),
                match delivery.abandoned_lanes {
                    0 => text(delivery.in_flight),
                    lanes => trouble(format!("{}; {lanes} lanes wait for a restart", delivery.in_flight)),
                },
            ]
        };
        self.table("Requests", &heads, shown.endpoints.iter().map(row));
    }

    fn quotas(&mut self, endpoints: &[EndpointStatus]) {
        let rows = endpoints.iter().flat_map(|endpoint| {
            endpoint.limits.iter().map(|usage| {
                let largest: Vec<_> =
                    usage.largest.iter().map(|(job, used)| format!("{job} {used:.0}")).collect();
                [
                    text(&endpoint.key),
                    text(usage.limit),
                    text(format!("{:.0} of {:.0}", usage.used, usage.of)),
                    text(format!("{:.0} %", 100.0 * usage.ratio())),
                    text(largest.join(", ")),
                ]
            })
        });
        self.table("Limits", &["endpoint", "limit", "used", "part", "jobs with the most"], rows);
        let rows = endpoints.iter().flat_map(|endpoint| {
            endpoint.jobs.iter().map(|usage| {
                [
                    text(&endpoint.key),
                    text(&usage.job),
                    text(usage.active_series),
                    text(usage.duplicate_series),
                    text(format!("{:.1}", usage.samples_per_second)),
                ]
            })
        });
        let heads = ["endpoint", "job", "active series", "duplicates not sent", "samples a second"];
        self.table("What jobs write", &heads, rows);
    }

    fn lasting_limits(&mut self, endpoints: &[EndpointStatus]) {
        let concerned = endpoints.iter().filter(|endpoint| {
            let limits = &endpoint.delivery.limits;
            limits.limit.is_some() || limits.parked_series > 0 || limits.held_series > 0
        });
        let rows = concerned.map(|endpoint| {
            let limits = &endpoint.delivery.limits;
            [
                text(&endpoint.key),
                text(limits.limit.as_ref().map(ToString::to_string).unwrap_or_default()),
                text(limits.accepted_series),
                text(limits.parked_series),
                counts(endpoint.ledger.parked),
                text(limits.held_series),
                text(limits.held_out),
                text(format!("{} of {}", limits.probes_taken, limits.probes)),
            ]
        });
        let heads = [
            "endpoint",
            "limit in force",
            "series accepted",
            "series parked",
            "samples parked",
            "series held out",
            "samples of them dropped",
            "probes taken",
        ];
        self.table("Limits that last", &heads, rows);
    }

    fn dropped(&mut self, endpoints: &[EndpointStatus]) {
        let rows = endpoints.iter().flat_map(|endpoint| {
            endpoint.ledger.dropped.iter().map(|(reason, dropped)| {
                let by = if reason.is_refusal() { "the endpoint" } else { "here" };
                [text(&endpoint.key), text(reason), text(by), counts(*dropped)]
            })
        });
        self.table("Dropped", &["endpoint", "reason", "refused", "how much"], rows);
    }

    fn refusals(&mut self, shown: &Shown) {
        let rows = shown.endpoints.iter().flat_map(|endpoint| {
            endpoint.delivery.refusals.iter().map(|(class, refusals)| {
                [
                    text(&endpoint.key),
                    text(class),
                    text(refusals.answers),
                    text(ago(refusals.last, shown.now)),
                    text(refusals.series.clone().unwrap_or_default()),
                ]
            })
        });
        self.table("Refusals", &["endpoint", "class", "answers", "last", "latest series"], rows);
        let rows = shown.endpoints.iter().flat_map(|endpoint| {
            endpoint.delivery.unknown_refusals.iter().rev().map(|refusal| {
                [
                    text(&endpoint.key),
                    text(refusal.status.as_u16()),
                    text(refusal.count),
                    text(ago(refusal.last, shown.now)),
                    text(refusal.request_id.clone().unwrap_or_default()),
                    text(&refusal.body),
                ]
            })
        });
        let heads = ["endpoint", "status", "times", "last", "request id", "text"];
        self.table("Refusals that are not understood", &heads, rows);
    }

    pub(super) fn signing(&mut self, signing: &[Signing]) {
        let rows = signing.iter().map(|signing| {
            let status = signing.credentials.status();
            let offset_ms = signing.credentials.clock().offset_ms();
            [
                text(&signing.endpoint),
                text(status.provider.clone().unwrap_or_default()),
                text(signing.credentials.report()),
                match (status.valid, status.provider) {
                    (true, _) => text(Until(status.expires_at)),
                    (false, Some(_)) => trouble(format!("{}: expired", Until(status.expires_at))),
                    (false, None) => trouble("there are none"),
                },
                text(status.refreshes),
                text(status.failures),
                text(status.last_error.map(|error| error.to_string()).unwrap_or_default()),
                text(if offset_ms == 0 { String::new() } else { format!("{:+} s", offset_ms / 1000) }),
            ]
        });
        let heads = [
            "endpoint",
            "credentials of",
            "looked at",
            "valid",
            "refreshes",
            "failed",
            "why the last failed",
            "AWS' clock beside this machine's",
        ];
        self.table("Signing", &heads, rows);
    }

    pub(super) fn spool(&mut self, spool: &SpoolStats) {
        if let StorageState::Degraded { error, .. } = &spool.storage {
            let text = format!("The disk fails; what it does not take is kept in memory: {error}");
            self.paragraph("bad", &text);
        }
        let rows = spool.logs.iter().map(|log| {
            [
                text(&log.key),
                text(log.segments),
                text(bytes(log.bytes)),
                text(bytes(log.memory_bytes)),
                text(bytes(log.max_bytes)),
            ]
        });
        self.table("Spool", &["log", "segments", "bytes", "of them in memory", "at most"], rows);
    }

    pub(super) fn duplicates(&mut self, duplicates: &[DuplicateSeries]) {
        let rows = duplicates.iter().rev().map(|duplicate| [text(&duplicate.labels), text(&duplicate.owner)]);
        self.table("Series with the same labels as others once they leave", &["series", "sent by"], rows);
    }
}
