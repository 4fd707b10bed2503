//! What may be shown of an entry.

use std::collections::BTreeMap;
use std::fmt;

use super::RemoteWriteConfig;

/// The URL with `xxxxx` for its password, as Go's `URL.Redacted` writes it.
pub(super) fn url(url: &str) -> String {
    let hidden = || {
        let start = url.find("://")? + 3;
        let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |length| start + length);
        let at = start + url[start..end].rfind('@')?;
        let colon = start + url[start..at].find(':')?;
        Some(format!("{}:xxxxx{}", &url[..colon], &url[at..]))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

impl fmt::Debug for RemoteWriteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            name,
            headers,
            write_relabel_configs,
            remote_timeout,
            protobuf_message,
            protobuf_fallback,
            send_exemplars,
            send_native_histograms,
            round_robin_dns,
            queue_config,
            metadata_config,
        } = self;
        let headers: BTreeMap<_, _> = headers.keys().map(|name| (name, format_args!("<secret>"))).collect();
        f.debug_struct("RemoteWriteConfig")
            .field("url", &self::url(url))
            .field("name", name)
            .field("headers", &headers)
            .field("write_relabel_configs", write_relabel_configs)
            .field("remote_timeout", remote_timeout)
            .field("protobuf_message", protobuf_message)
            .field("protobuf_fallback", protobuf_fallback)
            .field("send_exemplars", send_exemplars)
            .field("send_native_histograms", send_native_histograms)
            .field("round_robin_dns", round_robin_dns)
            .field("queue_config", queue_config)
            .field("metadata_config", metadata_config)
            .finish()
    }
}
