//! The errors for a URL that is not usable and for a connection that failed.

use std::io;

use http::uri::Authority;

use crate::connections::dial::DialError;
use crate::tls::{self, TlsError};

/// Why a URL is not usable.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The URL has no authority.
    #[error("it names no host")]
    NoHost,
    /// No certificate can be issued for the host.
    #[error("no certificate can be verified for it")]
    Name(#[from] TlsError),
}

/// No address of the server could be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {address}")]
pub struct ConnectError {
    /// `host:port` as configured.
    pub(super) address: Authority,
    /// What happened at each address.
    pub(super) source: DialError<HandshakeError>,
}

/// Why a TCP connection to a server is not usable.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The TLS handshake failed, for example because the configured CA did not sign the
    /// certificate.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The server has no certificate that this side could verify, or no cipher suite in common.
    #[error(
        "TLS handshake failed: the server accepts none of the offered {}",
        tls::OFFERED
    )]
    NothingInCommon(#[source] io::Error),
    /// The server did not speak HTTP.
    #[error("HTTP handshake failed")]
    Http(#[source] hyper::Error),
    /// The server closed the connection before it sent its HTTP/2 SETTINGS.
    #[error("the connection was closed during the HTTP handshake")]
    Closed,
}

impl HandshakeError {
    pub(super) fn tls(source: io::Error) -> Self {
        if tls::has_nothing_in_common(&source) {
            Self::NothingInCommon(source)
        } else {
            Self::Tls(tls::in_words(source))
        }
    }
}
