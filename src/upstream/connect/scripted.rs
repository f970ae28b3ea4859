//! A server in this process in place of a socket, so that tests can run everything behind the dial
//! on paused time.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use hyper::client::conn::http1;
use tokio::io::DuplexStream;

use super::{ConnectError, Connection, Connector, HandshakeError};
use crate::body::Body;
use crate::connections::dial::{DialError, Failure};
use crate::metrics::GaugeGuard;

type Dialled = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

/// A server that a test scripts.
pub(crate) struct Scripted {
    /// Whether it speaks HTTP/2. Probes use HTTP/1.1 all the same.
    pub(crate) http2: bool,
    /// Connects to it. The argument is whether the connection is for HTTP/2.
    pub(crate) dial: Box<dyn Fn(bool) -> Dialled + Send + Sync>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scripted {{ http2: {} }}", self.http2)
    }
}

impl Connector {
    /// Connects to `scripted` from now on.
    pub(in crate::upstream) fn script(&self, scripted: Scripted) {
        self.scripted.set(scripted).unwrap();
    }

    pub(super) async fn connect_scripted(
        &self,
        scripted: &Scripted,
        window: u32,
        open: GaugeGuard,
    ) -> Result<Connection, ConnectError> {
        let stream = self.dial_scripted(scripted, scripted.http2).await?;
        let connected = match scripted.http2 {
            true => self.handshake_http2(stream, window, open).await,
            false => self.ready_http1(stream, open).await,
        };
        connected.map_err(|error| self.failed(Failure::Followed(error)))
    }

    pub(super) async fn http1_scripted(
        &self,
        scripted: &Scripted,
    ) -> Result<http1::SendRequest<Body>, ConnectError> {
        let stream = self.dial_scripted(scripted, false).await?;
        let connected = self.handshake_http1(stream, ()).await;
        connected.map_err(|error| self.failed(Failure::Followed(error)))
    }

    async fn dial_scripted(
        &self,
        scripted: &Scripted,
        http2: bool,
    ) -> Result<DuplexStream, ConnectError> {
        let dialled = tokio::time::timeout(self.timeout, (scripted.dial)(http2)).await;
        let failure = match dialled {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Failure::Tcp(error),
            Err(_) => Failure::NoAnswer,
        };
        Err(self.failed(failure))
    }

    fn failed(&self, failure: Failure<HandshakeError>) -> ConnectError {
        ConnectError {
            address: self.authority.clone(),
            source: DialError::Address(failure),
        }
    }
}

/// The error with which a scripted server refuses a stream unprocessed.
pub(crate) fn refused_stream() -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(h2::Error::from(h2::Reason::REFUSED_STREAM))
}
