//! How everything stands, in a sentence and in the row of boxes that samples pass.

use std::collections::BTreeMap;
use std::time::Duration;

use promferry_model::Timestamp;
use promferry_remote_write::{Counts, EndpointStatus};

use super::html::{Html, ago, bytes, grouped, time};
use super::{Shown, targets};

impl Html {
    pub(super) fn overview(&mut self, shown: &Shown) {
        let flow = Flow::of(shown);
        let standing = Standing::of(shown, &flow);
        self.paragraph(if standing.is_well { "standing well" } else { "standing bad" }, &standing.sentence);
        self.flow(flow.boxes(shown));
    }
}

/// What there is on each stage of the way.
#[derive(Debug, Default)]
pub(super) struct Flow {
    discovered: u64,
    kept: u64,
    up: u64,
    down: u64,
    series: u64,
    samples_per_second: f64,
    waiting: u64,
    waiting_bytes: u64,
    oldest: Option<Timestamp>,
    delivered: u64,
    last_success: Timestamp,
    /// By the endpoints.
    refused: u64,
    /// Before they were sent.
    given_up: u64,
}

impl Flow {
    fn of(shown: &Shown) -> Self {
        let mut flow = Self::default();
        for pool in &shown.pools {
            flow.discovered += pool.discovered;
            flow.kept += pool.active;
            flow.up += pool.up;
            flow.down += pool.down;
        }
        flow.series = shown.jobs.values().map(|job| job.series).sum();
        for endpoint in &shown.endpoints {
            // What is scraped goes to each endpoint; relabelling may keep a part from some.
            let rate: f64 = endpoint.jobs.iter().map(|job| job.samples_per_second).sum();
            flow.samples_per_second = flow.samples_per_second.max(rate);
            flow.waiting += values(endpoint.ledger.pending);
            flow.delivered += values(endpoint.ledger.delivered);
            flow.last_success = flow.last_success.max(endpoint.delivery.last_success);
            for (reason, counts) in &endpoint.ledger.dropped {
                let of_kind = if reason.is_refusal() { &mut flow.refused } else { &mut flow.given_up };
                *of_kind += values(*counts);
            }
            let stored = shown.spool.stats.endpoints.iter().find(|stored| stored.key == endpoint.key);
            if let Some(stored) = stored {
                flow.waiting_bytes += stored.pending_bytes;
                flow.oldest = match (flow.oldest, stored.oldest_pending) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
        }
        flow
    }

    fn boxes(&self, shown: &Shown) -> [(&'static str, String, String, bool); 7] {
        let unscraped = self.kept.saturating_sub(self.up + self.down);
        let up_note = [(self.down, "down"), (unscraped, "not scraped yet")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", grouped(count)))
            .collect::<Vec<_>>()
            .join(", ");
        let left_out = self.discovered.saturating_sub(self.kept);
        let kept_note = if left_out > 0 { format!("{} left out", grouped(left_out)) } else { String::new() };
        let waiting_note = match self.oldest.filter(|_| self.waiting > 0) {
            Some(oldest) => {
                format!("{}, oldest {}", bytes(self.waiting_bytes), time(shown.now.since(oldest)))
            }
            None => String::new(),
        };
        let delivered_note = match shown.endpoints.len() {
            0 => "no remote_write".to_owned(),
            _ if self.last_success == Timestamp::default() => {
                "nothing since the start or a reload".to_owned()
            }
            1 => ago(self.last_success, shown.now),
            endpoints => format!("to {endpoints} endpoints, {}", ago(self.last_success, shown.now)),
        };
        let given_up = if self.given_up > 0 {
            format!("and {} given up", grouped(self.given_up))
        } else {
            String::new()
        };
        let jobs = shown.pools.len();
        let jobs = format!("{jobs} {}", if jobs == 1 { "job" } else { "jobs" });
        [
            ("discovered", grouped(self.discovered), jobs, self.discovered == 0),
            ("kept", grouped(self.kept), kept_note, self.kept == 0),
            ("up", grouped(self.up), up_note, self.down > 0),
            (
                "samples a second",
                grouped(self.samples_per_second.round() as u64),
                format!("{} series", grouped(self.series)),
                false,
            ),
            ("waiting", grouped(self.waiting), waiting_note, is_stuck(shown)),
            ("delivered", grouped(self.delivered), delivered_note, false),
            ("refused", grouped(self.refused), given_up, self.refused + self.given_up > 0),
        ]
    }
}

/// Samples and native histograms: exemplars travel with them.
fn values(counts: Counts) -> u64 {
    counts.samples + counts.histograms
}

fn is_stuck(shown: &Shown) -> bool {
    shown.endpoints.iter().any(|endpoint| takes_nothing(endpoint).is_some())
}

/// The trouble of an endpoint that has taken nothing since.
fn takes_nothing(endpoint: &EndpointStatus) -> Option<&str> {
    let error = endpoint.delivery.last_error.as_ref()?;
    let is_stuck = error.at > endpoint.delivery.last_success && values(endpoint.ledger.pending) > 0;
    is_stuck.then_some(error.text.as_str())
}

/// How it stands, in a sentence.
#[derive(Debug)]
struct Standing {
    is_well: bool,
    sentence: String,
}

impl Standing {
    fn of(shown: &Shown, flow: &Flow) -> Self {
        let mut troubles = Vec::new();
        if !shown.is_working {
            troubles.push(
                "what is discovered is not scraped, or nothing is stored any more: restart the process"
                    .to_owned(),
            );
        }
        if let Some(error) = shown.configuration.error() {
            troubles.push(format!(
                "the configuration as it is now can't be used, so the one of {} ago stays in force: {error}",
                time(shown.configuration.age())
            ));
        }
        if let Some(age) = shown.held_up() {
            let age = time(age);
            troubles.push(format!(
                "the disk has not answered for {age}, and delivery and spool are shown as they were then"
            ));
        }
        troubles.extend(no_targets(shown, flow));
        if flow.down > 0 {
            let reason = commonest_reason(shown.listed.down_for());
            troubles.push(format!(
                "{} of {} targets {} down{reason}",
                grouped(flow.down),
                grouped(flow.kept),
                if flow.down == 1 { "is" } else { "are" }
            ));
        }
        for endpoint in &shown.endpoints {
            if let Some(error) = takes_nothing(endpoint) {
                let since = match endpoint.delivery.last_success {
                    never if never == Timestamp::default() && endpoint.ledger.delivered.values() == 0 => {
                        "has taken nothing yet".to_owned()
                    }
                    never if never == Timestamp::default() => {
                        "has taken nothing since the start or a reload".to_owned()
                    }
                    at => format!("has taken nothing for {}", time(shown.now.since(at))),
                };
                troubles.push(format!("{} {since}: {error}", endpoint.key));
            }
        }
        if !troubles.is_empty() {
            return Self { is_well: false, sentence: sentence(&troubles) };
        }
        Self { is_well: true, sentence: sentence(&[well(shown, flow)]) }
    }
}

/// Why there is nothing to scrape, if there is not.
fn no_targets(shown: &Shown, flow: &Flow) -> Option<String> {
    if flow.kept > 0 {
        return None;
    }
    if shown.pools.is_empty() {
        return Some("nothing is scraped: the configuration has no scrape_configs".to_owned());
    }
    let mut reasons = shown.pools.iter().filter_map(|pool| {
        let reason = targets::why_none(pool, &shown.mechanisms)?;
        Some(format!("{}: {reason}", pool.scrape_pool))
    });
    let first = reasons.next().unwrap_or_default();
    let more = match reasons.count() {
        0 => String::new(),
        more => format!(" (and {more} more jobs)"),
    };
    Some(format!("nothing is scraped, for there are no targets: {first}{more}"))
}

/// What most of the targets that are down have in common.
fn commonest_reason(reasons: &BTreeMap<String, u64>) -> String {
    match reasons.iter().max_by_key(|(_, count)| **count) {
        None => String::new(),
        Some((reason, _)) if reasons.len() == 1 => format!(" ({reason})"),
        Some((reason, count)) => format!(" ({}: {reason})", grouped(*count)),
    }
}

fn well(shown: &Shown, flow: &Flow) -> String {
    let unscraped = flow.kept.saturating_sub(flow.up);
    if shown.endpoints.is_empty() {
        return format!(
            "{} are up, and nothing is sent: the configuration has no remote_write",
            all_of(flow.up, flow.kept)
        );
    }
    if unscraped > 0 {
        return format!("starting: {} of {} targets have been scraped", grouped(flow.up), grouped(flow.kept));
    }
    let delivered = match flow.last_success {
        never if never == Timestamp::default() => "nothing was delivered yet",
        _ if flow.oldest.is_some_and(|oldest| shown.now.since(oldest) > LATE) => {
            "what waited is being delivered"
        }
        _ => "what they expose is delivered",
    };
    let refused = match flow.refused {
        0 => String::new(),
        refused => format!(", but for {} samples that were refused", grouped(refused)),
    };
    format!(
        "all is well: {} {} up, and {delivered}{refused}",
        all_of(flow.up, flow.kept),
        is_or_are(flow.kept)
    )
}

/// What waits longer than this was held up.
const LATE: Duration = Duration::from_secs(60);

fn all_of(up: u64, kept: u64) -> String {
    match (up, kept) {
        (1, 1) => "the target".to_owned(),
        (up, kept) if up == kept => format!("all {} targets", grouped(kept)),
        (up, kept) => format!("{} of {} targets", grouped(up), grouped(kept)),
    }
}

const fn is_or_are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// One sentence of several clauses.
fn sentence(clauses: &[String]) -> String {
    let text = clauses.join("; ");
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_make_a_sentence() {
        let clauses =
            |clauses: &[&str]| sentence(&clauses.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(clauses(&["amp has taken nothing", "b is down."]), "Amp has taken nothing; b is down.");
        assert_eq!(clauses(&["ärger"]), "Ärger.");
        assert_eq!(clauses(&[]), ".");
    }
}
