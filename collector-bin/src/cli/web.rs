//! The flags of the pages.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use promferry_model::PromDuration;

/// Where and how the pages are served: Prometheus' flags `--web.*` that have an effect.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct WebArgs {
    /// Where the status, metrics and health endpoints listen. May be given several times.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = LISTEN_ADDRESS)]
    pub listen_addresses: Vec<String>,
    /// A file that tells which certificate to show and who may look: Prometheus' web configuration. An empty file, and
    /// an empty path, mean neither TLS nor passwords.
    #[arg(id = "web_config_file", long = "web.config.file", value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub config_file: Option<PathBuf>,
    /// How long a client may take to send a request, and how long an idle connection stays open.
    #[arg(long = "web.read-timeout", value_name = "DURATION", default_value = READ_TIMEOUT)]
    pub read_timeout: PromDuration,
    /// How many connections are served at a time, over all addresses.
    #[arg(long = "web.max-connections", value_name = "NUMBER", default_value_t = MAX_CONNECTIONS)]
    pub max_connections: usize,
    /// The URL under which the pages are reached from outside, such as through a gateway; an empty one is none.
    #[arg(long = "web.external-url", value_name = "URL", value_parser = external_url)]
    pub external_url: Option<String>,
    /// What the path of every page begins with; an empty one is none [default: the path of --web.external-url].
    #[arg(long = "web.route-prefix", value_name = "PATH")]
    pub route_prefix: Option<String>,
    /// The title of the status page.
    #[arg(long = "web.page-title", value_name = "TITLE", default_value = PAGE_TITLE)]
    pub page_title: String,
    /// Answer POST /-/reload and POST /-/quit.
    #[arg(long = "web.enable-lifecycle")]
    pub lifecycle: bool,
}

const LISTEN_ADDRESS: &str = "0.0.0.0:9090";
const READ_TIMEOUT: &str = "5m";
const MAX_CONNECTIONS: usize = 512;
const PAGE_TITLE: &str = "Promferry";

impl Default for WebArgs {
    /// What holds without any flag.
    fn default() -> Self {
        Self {
            listen_addresses: vec![LISTEN_ADDRESS.to_owned()],
            config_file: None,
            read_timeout: PromDuration::from_secs(300),
            max_connections: MAX_CONNECTIONS,
            external_url: None,
            route_prefix: None,
            page_title: PAGE_TITLE.to_owned(),
            lifecycle: false,
        }
    }
}

/// Refuses what Go's `url.Parse`, and so Prometheus, takes for no URL: a colon in the first part with no scheme before
/// it.
fn external_url(url: &str) -> Result<String, String> {
    let first = url.split(['/', '?', '#']).next().unwrap_or_default();
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char))
    };
    match first.split_once(':') {
        // Its quotes are told of when it is used.
        Some((scheme, _)) if !is_scheme(scheme) && !scheme.starts_with(['"', '\'']) => {
            Err("it is no URL; write it like https://prometheus.example.com/path".to_owned())
        }
        _ => Ok(url.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        web: WebArgs,
    }

    #[test]
    fn the_defaults_are_those_of_no_flags() {
        assert_eq!(Alone::parse_from(["test"]).web, WebArgs::default());
    }

    #[test]
    fn an_external_url_that_is_none_is_refused() {
        let taken = |url: &str| Alone::try_parse_from(["test", &format!("--web.external-url={url}")]).is_ok();
        for url in ["", "/prom", "prom", "https://a.example/prom", "http://[::1]:9090/", "/a:b", "?x=:"] {
            assert!(taken(url), "{url}");
        }
        for url in ["::::", "://a.example", "10.0.0.1:9090/prom", "a b://c", "[::1]:9090"] {
            assert!(!taken(url), "{url}");
        }
    }

    #[test]
    fn each_flag_is_read() {
        let flags = [
            "--web.listen-address=:1",
            "--web.listen-address",
            "127.0.0.1:2",
            "--web.config.file=",
            "--web.read-timeout=1m30s",
            "--web.max-connections=7",
            "--web.external-url=https://a.example/prom",
            "--web.route-prefix=/",
            "--web.page-title=A title",
            "--web.enable-lifecycle",
        ];
        let expected = WebArgs {
            listen_addresses: vec![":1".to_owned(), "127.0.0.1:2".to_owned()],
            config_file: Some(PathBuf::new()),
            read_timeout: PromDuration::from_secs(90),
            max_connections: 7,
            external_url: Some("https://a.example/prom".to_owned()),
            route_prefix: Some("/".to_owned()),
            page_title: "A title".to_owned(),
            lifecycle: true,
        };
        assert_eq!(Alone::parse_from(["test"].into_iter().chain(flags)).web, expected);
    }
}
