use std::collections::BTreeMap;
use std::path::Path;

use promferry_http_client::HttpClientConfig;
use promferry_relabel::RelabelRules;
use promferry_remote_write::RemoteWriteConfig;
use promferry_sigv4_auth::SigV4Config;

use super::job::refuse_empty_items;
use super::sigv4;
use crate::lints::{signing_fault, url_faults};
use crate::yaml::{Mapping, Node, NodeError};
use crate::{Endpoint, Env, Global};

/// Ways to sign in that would have to be there for anything to be accepted.
const UNSUPPORTED: [(&str, &str); 2] = [
    (
        "azuread",
        "not supported yet: signing in to Azure; there are basic_auth, authorization, oauth2 and sigv4",
    ),
    (
        "google_iam",
        "not supported yet: signing in to Google Cloud; there are basic_auth, authorization, oauth2 and sigv4",
    ),
];

/// Reads the list `remote_write`.
pub(super) fn read(
    node: &Node,
    base: &Path,
    global: &Global,
    env: &dyn Env,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Vec<Endpoint>, NodeError> {
    let mut endpoints = Vec::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (index, node) in node.list()?.iter().enumerate() {
        let endpoint = read_one(node, base, global, env, &mut |error| warn(error.in_item(index)))
            .map_err(|error| error.in_item(index))?;
        let name = &endpoint.write.name;
        if !name.is_empty()
            && let Some(first) = names.insert(name.clone(), index)
        {
            let message = format!("the name {name:?} is already used by remote_write[{first}]");
            let mapping = node.mapping()?;
            return Err(NodeError::at_path(&mapping, &["name".to_owned()], message).in_item(index));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn read_one(
    node: &Node,
    base: &Path,
    global: &Global,
    env: &dyn Env,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Endpoint, NodeError> {
    if node.is_null() {
        return Err(NodeError::invalid("empty entry; an endpoint needs at least a url").at(node.at));
    }
    let mut mapping = node.mapping()?;
    let whole = mapping.clone();
    let located = |path: &[String], message: String| NodeError::at_path(&whole, path, message);

    let own = mapping.split(RemoteWriteConfig::KEYS);
    let http_keys = mapping.split(HttpClientConfig::KEYS);
    let sigv4 = mapping.take("sigv4");
    for (key, message) in UNSUPPORTED {
        if let Some(entry) = mapping.take(key)
            && !entry.value.is_null()
        {
            return Err(NodeError::unsupported(message).at(entry.key_at).in_key(key));
        }
    }
    refuse_if_on(
        &mut mapping,
        "convert_nhcb_to_classic",
        "not supported yet: native histograms with custom buckets are sent as they are, or not at all",
    )?;
    // What it logs is in the log here anyway.
    if let Some(entry) = mapping.take("failed_request_logging") {
        entry.value.read::<bool>().map_err(|error| error.in_key(&entry.key))?;
    }
    let known = RemoteWriteConfig::KEYS.iter().chain(HttpClientConfig::KEYS);
    mapping.refuse_unknown(known.chain(&["sigv4", "failed_request_logging", "convert_nhcb_to_classic"]))?;

    let write: RemoteWriteConfig = own.read()?;
    write.validate().map_err(|error| located(&error.path, error.message))?;
    for message in url_faults(&write) {
        warn(located(&["url".to_owned()], message));
    }
    refuse_empty_items(&own, &["write_relabel_configs"])?;
    let validation = global.scrape.metric_name_validation_scheme.unwrap_or_default();
    RelabelRules::compile(&write.write_relabel_configs, validation).map_err(|error| {
        let path: Vec<String> =
            std::iter::once("write_relabel_configs".to_owned()).chain(error.path).collect();
        located(&path, error.message)
    })?;

    let mut http: HttpClientConfig = http_keys.read()?;
    if http_keys.get("enable_http2").is_none() {
        // Off by default for remote write alone (config.go DefaultRemoteWriteHTTPClientConfig).
        http.enable_http2 = false;
    }
    http.validate().map_err(|error| located(&error.path, error.message))?;
    http.resolve_paths(base);

    let mut endpoint = Endpoint { write, http, sigv4: None };
    if let Some(entry) = sigv4.filter(|entry| !entry.value.is_null()) {
        let in_block = |error: NodeError| error.in_key(&entry.key);
        let http = &endpoint.http;
        if http.basic_auth.is_some() || http.authorization.is_some() || http.oauth2.is_some() {
            let message = "at most one of basic_auth, authorization, oauth2 and sigv4 can be configured";
            return Err(in_block(NodeError::invalid(message).at(entry.key_at)));
        }
        let config: SigV4Config = entry.value.read().map_err(in_block)?;
        let block = entry.value.mapping().map_err(in_block)?;
        config
            .validate()
            .map_err(|error| in_block(NodeError::at_path(&block, &error.path, error.message)))?;
        let url = endpoint.write.url.parse().map_err(|error: http::uri::InvalidUri| {
            let message =
                format!("sigv4 needs a url like https://aps-workspaces.REGION.amazonaws.com/…: {error}");
            located(&["url".to_owned()], message)
        })?;
        // It names the keys by their whole path from here.
        sigv4::check_scope(&config, &block, &url, env)?;
        let role = match config.roles.len().checked_sub(1) {
            None => vec!["role_arn".to_owned()],
            Some(last) => vec!["roles".to_owned(), last.to_string(), "role_arn".to_owned()],
        };
        endpoint.sigv4 = Some(config);
        if let Some(message) = signing_fault(&endpoint) {
            warn(in_block(NodeError::at_path(&block, &["region".to_owned()], message)));
        }
        if let Some(warning) = sigv4::no_distinguishing_label(&endpoint, &block, &role, global, env) {
            warn(in_block(warning));
        }
    }
    Ok(endpoint)
}

fn refuse_if_on(mapping: &mut Mapping<'_>, key: &str, message: &str) -> Result<(), NodeError> {
    let Some(entry) = mapping.take(key) else { return Ok(()) };
    let on: bool = entry.value.read().map_err(|error| error.in_key(key))?;
    if on { Err(NodeError::unsupported(message).at(entry.key_at).in_key(key)) } else { Ok(()) }
}
