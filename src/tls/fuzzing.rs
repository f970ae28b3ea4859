//! What the fuzz targets call of this module.

use rustls_pki_types::{CertificateDer, UnixTime};

use super::chain::{self, SERVER, Trust};
use super::verify::Roots;
use super::x509::X509;
use super::{pem, provider};

/// The certificates of a file and of a bundle, as DER. None: it is refused.
pub fn certificates(text: &[u8]) -> (Option<Vec<Vec<u8>>>, Option<Vec<Vec<u8>>>) {
    let der = |all: Vec<CertificateDer<'_>>| all.iter().map(|each| each.to_vec()).collect();
    (
        pem::certificates(text, "file").ok().map(der),
        pem::bundle(text, "file").ok().map(der),
    )
}

/// How many private keys the text has. None: it is refused.
pub fn private_keys(text: &[u8]) -> Option<usize> {
    pem::private_keys(text, "file").ok().map(|keys| keys.len())
}

/// Whether the text seems to have a private key.
pub fn has_private_key(text: &[u8]) -> bool {
    pem::has_private_key(text)
}

/// Whether a bundle has a CA that can be used.
pub fn is_authority(text: &[u8]) -> bool {
    Roots::read(text, "file").is_ok()
}

/// Whether the bytes are a certificate whose fields can be read.
pub fn is_certificate(der: &[u8]) -> bool {
    X509::parse(der).is_ok_and(|certificate| {
        // What errors show of it.
        let _ = super::x509::display_name(certificate.subject);
        let _ = certificate.dns_names().count() + certificate.addresses().count();
        certificate.signed.len() < der.len()
    })
}

/// Whether the first certificate is accepted at a time, if the second is trusted.
pub fn is_trusted(chain: &[Vec<u8>], seconds: u64) -> bool {
    let parsed: Vec<_> = chain
        .iter()
        .filter_map(|der| X509::parse(der).ok())
        .collect();
    let [leaf, rest @ ..] = &parsed[..] else {
        return false;
    };
    let (roots, intermediates) = rest.split_at(rest.len().min(1));
    let trust = Trust {
        roots,
        intermediates,
        now: UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
        purpose: SERVER,
        algorithms: &provider().signature_verification_algorithms,
    };
    chain::verify(leaf, trust).is_ok()
}
