//! The model's client with the headers of client-go.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use model_control_plane::client::{self, Endpoint};

use crate::load::Server;

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl";

pub(crate) struct Client(client::Client);

impl Client {
    pub(crate) async fn connect(server: &Server, version: Version) -> Self {
        let url = format!("https://{}", server.address);
        let endpoint = Endpoint::new(&url, &server.ca_pem, TOKEN, version).expect("a server");
        Self(endpoint.connect().await.expect("a connection"))
    }

    /// Another handle to the same connection. `None` over HTTP/1.1, which has no concurrent
    /// requests.
    pub(crate) fn again(&self) -> Option<Self> {
        self.0.share().map(Self)
    }

    pub(crate) fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = self
            .0
            .request(method, path, Full::new(body))
            .expect("a request");
        let headers = request.headers_mut();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(
                "workflow-controller/v3.6.0 (linux/amd64) kubernetes/$Format argo-controller",
            ),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        request
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.0.send_request(request).await.expect("an answer")
    }
}
