//! What happened from one look to the next, while jobs and endpoints come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::observation::{Endpoint, Observation};

/// What was scraped, delivered and lost since the last verdict.
///
/// What the pipeline counts belongs to a job or an endpoint and is gone with it, or comes with it: an endpoint that a
/// reload adds may bring a ledger of earlier runs. So only what grew from one look to the next is added up, for each by
/// itself.
#[derive(Debug)]
pub(super) struct Tally {
    at: Instant,
    /// Samples on pages of the jobs that there are.
    jobs: BTreeMap<String, u64>,
    /// Scrapes that every address which ever missed some did.
    missed_at: BTreeMap<String, u64>,
    /// Every endpoint that there ever was, as it was seen last: what it may come back with was told.
    endpoints: BTreeMap<String, Known>,
    pub(super) counted: Counted,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    pub(super) scraped: u64,
    pub(super) delivered: u64,
    /// Scrapes that were not made, by the address that did not take them in time.
    pub(super) missed_at: BTreeMap<String, u64>,
    /// What endpoints refused, by endpoint and reason.
    pub(super) refused: BTreeMap<(String, String), u64>,
    /// What was given up here.
    pub(super) dropped: BTreeMap<(String, String), u64>,
}

#[derive(Debug)]
struct Known {
    delivered: u64,
    dropped: BTreeMap<String, u64>,
    last_success: Option<Instant>,
}

impl Tally {
    /// From the first look on: jobs began with this process, ledgers before it.
    pub(super) fn new(now: Instant, seen: &Observation) -> Self {
        let mut tally = Self {
            at: now,
            jobs: BTreeMap::new(),
            missed_at: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            counted: Counted::default(),
        };
        tally.add(now, seen);
        tally
    }

    /// Adds what happened since the last look.
    pub(super) fn add(&mut self, now: Instant, seen: &Observation) {
        self.at = now;
        for (job, scraped) in &seen.scraped {
            self.counted.scraped += grown(self.jobs.get(job).copied().unwrap_or_default(), *scraped);
        }
        self.jobs.clone_from(&seen.scraped);
        for (address, missed) in &seen.missed_at {
            let known = self.missed_at.entry(address.clone()).or_default();
            let more = grown(*known, *missed);
            *known = *missed;
            if more > 0 {
                *self.counted.missed_at.entry(address.clone()).or_default() += more;
            }
        }
        for endpoint in &seen.endpoints {
            self.add_endpoint(endpoint);
        }
    }

    fn add_endpoint(&mut self, endpoint: &Endpoint) {
        let last_success = endpoint.last_success.and_then(|ago| self.at.checked_sub(ago));
        let known = self.endpoints.get(&endpoint.key);
        if let Some(known) = known {
            self.counted.delivered += grown(known.delivered, endpoint.delivered);
            for (reason, (count, is_refusal)) in &endpoint.dropped {
                let more = grown(known.dropped.get(reason).copied().unwrap_or_default(), *count);
                if more > 0 {
                    let kind =
                        if *is_refusal { &mut self.counted.refused } else { &mut self.counted.dropped };
                    *kind.entry((endpoint.key.clone(), reason.clone())).or_default() += more;
                }
            }
        }
        let known = Known {
            delivered: endpoint.delivered,
            dropped: endpoint.dropped.iter().map(|(reason, (count, _))| (reason.clone(), *count)).collect(),
            // A delivery that took over after a reload knows nothing of the one before.
            last_success: last_success.or_else(|| known?.last_success),
        };
        self.endpoints.insert(endpoint.key.clone(), known);
    }

    /// How long ago the endpoint last took something in this run, through reloads.
    pub(super) fn last_success(&self, endpoint: &str) -> Option<Duration> {
        Some(self.at.saturating_duration_since(self.endpoints.get(endpoint)?.last_success?))
    }

    /// Begins anew, for the next verdict.
    pub(super) fn restart(&mut self) {
        self.counted = Counted::default();
    }
}

/// By how much a count grew; one that is smaller than before began anew.
fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}
