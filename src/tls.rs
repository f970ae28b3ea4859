//! TLS on both sides. Only this module uses rustls, rcgen and the certificate parsers.
//!
//! The listener serves a certificate from files, which is reloaded on change, or a self-signed one
//! that is made at the start. The upstream is verified with a CA, without a client certificate. TLS
//! 1.2 and 1.3 are supported, with the ring provider. It is passed explicitly, because there is no
//! default for the whole process. `listener` and `upstream` use this module; `app` reloads the
//! files.

mod certificate;
mod client_auth;
mod pem;
mod self_signed;
mod upstream;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificate::{ServingCertificate, server_config};
pub use self_signed::{SelfSignedCertificate, reached_at, self_signed, write_kubeconfig};
pub use upstream::{UpstreamTrust, client_config, read_authority, server_name};

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
    #[error("{origin} is damaged PEM")]
    Pem {
        /// The file, or another source of the text.
        origin: String,
        /// The parser's error.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The text does not contain the expected item.
    #[error("{origin} holds no {expected}")]
    Missing {
        /// The file, or another source of the text.
        origin: String,
        /// The expected item, with the PEM line that begins it.
        expected: &'static str,
    },
    /// The certificate is not X.509.
    #[error("{origin} holds a certificate that cannot be parsed")]
    Certificate {
        /// The file, or another source of the text.
        origin: String,
        /// The parser's error.
        #[source]
        source: x509_cert::der::Error,
    },
    /// The key is unusable, or belongs to another certificate.
    #[error("the private key {} does not fit the certificate {}", key.display(), certificate.display())]
    Key {
        /// The path of the certificate.
        certificate: PathBuf,
        /// The path of the key.
        key: PathBuf,
        /// rustls's error.
        #[source]
        source: rustls::Error,
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
