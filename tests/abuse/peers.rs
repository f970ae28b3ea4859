//! Scripted peers for both sides of the proxy. They can fail like real peers, and do what only
//! attackers do.

pub mod http1;
pub mod http2;
pub mod raw;
pub mod tls;
pub mod upstream;

use bytes::Bytes;
use http::{HeaderMap, Method};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

    pub fn alpn(self) -> Vec<u8> {
        if self == Protocol::Http1 {
            b"http/1.1".to_vec()
        } else {
            b"h2".to_vec()
        }
    }
}

/// An answer as its client received it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether the end arrived: END_STREAM, the last chunk, or all of Content-Length.
    pub whole: bool,
}

/// The stream or the connection failed before the head of an answer.
#[derive(Clone, Debug)]
pub struct Broken(pub String);

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Ask {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let headers = [
            ("authorization", "Bearer lab"),
            ("user-agent", "lab"),
            ("content-type", "application/json"),
        ];
        Self {
            method,
            path: path.into(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    /// A create of a pod: `POST` on the collection of a namespace.
    pub fn create(namespace: &str) -> Self {
        Self::new(Method::POST, format!("/api/v1/namespaces/{namespace}/pods"))
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A pod with this name, padded to `size` bytes.
pub fn pod(name: &str, size: usize) -> Bytes {
    let head = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","annotations":{{"fill":""#
    );
    let tail = r#""}},"spec":{"containers":[{"name":"main","image":"busybox"}]}}"#;
    let fill = size.saturating_sub(head.len() + tail.len());
    [head.as_bytes(), &vec![b'x'; fill], tail.as_bytes()]
        .concat()
        .into()
}

/// The name in a pod.
pub fn name_of(pod: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(pod).ok()?;
    value["metadata"]["name"].as_str().map(str::to_owned)
}
