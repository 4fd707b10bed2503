//! What the paths of the pages begin with.

use std::fmt;

use http::Uri;

use super::WebError;
use crate::cli::WebArgs;

/// The prefix of every path: empty, or `/` and a path that does not end with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoutePrefix(String);

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// To a page, by its path below the prefix.
    Page(&'a str),
    /// To the status page, by its full path.
    Home,
    /// To nothing of ours.
    Elsewhere,
}

impl RoutePrefix {
    /// As Prometheus 3.16 finds it (cmd/prometheus/main.go): the flag, else the path of the external URL.
    pub(super) fn of(args: &WebArgs) -> Result<Self, WebError> {
        let external = args.external_url.as_deref().unwrap_or_default();
        let external_path = path_of_url(external)
            .map_err(|reason| WebError::Flag { flag: "web.external-url", reason: reason.to_owned() })?;
        let prefix = args.route_prefix.as_deref().filter(|prefix| !prefix.is_empty());
        let (flag, prefix) = match prefix {
            Some(prefix) => ("web.route-prefix", prefix),
            None => ("web.external-url", external_path),
        };
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() {
            return Ok(Self(String::new()));
        }
        let prefix = format!("/{prefix}");
        let is_path = prefix.parse::<Uri>().is_ok_and(|uri| uri.path() == prefix);
        if !is_path {
            let reason = format!("{prefix:?} is no path that a request can have");
            return Err(WebError::Flag { flag, reason });
        }
        Ok(Self(prefix))
    }

    /// Where a request for this path goes.
    pub(super) fn route<'a>(&self, path: &'a str) -> Route<'a> {
        if self.0.is_empty() {
            return Route::Page(path);
        }
        match path.strip_prefix(&self.0) {
            Some("") => Route::Home,
            Some(rest) if rest.starts_with('/') => Route::Page(rest),
            _ if path == "/" => Route::Home,
            _ => Route::Elsewhere,
        }
    }
}

impl fmt::Display for RoutePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of a URL, or of what stands in for one: a path alone.
fn path_of_url(url: &str) -> Result<&str, &'static str> {
    if url.starts_with(['"', '\'']) || url.ends_with(['"', '\'']) {
        return Err("the URL must not begin or end with quotes");
    }
    let url = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    Ok(match url.split_once("://") {
        None => url,
        Some((_, rest)) => rest.find('/').map_or("", |path| &rest[path..]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(external_url: Option<&str>, route_prefix: Option<&str>) -> Result<String, String> {
        let args = WebArgs {
            external_url: external_url.map(str::to_owned),
            route_prefix: route_prefix.map(str::to_owned),
            ..WebArgs::default()
        };
        RoutePrefix::of(&args).map(|prefix| prefix.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flag_wins_over_the_external_urls_path() {
        for (external_url, route_prefix, expected) in [
            (None, None, ""),
            (None, Some("/"), ""),
            (None, Some(""), ""),
            (None, Some("prom"), "/prom"),
            (None, Some("/a/b/"), "/a/b"),
            (Some("https://a.example/prom/"), None, "/prom"),
            (Some("https://a.example/prom?x=/y"), Some(""), "/prom"),
            (Some("https://a.example"), None, ""),
            (Some("/prom"), None, "/prom"),
            (Some("https://a.example/prom"), Some("/"), ""),
        ] {
            assert_eq!(prefix(external_url, route_prefix).as_deref(), Ok(expected));
        }
        assert_eq!(
            prefix(Some("\"https://a.example/prom\""), None).unwrap_err(),
            "--web.external-url: the URL must not begin or end with quotes"
        );
        assert_eq!(
            prefix(None, Some("a b")).unwrap_err(),
            "--web.route-prefix: \"/a b\" is no path that a request can have"
        );
    }

    #[test]
    fn only_what_is_below_the_prefix_is_a_page() {
        let args = WebArgs { route_prefix: Some("/prom".to_owned()), ..WebArgs::default() };
        let prefix = RoutePrefix::of(&args).unwrap();
        for (path, expected) in [
            ("/", Route::Home),
            ("/prom", Route::Home),
            ("/prom/", Route::Page("/")),
            ("/prom/-/ready", Route::Page("/-/ready")),
            ("/prometheus", Route::Elsewhere),
            ("/-/ready", Route::Elsewhere),
        ] {
            assert_eq!(prefix.route(path), expected, "{path}");
        }
        let none = RoutePrefix::of(&WebArgs::default()).unwrap();
        assert_eq!(none.route("/metrics"), Route::Page("/metrics"));
    }
}
