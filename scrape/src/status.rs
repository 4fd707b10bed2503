//! What `/api/v1/targets` shows.

use std::time::Duration;

use promferry_model::{Labels, Timestamp};
use smol_str::SmolStr;

use crate::{DroppedBy, InvalidTargets, Target};

/// How a target's last scrape went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetHealth {
    /// It was not scraped yet.
    #[default]
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
}

impl TargetHealth {
    /// The word of Prometheus' API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A target that is scraped, as Prometheus' API describes it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TargetStatus {
    /// The labels before relabelling.
    pub discovered_labels: Labels,
    /// The labels that its series carry.
    pub labels: Labels,
    /// The job's name.
    pub scrape_pool: SmolStr,
    /// The URL that is scraped.
    pub scrape_url: String,
    /// The same as others reach it: a local host's name replaced by that of
    /// [`ScraperOptions::external_host`](crate::ScraperOptions::external_host).
    pub global_url: String,
    /// Why the last scrape failed; empty if it did not.
    pub last_error: String,
    /// The first series of the last page that was not taken, and why; empty if all were.
    pub refused_series: String,
    /// When the last scrape started.
    pub last_scrape: Option<Timestamp>,
    /// How long it took.
    pub last_scrape_duration: Duration,
    /// How it went.
    pub health: TargetHealth,
    /// How often the target is scraped.
    pub scrape_interval: Duration,
    /// How long a scrape may take.
    pub scrape_timeout: Duration,
}

/// A job's targets.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The job's name.
    pub scrape_pool: SmolStr,
    /// Targets that are scraped, in the order of their URLs.
    pub active: Vec<TargetStatus>,
    /// Discovered labels of targets that relabelling drops; `keep_dropped_targets` bounds them.
    pub dropped: Vec<Labels>,
    /// How many it drops in all.
    pub dropped_count: u64,
    /// How many targets discovery describes: `active`, `dropped_count`, `invalid` and `duplicates` in all.
    pub discovered: u64,
    /// How many of those that relabelling drops each rule does, in the order of the rules; rules that drop none are
    /// left out. `keep_dropped_targets` does not matter here.
    pub dropped_by: Vec<DroppedBy>,
    /// Targets that cannot be scraped, such as those without an address, by kind of reason.
    pub invalid: Vec<InvalidTargets>,
    /// How many have the labels and the URL of another after relabelling, and are scraped once with it.
    pub duplicates: u64,
    /// `target_limit` where there are more targets than that: each fails until there are fewer.
    pub exceeded_target_limit: Option<u64>,
}

/// A job's targets in numbers: what [`PoolStatus`] says without a label of theirs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PoolSummary {
    /// The job's name.
    pub scrape_pool: SmolStr,
    /// How many groups discovery has told of.
    pub groups: u64,
    /// How many targets are scraped: `up`, `down` and `unknown` in all.
    pub active: u64,
    /// Those whose last scrape succeeded.
    pub up: u64,
    /// Those whose last scrape failed.
    pub down: u64,
    /// Those that were not scraped yet.
    pub unknown: u64,
    /// How many relabelling drops.
    pub dropped_count: u64,
    /// How many targets discovery describes: `active`, `dropped_count`, `invalid` and `duplicates` in all.
    pub discovered: u64,
    /// As [`PoolStatus::dropped_by`].
    pub dropped_by: Vec<DroppedBy>,
    /// As [`PoolStatus::invalid`].
    pub invalid: Vec<InvalidTargets>,
    /// How many have the labels and the URL of another after relabelling, and are scraped once with it.
    pub duplicates: u64,
    /// `target_limit` where there are more targets than that: each fails until there are fewer.
    pub exceeded_target_limit: Option<u64>,
}

/// A target that is scraped and how its last scrape went, lent by
/// [`Scraper::for_each_active`](crate::Scraper::for_each_active).
#[derive(Clone, Copy, Debug)]
pub struct ActiveTarget<'a> {
    job: &'a SmolStr,
    target: &'a Target,
    last: &'a LastScrape,
}

impl<'a> ActiveTarget<'a> {
    pub(crate) fn new(job: &'a SmolStr, target: &'a Target, last: &'a LastScrape) -> Self {
        Self { job, target, last }
    }

    /// The job's name.
    pub fn scrape_pool(&self) -> &'a SmolStr {
        self.job
    }

    /// Where and how it is scraped, and the labels that its series carry. The labels before relabelling are not kept:
    /// [`Scraper::for_each_target`](crate::Scraper::for_each_target) has them.
    pub fn target(&self) -> &'a Target {
        self.target
    }

    /// How the last scrape went.
    pub fn health(&self) -> TargetHealth {
        self.last.health
    }

    /// Why the last scrape failed; empty if it did not.
    pub fn last_error(&self) -> &'a str {
        self.last.error.as_deref().unwrap_or_default()
    }

    /// The first series of the last page that was not taken, and why; empty if all were.
    pub fn refused_series(&self) -> &'a str {
        self.last.refused.as_deref().unwrap_or_default()
    }

    /// When the last scrape started, and how long it took.
    pub fn last_scrape(&self) -> Option<(Timestamp, Duration)> {
        Some((self.last.at?, self.last.duration))
    }

    /// All of it, with what is not kept.
    pub(crate) fn status(&self, discovered_labels: Labels, external_host: Option<&str>) -> TargetStatus {
        let (target, last) = (self.target, self.last);
        TargetStatus {
            discovered_labels,
            labels: target.public_labels().clone(),
            scrape_pool: self.job.clone(),
            scrape_url: target.url().to_owned(),
            global_url: global_url(target.url(), external_host),
            last_error: self.last_error().to_owned(),
            refused_series: self.refused_series().to_owned(),
            last_scrape: last.at,
            last_scrape_duration: last.duration,
            health: last.health,
            scrape_interval: target.scrape_interval(),
            scrape_timeout: target.scrape_timeout(),
        }
    }
}

/// Which targets [`Scraper::for_each_target`](crate::Scraper::for_each_target) is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetState {
    /// Those that are scraped.
    Active,
    /// Those that relabelling drops.
    Dropped,
}

/// A target as [`Scraper::for_each_target`](crate::Scraper::for_each_target) lends it.
#[derive(Clone, Copy, Debug)]
pub enum TargetRow<'a> {
    /// It is scraped.
    Active(&'a TargetStatus),
    /// Relabelling drops it.
    Dropped {
        /// The job's name.
        scrape_pool: &'a SmolStr,
        /// The labels before relabelling.
        discovered_labels: &'a Labels,
    },
}

/// The outcome of a target's last scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastScrape {
    pub(crate) error: Option<String>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) duration: Duration,
    pub(crate) health: TargetHealth,
    /// The first series that was refused, and why.
    pub(crate) refused: Option<Box<str>>,
}

/// `url` as it is reached from elsewhere.
fn global_url(url: &str, external_host: Option<&str>) -> String {
    let replaced = external_host.and_then(|external| {
        let (scheme, rest) = url.split_once("://")?;
        let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
            _ => (authority, None),
        };
        // Prometheus 3.16 web/api/v1 `LocalhostRepresentations`.
        if !matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
            return None;
        }
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{scheme}://{external}{port}{}", &rest[authority.len()..]))
    });
    replaced.unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts_are_named_for_others() {
        for (url, expected) in [
            ("http://localhost:9090/metrics", "http://pod-1:9090/metrics"),
            ("http://127.0.0.1/metrics?a=b", "http://pod-1/metrics?a=b"),
            ("http://[::1]:80", "http://pod-1:80"),
            ("http://10.0.0.1:80/", "http://10.0.0.1:80/"),
        ] {
            assert_eq!(global_url(url, Some("pod-1")), expected);
            assert_eq!(global_url(url, None), url);
        }
    }
}
