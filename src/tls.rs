//! TLS on both sides, and the only owner of rustls, rcgen and the certificate parsers.
//!
//! Serving: a certificate from files, reloaded on change, or one signed here at start. Upstream:
//! verified against a CA, without a client certificate. TLS 1.2 and 1.3, by the ring provider,
//! which is passed explicitly: there is no process-wide default. `listener` and `upstream` call
//! this; `app` calls for reloads.

mod certificate;
mod client_auth;
mod pem;
mod self_signed;
mod upstream;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificate::{Reload, ServingCertificate, server_config};
pub use self_signed::{SelfSigned, self_signed, write_kubeconfig};
pub use upstream::{UpstreamTrust, client_config, read_authority, server_name};

use crate::kubeconfig::KubeconfigError;

/// ALPN for HTTP/2.
pub const H2: &[u8] = b"h2";
/// ALPN for HTTP/1.1.
pub const HTTP1: &[u8] = b"http/1.1";

/// Why a certificate, a key or a CA cannot be used. Always the operator's to mend, never the
/// client's.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The text is PEM, but damaged.
    #[error("{origin} is damaged PEM")]
    Pem {
        /// The file, or what else the text was taken from.
        origin: String,
        /// What the parser said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The text holds nothing of what it should.
    #[error("{origin} holds no {expected}")]
    Missing {
        /// The file, or what else the text was taken from.
        origin: String,
        /// What was looked for, with the PEM line that begins it.
        expected: &'static str,
    },
    /// The certificate is not X.509.
    #[error("{origin} holds a certificate that cannot be parsed")]
    Certificate {
        /// The file, or what else the text was taken from.
        origin: String,
        /// What the parser said.
        #[source]
        source: x509_cert::der::Error,
    },
    /// The key is unusable, or belongs to another certificate.
    #[error("the private key {} does not fit the certificate {}", key.display(), certificate.display())]
    Key {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// None of the CA's certificates can serve as one.
    #[error("{origin} holds no certificate that can serve as a CA")]
    Authority {
        /// The file, or what else the text was taken from.
        origin: String,
    },
    /// A file for clients that holds a secret.
    #[error("{} holds a private key beside its certificates; give a file without it", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// An `https` upstream without anything that verifies it.
    #[error(
        "nothing verifies the upstream's certificate: give --upstream-ca-file (upstream.caFile), or --kubeconfig of a cluster that has a \
         certificate-authority"
    )]
    NoAuthority,
    /// Not a name that a certificate can have.
    #[error("'{name}' is neither a DNS name nor an IP address")]
    ServerName {
        /// The name.
        name: String,
        /// What the parser said.
        #[source]
        source: rustls_pki_types::InvalidDnsNameError,
    },
    /// The self-signed certificate could not be made, for instance because a host is no name.
    #[error("cannot make a certificate for {}", hosts.join(", "))]
    Generate {
        /// The names it should have had.
        hosts: Vec<String>,
        /// What rcgen said.
        #[source]
        source: rcgen::Error,
    },
    /// The kubeconfig beside the self-signed certificate could not be made.
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
