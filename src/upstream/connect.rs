//! One new connection to the upstream: TCP, TLS with ALPN, the HTTP handshake, all within one bound
//! on time.

use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use crate::body::Body;
use crate::config;
use crate::connections::socket;
use crate::metrics::GaugeGuard;
use crate::tls::{self, TlsError, UpstreamTrust};

/// For the head of an answer, more than apiservers write. Over HTTP/1.1 also what is read ahead of
/// a reader.
const MAX_HEADER_BYTES: u32 = 256 << 10;

/// How many bytes the server may send ahead of the readers, on all streams of an HTTP/2 connection
/// together. Never less than the windows of its streams, so that readers that stand still cannot
/// stop the others (RFC 9113 §5.2.2): what bounds the memory is the windows of the streams. And
/// more than these, because h2 ends a connection with ENHANCE_YOUR_CALM when the small frames that
/// nobody has read cost more than half of it, at 256 bytes a frame: that is only beyond 100 streams
/// that stand still before frames of 7 bytes, or 25 bytes at the window of calls.
const CONNECTION_WINDOW: u32 = 512 << 20;
/// What may wait to be sent on one stream, of a body that streams. As much waits for a client.
pub(super) const MAX_SEND_BUFFER: usize = 64 << 10;
/// How many cancelled streams are remembered, so that what the server had sent on them already is
/// passed over.
const MAX_CANCELLED: usize = 1024;

/// Makes connections to one server.
#[derive(Debug)]
pub(super) struct Connector {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    port: u16,
    tls: Option<Tls>,
    timeout: Duration,
    keep_alive_interval: Duration,
    keep_alive_timeout: Duration,
}

/// How a server is verified.
#[derive(Clone, Debug)]
struct Tls {
    trust: Arc<UpstreamTrust>,
    /// The name in the server's certificate.
    server_name: ServerName<'static>,
}

/// Makes connectors: what all servers of one configuration have in common.
#[derive(Debug)]
pub(super) struct Connectors {
    /// Shared with every connector; None if no server has TLS.
    trust: Option<Arc<UpstreamTrust>>,
    timeout: Duration,
    keep_alive_interval: Duration,
    keep_alive_timeout: Duration,
    server_name: Option<String>,
}

impl Connectors {
    /// Reads what verifies the servers, unless all of `urls` go without TLS.
    pub(super) fn new(settings: &config::Upstream, urls: &[Uri]) -> Result<Self, TlsError> {
        let trust = if urls.iter().all(is_plain) {
            None
        } else {
            Some(Arc::new(UpstreamTrust::new(settings.ca.as_ref())?))
        };
        Ok(Self {
            trust,
            timeout: settings.connect_timeout,
            keep_alive_interval: settings.keep_alive_interval.get(),
            keep_alive_timeout: settings.keep_alive_timeout.get(),
            // What is found is verified by the name of the Service: addresses of nodes are not in
            // every certificate.
            server_name: settings.server_name.clone().or_else(|| {
                let service = settings.discover.and(settings.url.as_ref());
                service.and_then(|url| url.host()).map(str::to_owned)
            }),
        })
    }

    /// Reads again what verifies the servers; says whether it has changed. On an error the last
    /// good one stays in use.
    pub(super) fn reload_trust(&self) -> Result<bool, TlsError> {
        self.trust
            .as_ref()
            .map_or(Ok(false), |trust| trust.reload())
    }

    /// To the server at `url` (`https://host[:port]`, or `http://` without TLS).
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
        })
    }
}

/// Why an address is of no use.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is none.
    #[error("it names no host")]
    NoHost,
    /// Nothing can have a certificate for it.
    #[error("no certificate can be verified for it")]
    Name(#[from] TlsError),
}

fn is_plain(url: &Uri) -> bool {
    url.scheme() == Some(&Scheme::HTTP)
}

/// A ready connection, in the protocol that the server chose.
pub(super) enum Connection {
    Http1(Http1),
    /// With the number of streams that the server allows now.
    Http2(http2::SendRequest<Body>, Arc<AtomicUsize>),
}

/// The sending half of an HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Http1 {
    sender: http1::SendRequest<Body>,
    /// Whether it has carried an answer. Only a connection that was idle since may be closed by
    /// its server just as a request crosses.
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

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP: refused, unreachable, or the name did not resolve.
    #[error("cannot connect to {address}")]
    Tcp {
        /// `host:port` as configured.
        address: Authority,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS handshake failed, for example because the certificate is not signed by the
    /// configured CA.
    #[error("TLS handshake with {address} failed")]
    Tls {
        /// `host:port` as configured.
        address: Authority,
        /// What the handshake said.
        source: io::Error,
    },
    /// The server did not speak HTTP.
    #[error("HTTP handshake with {address} failed")]
    Http {
        /// `host:port` as configured.
        address: Authority,
        /// What hyper said.
        source: hyper::Error,
    },
    /// The server closed the connection before its HTTP/2 SETTINGS.
    #[error("{address} closed the connection during the HTTP handshake")]
    Closed {
        /// `host:port` as configured.
        address: Authority,
    },
    /// Nothing of it was done in time.
    #[error("no connection to {address} within {timeout:?}")]
    Timeout {
        /// `host:port` as configured.
        address: Authority,
        /// The bound, `upstream.connectTimeout`.
        timeout: Duration,
    },
}

impl Connector {
    /// `host:port`, whether the port was given or not.
    pub(super) fn name(&self) -> Box<str> {
        format!("{}:{}", self.authority.host(), self.port).into()
    }

    /// Host and port.
    pub(super) fn address(&self) -> (&str, u16) {
        (self.authority.host(), self.port)
    }

    /// Scheme, authority and `Host` of every request.
    pub(super) fn target(&self) -> (Scheme, Authority, HeaderValue) {
        (
            self.scheme.clone(),
            self.authority.clone(),
            self.host.clone(),
        )
    }

    /// A connection in the protocol that the server prefers; `open` is held for as long as it
    /// lives. `window` is how many bytes the server may send ahead on one HTTP/2 stream.
    pub(super) async fn connect(
        &self,
        window: u32,
        open: GaugeGuard,
    ) -> Result<Connection, ConnectError> {
        self.within_timeout(async {
            let tcp = self.tcp().await?;
            let Some(tls) = &self.tls else {
                return self.ready_http1(tcp, open).await;
            };
            let stream = self.tls(tcp, tls.trust.any(), &tls.server_name).await?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                self.handshake_http2(stream, window, open).await
            } else {
                self.ready_http1(stream, open).await
            }
        })
        .await
    }

    /// An HTTP/1.1 connection that an answer may upgrade.
    pub(super) async fn http1(&self) -> Result<http1::SendRequest<Body>, ConnectError> {
        self.within_timeout(async {
            let tcp = self.tcp().await?;
            match &self.tls {
                Some(tls) => {
                    self.handshake_http1(
                        self.tls(tcp, tls.trust.http1(), &tls.server_name).await?,
                        (),
                    )
                    .await
                }
                None => self.handshake_http1(tcp, ()).await,
            }
        })
        .await
    }

    async fn within_timeout<T>(
        &self,
        connecting: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        tokio::time::timeout(self.timeout, connecting)
            .await
            .unwrap_or_else(|_| {
                Err(ConnectError::Timeout {
                    address: self.authority.clone(),
                    timeout: self.timeout,
                })
            })
    }

    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let host = self
            .authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        socket::connect((host, self.port))
            .await
            .map_err(|source| ConnectError::Tcp {
                address: self.authority.clone(),
                source,
            })
    }

    async fn tls(
        &self,
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
        TlsConnector::from(config)
            .connect(name.clone(), tcp)
            .await
            .map_err(|source| ConnectError::Tls {
                address: self.authority.clone(),
                source,
            })
    }

    /// Ready for a request, which it is not before its task has run.
    async fn ready_http1<S>(
        &self,
        stream: S,
        open: impl Send + 'static,
    ) -> Result<Connection, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut sender = self.handshake_http1(stream, open).await?;
        sender.ready().await.map_err(|source| self.http(source))?;
        Ok(Connection::Http1(Http1 {
            sender,
            reused: false,
        }))
    }

    async fn handshake_http1<S>(
        &self,
        stream: S,
        open: impl Send + 'static,
    ) -> Result<http1::SendRequest<Body>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_headers(1000)
            .max_buf_size(MAX_HEADER_BYTES as usize)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.http(source))?;
        tokio::spawn(async move {
            // Its end reaches each request of the connection through the sender.
            let _ended = connection.with_upgrades().await;
            drop(open);
        });
        Ok(sender)
    }

    async fn handshake_http2<S>(
        &self,
        stream: S,
        window: u32,
        open: impl Send + 'static,
    ) -> Result<Connection, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let executor = Executor::default();
        let (sender, mut connection) = http2::Builder::new(executor.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.keep_alive_interval)
            .keep_alive_timeout(self.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_concurrent_reset_streams(MAX_CANCELLED)
            // What comes late on streams that are forgotten is answered with a reset; how often is
            // the server's and its clients' doing.
            .max_local_error_reset_streams(None)
            .initial_max_send_streams(0)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.http(source))?;
        self.settled(&mut connection, &executor.progress).await?;
        let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let tell = Arc::clone(&allowed);
        tokio::spawn(async move {
            // Only the connection knows the peer's SETTINGS. Each request that is sent wakes it, so
            // later changes are soon seen.
            let _ended = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                tell.store(connection.current_max_send_streams(), Ordering::Relaxed);
                polled
            })
            .await;
            drop(open);
        });
        Ok(Connection::Http2(sender, allowed))
    }

    /// Waits for the server's SETTINGS: before them nobody knows how many streams it allows, and a
    /// burst would run into REFUSED_STREAM.
    async fn settled<S>(
        &self,
        connection: &mut http2::Connection<TokioIo<S>, Body, Executor>,
        progress: &Notify,
    ) -> Result<(), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        while connection.current_max_send_streams() == 0 {
            tokio::select! {
                ended = &mut *connection => return Err(match ended {
                    Ok(()) => ConnectError::Closed { address: self.authority.clone() },
                    Err(source) => self.http(source),
                }),
                () = progress.notified() => {}
            }
        }
        Ok(())
    }

    fn http(&self, source: hyper::Error) -> ConnectError {
        ConnectError::Http {
            address: self.authority.clone(),
            source,
        }
    }
}

/// Runs hyper's tasks of one connection, and tells whenever one of them got on: hyper itself does
/// not say when SETTINGS come.
#[derive(Clone, Default)]
struct Executor {
    progress: Arc<Notify>,
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let progress = Arc::clone(&self.progress);
        tokio::spawn(async move {
            let mut task = std::pin::pin!(task);
            std::future::poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                progress.notify_one();
                polled
            })
            .await
        });
    }
}
