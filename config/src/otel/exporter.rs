//! The exporter `prometheusremotewrite`, in contrib v0.164's words and older ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use promferry_http_client::{HttpClientConfig, Secret, TlsConfig, TlsVersion};
use promferry_model::{Labels, NameValidation, PromDuration};
use promferry_relabel::RelabelConfig;
use promferry_remote_write::RemoteWriteConfig;
use serde::Deserialize;

use super::component::{take, take_bool, take_without_effect};
use super::go_duration;
use crate::ErrorKind;
use crate::lints::url_faults;
use crate::yaml::{Entry, Mapping, Node, NodeError, Value};

/// What an exporter says.
pub(super) struct Exporter<'a> {
    pub(super) write: RemoteWriteConfig,
    pub(super) http: HttpClientConfig,
    /// The extension that signs.
    pub(super) authenticator: Option<&'a Node>,
    pub(super) external_labels: Labels,
    /// What goes before each name, with its underscore.
    pub(super) prefix: Option<RelabelConfig>,
    pub(super) names: Names,
    /// Where `endpoint` stands.
    pub(super) endpoint: &'a Entry,
}

/// What the collector would do to names and labels and is not done here.
#[derive(Clone, Copy, Default)]
pub(super) struct Names {
    pub(super) suffixes: bool,
    pub(super) target_info: bool,
    pub(super) scope_labels: bool,
    pub(super) resource_labels: bool,
}

/// Keys of the exporter itself.
const KEYS: [&str; 15] = [
    "timeout",
    "external_labels",
    "http",
    "max_batch_request_parallelism",
    "send_metadata",
    "protobuf_message",
    "namespace",
    "add_metric_suffixes",
    "translation_strategy",
    "target_info",
    "disable_scope_info",
    "resource_to_telemetry_conversion",
    "resource_constant_labels",
    "convert_explicit_histograms_to_nhcb",
    "include_metadata_keys",
];

/// Keys of the HTTP client, at the exporter's top or below `http`.
const CLIENT_KEYS: [&str; 6] = ["endpoint", "headers", "tls", "proxy_url", "auth", "middlewares"];

const WITHOUT_EFFECT: [(&str, &str); 8] = [
    ("remote_write_queue", "what waits is on disk, as much as there is room for"),
    ("sending_queue", "what waits is on disk, as much as there is room for"),
    ("retry_on_failure", "what can be sent again is, with growing pauses, until it is delivered or too old"),
    ("wal", "what waits is on disk anyway, below --storage.agent.path"),
    ("max_batch_size_bytes", "requests are as large as the endpoint takes them"),
    ("include_metadata_keys", "nothing is received here whose headers could be forwarded"),
    ("keep_classic_histograms", "it goes with convert_explicit_histograms_to_nhcb"),
    ("export_created_metric", "start times are not sent as metrics of their own"),
];

const CLIENT_WITHOUT_EFFECT: [(&str, &str); 13] = [
    ("compression", "remote write is always compressed with snappy"),
    ("compression_params", "remote write is always compressed with snappy"),
    ("read_buffer_size", "buffers are as large as needed"),
    ("write_buffer_size", "buffers are as large as needed"),
    ("max_idle_conns", "there are as many connections as requests at once"),
    ("max_idle_conns_per_host", "there are as many connections as requests at once"),
    ("max_conns_per_host", "there are as many connections as requests at once"),
    ("idle_conn_timeout", "connections are kept while they are used"),
    ("disable_keep_alives", "connections are kept while they are used"),
    ("http2_read_idle_timeout", "remote write goes over HTTP/1.1"),
    ("http2_ping_timeout", "remote write goes over HTTP/1.1"),
    ("force_attempt_http2", "remote write goes over HTTP/1.1"),
    ("cookies", "no cookies are kept"),
];

pub(super) fn read<'a>(id: &'a Entry, warn: &mut dyn FnMut(NodeError)) -> Result<Exporter<'a>, NodeError> {
    let mut mapping = id.value.mapping()?;
    let at_key = |key: &str, mapping: &Mapping<'a>| mapping.get(key).map_or(id.key_at, |entry| entry.key_at);
    let nested = mapping.get("http").filter(|entry| !entry.value.is_null());
    let known = known_keys(nested.is_none());
    let mut client = match nested {
        None => mapping.split(&all_client_keys()),
        Some(http) => {
            if let Some(entry) = mapping.split(&all_client_keys()).entries().first() {
                let message =
                    format!("{0} stands beside http, which replaces it: write it as http.{0}", entry.key);
                return Err(NodeError::invalid(message).at(entry.key_at).in_key(&entry.key));
            }
            http.value.mapping().map_err(|error| error.in_key("http"))?
        }
    };
    let within = |error: NodeError| if nested.is_some() { error.in_key("http") } else { error };

    let mut write = RemoteWriteConfig {
        send_exemplars: true,
        send_native_histograms: true,
        ..RemoteWriteConfig::default()
    };
    write.metadata_config.send = false;
    let mut http = HttpClientConfig::default();
    http.enable_http2 = false;

    take_without_effect(&mut client, &CLIENT_WITHOUT_EFFECT, &mut |error| warn(within(error)));
    let http_timeout = duration(&mut client, "timeout").map_err(within)?;
    let endpoint = read_endpoint(&mut client, id).map_err(within)?;
    write.url = endpoint.value.read::<String>().map_err(|error| within(error.in_key("endpoint")))?;
    if let Some(headers) = client.take("headers") {
        write.headers = read_headers(&headers.value).map_err(|error| within(error.in_key("headers")))?;
    }
    if let Some(tls) = client.take("tls") {
        let read =
            tls.value.mapping().and_then(|tls| read_tls(tls, &mut |error| warn(within(error.in_key("tls")))));
        http.tls_config = read.map_err(|error| within(error.in_key("tls")))?;
    }
    if let Some(url) = take::<Secret>(&mut client, "proxy_url").map_err(within)? {
        http.proxy_url = url;
    }
    // Go's HTTP client, which the collector's is, looks there too.
    http.proxy_from_environment = http.proxy_url.is_empty();
    let authenticator = match client.take("auth") {
        None => None,
        Some(auth) => read_auth(&auth.value).map_err(|error| within(error.in_key("auth")))?,
    };
    refuse_content(
        &mut client,
        "middlewares",
        "not supported: extensions between the exporter and its server",
    )
    .map_err(within)?;
    if nested.is_some() {
        let known =
            CLIENT_KEYS.iter().chain(CLIENT_WITHOUT_EFFECT.iter().map(|(key, _)| key)).chain(&["timeout"]);
        client.refuse_unknown(known).map_err(within)?;
    }

    match duration(&mut mapping, "timeout")?.or(http_timeout) {
        None => {}
        Some(timeout) if timeout.is_zero() => {
            let message = format!(
                "no limit is {} s here: a request that is never answered has to end",
                write.remote_timeout.as_millis() / 1000
            );
            warn(
                NodeError::unsupported(message).at(at_key("timeout", &id.value.mapping()?)).in_key("timeout"),
            );
        }
        Some(timeout) => write.remote_timeout = timeout,
    }
    take_without_effect(&mut mapping, &WITHOUT_EFFECT, warn);
    if let Some(requests) = take::<usize>(&mut mapping, "max_batch_request_parallelism")? {
        write.queue_config.max_shards = requests;
    }
    if let Some(message) = take(&mut mapping, "protobuf_message")? {
        write.protobuf_message = message;
    }
    write.metadata_config.send = take_bool(&mut mapping, "send_metadata")?.unwrap_or_default();
    refuse_if_on(
        &mut mapping,
        "convert_explicit_histograms_to_nhcb",
        "not supported here; write convert_classic_histograms_to_nhcb: true into the receiver's config.global",
    )?;
    let external_labels = match mapping.take("external_labels") {
        None => Labels::default(),
        Some(labels) => {
            read_external_labels(&labels.value, warn).map_err(|error| error.in_key(&labels.key))?
        }
    };
    let prefix = read_namespace(&mut mapping)?;
    let names = read_names(&mut mapping)?;
    mapping.take("http");
    mapping.refuse_unknown(&known)?;

    write.validate().map_err(|error| {
        let (path, in_client): (Vec<String>, _) = match error.path.first().map(String::as_str) {
            Some("url") => (vec!["endpoint".to_owned()], true),
            Some("headers") => (error.path.clone(), true),
            Some("queue_config") => (vec!["max_batch_request_parallelism".to_owned()], false),
            Some("remote_timeout") => (vec!["timeout".to_owned()], false),
            _ => (error.path.clone(), false),
        };
        let message = error.message.replace("max_shards", "max_batch_request_parallelism");
        located(id, nested.filter(|_| in_client), &path, message)
    })?;
    for message in url_faults(&write) {
        let fault = NodeError::new(ErrorKind::Value, message).at(endpoint.value.at);
        warn(within(fault.in_key("endpoint")));
    }
    http.validate().map_err(|error| located(id, nested, &error.path, error.message))?;
    // What distinguishes two exporters in metrics, logs and the spool.
    if id.key.contains('/') {
        write.name.clone_from(&id.key);
    }
    Ok(Exporter { write, http, authenticator, external_labels, prefix, names, endpoint })
}

fn all_client_keys() -> Vec<&'static str> {
    CLIENT_KEYS.iter().copied().chain(CLIENT_WITHOUT_EFFECT.iter().map(|(key, _)| *key)).collect()
}

fn known_keys(with_client: bool) -> Vec<&'static str> {
    let client = if with_client { all_client_keys() } else { Vec::new() };
    KEYS.iter().copied().chain(WITHOUT_EFFECT.iter().map(|(key, _)| *key)).chain(client).collect()
}

/// An error of an options type that was filled from the exporter's keys.
fn located(id: &Entry, nested: Option<&Entry>, path: &[String], message: String) -> NodeError {
    let holder = nested.map_or(&id.value, |http| &http.value);
    let error = match holder.mapping() {
        Ok(mapping) => NodeError::at_path(&mapping, path, message),
        Err(error) => error,
    };
    if nested.is_some() { error.in_key("http") } else { error }
}

fn read_endpoint<'a>(client: &mut Mapping<'a>, id: &'a Entry) -> Result<&'a Entry, NodeError> {
    let missing = |at| {
        NodeError::invalid("endpoint is missing: https://aps-workspaces.REGION.amazonaws.com/workspaces/ID/api/v1/remote_write")
            .at(at)
            .in_key("endpoint")
    };
    let Some(entry) = client.take("endpoint") else { return Err(missing(id.key_at)) };
    let url: String = entry.value.read().map_err(|error| error.in_key("endpoint"))?;
    let wrong = |message: &str| Err(NodeError::invalid(message).at(entry.value.at).in_key("endpoint"));
    if url.is_empty() {
        return Err(missing(entry.value.at));
    }
    if url.contains(['<', '>']) {
        return wrong(
            "the endpoint is still a placeholder: write the workspace's own URL there, without < and >",
        );
    }
    match url.parse::<http::Uri>() {
        Ok(uri) if uri.scheme().is_some() && uri.host().is_some() => Ok(entry),
        _ if url
            .split_once("://")
            .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(['/', '?', '#', ':'])) =>
        {
            wrong("the endpoint has no host; where that comes from a variable, it is not set or empty")
        }
        _ => wrong("the endpoint is no URL; it has to begin with https:// or http://"),
    }
}

fn duration(mapping: &mut Mapping<'_>, key: &str) -> Result<Option<PromDuration>, NodeError> {
    let Some(entry) = mapping.take(key).filter(|entry| !entry.value.is_null()) else { return Ok(None) };
    let text: String = entry.value.read().map_err(|error| error.in_key(key))?;
    let parsed = go_duration::parse(&text);
    let duration = parsed.map_err(|message| NodeError::invalid(message).at(entry.value.at).in_key(key))?;
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ok(Some(PromDuration::from_millis(if duration.is_zero() { 0 } else { millis.max(1) })))
}

/// A mapping, or a list of `{name, value}`.
fn read_headers(node: &Node) -> Result<BTreeMap<String, String>, NodeError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Header {
        name: String,
        #[serde(default)]
        value: String,
    }
    match &node.value {
        Value::List(_) => {
            let headers: Vec<Header> = node.read()?;
            Ok(headers.into_iter().map(|header| (header.name, header.value)).collect())
        }
        _ => Ok(node.read::<Option<_>>()?.unwrap_or_default()),
    }
}

fn read_auth(node: &Node) -> Result<Option<&Node>, NodeError> {
    let mut mapping = node.mapping()?;
    let authenticator = mapping.take("authenticator");
    mapping.refuse_unknown(&["authenticator"])?;
    match authenticator.filter(|entry| !entry.value.is_null()) {
        Some(entry) => Ok(Some(&entry.value)),
        None if node.is_null() => Ok(None),
        None => Err(NodeError::invalid("authenticator is missing: the name of an extension, as sigv4auth")
            .at(node.at)),
    }
}

/// `configtls`' client keys.
fn read_tls(mut mapping: Mapping<'_>, warn: &mut dyn FnMut(NodeError)) -> Result<TlsConfig, NodeError> {
    const WITHOUT_EFFECT: [(&str, &str); 4] = [
        ("reload_interval", "files are read again when they change"),
        ("cipher_suites", "the suites are those of TLS 1.2 and 1.3 that are held secure"),
        ("curve_preferences", "the curves are those that are held secure"),
        ("insecure", "whether there is TLS is for the endpoint's https:// or http:// to say"),
    ];
    const KEYS: [&str; 12] = [
        "insecure_skip_verify",
        "ca_file",
        "ca_pem",
        "cert_file",
        "cert_pem",
        "key_file",
        "key_pem",
        "server_name_override",
        "min_version",
        "max_version",
        "include_system_ca_certs_pool",
        "tpm",
    ];
    let at = mapping.at();
    if take_bool(&mut mapping, "insecure")? == Some(true) {
        warn(NodeError::unsupported(format!("insecure has no effect: {}", WITHOUT_EFFECT[3].1)).at(at));
    }
    take_without_effect(&mut mapping, &WITHOUT_EFFECT, warn);
    refuse_content(&mut mapping, "tpm", "not supported: keys in a TPM")?;
    let mut tls = TlsConfig {
        ca: take(&mut mapping, "ca_pem")?.unwrap_or_default(),
        ca_file: take::<PathBuf>(&mut mapping, "ca_file")?.unwrap_or_default(),
        cert: take(&mut mapping, "cert_pem")?.unwrap_or_default(),
        cert_file: take::<PathBuf>(&mut mapping, "cert_file")?.unwrap_or_default(),
        key: take(&mut mapping, "key_pem")?.unwrap_or_default(),
        key_file: take::<PathBuf>(&mut mapping, "key_file")?.unwrap_or_default(),
        server_name: take(&mut mapping, "server_name_override")?.unwrap_or_default(),
        insecure_skip_verify: take_bool(&mut mapping, "insecure_skip_verify")?.unwrap_or_default(),
        ..TlsConfig::default()
    };
    tls.min_version = read_tls_version(&mut mapping, "min_version")?;
    tls.max_version = read_tls_version(&mut mapping, "max_version")?;
    let system = mapping.get("include_system_ca_certs_pool").map(|entry| entry.key_at);
    if take_bool(&mut mapping, "include_system_ca_certs_pool")? == Some(true)
        && !(tls.ca.is_empty() && tls.ca_file.as_os_str().is_empty())
    {
        let message =
            "not supported: the system's certificates beside those of ca_file; write them all into one file";
        return Err(NodeError::unsupported(message)
            .at(system.unwrap_or(at))
            .in_key("include_system_ca_certs_pool"));
    }
    mapping.refuse_unknown(KEYS.iter().chain(WITHOUT_EFFECT.iter().map(|(key, _)| key)))?;
    Ok(tls)
}

fn read_tls_version(mapping: &mut Mapping<'_>, key: &str) -> Result<Option<TlsVersion>, NodeError> {
    let Some(entry) = mapping.take(key).filter(|entry| !entry.value.is_null()) else { return Ok(None) };
    let text: String = entry.value.read().map_err(|error| error.in_key(key))?;
    match text.as_str() {
        "" => Ok(None),
        "1.0" => Ok(Some(TlsVersion::Tls10)),
        "1.1" => Ok(Some(TlsVersion::Tls11)),
        "1.2" => Ok(Some(TlsVersion::Tls12)),
        "1.3" => Ok(Some(TlsVersion::Tls13)),
        _ => {
            let message = format!("{text:?} is no version of TLS; there are 1.0, 1.1, 1.2 and 1.3");
            Err(NodeError::invalid(message).at(entry.value.at).in_key(key))
        }
    }
}

/// The collector's own words for what a label's name may be: letters, digits and underscores, the rest becomes
/// underscores.
fn read_external_labels(node: &Node, warn: &mut dyn FnMut(NodeError)) -> Result<Labels, NodeError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for entry in node.mapping()?.entries() {
        let value: String = entry.value.read().map_err(|error| error.in_key(&entry.key))?;
        if entry.key.is_empty() || value.is_empty() {
            let message = "an external label needs a name and a value";
            return Err(NodeError::invalid(message).at(entry.key_at).in_key(&entry.key));
        }
        let mut name: String =
            entry.key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert_str(0, "key_");
        }
        if name != entry.key {
            let message = format!("the label {:?} is sent as {name}", entry.key);
            warn(NodeError::unsupported(message).at(entry.key_at).in_key("external_labels"));
        }
        if pairs.iter().any(|(known, _)| *known == name) {
            let message = format!("the label {name} is there twice");
            return Err(NodeError::invalid(message).at(entry.key_at).in_key(&entry.key));
        }
        pairs.push((name, value));
    }
    Ok(Labels::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
}

/// `namespace` goes before the name of each series, `up` among them.
fn read_namespace(mapping: &mut Mapping<'_>) -> Result<Option<RelabelConfig>, NodeError> {
    let Some(entry) = mapping.take("namespace").filter(|entry| !entry.value.is_null()) else {
        return Ok(None);
    };
    let namespace: String = entry.value.read().map_err(|error| error.in_key("namespace"))?;
    if namespace.is_empty() {
        return Ok(None);
    }
    if !NameValidation::Legacy.is_valid_metric_name(&namespace) {
        let message = format!(
            "{namespace:?} can't begin the name of a metric: letters, digits, _ and :, no digit first"
        );
        return Err(NodeError::invalid(message).at(entry.value.at).in_key("namespace"));
    }
    Ok(Some(RelabelConfig {
        source_labels: vec!["__name__".into()],
        regex: Some("(.+)".into()),
        target_label: "__name__".into(),
        replacement: format!("{namespace}_${{1}}").into(),
        ..RelabelConfig::default()
    }))
}

fn read_names(mapping: &mut Mapping<'_>) -> Result<Names, NodeError> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct TargetInfo {
        enabled: Option<bool>,
    }
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct ResourceLabels {
        enabled: bool,
        #[serde(rename = "exclude_service_attributes")]
        _exclude_service_attributes: bool,
        included: Option<Vec<String>>,
        #[serde(rename = "excluded")]
        _excluded: Option<Vec<String>>,
        #[serde(rename = "clear_after_copy")]
        _clear_after_copy: bool,
    }
    #[derive(Deserialize)]
    enum Strategy {
        UnderscoreEscapingWithSuffixes,
        UnderscoreEscapingWithoutSuffixes,
        NoUTF8EscapingWithSuffixes,
        NoTranslation,
    }
    let suffixes = take_bool(mapping, "add_metric_suffixes")?.unwrap_or(true);
    let suffixes = match take::<Strategy>(mapping, "translation_strategy")? {
        None => suffixes,
        Some(Strategy::UnderscoreEscapingWithSuffixes | Strategy::NoUTF8EscapingWithSuffixes) => true,
        Some(Strategy::UnderscoreEscapingWithoutSuffixes | Strategy::NoTranslation) => false,
    };
    let target_info: TargetInfo = take(mapping, "target_info")?.unwrap_or_default();
    let scope_labels = !take_bool(mapping, "disable_scope_info")?.unwrap_or_default();
    let mut resource_labels = false;
    for key in ["resource_to_telemetry_conversion", "resource_constant_labels"] {
        let labels: ResourceLabels = take(mapping, key)?.unwrap_or_default();
        resource_labels |= labels.enabled || labels.included.is_some_and(|included| !included.is_empty());
    }
    Ok(Names { suffixes, target_info: target_info.enabled.unwrap_or(true), scope_labels, resource_labels })
}

fn refuse_if_on(mapping: &mut Mapping<'_>, key: &str, message: &str) -> Result<(), NodeError> {
    let at = mapping.get(key).map_or_else(|| mapping.at(), |entry| entry.key_at);
    match take_bool(mapping, key)? {
        Some(true) => Err(NodeError::unsupported(message).at(at).in_key(key)),
        _ => Ok(()),
    }
}

/// Refuses a key that holds anything.
fn refuse_content(mapping: &mut Mapping<'_>, key: &str, message: &str) -> Result<(), NodeError> {
    let Some(entry) = mapping.take(key) else { return Ok(()) };
    let empty = match &entry.value.value {
        Value::List(items) => items.is_empty(),
        Value::Mapping(entries) => entries.is_empty(),
        Value::Scalar(_) => entry.value.is_null(),
    };
    if empty { Ok(()) } else { Err(NodeError::unsupported(message).at(entry.key_at).in_key(key)) }
}
