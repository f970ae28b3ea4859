//! The creates for the comparison, directly and through the proxy.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use model_control_plane::client::{Answer, Endpoint, small_pod, small_pod_protobuf};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{PROTOBUF, Refusal};
use crate::control_plane::ControlPlane;

/// A create without its body. It occupies its apiserver until the connection is dropped.
pub(super) async fn unfinished(
    endpoint: &Endpoint,
    token: &str,
    namespace: &str,
) -> TlsStream<TcpStream> {
    let mut stream = endpoint.connect_raw().await.unwrap();
    let head = format!(
        "POST /api/v1/namespaces/{namespace}/pods HTTP/1.1\r\nHost: apiserver\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// The headers and the body of a create.
pub(super) fn request(
    plane: &ControlPlane,
    refusal: &Refusal,
    encoding: &str,
) -> (HeaderMap, Bytes) {
    let token = refusal
        .user
        .map_or_else(|| "nobody".to_owned(), |user| token(plane, user));
    let mut headers = HeaderMap::new();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
    );
    headers.insert(CONTENT_TYPE, HeaderValue::try_from(encoding).unwrap());
    headers.insert(ACCEPT, HeaderValue::try_from(encoding).unwrap());
    let body = if encoding == PROTOBUF {
        small_pod_protobuf(&refusal.pod)
    } else {
        Bytes::from(small_pod(&refusal.pod))
    };
    (headers, body)
}

/// `argo` is a service account without the right to create pods: the default one of the namespace
/// `default`.
fn token(plane: &ControlPlane, user: &str) -> String {
    if user == "argo" {
        plane
            .kubectl(&["create", "token", "default"])
            .trim()
            .to_owned()
    } else {
        plane.token(user)
    }
}

pub(super) async fn post(
    endpoint: &Endpoint,
    namespace: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut client = endpoint.connect().await.unwrap();
    client
        .send_with(
            Method::POST,
            &format!("/api/v1/namespaces/{namespace}/pods"),
            headers,
            body,
        )
        .await
        .unwrap()
}
