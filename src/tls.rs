//! TLS on both sides. Only this module uses rustls, its cryptography, rcgen and the certificate
//! parsers.
//!
//! The listener serves a certificate from files, which is reloaded on change, or a self-signed one
//! that is made at the start. The upstream is verified with a CA by the rules of Go, and so are the
//! certificates of clients, if they may pass. TLS 1.2 and 1.3 are supported. `listener`, `identity`
//! and `upstream` use this module; `app` reloads the files.

mod algorithms;
mod certificate;
mod chain;
mod client;
mod client_auth;
mod constraints;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod pem;
mod refused;
mod self_signed;
mod subject;
mod upstream;
mod verify;
mod x509;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::AlertDescription;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};

pub use certificate::{OwnCertificate, server_config};
pub use client::{ClientAuthority, ClientCertificateError, PresentedChain, User, doubts};
pub use pem::PemError;
pub use self_signed::{SelfSignedCertificate, reached_at, self_signed, write_kubeconfig};
pub use upstream::{Shows, UpstreamTrust, client_config, read_authority, server_name};

use crate::kubeconfig::KubeconfigError;

/// ALPN for HTTP/2.
pub const H2: &[u8] = b"h2";
/// ALPN for HTTP/1.1.
pub const HTTP1: &[u8] = b"http/1.1";

/// Why a certificate, a key or a CA cannot be used. The operator must fix it; a client cannot.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The text is PEM, but damaged.
    #[error("{origin} is damaged PEM: the block {label} at line {line} cannot be read")]
    Pem {
        /// The file, or another source of the text.
        origin: String,
        /// The line where the block begins.
        line: usize,
        /// What the block says it contains.
        label: String,
        /// What is wrong with it.
        source: PemError,
    },
    /// The text does not contain the expected item.
    #[error("{origin} holds no {expected}{found}")]
    Missing {
        /// The file, or another source of the text.
        origin: String,
        /// The expected item, with the PEM line that begins it.
        expected: &'static str,
        /// What it holds instead, in parentheses. Empty if it holds nothing.
        found: String,
    },
    /// The certificate is not X.509.
    #[error("certificate {number} of {origin} cannot be parsed")]
    Certificate {
        /// The file, or another source of the text.
        origin: String,
        /// Which one of the file, from 1.
        number: usize,
        /// The parser's error.
        source: x509_cert::der::Error,
    },
    /// The private key has a password, and nobody can type it.
    #[error(
        "the private key at line {line} of {origin} is encrypted: give a file without a password (openssl pkey -in FILE -out FILE)"
    )]
    Encrypted {
        /// The file.
        origin: String,
        /// The line where the key begins.
        line: usize,
    },
    /// The private key is not one of the three known formats.
    #[error("the {label} at line {line} of {origin} is neither PKCS#8 nor PKCS#1 nor SEC1")]
    KeyFormat {
        /// The file.
        origin: String,
        /// The line where the key begins.
        line: usize,
        /// What the block says it contains.
        label: String,
    },
    /// The provider cannot sign with this type of key.
    #[error("the private key {} cannot be used: use {}", path.display(), refused::KEYS)]
    KeyType {
        /// The file.
        path: PathBuf,
        /// rustls's error.
        source: rustls::Error,
    },
    /// The certificate is only for servers, and the proxy must show it as a client.
    #[error(
        "the certificate {} is not for clients: its extendedKeyUsage must have clientAuth", path.display()
    )]
    Purpose {
        /// The path of the certificate.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error("the private key {} does not fit the certificate {}", key.display(), certificate.display())]
    Key {
        /// The path of the certificate.
        certificate: PathBuf,
        /// The path of the key.
        key: PathBuf,
    },
    /// None of the certificates can be used as a CA.
    #[error("{origin} holds no certificate that can serve as a CA")]
    Authority {
        /// The file, or another source of the text.
        origin: String,
    },
    /// A file that clients get contains a private key.
    #[error("{} holds a private key beside its certificates; give a file without it", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// An `https` upstream is configured without a CA.
    #[error(
        "nothing verifies the upstream's certificate: give --upstream-ca-file (upstream.caFile), or --kubeconfig of a cluster that has a \
         certificate-authority"
    )]
    NoAuthority,
    /// The name cannot be in a certificate.
    #[error("'{name}' is neither a DNS name nor an IP address")]
    ServerName {
        /// The name.
        name: String,
        /// The parser's error.
        #[source]
        source: rustls_pki_types::InvalidDnsNameError,
    },
    /// The self-signed certificate could not be made, for example because a host is not a valid
    /// name.
    #[error("cannot make a certificate for {}", hosts.join(", "))]
    Generate {
        /// The names for the certificate.
        hosts: Vec<String>,
        /// rcgen's error.
        #[source]
        source: rcgen::Error,
    },
    /// The kubeconfig for the self-signed certificate could not be made.
    #[error("cannot make the kubeconfig for the self-signed certificate")]
    Kubeconfig(#[source] KubeconfigError),
    /// rustls refused a combination of settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What encrypts and signs, for both sides. It is passed explicitly, because there is no default
/// for the whole process. AWS-LC rather than ring: it knows the curve P-521 and the key exchange
/// X25519MLKEM768, and its handshakes are faster.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if ring_encrypts_faster() {
        provider.cipher_suites = ring::DEFAULT_CIPHER_SUITES.to_vec();
    }
    Arc::new(provider)
}

/// Whether the processor has VAES but not AVX-512, as AMD's Zen 3 and many virtual machines. For
/// AES-GCM, AWS-LC uses VAES only together with AVX-512, ring also with AVX2. `bench/README.md` has
/// the figures.
#[cfg(target_arch = "x86_64")]
fn ring_encrypts_faster() -> bool {
    is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && !is_x86_feature_detected!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
const fn ring_encrypts_faster() -> bool {
    false
}

/// What the proxy offers in a handshake with an upstream, for errors.
pub const OFFERED: &str = "cipher suites of TLS 1.2 and 1.3, or its key is of none of the types that this proxy can verify: RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519";

/// The error of a handshake, in words if this module refused the certificate.
pub fn in_words(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner.and_then(refused::cause) {
        Some(cause) => io::Error::new(error.kind(), cause),
        None => error,
    }
}

/// Whether a handshake failed because the server could use nothing that this side offered. A server
/// whose key is of an unknown type says no more than that.
pub fn has_nothing_in_common(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(rustls::Error::AlertReceived(
            AlertDescription::HandshakeFailure
        ))
    )
}

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> impl AsRef<[u8]> + use<> {
    ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes)
}

#[cfg(test)]
mod tests;
