use std::path::Path;

use promferry_http_client::{Http, HttpClientConfig, HttpOptions, TlsVersion};

use crate::support::config;

#[test]
fn defaults_are_prometheus() {
    let config = config("{}");
    assert_eq!(config, HttpClientConfig::default());
    assert!(config.follow_redirects && config.enable_http2);
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn every_key_is_read_and_listed() {
    let full = "
basic_auth: {username: u, username_file: uf, password: p, password_file: pf}
authorization: {type: T, credentials: c, credentials_file: cf}
oauth2:
  client_id: i
  client_secret: s
  client_secret_file: sf
  client_certificate_key_id: k
  client_certificate_key: ck
  client_certificate_key_file: ckf
  grant_type: g
  signature_algorithm: RS256
  iss: i
  audience: a
  claims: {a: [1, {b: c}]}
  scopes: [s]
  token_url: http://t
  endpoint_params: {a: b, n: 1}
  tls_config: {insecure_skip_verify: true}
  proxy_url: http://p
  no_proxy: n
  proxy_from_environment: false
  proxy_connect_header: {a: [b]}
bearer_token: b
bearer_token_file: bf
tls_config:
  ca: c
  ca_file: caf
  cert: c
  cert_file: certf
  key: k
  key_file: keyf
  server_name: n
  insecure_skip_verify: true
  min_version: TLS12
  max_version: TLS13
proxy_url: http://p
no_proxy: n
proxy_from_environment: false
proxy_connect_header: {a: [b]}
follow_redirects: false
enable_http2: false
http_headers: {X-A: {values: [v], secrets: [s], files: [f]}}
";
    let mut parsed = config(full);
    assert_eq!(parsed.tls_config.max_version, Some(TlsVersion::Tls13));
    let keys = full.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key);
    let mut top: Vec<_> = keys.filter(|key| !key.starts_with(' ')).collect();
    let mut listed = HttpClientConfig::KEYS.to_vec();
    top.sort_unstable();
    listed.sort_unstable();
    assert_eq!(top, listed);

    parsed.resolve_paths(Path::new("/etc/x"));
    let shown = format!("{parsed:?}");
    for file in ["uf", "pf", "cf", "sf", "ckf", "bf", "caf", "certf", "keyf", "f"] {
        assert!(shown.contains(&format!("\"/etc/x/{file}\"")), "{file} in {shown}");
    }
    let again = parsed.clone();
    parsed.resolve_paths(Path::new("/elsewhere"));
    assert_eq!(parsed, again, "absolute paths stay");
}

#[test]
fn empty_values_are_gos_zero_values() {
    let keys: Vec<_> = HttpClientConfig::KEYS.iter().map(|key| format!("{key}:\n")).collect();
    let mut zero = HttpClientConfig::default();
    // On by default, and off when nothing is said after the colon: Prometheus 3.16 shows them as false then.
    (zero.follow_redirects, zero.enable_http2) = (false, false);
    assert_eq!(config(&keys.concat()), zero);
    assert_eq!(config("basic_auth: {username: , password: }").basic_auth, Some(Default::default()));
}

#[test]
fn unknown_keys_and_wrong_types_are_refused_with_their_place() {
    for (yaml, expected) in [
        ("basic_auth:\n  user: x\n", "user"),
        ("tls_config: {min_version: TLS9}\n", "TLS9"),
        ("follow_redirects: maybe\n", "maybe"),
        ("nonsense: 1\n", "nonsense"),
    ] {
        let error = serde_saphyr::from_str::<HttpClientConfig>(yaml).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn broken_rules_are_named_with_their_path() {
    for (yaml, path, message) in [
        ("{bearer_token: a, bearer_token_file: b}", "bearer_token_file", "at most one of"),
        ("{basic_auth: {username: a}, bearer_token: b}", "bearer_token", "basic_auth is configured too"),
        (
            "{basic_auth: {username: a}, authorization: {credentials: b}}",
            "authorization",
            "basic_auth is configured",
        ),
        (
            "{authorization: {credentials: b}, oauth2: {client_id: a, token_url: http://x}}",
            "oauth2",
            "at most one of",
        ),
        (
            "basic_auth: {username: a, username_file: b}",
            "basic_auth.username_file",
            "username & username_file",
        ),
        (
            "basic_auth: {password: a, password_file: b}",
            "basic_auth.password_file",
            "password & password_file",
        ),
        (
            "authorization: {credentials: a, credentials_file: b}",
            "authorization.credentials_file",
            "credentials",
        ),
        ("authorization: {type: ' BASIC'}", "authorization.type", "use basic_auth instead"),
        ("authorization: {credentials: \"a\\nb\"}", "authorization.credentials", "line break"),
        ("oauth2: {token_url: http://x}", "oauth2.client_id", "needs a client_id"),
        ("oauth2: {client_id: a}", "oauth2.token_url", "needs a token_url"),
        ("oauth2: {client_id: a, token_url: x}", "oauth2.token_url", "not a URL"),
        (
            "oauth2: {client_id: a, token_url: ftp://x}",
            "oauth2.token_url",
            "scheme must be one of http, https",
        ),
        (
            "oauth2: {client_id: a, token_url: http://x, client_secret: s, client_secret_file: f}",
            "oauth2.client_secret_file",
            "client_secret & client_secret_file",
        ),
        (
            "oauth2: {client_id: a, token_url: http://x, scopes: [a], endpoint_params: {scope: b}}",
            "oauth2.endpoint_params.scope",
            "set by scopes",
        ),
        (
            "oauth2: {client_id: a, token_url: http://x, grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', signature_algorithm: HS256}",
            "oauth2.signature_algorithm",
            "RS256, RS384 and RS512",
        ),
        ("oauth2: {client_id: a, token_url: http://x, no_proxy: a}", "oauth2.no_proxy", "needs a proxy_url"),
        (
            "oauth2: {client_id: a, token_url: http://x, tls_config: {key: k}}",
            "oauth2.tls_config.key",
            "cert",
        ),
        ("tls_config: {ca: a, ca_file: b}", "tls_config.ca_file", "ca & ca_file"),
        ("tls_config: {cert: a, cert_file: b, key: c}", "tls_config.cert_file", "cert & cert_file"),
        ("tls_config: {key: a, key_file: b, cert: c}", "tls_config.key_file", "key & key_file"),
        ("tls_config: {cert: a}", "tls_config.cert", "key and key_file"),
        ("tls_config: {key_file: a}", "tls_config.key_file", "cert and cert_file"),
        (
            "tls_config: {min_version: TLS13, max_version: TLS12}",
            "tls_config.max_version",
            "older than min_version",
        ),
        ("tls_config: {max_version: TLS11}", "tls_config.max_version", "TLS12 or TLS13"),
        ("proxy_connect_header: {A: [b]}", "proxy_connect_header", "needs proxy_url"),
        ("{proxy_from_environment: true, proxy_url: http://x}", "proxy_url", "proxy_from_environment"),
        ("{proxy_from_environment: true, no_proxy: x}", "no_proxy", "proxy_from_environment"),
        ("no_proxy: x", "no_proxy", "needs a proxy_url"),
        ("proxy_url: 'ftp://x'", "proxy_url", "http, https, socks5, socks5h"),
        ("proxy_url: 'http://user:hunter2@'", "proxy_url", "not a URL"),
        ("http_headers: {host: {values: [a]}}", "http_headers.host", "not allowed"),
        ("http_headers: {X-Amz-Date: {values: [a]}}", "http_headers.X-Amz-Date", "not allowed"),
        ("http_headers: {'a b': {values: [a]}}", "http_headers.a b", "not a header name"),
        ("http_headers: {A: {secrets: [\"hunter2\\n\"]}}", "http_headers.A.secrets", "line break"),
    ] {
        let config = config(yaml);
        let error = config.validate().expect_err(yaml);
        assert_eq!(error.path.join("."), path, "{yaml}");
        assert!(error.message.contains(message), "{yaml}: {}", error.message);
        assert!(!format!("{error} {error:?} {config:?}").contains("hunter2"), "{error:?}");
        assert!(Http::new(&config, HttpOptions::default()).is_err());
    }
}
