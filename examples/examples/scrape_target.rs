//! Scrapes one target once into memory and prints its samples, those about the scrape itself among them:
//! `cargo run -p promferry-examples --example scrape_target -- localhost:9100`

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;
use std::time::Duration;

use promferry_model::{Labels, MemorySink, TargetGroup};
use promferry_scrape::{GlobalConfig, Job, ScrapeConfig, Scraper, ScraperOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("say which HOST:PORT to scrape")?;
    let mut config = ScrapeConfig::new("once");
    config.apply_defaults(&GlobalConfig::default());
    let job = Job::new(config, Vec::new(), Default::default())?;

    let sink = MemorySink::new();
    let scraper = Scraper::new(sink.clone(), ScraperOptions::default());
    scraper.apply(vec![job]);
    scraper.update(
        "once",
        vec![TargetGroup {
            source: "command line".into(),
            labels: Labels::default(),
            targets: vec![Labels::from_pairs([("__address__", address)])],
        }],
    )?;

    // A scrape comes as one commit, a failed one with `up 0` alone.
    let scraped = async {
        loop {
            let samples = sink.take();
            if !samples.is_empty() {
                return samples;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let samples = tokio::time::timeout(Duration::from_secs(20), scraped).await?;
    for sample in &samples {
        println!("{} {}", sample.labels, sample.sample.value);
    }
    for target in scraper.status().iter().flat_map(|pool| &pool.active) {
        println!("{} is {} {}", target.scrape_url, target.health.as_str(), target.last_error);
    }
    scraper.shutdown().await;
    Ok(())
}
