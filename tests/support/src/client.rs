//! The one client of all tests, over TLS in either protocol. It neither retries nor pools.

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

/// An HTTP version, of one side of the proxy.
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

/// Each protocol.
pub const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// Both protocols of the client with both of the apiserver: (downstream, upstream).
pub const PAIRS: [(Protocol, Protocol); 4] = [
    (Protocol::Http1, Protocol::Http1),
    (Protocol::Http1, Protocol::Http2),
    (Protocol::Http2, Protocol::Http1),
    (Protocol::Http2, Protocol::Http2),
];

/// What a client can send: a whole body, or one that the test feeds.
pub trait RequestBody:
    http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static
{
}

impl<B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static> RequestBody
    for B
{
}

/// The model's client, which here takes every body, and fails the test where it has no answer.
pub struct Client(client::Client<BoxBody<Bytes, Infallible>>);

impl Client {
    /// Over a new connection.
    pub async fn connect(address: SocketAddr, ca: &str, token: &str, protocol: Protocol) -> Self {
        let stream = tls_stream(address, ca, protocol).await;
        Self::over(stream, address, token, protocol).await
    }

    /// Over a connection that has been made already.
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

    /// A request with the token and, for HTTP/1.1, a `Host`; `path` starts with a slash.
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

    /// Another handle of the same HTTP/2 connection.
    pub fn share(&self) -> Self {
        Self(self.0.share().expect("HTTP/1.1 has one request at a time"))
    }

    /// Whether the connection takes no further requests, because it has closed or was told GOAWAY.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The head of the answer to any request.
    pub async fn send<B: RequestBody>(&mut self, request: Request<B>) -> Response<Incoming> {
        self.try_send(request).await.unwrap()
    }

    /// As [`Client::send`]; an error where there is no answer.
    pub async fn try_send<B: RequestBody>(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.0.send_request(request.map(BodyExt::boxed)).await
    }

    /// The answer to a GET.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(self.request(Method::GET, path, "")).await
    }

    /// The answer to any request, read to its end.
    pub async fn ask<B: RequestBody>(&mut self, request: Request<B>) -> Answer {
        soon(async { Answer::of(self.send(request).await).await }).await
    }

    /// Creates a small pod in any namespace.
    pub async fn create_in(&mut self, namespace: &str, name: &str) -> Answer {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        self.ask(self.request(Method::POST, &path, pod(name))).await
    }

    /// Creates a small pod in [`NAMESPACE`], JSON both ways.
    pub async fn create(&mut self, name: &str) -> Answer {
        Answer::of(self.send(self.create_request(name)).await).await
    }

    /// The request of [`Client::create`].
    pub fn create_request(&self, name: &str) -> Request<Full<Bytes>> {
        self.create_request_with(name, "")
    }

    /// A small pod and its answer in `encoding`; no apiserver takes YAML pods from a client
    /// library, so there the post is JSON.
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

    /// `query` begins with `?` or is empty.
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

/// A pod as a JSON body.
pub fn pod(name: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
    })
    .to_string()
}

/// A TLS connection that trusts `ca` and offers one protocol.
pub async fn tls_stream(address: SocketAddr, ca: &str, protocol: Protocol) -> TlsStream<TcpStream> {
    try_tls_stream(address, ca, protocol).await.unwrap()
}

/// As [`tls_stream`]; an error where the handshake fails.
pub async fn try_tls_stream(
    address: SocketAddr,
    ca: &str,
    protocol: Protocol,
) -> io::Result<TlsStream<TcpStream>> {
    tls_stream_as(address, client_config(ca, protocol)).await
}

/// TLS over a TCP connection that has been made already.
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

/// A TLS connection of any configuration.
pub async fn tls_stream_as(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await.unwrap();
    // As every real client: a body would else wait 40 ms for the acknowledgement of its head.
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::from(address.ip());
    TlsConnector::from(config).connect(name, tcp).await
}
