//! What is asked of clients' certificates.

use std::sync::Arc;

use promferry_config::SubjectAltName;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::EndEntityCert;

/// Verifies what clients show as far as that is asked for. That they have the key of it is always verified.
#[derive(Debug)]
pub(super) struct ClientCertificates {
    /// Whether a client without one is sent away.
    pub(super) is_mandatory: bool,
    /// Verifies by authorities; any certificate will do without.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The names of which it has to bear one; none means any.
    pub(super) allowed: Vec<SubjectAltName>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertificates {
    fn is_allowed(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        if self.allowed.is_empty() {
            return Ok(true);
        }
        let certificate = EndEntityCert::try_from(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        // Names are compared as texts, as exporter-toolkit does: a wildcard stands for itself.
        Ok(self.allowed.iter().any(|allowed| match allowed {
            SubjectAltName::Dns(name) => certificate.valid_dns_names().any(|shown| shown == name),
            SubjectAltName::Uri(name) => certificate.valid_uri_names().any(|shown| shown == name),
            SubjectAltName::Ip(address) => {
                let address = ServerName::IpAddress((*address).into());
                certificate.verify_is_valid_for_subject_name(&address).is_ok()
            }
        }))
    }
}

impl ClientCertVerifier for ClientCertificates {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.as_ref().map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(verifier) = &self.verifier {
            verifier.verify_client_cert(end_entity, intermediates, now)?;
        }
        if !self.is_allowed(end_entity)? {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
