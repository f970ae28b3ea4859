//! Asks clients for a certificate, but never requires or trusts one in the handshake.
//!
//! A client certificate cannot pass a proxy that terminates TLS. Asking is the only way to learn
//! that a client wanted to use one. Then the 401 can say why. Without this, the apiserver would
//! only answer "Unauthorized" to a request that looks anonymous. [`super::client`] verifies the
//! certificate for each request, as the apiserver does: a token beside a bad certificate counts.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::verify::{tls12_signature, tls13_signature};

/// Accepts any chain, or none. "Verified" only means that the client has the key. Nothing may be
/// authorised because of it.
#[derive(Debug)]
pub(super) struct SeenNotTrusted {
    algorithms: WebPkiSupportedAlgorithms,
}

impl SeenNotTrusted {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for SeenNotTrusted {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Gives no hints, so the client offers any certificate that it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
