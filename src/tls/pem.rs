//! Parses certificates and keys from PEM. Errors name the source of the text.

use std::fs;
use std::path::Path;

use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// All certificates in the text. There is at least one.
pub(super) fn certificates(
    pem: &[u8],
    origin: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|source| TlsError::Pem {
        origin: origin.to_owned(),
        source,
    })?;
    if found.is_empty() {
        return Err(TlsError::Missing {
            origin: origin.to_owned(),
            expected: "certificate: expected PEM, -----BEGIN CERTIFICATE-----",
        });
    }
    Ok(found)
}

/// The first private key in the text.
pub(super) fn private_key(pem: &[u8], origin: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|source| match source {
        Error::NoItemsFound => TlsError::Missing {
            origin: origin.to_owned(),
            expected: "private key: expected unencrypted PEM, -----BEGIN PRIVATE KEY-----",
        },
        source => TlsError::Pem {
            origin: origin.to_owned(),
            source,
        },
    })
}
