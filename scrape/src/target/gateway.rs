//! The labels that say how a target is reached through a gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::uri::Authority;
use promferry_http_client::OriginHeader;
use promferry_model::LabelsBuilder;
use promferry_relabel::{Action, Relabel, RelabelConfig};
use smol_str::SmolStr;

use super::TargetError;

/// The host, with a port if need be, that a target is asked for where that is not `__address__`.
const HOST: &str = "__host__";
/// What follows is the name of a header.
const HEADER_PREFIX: &str = "__header_";
/// A value that names the file which holds the header's value.
const FILE_PREFIX: &str = "file:";

const HIDDEN: &str = "<hidden>";

/// Stands for a value that names a file where the rule that wrote it did not.
const FOUND_FILE: &str = "\0file";

/// As long as a name can be in DNS.
const MAX_HOST_BYTES: usize = 255;

/// Whether a label is one of those that only a rule may set that names it.
fn is_reserved(name: &str) -> bool {
    name == HOST || name.starts_with(HEADER_PREFIX)
}

/// Hides what discovery brings as a header's value, which is not used.
pub(super) fn hide_discovered(labels: &mut LabelsBuilder) {
    let mut headers = Vec::new();
    labels.retain(|label| {
        if label.name.starts_with(HEADER_PREFIX) {
            headers.push(label.name.clone());
        }
        true
    });
    for name in headers {
        labels.set(name, HIDDEN);
    }
}

/// Takes out what discovery says of hosts and headers: which of ours is sent where is for the rules to say. Whether
/// there was any.
pub(super) fn remove_discovered(labels: &mut LabelsBuilder) -> bool {
    let mut removed = false;
    labels.retain(|label| {
        removed |= is_reserved(&label.name);
        !is_reserved(&label.name)
    });
    removed
}

/// Applies a rule of `relabel_configs`; `false` when it drops. A rule that makes up names from what it finds, as
/// `labelmap` does, leaves hosts and headers as they were: a pod's annotation sets none. A header's value goes into
/// other headers alone.
pub(crate) fn apply_rule(config: &RelabelConfig, rule: &Relabel, labels: &mut LabelsBuilder) -> bool {
    let names_its_label = match config.action {
        Action::LabelMap => false,
        Action::Replace => !config.target_label.contains('$'),
        _ => true,
    };
    let is_header = |name: &SmolStr| name.starts_with(HEADER_PREFIX);
    let copies_a_header =
        matches!(config.action, Action::Replace | Action::Lowercase | Action::Uppercase | Action::HashMod)
            && config.source_labels.iter().any(is_header)
            && !is_header(&config.target_label);
    if names_its_label && !copies_a_header {
        return apply_named(config, rule, labels);
    }
    // It does not see them either, or it might make a public label of a header's value.
    let mut before = Vec::new();
    labels.retain(|label| {
        if is_reserved(&label.name) {
            before.push((label.name.clone(), label.value.clone()));
        }
        !is_reserved(&label.name)
    });
    let kept = rule.apply(labels);
    labels.retain(|label| !is_reserved(&label.name));
    for (name, value) in before {
        labels.set(name, value);
    }
    kept
}

/// Applies a rule that names its label. A file is named by the rule itself and not by what it finds: a pod's annotation
/// chooses none.
fn apply_named(config: &RelabelConfig, rule: &Relabel, labels: &mut LabelsBuilder) -> bool {
    let name = &config.target_label;
    let names_a_file = config.action == Action::Replace && config.replacement.starts_with(FILE_PREFIX);
    let may_find_a_file = name.starts_with(HEADER_PREFIX) && !names_a_file;
    if !may_find_a_file {
        return rule.apply(labels);
    }
    let before = SmolStr::from(labels.get(name));
    let kept = rule.apply(labels);
    let after = labels.get(name);
    if after != before && after.starts_with(FILE_PREFIX) {
        labels.set(name.as_str(), FOUND_FILE);
    }
    kept
}

/// How a target wants to be asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Served {
    pub(super) host: Option<Authority>,
    pub(super) headers: Option<Arc<[OriginHeader]>>,
}

impl Served {
    /// Takes the labels out that say so.
    ///
    /// # Errors
    /// [`TargetError::Gateway`] for the first of them that cannot be used.
    pub(super) fn take(labels: &mut LabelsBuilder, folders: &[PathBuf]) -> Result<Option<Self>, TargetError> {
        let mut reserved: Vec<(SmolStr, SmolStr)> = Vec::new();
        labels.retain(|label| {
            let is_reserved = is_reserved(&label.name);
            if is_reserved {
                reserved.push((label.name.clone(), label.value.clone()));
            }
            !is_reserved
        });
        if reserved.is_empty() {
            return Ok(None);
        }
        let (mut host, mut headers) = (None, Vec::new());
        for (label, value) in reserved {
            let fail = |reason: String| TargetError::Gateway { label: label.clone(), reason };
            match label.strip_prefix(HEADER_PREFIX) {
                None => host = Some(authority(&value).map_err(fail)?),
                Some(name) => headers.push(header(name, &value, folders).map_err(fail)?),
            }
        }
        Ok(Some(Self { host, headers: (!headers.is_empty()).then(|| headers.into()) }))
    }
}

fn authority(value: &str) -> Result<Authority, String> {
    let fail = || format!("{value:?} is no host: what is wanted is a name, or a name and a port");
    if value.len() > MAX_HOST_BYTES || value.contains('@') {
        return Err(fail());
    }
    let authority: Authority = value.parse().map_err(|_| fail())?;
    let has_bad_port = authority.port().is_none() && authority.as_str() != authority.host();
    if authority.host().is_empty() || has_bad_port { Err(fail()) } else { Ok(authority) }
}

fn header(name: &str, value: &str, folders: &[PathBuf]) -> Result<OriginHeader, String> {
    let name = name.replace('_', "-");
    if value == FOUND_FILE {
        return Err(
            "a file may be named only by a rule whose replacement begins with file:, and not by what it finds"
                .into(),
        );
    }
    let made = match value.strip_prefix(FILE_PREFIX) {
        Some(_) if folders.is_empty() => {
            return Err(
                "a file may be named only where the job's gateway.header_files lists its folder".into()
            );
        }
        Some(path) => OriginHeader::from_file(&name, Path::new(path), &folders.into()),
        None => OriginHeader::new(&name, value),
    };
    made.map_err(|error| error.message)
}

/// Where a target's connection goes: its host and port, in lower case.
pub(super) fn connect_address(scheme: &str, address: &str) -> SmolStr {
    let address = address.to_ascii_lowercase();
    let has_port = match address.rsplit_once(':') {
        Some((host, port)) => port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':'),
        None => false,
    };
    let is_bare_v6 = address.starts_with('[') && address.ends_with(']');
    if has_port && !is_bare_v6 {
        return address.into();
    }
    let port = if scheme == "https" { 443 } else { 80 };
    smol_str::format_smolstr!("{address}:{port}")
}

/// Whether a URL's path is one by which a Kubernetes API server passes a request on
/// (`/api/v1/namespaces/NAMESPACE/{pods,services}/NAME/proxy/…`, `/api/v1/nodes/NAME/proxy/…`).
pub(super) fn is_api_server_proxy(path: &str) -> bool {
    let Some((_, rest)) = path.split_once("/api/v1/") else { return false };
    let mut parts = rest.split('/');
    let has_name = match parts.next() {
        Some("nodes") => true,
        Some("namespaces") => parts.next().is_some() && matches!(parts.next(), Some("pods" | "services")),
        _ => false,
    };
    has_name && parts.next().is_some_and(|name| !name.is_empty()) && parts.next() == Some("proxy")
}
