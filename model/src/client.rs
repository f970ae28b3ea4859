//! The HTTP client of everything that drives the model or the proxy: one connection, no retries, no
//! pool.
//!
//! `demo`, the tests, the benchmarks and the end-to-end suite share this client, so that the runs
//! they compare differ only in the address.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::{BodyError, whole};
use crate::wire::posted_protobuf;

/// Larger than any answer that this client asks for.
const MAX_ANSWER: usize = 256 << 20;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not of the form `https://address:port`.
    #[error("{0:?} is not an https address with a port")]
    Url(String),
    /// The certificate of the authority is malformed or unusable.
    #[error("cannot use the certificate of the authority")]
    Authority(#[from] rustls::Error),
    /// The token has characters that a header cannot carry.
    #[error("the token is not a valid header value")]
    Token(#[from] http::header::InvalidHeaderValue),
    /// The TCP connection or the TLS handshake failed.
    #[error("cannot connect")]
    Connect(#[from] std::io::Error),
    /// The connection failed before the answer was complete.
    #[error("the connection failed")]
    Broken(#[from] hyper::Error),
    /// The body of the answer was truncated.
    #[error("the answer is not complete")]
    Unfinished(#[from] BodyError),
    /// The request is malformed.
    #[error("the request is malformed")]
    Request(#[from] http::Error),
}

/// A server, and the TLS configuration, token and HTTP version to use with it.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    tls: TlsConnector,
    authorization: HeaderValue,
    version: Version,
}

/// One connection for requests with bodies of the type `B`. Over HTTP/1.1 it carries one request at
/// a time.
#[derive(Debug)]
pub struct Client<B = Full<Bytes>> {
    sender: Sender<B>,
    authority: String,
    authorization: HeaderValue,
}

#[derive(Debug)]
enum Sender<B> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

/// An answer that was read completely.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub status: StatusCode,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// The body, without the trailers.
    pub body: Bytes,
    /// The trailers, if there are any.
    pub trailers: Option<HeaderMap>,
}

/// A TLS configuration that trusts only `ca_pem` and offers only this HTTP version.
pub fn tls(ca_pem: &str, version: Version) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()).flatten() {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![if version == Version::HTTP_2 {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    Ok(tls)
}

impl Endpoint {
    /// The server at `url` (`https://address:port`), whose certificate `ca_pem` has signed.
    /// `version` is HTTP/1.1 or HTTP/2.
    pub fn new(
        url: &str,
        ca_pem: &str,
        token: &str,
        version: Version,
    ) -> Result<Endpoint, ClientError> {
        let address = url
            .strip_prefix("https://")
            .and_then(|address| address.parse().ok());
        Ok(Endpoint {
            address: address.ok_or_else(|| ClientError::Url(url.to_owned()))?,
            tls: TlsConnector::from(Arc::new(tls(ca_pem, version)?)),
            authorization: bearer(token)?,
            version,
        })
    }

    /// Opens a TLS connection on which the caller speaks HTTP itself.
    pub async fn connect_raw(&self) -> Result<TlsStream<TcpStream>, ClientError> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(self
            .tls
            .connect(ServerName::from(self.address.ip()), stream)
            .await?)
    }

    /// Opens a connection and does the HTTP handshake.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let stream = self.connect_raw().await?;
        let authorization = self.authorization.clone();
        Client::over(stream, self.address, authorization, self.version).await
    }
}

/// The value of `Authorization` for a bearer token.
pub fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))?;
    authorization.set_sensitive(true);
    Ok(authorization)
}

impl<B> Client<B>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    /// Does the HTTP handshake on an open stream.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: SocketAddr,
        authorization: HeaderValue,
        version: Version,
    ) -> Result<Client<B>, ClientError> {
        let io = TokioIo::new(stream);
        // `sender` reports the end of the connection.
        let sender = if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection.with_upgrades());
            Sender::Http1(sender)
        };
        Ok(Client {
            sender,
            authority: address.to_string(),
            authorization,
        })
    }

    /// Another handle on the same connection. Returns `None` over HTTP/1.1, which has no concurrent
    /// requests.
    pub fn share(&self) -> Option<Client<B>> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Client {
                sender: Sender::Http2(sender.clone()),
                authority: self.authority.clone(),
                authorization: self.authorization.clone(),
            }),
        }
    }

    /// Whether the connection accepts no further requests because it is closed or has received a
    /// GOAWAY.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Builds a request with the token and, over HTTP/1.1, a `Host`. `path` begins with a slash.
    pub fn request<R>(
        &self,
        method: Method,
        path: &str,
        body: R,
    ) -> Result<Request<R>, ClientError> {
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
        let mut request = Request::builder().method(method).uri(uri).body(body)?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        if !http2 {
            headers.insert(HOST, HeaderValue::try_from(self.authority.as_str())?);
        }
        Ok(request)
    }

    /// Sends a request and returns as soon as the head of the answer arrives.
    pub async fn send_request(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
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

    /// Like [`Client::send`], with headers that replace the client's own. The body is JSON unless
    /// the headers have a `Content-Type`.
    pub async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let body: Bytes = body.into();
        let json = !body.is_empty();
        let mut request = self.request(method, path, Full::new(body))?;
        let own = std::mem::replace(request.headers_mut(), headers);
        for (name, value) in own.iter() {
            request.headers_mut().entry(name).or_insert(value.clone());
        }
        if json {
            request
                .headers_mut()
                .entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/json"));
        }
        Answer::try_of(self.send_request(request).await?).await
    }

    /// Creates a small pod that requests 10m of CPU and 16 MiB of memory.
    pub async fn create_pod(&mut self, namespace: &str, name: &str) -> Result<Answer, ClientError> {
        self.send(
            Method::POST,
            &format!("/api/v1/namespaces/{namespace}/pods"),
            small_pod(name),
        )
        .await
    }
}

impl Answer {
    /// Reads an answer completely.
    ///
    /// # Errors
    ///
    /// If the body is truncated.
    pub async fn try_of(response: Response<Incoming>) -> Result<Answer, ClientError> {
        let (head, body) = response.into_parts();
        let whole = whole(body, head.version, MAX_ANSWER).await?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: whole.data,
            trailers: whole.trailers,
        })
    }

    /// Like [`Answer::try_of`], for tests.
    ///
    /// # Panics
    ///
    /// If the body is truncated.
    #[expect(clippy::expect_used, reason = "this fails the test")]
    pub async fn of(response: Response<Incoming>) -> Answer {
        Answer::try_of(response).await.expect("a whole answer")
    }

    /// The body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Parses the body as JSON, for tests.
    ///
    /// # Panics
    ///
    /// If the body is not JSON.
    #[expect(clippy::panic, reason = "this fails the test")]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// The pod used in the measurements that the model is calibrated on, as JSON.
pub fn small_pod(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"restartPolicy":"Never","containers":[{{"name":"main","image":"busybox","resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}},"limits":{{"cpu":"10m","memory":"16Mi"}}}}}}]}}}}"#
    )
}

/// The pod of [`small_pod`] as protobuf.
pub fn small_pod_protobuf(name: &str) -> Bytes {
    posted_protobuf(name, &[("cpu", "10m"), ("memory", "16Mi")])
}
