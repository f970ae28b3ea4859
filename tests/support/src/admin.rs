//! A client of the admin port. It speaks plain HTTP/1.1 and opens a connection for each request.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Answer;

/// Sends a GET for `path`, which begins with a slash.
pub async fn get(admin: SocketAddr, path: &str) -> Answer {
    request(admin, Method::GET, path).await
}

/// As [`get`], with any method.
pub async fn request(admin: SocketAddr, method: Method, path: &str) -> Answer {
    let stream = TcpStream::connect(admin).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", admin.to_string())
        .body(Empty::<Bytes>::new())
        .unwrap();
    Answer::of(sender.send_request(request).await.unwrap()).await
}

/// Repeats a GET until `wanted` accepts the answer. After half a minute it fails with the last
/// answer.
pub async fn get_until(admin: SocketAddr, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let mut last = get(admin, path).await;
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !wanted(&last) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            last = get(admin, path).await;
        }
    });
    if waited.await.is_err() {
        panic!(
            "no accepted answer within half a minute; the last one of {path} was {} {}",
            last.status,
            last.text()
        );
    }
    last
}
