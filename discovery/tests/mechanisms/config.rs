use std::path::Path;

use promferry_discovery::{DiscoveryConfigs, HttpSdConfig};
use promferry_http_client::HttpClientConfig;
use promferry_model::PromDuration;

use crate::support::configs;

#[test]
fn defaults_are_prometheus() {
    let configs = configs(
        "
static_configs: [{targets: [a]}]
file_sd_configs: [{files: [a.yml]}]
http_sd_configs: [{url: http://x}]
dns_sd_configs: [{names: [_a._tcp.x]}]
",
    );
    assert_eq!(configs.file_sd_configs[0].refresh_interval, PromDuration::from_secs(300));
    assert_eq!(configs.http_sd_configs[0].refresh_interval, PromDuration::from_secs(60));
    assert_eq!(configs.http_sd_configs[0].http_config, HttpClientConfig::default());
    assert_eq!(configs.dns_sd_configs[0].refresh_interval, PromDuration::from_secs(30));
    assert_eq!(configs.dns_sd_configs[0].record_type, "SRV");
    let empty: DiscoveryConfigs =
        serde_saphyr::from_str("{static_configs: , file_sd_configs: , http_sd_configs: , dns_sd_configs: }")
            .unwrap();
    assert_eq!(empty, DiscoveryConfigs::default());
}

#[test]
fn an_interval_without_a_value_is_the_default() {
    let configs = configs(
        "
file_sd_configs: [{files: [a.yml], refresh_interval: }]
http_sd_configs: [{url: http://x, refresh_interval: }]
dns_sd_configs: [{names: [_a._tcp.x], refresh_interval: }]
",
    );
    assert_eq!(configs.file_sd_configs[0].refresh_interval, PromDuration::from_secs(300));
    assert_eq!(configs.http_sd_configs[0].refresh_interval, PromDuration::from_secs(60));
    assert_eq!(configs.dns_sd_configs[0].refresh_interval, PromDuration::from_secs(30));
    assert_eq!(configs.validate(), Ok(()));
}

#[test]
fn every_key_of_http_config_stands_in_http_sd_config() {
    for key in HttpClientConfig::KEYS.iter().chain(HttpSdConfig::KEYS) {
        let config: HttpSdConfig = serde_saphyr::from_str(&format!("{key}:\n")).unwrap();
        let mut zero = HttpSdConfig::default();
        match *key {
            "follow_redirects" => zero.http_config.follow_redirects = false,
            "enable_http2" => zero.http_config.enable_http2 = false,
            _ => {}
        }
        assert_eq!(config, zero, "{key}");
    }
    let full = "
basic_auth: {username: u}
authorization: {credentials: c}
oauth2: {client_id: i}
bearer_token: b
bearer_token_file: f
tls_config: {server_name: n}
proxy_url: http://p
no_proxy: n
proxy_from_environment: true
proxy_connect_header: {a: [b]}
follow_redirects: false
enable_http2: false
http_headers: {X-A: {values: [v]}}
";
    let inlined: HttpSdConfig = serde_saphyr::from_str(full).unwrap();
    let alone: HttpClientConfig = serde_saphyr::from_str(full).unwrap();
    assert_eq!(inlined.http_config, alone);
    assert!(serde_saphyr::from_str::<HttpSdConfig>("urls: x").is_err());
}

#[test]
fn paths_are_resolved() {
    let mut configs = configs(
        "{file_sd_configs: [{files: [sd/*.yml]}], http_sd_configs: [{url: http://x, bearer_token_file: t}]}",
    );
    configs.resolve_paths(Path::new("/etc/p"));
    assert_eq!(configs.file_sd_configs[0].files, [Path::new("/etc/p/sd/*.yml")]);
    assert_eq!(configs.http_sd_configs[0].http_config.bearer_token_file, Path::new("/etc/p/t"));
}

#[test]
fn broken_rules_are_named_with_their_path() {
    for (yaml, path, message) in [
        ("static_configs: [{labels: {'': x}}]", "static_configs.0.labels.", "not a valid label name"),
        ("file_sd_configs: [{}]", "file_sd_configs.0.files", "at least one path"),
        (
            "file_sd_configs: [{files: [a.yml, b.txt]}]",
            "file_sd_configs.0.files.1",
            "path b.txt is not valid",
        ),
        (
            "file_sd_configs: [{files: ['*/b.yml']}]",
            "file_sd_configs.0.files.0",
            "not valid for file discovery",
        ),
        (
            "file_sd_configs: [{files: [a.yml], refresh_interval: 0s}]",
            "file_sd_configs.0.refresh_interval",
            "longer",
        ),
        ("http_sd_configs: [{}]", "http_sd_configs.0.url", "missing"),
        ("http_sd_configs: [{url: http://a}, {url: 'ftp://x/'}]", "http_sd_configs.1.url", "http or https"),
        ("http_sd_configs: [{url: /x}]", "http_sd_configs.0.url", "http or https"),
        (
            "http_sd_configs: [{url: http://a, no_proxy: b}]",
            "http_sd_configs.0.no_proxy",
            "needs a proxy_url",
        ),
        ("dns_sd_configs: [{}]", "dns_sd_configs.0.names", "at least one name"),
        ("dns_sd_configs: [{names: [a], type: TXT}]", "dns_sd_configs.0.type", "\"TXT\" is none of"),
        (
            "dns_sd_configs: [{names: [a], type: aaaa}]",
            "dns_sd_configs.0.port",
            "port is needed for the type AAAA",
        ),
        ("dns_sd_configs: [{names: ['a..b']}]", "dns_sd_configs.0.names.0", "not a name"),
    ] {
        let configs: DiscoveryConfigs = serde_saphyr::from_str(yaml).unwrap();
        let error = configs.validate().expect_err(yaml);
        assert_eq!(error.path.join("."), path, "{yaml}");
        assert!(error.message.contains(message), "{yaml}: {}", error.message);
    }
}
