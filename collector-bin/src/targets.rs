//! Prometheus' `/api/v1/targets`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use promferry_model::{Labels, Sink, Timestamp};
use promferry_scrape::{Scraper, TargetRow, TargetState, TargetStatus};
use serde::Serialize;

/// `/api/v1/targets` as Prometheus 3.16 answers it (web/api/v1 `TargetDiscovery`), target by target. `query` may hold
/// `state=active|dropped|any` and `scrapePool=NAME`.
///
/// # Errors
/// What `to` can't take.
pub fn write_targets<S: Sink>(scraper: &Scraper<S>, query: &str, to: &mut impl Write) -> io::Result<()> {
    let state = parameter(query, "state").unwrap_or_default().to_lowercase();
    let pool = parameter(query, "scrapePool").filter(|pool| !pool.is_empty());
    let pool = pool.as_deref();
    let is_asked = |word| matches!(state.as_str(), "" | "any") || state == word;

    to.write_all(br#"{"status":"success","data":{"activeTargets":["#)?;
    if is_asked("active") {
        write_rows(scraper, pool, TargetState::Active, to)?;
    }
    to.write_all(br#"],"droppedTargets":["#)?;
    let mut counts = BTreeMap::new();
    if is_asked("dropped") {
        write_rows(scraper, pool, TargetState::Dropped, to)?;
        let pools = scraper.summary().into_iter();
        let asked_for = pools.filter(|summary| pool.is_none_or(|pool| pool == summary.scrape_pool));
        counts.extend(asked_for.map(|summary| (summary.scrape_pool.to_string(), summary.dropped_count)));
    }
    to.write_all(br#"],"droppedTargetCounts":"#)?;
    serde_json::to_writer(&mut *to, &counts)?;
    to.write_all(b"}}")
}

fn write_rows<S: Sink>(
    scraper: &Scraper<S>,
    pool: Option<&str>,
    state: TargetState,
    to: &mut impl Write,
) -> io::Result<()> {
    let mut written = Ok(());
    let mut is_first = true;
    scraper.for_each_target(pool, state, &mut |row| {
        // Nobody listens any more.
        if written.is_err() {
            return;
        }
        let comma: &[u8] = if std::mem::take(&mut is_first) { b"" } else { b"," };
        written = to.write_all(comma).and_then(|()| match row {
            TargetRow::Active(target) => Ok(serde_json::to_writer(&mut *to, &active(target))?),
            TargetRow::Dropped { scrape_pool, discovered_labels } => {
                Ok(serde_json::to_writer(&mut *to, &Dropped { discovered_labels, scrape_pool })?)
            }
        });
    });
    written
}

/// A time as RFC 3339 with milliseconds, in UTC; Go's zero time for none.
fn rfc3339(time: Option<Timestamp>) -> String {
    let Some(time) = time else { return "0001-01-01T00:00:00Z".to_owned() };
    let since_epoch = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or_default());
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch).to_string()
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
    use promferry_model::{MemorySink, TargetGroup};
    use promferry_scrape::{GlobalConfig, Job, ScrapeConfig, ScraperOptions};

    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let at = |millis| rfc3339(Some(Timestamp::from_millis(millis)));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_709_210_096_789), "2024-02-29T12:34:56.789Z");
        assert_eq!(rfc3339(None), "0001-01-01T00:00:00Z");
    }

    #[tokio::test]
    async fn the_query_selects() {
        let mut config: ScrapeConfig = serde_json::from_value(serde_json::json!({
            "job_name": "a", "relabel_configs": [{"source_labels": ["drop"], "regex": "yes", "action": "drop"}],
        }))
        .unwrap();
        config.apply_defaults(&GlobalConfig::default());
        let scraper = Scraper::new(MemorySink::new(), ScraperOptions::default());
        scraper.apply(vec![Job::new(config, Vec::new(), Default::default()).unwrap()]);
        let target = |address, drop| Labels::from_pairs([("__address__", address), ("drop", drop)]);
        let group = |targets| TargetGroup { targets, ..TargetGroup::default() };
        scraper
            .update("a", vec![group(vec![target("x:1", "yes"), target("y:1", "yes"), target("z:1", "no")])])
            .unwrap();

        let answer = |query| {
            let mut answer = Vec::new();
            write_targets(&scraper, query, &mut answer).unwrap();
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["status"], "success");
            let addresses = |targets: &str| {
                let targets = answer["data"][targets].as_array().unwrap().iter();
                targets
                    .map(|target| target["discoveredLabels"]["__address__"].as_str().unwrap().to_owned())
                    .collect()
            };
            let counts = answer["data"]["droppedTargetCounts"].to_string();
            (addresses("activeTargets"), addresses("droppedTargets"), counts)
        };
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let all = (words(&["z:1"]), words(&["x:1", "y:1"]), r#"{"a":2}"#.to_owned());
        assert_eq!(answer(""), all);
        assert_eq!(answer("state=ANY&scrapePool=a"), all);
        assert_eq!(answer("state=dropped&scrapePool=a"), (words(&[]), all.1.clone(), all.2.clone()));
        assert_eq!(answer("state=active"), (all.0, words(&[]), "{}".to_owned()));
        assert_eq!(answer("scrapePool=b"), (words(&[]), words(&[]), "{}".to_owned()));
    }
}
