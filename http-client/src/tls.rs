//! TLS configurations, shared between everything that asks for the same thing and rebuilt when a file changes.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::file::{Stamp, read_text};
use crate::{Error, Secret, TlsConfig, TlsVersion};

/// Sessions remembered for resumption. Connections are kept alive, so a few servers' worth is enough, and each costs
/// some kilobytes.
const RESUMABLE_SESSIONS: usize = 64;

/// The TLS configuration of one `tls_config`.
pub(crate) struct TlsSource {
    config: TlsConfig,
    state: Mutex<Option<Loaded>>,
}

struct Loaded {
    stamps: [Option<Stamp>; 3],
    /// Of the texts: a file that was only touched changes nothing.
    digest: u64,
    /// Counts the changes, so that connections made under an older one can be told apart.
    generation: u64,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl TlsSource {
    /// The source for `config`, the same one for everybody who asks while it is in use.
    pub(crate) fn shared(config: &TlsConfig) -> Arc<Self> {
        static SOURCES: Mutex<Vec<Weak<TlsSource>>> = Mutex::new(Vec::new());
        let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| source.strong_count() > 0);
        if let Some(source) = sources.iter().filter_map(Weak::upgrade).find(|source| source.config == *config)
        {
            return source;
        }
        let source = Arc::new(Self { config: config.clone(), state: Mutex::new(None) });
        sources.push(Arc::downgrade(&source));
        source
    }

    /// Whether there is something to read that may be missing or malformed.
    pub(crate) fn has_material(&self) -> bool {
        let TlsConfig { ca, ca_file, cert, cert_file, .. } = &self.config;
        !ca.is_empty() || !cert.is_empty() || !is_empty(ca_file) || !is_empty(cert_file)
    }

    /// The generation of what the files hold now.
    pub(crate) fn generation(&self) -> Result<u64, Error> {
        self.with_loaded(|loaded| loaded.generation)
    }

    /// What to connect with now, offering HTTP/2 or not.
    pub(crate) fn client_config(&self, http2: bool) -> Result<Arc<ClientConfig>, Error> {
        self.with_loaded(|loaded| if http2 { loaded.http2.clone() } else { loaded.http1.clone() })
    }

    /// The name to ask the server for and to check.
    pub(crate) fn server_name(&self, host: &str) -> Result<ServerName<'static>, Error> {
        let name = if self.config.server_name.is_empty() { host } else { &self.config.server_name };
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        ServerName::try_from(bare.trim_end_matches('.').to_owned()).map_err(|_| Error::Tls {
            host: host.to_owned(),
            reason: format!("{name:?} is not a name that a certificate can carry"),
        })
    }

    fn with_loaded<T>(&self, take: impl FnOnce(&Loaded) -> T) -> Result<T, Error> {
        let TlsConfig { ca_file, cert_file, key_file, .. } = &self.config;
        let stamp = |key, path: &Path| if is_empty(path) { Ok(None) } else { Stamp::of(key, path).map(Some) };
        let stamps =
            [stamp("ca_file", ca_file)?, stamp("cert_file", cert_file)?, stamp("key_file", key_file)?];
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = &*state
            && unchanged(&loaded.stamps, &stamps)
        {
            return Ok(take(loaded));
        }
        let material = Material::read(&self.config)?;
        let digest = material.digest();
        let generation = match &mut *state {
            Some(loaded) if loaded.digest == digest => {
                loaded.stamps = stamps;
                return Ok(take(loaded));
            }
            Some(loaded) => loaded.generation + 1,
            None => 0,
        };
        let http1 = build(&self.config, &material)?;
        let mut http2 = http1.clone();
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (http1, http2) = (Arc::new(http1), Arc::new(http2));
        Ok(take(state.insert(Loaded { stamps, digest, generation, http1, http2 })))
    }
}

/// The PEM texts of a `tls_config`, wherever they come from.
#[derive(Hash)]
struct Material {
    ca: Option<Secret>,
    cert: Option<Secret>,
    key: Option<Secret>,
}

impl Material {
    fn read(config: &TlsConfig) -> Result<Self, Error> {
        let read = |inline: &str, key, file: &Path| {
            if !inline.is_empty() {
                Ok(Some(inline.into()))
            } else if is_empty(file) {
                Ok(None)
            } else {
                read_text(key, file).map(Secret::from).map(Some)
            }
        };
        Ok(Self {
            ca: read(&config.ca, "ca_file", &config.ca_file)?,
            cert: read(&config.cert, "cert_file", &config.cert_file)?,
            key: read(config.key.expose(), "key_file", &config.key_file)?,
        })
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

fn unchanged(then: &[Option<Stamp>; 3], now: &[Option<Stamp>; 3]) -> bool {
    then.iter().zip(now).all(|pair| match pair {
        (Some(then), Some(now)) => then.still_holds(now),
        (None, None) => true,
        _ => false,
    })
}

/// The one crypto provider of the project, passed along explicitly so that nobody has to install one.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

fn build(config: &TlsConfig, material: &Material) -> Result<ClientConfig, Error> {
    let min = config.min_version.unwrap_or(TlsVersion::Tls12);
    let max = config.max_version.unwrap_or(TlsVersion::Tls13);
    let mut versions = Vec::new();
    if max >= TlsVersion::Tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if min <= TlsVersion::Tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| Error::TlsConfig { reason: error.to_string() })?;
    let verifier: Arc<dyn ServerCertVerifier> = if config.insecure_skip_verify {
        // The files are still read, as Prometheus does: a typing error in a path should not wait for the day when
        // verification is switched on.
        trusted_certificates(config, material)?;
        Arc::new(AcceptAny(provider.signature_verification_algorithms.supported_schemes()))
    } else {
        match trusted_certificates(config, material)? {
            Some(certificates) => verifier(root_store(config, &certificates)?, certificates, provider)?,
            None => verifier(system_roots(), Vec::new(), provider)?,
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut built = match client_identity(config, material)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(_) => {
                    "the private key does not belong to the certificate".to_owned()
                }
                other => other.to_string(),
            };
            material_error("cert_file", &config.cert_file, "cert", &reason)
        })?,
    };
    built.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
    Ok(built)
}

/// The certificates of `ca` or `ca_file`, none if neither is given.
fn trusted_certificates(
    config: &TlsConfig,
    material: &Material,
) -> Result<Option<Vec<CertificateDer<'static>>>, Error> {
    let Some(pem) = &material.ca else {
        return Ok(None);
    };
    let fail = |reason: &str| material_error("ca_file", &config.ca_file, "ca", reason);
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.expose().as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| fail(&format!("it is not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(fail("it holds no certificate in PEM"));
    }
    Ok(Some(certificates))
}

fn root_store(
    config: &TlsConfig,
    certificates: &[CertificateDer<'static>],
) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    // Bundles often hold a certificate or two of a kind that is not understood; Go skips those too.
    let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(material_error("ca_file", &config.ca_file, "ca", "none of its certificates can be used"));
    }
    Ok(Arc::new(roots))
}

/// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), or Mozilla's where the system has none, as
/// in an image without a certificate bundle. Read once and shared, because they take some 100 KB.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            let (usable, _) = roots.add_parsable_certificates(found.certs);
            if usable == 0 {
                tracing::info!("the system has no root certificates, using the built-in Mozilla roots");
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            Arc::new(roots)
        })
        .clone()
}

fn client_identity(
    config: &TlsConfig,
    material: &Material,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Error> {
    let (Some(cert), Some(key)) = (&material.cert, &material.key) else {
        return Ok(None);
    };
    let fail = |reason: &str| material_error("cert_file", &config.cert_file, "cert", reason);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert.expose().as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| fail(&format!("it is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(fail("it holds no certificate in PEM"));
    }
    // The reason is left out on purpose: it could quote the key.
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| material_error("key_file", &config.key_file, "key", "it holds no private key in PEM"))?;
    Ok(Some((chain, key)))
}

fn material_error(file_key: &'static str, file: &Path, inline_key: &str, reason: &str) -> Error {
    if is_empty(file) {
        Error::TlsConfig { reason: format!("{inline_key}: {reason}") }
    } else {
        Error::File { key: file_key, path: file.to_owned(), reason: reason.to_owned() }
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn verifier(
    roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| Error::TlsConfig { reason: error.to_string() })?;
    Ok(if certificates.is_empty() { inner } else { Arc::new(OrTrustedItself { inner, certificates }) })
}

/// The usual verification, and one more case that Go accepts: a server whose certificate marks itself as a CA (some
/// kubelets, many self-signed ones) and is itself among the trusted ones.
#[derive(Debug)]
struct OrTrustedItself {
    inner: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrTrustedItself {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // Dates are checked before the use as a CA, so a certificate that gets this far is in date.
            Err(error)
                if is_ca_used_as_end_entity(&error)
                    && self.certificates.iter().any(|trusted| trusted == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_ca_used_as_end_entity(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.to_string() == "CaUsedAsEndEntity"
        }
        _ => false,
    }
}

/// `insecure_skip_verify`: any certificate will do, so neither is the handshake's signature by it worth checking.
struct AcceptAny(Vec<SignatureScheme>);

impl fmt::Debug for AcceptAny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcceptAny")
    }
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// A time in the largest unit of which it has two.
fn roughly(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "seconds"));
    format!("{} {name}", seconds / unit)
}

/// What a failed handshake means, in plain words.
pub(crate) fn handshake_reason(error: &std::io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return crate::error::io_reason(error);
    };
    match tls {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => {
                "the server's certificate is signed by an authority that is not trusted (see tls_config.ca_file)"
                    .to_owned()
            }
            CertificateError::BadSignature => {
                "the server's certificate is not signed by the trusted authority of that name (has the authority got a \
                 new key? see tls_config.ca_file)"
                    .to_owned()
            }
            CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
                "the server's certificate is one of an authority and not itself trusted (see tls_config.ca_file)"
                    .to_owned()
            }
            CertificateError::ExpiredContext { time, not_after } => {
                let ago = roughly(time.as_secs().saturating_sub(not_after.as_secs()));
                format!("the server's certificate has expired {ago} ago, by this machine's clock")
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                let left = roughly(not_before.as_secs().saturating_sub(time.as_secs()));
                format!("the server's certificate is valid in {left} only, by this machine's clock")
            }
            other => format!("the server's certificate is not accepted: {other}"),
        },
        rustls::Error::AlertReceived(alert) => format!("the server answered with the alert {alert:?}"),
        rustls::Error::InvalidMessage(_) => format!("the server does not speak TLS ({tls})"),
        other => other.to_string(),
    }
}
