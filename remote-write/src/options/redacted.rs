//! What may be shown of an entry.

use std::collections::BTreeMap;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use super::RemoteWriteConfig;

/// The URL without user and password, its query's values as `xxxxx`, and without a fragment.
pub(crate) fn url(url: &str) -> String {
    let Parts { scheme, host_and_path, query, .. } = Parts::of(url);
    let mut shown = format!("{scheme}{host_and_path}");
    for (at, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        shown.push(if at == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) => {
                shown.push_str(name);
                shown.push_str("=xxxxx");
            }
            // Without a name it may be a secret as a whole.
            None => shown.push_str("xxxxx"),
        }
    }
    shown
}

/// [`url`], and a hash of what it leaves out but for a password, which may change without the endpoint's
/// becoming another.
pub(super) fn key(url: &str) -> String {
    let Parts { user, query, .. } = Parts::of(url);
    let shown = self::url(url);
    if user.is_empty() && query.is_empty() {
        return shown;
    }
    let hash = xxh3_64(format!("{user}\n{query}").as_bytes()) as u32;
    format!("{shown}#{hash:08x}")
}

/// The URL's host, with its port where it has one.
pub(crate) fn host(url: &str) -> String {
    let Parts { host_and_path, .. } = Parts::of(url);
    host_and_path.split('/').next().unwrap_or_default().to_owned()
}

/// What [`url`] leaves out, but for the user's name.
pub(crate) fn secrets(url: &str) -> impl Iterator<Item = &str> {
    let Parts { password, query, .. } = Parts::of(url);
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    std::iter::once(password).chain(values)
}

struct Parts<'a> {
    /// With its `://`; empty where there is none.
    scheme: &'a str,
    user: &'a str,
    password: &'a str,
    host_and_path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
        let rest = rest.split('#').next().unwrap_or_default();
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = before_query.find('/').unwrap_or(before_query.len());
        let (userinfo, host_and_path) = match before_query[..authority].rfind('@') {
            Some(at) => (&before_query[..at], &before_query[at + 1..]),
            None => ("", before_query),
        };
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        Self { scheme, user, password, host_and_path, query }
    }
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
