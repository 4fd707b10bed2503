//! What `/api/v1/targets` shows.

use std::time::Duration;

use promferry_model::{Labels, Timestamp};
use smol_str::SmolStr;

use crate::{DroppedBy, InvalidTargets};

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
pub(crate) fn global_url(url: &str, external_host: Option<&str>) -> String {
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
