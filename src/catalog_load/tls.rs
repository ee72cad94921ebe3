//! TLS towards the upstream: one `rustls` configuration for each [`TlsMode`]. Layer 4.
//!
//! Refuses to fall back: a mode that asks for TLS never goes on without it, and a certificate
//! authority that cannot be read is an error, not an empty set.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::LoadError;
use crate::endpoint::{Endpoint, TlsMode};

/// The client side of TLS for `endpoint`; `None` when its mode is [`TlsMode::Disable`].
///
/// # Errors
/// [`LoadError::Tls`] when a certificate, key or authority cannot be read or used.
pub fn client_config(endpoint: &Endpoint) -> Result<Option<ClientConfig>, LoadError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(fault)?;
    let builder = match endpoint.tls {
        TlsMode::Disable => return Ok(None),
        TlsMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ChainVerifier { roots: None, provider })),
        TlsMode::VerifyCa => {
            let roots = Some(authorities(endpoint.ca_file.as_deref())?);
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ChainVerifier { roots, provider }))
        }
        TlsMode::VerifyFull => {
            builder.with_root_certificates(authorities(endpoint.ca_file.as_deref())?)
        }
    };
    let mut config = match &endpoint.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| file_fault(certificate, &error))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file_fault(key, &error))?;
            builder.with_client_auth_cert(chain, key).map_err(fault)?
        }
    };
    // Servers that accept direct TLS (PostgreSQL 17) insist on it; others ignore it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Some(config))
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| file_fault(path, &error))?;
            for certificate in certificates {
                roots.add(certificate).map_err(fault)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(LoadError::Tls("no trusted certificate authority was found".into()));
    }
    Ok(roots)
}

fn fault(error: impl std::fmt::Display) -> LoadError {
    LoadError::Tls(error.to_string().into())
}

fn file_fault(path: &Path, error: &dyn std::fmt::Display) -> LoadError {
    LoadError::Tls(format!("{}: {error}", path.display()).into())
}

/// Verifies the chain up to `roots`, if there are any, and never the host name: libpq's `verify-ca`
/// and `require`. Handshake signatures are always verified.
#[derive(Debug)]
struct ChainVerifier {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
