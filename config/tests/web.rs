//! The file of `--web.config.file`: what it says, and what a user is told about one that cannot be used. Texts are
//! pinned: they are the product.

use std::path::Path;
use std::time::Duration;

use promferry_config::{ClientAuth, Curve, Pem, RateLimit, SubjectAltName, WebConfig};
use promferry_http_client::TlsVersion;

fn parse(text: &str) -> Result<WebConfig, String> {
    WebConfig::parse(Path::new("web.yml"), text).map_err(|error| error.to_string())
}

#[test]
fn everything_is_read() {
    let text = "
tls_server_config:
  cert_file: web.crt
  key: inline
  client_ca_file: /ca.crt
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [a.example, 10.0.0.1, '::1', 'spiffe://a/b']
  min_version: TLS13
  max_version: TLS13
  prefer_server_cipher_suites: true
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  curve_preferences: [X25519, CurveP256]
http_server_config:
  http2: true
  headers: {X-Frame-Options: sameorigin, Content-Security-Policy: default-src 'self'}
basic_auth_users: {alice: a hash}
rate_limit: {burst: 10, interval: 1m30s}
";
    let config = WebConfig::parse(Path::new("etc/web.yml"), text).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let tls = config.tls.unwrap();
    assert_eq!(tls.cert, Pem::File("etc/web.crt".into()));
    assert_eq!(tls.key, Pem::Inline("inline".into()));
    assert_eq!(tls.client_ca, Some(Pem::File("/ca.crt".into())));
    assert_eq!(tls.client_auth, ClientAuth::RequireAndVerifyClientCert);
    assert_eq!((tls.min_version, tls.max_version), (TlsVersion::Tls13, TlsVersion::Tls13));
    assert_eq!(tls.tls12_cipher_suites, Some(vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]));
    assert_eq!(tls.curves, [Curve::X25519, Curve::P256]);
    let names = [
        SubjectAltName::Dns("a.example".to_owned()),
        SubjectAltName::Ip([10, 0, 0, 1].into()),
        SubjectAltName::Ip("::1".parse().unwrap()),
        SubjectAltName::Uri("spiffe://a/b".to_owned()),
    ];
    assert_eq!(tls.client_allowed_sans, names);
    assert_eq!(config.headers["X-Frame-Options"], "sameorigin");
    assert_eq!(config.basic_auth_users["alice"].expose(), "a hash");
    assert_eq!(config.rate_limit, Some(RateLimit { burst: 10, interval: Duration::from_secs(90) }));
}

#[test]
fn an_empty_file_means_nothing() {
    for text in
        ["", "---\n", "{}\n", "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n"]
    {
        let config = parse(text).unwrap();
        assert!(config.tls.is_none() && config.headers.is_empty() && config.basic_auth_users.is_empty());
        assert!(config.rate_limit.is_none() && config.warnings.is_empty());
    }
}

const PAIR: &str = "cert_file: c, key_file: k";

#[test]
fn each_says_what_is_wrong_and_where() {
    let tls = |more: &str| format!("tls_server_config: {{{PAIR}, {more}}}\n");
    for (text, expected) in [
        ("tls_server_config: [\n".to_owned(), "1:20: not valid YAML: "),
        ("tls: {}\n".to_owned(), "1:1: unknown key \"tls\" (there are "),
        (
            tls("cert_fil: c"),
            "1:48: unknown key \"cert_fil\" in tls_server_config (did you mean \"cert_file\"?)",
        ),
        (
            "tls_server_config: {key_file: k}\n".to_owned(),
            "1:20: cert or cert_file is missing, without which there is no TLS in tls_server_config",
        ),
        (
            "tls_server_config:\n  cert_file: c\n".to_owned(),
            "2:3: key or key_file is missing, without which there is no TLS in tls_server_config",
        ),
        (
            "tls_server_config: {client_auth_type: NoClientCert}\n".to_owned(),
            "1:20: cert or cert_file is missing, without which there is no TLS in tls_server_config",
        ),
        (
            tls("client_auth_type: RequireAndVerify"),
            "1:66: \"RequireAndVerify\" is not one of NoClientCert, RequestClientCert, RequireAnyClientCert, \
             RequireClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert in \
             tls_server_config.client_auth_type",
        ),
        (
            tls("client_auth_type: VerifyClientCertIfGiven"),
            "1:66: VerifyClientCertIfGiven needs client_ca or client_ca_file to verify clients' certificates by in \
             tls_server_config.client_auth_type",
        ),
        (
            tls("client_ca_file: ca"),
            "1:20: client_auth_type has to say what is asked of clients where there is a client_ca: \
             RequireAndVerifyClientCert, say in tls_server_config",
        ),
        (
            tls("max_version: TLS11"),
            "1:61: TLS 1.2 is the oldest version that is spoken: write TLS12 or TLS13 in tls_server_config.max_version",
        ),
        (
            tls("min_version: TLS13, max_version: TLS12"),
            "1:61: it is newer than max_version, so that nobody could connect in tls_server_config.min_version",
        ),
        (
            tls("min_version: TLS1.2"),
            "1:61: \"TLS1.2\" is not one of TLS10, TLS11, TLS12, TLS13 in tls_server_config.min_version (did you mean \
             \"TLS12\"?)",
        ),
        (
            tls("cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_AES_128_GCM]"),
            "1:88: \"TLS_AES_128_GCM\" is not one of TLS_AES_128_GCM_SHA256, ",
        ),
        (
            tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA], max_version: TLS12"),
            "1:63: none of them is spoken in TLS 1.2, and max_version allows no other in \
             tls_server_config.cipher_suites",
        ),
        (
            tls("curve_preferences: [P256]"),
            "1:68: \"P256\" is not one of CurveP256, CurveP384, CurveP521, X25519 in \
             tls_server_config.curve_preferences[0]",
        ),
        (
            tls("curve_preferences: [CurveP521]"),
            "1:67: none of them is spoken: add CurveP256, CurveP384 or X25519 in tls_server_config.curve_preferences",
        ),
        (
            tls("client_auth_type: RequestClientCert, client_allowed_sans: []"),
            "1:106: the list is empty, so that nobody could connect in tls_server_config.client_allowed_sans",
        ),
        (
            tls("client_auth_type: RequestClientCert, client_allowed_sans: [a@b.example]"),
            "1:107: e-mail addresses of certificates are not looked at; name a host, an address or a URI in \
             tls_server_config.client_allowed_sans[0]",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: allow}}\n".to_owned(),
            "1:49: X-Frame-Options can be deny or sameorigin in http_server_config.headers.X-Frame-Options",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Option: deny\n".to_owned(),
            "3:21: \"X-Frame-Option\" is not one of Content-Security-Policy, Strict-Transport-Security, \
             X-Content-Type-Options, X-Frame-Options, X-XSS-Protection in http_server_config.headers.X-Frame-Option \
             (did you mean \"X-Frame-Options\"?)",
        ),
        (
            "rate_limit: {burst: 1, interval: 5}\n".to_owned(),
            "1:34: \"5\" is no duration (write it like 30s, 500ms or 1m30s) in rate_limit.interval",
        ),
        (
            "rate_limit: {interval: 5s}\n".to_owned(),
            "1:13: burst has to be at least 1, or no request would ever be answered in rate_limit",
        ),
        (
            "rate_limit: {burst: -1}\n".to_owned(),
            "1:21: expected a whole number of at least 0, found -1 in rate_limit.burst",
        ),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(&format!("web.yml:{expected}")), "{text}\n{error}\n{expected}");
    }
}

#[test]
fn what_has_less_effect_than_it_seems_is_said() {
    for (text, expected) in [
        (
            format!("tls_server_config: {{{PAIR}, min_version: TLS10}}\n"),
            "web.yml:1:61: TLS 1.2 is the oldest version that is spoken, and older clients are not answered: TLS12 says \
             so in tls_server_config.min_version",
        ),
        (
            format!(
                "tls_server_config: {{{PAIR}, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, \
                 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}}\n"
            ),
            "web.yml:1:64: TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA is not spoken: take \
             TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, or leave it out in tls_server_config.cipher_suites[0]",
        ),
        (
            format!("tls_server_config: {{{PAIR}, curve_preferences: [CurveP521, X25519]}}\n"),
            "web.yml:1:68: CurveP521 is not spoken; clients take another of the list in \
             tls_server_config.curve_preferences[0]",
        ),
        (
            format!("tls_server_config: {{{PAIR}, client_allowed_sans: [a]}}\n"),
            "web.yml:1:69: no certificate is asked for without client_auth_type in \
             tls_server_config.client_allowed_sans",
        ),
        (
            "rate_limit: {burst: 3}\n".to_owned(),
            "web.yml:1:13: without interval there is no limit in rate_limit",
        ),
        ("{}\n---\n{}\n".to_owned(), "web.yml:2:1: only the first of several YAML documents is read"),
    ] {
        let config = parse(&text).unwrap();
        let said: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(said, [expected], "{text}");
    }
}

#[test]
fn no_secret_is_shown() {
    for text in [
        "basic_auth_users: {alice: hunter2, alice: hunter3}\n",
        "basic_auth_users: [hunter2]\n",
        "tls_server_config: {key: [hunter2]}\n",
        "http_server_config: {headers: {Strict-Transport-Security: \"hunter2\\n\"}}\n",
    ] {
        let error = WebConfig::parse(Path::new("web.yml"), text).unwrap_err();
        assert!(!format!("{error:#}").contains("hunter"), "{error:#}");
    }
    let text = "basic_auth_users: {alice: hunter2}\ntls_server_config: {cert: c, key: hunter3}\n";
    let config = parse(text).unwrap();
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    let error = config.error(&["basic_auth_users", "alice"], "no");
    assert_eq!(error.to_string(), "web.yml:1:27: no in basic_auth_users.alice");
    assert!(!format!("{error:#}").contains("hunter"), "{error:#}");
}
