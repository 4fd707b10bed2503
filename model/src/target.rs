use std::time::Duration;

use smol_str::SmolStr;

use crate::Labels;

/// Targets that one discovery source names together, with the labels that they share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// What names the group within its mechanism (`pod/default/api-1`, `targets.yml:0`): an update replaces
    /// the group of the same source, and one without targets removes it.
    pub source: SmolStr,
    /// Labels that every target of the group has unless it has its own.
    pub labels: Labels,
    /// Each target's own labels; `__address__` says where it is.
    pub targets: Vec<Labels>,
}

/// What a [`Sink`](crate::Sink) is told about a target when its scraping starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    /// The job's name as configured.
    pub job: SmolStr,
    /// The target's public labels: those that its series carry.
    pub labels: Labels,
    /// The address that is scraped, without credentials: what names the target to a reader.
    pub url: String,
    /// How often it is scraped.
    pub scrape_interval: Duration,
}
