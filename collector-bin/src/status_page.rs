//! The page for people: what is scraped, what is delivered, and what is in the way.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use promferry_model::{Clock as _, SystemClock, Timestamp};
use promferry_remote_write::encode::DuplicateSeries;
use promferry_remote_write::spool::{SpoolStats, StorageState};
use promferry_remote_write::{Counts, EndpointStatus};
use promferry_scrape::{JobStats, PoolStatus};

use crate::pipeline::{DeliveryStatus, Pipeline};
use crate::self_metrics::protocol_in_use;
use crate::signing::{Signing, Until};

/// The page as HTML. Everything on it is escaped, and no secret is on it: URLs are without users, passwords and
/// the values of queries, and texts of endpoints are redacted where they are kept.
pub(crate) async fn page(pipeline: &Pipeline, title: &str, _query: &str) -> String {
    let mut page = Html::new(title);
    let now = SystemClock::new().now();
    let DeliveryStatus { endpoints, spool } = pipeline.delivery().await;
    page.held_up(spool.age);
    page.delivery(&endpoints, &spool.stats, now);
    page.quotas(&endpoints);
    page.lasting_limits(&endpoints);
    page.dropped(&endpoints);
    page.refusals(&endpoints, now);
    page.signing(&pipeline.signing());
    page.spool(&spool.stats);
    page.duplicates(&pipeline.remote().duplicates());
    page.scraping(pipeline.scraper().stats().iter().map(|(job, stats)| (job.as_str(), stats)));
    page.targets(&pipeline.scraper().status());
    page.end()
}

/// The most targets that the page lists of a job; `/api/v1/targets` has all.
const SHOWN_TARGETS: usize = 200;

/// The spool publishes how it stands about once a second.
const HELD_UP_AFTER: Duration = Duration::from_secs(2);

struct Html(String);

const HEAD: &str = "<link rel=\"icon\" href=\"data:,\"><style>body{font:14px sans-serif;margin:1.5em}\
     table{border-collapse:collapse;margin-bottom:1em}td,th{border:1px solid #ccc;padding:2px 8px;text-align:left;\
     vertical-align:top}th{background:#eee}</style>";

impl Html {
    fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>{HEAD}</head><body>\
             <h1>{title}</h1><p><a href=\"metrics\">metrics</a> <a href=\"api/v1/targets\">targets</a></p>"
        ))
    }

    fn end(mut self) -> String {
        self.0.push_str("</body></html>\n");
        self.0
    }

    /// A table under its title; nothing when it has no rows.
    fn table(&mut self, title: &str, heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = write!(self.0, "<h2>{title}</h2><table><tr>");
        for head in heads {
            let _ = write!(self.0, "<th>{head}</th>");
        }
        self.0.push_str("</tr>");
        for row in rows {
            self.0.push_str("<tr>");
            for cell in row {
                let _ = write!(self.0, "<td>{}</td>", escape(&cell));
            }
            self.0.push_str("</tr>");
        }
        self.0.push_str("</table>");
    }

    fn held_up(&mut self, age: Duration) {
        if age >= HELD_UP_AFTER {
            let seconds = age.as_secs();
            let _ = write!(
                self.0,
                "<p><b>The disk has not answered for {seconds} s: delivery and spool are shown as they were \
                 then</b></p>"
            );
        }
    }

    fn delivery(&mut self, endpoints: &[EndpointStatus], spool: &SpoolStats, now: Timestamp) {
        let heads = [
            "endpoint",
            "url",
            "protocol",
            "accepted",
            "delivered",
            "dropped",
            "waiting",
            "oldest that waits",
            "bytes waiting",
            "retried",
            "attempts",
            "mean attempt",
            "shards",
            "in flight",
            "last success",
            "last trouble",
        ];
        let row = |endpoint: &EndpointStatus| {
            let (ledger, delivery) = (&endpoint.ledger, &endpoint.delivery);
            let stored = spool.endpoints.iter().find(|stored| stored.key == endpoint.key);
            let oldest = stored.and_then(|stored| stored.oldest_pending);
            let (version, why) = protocol_in_use(endpoint);
            let mean =
                delivery.attempt_time.checked_div(u32::try_from(delivery.attempts).unwrap_or(u32::MAX));
            let queue = &endpoint.queue;
            vec![
                endpoint.key.clone(),
                endpoint.url.clone(),
                format!("{version} ({why})"),
                counts(ledger.accepted),
                counts(ledger.delivered),
                counts(ledger.dropped_total()),
                counts(ledger.pending),
                oldest.map(|at| ago(at, now)).unwrap_or_default(),
                text(stored.map_or(0, |stored| stored.pending_bytes)),
                counts(delivery.retried),
                text(delivery.attempts),
                mean.map(|mean| format!("{} ms", mean.as_millis())).unwrap_or_default(),
                format!(
                    "{} of {} to {}, {} needed",
                    delivery.shards, queue.min_shards, queue.max_shards, delivery.shards_desired
                ),
                match delivery.abandoned_lanes {
                    0 => text(delivery.in_flight),
                    lanes => format!("{}; {lanes} lanes wait for a restart", delivery.in_flight),
                },
                ago(delivery.last_success, now),
                delivery
                    .last_error
                    .as_ref()
                    .map(|error| format!("{}: {}", ago(error.at, now), error.text))
                    .unwrap_or_default(),
            ]
        };
        self.table("Delivery", &heads, endpoints.iter().map(row));
    }

    fn quotas(&mut self, endpoints: &[EndpointStatus]) {
        let rows = endpoints.iter().flat_map(|endpoint| {
            endpoint.limits.iter().map(|usage| {
                let largest: Vec<_> =
                    usage.largest.iter().map(|(job, used)| format!("{job} {used:.0}")).collect();
                vec![
                    endpoint.key.clone(),
                    usage.limit.to_owned(),
                    format!("{:.0} of {:.0}", usage.used, usage.of),
                    format!("{:.0} %", 100.0 * usage.ratio()),
                    largest.join(", "),
                ]
            })
        });
        self.table("Limits", &["endpoint", "limit", "used", "part", "jobs with the most"], rows);
        let rows = endpoints.iter().flat_map(|endpoint| {
            endpoint.jobs.iter().map(|usage| {
                vec![
                    endpoint.key.clone(),
                    text(&usage.job),
                    text(usage.active_series),
                    text(usage.duplicate_series),
                    format!("{:.1}", usage.samples_per_second),
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
            vec![
                endpoint.key.clone(),
                limits.limit.as_ref().map(text).unwrap_or_default(),
                text(limits.accepted_series),
                text(limits.parked_series),
                counts(endpoint.ledger.parked),
                text(limits.held_series),
                text(limits.held_out),
                format!("{} of {}", limits.probes_taken, limits.probes),
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
                vec![endpoint.key.clone(), text(reason), by.to_owned(), counts(*dropped)]
            })
        });
        self.table("Dropped", &["endpoint", "reason", "refused", "how much"], rows);
    }

    fn refusals(&mut self, endpoints: &[EndpointStatus], now: Timestamp) {
        let rows = endpoints.iter().flat_map(|endpoint| {
            endpoint.delivery.refusals.iter().map(|(class, refusals)| {
                vec![
                    endpoint.key.clone(),
                    (*class).to_owned(),
                    text(refusals.answers),
                    ago(refusals.last, now),
                    refusals.series.clone().unwrap_or_default(),
                ]
            })
        });
        self.table("Refusals", &["endpoint", "class", "answers", "last", "latest series"], rows);
        let rows = endpoints.iter().flat_map(|endpoint| {
            endpoint.delivery.unknown_refusals.iter().rev().map(|refusal| {
                vec![
                    endpoint.key.clone(),
                    text(refusal.status.as_u16()),
                    text(refusal.count),
                    ago(refusal.last, now),
                    refusal.request_id.clone().unwrap_or_default(),
                    refusal.body.clone(),
                ]
            })
        });
        let heads = ["endpoint", "status", "times", "last", "request id", "text"];
        self.table("Refusals that are not understood", &heads, rows);
    }

    fn signing(&mut self, signing: &[Signing]) {
        let rows = signing.iter().map(|signing| {
            let status = signing.credentials.status();
            let offset_ms = signing.credentials.clock().offset_ms();
            vec![
                signing.endpoint.clone(),
                status.provider.clone().unwrap_or_default(),
                text(signing.credentials.report()),
                match (status.valid, status.provider) {
                    (true, _) => text(Until(status.expires_at)),
                    (false, Some(_)) => format!("{}: expired", Until(status.expires_at)),
                    (false, None) => "there are none".to_owned(),
                },
                text(status.refreshes),
                text(status.failures),
                status.last_error.map(text).unwrap_or_default(),
                if offset_ms == 0 { String::new() } else { format!("{:+} s", offset_ms / 1000) },
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

    fn spool(&mut self, spool: &SpoolStats) {
        if let StorageState::Degraded { error, .. } = &spool.storage {
            let _ = write!(
                self.0,
                "<p><b>The disk fails; what it does not take is kept in memory: {}</b></p>",
                escape(error)
            );
        }
        let rows = spool.logs.iter().map(|log| {
            vec![
                log.key.clone(),
                text(log.segments),
                text(log.bytes),
                text(log.memory_bytes),
                text(log.max_bytes),
            ]
        });
        self.table("Spool", &["log", "segments", "bytes", "of them in memory", "at most"], rows);
    }

    fn duplicates(&mut self, duplicates: &[DuplicateSeries]) {
        let rows =
            duplicates.iter().rev().map(|duplicate| vec![text(&duplicate.labels), text(&duplicate.owner)]);
        self.table("Series with the same labels as others once they leave", &["series", "sent by"], rows);
    }

    fn scraping<'a>(&mut self, jobs: impl Iterator<Item = (&'a str, &'a JobStats)>) {
        let rows = jobs.map(|(job, stats)| {
            let ledger = &stats.ledger;
            let reasons = |reasons: &std::collections::BTreeMap<&str, u64>| {
                let reasons: Vec<_> = reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
                reasons.join(", ")
            };
            vec![
                job.to_owned(),
                text(stats.targets),
                text(stats.series),
                text(ledger.scheduled),
                text(ledger.scraped),
                reasons(&ledger.failed),
                reasons(&ledger.missed),
            ]
        });
        let heads = ["job", "targets", "series", "scheduled", "scraped", "failed", "missed"];
        self.table("Scraping", &heads, rows);
    }

    fn targets(&mut self, pools: &[PoolStatus]) {
        let rows = pools.iter().flat_map(|pool| {
            let left = pool.active.len().saturating_sub(SHOWN_TARGETS);
            let more = (left > 0).then(|| vec![text(&pool.scrape_pool), format!("and {left} more")]);
            let shown = pool.active.iter().take(SHOWN_TARGETS).map(|target| {
                vec![
                    text(&pool.scrape_pool),
                    target.scrape_url.clone(),
                    target.health.as_str().to_owned(),
                    target.last_error.clone(),
                ]
            });
            shown.chain(more)
        });
        self.table("Targets", &["job", "target", "health", "last error"], rows);
    }
}

fn text(value: impl Display) -> String {
    value.to_string()
}

/// Samples, and the other kinds where there are any.
fn counts(counts: Counts) -> String {
    let mut shown = counts.samples.to_string();
    for (count, kind) in [(counts.histograms, "histograms"), (counts.exemplars, "exemplars")] {
        if count > 0 {
            let _ = write!(shown, ", {count} {kind}");
        }
    }
    shown
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    if at == Timestamp::default() {
        return "never".to_owned();
    }
    format!("{} s ago", now.since(at).as_secs())
}

/// Text from outside, fit to stand in a page.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
