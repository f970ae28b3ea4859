//! One connection of a client, in either protocol. Unlike the model's client it carries several
//! requests at the same time, and streams.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model_control_plane::client::Endpoint;

use crate::load::Server;

pub(crate) struct Client {
    sender: Sender,
    authority: String,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub(crate) async fn connect(server: &Server, version: Version) -> Self {
        let endpoint = Endpoint::new(
            &format!("https://{}", server.address),
            &server.ca_pem,
            "",
            version,
        )
        .expect("a server");
        let stream = TokioIo::new(endpoint.connect_raw().await.expect("a connection"));
        let sender = if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                .await
                .expect("HTTP/2");
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Self {
            sender,
            authority: server.address.to_string(),
        }
    }

    /// The same connection once more. None over HTTP/1.1, where there is one request at a time.
    pub(crate) fn again(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                sender: Sender::Http2(sender.clone()),
                authority: self.authority.clone(),
            }),
        }
    }

    /// A request with the headers of client-go.
    pub(crate) fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let uri = match self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("https://{}{path}", self.authority),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Full::new(body))
            .expect("a request");
        let headers = request.headers_mut();
        if matches!(self.sender, Sender::Http1(_)) {
            headers.insert(
                HOST,
                HeaderValue::try_from(&self.authority).expect("an address"),
            );
        }
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(
                "workflow-controller/v3.6.0 (linux/amd64) kubernetes/$Format argo-controller",
            ),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_static(
                "Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl",
            ),
        );
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        request
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.expect("an open connection");
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        answer.expect("an answer")
    }
}
