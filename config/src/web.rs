use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use promferry_http_client::{Secret, TlsVersion};
use serde::Deserialize;

use crate::otel::go_duration;
use crate::source::Source;
use crate::yaml::{Mapping, Node, NodeError};
use crate::{ConfigError, ConfigWarning};

/// The file of `--web.config.file`: which certificate the pages show, and who may look at them. It is that of
/// Prometheus' exporter-toolkit 0.20 (web/tls_config.go); an empty one means neither TLS nor passwords.
///
/// ```
/// use promferry_config::WebConfig;
///
/// let text = "tls_server_config: {cert_file: web.crt, key_file: web.key, min_version: TLS14}\n";
/// let error = WebConfig::parse("web.yml".as_ref(), text).unwrap_err();
/// assert!(error.to_string().starts_with("web.yml:1:73: \"TLS14\" is not one of TLS10, TLS11, TLS12, TLS13"));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WebConfig {
    /// How TLS is spoken; without it the pages are plain HTTP.
    pub tls: Option<TlsServerConfig>,
    /// Headers of each answer, by name.
    pub headers: BTreeMap<String, String>,
    /// Who may look: bcrypt hashes of passwords by user, not judged here. With none everybody may.
    pub basic_auth_users: BTreeMap<String, Secret>,
    /// How many requests are answered, if not all.
    pub rate_limit: Option<RateLimit>,
    /// What was accepted without effect, or with less than it may seem.
    pub warnings: Vec<ConfigWarning>,
    text: Text,
}

/// How the pages speak TLS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsServerConfig {
    /// The certificates that are shown: the server's, then those between it and an authority.
    pub cert: Pem,
    /// The key of the first.
    pub key: Pem,
    /// The authorities that clients' certificates are verified by.
    pub client_ca: Option<Pem>,
    /// Whether clients have to show a certificate.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken: 1.2 or 1.3.
    pub min_version: TlsVersion,
    /// The newest.
    pub max_version: TlsVersion,
    /// The cipher suites of TLS 1.2 that are spoken, by name; all where this is not set. Those of 1.3 always are.
    pub tls12_cipher_suites: Option<Vec<&'static str>>,
    /// The curves that keys are agreed on, the preferred first; all where there are none.
    pub curves: Vec<Curve>,
    /// The names of which a client's certificate has to bear one; none means any. With some a client has to show a
    /// certificate.
    pub client_allowed_sans: Vec<SubjectAltName>,
}

/// Certificates or a key in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// The text itself.
    Inline(Secret),
    /// The file that holds it.
    File(PathBuf),
}

/// What is asked of clients: Go's `tls.ClientAuthType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    #[default]
    NoClientCert,
    /// A certificate, any; who has none is welcome.
    RequestClientCert,
    /// A certificate, any.
    RequireAnyClientCert,
    /// A certificate of an authority's; who has none is welcome.
    VerifyClientCertIfGiven,
    /// A certificate of an authority's.
    RequireAndVerifyClientCert,
}

/// A curve that keys are agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST's P-256.
    P256,
    /// NIST's P-384.
    P384,
    /// Curve25519.
    X25519,
}

/// A name that a certificate bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// A host's name, as the certificate writes it.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// A URI, as the certificate writes it: SPIFFE's identities are such.
    Uri(String),
}

/// How many requests are answered; the others get 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many at once; at least 1.
    pub burst: u32,
    /// One more each time that this has passed; above zero.
    pub interval: Duration,
}

impl WebConfig {
    /// Reads the file's text. `path` is what errors call it; the files that it names are resolved against the folder
    /// of it, and not opened.
    ///
    /// # Errors
    /// The first thing that is wrong, as a [`ConfigError`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let (source, document) = crate::prometheus::open(path, text)?;
        let Some(root) = document.root else {
            return Ok(Self::default());
        };
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        let mut warnings = Vec::new();
        if let Some(second) = document.second {
            warnings
                .push(NodeError::unsupported("only the first of several YAML documents is read").at(second));
        }
        let read = read(&root, base, &mut |warning| warnings.push(warning));
        let mut config = read.map_err(|error| ConfigError::new(error, &source))?;
        config.warnings = warnings.into_iter().map(|warning| ConfigWarning::new(warning, &source)).collect();
        config.text = Text(Some(Arc::new((source, root))));
        Ok(config)
    }

    /// An error about the value that these keys lead to, which shows only when it is used: a file that can't be read.
    pub fn error(&self, keys: &[&str], message: &str) -> ConfigError {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        match &self.text.0 {
            Some(text) => {
                let (source, root) = &**text;
                let error = match root.mapping() {
                    Ok(top) => NodeError::at_path(&top, &keys, message),
                    Err(error) => error,
                };
                ConfigError::new(error, source)
            }
            None => {
                let source = Source::new("", "");
                ConfigError::new(NodeError::new(crate::ErrorKind::Value, message), &source)
            }
        }
    }
}

/// The file itself, with what must not be shown.
#[derive(Clone, Default)]
struct Text(Option<Arc<(Source, Node)>>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(..)")
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawWebConfig {
    tls_server_config: RawTls,
    http_server_config: RawHttp,
    rate_limit: RawRateLimit,
    basic_auth_users: BTreeMap<String, Secret>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTls {
    cert: Secret,
    cert_file: PathBuf,
    key: Secret,
    key_file: PathBuf,
    client_ca: Secret,
    client_ca_file: PathBuf,
    client_auth_type: String,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: bool,
    client_allowed_sans: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawHttp {
    #[serde(rename = "http2")]
    _http2: bool,
    headers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRateLimit {
    burst: u32,
    interval: String,
}

const TLS: &str = "tls_server_config";
const HTTP: &str = "http_server_config";
const RATE_LIMIT: &str = "rate_limit";

fn read(root: &Node, base: &Path, warn: &mut dyn FnMut(NodeError)) -> Result<WebConfig, NodeError> {
    let top = root.mapping()?;
    let raw: RawWebConfig = root.read()?;
    check_headers(&top, &raw.http_server_config.headers)?;
    Ok(WebConfig {
        tls: read_tls(&top, raw.tls_server_config, base, warn)?,
        headers: raw.http_server_config.headers,
        basic_auth_users: raw.basic_auth_users,
        rate_limit: read_rate_limit(&top, &raw.rate_limit, warn)?,
        ..WebConfig::default()
    })
}

fn read_tls(
    top: &Mapping<'_>,
    raw: RawTls,
    base: &Path,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Option<TlsServerConfig>, NodeError> {
    let at = |key: &str, message: String| error_at(top, &[TLS, key], message);
    let cert = pem(raw.cert, &raw.cert_file, base);
    let key = pem(raw.key, &raw.key_file, base);
    let client_ca = pem(raw.client_ca, &raw.client_ca_file, base);
    let named = raw.client_auth_type.as_str();
    let client_auth = if named.is_empty() {
        ClientAuth::NoClientCert
    } else {
        one_of(top, &[TLS, "client_auth_type"], named, &CLIENT_AUTH)?
    };
    if cert.is_none() && key.is_none() && client_ca.is_none() && named.is_empty() {
        return Ok(None);
    }
    let missing = |key: &str| {
        let message = format!("{key} or {key}_file is missing, without which there is no TLS");
        error_at(top, &[TLS], message)
    };
    let cert = cert.ok_or_else(|| missing("cert"))?;
    let key = key.ok_or_else(|| missing("key"))?;

    let verifies =
        matches!(client_auth, ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert);
    if client_ca.is_some() && client_auth == ClientAuth::NoClientCert {
        let message = "client_auth_type has to say what is asked of clients where there is a client_ca: \
                       RequireAndVerifyClientCert, say";
        return Err(error_at(top, &[TLS], message.to_owned()));
    }
    if verifies && client_ca.is_none() {
        let message = format!("{named} needs client_ca or client_ca_file to verify clients' certificates by");
        return Err(at("client_auth_type", message));
    }

    let min_version = raw.min_version.unwrap_or(TlsVersion::Tls12);
    let max_version = raw.max_version.unwrap_or(TlsVersion::Tls13);
    if max_version < TlsVersion::Tls12 {
        let message = "TLS 1.2 is the oldest version that is spoken: write TLS12 or TLS13";
        return Err(at("max_version", message.to_owned()));
    }
    if min_version > max_version {
        return Err(at(
            "min_version",
            "it is newer than max_version, so that nobody could connect".to_owned(),
        ));
    }
    if min_version < TlsVersion::Tls12 {
        let message =
            "TLS 1.2 is the oldest version that is spoken, and older clients are not answered: TLS12 says so";
        warn(at("min_version", message.to_owned()));
    }

    Ok(Some(TlsServerConfig {
        cert,
        key,
        client_ca,
        client_auth,
        min_version: min_version.max(TlsVersion::Tls12),
        max_version,
        tls12_cipher_suites: read_cipher_suites(top, &raw.cipher_suites, max_version, warn)?,
        curves: read_curves(top, &raw.curve_preferences, warn)?,
        client_allowed_sans: read_allowed_sans(top, raw.client_allowed_sans, client_auth, warn)?,
    }))
}

/// What stands in the file wins over what stands in line, as in exporter-toolkit.
fn pem(inline: Secret, file: &Path, base: &Path) -> Option<Pem> {
    if !file.as_os_str().is_empty() {
        return Some(Pem::File(base.join(file)));
    }
    (!inline.is_empty()).then_some(Pem::Inline(inline))
}

const CLIENT_AUTH: [(&str, ClientAuth); 6] = [
    ("NoClientCert", ClientAuth::NoClientCert),
    ("RequestClientCert", ClientAuth::RequestClientCert),
    ("RequireAnyClientCert", ClientAuth::RequireAnyClientCert),
    // An older name of the same.
    ("RequireClientCert", ClientAuth::RequireAnyClientCert),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyClientCertIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerifyClientCert),
];

/// What is known of a cipher suite that Go speaks (crypto/tls `CipherSuites`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    OfTls13,
    Spoken,
    /// It encrypts block by block and authenticates afterwards, which rustls does not do.
    NotSpoken,
}

const CIPHER_SUITES: [(&str, Suite); 13] = [
    ("TLS_AES_128_GCM_SHA256", Suite::OfTls13),
    ("TLS_AES_256_GCM_SHA384", Suite::OfTls13),
    ("TLS_CHACHA20_POLY1305_SHA256", Suite::OfTls13),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Suite::NotSpoken),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Suite::NotSpoken),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Suite::NotSpoken),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Suite::NotSpoken),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Suite::Spoken),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Suite::Spoken),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Suite::Spoken),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Suite::Spoken),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Suite::Spoken),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Suite::Spoken),
];

fn read_cipher_suites(
    top: &Mapping<'_>,
    names: &[String],
    max_version: TlsVersion,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Option<Vec<&'static str>>, NodeError> {
    const KEY: &str = "cipher_suites";
    if names.is_empty() {
        return Ok(None);
    }
    let known: Vec<_> = CIPHER_SUITES.iter().map(|suite| (suite.0, *suite)).collect();
    let mut spoken = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let place = [TLS, KEY, &index.to_string()];
        match one_of(top, &place, name, &known)? {
            (name, Suite::Spoken) => spoken.push(name),
            (_, Suite::OfTls13) => {}
            (name, Suite::NotSpoken) => {
                let message = format!(
                    "{name} is not spoken: take {}, or leave it out",
                    name.replace(
                        "_CBC_SHA",
                        if name.contains("128") { "_GCM_SHA256" } else { "_GCM_SHA384" }
                    )
                );
                warn(error_at(top, &place, message));
            }
        }
    }
    if spoken.is_empty() && max_version < TlsVersion::Tls13 {
        let message = "none of them is spoken in TLS 1.2, and max_version allows no other".to_owned();
        return Err(error_at(top, &[TLS, KEY], message));
    }
    Ok(Some(spoken))
}

fn read_curves(
    top: &Mapping<'_>,
    names: &[String],
    warn: &mut dyn FnMut(NodeError),
) -> Result<Vec<Curve>, NodeError> {
    const KEY: &str = "curve_preferences";
    const CURVES: [(&str, Option<Curve>); 4] = [
        ("CurveP256", Some(Curve::P256)),
        ("CurveP384", Some(Curve::P384)),
        ("CurveP521", None),
        ("X25519", Some(Curve::X25519)),
    ];
    let mut curves = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let place = [TLS, KEY, &index.to_string()];
        match one_of(top, &place, name, &CURVES)? {
            Some(curve) => curves.push(curve),
            None => {
                warn(error_at(top, &place, format!("{name} is not spoken; clients take another of the list")))
            }
        }
    }
    if curves.is_empty() && !names.is_empty() {
        let message = "none of them is spoken: add CurveP256, CurveP384 or X25519".to_owned();
        return Err(error_at(top, &[TLS, KEY], message));
    }
    Ok(curves)
}

fn read_allowed_sans(
    top: &Mapping<'_>,
    names: Option<Vec<String>>,
    client_auth: ClientAuth,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Vec<SubjectAltName>, NodeError> {
    const KEY: &str = "client_allowed_sans";
    let Some(names) = names else { return Ok(Vec::new()) };
    if client_auth == ClientAuth::NoClientCert {
        warn(error_at(top, &[TLS, KEY], "no certificate is asked for without client_auth_type".to_owned()));
        return Ok(Vec::new());
    }
    if names.is_empty() {
        let message = "the list is empty, so that nobody could connect".to_owned();
        return Err(error_at(top, &[TLS, KEY], message));
    }
    let parse = |(index, name): (usize, &String)| {
        if let Ok(address) = name.parse() {
            Ok(SubjectAltName::Ip(address))
        } else if name.contains(':') {
            Ok(SubjectAltName::Uri(name.clone()))
        } else if name.contains('@') {
            let message =
                "e-mail addresses of certificates are not looked at; name a host, an address or a URI";
            Err(error_at(top, &[TLS, KEY, &index.to_string()], message.to_owned()))
        } else {
            Ok(SubjectAltName::Dns(name.clone()))
        }
    };
    names.iter().enumerate().map(parse).collect()
}

/// The headers that exporter-toolkit sets, and what each may say (web/handler.go).
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

fn check_headers(top: &Mapping<'_>, headers: &BTreeMap<String, String>) -> Result<(), NodeError> {
    for (name, value) in headers {
        let place = [HTTP, "headers", name];
        let known = one_of(top, &place, name, &HEADERS)?;
        if !known.is_empty() && !known.contains(&value.as_str()) {
            return Err(error_at(top, &place, format!("{name} can be {}", known.join(" or "))));
        }
        if HeaderValue::from_str(value).is_err() {
            return Err(error_at(top, &place, "it holds what no header can".to_owned()));
        }
    }
    Ok(())
}

fn read_rate_limit(
    top: &Mapping<'_>,
    raw: &RawRateLimit,
    warn: &mut dyn FnMut(NodeError),
) -> Result<Option<RateLimit>, NodeError> {
    let interval = match raw.interval.as_str() {
        "" => Duration::ZERO,
        text => {
            go_duration::parse(text).map_err(|message| error_at(top, &[RATE_LIMIT, "interval"], message))?
        }
    };
    if interval.is_zero() {
        if raw.burst > 0 {
            warn(error_at(top, &[RATE_LIMIT], "without interval there is no limit".to_owned()));
        }
        return Ok(None);
    }
    if raw.burst == 0 {
        let message = "burst has to be at least 1, or no request would ever be answered".to_owned();
        return Err(error_at(top, &[RATE_LIMIT], message));
    }
    Ok(Some(RateLimit { burst: raw.burst, interval }))
}

fn error_at(top: &Mapping<'_>, keys: &[&str], message: String) -> NodeError {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    NodeError::at_path(top, &keys, message)
}

/// What one of the known names stands for.
fn one_of<T: Copy>(
    top: &Mapping<'_>,
    keys: &[&str],
    name: &str,
    known: &[(&'static str, T)],
) -> Result<T, NodeError> {
    if let Some((_, value)) = known.iter().find(|(known, _)| *known == name) {
        return Ok(*value);
    }
    let names = || known.iter().map(|(name, _)| *name);
    let message = format!("{name:?} is not one of {}", names().collect::<Vec<_>>().join(", "));
    let NodeError { at, path, .. } = error_at(top, keys, String::new());
    Err(NodeError { at, path, ..NodeError::unknown_name(message, name, names()) })
}
