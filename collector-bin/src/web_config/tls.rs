//! The server's side of TLS, as `tls_server_config` asks for it.

use std::sync::Arc;

use promferry_config::{ClientAuth, ConfigError, Curve, Pem, TlsServerConfig, WebConfig};
use promferry_http_client::{Secret, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite};

use super::Texts;
use super::client_certificates::ClientCertificates;

/// Reads certificates and keys, and makes of them what connections are met with.
pub(super) fn server_config(
    config: &WebConfig,
    tls: &TlsServerConfig,
    texts: &mut Texts,
) -> Result<ServerConfig, ConfigError> {
    let section = |message: String| config.error(&["tls_server_config"], &message);
    let provider = Arc::new(provider(tls));
    let mut versions = Vec::new();
    if tls.max_version >= TlsVersion::Tls13 {
        versions.push(&rustls::version::TLS13);
    }
    let speaks_tls12 =
        provider.cipher_suites.iter().any(|suite| matches!(suite, SupportedCipherSuite::Tls12(_)));
    if tls.min_version <= TlsVersion::Tls12 && speaks_tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| section(error.to_string()))?;
    let builder = match client_certificates(config, tls, &provider, texts)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let chain = certificates(config, "cert", &tls.cert, &texts.pem(config, "cert", &tls.cert)?)?;
    let key = texts.pem(config, "key", &tls.key)?;
    // The reason is left out on purpose: it could quote the key.
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| error(config, "key", &tls.key, "it holds no private key in PEM"))?;
    let mut server = builder.with_single_cert(chain, key).map_err(|refused| {
        let reason = match refused {
            rustls::Error::InconsistentKeys(_) => {
                "the private key does not belong to the certificate".to_owned()
            }
            other => other.to_string(),
        };
        error(config, "key", &tls.key, &reason)
    })?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

/// The project's provider, with no more cipher suites and curves than are asked for.
fn provider(tls: &TlsServerConfig) -> CryptoProvider {
    let mut provider = default_provider();
    if let Some(suites) = &tls.tls12_cipher_suites {
        provider.cipher_suites.retain(|suite| {
            matches!(suite, SupportedCipherSuite::Tls13(_))
                || suite.suite().as_str().is_some_and(|name| suites.contains(&name))
        });
    }
    if !tls.curves.is_empty() {
        provider.kx_groups = tls
            .curves
            .iter()
            .map(|curve| match curve {
                Curve::P256 => kx_group::SECP256R1,
                Curve::P384 => kx_group::SECP384R1,
                Curve::X25519 => kx_group::X25519,
            })
            .collect();
    }
    provider
}

/// What is asked of clients, if anything.
fn client_certificates(
    config: &WebConfig,
    tls: &TlsServerConfig,
    provider: &Arc<CryptoProvider>,
    texts: &mut Texts,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, ConfigError> {
    let authorities = match &tls.client_ca {
        None => None,
        Some(pem) => {
            let text = texts.pem(config, "client_ca", pem)?;
            let mut roots = RootCertStore::empty();
            // Bundles often hold a certificate or two of a kind that is not understood; Go skips those too.
            let (usable, _) = roots.add_parsable_certificates(certificates(config, "client_ca", pem, &text)?);
            if usable == 0 {
                return Err(error(config, "client_ca", pem, "none of its certificates can be used"));
            }
            Some((pem, Arc::new(roots)))
        }
    };
    let (is_mandatory, verifies) = match tls.client_auth {
        ClientAuth::NoClientCert => return Ok(None),
        ClientAuth::RequestClientCert => (false, false),
        ClientAuth::RequireAnyClientCert => (true, false),
        ClientAuth::VerifyClientCertIfGiven => (false, true),
        ClientAuth::RequireAndVerifyClientCert => (true, true),
    };
    let verifier = match authorities.filter(|_| verifies) {
        None => None,
        Some((pem, roots)) => {
            let built = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
            Some(built.map_err(|refused| error(config, "client_ca", pem, &refused.to_string()))?)
        }
    };
    Ok(Some(Arc::new(ClientCertificates {
        // Whoever has none bears none of the names.
        is_mandatory: is_mandatory || !tls.client_allowed_sans.is_empty(),
        verifier,
        allowed: tls.client_allowed_sans.clone(),
        algorithms: provider.signature_verification_algorithms,
    })))
}

fn certificates(
    config: &WebConfig,
    key: &str,
    pem: &Pem,
    text: &Secret,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.expose().as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|refused| error(config, key, pem, &format!("it is not PEM: {refused}")))?;
    if certificates.is_empty() {
        return Err(error(config, key, pem, "it holds no certificate in PEM"));
    }
    Ok(certificates)
}

/// An error about what this key stands for.
fn error(config: &WebConfig, key: &str, pem: &Pem, reason: &str) -> ConfigError {
    match pem {
        Pem::Inline(_) => config.error(&["tls_server_config", key], reason),
        Pem::File(path) => {
            let message = format!("{}: {reason}", path.display());
            config.error(&["tls_server_config", &format!("{key}_file")], &message)
        }
    }
}
