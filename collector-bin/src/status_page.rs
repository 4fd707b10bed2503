//! The page for people: how it stands, what is scraped, what is delivered, and what is in the way.

mod collections;
mod configuration;
mod delivery;
mod html;
mod overview;
mod targets;

use std::collections::BTreeMap;
use std::time::Duration;

use promferry_discovery::MechanismStatus;
use promferry_model::{Clock as _, SystemClock, Timestamp};
use promferry_remote_write::EndpointStatus;
use promferry_remote_write::spool::PublishedStats;
use promferry_scrape::{JobStats, PoolSummary};
use smol_str::SmolStr;

use self::configuration::Configuration;
use self::html::Html;
use self::targets::{Filter, Listed};
use crate::pipeline::{DeliveryStatus, Pipeline};

/// The page as HTML under this title, with the targets that `query` asks for; `source` is where the configuration comes
/// from. Everything on it is escaped, and no secret is on it: URLs are without users, passwords and the values of queries,
/// and texts of endpoints are redacted where they are kept.
pub(crate) async fn page(pipeline: &Pipeline, source: &str, title: &str, query: &str) -> String {
    let shown = Shown::of(pipeline, source, query).await;
    let mut page = Html::new(title);
    page.overview(&shown);
    page.scraping(&shown);
    page.targets(&shown);
    page.discovery(&shown.mechanisms);
    page.collections(&shown);
    page.delivery(&shown);
    page.duplicates(&pipeline.remote().duplicates());
    page.configuration(&shown);
    page.signing(&pipeline.signing());
    page.spool(&shown.spool.stats);
    page.end()
}

/// What is shown, all of about one moment.
struct Shown {
    now: Timestamp,
    is_working: bool,
    filter: Filter,
    pools: Vec<PoolSummary>,
    listed: Listed,
    jobs: BTreeMap<SmolStr, JobStats>,
    mechanisms: Vec<MechanismStatus>,
    endpoints: Vec<EndpointStatus>,
    spool: PublishedStats,
    configuration: Configuration,
}

/// The spool publishes how it stands about once a second.
const HELD_UP_AFTER: Duration = Duration::from_secs(2);

impl Shown {
    async fn of(pipeline: &Pipeline, source: &str, query: &str) -> Self {
        let DeliveryStatus { endpoints, spool } = pipeline.delivery().await;
        let filter = Filter::parse(query);
        let mut listed = Listed::default();
        pipeline.scraper().for_each_active(&mut |target| listed.add(&filter, target));
        Self {
            now: SystemClock::new().now(),
            is_working: pipeline.is_working(),
            filter,
            pools: pipeline.scraper().summary(),
            listed,
            jobs: pipeline.scraper().stats(),
            mechanisms: pipeline.discovery(),
            endpoints,
            spool,
            configuration: Configuration::of(pipeline, source),
        }
    }

    /// For how long the disk has not answered, if that is longer than usual: delivery and spool are shown as they were
    /// then.
    fn held_up(&self) -> Option<Duration> {
        Some(self.spool.age).filter(|age| *age >= HELD_UP_AFTER)
    }
}
