//! Connects to a server: TCP, TLS with ALPN, and the HTTP handshake, at the first of its addresses
//! where all of that succeeds, within one timeout.

mod error;
mod handshake;
#[cfg(test)]
mod scripted;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use hyper::client::conn::{http1, http2};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use crate::body::Body;
use crate::config;
use crate::connections::dial::dial;
use crate::connections::socket::read_ahead::ReadAhead;
use crate::metrics::GaugeGuard;
use crate::tls::{self, OwnCertificate, Shows, TlsError, UpstreamTrust};
pub use error::{AddressError, ConnectError, HandshakeError};
pub(super) use handshake::{MAX_SEND_BUFFER, max_frame};
#[cfg(test)]
pub(crate) use scripted::{Scripted, refused_stream};

/// Connects to one server.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    port: u16,
    tls: Option<Tls>,
    timeout: Duration,
    keep_alive_interval: Duration,
    keep_alive_timeout: Duration,
    /// The server in place of a socket.
    #[cfg(test)]
    scripted: Arc<std::sync::OnceLock<Scripted>>,
}

/// How to verify a server.
#[derive(Clone, Debug)]
struct Tls {
    trust: Arc<UpstreamTrust>,
    /// The name in the server's certificate.
    server_name: ServerName<'static>,
    shows: Shows,
}

/// Makes connectors. Holds what all servers of one configuration share.
#[derive(Debug)]
pub(super) struct Connectors {
    /// Shared with every connector. None if no server uses TLS.
    trust: Option<Arc<UpstreamTrust>>,
    timeout: Duration,
    keep_alive_interval: Duration,
    keep_alive_timeout: Duration,
    server_name: Option<String>,
}

impl Connectors {
    /// Reads the CA, unless none of `urls` uses TLS.
    pub(super) fn new(settings: &config::UpstreamConfig, urls: &[Uri]) -> Result<Self, TlsError> {
        let trust = if urls.iter().all(is_plain) {
            None
        } else {
            let (certificate, key) = (
                &settings.front_proxy_cert_file,
                &settings.front_proxy_key_file,
            );
            let front_proxy = match (certificate, key) {
                (Some(certificate), Some(key)) => {
                    Some(Arc::new(OwnCertificate::of_client(certificate, key)?))
                }
                _ => None,
            };
            Some(Arc::new(UpstreamTrust::new(
                settings.ca.as_ref(),
                front_proxy,
            )?))
        };
        Ok(Self {
            trust,
            timeout: settings.connect_timeout,
            keep_alive_interval: settings.keep_alive_interval.get(),
            keep_alive_timeout: settings.keep_alive_timeout.get(),
            // A discovered server is verified by the name of the Service, because certificates do
            // not always list the addresses of nodes.
            server_name: settings.server_name.clone().or_else(|| {
                let service = settings.discover.and(settings.url.as_ref());
                service.and_then(|url| url.host()).map(str::to_owned)
            }),
        })
    }

    /// Reads the CA again and returns whether it changed. On an error the last good one stays in
    /// use.
    pub(super) fn reload_trust(&self) -> Result<bool, TlsError> {
        self.trust
            .as_ref()
            .map_or(Ok(false), |trust| trust.reload())
    }

    pub(super) fn front_proxy(&self) -> Option<&Arc<OwnCertificate>> {
        self.trust.as_ref()?.front_proxy()
    }

    /// A connector to the server at `url` (`https://host[:port]`, or `http://` without TLS).
    pub(super) fn to(&self, url: &Uri) -> Result<Connector, AddressError> {
        let authority = url.authority().ok_or(AddressError::NoHost)?;
        let (scheme, port) = if is_plain(url) {
            (Scheme::HTTP, 80)
        } else {
            (Scheme::HTTPS, 443)
        };
        let tls = match &self.trust {
            Some(trust) if scheme == Scheme::HTTPS => {
                let name = self
                    .server_name
                    .as_deref()
                    .unwrap_or_else(|| authority.host());
                Some(Tls {
                    trust: Arc::clone(trust),
                    server_name: tls::server_name(name)?,
                    shows: Shows::Nothing,
                })
            }
            _ => None,
        };
        Ok(Connector {
            scheme,
            host: HeaderValue::try_from(authority.as_str()).map_err(|_| AddressError::NoHost)?,
            port: authority.port_u16().unwrap_or(port),
            authority: authority.clone(),
            tls,
            timeout: self.timeout,
            keep_alive_interval: self.keep_alive_interval,
            keep_alive_timeout: self.keep_alive_timeout,
            #[cfg(test)]
            scripted: Arc::default(),
        })
    }
}

fn is_plain(url: &Uri) -> bool {
    url.scheme() == Some(&Scheme::HTTP)
}

/// A connection that is ready for a request, in the protocol that the server chose.
pub(super) enum Connection {
    Http1(Http1),
    /// The number is how many streams the server allows now.
    Http2(http2::SendRequest<Body>, Arc<AtomicUsize>),
}

/// The sending half of an HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Http1 {
    sender: http1::SendRequest<Body>,
    /// Whether it has carried a response. Only a connection that was idle can close just as the
    /// next request is sent.
    pub(super) reused: bool,
}

impl Deref for Http1 {
    type Target = http1::SendRequest<Body>;

    fn deref(&self) -> &Self::Target {
        &self.sender
    }
}

impl DerefMut for Http1 {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.sender
    }
}

impl Connector {
    /// The same one for connections that show the certificate of the front proxy. None if there is
    /// none.
    pub(super) fn as_front_proxy(&self) -> Option<Self> {
        let tls = self.tls.as_ref()?;
        tls.trust.front_proxy()?;
        Some(Self {
            tls: Some(Tls {
                shows: Shows::FrontProxy,
                ..tls.clone()
            }),
            ..self.clone()
        })
    }

    /// `host:port`, also if the URL has no port.
    pub(super) fn name(&self) -> Box<str> {
        format!("{}:{}", self.authority.host(), self.port).into()
    }

    /// Host and port.
    pub(super) fn address(&self) -> (&str, u16) {
        (self.authority.host(), self.port)
    }

    /// Scheme, authority and `Host` header of every request.
    pub(super) fn origin(&self) -> (Scheme, Authority, HeaderValue) {
        (
            self.scheme.clone(),
            self.authority.clone(),
            self.host.clone(),
        )
    }

    /// Connects in the protocol that the server prefers. The connection holds what `open` returns
    /// until it closes. `window` is how many bytes the server may send ahead on one HTTP/2 stream.
    pub(super) async fn connect(
        &self,
        window: u32,
        open: impl Fn() -> GaugeGuard,
    ) -> Result<Connection, ConnectError> {
        #[cfg(test)]
        if let Some(scripted) = self.scripted.get() {
            return self.connect_scripted(scripted, window, open()).await;
        }
        self.dial(|tcp| self.establish(tcp, window, open())).await
    }

    async fn establish(
        &self,
        tcp: TcpStream,
        window: u32,
        open: GaugeGuard,
    ) -> Result<Connection, HandshakeError> {
        let Some(tls) = &self.tls else {
            return self.ready_http1(tcp, open).await;
        };
        let stream = handshake_tls(tcp, tls.trust.any(tls.shows), &tls.server_name).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.handshake_http2(stream, window, open).await
        } else {
            self.ready_http1(stream, open).await
        }
    }

    /// Connects in HTTP/1.1, so that a response can upgrade the connection.
    pub(super) async fn http1(&self) -> Result<http1::SendRequest<Body>, ConnectError> {
        #[cfg(test)]
        if let Some(scripted) = self.scripted.get() {
            return self.http1_scripted(scripted).await;
        }
        self.dial(async |tcp| match &self.tls {
            Some(tls) => {
                let stream =
                    handshake_tls(tcp, tls.trust.http1(tls.shows), &tls.server_name).await?;
                self.handshake_http1(stream, ()).await
            }
            None => self.handshake_http1(tcp, ()).await,
        })
        .await
    }

    async fn dial<T, F>(&self, then: impl Fn(TcpStream) -> F) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, HandshakeError>>,
    {
        let host = self
            .authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        dial((host, self.port), self.timeout, then)
            .await
            .map_err(|source| ConnectError {
                address: self.authority.clone(),
                source,
            })
    }
}

async fn handshake_tls(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
    name: &ServerName<'static>,
) -> Result<tokio_rustls::client::TlsStream<ReadAhead<TcpStream>>, HandshakeError> {
    TlsConnector::from(config)
        .connect(name.clone(), ReadAhead::new(tcp))
        .await
        .map_err(HandshakeError::tls)
}
