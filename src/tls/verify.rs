//! Verifies the certificate of a server for rustls, and the signatures of peers in handshakes.

use std::collections::HashSet;
use std::fmt;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};

use super::algorithms::check_key;
use super::chain::{self, SERVER, Trust};
use super::refused::Refused;
use super::x509::X509;
use super::{TlsError, pem};

/// The certificates that are trusted: CAs, or the certificates of single servers.
#[derive(Clone)]
pub(super) struct Roots(pub(super) Vec<CertificateDer<'static>>);

impl Roots {
    /// Reads a bundle in PEM. `origin` names it in errors.
    ///
    /// A bundle can contain old certificates that do not parse. They must not keep the proxy from
    /// starting.
    pub(super) fn read(text: &[u8], origin: &str) -> Result<Self, TlsError> {
        let mut certificates = pem::bundle(text, origin)?;
        // Bundles that are put together have duplicates. Each would be tried as an issuer.
        let mut seen = HashSet::new();
        certificates.retain(|certificate| {
            X509::parse(certificate).is_ok() && seen.insert(certificate.clone())
        });
        if certificates.is_empty() {
            return Err(TlsError::Authority {
                origin: origin.to_owned(),
            });
        }
        Ok(Self(certificates))
    }
}

/// Accepts servers as Go does, see [`chain::verify`].
pub(super) struct ServerVerifier {
    roots: Roots,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(roots: Roots, provider: &CryptoProvider) -> Self {
        Self {
            roots,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = X509::parse(end_entity).map_err(Refused::Malformed)?;
        check_key(&leaf, &self.algorithms)?;
        let trust = Trust {
            roots: &parsed(&self.roots.0),
            intermediates: &parsed(intermediates),
            now,
            purpose: SERVER,
            algorithms: &self.algorithms,
        };
        chain::verify(&leaf, trust)?;
        chain::check_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// In TLS 1.2 a scheme names a hash, and the curve is that of the key.
pub(super) fn tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let leaf = X509::parse(certificate).map_err(Refused::Malformed)?;
    let algorithms = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .map_or(&[][..], |(_, algorithms)| algorithms);
    let algorithm = algorithms
        .iter()
        .find(|algorithm| algorithm.public_key_alg_id().as_ref() == leaf.key_algorithm)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    algorithm
        .verify_signature(leaf.key, message, signed.signature())
        .map_err(|_| rustls::CertificateError::BadSignature)?;
    Ok(HandshakeSignatureValid::assertion())
}

pub(super) fn tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let leaf = X509::parse(certificate).map_err(Refused::Malformed)?;
    rustls::crypto::verify_tls13_signature_with_raw_key(
        message,
        &SubjectPublicKeyInfoDer::from(leaf.public_key_info),
        signed,
        algorithms,
    )
}

/// Those that parse. One that does not cannot be part of a chain.
pub(super) fn parsed<'a>(all: &'a [CertificateDer<'_>]) -> Vec<X509<'a>> {
    let parse = |one: &'a CertificateDer<'_>| X509::parse(one).ok();
    all.iter().filter_map(parse).collect()
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier")
            .field("roots", &self.roots.0.len())
            .finish_non_exhaustive()
    }
}
