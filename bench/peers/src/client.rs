//! The client: connections over TLS in one protocol, and the requests of a controller.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::stub::{LocalExecutor, POD};

/// How many requests share an HTTP/2 connection, as in Go's client.
pub(crate) const STREAMS: usize = 100;
const TOKEN_BYTES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }
}

/// Where to connect to, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) protocol: Protocol,
}

/// A connection, or one of several handles to it over HTTP/2.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Target {
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        let stream = tls.connect(name, tcp).await.context("TLS")?;
        ensure!(
            stream.get_ref().1.alpn_protocol() == Some(self.protocol.alpn()),
            "it did not choose {:?}",
            self.protocol
        );
        let io = TokioIo::new(stream);
        Ok(match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::task::spawn_local(connection);
                Connection::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(LocalExecutor)
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(4 << 20)
                    .initial_connection_window_size(64 << 20)
                    .handshake(io)
                    .await?;
                tokio::task::spawn_local(connection);
                Connection::Http2(sender)
            }
        })
    }

    /// Connections for so many requests at the same time: one each over HTTP/1.1.
    pub(crate) async fn connections(&self, requests: usize) -> Result<Vec<Connection>> {
        let mut all: Vec<Connection> = Vec::with_capacity(requests);
        for n in 0..requests {
            let shared = match all.last() {
                Some(Connection::Http2(sender)) if n % STREAMS != 0 => {
                    Some(Connection::Http2(sender.clone()))
                }
                _ => None,
            };
            let connection = match shared {
                Some(shared) => shared,
                None => self.connect().await?,
            };
            all.push(connection);
        }
        Ok(all)
    }
}

impl Connection {
    /// Sends a request and returns the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: &PreparedRequest,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request.http1()).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request.http2()).await
            }
        }
    }

    /// Sends a request and reads its answer. Returns the status and the size of the body.
    pub(crate) async fn exchange(
        &mut self,
        request: &PreparedRequest,
    ) -> Result<(StatusCode, usize), hyper::Error> {
        let response = self.send(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok((status, bytes))
    }
}

/// A request that is sent many times.
#[derive(Clone)]
pub(crate) struct PreparedRequest {
    method: Method,
    path: Uri,
    url: Uri,
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl PreparedRequest {
    /// With the headers of client-go and a token of 1 KiB.
    pub(crate) fn new(method: Method, path: &str) -> Result<Self> {
        let body = if method == Method::POST {
            POD
        } else {
            Bytes::new()
        };
        let mut token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImExIn0.Zm9vYmFyQmF6".repeat(TOKEN_BYTES / 40);
        token.truncate(TOKEN_BYTES);
        let mut headers: HeaderMap = [
            (ACCEPT, "application/json, */*"),
            (ACCEPT_ENCODING, "gzip"),
            (
                USER_AGENT,
                "workflow-controller/v3.4.17 (linux/amd64) kubernetes/$Format argo-controller",
            ),
        ]
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .into_iter()
        .collect();
        headers.insert(
            AUTHORIZATION,
            HeaderValue::try_from(format!("Bearer {token}"))?,
        );
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Self {
            method,
            path: path.parse()?,
            url: format!("https://localhost{path}").parse()?,
            headers,
            body,
        })
    }

    fn http1(&self) -> Request<Full<Bytes>> {
        let mut request = self.to(&self.path);
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("localhost"));
        request
    }

    fn http2(&self) -> Request<Full<Bytes>> {
        self.to(&self.url)
    }

    fn to(&self, uri: &Uri) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}
