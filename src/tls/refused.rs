//! Why a peer's certificate was refused, in words for the operator of the proxy.

use std::error::Error as StdError;
use std::sync::Arc;

use rustls::{CertificateError, Error, OtherError};
use x509_cert::der;

use super::x509::{X509, display_name};

/// The keys that the provider can verify, for errors.
pub(super) const KEYS: &str =
    "RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519";

/// Why a certificate was refused, if rustls has no error that says it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the certificate cannot be parsed")]
    Malformed(#[source] der::Error),
    #[error(
        "the certificate of '{subject}' is issued by '{issuer}', which is not among the trusted CAs"
    )]
    UnknownIssuer { subject: String, issuer: String },
    #[error(
        "the certificate of '{subject}' has a key of type {key}, which this proxy cannot verify; use {KEYS}"
    )]
    Key { subject: String, key: String },
    #[error(
        "the certificate of '{subject}' is signed with {algorithm}, which this proxy does not accept; use SHA-256 or better with {KEYS}"
    )]
    Signature { subject: String, algorithm: String },
    #[error("the signature of '{issuer}' on the certificate of '{subject}' is wrong")]
    Forged { subject: String, issuer: String },
    #[error(
        "the certificate of '{issuer}' may not issue certificates (basicConstraints, keyUsage)"
    )]
    NotCa { issuer: String },
    #[error("more intermediate certificates follow the CA '{issuer}' than its pathLen allows")]
    TooLong { issuer: String },
    #[error(
        "the certificate of '{subject}' has the critical extension {id}, which this proxy does not know"
    )]
    Extension { subject: String, id: String },
    #[error("the CA '{issuer}' is not allowed to issue a certificate for {name} (nameConstraints)")]
    Name { issuer: String, name: String },
    #[error("the name constraints of the CA '{issuer}' are too many for the names below it")]
    TooManyNames { issuer: String },
    #[error("the chain of '{subject}' has more certificates of the same name than the proxy tries")]
    TooManyTries { subject: String },
}

impl Refused {
    pub(super) fn unknown_issuer(certificate: &X509<'_>) -> Self {
        Self::UnknownIssuer {
            subject: display_name(certificate.subject),
            issuer: display_name(certificate.issuer),
        }
    }

    pub(super) fn key(certificate: &X509<'_>) -> Self {
        Self::Key {
            subject: display_name(certificate.subject),
            key: super::algorithms::key_type(certificate),
        }
    }
}

impl From<Refused> for CertificateError {
    fn from(refused: Refused) -> Self {
        Self::Other(OtherError(Arc::new(refused)))
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::InvalidCertificate(refused.into())
    }
}

/// The [`Refused`] in an error of rustls, which would print it as a structure.
pub(super) fn cause(error: &Error) -> Option<Arc<dyn StdError + Send + Sync>> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            Some(Arc::clone(cause))
        }
        _ => None,
    }
}
