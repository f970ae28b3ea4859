//! A plain client for driving the model: one connection, one request at a time, no retries, whole
//! answers in memory.
//!
//! `demo`, the tests and the benchmarks share it, so that what they compare differs only in the
//! address.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::{BodyError, whole};

/// More than any answer that this client asks for.
const MAX_ANSWER: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not `https://address:port`.
    #[error("{0:?} is no https address with a port")]
    Url(String),
    /// The authority's certificate cannot be read or used.
    #[error("cannot trust the authority")]
    Authority(#[from] rustls::Error),
    /// The token cannot stand in a header.
    #[error("the token is no header value")]
    Token(#[from] http::header::InvalidHeaderValue),
    /// No connection, or it broke in TLS.
    #[error("cannot connect")]
    Connect(#[from] std::io::Error),
    /// The connection broke before the answer was complete.
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    /// The answer broke off.
    #[error("the answer is not complete")]
    Unfinished(#[from] BodyError),
    /// The request cannot be written.
    #[error("the request is malformed")]
    Request(#[from] http::Error),
}

/// A server to talk to, and how.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    tls: TlsConnector,
    authorization: HeaderValue,
    version: Version,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    authority: String,
    authorization: HeaderValue,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its code.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Endpoint {
    /// The server at `url` (`https://address:port`), trusted through `ca_pem`; `version` is HTTP/1.1 or HTTP/2.
    pub fn new(
        url: &str,
        ca_pem: &str,
        token: &str,
        version: Version,
    ) -> Result<Endpoint, ClientError> {
        let address = url
            .strip_prefix("https://")
            .and_then(|address| address.parse().ok());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()).flatten() {
            roots.add(certificate)?;
        }
        let mut tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        tls.alpn_protocols = vec![if version == Version::HTTP_2 {
            b"h2".to_vec()
        } else {
            b"http/1.1".to_vec()
        }];
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))?;
        authorization.set_sensitive(true);
        Ok(Endpoint {
            address: address.ok_or_else(|| ClientError::Url(url.to_owned()))?,
            tls: TlsConnector::from(Arc::new(tls)),
            authorization,
            version,
        })
    }

    /// Opens a connection, and leaves the protocol on it to the caller.
    pub async fn connect_raw(&self) -> Result<TlsStream<TcpStream>, ClientError> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(self
            .tls
            .connect(ServerName::from(self.address.ip()), stream)
            .await?)
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let io = TokioIo::new(self.connect_raw().await?);
        // The connection's end is seen through the sender.
        let sender = if self.version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok(Client {
            sender,
            authority: self.address.to_string(),
            authorization: self.authorization.clone(),
        })
    }
}

impl Client {
    /// Sends one request and reads the whole answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        self.send_with(method, path, HeaderMap::new(), body).await
    }

    /// The same, with headers of its own. A body is JSON where they name no `Content-Type`.
    pub async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let body: Bytes = body.into();
        let http2 = matches!(self.sender, Sender::Http2(_));
        let uri = if http2 {
            Uri::builder()
                .scheme("https")
                .authority(self.authority.as_str())
                .path_and_query(path)
                .build()?
        } else {
            path.parse::<Uri>().map_err(http::Error::from)?
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Full::new(body.clone()))?;
        let head = request.headers_mut();
        *head = headers;
        head.entry(AUTHORIZATION)
            .or_insert_with(|| self.authorization.clone());
        if !http2 {
            head.insert(HOST, HeaderValue::try_from(self.authority.as_str())?);
        }
        if !body.is_empty() {
            head.entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/json"));
        }
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = answer.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: whole(body, head.version, MAX_ANSWER).await?.data,
        })
    }

    /// Posts a small pod that asks for 10m of CPU and 16 MiB of memory.
    pub async fn create_pod(&mut self, namespace: &str, name: &str) -> Result<Answer, ClientError> {
        self.send(
            Method::POST,
            &format!("/api/v1/namespaces/{namespace}/pods"),
            small_pod(name),
        )
        .await
    }
}

/// The pod of the measurements that the model is calibrated on.
pub fn small_pod(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"restartPolicy":"Never","containers":[{{"name":"main","image":"busybox","resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}},"limits":{{"cpu":"10m","memory":"16Mi"}}}}}}]}}}}"#
    )
}
