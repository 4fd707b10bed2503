//! A scraper against real HTTP servers.

mod support;

use serde_json::json;
use support::{Answer, Scene, lines, value_of};

const FAST: &str = "200ms";

#[tokio::test]
async fn a_page_becomes_samples_with_the_targets_labels() {
    let page = "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
                requests_total{code=\"200\"} 5\nrequests_total{code=\"500\"} 1\ntemperature 3.5\n";
    let scene =
        Scene::start(json!({"scrape_interval": FAST, "scrape_timeout": FAST}), Answer::text(page)).await;
    let samples = scene.next_scrape().await;
    assert_eq!(
        lines(&samples),
        ["requests_total{code=\"200\"} 5", "requests_total{code=\"500\"} 1", "temperature 3.5"]
    );
    let address = scene.exporter.address.to_string();
    for sample in &samples {
        assert_eq!((sample.labels.get("job"), sample.labels.get("instance")), ("test", address.as_str()));
        assert_eq!(sample.sample.timestamp, samples[0].sample.timestamp);
    }
    assert_eq!(samples[0].metadata.help, "Requests.");
    assert_eq!(samples[2].metadata.help, "");
    assert_eq!(value_of(&samples, "up"), "1");
    assert_eq!(value_of(&samples, "scrape_samples_scraped"), "3");
    assert_eq!(value_of(&samples, "scrape_samples_post_metric_relabeling"), "3");
    assert_eq!(value_of(&samples, "scrape_series_added"), "3");
    assert_eq!(value_of(&samples, "scrape_timeout_seconds"), "absent");
    assert_eq!(value_of(&scene.next_scrape().await, "scrape_series_added"), "0");
    scene.scraper.shutdown().await;
    assert!(scene.scraper.stats()["test"].ledger.balances());
}
