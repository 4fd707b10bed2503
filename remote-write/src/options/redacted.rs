//! What may be shown of an entry.

use std::collections::BTreeMap;
use std::fmt;

use promferry_http_client::UrlParts;
use xxhash_rust::xxh3::xxh3_64;

use super::RemoteWriteConfig;

/// The URL without user and password, its query's values as `xxxxx`, and without a fragment.
pub(crate) fn url(url: &str) -> String {
    UrlParts::of(url).shown()
}

/// [`url`], and a hash of what it leaves out but for a password, which may change without the endpoint's
/// becoming another.
pub(super) fn key(url: &str) -> String {
    let UrlParts { user, query, .. } = UrlParts::of(url);
    let shown = self::url(url);
    if user.is_empty() && query.is_empty() {
        return shown;
    }
    let hash = xxh3_64(format!("{user}\n{query}").as_bytes()) as u32;
    format!("{shown}#{hash:08x}")
}

/// The URL's host, with its port where it has one.
pub(crate) fn host(url: &str) -> String {
    let UrlParts { host_and_path, .. } = UrlParts::of(url);
    host_and_path.split('/').next().unwrap_or_default().to_owned()
}

/// What [`url`] leaves out, but for the user's name.
pub(crate) fn secrets(url: &str) -> impl Iterator<Item = &str> {
    let UrlParts { password, query, .. } = UrlParts::of(url);
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    std::iter::once(password).chain(values)
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
            lasting_limits,
            active_series_limit,
            samples_per_second_limit,
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
            .field("lasting_limits", lasting_limits)
            .field("active_series_limit", active_series_limit)
            .field("samples_per_second_limit", samples_per_second_limit)
            .finish()
    }
}
