//! The receiver `prometheus`: a Prometheus configuration inside of the collector's.

use std::path::Path;

use promferry_model::Labels;
use promferry_relabel::RelabelConfig;

use super::component::{take_bool, take_without_effect};
use crate::prometheus::Reader;
use crate::source::Source;
use crate::yaml::{Entry, NodeError, Value};
use crate::{ConfigError, Global};

const KEYS: [&str; 5] =
    ["config", "trim_metric_suffixes", "target_allocator", "api_server", "initial_scrape_offset"];

const WITHOUT_EFFECT: [(&str, &str); 11] = [
    ("scrape_on_shutdown", "what was scraped before the stop is delivered, and nothing is scraped for it"),
    ("discovery_reload_on_startup", "targets are discovered at the start anyway"),
    ("initial_scrape_offset", "the first scrapes are spread over the interval anyway"),
    ("use_start_time_metric", "start times are not reckoned here"),
    ("start_time_metric_regex", "start times are not reckoned here"),
    ("use_created_metric", "start times are not reckoned here"),
    ("preserve_untyped", "types stay what they are"),
    ("buffer_period", "it has gone from the receiver"),
    ("buffer_count", "it has gone from the receiver"),
    ("report_extra_scrape_metrics", "config.global.extra_scrape_metrics is what says so"),
    ("otlp", "nothing is received here"),
];

/// Reads a receiver; its jobs are added to what was read before, its `global` is returned.
pub(super) fn read(
    id: &Entry,
    reader: &mut Reader<'_>,
    source: &Source,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Global, ConfigError> {
    let in_receiver = |error: NodeError| ConfigError::new(error.in_key(&id.key).in_key("receivers"), source);
    let config = read_own(id, warn).map_err(in_receiver)?;
    // The collector reads it without a file's folder to start from.
    reader.read_part(&config.value, Path::new(""), &["receivers", &id.key, "config"], source)?;
    Ok(std::mem::take(&mut reader.config.global))
}

fn read_own<'a>(id: &'a Entry, warn: &mut dyn FnMut(NodeError)) -> Result<&'a Entry, NodeError> {
    let mut mapping = id.value.mapping()?;
    take_without_effect(&mut mapping, &WITHOUT_EFFECT, warn);
    if let Some(allocator) = mapping.take("target_allocator").filter(|entry| !entry.value.is_null()) {
        let message = "not supported: a target allocator; write the jobs into config.scrape_configs";
        return Err(NodeError::unsupported(message).at(allocator.key_at).in_key("target_allocator"));
    }
    if let Some(trim) = mapping.get("trim_metric_suffixes")
        && take_bool(&mut mapping, "trim_metric_suffixes")? == Some(true)
    {
        let message = "not supported: names without their suffixes; metric_relabel_configs can rename them";
        return Err(NodeError::unsupported(message).at(trim.key_at).in_key("trim_metric_suffixes"));
    }
    if let Some(server) = mapping.take("api_server") {
        let in_server = |error: NodeError| error.in_key("api_server");
        let mut keys = server.value.mapping().map_err(in_server)?;
        if take_bool(&mut keys, "enabled").map_err(in_server)? == Some(true) {
            let message = "api_server has no effect: /api/v1/targets is answered at --web.listen-address";
            warn(NodeError::unsupported(message).at(server.key_at));
        }
    }
    let config = mapping.take("config");
    mapping.refuse_unknown(KEYS.iter().chain(WITHOUT_EFFECT.iter().map(|(key, _)| key)))?;
    let nothing = || NodeError::invalid("config is missing: it holds scrape_configs").in_key("config");
    let Some(config) = config.filter(|entry| !entry.value.is_null()) else {
        return Err(nothing().at(config.map_or(id.key_at, |entry| entry.key_at)));
    };
    let top = config.value.mapping().map_err(|error| error.in_key("config"))?;
    // The collector refuses these four; rules without effect are no reason to.
    if let Some(writes) = top.get("remote_write").filter(|entry| !is_empty(entry)) {
        let message =
            "where samples go is for the exporter prometheusremotewrite to say, not for the receiver";
        return Err(NodeError::unsupported(message)
            .at(writes.key_at)
            .in_key("remote_write")
            .in_key("config"));
    }
    if ["scrape_configs", "scrape_config_files"].iter().all(|key| top.get(key).is_none_or(is_empty)) {
        let message = "neither scrape_configs nor scrape_config_files: there is nothing to scrape";
        return Err(NodeError::invalid(message).at(config.key_at).in_key("config"));
    }
    Ok(config)
}

fn is_empty(entry: &Entry) -> bool {
    match &entry.value.value {
        Value::List(items) => items.is_empty(),
        _ => entry.value.is_null(),
    }
}

/// The receiver's external labels replace those that series have, where Prometheus' only fill in.
pub(super) fn overriding_rules(external_labels: &Labels) -> Vec<RelabelConfig> {
    let rule = |name: &str, value: &str| RelabelConfig {
        target_label: name.into(),
        replacement: value.replace('$', "$$").into(),
        ..RelabelConfig::default()
    };
    external_labels.iter().map(|label| rule(label.name.as_str(), label.value.as_str())).collect()
}

/// An exporter's external labels fill in, as Prometheus' do.
pub(super) fn filling_rules(external_labels: &Labels) -> Vec<RelabelConfig> {
    let rule = |name: &str, value: &str| RelabelConfig {
        source_labels: vec![name.into()],
        regex: Some("".into()),
        target_label: name.into(),
        replacement: value.replace('$', "$$").into(),
        ..RelabelConfig::default()
    };
    external_labels.iter().map(|label| rule(label.name.as_str(), label.value.as_str())).collect()
}
