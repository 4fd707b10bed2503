use std::path::Path;

use promferry_discovery::DiscoveryConfigs;
use promferry_http_client::HttpClientConfig;
use promferry_relabel::RelabelRules;
use promferry_scrape::{GlobalConfig, ScrapeConfig};

use super::targets;
use crate::Job;
use crate::yaml::{Mapping, Node, NodeError};

/// Reads one entry of `scrape_configs`.
pub(super) fn read(
    node: &Node,
    global: &GlobalConfig,
    base: &Path,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Job, NodeError> {
    if node.is_null() {
        return Err(NodeError::invalid("empty entry; a job needs at least a job_name").at(node.at));
    }
    let mut mapping = node.mapping()?;
    let whole = mapping.clone();
    let located = |path: &[String], message: String| NodeError::at_path(&whole, path, message);

    let own = mapping.split(ScrapeConfig::KEYS);
    let http = mapping.split(HttpClientConfig::KEYS);
    let discovery = targets::split(&mut mapping)?;
    mapping.refuse_unknown(
        ScrapeConfig::KEYS.iter().chain(HttpClientConfig::KEYS).chain(DiscoveryConfigs::KEYS),
    )?;

    let mut scrape: ScrapeConfig = own.read()?;
    scrape.http = http.read()?;
    scrape.http.validate().map_err(|error| located(&error.path, error.message))?;
    refuse_empty_items(&own, &["relabel_configs", "metric_relabel_configs"])?;
    scrape.apply_defaults(global);
    scrape.validate().map_err(|error| located(&error.path, error.message))?;
    for (key, rules) in [
        ("relabel_configs", &scrape.relabel_configs),
        ("metric_relabel_configs", &scrape.metric_relabel_configs),
    ] {
        RelabelRules::compile(rules, scrape.name_validation()).map_err(|error| {
            let path: Vec<String> = std::iter::once(key.to_owned()).chain(error.path).collect();
            located(&path, error.message)
        })?;
    }
    for warning in scrape.warnings() {
        // What was inherited is warned of where it stands.
        if let Some(entry) = warning.path.first().and_then(|key| own.get(key)) {
            let message = format!("{} {}", entry.key, warning.message);
            warn(NodeError::unsupported(message).at(entry.key_at));
        }
    }
    scrape.resolve_paths(base);
    let discovery = targets::read(&discovery, base, !scrape.relabel_configs.is_empty())?;
    Ok(Job { scrape, discovery })
}

/// A list item without content is no item by default: Prometheus refuses it.
pub(super) fn refuse_empty_items(mapping: &Mapping<'_>, keys: &[&str]) -> Result<(), NodeError> {
    for entry in keys.iter().filter_map(|key| mapping.get(key)) {
        let items = entry.value.list().map_err(|error| error.in_key(&entry.key))?;
        if let Some(index) = items.iter().position(Node::is_null) {
            let error = NodeError::invalid("empty entry").at(items[index].at);
            return Err(error.in_item(index).in_key(&entry.key));
        }
    }
    Ok(())
}
