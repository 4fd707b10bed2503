use std::path::Path;

use promferry_model::{Labels, NameValidation, PromDuration};
use promferry_scrape::GlobalConfig;

use super::variables::expand;
use crate::yaml::{Node, NodeError};
use crate::{Env, Global};

/// Keys of `global` that are about queries and rules. `evaluation_interval` is in nearly every file, and goes
/// without a word.
const WITHOUT_EFFECT: [&str; 5] = [
    "query_log_file",
    "query_max_duration",
    "query_max_samples_read",
    "query_max_series",
    "rule_query_offset",
];

pub(super) fn read(
    node: &Node,
    base: &Path,
    env: &dyn Env,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Global, NodeError> {
    let mut mapping = node.mapping()?;
    let own = mapping.split(GlobalConfig::KEYS);
    let mut scrape: GlobalConfig = own.read()?;
    scrape.validate().map_err(|error| NodeError::at_path(&own, &error.path, error.message))?;
    scrape.apply_defaults();
    scrape.resolve_paths(base);

    if let Some(entry) = mapping.take("evaluation_interval") {
        entry.value.read::<Option<PromDuration>>().map_err(|error| error.in_key(&entry.key))?;
    }
    for key in WITHOUT_EFFECT {
        if let Some(entry) = mapping.take(key) {
            let message = format!("{key} has no effect: no rules or queries are evaluated here");
            warn(NodeError::unsupported(message).at(entry.key_at));
        }
    }
    if let Some(entry) = own.get("scrape_failure_log_file").filter(|entry| !entry.value.is_null()) {
        let message = format!("{} is ignored: failed scrapes are reported in the log", entry.key);
        warn(NodeError::unsupported(message).at(entry.key_at));
    }
    let validation = scrape.metric_name_validation_scheme.unwrap_or_default();
    let external_labels = match mapping.take("external_labels") {
        None => Labels::default(),
        Some(entry) => read_external_labels(&entry.value, validation, env, warn)
            .map_err(|error| error.in_key(&entry.key))?,
    };
    let known = GlobalConfig::KEYS.iter().chain(&WITHOUT_EFFECT);
    mapping.refuse_unknown(known.chain(&["evaluation_interval", "external_labels"]))?;
    Ok(Global { scrape, external_labels })
}

fn read_external_labels(
    node: &Node,
    validation: NameValidation,
    env: &dyn Env,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Labels, NodeError> {
    let mut pairs = Vec::new();
    for entry in node.mapping()?.entries() {
        if !validation.is_valid_label_name(&entry.key) {
            let message = format!("{:?} is not a valid label name", entry.key);
            return Err(NodeError::invalid(message).at(entry.key_at));
        }
        let value: String = entry.value.read().map_err(|error| error.in_key(&entry.key))?;
        let expanded = expand(&value, |name| {
            let value = env.variable(name).unwrap_or_default();
            if value.is_empty() {
                let message = format!("the environment variable {name} is not set or empty");
                let error = NodeError::unsupported(message).at(entry.value.at);
                warn(error.in_key(&entry.key).in_key("external_labels"));
            }
            value
        });
        pairs.push((entry.key.as_str(), expanded));
    }
    Ok(Labels::from_pairs(pairs))
}
