//! Files that a configuration names and that can't be read by whoever reads the configuration.

use std::path::Path;

use crate::yaml::{Node, NodeError, Value};
use crate::{ErrorKind, Files};

/// The keys that name a file with a credential, a certificate or a key: those of `http_config` and its blocks, and of
/// `kubernetes_sd_configs`.
const KEYS: [&str; 11] = [
    "bearer_token_file",
    "ca_file",
    "cert_file",
    "client_certificate_key_file",
    "client_secret_file",
    "credentials_file",
    "key_file",
    "kubeconfig_file",
    "password_file",
    "token_file",
    "username_file",
];

/// Warns of each such file below `node` that cannot be read now. Relative paths begin at `base`.
pub(crate) fn unreadable_files(node: &Node, base: &Path, files: &dyn Files, warn: &mut dyn FnMut(NodeError)) {
    match &node.value {
        Value::Scalar(_) => {}
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                unreadable_files(item, base, files, &mut |error| warn(error.in_item(index)));
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                let mut warn = |error: NodeError| warn(error.in_key(&entry.key));
                match (entry.key.as_str(), &entry.value.value) {
                    (key, Value::Scalar(_)) if KEYS.contains(&key) => {
                        warn_of(&entry.value, base, files, &mut warn);
                    }
                    ("http_headers", Value::Mapping(headers)) => {
                        for header in headers {
                            of_header(&header.value, base, files, &mut |error| {
                                warn(error.in_key(&header.key));
                            });
                        }
                    }
                    _ => unreadable_files(&entry.value, base, files, &mut warn),
                }
            }
        }
    }
}

/// Of a header the key `files` names them.
fn of_header(node: &Node, base: &Path, files: &dyn Files, warn: &mut dyn FnMut(NodeError)) {
    let Some(named) = node.mapping().ok().and_then(|header| header.get("files")) else { return };
    for (index, file) in named.value.list().unwrap_or_default().iter().enumerate() {
        warn_of(file, base, files, &mut |error| warn(error.in_item(index).in_key("files")));
    }
}

fn warn_of(node: &Node, base: &Path, files: &dyn Files, warn: &mut dyn FnMut(NodeError)) {
    let Ok(Some(path)) = node.read::<Option<String>>() else { return };
    if path.is_empty() {
        return;
    }
    let path = base.join(path);
    if let Err(error) = files.check_readable(&path) {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
        let message = format!("{} cannot be read: {reason}", path.display());
        warn(NodeError::new(ErrorKind::File, message).at(node.at));
    }
}
