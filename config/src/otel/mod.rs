//! The OpenTelemetry Collector's dialect, as ADOT's users write it: a `prometheus` receiver, a
//! `prometheusremotewrite` exporter, `sigv4auth`, and the pipelines that join them. What of it would change what is
//! scraped, named or sent and is not done here is refused by name; the rest is accepted with a warning.

mod component;
mod expand;
mod exporter;
mod extension;
pub(crate) mod go_duration;
mod merge;
mod receiver;
mod service;

use std::path::Path;

use promferry_model::Labels;

use self::expand::Expansion;
use self::exporter::{Exporter, Names};
use self::merge::Merged;
use self::service::{Graph, Service};
use crate::lints::{signing_fault, unreadable_files};
use crate::prometheus::Reader;
use crate::prometheus::sigv4::no_distinguishing_label;
use crate::source::Source;
use crate::yaml::{Document, Entry, Node, NodeError};
use crate::{Config, ConfigError, ConfigWarning, Dialect, Endpoint, Env, Files};

/// Reads what `--config` and `--set` name.
pub(crate) fn load(
    uris: &[String],
    sets: &[String],
    files: &dyn Files,
    env: &dyn Env,
) -> Result<Config, ConfigError> {
    let mut merged = Merged::new();
    for uri in uris {
        merged.add_uri(uri, files, env)?;
    }
    for set in sets {
        merged.add_set(set)?;
    }
    read_merged(merged, files, env)
}

/// Reads the text of one file.
pub(crate) fn read(path: &Path, text: &str, files: &dyn Files, env: &dyn Env) -> Result<Config, ConfigError> {
    let mut merged = Merged::new();
    merged.add_text(path, text)?;
    read_merged(merged, files, env)
}

/// Reads a file that was parsed already.
pub(crate) fn read_opened(
    source: &Source,
    document: Document,
    files: &dyn Files,
    env: &dyn Env,
) -> Result<Config, ConfigError> {
    let mut merged = Merged::new();
    merged.add_opened(source, document)?;
    read_merged(merged, files, env)
}

/// Whether a file's keys at the top are the collector's and not Prometheus'.
pub(crate) fn is_collector(root: &Node) -> bool {
    let has = |keys: &[&str]| root.mapping().is_ok_and(|top| keys.iter().any(|key| top.get(key).is_some()));
    has(&["receivers", "exporters", "service"]) && !has(&PROMETHEUS_KEYS)
}

const PROMETHEUS_KEYS: [&str; 4] = ["global", "scrape_configs", "scrape_config_files", "remote_write"];

fn read_merged(merged: Merged, files: &dyn Files, env: &dyn Env) -> Result<Config, ConfigError> {
    let Merged { source, mut root, files: mut included, mut warnings } = merged;
    let mut expansion = Expansion::new(files, env);
    expansion.expand(&mut root).map_err(|error| ConfigError::new(error, &source))?;
    included.append(&mut expansion.files_read);
    warnings.extend(expansion.warnings.into_iter().map(|warning| ConfigWarning::new(warning, &source)));

    let mut noticed = Vec::new();
    let service = Service::read(&root, &mut |warning| noticed.push(warning));
    warnings.extend(noticed.into_iter().map(|warning| ConfigWarning::new(warning, &source)));
    let Service { graph, health_check, log_level, .. } =
        service.map_err(|error| ConfigError::new(error, &source))?;

    let mut config = read_graph(&graph, &source, &mut warnings, files, env)?;
    config.health_check = health_check;
    config.log_level = log_level;
    included.append(&mut config.included_files);
    config.included_files = included;
    config.warnings = warnings;
    Ok(config)
}

/// Reads what the pipelines use: the receivers' jobs, and an endpoint for each exporter.
fn read_graph(
    graph: &Graph<'_>,
    source: &Source,
    warnings: &mut Vec<ConfigWarning>,
    files: &dyn Files,
    env: &dyn Env,
) -> Result<Config, ConfigError> {
    let mut reader = Reader::new(files, env, Dialect::OpenTelemetry);
    let mut received: Option<(&Entry, Labels)> = None;
    let mut first_global = None;
    for id in &graph.receivers {
        let mut warn = |error: NodeError| {
            warnings.push(ConfigWarning::new(error.in_key(&id.key).in_key("receivers"), source));
        };
        let global = receiver::read(id, &mut reader, source, &mut warn)?;
        if let Some((first, labels)) = &received
            && *labels != global.external_labels
        {
            let message = format!(
                "not supported: other external_labels than those of {}; write them into each job's static labels or \
                 metric_relabel_configs",
                first.key
            );
            let error = NodeError::unsupported(message).at(id.key_at).in_key(&id.key).in_key("receivers");
            return Err(ConfigError::new(error, source));
        }
        received.get_or_insert_with(|| (id, global.external_labels.clone()));
        first_global.get_or_insert(global);
    }
    let received = received.map(|(_, labels)| labels).unwrap_or_default();

    let mut exporters: Vec<(&Entry, Exporter<'_>)> = Vec::new();
    for id in &graph.exporters {
        let mut warn = |error: NodeError| {
            warnings.push(ConfigWarning::new(error.in_key(&id.key).in_key("exporters"), source));
        };
        let exporter = exporter::read(id, &mut warn);
        unreadable_files(&id.value, Path::new(""), files, &mut warn);
        let exporter =
            exporter.map_err(|error| ConfigError::new(error.in_key(&id.key).in_key("exporters"), source))?;
        exporters.push((id, exporter));
    }
    let mut config = reader.config;
    warnings.append(&mut config.warnings);
    config.global = first_global.unwrap_or_default();
    config.differences = differences(exporters.iter().map(|(_, exporter)| exporter.names));

    // One exporter's labels fill in as Prometheus' global ones do; where exporters differ, each has rules for it.
    let shared = match exporters.split_first() {
        Some(((_, first), others))
            if others.iter().all(|(_, other)| other.external_labels == first.external_labels) =>
        {
            Some(first.external_labels.clone())
        }
        _ => None,
    };
    let own = received.iter().map(|label| (label.name.as_str(), label.value.as_str()));
    let filled = shared.iter().flatten().filter(|label| received.get(label.name.as_str()).is_empty());
    let filled = filled.map(|label| (label.name.as_str(), label.value.as_str()));
    config.global.external_labels = Labels::from_pairs(own.chain(filled));

    for (id, exporter) in exporters {
        let Exporter { mut write, http, authenticator, external_labels, prefix, endpoint, .. } = exporter;
        let rules = &mut write.write_relabel_configs;
        rules.extend(receiver::overriding_rules(&received));
        if shared.is_none() {
            rules.extend(receiver::filling_rules(&external_labels));
        }
        rules.extend(prefix);
        let mut added = Endpoint { write, http, sigv4: None };
        if let Some(reference) = authenticator {
            let extension = graph.authenticator(reference).map_err(|error| {
                let error = error.in_key("authenticator").in_key("auth").in_key(&id.key);
                ConfigError::new(error.in_key("exporters"), source)
            })?;
            let within = |error: NodeError| error.in_key(&extension.key).in_key("extensions");
            let sigv4 = extension::read_sigv4(extension, &added.write.url, env)
                .map_err(|error| ConfigError::new(within(error), source))?;
            added.sigv4 = Some(sigv4);
            let block = extension.value.mapping().map_err(|error| ConfigError::new(within(error), source))?;
            if let Some(message) = signing_fault(&added) {
                let fault = NodeError::at_path(&block, &["region".to_owned()], message);
                warnings.push(ConfigWarning::new(within(fault), source));
            }
            let role = ["assume_role".to_owned(), "arn".to_owned()];
            if let Some(warning) = no_distinguishing_label(&added, &block, &role, &config.global, env) {
                warnings.push(ConfigWarning::new(within(warning), source));
            }
        }
        if let Some(same) = config.remote_write.iter().find(|other| other.write.key() == added.write.key()) {
            let message = format!(
                "another exporter writes to {} under the same name: give each one its own, as prometheusremotewrite/a",
                same.write.shown_url()
            );
            let error = NodeError::new(crate::ErrorKind::Value, message).at(endpoint.value.at);
            let error = error.in_key("endpoint").in_key(&id.key).in_key("exporters");
            return Err(ConfigError::new(error, source));
        }
        config.places.add_endpoint(&endpoint.value, source);
        config.remote_write.push(added);
    }
    Ok(config)
}

/// What arrives otherwise than from the collector, whose users' dashboards and rules may look for it.
fn differences(exporters: impl Iterator<Item = Names> + Clone) -> Vec<String> {
    let any = |wanted: fn(&Names) -> bool| exporters.clone().any(|names| wanted(&names));
    let told = [
        (any(|names| names.scope_labels), "series have no labels otel_scope_name and otel_scope_version"),
        (any(|names| names.target_info), "there is no target_info"),
        (
            any(|names| names.suffixes),
            "names stay as targets expose them: counters without _total get none, underscores stay as they are",
        ),
        (
            any(|names| names.resource_labels),
            "no labels are made of resource attributes (service_name, server_address, k8s_pod_name and the like): \
             relabel_configs can add them from __meta_ labels",
        ),
        (
            true,
            "series of OpenMetrics' _created and _info stay, and exemplars are kept beside external labels",
        ),
        (true, "what can't be delivered waits on disk and is sent again, in order, instead of being dropped"),
    ];
    told.into_iter().filter(|(differs, _)| *differs).map(|(_, text)| text.to_owned()).collect()
}
