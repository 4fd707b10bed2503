//! Prometheus' `/api/v1/targets`.

use std::time::{Duration, UNIX_EPOCH};

use promferry_model::{Labels, Timestamp};
use promferry_scrape::{PoolStatus, TargetStatus};
use serde::Serialize;

/// `/api/v1/targets` as Prometheus 3.16 answers it (web/api/v1 `TargetDiscovery`). `query` may hold
/// `state=active|dropped|any` and `scrapePool=NAME`.
pub fn targets_json(pools: &[PoolStatus], query: &str) -> Vec<u8> {
    let state = parameter(query, "state").unwrap_or_default().to_lowercase();
    let pool = parameter(query, "scrapePool").unwrap_or_default();
    let show_active = matches!(state.as_str(), "" | "any" | "active");
    let show_dropped = matches!(state.as_str(), "" | "any" | "dropped");
    let pools = || pools.iter().filter(|p| pool.is_empty() || p.scrape_pool == pool);
    let active: Vec<_> = pools().filter(|_| show_active).flat_map(|p| &p.active).map(active).collect();
    let dropped = pools().filter(|_| show_dropped);
    let answer = Answer {
        status: "success",
        data: Data {
            active_targets: active,
            dropped_targets: dropped
                .clone()
                .flat_map(|p| p.dropped.iter().map(move |labels| (p, labels)))
                .map(|(p, labels)| Dropped { discovered_labels: labels, scrape_pool: &p.scrape_pool })
                .collect(),
            dropped_target_counts: dropped.map(|p| (p.scrape_pool.as_str(), p.dropped_count)).collect(),
        },
    };
    // Maps with text keys and plain values can't fail to be written.
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// A time as RFC 3339 with milliseconds, in UTC; Go's zero time for none.
fn rfc3339(time: Option<Timestamp>) -> String {
    let Some(time) = time else { return "0001-01-01T00:00:00Z".to_owned() };
    let since_epoch = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or_default());
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch).to_string()
}

#[derive(Serialize)]
struct Answer<'a> {
    status: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    active_targets: Vec<Active<'a>>,
    dropped_targets: Vec<Dropped<'a>>,
    dropped_target_counts: std::collections::BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Active<'a> {
    discovered_labels: &'a Labels,
    labels: &'a Labels,
    scrape_pool: &'a str,
    scrape_url: &'a str,
    global_url: &'a str,
    last_error: &'a str,
    last_scrape: String,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dropped<'a> {
    discovered_labels: &'a Labels,
    scrape_pool: &'a str,
}

fn active(target: &TargetStatus) -> Active<'_> {
    let duration = |d: Duration| {
        promferry_model::PromDuration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
            .to_string()
    };
    Active {
        discovered_labels: &target.discovered_labels,
        labels: &target.labels,
        scrape_pool: &target.scrape_pool,
        scrape_url: &target.scrape_url,
        global_url: &target.global_url,
        last_error: &target.last_error,
        last_scrape: rfc3339(target.last_scrape),
        last_scrape_duration: target.last_scrape_duration.as_secs_f64(),
        health: target.health.as_str(),
        scrape_interval: duration(target.scrape_interval),
        scrape_timeout: duration(target.scrape_timeout),
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let at = |millis| rfc3339(Some(Timestamp::from_millis(millis)));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_709_210_096_789), "2024-02-29T12:34:56.789Z");
        assert_eq!(rfc3339(None), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn the_query_selects() {
        let mut pool = PoolStatus::default();
        pool.scrape_pool = "a".into();
        pool.dropped = vec![Labels::from_pairs([("__address__", "x:1")])];
        pool.dropped_count = 1;
        let json = |query| String::from_utf8(targets_json(std::slice::from_ref(&pool), query)).unwrap();
        let all = r#"{"status":"success","data":{"activeTargets":[],"droppedTargets":[{"discoveredLabels":{"__address__":"x:1"},"scrapePool":"a"}],"droppedTargetCounts":{"a":1}}}"#;
        assert_eq!(json(""), all);
        assert_eq!(json("state=dropped&scrapePool=a"), all);
        let none = r#"{"status":"success","data":{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}}"#;
        assert_eq!(json("state=active"), none);
        assert_eq!(json("scrapePool=b"), none);
    }
}
