//! One new connection to the upstream: TCP, TLS with ALPN, the HTTP handshake, all within one bound on time.

use std::io;
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
use crate::metrics::GaugeGuard;

/// kube-apiserver accepts 1 MiB of headers; hyper's own bounds are lower.
const MAX_HEADER_BYTES: u32 = 1 << 20;

/// Makes connections to one server.
#[derive(Debug)]
pub struct Connector {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    tls: Option<Tls>,
    timeout: Duration,
    keep_alive_interval: Duration,
    keep_alive_timeout: Duration,
}

/// How the server is verified, and which protocols are offered to it.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Offers h2 and http/1.1.
    pub any: Arc<ClientConfig>,
    /// Offers http/1.1 only: an upgrade has no form in HTTP/2 that kube-apiserver knows.
    pub http1: Arc<ClientConfig>,
    /// The name in the server's certificate.
    pub server_name: ServerName<'static>,
}

/// A ready connection, in the protocol that the server chose.
pub(super) enum Connection {
    Http1(http1::SendRequest<Body>),
    /// With the number of streams that the server allows now.
    Http2(http2::SendRequest<Body>, Arc<AtomicUsize>),
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
    /// The TLS handshake failed, for example because the certificate is not signed by the configured CA.
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
    /// Connects to `url` (`https://host[:port]`, or `http://` without TLS), verified by `tls`.
    ///
    /// # Errors
    /// `url` has no host.
    pub fn new(url: &Uri, tls: Option<Tls>, settings: &config::Upstream) -> Result<Self, http::Error> {
        let authority = url.authority().cloned().map_or_else(|| Authority::try_from(""), Ok)?;
        Ok(Self {
            scheme: url.scheme().cloned().unwrap_or(Scheme::HTTPS),
            host: HeaderValue::try_from(authority.as_str())?,
            authority,
            tls,
            timeout: settings.connect_timeout,
            keep_alive_interval: settings.keep_alive_interval,
            keep_alive_timeout: settings.keep_alive_timeout,
        })
    }

    /// Scheme, authority and `Host` of every request.
    pub(super) fn target(&self) -> (Scheme, Authority, HeaderValue) {
        (self.scheme.clone(), self.authority.clone(), self.host.clone())
    }

    /// A connection in the protocol that the server prefers; `open` is held for as long as it lives.
    pub(super) async fn connect(&self, open: GaugeGuard) -> Result<Connection, ConnectError> {
        self.within_timeout(async {
            let tcp = self.tcp().await?;
            let Some(tls) = &self.tls else { return self.handshake_http1(tcp, open).await.map(Connection::Http1) };
            let stream = self.tls(tcp, &tls.any, &tls.server_name).await?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                self.handshake_http2(stream, open).await
            } else {
                self.handshake_http1(stream, open).await.map(Connection::Http1)
            }
        })
        .await
    }

    /// An HTTP/1.1 connection that an answer may upgrade.
    pub(super) async fn http1(&self) -> Result<http1::SendRequest<Body>, ConnectError> {
        self.within_timeout(async {
            let tcp = self.tcp().await?;
            match &self.tls {
                Some(tls) => self.handshake_http1(self.tls(tcp, &tls.http1, &tls.server_name).await?, ()).await,
                None => self.handshake_http1(tcp, ()).await,
            }
        })
        .await
    }

    async fn within_timeout<T>(&self, connecting: impl Future<Output = Result<T, ConnectError>>) -> Result<T, ConnectError> {
        tokio::time::timeout(self.timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(ConnectError::Timeout { address: self.authority.clone(), timeout: self.timeout }))
    }

    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let connected = async {
            let stream = TcpStream::connect((host, self.authority.port_u16().unwrap_or(default_port))).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        connected.await.map_err(|source| ConnectError::Tcp { address: self.authority.clone(), source })
    }

    async fn tls(
        &self,
        tcp: TcpStream,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
        TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), tcp)
            .await
            .map_err(|source| ConnectError::Tls { address: self.authority.clone(), source })
    }

    async fn handshake_http1<S>(&self, stream: S, open: impl Send + 'static) -> Result<http1::SendRequest<Body>, ConnectError>
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

    async fn handshake_http2<S>(&self, stream: S, open: impl Send + 'static) -> Result<Connection, ConnectError>
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
            .initial_max_send_streams(0)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.http(source))?;
        self.settled(&mut connection, &executor.progress).await?;
        let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let tell = Arc::clone(&allowed);
        tokio::spawn(async move {
            // Only the connection knows the peer's SETTINGS. Each request that is sent wakes it, so later changes are soon seen.
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

    /// Waits for the server's SETTINGS: before them nobody knows how many streams it allows, and a burst would run into REFUSED_STREAM.
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
        ConnectError::Http { address: self.authority.clone(), source }
    }
}

/// Runs hyper's tasks of one connection, and tells whenever one of them got on: hyper itself does not say when SETTINGS come.
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
