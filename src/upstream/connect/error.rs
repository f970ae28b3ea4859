//! The errors for an address that is not usable and for a connection that failed.

use std::io;
use std::time::Duration;

use http::uri::Authority;

use crate::tls::TlsError;

/// Why an address is not usable.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The URL has no authority.
    #[error("it names no host")]
    NoHost,
    /// No certificate can be issued for the host.
    #[error("no certificate can be verified for it")]
    Name(#[from] TlsError),
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP: the server refused or was unreachable, or the name did not resolve.
    #[error("cannot connect to {address}")]
    Tcp {
        /// `host:port` as configured.
        address: Authority,
        /// The system's error.
        source: io::Error,
    },
    /// The TLS handshake failed, for example because the configured CA did not sign the
    /// certificate.
    #[error("TLS handshake with {address} failed")]
    Tls {
        /// `host:port` as configured.
        address: Authority,
        /// The error of the handshake.
        source: io::Error,
    },
    /// The server did not speak HTTP.
    #[error("HTTP handshake with {address} failed")]
    Http {
        /// `host:port` as configured.
        address: Authority,
        /// hyper's error.
        source: hyper::Error,
    },
    /// The server closed the connection before it sent its HTTP/2 SETTINGS.
    #[error("{address} closed the connection during the HTTP handshake")]
    Closed {
        /// `host:port` as configured.
        address: Authority,
    },
    /// TCP, TLS or HTTP took too long.
    #[error("no connection to {address} within {timeout:?}")]
    Timeout {
        /// `host:port` as configured.
        address: Authority,
        /// `upstream.connectTimeout`.
        timeout: Duration,
    },
}
