//! The HTTP client of all tests, over TLS with HTTP/1.1 or HTTP/2. It has no retries and no pool.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use model_control_plane::Encoding;
use model_control_plane::client::{self, Answer};
use model_control_plane::wire::posted_protobuf;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{NAMESPACE, soon};

/// The HTTP version on one side of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    fn version(self) -> Version {
        match self {
            Protocol::Http1 => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
        }
    }
}

/// Both protocols, for loops over one side.
pub const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// Every combination of protocols: (downstream, upstream).
pub const PAIRS: [(Protocol, Protocol); 4] = [
    (Protocol::Http1, Protocol::Http1),
    (Protocol::Http1, Protocol::Http2),
    (Protocol::Http2, Protocol::Http1),
    (Protocol::Http2, Protocol::Http2),
];

/// A request body that a client can send: a complete one, or a stream that the test controls.
pub trait RequestBody:
    http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static
{
}

impl<B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static> RequestBody
    for B
{
}

/// The model's client for any type of body. Without an answer it fails the test.
pub struct Client(client::Client<BoxBody<Bytes, Infallible>>);

impl Client {
    /// Opens a new connection.
    pub async fn connect(address: SocketAddr, ca: &str, token: &str, protocol: Protocol) -> Self {
        let stream = tls_stream(address, ca, protocol).await;
        Self::over(stream, address, token, protocol).await
    }

    /// Uses a connection that is already open.
    pub async fn over(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        token: &str,
        protocol: Protocol,
    ) -> Self {
        let authorization = client::bearer(token).unwrap();
        let client = client::Client::over(stream, address, authorization, protocol.version());
        Self(client.await.unwrap())
    }

    /// A request with the token and, for HTTP/1.1, a `Host`. `path` begins with a slash.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        self.0
            .request(method, path, Full::new(body.into()))
            .unwrap()
    }

    /// Another handle to the same HTTP/2 connection.
    pub fn share(&self) -> Self {
        Self(
            self.0
                .share()
                .expect("only HTTP/2 connections can be shared"),
        )
    }

    /// Whether the connection accepts no further requests because it is closed or has received a
    /// GOAWAY.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a request and returns the head of its answer.
    pub async fn send<B: RequestBody>(&mut self, request: Request<B>) -> Response<Incoming> {
        self.try_send(request).await.unwrap()
    }

    /// As [`Client::send`], but returns an error if there is no answer.
    pub async fn try_send<B: RequestBody>(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.0.send_request(request.map(BodyExt::boxed)).await
    }

    /// Sends a GET and reads the whole answer.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(self.request(Method::GET, path, "")).await
    }

    /// Sends a request and reads the whole answer.
    pub async fn ask<B: RequestBody>(&mut self, request: Request<B>) -> Answer {
        soon(async { Answer::of(self.send(request).await).await }).await
    }

    /// Creates a small pod in any namespace.
    pub async fn create_in(&mut self, namespace: &str, name: &str) -> Answer {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        self.ask(self.request(Method::POST, &path, pod(name))).await
    }

    /// Creates a small pod in [`NAMESPACE`], in JSON.
    pub async fn create(&mut self, name: &str) -> Answer {
        Answer::of(self.send(self.create_request(name)).await).await
    }

    /// The request that [`Client::create`] sends.
    pub fn create_request(&self, name: &str) -> Request<Full<Bytes>> {
        self.create_request_with(name, "")
    }

    /// The create of a small pod that accepts an answer in `encoding`. The body has the same
    /// encoding, but JSON in place of YAML: client libraries never post pods as YAML.
    pub fn create_request_in(&self, name: &str, encoding: Encoding) -> Request<Full<Bytes>> {
        let mut request = self.create_request(name);
        request
            .headers_mut()
            .insert(ACCEPT, encoding.content_type());
        if encoding == Encoding::Protobuf {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, encoding.content_type());
            *request.body_mut() = Full::new(posted_protobuf(name, &[]));
        }
        request
    }

    /// As [`Client::create_request`], with a `query` that is empty or begins with `?`.
    pub fn create_request_with(&self, name: &str, query: &str) -> Request<Full<Bytes>> {
        let mut request = self.request(
            Method::POST,
            &format!("/api/v1/namespaces/{NAMESPACE}/pods{query}"),
            pod(name),
        );
        request
            .headers_mut()
            .insert(CONTENT_TYPE, "application/json".parse().unwrap());
        request
            .headers_mut()
            .insert(ACCEPT, "application/json".parse().unwrap());
        request
    }
}

/// A small pod as a JSON body.
pub fn pod(name: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
    })
    .to_string()
}

/// Opens a TLS connection that trusts `ca` and offers one protocol.
pub async fn tls_stream(address: SocketAddr, ca: &str, protocol: Protocol) -> TlsStream<TcpStream> {
    try_tls_stream(address, ca, protocol).await.unwrap()
}

/// As [`tls_stream`], but returns an error if the handshake fails.
pub async fn try_tls_stream(
    address: SocketAddr,
    ca: &str,
    protocol: Protocol,
) -> io::Result<TlsStream<TcpStream>> {
    tls_stream_as(address, client_config(ca, protocol)).await
}

/// Does the TLS handshake on an open TCP connection.
pub async fn tls_over(tcp: TcpStream, ca: &str, protocol: Protocol) -> TlsStream<TcpStream> {
    let name = ServerName::from(tcp.peer_addr().unwrap().ip());
    TlsConnector::from(client_config(ca, protocol))
        .connect(name, tcp)
        .await
        .unwrap()
}

fn client_config(ca: &str, protocol: Protocol) -> Arc<ClientConfig> {
    Arc::new(client::tls(ca, protocol.version()).unwrap())
}

/// Opens a TLS connection with any configuration.
pub async fn tls_stream_as(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await.unwrap();
    // Every real client sets this. Without it a body waits 40 ms until the head is acknowledged.
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::from(address.ip());
    TlsConnector::from(config).connect(name, tcp).await
}
